//! What a put, a get, a miss and a scan cost each engine. On a real disk, in a temporary directory.
//!
//! `cargo bench -p helenus-node --bench engine [-- KEYS [lsm|sled]]`, by default two million and both. Keys of 16 B, values
//! of 100 B of which half can be packed; puts come in random order, 64 to a wake of the node, and no put waits for a
//! sync. CPU is the whole process's: flushes and compactions are in it, and a put's row ends when both have caught up.
//! Budgets (lsm): a put at most 3.5 us, a miss at most 0.6 us.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use bytes::Bytes;
use helenus_core::{
    Key, Partition, TableDef, TableId, TableOptions, TimestampMicros, Token, codec, token,
};
use helenus_node::config::StorageConfig;
use helenus_node::seams::background::ThreadBackground;
use helenus_node::seams::clock::{Clock, SystemClock};
use helenus_node::seams::disk::StdDisk;
use helenus_node::seams::probe::Silent;
use helenus_node::storage::lsm::LsmParts;
use helenus_node::storage::{Engine, LsmEngine, RangeStart, SledEngine, Write};
use helenus_node::tasks::Tasks;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const TABLE: TableId = TableId(1);
/// Writes that one wake brings.
const WAKE: u64 = 64;
const VALUE_BYTES: usize = 100;
const READS: u64 = 400_000;
/// sled is an order of magnitude slower: a part of the keys tells as much.
const SLED_KEYS_MAX: u64 = 300_000;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let keys = arguments.next().and_then(|keys| keys.parse().ok()).unwrap_or(2_000_000);
    let only = arguments.next();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the system gives a runtime");
    println!(
        "{:>6} {:>10} {:>9} {:>12} {:>10} {:>12}",
        "engine", "what", "ops", "ops/s", "us/op", "CPU us/op"
    );
    for engine in ["lsm", "sled"] {
        if only.as_deref().is_none_or(|only| only == engine) {
            runtime.block_on(measure(engine, keys));
        }
    }
}

async fn measure(name: &'static str, keys: u64) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let keys = if name == "sled" { keys.min(SLED_KEYS_MAX) } else { keys };
    let clock = Arc::new(SystemClock::new());
    let tasks = Arc::new(Tasks::new());
    let engine = open(name, dir.path(), &clock, &tasks);
    let meter = Meter { name, clock: clock.clone() };

    let row = meter.start();
    for i in 0..keys {
        engine.apply(put(scatter(i, keys))).expect("the engine takes writes");
        if i % WAKE == WAKE - 1 {
            engine.commit().expect("the log can be written");
            // The node's other tasks get their turn.
            tokio::task::yield_now().await;
        }
    }
    engine.commit().expect("the log can be written");
    row.end("put", keys);
    let settled = meter.start();
    settle(engine.as_ref()).await;
    settled.end("settle", keys);

    let reads = READS.min(keys);
    for round in ["get", "get again"] {
        let row = meter.start();
        for i in 0..reads {
            let (token, key) = place(scatter(i, keys));
            let found = engine.read(TABLE, token, &key).expect("the engine reads");
            assert!(found.is_some(), "a key that was written is gone");
        }
        row.end(round, reads);
    }
    let row = meter.start();
    for i in 0..reads {
        let (token, key) = place(keys + i);
        let found = engine.read(TABLE, token, &key).expect("the engine reads");
        assert!(found.is_none(), "a key that was never written is there");
    }
    row.end("miss", reads);
    let row = meter.start();
    let scanned = scan(engine.as_ref());
    row.end("scan", scanned);
    assert_eq!(scanned, keys);

    engine.shutdown().await.expect("the engine stops");
    drop(engine);
    let row = meter.start();
    let engine = open(name, dir.path(), &clock, &tasks);
    row.end("open", 1);
    engine.shutdown().await.expect("the engine stops");
    println!("{name:>6} {:>10} {} MB on disk", "", disk_bytes(dir.path()) / 1_000_000);
}

