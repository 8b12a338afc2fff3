//! Counters: a column's value is the sum of its shards, and a shard is written by one life of one node alone.
//!
//! ```text
//! what a client sends:   the column's elements are increments, each under a path of its own
//! what is kept:          the column's elements are shards
//!   path  | host id u128 | generation u64 |        who counted
//!   value | i64 |                                  all that it has counted
//!   timestamp: when it did last, later at each step
//! ```
//!
//! An increment goes to one replica, the **leader** of this write. It adds the increment to its own shard ([`count`])
//! and replicates the new *total* as any other write: totals may be lost, repeated and merged in any order, and nothing
//! is counted twice, because of two totals of one shard the later one wins and says all. Several replicas may lead writes
//! of one counter at once; each writes its own shard. This is Cassandra's design since 2.1 (CASSANDRA-6504).
//!
//! A shard belongs to a *life* of a node (its generation), not to the node. A node whose disk lost the last seconds before
//! a power cut, or was restored from a backup, begins a new shard and leaves alone what other replicas know of the old one;
//! Cassandra's would go on from the lower total and overwrite them. The price is a shard for each start between which
//! the counter was written, [`PATH_BYTES`] and eight more each.
//!
//! **This goes to disk: it never changes.**
//!
//! CAVEAT: an increment is not idempotent. Who repeats one that went unanswered may have counted twice.
//!
//! CAVEAT: a deletion covers the shards that are older, by their leaders' clocks. An increment that is led by a replica
//! which has not heard of the deletion yet says the total from before it, so a counter must not be used again after it was
//! deleted (as in Cassandra).

use crate::data::{Cell, Complex, Content, Partition, Row};
use crate::merge::{self, value_at};
use crate::types::{GcSeconds, Generation, NodeId, TimestampMicros};
use bytes::Bytes;
use std::mem::size_of;
use thiserror::Error;

/// How long the path of a shard is.
pub const PATH_BYTES: usize = size_of::<u128>() + size_of::<u64>();

/// Why elements are no counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CounterError {
    /// An element that is no number.
    #[error("a part of a counter has {bytes} bytes, and all have eight")]
    NotANumber {
        /// How many it has.
        bytes: usize,
    },
    /// An increment that would be taken for somebody's total.
    #[error("an increment of a counter is named like a shard, and only its leader writes that")]
    NamedLikeAShard,
}

/// Who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// The leader.
    pub node: NodeId,
    /// In which of its lives.
    pub generation: Generation,
}

impl Shard {
    /// Its path in the column.
    pub fn path(self) -> Bytes {
        let mut path = Vec::with_capacity(PATH_BYTES);
        path.extend_from_slice(&self.node.0.to_be_bytes());
        path.extend_from_slice(&self.generation.0.to_be_bytes());
        Bytes::from(path)
    }
}

fn number(value: &[u8]) -> Result<i64, CounterError> {
    let bytes = value.try_into().map_err(|_| CounterError::NotANumber { bytes: value.len() })?;
    Ok(i64::from_be_bytes(bytes))
}

/// What the elements that live at `now` come to; `None`: there are none. A sum beyond 64 bits wraps around, as in Cassandra.
///
/// # Errors
/// An element that is no number: what is stored is damaged.
pub fn total(complex: &Complex, now: GcSeconds) -> Result<Option<i64>, CounterError> {
    let mut total = None;
    for (_, cell) in &complex.elements {
        if let Some(value) = value_at(cell, now) {
            let sum: i64 = total.unwrap_or_default();
            total = Some(sum.wrapping_add(number(value)?));
        }
    }
    Ok(total)
}

/// Whether there is anything to count in an update, or only deletions.
pub fn has_increments(update: &Partition) -> bool {
    merge::rows(update)
        .any(|row| row.complex.iter().any(|(_, complex)| !complex.elements.is_empty()))
}

/// When a leader counts that holds `held`, if its clock says `now`: later than all it knows of the partition, so that its
/// shard is newer than it was, and than any deletion.
pub fn next_timestamp(held: &Partition, now: TimestampMicros) -> TimestampMicros {
    let known = merge::version(held).map_or(i64::MIN, |version| version.0.saturating_add(1));
    TimestampMicros(now.0.max(known))
}

/// Makes of the increments of an update the new totals of the leader's shard. `held` is what the leader holds of the
/// partition, and `at` its [`next_timestamp`]. Nothing else may change what is held until the result is merged into it.
///
/// # Errors
/// An increment that is none: the update comes from somebody who does not keep to what is said above.
pub fn count(
    update: &mut Partition,
    held: &Partition,
    shard: Shard,
    at: TimestampMicros,
) -> Result<(), CounterError> {
    let path = shard.path();
    let leader = Leader { path: &path, at };
    if let Some(row) = &mut update.static_row {
        leader.count(row, held.static_row.as_ref())?;
    }
    for (key, row) in &mut update.rows {
        leader.count(row, merge::find(&held.rows, key))?;
    }
    Ok(())
}

/// Whose shard is written, and when.
struct Leader<'a> {
    path: &'a Bytes,
    at: TimestampMicros,
}

impl Leader<'_> {
    fn count(&self, row: &mut Row, held: Option<&Row>) -> Result<(), CounterError> {
        for (column, complex) in &mut row.complex {
            if complex.elements.is_empty() {
                continue;
            }
            let mut total = self.counted(held.and_then(|row| row.complex(*column)))?;
            for (path, cell) in &complex.elements {
                if path.len() == PATH_BYTES {
                    return Err(CounterError::NamedLikeAShard);
                }
                // An increment has no TTL; a deletion of one is none.
                if let Content::Value { value, .. } = &cell.content {
                    total = total.wrapping_add(number(value)?);
                }
            }
            let value = Bytes::copy_from_slice(&total.to_be_bytes());
            let content = Content::Value { value, expiry: None };
            complex.elements = vec![(self.path.clone(), Cell { timestamp: self.at, content })];
        }
        Ok(())
    }

    /// What the leader's shard has come to.
    fn counted(&self, held: Option<&Complex>) -> Result<i64, CounterError> {
        let Some(held) = held else { return Ok(0) };
        match merge::find(&held.elements, self.path) {
            Some(Cell { content: Content::Value { value, .. }, .. }) => number(value),
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests;
