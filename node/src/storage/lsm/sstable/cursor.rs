//! Walking an SSTable in order.

use super::SsTable;
use super::block::{BadEntry, Block, Walk};
use crate::storage::StorageError;
use crate::storage::lsm::io_error;
use crate::storage::lsm::order::Walker;
use crate::storage::lsm::place::Place;
use crate::storage::lsm::replay::read_all_at;
use bytes::Bytes;
use helenus_core::read::concat;
use helenus_core::{Partition, Token, codec};
use std::ops::Bound;
use std::sync::Arc;

/// A compaction reads this much at once.
const READ_AHEAD_BYTES: u64 = 256 << 10;

/// Stands on an entry, or behind the last one.
pub(in crate::storage::lsm) struct Cursor {
    table: Arc<SsTable>,
    /// Reads past the cache, many blocks at a time: a compaction must not drive out what readers need.
    sequential: bool,
    /// Bytes of the file from `ahead_at` on (sequential only).
    ahead: Bytes,
    ahead_at: u64,
    /// The next block to open.
    number: usize,
    /// It ends before this one.
    until: usize,
    /// In the block before `number`; `None` before the first one was opened.
    walk: Option<Walk>,
    /// Partitions in pieces are not put together.
    lazy: bool,
    /// It stands on one.
    is_wide: bool,
    /// What it stands on, put together.
    whole: Option<Bytes>,
    /// It is behind the last entry of all.
    is_end: bool,
    consumed: u64,
}

impl Walker for Cursor {
    fn place(&self) -> Option<(Token, &[u8])> {
        if self.is_end { None } else { self.walk.as_ref().map(Walk::place) }
    }
}

impl Cursor {
    /// At the first entry of all, reading past the cache.
    pub(in crate::storage::lsm) fn sequential(
        table: &Arc<SsTable>,
    ) -> Result<Cursor, StorageError> {
        let mut cursor = Cursor::new(table, true);
        cursor.advance()?;
        Ok(cursor)
    }

    /// At the first entry from `start` on. `lazy`: whoever walks does not want the values of partitions in pieces.
    pub(in crate::storage::lsm) fn from(
        table: &Arc<SsTable>,
        start: &Bound<Place>,
        lazy: bool,
    ) -> Result<Cursor, StorageError> {
        let mut cursor = Cursor { lazy, ..Cursor::new(table, false) };
        let (Bound::Included(place) | Bound::Excluded(place)) = start else {
            cursor.advance()?;
            return Ok(cursor);
        };
        let (token, key) = (place.token, place.key.as_slice());
        cursor.number = table.block_of(token, key).unwrap_or(0);
        let block = table.block(cursor.number)?;
        cursor.number += 1;
        let walk = cursor.walk.insert(Walk::new(block));
        let found = walk.seek(token, key);
        let stands_on_it = walk.place() == (token, key);
        match found {
            // All of this block is before it, so the next one begins behind it.
            Ok(false) => cursor.advance()?,
            Ok(true) if stands_on_it && matches!(start, Bound::Excluded(_)) => cursor.advance()?,
            Ok(true) => cursor.land()?,
            Err(BadEntry) => return Err(table.bad_entry(cursor.number - 1)),
        }
        Ok(cursor)
    }

    /// At the first entry of one block, read past the cache and for itself, and no further than its last.
    pub(super) fn of_block(table: &Arc<SsTable>, number: usize) -> Result<Cursor, StorageError> {
        let mut cursor = Cursor::new(table, true);
        cursor.walk = Some(Walk::new(table.read_block(number)?));
        cursor.number = number + 1;
        cursor.until = number + 1;
        cursor.advance()?;
        Ok(cursor)
    }

    fn new(table: &Arc<SsTable>, sequential: bool) -> Cursor {
        Cursor {
            table: Arc::clone(table),
            sequential,
            ahead: Bytes::new(),
            ahead_at: 0,
            number: 0,
            until: table.index.len(),
            walk: None,
            lazy: false,
            is_wide: false,
            whole: None,
            is_end: false,
            consumed: 0,
        }
    }

    /// The encoding it stands on.
    pub(in crate::storage::lsm) fn value(&self) -> &[u8] {
        match &self.whole {
            Some(whole) => whole,
            None => self.walk.as_ref().map_or(&[], Walk::value),
        }
    }

