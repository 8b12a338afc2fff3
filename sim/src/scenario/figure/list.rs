//! Every figure that a scenario may name.

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes, scaled.
    Bytes,
    /// Seconds of simulated time.
    Seconds,
    /// A share, 0 to 100.
    Percent,
    /// Things for each other thing; as many at any scale.
    Ratio,
}

/// How a figure relates to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something that happens: a span has so many of them.
    Counter,
    /// Something that is: a span has a value at each sample.
    Gauge,
    /// Measured over a whole span at once.
    Span,
    /// Known only where replicas were compared: at the `at` or `by` of an expectation, and at the end.
    Compared,
}

/// One figure that a scenario may name.
#[derive(Debug)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// How it relates to time.
    pub kind: Kind,
    /// What it is counted in.
    pub unit: Unit,
    /// The labels that it understands.
    pub labels: &'static [&'static str],
    /// What it means.
    pub what: &'static str,
    /// Whether physics predicts it (`within 10% of predicted`).
    pub predicted: bool,
}

const fn figure(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    what: &'static str,
) -> Figure {
    Figure { name, kind, unit, labels, what, predicted: false }
}

const fn predicted(figure: Figure) -> Figure {
    Figure { predicted: true, ..figure }
}

/// A node, or those of a rack.
const HOST: &[&str] = &["node", "rack"];
const READ: &[&str] = &["cl", "of", "side", "replica"];

