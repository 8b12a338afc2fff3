//! The hint store: what is owed to replicas that could not be reached, as segment files under an exact byte bound.
//!
//! ```text
//! append -> segment in memory -> (writer: one write a wake) -> file -> (syncer: every hints_flush_period) -> durable
//!                                                                 |
//!                     target <- deliver <- page (throttled) <-----+    position file: how far it is delivered
//! ```
//!
//! A **byte** here is a byte of a file in the hint directory, or one in memory on its way there: segment headers, record
//! headers, position files, files that wait to be removed. Each is charged when it is admitted and given back when its
//! file is gone, so `max_hints_size` bounds what `du` shows plus what is buffered, at every moment. A page that is being
//! delivered is a copy besides: one a target, of at most 512 KiB or one hint.
//!
//! Invariants: the bound; `created = delivered + redirected + expired + refused + evicted + dead_lettered + lost + pending` for each
//! target and in all, asserted at every change; a hint leaves `pending` only with a reason that is counted and told; one
//! page a target is on its way; a restart sends at most the page again that was on its way.
//!
//! What happens when there is no room is a keyspace's policy, or the node's (`helenus_core::hint::Overflow`). `fail-write`
//! and `throttle` are asked for by the coordinator before it sends anything (`room`). `drop-oldest` evicts whole segments,
//! so segments are kept small: a 32nd of the bound, at most 4 MiB. A full or failing disk refuses new hints, and keeps what
//! it had taken until it can be written.
//!
//! Under `dead-letter` a hint that a bound keeps out goes to the **dead-letter log** (`dead`), which is kept like the hints
//! (`log` says how the two differ) in a directory of its own under a bound of its own, and is replayed only when an operator
//! says so. What is pending there is dead-lettered here.
//!
//! Every hint that will not be delivered is in the loss ledger (`helenus_core::hint::ledger`), by target, table, reason and
//! token range, until a repair settles it. Its two files (`ledger`) are beside the bounds, at most 1 MiB each.
//!
//! CAVEAT: only `append_durable` waits for a sync. After a crash, hints of the last `hints_flush_period` may be gone, and
//! with them their accounts and what the ledger had of that time: a new run counts from what it finds. Repair heals that,
//! as it heals refused hints.

// The books, and the bytes.
mod log;
mod state;
mod record;
mod files;
mod gone;
mod ledger;
mod recover;
// What goes in, and what goes out.
mod writer;
mod room;
mod page;
mod replay;
mod sync_point;
mod dead;
mod metrics;
#[cfg(test)]
mod tests;

pub use dead::{DeadLetters, Letter, Letters, Place, Replayed, Stopped as ReplayStopped};
pub use metrics::HintMetrics;
pub use page::Page;
pub use record::{Hint, NewHint};
pub use replay::{Deliver, DeliverError};
pub use room::HeldBack;
pub use sync_point::PointOutcome;

