//! When a request happens, and what it draws by chance: what `now()`, `uuid()` and places in lists are made of.

use helenus_core::TimestampMicros;
use helenus_core::cql::plan::Moment;
use rand::Rng as _;
use rand::rngs::SmallRng;

/// A clock that stands still, or is set back by less, does not make two moments one. Set back further, it is believed.
const SET_BACK_MICROS: i64 = 1_000_000;

/// The moments that a node's requests have.
#[derive(Debug)]
pub(super) struct Moments {
    chance: SmallRng,
    last: i64,
}

impl Moments {
    pub(super) fn new(chance: SmallRng) -> Moments {
        Moments { chance, last: 0 }
    }

    /// The next moment, at this time of the wall clock: later than every other one of this node, so that what one request
    /// appends to a list comes behind what the one before it did.
    pub(super) fn next(&mut self, now: i64) -> Moment {
        let ahead = self.last.saturating_sub(now);
        let is_past = !(0..SET_BACK_MICROS).contains(&ahead);
        self.last = if is_past { now } else { self.last.saturating_add(1) };
        Moment { now: TimestampMicros(self.last), random: self.chance.random() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn no_moment_comes_twice() {
        let mut moments = Moments::new(SmallRng::seed_from_u64(1));
        let mut last = moments.next(5_000_000).now;
        for now in [5_000_000, 5_000_000, 4_999_000, 5_000_001, 5_000_900] {
            let next = moments.next(now).now;
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
        assert_eq!(last, TimestampMicros(5_000_900));
        assert_eq!(
            moments.next(3_000_000).now,
            TimestampMicros(3_000_000),
            "the clock was set back"
        );
    }
}
