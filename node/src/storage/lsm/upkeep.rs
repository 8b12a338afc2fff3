//! The operator's verbs, on this engine.

use super::chores::Chore;
use super::flush::Progress;
use super::snapshot::Name;
use super::state::Major;
use super::{LsmEngine, snapshot};
use crate::seams::background::COMPACTORS_MAX;
use crate::seams::net::BoxFuture;
use crate::storage::{
    CompactionFigures, EngineFigures, ScrubOptions, ScrubReport, SnapshotFigures, StorageError,
    TableFigures, Upkeep, VerifyOptions, VerifyReport,
};
use helenus_core::TableId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Operators who may wait for a major compaction at a time.
const MAJORS_MAX: usize = 64;

impl Upkeep for LsmEngine {
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
        self.shared.compaction_wanted.notify_one();
    }

    fn set_concurrent_compactors(&self, compactors: u8) {
        self.shared.lock().book.compactors = compactors.clamp(1, COMPACTORS_MAX);
        self.shared.compaction_wanted.notify_one();
    }

    fn sstables_read(&self, table: TableId) -> Option<(u64, u64)> {
        let state = self.shared.lock();
        let figures = &state.tables.get(&table)?.view.read_figures;
        Some((figures.sstables.load(Ordering::Relaxed), figures.skipped.load(Ordering::Relaxed)))
    }

    fn table_figures(&self) -> BTreeMap<TableId, TableFigures> {
        let now = self.shared.now();
        let state = self.shared.lock();
        let open = state.tables.values().filter(|table| table.options.is_some());
        open.map(|table| (table.id, table.figures(now))).collect()
    }

    fn engine_figures(&self) -> EngineFigures {
        self.figures()
    }

    fn compaction_figures(&self) -> CompactionFigures {
        let now = self.shared.now();
        let state = self.shared.lock();
        let open = state.tables.values().filter(|table| table.options.is_some());
        CompactionFigures {
            pending_tasks: open.map(|table| table.figures(now).pending_compactions).sum::<u64>()
                + state.majors.len() as u64,
            running: state.book.running().into_iter().chain(self.shared.chores.running()).collect(),
            compactors: state.book.compactors,
            auto_compaction: state.auto_compaction,
            throughput_bytes_per_s: state.compaction_throughput,
            completed: state.compactions_completed,
        }
    }

    fn verify(
        &self,
        options: VerifyOptions,
    ) -> BoxFuture<'static, Result<VerifyReport, StorageError>> {
        let (tell, told) = oneshot::channel();
        let begun = self.shared.chores.begin("Verify", Chore::Verify(options, tell));
        Box::pin(async move {
            begun?;
            told.await.unwrap_or(Err(StorageError::Stopped))
        })
    }

    fn scrub(
        &self,
        options: ScrubOptions,
    ) -> BoxFuture<'static, Result<ScrubReport, StorageError>> {
        let (tell, told) = oneshot::channel();
        let begun = self.shared.chores.begin("Scrub", Chore::Scrub(options, tell));
        Box::pin(async move {
            begun?;
            told.await.unwrap_or(Err(StorageError::Stopped))
        })
    }

    fn snapshot(
        &self,
        tag: String,
        tables: Option<Vec<TableId>>,
    ) -> BoxFuture<'static, Result<(), StorageError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(
            async move { snapshot::snapshot(&shared, Name::Exactly(tag), tables).await.map(drop) },
        )
    }

    fn list_snapshots(&self) -> BoxFuture<'static, Result<Vec<SnapshotFigures>, StorageError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { snapshot::list(&shared).await })
    }

    fn clear_snapshots(
        &self,
        tag: Option<String>,
        tables: Option<Vec<TableId>>,
    ) -> BoxFuture<'static, Result<u64, StorageError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { snapshot::clear(&shared, tag, tables).await })
    }
}
