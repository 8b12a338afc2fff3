//! Gossip and the failure detector, for Prometheus.

use super::Membership;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Weak;

pub(super) struct Metrics(pub(super) Weak<Membership>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(membership) = self.0.upgrade() else { return Ok(()) };
        let members = membership.members();
        let (counters, pauses) = {
            let state = membership.state();
            (state.gossip.counters(), state.detector.local_pauses())
        };
        let up = members.iter().filter(|member| member.up).count() as u64;
        let gauges = [
            ("members", "Members known, this node included", members.len() as u64),
            ("members_up", "Members held alive, this node included", up),
        ];
        for (name, help, value) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode_gauge(&value)?;
        }
        let counts = [
            (
                "gossip_refused_cluster",
                "Gossip of other clusters refused",
                counters.refused_cluster,
            ),
            (
                "gossip_refused_generation",
                "States refused because their generation is more than a year ahead",
                counters.refused_generation,
            ),
            (
                "gossip_refused_endpoints",
                "States refused because too many nodes are known",
                counters.refused_endpoints,
            ),
            (
                "gossip_refused_values",
                "Values refused for their size, number or version",
                counters.refused_values,
            ),
            ("gossip_impostors", "News of this node that it never wrote", counters.impostors),
            (
                "gossip_cut_messages",
                "Messages cut at their bound; the rest went next round",
                counters.cut_messages,
            ),
            (
                "detector_local_pauses",
                "Pauses of this node itself, in which it convicted nobody",
                pauses,
            ),
        ];
        for (name, help, value) in counts {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        let help = "How suspicious a peer's silence is: the negative decimal logarithm of a chance";
        let mut family = encoder.encode_descriptor("phi", help, None, MetricType::Gauge)?;
        for member in members.iter().filter(|member| member.phi > 0.0) {
            // Labels are bounded by the members known.
            let labels = [("peer", member.node.to_string())];
            family.encode_family(&labels)?.encode_gauge(&member.phi)?;
        }
        Ok(())
    }
}
