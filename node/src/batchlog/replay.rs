//! Replay: what a coordinator left is finished.
//!
//! A batch is done when each of its mutations is with a replica, or owed to one with a durable hint: every replica that is
//! down or silent is owed one. If that cannot be, the batch stays, and is tried again after [`RETRY_AFTER`], until it is
//! older than the smallest `gc_grace_seconds` of its tables. Another keeper may be finishing the same batch: that does no harm.
//!
//! Bounds: [`AT_ONCE`] batches are in memory at a time, and what is read of them keeps to `batchlog_replay_throttle`, divided
//! by the nodes of the ring, since all of them may be finishing batches of the same coordinator.

use super::Batchlog;
use crate::coordinator::Coordinator;
use futures_util::stream::{self, StreamExt as _};
use helenus_core::batchlog::{self, BatchId, Logged};
use helenus_core::throttle::Throttle;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Batches that are being finished at a time.
const AT_ONCE: usize = 8;
/// Mutations of one batch that are under way at a time.
const MUTATIONS_AT_ONCE: usize = 16;
/// Batches that a round takes up.
const ROUND_MAX: usize = 128;
/// How long it is not looked for batches that are due. None is due for longer than that without being taken up.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(1);
/// When an attempt that did not get through is repeated (Cassandra looks every 10 s).
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Finishes what is due, until the node stops.
pub(crate) async fn replay(coordinator: Arc<Coordinator>) {
    let batchlog = Arc::clone(&coordinator.batchlog);
    let throttle = Mutex::new(Throttle::new(coordinator.config.batchlog_replay_throttle));
    let replay = Replay { coordinator, batchlog, throttle };
    while !replay.batchlog.is_paused() {
        let now = replay.coordinator.clock.now();
        match replay.batchlog.next_due() {
            None => replay.batchlog.changed.notified().await,
            Some(due) if due > now => {
                tokio::time::sleep((due - now).min(LOOK_AFTER_MAX)).await;
            }
            Some(_) => {
                let due = replay.batchlog.due(now, ROUND_MAX);
                stream::iter(due).for_each_concurrent(AT_ONCE, |id| replay.batch(id)).await;
            }
        }
    }
}

struct Replay {
    coordinator: Arc<Coordinator>,
    batchlog: Arc<Batchlog>,
    /// Holds back the next batch until what was read before it is paid for.
    throttle: Mutex<Throttle>,
}

/// What became of a batch.
enum Outcome {
    Done,
    /// Tables that it is about have no use for it any more.
    Expired,
    Unreadable,
    /// Why not, in a sentence.
    Failed(String),
}

impl Replay {
    async fn batch(&self, id: BatchId) {
        if self.batchlog.is_paused() {
            return;
        }
        let outcome = match self.batchlog.load(id) {
            // Its coordinator's word came meanwhile.
            Ok(None) => {
                self.batchlog.index().remove(id);
                return;
            }
            Ok(Some(bytes)) => {
                self.wait_for_throttle(bytes.len() as u64).await;
                match batchlog::decode(&bytes) {
                    Ok(mutations) => self.finish(id, mutations).await,
                    Err(error) => {
                        tracing::error!(batch = %id, %error, "a batch cannot be read and is dropped");
                        Outcome::Unreadable
                    }
                }
            }
            Err(error) => Outcome::Failed(error.to_string()),
        };
        let metrics = &self.batchlog.metrics;
        match outcome {
            Outcome::Failed(error) => {
                metrics.failed.inc();
                tracing::warn!(batch = %id, error, "a batch could not be finished, and will be tried again");
                return self.batchlog.put_off(id, RETRY_AFTER);
            }
            Outcome::Done => {
                metrics.replayed.inc();
                tracing::info!(batch = %id, "a batch that its coordinator left is finished");
            }
            Outcome::Expired => {
                metrics.expired.inc();
                tracing::warn!(batch = %id, "a batch is older than gc_grace_seconds and is dropped");
            }
            Outcome::Unreadable => {
                metrics.unreadable.inc();
            }
        }
        // This node's own copies are in its log before the batch is forgotten.
        let replica = &self.coordinator.replica;
        let written = replica.engine.commit();
        let forgotten = written.and_then(|()| self.batchlog.remove(id));
        if let Err(error) = replica.durable(forgotten).await {
            // It is kept on disk and will be found at the next start, and be done again: that changes nothing.
            tracing::warn!(batch = %id, %error, "a batch that is done could not be forgotten");
            self.batchlog.index().remove(id);
        }
    }

    async fn finish(&self, id: BatchId, mutations: Vec<Logged>) -> Outcome {
        let schema = self.coordinator.replica.schema.current();
        let tables = mutations.iter().filter_map(|mutation| schema.table(mutation.table));
        let Some(gc_grace_s) = tables.map(|table| table.options.gc_grace_seconds).min() else {
            // All of its tables were dropped.
            return Outcome::Done;
        };
        if batchlog::is_expired(id.written(), gc_grace_s, self.coordinator.now_seconds()) {
            return Outcome::Expired;
        }
        let finished = stream::iter(mutations)
            .map(|mutation| self.coordinator.finish(mutation, id.written()))
            .buffer_unordered(MUTATIONS_AT_ONCE)
            .collect::<Vec<Result<(), String>>>();
        let failed = finished.await.into_iter().find_map(Result::err);
        failed.map_or(Outcome::Done, Outcome::Failed)
    }

    /// Waits until the bytes before are paid for, then takes these on credit.
    async fn wait_for_throttle(&self, bytes: u64) {
        let nodes = self.coordinator.membership.ring().members().len().max(1) as u64;
        let now = self.coordinator.clock.now();
        let wait = {
            let throttle = self.throttle.lock();
            let mut throttle = throttle.expect("nothing panics while it holds this lock");
            let wait = throttle.debt(now);
            // The others may be at it too: a node's share is one of so many.
            throttle.spend(now, bytes.saturating_mul(nodes));
            wait
        };
        tokio::time::sleep(wait).await;
    }
}
