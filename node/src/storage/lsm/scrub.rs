//! Scrub: damaged SSTables are written anew with all that can still be read.
//!
//! Entries are copied as they are: nothing is merged, nothing is purged, since what else knows of a key may be the part
//! that is damaged. What is not in order goes to an SSTable of its own. What cannot be read is left out and reported with
//! the tokens it lay at, so that a repair can be aimed at it. One SSTable at a time is replaced, in one step, as by a
//! compaction; a crash leaves the old one or the new ones.
//!
//! The index that counts is the one on the disk or, if that does not open any more, the one that the running node has in
//! memory: as long as the node runs, a damaged index costs nothing.
//!
//! CAVEAT: what was lost may have been tombstones, and what they covered may lie in an older SSTable: bring the range up
//! to date from its replicas before gc_grace has passed there.

use super::Shared;
use super::chores::in_background;
use super::compact::throttle;
use super::flush::{Place, abandon};
use super::manifest::StoreError;
use super::place;
use super::snapshot::{self, Name};
use super::sstable::{Blocks, Flaw, Seen, SsTable, Writer};
use super::verify::{STEP_BYTES, inspect, manifest_flaw};
use crate::seams::background::{self, Lane};
use crate::storage::{FINDINGS_MAX, Lost, ScrubOptions, ScrubReport, StorageError};
use helenus_core::merge::{self, Statistics};
use helenus_core::{GcSeconds, Partition, TableId, codec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Out-of-order partitions are held in memory up to this, then they become an SSTable.
const STRAYS_BYTES_MAX: u64 = 32 << 20;

pub(super) async fn scrub(
    shared: &Arc<Shared>,
    options: ScrubOptions,
) -> Result<ScrubReport, StorageError> {
    let mut report = ScrubReport::default();
    let tables = shared.chosen(options.tables.as_deref());
    if options.snapshot {
        let name = format!("pre-scrub-{}", shared.clock.wall_micros() / 1000);
        let taken = snapshot::snapshot(shared, Name::Like(name), Some(tables.clone())).await?;
        report.snapshot = Some(taken);
    }
    for table in tables {
        scrub_table(shared, table, options.all, &mut report).await?;
    }
    tracing::info!(
        sstables = report.sstables,
        rewritten = report.rewritten,
        lost = report.partitions_lost,
        "scrubbed"
    );
    Ok(report)
}

async fn scrub_table(
    shared: &Arc<Shared>,
    table: TableId,
    all: bool,
    report: &mut ScrubReport,
) -> Result<(), StorageError> {
    let Some(place) = shared.place(table) else { return Ok(()) };
    report.manifests += u64::from(mend_manifest(shared, &place).await?);
    let view = {
        let state = shared.lock();
        let Some(found) = state.tables.get(&table) else { return Ok(()) };
        Arc::clone(&found.view)
    };
    let total_bytes = view.sstables.iter().map(|sstable| sstable.bytes).sum();
    shared.chores.progress(|running| {
        (running.table, running.done_bytes, running.total_bytes) = (table, 0, total_bytes);
    });
    for sstable in &view.sstables {
        let Some((subject, findings)) = inspect(shared, table, &place, sstable, false).await?
        else {
            report.overtaken += 1;
            continue;
        };
        report.sstables += 1;
        if all || findings.flaws.iter().any(Flaw::is_mendable) {
            rewrite(shared, table, &place, &subject, report).await?;
        }
    }
    Ok(())
}

/// Stores a manifest anew whose file is damaged.
async fn mend_manifest(shared: &Arc<Shared>, place: &Place) -> Result<bool, StorageError> {
    let place = place.clone();
    on_flush_lane(shared, move || {
        let disk = place.disk.as_ref();
        let manifest = &mut place.manifest.lock().expect("no job panics while it holds a manifest");
        if !manifest.stored || manifest_flaw(disk, &place.dir, manifest).is_none() {
            return Ok(false);
        }
        manifest.store(disk, &place.dir)?;
        Ok(true)
    })
    .await?
}

async fn on_flush_lane<T: Send + 'static>(
    shared: &Shared,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    // The only lane that stores manifests.
    background::run(shared.background.as_ref(), Lane::Flush, 4096, job)
        .await
        .map_err(|_| StorageError::Stopped)
}

