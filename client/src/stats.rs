//! What the client counted about itself: above all, what happened at its bounds.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the client was made. Each only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Operations begun.
    pub operations: u64,
    /// Operations that returned an error.
    pub failed: u64,
    /// Attempts after an operation's first.
    pub retries: u64,
    /// Attempts refused because too much was in flight to the node already.
    pub refused_in_flight: u64,
    /// Answers that came after their operation had stopped waiting.
    pub late_answers: u64,
    /// Connections made.
    pub connects: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Connections that broke.
    pub connections_lost: u64,
    /// Refreshes of the topology that succeeded.
    pub refreshes: u64,
    /// Refreshes that no node answered.
    pub refresh_failures: u64,
    /// Members of the ring that were left out because what the node said about them made no sense.
    pub members_skipped: u64,
}

/// The live counters behind [`ClientStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) operations: Counter,
    pub(crate) failed: Counter,
    pub(crate) retries: Counter,
    pub(crate) refused_in_flight: Counter,
    pub(crate) late_answers: Counter,
    pub(crate) connects: Counter,
    pub(crate) connect_failures: Counter,
    pub(crate) connections_lost: Counter,
    pub(crate) refreshes: Counter,
    pub(crate) refresh_failures: Counter,
    pub(crate) members_skipped: Counter,
}

impl Counters {
    pub(crate) fn read(&self) -> ClientStats {
        ClientStats {
            operations: self.operations.get(),
            failed: self.failed.get(),
            retries: self.retries.get(),
            refused_in_flight: self.refused_in_flight.get(),
            late_answers: self.late_answers.get(),
            connects: self.connects.get(),
            connect_failures: self.connect_failures.get(),
            connections_lost: self.connections_lost.get(),
            refreshes: self.refreshes.get(),
            refresh_failures: self.refresh_failures.get(),
            members_skipped: self.members_skipped.get(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
