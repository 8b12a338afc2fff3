//! The plain alternative: the same trait over sled 0.34.
//!
//! A table is a sled tree; a partition is one entry of it:
//!
//! ```text
//! | token, sign bit flipped, big-endian u64 | key bytes |  ->  | canonical encoding of the partition (helenus-core, `codec`) |
//! ```
//!
//! so that sled's order is (token, key) order. A write reads the entry, merges and puts it back: what our own engine
//! leaves to reads and compaction, sled pays at once.
//!
//! Invariant: nothing is acknowledged before it has left the process, whatever `commitlog_sync` says: sled buffers inside
//! the process, and an entry in that buffer would die with it. One flush serves all writes that wait when it begins; it
//! runs on the log lane. On Linux sled's flush is a `sync_file_range`, which neither empties the drive's own cache nor
//! keeps the file's length, so with `commitlog_sync` `batch` or `group` an `fdatasync` follows before the
//! acknowledgement. With `periodic` it follows only an [`Upkeep::flush`] and the shutdown: until then a power cut may
//! take what the kernel had not written back.
//!
//! CAVEATS, for which sled is not the default: one flipped bit lost acknowledged keys without a word in 6 of 20 trials;
//! random puts are several times slower than a log-structured merge tree's; its threads escape the simulation, so it
//! runs on real files only. Expired values and tombstones past gc_grace stay until they are overwritten, there is
//! nothing to compact, and sled cannot say how much of its files belongs to which table.

use super::{
    Applied, CompactionFigures, Engine, EngineFigures, RangePage, RangeStart, ScrubOptions,
    ScrubReport, SnapshotFigures, StorageError, TableFigures, Upkeep, VerifyOptions, VerifyReport,
    Visit, Write,
};
use crate::config::CommitlogSync;
use crate::seams::background::{self, Background, Lane};
use crate::seams::disk::Disk;
use crate::seams::net::BoxFuture;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Shared;
use helenus_core::{Key, Partition, TableDef, TableId, Token, codec, merge};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, Weak};

/// sled behind [`Engine`].
pub struct SledEngine {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for SledEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledEngine").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

type Flushed = Shared<BoxFuture<'static, Result<(), StorageError>>>;

struct Inner {
    path: PathBuf,
    db: sled::Db,
    background: Arc<dyn Background>,
    commitlog_sync: CommitlogSync,
    tables: RwLock<BTreeMap<TableId, Arc<Table>>>,
    /// The flush that has not begun, for which acknowledgements wait, and its number.
    next_flush: Mutex<(u64, Option<Flushed>)>,
    /// Why writes are refused.
    poisoned: Mutex<Option<String>>,
    stopped: AtomicBool,
}

struct Table {
    tree: sled::Tree,
    /// Held from reading an entry to putting it back.
    merging: Mutex<()>,
    reads: AtomicU64,
    scans: AtomicU64,
    writes: AtomicU64,
    flushes: AtomicU64,
}

impl SledEngine {
    /// Opens or creates the database in `dir` of `disk`, which must be a real one: sled opens files by itself.
    /// `cache_bytes` bounds sled's page cache.
    pub fn open(
        disk: &dyn Disk,
        dir: &Path,
        cache_bytes: u64,
        commitlog_sync: CommitlogSync,
        background: Arc<dyn Background>,
    ) -> Result<SledEngine, StorageError> {
        let Some(root) = disk.real_root() else {
            return Err(StorageError::Io {
                path: dir.display().to_string(),
                message: "sled opens real files, and this is a simulated disk: use \
                          `storage.engine = \"lsm\"`"
                    .to_owned(),
            });
        };
        let path = root.join(dir);
        let config = sled::Config::new().path(&path).cache_capacity(cache_bytes);
        let db = config.open().map_err(|e| failure(&path, &e))?;
        Ok(SledEngine {
            inner: Arc::new(Inner {
                path,
                db,
                background,
                commitlog_sync,
                tables: RwLock::default(),
                next_flush: Mutex::default(),
                poisoned: Mutex::default(),
                stopped: AtomicBool::new(false),
            }),
        })
    }
}

/// sled's words as ours.
fn failure(path: &Path, error: &sled::Error) -> StorageError {
    let path = path.display().to_string();
    match error {
        sled::Error::Corruption { .. } => StorageError::Corrupt {
            path,
            offset: 0,
            what: format!("sled says: {error}"),
            remedy: "Move the directory away and let the other replicas repair this node"
                .to_owned(),
        },
        sled::Error::Io(cause) if cause.to_string().contains("could not acquire lock") => {
            let message = "another process has this data directory open: stop it, or give this \
                           node another directory";
            StorageError::Io { path, message: message.to_owned() }
        }
        _ => StorageError::Io { path, message: error.to_string() },
    }
}

/// The entry's name: byte order is (token, key) order.
fn entry(token: Token, key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(8 + key.len());
    name.extend_from_slice(&(token.0 ^ i64::MIN).to_be_bytes());
    name.extend_from_slice(key);
    name
}

/// The token and the key that [`entry`] made a name of.
fn parts_of(name: &[u8]) -> Option<(Token, Key)> {
    let (token, key) = name.split_first_chunk()?;
    let token = Token(i64::from_be_bytes(*token) ^ i64::MIN);
    Some((token, Key(Bytes::copy_from_slice(key))))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this lock")
}

impl Inner {
    fn tables(&self) -> RwLockReadGuard<'_, BTreeMap<TableId, Arc<Table>>> {
        self.tables.read().expect("nothing panics while it holds this lock")
    }

