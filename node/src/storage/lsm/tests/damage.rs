//! Every bit of every file of a small store is flipped, every file is cut at every byte: the start is refused and says
//! where and what to do, or a read fails and names the file. No read is ever wrong, and no key that was acknowledged is
//! ever answered with "not there".

use super::*;
use crate::seams::disk::{Disk, Survives};
use std::path::Path;

const DROPPED: TableId = TableId(8);
const LAST: u32 = 30;

fn setup() -> Setup {
    // A filter that lets nothing through by chance: a read of one file's key must not stumble over another's damage.
    let mut setup = Setup {
        tables: vec![table(TABLE, |options| options.bloom_filter_fp_ppm = 100)],
        ..Setup::default()
    };
    setup.config.commitlog_segment_size = 300;
    // A snapshot's files are read by nobody until they are put back.
    setup.config.auto_snapshot = false;
    setup
}

fn value_of(i: u32) -> [u8; 8] {
    xxhash_rust::xxh3::xxh3_64(&i.to_be_bytes()).to_be_bytes()
}

/// Keys 0..10 and 10..20 in an SSTable each, 20..30 in the log, in segments of a few records. Of another table the log
/// has records that are dead.
async fn store(rig: &Rig, setup: &mut Setup) {
    rig.engine.set_auto_compaction(None, false);
    rig.engine.open_table(&table(DROPPED, |_| {})).unwrap();
    for i in 0..LAST {
        if i == 10 || i == 20 {
            rig.engine.flush(None).await.unwrap();
        }
        rig.put(&i.to_be_bytes(), i64::from(i) + 1, &value_of(i)).await;
        if i == 23 {
            rig.write(write_of(DROPPED, b"dead", put(b"dead", 1, b"v").partition())).await.unwrap();
            rig.engine.drop_table(DROPPED).unwrap();
        }
    }
    // A mark that covers the last write, behind it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    setup.config.commitlog_sync = CommitlogSync::Batch;
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("data/storage")];
    while let Some(path) = todo.pop() {
        match disk.list(&path) {
            Ok(names) => todo.extend(names.iter().map(|name| path.join(name))),
            Err(_) => found.push(path),
        }
    }
    found.sort();
    found
}

fn kind(path: &Path) -> &str {
    path.extension().and_then(|e| e.to_str()).unwrap_or("MANIFEST")
}

fn is_named(error: &StorageError, path: &Path) -> bool {
    match error {
        StorageError::Corrupt { path: named, what, remedy, .. } => {
            *named == path.display().to_string() && !what.is_empty() && remedy.contains(' ')
        }
        _ => false,
    }
}

/// What a damaged store shows.
#[derive(Debug)]
enum Shown {
    /// The start was refused.
    Refused,
    /// For each key: `Some(true)` it is right, `Some(false)` it is not there, `None` it is an error that names the file.
    Keys { keys: Vec<Option<bool>>, cut_bytes: u64 },
}

/// Starts on what is left, and reads everything: key by key, and by a scan.
fn shown(setup: &Setup, disk: &SimDisk, path: &Path, last: u32, at: u64) -> Shown {
    let rig = match setup.try_boot(disk) {
        Ok(rig) => rig,
        Err(StorageError::Corrupt { offset, .. }) if offset > at + 4096 => {
            panic!("{} at {at}: blamed on {offset}", path.display())
        }
        Err(error) if is_named(&error, path) => return Shown::Refused,
        Err(error) => panic!("{} at {at}: {error}", path.display()),
    };
    let mut keys = Vec::new();
    for i in 0..last {
        keys.push(match rig.try_partition(&i.to_be_bytes()) {
            Ok(Some(_)) => {
                assert_eq!(rig.value(&i.to_be_bytes()).unwrap(), value_of(i)[..], "key {i}");
                Some(true)
            }
            Ok(None) => Some(false),
            Err(error) if is_named(&error, path) => None,
            Err(error) => panic!("{} at {at}, key {i}: {error}", path.display()),
        });
    }
    let page = rig.engine.range(TABLE, &RangeStart::First, Token::MAX, 10_000);
    match page {
        Ok(page) => {
            let right = keys.iter().filter(|key| **key == Some(true)).count();
            assert_eq!(page.partitions.len(), right, "{} at {at}", path.display());
            assert!(keys.iter().all(Option::is_some), "a scan stepped over a damaged block");
        }
        Err(error) => assert!(is_named(&error, path), "{} at {at}: {error}", path.display()),
    }
    let cut_bytes = rig.engine.figures().recovery.cut_bytes;
    rig.kill();
    Shown::Keys { keys, cut_bytes }
}

