//! Many SSTables become few, and nothing that is needed goes.

use super::*;

/// Writes `rounds` SSTables, each over the same keys.
async fn fill(rig: &Rig, rounds: i64, keys: u32) {
    for round in 1..=rounds {
        for i in 0..keys {
            rig.put(&i.to_be_bytes(), round, &round.to_be_bytes()).await;
        }
        rig.engine.flush(None).await.unwrap();
    }
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn like_sstables_are_compacted_and_the_newest_versions_stay() {
    let setup = Setup::default();
    let rig = setup.fresh();
    fill(&rig, 9, 50).await;
    settle().await;
    let figures = rig.engine.table_figures()[&TABLE].clone();
    assert!(figures.sstables < 4, "{figures:?}");
    assert!(figures.compactions >= 2 && figures.compacted_bytes_written > 0);
    assert_eq!(rig.engine.compaction_figures().completed, figures.compactions);
    assert_eq!(rig.engine.compaction_figures().running, []);
    assert!((0..50_u32).all(|i| rig.value(&i.to_be_bytes()).unwrap() == 9_i64.to_be_bytes()[..]));
    let events = rig.seen.0.lock().unwrap().clone();
    assert!(events.iter().any(|e| matches!(e, Event::Compacted { inputs: 4, .. })), "{events:?}");
    // Only what the manifest lists is on the disk.
    let names = files(&rig.disk);
    assert_eq!(names.len() as u64, figures.sstables, "{names:?}");
    let again = setup.boot(&rig.crash());
    assert!((0..50_u32).all(|i| again.value(&i.to_be_bytes()).unwrap() == 9_i64.to_be_bytes()[..]));
}

fn files(disk: &SimDisk) -> Vec<String> {
    use crate::seams::disk::Disk;
    let dir = PathBuf::from("data/storage/tables").join(TABLE.to_string());
    let mut names = disk.list(&dir).unwrap();
    names.retain(|name| name.ends_with(".sst"));
    names
}

#[tokio::test(start_paused = true)]
async fn switched_off_compaction_piles_up_and_an_operators_still_runs() {
    let rig = Setup::default().fresh();
    rig.engine.set_auto_compaction(None, false);
    fill(&rig, 12, 20).await;
    settle().await;
    assert_eq!(rig.sstables(), 12);
    assert!(rig.engine.compaction_figures().pending_tasks > 0);
    assert!(!rig.engine.compaction_figures().auto_compaction);
    rig.engine.compact(Some(TABLE)).await.unwrap();
    assert_eq!(rig.sstables(), 1);
    fill(&rig, 4, 20).await;
    settle().await;
    assert_eq!(rig.sstables(), 5);
    rig.engine.set_auto_compaction(None, true);
    settle().await;
    assert!(rig.sstables() < 4);
}

#[tokio::test(start_paused = true)]
async fn the_throttle_sets_the_pace_and_a_compaction_under_way_can_be_paused() {
    let mut setup = Setup::default();
    setup.config.memtable_heap_space = 64 << 20;
    setup.config.commitlog_total_space = 64 << 20;
    setup.config.commitlog_segment_size = 8 << 20;
    setup.tables = vec![table(TABLE, |options| options.compression = false)];
    let rig = setup.fresh();
    rig.engine.set_auto_compaction(None, false);
    let value = vec![1; 10_000];
    for _ in 0..4 {
        for i in 0..200_u32 {
            rig.put(&i.to_be_bytes(), 1, &value).await;
        }
        rig.engine.flush(None).await.unwrap();
    }
    // 8 MB at 1 MB/s: about eight seconds.
    rig.engine.set_compaction_throughput(1_000_000);
    rig.engine.set_auto_compaction(None, true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let running = rig.engine.compaction_figures().running[0].clone();
    assert_eq!(running.table, TABLE);
    assert!(running.done_bytes > 1_000_000 && running.done_bytes < 6_000_000, "{running:?}");
    rig.engine.set_auto_compaction(None, false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let paused = rig.engine.compaction_figures().running[0].clone();
    assert!(paused.done_bytes <= running.done_bytes + (3 << 20), "{paused:?}");
    assert_eq!(rig.sstables(), 4);
    rig.engine.set_auto_compaction(None, true);
    rig.engine.set_compaction_throughput(0);
    settle().await;
    assert_eq!(rig.sstables(), 1);
    assert!((0..200_u32).all(|i| rig.value(&i.to_be_bytes()).is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_compaction_of_one_step_pays_too_and_a_pause_holds_for_its_end() {
    let tables = vec![table(TABLE, |options| options.compression = false)];
    let rig = Setup { tables, ..Setup::default() }.fresh();
    rig.engine.set_auto_compaction(None, false);
    fill(&rig, 4, 200).await;
    // Fewer bytes than one step takes, yet seconds at this pace.
    rig.engine.set_compaction_throughput(4_000);
    rig.engine.set_auto_compaction(None, true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let running = rig.engine.compaction_figures().running[0].clone();
    // All of it but filters, indexes and footers.
    assert!(running.done_bytes > running.total_bytes * 8 / 10, "read in one step: {running:?}");
    assert_eq!(rig.sstables(), 4);
    rig.engine.set_auto_compaction(None, false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.sstables(), 4, "paused before its end");
    rig.engine.set_auto_compaction(None, true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.sstables(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operators_compaction_gets_past_one_that_is_paused() {
    let rig = Setup::default().fresh();
    rig.engine.set_compaction_throughput(10);
    fill(&rig, 4, 2000).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.engine.set_auto_compaction(None, false);
    rig.engine.set_compaction_throughput(0);
    rig.engine.compact(None).await.unwrap();
    assert_eq!(rig.sstables(), 1);
    settle().await;
    assert_eq!(files(&rig.disk).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_is_purged_past_gc_grace_and_not_before() {
    let setup =
        Setup { tables: vec![table(TABLE, |o| o.gc_grace_seconds = 100)], ..Setup::default() };
    let rig = setup.fresh();
    rig.put(b"k", 1, b"v").await;
    rig.put(b"other", 1, b"v").await;
    rig.engine.flush(None).await.unwrap();
    rig.write(delete(b"k", 2, START_S)).await.unwrap();
    rig.engine.flush(None).await.unwrap();
    rig.engine.compact(None).await.unwrap();
    assert!(
        rig.partition(b"k").is_some(),
        "the tombstone is still owed to replicas that missed it"
    );
    rig.clock.0.store(START_S + 101, Ordering::Relaxed);
    rig.engine.compact(None).await.unwrap();
    assert_eq!(rig.partition(b"k"), None);
    assert_eq!(rig.value(b"other").unwrap(), "v");
    // Nor does the log bring it back.
    let again = setup.boot(&rig.crash());
    assert_eq!(again.partition(b"k"), None);
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_stays_while_a_memtable_may_hold_what_it_covers() {
    let setup =
        Setup { tables: vec![table(TABLE, |o| o.gc_grace_seconds = 0)], ..Setup::default() };
    let rig = setup.fresh();
    // With no grace an SSTable of nothing but tombstones would be dropped before the late write comes.
    rig.engine.set_auto_compaction(None, false);
    rig.write(delete(b"k", 10, START_S - 5)).await.unwrap();
    rig.engine.flush(None).await.unwrap();
    // An old write that came late, as hints do.
    rig.put(b"k", 5, b"ghost").await;
    rig.engine.compact(None).await.unwrap();
    rig.engine.flush(None).await.unwrap();
    assert_eq!(rig.value(b"k"), None, "the covered value came back");
    rig.engine.compact(None).await.unwrap();
    assert_eq!(rig.partition(b"k"), None);
    assert_eq!(rig.sstables(), 0, "nothing is left, so there is no file");
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_stays_while_an_sstable_outside_may_hold_what_it_covers() {
    let kept = table(TABLE, |options| {
        options.gc_grace_seconds = 0;
        options.compression = false;
    });
    let mut setup = Setup { tables: vec![kept], ..Setup::default() };
    setup.config.memtable_heap_space = 1 << 30;
    setup.config.commitlog_total_space = 1 << 30;
    let rig = setup.fresh();
    rig.engine.set_auto_compaction(None, false);
    // So large that size-tiered compaction does not put it in a bucket with the small ones.
    rig.put(b"k", 1, b"old").await;
    let large = vec![3; 1 << 20];
    for i in 0..60_u32 {
        rig.put(&i.to_be_bytes(), 1, &large).await;
    }
    rig.engine.flush(None).await.unwrap();
    rig.write(delete(b"k", 2, START_S - 5)).await.unwrap();
    rig.engine.flush(None).await.unwrap();
    for i in 1000..1003_u32 {
        rig.put(&i.to_be_bytes(), 1, b"small").await;
        rig.engine.flush(None).await.unwrap();
    }
    rig.engine.set_auto_compaction(None, true);
    settle().await;
    assert_eq!(rig.sstables(), 2, "the four small ones became one");
    assert_eq!(rig.value(b"k"), None, "the old value came back");
    assert!(rig.partition(b"k").unwrap().deletion.is_some());
}

#[tokio::test(start_paused = true)]
async fn expired_values_become_tombstones_and_then_nothing() {
    use helenus_core::Expiry;
    let setup =
        Setup { tables: vec![table(TABLE, |o| o.gc_grace_seconds = 50)], ..Setup::default() };
    let rig = setup.fresh();
    let expires_at = GcSeconds(u32::try_from(START_S + 10).unwrap());
    let expiry = Some(Expiry { ttl_s: 10, expires_at });
    let update = Partition::put(TimestampMicros(1), Bytes::from_static(b"v"), expiry);
    rig.write(write_of(TABLE, b"k", update)).await.unwrap();
    rig.engine.flush(None).await.unwrap();
    assert_eq!(rig.value(b"k").unwrap(), "v");
    rig.clock.0.store(START_S + 10, Ordering::Relaxed);
    assert_eq!(rig.value(b"k"), None);
    rig.engine.compact(None).await.unwrap();
    assert_eq!(merge::tombstones(&rig.partition(b"k").unwrap()), 1);
    rig.clock.0.store(START_S + 200, Ordering::Relaxed);
    rig.engine.compact(None).await.unwrap();
    assert_eq!(rig.partition(b"k"), None);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_table_ends_its_compaction_and_removes_its_output() {
    let rig = Setup::default().fresh();
    rig.engine.set_compaction_throughput(1);
    fill(&rig, 4, 3000).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    rig.engine.drop_table(TABLE).unwrap();
    rig.engine.set_compaction_throughput(0);
    tokio::time::sleep(Duration::from_secs(3_000_000)).await;
    assert_eq!(rig.engine.compaction_figures().running, []);
    assert_eq!(files(&rig.disk), Vec::<String>::new());
}
