//! What a coordinator counts.

use helenus_core::Level;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    op: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Op {
    op: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtLevel {
    level: String,
}

/// Counters and latencies of client requests. Labels are words of this program, so their number is bounded.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    requests: Family<Request, Counter>,
    latency: Family<Op, Histogram, fn() -> Histogram>,
    mismatches: Counter,
    repairs: Family<AtLevel, Counter>,
    pub(super) paxos: PaxosMetrics,
}

/// What happens on the way to a decree.
#[derive(Debug, Clone, Default)]
pub(super) struct PaxosMetrics {
    pub(super) contentions: Counter,
    pub(super) finished: Counter,
    pub(super) taught: Counter,
}

/// Requests of one kind, as `tpstats` shows them. They run where they arrive, so there is no pool of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolFigures {
    pub(crate) name: &'static str,
    /// Being worked on, where that is counted.
    pub(crate) active: Option<u64>,
    pub(crate) completed: u64,
    /// Those that there was no place for.
    pub(crate) rejected: u64,
}

/// The kinds, and what they are called for operators.
const KINDS: [(&str, &str); 6] = [
    ("client-write", "write"),
    ("client-batch", "batch"),
    ("client-cas", "cas"),
    ("client-settle", "settle"),
    ("client-read", "read"),
    ("client-scan", "scan"),
];

impl super::Coordinator {
    /// What clients have asked for: all of it together, which is what has a limit, and then by kind.
    pub(crate) fn pools(&self) -> Vec<PoolFigures> {
        let kinds = KINDS.map(|(name, op)| PoolFigures {
            name,
            active: None,
            completed: self.metrics.count(op, "ok"),
            rejected: self.metrics.count(op, "overloaded"),
        });
        let all = PoolFigures {
            name: "client-requests",
            active: Some(self.in_flight() as u64),
            completed: kinds.iter().map(|kind| kind.completed).sum(),
            rejected: kinds.iter().map(|kind| kind.rejected).sum(),
        };
        std::iter::once(all).chain(kinds).collect()
    }
}

/// The levels that a read may have.
const READS: [Level; 8] = [
    Level::One,
    Level::Two,
    Level::Three,
    Level::Quorum,
    Level::All,
    Level::LocalOne,
    Level::LocalQuorum,
    Level::EachQuorum,
];

fn latency_histogram() -> Histogram {
    // 50 us to 13 s, doubling.
    Histogram::new(exponential_buckets(0.000_05, 2.0, 19))
}

impl RequestMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> RequestMetrics {
        let metrics = RequestMetrics {
            requests: Family::default(),
            latency: Family::new_with_constructor(latency_histogram),
            mismatches: Counter::default(),
            repairs: Family::default(),
            paxos: PaxosMetrics::default(),
        };
        registry.register("requests", "Client requests by outcome", metrics.requests.clone());
        registry.register(
            "request_latency_seconds",
            "Time from a client request's arrival to its answer",
            metrics.latency.clone(),
        );
        registry.register(
            "read_digest_mismatches",
            "Reads whose replicas disagreed",
            metrics.mismatches.clone(),
        );
        registry.register(
            "read_repairs",
            "Mutations sent to stale replicas before a read was answered",
            metrics.repairs.clone(),
        );
        for (name, help, counter) in [
            (
                "paxos_contentions",
                "Rounds of conditional writes and serial reads that another proposer was in the way of",
                &metrics.paxos.contentions,
            ),
            (
                "paxos_finished",
                "Proposals of others that were proposed again, as they may have been decided",
                &metrics.paxos.finished,
            ),
            (
                "paxos_taught",
                "Rounds that began with telling replicas of the newest commit",
                &metrics.paxos.taught,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        for level in READS {
            // From 0, so that the first repair is an increase that a query sees.
            drop(metrics.repairs.get_or_create(&AtLevel { level: level.to_string() }));
        }
        metrics
    }

    pub(super) fn answered(&self, op: &'static str, outcome: &'static str, took: Duration) {
        self.requests.get_or_create(&Request { op, outcome }).inc();
        self.latency.get_or_create(&Op { op }).observe(took.as_secs_f64());
    }

    pub(super) fn digest_mismatch(&self) {
        self.mismatches.inc();
    }

    pub(super) fn read_repair(&self, level: Level) {
        self.repairs.get_or_create(&AtLevel { level: level.to_string() }).inc();
    }

    /// How many client requests of any kind ended so.
    pub fn count(&self, op: &'static str, outcome: &'static str) -> u64 {
        self.requests.get_or_create(&Request { op, outcome }).get()
    }
}
