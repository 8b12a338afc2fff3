//! Work that would hold up the node's one thread: syncs, flushes, compaction steps, hint page reads.
//!
//! A job is a closure; its completion is awaited. Production runs each lane's jobs in order on a thread of its own; the
//! simulation runs a job on the node's own thread when its simulated duration has passed, so a crash in between means
//! that it never ran.

use std::future::Future;
use std::pin::Pin;

/// Jobs of one lane run in the order they were submitted; lanes run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Commit-log syncs: someone waits for each.
    Log,
    /// Memtable flushes.
    Flush,
    /// Compaction steps.
    Compaction,
    /// Hint segments: appends' syncs and replay reads.
    Hints,
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
