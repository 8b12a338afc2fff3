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
//! Invariants: the bound; `created = delivered + expired + refused + evicted + dead_lettered + lost + pending` for each
//! target and in all, asserted at every change; a hint leaves `pending` only with a reason that is counted and told; one
//! page a target is on its way; a restart sends at most the page again that was on its way.
//!
//! A full store evicts whole segments (`drop-oldest`), so segments are kept small: a 32nd of the bound, at most 4 MiB. A
//! full or failing disk refuses new hints, and keeps what it had taken until it can be written.
//!
//! CAVEAT: only `append_durable` waits for a sync. After a crash, hints of the last `hints_flush_period` may be gone, and
//! with them their accounts: a new run counts from what it finds. Repair heals that, as it heals refused hints.

mod files;
mod record;
mod recover;
mod replay;
mod state;
mod metrics;
#[cfg(test)]
mod tests;

pub use metrics::HintMetrics;
pub use record::{Hint, NewHint};
pub use replay::{Deliver, DeliverError};

use crate::config::{self, HintsConfig};
use crate::seams::background::{self, Background, Lane, Stopped};
use crate::seams::clock::Clock;
use crate::seams::disk::Disk;
use crate::seams::probe::{Event, HintLoss, Probe};
use crate::tasks::Tasks;
use files::{Files, Part};
use helenus_core::hint::{Account, Accounts, Budget, Limits, Overflow, expired};
use helenus_core::{NodeId, TableId};
use state::{Doomed, Settled, State, Waiter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How long to wait before a disk that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

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
    state: Mutex<State>,
    /// Something waits to be written.
    appended: Notify,
    /// Someone waits for a sync.
    sync_wanted: Notify,
    /// There may be something to replay.
    replay_wanted: Notify,
}

impl std::fmt::Debug for HintStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HintStore").field("dir", &self.shared.files.dir).finish_non_exhaustive()
    }
}

fn limits(config: &HintsConfig) -> Limits {
    let per_host = config.max_hints_size_per_host;
    Limits {
        node_bytes: config.max_hints_size,
        target_bytes: (per_host > 0).then_some(per_host),
        overflow: match config.overflow {
            config::Overflow::DropNewest => Overflow::DropNewest,
            config::Overflow::DropOldest => Overflow::DropOldest,
        },
    }
}

/// Small enough that evicting one loses little, and, under `drop-oldest`, that reading its keys back holds up nobody.
fn segment_bytes(config: &HintsConfig) -> u64 {
    const EVICTED_BYTES_MAX: u64 = 4 << 20;
    let limits = limits(config);
    let bound = limits.target_bytes.unwrap_or(u64::MAX).min(limits.node_bytes);
    let wanted = match limits.overflow {
        Overflow::DropNewest => config.max_hints_file_size,
        Overflow::DropOldest => config.max_hints_file_size.min(EVICTED_BYTES_MAX),
    };
    wanted.min(bound / 32).max(1024)
}

impl HintStore {
    /// Opens the directory, counts what is pending there and enforces the bound on it. Blocks while it reads.
    pub fn open(parts: HintParts) -> Result<HintStore, HintError> {
        let HintParts { dir, config, disk, background, clock, probe } = parts;
        let files = Files { disk, dir };
        let mut state = State::new(
            config.enabled,
            config.max_hint_window,
            segment_bytes(&config),
            Budget::new(limits(&config)),
        );
        state.paused = config.paused;
        for event in recover::recover(&mut state, &files)? {
            probe.event(&event);
        }
        let pending = state.accounts.total().pending;
        if pending > 0 {
            tracing::info!(pending, bytes = state.budget.total(), "hints owed from before");
        }
        let shared = Shared {
            config,
            files,
            background,
            clock,
            probe,
            state: Mutex::new(state),
            appended: Notify::new(),
            sync_wanted: Notify::new(),
            replay_wanted: Notify::new(),
        };
        Ok(HintStore { shared: Arc::new(shared) })
    }

    /// Starts the store's own tasks: the writer, the syncer, and replay through `deliver`.
    pub fn start(&self, tasks: &Arc<Tasks>, deliver: Arc<dyn Deliver>) {
        tasks.spawn(self.clone().write_on());
        tasks.spawn(self.clone().sync_on());
        tasks.spawn(replay::replay(self.clone(), Arc::clone(tasks), deliver));
    }