/// Every bit, or in an unoptimised build one of each byte.
fn bits(at: u64) -> std::ops::Range<u32> {
    if cfg!(debug_assertions) {
        let bit = u32::try_from(at % 8).unwrap();
        bit..bit + 1
    } else {
        0..8
    }
}

fn flipped(disk: &SimDisk, path: &Path, at: u64, bit: u32) -> SimDisk {
    let copy = disk.fork(1, Survives::Everything);
    let file = copy.open(path, false).unwrap();
    let mut byte = [0];
    file.read_at(at, &mut byte).unwrap();
    file.write_at(at, &[byte[0] ^ (1 << bit)]).unwrap();
    copy
}

fn cut(disk: &SimDisk, path: &Path, len: u64) -> SimDisk {
    let copy = disk.fork(1, Survives::Everything);
    copy.open(path, false).unwrap().set_len(len).unwrap();
    copy
}

fn length(disk: &SimDisk, path: &Path) -> u64 {
    disk.open(path, false).unwrap().len().unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_flipped_bit_of_a_store_is_refused_or_named_or_harmless() {
    let mut setup = setup();
    let rig = setup.fresh();
    store(&rig, &mut setup).await;
    let disk = rig.stop().await;
    let files = files(&disk);
    let logs = files.iter().filter(|path| kind(path) == "log").count();
    assert!(logs >= 3 && files.len() - logs == 4, "{files:?}");
    for path in &files {
        for at in 0..length(&disk, path) {
            for bit in bits(at) {
                let shown = shown(&setup, &flipped(&disk, path, at, bit), path, LAST, at);
                match (kind(path), shown) {
                    (_, Shown::Refused) => {}
                    // The mark of the very last sync is not covered by another one.
                    ("log", Shown::Keys { keys, .. }) => {
                        assert!(
                            keys.iter().all(|key| *key == Some(true)),
                            "{path:?} {at}: {keys:?}"
                        );
                    }
                    ("sst", Shown::Keys { keys, .. }) => {
                        let bad: Vec<usize> =
                            (0..keys.len()).filter(|i| keys[*i].is_none()).collect();
                        let others = keys.iter().filter(|key| key.is_some());
                        assert!(others.clone().all(|key| *key == Some(true)), "{path:?} {at}");
                        let one = bad.iter().all(|i| *i < 10) || bad.iter().all(|i| *i >= 10);
                        assert!(!bad.is_empty() && one, "{path:?} {at}: {bad:?}");
                    }
                    (_, shown) => panic!("{path:?} at {at} went unnoticed: {shown:?}"),
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_cut_of_a_store_is_refused_or_a_torn_tail() {
    let mut setup = setup();
    let rig = setup.fresh();
    store(&rig, &mut setup).await;
    let disk = rig.stop().await;
    let files = files(&disk);
    let newest = files.iter().rfind(|path| kind(path) == "log").unwrap();
    for path in &files {
        let whole = length(&disk, path);
        let mut between = 0;
        for len in 0..whole {
            match shown(&setup, &cut(&disk, path, len), path, LAST, len) {
                Shown::Refused => {}
                // Nothing else knows how long the newest segment was: what is left of it is a prefix, and that it was
                // cut is counted, unless it was cut exactly between two records.
                Shown::Keys { keys, cut_bytes } => {
                    assert_eq!(path, newest, "cut at {len} went unnoticed: {keys:?}");
                    let there = keys.iter().take_while(|key| **key == Some(true)).count();
                    assert!(keys[there..].iter().all(|key| *key == Some(false)), "{keys:?}");
                    assert!(there >= 20, "{keys:?}");
                    between += usize::from(cut_bytes == 0);
                }
            }
        }
        assert!(between <= 12, "{between} cuts of {path:?} were not counted");
    }
}

/// The last sync's mark did not get out, and some writes were never synced.
#[tokio::test(start_paused = true)]
async fn damage_behind_the_last_mark_costs_only_what_was_never_promised() {
    let mut setup = setup();
    setup.config.commitlog_sync = CommitlogSync::Periodic(Duration::from_secs(1));
    setup.config.commitlog_segment_size = 900;
    let rig = setup.fresh();
    for i in 0..20_u32 {
        rig.put(&i.to_be_bytes(), i64::from(i) + 1, &value_of(i)).await;
        if i == 9 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    let disk = rig.kill();
    let files = files(&disk);
    assert!(files.len() >= 2 && files.iter().all(|path| kind(path) == "log"));
    for path in &files {
        for at in 0..length(&disk, path) {
            for (what, damaged) in bits(at)
                .map(|bit| ("flipped", flipped(&disk, path, at, bit)))
                .chain([("cut", cut(&disk, path, at))])
            {
                if let Shown::Keys { keys, cut_bytes } = shown(&setup, &damaged, path, 20, at) {
                    // Ten were synced. Of the others a segment that is cut may lack its end, while the next one is there.
                    assert!(keys[..10].iter().all(|k| *k == Some(true)), "{path:?} {what} {at}");
                    let lost = keys.iter().filter(|key| **key == Some(false)).count();
                    let newest = Some(path) == files.last();
                    assert!(
                        lost == 0 || cut_bytes > 0 || (newest && what == "cut"),
                        "{path:?} {what} at {at}: {lost} lost without a word"
                    );
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn damage_in_one_block_of_many_leaves_the_others_readable() {
    let setup = setup();
    let rig = setup.fresh();
    let value = |i: u32| -> Vec<u8> {
        // Nothing that can be packed, so that every block holds few.
        (0..600_u32)
            .flat_map(|n| {
                xxhash_rust::xxh3::xxh3_64(&[i, n].map(u32::to_le_bytes).concat()).to_le_bytes()
            })
            .collect()
    };
    for i in 0..40_u32 {
        rig.put(&i.to_be_bytes(), 1, &value(i)).await;
        if i % 8 == 7 {
            rig.engine.flush(None).await.unwrap();
        }
    }
    rig.engine.compact(None).await.unwrap();
    assert_eq!(rig.sstables(), 1);
    let disk = rig.stop().await;
    let files = files(&disk);
    let path = files.iter().find(|path| kind(path) == "sst").unwrap();
    let whole = length(&disk, path);
    assert!(whole > 150_000, "{whole}");
    let step = if cfg!(debug_assertions) { 7_919 } else { 997 };
    let (mut refused, mut named) = (0, 0);
    // The end, where everything but blocks is, and a sample of the rest.
    for at in (0..whole).step_by(step).chain(whole - 200..whole) {
        let damaged = flipped(&disk, path, at, 3);
        let Ok(again) = setup.try_boot(&damaged) else {
            refused += 1;
            continue;
        };
        let mut bad = 0;
        for i in 0..40_u32 {
            match again.try_partition(&i.to_be_bytes()) {
                Ok(Some(_)) => assert_eq!(again.value(&i.to_be_bytes()).unwrap(), value(i)),
                Ok(None) => panic!("key {i} is not there, since byte {at} was flipped"),
                Err(error) => {
                    assert!(is_named(&error, path), "{error}");
                    bad += 1;
                }
            }
        }
        assert!((1..=10).contains(&bad), "byte {at}: {bad} keys cannot be read");
        named += 1;
        again.kill();
    }
    assert!(refused > 50 && named > 15, "{refused} refused, {named} named");
}
