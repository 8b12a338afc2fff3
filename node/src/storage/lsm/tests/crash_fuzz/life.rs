//! One engine's life on one disk: boots that end in power failures, kills and clean stops, and a look at everything
//! after each.
//!
//! All chance comes from one seed: sizes and options, what is written, which job runs when, what fails, where the power
//! goes and what it leaves. So a life is replayed by its seed alone.

// What happens in a life, act by act.
#[path = "acts.rs"]
mod acts;

use super::loud::Loud;
use super::model::{Now, Owed, TableModel};
use super::node::config::StorageConfig;
use super::node::seams::disk::{Disk, Faults, SimDisk, Survives};
use super::node::seams::probe::Silent;
use super::node::storage::lsm::LsmParts;
use super::node::storage::{Engine, LsmEngine, RangeStart, StorageError, Upkeep};
use super::node::tasks::Tasks;
use super::steps::{HandClock, Steps};
use super::writes;
use futures_util::FutureExt as _;
use helenus_core::{GcSeconds, Partition, TableDef, TableId, Token};
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

const START_S: i64 = 1_700_000_000;
const DIR: &str = "data/storage";
/// So long a future may take, in simulated time, before it counts as hung.
const HUNG_AFTER: Duration = Duration::from_secs(300);

/// How large a life is.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    pub(super) boots: u32,
    pub(super) steps_max: u32,
    pub(super) keys: usize,
    pub(super) value_bytes_max: usize,
    /// Of a memtable, the log and its segments: from, to.
    pub(super) heap: (u64, u64),
    pub(super) log: (u64, u64),
    pub(super) segment: (u64, u64),
}

/// What runs: the engine, or one with a bug in it.
pub(super) struct Subject<'a> {
    pub(super) open: &'a dyn Fn(LsmParts) -> Result<LsmEngine, StorageError>,
    /// The disk as the engine sees it.
    pub(super) disk: &'a dyn Fn(&SimDisk) -> Arc<dyn Disk>,
    /// Always on: for plants.
    pub(super) faults: Faults,
    /// Everything that happens is printed.
    pub(super) loud: bool,
}

impl Subject<'_> {
    /// The engine as it is.
    pub(super) fn honest() -> Subject<'static> {
        Subject {
            open: &LsmEngine::open,
            disk: &|disk| Arc::new(disk.clone()),
            faults: Faults::default(),
            loud: false,
        }
    }

    fn disk_of(&self, disk: &SimDisk) -> Arc<dyn Disk> {
        if self.loud { Arc::new(Loud(disk.clone())) } else { (self.disk)(disk) }
    }
}

/// Everything about an engine but what it holds.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) config: StorageConfig,
    pub(super) tables: Vec<TableDef>,
    pub(super) keys: usize,
    pub(super) value_bytes_max: usize,
}

/// What may be done to an engine.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// So many writes at once to a table; wait for their acknowledgement?
    Write {
        table: usize,
        count: usize,
        wait: bool,
    },
    Flush {
        wait: bool,
    },
    Compact {
        wait: bool,
    },
    /// So many background jobs.
    Jobs(u32),
    /// All background work there is, and the log's sync.
    Settle,
    /// A tombstone in an SSTable, what it covers in the memtable, late as a hint, and a compaction past gc_grace.
    Haunt(usize),
    /// The wall clock goes on.
    Pass(i64),
    Drop(usize),
    Create(usize),
    Look,
    /// A clean stop, or a kill; then the next boot.
    Restart {
        clean: bool,
    },
}

struct Boot {
    engine: LsmEngine,
    steps: Arc<Steps>,
    tasks: Arc<Tasks>,
}

/// A disk, what should be on it, and perhaps an engine that runs on it.
pub(super) struct World<'a> {
    subject: &'a Subject<'a>,
    plan: Plan,
    rng: SmallRng,
    disk: SimDisk,
    clock: Arc<HandClock>,
    tables: Vec<TableModel>,
    boot: Option<Boot>,
    next_timestamp: i64,
    /// The disk has had, or may have, faults in this boot.
    failing: bool,
    /// A fault was counted out: it may come at any time.
    struck: bool,
    /// Power failures that are accounted for.
    crashes: u64,
    /// Recoveries, those that the power cut short included.
    pub(super) rounds: u64,
}

