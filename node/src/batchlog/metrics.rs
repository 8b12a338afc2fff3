//! What the batchlog counts.

use super::Batchlog;
use crate::seams::clock::Clock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// Counters of batches that are kept for others.
#[derive(Debug, Clone, Default)]
pub(crate) struct BatchlogMetrics {
    pub(super) stored: Counter,
    pub(super) refused: Counter,
    pub(super) replayed: Counter,
    pub(super) expired: Counter,
    pub(super) failed: Counter,
    pub(super) unreadable: Counter,
}

impl BatchlogMetrics {
    /// Registers the families.
    pub(crate) fn register(registry: &mut Registry) -> BatchlogMetrics {
        let metrics = BatchlogMetrics::default();
        let counters = [
            ("batchlog_stored", "Batches kept for their coordinators", &metrics.stored),
            ("batchlog_refused", "Batches not kept as too many were", &metrics.refused),
            (
                "batchlog_replayed",
                "Batches finished by this node as their coordinators did not",
                &metrics.replayed,
            ),
            (
                "batchlog_expired",
                "Batches dropped as they were older than gc_grace_seconds",
                &metrics.expired,
            ),
            (
                "batchlog_replay_failures",
                "Attempts to finish a batch that left a mutation with no replica and no hint",
                &metrics.failed,
            ),
            (
                "batchlog_unreadable",
                "Batches dropped as their bytes were not sound",
                &metrics.unreadable,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}

/// What is kept now.
pub(crate) struct Now {
    pub(crate) batchlog: Arc<Batchlog>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = self.batchlog.figures();
        let age = figures.oldest_us.map_or(0, |oldest| self.clock.wall_micros() - oldest);
        let age_s = u64::try_from(age.max(0) / 1_000_000).unwrap_or(0);
        let gauges = [
            ("batchlog_batches", "Batches kept now", figures.batches as u64),
            ("batchlog_kept_bytes", "Their bytes", figures.bytes),
            ("batchlog_oldest_age_seconds", "How long ago the oldest was written", age_s),
        ];
        for (name, help, value) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode_gauge(&value)?;
        }
        Ok(())
    }
}
