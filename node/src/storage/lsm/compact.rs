//! Compaction: many SSTables become few, versions merge, and what nobody needs any more goes.
//!
//! What to compact is `helenus_core::compaction`'s choice; who compacts what is in [`book`]; the merge is in [`merging`].
//! Up to `concurrent_compactors` compactions run at a time, on disjoint SSTables, each in steps of about 1 MiB on a lane
//! of its own. After a step each pays for its bytes at the throttle, which they share, one after the other. Between steps
//! a compaction may be paused, or given up when its table is dropped. It takes effect at once, when the manifest lists its
//! outputs instead of its inputs; one that only moves or drops SSTables is nothing but that.
//!
//! Invariants:
//! - a compaction that dies at any point leaves no trace: what it wrote is listed in one manifest, or removed, at the
//!   latest by the next start;
//! - one that fails or panics leaves the others alone; its table rests for a while.
//!
//! Tables take turns: the one with the fewest compactions under way goes first, then the one whose last turn is the longest
//! ago. So a table with an endless backlog gets all compactors while nobody else wants one, and never more than its share.

mod book;
mod history;
mod merging;

pub(super) use book::{Book, TableBook};
pub(super) use history::last_id;

use super::flush::{Place, abandon};
use super::manifest::{Manifest, StoreError};
use super::place;
use super::sstable::SsTable;
use super::state::Table;
use super::{Shared, io_error};
use crate::seams::background::{self, Lane};
use crate::seams::probe::Event;
use crate::storage::StorageError;
use book::{Next, Task};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use helenus_core::compaction::{Action, Choice};
use helenus_core::{TableId, TimestampMicros};
use merging::{Begun, Merging, Order, STEP_BYTES};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// After a compaction of a table failed, none of it begins for this long: the disk may need an operator.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Tombstones grow old without any event to say so: the choice is made again at least this often.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Why a compaction ended without an output.
enum Ended {
    /// Its table was dropped, or it had to make room for an operator's.
    GivenUp,
    Failed(StorageError),
}

impl From<StorageError> for Ended {
    fn from(error: StorageError) -> Ended {
        Ended::Failed(error)
    }
}

/// The engine's compaction task: begins what may begin, and carries it out.
pub(super) async fn compaction_loop(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let mut running = FuturesUnordered::new();
    // Tables of which a compaction failed, until when.
    let mut resting: BTreeMap<TableId, Instant> = BTreeMap::new();
    loop {
        resting.retain(|_, until| *until > Instant::now());
        while let Some(task) = pick(&shared, &resting) {
            running.push(carry_out(&shared, task));
        }
        let look_again = Instant::now() + LOOK_AGAIN_AFTER;
        let look_again = resting.values().copied().min().unwrap_or(look_again);
        tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => return,
            Some((table, result)) = running.next(), if !running.is_empty() => match result {
                Ok(()) => {}
                Err(StorageError::Stopped) => return,
                Err(error) => {
                    tracing::error!(%table, %error, "a compaction failed; its inputs stay as they are");
                    shared.lock().compaction_failures += 1;
                    resting.insert(table, Instant::now() + RETRY_AFTER);
                }
            },
            // Something was flushed, switched, asked for or dropped: who waits for that looks again.
            () = shared.compaction_wanted.notified() => shared.compaction_changed.notify_waiters(),
            () = tokio::time::sleep_until(look_again) => {}
        }
    }
}

/// What to begin next, if a compactor is free: what an operator asked for, else the table whose turn it is.
fn pick(shared: &Shared, resting: &BTreeMap<TableId, Instant>) -> Option<Task> {
    loop {
        let now = shared.now();
        let next = shared.lock().begin_compaction(now, |table| !resting.contains_key(&table))?;
        match next {
            Next::Begin(task) => return Some(task),
            Next::Nothing(asked) => asked.done.send(Ok(())).unwrap_or_else(drop),
        }
    }
}

/// Carries one out and takes it off the book. Nobody waits for an automatic one, and an operator may have gone.
async fn carry_out(shared: &Arc<Shared>, task: Task) -> (TableId, Result<(), StorageError>) {
    let (id, table) = (task.id, task.table);
    let Task { done, choice, inputs, lane, .. } = task;
    let job = Compaction { shared, id, table, choice, inputs, lane, is_major: done.is_some() };
    let result = match job.run().await {
        Ok(()) | Err(Ended::GivenUp) => Ok(()),
        Err(Ended::Failed(error)) => Err(error),
    };
    shared.lock().end_compaction(id, table);
    done.map(|done| done.send(result.clone()));
    (table, result)
}

/// One compaction under way.
struct Compaction<'a> {
    shared: &'a Arc<Shared>,
    id: u64,
    table: TableId,
    choice: Choice,
    inputs: Vec<Arc<SsTable>>,
    lane: Lane,
    /// An operator asked for it: it isn't paused with the automatic ones.
    is_major: bool,
}