use crate::config::{HintsConfig, Overflow};
use crate::seams::background::{self, Background, Lane, Stopped};
use crate::seams::clock::Clock;
use crate::seams::disk::Disk;
use crate::seams::probe::{Event, HintLoss, Probe};
use crate::tasks::Tasks;
use files::{DEAD_LETTERS, Files};
use gone::{Doomed, Gone};
use helenus_core::NodeId;
use helenus_core::hint::ledger::{Ledger, Scope, Settled, ToRepair};
use helenus_core::hint::{Account, Accounts};
use helenus_core::ring::Span;
use ledger::{LedgerFiles, Losses};
use log::{Log, NotTaken};
use state::{State, Waiter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// What a hint store is made of.
pub struct HintParts {
    /// The hint directory on `disk`. Nothing else lives there.
    pub dir: PathBuf,
    /// The `[hints]` table.
    pub config: HintsConfig,
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// Where syncs and page reads run.
    pub background: Arc<dyn Background>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Told of every hint stored, lost and delivered.
    pub probe: Arc<dyn Probe>,
}

impl std::fmt::Debug for HintParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HintParts").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Why the hint store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HintError {
    /// The disk said no.
    #[error("{path}: {message}")]
    Io {
        /// The file or directory.
        path: String,
        /// The system's words.
        message: String,
    },
    /// A page for this target is on its way already.
    #[error("a page of hints is on its way to {target} already")]
    Busy {
        /// The target.
        target: NodeId,
    },
    /// Too many sync points are waited for.
    #[error("{max} sync points are waited for on this node already; try again when one is reached")]
    TooManyPoints {
        /// So many.
        max: usize,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

impl From<Stopped> for HintError {
    fn from(_: Stopped) -> Self {
        HintError::Stopped
    }
}

fn at(path: &Path, error: &io::Error) -> HintError {
    HintError::Io { path: path.display().to_string(), message: error.to_string() }
}

/// A stored hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintReceipt {
    /// Bytes it takes of the bound: its record, and the header of the segment that it began.
    pub bytes: u64,
    /// It was set aside as a dead letter: it is kept, and nobody delivers it by himself.
    pub dead_letter: bool,
}

/// What is owed to one node, as an operator sees it (`listpendinghints`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingHints {
    /// To whom.
    pub target: NodeId,
    /// What became of the hints for it, since this node's start.
    pub account: Account,
    /// Bytes charged to it.
    pub bytes: u64,
    /// Segments.
    pub files: u64,
    /// When the oldest was written (milliseconds of wall time), as far as is known without reading it.
    pub oldest_ms: Option<u64>,
    /// When the newest was written.
    pub newest_ms: Option<u64>,
    /// Bytes of records that it has acknowledged in this run.
    pub delivered_bytes: u64,
}

/// The store's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintFigures {
    /// Bytes charged in all.
    pub bytes: u64,
    /// `max_hints_size`.
    pub bytes_max: u64,
    /// The accounts of all targets together.
    pub account: Account,
    /// Syncs that failed.
    pub sync_failures: u64,
    /// Whether the disk refuses bytes now.
    pub unwritable: bool,
    /// Whether replay is paused.
    pub paused: bool,
    /// How long until the node's bound is reached, at the pace of about the last minute; `None`: it does not fill.
    pub until_full: Option<Duration>,
    /// Bytes that were taken of the bound in this run.
    pub stored_bytes: u64,
    /// `max_hint_window`.
    pub max_hint_window: Duration,
    /// Writes that were refused or had to wait because there was no room for a hint.
    pub held_back: HeldBack,
}

/// The hint store of one node. Clones are the same store.
#[derive(Clone)]
pub struct HintStore {
    shared: Arc<Shared>,
}

struct Shared {
    config: HintsConfig,
    files: Files,
    background: Arc<dyn Background>,
    clock: Arc<dyn Clock>,
    probe: Arc<dyn Probe>,
    /// Where hints go that there is no room for; `None`: this is that log.
    letters: Option<DeadLetters>,
    state: Mutex<State>,
    /// Something waits to be written.
    appended: Notify,
    /// Someone waits for a sync.
    sync_wanted: Notify,
    /// There may be something to replay.
    replay_wanted: Notify,
    /// Bytes were given back.
    freed: Notify,
}

impl std::fmt::Debug for HintStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HintStore").field("dir", &self.shared.files.dir).finish_non_exhaustive()
    }
}

impl HintStore {
    /// Opens the directory, counts what is pending there and enforces the bounds on it. Blocks while it reads.
    pub fn open(parts: HintParts) -> Result<HintStore, HintError> {
        let (disk, dir, slot) = (Arc::clone(&parts.disk), parts.dir.clone(), AtomicU8::default());
        let ledger = Arc::new(LedgerFiles { disk, dir, slot });
        let found = ledger.read().map_err(|e| at(&parts.dir, &e))?;
        let losses = Arc::new(Mutex::new(Losses::found(found)));
        let open = |log, letters| HintStore::open_log(&parts, log, letters, &ledger, &losses);
        let letters = DeadLetters::new(open(Log::DeadLetters, None)?);
        open(Log::Hints, Some(letters))
    }

