//! The suite on our own engine, over a simulated disk: a crash is a power failure, and what was not synced is gone.

use super::{Harness, conformance};
use crate::config::{CommitlogSync, StorageConfig};
use crate::seams::background::SimBackground;
use crate::seams::clock::Clock;
use crate::seams::disk::{Faults, SimDisk};
use crate::seams::probe::Silent;
use crate::storage::Engine;
use crate::storage::lsm::{LsmEngine, LsmParts};
use crate::tasks::Tasks;
use helenus_core::TableDef;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A wall clock that stands still.
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_micros(&self) -> i64 {
        1_700_000_000_000_000
    }
}

struct LsmHarness {
    disk: SimDisk,
    tasks: Arc<Tasks>,
}

impl Harness for LsmHarness {
    fn new() -> LsmHarness {
        LsmHarness { disk: SimDisk::new(1, Faults::default()), tasks: Arc::new(Tasks::new()) }
    }

    async fn open(&mut self, tables: &[TableDef]) -> Arc<dyn Engine> {
        self.tasks.abort_all();
        self.tasks = Arc::new(Tasks::new());
        self.disk = self.disk.reopen();
        // Small enough that segments end, memtables are flushed and SSTables are compacted in every longer case.
        let config = StorageConfig {
            commitlog_sync: CommitlogSync::Batch,
            commitlog_segment_size: 4 << 10,
            commitlog_total_space: 64 << 10,
            memtable_heap_space: 8 << 10,
            compaction_throughput: 0,
            block_cache_size: 16 << 10,
            ..StorageConfig::default()
        };
        let parts = LsmParts {
            dir: PathBuf::from("data/storage"),
            config,
            disk: Arc::new(self.disk.clone()),
            background: Arc::new(SimBackground::new(self.disk.clone())),
            clock: Arc::new(Noon),
            probe: Arc::new(Silent),
            tasks: Arc::clone(&self.tasks),
            tables: tables.to_vec(),
        };
        Arc::new(LsmEngine::open(parts).unwrap())
    }

    async fn crash(&mut self, engine: Arc<dyn Engine>) {
        self.tasks.abort_all();
        drop(engine);
        self.disk.crash();
    }
}

conformance!(LsmHarness);
