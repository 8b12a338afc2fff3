//! What every engine must do, in one suite that runs on each of them.
//!
//! A harness opens the engine on one and the same data again and again, and lets it crash; `conformance!(Harness)` makes
//! a test of every claim below. Only what was acknowledged is expected to be there, so a case awaits what `apply` gave
//! it before it looks. Deletions and expiries lie in the far future, so that no compaction forgets them: what compaction
//! may forget is the core's business, tested there.

mod elements;
mod lsm;
pub(crate) mod rows;

pub(crate) use rows::parts_are_cut_out_of_all_that_is_known;

pub(crate) use elements::elements_merge_one_by_one_wherever_they_lie;

use super::{Applied, Engine, RangeStart, StorageError, Write};
use bytes::Bytes;
use elements::{set_element, with_elements};
use helenus_core::{
    Bound, ClusteringKey, Columns, Deletion, Expiry, GcSeconds, Key, Partition, RangeTombstone,
    TableDef, TableId, TableOptions, TimestampMicros, Token, codec, merge, token,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// An engine's data, and the ways to open and to lose the engine.
pub(crate) trait Harness {
    /// No data yet.
    fn new() -> Self;
    /// Opens the engine on the data as they are, with the tables of the schema. An engine that was there before has been
    /// shut down or has crashed.
    async fn open(&mut self, tables: &[TableDef]) -> Arc<dyn Engine>;
    /// The engine ends as in a crash; the data keep what is durable, and whatever else pleases the disk.
    async fn crash(&mut self, engine: Arc<dyn Engine>);
}

/// A test of every claim.
macro_rules! conformance {
    ($harness:ty) => {
        conformance!($harness:
            a_put_is_read_and_a_later_one_replaces_it,
            opening_a_table_again_changes_nothing_but_its_options,
            a_delete_is_read_as_a_tombstone_and_covers_what_comes_late,
            writes_merge_alike_in_every_order,
            elements_merge_one_by_one_wherever_they_lie,
            a_value_ends_with_its_ttl,
            pages_come_in_token_and_key_order_across_flushes,
            a_page_says_whether_there_is_more,
            a_scan_hands_out_the_bytes_of_what_pages_hold,
            parts_are_cut_out_of_all_that_is_known,
            keys_of_one_token_are_told_apart,
            a_clean_shutdown_loses_nothing,
            a_crash_loses_nothing_acknowledged,
            a_dropped_table_is_gone_and_its_successor_is_empty,
            many_writes_at_once_are_all_applied,
            a_table_that_is_not_open_is_an_error,
            nothing_is_written_after_shutdown,
            figures_count_reads_and_writes,
            it_does_what_a_map_of_partitions_does,
        );
    };
    ($harness:ty: $($claim:ident,)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $claim() {
                let mut harness = <$harness as $crate::storage::conformance::Harness>::new();
                $crate::storage::conformance::$claim(&mut harness).await;
            }
        )*
    };
}
pub(crate) use conformance;

/// Later than any clock in a test.
const FAR: u32 = 4_000_000_000;
const TABLE: TableId = TableId(1);

pub(crate) fn table(id: TableId) -> TableDef {
    TableDef {
        id,
        keyspace: "ks".to_owned(),
        name: format!("table_{}", id.0),
        columns: Columns::key_value(),
        options: TableOptions::default(),
        altered: TimestampMicros(1),
        dropped: false,
    }
}

fn key(text: &str) -> Key {
    Key(Bytes::copy_from_slice(text.as_bytes()))
}

fn write_to(table: TableId, name: &str, update: Partition) -> Write {
    Write::of(table, key(name), token::of(name.as_bytes()), update)
}

pub(crate) fn write(name: &str, update: Partition) -> Write {
    write_to(TABLE, name, update)
}

pub(crate) fn put(timestamp: i64, value: &str) -> Partition {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Partition::put(TimestampMicros(timestamp), value, None)
}

fn delete(timestamp: i64) -> Partition {
    Partition::delete(TimestampMicros(timestamp), GcSeconds(FAR))
}

/// Waits until the write may be acknowledged, as the replica does.
async fn acknowledged(engine: &dyn Engine, applied: Applied) -> Result<(), StorageError> {
    engine.commit()?;
    match applied {
        Applied::Now => Ok(()),
        Applied::After(done) => done.await,
    }
}

