//! What happened in a run, as it happened: orders, reads, hints, samples. Every figure of a report is a question asked
//! of this ledger, so that a count can always be opened up into the operations behind it.
//!
//! All times are counted from the scenario's start. Nodes are numbers: their place in [`Cluster::nodes`].
//!
//! [`Cluster::nodes`]: crate::scenario::Cluster::nodes

use helenus_core::{Level, NodeId, TableId, TimestampMicros};
use helenus_node::seams::probe::{ApplyPath, HintLoss};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An order's number: its place in [`Ledger::orders`].
pub type OrderId = u32;
/// A node's place in the cluster.
pub type NodeIndex = usize;

/// One order, from the shop to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// When it was placed: from then on the source of truth has it.
    pub placed: Duration,
    /// What became of its projection.
    pub projection: Projection,
}

/// What became of an order on its way to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// It waits, or its write is in flight.
    Pending,
    /// The store acknowledged it.
    Acked(Ack),
    /// The projector gave it up; it may have been applied all the same.
    Dropped {
        /// When.
        at: Duration,
        /// Why, in the client's words.
        why: String,
    },
}

/// An acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// When.
    pub at: Duration,
    /// How long the attempt that succeeded took.
    pub took: Duration,
    /// At which level.
    pub level: Level,
    /// Its version.
    pub timestamp: TimestampMicros,
    /// Who coordinated it.
    pub coordinator: NodeIndex,
    /// The replicas that had answered by then, in order.
    pub replicas: Vec<NodeIndex>,
}

/// Why an operation was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Too few replicas are alive; nothing was sent.
    Unavailable,
    /// Too few answered in time.
    Timeout,
    /// Replicas or the coordinator refused.
    Failure,
}

impl Refusal {
    /// As scenarios write it.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Unavailable => "unavailable",
            Refusal::Timeout => "timeout",
            Refusal::Failure => "failure",
        }
    }
}

/// An attempt to write that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedWrite {
    /// When it ended.
    pub at: Duration,
    /// Which order.
    pub order: OrderId,
    /// Who coordinated it.
    pub coordinator: NodeIndex,
    /// At which level.
    pub level: Level,
    /// How.
    pub refusal: Refusal,
    /// The client's words.
    pub why: String,
}

/// One read, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// When it began: what was acknowledged before then has to be seen.
    pub invoked: Duration,
    /// When it ended.
    pub ended: Duration,
    /// Which order.
    pub order: OrderId,
    /// At which level.
    pub level: Level,
    /// Who coordinated it.
    pub coordinator: NodeIndex,
    /// The replicas that answered, in order.
    pub replicas: Vec<NodeIndex>,
    /// What it was worth.
    pub verdict: ReadVerdict,
}

/// What a read was worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadVerdict {
    /// It returned the order.
    Fresh,
    /// It found nothing, although the write had been acknowledged before the read began.
    Stale,
    /// It found nothing, and the write had not been acknowledged when it began: lag.
    Missing,
    /// It returned bytes that nobody wrote under this key.
    Wrong,
    /// It was not answered.
    Refused(Refusal, String),
}

/// What happened to a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HintFate {
    /// Stored, taking so many bytes of the bound.
    Stored(u64),
    /// There was no room for it: it is a dead letter, of so many bytes.
    DeadLettered(u64),
    /// Refused, or removed undelivered.
    Lost(HintLoss),
    /// Acknowledged by its target.
    Delivered,
}

/// One event in a hint's life, told by the node that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintEvent {
    /// When.
    pub at: Duration,
    /// Who keeps it.
    pub node: NodeIndex,
    /// Whom it is owed; `None` for a target that is no node of the scenario.
    pub target: Option<NodeIndex>,
    /// Which order; `None` for other writes.
    pub order: Option<OrderId>,
    /// What happened.
    pub fate: HintFate,
}

/// A replica merged an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// When first.
    pub at: Duration,
    /// How it came first.
    pub by: ApplyPath,
}

/// The failure detector's or a link's news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivenessChange {
    /// When.
    pub at: Duration,
    /// Who thinks so.
    pub node: NodeIndex,
    /// Of whom.
    pub peer: Option<NodeIndex>,
    /// What.
    pub alive: bool,
}

/// What one node says of its hints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HintOutcomes {
    /// All that were ever asked for.
    pub created: u64,
    /// Acknowledged by their targets.
    pub delivered: u64,
    /// Taken by others in the stead of a target that has left the ring.
    pub redirected: u64,
    /// Too old.
    pub expired: u64,
    /// Never stored.
    pub refused: u64,
    /// Made room for newer ones.
    pub evicted: u64,
    /// Put aside.
    pub dead_lettered: u64,
    /// Damaged or truncated.
    pub lost: u64,
    /// Still owed.
    pub pending: u64,
}

