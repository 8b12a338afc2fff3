//! Which part of a partition a read is about, and how parts that ended at different places become one answer.
//!
//! A partition may hold far more than anybody wants at a time. So a read says what it wants ([`RowFilter`]): slices of
//! clustering keys, a direction, and when to stop. A replica answers with a [`Part`], which says where it stopped: `next`.
//!
//! ```text
//! forward    slices  [----)     [--------------)          reversed  the same, read from the right:
//!            a part  ######     #####|next                a part          |next######
//! ```
//!
//! **A part speaks for the keys before its `next`, and for no others.** A replica that stopped after its tenth live row has
//! not said that it lacks the eleventh. So [`reconcile()`] cuts all answers to where the shortest ends: what is merged,
//! digested and repaired is known to all of them. That may leave fewer live rows than were asked for (one replica's ten were
//! deleted on the others): whoever asked goes on from `next`. That is short-read protection (CASSANDRA-8933), for replicas
//! that end early for whatever reason.
//!
//! Invariants:
//! - cutting commutes with merging: what a slice of the merge says is the merge of the slices ([`clip`]). So engines cut
//!   what each of their sources holds, and never build the whole;
//! - every part says what deletes its rows: the partition's deletion, and the range tombstones inside the slices;
//! - a part speaks for at least one key that its request wants, so going on comes to an end.
//!
//! [`select`] is the reference: engines must answer as it does.

#[cfg(test)]
mod tests;

use crate::codec;
use crate::data::{Bound, ClusteringKey, Deletion, Partition, RangeTombstone, Row};
use crate::merge;
use crate::reconcile;
use crate::types::{GcSeconds, NodeId, TimestampMicros};
use bytes::{BufMut, BytesMut};

/// The rows between two cuts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The first key that is in; the empty one comes before all.
    pub start: ClusteringKey,
    /// The first key that is not in any more; `None`: all to the end are in.
    pub end: Option<ClusteringKey>,
}

impl Slice {
    /// All rows.
    pub fn all() -> Slice {
        Slice { start: ClusteringKey::default(), end: None }
    }

    /// Whether it has every row.
    pub fn is_all(&self) -> bool {
        self.start.0.is_empty() && self.end.is_none()
    }

    /// Whether the row of this key is in it.
    pub fn contains(&self, key: &ClusteringKey) -> bool {
        self.start <= *key && self.is_before_end(key)
    }

    pub(crate) fn is_before_end(&self, key: &ClusteringKey) -> bool {
        self.end.as_ref().is_none_or(|end| key < end)
    }

    /// Its ends as storage has them.
    pub fn bounds(&self) -> (Bound, Bound) {
        let start = match self.start.0.is_empty() {
            true => Bound::Open,
            false => Bound::Included(self.start.clone()),
        };
        (start, self.end.clone().map_or(Bound::Open, Bound::Excluded))
    }

    /// Its places that are in `other` too; `None`: none.
    pub fn within(&self, other: &Slice) -> Option<Slice> {
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.min(b).clone()),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let both = Slice { start: self.start.clone().max(other.start.clone()), end };
        both.is_before_end(&both.start).then_some(both)
    }
}

/// The cut behind a row: the first key that sorts after its own.
pub fn behind(key: &ClusteringKey) -> ClusteringKey {
    let mut next = BytesMut::with_capacity(key.0.len() + 1);
    next.put_slice(&key.0);
    next.put_u8(0);
    ClusteringKey(next.freeze())
}

/// What a read wants of a partition. Its deletion is always wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFilter {
    /// The rows. Invariant: sorted, disjoint, none empty.
    pub slices: Vec<Slice>,
    /// From the last row to the first.
    pub reversed: bool,
    /// Whether the static row is wanted.
    pub static_row: bool,
    /// It ends with so many live rows. 0 is taken for 1.
    pub rows: u32,
    /// It ends when so many bytes have been gathered; the row that goes over it is still in it. Four times as much is looked
    /// at, if it is of no use to a reader.
    pub bytes: u32,
}

/// What is of no use to a reader, in parts of the answer.
const IDLE_SHARE: usize = 4;

impl RowFilter {
    /// What of it lies behind a cut, in the direction of reading.
    pub fn rest(&self, next: &ClusteringKey) -> Vec<Slice> {
        let rest = if self.reversed {
            Slice { start: ClusteringKey::default(), end: Some(next.clone()) }
        } else {
            Slice { start: next.clone(), end: None }
        };
        self.slices.iter().filter_map(|slice| slice.within(&rest)).collect()
    }

