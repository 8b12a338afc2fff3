//! How fast a hint store fills, and when it will be full if that goes on.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples are at least so far apart; nearer ones are left out.
const APART: Duration = Duration::from_secs(10);
/// What is older than this says nothing of the present.
const MEMORY: Duration = Duration::from_secs(60);

/// A few samples of the bytes in a store.
///
/// Invariants: sorted by time, at least `APART` apart, so at most seven.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    samples: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// Takes note of the bytes at this (monotonic) time.
    pub fn sample(&mut self, now: Duration, bytes: u64) {
        if self.samples.back().is_some_and(|(last, _)| now < *last + APART) {
            return;
        }
        self.samples.push_back((now, bytes));
        // One that is older than the memory is kept as long as the next one does not reach back so far.
        while self.samples.get(1).is_some_and(|(next, _)| *next + MEMORY <= now) {
            self.samples.pop_front();
        }
    }

    /// How long until `bound` is reached at the pace of about the last minute. `None`: never, it does not grow, or nothing
    /// is known yet. Zero: it is.
    pub fn until_full(&self, now: Duration, bytes: u64, bound: u64) -> Option<Duration> {
        let left = bound.saturating_sub(bytes);
        if left == 0 {
            return Some(Duration::ZERO);
        }
        let (then, before) = self.samples.front()?;
        let took = now.checked_sub(*then).filter(|took| !took.is_zero())?;
        let grown = bytes.checked_sub(*before).filter(|grown| *grown > 0)?;
        Duration::try_from_secs_f64(took.as_secs_f64() * left as f64 / grown as f64).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_store_that_grows_by_ten_a_second_has_a_tenth_of_what_is_left() {
        let mut pace = Pace::default();
        assert_eq!(pace.until_full(S(0), 0, 1000), None, "nothing is known yet");
        for at in 0..=100 {
            pace.sample(S(at), at * 10);
            assert!(pace.samples.len() <= 8, "{pace:?}");
        }
        assert_eq!(pace.until_full(S(100), 1000, 5000), Some(S(400)));
        assert_eq!(pace.until_full(S(100), 5000, 5000), Some(S(0)));
        assert_eq!(pace.until_full(S(100), 10, 5000), None, "it is emptier than it was");
    }

    #[test]
    fn a_change_of_pace_is_known_after_a_minute() {
        let mut pace = Pace::default();
        for at in 0..1000 {
            pace.sample(S(at), 0);
        }
        for at in 1000..=1070 {
            pace.sample(S(at), (at - 1000) * 100);
        }
        let left = pace.until_full(S(1070), 7000, 8000).unwrap();
        assert!(left >= S(9) && left <= S(12), "{left:?}");
    }
}
