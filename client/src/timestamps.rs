//! Write timestamps made by the client: microseconds by its wall clock, and never the same or a smaller one twice.
//!
//! CAVEAT: clocks settle conflicts (Dynamo, section 4.4). Two clients whose clocks differ order their writes by clock,
//! not by who came first; monotonicity holds within one client only.

use helenus_core::TimestampMicros;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A wall clock: microseconds since the Unix epoch. It may jump either way.
pub type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's wall clock.
pub fn system_wall_clock() -> WallClock {
    Arc::new(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "the client's clock seam: the default when no other clock is injected"
        )]
        let now = SystemTime::now();
        // A clock before 1970 reads 0; the generator below still moves forward from there.
        now.duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    })
}

/// The generator. Invariant: every timestamp is greater than all it gave before.
pub(crate) struct Timestamps {
    wall: WallClock,
    last: AtomicI64,
}

impl Timestamps {
    pub(crate) fn new(wall: WallClock) -> Timestamps {
        Timestamps { wall, last: AtomicI64::new(i64::MIN) }
    }

    /// The wall clock's time, or one microsecond past the last timestamp when the clock stands or went back.
    pub(crate) fn next(&self) -> TimestampMicros {
        let wall = (self.wall)();
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = wall.max(last.saturating_add(1));
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return TimestampMicros(next),
                Err(seen) => last = seen,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_or_jumps_back_still_gives_growing_timestamps() {
        let readings = Arc::new(std::sync::Mutex::new(vec![90, 500, 100, 100, 100]));
        let clock = Timestamps::new(Arc::new(move || readings.lock().unwrap().pop().unwrap()));
        let given: Vec<i64> = (0..5).map(|_| clock.next().0).collect();
        assert_eq!(given, [100, 101, 102, 500, 501]);
    }
}
