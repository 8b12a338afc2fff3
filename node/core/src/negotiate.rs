//! Which protocol version two nodes speak, if any, and how long to leave a peer alone that cannot be spoken to.
//!
//! Each node speaks a range of versions and says so in its first frame. The highest common one is spoken; with none,
//! both sides know at once and nobody guesses. A refused node does not ask again at once, because a cluster of them
//! would do little else: it backs off, doubling up to a bound, with jitter so that they do not come back in step.

use std::fmt;
use std::time::Duration;

/// The protocol versions that a node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest, inclusive.
    pub min: u32,
    /// The newest, inclusive.
    pub max: u32,
}

impl VersionRange {
    /// What this build speaks.
    pub const OURS: VersionRange = VersionRange { min: 1, max: 1 };
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "version {}", self.min)
        } else {
            write!(f, "versions {} to {}", self.min, self.max)
        }
    }
}

/// Two nodes have no protocol version in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incompatible {
    /// What we speak.
    pub ours: VersionRange,
    /// What they speak; an empty range (`min > max`) is nonsense, and said to be.
    pub theirs: VersionRange,
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Incompatible { ours, theirs } = self;
        if theirs.min > theirs.max {
            let VersionRange { min, max } = theirs;
            return write!(f, "the peer claims protocol versions {min} to {max}, an empty range");
        }
        let older = if theirs.max < ours.min { "the peer" } else { "this node" };
        write!(
            f,
            "this node speaks protocol {ours}, the peer speaks {theirs}, and none is common: upgrade {older}"
        )
    }
}

impl std::error::Error for Incompatible {}

/// The highest version that both speak.
pub fn negotiate(ours: VersionRange, theirs: VersionRange) -> Result<u32, Incompatible> {
    let (low, high) = (ours.min.max(theirs.min), ours.max.min(theirs.max));
    // An empty range on either side leaves nothing in common by itself: low is at least min, high at most max.
    if low <= high { Ok(high) } else { Err(Incompatible { ours, theirs }) }
}

/// How long to wait between attempts: twice as long each time, up to a bound, less a random share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait before the first retry, before jitter.
    pub base: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Backoff {
    /// The wait before attempt number `attempt` (0 is the first retry). `jitter01` is a random number in `0..1`: the
    /// wait lies between half of the full one and all of it, so it spreads peers without ever becoming a storm.
    pub fn delay(&self, attempt: u32, jitter01: f64) -> Duration {
        let doubled = 2u32.checked_pow(attempt).and_then(|factor| self.base.checked_mul(factor));
        let full = doubled.unwrap_or(self.max).min(self.max);
        // NaN clamps to NaN, and a share of NaN would panic below.
        let jitter = if jitter01.is_nan() { 0.0 } else { jitter01.clamp(0.0, 1.0) };
        full.mul_f64(0.5 + jitter / 2.0).min(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(min: u32, max: u32) -> VersionRange {
        VersionRange { min, max }
    }

    #[test]
    fn a_refusal_says_both_ranges_and_who_is_old() {
        let err = negotiate(range(3, 4), range(1, 2)).unwrap_err();
        assert_eq!(
            err.to_string(),
            "this node speaks protocol versions 3 to 4, the peer speaks versions 1 to 2, and none is common: \
             upgrade the peer"
        );
        let err = negotiate(range(1, 1), range(2, 2)).unwrap_err();
        assert_eq!(
            err.to_string(),
            "this node speaks protocol version 1, the peer speaks version 2, and none is common: upgrade this node"
        );
        let err = negotiate(range(1, 9), range(5, 2)).unwrap_err();
        assert_eq!(err.to_string(), "the peer claims protocol versions 5 to 2, an empty range");
    }

    proptest! {
        // The second route: look at every version.
        #[test]
        fn the_highest_common_version_is_spoken(a in 0u32..12, b in 0u32..12, c in 0u32..12, d in 0u32..12) {
            let common = (0..12).filter(|v| (a..=b).contains(v) && (c..=d).contains(v)).max();
            prop_assert_eq!(negotiate(range(a, b), range(c, d)).ok(), common);
            prop_assert_eq!(negotiate(range(c, d), range(a, b)).ok(), common);
        }

        #[test]
        fn a_delay_stays_between_half_and_all_of_the_doubled_base(attempt: u32, jitter: f64) {
            let backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(60) };
            let full = (0..attempt.min(20)).fold(backoff.base, |d, _| (d * 2).min(backoff.max));
            let delay = backoff.delay(attempt, jitter);
            prop_assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
        }
    }
}
