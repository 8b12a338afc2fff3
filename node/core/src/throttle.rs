//! Throttles: so many bytes a second, as time. What was sent or taken is paid for by waiting before the next.
//!
//! With hints the one who takes them has the throttle. A target that comes back is owed hints by every coordinator, and each
//! of them knows only its own; so the target says with each page it took how long this sender should hold back the next:
//! until the pages of all senders are paid for. Senders need not know of each other, and no page waits at the target.
//!
//! Invariant: over any time, what is spent by those who wait for their debt is at most the rate times that time, and one page
//! of each of them besides (the one before they knew of a debt).

use std::time::Duration;

/// A debt of bytes, which time pays.
#[derive(Debug, Clone)]
pub struct Throttle {
    bytes_per_s: u64,
    /// When everything spent is paid for.
    paid_at: Duration,
}

impl Throttle {
    /// So many bytes a second; 0: no limit.
    pub fn new(bytes_per_s: u64) -> Throttle {
        Throttle { bytes_per_s, paid_at: Duration::ZERO }
    }

    /// How many bytes a second; 0: no limit.
    pub fn bytes_per_s(&self) -> u64 {
        self.bytes_per_s
    }

    /// How long it takes from now to pay for what was spent.
    pub fn debt(&self, now: Duration) -> Duration {
        self.paid_at.saturating_sub(now)
    }

    /// So many bytes were sent, or taken. Gives the debt after them.
    pub fn spend(&mut self, now: Duration, bytes: u64) -> Duration {
        self.paid_at = self.paid_at.max(now).saturating_add(price(bytes, self.bytes_per_s));
        self.debt(now)
    }
}

/// How long so many bytes take at so many a second; 0: there is no limit.
pub fn price(bytes: u64, bytes_per_s: u64) -> Duration {
    let nanos = (u128::from(bytes) * 1_000_000_000).checked_div(u128::from(bytes_per_s));
    Duration::from_nanos(u64::try_from(nanos.unwrap_or(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 1000;

    /// Senders with enough to send, who send when they may; gives the pages of each within `time`.
    fn sent(senders: usize, rate: u64, time: Duration) -> Vec<u64> {
        let mut throttle = Throttle::new(rate);
        let mut next = vec![Duration::ZERO; senders];
        let mut pages = vec![0; senders];
        loop {
            let (sender, at) = next.iter().copied().enumerate().min_by_key(|(_, at)| *at).unwrap();
            if at >= time {
                return pages;
            }
            pages[sender] += 1;
            next[sender] = at + throttle.spend(at, PAGE);
        }
    }

    #[test]
    fn all_senders_together_keep_to_the_rate_and_share_it() {
        for senders in [1, 2, 7, 30] {
            let pages = sent(senders, 10 * PAGE, Duration::from_secs(60));
            let (total, n) = (pages.iter().sum::<u64>(), senders as u64);
            assert!(total >= 600 && total <= 600 + n, "{senders}: {total}");
            let (least, most) = (pages.iter().min().unwrap(), pages.iter().max().unwrap());
            assert!(most - least <= 1, "{pages:?}");
        }
    }

    #[test]
    fn it_is_paid_after_each_page_and_by_whoever_comes_next() {
        let mut throttle = Throttle::new(1000);
        let at = Duration::from_millis;
        assert_eq!(throttle.debt(at(5000)), Duration::ZERO, "the past is no credit");
        assert_eq!(throttle.spend(at(5000), 500), at(500));
        assert_eq!(throttle.debt(at(5000)), at(500));
        assert_eq!(throttle.spend(at(5250), 500), at(750));
        assert_eq!(throttle.debt(at(6000)), Duration::ZERO);
        assert!(throttle.spend(at(6000), u64::MAX) > at(1_000_000), "and nothing overflows");
    }

    #[test]
    fn no_rate_holds_nobody_back() {
        let mut throttle = Throttle::new(0);
        assert_eq!(throttle.spend(Duration::from_secs(1), u64::MAX), Duration::ZERO);
    }

    #[test]
    fn time_in_which_nothing_came_is_not_saved_up() {
        let mut throttle = Throttle::new(PAGE);
        assert_eq!(throttle.spend(Duration::from_secs(100), PAGE), Duration::from_secs(1));
        assert_eq!(throttle.spend(Duration::from_secs(100), PAGE), Duration::from_secs(2));
    }
}
