//! The engine on a simulated disk. `conformance` (beside this module) says what any engine owes; here is what this one
//! owes besides: recovery, corruption, flushing, compaction.

mod compaction;
mod compactors;
mod crash;
mod crash_fuzz;
mod damage;
mod integrity;
mod log;
mod recovery;
mod regressions;
mod snapshots;
mod wide;

use super::{LsmEngine, LsmParts};
use crate::config::{CommitlogSync, StorageConfig};
use crate::seams::background::SimBackground;
use crate::seams::clock::Clock;
use crate::seams::disk::{Faults, SimDisk};
use crate::seams::probe::{Event, Probe};
use crate::storage::{Applied, Engine, RangeStart, StorageError, Upkeep, Write};
use crate::tasks::Tasks;
use bytes::Bytes;
use helenus_core::merge;
use helenus_core::{
    Columns, GcSeconds, Key, Partition, TableDef, TableId, TableOptions, TimestampMicros, Token,
    codec,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TABLE: TableId = TableId(7);
const START_S: i64 = 1_700_000_000;

/// A wall clock that stands until a test moves it.
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_micros(&self) -> i64 {
        self.0.load(Ordering::Relaxed) * 1_000_000
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<Event>>);

impl Probe for Seen {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

fn table(id: TableId, change: impl FnOnce(&mut TableOptions)) -> TableDef {
    let mut options = TableOptions::default();
    change(&mut options);
    TableDef {
        id,
        keyspace: "ks".to_owned(),
        name: format!("t{}", id.0),
        columns: Columns::key_value(),
        options,
        altered: TimestampMicros(1),
        dropped: false,
    }
}

/// One boot of an engine on a disk.
struct Rig {
    disk: SimDisk,
    clock: Arc<TestClock>,
    seen: Arc<Seen>,
    tasks: Arc<Tasks>,
    engine: LsmEngine,
}

struct Setup {
    config: StorageConfig,
    tables: Vec<TableDef>,
    now_s: i64,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            config: StorageConfig {
                commitlog_sync: CommitlogSync::Batch,
                commitlog_segment_size: 16 << 10,
                commitlog_total_space: 256 << 10,
                memtable_heap_space: 64 << 10,
                compaction_throughput: 0,
                block_cache_size: 64 << 10,
                ..StorageConfig::default()
            },
            tables: vec![table(TABLE, |_| {})],
            now_s: START_S,
        }
    }
}

impl Setup {
    fn try_boot(&self, disk: &SimDisk) -> Result<Rig, StorageError> {
        let disk = disk.reopen();
        let clock = Arc::new(TestClock(AtomicI64::new(self.now_s)));
        let seen = Arc::new(Seen::default());
        let tasks = Arc::new(Tasks::new());
        let engine = LsmEngine::open(LsmParts {
            dir: PathBuf::from("data/storage"),
            config: self.config.clone(),
            disk: Arc::new(disk.clone()),
            background: Arc::new(SimBackground::new(disk.clone())),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            probe: Arc::clone(&seen) as Arc<dyn Probe>,
            tasks: Arc::clone(&tasks),
            tables: self.tables.clone(),
        })?;
        Ok(Rig { disk, clock, seen, tasks, engine })
    }

    fn boot(&self, disk: &SimDisk) -> Rig {
        self.try_boot(disk).unwrap()
    }

    fn fresh(&self) -> Rig {
        self.boot(&SimDisk::new(1, Faults::default()))
    }
}

fn token_of(key: &[u8]) -> Token {
    Token(xxhash_rust::xxh3::xxh3_64(key).cast_signed())
}

fn write_of(table: TableId, key: &[u8], update: Partition) -> Write {
    let key = Key(Bytes::copy_from_slice(key));
    let token = token_of(&key.0);
    Write::of(table, key, token, update)
}

fn put(key: &[u8], timestamp: i64, value: &[u8]) -> Write {
    let value = Bytes::copy_from_slice(value);
    write_of(TABLE, key, Partition::put(TimestampMicros(timestamp), value, None))
}

fn delete(key: &[u8], timestamp: i64, at_s: i64) -> Write {
    let second = GcSeconds(u32::try_from(at_s).unwrap());
    write_of(TABLE, key, Partition::delete(TimestampMicros(timestamp), second))
}