    fn table(&self, table: TableId) -> Result<Arc<Table>, StorageError> {
        self.tables().get(&table).cloned().ok_or(StorageError::UnknownTable { table })
    }

    fn decode(&self, value: &[u8]) -> Result<Partition, StorageError> {
        codec::decode(Bytes::copy_from_slice(value)).map_err(|e| StorageError::Corrupt {
            path: self.path.display().to_string(),
            offset: 0,
            what: format!("an entry is not a partition: {e}"),
            remedy: "Move the directory away and let the other replicas repair this node"
                .to_owned(),
        })
    }

    /// A failed write or sync leaves it open what is on disk, so it ends all writing.
    fn poison(&self, error: &sled::Error) -> StorageError {
        let failure = failure(&self.path, error);
        lock(&self.poisoned).get_or_insert_with(|| failure.to_string());
        failure
    }

    fn writable(&self) -> Result<(), StorageError> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(StorageError::Stopped);
        }
        match lock(&self.poisoned).clone() {
            Some(cause) => Err(StorageError::Poisoned { cause }),
            None => Ok(()),
        }
    }

    fn merge(&self, table: &Table, write: Write) -> Result<(), StorageError> {
        let name = entry(write.token, &write.key.0);
        let _merging = lock(&table.merging);
        let encoded = match table.tree.get(&name).map_err(|e| failure(&self.path, &e))? {
            None => write.encoded,
            Some(value) => {
                let mut partition = self.decode(&value)?;
                merge::merge(&mut partition, write.partition());
                codec::encode(&partition)
            }
        };
        table.tree.insert(name, encoded.as_ref()).map_err(|e| self.poison(&e))?;
        table.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Brings everything written before out of the process and, with `to_platter`, onto the medium.
    async fn flush(&self, to_platter: bool) -> Result<(), StorageError> {
        let (db, file) = (self.db.clone(), self.path.join(DATA_FILE));
        let flushed = background::run(&*self.background, Lane::Log, 0, move || {
            db.flush()?;
            if to_platter {
                // Any handle of the file will do.
                std::fs::File::open(file)?.sync_data()?;
            }
            Ok::<(), sled::Error>(())
        });
        match flushed.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.poison(&e)),
            Err(background::Stopped) => Err(StorageError::Stopped),
        }
    }

    fn syncs_before_acknowledging(&self) -> bool {
        match self.commitlog_sync {
            CommitlogSync::Batch | CommitlogSync::Group(_) => true,
            CommitlogSync::Periodic(_) => false,
        }
    }
}

/// Where sled keeps its log, which is all its data but large values, in its directory.
const DATA_FILE: &str = "db";

