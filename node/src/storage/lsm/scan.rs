//! Reading a token range in order, over memtables and SSTables at once.
//!
//! The active memtable changes under its lock, so a part of it is copied; everything else never changes and is walked
//! where it lies. A partition that only one source knows is handed out as the bytes it is stored in, neither decoded nor
//! copied: that is nearly every partition of a table that is compacted.

use super::memtable::{Held, Memtable, Stored};
use super::order::{Order, Walker};
use super::place::Place;
use super::rows::LARGE_ROWS;
use super::sstable::Cursor;
use super::state::View;
use crate::storage::{RangePage, RangeRows, RangeStart, RowsPage, StorageError};
use bytes::Bytes;
use helenus_core::read::{self, Part};
use helenus_core::{Key, Partition, Token, codec, merge};
use std::ops::{Bound, ControlFlow};

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

/// A part of the active memtable, in order.
pub(super) struct Gathered {
    entries: Vec<(Place, Content)>,
    /// Where it ends, if the memtable goes on in the range: nothing behind it may be handed out.
    horizon: Option<Place>,
    /// Whoever walks it reads large partitions by himself.
    lazy: bool,
}

enum Content {
    Encoded(Box<[u8]>),
    Partition(Box<Partition>),
}

impl Content {
    fn stored(&self) -> Stored<'_> {
        match self {
            Content::Encoded(bytes) => Stored::Encoded(bytes),
            Content::Partition(partition) => Stored::Partition(partition),
        }
    }
}

impl Gathered {
    /// Up to `limit` entries of a memtable. `lazy`: large partitions are only to be named.
    pub(super) fn new(
        memtable: &Memtable,
        start: &Bound<Place>,
        until: Token,
        limit: usize,
        lazy: bool,
    ) -> Gathered {
        let within = memtable.iter(start).take_while(|held| held.token <= until);
        let mut entries = Vec::new();
        for Held { token, key, stored } in within {
            if entries.len() >= limit {
                let horizon = entries.last().map(|(place, _): &(Place, _)| place.clone());
                return Gathered { entries, horizon, lazy };
            }
            let content = match stored {
                Stored::Encoded(bytes) => Content::Encoded(bytes.into()),
                // Only its size is looked at.
                Stored::Partition(partition) if lazy && partition.rows.len() > LARGE_ROWS => {
                    let rows = vec![Default::default(); LARGE_ROWS + 1];
                    Content::Partition(Box::new(Partition { rows, ..Partition::default() }))
                }
                Stored::Partition(partition) => Content::Partition(Box::new(partition.clone())),
            };
            entries.push((Place::new(token, key), content));
        }
        Gathered { entries, horizon: None, lazy }
    }

    /// Where the next part begins; `None`: this was the last.
    pub(super) fn next(self) -> Option<Bound<Place>> {
        self.horizon.map(Bound::Excluded)
    }
}

/// A partition that a walk hands out.
pub(super) enum Item<'a> {
    /// Known to a memtable only.
    Memory(&'a Stored<'a>),
    /// Known to an SSTable only.
    Table(&'a Cursor),
    /// Merged from several.
    Merged(Partition),
}

impl Item<'_> {
    /// Its canonical encoding. `buffer` is room for one that has to be made.
    pub(super) fn encoded<'s>(&'s self, buffer: &'s mut Vec<u8>) -> &'s [u8] {
        let partition = match self {
            Item::Memory(Stored::Encoded(bytes)) => return bytes,
            Item::Table(cursor) => return cursor.value(),
            Item::Memory(Stored::Partition(partition)) => partition,
            Item::Merged(partition) => partition,
        };
        buffer.clear();
        codec::encode_into(partition, buffer);
        buffer
    }

    fn decode(self) -> Result<Partition, StorageError> {
        match self {
            Item::Memory(stored) => Memtable::decode(stored),
            Item::Table(cursor) => {
                codec::decode(cursor.share_value()).map_err(|e| cursor.table().undecodable(&e))
            }
            Item::Merged(partition) => Ok(partition),
        }
    }
}

/// What a walk comes upon.
pub(super) enum Found<'a> {
    /// A partition.
    Item(Item<'a>),
    /// A large one, if it was asked only to name those.
    Large,
}

/// What a walk calls for each partition. It may break.
type Visitor<'v> = dyn FnMut(Token, &[u8], Found<'_>) -> Result<ControlFlow<()>, StorageError> + 'v;

/// One of the places where partitions are.
enum Source<'v> {
    Memory { rest: Box<dyn Iterator<Item = Held<'v>> + 'v>, head: Option<Held<'v>> },
    Table(Box<Cursor>),
}

impl Walker for Source<'_> {
    fn place(&self) -> Option<(Token, &[u8])> {
        match self {
            Source::Memory { head, .. } => head.as_ref().map(|held| (held.token, held.key)),
            Source::Table(cursor) => cursor.place(),
        }
    }
}