impl HintOutcomes {
    /// How far the accounting identity is off; 0 when every hint is accounted for.
    pub fn unaccounted(&self) -> u64 {
        let ended = self.delivered + self.redirected + self.expired + self.refused + self.evicted;
        (ended + self.dead_lettered + self.lost + self.pending).abs_diff(self.created)
    }

    /// Adds another node's.
    pub fn add(&mut self, other: &HintOutcomes) {
        self.created += other.created;
        self.delivered += other.delivered;
        self.redirected += other.redirected;
        self.expired += other.expired;
        self.refused += other.refused;
        self.evicted += other.evicted;
        self.dead_lettered += other.dead_lettered;
        self.lost += other.lost;
        self.pending += other.pending;
    }
}

/// One node at one sample; absent where the node did not answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSample {
    /// Bytes of its bound in use.
    pub hint_bytes: u64,
    /// Its bound.
    pub hint_bytes_max: u64,
    /// Totals.
    pub outcomes: HintOutcomes,
    /// Pending hints and their bytes by target.
    pub by_target: BTreeMap<NodeIndex, (u64, u64)>,
    /// How far the identity is off for any single target.
    pub unaccounted_by_target: u64,
}

/// All nodes at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// By node.
    pub nodes: Vec<Option<NodeSample>>,
}

/// What one node says of the orders' table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeTable {
    /// Its SSTables.
    pub sstables: u64,
    /// Compactions that wait.
    pub pending_compactions: u64,
    /// Reads so far.
    pub reads: u64,
    /// SSTables of which they opened a block.
    pub sstables_read: u64,
}

/// The orders' table on all nodes at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSample {
    /// When.
    pub at: Duration,
    /// By node; absent where it did not answer.
    pub nodes: Vec<Option<NodeTable>>,
}

/// What replicas really hold, found by reading each one's own data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// When the reading began.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
    /// By node: the orders it holds; absent where the node did not answer.
    pub held: Vec<Option<BTreeSet<OrderId>>>,
}

/// The QUORUM reads at the end, of every acknowledged order that some replica lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// The copies that were lacking and whose replica answered the read.
    pub touched: BTreeSet<(OrderId, NodeIndex)>,
    /// Orders that the read did not return, with what it said.
    pub lost: BTreeMap<OrderId, String>,
    /// What the replicas held afterwards.
    pub after: Option<Comparison>,
}

/// A repair that an operator ran on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// When it began.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
    /// Who coordinated it.
    pub node: NodeIndex,
    /// Only what the node's loss ledger names.
    pub from_ledger: bool,
    /// As the node says: `completed`, `failed`, `cancelled`.
    pub outcome: String,
    /// Token ranges in which replicas differed.
    pub differing: u64,
    /// Copies that replicas sent each other.
    pub partitions_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Why ranges were not repaired: the first of them.
    pub failures: Vec<String>,
}

/// Everything.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By number.
    pub orders: Vec<Order>,
    /// In order of time.
    pub failed_writes: Vec<FailedWrite>,
    /// In order of their end.
    pub reads: Vec<Read>,
    /// In order of time.
    pub hints: Vec<HintEvent>,
    /// By node: when and how an order came first.
    pub applied: Vec<BTreeMap<OrderId, Applied>>,
    /// (when, node, table, SSTables of it), at every change.
    pub sstables: Vec<(Duration, NodeIndex, TableId, usize)>,
    /// (when, node, table) of every flush.
    pub flushes: Vec<(Duration, NodeIndex, TableId)>,
    /// (when, coordinator, replica that was behind).
    pub read_repairs: Vec<(Duration, NodeIndex, Option<NodeIndex>)>,
    /// In order of time.
    pub liveness: Vec<LivenessChange>,
    /// In order of time.
    pub samples: Vec<Sample>,
    /// In order of time; empty unless the scenario asks what only tables can tell.
    pub tables: Vec<TableSample>,
    /// In order of time.
    pub comparisons: Vec<Comparison>,
    /// In order of time.
    pub repairs: Vec<Repair>,
    /// At the end.
    pub audit: Option<Audit>,
    /// Operators' commands that failed, in words.
    pub operator_errors: Vec<String>,
    /// Who is who.
    pub ids: BTreeMap<NodeId, NodeIndex>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_tells_by_how_much_it_is_off() {
        let outcomes = HintOutcomes {
            created: 10,
            delivered: 3,
            refused: 4,
            pending: 3,
            ..Default::default()
        };
        assert_eq!(outcomes.unaccounted(), 0);
        assert_eq!(HintOutcomes { pending: 1, ..outcomes }.unaccounted(), 2);
    }
}
