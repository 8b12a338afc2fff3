//! Room for hints, asked for before anything is sent: what `fail-write` and `throttle` need to know.
//!
//! The answer holds until the caller waits for something: whoever sends and appends without waiting in between finds the
//! room it was told of.

use super::{HintStore, NewHint};
use crate::seams::probe::HintLoss;
use helenus_core::NodeId;
use std::time::Duration;

/// Writes that the store's bound held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldBack {
    /// Refused before anything was sent (`fail-write`).
    pub refused: u64,
    /// Delayed (`throttle`).
    pub throttled: u64,
    /// Of those, that found no room within `hint_throttle_max_wait`.
    pub gave_up: u64,
    /// How long the delayed ones have waited, together.
    pub waited: Duration,
}

impl HintStore {
    /// Whether a hint like this fits for every one of `targets`, each down for so long. If not, whose does not, and why:
    /// a bound is reached, or the disk takes nothing. The write is counted as refused then.
    pub fn room_or_refuse(
        &self,
        targets: &[(NodeId, Duration)],
        hint: &NewHint<'_>,
    ) -> Result<(), (NodeId, HintLoss)> {
        let now_ms = self.wall_ms();
        let mut state = self.lock();
        let room = state.room_for(targets, hint, now_ms);
        state.held_back.refused += u64::from(room.is_err());
        room
    }

    /// Waits until a hint like this fits for every one of `targets`, at most `patience`. Room comes as hints are delivered,
    /// expire or are truncated, so writes that wait go at the pace of the replay. `Err`: it did not come.
    pub async fn wait_for_room(
        &self,
        targets: &[(NodeId, Duration)],
        hint: &NewHint<'_>,
        patience: Duration,
    ) -> Result<(), (NodeId, HintLoss)> {
        let began = self.shared.clock.now();
        let deadline = tokio::time::sleep(patience);
        tokio::pin!(deadline);
        let mut waited = false;
        let room = loop {
            let freed = self.shared.freed.notified();
            tokio::pin!(freed);
            // Listening first, looking then: what is freed in between is heard.
            freed.as_mut().enable();
            let now_ms = self.wall_ms();
            let room = self.lock().room_for(targets, hint, now_ms);
            if room.is_ok() || patience.is_zero() {
                break room;
            }
            waited = true;
            tokio::select! { biased;
                // Room goes before the clock.
                () = &mut freed => {}
                () = &mut deadline => break room,
            }
        };
        if waited {
            let took = self.shared.clock.now().saturating_sub(began);
            let mut state = self.lock();
            state.held_back.throttled += 1;
            state.held_back.gave_up += u64::from(room.is_err());
            state.held_back.waited += took;
        }
        room
    }
}
