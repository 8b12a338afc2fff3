//! The batchlog: how a logged batch of several partitions is written whole or not at all.
//!
//! Before any of a batch's mutations is sent, all of them together are written down on other nodes, the batch's *keepers*
//! ([`keepers`]). When every mutation has reached the client's level, the keepers are told to forget them. A keeper that is
//! not told in time ([`due_at`]) finishes the batch itself, whatever became of its coordinator. Mutations bring their own
//! timestamps, so one that is applied twice changes nothing, and several keepers may finish the same batch.
//!
//! Whole, not isolated: a reader may see one partition of a batch before another.
//!
//! ```text
//! id    | timeuuid, 16 bytes: when the batch was written, and by whom |
//! batch | version u8 = 1 | count varint | then each mutation: |
//!       | table, 16 bytes | bytes key | bytes update |
//! bytes | length varint | so many bytes |
//! ```
//!
//! CAVEAT: `gc_grace_seconds` bounds how late a batch may be finished ([`is_expired`]): later, a deletion that is newer than
//! it may have been forgotten, and what was deleted would return.
//!
//! Source: Cassandra 4.1's `BatchlogManager`, `StorageProxy.mutateAtomically`, `ReplicaPlans.forBatchlogWrite`.

use crate::cql::uuid;
use crate::data::Key;
use crate::level::{Level, Unavailable};
use crate::schema::TableId;
use crate::types::{Endpoint, GcSeconds, NodeId, Rack, TimestampMicros};
use crate::varint;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// As many nodes keep a batch.
pub const KEEPERS: usize = 2;
/// The format that is written. The only one there has been.
const VERSION: u8 = 1;

/// What a batch is known by: a timeuuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId([u8; 16]);

impl BatchId {
    /// Of a batch that is written now. `clock_seq` and `node` are the coordinator's, drawn once in each of its lives;
    /// `written` is never given twice.
    ///
    /// `None`: the clock is before 1582 or after 5236.
    pub fn new(written: TimestampMicros, clock_seq: u16, node: [u8; 6]) -> Option<BatchId> {
        uuid::from_time(written.0.checked_mul(10)?, clock_seq, node).map(BatchId)
    }

    /// As it travels. `None`: these bytes are no timeuuid.
    pub fn from_bytes(bytes: &[u8]) -> Option<BatchId> {
        let bytes: [u8; 16] = bytes.try_into().ok()?;
        uuid::unix_100ns(bytes).map(|_| BatchId(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// When the batch was written, by its coordinator's clock.
    pub fn written(self) -> TimestampMicros {
        TimestampMicros(uuid::unix_100ns(self.0).unwrap_or(0).div_euclid(10))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&uuid::format(self.0))
    }
}

/// One mutation of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The table.
    pub table: TableId,
    /// The partition key.
    pub key: Key,
    /// What is merged in, in its canonical encoding (`codec`).
    pub update: Bytes,
}

/// These bytes are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// They end early, or say more than is there.
    #[error("the batch ends early")]
    Short,
    /// Something is behind the last mutation.
    #[error("{0} bytes are behind the batch's last mutation")]
    Trailing(usize),
    /// A later build wrote them.
    #[error("the batch is in format {0}, and this build reads format {VERSION}")]
    Version(u8),
}

/// A batch's bytes.
pub fn encode(batch: &[Logged]) -> Bytes {
    let size = |it: &Logged| 16 + 10 + it.key.0.len() + it.update.len();
    let mut out = BytesMut::with_capacity(11 + batch.iter().map(size).sum::<usize>());
    out.put_u8(VERSION);
    varint::put(&mut out, batch.len() as u64);
    for mutation in batch {
        out.put_u128(mutation.table.0);
        for bytes in [&mutation.key.0, &mutation.update] {
            varint::put(&mut out, bytes.len() as u64);
            out.put_slice(bytes);
        }
    }
    out.freeze()
}

