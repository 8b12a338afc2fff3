//! Work that would hold up the node's one thread: syncs, flushes, compaction steps, hint page reads, hashes of passwords.
//!
//! A job is a closure; its completion is awaited. Production runs each lane's jobs in order on a thread of its own; the
//! simulation runs a job on the node's own thread when its simulated duration has passed, so a crash in between means
//! that it never ran.

use crate::seams::disk::{Faults, SimDisk};
use crate::tasks::Tasks;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Jobs of one lane run in the order they were submitted; lanes run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Commit-log syncs: someone waits for each.
    Log,
    /// Memtable flushes.
    Flush,
    /// Compaction steps, and other walks over files.
    Compaction,
    /// The steps of further compactions beside it, from 1 to [`COMPACTORS_MAX`] less one; others do not run.
    Compactor(u8),
    /// Hint segments: appends' syncs and replay reads.
    Hints,
    /// Hashing passwords, which is slow on purpose.
    Auth,
}

/// As many compactions run at a time at most, each on a lane of its own.
pub const COMPACTORS_MAX: u8 = 8;

impl Lane {
    /// The lane of the compaction in place `n`, counted from 0.
    pub fn compaction(n: u8) -> Lane {
        if n == 0 { Lane::Compaction } else { Lane::Compactor(n) }
    }
}

/// A closure to run off the node's thread.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Resolves when the job has run. Dropping it does not cancel the job. Resolves to `Err(Stopped)` when the node is
/// stopping and the job will never run.
pub type Completion = Pin<Box<dyn Future<Output = Result<(), Stopped>> + Send + 'static>>;

/// The background has been shut down; the job did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// Where jobs run.
pub trait Background: Send + Sync {
    /// Queues `job` on `lane`. `cost_bytes` is about how much the job reads and writes: the simulation turns it into
    /// a duration, production ignores it.
    fn submit(&self, lane: Lane, cost_bytes: u64, job: Job) -> Completion;
}

/// Runs `job` on `lane` and gives back what it returned.
pub async fn run<T: Send + 'static>(
    background: &dyn Background,
    lane: Lane,
    cost_bytes: u64,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let (tx, rx) = tokio::sync::oneshot::channel();
    let done = background.submit(
        lane,
        cost_bytes,
        Box::new(move || {
            // The receiver may be gone: the job was still worth running.
            drop(tx.send(job()));
        }),
    );
    done.await?;
    rx.await.map_err(|_| Stopped)
}

/// Jobs that may wait on a lane. Past it `submit` holds up its caller until the lane has taken one: the node slows down
/// to the pace of its disk instead of remembering without end. Stalls are counted.
const LANE_QUEUE_JOBS_MAX: usize = 1024;

impl Lane {
    /// Every lane.
    fn all() -> impl Iterator<Item = Lane> {
        [Lane::Log, Lane::Flush, Lane::Compaction, Lane::Hints, Lane::Auth]
            .into_iter()
            .chain((1..COMPACTORS_MAX).map(Lane::Compactor))
    }

    fn thread_name(self) -> String {
        match self {
            Lane::Log => "helenus-log".to_owned(),
            Lane::Flush => "helenus-flush".to_owned(),
            Lane::Compaction => "helenus-compact".to_owned(),
            Lane::Compactor(n) => format!("helenus-compac{n}"),
            Lane::Hints => "helenus-hints".to_owned(),
            Lane::Auth => "helenus-auth".to_owned(),
        }
    }
}

/// A job and whom to tell that it ran.
struct Queued {
    job: Job,
    ran: oneshot::Sender<()>,
    cost_bytes: u64,
}

impl Queued {
    fn run(self) {
        (self.job)();
        // Nobody may wait for it any more: it ran all the same.
        self.ran.send(()).ok();
    }
}

fn completion(ran: oneshot::Receiver<()>) -> Completion {
    Box::pin(async move { ran.await.map_err(|_| Stopped) })
}

fn stopped() -> Completion {
    Box::pin(std::future::ready(Err(Stopped)))
}

/// Production: one thread a lane, started with it. A job that panics takes its lane down: its completion and all later
/// ones of that lane are `Stopped`.
#[derive(Debug)]
pub struct ThreadBackground {
    lanes: BTreeMap<Lane, SyncSender<Queued>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stalls: AtomicU64,
    stopping: Arc<AtomicBool>,
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queued").field("cost_bytes", &self.cost_bytes).finish_non_exhaustive()
    }
}

