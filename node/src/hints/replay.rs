//! Replay: hints go to targets that are alive, page by page, each at its own pace.
//!
//! A round for a target reads a page, waits for the throttle, delivers, and goes on when the target has acknowledged. Any
//! failure ends the round; the page is sent again in the next one, because applying a mutation twice changes nothing. One
//! page a target is on its way, so a target that is slow to apply slows its hints down: the acknowledgement is the
//! receiver's credit.

use super::{Hint, HintError, HintStore};
use crate::seams::net::BoxFuture;
use crate::tasks::Tasks;
use helenus_core::{NodeId, TableId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A page holds at most so many bytes, or one hint (Cassandra's page size).
const PAGE_BYTES_MAX: u64 = 512 * 1024;
/// How often it is looked whether someone came back.
const INTERVAL: Duration = Duration::from_secs(1);
/// A target whose rounds fail is tried less and less often, down to this.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Why a page was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hints not acknowledged: {reason}")]
pub struct DeliverError {
    /// In a few words: `timeout`, `link lost`, what the target said.
    pub reason: String,
}

/// The way to the targets: peers, in a node.
pub trait Deliver: Send + Sync + 'static {
    /// Whether the failure detector thinks that `target` is alive and it may get hints (member, same schema).
    fn alive(&self, target: NodeId) -> bool;
    /// `gc_grace_seconds` of the table now, if the table is known.
    fn gc_grace_s(&self, table: TableId) -> Option<u32>;
    /// Resolves when `target` has applied all hints, or has not.
    fn deliver(
        &self,
        target: NodeId,
        hints: Vec<Hint>,
    ) -> BoxFuture<'static, Result<(), DeliverError>>;
}

/// What is known of the rounds for one target.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Round {
    running: bool,
    /// Rounds that failed since one made progress.
    failures: u32,
    /// Not before this time (monotonic): the throttle's debt, or the backoff.
    not_before: Duration,
}

/// By target.
pub(super) type Rounds = Arc<Mutex<BTreeMap<NodeId, Round>>>;

pub(super) struct Replay {
    store: HintStore,
    deliver: Arc<dyn Deliver>,
    rounds: Rounds,
}

/// Starts rounds, for ever: every second, and when it is woken.
pub(super) async fn replay(store: HintStore, tasks: Arc<Tasks>, deliver: Arc<dyn Deliver>) {
    let replay = Arc::new(Replay::new(store, deliver, Rounds::default()));
    loop {
        tokio::select! { biased;
            () = replay.store.shared.replay_wanted.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        for target in replay.due() {
            tasks.spawn(Arc::clone(&replay).round(target));
        }
    }
}

impl Replay {
    pub(super) fn new(store: HintStore, deliver: Arc<dyn Deliver>, rounds: Rounds) -> Replay {
        Replay { store, deliver, rounds }
    }

    pub(super) fn alive(&self, target: NodeId) -> bool {
        self.deliver.alive(target)
    }

    fn now(&self) -> Duration {
        self.store.shared.clock.now()
    }

    fn change<T>(&self, target: NodeId, change: impl FnOnce(&mut Round) -> T) -> T {
        let mut rounds = self.rounds.lock().expect("nothing panics while it holds the rounds");
        change(rounds.entry(target).or_default())
    }

    /// The targets to begin a round for, which counts as begun.
    fn due(&self) -> Vec<NodeId> {
        let owed: Vec<NodeId> = {
            let state = self.store.lock();
            if state.paused {
                return Vec::new();
            }
            let pending = |(target, account): (NodeId, helenus_core::hint::Account)| {
                (account.pending > 0).then_some(target)
            };
            state.accounts.targets().filter_map(pending).collect()
        };
        let now = self.now();
        let begin = |target: &NodeId| {
            self.deliver.alive(*target)
                && self.change(*target, |round| {
                    let due = !round.running && round.not_before <= now;
                    round.running |= due;
                    due
                })
        };
        owed.into_iter().filter(begin).collect()
    }

    async fn round(self: Arc<Self>, target: NodeId) {
        let outcome = self.deliver_all(target, Duration::MAX).await;
        if let Err(reason) = &outcome {
            tracing::info!(%target, reason, "hint replay interrupted");
        }
        let now = self.now();
        self.change(target, |round| {
            round.running = false;
            match outcome {
                Ok(()) => round.failures = 0,
                Err(_) => {
                    round.failures = round.failures.saturating_add(1);
                    let backoff = INTERVAL * 2_u32.saturating_pow(round.failures.min(8) - 1);
                    round.not_before = round.not_before.max(now + backoff.min(BACKOFF_MAX));
                }
            }
        });
    }

    /// Delivers until nothing is left, it is `until`, replay is paused, or something goes wrong.
    pub(super) async fn deliver_all(&self, target: NodeId, until: Duration) -> Result<(), String> {
        let throttle = self.store.shared.config.hinted_handoff_throttle;
        // A page is at most one second's worth, so that the throttle holds at every scale.
        let page_bytes = if throttle == 0 { PAGE_BYTES_MAX } else { PAGE_BYTES_MAX.min(throttle) };
        let gc_grace = |table| self.deliver.gc_grace_s(table);
        let mut delivered = 0;
        while !self.store.paused() && self.alive(target) && self.now() < until {
            let page = match self.store.next_page(target, page_bytes, &gc_grace).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                // The next segment, or the same one again, in the next round.
                Err(
                    error @ (HintError::Io { .. }
                    | HintError::Busy { .. }
                    | HintError::TooManyPoints { .. }),
                ) => {
                    return Err(error.to_string());
                }
                Err(HintError::Stopped) => return Ok(()),
            };
            self.wait_for_throttle(target, page.bytes(), throttle).await;
            let sent = self.deliver.deliver(target, page.hints().to_vec()).await;
            sent.map_err(|error| error.to_string())?;
            delivered += page.hints().len();
            self.store.complete(page).await.map_err(|error| error.to_string())?;
            self.change(target, |round| round.failures = 0);
        }
        if delivered > 0 {
            let pending = self.store.lock().accounts.of(target).pending;
            tracing::info!(%target, delivered, pending, "hints delivered");
        }
        Ok(())
    }

    /// Waits until the bytes sent before are paid for, then takes these on credit.
    async fn wait_for_throttle(&self, target: NodeId, bytes: u64, bytes_per_s: u64) {
        let nanos = (bytes.saturating_mul(1_000_000_000)).checked_div(bytes_per_s).unwrap_or(0);
        let now = self.now();
        let start = self.change(target, |round| {
            let start = round.not_before.max(now);
            round.not_before = start + Duration::from_nanos(nanos);
            start
        });
        tokio::time::sleep(start.saturating_sub(now)).await;
    }
}
