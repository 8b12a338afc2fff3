//! The one merge function: the join of the lattice of versions.
//!
//! Replicas, memtables, SSTables, hints, read repair and compaction all merge with [`merge`]. It is commutative,
//! associative and idempotent, so what they hold depends on the *set* of writes that reached them and on nothing else:
//! not on order, not on how often a write came, not on which of them merged it first.
//!
//! **Who wins** between two versions of a cell is [`compare`]'s total order, Cassandra's (CASSANDRA-14592):
//!
//! | first that differs | wins |
//! |---|---|
//! | timestamp | the higher |
//! | kind | a tombstone beats a value with a TTL, which beats one without: the answer must not depend on whether a TTL has run out yet |
//! | seconds | the later deletion; the later expiry |
//! | value | the greater bytes |
//! | TTL | the longer (only to make the order total) |
//!
//! A deletion of a row, a range or a partition covers all that is as old as itself or older, and so does that of a
//! complex column's elements.
//!
//! **Normal form.** Equal sets of writes must give *equal* partitions, because that is what digests compare. So merging
//! drops whatever a deletion covers, including smaller deletions; keeps range tombstones sorted, disjoint and never
//! split without need; and keeps no row that says nothing. Every [`Partition`] in this crate is in normal form; one that
//! was built by hand becomes so with [`normalise`]. Dropping early is safe because deletions only grow: what one covers
//! today, its successor covers tomorrow.
//!
//! CAVEAT: the order compares bytes when clocks tie, so of two columns written by two writers in the same microsecond
//! one may come from each (CASSANDRA-6123). That is the price of not coordinating, here as there.

#[cfg(test)]
pub(crate) mod arbitrary;
mod ranges;
#[cfg(test)]
mod tests;
mod views;

pub use ranges::covering;
pub(crate) use ranges::within as ranges_within;
pub(crate) use views::rows;
pub use views::{
    Statistics, expire, for_read, is_live, live_value, purge, row_bytes, row_is_live,
    row_is_live_in, tombstones, value_at, value_bytes, version,
};

use crate::data::{
    Cell, ClusteringKey, ColumnId, Complex, Content, Deletion, Liveness, Partition, RangeTombstone,
    Row,
};
use crate::types::TimestampMicros;
use std::cmp::Ordering;

/// Merges `other` into `into`. Both are in normal form, and so is the result.
pub fn merge(into: &mut Partition, other: Partition) {
    if is_empty(into) {
        *into = other;
        return;
    }
    // The key-value write path: one of the two puts wins whole.
    match (put_timestamp(into), put_timestamp(&other)) {
        (Some((key, held)), Some((k, new))) if key == k && held != new => {
            if held < new {
                *into = other;
            }
            return;
        }
        _ => {}
    }
    let Partition { deletion, static_row, ranges, rows } = other;
    if deletion.is_some() || !ranges.is_empty() {
        into.deletion = into.deletion.max(deletion);
        if !ranges.is_empty() {
            into.ranges = ranges::join(&into.ranges, &ranges);
        }
        drop_covered(into);
    }
    if let Some(mut row) = static_row
        && keep_above(&mut row, timestamp_of(into.deletion))
    {
        match &mut into.static_row {
            Some(existing) => merge_row(existing, row),
            none => *none = Some(row),
        }
    }
    let deletions = Deletions::of(into);
    let rows = if deletions.is_none() {
        rows
    } else {
        rows.into_iter()
            .filter_map(|(key, mut row)| {
                keep_above(&mut row, deletions.over(&key)).then_some((key, row))
            })
            .collect()
    };
    join_sorted(&mut into.rows, rows, merge_row);
}

/// The row and the timestamp of a partition that is one INSERT into column `value` and nothing else.
fn put_timestamp(partition: &Partition) -> Option<(&ClusteringKey, TimestampMicros)> {
    let Partition { deletion: None, static_row: None, ranges, rows } = partition else {
        return None;
    };
    let [(key, Row { liveness: Some(liveness), deletion: None, cells, complex })] = rows.as_slice()
    else {
        return None;
    };
    let [(ColumnId::VALUE, cell)] = cells.as_slice() else { return None };
    let alone = ranges.is_empty() && complex.is_empty();
    (alone && liveness.timestamp == cell.timestamp).then_some((key, cell.timestamp))
}

