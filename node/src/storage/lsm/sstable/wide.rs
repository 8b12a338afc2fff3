//! Wide partitions: several pieces, one after the other, each alone in its block.
//!
//! ```text
//! | block: ..., small, small | block: WIDE, rows ..c | block: WIDE, rows c..m | block: WIDE, rows m.. | block: small, ... |
//! index:  (token, key)         (token, key)            (token, key, from c)     (token, key, from m)    (token, key)
//! ```
//!
//! A piece is a partition by itself: its rows, what the range tombstones say between its cuts, and the partition's deletion;
//! the static row is in the first. So any run of pieces merges into what the partition says there, and the index, which is
//! in memory, says which pieces a slice lies in.
//!
//! CAVEAT: cuts lie between rows, so a row, or range tombstones without rows between them, is one piece however large.

use super::SsTable;
use crate::storage::StorageError;
use crate::storage::lsm::state::ReadFigures;
use helenus_core::read::{Slice, clip, concat};
use helenus_core::{ClusteringKey, Partition, Token, codec, merge};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A partition whose encoding is longer than this is cut.
pub(super) const WIDE_BYTES: usize = 32 << 10;
/// Into pieces of about this: what a block has.
const PIECE_BYTES: usize = 16 << 10;

/// A partition in pieces, each with the key that it begins with (`None`: the first).
pub(super) fn pieces(partition: &Partition) -> Vec<(Option<ClusteringKey>, Partition)> {
    let mut cuts: Vec<&ClusteringKey> = Vec::new();
    let mut bytes = 0;
    for (key, row) in &partition.rows {
        if bytes >= PIECE_BYTES {
            cuts.push(key);
            bytes = 0;
        }
        bytes += key.0.len() + merge::row_bytes(row);
    }
    let starts = std::iter::once(None).chain(cuts.iter().map(|cut| Some((*cut).clone())));
    let ends = cuts.iter().map(|cut| Some((*cut).clone())).chain([None]);
    let piece = |(start, end): (Option<ClusteringKey>, Option<ClusteringKey>)| {
        let is_first = start.is_none();
        let slice = Slice { start: start.clone().unwrap_or_default(), end };
        (start, clip(partition, &[slice], is_first))
    };
    starts.zip(ends).map(piece).collect()
}

impl SsTable {
    /// Whether the block goes on with the partition that the block before it is of.
    pub(super) fn continues(&self, number: usize) -> bool {
        self.has_pieces && self.index.get(number).is_some_and(|entry| entry.part.is_some())
    }

    /// The blocks of the partition in pieces that begins in this one, if one does.
    pub(super) fn run(&self, head: usize) -> Option<Range<usize>> {
        if self.continues(head) || !self.continues(head + 1) {
            return None;
        }
        let first = &self.index.get(head)?.first;
        Some(head..self.index.partition_point(|entry| entry.first <= *first))
    }

    /// Whether a block begins with this partition.
    pub(super) fn is_first(&self, number: usize, token: Token, key: &[u8]) -> bool {
        let first = self.index.get(number).map(|entry| &entry.first);
        first.is_some_and(|first| (first.token, first.key.as_slice()) == (token, key))
    }

    /// All pieces, put together.
    pub(super) fn whole(&self, run: Range<usize>) -> Result<Partition, StorageError> {
        Ok(concat(run.map(|number| self.piece(number)).collect::<Result<_, _>>()?))
    }

    /// The only partition, or piece of one, in a block.
    fn piece(&self, number: usize) -> Result<Partition, StorageError> {
        let encoded = self.block(number)?.first().ok_or_else(|| self.bad_entry(number))?;
        codec::decode(encoded).map_err(|e| self.undecodable(&e))
    }

    fn run_of(&self, token: Token, key: &[u8]) -> Option<Range<usize>> {
        if !self.has_pieces || !self.may_contain(token) {
            return None;
        }
        let head = self.block_of(token, key)?;
        self.run(head).filter(|_| self.is_first(head, token, key))
    }

    /// Whether a partition is here and in pieces. Reads nothing.
    pub(in crate::storage::lsm) fn is_wide(&self, token: Token, key: &[u8]) -> bool {
        self.run_of(token, key).is_some()
    }

    /// The pieces of a partition, if it is here and in pieces. Reads nothing.
    pub(in crate::storage::lsm) fn pieces(
        self: &Arc<Self>,
        token: Token,
        key: &[u8],
        figures: &Arc<ReadFigures>,
    ) -> Option<Pieces> {
        let run = self.run_of(token, key)?;
        let (table, figures) = (Arc::clone(self), Arc::clone(figures));
        Some(Pieces { table, run, loaded: None, figures })
    }
}

/// A partition in pieces, of which one is looked into at a time.
pub(in crate::storage::lsm) struct Pieces {
    table: Arc<SsTable>,
    run: Range<usize>,
    loaded: Option<(usize, Partition)>,
    figures: Arc<ReadFigures>,
}

impl Pieces {
    fn start(&self, number: usize) -> Option<&ClusteringKey> {
        self.table.index.get(number)?.part.as_ref()
    }

    /// Where the piece ends in which reading goes on from `begin`: `None` if it is the last in that direction.
    pub(in crate::storage::lsm) fn window_end(
        &self,
        begin: Option<&ClusteringKey>,
        reversed: bool,
    ) -> Option<ClusteringKey> {
        let number = self.piece_at(begin, reversed);
        let end = if reversed { number } else { number + 1 };
        // The first has no start, and behind the last is no piece.
        self.start(end).filter(|_| self.run.contains(&end)).cloned()
    }

    /// The piece in which reading goes on from `begin`.
    fn piece_at(&self, begin: Option<&ClusteringKey>, reversed: bool) -> usize {
        let (mut low, mut high) = (self.run.start, self.run.end);
        let Some(begin) = begin else { return if reversed { high - 1 } else { low } };
        // The last that begins at `begin` or before it; reversed, before it.
        while high - low > 1 {
            let middle = low.midpoint(high);
            let is_before = self
                .start(middle)
                .is_none_or(|start| if reversed { start < begin } else { start <= begin });
            if is_before { low = middle } else { high = middle }
        }
        low
    }

    /// What it says in these slices, which lie in one piece.
    pub(in crate::storage::lsm) fn clip(
        &mut self,
        slices: &[Slice],
        static_row: bool,
    ) -> Result<Partition, StorageError> {
        let number = match slices.first() {
            Some(slice) => self.piece_at(Some(&slice.start), false),
            None => self.run.start,
        };
        // In the first piece, and nowhere else. It is loaded before the other, which the next slices may lie in too.
        let static_row = match static_row {
            true => self.load(self.run.start)?.static_row.clone(),
            false => None,
        };
        let found = clip(self.load(number)?, slices, false);
        Ok(Partition { static_row, ..found })
    }

    fn load(&mut self, number: usize) -> Result<&Partition, StorageError> {
        if self.loaded.as_ref().is_none_or(|(loaded, _)| *loaded != number) {
            self.figures.blocks.fetch_add(1, Ordering::Relaxed);
            self.loaded = Some((number, self.table.piece(number)?));
        }
        let (_, piece) = self.loaded.as_ref().ok_or(StorageError::Panicked)?;
        Ok(piece)
    }
}
