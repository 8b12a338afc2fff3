//! What was written since the last flush, in (token, key) order.
//!
//! Tokens are evenly spread, so their top bits make a perfect first level: thousands of small ordered maps instead of one
//! deep one, each of which is a node or two (measured: 2-5 times faster than a skip list). A small table keeps a single map
//! until it has grown.
//!
//! A partition that was written once stays as the bytes it came in, copied into an arena when they are few: a slot takes
//! 16 bytes, a flush copies instead of encoding, and no small value pins the network buffer it arrived in. So does one that
//! is put again, since the newer of two puts wins whole. Whatever else is written again becomes a decoded [`Partition`].
//!
//! Invariants: `bytes` only grows and is at least what the values and keys take; iteration is in (token, key) order.

use super::log::Position;
use super::undecodable;
use crate::storage::{StorageError, Update};
use bytes::Bytes;
use helenus_core::merge::{self, Statistics};
use helenus_core::{Partition, TimestampMicros, Token, codec};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Above so many partitions a memtable is split by so many bits of the token: into maps of one to a few dozen partitions.
const SPLITS: [(usize, u32); 2] = [(1 << 12, 12), (1 << 16, 15)];
/// Encodings up to this size are copied into the arena; larger ones are kept as they came.
const ARENA_VALUE_MAX: usize = 4096;
const ARENA_CHUNK_MIN: usize = 8 << 10;
const ARENA_CHUNK_MAX: usize = 1 << 20;
/// What a partition takes besides its key and value: its slot, and its share of the tree's nodes.
const SLOT_BYTES: u64 = 72;
const INLINE_KEY_MAX: usize = 22;

/// A key's bytes, without an allocation when they are few.
#[derive(Debug, Clone)]
pub(super) enum SmallKey {
    Inline { len: u8, bytes: [u8; INLINE_KEY_MAX] },
    Heap(Box<[u8]>),
}

impl SmallKey {
    pub(super) fn new(key: &[u8]) -> SmallKey {
        let mut bytes = [0; INLINE_KEY_MAX];
        match (bytes.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(key);
                SmallKey::Inline { len, bytes }
            }
            _ => SmallKey::Heap(key.into()),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            SmallKey::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            SmallKey::Heap(bytes) => bytes,
        }
    }
}

impl PartialEq for SmallKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for SmallKey {}

impl PartialOrd for SmallKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SmallKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

/// Where a partition sorts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) token: Token,
    pub(super) key: SmallKey,
}

impl Place {
    pub(super) fn new(token: Token, key: &[u8]) -> Place {
        Place { token, key: SmallKey::new(key) }
    }
}

#[derive(Debug)]
enum Slot {
    /// The encoding, in the arena.
    Arena { chunk: u32, at: u32, len: u32 },
    /// The encoding, as it came.
    Shared(Box<Bytes>),
    /// Merged from several writes.
    Merged(Box<Partition>),
}

