//! Strategies, several compactors, and what is left of a compaction that dies.

use super::*;
use crate::seams::disk::{Disk, File};
use crate::storage::history;
use crate::storage::lsm::compact;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

const OTHER: TableId = TableId(8);

fn leveled(options: &mut TableOptions) {
    let pairs = [("compaction.class", "LCS"), ("compaction.sstable_size", "16384")];
    for (name, value) in pairs.into_iter().chain([("compaction.fanout_size", "3")]) {
        options.set(name, value).unwrap();
    }
    options.compression = false;
}

/// Room for large memtables.
fn roomy(tables: Vec<TableDef>) -> Setup {
    let mut setup = Setup { tables, ..Setup::default() };
    setup.config.memtable_heap_space = 64 << 20;
    setup.config.commitlog_total_space = 64 << 20;
    setup.config.commitlog_segment_size = 8 << 20;
    setup
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(20)).await;
}

/// A flush of `keys`, a version each.
async fn flush(rig: &Rig, id: TableId, keys: std::ops::Range<u32>, version: i64, bytes: usize) {
    for i in keys {
        let mut write = put(&i.to_be_bytes(), version, &vec![7; bytes]);
        write.table = id;
        rig.write(write).await.unwrap();
    }
    rig.engine.flush(Some(id)).await.unwrap();
}

fn sstables_on_disk(disk: &SimDisk, id: TableId) -> Vec<String> {
    let dir = PathBuf::from("data/storage/tables").join(id.to_string());
    let mut names = disk.list(&dir).unwrap();
    names.retain(|name| name.ends_with(".sst"));
    names
}

fn versions(rig: &Rig) -> Vec<(Key, i64)> {
    let all = rig.scan(1000).into_iter();
    all.map(|(_, key, partition)| (key, merge::version(&partition).unwrap().0)).collect()
}

#[tokio::test(start_paused = true)]
async fn levels_are_filled_kept_over_a_restart_and_lose_nothing() {
    let setup = roomy(vec![table(TABLE, leveled)]);
    let rig = setup.fresh();
    let mut expected: BTreeMap<u32, i64> = BTreeMap::new();
    for round in 1..=24_i64 {
        let first = u32::try_from(round).unwrap() * 37 % 200;
        flush(&rig, TABLE, first..first + 100, round, 200).await;
        expected.extend((first..first + 100).map(|key| (key, round)));
        settle().await;
    }
    let figures = rig.engine.table_figures()[&TABLE].clone();
    let [zero, rest @ ..] = &figures.levels[..] else { panic!("{figures:?}") };
    assert!(*zero < 4 && rest.len() >= 2, "{figures:?}");
    assert_eq!(figures.levels.iter().sum::<u64>(), figures.sstables);
    assert_eq!(figures.pending_compactions, 0);
    assert!(figures.compacted_bytes_read >= figures.compacted_bytes_written, "it overwrites");
    // Level 1 holds three of 16 KiB; an SSTable is that large, and one partition and its index more.
    let found: BTreeMap<u32, i64> = versions(&rig)
        .into_iter()
        .map(|(key, version)| (u32::from_be_bytes(key.0[..].try_into().unwrap()), version))
        .collect();
    assert_eq!(found, expected);
    assert!(figures.live_raw_bytes <= figures.raw_bytes && figures.live_raw_bytes > 0);
    let again = setup.boot(&rig.crash());
    assert_eq!(again.engine.table_figures()[&TABLE].levels, figures.levels);
    assert_eq!(sstables_on_disk(&again.disk, TABLE).len() as u64, figures.sstables);
}

#[tokio::test(start_paused = true)]
async fn one_sstable_goes_down_if_it_overwrites_level_one_and_waits_if_it_is_new() {
    let rig = roomy(vec![table(TABLE, leveled)]).fresh();
    for part in 0..8 {
        flush(&rig, TABLE, part * 25..part * 25 + 25, 1, 200).await;
    }
    settle().await;
    let levels = || rig.engine.table_figures()[&TABLE].levels.clone();
    assert_eq!(levels()[0], 0, "eight are enough: {:?}", levels());
    flush(&rig, TABLE, 1000..1100, 2, 200).await;
    settle().await;
    assert_eq!(levels()[0], 1, "{:?}", levels());
    flush(&rig, TABLE, 0..120, 3, 200).await;
    settle().await;
    assert_eq!(levels()[0], 0, "{:?}", levels());
}