    fn open_log(
        parts: &HintParts,
        log: Log,
        letters: Option<DeadLetters>,
        ledger: &Arc<LedgerFiles>,
        losses: &Arc<Mutex<Losses>>,
    ) -> Result<HintStore, HintError> {
        let HintParts { dir, config, disk, background, clock, probe } = parts;
        let dir = match log {
            Log::Hints => dir.clone(),
            Log::DeadLetters => dir.join(DEAD_LETTERS),
        };
        let files = Files { disk: Arc::clone(disk), dir, ledger: Arc::clone(ledger) };
        let mut state = State::new(log, config, Arc::clone(losses));
        let now_ms = u64::try_from(clock.wall_micros() / 1000).unwrap_or(0);
        for event in recover::recover(&mut state, &files, now_ms)? {
            probe.event(&event);
        }
        let pending = state.accounts.total().pending;
        if pending > 0 {
            tracing::info!(?log, pending, bytes = state.budget.total(), "hints kept from before");
        }
        let shared = Shared {
            config: config.clone(),
            files,
            background: Arc::clone(background),
            clock: Arc::clone(clock),
            probe: Arc::clone(probe),
            letters,
            state: Mutex::new(state),
            appended: Notify::new(),
            sync_wanted: Notify::new(),
            replay_wanted: Notify::new(),
            freed: Notify::new(),
        };
        Ok(HintStore { shared: Arc::new(shared) })
    }

    /// Starts the store's own tasks: the writers, the syncers, and replay of hints through `deliver`.
    pub fn start(&self, tasks: &Arc<Tasks>, deliver: Arc<dyn Deliver>) {
        let letters = self.shared.letters.as_ref().map(|letters| &letters.log);
        for log in letters.into_iter().chain([self]) {
            tasks.spawn(log.clone().write_on());
            tasks.spawn(log.clone().sync_on());
        }
        tasks.spawn(replay::replay(self.clone(), Arc::clone(tasks), deliver));
    }

    /// Its dead letters.
    pub fn dead_letters(&self) -> &DeadLetters {
        self.shared
            .letters
            .as_ref()
            .expect("whoever has only the dead letters does not ask for them")
    }

    /// Stores a hint for `target`, which has been down for `down_for` (zero: it is up, but did not answer). Cheap: it
    /// copies the bytes and leaves the writing to the next wake. A refusal is counted and told already. Under `dead-letter`,
    /// what a bound keeps out is stored as a dead letter, and the receipt says so.
    pub fn append(
        &self,
        target: NodeId,
        hint: &NewHint<'_>,
        down_for: Duration,
    ) -> Result<HintReceipt, HintLoss> {
        self.store(target, hint, down_for, None)
    }

    /// As [`HintStore::append`], and resolves when the hint is durable: what CL ANY acknowledges, unless it became a dead
    /// letter. On `Err(HintLoss::Unwritable)` after a failed sync the hint is still pending and may yet be delivered; it is
    /// not known to survive a crash.
    pub async fn append_durable(
        &self,
        target: NodeId,
        hint: &NewHint<'_>,
        down_for: Duration,
    ) -> Result<HintReceipt, HintLoss> {
        let (waiter, synced) = oneshot::channel();
        let receipt = self.store(target, hint, down_for, Some(waiter))?;
        synced.await.unwrap_or(Err(HintLoss::Unwritable)).map(|()| receipt)
    }

    fn store(
        &self,
        target: NodeId,
        hint: &NewHint<'_>,
        down_for: Duration,
        mut waiter: Option<Waiter>,
    ) -> Result<HintReceipt, HintLoss> {
        let now_ms = self.wall_ms();
        let mut events = Vec::new();
        let (log, stored) = {
            let mut state = self.lock();
            let files = &self.shared.files;
            let stored = state.append(target, hint, down_for, now_ms, files, &mut events);
            if let Some(waiter) = waiter.take_if(|_| stored.is_ok()) {
                state.waiters.push(waiter);
                self.shared.sync_wanted.notify_one();
            }
            (state.log, stored)
        };
        self.tell(events);
        let key = hint.key.clone();
        match stored {
            Ok(bytes) => {
                let dead_letter = log == Log::DeadLetters;
                self.tell([match dead_letter {
                    false => Event::HintStored { target, key, bytes },
                    true => Event::HintDeadLettered { target, key, bytes },
                }]);
                self.shared.appended.notify_one();
                Ok(HintReceipt { bytes, dead_letter })
            }
            Err(NotTaken::DeadLetter) => {
                // What does not fit there is refused for good.
                let hint = NewHint { overflow: Some(Overflow::DropNewest), ..*hint };
                self.dead_letters().log.store(target, &hint, Duration::ZERO, waiter)
            }
            Err(NotTaken::Refused(reason)) => {
                self.tell([Event::HintLost { target, key, reason }]);
                Err(reason)
            }
        }
    }

