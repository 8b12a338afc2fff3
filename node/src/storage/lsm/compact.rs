//! Compaction: many SSTables become one, versions merge, and what nobody needs any more goes.
//!
//! What to compact is `helenus_core::compaction`'s choice. One compaction runs at a time, in steps of about 1 MiB on the
//! compaction lane, with a pause between steps as the throttle says; between steps it may be paused, or given up when its
//! table is dropped. It takes effect at once, when the manifest lists the output instead of the inputs.
//!
//! A tombstone is purged when it is older than gc_grace and nothing outside this compaction may hold what it covers: no
//! other SSTable whose filter admits the key has anything as old, and no memtable knows the key. The question is asked
//! key by key, at the moment the key is merged, under the engine's lock.

use super::flush::{Place, abandon};
use super::manifest::StoreError;
use super::memtable;
use super::sstable::{Cursor, SsTable, Writer};
use super::state::Table;
use super::{Shared, io_error};
use crate::seams::background::{self, Lane};
use crate::seams::probe::Event;
use crate::storage::{RunningCompaction, StorageError};
use helenus_core::compaction::{self, Choice};
use helenus_core::merge::{self, Statistics};
use helenus_core::{GcSeconds, TableId, TimestampMicros, Token, codec};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes of input to a step.
const STEP_BYTES: u64 = 1 << 20;
/// After a compaction failed, none begins for this long: the disk may need an operator.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Tombstones grow old without any event to say so: the choice is made again at least this often.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// A compaction that was chosen.
struct Task {
    table: TableId,
    inputs: Vec<Arc<SsTable>>,
    place: Place,
    /// An operator asked for it: it isn't paused with the automatic ones.
    major: bool,
    /// Who waits for it.
    done: Option<oneshot::Sender<Result<(), StorageError>>>,
}

/// Why a compaction ended without an output.
enum Ended {
    /// Its table was dropped, or it had to make room for an operator's.
    GivenUp,
    Failed(StorageError),
}

impl From<StorageError> for Ended {
    fn from(error: StorageError) -> Ended {
        Ended::Failed(error)
    }
}

