//! The data model: partition -> rows -> cells, each with its version; a cell may have a place within its column.
//!
//! A [`Partition`] is both what is stored and what is written: a write is a small partition that is merged into the
//! larger one. Merging (`merge`) is the join of a lattice, so replicas, memtables, SSTables, hints, read repair and
//! compaction may merge in any order and as often as they like.
//!
//! CAVEAT: clocks settle conflicts. The higher timestamp wins whatever happened first (Dynamo §4.4 kept both; we, like
//! Cassandra, do not).

use crate::schema::TableId;
use crate::types::{GcSeconds, TimestampMicros};
use bytes::Bytes;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// A partition key's bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Bytes);

/// A clustering key in byte-comparable form: rows sort by these bytes. Empty in a key-value table.
#[derive(Debug, Clone, Default)]
pub struct ClusteringKey(pub Bytes);

// Comparing is spelled out for the sake of the empty key, which is compared at every key-value write: an empty `Bytes`
// points nowhere, and glibc's `memcmp` for AVX-512 looks there under a mask, which was measured to cost over 100 ns.
impl Ord for ClusteringKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.0.is_empty() || other.0.is_empty() {
            return self.0.len().cmp(&other.0.len());
        }
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for ClusteringKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ClusteringKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && (self.0.is_empty() || self.0 == other.0)
    }
}

impl Eq for ClusteringKey {}

impl Hash for ClusteringKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A column's number within its table; never used again after the column is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub u32);

impl ColumnId {
    /// The one column of a key-value table.
    pub const VALUE: ColumnId = ColumnId(0);
}

/// When a value with a TTL stops being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry {
    /// The TTL it was written with, in seconds; never 0.
    pub ttl_s: u32,
    /// From this second on it reads as a tombstone.
    pub expires_at: GcSeconds,
}

/// What a cell holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A value, perhaps with an end.
    Value {
        /// The bytes.
        value: Bytes,
        /// Its TTL, if it has one.
        expiry: Option<Expiry>,
    },
    /// A deletion of this cell. Kept until `deleted_at + gc_grace_seconds`.
    Tombstone {
        /// When it was deleted, for `gc_grace` only: the timestamp decides who wins.
        deleted_at: GcSeconds,
    },
}

/// One column's value in one row, with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its version.
    pub timestamp: TimestampMicros,
    /// What it holds.
    pub content: Content,
}

/// A deletion of all that is older or as old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deletion {
    /// It covers whatever has this timestamp or a lower one.
    pub timestamp: TimestampMicros,
    /// When it happened, for `gc_grace` only.
    pub deleted_at: GcSeconds,
}

/// That a row exists even if all its cells are null (CQL's primary key liveness, from INSERT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Liveness {
    /// Its version.
    pub timestamp: TimestampMicros,
    /// Its TTL, if it has one.
    pub expiry: Option<Expiry>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// Set by an INSERT, not by an UPDATE.
    pub liveness: Option<Liveness>,
    /// A deletion of the whole row.
    pub deletion: Option<Deletion>,
    /// Invariant: sorted by column, unique.
    pub cells: Vec<(ColumnId, Cell)>,
    /// The columns that are more than one cell. Invariant: sorted by column, unique, none of them empty.
    pub complex: Vec<(ColumnId, Complex)>,
}

impl Row {
    /// What is known of a column that is more than one cell.
    pub fn complex(&self, column: ColumnId) -> Option<&Complex> {
        let at = self.complex.binary_search_by(|(id, _)| id.cmp(&column)).ok()?;
        self.complex.get(at).map(|(_, complex)| complex)
    }
}

/// A column whose elements are written one by one (Cassandra's complex column): a collection or a user-defined type that
/// is not frozen, or a counter. Two clients that add to one set at the same time each write their own cells, so neither
/// undoes the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Complex {
    /// A deletion of all elements there were: what writing the column as a whole begins with.
    pub deletion: Option<Deletion>,
    /// Each under its path, whose meaning is the type's: a set's element, a map's key, a list's place, a field's place
    /// (see `cql::elements` and ADR 12), a counter's shard (see [`counter`](crate::counter)).
    /// Invariant: sorted by path, unique, none covered by `deletion`.
    pub elements: Vec<(Bytes, Cell)>,
}

impl Complex {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.deletion.is_none() && self.elements.is_empty()
    }
}

/// An end of a range of clustering keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bound {
    /// Before the first row or after the last, depending on which end this is.
    Open,
    /// With the row of this key.
    Included(ClusteringKey),
    /// Without it.
    Excluded(ClusteringKey),
}

/// A deletion of every row between two clustering keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeTombstone {
    /// Where it begins.
    pub start: Bound,
    /// Where it ends.
    pub end: Bound,
    /// What it covers there.
    pub deletion: Deletion,
}

/// All that is known of one partition key, or the part of it that one write changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partition {
    /// A deletion of the whole partition.
    pub deletion: Option<Deletion>,
    /// The static row (CQL static columns), if it has one.
    pub static_row: Option<Row>,
    /// Invariant: normalised (sorted by start, disjoint, none covered by `deletion`): equal sets are equal vectors.
    pub ranges: Vec<RangeTombstone>,
    /// Invariant: sorted by clustering key, unique.
    pub rows: Vec<(ClusteringKey, Row)>,
}

/// A write to one partition of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The table.
    pub table: TableId,
    /// The partition key.
    pub key: Key,
    /// What to merge in.
    pub update: Partition,
}

impl Partition {
    /// A key-value write.
    pub fn put(timestamp: TimestampMicros, value: Bytes, expiry: Option<Expiry>) -> Partition {
        let cell = Cell { timestamp, content: Content::Value { value, expiry } };
        let row = Row {
            liveness: Some(Liveness { timestamp, expiry }),
            deletion: None,
            cells: vec![(ColumnId::VALUE, cell)],
            complex: Vec::new(),
        };
        Partition { rows: vec![(ClusteringKey::default(), row)], ..Partition::default() }
    }

    /// A key-value delete: a partition tombstone.
    pub fn delete(timestamp: TimestampMicros, deleted_at: GcSeconds) -> Partition {
        Partition { deletion: Some(Deletion { timestamp, deleted_at }), ..Partition::default() }
    }
}
