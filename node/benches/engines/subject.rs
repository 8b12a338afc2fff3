//! What is measured: an engine behind the few calls that the workload makes.
//!
//! Every engine gets the same cache, the same write buffer, LZ4 and bloom filters where it has them, and otherwise what
//! its own documentation recommends. None syncs per put. Each says in [`Subject::describe`] how it was set.

mod fjall;
mod lsm;
#[cfg(feature = "bench-rocksdb")]
mod rocksdb;
mod sled;

pub(crate) use lsm::{open_engine, write};

use crate::meter::now;
use std::path::Path;
use std::time::Duration;

pub(crate) const KEY_BYTES: usize = 16;
pub(crate) const VALUE_BYTES: usize = 100;
pub(crate) type Key = [u8; KEY_BYTES];
pub(crate) type Value = [u8; VALUE_BYTES];

/// Names on the command line, in the order of the table.
pub(crate) const ENGINES: [&str; 4] = ["lsm", "fjall", "rocksdb", "sled"];

/// What every engine is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) cache_bytes: u64,
    pub(crate) memtable_bytes: u64,
    /// Peers buffer their log too, and hand it to the system once a wake; otherwise with every put, as they come.
    pub(crate) group_peers: bool,
}

/// An engine under test. Its failures end the run: a benchmark of an engine that fails measures nothing.
pub(crate) trait Subject: Send + Sync {
    /// Writes one key.
    fn put(&self, key: &Key, value: &Value);
    /// What one wake of a node brought is put: its log goes to the system (without a sync).
    fn wake(&self) {}
    /// Hands the value to `found`. `false`: there is none.
    fn get(&self, key: &Key, found: &mut dyn FnMut(&[u8])) -> bool;
    /// Hands every key and value to `each`, in the engine's order, by its own iterator.
    fn scan(&self, each: &mut dyn FnMut(&[u8], &[u8]));
    /// Returns when everything is flushed and no compaction is left to do.
    fn settle(&self);
    /// Closes cleanly.
    fn close(self: Box<Self>);
    /// How it is set.
    fn describe(&self) -> String;
    /// What it has to say about the run, for the table's footnotes.
    fn remarks(&self) -> String {
        String::new()
    }
}

/// Opens, or creates, an engine's files in `dir`.
pub(crate) fn open(name: &str, dir: &Path, settings: &Settings) -> Box<dyn Subject> {
    match name {
        "lsm" => Box::new(lsm::Lsm::open(dir, settings)),
        "fjall" => Box::new(fjall::Fjall::open(dir, settings)),
        "sled" => Box::new(sled::Sled::open(dir, settings)),
        #[cfg(feature = "bench-rocksdb")]
        "rocksdb" => Box::new(rocksdb::Rocks::open(dir, settings)),
        other => panic!("no engine is called {other}: the command line was checked before"),
    }
}

/// Whether this build has the engine.
pub(crate) fn is_built(name: &str) -> bool {
    ENGINES.contains(&name) && (name != "rocksdb" || cfg!(feature = "bench-rocksdb"))
}

/// Polls until `idle` has said yes for a while: between two compactions of a chain an engine looks idle for a moment.
fn wait_until(mut idle: impl FnMut() -> bool) {
    const POLL: Duration = Duration::from_millis(5);
    const IDLE_POLLS: u32 = 10;
    const PATIENCE: Duration = Duration::from_secs(600);
    let start = now();
    let mut polls = 0;
    while polls < IDLE_POLLS {
        polls = if idle() { polls + 1 } else { 0 };
        assert!(now() - start < PATIENCE, "the engine's background work does not end");
        std::thread::sleep(POLL);
    }
}

fn log_habit(grouped: bool) -> &'static str {
    if grouped { "once a wake" } else { "with every put (its default)" }
}
