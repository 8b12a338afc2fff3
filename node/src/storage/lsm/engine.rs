//! The data path: what a replica asks of the engine, each a few lines over the part that knows.

use super::place::Place;
use super::rows::{LARGE_ROWS, Stretch};
use super::scan::{self, Found, Gathered};
use super::state::{Stirred, View};
use super::{LsmEngine, compact, log, sync, table_dir};
use crate::seams::background::{self, Lane};
use crate::seams::net::BoxFuture;
use crate::storage::{
    Applied, Engine, RangePage, RangeRows, RangeStart, RowsPage, StorageError, Visit, Write,
};
use helenus_core::read::{self, AsOf, Gather, Part, RowFilter};
use helenus_core::{Key, Partition, TableDef, TableId, Token};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::time::Duration;

/// How much of the active memtable a scan copies at a time.
const SCAN_GATHER: usize = 4096;

impl LsmEngine {
    fn acknowledge(&self, stirred: Stirred, upto: log::Position, slowed: Duration) -> Applied {
        if stirred.flush {
            self.shared.flush_wanted.notify_one();
        }
        if stirred.sync {
            self.shared.sync_wanted.notify_one();
        }
        let durable = self.shared.durable_after(upto);
        if slowed.is_zero() {
            return durable;
        }
        let shared = Arc::clone(&self.shared);
        Applied::After(Box::pin(async move {
            tokio::time::sleep(slowed).await;
            match durable {
                // Its caller no longer calls `commit` for it.
                Applied::Now => shared.lock().log.write_out(),
                Applied::After(durable) => durable.await,
            }
        }))
    }
}

impl LsmEngine {
    /// Part of a partition: of a small one cut out of the whole, of a large one put together window by window.
    fn rows_of(
        &self,
        table: TableId,
        place: &Place,
        filter: &RowFilter,
        as_of: AsOf,
    ) -> Result<Part, StorageError> {
        {
            let mut state = self.shared.lock();
            let table = state.open_table(table)?;
            if table.active.rows_of(place) <= LARGE_ROWS && !table.view.is_wide(place) {
                let (found, view) = (table.active.get(place)?, Arc::clone(&table.view));
                drop(state);
                let found = view.read(place, found)?.unwrap_or_default();
                return Ok(read::select(found, filter, as_of));
            }
        }
        let mut gather = Gather::new(filter, as_of);
        let mut rest = filter.slices.clone();
        loop {
            let (stretch, view) = {
                let mut state = self.shared.lock();
                let table = state.open_table(table)?;
                let stretch = Stretch::of(&table.active, place, filter, &rest)?;
                (stretch, Arc::clone(&table.view))
            };
            match view.gather_rows(place, &stretch, rest, filter, &mut gather)? {
                Some(next) => rest = filter.rest(&next),
                None => return Ok(gather.finish()),
            }
        }
    }

    /// Up to `limit` entries of the active memtable in a range, and all the rest.
    fn gather(
        &self,
        table: TableId,
        start: &Bound<Place>,
        until: Token,
        limit: usize,
        lazy: bool,
    ) -> Result<(Gathered, Arc<View>), StorageError> {
        let mut state = self.shared.lock();
        let table = state.open_table(table)?;
        table.figures.scans += 1;
        let gathered = Gathered::new(&table.active, start, until, limit, lazy);
        Ok((gathered, Arc::clone(&table.view)))
    }
}

impl Engine for LsmEngine {
    fn open_table(&self, def: &TableDef) -> Result<(), StorageError> {
        self.shared.lock().define(def, table_dir(&self.shared.dir, def.id));
        let mut defs = self.shared.defs.lock().expect("nothing panics while it holds this lock");
        defs.insert(def.id, def.clone());
        drop(defs);
        self.shared.compaction_wanted.notify_one();
        Ok(())
    }

