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
//! exists to show. The parts, in reading order: `log` and `replay` (nothing acknowledged is lost), `memtable`, `sstable`
//! with `bloom` (sorted files that never change), `manifest` (which of them count), `state` (what is known in memory),
//! `flush`, `compact`, `scan`, `recover`.
//!
//! Invariants:
//! - what is in a memtable is in the log, until a manifest lists it in an SSTable;
//! - manifests change in one step, so a crash anywhere leaves the state before or the state after;
//! - `apply`, `read` and `range` run on the node's thread and wait for at most block reads and one buffered write; syncs,
//!   flushes and compactions are background jobs;
//! - bounded: memtables by `memtable_heap_space` (waiting ones by four times as much, then writes are refused), the log by
//!   `commitlog_total_space` (the oldest memtable is flushed), blocks in memory by `block_cache_size`.
//!
//! CAVEAT: index and filter of every SSTable are in memory: about 2.5 bytes a partition.
//!
//! Sources: O'Neil et al., The Log-Structured Merge-Tree (1996); Chang et al., Bigtable (2006); Cassandra's storage engine.

mod log;
mod replay;
mod memtable;
mod bloom;
mod sstable;
mod manifest;
mod state;
mod flush;
mod compact;
mod scan;
mod recover;
mod sync;
#[cfg(test)]
mod tests;

use super::{
    Applied, CompactionFigures, Engine, RangePage, RangeStart, StorageError, TableFigures, Write,
};
use crate::config::StorageConfig;
use crate::seams::background::{self, Background, Lane};
use crate::seams::clock::Clock;
use crate::seams::disk::Disk;
use crate::seams::net::BoxFuture;
use crate::seams::probe::Probe;
use crate::tasks::Tasks;
use flush::Progress;
use helenus_core::{GcSeconds, Key, Partition, TableDef, TableId, Token};
use memtable::Place;
use sstable::BlockCache;
use state::{Major, State, Stirred};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use sync::SyncState;
use tokio::sync::{Notify, oneshot, watch};

/// Operators who may wait for a major compaction at a time.
const MAJORS_MAX: usize = 64;

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
    /// Tables that are open from the start. Others follow by [`Engine::open_table`], when the schema was read.
    pub tables: Vec<TableDef>,
}

impl std::fmt::Debug for LsmParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsmParts").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// What the start found in the commit log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct RecoveryReport {
    pub records: u64,
    pub segments: u64,
    /// Bytes of a torn tail: writes that no sync had covered.
    pub cut_bytes: u64,
}

/// Figures of the engine as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct LsmFigures {
    pub log_bytes: u64,
    pub log_segments: u64,
    pub log_writes: u64,
    pub frozen_memtables: u64,
    pub flush_failures: u64,
    pub compaction_failures: u64,
    /// Writes that were refused because flushing did not keep up.
    pub overloaded: u64,
    pub recovery: RecoveryReport,
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
    sync_wanted: Notify,
    flush_wanted: Notify,
    compaction_wanted: Notify,
    syncs: watch::Sender<SyncState>,
    flushes: watch::Sender<Progress>,
    stop: watch::Sender<bool>,
}

impl LsmEngine {
    /// Reads back what is in `parts.dir` and starts the engine's tasks. Blocks until the log is replayed; must be called
    /// on the node's runtime.
    pub fn open(parts: LsmParts) -> Result<LsmEngine, StorageError> {
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
        let LsmParts { dir, config, disk, background, clock, probe, tasks, tables: _ } = parts;
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
            sync_wanted: Notify::new(),
            flush_wanted: Notify::new(),
            compaction_wanted: Notify::new(),
            syncs: watch::Sender::new(SyncState { durable, failed: None }),
            flushes: watch::Sender::new(Progress::default()),
            stop: watch::Sender::new(false),
        });
        let freed = shared.lock().free_log();
        shared.remove_log_files(freed);
        if unsynced {
            shared.sync_wanted.notify_one();
        }
        tasks.spawn(sync::sync_loop(Arc::clone(&shared)));
        tasks.spawn(flush::flush_loop(Arc::clone(&shared)));
        tasks.spawn(compact::compaction_loop(Arc::clone(&shared)));
        Ok(LsmEngine { shared })
    }

    /// Figures of the engine as a whole.
    pub fn figures(&self) -> LsmFigures {
        let state = self.shared.lock();
        LsmFigures {
            log_bytes: state.log.total_bytes(),
            log_segments: state.log.segments() as u64,
            log_writes: state.log.writes(),
            frozen_memtables: state.queue.len() as u64,
            flush_failures: state.flush_failures,
            compaction_failures: state.compaction_failures,
            overloaded: state.overloaded,
            recovery: self.shared.report,
        }
    }

    fn acknowledge(&self, stirred: Stirred, upto: log::Position) -> Applied {
        if stirred.flush {
            self.shared.flush_wanted.notify_one();
        }
        if stirred.sync {
            self.shared.sync_wanted.notify_one();
        }
        self.shared.durable_after(upto)
    }
}