/// What [`encode`] was given. Keys and updates are slices of `bytes`. Whether an update is sound is not looked at.
///
/// # Errors
/// These bytes are no batch.
pub fn decode(bytes: &Bytes) -> Result<Vec<Logged>, BatchError> {
    let mut rest: &[u8] = bytes;
    match take(&mut rest, 1)? {
        [VERSION] => {}
        other => return Err(BatchError::Version(other.first().copied().unwrap_or(0))),
    }
    let count = varint::take(&mut rest).ok_or(BatchError::Short)?;
    // Each mutation takes 18 bytes at the least: what is reserved is in proportion to what came.
    let possible = rest.len() / 18;
    let mut batch = Vec::with_capacity(usize::try_from(count).unwrap_or(possible).min(possible));
    for _ in 0..count {
        let table = take(&mut rest, 16)?.try_into().map_err(|_| BatchError::Short)?;
        let key = bytes.slice_ref(take_bytes(&mut rest)?);
        let update = bytes.slice_ref(take_bytes(&mut rest)?);
        batch.push(Logged { table: TableId(u128::from_be_bytes(table)), key: Key(key), update });
    }
    if rest.is_empty() { Ok(batch) } else { Err(BatchError::Trailing(rest.len())) }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], BatchError> {
    let (taken, behind) = rest.split_at_checked(len).ok_or(BatchError::Short)?;
    *rest = behind;
    Ok(taken)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BatchError> {
    let len = varint::take(rest).ok_or(BatchError::Short)?;
    take(rest, usize::try_from(len).map_err(|_| BatchError::Short)?)
}

/// Who keeps a batch that `own` coordinates: two other nodes of its data centre that are alive, in two racks other than
/// its own if there are two, in its own rack only as far as there are not enough elsewhere; one, if only one other is alive.
/// The coordinator itself, if it is alone in its data centre; at ANY also if nobody else is alive there. Never nobody.
///
/// `draw(n)` gives a number below `n`: which of those that are as good as each other.
///
/// # Errors
/// Nobody else is alive there. The level is what the batchlog needs, not what the client asked for, as in Cassandra.
pub fn keepers(
    own: &Endpoint,
    members: &[Endpoint],
    level: Level,
    alive: impl Fn(NodeId) -> bool,
    mut draw: impl FnMut(usize) -> usize,
) -> Result<Vec<NodeId>, Unavailable> {
    let others = || members.iter().filter(|it| it.dc == own.dc && it.node != own.node);
    let mut racks: BTreeMap<&Rack, Vec<NodeId>> = BTreeMap::new();
    for other in others().filter(|other| alive(other.node)) {
        racks.entry(&other.rack).or_default().push(other.node);
    }
    let live: usize = racks.values().map(Vec::len).sum();
    if live == 0 {
        if level == Level::Any || others().next().is_none() {
            return Ok(vec![own.node]);
        }
        return Err(Unavailable {
            level: Level::Two,
            required: KEEPERS,
            alive: 0,
            dc: Some(own.dc.clone()),
        });
    }
    let beside = racks.get(&own.rack).map_or(0, Vec::len);
    if live - beside >= KEEPERS {
        racks.remove(&own.rack);
    }
    let mut racks: Vec<Vec<NodeId>> = racks.into_values().collect();
    let mut chosen = Vec::with_capacity(KEEPERS);
    while chosen.len() < KEEPERS && !racks.is_empty() {
        // One rack after another, so that two keepers share one only if there is no other.
        let mut rack = racks.swap_remove(draw(racks.len()) % racks.len());
        chosen.push(rack.swap_remove(draw(rack.len()) % rack.len()));
        if racks.is_empty() && !rack.is_empty() {
            racks.push(rack);
        }
    }
    Ok(chosen)
}

/// When a keeper finishes a batch that it has kept since `since`, if it was not told to forget it: the coordinator has given
/// up by then, with room to spare. By the keeper's own monotonic clock, so clocks that differ do no harm.
pub fn due_at(since: Duration, write_request_timeout: Duration) -> Duration {
    since.saturating_add(write_request_timeout.saturating_mul(2))
}

/// Whether it is too late to finish a batch. `gc_grace_s` is the smallest of its tables.
pub fn is_expired(written: TimestampMicros, gc_grace_s: u32, now: GcSeconds) -> bool {
    let written_s = u64::try_from(written.0.max(0) / 1_000_000).unwrap_or(0);
    written_s.saturating_add(u64::from(gc_grace_s)) <= u64::from(now.0)
}

#[cfg(test)]
mod tests;