async fn rewrite(
    shared: &Arc<Shared>,
    table: TableId,
    place: &Place,
    subject: &Arc<SsTable>,
    report: &mut ScrubReport,
) -> Result<(), StorageError> {
    let mut rewriting = {
        let (place, subject) = (place.clone(), Arc::clone(subject));
        in_background(shared, 0, move || Rewriting::begin(table, place, subject)).await??
    };
    loop {
        let (back, step) = in_background(shared, STEP_BYTES, move || {
            let step = rewriting.step();
            (rewriting, step)
        })
        .await?;
        rewriting = back;
        let more = match step {
            Ok((bytes, more)) => {
                throttle(shared, bytes, || true).await;
                more
            }
            Err(error) => {
                in_background(shared, 0, move || rewriting.abandon()).await?;
                return Err(error);
            }
        };
        if !more {
            break;
        }
    }
    let cost = rewriting.writer.as_ref().map_or(0, Writer::bytes);
    let Rewritten { outputs, kept, reordered, lost, lost_left_out } =
        in_background(shared, cost, move || rewriting.finish()).await??;
    let generation = subject.generation;
    let replaced = {
        let (place, made) = (place.clone(), outputs.iter().map(|o| o.generation).collect());
        on_flush_lane(shared, move || replace(&place, generation, made)).await??
    };
    if !replaced || shared.lock().replaced(table, &[generation], outputs).is_none() {
        report.overtaken += 1;
        return Ok(());
    }
    report.rewritten += 1;
    report.partitions_kept += kept;
    report.partitions_lost += subject.content.partitions.saturating_sub(kept);
    report.reordered += reordered;
    report.lost_left_out += lost_left_out;
    lost.into_iter().for_each(|lost| report.add(lost));
    let place = place.clone();
    // Readers that still look into it keep it open.
    let removal = move || abandon(place.disk.as_ref(), &place.dir, generation);
    drop(shared.background.submit(Lane::Flush, 0, Box::new(removal)));
    shared.compaction_wanted.notify_one();
    Ok(())
}

/// Lists `outputs` instead of `input`. `false`: it is no longer the table's, and the outputs are gone.
fn replace(place: &Place, input: u64, outputs: Vec<u64>) -> Result<bool, StorageError> {
    let mut manifest = place.manifest.lock().expect("no job panics while it holds a manifest");
    let drop_outputs = || {
        outputs.iter().for_each(|output| abandon(place.disk.as_ref(), &place.dir, *output));
    };
    if manifest.dropped || !manifest.generations.contains(&input) {
        drop_outputs();
        return Ok(false);
    }
    let mut next = manifest.clone();
    next.generations.retain(|generation| *generation != input);
    next.generations.extend(&outputs);
    next.generations.sort_unstable();
    match next.store(place.disk.as_ref(), &place.dir) {
        Ok(()) => {
            *manifest = next;
            Ok(true)
        }
        Err(StoreError::Before(error)) => {
            drop_outputs();
            Err(error)
        }
        Err(StoreError::Amid(error)) => Err(error),
    }
}

/// One SSTable on its way to its successors, between two steps.
struct Rewriting {
    place: Place,
    subject: Arc<SsTable>,
    blocks: Blocks,
    /// `None`: it was finished.
    writer: Option<Writer>,
    kept: Kept,
    outputs: Vec<SsTable>,
}

/// What was kept, and what could not be.
struct Kept {
    table: TableId,
    path: String,
    /// The last one that was written in order.
    last: Option<place::Place>,
    statistics: Statistics,
    partitions: u64,
    strays: BTreeMap<place::Place, Partition>,
    strays_bytes: u64,
    reordered: u64,
    lost: Vec<Lost>,
    lost_left_out: u64,
}

/// What came of it.
struct Rewritten {
    outputs: Vec<SsTable>,
    kept: u64,
    reordered: u64,
    lost: Vec<Lost>,
    lost_left_out: u64,
}

impl Rewriting {
    fn begin(
        table: TableId,
        place: Place,
        subject: Arc<SsTable>,
    ) -> Result<Rewriting, StorageError> {
        let writer = create(&place, subject.content.partitions)?;
        let kept = Kept {
            table,
            path: subject.path.display().to_string(),
            last: None,
            statistics: Statistics::default(),
            partitions: 0,
            strays: BTreeMap::new(),
            strays_bytes: 0,
            reordered: 0,
            lost: Vec::new(),
            lost_left_out: 0,
        };
        let blocks = Blocks::new(&subject);
        Ok(Rewriting { place, subject, blocks, writer: Some(writer), kept, outputs: Vec::new() })
    }

