//! What a partition means at a moment: what is live in it, what has expired, what may be forgotten.
//!
//! A replica that answers a read passes what it holds through [`for_read`]: replicas that compacted at different times
//! then answer alike, and their digests agree.

use super::{is_empty, is_row_empty};
use crate::data::{Cell, ColumnId, Complex, Content, Expiry, Partition, Row};
use crate::types::{GcSeconds, TimestampMicros};
use bytes::Bytes;

fn expired(expiry: Option<Expiry>, now: GcSeconds) -> bool {
    expiry.is_some_and(|e| e.expires_at <= now)
}

/// What a cell holds for a reader at this second, if that is a value.
pub fn value_at(cell: &Cell, now: GcSeconds) -> Option<&Bytes> {
    match &cell.content {
        Content::Value { value, expiry } if !expired(*expiry, now) => Some(value),
        _ => None,
    }
}

/// A key-value table's value and its version, if there is a live one.
pub fn live_value(partition: &Partition, now: GcSeconds) -> Option<(&Bytes, TimestampMicros)> {
    // The empty clustering key sorts first.
    let (key, row) = partition.rows.first()?;
    let (column, cell) = row.cells.first()?;
    if !key.0.is_empty() || *column != ColumnId::VALUE {
        return None;
    }
    value_at(cell, now).map(|value| (value, cell.timestamp))
}

/// Whether a reader sees this row: it was inserted, or one of its cells has a value.
pub fn row_is_live(row: &Row, now: GcSeconds) -> bool {
    row_is_live_in(row, now, |_| true)
}

/// Whether a reader who sees these columns, and no others, sees anything in this row.
pub fn row_is_live_in(row: &Row, now: GcSeconds, sees: impl Fn(ColumnId) -> bool) -> bool {
    row.liveness.is_some_and(|l| !expired(l.expiry, now))
        || row.cells.iter().any(|(id, cell)| sees(*id) && value_at(cell, now).is_some())
        || row.complex.iter().any(|(id, complex)| {
            sees(*id) && complex.elements.iter().any(|(_, cell)| value_at(cell, now).is_some())
        })
}

/// Whether a reader sees anything in this partition.
pub fn is_live(partition: &Partition, now: GcSeconds) -> bool {
    rows(partition).any(|row| row_is_live(row, now))
}

/// About what a partition takes in an answer: what can be large in it is its values, and its elements' paths.
pub fn value_bytes(partition: &Partition) -> usize {
    let sizes = rows(partition).flat_map(all_cells).map(|cell| match &cell.content {
        Content::Value { value, .. } => value.len(),
        Content::Tombstone { .. } => 0,
    });
    let paths = rows(partition).flat_map(elements).map(|(path, _)| path.len());
    sizes.sum::<usize>() + paths.sum::<usize>()
}

/// About what a row takes in memory or on the wire: its values and elements' paths, and a little for each cell.
pub fn row_bytes(row: &Row) -> usize {
    const CELL_BYTES: usize = 16;
    let cells = all_cells(row).map(|cell| match &cell.content {
        Content::Value { value, .. } => CELL_BYTES + value.len(),
        Content::Tombstone { .. } => CELL_BYTES,
    });
    let paths = elements(row).map(|(path, _)| path.len());
    CELL_BYTES + cells.sum::<usize>() + paths.sum::<usize>()
}

/// The elements of a row's complex columns.
fn elements(row: &Row) -> impl Iterator<Item = &(Bytes, Cell)> {
    row.complex.iter().flat_map(|(_, complex)| &complex.elements)
}

/// A row's cells, be they columns or elements of one.
fn all_cells(row: &Row) -> impl Iterator<Item = &Cell> {
    row.cells.iter().map(|(_, cell)| cell).chain(elements(row).map(|(_, cell)| cell))
}

fn all_cells_mut(row: &mut Row) -> impl Iterator<Item = &mut Cell> {
    let elements = row.complex.iter_mut().flat_map(|(_, complex)| &mut complex.elements);
    row.cells.iter_mut().map(|(_, cell)| cell).chain(elements.map(|(_, cell)| cell))
}

/// All its rows, the static one last.
pub(crate) fn rows(partition: &Partition) -> impl Iterator<Item = &Row> {
    partition.rows.iter().map(|(_, row)| row).chain(&partition.static_row)
}

fn rows_mut(partition: &mut Partition) -> impl Iterator<Item = &mut Row> {
    partition.rows.iter_mut().map(|(_, row)| row).chain(&mut partition.static_row)
}

/// The largest timestamp of anything in the partition.
pub fn version(partition: &Partition) -> Option<TimestampMicros> {
    let mut statistics = Statistics::default();
    statistics.add(partition);
    statistics.max_timestamp
}