/// The engine's compaction task.
pub(super) async fn compaction_loop(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    loop {
        let wait = match pick(&shared) {
            None => LOOK_AGAIN_AFTER,
            Some(mut task) => {
                let done = task.done.take();
                let ended = tokio::select! { biased;
                    _ = stop.wait_for(|stop| *stop) => Err(Ended::Failed(StorageError::Stopped)),
                    ended = run(&shared, task) => ended,
                };
                shared.lock().running = None;
                let (result, wait) = match ended {
                    Ok(()) | Err(Ended::GivenUp) => (Ok(()), Duration::ZERO),
                    Err(Ended::Failed(StorageError::Stopped)) => return,
                    Err(Ended::Failed(error)) => {
                        tracing::error!(%error, "a compaction failed; its inputs stay as they are");
                        shared.lock().compaction_failures += 1;
                        (Err(error), RETRY_AFTER)
                    }
                };
                // Nobody waits for an automatic one, and an operator may have gone.
                done.map(|done| done.send(result));
                wait
            }
        };
        if wait == Duration::ZERO {
            continue;
        }
        tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = shared.compaction_wanted.notified(), if wait == LOOK_AGAIN_AFTER => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What to compact next: what an operator asked for, else the table with the largest backlog.
fn pick(shared: &Arc<Shared>) -> Option<Task> {
    let now = shared.now();
    let mut state = shared.lock();
    while let Some(major) = state.majors.pop_front() {
        let choice =
            state.tables.get(&major.table).and_then(|t| compaction::choose_all(&t.candidates(now)));
        drop(state);
        if let Some(task) = choice.and_then(|choice| task(shared, major.table, &choice)) {
            return Some(Task { major: true, done: Some(major.done), ..task });
        }
        // There is nothing to compact.
        major.done.send(Ok(())).ok();
        state = shared.lock();
    }
    let mut best: Option<(u64, TableId, Choice)> = None;
    for (id, table) in &state.tables {
        if !table.auto_compaction || table.options.is_none() {
            continue;
        }
        let (candidates, options) = (table.candidates(now), table.size_tiered());
        let Some(choice) = compaction::choose(&candidates, &options) else { continue };
        let pending = compaction::pending_tasks(&candidates, &options);
        if best.as_ref().is_none_or(|(most, ..)| pending > *most) {
            best = Some((pending, *id, choice));
        }
    }
    drop(state);
    let (_, table, choice) = best?;
    task(shared, table, &choice)
}

fn task(shared: &Arc<Shared>, table: TableId, choice: &Choice) -> Option<Task> {
    let place = shared.place(table)?;
    let state = shared.lock();
    let inputs = &state.tables.get(&table)?.view.sstables;
    let inputs = inputs.iter().filter(|s| choice.inputs.contains(&s.generation)).cloned().collect();
    Some(Task { table, inputs, place, major: false, done: None })
}

async fn run(shared: &Arc<Shared>, task: Task) -> Result<(), Ended> {
    let Task { table, inputs, place, major, done: _ } = task;
    let generations: Vec<u64> = inputs.iter().map(|sstable| sstable.generation).collect();
    let total_bytes = inputs.iter().map(|sstable| sstable.bytes).sum();
    shared.lock().running = Some(RunningCompaction { table, done_bytes: 0, total_bytes });
    let mut merging = in_background(shared, 0, {
        let (shared, place, inputs) = (Arc::downgrade(shared), place.clone(), inputs.clone());
        move || Merging::begin(shared, table, place, &inputs)
    })
    .await??;
    loop {
        if let Err(ended) = may_go_on(shared, table, &generations, major).await {
            in_background(shared, 0, move || merging.abandon()).await?;
            return Err(ended);
        }
        let before = merging.consumed();
        let (back, step) = in_background(shared, STEP_BYTES, move || {
            let step = merging.step();
            (merging, step)
        })
        .await?;
        merging = back;
        let bytes = merging.consumed() - before;
        if let Some(running) = &mut shared.lock().running {
            running.done_bytes += bytes;
        }
        match step {
            // The last step pays like the others: a compaction of one step would otherwise cost nothing.
            Ok(is_last) => {
                throttle(shared, bytes).await;
                if is_last {
                    break;
                }
            }
            Err(error) => {
                in_background(shared, 0, move || merging.abandon()).await?;
                return Err(error.into());
            }
        }
    }
    commit(shared, table, &inputs, generations, merging).await
}

/// Finishes the output, lists it instead of the inputs, and removes these.
async fn commit(
    shared: &Arc<Shared>,
    table: TableId,
    inputs: &[Arc<SsTable>],
    generations: Vec<u64>,
    merging: Merging,
) -> Result<(), Ended> {
    let place = merging.place.clone();
    let bytes = merging.writer.bytes();
    let output = in_background(shared, bytes, move || merging.finish()).await??;
    let replaced = {
        let (place, generations) = (place.clone(), generations.clone());
        // On the flush lane: the only one that stores manifests.
        background::run(shared.background.as_ref(), Lane::Flush, 4096, move || {
            replace(&place, &generations, output)
        })
        .await
        .map_err(|_| StorageError::Stopped)??
    };
    let Some(output) = replaced else { return Err(Ended::GivenUp) };
    let sstables = shared.lock().compacted(table, &generations, output);
    let Some(sstables) = sstables else { return Err(Ended::GivenUp) };
    shared.probe.event(&Event::Compacted { table, inputs: inputs.len(), sstables });
    let disk = Arc::clone(&place.disk);
    // Readers that still look into them keep them open.
    let removal = move || generations.iter().for_each(|g| abandon(disk.as_ref(), &place.dir, *g));
    drop(shared.background.submit(Lane::Flush, 0, Box::new(removal)));
    Ok(())
}

/// Lists `output` instead of `inputs`. `None`: the inputs are no longer the table's, since it was dropped.
fn replace(
    place: &Place,
    inputs: &[u64],
    output: Option<SsTable>,
) -> Result<Option<Option<SsTable>>, StorageError> {
    let mut manifest = place.manifest.lock().expect("no job panics while it holds a manifest");
    let drop_output = || {
        if let Some(output) = &output {
            abandon(place.disk.as_ref(), &place.dir, output.generation);
        }
    };
    if manifest.dropped || !inputs.iter().all(|input| manifest.generations.contains(input)) {
        drop_output();
        return Ok(None);
    }
    let mut next = manifest.clone();
    next.generations.retain(|generation| !inputs.contains(generation));
    next.generations.extend(output.as_ref().map(|output| output.generation));
    next.generations.sort_unstable();
    match next.store(place.disk.as_ref(), &place.dir) {
        Ok(()) => {
            *manifest = next;
            Ok(Some(output))
        }
        Err(StoreError::Before(error)) => {
            drop_output();
            Err(error)
        }
        Err(StoreError::Amid(error)) => Err(error),
    }
}

async fn in_background<T: Send + 'static>(
    shared: &Arc<Shared>,
    bytes: u64,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    background::run(shared.background.as_ref(), Lane::Compaction, bytes, job)
        .await
        .map_err(|_| StorageError::Stopped)
}

/// Waits while compaction is paused. An automatic one that is paused makes room for an operator's.
async fn may_go_on(
    shared: &Arc<Shared>,
    table: TableId,
    inputs: &[u64],
    major: bool,
) -> Result<(), Ended> {
    loop {
        {
            let state = shared.lock();
            let Some(found) = state.tables.get(&table).filter(|t| t.has(inputs)) else {
                return Err(Ended::GivenUp);
            };
            if found.auto_compaction || major {
                return Ok(());
            }
            if !state.majors.is_empty() {
                return Err(Ended::GivenUp);
            }
        }
        shared.compaction_wanted.notified().await;
    }
}

async fn throttle(shared: &Arc<Shared>, bytes: u64) {
    let bytes_per_s = shared.lock().compaction_throughput;
    if bytes_per_s > 0 {
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64)).await;
    }
}