    /// Copies about [`STEP_BYTES`]. Gives how many it were, and whether blocks are left.
    fn step(&mut self) -> Result<(u64, bool), StorageError> {
        let Rewriting { blocks, writer, kept, .. } = self;
        let Some(writer) = writer else { return Ok((0, false)) };
        let step = blocks.step(STEP_BYTES, &mut |seen| kept.see(seen, writer))?;
        if self.kept.strays_bytes >= STRAYS_BYTES_MAX {
            self.write_strays()?;
        }
        Ok(step)
    }

    fn write_strays(&mut self) -> Result<(), StorageError> {
        let strays = std::mem::take(&mut self.kept.strays);
        self.kept.strays_bytes = 0;
        if strays.is_empty() {
            return Ok(());
        }
        let mut writer = create(&self.place, strays.len() as u64)?;
        let mut statistics = Statistics::default();
        let added = strays.iter().try_for_each(|(at, partition)| {
            statistics.add(partition);
            writer.add(at.token, at.key.as_slice(), &codec::encode(partition))
        });
        if let Err(error) = added {
            writer.abandon();
            return Err(error);
        }
        self.close(writer, statistics)
    }

    fn close(&mut self, writer: Writer, statistics: Statistics) -> Result<(), StorageError> {
        let generation = writer.generation();
        // As old as it was: what tombstone and time-window compactions go by.
        let written_at = GcSeconds(self.subject.content.written_at);
        let output =
            writer.finish(statistics, written_at, &self.place.cache).inspect_err(|_| {
                abandon(self.place.disk.as_ref(), &self.place.dir, generation);
            })?;
        self.outputs.push(output);
        Ok(())
    }

    /// Completes the outputs; none if nothing was left.
    fn finish(mut self) -> Result<Rewritten, StorageError> {
        if let Err(error) = self.complete() {
            self.abandon();
            return Err(error);
        }
        let Kept { partitions: kept, reordered, lost, lost_left_out, .. } = self.kept;
        Ok(Rewritten { outputs: self.outputs, kept, reordered, lost, lost_left_out })
    }

    fn complete(&mut self) -> Result<(), StorageError> {
        self.write_strays()?;
        match self.writer.take() {
            Some(writer) if writer.is_empty() => writer.abandon(),
            Some(writer) => self.close(writer, self.kept.statistics)?,
            None => {}
        }
        Ok(())
    }

    /// Removes what was written.
    fn abandon(self) {
        if let Some(writer) = self.writer {
            writer.abandon();
        }
        for output in &self.outputs {
            abandon(self.place.disk.as_ref(), &self.place.dir, output.generation);
        }
    }
}

fn create(place: &Place, partitions: u64) -> Result<Writer, StorageError> {
    let generation = {
        let mut manifest = place.manifest.lock().expect("no job panics while it holds a manifest");
        manifest.next_generation += 1;
        manifest.next_generation - 1
    };
    Writer::create(Arc::clone(&place.disk), &place.dir, generation, &place.options, partitions)
}

impl Kept {
    fn see(&mut self, seen: Seen<'_>, writer: &mut Writer) -> Result<(), StorageError> {
        let (offset, token, key, value) = match seen {
            Seen::Entry { offset, token, key, value, .. } => (offset, token, key, value),
            Seen::Damaged { offset, error, from, until, .. } => {
                self.lose(offset, error.to_string(), from, until);
                return Ok(());
            }
        };
        let partition = match codec::decode(value.clone()) {
            Ok(partition) => partition,
            Err(error) => {
                self.lose(offset, error.to_string(), token, token);
                return Ok(());
            }
        };
        self.partitions += 1;
        let here = place::Place::new(token, key);
        if self.last.as_ref().is_some_and(|last| *last >= here) {
            self.reordered += 1;
            self.strays_bytes += (key.len() + value.len()) as u64;
            merge::merge(self.strays.entry(here).or_default(), partition);
            return Ok(());
        }
        self.statistics.add(&partition);
        self.last = Some(here);
        writer.add(token, key, &value)
    }

    fn lose(
        &mut self,
        offset: u64,
        what: String,
        from: helenus_core::Token,
        until: helenus_core::Token,
    ) {
        if self.lost.len() >= FINDINGS_MAX {
            self.lost_left_out += 1;
            return;
        }
        tracing::warn!(file = %self.path, offset, %what, %from, %until, "scrub cannot keep this");
        let (table, path) = (self.table, self.path.clone());
        self.lost.push(Lost { table, path, offset, what, from, until });
    }
}
