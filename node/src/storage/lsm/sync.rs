//! When the log is synced, and who waits for it.

use super::Shared;
use super::log::{Position, SyncJob};
use crate::config::CommitlogSync;
use crate::seams::background::{self, Lane};
use crate::storage::{Applied, StorageError};
use std::sync::Arc;
use std::time::Duration;

/// How far the log is durable.
#[derive(Debug, Clone)]
pub(super) struct SyncState {
    pub(super) durable: Position,
    pub(super) failed: Option<StorageError>,
}

impl Shared {
    /// When a write that ends before `upto` may be acknowledged.
    pub(super) fn durable_after(&self, upto: Position) -> Applied {
        if matches!(self.config.commitlog_sync, CommitlogSync::Periodic(_)) {
            return Applied::Now;
        }
        let mut syncs = self.syncs.subscribe();
        Applied::After(Box::pin(async move {
            let ended = syncs.wait_for(|s| s.durable >= upto || s.failed.is_some()).await;
            let state = ended.map_err(|_| StorageError::Stopped)?;
            match &state.failed {
                Some(error) if state.durable < upto => Err(error.clone()),
                _ => Ok(()),
            }
        }))
    }

    fn publish(&self, failed: Option<StorageError>) {
        let durable = self.lock().log.durable();
        self.syncs.send_modify(|state| {
            state.durable = durable;
            state.failed = failed.or(state.failed.take());
        });
    }
}

/// The engine's sync task: sleeps until there is something to sync, waits as the mode says, syncs once for all who wait.
pub(super) async fn sync_loop(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let delay = match shared.config.commitlog_sync {
        CommitlogSync::Periodic(period) => period,
        CommitlogSync::Group(window) => window,
        CommitlogSync::Batch => Duration::ZERO,
    };
    loop {
        tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = shared.sync_wanted.notified() => {}
        }
        if delay > Duration::ZERO {
            tokio::select! { biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
        let job = shared.lock().log.begin_sync();
        let result = match job {
            Ok(None) => continue,
            Ok(Some(job)) => run(&shared, job).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            // Poisoned: whoever waits hears of it, and nothing is synced any more.
            shared.publish(Some(error));
            return;
        }
        shared.publish(None);
    }
}

async fn run(shared: &Shared, job: SyncJob) -> Result<(), StorageError> {
    let upto = job.upto;
    let result =
        background::run(shared.background.as_ref(), Lane::Log, job.bytes, move || job.run())
            .await
            .map_err(|_| StorageError::Stopped)?;
    shared.lock().log.finish_sync(upto, result)
}

/// The last syncs: everything, then the mark that says so.
pub(super) async fn close(shared: &Shared) -> Result<(), StorageError> {
    let mut result = Ok(());
    for _ in 0..2 {
        let job = shared.lock().log.begin_final_sync();
        result = match job {
            Ok(job) => run(shared, job).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            break;
        }
    }
    // Whoever still waits for a sync is told now.
    shared.publish(result.as_ref().err().cloned());
    result
}
