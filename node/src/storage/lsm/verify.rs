//! Verify: everything on the disk is read and held against what it says of itself. Nothing is changed.
//!
//! Per table: the manifest against what the node has in memory and against the directory; per SSTable what
//! [`Check`] knows; and, when everything is verified, the commit log up to what was synced.

use super::chores::in_background;
use super::compact::throttle;
use super::flush::Place;
use super::log::{
    Found, Position, SegmentHeader, record_at, segment_id, segment_name, segment_seed,
};
use super::manifest::{self, Manifest};
use super::replay::read_all;
use super::sstable::{Check, Findings, Flaw, SsTable};
use super::{LsmEngine, Shared, io_error};
use crate::seams::background::{self, Lane};
use crate::seams::disk::Disk;
use crate::storage::{Problem, StorageError, Upkeep, VerifyOptions, VerifyReport};
use helenus_core::TableId;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Bytes that a step reads.
pub(super) const STEP_BYTES: u64 = 1 << 20;
const LOG_REMEDY: &str = "The next start would refuse it. Flush (`helenusctl flush`), so that all it holds is in SSTables; then \
                          stop the node, move its commit log aside, and start it";
const MANIFEST_REMEDY: &str = "`helenusctl scrub` stores it anew from what the running node knows. Do not stop the node \
                               before: it would not start";
const ORPHAN_REMEDY: &str = "The next start removes it";

pub(super) async fn verify(
    shared: &Arc<Shared>,
    options: VerifyOptions,
) -> Result<VerifyReport, StorageError> {
    let mut report = VerifyReport::default();
    for table in shared.chosen(options.tables.as_deref()) {
        verify_table(shared, table, options.quick, &mut report).await?;
    }
    if options.tables.is_none() && !options.quick {
        verify_log(shared, &mut report).await?;
    }
    Ok(report)
}

async fn verify_table(
    shared: &Arc<Shared>,
    table: TableId,
    quick: bool,
    report: &mut VerifyReport,
) -> Result<(), StorageError> {
    let Some(place) = shared.place(table) else { return Ok(()) };
    report.tables += 1;
    let before = look(shared, table, &place).await?;
    let sstables = {
        let state = shared.lock();
        let Some(found) = state.tables.get(&table) else { return Ok(()) };
        Arc::clone(&found.view)
    };
    let total_bytes = sstables.sstables.iter().map(|sstable| sstable.bytes).sum();
    shared.chores.progress(|running| {
        (running.table, running.done_bytes, running.total_bytes) = (table, 0, total_bytes);
    });
    for sstable in &sstables.sstables {
        // `None`: compaction replaced it meanwhile.
        let Some((_, findings)) = inspect(shared, table, &place, sstable, quick).await? else {
            continue;
        };
        report.sstables += 1;
        report.partitions += findings.partitions;
        report.bytes += findings.bytes;
        report.problems_left_out += findings.left_out;
        for flaw in findings.flaws {
            report.add(Problem {
                table: Some(table),
                path: sstable.path.display().to_string(),
                offset: flaw.offset,
                what: flaw.what,
                remedy: flaw.remedy.to_owned(),
            });
        }
    }
    let after = look(shared, table, &place).await?;
    if let Some(what) = after.manifest {
        report.add(Problem {
            table: Some(table),
            path: place.dir.join(manifest::NAME).display().to_string(),
            offset: 0,
            what,
            remedy: MANIFEST_REMEDY.to_owned(),
        });
    }
    for orphan in before.unlisted.intersection(&after.unlisted) {
        report.add(Problem {
            table: Some(table),
            path: place.dir.join(SsTable::name(*orphan)).display().to_string(),
            offset: 0,
            what: "no manifest lists this SSTable: it takes space and is not read".to_owned(),
            remedy: ORPHAN_REMEDY.to_owned(),
        });
    }
    Ok(())
}

/// Checks one SSTable. The file is opened anew, so that what is behind its blocks is read as the next start would. Gives
/// what could be opened: if need be, what the node has had open all along. `None`: it is no longer the table's.
pub(super) async fn inspect(
    shared: &Arc<Shared>,
    table: TableId,
    place: &Place,
    live: &Arc<SsTable>,
    quick: bool,
) -> Result<Option<(Arc<SsTable>, Findings)>, StorageError> {
    let generation = live.generation;
    let opened = {
        let place = place.clone();
        in_background(shared, 4096, move || {
            SsTable::open(place.disk.as_ref(), &place.dir, generation, &place.cache)
        })
        .await?
    };
    let (subject, unopened) = match opened {
        Ok(fresh) => (Arc::new(fresh), None),
        Err(error) => (Arc::clone(live), Some(Flaw::of_file(error))),
    };
    let mut findings = if quick { Findings::default() } else { check(shared, &subject).await? };
    if let Some(flaw) = unopened {
        findings.put_first(flaw);
    }
    let is_there = shared.lock().tables.get(&table).is_some_and(|found| found.has(&[generation]));
    Ok(is_there.then_some((subject, findings)))
}

async fn check(shared: &Arc<Shared>, subject: &Arc<SsTable>) -> Result<Findings, StorageError> {
    let mut check = Check::new(subject);
    loop {
        let (back, step) = in_background(shared, STEP_BYTES, move || {
            let step = check.step(STEP_BYTES);
            (check, step)
        })
        .await?;
        check = back;
        let (bytes, more) = step?;
        shared.chores.progress(|running| running.done_bytes += bytes);
        if !more {
            return Ok(check.finish());
        }
        throttle(shared, bytes, || true).await;
    }
}

