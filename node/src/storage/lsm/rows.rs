//! Reading part of a partition over memtables and SSTables, without building the whole.
//!
//! Most partitions are small, and read as ever: all that is known, merged, and then cut ([`helenus_core::read::select`]). One
//! that is large somewhere is read window by window, in the direction asked for. A window ends where the first of the sources
//! ends a piece of its own: a block of an SSTable, some rows of a memtable. So each source gives what it has there, the
//! pieces are merged by the one merge function, and the rest is never looked at.
//!
//! The active memtable changes under its lock, so a stretch of its rows is copied, and with it the view of the rest is taken:
//! whoever comes to the end of the stretch takes both anew.

use super::memtable::{Memtable, Stored};
use super::place::Place;
use super::sstable::Pieces;
use super::state::View;
use crate::storage::StorageError;
use helenus_core::read::{Gather, RowFilter, Slice, behind, clip};
use helenus_core::{ClusteringKey, Partition, merge};
use std::borrow::Cow;
use std::sync::atomic::Ordering;

/// A memtable's partition with more rows than this is large.
pub(super) const LARGE_ROWS: usize = 256;
/// Rows of a memtable in one window.
const WINDOW_ROWS: usize = 256;
/// Rows of the active memtable that are copied at a time.
const STRETCH_ROWS_MAX: usize = 4096;

/// What the active memtable knows of a partition in a stretch of its rows.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    partition: Partition,
    /// Where it ends, in the direction of reading; `None`: with the slices.
    end: Option<ClusteringKey>,
}

impl Stretch {
    /// Of a partition in the active memtable, from `rest` on: about as many rows as are asked for.
    pub(super) fn of(
        active: &Memtable,
        place: &Place,
        filter: &RowFilter,
        rest: &[Slice],
    ) -> Result<Stretch, StorageError> {
        let rows = usize::try_from(filter.rows).unwrap_or(usize::MAX);
        let rows = rows.clamp(WINDOW_ROWS, STRETCH_ROWS_MAX);
        match active.look(place) {
            None => Ok(Stretch::default()),
            Some(Stored::Partition(held)) => Ok(Stretch::new(held, filter, rest, rows)),
            Some(stored) => Ok(Stretch::new(&Memtable::decode(&stored)?, filter, rest, rows)),
        }
    }

    fn new(held: &Partition, filter: &RowFilter, rest: &[Slice], rows: usize) -> Stretch {
        let end = nth_cut(held, begin(rest, filter.reversed).as_ref(), filter.reversed, rows);
        let window = window(begin(rest, filter.reversed), end.clone(), filter.reversed);
        let slices: Vec<Slice> = within(rest, &window);
        Stretch { partition: clip(held, &slices, filter.static_row), end }
    }
}

/// Where reading these slices begins; `None`: before the first key or, reversed, behind the last.
fn begin(rest: &[Slice], reversed: bool) -> Option<ClusteringKey> {
    if reversed {
        rest.last().and_then(|slice| slice.end.clone())
    } else {
        rest.first().map(|slice| slice.start.clone())
    }
}

/// The keys from `begin` to `end`, in the direction of reading.
fn window(begin: Option<ClusteringKey>, end: Option<ClusteringKey>, reversed: bool) -> Slice {
    let (low, high) = if reversed { (end, begin) } else { (begin, end) };
    Slice { start: low.unwrap_or_default(), end: high }
}

fn within(slices: &[Slice], window: &Slice) -> Vec<Slice> {
    slices.iter().filter_map(|slice| slice.within(window)).collect()
}

/// The cut behind the row that is `rows` further than `begin`; `None`: there are not so many.
fn nth_cut(
    held: &Partition,
    begin: Option<&ClusteringKey>,
    reversed: bool,
    rows: usize,
) -> Option<ClusteringKey> {
    let all = &held.rows;
    if reversed {
        let until = begin.map_or(all.len(), |begin| all.partition_point(|(key, _)| key < begin));
        // The row before it is the first of the next window.
        until
            .checked_sub(rows)
            .filter(|at| *at > 0)
            .and_then(|at| all.get(at))
            .map(|(key, _)| key.clone())
    } else {
        let from = begin.map_or(0, |begin| all.partition_point(|(key, _)| key < begin));
        let last = from.checked_add(rows)?.checked_sub(1)?;
        all.get(last).filter(|_| last + 1 < all.len()).map(|(key, _)| behind(key))
    }
}

