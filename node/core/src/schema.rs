//! What is stored: keyspaces say how often, tables say of what shape.

use crate::types::{Dc, TimestampMicros};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

/// A table's identity. It outlives no drop: a table that is dropped and created again has another one, so that old
/// data can never surface in the new table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u128);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many copies, and where. RF 0 cannot exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// SimpleStrategy: the next `rf` distinct nodes on the ring, blind to racks and data centres.
    Simple {
        /// Copies in all.
        rf: NonZeroU32,
    },
    /// NetworkTopologyStrategy: so many copies in each named data centre, on distinct racks as far as there are some.
    NetworkTopology {
        /// Copies per data centre.
        per_dc: BTreeMap<Dc, NonZeroU32>,
    },
}

/// A keyspace: a name and its replication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyspaceDef {
    /// Its name.
    pub name: String,
    /// How it is replicated.
    pub replication: Replication,
    /// When it was last altered; the later definition wins when two nodes disagree.
    pub altered: TimestampMicros,
    /// A dropped keyspace stays as a tombstone, so that a late node's old definition cannot bring it back.
    pub dropped: bool,
}

/// Whether a read that finds its replicas in disagreement repairs them before it answers (CASSANDRA-10726, -14534).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadRepair {
    /// The default: the answer waits until a quorum holds it, which makes quorum reads monotonic.
    #[default]
    Blocking,
    /// Reconcile for the reader, repair nothing: partition writes stay atomic, reads may go back in time.
    None,
}

/// A table's options, under Cassandra's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// `read_repair`.
    pub read_repair: ReadRepair,
    /// `gc_grace_seconds`: how long a tombstone is kept for replicas that missed it. Default 864000 (ten days).
    pub gc_grace_seconds: u32,
    /// `default_time_to_live` in seconds; 0 is none.
    pub default_time_to_live: u32,
    /// `bloom_filter_fp_chance`, in parts per million so that options stay comparable. Default 10000 (0.01).
    pub bloom_filter_fp_ppm: u32,
    /// `compression`: lz4 blocks in SSTables. Default on.
    pub compression: bool,
    /// Size-tiered `min_threshold`: fewer similar SSTables than this are left alone. Default 4.
    pub min_threshold: u32,
    /// Size-tiered `max_threshold`: at most so many are compacted at once. Default 32.
    pub max_threshold: u32,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions {
            read_repair: ReadRepair::Blocking,
            gc_grace_seconds: 864_000,
            default_time_to_live: 0,
            bloom_filter_fp_ppm: 10_000,
            compression: true,
            min_threshold: 4,
            max_threshold: 32,
        }
    }
}

/// A table. The key-value table is the case with no clustering key and one column, `value`, with id 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDef {
    /// Its identity.
    pub id: TableId,
    /// The keyspace it lives in.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Its options.
    pub options: TableOptions,
    /// When it was last altered; the later definition wins.
    pub altered: TimestampMicros,
    /// Dropped tables stay as tombstones.
    pub dropped: bool,
}

/// Everything that is defined. Two schemas merge by "the later definition of each name wins", which is commutative,
/// associative and idempotent, so nodes may exchange them in any order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// Keyspaces by name.
    pub keyspaces: BTreeMap<String, KeyspaceDef>,
    /// Tables by (keyspace, name).
    pub tables: BTreeMap<(String, String), TableDef>,
}
