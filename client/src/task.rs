//! Tasks that end with their owner.

use std::future::Future;
use tokio::task::JoinSet;

/// A running task. Dropping it stops the task at its next await, so a client that is dropped leaves nothing behind.
pub(crate) struct Task {
    _set: JoinSet<()>,
}

impl Task {
    /// Runs `future` on the current runtime.
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Task {
        let mut set = JoinSet::new();
        set.spawn(future);
        Task { _set: set }
    }
}
