//! Replay: hints go to targets that are alive, page by page, each at its own pace.
//!
//! A round for a target reads a page, waits for the throttle, delivers, and goes on when the target has acknowledged. Any
//! failure ends the round; the page is sent again in the next one, because applying a mutation twice changes nothing. One
//! page a target is on its way, so a target that is slow to apply slows its hints down; and with the acknowledgement it
//! says how long it wants no further page, as other coordinators owe it hints too (`helenus_core::throttle`).

use super::{Hint, HintError, HintStore};
use crate::config::HintsConfig;
use crate::seams::net::BoxFuture;
use crate::tasks::Tasks;
use helenus_core::throttle::{Throttle, price};
use helenus_core::{NodeId, TableId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A page holds at most so many bytes, or one hint (Cassandra's page size).
const PAGE_BYTES_MAX: u64 = 512 * 1024;
/// With a throttle, a second's worth is at least so many pages: a trickle disturbs a target less than gulps.
const PAGES_PER_S: u64 = 8;
/// Of the time for which a target wants no page, so much is believed.
const CREDIT_WAIT_MAX: Duration = Duration::from_secs(10);
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
    /// Resolves when `target` has applied all hints, with how long it wants no further ones; or when it has not.
    fn deliver(
        &self,
        target: NodeId,
        hints: Vec<Hint>,
    ) -> BoxFuture<'static, Result<Duration, DeliverError>>;
}

/// What is known of the rounds for one target.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    running: bool,
    /// Rounds that failed since one made progress.
    failures: u32,
    /// Not before this time (monotonic): the throttle's debt, or the backoff.
    not_before: Duration,
}

/// What replay owes to the throttles.
#[derive(Debug)]
pub(super) struct Pacing {
    rounds: BTreeMap<NodeId, Round>,
    /// Of all targets together.
    total: Throttle,
}

/// Of one log's replays.
pub(super) type Rounds = Arc<Mutex<Pacing>>;

/// Nothing is owed to the throttles yet.
pub(super) fn rounds(config: &HintsConfig) -> Rounds {
    let total = Throttle::new(config.hinted_handoff_throttle_total);
    Arc::new(Mutex::new(Pacing { rounds: BTreeMap::new(), total }))
}

pub(super) struct Replay {
    store: HintStore,
    deliver: Arc<dyn Deliver>,
    rounds: Rounds,
}

/// Starts rounds, for ever: every second, and when it is woken.
pub(super) async fn replay(store: HintStore, tasks: Arc<Tasks>, deliver: Arc<dyn Deliver>) {
    let rounds = rounds(&store.shared.config);
    let replay = Arc::new(Replay::new(store, deliver, rounds));
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

    fn pacing(&self) -> MutexGuard<'_, Pacing> {
        self.rounds.lock().expect("nothing panics while it holds the rounds")
    }

    fn change<T>(&self, target: NodeId, change: impl FnOnce(&mut Round) -> T) -> T {
        change(self.pacing().rounds.entry(target).or_default())
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
        let page_bytes = self.page_bytes();
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
            self.wait_for_throttle(target, page.bytes()).await;
            let sent = self.deliver.deliver(target, page.hints().to_vec()).await;
            let credit = sent.map_err(|error| error.to_string())?.min(CREDIT_WAIT_MAX);
            let not_before = self.now() + credit;
            delivered += page.hints().len();
            self.store.complete(page).await.map_err(|error| error.to_string())?;
            self.change(target, |round| {
                round.failures = 0;
                round.not_before = round.not_before.max(not_before);
            });
        }
        if delivered > 0 {
            let pending = self.store.lock().accounts.of(target).pending;
            tracing::info!(%target, delivered, pending, "hints delivered");
        }
        Ok(())
    }

    fn page_bytes(&self) -> u64 {
        let config = &self.store.shared.config;
        let throttles = [config.hinted_handoff_throttle, config.hinted_handoff_throttle_total];
        let least = throttles.into_iter().filter(|bytes_per_s| *bytes_per_s > 0).min();
        let paced = least.map(|bytes_per_s| bytes_per_s / PAGES_PER_S);
        paced.map_or(PAGE_BYTES_MAX, |bytes| bytes.min(PAGE_BYTES_MAX))
    }

    /// Waits until the bytes sent before, to this target and to all, are paid for, then takes these on credit.
    async fn wait_for_throttle(&self, target: NodeId, bytes: u64) {
        let price = price(bytes, self.store.shared.config.hinted_handoff_throttle);
        let now = self.now();
        let start = {
            let mut pacing = self.pacing();
            let all_paid_at = now + pacing.total.debt(now);
            pacing.total.spend(now, bytes);
            let round = pacing.rounds.entry(target).or_default();
            let start = round.not_before.max(all_paid_at);
            round.not_before = start + price;
            start
        };
        tokio::time::sleep(start.saturating_sub(now)).await;
    }
}
