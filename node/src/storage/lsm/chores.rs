//! Verify and scrub: long walks over files, one at a time, in steps on the compaction lane and under its throttle.

use super::Shared;
use super::compact::on_lane;
use super::scrub::scrub;
use super::verify::verify;
use crate::seams::background::Lane;
use crate::storage::{
    RunningCompaction, ScrubOptions, ScrubReport, StorageError, VerifyOptions, VerifyReport,
};
use helenus_core::TableId;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

/// Whom to tell how it ended.
type Tell<T> = oneshot::Sender<Result<T, StorageError>>;

/// What an operator asked for.
pub(super) enum Chore {
    Verify(VerifyOptions, Tell<VerifyReport>),
    Scrub(ScrubOptions, Tell<ScrubReport>),
}

/// The one chore that runs, if one does.
pub(super) struct Chores {
    running: Mutex<Option<RunningCompaction>>,
    wanted: mpsc::Sender<Chore>,
}

impl Chores {
    /// With the end that [`chore_loop`] takes.
    pub(super) fn new() -> (Chores, mpsc::Receiver<Chore>) {
        let (wanted, chores) = mpsc::channel(1);
        (Chores { running: Mutex::new(None), wanted }, chores)
    }

    fn lock(&self) -> MutexGuard<'_, Option<RunningCompaction>> {
        self.running.lock().expect("nothing panics while it holds the running chore")
    }

    /// What runs, for `compactionstats`.
    pub(super) fn running(&self) -> Option<RunningCompaction> {
        self.lock().clone()
    }

    /// Begins a chore, unless one runs.
    pub(super) fn begin(&self, kind: &'static str, chore: Chore) -> Result<(), StorageError> {
        let mut running = self.lock();
        if let Some(running) = running.as_ref() {
            return Err(StorageError::Busy { running: running.kind });
        }
        // There is room: the one before was taken out before it ended.
        self.wanted.try_send(chore).map_err(|_| StorageError::Stopped)?;
        *running = Some(RunningCompaction {
            id: 0,
            kind,
            reason: "asked for",
            level: 0,
            table: TableId(0),
            done_bytes: 0,
            total_bytes: 0,
        });
        Ok(())
    }

    /// Takes note of how far the running one is.
    pub(super) fn progress(&self, note: impl FnOnce(&mut RunningCompaction)) {
        if let Some(running) = self.lock().as_mut() {
            note(running);
        }
    }

    fn end(&self) {
        *self.lock() = None;
    }
}

/// The engine's chore task.
pub(super) async fn chore_loop(shared: Arc<Shared>, mut chores: mpsc::Receiver<Chore>) {
    let mut stop = shared.stop.subscribe();
    loop {
        let chore = tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => return,
            chore = chores.recv() => chore,
        };
        let Some(chore) = chore else { return };
        // What was begun and did not take effect is removed by the next start.
        tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = run(&shared, chore) => {}
        }
    }
}

async fn run(shared: &Arc<Shared>, chore: Chore) {
    // It has ended before anybody hears of it: whoever asked may ask for the next one at once. That nobody listens is no
    // error.
    match chore {
        Chore::Verify(options, mut tell) => {
            let verified = tokio::select! { biased;
                () = tell.closed() => Err(StorageError::Stopped),
                verified = verify(shared, options) => verified,
            };
            shared.chores.end();
            tell.send(verified).ok();
        }
        Chore::Scrub(options, tell) => {
            let scrubbed = scrub(shared, options).await;
            if let Err(error) = &scrubbed {
                tracing::error!(%error, "a scrub failed; what it had not replaced stays as it was");
            }
            shared.chores.end();
            tell.send(scrubbed).ok();
        }
    }
}

/// A step of a chore.
pub(super) async fn in_background<T: Send + 'static>(
    shared: &Shared,
    bytes: u64,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    on_lane(shared, Lane::Compaction, bytes, job).await
}

impl Shared {
    /// The open tables among these, or all.
    pub(super) fn chosen(&self, tables: Option<&[TableId]>) -> Vec<TableId> {
        let state = self.lock();
        let open = state.tables.values().filter(|table| table.options.is_some());
        let open = open.map(|table| table.id);
        open.filter(|id| tables.is_none_or(|tables| tables.contains(id))).collect()
    }
}