impl Compaction<'_> {
    async fn run(&self) -> Result<(), Ended> {
        let place = self.shared.place(self.table).ok_or(Ended::GivenUp)?;
        let outputs = match self.choice.action {
            Action::Move | Action::Drop => Vec::new(),
            Action::Merge => {
                let begun = Begun::default();
                let merged = self.merge(&place, &begun).await;
                if merged.is_err() {
                    let place = place.clone();
                    // In the order of the lane: behind the step that failed.
                    self.in_steps(0, move || remove(&place, &begun.generations())).await?;
                }
                merged?
            }
        };
        self.commit(place, outputs).await
    }

    async fn in_steps<T: Send + 'static>(
        &self,
        bytes: u64,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        on_lane(self.shared, self.lane, bytes, job).await
    }

    async fn merge(&self, place: &Place, begun: &Begun) -> Result<Vec<SsTable>, Ended> {
        let order = Order {
            shared: Arc::downgrade(self.shared),
            table: self.table,
            place: place.clone(),
            inputs: self.inputs.clone(),
            output_bytes_max: self.choice.output_bytes_max,
            begun: begun.clone(),
        };
        let mut merging = self.in_steps(0, move || Merging::begin(order)).await??;
        // The first blocks were read at the beginning, and are paid for with the first step.
        let mut paid = 0;
        loop {
            self.may_go_on().await?;
            let step = self.in_steps(STEP_BYTES, move || {
                let mut merging = merging;
                merging.step().map(|is_done| (merging, is_done))
            });
            let (back, is_done) = step.await??;
            merging = back;
            let bytes = merging.consumed() - paid;
            paid += bytes;
            self.shared.lock().compaction_progress(self.id, bytes);
            // The last step pays like the others, or a compaction of one step would cost nothing.
            throttle(self.shared, bytes, || self.is_wanted()).await;
            if is_done {
                break;
            }
        }
        // A pause that came while it paid holds for its end too.
        self.may_go_on().await?;
        let bytes = merging.written();
        Ok(self.in_steps(bytes, move || merging.finish()).await??)
    }

    /// Its inputs are still its table's, and it is not to be paused.
    fn is_wanted(&self) -> bool {
        let state = self.shared.lock();
        let found = state.tables.get(&self.table).filter(|t| t.has(&self.choice.inputs));
        found.is_some_and(|table| table.auto_compaction || self.is_major)
    }

    /// Waits while compaction is paused. An automatic one that is paused makes room for an operator's.
    async fn may_go_on(&self) -> Result<(), Ended> {
        loop {
            // Made before the look, so that a change after it is not missed.
            let changed = self.shared.compaction_changed.notified();
            let freed = {
                let mut state = self.shared.lock();
                let found = state.tables.get(&self.table).filter(|t| t.has(&self.choice.inputs));
                let Some(found) = found else { return Err(Ended::GivenUp) };
                let runs = found.auto_compaction || self.is_major;
                if !runs && !state.majors.is_empty() {
                    return Err(Ended::GivenUp);
                }
                let was_paused = state.pause_compaction(self.id, !runs);
                if runs {
                    return Ok(());
                }
                !was_paused
            };
            if freed {
                // Another table may use the compactor meanwhile.
                self.shared.compaction_wanted.notify_one();
            }
            changed.await;
        }
    }

    /// Lists the outputs instead of the inputs, or these elsewhere, and removes what is no longer needed.
    async fn commit(&self, place: Place, outputs: Vec<SsTable>) -> Result<(), Ended> {
        let Compaction { shared, table, choice, .. } = self;
        let changed = {
            let (place, choice) = (place.clone(), choice.clone());
            let made: Vec<u64> = outputs.iter().map(|output| output.generation).collect();
            // On the flush lane: the only one that stores manifests.
            on_lane(shared, Lane::Flush, 4096, move || replace(&place, &choice, &made)).await??
        };
        if !changed {
            return Err(Ended::GivenUp);
        }
        let outputs: Vec<Arc<SsTable>> = outputs.into_iter().map(Arc::new).collect();
        let sstables = shared.lock().compacted(*table, choice, &outputs);
        let sstables = sstables.ok_or(Ended::GivenUp)?;
        let inputs = choice.inputs.len();
        shared.probe.event(&Event::Compacted { table: *table, inputs, sstables });
        self.remember(&outputs);
        if choice.action != Action::Move {
            let inputs = choice.inputs.clone();
            // Readers that still look into them keep them open.
            let removal = move || remove(&place, &inputs);
            drop(shared.background.submit(Lane::Flush, 0, Box::new(removal)));
        }
        Ok(())
    }
}