/// How many tombstones of any kind it holds: what a reader has to step over.
pub fn tombstones(partition: &Partition) -> u64 {
    let mut statistics = Statistics::default();
    statistics.add(partition);
    statistics.tombstones
}

/// Figures over any number of partitions, as an SSTable keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// The smallest timestamp of anything.
    pub min_timestamp: Option<TimestampMicros>,
    /// The largest timestamp of anything.
    pub max_timestamp: Option<TimestampMicros>,
    /// Rows.
    pub rows: u64,
    /// Cells, tombstones included.
    pub cells: u64,
    /// Tombstones of cells, complex columns, rows, ranges and partitions.
    pub tombstones: u64,
    /// Values with a TTL: tombstones to be.
    pub expiring: u64,
    /// The earliest second from which something here, a tombstone or a value with a TTL, counts as deleted.
    pub min_deleted_at: Option<GcSeconds>,
    /// Something here is not part of a key-value table's only row: a clustering key, a static row, another column, a
    /// complex one.
    pub beyond_value: bool,
    /// Values and rows without a TTL: what never goes by itself.
    pub lasting: u64,
    /// The second from which all the rest, tombstones and whatever has a TTL, counts as deleted.
    pub max_deleted_at: Option<GcSeconds>,
}

impl Statistics {
    /// Counts one more partition.
    pub fn add(&mut self, partition: &Partition) {
        let ranges = partition.ranges.iter().map(|range| range.deletion);
        let deletions = rows(partition).flat_map(|row| {
            let complex = row.complex.iter().filter_map(|(_, complex)| complex.deletion);
            row.deletion.into_iter().chain(complex)
        });
        for deletion in partition.deletion.into_iter().chain(ranges).chain(deletions) {
            self.timestamp(deletion.timestamp);
            self.tombstone(deletion.deleted_at);
        }
        self.beyond_value |= partition.static_row.is_some() || !partition.ranges.is_empty();
        self.beyond_value |= partition.rows.iter().any(|(key, _)| !key.0.is_empty());
        for row in rows(partition) {
            self.rows += 1;
            self.beyond_value |= row.cells.iter().any(|(column, _)| *column != ColumnId::VALUE);
            self.beyond_value |= !row.complex.is_empty();
            if let Some(liveness) = row.liveness {
                self.timestamp(liveness.timestamp);
                self.lasts_until(liveness.expiry.map(|expiry| expiry.expires_at));
            }
            for cell in all_cells(row) {
                self.cells += 1;
                self.timestamp(cell.timestamp);
                match &cell.content {
                    Content::Tombstone { deleted_at } => self.tombstone(*deleted_at),
                    Content::Value { expiry: Some(expiry), .. } => {
                        self.expiring += 1;
                        self.deleted_at(expiry.expires_at);
                    }
                    Content::Value { expiry: None, .. } => self.lasts_until(None),
                }
            }
        }
    }

    /// Counts one more partition: a key-value put.
    pub fn add_put(&mut self, timestamp: TimestampMicros, expiry: Option<Expiry>) {
        self.rows += 1;
        self.cells += 1;
        self.timestamp(timestamp);
        match expiry {
            Some(expiry) => {
                self.expiring += 1;
                self.deleted_at(expiry.expires_at);
            }
            // Its liveness and its cell.
            None => self.lasting += 2,
        }
    }

    /// Whether nothing that these figures are of can change what is known of a partition: it is all older, and covered.
    ///
    /// Exact, so that a reader who leaves an SSTable out answers with the very bytes of one who does not, and their
    /// digests agree. Older tombstones that a newer value hides are part of a partition's bytes: where there are any, the
    /// SSTable is read.
    pub fn cannot_change(&self, found: &Partition) -> bool {
        let Some(newest) = self.max_timestamp else { return true };
        // Of two deletions with one timestamp the later second counts, so "as new" is not enough.
        if found.deletion.is_some_and(|deletion| deletion.timestamp > newest) {
            return true;
        }
        if self.beyond_value || self.tombstones > 0 {
            return false;
        }
        let Some((key, row)) = found.rows.first() else { return false };
        let is_newer = |timestamp: TimestampMicros| timestamp > newest;
        let (liveness, cell) = (row.liveness, row.cells.first());
        key.0.is_empty()
            && (row.deletion.is_some_and(|deletion| is_newer(deletion.timestamp))
                || (liveness.is_some_and(|l| is_newer(l.timestamp))
                    && cell.is_some_and(|(c, cell)| {
                        *c == ColumnId::VALUE && is_newer(cell.timestamp)
                    })))
    }

    /// The share of what is here that is, or will be, a tombstone: what a compaction might drop.
    pub fn tombstone_ratio(&self) -> f64 {
        let dead = self.tombstones + self.expiring;
        if dead == 0 { 0.0 } else { (dead as f64 / self.cells.max(dead) as f64).min(1.0) }
    }