impl<'v> Source<'v> {
    fn memory(rest: impl Iterator<Item = Held<'v>> + 'v) -> Source<'v> {
        let mut rest: Box<dyn Iterator<Item = _> + 'v> = Box::new(rest);
        Source::Memory { head: rest.next(), rest }
    }

    /// What it stands on. Only asked where it stands on something.
    fn item(&self) -> Item<'_> {
        match self {
            Source::Memory { head: Some(held), .. } => Item::Memory(&held.stored),
            Source::Memory { head: None, .. } => Item::Merged(Partition::default()),
            Source::Table(cursor) => Item::Table(cursor),
        }
    }

    fn is_large(&self) -> bool {
        match self {
            Source::Memory {
                head: Some(Held { stored: Stored::Partition(partition), .. }),
                ..
            } => partition.rows.len() > LARGE_ROWS,
            Source::Memory { .. } => false,
            Source::Table(cursor) => cursor.is_wide(),
        }
    }

    fn advance(&mut self) -> Result<(), StorageError> {
        match self {
            Source::Memory { rest, head } => {
                *head = rest.next();
                Ok(())
            }
            Source::Table(cursor) => cursor.advance(),
        }
    }
}

/// Hands out the partitions from `start` to `until` in order, up to the horizon of what was gathered from the active
/// memtable, until `visit` breaks.
pub(super) fn walk(
    view: &View,
    gathered: &Gathered,
    start: &Bound<Place>,
    until: Token,
    visit: &mut Visitor<'_>,
) -> Result<ControlFlow<()>, StorageError> {
    let mut sources = sources(view, gathered, start, until)?;
    let horizon = gathered.horizon.as_ref();
    let mut order = Order::new(&sources);
    while let Some(first) = order.first().and_then(|nth| sources.get(nth)) {
        let Some((token, key)) = first.place() else { break };
        let is_behind = horizon.is_some_and(|h| (h.token, h.key.as_slice()) < (token, key));
        if token > until || is_behind {
            break;
        }
        let alike = order.alike(&sources);
        let front = order.front(alike);
        let is_large = |nth: &usize| sources.get(*nth).is_some_and(Source::is_large);
        let flow = if gathered.lazy && front.iter().any(is_large) {
            visit(token, key, Found::Large)?
        } else if alike == 1 {
            visit(token, key, Found::Item(first.item()))?
        } else {
            let mut merged = Partition::default();
            for source in front.iter().filter_map(|nth| sources.get(*nth)) {
                merge::merge(&mut merged, source.item().decode()?);
            }
            visit(token, key, Found::Item(Item::Merged(merged)))?
        };
        if flow.is_break() {
            return Ok(flow);
        }
        for nth in front {
            sources.get_mut(*nth).map_or(Ok(()), Source::advance)?;
        }
        order.moved(alike, &sources);
    }
    Ok(ControlFlow::Continue(()))
}

fn sources<'v>(
    view: &'v View,
    gathered: &'v Gathered,
    start: &Bound<Place>,
    until: Token,
) -> Result<Vec<Source<'v>>, StorageError> {
    let from = match start {
        Bound::Included(place) | Bound::Excluded(place) => place.token,
        Bound::Unbounded => Token::MIN,
    };
    let copied = gathered.entries.iter().map(|(place, content)| Held {
        token: place.token,
        key: place.key.as_slice(),
        stored: content.stored(),
    });
    let mut sources = vec![Source::memory(copied)];
    for frozen in &view.frozen {
        sources.push(Source::memory(frozen.memtable.iter(start)));
    }
    for sstable in view.sstables.iter().filter(|sstable| sstable.overlaps(from, until)) {
        sources.push(Source::Table(Box::new(Cursor::from(sstable, start, gathered.lazy)?)));
    }
    Ok(sources)
}

/// A page of at most `limit` partitions. `gathered` has one more than that from the active memtable, if there are so many.
pub(super) fn page(
    view: &View,
    start: &Bound<Place>,
    until: Token,
    limit: usize,
    gathered: &Gathered,
) -> Result<RangePage, StorageError> {
    let mut page = RangePage::default();
    let _ended_or_full = walk(view, gathered, start, until, &mut |token, key, found| {
        let Found::Item(item) = found else { return Ok(ControlFlow::Continue(())) };
        if page.partitions.len() >= limit {
            page.more = true;
            return Ok(ControlFlow::Break(()));
        }
        page.partitions.push((token, Key(Bytes::copy_from_slice(key)), item.decode()?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}

/// A page of parts of partitions, up to the limits of `wanted`. `large` reads those that are not to be put together.
pub(super) fn rows_page(
    view: &View,
    start: &Bound<Place>,
    wanted: &RangeRows<'_>,
    gathered: &Gathered,
    large: impl Fn(&Place) -> Result<Part, StorageError>,
) -> Result<RowsPage, StorageError> {
    let mut page = RowsPage::default();
    let mut bytes = 0;
    let _ended_or_full = walk(view, gathered, start, wanted.until, &mut |token, key, found| {
        if page.parts.len() >= wanted.limit || bytes >= wanted.bytes {
            page.more = true;
            return Ok(ControlFlow::Break(()));
        }
        let part = match found {
            Found::Item(item) => read::select(item.decode()?, wanted.filter, wanted.as_of),
            Found::Large => large(&Place::new(token, key))?,
        };
        let key = Key(Bytes::copy_from_slice(key));
        bytes += key.0.len() + part.bytes();
        page.parts.push((token, key, part));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}
