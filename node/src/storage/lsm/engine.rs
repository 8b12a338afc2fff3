//! The data path: what a replica asks of the engine, each a few lines over the part that knows.

use super::memtable::Place;
use super::state::Stirred;
use super::{LsmEngine, compact, log, scan, sync, table_dir};
use crate::seams::background::{self, Lane};
use crate::seams::net::BoxFuture;
use crate::storage::{Applied, Engine, RangePage, RangeStart, StorageError, Write};
use helenus_core::{Key, Partition, TableDef, TableId, Token};
use std::sync::Arc;

impl LsmEngine {
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
            let lanes: Vec<Lane> = shared.lock().book.lanes().chain([Lane::Flush]).collect();
            for lane in lanes {
                // Another engine may open the directory next: nothing of this one may still write.
                background::run(shared.background.as_ref(), lane, 0, || ())
                    .await
                    .map_err(|_| StorageError::Stopped)?;
            }
            synced
        })
    }
}