    fn timestamp(&mut self, timestamp: TimestampMicros) {
        self.min_timestamp = Some(self.min_timestamp.map_or(timestamp, |t| t.min(timestamp)));
        self.max_timestamp = self.max_timestamp.max(Some(timestamp));
    }

    fn tombstone(&mut self, deleted_at: GcSeconds) {
        self.tombstones += 1;
        self.deleted_at(deleted_at);
    }

    fn deleted_at(&mut self, second: GcSeconds) {
        self.min_deleted_at = Some(self.min_deleted_at.map_or(second, |s| s.min(second)));
        self.lasts_until(Some(second));
    }

    fn lasts_until(&mut self, second: Option<GcSeconds>) {
        match second {
            Some(second) => self.max_deleted_at = self.max_deleted_at.max(Some(second)),
            None => self.lasting += 1,
        }
    }

    /// Whether all of it was deleted, or has expired, before `gc_before`: nobody is owed any of it.
    pub fn is_expired(&self, gc_before: GcSeconds) -> bool {
        self.lasting == 0 && self.max_deleted_at.is_some_and(|second| second < gc_before)
    }
}

/// Turns values whose TTL has run out into tombstones that are as old as the values. Every replica makes the same
/// tombstone of the same value, whenever it does so. A row's liveness stays as it is: one that has expired is its own
/// tombstone.
pub fn expire(partition: &mut Partition, now: GcSeconds) {
    for row in rows_mut(partition) {
        for cell in all_cells_mut(row) {
            if let Content::Value { expiry: Some(expiry), .. } = cell.content
                && expiry.expires_at <= now
            {
                // As if deleted when it was written: its TTL counts towards gc_grace, since replicas that missed it had
                // that long to hear of it.
                let deleted_at = GcSeconds(expiry.expires_at.0.saturating_sub(expiry.ttl_s));
                cell.content = Content::Tombstone { deleted_at };
            }
        }
    }
}

/// Forgets tombstones, and liveness that expired, from before `gc_before` (now less gc_grace), if their timestamp is
/// lower than `max_purgeable`: the smallest timestamp of whatever they might still cover elsewhere (other SSTables, the
/// memtable). A reader that has merged everything passes `TimestampMicros(i64::MAX)`.
///
/// CAVEAT: a replica that missed the deletion for longer than gc_grace brings the value back (scylla#8970). That is
/// what repair within gc_grace is for.
pub fn purge(partition: &mut Partition, gc_before: GcSeconds, max_purgeable: TimestampMicros) {
    let old = |timestamp: TimestampMicros, deleted_at: GcSeconds| {
        deleted_at < gc_before && timestamp < max_purgeable
    };
    partition.deletion = partition.deletion.filter(|d| !old(d.timestamp, d.deleted_at));
    partition.ranges.retain(|range| !old(range.deletion.timestamp, range.deletion.deleted_at));
    let kept = |cell: &Cell| match cell.content {
        Content::Tombstone { deleted_at } => !old(cell.timestamp, deleted_at),
        Content::Value { .. } => true,
    };
    let keep_complex = |complex: &mut Complex| {
        complex.deletion = complex.deletion.filter(|d| !old(d.timestamp, d.deleted_at));
        complex.elements.retain(|(_, cell)| kept(cell));
        !complex.is_empty()
    };
    let keep = |row: &mut Row| {
        row.deletion = row.deletion.filter(|d| !old(d.timestamp, d.deleted_at));
        row.liveness =
            row.liveness.filter(|l| !l.expiry.is_some_and(|e| old(l.timestamp, e.expires_at)));
        row.cells.retain(|(_, cell)| kept(cell));
        row.complex.retain_mut(|(_, complex)| keep_complex(complex));
        !is_row_empty(row)
    };
    partition.rows.retain_mut(|(_, row)| keep(row));
    if partition.static_row.as_mut().is_some_and(|row| !keep(row)) {
        partition.static_row = None;
    }
}

/// What a replica answers with: [`expire`]d and [`purge`]d as of `now`, so that the answer does not depend on what it
/// has compacted yet. `None` when nothing is left.
///
/// Replicas whose clocks differ may disagree for a moment about a TTL that just ran out; a digest that differs costs a
/// second round and nothing else.
pub fn for_read(
    mut partition: Partition,
    now: GcSeconds,
    gc_grace_seconds: u32,
) -> Option<Partition> {
    expire(&mut partition, now);
    let gc_before = GcSeconds(now.0.saturating_sub(gc_grace_seconds));
    purge(&mut partition, gc_before, TimestampMicros(i64::MAX));
    (!is_empty(&partition)).then_some(partition)
}
