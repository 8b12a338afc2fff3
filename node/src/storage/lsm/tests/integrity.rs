//! Verify finds whatever does not hold, and scrub keeps whatever can be kept.

use super::*;
use crate::seams::disk::Disk;
use crate::storage::lsm::sstable::{SsTable, Writer};
use crate::storage::{ScrubOptions, VerifyOptions, VerifyReport};
use helenus_core::merge::Statistics;
use std::path::Path;

pub(super) fn dir() -> PathBuf {
    PathBuf::from("data/storage/tables").join(TABLE.to_string())
}

/// As in production: the token is the key's.
pub(super) fn write(key: &[u8], timestamp: i64, value: &[u8]) -> Write {
    Write { token: helenus_core::token::of(key), ..put(key, timestamp, value) }
}

/// Values that no codec makes smaller.
pub(super) fn noise(i: u32, times: usize) -> Vec<u8> {
    let words =
        (0..times as u64).map(|n| xxhash_rust::xxh3::xxh3_64_with_seed(&i.to_be_bytes(), n));
    words.flat_map(u64::to_be_bytes).collect()
}

impl Rig {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Partition>, StorageError> {
        let token = helenus_core::token::of(key);
        self.engine.read(TABLE, token, &Key(Bytes::copy_from_slice(key)))
    }

    pub(super) async fn fill(&self, keys: std::ops::Range<u32>, words: usize) {
        for i in keys {
            self.write(write(&i.to_be_bytes(), 1, &noise(i, words))).await.unwrap();
        }
        self.engine.flush(None).await.unwrap();
    }

    async fn verify(&self) -> VerifyReport {
        self.engine.verify(VerifyOptions::default()).await.unwrap()
    }

    fn sstable_paths(&self) -> Vec<PathBuf> {
        let names = self.disk.list(&dir()).unwrap();
        names.iter().filter(|n| n.ends_with(".sst")).map(|n| dir().join(n)).collect()
    }
}

/// A large memtable, so that a test alone says when it is flushed, and no compaction.
pub(super) fn roomy() -> Setup {
    let mut setup = Setup::default();
    setup.config.memtable_heap_space = 64 << 20;
    setup.config.commitlog_total_space = 64 << 20;
    setup
}

fn flip(disk: &SimDisk, path: &Path, at: u64) {
    let file = disk.open(path, false).unwrap();
    let mut byte = [0];
    file.read_at(at, &mut byte).unwrap();
    file.write_at(at, &[byte[0] ^ 0x20]).unwrap();
}

