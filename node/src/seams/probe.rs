//! What happened, told to whoever watches: the simulation hashes it into a trace and checks invariants on it, tests
//! assert on it, production listens to nothing. An event is told once, where the decision is made, before anything
//! else happens on the node.

use helenus_core::{Key, NodeId, TableId, TimestampMicros};

/// Why a hint was not stored or did not stay.
pub use helenus_core::hint::Loss as HintLoss;

/// Something a node decided.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A replica merged a mutation into its storage.
    Applied {
        /// The table.
        table: TableId,
        /// The partition.
        key: Key,
        /// The largest timestamp in the mutation.
        timestamp: TimestampMicros,
        /// How it came.
        by: ApplyPath,
    },
    /// A hint was stored.
    HintStored {
        /// Whom it is owed.
        target: NodeId,
        /// The partition.
        key: Key,
        /// Bytes it takes of the bound.
        bytes: u64,
    },
    /// A hint that there was no room for was stored as a dead letter.
    HintDeadLettered {
        /// Whom it is owed.
        target: NodeId,
        /// The partition.
        key: Key,
        /// Bytes it takes of the bound of dead letters.
        bytes: u64,
    },
    /// A hint or a dead letter was not stored, or was removed undelivered.
    HintLost {
        /// Whom it was owed.
        target: NodeId,
        /// The partition.
        key: Key,
        /// Why.
        reason: HintLoss,
    },
    /// A hint or a dead letter was acknowledged by its target.
    HintDelivered {
        /// Whom it was owed.
        target: NodeId,
        /// The partition.
        key: Key,
    },
    /// A hint or a dead letter was taken by others in its target's stead: the target has left the ring, or this node is
    /// leaving it.
    HintRedirected {
        /// Whom it was owed.
        target: NodeId,
        /// The partition.
        key: Key,
    },
    /// The failure detector changed its mind about a peer.
    Liveness {
        /// The peer.
        peer: NodeId,
        /// Alive now?
        alive: bool,
    },
    /// A link was connected, refused or lost.
    Link {
        /// The peer.
        peer: NodeId,
        /// What happened, in one word.
        what: &'static str,
    },
    /// A coordinator sent a read-repair mutation.
    ReadRepaired {
        /// The replica that was behind.
        replica: NodeId,
        /// The partition.
        key: Key,
    },
    /// A memtable became an SSTable.
    Flushed {
        /// The table.
        table: TableId,
        /// SSTables of that table now.
        sstables: usize,
    },
    /// A compaction ended.
    Compacted {
        /// The table.
        table: TableId,
        /// SSTables that went in.
        inputs: usize,
        /// SSTables of that table now.
        sstables: usize,
    },
    /// A request was answered to a client.
    Answered {
        /// What was asked: `write`, `read`, `scan`.
        op: &'static str,
        /// How it ended: `ok`, `unavailable`, `timeout`, `failure`, `error`.
        outcome: &'static str,
    },
}

/// How a mutation reached a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApplyPath {
    /// As a write.
    Write,
    /// As a replayed hint.
    Hint,
    /// As a read repair.
    ReadRepair,
    /// Streamed by a repair.
    Repair,
    /// From the commit log, at start.
    Replay,
}

/// Listens to a node.
pub trait Probe: Send + Sync {
    /// Called on the node's thread (or a background lane's), in order, before the node goes on. Must not block.
    fn event(&self, event: &Event);
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Probe for Silent {
    fn event(&self, _: &Event) {}
}