impl Engine for LsmEngine {
    fn open_table(&self, def: &TableDef) -> Result<(), StorageError> {
        self.shared.lock().define(def, table_dir(&self.shared.dir, def.id));
        self.shared.compaction_wanted.notify_one();
        Ok(())
    }

    fn drop_table(&self, table: TableId) -> Result<(), StorageError> {
        let Some(place) = self.shared.place(table) else { return Ok(()) };
        let done = {
            let mut state = self.shared.lock();
            let upto = state.forget(table);
            (upto, state.flushed_sequence())
        };
        let (Some(upto), done) = done else { return Ok(()) };
        self.shared.flushes.send_modify(|progress| progress.done = done);
        self.shared.compaction_wanted.notify_one();
        let removal = move || {
            if let Err(error) = compact::remove_files(&place, upto) {
                tracing::warn!(%table, %error, "a dropped table's files stay");
            }
        };
        drop(self.shared.background.submit(Lane::Flush, 0, Box::new(removal)));
        Ok(())
    }

    fn apply(&self, write: Write) -> Result<Applied, StorageError> {
        let (stirred, upto) = {
            let mut state = self.shared.lock();
            state.admit()?;
            let stirred = state.apply(write)?;
            (stirred, state.log.end())
        };
        Ok(self.acknowledge(stirred, upto))
    }

    fn apply_all(&self, writes: Vec<Write>) -> Result<Applied, StorageError> {
        if writes.is_empty() {
            return Ok(Applied::Now);
        }
        let mut all = Stirred::default();
        let upto = {
            let mut state = self.shared.lock();
            state.admit()?;
            // All or nothing, as far as it can be known before.
            writes.iter().try_for_each(|write| state.open_table(write.table).map(drop))?;
            if writes.is_empty() {
                // No sync would follow, and the log may end behind the last one: with the mark that it left.
                return Ok(Applied::Now);
            }
            for write in writes {
                let stirred = state.apply(write)?;
                all.flush |= stirred.flush;
                all.sync |= stirred.sync;
            }
            state.log.end()
        };
        Ok(self.acknowledge(all, upto))
    }

    fn commit(&self) -> Result<(), StorageError> {
        self.shared.lock().log.write_out()
    }

    fn read(
        &self,
        table: TableId,
        token: Token,
        key: &Key,
    ) -> Result<Option<Partition>, StorageError> {
        let place = Place::new(token, &key.0);
        let (found, view) = {
            let mut state = self.shared.lock();
            let table = state.open_table(table)?;
            table.figures.reads += 1;
            (table.active.get(&place)?, Arc::clone(&table.view))
        };
        view.read(&place, found)
    }

    fn range(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        limit: usize,
    ) -> Result<RangePage, StorageError> {
        let bound = scan::bound(start);
        let mut gathered = scan::Gathered::new();
        let view = {
            let mut state = self.shared.lock();
            let table = state.open_table(table)?;
            table.figures.reads += 1;
            let Some(bound) = &bound else { return Ok(RangePage::default()) };
            let wanted = limit.saturating_add(1);
            scan::gather(&table.active, bound, until, wanted, &mut gathered)?;
            Arc::clone(&table.view)
        };
        match bound {
            Some(bound) => scan::page(&view, &bound, until, limit, gathered),
            None => Ok(RangePage::default()),
        }
    }

