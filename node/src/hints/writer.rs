//! From memory to the platter: one write a wake, one sync a period, or at once for whoever waits.

use super::{HintError, HintStore, at, unlink_all};
use crate::seams::background::{self, Lane, Stopped};
use crate::seams::probe::HintLoss;
use helenus_core::NodeId;
use std::io;
use std::time::Duration;

/// How long to wait before a disk that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl HintStore {
    /// Writes and syncs everything: what is pending now is pending after a restart, and so are dead letters.
    pub async fn flush(&self) -> Result<(), HintError> {
        let flushed = self.flush_log().await;
        match &self.shared.letters {
            Some(letters) => flushed.and(letters.log.flush_log().await),
            None => flushed,
        }
    }

    async fn flush_log(&self) -> Result<(), HintError> {
        let before = self.lock().sync_failures;
        self.sync_once().await?;
        let state = self.lock();
        match &state.unwritable {
            Some(why) => Err(at(&self.shared.files.dir, &io::Error::other(why.clone()))),
            None if state.sync_failures > before => {
                Err(at(&self.shared.files.dir, &io::Error::other("a sync failed")))
            }
            None => Ok(()),
        }
    }

    /// Writes what waits in memory to the files, without syncing them. The writer does this once a wake; a shutdown or a
    /// benchmark does it when it likes.
    pub fn write_out(&self) {
        self.lock().write_out(&self.shared.files);
        if let Some(letters) = &self.shared.letters {
            letters.log.write_out();
        }
    }

    /// Writes what was appended in one wake with one write a segment, and tries again while the disk refuses.
    pub(super) async fn write_on(self) {
        loop {
            if self.lock().unwritable.is_some() {
                tokio::time::sleep(RETRY).await;
            } else {
                self.shared.appended.notified().await;
            }
            self.write_out();
        }
    }

    /// Syncs every `hints_flush_period`, and at once when someone waits for it.
    pub(super) async fn sync_on(self) {
        loop {
            tokio::select! { biased;
                // Who waits goes before the clock.
                () = self.shared.sync_wanted.notified() => {}
                () = tokio::time::sleep(self.shared.config.hints_flush_period) => {}
            }
            if self.sync_once().await.is_err() {
                return;
            }
            let now = self.shared.clock.now();
            let mut state = self.lock();
            let bytes = state.budget.total();
            state.pace.sample(now, bytes);
        }
    }

    async fn sync_once(&self) -> Result<(), Stopped> {
        let mut unsynced = self.lock().take_unsynced(&self.shared.files);
        let waiters = std::mem::take(&mut unsynced.waiters);
        let mut good = self.lock().unwritable.is_none();
        let idle = unsynced.files.is_empty()
            && !unsynced.names
            && unsynced.doomed.is_empty()
            && unsynced.ledger.is_none();
        if !idle {
            let files = self.shared.files.clone();
            let bytes = unsynced.bytes;
            let job = move || {
                let synced: Vec<_> = unsynced
                    .files
                    .into_iter()
                    .map(|(target, seq, file)| (target, seq, file.sync()))
                    .collect();
                // First what was lost, then that it is gone: a crash between the two says it twice, not never.
                let ledger = unsynced.ledger.map_or(Ok(()), |ledger| files.ledger.write(&ledger));
                let removed = unlink_all(&files, unsynced.doomed);
                let names = if unsynced.names { files.disk.sync_dir(&files.dir) } else { Ok(()) };
                (synced, ledger, names, removed)
            };
            let done = background::run(&*self.shared.background, Lane::Hints, bytes, job);
            let (synced, ledger, names, removed) = done.await?;
            good &= self.settle_syncs(synced, names);
            self.settle_ledger_write(ledger);
            self.settle_removals(removed);
        }
        for waiter in waiters {
            // Whoever waited may have given up.
            waiter.send(if good { Ok(()) } else { Err(HintLoss::Unwritable) }).ok();
        }
        Ok(())
    }

    /// The ledger is on the disk, or is to be written again. No hint depends on it, so nobody who waits for one hears.
    pub(super) fn settle_ledger_write(&self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::error!(%error, "the ledger of lost hints cannot be written; it is tried again");
            self.lock().ledger_failed();
        }
    }

    fn settle_syncs(
        &self,
        synced: Vec<(NodeId, u64, io::Result<()>)>,
        names: io::Result<()>,
    ) -> bool {
        let mut good = true;
        let mut state = self.lock();
        for (target, seq, result) in synced {
            if let Err(error) = &result {
                tracing::error!(%target, seq, %error, "a hint segment cannot be synced");
            }
            good &= result.is_ok();
            state.synced(target, seq, result.is_ok());
        }
        if let Err(error) = names {
            tracing::error!(%error, "the hint directory cannot be synced");
            good = false;
            state.names_dirty = true;
            state.sync_failures += 1;
        }
        good
    }
}
