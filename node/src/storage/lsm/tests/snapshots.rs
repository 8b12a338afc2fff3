//! Snapshots: whole or not there, and good for putting back.

use super::integrity::{dir, noise, roomy, write};
use super::*;
use crate::seams::disk::{Disk, File};
use crate::storage::{ScrubOptions, SnapshotFigures};
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

const ROOT: &str = "data/storage/snapshots";

async fn listed(rig: &Rig) -> Vec<SnapshotFigures> {
    rig.engine.list_snapshots().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_takes_no_space_until_its_originals_go() {
    let rig = roomy().fresh();
    rig.engine.set_auto_compaction(None, false);
    assert_eq!(listed(&rig).await, []);
    rig.fill(0..100, 20).await;
    for i in 100..200_u32 {
        rig.write(write(&i.to_be_bytes(), 1, &noise(i, 20))).await.unwrap();
    }
    let used = rig.disk.used_bytes();
    rig.engine.snapshot("monday".to_owned(), None).await.unwrap();
    let snapshots = listed(&rig).await;
    let [monday] = snapshots.as_slice() else { panic!("{snapshots:?}") };
    assert_eq!((monday.tag.as_str(), monday.keyspace.as_str()), ("monday", "ks"));
    assert_eq!((monday.table, monday.name.as_str()), (Some(TABLE), "t7"));
    assert_eq!((monday.created_ms, monday.complete), (START_S * 1000, true));
    assert_eq!(monday.sstables, 2, "what was in memory is in it");
    assert!(monday.bytes_on_disk > 32_000, "{monday:?}");
    assert!(monday.true_bytes < 2000, "its own two small files: {monday:?}");
    // The flush, and two small files with their directory.
    assert!(rig.disk.used_bytes() - used < 64_000);
    rig.engine.compact(None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = listed(&rig).await;
    assert_eq!(after[0].bytes_on_disk, monday.bytes_on_disk);
    assert_eq!(after[0].true_bytes, monday.bytes_on_disk);
}

#[tokio::test(start_paused = true)]
async fn names_are_checked_and_taken_once() {
    let rig = roomy().fresh();
    rig.fill(0..3, 1).await;
    rig.engine.snapshot("a".to_owned(), None).await.unwrap();
    let again = rig.engine.snapshot("a".to_owned(), None).await;
    assert!(matches!(again, Err(StorageError::SnapshotExists { .. })), "{again:?}");
    for bad in ["../a", "", ".partial-a", "a/b"] {
        let refused = rig.engine.snapshot(bad.to_owned(), None).await;
        assert!(matches!(refused, Err(StorageError::BadTag { .. })), "{bad}: {refused:?}");
        let refused = rig.engine.clear_snapshots(Some(bad.to_owned()), None).await;
        assert!(matches!(refused, Err(StorageError::BadTag { .. })), "{bad}: {refused:?}");
    }
    let missing = rig.engine.clear_snapshots(Some("b".to_owned()), None).await;
    assert!(matches!(missing, Err(StorageError::NoSuchSnapshot { .. })), "{missing:?}");
}

#[tokio::test(start_paused = true)]
async fn they_are_cleared_by_tag_by_table_and_all_at_once() {
    let other = TableId(8);
    let mut setup = roomy();
    setup.tables.push(table(other, |_| {}));
    let rig = setup.fresh();
    rig.fill(0..10, 4).await;
    for tag in ["a", "b", "c"] {
        rig.engine.snapshot(tag.to_owned(), None).await.unwrap();
    }
    rig.engine.snapshot("d".to_owned(), Some(vec![other])).await.unwrap();
    let tags = async || {
        let list = listed(&rig).await.into_iter();
        list.map(|s| format!("{}{}", s.tag, s.table.unwrap().0)).collect::<Vec<_>>()
    };
    assert_eq!(tags().await, ["a7", "a8", "b7", "b8", "c7", "c8", "d8"]);
    assert_eq!(rig.engine.clear_snapshots(Some("a".to_owned()), None).await.unwrap(), 2);
    let of_one = rig.engine.clear_snapshots(Some("b".to_owned()), Some(vec![TABLE]));
    assert_eq!(of_one.await.unwrap(), 1);
    assert_eq!(tags().await, ["b8", "c7", "c8", "d8"]);
    assert_eq!(rig.engine.clear_snapshots(None, Some(vec![other])).await.unwrap(), 3);
    assert_eq!(tags().await, ["c7"]);
    assert_eq!(rig.disk.list(Path::new(ROOT)).unwrap(), ["c"]);
    assert_eq!(rig.engine.clear_snapshots(None, None).await.unwrap(), 1);
    assert_eq!(rig.disk.list(Path::new(ROOT)).unwrap(), [""; 0]);
    assert!((0..10_u32).all(|i| rig.get(&i.to_be_bytes()).unwrap().is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_table_is_kept_with_what_was_in_memory() {
    let rig = roomy().fresh();
    rig.fill(0..10, 4).await;
    for i in 10..20_u32 {
        rig.write(write(&i.to_be_bytes(), 1, b"in memory")).await.unwrap();
    }
    rig.engine.drop_table(TABLE).unwrap();
    rig.engine.flush(None).await.unwrap();
    let snapshots = listed(&rig).await;
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0].tag, format!("dropped-{}-ks.t7", START_S * 1000));
    assert_eq!((snapshots[0].sstables, snapshots[0].true_bytes), (2, snapshots[0].bytes_on_disk));
    let root = Path::new(ROOT).join(&snapshots[0].tag);
    let kept = root.join(format!("ks.t7-{TABLE}"));
    // Put to a table of another id on another node.
    let id = TableId(99);
    let mut setup = roomy();
    setup.tables = vec![table(id, |_| {})];
    let disk = SimDisk::new(5, Faults::default());
    let to = Path::new("data/storage/tables").join(id.to_string());
    copy(&rig.disk, &kept, &disk, &to);
    let again = setup.boot(&disk);
    for i in 0..20_u32 {
        let key = i.to_be_bytes();
        let token = helenus_core::token::of(&key);
        let found = again.engine.read(id, token, &Key(Bytes::copy_from_slice(&key)));
        assert!(found.unwrap().is_some(), "{i}");
    }
    // Its first flush makes the manifest its own.
    let write = Write { table: id, ..write(b"more", 1, b"v") };
    again.write(write).await.unwrap();
    again.engine.flush(None).await.unwrap();
    let third = setup.boot(&again.crash());
    assert_eq!(third.engine.table_figures()[&id].sstables, 3);
}

fn copy(from: &SimDisk, from_dir: &Path, to: &SimDisk, to_dir: &Path) {
    to.create_dir(to_dir).unwrap();
    for name in from.list(from_dir).unwrap() {
        let file = from.open(&from_dir.join(&name), false).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        let copied = to.open(&to_dir.join(&name), true).unwrap();
        copied.write_at(0, &bytes).unwrap();
        copied.sync().unwrap();
    }
    for dir in to_dir.ancestors() {
        to.sync_dir(dir).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_dropped_table_when_nobody_wants_it_or_it_was_empty() {
    let mut setup = roomy();
    let rig = setup.fresh();
    rig.engine.drop_table(TABLE).unwrap();
    rig.engine.flush(None).await.unwrap();
    assert_eq!(listed(&rig).await, []);
    setup.config.auto_snapshot = false;
    let rig = setup.fresh();
    rig.fill(0..10, 4).await;
    rig.engine.drop_table(TABLE).unwrap();
    rig.engine.flush(None).await.unwrap();
    assert_eq!(listed(&rig).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_put_back_in_place_has_the_log_replayed_on_top() {
    let setup = roomy();
    let rig = setup.fresh();
    rig.fill(0..10, 4).await;
    rig.engine.snapshot("old".to_owned(), None).await.unwrap();
    rig.write(write(b"later", 5, b"v")).await.unwrap();
    let disk = rig.stop().await;
    for name in disk.list(&dir()).unwrap() {
        disk.remove(&dir().join(name)).unwrap();
    }
    let kept = Path::new(ROOT).join("old").join(format!("ks.t7-{TABLE}"));
    copy(&disk, &kept, &disk, &dir());
    let again = setup.boot(&disk);
    assert!((0..10_u32).all(|i| again.get(&i.to_be_bytes()).unwrap().is_some()));
    assert!(again.get(b"later").unwrap().is_some());
}

/// A disk that takes so many changes, and then none: where a machine dies in the middle of a job.
struct Dying {
    disk: SimDisk,
    left: Arc<AtomicU64>,
}

struct DyingFile(Arc<dyn File>, Arc<AtomicU64>);

fn live(left: &AtomicU64) -> io::Result<()> {
    let spend = |left: u64| left.checked_sub(1);
    match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend) {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::other("the machine has died")),
    }
}

impl Disk for Dying {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        if create {
            live(&self.left)?;
        }
        let file = self.disk.open(path, create)?;
        Ok(Arc::new(DyingFile(file, Arc::clone(&self.left))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        live(&self.left).and_then(|()| self.disk.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        live(&self.left).and_then(|()| self.disk.hard_link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        live(&self.left).and_then(|()| self.disk.remove(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        live(&self.left).and_then(|()| self.disk.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        live(&self.left).and_then(|()| self.disk.remove_dir(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        live(&self.left).and_then(|()| self.disk.sync_dir(dir))
    }
}

impl File for DyingFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        live(&self.1).and_then(|()| self.0.write_at(offset, data))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)
    }

    fn sync(&self) -> io::Result<()> {
        live(&self.1).and_then(|()| self.0.sync())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        live(&self.1).and_then(|()| self.0.set_len(len))
    }
}

/// Two SSTables of 200 and 20 partitions; of the first, one block is damaged.
async fn prepared(setup: &Setup, seed: u64) -> SimDisk {
    let rig = setup.boot(&SimDisk::new(seed, Faults::default()));
    rig.fill(0..200, 20).await;
    rig.fill(200..220, 20).await;
    let disk = rig.stop().await;
    let name = disk.list(&dir()).unwrap().into_iter().find(|name| name.ends_with(".sst")).unwrap();
    let file = disk.open(&dir().join(name), false).unwrap();
    let mut byte = [0];
    file.read_at(100, &mut byte).unwrap();
    file.write_at(100, &[!byte[0]]).unwrap();
    file.sync().unwrap();
    disk
}

/// Boots over a disk that dies after `left` changes.
fn boot_dying(setup: &Setup, disk: &SimDisk, left: &Arc<AtomicU64>) -> (LsmEngine, Arc<Tasks>) {
    let tasks = Arc::new(Tasks::new());
    let engine = LsmEngine::open(LsmParts {
        dir: PathBuf::from("data/storage"),
        config: setup.config.clone(),
        disk: Arc::new(Dying { disk: disk.clone(), left: Arc::clone(left) }),
        background: Arc::new(SimBackground::new(disk.clone())),
        clock: Arc::new(TestClock(AtomicI64::new(START_S))),
        probe: Arc::new(Seen::default()),
        tasks: Arc::clone(&tasks),
        tables: setup.tables.clone(),
    });
    (engine.unwrap(), tasks)
}

/// Does `job` with death after every number of changes, and shows `check` what the next start finds.
async fn die_everywhere(
    job: impl AsyncFn(&LsmEngine) -> Result<(), StorageError>,
    check: impl AsyncFn(u64, bool, Rig),
) -> u64 {
    let setup = roomy();
    for after in 0.. {
        let disk = prepared(&setup, after).await.reopen();
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let (engine, tasks) = boot_dying(&setup, &disk, &left);
        left.store(after, Ordering::Relaxed);
        let done = job(&engine).await.is_ok();
        let survived = done && left.load(Ordering::Relaxed) > 0;
        tasks.abort_all();
        disk.crash();
        check(after, done, setup.boot(&disk)).await;
        if survived {
            return after;
        }
    }
    0
}

#[tokio::test(start_paused = true)]
async fn death_at_any_change_leaves_a_whole_snapshot_or_none() {
    let job = async |engine: &LsmEngine| engine.snapshot("tag".to_owned(), None).await;
    let changes = die_everywhere(job, async |after, done, rig: Rig| {
        let names = rig.disk.list(Path::new(ROOT)).unwrap_or_default();
        assert!(names.iter().all(|name| name == "tag"), "{after}: {names:?}");
        let snapshots = listed(&rig).await;
        assert!(!done || snapshots.len() == 1, "{after}: it was promised");
        if let Some(snapshot) = snapshots.first() {
            assert_eq!((snapshot.sstables, snapshot.complete), (2, true), "{after}");
            let kept = Path::new(ROOT).join("tag").join(format!("ks.t7-{TABLE}"));
            let other = SimDisk::new(1, Faults::default());
            copy(&rig.disk, &kept, &other, &dir());
            let again = roomy().boot(&other);
            assert!((200..220_u32).all(|i| again.get(&i.to_be_bytes()).unwrap().is_some()));
        }
        // Whatever was left is no obstacle.
        if snapshots.is_empty() {
            rig.engine.snapshot("tag".to_owned(), None).await.unwrap();
        }
    })
    .await;
    assert!(changes > 12, "{changes}");
}

#[tokio::test(start_paused = true)]
async fn death_at_any_change_of_a_clearing_leaves_all_of_a_snapshot_or_nothing() {
    let job = async |engine: &LsmEngine| {
        engine.clear_snapshots(Some("pre".to_owned()), None).await.map(drop)
    };
    let setup = roomy();
    for after in 0..40 {
        let disk = prepared(&setup, after).await.reopen();
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let (engine, tasks) = boot_dying(&setup, &disk, &left);
        engine.snapshot("pre".to_owned(), None).await.unwrap();
        left.store(after, Ordering::Relaxed);
        let done = job(&engine).await.is_ok();
        tasks.abort_all();
        disk.crash();
        let rig = setup.boot(&disk);
        let snapshots = listed(&rig).await;
        assert!(snapshots.iter().all(|s| s.sstables == 2 && s.complete), "{after}: {snapshots:?}");
        assert!(!done || snapshots.is_empty(), "{after}");
        let names = rig.disk.list(Path::new(ROOT)).unwrap();
        assert!(names.iter().all(|name| name == "pre"), "{after}: {names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn death_at_any_change_of_a_scrub_leaves_the_old_sstable_or_the_new_one() {
    let job = async |engine: &LsmEngine| {
        let options = ScrubOptions { snapshot: false, ..ScrubOptions::default() };
        engine.scrub(options).await.map(drop)
    };
    let changes = die_everywhere(job, async |after, done, rig: Rig| {
        let (mut there, mut gone, mut errors) = (0, 0, 0);
        for i in 0..220_u32 {
            match rig.get(&i.to_be_bytes()) {
                Ok(Some(_)) => there += 1,
                Ok(None) => gone += 1,
                Err(_) => errors += 1,
            }
        }
        assert!(there > 100, "{after}: {there} there, {gone} gone, {errors} unreadable");
        assert!(gone == 0 || errors == 0, "{after}: {gone} gone, {errors} unreadable");
        assert!(!done || errors == 0, "{after}");
        // Only what the manifest lists is on the disk.
        let names = rig.disk.list(&dir()).unwrap();
        let files = names.iter().filter(|name| name.ends_with(".sst")).count();
        assert_eq!(files as u64, rig.sstables(), "{after}: {names:?}");
    })
    .await;
    assert!(changes > 8, "{changes}");
}