/// Merges two versions of one row. Deletions around the row are the caller's business ([`merge`] sees to them).
pub fn merge_row(into: &mut Row, other: Row) {
    into.deletion = into.deletion.max(other.deletion);
    into.liveness = match (into.liveness, other.liveness) {
        (Some(a), Some(b)) => Some(if compare_liveness(&a, &b) == Ordering::Less { b } else { a }),
        (a, b) => a.or(b),
    };
    join_sorted(&mut into.cells, other.cells, keep_greater);
    join_sorted(&mut into.complex, other.complex, merge_complex);
    if into.deletion.is_some() {
        keep_above(into, None);
    }
}

/// Merges two versions of one complex column.
fn merge_complex(into: &mut Complex, other: Complex) {
    into.deletion = into.deletion.max(other.deletion);
    join_sorted(&mut into.elements, other.elements, keep_greater);
    keep_complex_above(into, None);
}

fn keep_greater(cell: &mut Cell, other: Cell) {
    if compare(cell, &other) == Ordering::Less {
        *cell = other;
    }
}

/// The total order of a cell's versions: the greater one wins, and only equal cells compare equal.
pub fn compare(a: &Cell, b: &Cell) -> Ordering {
    a.timestamp.cmp(&b.timestamp).then_with(|| match (&a.content, &b.content) {
        (Content::Value { value: x, expiry: None }, Content::Value { value: y, expiry: None }) => {
            x.cmp(y)
        }
        (
            Content::Value { value: x, expiry: Some(ex) },
            Content::Value { value: y, expiry: Some(ey) },
        ) => ex
            .expires_at
            .cmp(&ey.expires_at)
            .then_with(|| x.cmp(y))
            .then_with(|| ex.ttl_s.cmp(&ey.ttl_s)),
        (Content::Tombstone { deleted_at: x }, Content::Tombstone { deleted_at: y }) => x.cmp(y),
        (x, y) => kind(x).cmp(&kind(y)),
    })
}

/// A value that will expire is a tombstone to be, so it ranks between the two.
fn kind(content: &Content) -> u8 {
    match content {
        Content::Value { expiry: None, .. } => 0,
        Content::Value { expiry: Some(_), .. } => 1,
        Content::Tombstone { .. } => 2,
    }
}

/// The same order for a row's liveness, which has no tombstone of its own.
pub(crate) fn compare_liveness(a: &Liveness, b: &Liveness) -> Ordering {
    a.timestamp.cmp(&b.timestamp).then_with(|| match (a.expiry, b.expiry) {
        (Some(x), Some(y)) => x.expires_at.cmp(&y.expires_at).then_with(|| x.ttl_s.cmp(&y.ttl_s)),
        // `None < Some`: one that will expire wins, as with cells.
        (x, y) => x.cmp(&y),
    })
}

/// Whether nothing at all is known here: not even a tombstone.
pub fn is_empty(partition: &Partition) -> bool {
    partition.deletion.is_none()
        && partition.static_row.is_none()
        && partition.ranges.is_empty()
        && partition.rows.is_empty()
}

/// Brings a partition that was built by hand, or that came from outside, into normal form: sorted, without twins,
/// without anything that its own deletions cover. Costs one look at a partition that is normal already.
pub fn normalise(partition: &mut Partition) {
    let sorted = partition.rows.is_sorted_by(|(a, _), (b, _)| a < b)
        && partition
            .rows
            .iter()
            .map(|(_, row)| row)
            .chain(&partition.static_row)
            .all(is_row_sorted);
    if !sorted {
        for row in partition.rows.iter_mut().map(|(_, row)| row).chain(&mut partition.static_row) {
            sort_and_join(&mut row.cells, keep_greater);
            for (_, complex) in &mut row.complex {
                sort_and_join(&mut complex.elements, keep_greater);
            }
            sort_and_join(&mut row.complex, merge_complex);
        }
        sort_and_join(&mut partition.rows, merge_row);
    }
    if !ranges::is_normal(&partition.ranges) {
        partition.ranges = ranges::normalise(&partition.ranges);
    }
    drop_covered(partition);
}

