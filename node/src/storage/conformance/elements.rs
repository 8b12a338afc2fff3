//! Columns whose elements are cells of their own.

use super::{FAR, Harness, apply, opened, read, write};
use bytes::Bytes;
use helenus_core::{
    Cell, ClusteringKey, ColumnId, Complex, Content, Deletion, GcSeconds, Partition, Row,
    TimestampMicros, merge,
};

pub(super) fn set_element(timestamp: i64) -> Cell {
    let content = Content::Value { value: Bytes::new(), expiry: None };
    Cell { timestamp: TimestampMicros(timestamp), content }
}

/// A write to a column whose elements are written one by one, in normal form.
pub(super) fn with_elements<const N: usize>(
    deleted: Option<i64>,
    elements: [(Bytes, Cell); N],
) -> Partition {
    let deletion = deleted.map(|timestamp| Deletion {
        timestamp: TimestampMicros(timestamp),
        deleted_at: GcSeconds(FAR),
    });
    let complex = Complex { deletion, elements: elements.to_vec() };
    let row = Row { complex: vec![(ColumnId(3), complex)], ..Row::default() };
    let rows = vec![(ClusteringKey(Bytes::from_static(b"a")), row)];
    let mut partition = Partition { rows, ..Partition::default() };
    merge::normalise(&mut partition);
    partition
}

pub(crate) async fn elements_merge_one_by_one_wherever_they_lie(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    let path = |text: &'static str| Bytes::from_static(text.as_bytes());
    let gone = Content::Tombstone { deleted_at: GcSeconds(FAR) };
    let removed = Cell { timestamp: TimestampMicros(9), content: gone };
    let updates = [
        with_elements(None, [(path("covered"), set_element(3))]),
        // The whole, written anew, shadows what is older.
        with_elements(Some(4), [(path("kept"), set_element(5)), (path("taken"), set_element(5))]),
        with_elements(None, [(path("added"), set_element(6))]),
        with_elements(None, [(path("taken"), removed.clone())]),
    ];
    let expected =
        [(path("added"), set_element(6)), (path("kept"), set_element(5)), (path("taken"), removed)];
    let expected = with_elements(Some(4), expected);
    for flushed in 0..=updates.len() {
        let name = format!("k{flushed}");
        for (at, update) in updates.iter().enumerate() {
            apply(&*engine, write(&name, update.clone())).await;
            if at == flushed {
                engine.flush(None).await.unwrap();
            }
        }
        assert_eq!(read(&*engine, &name), Some(expected.clone()), "flushed after {flushed}");
    }
    harness.crash(engine).await;
    let engine = opened(harness).await;
    for compacted in [false, true] {
        for flushed in 0..=updates.len() {
            let found = read(&*engine, &format!("k{flushed}"));
            assert_eq!(found, Some(expected.clone()), "compacted: {compacted}");
        }
        engine.flush(None).await.unwrap();
        engine.compact(None).await.unwrap();
    }
}