    /// Forgets what is owed to `target`, or to all: counted as truncated. Gives the number of hints. Dead letters stay.
    pub async fn truncate(&self, target: Option<NodeId>) -> Result<u64, HintError> {
        let (log, count, doomed) = {
            let mut state = self.lock();
            let targets: Vec<NodeId> = match target {
                Some(target) => vec![target],
                None => state.targets.keys().copied().collect(),
            };
            let count = targets.into_iter().map(|target| state.truncate(target)).sum();
            (state.log, count, std::mem::take(&mut state.doomed))
        };
        tracing::info!(?log, count, ?target, "hints truncated");
        let files = self.shared.files.clone();
        let background = &*self.shared.background;
        let read = background::run(background, Lane::Hints, 4096, move || read_all(&files, doomed));
        let (doomed, gone) = read.await?;
        self.record_all(gone);
        let ledger = self.lock().losses().take();
        let files = self.shared.files.clone();
        let job = move || {
            // First what was lost, then that it is gone: a crash between the two says it twice, not never.
            let ledger = ledger.map_or(Ok(()), |ledger| files.ledger.write(&ledger));
            let removed = unlink_all(&files, doomed);
            (ledger, files.disk.sync_dir(&files.dir), removed)
        };
        let done = background::run(background, Lane::Hints, 4096, job);
        let (ledger, synced, removed) = done.await?;
        self.settle_ledger_write(ledger);
        self.settle_removals(removed);
        synced.map_err(|e| at(&self.shared.files.dir, &e))?;
        Ok(count)
    }

    /// Stops replay, of dead letters too, or lets it go on (`pausehandoff`, `resumehandoff`). Hints are stored all the same;
    /// a page on its way is not called back.
    pub fn set_paused(&self, paused: bool) {
        self.lock().paused = paused;
        if let Some(letters) = &self.shared.letters {
            letters.log.lock().paused = paused;
        }
        self.wake_replay();
    }

    /// Whether replay is paused.
    pub fn paused(&self) -> bool {
        self.lock().paused
    }

    /// Looks for something to replay now, not at the next second: a target came back.
    pub fn wake_replay(&self) {
        self.shared.replay_wanted.notify_one();
    }

    /// What is or was owed, per target, by host id.
    pub fn list(&self) -> Vec<PendingHints> {
        let accounts = self.accounts();
        let state = self.lock();
        let row = |(target, account)| {
            let owed = state.targets.get(&target);
            let newest = |owed: &state::Target| owed.segments.iter().map(|s| s.newest_ms).max();
            PendingHints {
                target,
                account,
                bytes: state.budget.used(target),
                files: owed.map_or(0, |owed| owed.segments.len() as u64),
                oldest_ms: state.oldest_ms(target),
                newest_ms: owed.and_then(newest),
                delivered_bytes: state.delivered_bytes.get(&target).copied().unwrap_or(0),
            }
        };
        accounts.targets().map(row).collect()
    }

    /// A copy of the accounts, with those of the dead letters.
    pub fn accounts(&self) -> Accounts {
        let own = self.lock().accounts.clone();
        match &self.shared.letters {
            Some(letters) => own.with_dead_letters(&letters.log.accounts()),
            None => own,
        }
    }

