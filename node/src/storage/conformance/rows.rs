//! Parts of partitions: whatever an engine reads for them, they are what the core cuts out of the whole.

use super::{FAR, Harness, TABLE, apply, key, opened, put, read, write};
use crate::storage::{Engine, RangeRows, RangeStart};
use bytes::Bytes;
use helenus_core::read::{AsOf, Part, RowFilter, Slice, select};
use helenus_core::{
    Bound, Cell, ClusteringKey, ColumnId, Content, Deletion, GcSeconds, Partition, RangeTombstone,
    Row, TimestampMicros, Token, merge, token,
};

/// Nothing expires, and no tombstone is forgotten.
pub(crate) const NOW: AsOf = AsOf { now: GcSeconds(1), gc_grace_seconds: 0 };

pub(crate) fn row_key(nth: u32) -> ClusteringKey {
    ClusteringKey(Bytes::from(format!("row {nth:06}")))
}

/// Some rows of a partition, of a length that makes a few hundred of them a wide one.
pub(crate) fn rows(nths: impl Iterator<Item = u32>, timestamp: i64) -> Partition {
    let row = |nth: u32| {
        let value = Bytes::from(format!("{timestamp:0>8} {nth:0>90}"));
        let content = Content::Value { value, expiry: None };
        let cell = Cell { timestamp: TimestampMicros(timestamp), content };
        (row_key(nth), Row { cells: vec![(ColumnId(1), cell)], ..Row::default() })
    };
    let mut partition = Partition { rows: nths.map(row).collect(), ..Partition::default() };
    merge::normalise(&mut partition);
    partition
}

fn deletion(timestamp: i64) -> Deletion {
    Deletion { timestamp: TimestampMicros(timestamp), deleted_at: GcSeconds(FAR) }
}

/// Deletes rows one by one, and all between two of them.
pub(crate) fn deletions(
    one: impl Iterator<Item = u32>,
    all: [u32; 2],
    timestamp: i64,
) -> Partition {
    let row =
        |nth: u32| (row_key(nth), Row { deletion: Some(deletion(timestamp)), ..Row::default() });
    let [start, end] = all.map(row_key);
    let range = RangeTombstone {
        start: Bound::Included(start),
        end: Bound::Excluded(end),
        deletion: deletion(timestamp),
    };
    let mut partition =
        Partition { rows: one.map(row).collect(), ranges: vec![range], ..Partition::default() };
    merge::normalise(&mut partition);
    partition
}

/// One round of writes to a partition of `count` rows: it overwrites, deletes and adds.
pub(crate) fn round(nth: u32, count: u32) -> Vec<Partition> {
    let timestamp = 10 * i64::from(nth);
    let mut writes: Vec<Partition> = (0..count)
        .step_by(40)
        .map(|from| {
            rows((from..count.min(from + 40)).filter(|row| row % (nth + 1) == 0), timestamp)
        })
        .collect();
    let gone = (0..count).filter(|row| row % 17 == nth);
    let from = count / 7 * (nth + 1);
    writes.push(deletions(gone, [from, from + count / 10], timestamp + 5));
    writes
}

fn slice(start: u32, end: Option<u32>) -> Slice {
    Slice { start: row_key(start), end: end.map(row_key) }
}

/// Reads part of a partition in many ways, each to its end, and holds it against the whole.
pub(crate) fn check_parts(engine: &dyn Engine, name: &str, count: u32) {
    let whole = read(engine, name).unwrap();
    let (token, key) = (token::of(name.as_bytes()), key(name));
    let slices = [
        vec![Slice::all()],
        vec![slice(count / 2, None)],
        vec![slice(3, Some(4)), slice(count / 3, Some(count / 2)), slice(count - 5, None)],
        vec![slice(count + 1, None)],
    ];
    for slices in slices {
        for (reversed, rows, bytes) in [
            (false, 29, u32::MAX),
            (true, 29, u32::MAX),
            (false, 300, u32::MAX),
            (true, 300, u32::MAX),
            (false, u32::MAX, 9_000),
            (true, u32::MAX, 9_000),
            (true, u32::MAX, u32::MAX),
        ] {
            let mut filter =
                RowFilter { slices: slices.clone(), reversed, static_row: true, rows, bytes };
            let all = RowFilter { rows: u32::MAX, bytes: u32::MAX, ..filter.clone() };
            let expected = select(whole.clone(), &all, NOW).partition;
            let (mut found, mut parts) = (Partition::default(), 0);
            loop {
                let part = engine.read_rows(TABLE, token, &key, &filter, NOW).unwrap();
                if bytes == u32::MAX {
                    assert_eq!(part, select(whole.clone(), &filter, NOW), "{filter:?}");
                }
                parts += 1;
                assert!(parts <= 2 * count, "it comes to an end");
                merge::merge(&mut found, part.partition);
                match part.next {
                    Some(next) => filter.slices = filter.rest(&next),
                    None => break,
                }
            }
            assert!(found == expected, "{filter:?}");
        }
    }
}

pub(crate) async fn parts_are_cut_out_of_all_that_is_known(harness: &mut impl Harness) {
    const ROWS: u32 = 500;
    let engine = opened(harness).await;
    for nth in 0..3 {
        for update in round(nth, ROWS) {
            apply(&*engine, write("wide", update)).await;
        }
        apply(&*engine, write(&format!("narrow {nth}"), put(1, "value"))).await;
        if nth < 2 {
            engine.flush(Some(TABLE)).await.unwrap();
        }
    }
    apply(&*engine, write("wide", rows([9].into_iter(), 100))).await;
    check_parts(&*engine, "wide", ROWS);
    // All at once, of all partitions.
    for (limit, bytes) in [(1, usize::MAX), (3, usize::MAX), (100, 1)] {
        let filter = RowFilter {
            slices: vec![Slice::all()],
            reversed: false,
            static_row: true,
            rows: 20,
            bytes: u32::MAX,
        };
        let (mut start, mut found) = (RangeStart::First, Vec::new());
        loop {
            let wanted = RangeRows {
                start: &start,
                until: Token::MAX,
                limit,
                bytes,
                filter: &filter,
                as_of: NOW,
            };
            let page = engine.range_rows(TABLE, &wanted).unwrap();
            assert!(page.parts.len() <= if bytes == 1 { 1 } else { limit });
            found.extend(page.parts);
            match found.last() {
                Some((token, key, _)) if page.more => {
                    start = RangeStart::AfterKey(*token, key.clone());
                }
                _ => break,
            }
        }
        let mut expected: Vec<(Token, _, Part)> = ["wide", "narrow 0", "narrow 1", "narrow 2"]
            .map(|name| {
                let whole = read(&*engine, name).unwrap();
                (token::of(name.as_bytes()), key(name), select(whole, &filter, NOW))
            })
            .into();
        expected.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        assert!(found == expected);
    }
}
