//! When the log is synced, and who waits for it.

use super::Shared;
use super::log::{Position, SyncJob};
use crate::config::CommitlogSync;
use crate::seams::background::{self, Lane};
use crate::storage::{Applied, StorageError};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
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

/// Of a mode without a delay, so many syncs are on their way at a time: one at the disk, and one that gathers what was
/// written meanwhile and begins where the first one ends, instead of when the node's thread has come round to it.
const SYNCS_UNDER_WAY_MAX: usize = 2;

/// The engine's sync task: sleeps until there is something to sync, waits as the mode says, syncs once for all who wait.
pub(super) async fn sync_loop(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let (delay, most) = match shared.config.commitlog_sync {
        CommitlogSync::Periodic(period) => (period, 1),
        CommitlogSync::Group(window) => (window, 1),
        CommitlogSync::Batch => (Duration::ZERO, SYNCS_UNDER_WAY_MAX),
    };
    let mut syncs = FuturesOrdered::new();
    let mut stopping = false;
    // What is under way is waited for: an error that nobody heard of would be forgotten by the system.
    while !(stopping && syncs.is_empty()) {
        let ended: Option<Result<(), StorageError>> = tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                continue;
            }
            Some(ended) = syncs.next() => Some(ended),
            () = shared.sync_wanted.notified(), if !stopping && syncs.len() < most => None,
        };
        if delay > Duration::ZERO && ended.is_none() {
            tokio::select! { biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
        let result = match ended {
            Some(ended) => ended.map(|()| shared.publish(None)),
            None => shared.lock().log.begin_sync().map(|job| {
                syncs.extend(job.map(|job| run(&shared, job)));
            }),
        };
        if let Err(error) = result {
            // Poisoned: whoever waits hears of it, and nothing is synced any more.
            return shared.publish(Some(error));
        }
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