    /// What of it a part speaks for that ends there.
    fn covered(&self, next: Option<&ClusteringKey>) -> Vec<Slice> {
        let Some(next) = next else { return self.slices.clone() };
        let covered = if self.reversed {
            Slice { start: next.clone(), end: None }
        } else {
            Slice { start: ClusteringKey::default(), end: Some(next.clone()) }
        };
        self.slices.iter().filter_map(|slice| slice.within(&covered)).collect()
    }

    /// The cut behind a row, in the direction of reading.
    fn behind(&self, key: &ClusteringKey) -> ClusteringKey {
        if self.reversed { key.clone() } else { behind(key) }
    }

    /// Of two places to stop the one that is reached first; `None` is the end of the slices.
    fn nearer(&self, a: Option<ClusteringKey>, b: Option<ClusteringKey>) -> Option<ClusteringKey> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if self.reversed { a.max(b) } else { a.min(b) }),
            (a, b) => a.or(b),
        }
    }
}

/// What is known of a partition, as far as a read came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// What is in the slices up to `next`. Nothing else, and all of that.
    pub partition: Partition,
    /// Where to go on; `None`: this was all.
    pub next: Option<ClusteringKey>,
}

impl Part {
    /// About what it takes in an answer.
    pub fn bytes(&self) -> usize {
        let Partition { static_row, ranges, rows, .. } = &self.partition;
        let rows = rows.iter().map(|(key, row)| row_bytes(key, row));
        let static_row = static_row.as_ref().map_or(0, merge::row_bytes);
        ranges.len() * RANGE_BYTES + static_row + rows.sum::<usize>()
    }
}

/// What a partition says of the rows in `slices` (sorted, disjoint).
pub fn clip(partition: &Partition, slices: &[Slice], static_row: bool) -> Partition {
    let rows = &partition.rows;
    let of_slice = |slice: &Slice| {
        let from = rows.partition_point(|(key, _)| *key < slice.start);
        let until = rows.partition_point(|(key, _)| slice.is_before_end(key));
        rows.get(from..until).unwrap_or_default()
    };
    Partition {
        deletion: partition.deletion,
        static_row: partition.static_row.clone().filter(|_| static_row),
        ranges: clip_ranges(&partition.ranges, slices),
        rows: slices.iter().flat_map(of_slice).cloned().collect(),
    }
}

/// [`clip`] of one that nobody needs whole any more.
fn clip_owned(mut partition: Partition, slices: &[Slice], static_row: bool) -> Partition {
    if !static_row {
        partition.static_row = None;
    }
    if matches!(slices, [slice] if slice.is_all()) {
        return partition;
    }
    partition.ranges = clip_ranges(&partition.ranges, slices);
    let mut left = slices.iter().peekable();
    partition.rows.retain(|(key, _)| {
        while left.next_if(|slice| !slice.is_before_end(key)).is_some() {}
        left.peek().is_some_and(|slice| slice.start <= *key)
    });
    partition
}

fn clip_ranges(ranges: &[RangeTombstone], slices: &[Slice]) -> Vec<RangeTombstone> {
    if ranges.is_empty() {
        return Vec::new();
    }
    let place = |slice: &Slice| {
        let (start, end) = slice.bounds();
        let deletion = Deletion { timestamp: TimestampMicros(0), deleted_at: GcSeconds(0) };
        RangeTombstone { start, end, deletion }
    };
    merge::ranges_within(ranges, &slices.iter().map(place).collect::<Vec<_>>())
}

/// As of when a partition is read: what has expired, and what was deleted longer ago than gc_grace, no reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The replica's wall clock.
    pub now: GcSeconds,
    /// The table's `gc_grace_seconds`.
    pub gc_grace_seconds: u32,
}

/// Puts a part together of windows that an engine reads one after the other, and says when it has enough.
#[derive(Debug)]
pub struct Gather<'f> {
    filter: &'f RowFilter,
    as_of: AsOf,
    /// In the direction of reading.
    windows: Vec<Partition>,
    next: Option<ClusteringKey>,
    live: usize,
    bytes: usize,
    seen: usize,
}

