//! What was written since the last flush, in (token, key) order.
//!
//! Tokens are evenly spread, so their top bits make a perfect first level: thousands of short sorted vectors (`shard`), of
//! which the whole of one lies in a few cache lines, and there are more of them as the table grows. (A key of 16 bytes with a
//! value of 100 takes 161 bytes; with a tree for each prefix and keys in its nodes it took 201.)
//!
//! Keys and values lie in an arena, side by side, and what is sorted is sixteen bytes: the token and where they are. A
//! partition that was written once stays as the bytes it came in: a flush copies instead of encoding, and no small value
//! pins the network buffer it arrived in. So does one that is put again, since the newer of two puts wins whole. Whatever
//! else is written again becomes a decoded [`Partition`].
//!
//! Invariants: `bytes` only grows and is at least what the values and keys take; iteration is in (token, key) order.
//!
//! Bounded: by its owner, who freezes it when all of them are too large, and at the latest when [`Memtable::is_full`].

mod arena;
mod shard;

use super::log::Position;
use super::place::Place;
use super::undecodable;
use crate::storage::{StorageError, Update};
use arena::Arena;
use bytes::Bytes;
use helenus_core::merge::{self, Statistics};
use helenus_core::{Partition, TimestampMicros, Token, codec};
use shard::{At, Entry, OTHER, Shard};
use std::ops::Bound;

/// With more partitions to a shard than this there are eight times as many shards.
const SHARD_PARTITIONS_MAX: usize = 24;
const SHARDS_MAX: usize = 1 << 18;
/// Encodings up to this size are copied into the arena; larger ones are kept as they came.
const ARENA_VALUE_MAX: usize = 4096;
/// A longer key is refused. Coordinators refuse it too, as Cassandra does.
pub(super) const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// What a partition takes besides its key and value: its entry, and its share of vectors that are not full, of what the
/// allocator adds to each, and of the list of shards.
const ENTRY_BYTES: u64 = 32;

/// What lies elsewhere than in the arena.
#[derive(Debug)]
enum Other {
    /// The encoding, as it came.
    Shared(Bytes),
    /// Merged from several writes.
    Merged(Partition),
}

/// A partition as a flush or a scan sees it.
#[derive(Debug)]
pub(super) enum Stored<'a> {
    /// Canonical bytes.
    Encoded(&'a [u8]),
    /// Decoded.
    Partition(&'a Partition),
}

/// A partition and where it sorts.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) token: Token,
    pub(super) key: &'a [u8],
    pub(super) stored: Stored<'a>,
}

/// Where a partition is in a memtable, or where it would be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    token: Token,
    /// Of its shard.
    number: usize,
    at: Result<At, At>,
}