/// A partition as a flush or a scan sees it.
#[derive(Debug)]
pub(super) enum Stored<'a> {
    /// Canonical bytes.
    Encoded(&'a [u8]),
    /// Decoded.
    Partition(&'a Partition),
}

/// Values laid end to end.
#[derive(Debug, Default)]
struct Arena {
    chunks: Vec<Vec<u8>>,
}

impl Arena {
    fn put(&mut self, value: &[u8]) -> Slot {
        let fits = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= value.len();
        if !self.chunks.last().is_some_and(fits) {
            let next = self.chunks.last().map_or(ARENA_CHUNK_MIN, |chunk| chunk.capacity() * 2);
            self.chunks.push(Vec::with_capacity(next.min(ARENA_CHUNK_MAX)));
        }
        let chunk = index(self.chunks.len() - 1);
        let Some(last) = self.chunks.last_mut() else {
            return Slot::Shared(Box::new(Bytes::copy_from_slice(value)));
        };
        let at = index(last.len());
        last.extend_from_slice(value);
        Slot::Arena { chunk, at, len: index(value.len()) }
    }

    /// Merges a put into a slot that holds one, which needs no decoding: the newer of the two wins whole. It is written
    /// over the older one where it fits. Gives the bytes by which the arena grew; `None`: it takes more than that.
    fn replace(&mut self, slot: &mut Slot, new: TimestampMicros, encoded: &[u8]) -> Option<u64> {
        let Slot::Arena { chunk, at, len } = *slot else { return None };
        let held = codec::peek_put(self.get(chunk, at, len))?.timestamp;
        if new == held || encoded.len() > ARENA_VALUE_MAX {
            return None;
        }
        if new < held {
            return Some(0);
        }
        if encoded.len() <= len as usize {
            let (start, end) = (at as usize, at as usize + encoded.len());
            let place = self.chunks.get_mut(chunk as usize)?.get_mut(start..end)?;
            place.copy_from_slice(encoded);
            *slot = Slot::Arena { chunk, at, len: index(encoded.len()) };
            return Some(0);
        }
        *slot = self.put(encoded);
        Some(encoded.len() as u64)
    }

    fn get(&self, chunk: u32, at: u32, len: u32) -> &[u8] {
        let (chunk, at, len) = (chunk as usize, at as usize, len as usize);
        self.chunks
            .get(chunk)
            .and_then(|chunk| chunk.get(at..at + len))
            .expect("a slot points into the arena that made it")
    }
}

fn index(n: usize) -> u32 {
    u32::try_from(n)
        .expect("chunks are at most 1 MiB, and their number is bounded by the memtable's size")
}

/// One table's memtable.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    /// One map, or one for each token prefix. Empty until the first write.
    shards: Vec<BTreeMap<Place, Slot>>,
    /// How often it was split.
    splits: usize,
    arena: Arena,
    partitions: usize,
    bytes: u64,
    /// Where the log holds the first write in here.
    first: Option<Position>,
    statistics: Statistics,
}

impl Memtable {
    /// Partitions in it.
    pub(super) fn partitions(&self) -> usize {
        self.partitions
    }

