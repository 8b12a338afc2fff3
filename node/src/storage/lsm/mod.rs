//! The default engine: a log-structured merge tree.
//!
//! ```text
//! apply -> log buffer + memtable          commit -> log file          sync (background) -> durable
//!          memtable full -> frozen -> flush (background) -> SSTable -> manifest -> log segments freed
//!          SSTables of like size -> compaction (background) -> one SSTable -> manifest
//! read  -> memtable + frozen ones + every SSTable whose filter admits the token, merged
//! ```
//!
//! It is ours, not a library's, because merge by timestamp, gc_grace and the compaction backlog are what this project
//! exists to show. The parts, in reading order: `log` and `replay` (nothing acknowledged is lost), `place` and `memtable`,
//! `sstable` with `bloom` (sorted files that never change, wide partitions in pieces), `manifest` (which of them count),
//! `state` (what is known in memory), `flush`, `order` (who stands first) with `compact` and `scan`, `rows` (parts of
//! partitions), `recover`, and what operators ask for: `snapshot`, `verify`, `scrub`.
//!
//! Invariants:
//! - what is in a memtable is in the log, until a manifest lists it in an SSTable;
//! - manifests change in one step, so a crash anywhere leaves the state before or the state after;
//! - `apply`, `read` and `range` run on the node's thread and wait for at most block reads and one buffered write; syncs,
//!   flushes and compactions are background jobs;
//! - bounded: memtables by `memtable_heap_space` (if flushing falls behind by four times as much: then writes are refused), the log by
//!   `commitlog_total_space` (the oldest memtable is flushed), blocks in memory by `block_cache_size`.
//!
//! CAVEATS: index and filter of every SSTable are in memory: about 2.5 bytes a partition, and a line of the index for every
//! 16 KiB of a wide one. A compaction, a repair and a scrub put a wide partition together whole, and so does a memtable.
//!
//! Sources: O'Neil et al., The Log-Structured Merge-Tree (1996); Chang et al., Bigtable (2006); Cassandra's storage engine.

mod log;
mod replay;
mod memtable;
mod place;
mod bloom;
mod sstable;
mod manifest;
mod state;
mod flush;
mod compact;
mod figures;
mod order;
mod scan;
mod rows;
mod recover;
mod sync;
mod snapshot;
mod verify;
mod scrub;
mod chores;
mod engine;
mod upkeep;
#[cfg(test)]
mod tests;

use super::{EngineFigures, RecoveryReport, StorageError};
use crate::config::StorageConfig;
use crate::seams::background::{Background, Lane};
use crate::seams::clock::{Clock, gc_seconds};
use crate::seams::disk::Disk;
use crate::seams::probe::Probe;
use crate::tasks::Tasks;
use chores::Chores;
use compact::Elsewhere;
use flush::Progress;
use helenus_core::{GcSeconds, TableDef, TableId};
use sstable::BlockCache;
use state::State;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use sync::SyncState;
use tokio::sync::{Notify, watch};

/// What an engine is made of.
pub struct LsmParts {
    /// Where its files are, on `disk`.
    pub dir: PathBuf,
    /// Sizes and modes.
    pub config: StorageConfig,
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// Where syncs, flushes and compactions run.
    pub background: Arc<dyn Background>,
    /// For gc_grace and TTLs.
    pub clock: Arc<dyn Clock>,
    /// Told of flushes and compactions.
    pub probe: Arc<dyn Probe>,
    /// Owns the engine's tasks: once it is dropped nothing is synced, flushed or compacted any more.
    pub tasks: Arc<Tasks>,
    /// Tables that are open from the start. Others follow by [`crate::storage::Engine::open_table`], when the schema was read.
    pub tables: Vec<TableDef>,
}

impl std::fmt::Debug for LsmParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsmParts").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The log-structured merge tree. Clones are the same engine.
#[derive(Clone)]
pub struct LsmEngine {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for LsmEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsmEngine").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// What the engine's handle, its tasks and its jobs share.
struct Shared {
    dir: PathBuf,
    config: StorageConfig,
    disk: Arc<dyn Disk>,
    background: Arc<dyn Background>,
    clock: Arc<dyn Clock>,
    probe: Arc<dyn Probe>,
    cache: Arc<BlockCache>,
    state: Mutex<State>,
    report: RecoveryReport,
    elsewhere: Elsewhere,
    /// Log segments that nobody needs, oldest first, while their files are there.
    doomed_segments: Arc<Mutex<VecDeque<PathBuf>>>,
    sync_wanted: Notify,
    sync_ended: Notify,
    flush_wanted: Notify,
    compaction_wanted: Notify,
    /// Compactions that are paused, or pay at the throttle, look again.
    compaction_changed: Notify,
    /// Whoever has it pays for its bytes.
    throttle: tokio::sync::Mutex<()>,
    syncs: watch::Sender<SyncState>,
    flushes: watch::Sender<Progress>,
    stop: watch::Sender<bool>,
    /// What each open table is called, for snapshots.
    defs: Mutex<BTreeMap<TableId, TableDef>>,
    chores: Chores,
}

impl LsmEngine {
    /// Reads back what is in `parts.dir` and starts the engine's tasks. Blocks until the log is replayed; must be called
    /// on the node's runtime.
    pub fn open(parts: LsmParts) -> Result<LsmEngine, StorageError> {
        LsmEngine::open_with(parts, compact::oldest_elsewhere)
    }