/// One table's memtable.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    /// One for each token prefix, a power of two of them. Empty until the first write.
    shards: Vec<Shard>,
    arena: Arena,
    others: Vec<Other>,
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

    /// It has to be flushed, whatever memory there is.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= arena::BYTES_MAX
    }

    /// Where the log holds the first write in here.
    pub(super) fn first(&self) -> Option<Position> {
        self.first
    }

    /// Over all that was written, whether or not it was overwritten since: bounds, not counts.
    pub(super) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Where a partition is or would be, until the next write.
    pub(super) fn locate(&self, token: Token, key: &[u8]) -> Spot {
        let (number, within) = shard_of(token, self.shards.len());
        let found = |shard: &Shard| shard.find((token, within), key, &self.arena);
        Spot { token, number, at: self.shards.get(number).map_or(Err((0, 0)), found) }
    }

    /// Merges one write where [`Memtable::locate`] said. `encoded` is the encoding of `update`; `shared` gives the same
    /// bytes to be kept.
    pub(super) fn merge(
        &mut self,
        at: Position,
        spot: Spot,
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
            self.shards.push(Shard::default());
        }
        let Spot { token, number, at } = spot;
        let place = match at {
            Ok(place) => place,
            Err(place) => {
                let entry = self.store(token, key, encoded, &shared)?;
                let Some(shard) = self.shards.get_mut(number) else { return Ok(()) };
                shard.insert(place, entry);
                self.partitions += 1;
                self.bytes += ENTRY_BYTES + (key.len() + encoded.len()) as u64;
                self.split();
                return Ok(());
            }
        };
        let entry = self.shards.get(number).and_then(|shard| shard.get(place));
        let Some(entry) = entry.copied() else { return Ok(()) };
        let changed = match &update {
            Update::Put { timestamp, .. } => self.replace(entry, *timestamp, key, encoded)?,
            Update::Other(_) => None,
        };
        let changed = match changed {
            Some(changed) => changed,
            None => {
                let update = match update {
                    // A copy of its own, or the cell would keep alive the whole buffer that it came in.
                    _ if encoded.len() <= ARENA_VALUE_MAX => {
                        codec::decode(Bytes::copy_from_slice(encoded))
                    }
                    Update::Put { .. } => codec::decode(shared()),
                    Update::Other(update) => Ok(update),
                };
                self.bytes += encoded.len() as u64;
                self.merge_into(entry, key, update.map_err(|e| undecodable(&e))?)?
            }
        };
        if let Some(entry) = self.shards.get_mut(number).and_then(|shard| shard.get_mut(place)) {
            *entry = changed;
        }
        Ok(())
    }

    /// An entry for a partition that is new here.
    fn store(
        &mut self,
        token: Token,
        key: &[u8],
        encoded: &[u8],
        shared: impl Fn() -> Bytes,
    ) -> Result<Entry, StorageError> {
        match u16::try_from(encoded.len()) {
            Ok(value_len) if encoded.len() <= ARENA_VALUE_MAX => {
                self.put(token, key, encoded, value_len)
            }
            _ => self.put_other(token, key, Other::Shared(shared())),
        }
    }

    fn put_other(&mut self, token: Token, key: &[u8], it: Other) -> Result<Entry, StorageError> {
        let index = u32::try_from(self.others.len()).unwrap_or(u32::MAX);
        let entry = self.put(token, key, &index.to_le_bytes(), OTHER)?;
        self.others.push(it);
        Ok(entry)
    }

    fn put(
        &mut self,
        token: Token,
        key: &[u8],
        value: &[u8],
        value_len: u16,
    ) -> Result<Entry, StorageError> {
        let too_large = || StorageError::TooLarge {
            bytes: (key.len() + value.len()) as u64,
            limit: KEY_BYTES_MAX as u64,
        };
        let key_len = u16::try_from(key.len()).map_err(|_| too_large())?;
        let at = self.arena.put(key, value).ok_or_else(too_large)?;
        Ok(Entry { token, at, key_len, value_len })
    }

    /// Merges a put into a partition that is one put, which needs no decoding: the newer of the two wins whole. It is
    /// written over the older one where it fits. `None`: it takes more than that.
    fn replace(
        &mut self,
        entry: Entry,
        new: TimestampMicros,
        key: &[u8],
        encoded: &[u8],
    ) -> Result<Option<Entry>, StorageError> {
        if entry.value_len == OTHER {
            return Ok(None);
        }
        let Some(held) = codec::peek_put(entry.value(&self.arena)) else { return Ok(None) };
        let Ok(value_len) = u16::try_from(encoded.len()) else { return Ok(None) };
        if new == held.timestamp || encoded.len() > ARENA_VALUE_MAX {
            return Ok(None);
        }
        if new < held.timestamp {
            return Ok(Some(entry));
        }
        if value_len <= entry.value_len
            && let Some(place) =
                self.arena.get_mut(entry.at, usize::from(entry.key_len), encoded.len())
        {
            place.copy_from_slice(encoded);
            return Ok(Some(Entry { value_len, ..entry }));
        }
        self.bytes += (key.len() + encoded.len()) as u64;
        self.put(entry.token, key, encoded, value_len).map(Some)
    }

    /// Merges an update into what an entry holds, decoded.
    fn merge_into(
        &mut self,
        entry: Entry,
        key: &[u8],
        update: Partition,
    ) -> Result<Entry, StorageError> {
        let decode = |encoded: Bytes| codec::decode(encoded).map_err(|e| undecodable(&e));
        if entry.value_len == OTHER {
            if let Some(other) = self.others.get_mut(index(&entry, &self.arena)) {
                if let Other::Shared(encoded) = other {
                    *other = Other::Merged(decode(std::mem::take(encoded))?);
                }
                if let Other::Merged(held) = other {
                    merge::merge(held, update);
                }
            }
            return Ok(entry);
        }
        let mut held = decode(Bytes::copy_from_slice(entry.value(&self.arena)))?;
        merge::merge(&mut held, update);
        self.bytes += (key.len() + size_of::<Other>()) as u64;
        self.put_other(entry.token, key, Other::Merged(held))
    }

    /// What is known of a partition here. A large value is shared, not copied.
    pub(super) fn get(&self, place: &Place) -> Result<Option<Partition>, StorageError> {
        let Some(entry) = self.entry(place) else { return Ok(None) };
        let encoded = match self.other(entry) {
            Some(Other::Merged(partition)) => return Ok(Some(partition.clone())),
            Some(Other::Shared(encoded)) => encoded.clone(),
            None => Bytes::copy_from_slice(entry.value(&self.arena)),
        };
        codec::decode(encoded).map(Some).map_err(|e| undecodable(&e))
    }

    /// What is known of a partition here, where it lies.
    pub(super) fn look(&self, place: &Place) -> Option<Stored<'_>> {
        self.entry(place).map(|entry| self.stored(entry))
    }

    fn entry(&self, place: &Place) -> Option<&Entry> {
        let spot = self.locate(place.token, place.key.as_slice());
        self.shards.get(spot.number)?.get(spot.at.ok()?)
    }

    /// What an entry holds, if that is not in the arena.
    fn other(&self, entry: &Entry) -> Option<&Other> {
        if entry.value_len != OTHER {
            return None;
        }
        self.others.get(index(entry, &self.arena))
    }

    /// How many rows a partition has here, if it was merged from several writes.
    pub(super) fn rows_of(&self, place: &Place) -> usize {
        match self.look(place) {
            Some(Stored::Partition(partition)) => partition.rows.len(),
            _ => 0,
        }
    }

    /// Whether anything is known of a partition here.
    pub(super) fn contains(&self, place: &Place) -> bool {
        self.look(place).is_some()
    }

    /// Partitions from `start` on, in (token, key) order.
    pub(super) fn iter(&self, start: &Bound<Place>) -> impl Iterator<Item = Held<'_>> + '_ {
        let (number, at) = match start {
            Bound::Unbounded => (0, (0, 0)),
            Bound::Included(place) | Bound::Excluded(place) => {
                let spot = self.locate(place.token, place.key.as_slice());
                let at = match spot.at {
                    Ok((run, at)) if matches!(start, Bound::Excluded(_)) => (run, at + 1),
                    Ok(at) | Err(at) => at,
                };
                (spot.number, at)
            }
        };
        let (first, rest) = self.shards.get(number..).and_then(|s| s.split_first()).unzip();
        let rest = rest.unwrap_or(&[]).iter().flat_map(|shard| shard.from((0, 0)));
        first.into_iter().flat_map(move |shard| shard.from(at)).chain(rest).map(|entry| Held {
            token: entry.token,
            key: entry.key(&self.arena),
            stored: self.stored(entry),
        })
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

    fn stored(&self, entry: &Entry) -> Stored<'_> {
        match self.other(entry) {
            Some(Other::Shared(bytes)) => Stored::Encoded(bytes),
            Some(Other::Merged(partition)) => Stored::Partition(partition),
            None => Stored::Encoded(entry.value(&self.arena)),
        }
    }

    /// More shards, if there are many partitions to each.
    fn split(&mut self) {
        let shards = self.shards.len();
        if self.partitions <= shards * SHARD_PARTITIONS_MAX || shards >= SHARDS_MAX {
            return;
        }
        let mut split: Vec<Shard> = Vec::new();
        split.resize_with(shards * 8, Shard::default);
        for shard in std::mem::take(&mut self.shards) {
            for entry in shard.from((0, 0)) {
                if let Some(shard) = split.get_mut(shard_of(entry.token, shards * 8).0) {
                    shard.push(*entry);
                }
            }
        }
        self.shards = split;
    }
}

