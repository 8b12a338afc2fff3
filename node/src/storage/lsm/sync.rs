//! When the log is synced, and who waits for it.
//!
//! One sync is under way at a time. In `periodic` and `group` it begins so long after something was appended. In `batch`
//! the first who waits has it begun, and the job that ends one begins the next if something was appended meanwhile: the
//! disk is not idle while the node's thread answers those whom the last one covered.

use super::Shared;
use super::log::{Position, SyncJob};
use crate::config::CommitlogSync;
use crate::seams::background::{self, Lane};
use crate::seams::net::BoxFuture;
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
    pub(super) fn durable_after(self: &Arc<Self>, upto: Position) -> Applied {
        if matches!(self.config.commitlog_sync, CommitlogSync::Periodic(_)) {
            return Applied::Now;
        }
        let mut syncs = self.syncs.subscribe();
        let shared = Arc::downgrade(self);
        Applied::After(Box::pin(async move {
            // Not when it was applied: by now the other writes of the same wake are in the log too.
            if let Some(shared) = shared.upgrade().filter(|shared| shared.syncs_at_once()) {
                shared.begin_sync();
            }
            let ended = syncs.wait_for(|s| s.durable >= upto || s.failed.is_some()).await;
            let state = ended.map_err(|_| StorageError::Stopped)?;
            match &state.failed {
                Some(error) if state.durable < upto => Err(error.clone()),
                _ => Ok(()),
            }
        }))
    }

    /// Resolves when what ends before `upto` is durable, whatever the mode: whoever waits has a sync begun, and the next
    /// when one ends that began too early.
    pub(super) fn synced(
        self: &Arc<Self>,
        upto: Position,
    ) -> BoxFuture<'static, Result<(), StorageError>> {
        let mut syncs = self.syncs.subscribe();
        let shared = Arc::downgrade(self);
        Box::pin(async move {
            loop {
                if let Some(shared) = shared.upgrade() {
                    shared.begin_sync();
                }
                {
                    let state = syncs.borrow_and_update();
                    if state.durable >= upto {
                        return Ok(());
                    }
                    if let Some(error) = &state.failed {
                        return Err(error.clone());
                    }
                }
                syncs.changed().await.map_err(|_| StorageError::Stopped)?;
            }
        })
    }

    fn syncs_at_once(&self) -> bool {
        matches!(self.config.commitlog_sync, CommitlogSync::Batch)
    }

    /// Begins a sync when there is something to sync and none is under way; whether it did.
    fn begin_sync(self: &Arc<Self>) -> bool {
        let job = {
            let mut state = self.lock();
            if state.syncing || state.stopping {
                return false;
            }
            let job = state.log.begin_sync();
            state.syncing = matches!(job, Ok(Some(_)));
            job
        };
        let job = match job {
            Ok(Some(job)) => job,
            Ok(None) => return false,
            // Poisoned: whoever waits is to hear of it.
            Err(_) => {
                self.sync_ended.notify_one();
                return false;
            }
        };
        let (bytes, upto) = (job.bytes, job.upto);
        // Weak: a job that never runs must not keep alive what owns its queue.
        let shared = Arc::downgrade(self);
        let job = move || {
            let result = job.run();
            if let Some(shared) = shared.upgrade() {
                shared.end_sync(upto, result);
            }
        };
        // A lane's own job may submit to it: at most this one and those of `close` are ever queued there.
        drop(self.background.submit(Lane::Log, bytes, Box::new(job)));
        true
    }

    /// On the lane's thread.
    fn end_sync(self: &Arc<Self>, upto: Position, result: Result<(), StorageError>) {
        let finished = {
            let mut state = self.lock();
            state.syncing = false;
            state.log.finish_sync(upto, result)
        };
        if finished.is_ok() && self.syncs_at_once() {
            self.begin_sync();
        }
        self.sync_ended.notify_one();
    }

    /// Tells those who wait how far the log is durable; `false` when that is all they will ever hear.
    fn publish(&self, stopped: Option<StorageError>) -> bool {
        let (durable, poisoned) = {
            let state = self.lock();
            (state.log.durable(), state.log.poisoned().map(str::to_owned))
        };
        let failed = poisoned.map(|cause| StorageError::Poisoned { cause }).or(stopped);
        let goes_on = failed.is_none();
        self.syncs.send_replace(SyncState { durable, failed });
        goes_on
    }
}

/// The engine's sync task: waits as the mode says, begins syncs, and tells how they ended.
pub(super) async fn sync_loop(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let delay = match shared.config.commitlog_sync {
        CommitlogSync::Periodic(period) => period,
        CommitlogSync::Group(window) => window,
        CommitlogSync::Batch => Duration::ZERO,
    };
    loop {
        let ended = tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = shared.sync_ended.notified() => true,
            () = shared.sync_wanted.notified() => false,
        };
        if !ended {
            if delay > Duration::ZERO {
                let due = tokio::time::sleep(delay);
                tokio::pin!(due);
                loop {
                    tokio::select! { biased;
                        _ = stop.wait_for(|stop| *stop) => return,
                        () = &mut due => break,
                        // One that somebody could not wait for (`synced`).
                        () = shared.sync_ended.notified() => {
                            if !shared.publish(None) {
                                return;
                            }
                        }
                    }
                }
            }
            if !shared.begin_sync() || shared.syncs_at_once() {
                continue;
            }
            // The next period begins when this sync has ended, so none is asked for while one is under way.
            tokio::select! { biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = shared.sync_ended.notified() => {}
            }
        }
        if !shared.publish(None) {
            return;
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
