//! The batches that are kept, over a simulated disk. Finishing them takes other nodes: see `tests/tests/batch.rs` and
//! `quorum_semantics`.

use super::*;
use crate::config::{CommitlogSync, StorageConfig};
use crate::seams::background::SimBackground;
use crate::seams::disk::{Faults, SimDisk};
use crate::seams::probe::Silent;
use crate::storage::lsm::{LsmEngine, LsmParts};
use crate::tasks::Tasks;
use helenus_core::TimestampMicros;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

const TIMEOUT: Duration = Duration::from_secs(2);
const WALL_MICROS: i64 = 1_700_000_000_000_000;

/// A monotonic clock that stands until a test moves it.
#[derive(Default)]
struct Still(AtomicU64);

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn wall_micros(&self) -> i64 {
        WALL_MICROS
    }
}

struct Rig {
    disk: SimDisk,
    clock: Arc<Still>,
    tasks: Arc<Tasks>,
    batchlog: Batchlog,
}

fn boot(disk: &SimDisk) -> Rig {
    let disk = disk.reopen();
    let clock = Arc::new(Still::default());
    let tasks = Arc::new(Tasks::new());
    let engine = LsmEngine::open(LsmParts {
        dir: PathBuf::from("data"),
        config: StorageConfig { commitlog_sync: CommitlogSync::Batch, ..StorageConfig::default() },
        disk: Arc::new(disk.clone()),
        background: Arc::new(SimBackground::new(disk.clone())),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        probe: Arc::new(Silent),
        tasks: Arc::clone(&tasks),
        tables: vec![table()],
    });
    let engine: Arc<dyn Engine> = Arc::new(engine.unwrap());
    let seen = Arc::clone(&clock) as Arc<dyn Clock>;
    let batchlog = Batchlog::open(engine, seen, TIMEOUT, BatchlogMetrics::default()).unwrap();
    Rig { disk, clock, tasks, batchlog }
}

fn fresh() -> Rig {
    boot(&SimDisk::new(1, Faults::default()))
}

impl Rig {
    async fn store(&self, id: BatchId, batch: &'static [u8]) {
        durable(self.batchlog.store(id, &Bytes::from_static(batch)).unwrap()).await;
    }

    async fn remove(&self, id: BatchId) {
        durable(self.batchlog.remove(id).unwrap()).await;
    }

    /// The power fails, and comes back.
    fn crash(self) -> Rig {
        self.tasks.abort_all();
        self.disk.crash();
        boot(&self.disk)
    }

    fn due_at(&self, seconds: u64) -> Vec<BatchId> {
        self.batchlog.due(Duration::from_secs(seconds), 10)
    }
}

async fn durable(applied: Applied) {
    match applied {
        Applied::Now => {}
        Applied::After(synced) => synced.await.unwrap(),
    }
}

fn id(nth: u8) -> BatchId {
    let written = TimestampMicros(WALL_MICROS + i64::from(nth));
    BatchId::new(written, 1, [nth; 6]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_kept_through_a_crash_until_it_is_forgotten() {
    let rig = fresh();
    rig.store(id(1), b"first").await;
    rig.store(id(2), b"second").await;
    rig.remove(id(1)).await;
    let rig = rig.crash();
    assert_eq!(rig.batchlog.load(id(1)).unwrap(), None);
    assert_eq!(rig.batchlog.load(id(2)).unwrap().unwrap(), "second");
    let figures = rig.batchlog.figures();
    assert_eq!((figures.batches, figures.oldest_us), (1, Some(WALL_MICROS + 2)));
    assert!(figures.bytes >= 6);
    rig.remove(id(2)).await;
    let rig = rig.crash();
    assert_eq!(rig.batchlog.figures(), Figures { batches: 0, bytes: 0, oldest_us: None });
}

#[tokio::test(start_paused = true)]
async fn one_is_due_after_twice_the_timeout_and_after_a_restart_anew() {
    let rig = fresh();
    rig.store(id(1), b"first").await;
    rig.clock.0.store(1, Ordering::Relaxed);
    rig.store(id(2), b"second").await;
    assert_eq!(rig.batchlog.next_due(), Some(Duration::from_secs(4)));
    assert_eq!(rig.due_at(3), []);
    assert_eq!(rig.due_at(4), [id(1)]);
    assert_eq!(rig.due_at(5), [id(1), id(2)]);
    rig.batchlog.put_off(id(1), Duration::from_secs(10));
    assert_eq!(rig.due_at(10), [id(2)]);
    assert_eq!(rig.due_at(11), [id(2), id(1)]);
    let rig = rig.crash();
    assert_eq!(rig.due_at(3), []);
    assert_eq!(rig.due_at(4).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_word_to_forget_may_overtake_the_batch() {
    let rig = fresh();
    rig.remove(id(1)).await;
    rig.store(id(1), b"late").await;
    assert_eq!(rig.batchlog.load(id(1)).unwrap(), None, "there is nothing to finish");
    // And twice is once.
    rig.store(id(2), b"twice").await;
    rig.store(id(2), b"twice").await;
    assert_eq!(rig.batchlog.figures().batches, 2);
    rig.remove(id(2)).await;
    rig.remove(id(2)).await;
    assert_eq!(rig.batchlog.figures().batches, 1);
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_is_refused_and_counted() {
    let rig = fresh();
    // As if so much were kept already: to write it would take the test a while.
    let kept = Kept { bytes: BYTES_MAX - 10, due: Duration::ZERO };
    rig.batchlog.index().insert(id(1), kept);
    rig.store(id(2), b"small").await;
    let large = Bytes::from_static(b"large enough");
    let refused = rig.batchlog.store(id(3), &large).unwrap_err();
    assert!(matches!(refused, KeepError::Full { batches: 2, .. }), "{refused}");
    assert_eq!(rig.batchlog.metrics.refused.get(), 1);
    assert_eq!(rig.batchlog.load(id(3)).unwrap(), None);
    rig.remove(id(1)).await;
    rig.store(id(3), b"large enough").await;
}
