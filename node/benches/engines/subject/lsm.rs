//! Helenus' own engine, as a node drives it.
//!
//! A put includes what a replica does with one: the token, the encoding, the check that it is sound, the log record and
//! the memtable. The log's buffer goes to the system once a wake.

use super::{Key, Settings, Subject, Value, wait_until};
use bytes::Bytes;
use helenus_core::schema::CompactionClass;
use helenus_core::{
    Columns, Content, Partition, TableDef, TableId, TableOptions, TimestampMicros, Token, codec,
    token,
};
use helenus_node::config::{CommitlogSync, StorageConfig};
use helenus_node::seams::background::ThreadBackground;
use helenus_node::seams::clock::SystemClock;
use helenus_node::seams::disk::{Disk, StdDisk};
use helenus_node::seams::probe::Silent;
use helenus_node::storage::lsm::LsmParts;
use helenus_node::storage::{Applied, Engine, LsmEngine, RangeStart, StorageError, Upkeep, Write};
use helenus_node::tasks::Tasks;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

const TABLE: TableId = TableId(1);
const SYNC_PERIOD: Duration = Duration::from_secs(10);

fn table(settings: &Settings) -> TableDef {
    let mut options = TableOptions::default();
    if settings.sstable_bytes > 0 {
        options.compaction_class = CompactionClass::Leveled;
        options.sstable_size = settings.sstable_bytes;
    }
    TableDef {
        id: TABLE,
        keyspace: "bench".to_owned(),
        name: "kv".to_owned(),
        columns: Columns::key_value(),
        options,
        altered: TimestampMicros(1),
        dropped: false,
    }
}

/// A thread that runs the engine's tasks; the workload's threads call the engine as the node's would.
struct Driver {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    fn start() -> Driver {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("the system gives a runtime");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("bench-runtime".to_owned())
            .spawn(move || drop(runtime.block_on(stopped)))
            .expect("the system gives a thread");
        Driver { handle, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the runtime's thread does not panic");
        }
    }
}

/// The engine on `disk`; its tasks run on the runtime that is entered.
pub(crate) fn open_engine(
    disk: Arc<dyn Disk>,
    settings: &Settings,
    commitlog_sync: CommitlogSync,
    tasks: &Arc<Tasks>,
) -> LsmEngine {
    let config = StorageConfig {
        block_cache_size: settings.cache_bytes,
        memtable_heap_space: settings.memtable_bytes,
        commitlog_sync,
        compaction_throughput: 0,
        ..StorageConfig::default()
    };
    let engine = LsmEngine::open(LsmParts {
        dir: PathBuf::from("storage"),
        config,
        disk,
        background: Arc::new(ThreadBackground::start().expect("the system gives threads")),
        clock: Arc::new(SystemClock::new()),
        probe: Arc::new(Silent),
        tasks: Arc::clone(tasks),
        tables: vec![table(settings)],
    });
    engine.expect("the engine opens")
}

/// The write that a replica would be handed.
pub(crate) fn write(timestamp: i64, key: &Key, value: &[u8]) -> Write {
    let (token, key) = place(key);
    let encoded = codec::encode_put(TimestampMicros(timestamp), value, None);
    Write::decode(TABLE, key, token, encoded).expect("the codec reads what it writes")
}

fn place(key: &Key) -> (Token, helenus_core::Key) {
    let key = Bytes::copy_from_slice(key);
    (token::of(&key), helenus_core::Key(key))
}

fn value(partition: &Partition) -> Option<&[u8]> {
    let (_, row) = partition.rows.first()?;
    match &row.cells.first()?.1.content {
        Content::Value { value, .. } => Some(value),
        Content::Tombstone { .. } => None,
    }
}

pub(super) struct Lsm {
    engine: LsmEngine,
    driver: Driver,
    _tasks: Arc<Tasks>,
    /// Timestamps: each write is newer than those before.
    micros: AtomicI64,
    /// Puts that were refused because flushing did not keep up, and tried again.
    refused: AtomicU64,
    /// Puts that were slowed before that.
    slowed: AtomicU64,
    settings: Settings,
}

impl Lsm {
    pub(super) fn open(dir: &Path, settings: &Settings) -> Lsm {
        let driver = Driver::start();
        let tasks = Arc::new(Tasks::new());
        let engine = {
            let _entered = driver.handle.enter();
            let sync = CommitlogSync::Periodic(SYNC_PERIOD);
            open_engine(Arc::new(StdDisk::new(dir)), settings, sync, &tasks)
        };
        Lsm {
            engine,
            driver,
            _tasks: tasks,
            micros: AtomicI64::new(1_700_000_000_000_000),
            refused: AtomicU64::new(0),
            slowed: AtomicU64::new(0),
            settings: *settings,
        }
    }
}

impl Subject for Lsm {
    fn put(&self, key: &Key, value: &Value) {
        loop {
            let timestamp = self.micros.fetch_add(1, Ordering::Relaxed);
            match self.engine.apply(write(timestamp, key, value)) {
                Ok(Applied::Now) => return,
                // Flushing is behind: the acknowledgement is held back, and a client waits for it.
                Ok(Applied::After(slowed)) => {
                    self.slowed.fetch_add(1, Ordering::Relaxed);
                    return self.driver.handle.block_on(slowed).expect("the log can be written");
                }
                Err(StorageError::Overloaded { .. }) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("the engine takes writes: {error}"),
            }
        }
    }

    fn wake(&self) {
        self.engine.commit().expect("the log can be written");
    }

    fn get(&self, key: &Key, found: &mut dyn FnMut(&[u8])) -> bool {
        let (token, key) = place(key);
        let partition = self.engine.read(TABLE, token, &key).expect("the engine reads");
        let Some(bytes) = partition.as_ref().and_then(value) else { return false };
        found(bytes);
        true
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        let mut visit = |_: Token, key: &[u8], encoded: &[u8]| {
            each(key, codec::peek_put(encoded).map_or(&[], |put| put.value));
            ControlFlow::Continue(())
        };
        let scanned = self.engine.scan(TABLE, &RangeStart::First, Token::MAX, &mut visit);
        scanned.expect("the engine scans");
    }

    fn settle(&self) {
        self.driver.handle.block_on(self.engine.flush(None)).expect("memtables can be flushed");
        wait_until(|| {
            let figures = self.engine.compaction_figures();
            figures.pending_tasks == 0 && figures.running.is_empty()
        });
    }

    fn close(self: Box<Self>) {
        self.driver.handle.block_on(self.engine.shutdown()).expect("the engine stops");
    }

    fn describe(&self) -> String {
        let compaction = match self.settings.sstable_bytes {
            0 => "size-tiered".to_owned(),
            bytes => format!("leveled with SSTables of {} MiB", bytes >> 20),
        };
        format!(
            "helenus lsm: {compaction}, 16 KiB blocks, LZ4, bloom 1 %, cache {} MiB, memtable {} MiB, log written once a \
             wake and synced every {} s, compaction not throttled",
            self.settings.cache_bytes >> 20,
            self.settings.memtable_bytes >> 20,
            SYNC_PERIOD.as_secs(),
        )
    }

    fn remarks(&self) -> String {
        let figures: Vec<_> = self.engine.table_figures().into_values().collect();
        let sstables: u64 = figures.iter().map(|table| table.sstables).sum();
        let replayed = self.engine.figures().recovery.records;
        let refused = self.refused.load(Ordering::Relaxed);
        let slowed = self.slowed.load(Ordering::Relaxed);
        format!(
            "{sstables} SSTables, {slowed} puts slowed, {refused} refused and repeated, {replayed} records replayed at \
             open"
        )
    }
}