    /// The store's figures.
    pub fn figures(&self) -> HintFigures {
        let letters = self.shared.letters.as_ref().map(|it| it.log.lock().accounts.total());
        let state = self.lock();
        let own = state.accounts.total();
        let account = letters.map_or(own, |letters| own.with_dead_letters(letters));
        HintFigures {
            bytes: state.budget.total(),
            bytes_max: state.budget.limits().node_bytes,
            account,
            sync_failures: state.sync_failures,
            unwritable: state.unwritable.is_some(),
            paused: state.paused,
            until_full: state.pace.until_full(
                self.shared.clock.now(),
                state.budget.total(),
                state.budget.limits().node_bytes,
            ),
            stored_bytes: state.stored_bytes,
            max_hint_window: state.max_hint_window,
            held_back: state.held_back,
        }
    }

    fn settle_removals(&self, removed: Vec<Removal>) {
        let some = !removed.is_empty();
        let gone = {
            let mut state = self.lock();
            let mut all = Vec::new();
            for (doomed, result, gone) in removed {
                all.extend(gone);
                state.settle_removal(doomed, result.map_err(|e| e.to_string()));
            }
            all
        };
        if some {
            self.shared.freed.notify_waiters();
        }
        if !gone.is_empty() {
            // What was read only to be removed; the next sync writes the ledger.
            self.record_all(gone);
        }
    }

    /// Puts all of this into the ledger, and tells of it.
    fn record_all(&self, gone: Vec<Gone>) {
        let (now_ms, mut events) = (self.wall_ms(), Vec::new());
        {
            let mut state = self.lock();
            gone.into_iter().for_each(|gone| state.record_gone(gone, now_ms, &mut events));
        }
        self.tell(events);
    }

    /// A copy of the loss ledger: what will not be delivered and was not repaired yet, this run's and earlier ones'.
    pub fn ledger(&self) -> Ledger {
        self.lock().losses().ledger.clone()
    }

    /// What a repair of this scope has to compare. See [`Ledger::to_repair`].
    pub fn to_repair(&self, scope: Scope) -> ToRepair {
        self.lock().losses().ledger.to_repair(scope)
    }

    /// A repair compared `repaired`: what it covered leaves the ledger, durably. See [`Ledger::settle`].
    pub async fn settle_losses(
        &self,
        scopes: &[Scope],
        repaired: &[Span],
        as_of: u64,
    ) -> Result<Settled, HintError> {
        let (settled, ledger) = {
            let state = self.lock();
            let mut losses = state.losses();
            let mut settled = Settled::default();
            losses.settle(|ledger| {
                for scope in scopes {
                    settled += ledger.settle(*scope, repaired, as_of);
                }
                settled.ranges > 0
            });
            (settled, losses.take())
        };
        if let Some(ledger) = ledger {
            let files = self.shared.files.clone();
            let bytes = ledger.len() as u64;
            let job = move || files.ledger.write(&ledger);
            let background = &*self.shared.background;
            let written = background::run(background, Lane::Hints, bytes, job).await?;
            let failed = written.as_ref().err().map(|error| at(&self.shared.files.dir, error));
            self.settle_ledger_write(written);
            failed.map_or(Ok(()), Err)?;
        }
        Ok(settled)
    }

    fn tell(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.shared.probe.event(&event);
        }
    }

    fn wall_ms(&self) -> u64 {
        u64::try_from(self.shared.clock.wall_micros() / 1000).unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Accounts that do not balance panic under this lock; then nothing must go on with them.
        self.state.lock().expect("the hint accounts balance")
    }
}

type Removal = (Doomed, io::Result<()>, Option<Gone>);

fn read_all(files: &Files, mut doomed: Vec<Doomed>) -> (Vec<Doomed>, Vec<Gone>) {
    let gone = doomed.iter_mut().filter_map(|doomed| doomed.read(files)).collect();
    (doomed, gone)
}

fn unlink_all(files: &Files, doomed: Vec<Doomed>) -> Vec<Removal> {
    let remove = |mut doomed: Doomed| {
        let gone = doomed.read(files);
        let unlinked = doomed.unlink(files);
        (doomed, unlinked, gone)
    };
    doomed.into_iter().map(remove).collect()
}