impl ThreadBackground {
    /// Starts the threads. Fails when the system gives none.
    pub fn start() -> io::Result<ThreadBackground> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut lanes = BTreeMap::new();
        let mut threads = Vec::new();
        for lane in Lane::all() {
            let (tx, rx) = mpsc::sync_channel::<Queued>(LANE_QUEUE_JOBS_MAX);
            let stopping = Arc::clone(&stopping);
            let work = move || {
                while let Ok(queued) = rx.recv() {
                    if stopping.load(Ordering::Acquire) {
                        break;
                    }
                    queued.run();
                }
            };
            let named = std::thread::Builder::new().name(lane.thread_name());
            threads.push(named.spawn(work)?);
            lanes.insert(lane, tx);
        }
        Ok(ThreadBackground {
            lanes,
            threads: Mutex::new(threads),
            stalls: AtomicU64::new(0),
            stopping,
        })
    }

    /// How often `submit` had to hold up its caller because a lane was full.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Lets each lane finish the job it is at, drops the rest, and waits for the threads. What must be durable is
    /// synced by its owner before this is called.
    pub fn shutdown(&self) {
        self.stopping.store(true, Ordering::Release);
        for lane in self.lanes.values() {
            // Wakes a thread that waits for work; a full queue wakes it anyway.
            let (ran, _) = oneshot::channel();
            drop(lane.try_send(Queued { job: Box::new(|| ()), ran, cost_bytes: 0 }));
        }
        let mut threads = self.threads.lock().expect("no one panics while it holds this lock");
        for thread in threads.drain(..) {
            // The last owner may be a job's closure: a thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a background thread panicked");
            }
        }
    }
}

impl Drop for ThreadBackground {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Background for ThreadBackground {
    fn submit(&self, lane: Lane, cost_bytes: u64, job: Job) -> Completion {
        let Some(queue) = self.lanes.get(&lane) else { return stopped() };
        if self.stopping.load(Ordering::Acquire) {
            return stopped();
        }
        let (ran, waits) = oneshot::channel();
        let sent = match queue.try_send(Queued { job, ran, cost_bytes }) {
            Err(TrySendError::Full(queued)) => {
                self.stalls.fetch_add(1, Ordering::Relaxed);
                queue.send(queued).map_err(drop)
            }
            other => other.map_err(drop),
        };
        if sent.is_ok() { completion(waits) } else { stopped() }
    }
}

/// Simulation: a job runs on the node's own runtime when the simulated disk would be done with it. When the runtime is
/// dropped, as in a crash, jobs that waited never ran.
///
/// The duration is the disk's latency plus `cost_bytes` at its pace, both read when the job's turn comes, so that a disk
/// that turns slow is slow for what already waits.
#[derive(Debug)]
pub struct SimBackground {
    disk: SimDisk,
    lanes: Mutex<BTreeMap<Lane, Arc<SimLane>>>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct SimLane {
    queue: Mutex<VecDeque<Queued>>,
    arrived: Notify,
}

impl SimLane {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Queued>> {
        self.queue.lock().expect("jobs run outside this lock")
    }

    fn run_oldest(&self) {
        let oldest = self.queue().pop_front();
        if let Some(queued) = oldest {
            queued.run();
        }
    }
}

impl SimBackground {
    /// Durations come from `disk`'s faults. Jobs may be submitted from within a tokio runtime only.
    pub fn new(disk: SimDisk) -> SimBackground {
        SimBackground { disk, lanes: Mutex::new(BTreeMap::new()), tasks: Tasks::new() }
    }

