//! Sync points: whether everything that is owed to a target now has been delivered, or counted as not deliverable.
//!
//! A point ends the target's newest segment, so that what was created before it and what came after never share one. Then
//! every hint that leaves `pending` in a segment of the point is one that it waits for.

use super::state::State;
use super::{HintError, HintStore};
use crate::seams::probe::HintLoss;
use helenus_core::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// So many points are waited for at once on a node; more are refused.
const POINTS_MAX: usize = 64;

/// What became of the hints of a sync point.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PointOutcome {
    /// Owed when the point was made.
    pub owed: u64,
    /// Acknowledged by the target since.
    pub delivered: u64,
    /// Will not be delivered, by reason.
    pub undelivered: BTreeMap<HintLoss, u64>,
    /// Owed still. At 0 the point is reached.
    pub pending: u64,
    /// Dead letters that are held for the target now. They are not waited for: nobody delivers them by himself.
    pub dead_lettered: u64,
}

/// A point that somebody waits for.
pub(super) struct Point {
    id: u64,
    target: NodeId,
    /// Its last segment.
    until_seq: u64,
    outcome: PointOutcome,
}

impl State {
    /// Hints of a segment left `pending`: delivered, or for a reason.
    pub(super) fn note(&mut self, target: NodeId, seq: u64, loss: Option<HintLoss>, count: u64) {
        let meant = |point: &&mut Point| point.target == target && seq <= point.until_seq;
        for point in self.points.iter_mut().filter(meant).filter(|_| count > 0) {
            let outcome = &mut point.outcome;
            outcome.pending =
                outcome.pending.checked_sub(count).expect("a point waits for all of its hints");
            match loss {
                None => outcome.delivered += count,
                Some(loss) => *outcome.undelivered.entry(loss).or_default() += count,
            }
            if outcome.pending == 0 {
                self.point_reached.notify_waiters();
            }
        }
    }

    fn make_point(&mut self, target: NodeId) -> Option<u64> {
        if self.points.len() >= POINTS_MAX {
            return None;
        }
        let pending = self.accounts.of(target).pending;
        if let Some(newest) = self.targets.get_mut(&target).and_then(|t| t.segments.back_mut()) {
            newest.sealed = true;
        }
        self.last_point += 1;
        self.points.push(Point {
            id: self.last_point,
            target,
            until_seq: self.next_seq - 1,
            outcome: PointOutcome { owed: pending, pending, ..PointOutcome::default() },
        });
        Some(self.last_point)
    }
}

/// Takes the point away, however its waiter ends.
struct Waiting<'a> {
    store: &'a HintStore,
    id: u64,
}

impl Waiting<'_> {
    fn outcome(&self) -> PointOutcome {
        let state = self.store.lock();
        let point = state.points.iter().find(|point| point.id == self.id);
        let Some(point) = point else { return PointOutcome::default() };
        let dead_lettered = self.store.dead_letters().held_for(point.target);
        PointOutcome { dead_lettered, ..point.outcome.clone() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A panic under this lock has said more already.
        if let Ok(mut state) = self.store.shared.state.lock() {
            state.points.retain(|point| point.id != self.id);
        }
    }
}

impl HintStore {
    /// Waits until every hint that is owed to `target` now is delivered or will never be, at most `timeout`; gives what
    /// became of them. Hints that are made later are not waited for. A write that is under way may still earn one.
    pub async fn await_delivered(
        &self,
        target: NodeId,
        timeout: Duration,
    ) -> Result<PointOutcome, HintError> {
        let (id, reached) = {
            let mut state = self.lock();
            let id =
                state.make_point(target).ok_or(HintError::TooManyPoints { max: POINTS_MAX })?;
            (id, Arc::clone(&state.point_reached))
        };
        let waiting = Waiting { store: self, id };
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        loop {
            let heard = reached.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let outcome = waiting.outcome();
            if outcome.pending == 0 {
                return Ok(outcome);
            }
            tokio::select! { biased;
                () = &mut heard => {}
                () = &mut deadline => return Ok(waiting.outcome()),
            }
        }
    }
}
