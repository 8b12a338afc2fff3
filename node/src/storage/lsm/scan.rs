//! Reading a token range in order, over memtables and SSTables at once.

use super::memtable::{Memtable, Place};
use super::sstable::Cursor;
use super::state::View;
use crate::storage::{RangePage, RangeStart, StorageError};
use bytes::Bytes;
use helenus_core::{Key, Partition, Token, codec, merge};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Where a scan begins; `None`: behind everything.
pub(super) fn bound(start: &RangeStart) -> Option<Bound<Place>> {
    match start {
        RangeStart::First => Some(Bound::Unbounded),
        // The empty key sorts before every other key of its token.
        RangeStart::AfterToken(token) => {
            Some(Bound::Included(Place::new(Token(token.0.checked_add(1)?), b"")))
        }
        RangeStart::AfterKey(token, key) => Some(Bound::Excluded(Place::new(*token, &key.0))),
    }
}

/// Partitions of a page, while they are gathered.
pub(super) type Gathered = BTreeMap<Place, Partition>;

/// The first `limit` partitions of a memtable in a range. More could not matter: every partition that is known
/// anywhere is part of the page.
pub(super) fn gather(
    memtable: &Memtable,
    start: &Bound<Place>,
    until: Token,
    limit: usize,
    gathered: &mut Gathered,
) -> Result<(), StorageError> {
    let within = memtable.iter(start.clone()).take_while(|(place, _)| place.token <= until);
    for (place, stored) in within.take(limit) {
        let partition = Memtable::decode(&stored)?;
        merge_into(gathered, place.clone(), partition);
    }
    Ok(())
}

fn merge_into(gathered: &mut Gathered, place: Place, partition: Partition) {
    merge::merge(gathered.entry(place).or_default(), partition);
}

/// A page: what was gathered from the active memtable, merged with all of `view`.
pub(super) fn page(
    view: &View,
    start: &Bound<Place>,
    until: Token,
    limit: usize,
    mut gathered: Gathered,
) -> Result<RangePage, StorageError> {
    // One more than asked for tells whether there is more.
    let wanted = limit.saturating_add(1);
    for frozen in &view.frozen {
        gather(&frozen.memtable, start, until, wanted, &mut gathered)?;
    }
    let from = match start {
        Bound::Included(place) | Bound::Excluded(place) => place.token,
        Bound::Unbounded => Token::MIN,
    };
    let mut cursors = Vec::new();
    for sstable in view.sstables.iter().filter(|sstable| sstable.overlaps(from, until)) {
        cursors.push(Cursor::from(sstable, start)?);
    }
    let mut partitions = Vec::new();
    while partitions.len() < wanted {
        let first = cursors.iter().filter_map(Cursor::place).min();
        let first = first.filter(|(token, _)| *token <= until);
        let remembered =
            gathered.first_key_value().map(|(place, _)| (place.token, place.key.as_slice()));
        let Some((token, key)) = first.into_iter().chain(remembered).min() else { break };
        let place = Place::new(token, key);
        let mut merged = gathered.remove(&place).unwrap_or_default();
        for cursor in &mut cursors {
            if cursor.place() == Some((token, place.key.as_slice())) {
                let partition = codec::decode(cursor.share_value())
                    .map_err(|e| cursor.table().undecodable(&e))?;
                merge::merge(&mut merged, partition);
                cursor.advance()?;
            }
        }
        partitions.push((token, Key(Bytes::copy_from_slice(place.key.as_slice())), merged));
    }
    let more = partitions.len() > limit;
    partitions.truncate(limit);
    Ok(RangePage { partitions, more })
}