impl<'f> Gather<'f> {
    /// Nothing yet.
    pub fn new(filter: &'f RowFilter, as_of: AsOf) -> Gather<'f> {
        Gather { filter, as_of, windows: Vec::new(), next: None, live: 0, bytes: 0, seen: 0 }
    }

    /// Takes what is known of the next window, merged and clipped; `end`: the cut at which it ends, `None` if it is the
    /// last. True: that is enough.
    pub fn add(&mut self, window: Partition, end: Option<&ClusteringKey>) -> bool {
        self.seen += window.rows.iter().map(|(key, row)| row_bytes(key, row)).sum::<usize>();
        self.seen += window.ranges.len() * RANGE_BYTES;
        let AsOf { now, gc_grace_seconds } = self.as_of;
        let mut window = merge::for_read(window, now, gc_grace_seconds).unwrap_or_default();
        if let Some(at) = self.last_row(&window) {
            let cut = self.filter.behind(&at);
            if !self.filter.rest(&cut).is_empty() {
                window = clip_owned(window, &self.filter.covered(Some(&cut)), true);
                self.next = Some(cut);
            }
            self.windows.push(window);
            return true;
        }
        self.bytes += window.ranges.len() * RANGE_BYTES;
        self.windows.push(window);
        let bytes = usize::try_from(self.filter.bytes).unwrap_or(usize::MAX);
        let is_enough = self.bytes >= bytes || self.seen >= bytes.saturating_mul(IDLE_SHARE);
        match end {
            Some(end) if is_enough => {
                self.next = Some(end.clone()).filter(|end| !self.filter.rest(end).is_empty());
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    /// The row with which there is enough, if it is in this window.
    fn last_row(&mut self, window: &Partition) -> Option<ClusteringKey> {
        // No row, dead or alive, is the last before one was counted.
        let rows = usize::try_from(self.filter.rows).unwrap_or(usize::MAX).max(1);
        let bytes = usize::try_from(self.filter.bytes).unwrap_or(usize::MAX);
        let mut count = |(key, row): &(ClusteringKey, Row)| {
            self.live += usize::from(merge::row_is_live(row, self.as_of.now));
            self.bytes += row_bytes(key, row);
            (self.live >= rows || self.bytes >= bytes).then(|| key.clone())
        };
        // Live rows are counted, so a dead one is never the last by their number.
        if self.filter.reversed {
            window.rows.iter().rev().find_map(&mut count)
        } else {
            window.rows.iter().find_map(&mut count)
        }
    }

    /// What was gathered.
    pub fn finish(mut self) -> Part {
        if self.filter.reversed {
            self.windows.reverse();
        }
        Part { partition: concat(self.windows), next: self.next }
    }
}

/// Puts parts of one partition that follow each other together; the later static row counts.
pub fn concat(parts: Vec<Partition>) -> Partition {
    let is_cut = parts.len() > 1;
    let mut parts = parts.into_iter();
    let mut whole = parts.next().unwrap_or_default();
    for part in parts {
        whole.deletion = whole.deletion.max(part.deletion);
        whole.static_row = part.static_row.or(whole.static_row);
        whole.ranges.extend(part.ranges);
        whole.rows.extend(part.rows);
    }
    // Range tombstones that were cut between two of them are one again.
    if is_cut {
        merge::normalise(&mut whole);
    }
    whole
}

/// What a range tombstone takes: about.
const RANGE_BYTES: usize = 48;

fn row_bytes(key: &ClusteringKey, row: &Row) -> usize {
    key.0.len() + merge::row_bytes(row)
}

/// What a read of a partition gives, as a reader may see it.
pub fn select(partition: Partition, filter: &RowFilter, as_of: AsOf) -> Part {
    let mut gather = Gather::new(filter, as_of);
    gather.add(clip_owned(partition, &filter.slices, filter.static_row), None);
    gather.finish()
}

/// What two replicas compare: whether they hold the same, as far as the same place.
pub fn digest(encoded: &[u8], next: Option<&ClusteringKey>) -> [u8; 16] {
    let of_partition = codec::digest_encoded(encoded);
    match next {
        None => of_partition,
        Some(next) => codec::digest_encoded(&[&of_partition[..], &next.0].concat()),
    }
}

/// What the replicas hold together, as far as all of them came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// The merge. It may have more live rows than were asked for, and fewer.
    pub winner: Part,
    /// Who is behind, and exactly what it lacks of this.
    pub stale: Vec<(NodeId, Partition)>,
}

/// Reconciles the parts that replicas answered with. One that sent more than it was asked for (an older one sends the whole
/// partition) is taken at its word about what was.
pub fn reconcile(filter: &RowFilter, answers: Vec<(NodeId, Part)>) -> Reconciled {
    let next =
        answers.iter().fold(None, |nearest, (_, part)| filter.nearer(nearest, part.next.clone()));
    let covered = filter.covered(next.as_ref());
    let answers = answers
        .into_iter()
        .map(|(node, part)| (node, Some(clip_owned(part.partition, &covered, filter.static_row))));
    let reconcile::Reconciled { winner, stale } = reconcile::reconcile(answers.collect());
    Reconciled { winner: Part { partition: winner, next }, stale }
}

/// A part that one replica answered with, if it says no more than it was asked for; an older replica's is cut.
pub fn only_asked_for(filter: &RowFilter, part: Part) -> Part {
    let covered = filter.covered(part.next.as_ref());
    Part { partition: clip_owned(part.partition, &covered, filter.static_row), next: part.next }
}