/// Which of `others` an entry means.
fn index(entry: &Entry, arena: &Arena) -> usize {
    let bytes = entry.value(arena).first_chunk().copied().unwrap_or([u8::MAX; 4]);
    u32::from_le_bytes(bytes) as usize
}

/// Which of `shards`, a power of two, holds a token: its top bits, as if it were unsigned, so that order stays. And how far
/// into it the token lies, of 2^32.
fn shard_of(token: Token, shards: usize) -> (usize, u32) {
    let unsigned = token.0.cast_unsigned() ^ (1 << 63);
    let both = u128::from(unsigned) << shards.max(1).trailing_zeros();
    #[expect(clippy::cast_possible_truncation, reason = "the upper half of what is below 2^64")]
    let within = (both >> 32) as u32;
    (usize::try_from(both >> 64).unwrap_or(0), within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_core::{Deletion, GcSeconds};

    fn put(memtable: &mut Memtable, token: i64, key: &[u8], timestamp: i64) {
        let value = Bytes::copy_from_slice(&timestamp.to_be_bytes());
        let update = Partition::put(TimestampMicros(timestamp), value, None);
        merge(memtable, token, key, &update);
    }

    fn merge(memtable: &mut Memtable, token: i64, key: &[u8], update: &Partition) {
        let (token, encoded) = (Token(token), codec::encode(update));
        let shared = || encoded.clone();
        let update = Update::decode(&encoded, shared).unwrap();
        let spot = memtable.locate(token, key);
        memtable.merge(Position::default(), spot, key, update, &encoded, shared).unwrap();
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
            memtable.iter(&Bound::Unbounded).map(|held| Place::new(held.token, held.key)).collect();
        assert_eq!(all, expected);
        assert_eq!((memtable.partitions(), memtable.shards.len()), (70_000, 1 << 12));
        let behind: Vec<Place> = memtable
            .iter(&Bound::Excluded(expected[34_999].clone()))
            .map(|held| Place::new(held.token, held.key))
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
        // What came large is merged where it is; what came small moves to where it can be.
        let deletion = Partition { deletion: Some(deletion(2)), ..Partition::default() };
        for (token, key) in [(3, long.as_slice()), (4, b"few")] {
            put(&mut memtable, 4, b"few", 1);
            merge(&mut memtable, token, key, &deletion);
            let place = Place::new(Token(token), key);
            assert_eq!(memtable.get(&place).unwrap().as_ref(), Some(&deletion));
            let newer = Partition::put(TimestampMicros(3), Bytes::from_static(b"new"), None);
            merge(&mut memtable, token, key, &newer);
            let found = memtable.get(&place).unwrap().unwrap();
            assert_eq!((found.deletion, found.rows), (deletion.deletion, newer.rows));
        }
        assert_eq!(memtable.partitions(), 2);
    }

    fn deletion(timestamp: i64) -> Deletion {
        Deletion { timestamp: TimestampMicros(timestamp), deleted_at: GcSeconds(1) }
    }

    #[test]
    fn a_key_that_is_too_long_is_refused() {
        let mut memtable = Memtable::default();
        let (update, key) = (Partition::default(), vec![0; KEY_BYTES_MAX + 1]);
        let encoded = codec::encode(&update);
        let merge = memtable.merge(
            Position::default(),
            memtable.locate(Token(0), &key),
            &key,
            Update::Other(update),
            &encoded,
            || encoded.clone(),
        );
        assert!(matches!(merge, Err(StorageError::TooLarge { bytes: 65_538, .. })), "{merge:?}");
        assert!(memtable.is_empty());
    }
}