    /// Stores a hint for `target`, which has been down for `down_for` (zero: it is up, but did not answer). Cheap: it
    /// copies the bytes and leaves the writing to the next wake. A refusal is counted and told already.
    pub fn append(
        &self,
        target: NodeId,
        hint: &NewHint<'_>,
        down_for: Duration,
    ) -> Result<HintReceipt, HintLoss> {
        self.store(target, hint, down_for, None)
    }

    /// As [`HintStore::append`], and resolves when the hint is durable: what CL ANY acknowledges. On
    /// `Err(HintLoss::Unwritable)` after a failed sync the hint is still pending and may yet be delivered; it is not
    /// known to survive a crash.
    pub async fn append_durable(
        &self,
        target: NodeId,
        hint: &NewHint<'_>,
        down_for: Duration,
    ) -> Result<HintReceipt, HintLoss> {
        let (waiter, synced) = oneshot::channel();
        let receipt = self.store(target, hint, down_for, Some(waiter))?;
        self.shared.sync_wanted.notify_one();
        synced.await.unwrap_or(Err(HintLoss::Unwritable)).map(|()| receipt)
    }

    fn store(
        &self,
        target: NodeId,
        hint: &NewHint<'_>,
        down_for: Duration,
        waiter: Option<Waiter>,
    ) -> Result<HintReceipt, HintLoss> {
        let now_ms = self.wall_ms();
        let mut events = Vec::new();
        let stored = {
            let mut state = self.lock();
            let files = &self.shared.files;
            let stored = state.append(target, hint, down_for, now_ms, files, &mut events);
            if stored.is_ok() {
                state.waiters.extend(waiter);
            }
            stored
        };
        self.tell(events);
        let key = hint.key.clone();
        match stored {
            Ok(bytes) => {
                self.shared.probe.event(&Event::HintStored { target, key, bytes });
                self.shared.appended.notify_one();
                Ok(HintReceipt { bytes })
            }
            Err(reason) => {
                self.shared.probe.event(&Event::HintLost { target, key, reason });
                Err(reason)
            }
        }
    }

    /// The oldest hints owed to `target` that are still worth delivering, of about `max_bytes` in all and at least one.
    /// `None`: nothing can be read now. `gc_grace_now` is the table's setting, if the table is known.
    ///
    /// Hand the page to [`HintStore::complete`] when the target has acknowledged it; drop it when it has not.
    pub async fn next_page(
        &self,
        target: NodeId,
        max_bytes: u64,
        gc_grace_now: &(dyn Fn(TableId) -> Option<u32> + Send + Sync),
    ) -> Result<Option<Page>, HintError> {
        loop {
            let Some((spans, claim)) = self.plan_page(target, max_bytes)? else { return Ok(None) };
            let files = self.shared.files.clone();
            let job = move || files.read_page(target, &spans, max_bytes);
            let background = &*self.shared.background;
            let (parts, failed) = background::run(background, Lane::Hints, max_bytes, job).await?;
            if parts.is_empty()
                && let Some((seq, error)) = failed
            {
                if !claim.is_current() {
                    // Truncated meanwhile: the file is gone because it was meant to be.
                    return Ok(None);
                }
                self.lock().unreadable(target, seq, &error);
                return Err(at(&self.shared.files.segment(target, seq), &error));
            }
            let page = self.sort_out(claim, parts, gc_grace_now);
            if !page.hints.is_empty() {
                return Ok(Some(page));
            }
            // Everything in it had expired or was damaged: on to the next.
            self.complete(page).await?;
        }
    }

    fn plan_page(
        &self,
        target: NodeId,
        max_bytes: u64,
    ) -> Result<Option<(Vec<files::Span>, Claim)>, HintError> {
        let mut state = self.lock();
        let epoch = match state.targets.get(&target) {
            None => return Ok(None),
            Some(owed) if owed.in_flight.is_some() => return Err(HintError::Busy { target }),
            Some(owed) => owed.epoch,
        };
        let spans = state.plan_page(target, max_bytes, &self.shared.files);
        let claim = || Claim { shared: Arc::clone(&self.shared), target, epoch };
        Ok((!spans.is_empty()).then(|| (spans, claim())))
    }