    /// About the memory it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions == 0
    }

    /// Where the log holds the first write in here.
    pub(super) fn first(&self) -> Option<Position> {
        self.first
    }

    /// Over all that was written, whether or not it was overwritten since: bounds, not counts.
    pub(super) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Merges one write. `encoded` is the encoding of `update`; `shared` gives the same bytes to be kept.
    pub(super) fn merge(
        &mut self,
        at: Position,
        token: Token,
        key: &[u8],
        update: Update,
        encoded: &[u8],
        shared: impl Fn() -> Bytes,
    ) -> Result<(), StorageError> {
        match &update {
            Update::Put { timestamp, expiry } => self.statistics.add_put(*timestamp, *expiry),
            Update::Other(update) => self.statistics.add(update),
        }
        self.first.get_or_insert(at);
        if self.shards.is_empty() {
            self.shards.push(BTreeMap::new());
        }
        let shard = shard_of(token, self.shards.len());
        let Some(shard) = self.shards.get_mut(shard) else { return Ok(()) };
        match shard.entry(Place::new(token, key)) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let slot = if encoded.len() <= ARENA_VALUE_MAX {
                    self.arena.put(encoded)
                } else {
                    Slot::Shared(Box::new(shared()))
                };
                vacant.insert(slot);
                self.partitions += 1;
                self.bytes += SLOT_BYTES + (key.len() + encoded.len()) as u64;
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => {
                if let Update::Put { timestamp, .. } = update
                    && let Some(grown) = self.arena.replace(occupied.get_mut(), timestamp, encoded)
                {
                    self.bytes += grown;
                    return Ok(());
                }
                let update = match update {
                    // A copy of its own, or the cell would keep alive the whole buffer that it came in.
                    _ if encoded.len() <= ARENA_VALUE_MAX => {
                        codec::decode(Bytes::copy_from_slice(encoded))
                    }
                    Update::Put { .. } => codec::decode(shared()),
                    Update::Other(update) => Ok(update),
                };
                let update = update.map_err(|e| undecodable(&e))?;
                merge_slot(occupied.get_mut(), &self.arena, update)?;
                self.bytes += encoded.len() as u64;
            }
        }
        if let Some((above, bits)) = SPLITS.get(self.splits)
            && self.partitions > *above
        {
            self.splits += 1;
            self.split(*bits);
        }
        Ok(())
    }

    /// What is known of a partition here.
    pub(super) fn get(&self, place: &Place) -> Result<Option<Partition>, StorageError> {
        match self.slot(place) {
            None => Ok(None),
            Some(slot) => slot_partition(slot, &self.arena).map(Some),
        }
    }

    /// What is known of a partition here, where it lies.
    pub(super) fn look(&self, place: &Place) -> Option<Stored<'_>> {
        self.slot(place).map(|slot| self.stored(slot))
    }

    /// How many rows a partition has here, if it was merged from several writes.
    pub(super) fn rows_of(&self, place: &Place) -> usize {
        match self.slot(place) {
            Some(Slot::Merged(partition)) => partition.rows.len(),
            _ => 0,
        }
    }

    /// Whether anything is known of a partition here.
    pub(super) fn contains(&self, place: &Place) -> bool {
        self.slot(place).is_some()
    }

    /// Partitions from `start` on, in (token, key) order.
    pub(super) fn iter(
        &self,
        start: Bound<Place>,
    ) -> impl Iterator<Item = (&Place, Stored<'_>)> + '_ {
        let first = match &start {
            Bound::Included(place) | Bound::Excluded(place) => {
                shard_of(place.token, self.shards.len())
            }
            Bound::Unbounded => 0,
        };
        let (head, rest) = self.shards.get(first..).and_then(|s| s.split_first()).unzip();
        head.into_iter()
            .flat_map(move |shard| shard.range((start.clone(), Bound::Unbounded)))
            .chain(rest.unwrap_or(&[]).iter().flatten())
            .map(|(place, slot)| (place, self.stored(slot)))
    }

    /// The partition itself.
    pub(super) fn decode(stored: &Stored<'_>) -> Result<Partition, StorageError> {
        match stored {
            Stored::Encoded(bytes) => {
                codec::decode(Bytes::copy_from_slice(bytes)).map_err(|e| undecodable(&e))
            }
            Stored::Partition(partition) => Ok((*partition).clone()),
        }
    }

    fn stored<'a>(&'a self, slot: &'a Slot) -> Stored<'a> {
        match slot {
            Slot::Arena { chunk, at, len } => Stored::Encoded(self.arena.get(*chunk, *at, *len)),
            Slot::Shared(bytes) => Stored::Encoded(bytes),
            Slot::Merged(partition) => Stored::Partition(partition),
        }
    }

    fn slot(&self, place: &Place) -> Option<&Slot> {
        self.shards.get(shard_of(place.token, self.shards.len()))?.get(place)
    }

    fn split(&mut self, bits: u32) {
        let mut shards: Vec<BTreeMap<Place, Slot>> = Vec::new();
        shards.resize_with(1 << bits, BTreeMap::new);
        for (place, slot) in std::mem::take(&mut self.shards).into_iter().flatten() {
            if let Some(shard) = shards.get_mut(shard_of(place.token, 1 << bits)) {
                shard.insert(place, slot);
            }
        }
        self.shards = shards;
    }
}

/// Which of `shards` maps, a power of two, holds a token: its top bits, as if it were unsigned, so that order stays.
fn shard_of(token: Token, shards: usize) -> usize {
    if shards <= 1 {
        return 0;
    }
    let unsigned = token.0.cast_unsigned() ^ (1 << 63);
    usize::try_from(unsigned >> (64 - shards.trailing_zeros())).unwrap_or(0)
}

fn slot_partition(slot: &Slot, arena: &Arena) -> Result<Partition, StorageError> {
    let encoded = match slot {
        Slot::Merged(partition) => return Ok((**partition).clone()),
        Slot::Shared(bytes) => (**bytes).clone(),
        Slot::Arena { chunk, at, len } => Bytes::copy_from_slice(arena.get(*chunk, *at, *len)),
    };
    codec::decode(encoded).map_err(|e| undecodable(&e))
}