    fn flush(&self, table: Option<TableId>) -> BoxFuture<'static, Result<(), StorageError>> {
        let wanted = {
            let mut state = self.shared.lock();
            let tables: Vec<TableId> = match table {
                Some(table) => vec![table],
                None => state.tables.keys().copied().collect(),
            };
            tables.into_iter().for_each(|table| state.freeze(table));
            state.last_sequence()
        };
        self.shared.flush_wanted.notify_one();
        let mut progress = self.shared.flushes.subscribe();
        let mut stop = self.shared.stop.subscribe();
        let failures = progress.borrow().failures;
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            // What was empty before has nothing to wait for.
            if shared.lock().flushed_sequence() >= wanted {
                return Ok(());
            }
            let ended = progress.wait_for(|p| p.done >= wanted || p.failures > failures);
            tokio::select! { biased;
                ended = ended => match ended.map_err(|_| StorageError::Stopped)?.clone() {
                    Progress { done, .. } if done >= wanted => Ok(()),
                    Progress { last_error, .. } => Err(last_error.unwrap_or(StorageError::Stopped)),
                },
                _ = stop.wait_for(|stop| *stop) => Err(StorageError::Stopped),
            }
        })
    }

    fn compact(&self, table: Option<TableId>) -> BoxFuture<'static, Result<(), StorageError>> {
        let mut waiting = Vec::new();
        {
            let mut state = self.shared.lock();
            let tables: Vec<TableId> = match table {
                Some(table) => vec![table],
                None => {
                    let open = state.tables.values().filter(|table| table.options.is_some());
                    open.map(|table| table.id).collect()
                }
            };
            for table in tables {
                if state.majors.len() >= MAJORS_MAX {
                    // Past the bound the older ones' runs cover the same SSTables.
                    break;
                }
                let (done, ended) = oneshot::channel();
                state.majors.push_back(Major { table, done });
                waiting.push(ended);
            }
        }
        self.shared.compaction_wanted.notify_one();
        Box::pin(async move {
            for ended in waiting {
                ended.await.unwrap_or(Err(StorageError::Stopped))?;
            }
            Ok(())
        })
    }

    fn set_auto_compaction(&self, table: Option<TableId>, on: bool) {
        {
            let mut state = self.shared.lock();
            match table {
                Some(table) => {
                    if let Some(table) = state.tables.get_mut(&table) {
                        table.auto_compaction = on;
                    }
                }
                None => {
                    state.auto_compaction = on;
                    state.tables.values_mut().for_each(|table| table.auto_compaction = on);
                }
            }
        }
        self.shared.compaction_wanted.notify_one();
    }

    fn set_compaction_throughput(&self, bytes_per_s: u64) {
        self.shared.lock().compaction_throughput = bytes_per_s;
    }

    fn table_figures(&self) -> BTreeMap<TableId, TableFigures> {
        let now = self.shared.now();
        let state = self.shared.lock();
        let open = state.tables.values().filter(|table| table.options.is_some());
        open.map(|table| (table.id, table.figures(now))).collect()
    }

    fn compaction_figures(&self) -> CompactionFigures {
        let now = self.shared.now();
        let state = self.shared.lock();
        let open = state.tables.values().filter(|table| table.options.is_some());
        CompactionFigures {
            pending_tasks: open.map(|table| table.figures(now).pending_compactions).sum::<u64>()
                + state.majors.len() as u64,
            running: state.running.iter().cloned().collect(),
            auto_compaction: state.auto_compaction,
            throughput_bytes_per_s: state.compaction_throughput,
            completed: state.compactions_completed,
        }
    }

    fn poisoned(&self) -> Option<String> {
        self.shared.lock().log.poisoned().map(str::to_owned)
    }

    fn shutdown(&self) -> BoxFuture<'static, Result<(), StorageError>> {
        let shared = Arc::clone(&self.shared);
        shared.lock().stopping = true;
        // Its tasks end; jobs that are under way run to their end below.
        shared.stop.send_replace(true);
        Box::pin(async move {
            let synced = sync::close(&shared).await;
            for lane in [Lane::Compaction, Lane::Flush] {
                // Another engine may open the directory next: nothing of this one may still write.
                background::run(shared.background.as_ref(), lane, 0, || ())
                    .await
                    .map_err(|_| StorageError::Stopped)?;
            }
            synced
        })
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

    /// Removes log segments that nobody needs, oldest first.
    fn remove_log_files(&self, paths: Vec<PathBuf>) {
        if paths.is_empty() {
            return;
        }
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.join("commitlog"));
        let removal = move || {
            for path in paths {
                // Each name is gone for good before the next: a log never has a hole.
                if let Err(error) = disk.remove(&path).and_then(|()| disk.sync_dir(&dir)) {
                    tracing::warn!(path = %path.display(), %error, "a log segment stays; a restart replays it");
                    return;
                }
            }
        };
        drop(self.background.submit(Lane::Flush, 0, Box::new(removal)));
    }
}

fn gc_seconds(clock: &dyn Clock) -> GcSeconds {
    let seconds = clock.wall_micros().max(0) / 1_000_000;
    GcSeconds(u32::try_from(seconds).unwrap_or(u32::MAX))
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
