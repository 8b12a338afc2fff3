//! What the links count: messages per link, drops per verb and reason. Plain atomics on the hot path; Prometheus and
//! `tpstats` read them when they are asked.

use super::verb::{Lane, Verb};
use helenus_core::NodeId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The queue to the peer was full.
    QueueFull,
    /// It was larger than a frame may be.
    TooLarge,
    /// There was no link, or it was lost while the message waited.
    NotConnected,
    /// It waited in the queue for longer than its timeout.
    ExpiredBeforeSend,
    /// It waited at the receiver for longer than its timeout.
    ExpiredBeforeHandling,
    /// An answer that nobody waited for any more, or that nobody had asked for.
    Late,
    /// A message that has no business on this end of a link, or that this version does not know.
    Unexpected,
    /// A rule of the message filter.
    Filtered,
}

impl DropReason {
    /// Every reason, in order: `DropReason::ALL[reason as usize] == reason`.
    pub const ALL: [DropReason; 8] = [
        DropReason::QueueFull,
        DropReason::TooLarge,
        DropReason::NotConnected,
        DropReason::ExpiredBeforeSend,
        DropReason::ExpiredBeforeHandling,
        DropReason::Late,
        DropReason::Unexpected,
        DropReason::Filtered,
    ];

    /// The reason's name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::QueueFull => "queue_full",
            DropReason::TooLarge => "too_large",
            DropReason::NotConnected => "not_connected",
            DropReason::ExpiredBeforeSend => "expired_before_send",
            DropReason::ExpiredBeforeHandling => "expired_before_handling",
            DropReason::Late => "late",
            DropReason::Unexpected => "unexpected",
            DropReason::Filtered => "filtered",
        }
    }
}

/// Drops of one node, by verb and reason.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    counts: [[AtomicU64; DropReason::ALL.len()]; Verb::ALL.len()],
}

impl Drops {
    pub(crate) fn count(&self, verb: Verb, reason: DropReason) {
        if let Some(count) = self.counts.get(verb as usize).and_then(|v| v.get(reason as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was dropped at all.
    pub(crate) fn counts(&self) -> BTreeMap<(Verb, DropReason), u64> {
        let mut out = BTreeMap::new();
        for (verb, reasons) in Verb::ALL.into_iter().zip(&self.counts) {
            for (reason, count) in DropReason::ALL.into_iter().zip(reasons) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    out.insert((verb, reason), count);
                }
            }
        }
        out
    }
}

/// Counts of one link since the node started; they survive reconnects.
#[derive(Debug, Default)]
pub(crate) struct LinkCounts {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) refusals: AtomicU64,
}

/// Adds to a count.
pub(crate) fn add(count: &AtomicU64, n: usize) {
    count.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// One dialled link, as `tpstats` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStat {
    /// The peer, once its handshake has told.
    pub peer: Option<NodeId>,
    /// Where it is dialled.
    pub addr: SocketAddr,
    /// Which of the streams.
    pub lane: Lane,
    /// Is it up?
    pub connected: bool,
    /// Messages that wait to be sent.
    pub queued: u64,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received: answers.
    pub received: u64,
    /// Messages that were not sent: queue full, not connected, too old.
    pub dropped: u64,
    /// How often it came up.
    pub connects: u64,
    /// How often the peer refused it, or was refused.
    pub refusals: u64,
}

impl LinkStat {
    /// The peer's host id, or its address until that is known.
    pub fn peer_name(&self) -> String {
        self.peer.map_or_else(|| self.addr.to_string(), |peer| peer.to_string())
    }
}

/// What Prometheus is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) links: Vec<LinkStat>,
    pub(crate) dropped: BTreeMap<(Verb, DropReason), u64>,
    pub(crate) sessions: u64,
    pub(crate) refusals_given: u64,
    pub(crate) open_calls: u64,
}

/// Where figures come from. Weak: the registry must not keep a stopped node's links.
pub(crate) trait Source: Send + Sync + 'static {
    fn figures(&self) -> Figures;
}

pub(crate) struct Metrics<S>(pub(crate) Weak<S>);

impl<S> fmt::Debug for Metrics<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

struct Value(MetricType, u64);

impl EncodeMetric for Value {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self.0 {
            MetricType::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&self.1, None),
            _ => encoder.encode_gauge(&self.1),
        }
    }

    fn metric_type(&self) -> MetricType {
        self.0
    }
}

type LinkFigure = (&'static str, &'static str, MetricType, fn(&LinkStat) -> u64);

const LINK_FIGURES: [LinkFigure; 7] = [
    ("link_up", "Whether the link is up", MetricType::Gauge, |l| l.connected.into()),
    ("link_queued_messages", "Messages waiting to be sent", MetricType::Gauge, |l| l.queued),
    ("link_queued_bytes", "Bytes waiting to be sent", MetricType::Gauge, |l| l.queued_bytes),
    ("link_sent_messages", "Messages sent", MetricType::Counter, |l| l.sent),
    ("link_received_messages", "Answers received", MetricType::Counter, |l| l.received),
    ("link_connects", "How often the link came up", MetricType::Counter, |l| l.connects),
    ("link_refusals", "How often a handshake was refused", MetricType::Counter, |l| l.refusals),
];

impl<S: Source> Collector for Metrics<S> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(source) = self.0.upgrade() else { return Ok(()) };
        let figures = source.figures();
        for (name, help, kind, value) in LINK_FIGURES {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for link in &figures.links {
                let labels = [("peer", link.peer_name()), ("lane", link.lane.to_string())];
                Value(kind, value(link)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "dropped_messages",
            "Messages between nodes that were dropped",
            None,
            MetricType::Counter,
        )?;
        for ((verb, reason), count) in &figures.dropped {
            let labels = [("verb", verb.as_str()), ("reason", reason.as_str())];
            Value(MetricType::Counter, *count).encode(family.encode_family(&labels)?)?;
        }
        let singles = [
            (
                "link_sessions",
                "Links that peers have dialled to this node",
                Value(MetricType::Gauge, figures.sessions),
            ),
            (
                "link_sessions_refused",
                "Links that this node has refused",
                Value(MetricType::Counter, figures.refusals_given),
            ),
            (
                "open_calls",
                "Calls to peers under way",
                Value(MetricType::Gauge, figures.open_calls),
            ),
        ];
        for (name, help, value) in singles {
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_and_reason_has_its_own_count() {
        let drops = Drops::default();
        for (at, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            drops.count(Verb::Unknown, reason);
        }
        drops.count(Verb::Mutation, DropReason::Late);
        drops.count(Verb::Mutation, DropReason::Late);
        let counts = drops.counts();
        assert_eq!(counts.get(&(Verb::Mutation, DropReason::Late)), Some(&2));
        assert_eq!(counts.len(), DropReason::ALL.len() + 1);
    }
}
