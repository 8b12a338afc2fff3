//! Replay: hints go to targets that are alive, page by page, each at its own pace.
//!
//! A round for a target reads a page, waits for the throttle, delivers, and goes on when the target has acknowledged. Any
//! failure ends the round; what was not acknowledged is sent again in the next one, because applying a mutation twice
//! changes nothing. With the acknowledgement a target says how long it wants no further page, as other coordinators owe
//! it hints too (`helenus_core::throttle`). One page a target is on its way, and some behind it while no throttle, here or
//! there, holds them back: so a target does not wait for this node's disk, and one that is slow to apply slows its hints
//! down.

use super::page::Page;
use super::{Hint, HintError, HintStore};
use crate::config::HintsConfig;
use crate::seams::net::BoxFuture;
use crate::tasks::Tasks;
use helenus_core::throttle::{Throttle, price};
use helenus_core::{NodeId, TableId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A page holds at most so many bytes, or one hint (Cassandra's page size).
const PAGE_BYTES_MAX: u64 = 512 * 1024;
/// Pages that follow one that is on its way, while nothing holds them back: enough that the target has work while this
/// node makes a position durable and reads. What is on its way is what a restart may send again: one page with a throttle,
/// two mebibytes without one.
const PAGES_AHEAD: usize = 3;
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
    /// Whether others take what is owed to `target` in its stead: those who hold its data now that it has left the ring, or
    /// a node that keeps it for one that is leaving. It need not be alive then.
    fn redirects(&self, target: NodeId) -> bool {
        let _ = target;
        false
    }
    /// `gc_grace_seconds` of the table now, if the table is known.
    fn gc_grace_s(&self, table: TableId) -> Option<u32>;
    /// Sends at once; resolves when `target`, or whoever takes them in its stead, has all hints, with how long it wants no
    /// further ones, or when it has not.
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

/// A page on its way, and what will come of it.
struct Sent {
    page: Page,
    answer: BoxFuture<'static, Result<Duration, DeliverError>>,
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
        self.deliver.alive(target) || self.deliver.redirects(target)
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
            self.alive(*target)
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
        let mut delivered = 0;
        let mut ahead = VecDeque::new();
        // Whether the target has said that it would take more at once.
        let mut welcome = false;
        while let Some(sent) = self.first(target, ahead.pop_front(), until).await? {
            while welcome && ahead.len() < PAGES_AHEAD && self.may_go_on(target, until) {
                let last = ahead.back().map_or(&sent.page, |last: &Sent| &last.page);
                let next = self.send_behind(last).await.map_err(|error| error.to_string())?;
                let Some(next) = next else { break };
                ahead.push_back(next);
            }
            let credit = sent.answer.await.map_err(|error| error.to_string())?;
            let not_before = self.now() + credit.min(CREDIT_WAIT_MAX);
            welcome = credit.is_zero();
            delivered += sent.page.hints().len();
            self.store.complete(sent.page).await.map_err(|error| error.to_string())?;
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

    fn may_go_on(&self, target: NodeId, until: Duration) -> bool {
        !self.store.paused() && self.alive(target) && self.now() < until
    }

    /// The page that was sent ahead, or else the next one, sent when the throttles allow. `None`: that was all for now.
    async fn first(
        &self,
        target: NodeId,
        ahead: Option<Sent>,
        until: Duration,
    ) -> Result<Option<Sent>, String> {
        if ahead.is_some() || !self.may_go_on(target, until) {
            return Ok(ahead);
        }
        let gc_grace = |table| self.deliver.gc_grace_s(table);
        let page = match self.store.next_page(target, self.page_bytes(), &gc_grace).await {
            Ok(Some(page)) => page,
            Ok(None) | Err(HintError::Stopped) => return Ok(None),
            // The next segment, or the same one again, in the next round.
            Err(
                error @ (HintError::Io { .. }
                | HintError::Busy { .. }
                | HintError::TooManyPoints { .. }),
            ) => return Err(error.to_string()),
        };
        self.wait_for_throttle(target, page.bytes()).await;
        Ok(Some(self.send(page)))
    }

    /// Sends the page behind this one, so that the target has it at hand when it is through with those before. `None`: a
    /// throttle holds it back, or there is none.
    async fn send_behind(&self, before: &Page) -> Result<Option<Sent>, HintError> {
        if !self.is_paid(before.target()) {
            return Ok(None);
        }
        let gc_grace = |table| self.deliver.gc_grace_s(table);
        let behind = self.store.page_behind(before, self.page_bytes(), &gc_grace);
        let Some(page) = behind.await? else { return Ok(None) };
        // Nothing is owed, so this does not wait.
        self.wait_for_throttle(page.target(), page.bytes()).await;
        Ok(Some(self.send(page)))
    }

    fn send(&self, mut page: Page) -> Sent {
        // Nothing is awaited between this and the sending, so both mean the same way.
        if self.deliver.redirects(page.target()) {
            page.redirect();
        }
        let answer: BoxFuture<'static, _> = if page.hints().is_empty() {
            Box::pin(std::future::ready(Ok(Duration::ZERO)))
        } else {
            self.deliver.deliver(page.target(), page.hints().to_vec())
        };
        Sent { page, answer }
    }

    /// Whether another page might be sent at once.
    fn is_paid(&self, target: NodeId) -> bool {
        let now = self.now();
        let mut pacing = self.pacing();
        let total = pacing.total.debt(now);
        let round = pacing.rounds.entry(target).or_default();
        total.is_zero() && round.not_before <= now
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