impl Rig {
    /// Writes and waits until it may be acknowledged.
    async fn write(&self, write: Write) -> Result<(), StorageError> {
        let applied = self.engine.apply(write)?;
        self.engine.commit()?;
        match applied {
            Applied::Now => Ok(()),
            Applied::After(durable) => durable.await,
        }
    }

    async fn put(&self, key: &[u8], timestamp: i64, value: &[u8]) {
        self.write(put(key, timestamp, value)).await.unwrap();
    }

    fn partition(&self, key: &[u8]) -> Option<Partition> {
        self.try_partition(key).unwrap()
    }

    fn try_partition(&self, key: &[u8]) -> Result<Option<Partition>, StorageError> {
        self.engine.read(TABLE, token_of(key), &Key(Bytes::copy_from_slice(key)))
    }

    fn value(&self, key: &[u8]) -> Option<Bytes> {
        let partition = self.partition(key)?;
        let now = GcSeconds(u32::try_from(self.clock.0.load(Ordering::Relaxed)).unwrap());
        merge::live_value(&partition, now).map(|(value, _)| value.clone())
    }

    fn sstables(&self) -> u64 {
        self.engine.table_figures()[&TABLE].sstables
    }

    /// The process dies without a word; what the system has, it has.
    fn kill(self) -> SimDisk {
        self.tasks.abort_all();
        self.disk
    }

    /// The power fails.
    fn crash(self) -> SimDisk {
        self.tasks.abort_all();
        self.disk.crash();
        self.disk.reopen()
    }

    async fn stop(self) -> SimDisk {
        self.engine.shutdown().await.unwrap();
        self.disk
    }