/// Every figure there is.
pub static FIGURES: &[Figure] = &[
    predicted(figure(
        "orders.placed",
        Kind::Counter,
        Unit::Count,
        &[],
        "orders in the source of truth",
    )),
    figure(
        "orders.acked",
        Kind::Counter,
        Unit::Count,
        &[],
        "orders whose write the store acknowledged",
    ),
    figure("orders.dropped", Kind::Counter, Unit::Count, &[], "orders that the projector gave up"),
    figure("orders.lag", Kind::Gauge, Unit::Count, &[], "orders placed and not yet projected"),
    figure(
        "orders.lost",
        Kind::Compared,
        Unit::Count,
        &[],
        "acknowledged orders that QUORUM cannot read",
    ),
    figure(
        "reads.total",
        Kind::Counter,
        Unit::Count,
        &["cl", "side", "replica"],
        "reads that ended",
    ),
    figure(
        "reads.fresh",
        Kind::Counter,
        Unit::Count,
        &["cl", "side", "replica"],
        "reads that returned the order",
    ),
    figure(
        "reads.stale",
        Kind::Counter,
        Unit::Count,
        READ,
        "reads that missed a write acknowledged before they began",
    ),
    figure(
        "reads.missing",
        Kind::Counter,
        Unit::Count,
        READ,
        "reads that found nothing because the order was placed but not yet acknowledged by the store",
    ),
    figure(
        "reads.refused",
        Kind::Counter,
        Unit::Count,
        &["cl", "side", "replica", "kind"],
        "reads that failed: unavailable, timeout or failure",
    ),
    figure(
        "reads.refused_share",
        Kind::Span,
        Unit::Percent,
        &["cl", "side", "replica"],
        "the share of reads that failed",
    ),
    figure(
        "reads.wrong",
        Kind::Counter,
        Unit::Count,
        &["cl", "side", "replica"],
        "reads that returned bytes nobody wrote",
    ),
    figure(
        "reads.latency_mean",
        Kind::Span,
        Unit::Seconds,
        &["cl", "side", "replica"],
        "the mean latency of reads that were answered",
    ),
    figure(
        "reads.latency_p99",
        Kind::Span,
        Unit::Seconds,
        &["cl", "side", "replica"],
        "the 99th percentile of the latency of reads that were answered",
    ),
    figure(
        "writes.refused",
        Kind::Counter,
        Unit::Count,
        &["side", "kind"],
        "attempts to write that failed",
    ),
    figure(
        "writes.latency_p99",
        Kind::Span,
        Unit::Seconds,
        &[],
        "the 99th percentile of the latency of acknowledged writes, one attempt",
    ),
    figure("hints.stored", Kind::Counter, Unit::Count, &["target"], "hints stored"),
    figure(
        "hints.delivered",
        Kind::Counter,
        Unit::Count,
        &["target"],
        "hints that their target acknowledged",
    ),
    figure(
        "hints.lost",
        Kind::Counter,
        Unit::Count,
        &["target", "reason"],
        "hints refused, evicted, expired, truncated or damaged",
    ),
    figure(
        "hints.overflowed",
        Kind::Counter,
        Unit::Count,
        &["target"],
        "hints refused or evicted because a store was full",
    ),
    figure(
        "hints.overflowed_bytes",
        Kind::Span,
        Unit::Bytes,
        &["target"],
        "the bytes of their records, each as large as a stored one",
    ),
    figure(
        "hints.dead_lettered",
        Kind::Counter,
        Unit::Count,
        &["target"],
        "hints that became dead letters because a store was full",
    ),
    figure("hints.bytes", Kind::Gauge, Unit::Bytes, &["target"], "bytes of the hint stores in use"),
    figure(
        "hints.cap",
        Kind::Gauge,
        Unit::Bytes,
        &["target"],
        "bytes that the stores which can owe the target may use",
    ),
    figure("hints.pending", Kind::Gauge, Unit::Count, &["target"], "hints not yet delivered"),
    figure(
        "hints.unaccounted",
        Kind::Gauge,
        Unit::Count,
        &[],
        "hints that the accounting identity cannot explain, over all nodes",
    ),
    predicted(figure(
        "hints.record_count",
        Kind::Span,
        Unit::Count,
        &["target"],
        "hints that fitted into one store before it first overflowed",
    )),
    predicted(figure(
        "hints.fill_time",
        Kind::Span,
        Unit::Seconds,
        &["target"],
        "from the cut until every store that owes the target has overflowed",
    )),
    predicted(figure(
        "hints.replay_time",
        Kind::Span,
        Unit::Seconds,
        &["target"],
        "from the operator's resume until the last pending hint was delivered",
    )),
    figure(
        "replica.missing",
        Kind::Compared,
        Unit::Count,
        &["rack"],
        "acknowledged orders that a replica lacks",
    ),
    figure(
        "replica.overflowed",
        Kind::Compared,
        Unit::Count,
        &["rack"],
        "acknowledged orders whose hint overflowed and which did not reach the replica otherwise",
    ),
    figure(
        "replica.unexplained",
        Kind::Compared,
        Unit::Count,
        &["rack"],
        "the two sets above compared: orders in only one of them",
    ),
    figure(
        "repair.bytes",
        Kind::Counter,
        Unit::Bytes,
        &["by"],
        "bytes that replicas sent each other in repairs that began then, by what was compared: ledger or full",
    ),
    figure(
        "repair.differing",
        Kind::Counter,
        Unit::Count,
        &["by"],
        "token ranges in which these repairs found replicas that differ",
    ),
    figure(
        "repairs.read",
        Kind::Counter,
        Unit::Count,
        &["rack"],
        "mutations that read repair sent",
    ),
    figure(
        "audit.touched",
        Kind::Compared,
        Unit::Count,
        &["rack"],
        "copies that a replica lacked and whose replica answered the final QUORUM read",
    ),
    figure(
        "audit.unrepaired",
        Kind::Compared,
        Unit::Count,
        &["rack"],
        "those of them that the replica still lacks afterwards",
    ),
    figure(
        "replica.applied",
        Kind::Counter,
        Unit::Count,
        HOST,
        "copies of orders that reached a replica, each counted once",
    ),
    figure(
        "storage.sstables",
        Kind::Gauge,
        Unit::Count,
        HOST,
        "SSTables of one table on the node, or on the one that has the most",
    ),
    predicted(figure(
        "storage.flushes",
        Kind::Counter,
        Unit::Count,
        HOST,
        "memtables of one table that became SSTables on the node, or on the one with the most",
    )),
    figure(
        "storage.pending_compactions",
        Kind::Gauge,
        Unit::Count,
        HOST,
        "compactions that wait on the node, or on the one where the most do",
    ),
    predicted(figure(
        "storage.read_amplification",
        Kind::Span,
        Unit::Ratio,
        HOST,
        "SSTables of which a read of one partition opened a block, on average",
    )),
];