    fn drop_table(&self, table: TableId) -> Result<(), StorageError> {
        let Some(place) = self.shared.place(table) else { return Ok(()) };
        let keepsake = self.shared.keepsake(table);
        let done = {
            let mut state = self.shared.lock();
            let upto = state.forget(table);
            (upto, state.flushed_sequence())
        };
        let (Some(upto), done) = done else { return Ok(()) };
        self.shared.flushes.send_modify(|progress| progress.done = done);
        self.shared.compaction_wanted.notify_one();
        let removal = move || {
            let kept = keepsake.map_or(Ok(()), |keepsake| keepsake.take(&place));
            if let Err(error) = kept.and_then(|()| compact::remove_files(&place, upto)) {
                tracing::warn!(%table, %error, "a dropped table's files stay");
            }
        };
        drop(self.shared.background.submit(Lane::Flush, 0, Box::new(removal)));
        Ok(())
    }

    fn apply(&self, write: Write) -> Result<Applied, StorageError> {
        let (stirred, upto, slowed) = {
            let mut state = self.shared.lock();
            let slowed = state.admit()?;
            let stirred = state.apply(write)?;
            (stirred, state.log.end(), slowed)
        };
        Ok(self.acknowledge(stirred, upto, slowed))
    }

    fn apply_all(&self, writes: Vec<Write>) -> Result<Applied, StorageError> {
        if writes.is_empty() {
            // No sync would follow, and the log may end behind the last one: with the mark that it left.
            return Ok(Applied::Now);
        }
        let mut all = Stirred::default();
        let (upto, slowed) = {
            let mut state = self.shared.lock();
            let slowed = state.admit()?;
            // All or nothing, as far as it can be known before.
            writes.iter().try_for_each(|write| state.check(write))?;
            for write in writes {
                let stirred = state.apply(write)?;
                all.flush |= stirred.flush;
                all.sync |= stirred.sync;
            }
            (state.log.end(), slowed)
        };
        Ok(self.acknowledge(all, upto, slowed))
    }

    fn commit(&self) -> Result<(), StorageError> {
        self.shared.lock().log.write_out()
    }

    fn synced(&self) -> BoxFuture<'static, Result<(), StorageError>> {
        let upto = self.shared.lock().log.end();
        self.shared.synced(upto)
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

    fn read_rows(
        &self,
        table: TableId,
        token: Token,
        key: &Key,
        filter: &RowFilter,
        as_of: AsOf,
    ) -> Result<Part, StorageError> {
        self.shared.lock().open_table(table)?.figures.reads += 1;
        self.rows_of(table, &Place::new(token, &key.0), filter, as_of)
    }

    fn range_rows(&self, table: TableId, wanted: &RangeRows<'_>) -> Result<RowsPage, StorageError> {
        let Some(bound) = scan::bound(wanted.start) else { return Ok(RowsPage::default()) };
        let gathered = wanted.limit.saturating_add(1);
        let (gathered, view) = self.gather(table, &bound, wanted.until, gathered, true)?;
        scan::rows_page(&view, &bound, wanted, &gathered, |place| {
            self.rows_of(table, place, wanted.filter, wanted.as_of)
        })
    }

    fn range(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        limit: usize,
    ) -> Result<RangePage, StorageError> {
        let Some(bound) = scan::bound(start) else { return Ok(RangePage::default()) };
        let (gathered, view) = self.gather(table, &bound, until, limit.saturating_add(1), false)?;
        scan::page(&view, &bound, until, limit, &gathered)
    }

    fn scan(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError> {
        let mut next = scan::bound(start);
        let mut buffer = Vec::new();
        while let Some(bound) = next {
            let (gathered, view) = self.gather(table, &bound, until, SCAN_GATHER, false)?;
            let flow = scan::walk(&view, &gathered, &bound, until, &mut |token, key, found| {
                let Found::Item(item) = found else { return Ok(ControlFlow::Continue(())) };
                Ok(visit(token, key, item.encoded(&mut buffer)))
            })?;
            if flow.is_break() {
                return Ok(());
            }
            next = gathered.next();
        }
        Ok(())
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