fn open(name: &str, dir: &Path, clock: &Arc<SystemClock>, tasks: &Arc<Tasks>) -> Arc<dyn Engine> {
    let background = Arc::new(ThreadBackground::start().expect("the system gives threads"));
    let config = StorageConfig {
        block_cache_size: 256 << 20,
        compaction_throughput: 0,
        ..StorageConfig::default()
    };
    let table = TableDef {
        id: TABLE,
        keyspace: "bench".to_owned(),
        name: "kv".to_owned(),
        options: TableOptions::default(),
        altered: TimestampMicros(1),
        dropped: false,
    };
    let disk = StdDisk::new(dir);
    if name == "sled" {
        let (cache, sync) = (config.block_cache_size, config.commitlog_sync);
        let engine = SledEngine::open(&disk, Path::new("sled"), cache, sync, background);
        let engine = engine.expect("an empty directory opens");
        engine.open_table(&table).expect("sled opens trees");
        return Arc::new(engine);
    }
    let engine = LsmEngine::open(LsmParts {
        dir: PathBuf::from("storage"),
        config,
        disk: Arc::new(disk),
        background,
        clock: clock.clone(),
        probe: Arc::new(Silent),
        tasks: Arc::clone(tasks),
        tables: vec![table],
    });
    Arc::new(engine.expect("an empty directory opens"))
}

/// Everything flushed, and no compaction left to do.
async fn settle(engine: &dyn Engine) {
    engine.flush(None).await.expect("memtables can be flushed");
    loop {
        let figures = engine.compaction_figures();
        if figures.pending_tasks == 0 && figures.running.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn scan(engine: &dyn Engine) -> u64 {
    let mut scanned = 0;
    let mut start = RangeStart::First;
    loop {
        let page = engine.range(TABLE, &start, Token::MAX, 1000).expect("the engine scans");
        scanned += page.partitions.len() as u64;
        if let Some((token, key, _)) = page.partitions.last() {
            start = RangeStart::AfterKey(*token, key.clone());
        }
        if !page.more {
            return scanned;
        }
    }
}

/// The `i`th of `keys` numbers, each once, in an order that looks random.
fn scatter(i: u64, keys: u64) -> u64 {
    // A large prime: coprime to every smaller number of keys.
    (i.wrapping_mul(2_654_435_761) + 12_345) % keys
}

fn place(n: u64) -> (Token, Key) {
    let key = Bytes::from(format!("key-{n:012}"));
    (token::of(&key), Key(key))
}

fn put(n: u64) -> Write {
    let (token, key) = place(n);
    let mut value = [b'v'; VALUE_BYTES];
    let mut noise = n;
    for chunk in value.chunks_exact_mut(8).take(VALUE_BYTES / 16) {
        noise =
            noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&noise.to_le_bytes());
    }
    let timestamp = TimestampMicros(1_700_000_000_000_000 + n.cast_signed());
    // As it arrives: the encoding, and the partition that was decoded from it.
    let encoded = codec::encode_put(timestamp, &value, None);
    let update: Partition = codec::decode(encoded.clone()).expect("the codec reads what it writes");
    Write { table: TABLE, key, token, update, encoded }
}

fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

struct Meter {
    name: &'static str,
    clock: Arc<SystemClock>,
}

struct Row<'a> {
    meter: &'a Meter,
    wall: Duration,
    cpu: f64,
}

impl Meter {
    fn start(&self) -> Row<'_> {
        Row { meter: self, wall: self.clock.now(), cpu: cpu_seconds() }
    }
}

impl Row<'_> {
    fn end(self, what: &str, ops: u64) {
        let wall = (self.meter.clock.now() - self.wall).as_secs_f64();
        let cpu = cpu_seconds() - self.cpu;
        let (rate, each) = (ops as f64 / wall, 1e6 / ops as f64);
        println!(
            "{:>6} {what:>10} {ops:>9} {rate:>12.0} {:>10.2} {:>12.2}",
            self.meter.name,
            wall * each,
            cpu * each
        );
    }
}

/// User and system time of this process, all threads. 0 where /proc has none.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name may hold spaces; what follows its closing bracket does not.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // utime and stime, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}
