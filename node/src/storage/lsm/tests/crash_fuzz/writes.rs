//! Keys, and writes of every kind: values with and without a TTL, rows, and tombstones of partitions, rows and ranges.

use bytes::Bytes;
use helenus_core::data::{
    Bound, Cell, ClusteringKey, Complex, Content, Deletion, Expiry, Liveness, RangeTombstone, Row,
};
use helenus_core::{ColumnId, GcSeconds, Key, Partition, TimestampMicros, Token};
use rand::Rng as _;
use rand::rngs::SmallRng;

/// The `number`th key and its token. Some keys are longer than what fits in a memtable's slot.
pub(super) fn key(number: usize) -> (Token, Key) {
    let mut bytes = (number as u64).to_be_bytes()[4..].to_vec();
    if number % 5 == 4 {
        bytes.resize(30, b'-');
    }
    let token = xxhash_rust::xxh3::xxh3_64(&bytes).cast_signed();
    (Token(token), Key(bytes.into()))
}

/// A write.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) key: usize,
    pub(super) update: Partition,
    /// What each of its cells holds.
    pub(super) value: Bytes,
    /// When it, or what its TTL makes of it, counts as deleted.
    pub(super) dies_at: Option<u32>,
}

impl Made {
    /// A tombstone over a whole partition.
    pub(super) fn tombstone(key: usize, update: Partition, now: GcSeconds) -> Made {
        Made { key, update, value: Bytes::new(), dies_at: Some(now.0) }
    }

    /// A plain value.
    pub(super) fn value(key: usize, timestamp: TimestampMicros, value: &'static [u8]) -> Made {
        let value = Bytes::from_static(value);
        let update = Partition::put(timestamp, value.clone(), None);
        Made { key, update, value, dies_at: None }
    }
}

/// Of the `nth` write, if it is on time.
pub(super) fn timestamp_of(nth: i64) -> TimestampMicros {
    TimestampMicros(nth * 100)
}

/// Writes mostly come in order. Some come late, as hints do, but none is older than `floor`. No two are alike.
pub(super) fn timestamp(rng: &mut SmallRng, nth: i64, floor: i64) -> TimestampMicros {
    let late = if rng.random_bool(0.25) { rng.random_range(0..12) } else { 0 };
    // The low digits tell a late write from the one that was on time.
    let of = |nth: i64, late: i64| nth * 100 + late;
    let timestamp = of(nth - late, late);
    TimestampMicros(if timestamp > floor { timestamp } else { of(nth, 0) })
}

/// A write of some kind to a key.
pub(super) fn make(
    rng: &mut SmallRng,
    key: usize,
    timestamp: TimestampMicros,
    now: GcSeconds,
    bytes_max: usize,
) -> Made {
    let deletion = Deletion { timestamp, deleted_at: now };
    let mut value = Bytes::new();
    let mut dies_at = Some(now.0);
    let update = match rng.random_range(0..100) {
        0..13 => Partition::delete(timestamp, now),
        13..15 => {
            let complex = Complex { deletion: Some(deletion), elements: Vec::new() };
            let row = Row { complex: vec![(ColumnId(7), complex)], ..Row::default() };
            Partition {
                rows: vec![(clustering(rng.random_range(0..4)), row)],
                ..Partition::default()
            }
        }
        15..19 => Partition {
            ranges: vec![RangeTombstone {
                start: Bound::Included(clustering(rng.random_range(0..2))),
                end: Bound::Excluded(clustering(rng.random_range(2..5))),
                deletion,
            }],
            ..Partition::default()
        },
        19..23 => {
            let row = Row { deletion: Some(deletion), ..Row::default() };
            Partition {
                rows: vec![(clustering(rng.random_range(0..4)), row)],
                ..Partition::default()
            }
        }
        kind => {
            let len = rng.random_range(0..=bytes_max);
            // Half of it can be packed.
            value = (0..len).map(|i| if i % 2 == 0 { rng.random() } else { 7 }).collect();
            let expiry = (kind < 35).then(|| {
                let ttl_s = rng.random_range(1..30);
                Expiry { ttl_s, expires_at: GcSeconds(now.0 + ttl_s) }
            });
            dies_at = expiry.map(|_| now.0);
            if kind < 80 {
                Partition::put(timestamp, value.clone(), expiry)
            } else {
                rows(rng, timestamp, &value, expiry)
            }
        }
    };
    Made { key, update, value, dies_at }
}

fn clustering(number: u8) -> ClusteringKey {
    ClusteringKey(Bytes::copy_from_slice(&[number + 1]))
}

fn rows(
    rng: &mut SmallRng,
    timestamp: TimestampMicros,
    value: &Bytes,
    expiry: Option<Expiry>,
) -> Partition {
    let first = rng.random_range(0..3);
    let liveness = rng.random_bool(0.7).then_some(Liveness { timestamp, expiry });
    let cell = || Cell { timestamp, content: Content::Value { value: value.clone(), expiry } };
    let cells = (1..=rng.random_range(1..3)).map(|column| (ColumnId(column), cell()));
    // A column written element by element, each under its own path.
    let complex = rng.random_bool(0.5).then(|| {
        let paths = 0..rng.random_range(1..4_u8);
        let elements = paths.map(|path| (Bytes::copy_from_slice(&[path]), cell()));
        (ColumnId(7), Complex { deletion: None, elements: elements.collect() })
    });
    let cells = cells.collect();
    let row = Row { liveness, deletion: None, cells, complex: complex.into_iter().collect() };
    let count = rng.random_range(1..3);
    Partition {
        rows: (first..first + count).map(|n| (clustering(n), row.clone())).collect(),
        ..Partition::default()
    }
}
