//! What a hint costs: appended, on disk, and read back for replay. On a real disk, in a temporary directory.
//!
//! `cargo bench -p helenus-node --bench hints`. Budgets: at least a million appends of 100 B a second, at most 24 bytes
//! besides the mutation, and replay (here: its reading half, syncing the position of each page) of 300 thousand a second;
//! ten times what sled takes of the same hints under keys of target and number, which is how a hint table would hold them;
//! and no tenth of the backlog slower than the median by more than a tenth.

#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark prints its table")]

use bytes::Bytes;
use helenus_core::{Key, NodeId, TableId};
use helenus_node::config::HintsConfig;
use helenus_node::hints::{HintParts, HintStore, NewHint};
use helenus_node::seams::background::ThreadBackground;
use helenus_node::seams::clock::{Clock, SystemClock};
use helenus_node::seams::disk::StdDisk;
use helenus_node::seams::probe::Silent;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const TARGET: NodeId = NodeId(1);
/// Hints that one wake brings: a batch of a link.
const WAKE: usize = 64;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the system gives a runtime");
    println!(
        "{:>10} {:>10} {:>14} {:>12} {:>14} {:>12} {:>14} {:>10} {:>8}",
        "value",
        "hints",
        "append/s",
        "MB/s",
        "besides B/hint",
        "read/s",
        "slowest tenth",
        "sled/s",
        "ratio"
    );
    for (value_bytes, hints) in [(100, 2_000_000), (1_000, 400_000), (50_000, 10_000)] {
        runtime.block_on(measure(value_bytes, hints));
    }
}

async fn measure(value_bytes: usize, hints: usize) {
    let clock = Arc::new(SystemClock::new());
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let config =
        HintsConfig { hints_flush_period: Duration::from_secs(3600), ..HintsConfig::default() };
    let store = HintStore::open(HintParts {
        dir: PathBuf::from("hints"),
        config,
        disk: Arc::new(StdDisk::new(dir.path())),
        background: Arc::new(ThreadBackground::start().expect("the system gives threads")),
        clock: clock.clone(),
        probe: Arc::new(Silent),
    })
    .expect("an empty directory opens");

    let update = Bytes::from(vec![0x5a; value_bytes]);
    let created_ms = u64::try_from(clock.wall_micros() / 1000).unwrap_or(0);
    let keys: Vec<Key> = (0..1024).map(|i| Key(Bytes::from(format!("order-{i:010}")))).collect();
    let start = clock.now();
    let mut tenths = vec![start];
    for (i, key) in keys.iter().cycle().take(hints).enumerate() {
        if i > 0 && i % (hints / 10) == 0 {
            tenths.push(clock.now());
        }
        let hint = NewHint {
            table: TableId(7),
            key,
            update: &update,
            created_ms,
            gc_grace_s: 864_000,
            overflow: None,
        };
        store.append(TARGET, &hint, Duration::ZERO).expect("the bound is far");
        if i % WAKE == WAKE - 1 {
            store.write_out();
        }
    }
    store.write_out();
    tenths.push(clock.now());
    let appended = (clock.now() - start).as_secs_f64();
    let mut tenths: Vec<Duration> = tenths.windows(2).map(|pair| pair[1] - pair[0]).collect();
    tenths.sort_unstable();
    let slowest = tenths[tenths.len() / 2].as_secs_f64() / tenths[tenths.len() - 1].as_secs_f64();

    // An outage is longer than a flush period: replay finds its segments synced.
    store.flush().await.expect("the disk can be synced");
    let mutation_bytes = 16 + 16 + value_bytes as u64;
    let besides = store.figures().bytes as f64 / hints as f64 - mutation_bytes as f64;
    let start = clock.now();
    let mut read = 0;
    while let Some(page) =
        store.next_page(TARGET, 512 * 1024, &|_| None).await.expect("the disk can be read")
    {
        read += page.hints().len();
        store.complete(page).await.expect("the node runs");
    }
    let replayed = (clock.now() - start).as_secs_f64();
    assert_eq!(read, hints);
    let sled = sled(&clock, &keys, &update, hints / 10);
    println!(
        "{value_bytes:>10} {hints:>10} {:>14.0} {:>12.0} {besides:>14.2} {:>12.0} {slowest:>14.2} {sled:>10.0} {:>8.1}",
        hints as f64 / appended,
        store_bytes(hints, mutation_bytes) / appended,
        hints as f64 / replayed,
        hints as f64 / appended / sled,
    );
}

/// The same hints in sled, not synced one by one there either: so many a second.
fn sled(clock: &SystemClock, keys: &[Key], update: &Bytes, hints: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let db = sled::open(dir.path()).expect("an empty directory opens");
    let start = clock.now();
    for (i, key) in keys.iter().cycle().take(hints).enumerate() {
        let mut place = TARGET.0.to_be_bytes().to_vec();
        place.extend((i as u64).to_be_bytes());
        let mut hint = Vec::with_capacity(32 + key.0.len() + update.len());
        hint.extend(TableId(7).0.to_be_bytes());
        hint.extend(&key.0);
        hint.extend(update);
        db.insert(place, hint).expect("sled takes it");
    }
    hints as f64 / (clock.now() - start).as_secs_f64()
}

/// Megabytes of mutations.
fn store_bytes(hints: usize, mutation_bytes: u64) -> f64 {
    hints as f64 * mutation_bytes as f64 / 1e6
}