    /// Parts what is still worth delivering from what has expired.
    fn sort_out(
        &self,
        claim: Claim,
        parts: Vec<Part>,
        gc_grace_now: &(dyn Fn(TableId) -> Option<u32> + Send + Sync),
    ) -> Page {
        let now_ms = self.wall_ms();
        let mut page =
            Page { claim, hints: Vec::new(), expired: Vec::new(), settled: Vec::new(), bytes: 0 };
        for part in parts {
            let mut settled = Settled {
                seq: part.seq,
                until: part.until,
                delivered: 0,
                expired: 0,
                newest_ms: part.hints.last().map_or(0, |hint| hint.created_ms),
            };
            for hint in part.hints {
                let age = Duration::from_millis(now_ms.saturating_sub(hint.created_ms));
                if expired(age, hint.gc_grace_s, gc_grace_now(hint.table)) {
                    settled.expired += 1;
                    page.expired.push(hint.key);
                } else {
                    settled.delivered += 1;
                    page.bytes += (hint.key.0.len() + hint.update.len()) as u64;
                    page.hints.push(hint);
                }
            }
            page.settled.push(settled);
        }
        page
    }

    /// The target has acknowledged the page: its hints are delivered, and the position after them is made durable.
    pub async fn complete(&self, page: Page) -> Result<(), HintError> {
        let target = page.claim.target;
        let (position, turn, doomed) = {
            let mut state = self.lock();
            if !page.claim.is_current_in(&state) {
                // Truncated meanwhile, and counted as that.
                return Ok(());
            }
            state.settle(target, &page.settled);
            let (position, turn) = state.position(target);
            (position, turn, std::mem::take(&mut state.doomed))
        };
        let delivered = page.hints.iter().map(|hint| hint.key.clone());
        self.tell(delivered.map(|key| Event::HintDelivered { target, key }));
        let reason = HintLoss::Expired;
        self.tell(page.expired.iter().map(|key| Event::HintLost {
            target,
            key: key.clone(),
            reason,
        }));
        let files = self.shared.files.clone();
        let job = move || {
            let written = files.write_position(target, position, turn);
            (written, remove_all(&files, doomed))
        };
        // Lanes run in order: the next page is read after this.
        let done = background::run(&*self.shared.background, Lane::Hints, 64, job);
        let (written, removed) = done.await?;
        if let Err(error) = written {
            tracing::warn!(%target, %error, "a restart will deliver some hints again");
        }
        self.settle_removals(removed);
        Ok(())
    }

    /// Forgets what is owed to `target`, or to all: counted as truncated. Gives the number of hints.
    pub async fn truncate(&self, target: Option<NodeId>) -> Result<u64, HintError> {
        let (count, doomed) = {
            let mut state = self.lock();
            let targets: Vec<NodeId> = match target {
                Some(target) => vec![target],
                None => state.targets.keys().copied().collect(),
            };
            let count = targets.into_iter().map(|target| state.truncate(target)).sum();
            (count, std::mem::take(&mut state.doomed))
        };
        tracing::info!(count, ?target, "hints truncated");
        let files = self.shared.files.clone();
        let job = move || {
            let removed = remove_all(&files, doomed);
            (files.disk.sync_dir(&files.dir), removed)
        };
        let done = background::run(&*self.shared.background, Lane::Hints, 4096, job);
        let (synced, removed) = done.await?;
        self.settle_removals(removed);
        synced.map_err(|e| at(&self.shared.files.dir, &e))?;
        Ok(count)
    }