fn len(disk: &SimDisk, path: &Path) -> u64 {
    disk.open(path, false).unwrap().len().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_sound_is_reported_so_and_counted() {
    let rig = roomy().fresh();
    rig.engine.set_auto_compaction(None, false);
    rig.fill(0..300, 20).await;
    rig.write(Write { token: helenus_core::token::of(b"k"), ..delete(b"k", 9, START_S) })
        .await
        .unwrap();
    rig.fill(200..400, 20).await;
    rig.write(write(b"in the log", 1, b"v")).await.unwrap();
    let report = rig.verify().await;
    assert_eq!(report.problems, []);
    assert_eq!((report.tables, report.sstables, report.partitions), (1, 2, 501));
    assert!(report.bytes > 500 * 160, "{report:?}");
    assert!(report.log_segments >= 1 && report.log_bytes > 100, "{report:?}");
    let quick = VerifyOptions { tables: Some(vec![TABLE]), quick: true };
    let quick = rig.engine.verify(quick).await.unwrap();
    assert_eq!((quick.sstables, quick.bytes, quick.log_bytes), (2, 0, 0));
    assert_eq!(quick.problems, []);
}

#[tokio::test(start_paused = true)]
async fn every_flipped_byte_of_an_sstable_or_a_manifest_is_reported_with_its_file() {
    for compression in [false, true] {
        let mut setup = roomy();
        setup.tables = vec![table(TABLE, |options| options.compression = compression)];
        let rig = setup.fresh();
        rig.fill(0..20, 4).await;
        let sstable = rig.sstable_paths().remove(0);
        for path in [sstable, dir().join("MANIFEST")] {
            for at in 0..len(&rig.disk, &path) {
                flip(&rig.disk, &path, at);
                let report = rig.verify().await;
                assert!(!report.problems.is_empty(), "{}: byte {at}", path.display());
                for problem in &report.problems {
                    assert_eq!(problem.path, path.display().to_string());
                    assert_eq!(problem.table, Some(TABLE));
                    assert!(problem.offset <= at, "{problem:?} for byte {at}");
                    assert!(problem.remedy.contains("scrub"), "{problem:?}");
                }
                flip(&rig.disk, &path, at);
            }
            assert_eq!(rig.verify().await.problems, []);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_flipped_byte_of_the_synced_log_is_reported_with_its_file() {
    let rig = roomy().fresh();
    for i in 0..10_u32 {
        rig.write(write(&i.to_be_bytes(), 1, &noise(i, 2))).await.unwrap();
    }
    let log = Path::new("data/storage/commitlog");
    let segment = log.join(rig.disk.list(log).unwrap().pop().unwrap());
    // The mark of the last sync is not synced itself.
    let durable = rig.engine.shared.lock().log.durable().offset;
    assert!(durable > 400);
    for at in 0..durable {
        flip(&rig.disk, &segment, at);
        let report = rig.verify().await;
        assert_eq!(report.problems.len(), 1, "byte {at}");
        let problem = &report.problems[0];
        assert_eq!((problem.path.clone(), problem.table), (segment.display().to_string(), None));
        assert!(problem.offset <= at && problem.remedy.contains("flush"), "{problem:?}");
        flip(&rig.disk, &segment, at);
    }
    assert_eq!(rig.verify().await.problems, []);
}

#[tokio::test(start_paused = true)]
async fn missing_and_orphaned_files_are_reported() {
    let rig = roomy().fresh();
    rig.fill(0..10, 4).await;
    let stray = dir().join(SsTable::name(77));
    rig.disk.open(&stray, true).unwrap();
    let report = rig.verify().await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(report.problems[0].path, stray.display().to_string());
    rig.disk.remove(&stray).unwrap();
    let path = rig.sstable_paths().remove(0);
    rig.disk.remove(&path).unwrap();
    let report = rig.verify().await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(report.problems[0].path, path.display().to_string());
    assert_eq!(report.partitions, 10, "the node still has it open");
    // A snapshot cannot link what is not there; what is open can be written anew.
    assert!(rig.engine.scrub(ScrubOptions::default()).await.is_err());
    let scrubbed = ScrubOptions { snapshot: false, ..ScrubOptions::default() };
    let scrubbed = rig.engine.scrub(scrubbed).await.unwrap();
    assert_eq!((scrubbed.rewritten, scrubbed.partitions_kept), (1, 10));
    assert_eq!(rig.verify().await.problems, []);
    let again = roomy().boot(&rig.crash());
    assert!((0..10_u32).all(|i| again.get(&i.to_be_bytes()).unwrap().is_some()));
}

/// Adds an SSTable that no flush would write.
fn add_sstable(
    rig: &Rig,
    partitions: &[(Token, &[u8], &[u8])],
    statistics: Option<Statistics>,
) -> PathBuf {
    let place = rig.engine.shared.place(TABLE).unwrap();
    let mut manifest = place.manifest.lock().unwrap();
    let generation = manifest.next_generation;
    manifest.next_generation += 1;
    let options = TableOptions::default();
    let disk = Arc::new(rig.disk.clone());
    let mut writer = Writer::create(disk, &place.dir, generation, &options, 100).unwrap();
    let mut true_statistics = Statistics::default();
    for (token, key, value) in partitions {
        if let Ok(partition) = codec::decode(Bytes::copy_from_slice(value)) {
            true_statistics.add(&partition);
        }
        writer.add(*token, key, value).unwrap();
    }
    let statistics = statistics.unwrap_or(true_statistics);
    let sstable = writer.finish(statistics, place.now, &place.cache).unwrap();
    let path = sstable.path.clone();
    manifest.generations.push(generation);
    manifest.store(&rig.disk, &place.dir).unwrap();
    let mut state = rig.engine.shared.lock();
    state.replaced(TABLE, &[], vec![sstable]).unwrap();
    path
}

fn encoded(value: &[u8]) -> Vec<u8> {
    codec::encode(&Partition::put(TimestampMicros(1), Bytes::copy_from_slice(value), None)).to_vec()
}

#[tokio::test(start_paused = true)]
async fn contents_that_contradict_themselves_are_reported_and_mended() {
    let rig = roomy().fresh();
    rig.engine.set_auto_compaction(None, false);
    rig.fill(0..3, 1).await;
    let mut keys: Vec<Vec<u8>> = (0..6_u8).map(|i| vec![b'k', i]).collect();
    keys.sort_by_key(|key| helenus_core::token::of(key));
    let (good, token) = (encoded(b"v"), |i: usize| helenus_core::token::of(&keys[i]));
    let one = |i: usize| (token(i), keys[i].as_slice(), good.as_slice());
    let sample: Vec<(PathBuf, &str)> = vec![
        (add_sstable(&rig, &[one(0)], Some(Statistics::default())), "statistics exclude"),
        (add_sstable(&rig, &[one(3), one(1), one(2), one(2)], None), "not in order"),
        (add_sstable(&rig, &[one(4), (token(5), &keys[5], b"\xFF")], None), "does not decode"),
    ];
    let report = rig.verify().await;
    for (path, what) in &sample {
        let of_file = report.problems.iter().filter(|p| p.path == path.display().to_string());
        let said: Vec<&str> = of_file.map(|problem| problem.what.as_str()).collect();
        assert!(said.iter().any(|said| said.contains(what)), "{what}: {said:?}");
    }
    let others = report.problems.iter().filter(|problem| {
        sample.iter().all(|(path, _)| problem.path != path.display().to_string())
    });
    assert_eq!(others.count(), 0, "{report:#?}");
    let scrubbed = rig.engine.scrub(ScrubOptions::default()).await.unwrap();
    // The one that was sound stays as it is.
    assert_eq!((scrubbed.sstables, scrubbed.rewritten), (4, 3), "{scrubbed:#?}");
    assert_eq!((scrubbed.partitions_kept, scrubbed.partitions_lost), (6, 1));
    assert_eq!((scrubbed.reordered, scrubbed.lost.len()), (3, 1));
    assert_eq!((scrubbed.lost[0].from, scrubbed.lost[0].until), (token(5), token(5)));
    assert_eq!(rig.verify().await.problems, []);
    for key in &keys[..5] {
        assert!(rig.get(key).unwrap().is_some(), "{key:?}");
    }
    assert!(rig.get(&keys[5]).unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_partition_at_a_token_that_is_not_its_keys_is_reported_and_left_alone() {
    let rig = roomy().fresh();
    rig.fill(0..3, 1).await;
    let path = add_sstable(&rig, &[(Token(5), b"k", &encoded(b"v"))], None);
    let report = rig.verify().await;
    assert_eq!(report.problems.len(), 1, "{report:#?}");
    assert_eq!(report.problems[0].path, path.display().to_string());
    assert!(report.problems[0].what.contains("not its key's"));
    let scrubbed = rig.engine.scrub(ScrubOptions::default()).await.unwrap();
    assert_eq!(scrubbed.rewritten, 0);
}

/// Sections are (offset u64, length u64, crc u32), the second is the filter; the file ends with version, crc, magic.
fn empty_the_filter(disk: &SimDisk, path: &Path) {
    let file = disk.open(path, false).unwrap();
    let footer_at = file.len().unwrap() - (3 * 20 + 16);
    let mut footer = vec![0; 3 * 20 + 4];
    file.read_at(footer_at, &mut footer).unwrap();
    let field = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().unwrap());
    let (at, len) = (field(20), usize::try_from(field(28)).unwrap());
    let mut bloom = vec![0; len];
    file.read_at(at, &mut bloom).unwrap();
    bloom[4..].fill(0);
    file.write_at(at, &bloom).unwrap();
    footer[36..40].copy_from_slice(&crc32fast::hash(&bloom).to_le_bytes());
    file.write_at(footer_at, &footer).unwrap();
    file.write_at(footer_at + 64, &crc32fast::hash(&footer).to_le_bytes()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_denies_what_is_there_hides_data_and_is_found() {
    let rig = roomy().fresh();
    rig.fill(0..50, 2).await;
    let path = rig.sstable_paths().remove(0);
    empty_the_filter(&rig.disk, &path);
    let rig = roomy().boot(&rig.stop().await);
    assert!(rig.get(&7_u32.to_be_bytes()).unwrap().is_none(), "hidden, and no error");
    let report = rig.verify().await;
    assert_eq!(report.problems.len(), 1, "{report:#?}");
    assert!(report.problems[0].what.contains("bloom filter"));
    let scrubbed = rig.engine.scrub(ScrubOptions::default()).await.unwrap();
    assert_eq!((scrubbed.partitions_kept, scrubbed.partitions_lost), (50, 0));
    assert!((0..50_u32).all(|i| rig.get(&i.to_be_bytes()).unwrap().is_some()));
    assert_eq!(rig.verify().await.problems, []);
}

#[tokio::test(start_paused = true)]
async fn scrub_keeps_exactly_what_is_not_in_a_damaged_block_and_says_where_the_rest_was() {
    let setup = roomy();
    let rig = setup.fresh();
    rig.fill(0..1000, 20).await;
    let path = rig.sstable_paths().remove(0);
    for at in [100, 50_000, 90_000] {
        flip(&rig.disk, &path, at);
    }
    let before: Vec<u32> = (0..1000).filter(|i: &u32| rig.get(&i.to_be_bytes()).is_err()).collect();
    assert!(before.len() > 100 && before.len() < 500, "three blocks of 16 KiB: {}", before.len());
    assert_eq!(rig.verify().await.problems.len(), 3);
    let scrubbed = rig.engine.scrub(ScrubOptions::default()).await.unwrap();
    assert_eq!((scrubbed.rewritten, scrubbed.lost.len()), (1, 3), "{scrubbed:?}");
    assert_eq!(scrubbed.partitions_lost, before.len() as u64);
    assert_eq!(scrubbed.partitions_kept, 1000 - before.len() as u64);
    for i in 0..1000_u32 {
        let token = helenus_core::token::of(&i.to_be_bytes());
        let found = rig.get(&i.to_be_bytes()).unwrap();
        assert_eq!(found.is_none(), before.contains(&i), "{i}");
        let told = scrubbed.lost.iter().any(|l| l.from <= token && token <= l.until);
        assert!(told || found.is_some(), "{i} was lost silently");
    }
    assert_eq!(rig.verify().await.problems, []);
    // Nothing is gone for good: the damaged file is in the snapshot, and a second scrub finds nothing to do.
    let snapshots = rig.engine.list_snapshots().await.unwrap();
    assert_eq!(Some(&snapshots[0].tag), scrubbed.snapshot.as_ref());
    assert!(snapshots[0].true_bytes > 160_000, "{snapshots:?}");
    let second = rig.engine.scrub(ScrubOptions::default()).await.unwrap();
    assert_eq!((second.rewritten, second.lost.len()), (0, 0));
    let all = ScrubOptions { all: true, snapshot: false, ..ScrubOptions::default() };
    assert_eq!(rig.engine.scrub(all).await.unwrap().rewritten, 1);
    let again = setup.boot(&rig.crash());
    let found = (0..1000_u32).filter(|i| again.get(&i.to_be_bytes()).unwrap().is_some()).count();
    assert_eq!(found, 1000 - before.len());
}

#[tokio::test(start_paused = true)]
async fn while_the_node_runs_a_damaged_index_or_manifest_costs_nothing() {
    let setup = roomy();
    let rig = setup.fresh();
    rig.fill(0..200, 20).await;
    let path = rig.sstable_paths().remove(0);
    let end = len(&rig.disk, &path);
    // The footer, and with it whatever is behind the blocks.
    flip(&rig.disk, &path, end - 30);
    flip(&rig.disk, &dir().join("MANIFEST"), 30);
    let scrubbed = rig.engine.scrub(ScrubOptions::default()).await.unwrap();
    assert_eq!((scrubbed.partitions_kept, scrubbed.partitions_lost), (200, 0));
    assert_eq!((scrubbed.manifests, scrubbed.lost.len()), (1, 0));
    assert_eq!(rig.verify().await.problems, []);
    let again = setup.boot(&rig.crash());
    assert!((0..200_u32).all(|i| again.get(&i.to_be_bytes()).unwrap().is_some()));
}

#[tokio::test(start_paused = true)]
async fn one_runs_at_a_time_is_seen_and_ends_with_whoever_waits_for_it() {
    let rig = roomy().fresh();
    rig.fill(0..1500, 300).await;
    rig.engine.set_compaction_throughput(1 << 20);
    let first = rig.engine.verify(VerifyOptions::default());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let refused = rig.engine.scrub(ScrubOptions::default()).await;
    assert!(matches!(refused, Err(StorageError::Busy { running: "Verify" })), "{refused:?}");
    let running = rig.engine.compaction_figures().running.remove(0);
    assert_eq!((running.kind, running.table), ("Verify", TABLE));
    assert!(running.done_bytes > 0 && running.done_bytes < running.total_bytes, "{running:?}");
    drop(first);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.engine.compaction_figures().running, []);
    rig.engine.set_compaction_throughput(0);
    // A scrub goes on.
    drop(rig.engine.scrub(ScrubOptions { all: true, ..ScrubOptions::default() }));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.engine.compaction_figures().running, []);
    assert!(rig.sstable_paths()[0] > dir().join(SsTable::name(1)));
}

#[tokio::test(start_paused = true)]
async fn a_compaction_beside_a_scrub_loses_nothing() {
    let rig = roomy().fresh();
    rig.engine.set_auto_compaction(None, false);
    for round in 0..4 {
        rig.fill(round * 200..(round + 1) * 200, 200).await;
    }
    rig.engine.set_compaction_throughput(1 << 20);
    let scrub = rig.engine.scrub(ScrubOptions { all: true, ..ScrubOptions::default() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.engine.compact(None).await.unwrap();
    let scrubbed = scrub.await.unwrap();
    assert!(scrubbed.rewritten > 0 || scrubbed.overtaken > 0, "{scrubbed:?}");
    assert!((0..800_u32).all(|i| rig.get(&i.to_be_bytes()).unwrap().is_some()));
    rig.engine.flush(None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.verify().await.problems, [], "no file is left over");
    assert_eq!(rig.sstable_paths().len() as u64, rig.sstables());
}