fn merge_slot(slot: &mut Slot, arena: &Arena, update: Partition) -> Result<(), StorageError> {
    if let Slot::Merged(existing) = slot {
        merge::merge(existing, update);
        return Ok(());
    }
    let mut existing = slot_partition(slot, arena)?;
    merge::merge(&mut existing, update);
    *slot = Slot::Merged(Box::new(existing));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(memtable: &mut Memtable, token: i64, key: &[u8], timestamp: i64) {
        let value = Bytes::copy_from_slice(&timestamp.to_be_bytes());
        let update = Partition::put(TimestampMicros(timestamp), value, None);
        merge(memtable, token, key, &update);
    }

    fn merge(memtable: &mut Memtable, token: i64, key: &[u8], update: &Partition) {
        let (token, encoded) = (Token(token), codec::encode(update));
        let shared = || encoded.clone();
        let update = Update::decode(&encoded, shared).unwrap();
        memtable.merge(Position::default(), token, key, update, &encoded, shared).unwrap();
    }

    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 16);
        assert!(size_of::<Place>() <= 32);
    }

    #[test]
    fn order_survives_the_split_into_shards() {
        let mut memtable = Memtable::default();
        let mut expected = Vec::new();
        for i in 0..70_000_i64 {
            // Both ends of the ring, and every place between.
            let token = i.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed());
            put(&mut memtable, token, &i.to_be_bytes(), 1);
            expected.push(Place::new(Token(token), &i.to_be_bytes()));
        }
        expected.sort();
        let all: Vec<Place> =
            memtable.iter(Bound::Unbounded).map(|(place, _)| place.clone()).collect();
        assert_eq!(all, expected);
        assert_eq!((memtable.partitions(), memtable.shards.len()), (70_000, 1 << 15));
        let behind: Vec<Place> = memtable
            .iter(Bound::Excluded(expected[34_999].clone()))
            .map(|(place, _)| place.clone())
            .collect();
        assert_eq!(behind, expected[35_000..]);
    }

    #[test]
    fn a_second_write_merges_and_the_newest_wins_whatever_came_first() {
        let mut memtable = Memtable::default();
        for timestamp in [5, 9, 7] {
            put(&mut memtable, 1, b"k", timestamp);
        }
        let found = memtable.get(&Place::new(Token(1), b"k")).unwrap().unwrap();
        assert_eq!(merge::version(&found), Some(TimestampMicros(9)));
        assert_eq!(memtable.partitions(), 1);
        assert_eq!(memtable.statistics().min_timestamp, Some(TimestampMicros(5)));
        assert!(memtable.get(&Place::new(Token(1), b"x")).unwrap().is_none());
    }

    #[test]
    fn a_put_over_a_put_needs_no_room_if_it_fits() {
        let mut memtable = Memtable::default();
        let place = Place::new(Token(1), b"k");
        let mut put = |timestamp: i64, value: &'static [u8]| {
            let update =
                Partition::put(TimestampMicros(timestamp), Bytes::from_static(value), None);
            merge(&mut memtable, 1, b"k", &update);
            let found = memtable.get(&place).unwrap().unwrap();
            (found == update, memtable.bytes())
        };
        let (_, first) = put(5, b"value");
        assert_eq!(put(6, b"other"), (true, first));
        assert_eq!(put(4, b"older"), (false, first));
        assert_eq!(put(7, b"few"), (true, first));
        let (is_new, grown) = put(8, b"a longer one");
        assert!(is_new && grown > first);
        // Of equal timestamps the greater bytes win, which takes the one merge function.
        assert!(!put(8, b"a").0 && put(8, b"b longer one").0);
        assert!(put(9, b"newest").0);
    }

    #[test]
    fn large_values_and_long_keys_are_kept_too() {
        let mut memtable = Memtable::default();
        let long = vec![7_u8; 100];
        let update = Partition::put(TimestampMicros(1), Bytes::from(vec![1; 100_000]), None);
        merge(&mut memtable, 3, &long, &update);
        assert_eq!(memtable.get(&Place::new(Token(3), &long)).unwrap(), Some(update));
        assert!(memtable.bytes() > 100_000);
        assert!(SmallKey::new(&long) > SmallKey::new(b"\x07"));
        assert_eq!(SmallKey::new(&long).as_slice(), long);
    }
}
