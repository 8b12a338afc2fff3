//! The merge of a compaction, in steps: inputs are walked side by side, versions of one partition are joined, what has
//! expired and what nobody needs is left out, and the rest goes to one output or, cut by size, to several.
//!
//! A tombstone is purged when it is older than gc_grace and nothing outside this compaction may hold what it covers: no
//! other SSTable whose filter admits the key has anything as old, and no memtable knows the key. The question is asked
//! key by key, at the moment the key is merged, under the engine's lock.

use super::super::flush::Place;
use super::super::order::{Order as Standing, Walker as _};
use super::super::sstable::{Cursor, SsTable, Writer};
use super::super::{Shared, place};
use crate::storage::StorageError;
use bytes::Bytes;
use helenus_core::merge::{self, Statistics};
use helenus_core::{GcSeconds, Partition, TableId, TimestampMicros, codec};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of input to a step.
pub(super) const STEP_BYTES: u64 = 1 << 20;

/// The files that a compaction has begun, for whoever has to remove them: also after a panic, which takes the rest along.
#[derive(Debug, Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<u64>>>);

impl Begun {
    fn add(&self, generation: u64) {
        // Every state of a list of numbers is a good one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(generation);
    }

    /// Every generation so far.
    pub(super) fn generations(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a merge is about.
pub(super) struct Order {
    pub(super) shared: Weak<Shared>,
    pub(super) table: TableId,
    pub(super) place: Place,
    pub(super) inputs: Vec<Arc<SsTable>>,
    /// An output that has grown to this is closed.
    pub(super) output_bytes_max: u64,
    pub(super) begun: Begun,
}

/// The merge itself, between two steps.
pub(super) struct Merging {
    order: Order,
    generations: Vec<u64>,
    cursors: Vec<Cursor>,
    standing: Standing,
    /// The output that is being written, if one is.
    writer: Option<Writer>,
    /// Of that output's partitions.
    statistics: Statistics,
    outputs: Vec<SsTable>,
    now: GcSeconds,
    gc_before: GcSeconds,
    /// Some input holds tombstones or TTLs, so every partition is looked into. Otherwise those that lie in one input
    /// only are copied as they are.
    inspect: bool,
    /// Of all inputs.
    partitions: u64,
    bytes: u64,
}

impl Merging {
    pub(super) fn begin(order: Order) -> Result<Merging, StorageError> {
        let inputs = &order.inputs;
        let inspect = inputs.iter().any(|input| {
            let statistics = &input.content.statistics;
            statistics.tombstones > 0 || statistics.max_deleted_at.is_some()
        });
        let now = order.place.now;
        let cursors = inputs.iter().map(Cursor::sequential).collect::<Result<Vec<_>, _>>()?;
        Ok(Merging {
            generations: inputs.iter().map(|input| input.generation).collect(),
            standing: Standing::new(&cursors),
            cursors,
            writer: None,
            statistics: Statistics::default(),
            outputs: Vec::new(),
            now,
            gc_before: GcSeconds(now.0.saturating_sub(order.place.options.gc_grace_seconds)),
            inspect,
            partitions: inputs.iter().map(|input| input.content.partitions).sum(),
            bytes: inputs.iter().map(|input| input.bytes).sum(),
            order,
        })
    }

    pub(super) fn consumed(&self) -> u64 {
        self.cursors.iter().map(Cursor::consumed).sum()
    }

    /// Bytes of output so far.
    pub(super) fn written(&self) -> u64 {
        let closed: u64 = self.outputs.iter().map(|output| output.bytes).sum();
        closed + self.writer.as_ref().map_or(0, Writer::bytes)
    }

    /// Merges about [`STEP_BYTES`] of input. `true`: nothing is left.
    pub(super) fn step(&mut self) -> Result<bool, StorageError> {
        let until = self.consumed() + STEP_BYTES;
        while self.consumed() < until {
            let Some(first) = self.standing.first() else { return Ok(true) };
            let alike = self.standing.alike(&self.cursors);
            if alike == 1 && !self.inspect {
                self.copy(first)?;
            } else {
                self.merge_at(first, alike)?;
            }
            self.standing.moved(alike, &self.cursors);
            let grown = self.writer.as_ref().map_or(0, Writer::bytes);
            if grown >= self.order.output_bytes_max {
                self.close_output()?;
            }
        }
        Ok(false)
    }

    fn copy(&mut self, which: usize) -> Result<(), StorageError> {
        self.open_output()?;
        let Some(cursor) = self.cursors.get_mut(which) else { return Ok(()) };
        if let (Some((token, key)), Some(writer)) = (cursor.place(), &mut self.writer) {
            writer.add(token, key, cursor.value())?;
        }
        cursor.advance()
    }

    /// Merges all versions of the partition that cursor `first` stands at, and `alike` of them do.
    fn merge_at(&mut self, first: usize, alike: usize) -> Result<(), StorageError> {
        let Some((token, key)) = self.cursors.get(first).and_then(Cursor::place) else {
            return Ok(());
        };
        let here = place::Place::new(token, key);
        if let Some((which, timestamp)) = self.newest_put(alike) {
            return self.take_put(which, &here, timestamp, alike);
        }
        let mut merged = Partition::default();
        for which in self.standing.front(alike) {
            let Some(cursor) = self.cursors.get_mut(*which) else { continue };
            let partition =
                codec::decode(cursor.share_value()).map_err(|e| cursor.table().undecodable(&e))?;
            merge::merge(&mut merged, partition);
            cursor.advance()?;
        }
        if self.inspect {
            merge::expire(&mut merged, self.now);
            self.purge(&here, &mut merged);
            if merge::is_empty(&merged) {
                return Ok(());
            }
            self.statistics.add(&merged);
        }
        self.open_output()?;
        match &mut self.writer {
            Some(writer) => writer.add(token, here.key.as_slice(), &codec::encode(&merged)),
            None => Ok(()),
        }
    }

    /// Where every version of a partition is a put that lasts, the newest one wins whole and need not be decoded. Gives its
    /// cursor and timestamp; `None`: it takes a merge to tell.
    fn newest_put(&self, alike: usize) -> Option<(usize, TimestampMicros)> {
        let mut newest: Option<(usize, TimestampMicros)> = None;
        for which in self.standing.front(alike) {
            let value = self.cursors.get(*which)?.value();
            let put = codec::peek_put(value).filter(|put| put.expiry.is_none())?;
            match newest {
                Some((_, timestamp)) if timestamp == put.timestamp => return None,
                Some((_, timestamp)) if timestamp > put.timestamp => {}
                _ => newest = Some((*which, put.timestamp)),
            }
        }
        newest
    }

    fn take_put(
        &mut self,
        which: usize,
        here: &place::Place,
        timestamp: TimestampMicros,
        alike: usize,
    ) -> Result<(), StorageError> {
        if self.inspect {
            self.statistics.add(&Partition::put(timestamp, Bytes::new(), None));
        }
        self.open_output()?;
        let key = here.key.as_slice();
        if let (Some(cursor), Some(writer)) = (self.cursors.get(which), &mut self.writer) {
            writer.add(here.token, key, cursor.value())?;
        }
        for which in self.standing.front(alike) {
            self.cursors.get_mut(*which).map_or(Ok(()), Cursor::advance)?;
        }
        Ok(())
    }

    fn purge(&self, here: &place::Place, merged: &mut Partition) {
        let mut statistics = Statistics::default();
        statistics.add(merged);
        if statistics.min_deleted_at.is_none_or(|second| second >= self.gc_before) {
            return;
        }
        let max_purgeable = self.oldest_elsewhere(here);
        merge::purge(merged, self.gc_before, max_purgeable);
    }

    /// The smallest timestamp that anything outside this compaction may have for a partition.
    fn oldest_elsewhere(&self, here: &place::Place) -> TimestampMicros {
        let Some(shared) = self.order.shared.upgrade() else { return TimestampMicros(i64::MIN) };
        let state = shared.lock();
        let Some(table) = state.tables.get(&self.order.table) else {
            return TimestampMicros(i64::MIN);
        };
        (shared.elsewhere)(table, &self.generations, here)
    }

    fn open_output(&mut self) -> Result<(), StorageError> {
        if self.writer.is_some() {
            return Ok(());
        }
        let place = &self.order.place;
        let generation = {
            let mut manifest =
                place.manifest.lock().expect("no job panics while it holds a manifest");
            manifest.next_generation += 1;
            manifest.next_generation - 1
        };
        self.order.begun.add(generation);
        // As many as there may be in so many bytes, if partitions are of like size.
        let share = self.order.output_bytes_max as f64 / self.bytes.max(1) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates"
        )]
        let partitions = (self.partitions as f64 * share.min(1.0)).ceil() as u64;
        let disk = Arc::clone(&place.disk);
        let writer = Writer::create(disk, &place.dir, generation, &place.options, partitions)?;
        debug_assert_eq!(writer.generation(), generation);
        self.writer = Some(writer);
        Ok(())
    }

