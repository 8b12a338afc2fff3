//! A node's clocks in the simulation: monotonic time is the simulation's, the wall is an epoch, the same time, and
//! whatever skew the scenario gave this node.

use helenus_node::seams::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Midnight before the run begins, in seconds since the Unix epoch: 23 November 2012, a Black Friday. Fixed, because
/// timestamps are part of what a replay has to repeat.
const MIDNIGHT_S: u64 = 1_353_628_800;

/// The simulated time, for whoever asks outside of a host's turn, where turmoil cannot tell.
#[derive(Debug, Default)]
pub struct Now {
    nanos: AtomicU64,
}

impl Now {
    /// The simulation's time now.
    pub fn elapsed(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or(Duration::from_nanos(self.nanos.load(Ordering::Relaxed)))
    }

    /// Says how far the simulation is, between its steps.
    pub fn advance(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.store(nanos, Ordering::Relaxed);
    }
}

/// One node's clocks.
#[derive(Debug)]
pub struct SimClock {
    now: Arc<Now>,
    /// Wall microseconds when the simulation began.
    epoch_micros: i64,
    skew_micros: AtomicI64,
}

impl SimClock {
    /// A right clock whose wall showed `second_of_day` when the simulation began.
    pub fn new(now: Arc<Now>, second_of_day: u64) -> SimClock {
        let epoch_micros = epoch(second_of_day).as_micros();
        let epoch_micros = i64::try_from(epoch_micros).unwrap_or(i64::MAX);
        SimClock { now, epoch_micros, skew_micros: AtomicI64::new(0) }
    }

    /// The wall jumps, forwards or back.
    pub fn jump(&self, micros: i64) {
        self.skew_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// The wall's time at a second of the simulated day.
pub(super) fn epoch(second_of_day: u64) -> Duration {
    Duration::from_secs(MIDNIGHT_S + second_of_day)
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        self.now.elapsed()
    }

    fn wall_micros(&self) -> i64 {
        let elapsed = i64::try_from(self.now.elapsed().as_micros()).unwrap_or(i64::MAX);
        let skew = self.skew_micros.load(Ordering::Relaxed);
        self.epoch_micros.saturating_add(elapsed).saturating_add(skew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_follows_the_simulation_and_jumps_when_told() {
        let now = Arc::new(Now::default());
        let clock = SimClock::new(Arc::clone(&now), 14 * 3600);
        let start = clock.wall_micros();
        assert_eq!(start, 1_353_679_200_000_000);
        now.advance(Duration::from_secs(2));
        assert_eq!(clock.now(), Duration::from_secs(2));
        clock.jump(-500_000);
        assert_eq!(clock.wall_micros() - start, 1_500_000);
    }
}