fn remove(place: &Place, generations: &[u64]) {
    generations.iter().for_each(|g| abandon(place.disk.as_ref(), &place.dir, *g));
}

/// Makes the manifest say what the choice did. `false`: the inputs are no longer the table's, since it was dropped.
fn replace(place: &Place, choice: &Choice, outputs: &[u64]) -> Result<bool, StorageError> {
    let mut manifest = place.manifest.lock().expect("no job panics while it holds a manifest");
    if manifest.dropped || !choice.inputs.iter().all(|g| manifest.generations.contains(g)) {
        remove(place, outputs);
        return Ok(false);
    }
    let mut next = manifest.clone();
    change_list(&mut next, choice, outputs);
    match next.store(place.disk.as_ref(), &place.dir) {
        Ok(()) => {
            *manifest = next;
            Ok(true)
        }
        Err(StoreError::Before(error)) => {
            remove(place, outputs);
            Err(error)
        }
        Err(StoreError::Amid(error)) => Err(error),
    }
}

fn change_list(manifest: &mut Manifest, choice: &Choice, outputs: &[u64]) {
    let settled = match choice.action {
        Action::Move => &choice.inputs,
        Action::Merge | Action::Drop => {
            manifest.generations.retain(|generation| !choice.inputs.contains(generation));
            manifest.generations.extend(outputs);
            manifest.generations.sort_unstable();
            outputs
        }
    };
    let level = level_byte(choice.level);
    manifest.levels.extend(settled.iter().map(|generation| (*generation, level)));
}

/// There are nine levels.
fn level_byte(level: u32) -> u8 {
    u8::try_from(level).unwrap_or(u8::MAX)
}

/// Runs `job` on a lane. What panics there has failed, like any other; the lane and its other jobs go on.
pub(super) async fn on_lane<T: Send + 'static>(
    shared: &Shared,
    lane: Lane,
    bytes: u64,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    // What the job had was moved into it and is gone with it, so nobody sees it half-changed.
    let guarded = move || catch_unwind(AssertUnwindSafe(job)).ok();
    let done = background::run(shared.background.as_ref(), lane, bytes, guarded).await;
    done.map_err(|_| StorageError::Stopped)?.ok_or(StorageError::Panicked)
}

/// The throttle is one for all that walk over files: after a step each waits here until its bytes are paid for, in the
/// order in which they came, or until it is not wanted any more.
pub(super) async fn throttle(shared: &Shared, bytes: u64, is_wanted: impl Fn() -> bool) {
    let _turn = shared.throttle.lock().await;
    let bytes_per_s = shared.lock().compaction_throughput;
    if bytes_per_s == 0 {
        return;
    }
    let paid = tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64));
    tokio::pin!(paid);
    loop {
        let changed = shared.compaction_changed.notified();
        if shared.lock().compaction_throughput != bytes_per_s || !is_wanted() {
            return;
        }
        tokio::select! { biased;
            () = &mut paid => return,
            () = changed => {}
        }
    }
}

/// What else of a table may hold a partition, and how old it may be at the oldest: tombstones as new as that stay.
pub(super) type Elsewhere = fn(&Table, &[u64], &place::Place) -> TimestampMicros;

/// The right answer: memtables count as older than everything, and of the SSTables outside `inputs` every one whose
/// filter admits the token.
pub(super) fn oldest_elsewhere(
    table: &Table,
    inputs: &[u64],
    here: &place::Place,
) -> TimestampMicros {
    let frozen = &table.view.frozen;
    if table.active.contains(here) || frozen.iter().any(|f| f.memtable.contains(here)) {
        return TimestampMicros(i64::MIN);
    }
    let others = table.view.sstables.iter().filter(|s| !inputs.contains(&s.generation));
    others
        .filter(|s| s.may_contain(here.token))
        .map(|s| s.content.statistics.min_timestamp.unwrap_or(TimestampMicros(i64::MIN)))
        .min()
        .unwrap_or(TimestampMicros(i64::MAX))
}

/// Removes every file of a dropped table; the manifest stays, to say that the log's records are dead.
pub(super) fn remove_files(place: &Place, upto: super::log::Position) -> Result<(), StorageError> {
    let mut manifest = place.manifest.lock().expect("no job panics while it holds a manifest");
    if !manifest.stored {
        // Nothing but log records: without a manifest they would come back.
        super::flush::create_dir_durably(place.disk.as_ref(), &place.dir)?;
    }
    let mut next = manifest.clone();
    next.dropped = true;
    next.flushed_to = next.flushed_to.max(upto);
    let dead = std::mem::take(&mut next.generations);
    next.store(place.disk.as_ref(), &place.dir)?;
    *manifest = next;
    for generation in dead {
        abandon(place.disk.as_ref(), &place.dir, generation);
    }
    place.disk.sync_dir(&place.dir).map_err(|e| io_error(&place.dir, &e))
}