/// The merge itself, between two steps.
struct Merging {
    shared: Weak<Shared>,
    table: TableId,
    place: Place,
    inputs: Vec<u64>,
    cursors: Vec<Cursor>,
    writer: Writer,
    now: GcSeconds,
    gc_before: GcSeconds,
    /// Some input holds tombstones or TTLs, so every partition is looked into. Otherwise those that lie in one input
    /// only are copied as they are.
    inspect: bool,
    statistics: Statistics,
}

impl Merging {
    fn begin(
        shared: Weak<Shared>,
        table: TableId,
        place: Place,
        inputs: &[Arc<SsTable>],
    ) -> Result<Merging, StorageError> {
        let generation = {
            let mut manifest =
                place.manifest.lock().expect("no job panics while it holds a manifest");
            manifest.next_generation += 1;
            manifest.next_generation - 1
        };
        let partitions = inputs.iter().map(|input| input.content.partitions).sum();
        let disk = Arc::clone(&place.disk);
        let writer = Writer::create(disk, &place.dir, generation, &place.options, partitions)?;
        let cursors = inputs.iter().map(Cursor::sequential).collect::<Result<_, _>>()?;
        let inspect = inputs.iter().any(|input| {
            let statistics = &input.content.statistics;
            statistics.tombstones > 0 || statistics.expiring > 0
        });
        let statistics = if inspect { Statistics::default() } else { sum_statistics(inputs) };
        Ok(Merging {
            shared,
            table,
            inputs: inputs.iter().map(|input| input.generation).collect(),
            cursors,
            writer,
            now: place.now,
            gc_before: GcSeconds(place.now.0.saturating_sub(place.options.gc_grace_seconds)),
            place,
            inspect,
            statistics,
        })
    }

    fn consumed(&self) -> u64 {
        self.cursors.iter().map(Cursor::consumed).sum()
    }

    /// Merges about [`STEP_BYTES`] of input. `true`: nothing is left.
    fn step(&mut self) -> Result<bool, StorageError> {
        let until = self.consumed() + STEP_BYTES;
        while self.consumed() < until {
            let Some((first, alone)) = self.first() else { return Ok(true) };
            if alone && !self.inspect {
                let Some(cursor) = self.cursors.get_mut(first) else { return Ok(true) };
                if let Some((token, key)) = cursor.place() {
                    self.writer.add(token, key, cursor.value())?;
                }
                cursor.advance()?;
            } else {
                self.merge_at(first)?;
            }
        }
        Ok(false)
    }

    /// The cursor that stands first, and whether no other stands at the same partition.
    fn first(&self) -> Option<(usize, bool)> {
        let mut first: Option<(usize, (Token, &[u8]))> = None;
        let mut alone = true;
        for (i, cursor) in self.cursors.iter().enumerate() {
            let Some(place) = cursor.place() else { continue };
            match &first {
                Some((_, best)) if *best == place => alone = false,
                Some((_, best)) if *best < place => {}
                _ => (first, alone) = (Some((i, place)), true),
            }
        }
        first.map(|(i, _)| (i, alone))
    }

