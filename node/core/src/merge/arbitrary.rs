//! Partitions whose timestamps, keys, bounds and values collide as often as they differ.

use super::normalise;
use crate::data::{
    Bound, Cell, ClusteringKey, ColumnId, Complex, Content, Deletion, Expiry, Liveness, Partition,
    RangeTombstone, Row,
};
use crate::types::{GcSeconds, TimestampMicros};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) fn timestamp() -> impl Strategy<Value = TimestampMicros> {
    (0..5_i64).prop_map(TimestampMicros)
}

pub(crate) fn second() -> impl Strategy<Value = GcSeconds> {
    (0..4_u32).prop_map(GcSeconds)
}

pub(crate) fn clustering_key() -> impl Strategy<Value = ClusteringKey> {
    prop::sample::select(vec!["", "a", "b", "bb", "c"])
        .prop_map(|key| ClusteringKey(Bytes::from_static(key.as_bytes())))
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "x", "y"]).prop_map(|b| Bytes::from_static(b.as_bytes()))
}

pub(crate) fn expiry() -> impl Strategy<Value = Option<Expiry>> {
    option::of((1..3_u32, second()).prop_map(|(ttl_s, expires_at)| Expiry { ttl_s, expires_at }))
}

pub(crate) fn cell() -> impl Strategy<Value = Cell> {
    let content = prop_oneof![
        2 => (bytes(), expiry()).prop_map(|(value, expiry)| Content::Value { value, expiry }),
        1 => second().prop_map(|deleted_at| Content::Tombstone { deleted_at }),
    ];
    (timestamp(), content).prop_map(|(timestamp, content)| Cell { timestamp, content })
}

pub(crate) fn deletion() -> impl Strategy<Value = Deletion> {
    (timestamp(), second()).prop_map(|(timestamp, deleted_at)| Deletion { timestamp, deleted_at })
}

fn complex() -> impl Strategy<Value = Complex> {
    (option::weighted(0.4, deletion()), vec((bytes(), cell()), 0..4))
        .prop_map(|(deletion, elements)| Complex { deletion, elements })
}

fn row() -> impl Strategy<Value = Row> {
    let liveness =
        (timestamp(), expiry()).prop_map(|(timestamp, expiry)| Liveness { timestamp, expiry });
    (
        option::weighted(0.4, liveness),
        option::weighted(0.2, deletion()),
        vec(((0..3_u32).prop_map(ColumnId), cell()), 0..4),
        vec(((3..5_u32).prop_map(ColumnId), complex()), 0..3),
    )
        .prop_map(|(liveness, deletion, cells, mut complex)| {
            complex.retain(|(_, it)| !it.is_empty());
            Row { liveness, deletion, cells, complex }
        })
}

/// What a key-value table may hold: one row with no clustering key and one column.
pub(crate) fn key_value() -> impl Strategy<Value = Partition> {
    (option::weighted(0.2, deletion()), row()).prop_map(|(deletion, mut row)| {
        row.cells.truncate(1);
        row.complex.clear();
        row.cells.iter_mut().for_each(|(column, _)| *column = ColumnId::VALUE);
        let rows = vec![(ClusteringKey::default(), row)];
        let mut partition = Partition { deletion, rows, ..Partition::default() };
        normalise(&mut partition);
        partition
    })
}

fn bound() -> impl Strategy<Value = Bound> {
    prop_oneof![
        1 => Just(Bound::Open),
        2 => clustering_key().prop_map(Bound::Included),
        2 => clustering_key().prop_map(Bound::Excluded),
    ]
}

pub(crate) fn range() -> impl Strategy<Value = RangeTombstone> {
    (bound(), bound(), deletion()).prop_map(|(start, end, deletion)| RangeTombstone {
        start,
        end,
        deletion,
    })
}

/// As a careless caller might build one: unsorted, with twins, with ranges that are empty or overlap.
pub(crate) fn rough_partition() -> impl Strategy<Value = Partition> {
    (
        option::weighted(0.2, deletion()),
        option::weighted(0.2, row()),
        vec(range(), 0..4),
        vec((clustering_key(), row()), 0..5),
    )
        .prop_map(|(deletion, static_row, ranges, rows)| Partition {
            deletion,
            static_row,
            ranges,
            rows,
        })
}

/// In normal form.
pub(crate) fn partition() -> impl Strategy<Value = Partition> {
    let put = (timestamp(), bytes(), expiry()).prop_map(|(t, v, e)| Partition::put(t, v, e));
    let delete = deletion().prop_map(|d| Partition::delete(d.timestamp, d.deleted_at));
    let any = rough_partition().prop_map(|mut partition| {
        normalise(&mut partition);
        partition
    });
    prop_oneof![2 => put, 1 => delete, 7 => any]
}