    /// Stops replay, or lets it go on (`pausehandoff`, `resumehandoff`). Hints are stored all the same; a page on its
    /// way is not called back.
    pub fn set_paused(&self, paused: bool) {
        self.lock().paused = paused;
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
            }
        };
        state.accounts.targets().map(row).collect()
    }

    /// A copy of the accounts.
    pub fn accounts(&self) -> Accounts {
        self.lock().accounts.clone()
    }

    /// The store's figures.
    pub fn figures(&self) -> HintFigures {
        let state = self.lock();
        HintFigures {
            bytes: state.budget.total(),
            bytes_max: state.budget.limits().node_bytes,
            account: state.accounts.total(),
            sync_failures: state.sync_failures,
            unwritable: state.unwritable.is_some(),
            paused: state.paused,
        }
    }

    /// Writes and syncs everything: what is pending now is pending after a restart.
    pub async fn flush(&self) -> Result<(), HintError> {
        let before = self.lock().sync_failures;
        self.sync_once().await?;
        let state = self.lock();
        match &state.unwritable {
            Some(why) => Err(at(&self.shared.files.dir, &io::Error::other(why.clone()))),
            None if state.sync_failures > before => {
                Err(at(&self.shared.files.dir, &io::Error::other("a sync failed")))
            }
            None => Ok(()),
        }
    }

    /// Writes what was appended in one wake with one write a segment, and tries again while the disk refuses.
    async fn write_on(self) {
        loop {
            if self.lock().unwritable.is_some() {
                tokio::time::sleep(RETRY).await;
            } else {
                self.shared.appended.notified().await;
            }
            self.lock().write_out(&self.shared.files);
        }
    }

    /// Syncs every `hints_flush_period`, and at once when someone waits for it.
    async fn sync_on(self) {
        loop {
            tokio::select! { biased;
                // Who waits goes before the clock.
                () = self.shared.sync_wanted.notified() => {}
                () = tokio::time::sleep(self.shared.config.hints_flush_period) => {}
            }
            if self.sync_once().await.is_err() {
                return;
            }
        }
    }

    async fn sync_once(&self) -> Result<(), Stopped> {
        let mut unsynced = self.lock().take_unsynced(&self.shared.files);
        let waiters = std::mem::take(&mut unsynced.waiters);
        let mut good = self.lock().unwritable.is_none();
        let idle = unsynced.files.is_empty() && !unsynced.names && unsynced.doomed.is_empty();
        if !idle {
            let files = self.shared.files.clone();
            let bytes = unsynced.bytes;
            let job = move || {
                let synced: Vec<_> = unsynced
                    .files
                    .into_iter()
                    .map(|(target, seq, file)| (target, seq, file.sync()))
                    .collect();
                let removed = remove_all(&files, unsynced.doomed);
                let names = if unsynced.names { files.disk.sync_dir(&files.dir) } else { Ok(()) };
                (synced, names, removed)
            };
            let done = background::run(&*self.shared.background, Lane::Hints, bytes, job);
            let (synced, names, removed) = done.await?;
            good &= self.settle_syncs(synced, names);
            self.settle_removals(removed);
        }
        for waiter in waiters {
            // Whoever waited may have given up.
            waiter.send(if good { Ok(()) } else { Err(HintLoss::Unwritable) }).ok();
        }
        Ok(())
    }

    fn settle_syncs(
        &self,
        synced: Vec<(NodeId, u64, io::Result<()>)>,
        names: io::Result<()>,
    ) -> bool {
        let mut good = true;
        let mut state = self.lock();
        for (target, seq, result) in synced {
            if let Err(error) = &result {
                tracing::error!(%target, seq, %error, "a hint segment cannot be synced");
            }
            good &= result.is_ok();
            state.synced(target, seq, result.is_ok());
        }
        if let Err(error) = names {
            tracing::error!(%error, "the hint directory cannot be synced");
            good = false;
            state.names_dirty = true;
            state.sync_failures += 1;
        }
        good
    }

    fn settle_removals(&self, removed: Vec<Removal>) {
        let mut events = Vec::new();
        {
            let mut state = self.lock();
            for (doomed, result, told) in removed {
                events.extend(told);
                state.settle_removal(doomed, result.map_err(|e| e.to_string()));
            }
        }
        self.tell(events);
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

type Removal = (Doomed, io::Result<()>, Vec<Event>);

fn remove_all(files: &Files, doomed: Vec<Doomed>) -> Vec<Removal> {
    let remove = |mut doomed: Doomed| {
        let (result, events) = doomed.remove(files);
        (doomed, result, events)
    };
    doomed.into_iter().map(remove).collect()
}

/// The right to deliver to a target: there is one at a time, and it ends when it is dropped.
struct Claim {
    shared: Arc<Shared>,
    target: NodeId,
    epoch: u64,
}

impl Claim {
    fn is_current(&self) -> bool {
        self.is_current_in(&self.shared.lock())
    }

    /// Whether the target's hints were not truncated since.
    fn is_current_in(&self, state: &State) -> bool {
        state.targets.get(&self.target).is_some_and(|owed| owed.epoch == self.epoch)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock()
            && let Some(owed) = state.targets.get_mut(&self.target)
        {
            owed.in_flight = None;
        }
    }
}

/// Hints on their way to their target. Dropped undelivered, they are pending as before.
pub struct Page {
    claim: Claim,
    hints: Vec<Hint>,
    expired: Vec<helenus_core::Key>,
    settled: Vec<Settled>,
    bytes: u64,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page")
            .field("target", &self.claim.target)
            .field("hints", &self.hints.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Page {
    /// Whom it is for.
    pub fn target(&self) -> NodeId {
        self.claim.target
    }

    /// The hints, oldest first. Never empty.
    pub fn hints(&self) -> &[Hint] {
        &self.hints
    }

    /// Bytes of keys and updates.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