/// The flush that will cover what has just been written. It has not begun: it takes itself off `next_flush` when it does,
/// under the lock, so whoever finds it there is covered by it.
fn next_flush(inner: &Arc<Inner>) -> Flushed {
    let mut next = lock(&inner.next_flush);
    if let (_, Some(flush)) = &*next {
        return flush.clone();
    }
    let number = next.0 + 1;
    // Weak, or a flush that nobody awaits would keep the database open.
    let weak: Weak<Inner> = Arc::downgrade(inner);
    let begin = async move {
        let inner = weak.upgrade().ok_or(StorageError::Stopped)?;
        {
            let mut next = lock(&inner.next_flush);
            if next.0 == number {
                next.1 = None;
            }
        }
        inner.flush(inner.syncs_before_acknowledging()).await
    };
    let boxed: BoxFuture<'static, Result<(), StorageError>> = Box::pin(begin);
    let flush = boxed.shared();
    *next = (number, Some(flush.clone()));
    flush
}

/// What a walk calls for each entry.
type Visitor<'v> = dyn FnMut(Token, Key, &sled::IVec) -> Result<ControlFlow<()>, StorageError> + 'v;

impl SledEngine {
    /// Calls `visit` for every entry from `start` to `until` (inclusive), until it breaks.
    fn walk(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        let table = self.inner.table(table)?;
        table.scans.fetch_add(1, Ordering::Relaxed);
        // The first name behind every key of a token; `None` behind the last token.
        let behind = |token: Token| token.0.checked_add(1).map(|next| entry(Token(next), &[]));
        let start = match start {
            RangeStart::First => Bound::Unbounded,
            RangeStart::AfterKey(token, key) => Bound::Excluded(entry(*token, &key.0)),
            RangeStart::AfterToken(token) => match behind(*token) {
                Some(name) => Bound::Included(name),
                None => return Ok(()),
            },
        };
        let end = behind(until).map_or(Bound::Unbounded, Bound::Excluded);
        if let (Bound::Included(first) | Bound::Excluded(first), Bound::Excluded(last)) =
            (&start, &end)
            && first >= last
        {
            return Ok(());
        }
        for item in table.tree.range((start, end)) {
            let (name, value) = item.map_err(|e| failure(&self.inner.path, &e))?;
            let Some((token, key)) = parts_of(&name) else { continue };
            if visit(token, key, &value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Engine for SledEngine {
    fn open_table(&self, def: &TableDef) -> Result<(), StorageError> {
        self.inner.writable()?;
        let mut tables =
            self.inner.tables.write().expect("nothing panics while it holds this lock");
        if tables.contains_key(&def.id) {
            return Ok(());
        }
        let tree = self.inner.db.open_tree(def.id.0.to_be_bytes());
        let table = Table {
            tree: tree.map_err(|e| failure(&self.inner.path, &e))?,
            merging: Mutex::default(),
            reads: AtomicU64::default(),
            scans: AtomicU64::default(),
            writes: AtomicU64::default(),
            flushes: AtomicU64::default(),
        };
        tables.insert(def.id, Arc::new(table));
        Ok(())
    }

    fn drop_table(&self, table: TableId) -> Result<(), StorageError> {
        self.inner.writable()?;
        let mut tables =
            self.inner.tables.write().expect("nothing panics while it holds this lock");
        tables.remove(&table);
        let dropped = self.inner.db.drop_tree(table.0.to_be_bytes());
        dropped.map(drop).map_err(|e| self.inner.poison(&e))
    }

    fn apply(&self, write: Write) -> Result<Applied, StorageError> {
        self.apply_all(vec![write])
    }

    fn apply_all(&self, writes: Vec<Write>) -> Result<Applied, StorageError> {
        self.inner.writable()?;
        // All tables are looked up first: an unknown one refuses the lot, not half of it.
        let tables = writes.iter().map(|write| self.inner.table(write.table));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        for (table, write) in tables.iter().zip(writes) {
            self.inner.merge(table, write)?;
        }
        Ok(Applied::After(Box::pin(next_flush(&self.inner))))
    }

    fn synced(&self) -> BoxFuture<'static, Result<(), StorageError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.flush(true).await })
    }

    /// Nothing to do: every write is acknowledged by its flush.
    fn commit(&self) -> Result<(), StorageError> {
        self.inner.writable()
    }

    fn read(
        &self,
        table: TableId,
        token: Token,
        key: &Key,
    ) -> Result<Option<Partition>, StorageError> {
        let table = self.inner.table(table)?;
        table.reads.fetch_add(1, Ordering::Relaxed);
        let value = table.tree.get(entry(token, &key.0));
        let value = value.map_err(|e| failure(&self.inner.path, &e))?;
        value.map(|value| self.inner.decode(&value)).transpose()
    }

    fn range(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        limit: usize,
    ) -> Result<RangePage, StorageError> {
        let mut page = RangePage::default();
        self.walk(table, start, until, &mut |token, key, encoded| {
            if page.partitions.len() >= limit {
                page.more = true;
                return Ok(ControlFlow::Break(()));
            }
            page.partitions.push((token, key, self.inner.decode(encoded)?));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(page)
    }

    fn scan(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError> {
        self.walk(table, start, until, &mut |token, key, encoded| Ok(visit(token, &key.0, encoded)))
    }

    fn poisoned(&self) -> Option<String> {
        lock(&self.inner.poisoned).clone()
    }

    fn shutdown(&self) -> BoxFuture<'static, Result<(), StorageError>> {
        self.inner.stopped.store(true, Ordering::Release);
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.flush(true).await })
    }
}

const SLED_FILES: &str = "sled writes into its files again and again, so no link to them stands still; stop the node and copy its directory";

fn unsupported<T: Send + 'static>(
    what: &'static str,
    why: &'static str,
) -> BoxFuture<'static, Result<T, StorageError>> {
    Box::pin(std::future::ready(Err(StorageError::Unsupported { what, why })))
}

impl Upkeep for SledEngine {
    /// sled has one log for all tables, so each is flushed with the others.
    fn flush(&self, table: Option<TableId>) -> BoxFuture<'static, Result<(), StorageError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            inner.flush(true).await?;
            for (id, flushed) in inner.tables().iter() {
                if table.is_none_or(|table| table == *id) {
                    flushed.flushes.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        })
    }