    fn close_output(&mut self) -> Result<(), StorageError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        debug_assert!(!writer.is_empty(), "an output is opened for a partition");
        let statistics = if self.inspect {
            std::mem::take(&mut self.statistics)
        } else {
            self.share_of(writer.partitions())
        };
        let output = writer.finish(statistics, self.now, &self.order.place.cache)?;
        self.outputs.push(output);
        Ok(())
    }

    /// Bounds for an output of inputs without tombstones, which aren't looked into. Counts are its share of the inputs'.
    fn share_of(&self, partitions: u64) -> Statistics {
        let all = || self.order.inputs.iter().map(|input| &input.content.statistics);
        let total = u128::from(self.partitions.max(1));
        let share = |count: u64| {
            let share = u128::from(count) * u128::from(partitions) / total;
            u64::try_from(share).unwrap_or(u64::MAX).max(u64::from(count > 0))
        };
        Statistics {
            min_timestamp: all().filter_map(|s| s.min_timestamp).min(),
            max_timestamp: all().filter_map(|s| s.max_timestamp).max(),
            rows: share(all().map(|s| s.rows).sum()),
            cells: share(all().map(|s| s.cells).sum()),
            beyond_value: all().any(|s| s.beyond_value),
            lasting: share(all().map(|s| s.lasting).sum()),
            ..Statistics::default()
        }
    }

    /// Completes the last output. Gives all of them; none when nothing was left.
    pub(super) fn finish(mut self) -> Result<Vec<SsTable>, StorageError> {
        self.close_output()?;
        Ok(self.outputs)
    }
}