    /// Everything, in pages of `limit`.
    fn scan(&self, limit: usize) -> Vec<(Token, Key, Partition)> {
        let mut all = Vec::new();
        let mut start = RangeStart::First;
        loop {
            let page = self.engine.range(TABLE, &start, Token::MAX, limit).unwrap();
            assert!(page.partitions.len() <= limit);
            if let Some((token, key, _)) = page.partitions.last() {
                start = RangeStart::AfterKey(*token, key.clone());
            }
            all.extend(page.partitions);
            if !page.more {
                return all;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_read_from_memtable_and_sstable_alike() {
    let rig = Setup::default().fresh();
    for i in 0..500_u32 {
        rig.put(&i.to_be_bytes(), 10, &i.to_le_bytes()).await;
    }
    for flushed in [false, true] {
        for i in 0..500_u32 {
            assert_eq!(rig.value(&i.to_be_bytes()).unwrap(), i.to_le_bytes()[..]);
        }
        assert!(rig.partition(b"missing").is_none());
        if !flushed {
            rig.engine.flush(None).await.unwrap();
            assert_eq!(rig.engine.table_figures()[&TABLE].memtable_partitions, 0);
        }
    }
    let events = rig.seen.0.lock().unwrap();
    assert!(events.iter().any(|e| matches!(e, Event::Flushed { table: TABLE, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_flush_begins_at_half_of_the_memtable_space() {
    let rig = Setup::default().fresh();
    let mut written = 0_u32;
    while rig.sstables() == 0 {
        rig.put(&written.to_be_bytes(), 1, &[7; 1000]).await;
        written += 1;
        assert!(written <= 64, "all of it is full: {written} KB");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!((30..=33).contains(&written), "{written} KB of 64 KiB");
}

#[tokio::test(start_paused = true)]
async fn versions_merge_across_memtable_and_sstables_whatever_came_first() {
    let rig = Setup::default().fresh();
    rig.put(b"k", 30, b"newest").await;
    rig.engine.flush(None).await.unwrap();
    rig.put(b"k", 10, b"oldest").await;
    rig.engine.flush(None).await.unwrap();
    rig.put(b"k", 20, b"middle").await;
    assert_eq!(rig.value(b"k").unwrap(), "newest");
    rig.write(delete(b"k", 25, START_S)).await.unwrap();
    assert_eq!(rig.value(b"k").unwrap(), "newest");
    rig.write(delete(b"k", 35, START_S)).await.unwrap();
    assert_eq!(rig.value(b"k"), None);
}

#[tokio::test(start_paused = true)]
async fn a_point_read_opens_only_what_may_change_its_answer() {
    let rig = Setup::default().fresh();
    rig.engine.set_auto_compaction(None, false);
    let figures = || {
        let figures = &rig.engine.table_figures()[&TABLE];
        (figures.sstables_read, figures.sstables_skipped)
    };
    for timestamp in [30, 10, 20] {
        rig.put(b"k", timestamp, b"v").await;
        rig.engine.flush(None).await.unwrap();
    }
    // The newest is looked into first, wherever it is in the order of flushes, and hides the others.
    assert_eq!(merge::version(&rig.partition(b"k").unwrap()), Some(TimestampMicros(30)));
    assert_eq!(figures(), (1, 2));
    // So does the memtable.
    rig.put(b"k", 40, b"v").await;
    rig.partition(b"k").unwrap();
    assert_eq!(figures(), (1, 5));
    // An older tombstone is part of the answer, so it is looked for.
    rig.write(delete(b"k", 5, START_S)).await.unwrap();
    rig.engine.flush(None).await.unwrap();
    rig.put(b"k", 50, b"v").await;
    assert!(rig.partition(b"k").unwrap().deletion.is_some());
    assert_eq!(figures(), (2, 8));
    // What the filter or the range excludes is neither.
    rig.partition(b"other");
    assert_eq!(figures(), (2, 8));
}

#[tokio::test(start_paused = true)]
async fn a_range_is_in_order_over_all_sources_and_pages_lose_nothing() {
    let rig = Setup::default().fresh();
    rig.engine.set_auto_compaction(None, false);
    let mut model: BTreeMap<(Token, Vec<u8>), i64> = BTreeMap::new();
    for i in 0..900_u32 {
        let key = (i % 400).to_be_bytes();
        rig.put(&key, i64::from(i) + 1, &[0; 40]).await;
        model.insert((token_of(&key), key.to_vec()), i64::from(i) + 1);
        if i % 250 == 249 {
            rig.engine.flush(None).await.unwrap();
        }
    }
    assert!(rig.sstables() >= 3);
    for limit in [1, 7, 400, 10_000] {
        let found = rig.scan(limit);
        let versions = found.into_iter().map(|(token, key, partition)| {
            ((token, key.0.to_vec()), merge::version(&partition).unwrap().0)
        });
        assert!(versions.eq(model.iter().map(|(place, version)| (place.clone(), *version))));
    }
    // A slice of the ring: exclusive at its start, inclusive at its end.
    let tokens: Vec<Token> = model.keys().map(|(token, _)| *token).collect();
    let start = RangeStart::AfterToken(tokens[99]);
    let page = rig.engine.range(TABLE, &start, tokens[199], 1000).unwrap();
    assert_eq!(page.partitions.len(), 100);
    assert!(!page.more);
    let behind = RangeStart::AfterToken(Token::MAX);
    assert_eq!(rig.engine.range(TABLE, &behind, Token::MAX, 5).unwrap().partitions, []);
}

#[tokio::test(start_paused = true)]
async fn a_scan_goes_on_behind_what_it_takes_of_the_active_memtable_at_a_time() {
    let mut setup = Setup::default();
    setup.config.memtable_heap_space = 16 << 20;
    setup.config.commitlog_total_space = 16 << 20;
    let rig = setup.fresh();
    let mut expected = BTreeMap::new();
    for i in 0..12_000_u32 {
        rig.engine.apply(put(&i.to_be_bytes(), 1, b"v")).unwrap();
        expected.insert((token_of(&i.to_be_bytes()), i.to_be_bytes().to_vec()), ());
        if i == 3000 {
            // Behind the horizon of the memtable's first part lies some of this SSTable.
            rig.engine.flush(None).await.unwrap();
        }
    }
    let mut seen = Vec::new();
    let mut visit = |token: Token, key: &[u8], _: &[u8]| {
        seen.push((token, key.to_vec()));
        std::ops::ControlFlow::Continue(())
    };
    rig.engine.scan(TABLE, &RangeStart::First, Token::MAX, &mut visit).unwrap();
    assert!(seen.iter().eq(expected.keys()));
    assert_eq!(rig.engine.table_figures()[&TABLE].scans, 3);
}

#[tokio::test(start_paused = true)]
async fn writers_are_slowed_before_they_are_stopped() {
    let mut setup = Setup::default();
    setup.config.commitlog_sync = CommitlogSync::Periodic(Duration::from_secs(10));
    setup.config.memtable_heap_space = 8 << 10;
    let rig = setup.fresh();
    rig.disk.set_faults(|faults| faults.bytes_per_s = 20_000);
    let mut waited = Vec::new();
    for i in 0..400_u32 {
        let before = tokio::time::Instant::now();
        rig.put(&i.to_be_bytes(), 1, &[7; 100]).await;
        waited.push(before.elapsed());
    }
    let figures = rig.engine.engine_figures();
    // In a closed loop the writer came down to the disk's pace, and was never refused.
    assert!(figures.slowed > 50 && figures.overloaded == 0, "{figures:?}");
    assert!(figures.slowed_micros > 0);
    assert!(waited.iter().max() > waited.first());
    // One that does not wait is refused in the end.
    rig.disk.set_faults(|faults| faults.bytes_per_s = 1);
    let mut refused = 0;
    for i in 0..2000_u32 {
        let result = rig.engine.apply(put(&i.to_be_bytes(), 2, &[7; 100]));
        refused += u64::from(matches!(result, Err(StorageError::Overloaded { .. })));
    }
    let figures = rig.engine.engine_figures();
    assert!(refused > 0);
    assert_eq!(figures.overloaded, refused);
}

#[tokio::test(start_paused = true)]
async fn one_log_write_covers_all_that_was_applied_before_the_commit() {
    let mut setup = Setup::default();
    setup.config.commitlog_sync = CommitlogSync::Periodic(Duration::from_secs(10));
    setup.config.commitlog_segment_size = 1 << 20;
    let rig = setup.fresh();
    let before = rig.engine.figures().log_writes;
    for i in 0..64_u32 {
        let applied = rig.engine.apply(put(&i.to_be_bytes(), 1, b"v")).unwrap();
        assert!(matches!(applied, Applied::Now));
    }
    assert_eq!(rig.engine.figures().log_writes, before);
    rig.engine.commit().unwrap();
    assert_eq!(rig.engine.figures().log_writes, before + 1);
    rig.engine.apply_all((0..64_u32).map(|i| put(&i.to_be_bytes(), 2, b"w")).collect()).unwrap();
    rig.engine.commit().unwrap();
    assert_eq!(rig.engine.figures().log_writes, before + 2);
}

#[tokio::test(start_paused = true)]
async fn no_writes_at_all_are_acknowledged_at_once() {
    let rig = Setup::default().fresh();
    rig.put(b"k", 1, b"v").await;
    // The log ends with the mark of a sync, which itself is not synced: nobody may wait for that.
    assert!(matches!(rig.engine.apply_all(Vec::new()), Ok(Applied::Now)));
}

#[tokio::test(start_paused = true)]
async fn waiters_of_a_group_share_a_sync() {
    let mut setup = Setup::default();
    setup.config.commitlog_sync = CommitlogSync::Group(Duration::from_millis(10));
    let rig = setup.fresh();
    let before = rig.disk.figures().syncs;
    let mut waiting = Vec::new();
    for i in 0..50_u32 {
        match rig.engine.apply(put(&i.to_be_bytes(), 1, b"v")).unwrap() {
            Applied::After(durable) => waiting.push(durable),
            Applied::Now => panic!("a group write was acknowledged before its sync"),
        }
    }
    for durable in waiting {
        durable.await.unwrap();
    }
    // The segment, and its name.
    assert!(rig.disk.figures().syncs - before <= 3);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_table_is_refused_and_nothing_of_the_batch_is_applied() {
    let rig = Setup::default().fresh();
    let stranger = write_of(TableId(99), b"x", Partition::delete(TimestampMicros(1), GcSeconds(1)));
    assert!(matches!(
        rig.engine.apply(stranger.clone()),
        Err(StorageError::UnknownTable { table: TableId(99) })
    ));
    assert!(rig.engine.apply_all(vec![put(b"a", 1, b"v"), stranger]).is_err());
    assert!(rig.partition(b"a").is_none());
    assert!(rig.engine.read(TableId(99), Token(1), &Key(Bytes::new())).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_too_long_is_refused_with_all_of_its_batch() {
    let rig = Setup::default().fresh();
    let writes = vec![put(b"a", 1, b"v"), put(&[7; 65_536], 1, b"v")];
    let refused = rig.engine.apply_all(writes).err();
    assert!(
        matches!(refused, Some(StorageError::TooLarge { bytes: 65_536, limit: 65_535 })),
        "{refused:?}"
    );
    assert!(rig.partition(b"a").is_none());
    assert!(rig.engine.apply(put(&[7; 65_535], 1, b"v")).is_ok());
}