#[tokio::test(start_paused = true)]
async fn two_compactions_run_at_once_and_share_the_throttle() {
    let plain = |id| table(id, |options| options.compression = false);
    let rig = roomy(vec![plain(TABLE), plain(OTHER)]).fresh();
    rig.engine.set_auto_compaction(None, false);
    for id in [TABLE, OTHER] {
        for version in 1..=4 {
            flush(&rig, id, 0..200, version, 10_000).await;
        }
    }
    // 16 MB at 1 MB/s.
    rig.engine.set_compaction_throughput(1_000_000);
    rig.engine.set_auto_compaction(None, true);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let running = rig.engine.compaction_figures().running;
    let tables: Vec<TableId> = running.iter().map(|r| r.table).collect();
    assert_eq!(tables, [TABLE, OTHER], "one each: {running:?}");
    assert!(running.iter().all(|r| r.reason == "size-tiered" && r.level == 0), "{running:?}");
    assert!(running[1].id > running[0].id);
    let done: u64 = running.iter().map(|r| r.done_bytes).sum();
    assert!((3_000_000..=7_500_000).contains(&done), "both together: {done}");
    let (one, other) = (running[0].done_bytes, running[1].done_bytes);
    assert!(one.abs_diff(other) <= 2 << 20, "fairly: {running:?}");
    // No throttle wakes those that pay at it.
    rig.engine.set_compaction_throughput(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.engine.compaction_figures().running, []);
    assert_eq!(rig.sstables(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_table_leaves_its_compactor_to_another() {
    let plain = |id| table(id, |options| options.compression = false);
    let rig = roomy(vec![plain(TABLE), plain(OTHER)]).fresh();
    rig.engine.set_concurrent_compactors(1);
    assert_eq!(rig.engine.compaction_figures().compactors, 1);
    rig.engine.set_compaction_throughput(1_000_000);
    for version in 1..=4 {
        flush(&rig, TABLE, 0..300, version, 10_000).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for version in 1..=4 {
        flush(&rig, OTHER, 0..20, version, 10_000).await;
    }
    let running = rig.engine.compaction_figures().running;
    assert_eq!(running.iter().map(|r| r.table).collect::<Vec<_>>(), [TABLE]);
    rig.engine.set_auto_compaction(Some(TABLE), false);
    settle().await;
    let figures = rig.engine.table_figures();
    assert_eq!((figures[&TABLE].sstables, figures[&OTHER].sstables), (4, 1));
    let paused = rig.engine.compaction_figures().running;
    assert_eq!(paused.len(), 1, "it keeps what it has done: {paused:?}");
    assert!(paused[0].done_bytes > 0);
    rig.engine.set_auto_compaction(Some(TABLE), true);
    settle().await;
    assert_eq!(rig.sstables(), 1);
}

#[tokio::test(start_paused = true)]
async fn tables_take_turns() {
    let rig = roomy(vec![table(TABLE, |_| {}), table(OTHER, |_| {})]).fresh();
    rig.engine.set_concurrent_compactors(1);
    rig.engine.set_auto_compaction(None, false);
    let pairs = [("compaction.max_threshold", "4"), ("compaction.min_sstable_size", "0")];
    for id in [TABLE, OTHER] {
        let options = TableOptions::from_pairs(pairs).unwrap();
        rig.engine.open_table(&TableDef { options, ..table(id, |_| {}) }).unwrap();
        for version in 1..=if id == TABLE { 16 } else { 8 } {
            flush(&rig, id, 0..50, version, 100).await;
        }
    }
    rig.engine.set_auto_compaction(None, true);
    settle().await;
    let events = rig.seen.0.lock().unwrap().clone();
    let order: Vec<TableId> = events
        .iter()
        .filter_map(|event| match event {
            Event::Compacted { table, .. } => Some(*table),
            _ => None,
        })
        .collect();
    assert_eq!(order[..4], [TABLE, OTHER, TABLE, OTHER], "whatever their backlogs");
}

#[tokio::test(start_paused = true)]
async fn an_error_in_one_table_leaves_the_other_alone() {
    let rig = roomy(vec![table(TABLE, |_| {}), table(OTHER, |_| {})]).fresh();
    rig.engine.set_auto_compaction(None, false);
    for id in [TABLE, OTHER] {
        for version in 1..=4 {
            flush(&rig, id, 0..50, version, 100).await;
        }
    }
    let damaged = PathBuf::from("data/storage/tables").join(TABLE.to_string());
    let name = sstables_on_disk(&rig.disk, TABLE)[2].clone();
    // A bit of its only block.
    let file = rig.disk.open(&damaged.join(name), false).unwrap();
    let mut byte = [0];
    file.read_at(100, &mut byte).unwrap();
    file.write_at(100, &[byte[0] ^ 1]).unwrap();
    rig.engine.set_auto_compaction(None, true);
    settle().await;
    let figures = rig.engine.table_figures();
    assert_eq!((figures[&TABLE].sstables, figures[&OTHER].sstables), (4, 1));
    assert!(rig.engine.figures().compaction_failures >= 1);
    assert_eq!(sstables_on_disk(&rig.disk, TABLE).len(), 4, "nothing half-written stays");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_panics_has_failed_and_takes_nothing_along() {
    let rig = Setup::default().fresh();
    let shared = &rig.engine.shared;
    let lane = crate::seams::background::Lane::Compaction;
    let panicked = compact::on_lane(shared, lane, 0, || panic!("on purpose")).await;
    assert!(matches!(panicked, Err::<(), _>(StorageError::Panicked)));
    assert_eq!(compact::on_lane(shared, lane, 0, || 42).await.unwrap(), 42);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_dropped_without_being_rewritten() {
    use helenus_core::Expiry;
    let expires = table(TABLE, |options| {
        options.gc_grace_seconds = 50;
        options.set("compaction.class", "TWCS").unwrap();
    });
    let setup = Setup { tables: vec![expires], ..Setup::default() };
    let rig = setup.fresh();
    let expires_at = GcSeconds(u32::try_from(START_S + 10).unwrap());
    let expiry = Some(Expiry { ttl_s: 10, expires_at });
    for i in 0..20_u32 {
        let update = Partition::put(TimestampMicros(1), Bytes::from_static(b"v"), expiry);
        rig.write(write_of(TABLE, &i.to_be_bytes(), update)).await.unwrap();
    }
    rig.engine.flush(None).await.unwrap();
    rig.put(b"stays", 2, b"v").await;
    rig.engine.flush(None).await.unwrap();
    rig.clock.0.store(START_S + 60, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(rig.sstables(), 2, "a second too early");
    rig.clock.0.store(START_S + 61, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(700)).await;
    let figures = rig.engine.table_figures()[&TABLE].clone();
    assert_eq!((figures.sstables, figures.compactions, figures.compacted_bytes_written), (1, 1, 0));
    assert_eq!(sstables_on_disk(&rig.disk, TABLE).len(), 1);
    assert_eq!(rig.value(b"stays").unwrap(), "v");
    let again = setup.boot(&rig.crash());
    assert_eq!(again.sstables(), 1);
}

#[tokio::test(start_paused = true)]
async fn compactions_are_remembered_over_a_restart_and_their_own_are_not() {
    let mut setup = roomy(vec![table(TABLE, |_| {}), history::table()]);
    setup.config.commitlog_sync = CommitlogSync::Batch;
    let rig = setup.fresh();
    let now = |rig: &Rig| GcSeconds(u32::try_from(rig.clock.0.load(Ordering::Relaxed)).unwrap());
    for version in 1..=4 {
        flush(&rig, TABLE, 0..50, version, 100).await;
    }
    settle().await;
    let records = history::read(&rig.engine, now(&rig)).unwrap();
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((record.id, record.table, record.reason.as_str()), (1, TABLE.0, "size-tiered"));
    assert_eq!((record.partitions_in, record.partitions_out), (200, 50));
    assert_eq!((record.inputs.len(), record.outputs.len()), (4, 1));
    assert!(record.bytes_in > record.bytes_out && record.bytes_out > 0);
    assert_eq!(record.ended_us, START_S * 1_000_000);
    // Compacting the history itself is no history.
    for _ in 0..4 {
        rig.engine.flush(Some(history::TABLE)).await.unwrap();
        rig.engine.compact(Some(TABLE)).await.unwrap();
    }
    rig.engine.compact(Some(history::TABLE)).await.unwrap();
    let records = history::read(&rig.engine, now(&rig)).unwrap();
    assert_eq!(records.len(), 5);
    assert!(records.iter().all(|record| record.table == TABLE.0), "{records:?}");
    let last = records[0].id;
    let again = setup.boot(&rig.stop().await);
    assert_eq!(history::read(&again.engine, now(&again)).unwrap(), records);
    again.engine.compact(Some(TABLE)).await.unwrap();
    assert_eq!(history::read(&again.engine, now(&again)).unwrap()[0].id, last + 1);
    again.clock.0.store(START_S + 7 * 86_400, Ordering::Relaxed);
    assert_eq!(history::read(&again.engine, now(&again)).unwrap(), []);
}

/// A disk that fails for good at its n-th change: the power goes out in the middle of it.
struct Failing {
    disk: SimDisk,
    changes: Arc<AtomicU64>,
    at: u64,
}

impl Failing {
    fn change<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let count = self.changes.fetch_add(1, Ordering::Relaxed);
        let result = change();
        if count == self.at {
            self.disk.crash();
        }
        result
    }

    fn wrapped(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        let disk = self.disk.clone();
        let failing = Failing { disk, changes: Arc::clone(&self.changes), at: self.at };
        Arc::new(FailingFile { failing, file })
    }
}

struct FailingFile {
    failing: Failing,
    file: Arc<dyn File>,
}

impl Disk for Failing {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let file = match create {
            true => self.change(|| self.disk.open(path, create)),
            false => self.disk.open(path, create),
        };
        file.map(|file| self.wrapped(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|| self.disk.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|| self.disk.hard_link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|| self.disk.remove(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|| self.disk.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|| self.disk.remove_dir(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(|| self.disk.sync_dir(dir))
    }
}

impl File for FailingFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.failing.change(|| self.file.write_at(offset, data))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn sync(&self) -> io::Result<()> {
        self.failing.change(|| self.file.sync())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.failing.change(|| self.file.set_len(len))
    }
}

/// Four SSTables that wait to be compacted, in a table of this class, after a clean stop.
async fn prepared(setup: &Setup) -> SimDisk {
    let rig = setup.fresh();
    rig.engine.set_auto_compaction(None, false);
    for round in 0..4_u32 {
        flush(&rig, TABLE, round * 20..round * 20 + 60, i64::from(round) + 1, 300).await;
    }
    rig.stop().await
}

/// Boots on a disk whose power fails at change `at`, and compacts until that has happened or nothing is left to do. Gives
/// how many changes there were.
async fn compact_until(setup: &Setup, disk: &SimDisk, at: u64) -> u64 {
    let changes = Arc::new(AtomicU64::new(0));
    let failing = Failing { disk: disk.reopen(), changes: Arc::clone(&changes), at };
    let tasks = Arc::new(Tasks::new());
    let parts = LsmParts {
        dir: PathBuf::from("data/storage"),
        config: setup.config.clone(),
        disk: Arc::new(failing),
        background: Arc::new(SimBackground::new(disk.reopen())),
        clock: Arc::new(TestClock(AtomicI64::new(setup.now_s))),
        probe: Arc::new(Seen::default()),
        tasks: Arc::clone(&tasks),
        tables: setup.tables.clone(),
    };
    if let Ok(engine) = LsmEngine::open(parts) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(engine);
    }
    tasks.abort_all();
    changes.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_compaction_that_dies_at_any_point_leaves_no_trace() {
    let classes: [fn(&mut TableOptions); 2] = [leveled, |options| options.compression = false];
    for options in classes {
        let setup = roomy(vec![table(TABLE, options)]);
        let expected = versions(&setup.boot(&prepared(&setup).await));
        let all = compact_until(&setup, &prepared(&setup).await, u64::MAX).await;
        assert!(all > 20, "{all} changes");
        let mut outcomes = std::collections::BTreeSet::new();
        for at in 0..all {
            let disk = prepared(&setup).await;
            compact_until(&setup, &disk, at).await;
            // Nothing more is compacted, so that what is there is what was found.
            let rig = setup.boot(&disk);
            rig.engine.set_auto_compaction(None, false);
            assert_eq!(versions(&rig), expected, "change {at}");
            let listed = {
                let state = rig.engine.shared.lock();
                let manifest = state.tables[&TABLE].manifest.lock().unwrap().clone();
                manifest.generations
            };
            let on_disk: Vec<u64> = sstables_on_disk(&rig.disk, TABLE)
                .iter()
                .map(|name| u64::from_str_radix(name.trim_end_matches(".sst"), 16).unwrap())
                .collect();
            assert_eq!(on_disk, listed, "change {at}");
            outcomes.insert(listed.len());
        }
        assert!(outcomes.contains(&4) && outcomes.len() > 1, "before and after: {outcomes:?}");
    }
}
