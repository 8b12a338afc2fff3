//! Time: monotonic for durations, wall for versions. The simulation skews, drifts and jumps the wall.

use helenus_core::GcSeconds;
use std::time::Duration;

/// A node's clocks. Waiting is not here: `tokio::time::sleep` follows the simulation's clock by itself.
pub trait Clock: Send + Sync {
    /// Monotonic time since some fixed moment before the node started.
    fn now(&self) -> Duration;
    /// Wall-clock microseconds since the Unix epoch. May jump either way, as clocks do.
    fn wall_micros(&self) -> i64;
}

/// The wall clock in the unit of TTL and `gc_grace`.
pub(crate) fn gc_seconds(clock: &dyn Clock) -> GcSeconds {
    let seconds = clock.wall_micros().max(0) / 1_000_000;
    GcSeconds(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// Starts counting now.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn new() -> Self {
        SystemClock { origin: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn wall_micros(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 is a broken clock; 0 loses to every real timestamp, which is the harmless side.
        since.ok().and_then(|d| i64::try_from(d.as_micros()).ok()).unwrap_or(0)
    }
}