    /// Nothing to do: an entry is merged when it is written.
    fn compact(&self, _table: Option<TableId>) -> BoxFuture<'static, Result<(), StorageError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Nothing to switch; [`Upkeep::compaction_figures`] goes on saying that it is off.
    fn set_auto_compaction(&self, _table: Option<TableId>, _on: bool) {}

    /// Nothing to throttle.
    fn set_compaction_throughput(&self, _bytes_per_s: u64) {}

    /// Nor anything to run at a time.
    fn set_concurrent_compactors(&self, _compactors: u8) {}

    fn table_figures(&self) -> BTreeMap<TableId, TableFigures> {
        let figures = |table: &Table| TableFigures {
            reads: table.reads.load(Ordering::Relaxed),
            scans: table.scans.load(Ordering::Relaxed),
            writes: table.writes.load(Ordering::Relaxed),
            flushes: table.flushes.load(Ordering::Relaxed),
            ..TableFigures::default()
        };
        self.inner.tables().iter().map(|(id, table)| (*id, figures(table))).collect()
    }

    /// sled tells none of these.
    fn engine_figures(&self) -> EngineFigures {
        EngineFigures::default()
    }

    fn compaction_figures(&self) -> CompactionFigures {
        CompactionFigures { auto_compaction: false, ..CompactionFigures::default() }
    }

