//! How fast a node takes hints, whoever sends them.
//!
//! A target that comes back is owed hints by every coordinator, and each of them knows only its own. So the target says
//! with each page it took how long this sender should hold back the next: the time that the pages of all senders, at the
//! node's rate, are paid for. Senders need not know of each other, and no page waits at the target for its turn.
//!
//! Invariant: over any time the pages taken of senders that keep to it are at most the rate times that time, and one page
//! of each sender besides (the one it sent before it was told anything).

use std::time::Duration;

/// The debt of all senders together.
#[derive(Debug, Clone)]
pub struct Credit {
    bytes_per_s: u64,
    /// When what was taken is paid for.
    free_at: Duration,
}

impl Credit {
    /// So many bytes a second; 0: no limit.
    pub fn new(bytes_per_s: u64) -> Credit {
        Credit { bytes_per_s, free_at: Duration::ZERO }
    }

    /// A page of so many bytes was taken. Gives how long its sender should hold back the next one.
    pub fn took(&mut self, now: Duration, bytes: u64) -> Duration {
        let nanos =
            (bytes.saturating_mul(1_000_000_000)).checked_div(self.bytes_per_s).unwrap_or(0);
        self.free_at = self.free_at.max(now).saturating_add(Duration::from_nanos(nanos));
        self.free_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 1000;

    /// Senders with enough to send, who send when they may; gives the pages of each within `time`.
    fn sent(senders: usize, rate: u64, time: Duration) -> Vec<u64> {
        let mut credit = Credit::new(rate);
        let mut next = vec![Duration::ZERO; senders];
        let mut pages = vec![0; senders];
        loop {
            let (sender, at) = next.iter().copied().enumerate().min_by_key(|(_, at)| *at).unwrap();
            if at >= time {
                return pages;
            }
            pages[sender] += 1;
            next[sender] = at + credit.took(at, PAGE);
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
    fn no_rate_holds_nobody_back() {
        let mut credit = Credit::new(0);
        assert_eq!(credit.took(Duration::from_secs(1), u64::MAX), Duration::ZERO);
    }

    #[test]
    fn time_in_which_nothing_came_is_not_saved_up() {
        let mut credit = Credit::new(PAGE);
        assert_eq!(credit.took(Duration::from_secs(100), PAGE), Duration::from_secs(1));
        assert_eq!(credit.took(Duration::from_secs(100), PAGE), Duration::from_secs(2));
    }
}