/// Whether a row's cells and its columns' elements are sorted, without twins.
fn is_row_sorted(row: &Row) -> bool {
    row.cells.is_sorted_by(|(a, _), (b, _)| a < b)
        && row.complex.is_sorted_by(|(a, _), (b, _)| a < b)
        && row.complex.iter().all(|(_, it)| it.elements.is_sorted_by(|(a, _), (b, _)| a < b))
}

/// Sorts by key; entries with the same key are joined.
fn sort_and_join<K: Ord, V>(entries: &mut Vec<(K, V)>, join: impl Fn(&mut V, V)) {
    let mut unsorted = std::mem::take(entries);
    unsorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (key, value) in unsorted {
        match entries.last_mut() {
            Some((last, existing)) if *last == key => join(existing, value),
            _ => entries.push((key, value)),
        }
    }
}

/// The deletions of a partition that lie over its rows.
struct Deletions<'a> {
    partition: Option<TimestampMicros>,
    ranges: &'a [RangeTombstone],
}

impl<'a> Deletions<'a> {
    fn of(partition: &'a Partition) -> Deletions<'a> {
        Deletions { partition: timestamp_of(partition.deletion), ranges: &partition.ranges }
    }

    fn is_none(&self) -> bool {
        self.partition.is_none() && self.ranges.is_empty()
    }

    /// The newest deletion over the row of `key`, its own apart.
    fn over(&self, key: &ClusteringKey) -> Option<TimestampMicros> {
        self.partition.max(covering(self.ranges, key).map(|d| d.timestamp))
    }
}

fn timestamp_of(deletion: Option<Deletion>) -> Option<TimestampMicros> {
    deletion.map(|d| d.timestamp)
}

/// Drops what the partition's deletions cover, smaller deletions included.
fn drop_covered(partition: &mut Partition) {
    let floor = timestamp_of(partition.deletion);
    if floor.is_some() {
        partition.ranges.retain(|range| Some(range.deletion.timestamp) > floor);
    }
    if partition.static_row.as_mut().is_some_and(|row| !keep_above(row, floor)) {
        partition.static_row = None;
    }
    let mut rows = std::mem::take(&mut partition.rows);
    let deletions = Deletions::of(partition);
    rows.retain_mut(|(key, row)| keep_above(row, deletions.over(key)));
    partition.rows = rows;
}

/// Drops what is not newer than `floor` or than the row's own deletion. Says whether anything is left.
fn keep_above(row: &mut Row, floor: Option<TimestampMicros>) -> bool {
    if timestamp_of(row.deletion) <= floor {
        row.deletion = None;
    }
    let floor = floor.max(timestamp_of(row.deletion));
    if floor.is_some() {
        if row.liveness.is_some_and(|l| Some(l.timestamp) <= floor) {
            row.liveness = None;
        }
        row.cells.retain(|(_, cell)| Some(cell.timestamp) > floor);
    }
    row.complex.retain_mut(|(_, complex)| keep_complex_above(complex, floor));
    !is_row_empty(row)
}

/// Drops what is not newer than `floor` or than the column's own deletion. Says whether anything is left.
fn keep_complex_above(complex: &mut Complex, floor: Option<TimestampMicros>) -> bool {
    if timestamp_of(complex.deletion) <= floor {
        complex.deletion = None;
    }
    let floor = floor.max(timestamp_of(complex.deletion));
    if floor.is_some() {
        complex.elements.retain(|(_, cell)| Some(cell.timestamp) > floor);
    }
    !complex.is_empty()
}

/// Whether a row says nothing.
pub(crate) fn is_row_empty(row: &Row) -> bool {
    row.liveness.is_none()
        && row.deletion.is_none()
        && row.cells.is_empty()
        && row.complex.is_empty()
}

/// Up to this many entries are inserted one by one; more are merged in one pass over both lists.
const INSERT_MAX: usize = 8;

/// Joins two lists that are sorted by key and have no twins; `into` stays so.
fn join_sorted<K: Ord, V>(
    into: &mut Vec<(K, V)>,
    other: Vec<(K, V)>,
    mut join: impl FnMut(&mut V, V),
) {
    // The key-value table's only case, and the first write's.
    if into.is_empty() {
        *into = other;
        return;
    }
    if other.len() <= INSERT_MAX {
        for (key, value) in other {
            match into.binary_search_by(|(k, _)| k.cmp(&key)) {
                Ok(at) => {
                    if let Some((_, existing)) = into.get_mut(at) {
                        join(existing, value);
                    }
                }
                Err(at) => into.insert(at, (key, value)),
            }
        }
        return;
    }
    let mut left = std::mem::take(into).into_iter().peekable();
    into.reserve(left.len().max(other.len()));
    for (key, value) in other {
        while let Some(smaller) = left.next_if(|(k, _)| *k < key) {
            into.push(smaller);
        }
        match left.next_if(|(k, _)| *k == key) {
            Some((key, mut existing)) => {
                join(&mut existing, value);
                into.push((key, existing));
            }
            None => into.push((key, value)),
        }
    }
    into.extend(left);
}

/// The part of `newer` that `older` lacks: merging it into `older` gives `newer` again. `newer` must contain `older`,
/// that is, be the merge of it with something.
pub(crate) fn difference(newer: &Partition, older: &Partition) -> Partition {
    let static_row = newer.static_row.as_ref().and_then(|row| {
        let missing = row_difference(row, older.static_row.as_ref());
        (!is_row_empty(&missing)).then_some(missing)
    });
    let mut known = older.rows.iter().peekable();
    let rows = newer
        .rows
        .iter()
        .filter_map(|(key, row)| {
            while known.next_if(|(k, _)| k < key).is_some() {}
            let missing = row_difference(row, known.next_if(|(k, _)| k == key).map(|(_, r)| r));
            (!is_row_empty(&missing)).then(|| (key.clone(), missing))
        })
        .collect();
    Partition {
        deletion: newer.deletion.filter(|d| older.deletion != Some(*d)),
        static_row,
        ranges: ranges::difference(&newer.ranges, &older.ranges),
        rows,
    }
}

fn row_difference(newer: &Row, older: Option<&Row>) -> Row {
    let Some(older) = older else { return newer.clone() };
    Row {
        liveness: newer.liveness.filter(|l| older.liveness != Some(*l)),
        deletion: newer.deletion.filter(|d| older.deletion != Some(*d)),
        cells: cells_difference(&newer.cells, &older.cells),
        complex: newer
            .complex
            .iter()
            .map(|(column, complex)| {
                let held = find(&older.complex, column);
                (
                    *column,
                    held.map_or_else(|| complex.clone(), |it| complex_difference(complex, it)),
                )
            })
            .filter(|(_, missing)| !missing.is_empty())
            .collect(),
    }
}

fn complex_difference(newer: &Complex, older: &Complex) -> Complex {
    Complex {
        deletion: newer.deletion.filter(|d| older.deletion != Some(*d)),
        elements: cells_difference(&newer.elements, &older.elements),
    }
}

fn cells_difference<K: Ord + Clone>(newer: &[(K, Cell)], older: &[(K, Cell)]) -> Vec<(K, Cell)> {
    newer.iter().filter(|(key, cell)| find(older, key) != Some(cell)).cloned().collect()
}

/// What a list that is sorted by key has under `key`.
pub(crate) fn find<'a, K: Ord, V>(entries: &'a [(K, V)], key: &K) -> Option<&'a V> {
    let at = entries.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
    entries.get(at).map(|(_, value)| value)
}