async fn apply(engine: &dyn Engine, write: Write) {
    let applied = engine.apply(write).unwrap();
    acknowledged(engine, applied).await.unwrap();
}

fn read(engine: &dyn Engine, name: &str) -> Option<Partition> {
    engine.read(TABLE, token::of(name.as_bytes()), &key(name)).unwrap()
}

fn value(engine: &dyn Engine, name: &str) -> Option<String> {
    let partition = read(engine, name)?;
    let (value, _) = merge::live_value(&partition, GcSeconds(0))?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

async fn opened(harness: &mut impl Harness) -> Arc<dyn Engine> {
    harness.open(&[table(TABLE)]).await
}

/// All partitions, read in pages.
fn scan(engine: &dyn Engine, limit: usize) -> Vec<(Token, Key, Partition)> {
    let mut all = Vec::new();
    let mut start = RangeStart::First;
    loop {
        let page = engine.range(TABLE, &start, Token::MAX, limit).unwrap();
        assert!(page.partitions.len() <= limit);
        let Some((token, key, _)) = page.partitions.last() else { return all };
        start = RangeStart::AfterKey(*token, key.clone());
        let more = page.more;
        all.extend(page.partitions);
        if !more {
            return all;
        }
    }
}

pub(crate) async fn a_put_is_read_and_a_later_one_replaces_it(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    assert_eq!(read(&*engine, "k"), None);
    apply(&*engine, write("k", put(1, "old"))).await;
    assert_eq!(read(&*engine, "k"), Some(put(1, "old")));
    apply(&*engine, write("k", put(2, "new"))).await;
    assert_eq!(read(&*engine, "k"), Some(put(2, "new")));
    engine.flush(None).await.unwrap();
    assert_eq!(read(&*engine, "k"), Some(put(2, "new")));
    apply(&*engine, write("k", put(1, "late"))).await;
    assert_eq!(read(&*engine, "k"), Some(put(2, "new")));
    assert_eq!(read(&*engine, "other"), None);
    apply(&*engine, write("", put(1, "the empty key"))).await;
    apply(&*engine, write("large", put(1, &"x".repeat(1 << 20)))).await;
    engine.flush(None).await.unwrap();
    assert_eq!(value(&*engine, "").as_deref(), Some("the empty key"));
    assert_eq!(value(&*engine, "large").map(|v| v.len()), Some(1 << 20));
}

pub(crate) async fn opening_a_table_again_changes_nothing_but_its_options(
    harness: &mut impl Harness,
) {
    let engine = opened(harness).await;
    apply(&*engine, write("k", put(1, "x"))).await;
    let mut def = table(TABLE);
    def.options.gc_grace_seconds = 1;
    engine.open_table(&def).unwrap();
    assert_eq!(value(&*engine, "k").as_deref(), Some("x"));
}

pub(crate) async fn a_delete_is_read_as_a_tombstone_and_covers_what_comes_late(
    harness: &mut impl Harness,
) {
    let engine = opened(harness).await;
    apply(&*engine, write("k", put(1, "x"))).await;
    engine.flush(None).await.unwrap();
    apply(&*engine, write("k", delete(2))).await;
    assert_eq!(read(&*engine, "k"), Some(delete(2)));
    engine.flush(None).await.unwrap();
    engine.compact(None).await.unwrap();
    apply(&*engine, write("k", put(2, "late"))).await;
    assert_eq!(read(&*engine, "k"), Some(delete(2)));
    apply(&*engine, write("k", put(3, "back"))).await;
    assert_eq!(value(&*engine, "k").as_deref(), Some("back"));
}

pub(crate) async fn writes_merge_alike_in_every_order(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    let mut row = put(5, "row");
    row.rows[0].0 = ClusteringKey(Bytes::from_static(b"m"));
    let deletion = Deletion { timestamp: TimestampMicros(5), deleted_at: GcSeconds(FAR) };
    let range = RangeTombstone {
        start: Bound::Included(ClusteringKey(Bytes::from_static(b"a"))),
        end: Bound::Open,
        deletion,
    };
    let range = Partition { ranges: vec![range], ..Partition::default() };
    let expiry = Some(Expiry { ttl_s: 9, expires_at: GcSeconds(FAR) });
    let ttl = Partition::put(TimestampMicros(4), Bytes::from_static(b"a"), expiry);
    let updates = [put(4, "z"), delete(3), row, range, ttl];
    let mut expected = Partition::default();
    for update in &updates {
        merge::merge(&mut expected, update.clone());
    }
    // Every rotation, forwards and backwards, with a flush in a different place each time.
    for (n, rotation) in (0..2 * updates.len()).enumerate() {
        let name = format!("k{n}");
        let mut order = updates.to_vec();
        order.rotate_left(rotation % updates.len());
        if rotation >= updates.len() {
            order.reverse();
        }
        for (at, update) in order.into_iter().enumerate() {
            apply(&*engine, write(&name, update)).await;
            if at == n % updates.len() {
                engine.flush(None).await.unwrap();
            }
        }
        assert_eq!(read(&*engine, &name), Some(expected.clone()), "order {n}");
    }
    engine.flush(None).await.unwrap();
    engine.compact(None).await.unwrap();
    for n in 0..2 * updates.len() {
        assert_eq!(read(&*engine, &format!("k{n}")), Some(expected.clone()), "compacted {n}");
    }
}

pub(crate) async fn a_value_ends_with_its_ttl(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    let expiry = Some(Expiry { ttl_s: 60, expires_at: GcSeconds(FAR) });
    let short = Partition::put(TimestampMicros(2), Bytes::from_static(b"short"), expiry);
    apply(&*engine, write("k", put(1, "covered"))).await;
    apply(&*engine, write("k", short)).await;
    for _ in 0..2 {
        let partition = read(&*engine, "k").unwrap();
        let before = merge::live_value(&partition, GcSeconds(FAR - 1)).unwrap();
        assert_eq!((before.0.as_ref(), before.1), (&b"short"[..], TimestampMicros(2)));
        assert_eq!(merge::live_value(&partition, GcSeconds(FAR)), None);
        engine.flush(None).await.unwrap();
    }
}

pub(crate) async fn pages_come_in_token_and_key_order_across_flushes(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    let mut expected = Vec::new();
    for n in 0..40_i64 {
        let name = format!("key {n}");
        apply(&*engine, write(&name, put(n, &name))).await;
        expected.push((token::of(name.as_bytes()), key(&name), put(n, &name)));
        if n % 15 == 14 {
            engine.flush(Some(TABLE)).await.unwrap();
        }
    }
    // One is replaced, one deleted, each in another flush than its put.
    apply(&*engine, write("key 3", put(100, "again"))).await;
    apply(&*engine, write("key 4", delete(100))).await;
    expected[3].2 = put(100, "again");
    expected[4].2 = delete(100);
    expected.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for limit in [1, 7, 40, 1000] {
        assert_eq!(scan(&*engine, limit), expected, "{limit} a page");
    }
    // Ranges are exclusive at their start and inclusive at their end.
    let (from, to) = (expected[10].0, expected[20].0);
    let page = engine.range(TABLE, &RangeStart::AfterToken(from), to, 100).unwrap();
    assert_eq!(page.partitions, expected[11..=20]);
    assert!(!page.more);
    let page = engine.range(TABLE, &RangeStart::First, Token::MIN, 100).unwrap();
    assert_eq!(page.partitions, []);
    for after in [to, Token::MAX] {
        let page = engine.range(TABLE, &RangeStart::AfterToken(after), to, 100).unwrap();
        assert_eq!((page.partitions, page.more), (vec![], false), "an empty range");
    }
}

pub(crate) async fn a_page_says_whether_there_is_more(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    for name in ["a", "b", "c"] {
        apply(&*engine, write(name, put(1, name))).await;
    }
    let page = engine.range(TABLE, &RangeStart::First, Token::MAX, 2).unwrap();
    assert_eq!((page.partitions.len(), page.more), (2, true));
    let page = engine.range(TABLE, &RangeStart::First, Token::MAX, 4).unwrap();
    assert_eq!((page.partitions.len(), page.more), (3, false));
}

pub(crate) async fn a_scan_hands_out_the_bytes_of_what_pages_hold(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    // Some keys are known to one place only, some to several.
    let old: Vec<Write> = (0..2000).map(|n| write(&format!("k{n}"), put(1, "old"))).collect();
    let new: Vec<Write> =
        (0..2000).step_by(7).map(|n| write(&format!("k{n}"), put(2, "new"))).collect();
    for (n, writes) in old.chunks(50).chain(new.chunks(50)).enumerate() {
        let applied = engine.apply_all(writes.to_vec()).unwrap();
        acknowledged(&*engine, applied).await.unwrap();
        if n % 10 == 1 {
            engine.flush(None).await.unwrap();
        }
    }
    for start in [RangeStart::First, RangeStart::AfterToken(Token(i64::MAX / 3))] {
        for until in [Token::MAX, Token(i64::MAX / 2), Token::MIN] {
            let page = engine.range(TABLE, &start, until, 10_000).unwrap();
            let expected = page.partitions.iter().map(|(token, key, partition)| {
                (*token, key.0.to_vec(), codec::encode(partition).to_vec())
            });
            let expected: Vec<_> = expected.collect();
            let mut seen = Vec::new();
            let mut visit = |token: Token, key: &[u8], encoded: &[u8]| {
                seen.push((token, key.to_vec(), encoded.to_vec()));
                ControlFlow::Continue(())
            };
            engine.scan(TABLE, &start, until, &mut visit).unwrap();
            assert_eq!(seen, expected);
            let mut left = 10;
            engine
                .scan(TABLE, &start, until, &mut |_, _, _| {
                    left -= 1;
                    if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })
                .unwrap();
            assert_eq!(10 - left, expected.len().min(10));
        }
    }
}

pub(crate) async fn keys_of_one_token_are_told_apart(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    for token in [Token::MIN, Token(-1), Token(0), Token::MAX] {
        for name in ["", "a", "aa", "b"] {
            let collides = Write { token, ..write(name, put(1, &format!("{token}{name}"))) };
            apply(&*engine, collides).await;
        }
    }
    let names = |page: super::RangePage| -> Vec<_> {
        page.partitions.into_iter().map(|(_, key, _)| key).collect()
    };
    let held = engine.read(TABLE, Token(-1), &key("aa")).unwrap();
    assert_eq!(held, Some(put(1, "-1aa")));
    assert_eq!(engine.read(TABLE, Token(1), &key("aa")).unwrap(), None);
    let start = RangeStart::AfterKey(Token(-1), key("a"));
    let page = engine.range(TABLE, &start, Token(-1), 10).unwrap();
    assert_eq!(names(page), ["aa", "b"].map(key));
    let page = engine.range(TABLE, &start, Token(0), 3).unwrap();
    assert_eq!(names(page), ["aa", "b", ""].map(key));
    let start = RangeStart::AfterToken(Token(0));
    let page = engine.range(TABLE, &start, Token::MAX, 10).unwrap();
    assert_eq!(names(page), ["", "a", "aa", "b"].map(key));
    let page = engine.range(TABLE, &RangeStart::First, Token::MIN, 10).unwrap();
    assert_eq!(names(page), ["", "a", "aa", "b"].map(key));
}

pub(crate) async fn a_clean_shutdown_loses_nothing(harness: &mut impl Harness) {
    for round in 0..3_i64 {
        let engine = opened(harness).await;
        for earlier in 0..round {
            let expected = format!("round {earlier}");
            assert_eq!(value(&*engine, &format!("k{earlier}")), Some(expected));
        }
        apply(&*engine, write(&format!("k{round}"), put(round, &format!("round {round}")))).await;
        apply(&*engine, write("shared", put(round, &format!("round {round}")))).await;
        engine.shutdown().await.unwrap();
        drop(engine);
    }
    let engine = opened(harness).await;
    assert_eq!(value(&*engine, "shared").as_deref(), Some("round 2"));
    assert_eq!(scan(&*engine, 10).len(), 4);
}

pub(crate) async fn a_crash_loses_nothing_acknowledged(harness: &mut impl Harness) {
    for round in 0..4_i64 {
        let engine = opened(harness).await;
        for earlier in 0..round {
            let expected = format!("round {earlier}");
            assert_eq!(value(&*engine, &format!("k{earlier}")), Some(expected), "round {round}");
        }
        apply(&*engine, write(&format!("k{round}"), put(round, &format!("round {round}")))).await;
        if round % 2 == 1 {
            engine.flush(None).await.unwrap();
        }
        apply(&*engine, write("shared", put(round, &format!("round {round}")))).await;
        harness.crash(engine).await;
    }
    let engine = opened(harness).await;
    assert_eq!(value(&*engine, "shared").as_deref(), Some("round 3"));
    assert_eq!(scan(&*engine, 10).len(), 5);
}

pub(crate) async fn a_dropped_table_is_gone_and_its_successor_is_empty(harness: &mut impl Harness) {
    let successor = TableId(2);
    let bystander = TableId(3);
    let engine = harness.open(&[table(TABLE), table(bystander)]).await;
    apply(&*engine, write("k", put(1, "flushed"))).await;
    engine.flush(None).await.unwrap();
    apply(&*engine, write("k", put(2, "logged"))).await;
    apply(&*engine, write_to(bystander, "k", put(1, "kept"))).await;
    engine.drop_table(TABLE).unwrap();
    let unknown = engine.read(TABLE, token::of(b"k"), &key("k")).unwrap_err();
    assert!(matches!(unknown, StorageError::UnknownTable { table: TABLE }), "{unknown}");
    engine.open_table(&table(successor)).unwrap();
    assert_eq!(engine.read(successor, token::of(b"k"), &key("k")).unwrap(), None);
    engine.shutdown().await.unwrap();
    drop(engine);

    let engine = harness.open(&[table(successor), table(bystander)]).await;
    assert_eq!(engine.read(successor, token::of(b"k"), &key("k")).unwrap(), None);
    let kept = engine.read(bystander, token::of(b"k"), &key("k")).unwrap();
    assert_eq!(kept, Some(put(1, "kept")));
    assert!(!engine.table_figures().contains_key(&TABLE));
}

pub(crate) async fn many_writes_at_once_are_all_applied(harness: &mut impl Harness) {
    let other = TableId(2);
    let engine = opened(harness).await;
    engine.open_table(&table(other)).unwrap();
    let mut writes: Vec<_> =
        (0..100).map(|n| write(&format!("k{n}"), put(n, &n.to_string()))).collect();
    writes.push(write("k7", put(1000, "twice")));
    writes.push(write_to(other, "k7", put(1, "elsewhere")));
    let applied = engine.apply_all(writes).unwrap();
    acknowledged(&*engine, applied).await.unwrap();
    assert_eq!(scan(&*engine, 1000).len(), 100);
    assert_eq!(value(&*engine, "k7").as_deref(), Some("twice"));
    assert_eq!(value(&*engine, "k99").as_deref(), Some("99"));
    let elsewhere = engine.read(other, token::of(b"k7"), &key("k7")).unwrap();
    assert_eq!(elsewhere, Some(put(1, "elsewhere")));
    let applied = engine.apply_all(Vec::new()).unwrap();
    acknowledged(&*engine, applied).await.unwrap();
    harness.crash(engine).await;
    let engine = opened(harness).await;
    assert_eq!(scan(&*engine, 1000).len(), 100);
}

pub(crate) async fn a_table_that_is_not_open_is_an_error(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    let nowhere = TableId(99);
    let errors = [
        engine.apply(write_to(nowhere, "k", put(1, "x"))).map(drop),
        engine.read(nowhere, Token(0), &key("k")).map(drop),
        engine.range(nowhere, &RangeStart::First, Token::MAX, 1).map(drop),
        engine
            .apply_all(vec![write("k", put(1, "x")), write_to(nowhere, "k", put(1, "x"))])
            .map(drop),
    ];
    for error in errors {
        let error = error.unwrap_err();
        assert!(matches!(error, StorageError::UnknownTable { table } if table == nowhere));
    }
    assert_eq!(read(&*engine, "k"), None, "a batch with an unknown table is refused as a whole");
    engine.drop_table(nowhere).unwrap();
}

pub(crate) async fn nothing_is_written_after_shutdown(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    apply(&*engine, write("k", put(1, "x"))).await;
    engine.shutdown().await.unwrap();
    let refused = engine.apply(write("k", put(2, "y")));
    assert!(matches!(refused, Err(StorageError::Stopped)), "{refused:?}");
    // A second goodbye is one too many, but no harm.
    drop(engine.shutdown().await);
    drop(engine);
    let engine = opened(harness).await;
    assert_eq!(value(&*engine, "k").as_deref(), Some("x"));
}

pub(crate) async fn figures_count_reads_and_writes(harness: &mut impl Harness) {
    let engine = opened(harness).await;
    for n in 0..5 {
        apply(&*engine, write(&format!("k{n}"), put(n, "x"))).await;
    }
    engine.flush(Some(TABLE)).await.unwrap();
    for n in 0..3 {
        read(&*engine, &format!("k{n}"));
    }
    let figures = engine.table_figures().remove(&TABLE).unwrap();
    assert_eq!((figures.writes, figures.reads, figures.flushes), (5, 3, 1));
    engine.set_auto_compaction(None, false);
    engine.set_compaction_throughput(1 << 20);
    assert!(!engine.compaction_figures().auto_compaction);
    assert_eq!(engine.compaction_figures().running, []);
    assert_eq!(engine.poisoned(), None);
}

#[derive(Debug, Clone)]
enum Step {
    Write(u8, Partition),
    Read(u8),
    Scan(usize),
    Flush,
    Compact,
    Reopen,
    Crash,
}

fn partition() -> impl Strategy<Value = Partition> {
    let timestamp = 0..20_i64;
    let row = prop::sample::select(vec!["", "a", "b"]);
    let put = (timestamp.clone(), "[xyz]{0,40}", row, any::<bool>()).prop_map(
        |(timestamp, value, row, expires)| {
            let expiry = expires.then_some(Expiry { ttl_s: 60, expires_at: GcSeconds(FAR) });
            let mut put = Partition::put(TimestampMicros(timestamp), Bytes::from(value), expiry);
            put.rows[0].0 = ClusteringKey(Bytes::from_static(row.as_bytes()));
            put
        },
    );
    let set = (timestamp.clone(), prop::option::of(timestamp.clone()), "[xyz]{0,3}").prop_map(
        |(timestamp, deleted, path)| {
            let path = Bytes::from(path);
            with_elements(deleted, [(path, set_element(timestamp))])
        },
    );
    prop_oneof![4 => put, 3 => set, 1 => timestamp.prop_map(delete)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => (0..12_u8, partition()).prop_map(|(key, update)| Step::Write(key, update)),
        10 => (0..12_u8).prop_map(Step::Read),
        3 => (1..8_usize).prop_map(Step::Scan),
        3 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 300)
}

/// The second route: any run of operations, against a map that is merged with the core's merge and nothing else.
pub(crate) async fn it_does_what_a_map_of_partitions_does<H: Harness>(_: &mut H) {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..6 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let mut harness = H::new();
        let mut model: BTreeMap<(Token, Key), Partition> = BTreeMap::new();
        let mut engine = opened(&mut harness).await;
        let name = |n: u8| format!("key {n}");
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(n, update) => {
                    let write = write(&name(n), update.clone());
                    let held = model.entry((write.token, write.key.clone())).or_default();
                    merge::merge(held, update);
                    apply(&*engine, write).await;
                }
                Step::Read(n) => {
                    let place = (token::of(name(n).as_bytes()), key(&name(n)));
                    assert_eq!(read(&*engine, &name(n)).as_ref(), model.get(&place), "step {at}");
                }
                Step::Scan(limit) => {
                    let expected: Vec<_> =
                        model.iter().map(|((t, k), p)| (*t, k.clone(), p.clone())).collect();
                    assert_eq!(scan(&*engine, limit), expected, "step {at}");
                }
                Step::Flush => engine.flush(Some(TABLE)).await.unwrap(),
                Step::Compact => engine.compact(Some(TABLE)).await.unwrap(),
                Step::Reopen => {
                    engine.shutdown().await.unwrap();
                    drop(engine);
                    engine = opened(&mut harness).await;
                }
                Step::Crash => {
                    harness.crash(engine).await;
                    engine = opened(&mut harness).await;
                }
            }
        }
    }
}
