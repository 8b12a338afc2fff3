//! A node owns its tasks, so that it can be stopped and crashed: nothing it started outlives it.

use std::future::Future;
use std::sync::Mutex;
use tokio::task::JoinSet;

/// The tasks of one node. Dropping it aborts them all.
#[derive(Debug, Default)]
pub struct Tasks {
    set: Mutex<JoinSet<()>>,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Starts a task on the node's own runtime. A panic in it is a bug, and stops the node: both the production runtime
    /// (`launch`) and the simulation's shut down on it.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock().expect("no task panics while it holds this lock");
        // Finished tasks are reaped here, so the set is as large as what runs.
        while set.try_join_next().is_some() {}
        set.spawn(future);
    }

    /// Ends them all, where they stand.
    pub fn abort_all(&self) {
        self.set.lock().expect("no task panics while it holds this lock").abort_all();
    }
}
