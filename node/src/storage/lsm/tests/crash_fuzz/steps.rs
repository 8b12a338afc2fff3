//! The engine's background and its clock, in the fuzz's hands: which job runs next, and when, is chance from the seed.
//!
//! `SimBackground` lets simulated time decide, so of two lanes always the same one is first. Here a flush may overtake a
//! sync or wait for ever behind it, and no timer is paid for.

use super::node::seams::background::{Background, Completion, Job, Lane, Stopped};
use super::node::seams::clock::Clock;
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::oneshot;

struct Queued {
    job: Job,
    ran: oneshot::Sender<()>,
}

/// Jobs that wait until they are told to run.
#[derive(Default)]
pub(super) struct Steps {
    lanes: Mutex<BTreeMap<Lane, VecDeque<Queued>>>,
}

impl Steps {
    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Lane, VecDeque<Queued>>> {
        self.lanes.lock().expect("jobs run outside this lock")
    }

    /// Runs the oldest job of some lane; `false` when there is none.
    pub(super) fn run_one(&self, rng: &mut SmallRng) -> bool {
        let next = {
            let mut lanes = self.lanes();
            let busy = lanes.values().filter(|lane| !lane.is_empty()).count();
            if busy == 0 {
                return false;
            }
            let chosen = if busy == 1 { 0 } else { rng.random_range(0..busy) };
            let mut lanes = lanes.values_mut().filter(|lane| !lane.is_empty());
            lanes.nth(chosen).and_then(VecDeque::pop_front)
        };
        if let Some(queued) = next {
            (queued.job)();
            queued.ran.send(()).ok();
        }
        true
    }

    /// The process is gone: what waited never runs.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut *self.lanes());
        drop(gone);
    }
}

impl Background for Steps {
    fn submit(&self, lane: Lane, _: u64, job: Job) -> Completion {
        let (ran, waits) = oneshot::channel();
        self.lanes().entry(lane).or_default().push_back(Queued { job, ran });
        Box::pin(async move { waits.await.map_err(|_| Stopped) })
    }
}

/// A wall clock that goes on when it is told to.
pub(super) struct HandClock(AtomicI64);

impl HandClock {
    pub(super) fn new(seconds: i64) -> HandClock {
        HandClock(AtomicI64::new(seconds))
    }

    pub(super) fn seconds(&self) -> u32 {
        u32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    pub(super) fn go_on(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_micros(&self) -> i64 {
        self.0.load(Ordering::Relaxed) * 1_000_000
    }
}
