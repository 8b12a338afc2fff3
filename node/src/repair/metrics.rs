//! What repair counts on a node, as a coordinator and as a replica.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The counters. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct RepairMetrics {
    running: Gauge,
    /// Ranges that were compared, and those that could not be.
    sessions: [Counter; 2],
    differing: Counter,
    streamed_partitions: Counter,
    streamed_bytes: Counter,
    steps_refused: Counter,
}

impl RepairMetrics {
    pub(crate) fn register(registry: &mut Registry) -> RepairMetrics {
        let sessions: Family<Outcome, Counter> = Family::default();
        let metrics = RepairMetrics {
            running: Gauge::default(),
            sessions: ["ok", "failed"]
                .map(|outcome| sessions.get_or_create_owned(&Outcome { outcome })),
            differing: Counter::default(),
            streamed_partitions: Counter::default(),
            streamed_bytes: Counter::default(),
            steps_refused: Counter::default(),
        };
        registry.register(
            "repairs_running",
            "Repairs that this node coordinates now",
            metrics.running.clone(),
        );
        registry.register(
            "repair_sessions",
            "Ranges of tables that this node has compared between replicas, by how it ended",
            sessions,
        );
        registry.register(
            "repair_differing_ranges",
            "Token ranges in which replicas differed",
            metrics.differing.clone(),
        );
        registry.register(
            "repair_streamed_partitions",
            "Partitions that this node has sent to other replicas in repairs",
            metrics.streamed_partitions.clone(),
        );
        registry.register(
            "repair_streamed_bytes",
            "Bytes of keys and partitions that this node has sent to other replicas in repairs",
            metrics.streamed_bytes.clone(),
        );
        registry.register(
            "repair_steps_refused",
            "Steps of repairs that this node refused because too many ran at once",
            metrics.steps_refused.clone(),
        );
        metrics
    }

    pub(super) fn set_running(&self, running: bool) {
        self.running.set(i64::from(running));
    }

    pub(super) fn session(&self, ended_well: bool) {
        let [ok, failed] = &self.sessions;
        if ended_well {
            ok.inc()
        } else {
            failed.inc()
        };
    }

    pub(super) fn differing(&self, ranges: u64) {
        self.differing.inc_by(ranges);
    }

    pub(super) fn streamed(&self, partitions: u64, bytes: u64) {
        self.streamed_partitions.inc_by(partitions);
        self.streamed_bytes.inc_by(bytes);
    }

    pub(super) fn step_refused(&self) {
        self.steps_refused.inc();
    }
}
