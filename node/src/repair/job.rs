//! One repair: what is left to do, how far it is, what failed.

use super::from_ledger::Settles;
use super::units::Unit;
use helenus_core::merkle::Plan;
use helenus_core::ring::Span;
use helenus_core::{NodeId, TableId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Failures that a report has room for; more are counted.
const FAILURES_MAX: usize = 100;

/// How a repair is, or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Running,
    /// Every range was compared, and mended unless it was a preview.
    Completed,
    /// At least one range was not.
    Failed,
    Cancelled,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Running => "running",
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// What was done for one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableProgress {
    pub(crate) keyspace: String,
    pub(crate) name: String,
    /// Ranges to compare. Those that ended well and those that failed are counted in the next two.
    pub(crate) ranges: u64,
    pub(crate) compared: u64,
    pub(crate) failed: u64,
    pub(crate) differing: u64,
    pub(crate) partitions_hashed: u64,
    pub(crate) partitions_sent: u64,
    pub(crate) bytes_sent: u64,
}

/// What one replica sent another of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TransferProgress {
    pub(crate) ranges: u64,
    pub(crate) partitions: u64,
    pub(crate) bytes: u64,
}

/// A range that was not repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) table: TableId,
    pub(crate) span: Span,
    pub(crate) reason: String,
}

/// How far a repair is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) outcome: Outcome,
    pub(crate) ended_us: Option<i64>,
    pub(crate) tables: BTreeMap<TableId, TableProgress>,
    pub(crate) transfers: BTreeMap<(TableId, NodeId, NodeId), TransferProgress>,
    /// The first of them.
    pub(crate) failures: Vec<Failure>,
    pub(crate) failures_left_out: u64,
}

/// A repair under way, or the last one.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) started_us: i64,
    pub(crate) primary_range: bool,
    pub(crate) preview: bool,
    /// What it is about, for people.
    pub(crate) what: String,
    units: Mutex<VecDeque<Unit>>,
    progress: Mutex<Progress>,
    /// What leaves the loss ledger if nothing fails.
    pub(super) settles: Vec<Settles>,
    pub(super) cancelled: Notify,
    ended: Notify,
}

/// What a new job is told.
#[derive(Default)]
pub(super) struct NewJob {
    pub(super) id: u64,
    pub(super) started_us: i64,
    pub(super) primary_range: bool,
    pub(super) preview: bool,
    pub(super) what: String,
    /// Keyspace and name of every table in `units`, and of those where nothing is to be compared.
    pub(super) tables: BTreeMap<TableId, (String, String)>,
    pub(super) units: Vec<Unit>,
    pub(super) settles: Vec<Settles>,
}

impl Job {
    pub(super) fn new(new: NewJob) -> Job {
        let named = new.tables.into_iter().map(|(id, (keyspace, name))| {
            (id, TableProgress { keyspace, name, ..TableProgress::default() })
        });
        let mut tables: BTreeMap<TableId, TableProgress> = named.collect();
        for unit in &new.units {
            tables.entry(unit.table).or_default().ranges += 1;
        }
        let progress = Progress {
            outcome: Outcome::Running,
            ended_us: None,
            tables,
            transfers: BTreeMap::new(),
            failures: Vec::new(),
            failures_left_out: 0,
        };
        Job {
            id: new.id,
            started_us: new.started_us,
            primary_range: new.primary_range,
            preview: new.preview,
            what: new.what,
            units: Mutex::new(new.units.into()),
            progress: Mutex::new(progress),
            settles: new.settles,
            cancelled: Notify::new(),
            ended: Notify::new(),
        }
    }

    /// How it ended, when it has.
    pub(crate) async fn ended(&self) -> Progress {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // Listening first, looking then: an end in between is heard.
            ended.as_mut().enable();
            let progress = self.progress();
            if progress.outcome != Outcome::Running {
                return progress;
            }
            ended.await;
        }
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        self.lock().clone()
    }

    /// Whether something could not be compared or mended so far.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().tables.values().any(|table| table.failed > 0)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.lock().outcome == Outcome::Running
    }

    pub(super) fn next_unit(&self) -> Option<Unit> {
        self.units.lock().expect("nothing panics while it holds this lock").pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing panics while it holds this lock")
    }

    pub(super) fn hashed(&self, table: TableId, partitions: u64) {
        self.lock().tables.entry(table).or_default().partitions_hashed += partitions;
    }

    pub(super) fn planned(&self, table: TableId, plan: &Plan) {
        let mut progress = self.lock();
        progress.tables.entry(table).or_default().differing += plan.differing.len() as u64;
        for transfer in &plan.transfers {
            let key = (table, transfer.from, transfer.to);
            progress.transfers.entry(key).or_default().ranges += transfer.spans.len() as u64;
        }
    }

    pub(super) fn sent(&self, table: TableId, way: (NodeId, NodeId), partitions: u64, bytes: u64) {
        let mut progress = self.lock();
        let of_table = progress.tables.entry(table).or_default();
        of_table.partitions_sent += partitions;
        of_table.bytes_sent += bytes;
        let transfer = progress.transfers.entry((table, way.0, way.1)).or_default();
        transfer.partitions += partitions;
        transfer.bytes += bytes;
    }

    pub(super) fn compared(&self, unit: &Unit, failed: Option<String>) {
        let mut progress = self.lock();
        let of_table = progress.tables.entry(unit.table).or_default();
        let Some(reason) = failed else {
            of_table.compared += 1;
            return;
        };
        of_table.failed += 1;
        if progress.failures.len() < FAILURES_MAX {
            progress.failures.push(Failure { table: unit.table, span: unit.span, reason });
        } else {
            progress.failures_left_out += 1;
        }
    }

    pub(super) fn end(&self, cancelled: bool, ended_us: i64) {
        let mut progress = self.lock();
        let failed = progress.tables.values().any(|table| table.failed > 0);
        progress.ended_us = Some(ended_us);
        progress.outcome = match (cancelled, failed) {
            (true, _) => Outcome::Cancelled,
            (false, true) => Outcome::Failed,
            (false, false) => Outcome::Completed,
        };
        drop(progress);
        self.ended.notify_waiters();
    }
}