    /// The same, sharing the block.
    pub(in crate::storage::lsm) fn share_value(&self) -> Bytes {
        match &self.whole {
            Some(whole) => whole.clone(),
            None => self.walk.as_ref().map(Walk::share_value).unwrap_or_default(),
        }
    }

    /// Whether it stands on a partition in pieces, whose value it does not have.
    pub(in crate::storage::lsm) fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// The SSTable it walks.
    pub(in crate::storage::lsm) fn table(&self) -> &Arc<SsTable> {
        &self.table
    }

    /// Bytes of blocks that it has opened.
    pub(in crate::storage::lsm) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// To the next entry.
    pub(in crate::storage::lsm) fn advance(&mut self) -> Result<(), StorageError> {
        (self.is_wide, self.whole) = (false, None);
        self.step()?;
        self.land()
    }

    /// Puts what it stands on together, if that goes on in the blocks that follow.
    fn land(&mut self) -> Result<(), StorageError> {
        let goes_on =
            |cursor: &Cursor| cursor.number < cursor.until && cursor.table.continues(cursor.number);
        let is_head = !self.is_end && self.number > 0 && !self.table.continues(self.number - 1);
        if !is_head || !goes_on(self) || !self.is_last_of_block() {
            return Ok(());
        }
        if self.lazy {
            self.is_wide = true;
            return Ok(());
        }
        let mut pieces = vec![self.decode(self.share_value())?];
        while goes_on(self) {
            let block = self.open_block()?;
            let encoded = block.first().ok_or_else(|| self.table.bad_entry(self.number))?;
            pieces.push(self.decode(encoded)?);
            self.number += 1;
        }
        self.whole = Some(codec::encode(&concat(pieces)));
        Ok(())
    }

    fn is_last_of_block(&self) -> bool {
        self.walk.as_ref().is_some_and(Walk::is_last)
    }

    fn decode(&self, encoded: Bytes) -> Result<Partition, StorageError> {
        codec::decode(encoded).map_err(|e| self.table.undecodable(&e))
    }

    fn step(&mut self) -> Result<(), StorageError> {
        loop {
            if let Some(walk) = &mut self.walk {
                match walk.advance() {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(BadEntry) => {
                        return Err(self.table.bad_entry(self.number.saturating_sub(1)));
                    }
                }
            }
            // Pieces of a partition that it has left.
            while self.number < self.until && self.table.continues(self.number) {
                self.number += 1;
            }
            if self.number >= self.until {
                self.is_end = true;
                return Ok(());
            }
            let block = self.open_block()?;
            self.number += 1;
            match &mut self.walk {
                Some(walk) => walk.enter(block),
                none => *none = Some(Walk::new(block)),
            }
        }
    }

    fn open_block(&mut self) -> Result<Block, StorageError> {
        let Some(entry) = self.table.index.get(self.number) else {
            return Err(self.table.bad_entry(self.number));
        };
        self.consumed += u64::from(entry.len);
        if !self.sequential {
            return self.table.block(self.number);
        }
        let end = entry.offset + u64::from(entry.len);
        if entry.offset < self.ahead_at || end > self.ahead_at + self.ahead.len() as u64 {
            let last =
                self.table.index.last().map_or(end, |last| last.offset + u64::from(last.len));
            let until = end.max(last.min(entry.offset + READ_AHEAD_BYTES));
            let len = usize::try_from(until - entry.offset).unwrap_or(usize::MAX);
            self.ahead = read_all_at(self.table.file.as_ref(), entry.offset, len)
                .map_err(|e| io_error(&self.table.path, &e))?
                .into();
            self.ahead_at = entry.offset;
        }
        let within = usize::try_from(entry.offset - self.ahead_at).unwrap_or(usize::MAX);
        let until = within.saturating_add(usize::try_from(entry.len).unwrap_or(usize::MAX));
        // A file that has become shorter gives a short block, which its checksum refuses.
        let stored = self.ahead.slice(within.min(self.ahead.len())..until.min(self.ahead.len()));
        self.table.check_block(entry.offset, &stored)
    }
}