/// What is wrong, in words.
pub(super) type Wrong = String;

fn is_simulated(error: &StorageError) -> bool {
    error.to_string().contains("simulated")
}

impl<'a> World<'a> {
    pub(super) fn new(
        subject: &'a Subject<'a>,
        plan: Plan,
        rng: SmallRng,
        disk_seed: u64,
    ) -> World<'a> {
        World {
            subject,
            rng,
            disk: SimDisk::new(disk_seed, subject.faults.clone()),
            clock: Arc::new(HandClock::new(START_S)),
            tables: plan.tables.iter().map(|_| TableModel::new(plan.keys)).collect(),
            plan,
            boot: None,
            next_timestamp: 1,
            failing: false,
            struck: false,
            crashes: 0,
            rounds: 0,
        }
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// From now on these faults are in force, besides the subject's own.
    pub(super) fn set_faults(&mut self, faults: Faults) {
        // Shredded pages are no failure that an engine sees.
        let shredded_page = self.subject.faults.shredded_page;
        self.failing |= Faults { shredded_page, ..faults.clone() } != self.subject.faults;
        self.disk.set_faults(|f| *f = faults);
    }

    /// One fault was counted out on the disk.
    pub(super) fn expect_a_strike(&mut self) {
        self.struck = true;
        self.failing = true;
    }

    fn calm(&mut self) {
        let faults = self.subject.faults.clone();
        self.disk.set_faults(|f| *f = faults);
    }

    pub(super) fn is_up(&self) -> bool {
        self.boot.is_some() && self.disk.is_powered()
    }

    fn now(&self, table: usize) -> Now {
        let options = self.plan.tables.get(table).map(|def| def.options.clone());
        Now {
            second: GcSeconds(self.clock.seconds()),
            gc_grace_s: options.unwrap_or_default().gc_grace_seconds,
        }
    }

    fn id(&self, table: usize) -> TableId {
        self.plan.tables.get(table).map_or(TableId(0), |def| def.id)
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.subject.loud {
            println!("--- {}", what());
        }
    }

    /// The process ends where it stands.
    fn end(&mut self, power_failed: bool) {
        self.say(|| format!("the end; power failed: {power_failed}"));
        if let Some(boot) = self.boot.take() {
            boot.tasks.abort_all();
            boot.steps.clear();
        }
        self.tables.iter_mut().for_each(|table| table.restarted(power_failed));
    }

    /// The power fails, if it has not already since the last time.
    pub(super) fn crash(&mut self, survives: Survives) {
        if self.disk.figures().crashes == self.crashes {
            self.disk.crash_with(survives);
        }
        self.crashes = self.disk.figures().crashes;
        self.end(true);
        self.disk = self.disk.reopen();
        self.calm();
    }

    /// The process dies, if it has not already. The system goes on, unless the power had failed before.
    pub(super) fn kill(&mut self) {
        let crashes = self.disk.figures().crashes;
        let power_failed = crashes > self.crashes;
        self.crashes = crashes;
        self.end(power_failed);
        self.disk.call_off();
        self.disk = self.disk.reopen();
        self.calm();
    }

    /// Boots, and looks at everything. `false`: the power failed, or a simulated error was in the way.
    pub(super) fn start(&mut self) -> Result<bool, Wrong> {
        self.rounds += 1;
        let steps = Arc::new(Steps::default());
        let tasks = Arc::new(Tasks::new());
        let defined = self.plan.tables.iter().zip(&self.tables).filter(|(_, model)| model.open);
        let parts = LsmParts {
            dir: PathBuf::from(DIR),
            config: self.plan.config.clone(),
            disk: self.subject.disk_of(&self.disk),
            background: Arc::clone(&steps) as Arc<_>,
            clock: Arc::clone(&self.clock) as Arc<_>,
            probe: Arc::new(Silent),
            tasks: Arc::clone(&tasks),
            tables: defined.map(|(def, _)| def.clone()).collect(),
        };
        match (self.subject.open)(parts) {
            Ok(engine) => self.boot = Some(Boot { engine, steps, tasks }),
            Err(_) if !self.disk.is_powered() => return Ok(false),
            Err(error) if self.failing && is_simulated(&error) => return Ok(false),
            Err(error) => return Err(format!("the start was refused: {error}")),
        }
        if !self.failing {
            // What cannot be removed now is removed at the next start.
            self.check_files()?;
        }
        self.calm();
        self.failing = self.struck;
        for table in 0..self.tables.len() {
            if self.tables.get(table).is_some_and(|model| model.open) {
                self.settle_table(table)?;
            }
        }
        Ok(true)
    }