/// What a table's directory holds.
#[derive(Debug, Default)]
struct Listing {
    /// SSTables that the manifest does not list. None while compaction may be writing one.
    unlisted: BTreeSet<u64>,
    /// What is wrong with the manifest's file.
    manifest: Option<String>,
}

/// A job of the flush lane: no manifest changes meanwhile, and what a compaction replaced before is gone.
async fn look(
    shared: &Arc<Shared>,
    table: TableId,
    place: &Place,
) -> Result<Listing, StorageError> {
    let (weak, place) = (Arc::downgrade(shared), place.clone());
    let job = move || -> Result<Listing, StorageError> {
        let Some(shared) = weak.upgrade() else { return Err(StorageError::Stopped) };
        let manifest = place.manifest.lock().expect("no job panics while it holds a manifest");
        if !manifest.stored {
            return Ok(Listing::default());
        }
        let files = match place.disk.list(&place.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && manifest.dropped => Vec::new(),
            listed => listed.map_err(|e| io_error(&place.dir, &e))?,
        };
        let running = LsmEngine { shared }.compaction_figures().running;
        let compacting = running.iter().any(|r| r.table == table && r.kind == "Compaction");
        let all = files.iter().filter_map(|name| SsTable::generation_of(name));
        let unlisted = all.filter(|generation| !manifest.generations.contains(generation));
        Ok(Listing {
            unlisted: if compacting { BTreeSet::new() } else { unlisted.collect() },
            manifest: manifest_flaw(place.disk.as_ref(), &place.dir, &manifest),
        })
    };
    background::run(shared.background.as_ref(), Lane::Flush, 4096, job)
        .await
        .map_err(|_| StorageError::Stopped)?
}

/// What is wrong with the file of a manifest that was stored.
pub(super) fn manifest_flaw(disk: &dyn Disk, dir: &Path, known: &Manifest) -> Option<String> {
    let list = |manifest: &Manifest| manifest.generations.iter().copied().collect::<BTreeSet<_>>();
    match Manifest::load(disk, dir) {
        Err(StorageError::Corrupt { what, .. }) => Some(what),
        Err(error) => Some(error.to_string()),
        Ok(None) => Some("the MANIFEST is gone".to_owned()),
        Ok(Some(stored)) => (list(&stored) != list(known) || stored.dropped != known.dropped)
            .then(|| "it lists other SSTables than the running node has".to_owned()),
    }
}

/// Reads the log's records again, up to what was synced before.
async fn verify_log(shared: &Arc<Shared>, report: &mut VerifyReport) -> Result<(), StorageError> {
    let durable = shared.lock().log.durable();
    let dir = shared.dir.join("commitlog");
    let names = {
        let (disk, dir) = (Arc::clone(&shared.disk), dir.clone());
        let list = move || disk.list(&dir).map_err(|e| io_error(&dir, &e));
        in_background(shared, 4096, list).await??
    };
    let mut ids: Vec<u64> = names.iter().filter_map(|name| segment_id(name)).collect();
    ids.sort_unstable();
    for id in ids.into_iter().filter(|id| *id <= durable.segment) {
        let (disk, path) = (Arc::clone(&shared.disk), dir.join(segment_name(id)));
        let shown = path.display().to_string();
        let read = move || read_segment(disk.as_ref(), &path, id, durable);
        let size = shared.config.commitlog_segment_size;
        // `None`: nobody needs it any more, and it was removed.
        let Some((bytes, flaw)) = in_background(shared, size, read).await?? else { continue };
        report.log_segments += 1;
        report.log_bytes += bytes;
        if let Some((offset, what)) = flaw {
            let remedy = LOG_REMEDY.to_owned();
            report.add(Problem { table: None, path: shown, offset, what, remedy });
        }
        throttle(shared, bytes, || true).await;
    }
    Ok(())
}

/// How many bytes of a segment were checked, and the first of them that does not hold.
type Segment = (u64, Option<(u64, String)>);

fn read_segment(
    disk: &dyn Disk,
    path: &Path,
    id: u64,
    durable: Position,
) -> Result<Option<Segment>, StorageError> {
    let bytes = match disk.open(path, false).and_then(|file| read_all(file.as_ref())) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Ok(Some((0, Some((0, e.to_string()))))),
        Ok(bytes) => bytes,
    };
    match SegmentHeader::decode(path, &bytes) {
        Ok(Some(header)) if header.id == id => {}
        Ok(_) => return Ok(Some((0, Some((0, "the segment's header is damaged".to_owned()))))),
        Err(error) => return Ok(Some((0, Some((0, error.to_string()))))),
    }
    let until = if id < durable.segment { bytes.len() as u64 } else { durable.offset };
    let mut at = super::log::SEGMENT_HEADER_BYTES;
    while (at as u64) < until {
        match record_at(&bytes, at, segment_seed(id)) {
            Ok((Found::Mutation(_) | Found::Synced(_), next)) => at = next,
            Err(damage) => {
                let what = format!("{}, in a part that was synced", damage.what);
                return Ok(Some((at as u64, Some((at as u64, what)))));
            }
        }
    }
    Ok(Some((at as u64, None)))
}