/// The sources of one partition besides the active memtable.
struct Sources<'v> {
    frozen: Vec<Cow<'v, Partition>>,
    pieces: Vec<Pieces>,
    /// SSTables that hold it in one piece, merged.
    narrow: Partition,
}

impl View {
    /// Whether some source besides the active memtable has a partition that is large.
    pub(super) fn is_wide(&self, place: &Place) -> bool {
        self.frozen.iter().any(|frozen| frozen.memtable.rows_of(place) > LARGE_ROWS)
            || self
                .sstables
                .iter()
                .any(|sstable| sstable.is_wide(place.token, place.key.as_slice()))
    }

    /// Reads on from `rest` to the end of the active memtable's stretch. Gives where to go on; `None`: `gather` has enough,
    /// or everything.
    pub(super) fn gather_rows(
        &self,
        place: &Place,
        active: &Stretch,
        mut rest: Vec<Slice>,
        filter: &RowFilter,
        gather: &mut Gather<'_>,
    ) -> Result<Option<ClusteringKey>, StorageError> {
        let mut sources = self.sources(place)?;
        let reversed = filter.reversed;
        let mut static_row = filter.static_row;
        loop {
            let from = begin(&rest, reversed);
            let end = sources.nearest_end(from.as_ref(), active.end.as_ref(), reversed);
            let slices = within(&rest, &window(from.clone(), end.clone(), reversed));
            let merged = sources.clip(active, &slices, static_row)?;
            static_row = false;
            if gather.add(merged, end.as_ref()) {
                return Ok(None);
            }
            let Some(end) = end else { return Ok(None) };
            rest = filter.rest(&end);
            if rest.is_empty() {
                return Ok(None);
            }
            if active.end.as_ref() == Some(&end) {
                return Ok(Some(end));
            }
        }
    }

    fn sources(&self, place: &Place) -> Result<Sources<'_>, StorageError> {
        let mut frozen = Vec::new();
        for memtable in self.frozen.iter().map(|frozen| &frozen.memtable) {
            match memtable.look(place) {
                Some(Stored::Partition(partition)) => frozen.push(Cow::Borrowed(partition)),
                Some(stored) => frozen.push(Cow::Owned(Memtable::decode(&stored)?)),
                None => {}
            }
        }
        let (token, key) = (place.token, place.key.as_slice());
        let figures = &self.read_figures;
        let pieces: Vec<Option<Pieces>> =
            self.sstables.iter().map(|sstable| sstable.pieces(token, key, figures)).collect();
        let others = self.sstables.iter().zip(&pieces).filter(|(_, pieces)| pieces.is_none());
        let mut narrow = None;
        self.merge_tables(place, others.map(|(sstable, _)| sstable).rev(), &mut narrow)?;
        let pieces: Vec<Pieces> = pieces.into_iter().flatten().collect();
        figures.sstables.fetch_add(pieces.len() as u64, Ordering::Relaxed);
        Ok(Sources { frozen, pieces, narrow: narrow.unwrap_or_default() })
    }
}

impl Sources<'_> {
    fn nearest_end(
        &self,
        begin: Option<&ClusteringKey>,
        horizon: Option<&ClusteringKey>,
        reversed: bool,
    ) -> Option<ClusteringKey> {
        let frozen = self.frozen.iter();
        let frozen = frozen.filter_map(|held| nth_cut(held, begin, reversed, WINDOW_ROWS));
        let pieces = self.pieces.iter().filter_map(|pieces| pieces.window_end(begin, reversed));
        let ends = frozen.chain(pieces).chain(horizon.cloned());
        if reversed { ends.max() } else { ends.min() }
    }

    fn clip(
        &mut self,
        active: &Stretch,
        slices: &[Slice],
        static_row: bool,
    ) -> Result<Partition, StorageError> {
        let mut merged = clip(&self.narrow, slices, static_row);
        for pieces in &mut self.pieces {
            merge::merge(&mut merged, pieces.clip(slices, static_row)?);
        }
        for held in &self.frozen {
            merge::merge(&mut merged, clip(held, slices, static_row));
        }
        merge::merge(&mut merged, clip(&active.partition, slices, static_row));
        Ok(merged)
    }
}