    /// Nothing lies about that no manifest lists.
    fn check_files(&self) -> Result<(), Wrong> {
        let Some(boot) = &self.boot else { return Ok(()) };
        for (id, figures) in boot.engine.table_figures() {
            let dir = Path::new(DIR).join("tables").join(id.to_string());
            let names = self.disk.list(&dir).unwrap_or_default();
            let files = names.iter().filter(|name| name.ends_with(".sst")).count() as u64;
            if files != figures.sstables {
                return Err(format!("{} SSTables, but {names:?}", figures.sstables));
            }
        }
        Ok(())
    }

    /// Everything a table shows, by scan and by point reads, which agree.
    fn look(&mut self, table: usize) -> Result<Vec<Partition>, Wrong> {
        let (id, page) = (self.id(table), self.rng.random_range(1..2 * self.plan.keys + 2));
        let Some(boot) = &self.boot else { return Ok(Vec::new()) };
        let mut scanned = BTreeMap::new();
        let mut start = RangeStart::First;
        loop {
            let again = || boot.engine.range(id, &start, Token::MAX, page);
            let found = again().or_else(|error| self.once_more(error, again));
            let found = found.map_err(|error| format!("a scan failed: {error}"))?;
            if let Some((token, key, _)) = found.partitions.last() {
                start = RangeStart::AfterKey(*token, key.clone());
            }
            scanned.extend(found.partitions.into_iter().map(|(_, key, p)| (key, p)));
            if !found.more {
                break;
            }
        }
        let mut all = Vec::with_capacity(self.plan.keys);
        for number in 0..self.plan.keys {
            let (token, key) = writes::key(number);
            let again = || boot.engine.read(id, token, &key);
            let read = again().or_else(|error| self.once_more(error, again));
            let read = read.map_err(|error| format!("a read failed: {error}"))?;
            let by_scan = scanned.remove(&key);
            if read != by_scan {
                return Err(format!("key {number}: read {read:?}, scanned {by_scan:?}"));
            }
            all.push(read.unwrap_or_default());
        }
        match scanned.pop_first() {
            None => Ok(all),
            Some((key, _)) => Err(format!("a scan found {key:?}, which nobody wrote")),
        }
    }

    /// A fault that was counted out may strike a look; it strikes once.
    fn once_more<T>(
        &self,
        error: StorageError,
        again: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if self.struck && is_simulated(&error) { again() } else { Err(error) }
    }

    fn settle_table(&mut self, table: usize) -> Result<(), Wrong> {
        let found = self.look(table)?;
        let now = self.now(table);
        match self.tables.get_mut(table).and_then(|model| model.settle(&found, now)) {
            None => Ok(()),
            Some(what) => Err(format!("table {table}, after a start: {what}")),
        }
    }

