//! Bytes that connections hold, counted together: so many on a node, whoever holds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one kind that all connections hold together.
#[derive(Debug)]
pub(super) struct Pool {
    bytes: AtomicUsize,
    max: usize,
}

impl Pool {
    pub(super) fn new(max: usize) -> Arc<Pool> {
        Arc::new(Pool { bytes: AtomicUsize::new(0), max })
    }

    /// Whether they hold less than they may.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.max
    }

    /// A share of so many bytes, if there is room for it.
    pub(super) fn admit(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let mut share = self.share();
        share.try_set(bytes).then_some(share)
    }

    /// A share of nothing, for now.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { pool: Arc::clone(self), bytes: 0 }
    }
}

/// What one connection, or one request, holds of a pool. Given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Share {
    /// It holds so many now, whether there is room for them or not.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.pool.bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.pool.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// It holds so many now, if there is room for them; otherwise as many as before. Where nobody else holds anything there
    /// always is: what one may hold has a bound of its own.
    pub(super) fn try_set(&mut self, bytes: usize) -> bool {
        let (own, max) = (self.bytes, self.pool.max);
        // One step, or two threads that both saw the last of the room would both take it.
        let grown = |all: usize| {
            let others = all.saturating_sub(own);
            let after = others.checked_add(bytes)?;
            (bytes <= own || others == 0 || after <= max).then_some(after)
        };
        let fits =
            self.pool.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        if fits {
            self.bytes = bytes;
        }
        fits
    }

    /// What it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_admitted_and_the_first_always_is() {
        let pool = Pool::new(10);
        let large = pool.admit(100).expect("the first, however large");
        assert!(!pool.has_room());
        assert!(pool.admit(1).is_none());
        drop(large);
        let share = pool.admit(9).unwrap();
        assert!(pool.has_room());
        assert!(pool.admit(2).is_none());
        assert!(pool.admit(1).is_some());
        assert_eq!(share.bytes(), 9);
    }

    #[test]
    fn threads_that_ask_at_once_do_not_pass_the_bound() {
        const THREADS: usize = 4;
        let pool = Pool::new(10);
        let begin = std::sync::Barrier::new(THREADS);
        // More than is there is asked for again and again; what is held together is looked at by each who got its share.
        let most = std::thread::scope(|threads| {
            let ask = || {
                begin.wait();
                let seen = |_| pool.admit(4).map_or(0, |_share| pool.bytes.load(Ordering::Relaxed));
                (0..20_000).map(seen).max().unwrap_or_default()
            };
            let asking: Vec<_> = (0..THREADS).map(|_| threads.spawn(ask)).collect();
            asking.into_iter().map(|asks| asks.join().expect("it does not panic")).max()
        });
        assert!((4..=10).contains(&most.unwrap_or_default()), "{most:?}");
        assert_eq!(pool.bytes.load(Ordering::Relaxed), 0, "all was given back");
    }

    #[test]
    fn a_share_that_cannot_grow_is_as_large_as_before() {
        let pool = Pool::new(10);
        let (mut one, mut other) = (pool.share(), pool.share());
        assert!(one.try_set(6) && other.try_set(4));
        assert!(!other.try_set(5));
        assert_eq!(other.bytes(), 4);
        assert!(other.try_set(3) && one.try_set(7));
        other.set(20);
        assert!(!pool.has_room());
        drop(other);
        assert!(one.try_set(1000), "nobody else holds anything");
    }
}