    fn lane(&self, lane: Lane) -> Arc<SimLane> {
        let mut lanes = self.lanes.lock().expect("nothing panics while it holds the lanes");
        let found = lanes.entry(lane).or_insert_with(|| {
            let fresh = Arc::new(SimLane::default());
            self.tasks.spawn(work(Arc::clone(&fresh), self.disk.clone()));
            fresh
        });
        Arc::clone(found)
    }
}

/// Runs a lane's jobs in order, each after its duration.
async fn work(lane: Arc<SimLane>, disk: SimDisk) {
    loop {
        let next = lane.queue().front().map(|queued| queued.cost_bytes);
        let Some(cost_bytes) = next else {
            lane.arrived.notified().await;
            continue;
        };
        tokio::time::sleep(duration(&disk.faults(), cost_bytes)).await;
        lane.run_oldest();
    }
}

fn duration(faults: &Faults, cost_bytes: u64) -> Duration {
    let nanos = u128::from(cost_bytes) * 1_000_000_000 / u128::from(faults.bytes_per_s.max(1));
    faults.latency + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Background for SimBackground {
    fn submit(&self, lane: Lane, cost_bytes: u64, job: Job) -> Completion {
        let lane = self.lane(lane);
        // Production would hold up the caller here. Simulated time cannot pass inside a call, so the oldest job's
        // duration is cut short instead; the order stays.
        let full = lane.queue().len() >= LANE_QUEUE_JOBS_MAX;
        if full {
            lane.run_oldest();
        }
        let (ran, waits) = oneshot::channel();
        lane.queue().push_back(Queued { job, ran, cost_bytes });
        lane.arrived.notify_one();
        completion(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(seen: &Arc<Mutex<Vec<u32>>>, n: u32) -> Job {
        let seen = Arc::clone(seen);
        Box::new(move || seen.lock().unwrap().push(n))
    }

    async fn in_order(background: &dyn Background) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        for n in 0..10 {
            drop(background.submit(Lane::Log, 10, note(&seen, n)));
        }
        background.submit(Lane::Log, 10, note(&seen, 10)).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), (0..=10).collect::<Vec<_>>());
        assert_eq!(run(background, Lane::Hints, 0, || 6 * 7).await, Ok(42));
    }

    #[tokio::test]
    async fn threads_run_a_lane_in_order_and_stop() {
        let background = ThreadBackground::start().unwrap();
        in_order(&background).await;
        background.shutdown();
        assert_eq!(run(&background, Lane::Log, 0, || ()).await, Err(Stopped));
    }

    #[tokio::test]
    async fn compactions_run_side_by_side() {
        let background = ThreadBackground::start().unwrap();
        // Each waits for all others: on fewer threads this would never end.
        let all = Arc::new(std::sync::Barrier::new(usize::from(COMPACTORS_MAX)));
        let jobs = (0..COMPACTORS_MAX).map(|n| {
            let all = Arc::clone(&all);
            run(&background, Lane::compaction(n), 0, move || {
                all.wait();
            })
        });
        let ended = futures_util::future::join_all(jobs).await;
        assert!(ended.into_iter().all(|ended| ended.is_ok()));
        assert_eq!(run(&background, Lane::Compactor(COMPACTORS_MAX), 0, || ()).await, Err(Stopped));
    }

    #[tokio::test]
    async fn a_full_lane_holds_up_its_caller_and_loses_nothing() {
        let background = ThreadBackground::start().unwrap();
        let (open, gate) = mpsc::channel::<()>();
        // The lane is held until the queue is full behind it; then another thread's lane opens the gate.
        drop(background.submit(Lane::Log, 0, Box::new(move || gate.recv().unwrap())));
        let seen = Arc::new(Mutex::new(Vec::new()));
        for n in 0..1024 {
            drop(background.submit(Lane::Log, 0, note(&seen, n)));
        }
        drop(background.submit(Lane::Flush, 0, Box::new(move || open.send(()).unwrap())));
        for n in 1024..3000 {
            drop(background.submit(Lane::Log, 0, note(&seen, n)));
        }
        run(&background, Lane::Log, 0, || ()).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), (0..3000).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn simulated_jobs_take_their_time() {
        let faults =
            Faults { latency: Duration::from_millis(5), bytes_per_s: 1000, ..Faults::default() };
        let disk = SimDisk::new(1, faults);
        let background = SimBackground::new(disk.clone());
        let start = tokio::time::Instant::now();
        run(&background, Lane::Flush, 2000, || ()).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_millis(2005));
        disk.set_faults(|f| f.bytes_per_s = 1_000_000);
        run(&background, Lane::Flush, 2000, || ()).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_millis(2012));
        in_order(&background).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_lane_is_bounded_and_keeps_its_order() {
        let background = SimBackground::new(SimDisk::new(1, Faults::default()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        for n in 0..3000 {
            drop(background.submit(Lane::Log, 0, note(&seen, n)));
        }
        run(&background, Lane::Log, 0, || ()).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), (0..3000).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_dies_with_its_runtime() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let background = SimBackground::new(SimDisk::new(1, Faults::default()));
        let waits = {
            let _inside = runtime.enter();
            background.submit(Lane::Log, 0, note(&seen, 1))
        };
        drop(runtime);
        drop(background);
        assert!(seen.lock().unwrap().is_empty());
        assert_eq!(futures_util::FutureExt::now_or_never(waits), Some(Err(Stopped)));
    }
}