    /// Runs the engine until `future` is ready. `None`: the power failed before.
    async fn drive<T>(&mut self, future: impl Future<Output = T>) -> Result<Option<T>, Wrong> {
        let mut future = pin!(future);
        let (mut pause, mut waited) = (Duration::from_millis(1), Duration::ZERO);
        let mut idle = 0;
        loop {
            if let Some(done) = future.as_mut().now_or_never() {
                return Ok(Some(done));
            }
            let Some(boot) = self.boot.as_ref().filter(|_| self.disk.is_powered()) else {
                return Ok(None);
            };
            if boot.steps.run_one(&mut self.rng) {
                idle = 0;
            } else {
                idle += 1;
            }
            tokio::task::yield_now().await;
            if idle > 1 {
                if waited > HUNG_AFTER {
                    return Err("nothing happens any more".to_owned());
                }
                tokio::time::sleep(pause).await;
                waited += pause;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }

    /// Stops the engine in order. What it has taken is durable then, unless the disk failed.
    pub(super) async fn stop(&mut self) -> Result<(), Wrong> {
        let Some(boot) = &self.boot else { return Ok(()) };
        let stopping = boot.engine.shutdown();
        match self.drive(stopping).await? {
            Some(Ok(())) => {
                self.all_durable(Owed::Live);
                Ok(())
            }
            Some(Err(error)) if !self.failing && self.disk.is_powered() => {
                Err(format!("a stop failed: {error}"))
            }
            _ => Ok(()),
        }
    }

    /// A clean stop or a kill, without a power failure; then another boot.
    pub(super) async fn restart(&mut self, clean: bool) -> Result<(), Wrong> {
        if clean {
            self.stop().await?;
        }
        if !self.disk.is_powered() {
            return Ok(());
        }
        self.end(false);
        if !self.start()? && self.disk.is_powered() {
            // A simulated error was in the way. The next attempt meets none.
            self.calm();
            self.start()?;
        }
        Ok(())
    }

    /// Segments of the log, as the engine counts them and as they lie on the disk. After [`Act::Settle`] they agree.
    pub(super) fn log_segments(&self) -> (u64, u64) {
        let counted = self.boot.as_ref().map_or(0, |boot| boot.engine.figures().log_segments);
        let names = self.disk.list(&Path::new(DIR).join("commitlog")).unwrap_or_default();
        (counted, names.len() as u64)
    }

    /// Opens a copy of the disk in which `path` was damaged. The start is refused and says why, or each read is right or
    /// fails and names the file. Gives how many reads failed; `None`: it was refused.
    pub(super) fn open_damaged(&self, disk: &SimDisk, path: &Path) -> Result<Option<usize>, Wrong> {
        let tasks = Arc::new(Tasks::new());
        let defined = self.plan.tables.iter().zip(&self.tables).filter(|(_, model)| model.open);
        let parts = LsmParts {
            dir: PathBuf::from(DIR),
            config: self.plan.config.clone(),
            disk: Arc::new(disk.clone()),
            background: Arc::new(Steps::default()),
            clock: Arc::clone(&self.clock) as Arc<_>,
            probe: Arc::new(Silent),
            tasks,
            tables: defined.map(|(def, _)| def.clone()).collect(),
        };
        let names_it = |error: &StorageError| match error {
            StorageError::Corrupt { path: named, what, remedy, .. } => {
                *named == path.display().to_string() && !what.is_empty() && !remedy.is_empty()
            }
            _ => false,
        };
        let engine = match (self.subject.open)(parts) {
            Ok(engine) => engine,
            Err(error) if names_it(&error) => return Ok(None),
            Err(error) => return Err(format!("damage in {}: {error}", path.display())),
        };
        let mut failed = 0;
        for (table, model) in self.tables.iter().enumerate().filter(|(_, m)| m.open && m.known) {
            for key in 0..self.plan.keys {
                let (token, name) = writes::key(key);
                match engine.read(self.id(table), token, &name) {
                    Ok(found) => {
                        let found = found.unwrap_or_default();
                        if let Some(what) = model.fault_of(key, &found, self.now(table)) {
                            return Err(format!("damage in {}: {what}", path.display()));
                        }
                    }
                    Err(error) if names_it(&error) => failed += 1,
                    Err(error) => return Err(format!("damage in {}: {error}", path.display())),
                }
            }
        }
        Ok(Some(failed))
    }
}

/// The names of the SSTables, manifests and log segments on a disk.
pub(super) fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from(DIR)];
    while let Some(path) = todo.pop() {
        match disk.list(&path) {
            Ok(names) => todo.extend(names.iter().map(|name| path.join(name))),
            Err(_) => found.push(path),
        }
    }
    found.sort();
    found
}