    /// Merges all versions of the partition that cursor `first` stands at.
    fn merge_at(&mut self, first: usize) -> Result<(), StorageError> {
        let Some((token, key)) = self.cursors.get(first).and_then(Cursor::place) else {
            return Ok(());
        };
        let here = memtable::Place::new(token, key);
        let mut merged = helenus_core::Partition::default();
        for cursor in &mut self.cursors {
            if cursor.place() == Some((token, here.key.as_slice())) {
                let partition = codec::decode(cursor.share_value())
                    .map_err(|e| cursor.table().undecodable(&e))?;
                merge::merge(&mut merged, partition);
                cursor.advance()?;
            }
        }
        if self.inspect {
            merge::expire(&mut merged, self.now);
            self.purge(&here, &mut merged);
            if merge::is_empty(&merged) {
                return Ok(());
            }
            self.statistics.add(&merged);
        }
        self.writer.add(token, here.key.as_slice(), &codec::encode(&merged))
    }

    fn purge(&self, here: &memtable::Place, merged: &mut helenus_core::Partition) {
        let mut statistics = Statistics::default();
        statistics.add(merged);
        if statistics.min_deleted_at.is_none_or(|second| second >= self.gc_before) {
            return;
        }
        let max_purgeable = self.oldest_elsewhere(here);
        merge::purge(merged, self.gc_before, max_purgeable);
    }

    /// The smallest timestamp that anything outside this compaction may have for a partition.
    fn oldest_elsewhere(&self, here: &memtable::Place) -> TimestampMicros {
        let Some(shared) = self.shared.upgrade() else { return TimestampMicros(i64::MIN) };
        let state = shared.lock();
        let Some(table) = state.tables.get(&self.table) else { return TimestampMicros(i64::MIN) };
        (shared.elsewhere)(table, &self.inputs, here)
    }

    /// Completes the output. `None`: nothing was left.
    fn finish(self) -> Result<Option<SsTable>, StorageError> {
        if self.writer.is_empty() {
            self.writer.abandon();
            return Ok(None);
        }
        let generation = self.writer.generation();
        self.writer.finish(self.statistics, self.now, &self.place.cache).map(Some).inspect_err(
            |_| {
                abandon(self.place.disk.as_ref(), &self.place.dir, generation);
            },
        )
    }

    fn abandon(self) {
        self.writer.abandon();
    }
}

/// What else of a table may hold a partition, and how old it may be at the oldest: tombstones as new as that stay.
pub(super) type Elsewhere = fn(&Table, &[u64], &memtable::Place) -> TimestampMicros;

/// The right answer: memtables count as older than everything, and of the SSTables outside `inputs` every one whose
/// filter admits the token.
pub(super) fn oldest_elsewhere(
    table: &Table,
    inputs: &[u64],
    here: &memtable::Place,
) -> TimestampMicros {
    let frozen = &table.view.frozen;
    if table.active.contains(here) || frozen.iter().any(|f| f.memtable.contains(here)) {
        return TimestampMicros(i64::MIN);
    }
    let others = table.view.sstables.iter().filter(|s| !inputs.contains(&s.generation));
    others
        .filter(|s| s.may_contain(here.token))
        .map(|s| s.content.statistics.min_timestamp.unwrap_or(TimestampMicros(i64::MIN)))
        .min()
        .unwrap_or(TimestampMicros(i64::MAX))
}

/// Bounds for the output of inputs without tombstones: exact but for rows that were in several inputs.
fn sum_statistics(inputs: &[Arc<SsTable>]) -> Statistics {
    let all = || inputs.iter().map(|input| &input.content.statistics);
    Statistics {
        min_timestamp: all().filter_map(|s| s.min_timestamp).min(),
        max_timestamp: all().filter_map(|s| s.max_timestamp).max(),
        rows: all().map(|s| s.rows).sum(),
        cells: all().map(|s| s.cells).sum(),
        beyond_value: all().any(|s| s.beyond_value),
        ..Statistics::default()
    }
}

/// Removes every file of a dropped table; the manifest stays, to say that the log's records are dead.
pub(super) fn remove_files(place: &Place, upto: super::log::Position) -> Result<(), StorageError> {
    let mut manifest = place.manifest.lock().expect("no job panics while it holds a manifest");
    if !manifest.stored {
        // Nothing but log records: without a manifest they would come back.
        super::flush::create_dir_durably(place.disk.as_ref(), &place.dir)?;
    }
    let mut next = manifest.clone();
    next.dropped = true;
    next.flushed_to = next.flushed_to.max(upto);
    let dead = std::mem::take(&mut next.generations);
    next.store(place.disk.as_ref(), &place.dir)?;
    *manifest = next;
    for generation in dead {
        abandon(place.disk.as_ref(), &place.dir, generation);
    }
    place.disk.sync_dir(&place.dir).map_err(|e| io_error(&place.dir, &e))
}