    /// As [`LsmEngine::open`], with another answer to what a purge asks, so that a test can see a wrong one caught.
    fn open_with(parts: LsmParts, elsewhere: Elsewhere) -> Result<LsmEngine, StorageError> {
        let cache = Arc::new(BlockCache::new(parts.config.block_cache_size));
        let now = gc_seconds(parts.clock.as_ref());
        let recovered = recover::recover(&parts, &cache, now)?;
        if recovered.report.records > 0 {
            tracing::info!(report = ?recovered.report, "replayed the commit log");
        }
        let durable = recovered.log.durable();
        let unsynced = recovered.log.is_unsynced();
        let mut state = State::new(recovered.tables, recovered.log, &parts.config);
        for def in &parts.tables {
            state.define(def, table_dir(&parts.dir, def.id));
        }
        if state.is_log_full() {
            state.relieve(false, true);
        }
        snapshot::sweep(parts.disk.as_ref(), &parts.dir);
        let LsmParts { dir, config, disk, background, clock, probe, tasks, tables } = parts;
        let (chores, wanted) = Chores::new();
        let shared = Arc::new(Shared {
            dir,
            config,
            disk,
            background,
            clock,
            probe,
            cache,
            state: Mutex::new(state),
            report: recovered.report,
            elsewhere,
            doomed_segments: Arc::default(),
            sync_wanted: Notify::new(),
            sync_ended: Notify::new(),
            flush_wanted: Notify::new(),
            compaction_wanted: Notify::new(),
            compaction_changed: Notify::new(),
            throttle: tokio::sync::Mutex::default(),
            syncs: watch::Sender::new(SyncState { durable, failed: None }),
            flushes: watch::Sender::new(Progress::default()),
            stop: watch::Sender::new(false),
            defs: Mutex::new(tables.into_iter().map(|def| (def.id, def)).collect()),
            chores,
        });
        let freed = shared.lock().free_log();
        shared.remove_log_files(freed);
        if unsynced {
            shared.sync_wanted.notify_one();
        }
        tasks.spawn(sync::sync_loop(Arc::clone(&shared)));
        tasks.spawn(flush::flush_loop(Arc::clone(&shared)));
        tasks.spawn(compact::compaction_loop(Arc::clone(&shared)));
        tasks.spawn(chores::chore_loop(Arc::clone(&shared), wanted));
        let engine = LsmEngine { shared };
        engine.shared.lock().book.last_id = compact::last_id(&engine);
        Ok(engine)
    }

    /// Figures of the engine as a whole.
    pub fn figures(&self) -> EngineFigures {
        let state = self.shared.lock();
        EngineFigures {
            log_bytes: state.log.total_bytes(),
            log_segments: state.log.segments() as u64,
            log_writes: state.log.writes(),
            frozen_memtables: state.queue.len() as u64,
            flush_failures: state.flush_failures,
            compaction_failures: state.compaction_failures,
            waiting_bytes: state.waiting_bytes(),
            slowed: state.slowed,
            slowed_micros: state.slowed_micros,
            overloaded: state.overloaded,
            recovery: self.shared.report,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the engine's lock")
    }

    fn now(&self) -> GcSeconds {
        gc_seconds(self.clock.as_ref())
    }

    /// What a flush or a compaction of a table works with.
    fn place(&self, table: TableId) -> Option<flush::Place> {
        let state = self.lock();
        let table = state.tables.get(&table)?;
        Some(flush::Place {
            disk: Arc::clone(&self.disk),
            cache: Arc::clone(&self.cache),
            dir: table.dir.clone(),
            manifest: Arc::clone(&table.manifest),
            options: table.options(),
            now: gc_seconds(self.clock.as_ref()),
        })
    }

    /// Removes log segments that nobody needs, oldest first. One that cannot be removed is tried again before any later
    /// one: a log never has a hole.
    fn remove_log_files(&self, paths: Vec<PathBuf>) {
        if paths.is_empty() {
            return;
        }
        lock_segments(&self.doomed_segments).extend(paths);
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.join("commitlog"));
        let doomed = Arc::clone(&self.doomed_segments);
        let removal = move || {
            loop {
                let Some(path) = lock_segments(&doomed).front().cloned() else { return };
                let removed = match disk.remove(&path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    removed => removed,
                };
                // Each name is gone for good before the next.
                if let Err(error) = removed.and_then(|()| disk.sync_dir(&dir)) {
                    tracing::warn!(path = %path.display(), %error, "a log segment stays for now");
                    return;
                }
                lock_segments(&doomed).pop_front();
            }
        };
        drop(self.background.submit(Lane::Flush, 0, Box::new(removal)));
    }
}

/// Not held while the disk is at work: the node's own thread adds to the list.
fn lock_segments(doomed: &Mutex<VecDeque<PathBuf>>) -> MutexGuard<'_, VecDeque<PathBuf>> {
    doomed.lock().expect("nothing panics while it holds the list")
}

fn table_dir(root: &Path, table: TableId) -> PathBuf {
    root.join("tables").join(table.to_string())
}

fn io_error(path: &Path, error: &io::Error) -> StorageError {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, then restart the node"
        }
        io::ErrorKind::PermissionDenied => "; the node's user needs to read and write here",
        _ => "",
    };
    StorageError::Io { path: path.display().to_string(), message: format!("{error}{advice}") }
}

fn corrupt(path: &Path, offset: u64, what: impl Into<String>, remedy: &str) -> StorageError {
    StorageError::Corrupt {
        path: path.display().to_string(),
        offset,
        what: what.into(),
        remedy: remedy.to_owned(),
    }
}

/// A partition in memory, or in a log record whose checksum holds, does not decode: it was written so.
fn undecodable(error: &helenus_core::codec::CodecError) -> StorageError {
    StorageError::Corrupt {
        path: "memtable".to_owned(),
        offset: 0,
        what: error.to_string(),
        remedy: "A build with another format wrote it: start that one, or a newer one".to_owned(),
    }
}