    fn verify(
        &self,
        _options: VerifyOptions,
    ) -> BoxFuture<'static, Result<VerifyReport, StorageError>> {
        unsupported("verify", "sled checks what it reads, and has no command that reads it all")
    }

    fn scrub(
        &self,
        _options: ScrubOptions,
    ) -> BoxFuture<'static, Result<ScrubReport, StorageError>> {
        unsupported("scrub", "sled cuts what does not match its checksum when it opens its files")
    }

    fn snapshot(
        &self,
        _tag: String,
        _tables: Option<Vec<TableId>>,
    ) -> BoxFuture<'static, Result<(), StorageError>> {
        unsupported("snapshot", SLED_FILES)
    }

    fn list_snapshots(&self) -> BoxFuture<'static, Result<Vec<SnapshotFigures>, StorageError>> {
        unsupported("listsnapshots", SLED_FILES)
    }

    fn clear_snapshots(
        &self,
        _tag: Option<String>,
        _tables: Option<Vec<TableId>>,
    ) -> BoxFuture<'static, Result<u64, StorageError>> {
        unsupported("clearsnapshot", SLED_FILES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::background::ThreadBackground;
    use crate::seams::disk::StdDisk;
    use crate::storage::conformance::{Harness, conformance};

    fn open_in(dir: &Path, sync: CommitlogSync) -> Result<SledEngine, StorageError> {
        let background = Arc::new(ThreadBackground::start().unwrap());
        SledEngine::open(&StdDisk::new(dir), Path::new("sled"), 1 << 20, sync, background)
    }

    struct SledHarness {
        dir: tempfile::TempDir,
    }

    impl Harness for SledHarness {
        fn new() -> SledHarness {
            SledHarness { dir: tempfile::tempdir().unwrap() }
        }

        async fn open(&mut self, tables: &[TableDef]) -> Arc<dyn Engine> {
            let engine = open_in(self.dir.path(), CommitlogSync::Batch).unwrap();
            tables.iter().for_each(|table| engine.open_table(table).unwrap());
            Arc::new(engine)
        }

        /// What only a killed process shows is tested with processes; here the handle goes without a goodbye.
        async fn crash(&mut self, engine: Arc<dyn Engine>) {
            drop(engine);
        }
    }

    conformance!(SledHarness);

    #[test]
    fn a_simulated_disk_is_refused() {
        let disk = crate::seams::disk::SimDisk::new(1, crate::seams::disk::Faults::default());
        let background = Arc::new(ThreadBackground::start().unwrap());
        let error =
            SledEngine::open(&disk, Path::new("sled"), 1 << 20, CommitlogSync::Batch, background)
                .unwrap_err();
        assert!(error.to_string().contains("`storage.engine = \"lsm\"`"), "{error}");
    }

    #[test]
    fn a_directory_that_is_in_use_is_refused_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open_in(dir.path(), CommitlogSync::Batch).unwrap();
        let error = open_in(dir.path(), CommitlogSync::Batch).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
    }

    #[tokio::test]
    async fn writes_that_wait_together_share_one_flush_and_later_ones_do_not() {
        use crate::storage::conformance::{put, table, write};
        let dir = tempfile::tempdir().unwrap();
        let period = std::time::Duration::from_secs(10);
        let engine = open_in(dir.path(), CommitlogSync::Periodic(period)).unwrap();
        engine.open_table(&table(TableId(1))).unwrap();
        let flushes = || lock(&engine.inner.next_flush).0;
        let apply = |n: i64| match engine.apply(write(&n.to_string(), put(n, "x"))).unwrap() {
            Applied::After(done) => done,
            Applied::Now => panic!("nothing is acknowledged before it is flushed"),
        };
        let (first, second) = (apply(1), apply(2));
        assert_eq!(flushes(), 1);
        // The first poll begins the flush, so what is written from here on is not covered by it.
        let mut first = first;
        let begun = futures_util::poll!(&mut first);
        let third = apply(3);
        assert_eq!(flushes(), 2);
        if begun.is_pending() {
            first.await.unwrap();
        }
        second.await.unwrap();
        third.await.unwrap();
    }

    #[test]
    fn names_sort_as_tokens_and_keys_do() {
        let tokens = [i64::MIN, -1, 0, 1, i64::MAX].map(Token);
        let names: Vec<_> =
            tokens.iter().flat_map(|t| [&b""[..], b"a", b"b"].map(|key| entry(*t, key))).collect();
        assert!(names.is_sorted());
        let back = parts_of(&names[4]).unwrap();
        assert_eq!(back, (Token(-1), Key(Bytes::from_static(b"a"))));
    }
}
