//! Anti-entropy repair: replicas compare what they hold, range by range, and send each other what they lack.
//!
//! ```text
//! helenusctl repair -> start -> units (a table's part of the ring, its replicas)
//!                                 |  so many at a time (concurrent_repair_sessions)
//!          session: hash a step on each replica, again and again -> trees -> plan -> have A send B a page, again ...
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `units` | what there is to compare (pure) |
//! | `from_ledger` | the same by the loss ledger of hints, which forgets what was mended |
//! | `handover` | the same between a node that leaves the ring and those who get its ranges |
//! | `session` | one range: hash, compare, stream |
//! | `participant` | a replica's side: hash a step, send a page |
//! | `job` | how far a repair is, what failed |
//! | `history` | which repairs there were, as a system table |
//!
//! What a tree is and what follows from two of them is `helenus_core::merkle`.
//!
//! The node that is asked coordinates; the others do one bounded step a request and keep nothing. So a coordinator that
//! dies leaves nothing behind, and a replica that dies fails the ranges it is a replica of, with a reason, while the others
//! go on. **Safe under concurrent writes**: what is streamed is merged like any write, so it can neither undo a newer one
//! nor, sent twice, do anything twice. A write that reaches one replica while it is being compared may look like a
//! difference, and costs the streaming of a leaf.
//!
//! Bounds: one repair at a time a node (another is refused); `concurrent_repair_sessions` ranges at a time;
//! `repair_session_space` bytes of trees for each; what a participant does at once is bounded there.
//!
//! CAVEAT: every repair is a full one; nothing is remembered of what was repaired. And it must run on all replicas within
//! `gc_grace_seconds`: a tombstone older than that is nothing to repair, so a replica that missed the deletion and still
//! has the value gives it back to those that have forgotten both.
//!
//! Source: Dynamo §4.7; Cassandra's `RepairSession`, `ValidationTask`, `SyncTask`.

pub(crate) mod history;
mod from_ledger;
mod handover;
mod job;
mod metrics;
mod participant;
mod session;
mod units;
mod wire;

pub(crate) use job::{Job, Outcome};
pub(crate) use metrics::RepairMetrics;
pub(crate) use participant::{Participant, StepError};
use units::Piece;

use crate::coordinator::Coordinator;
use crate::membership::Membership;
use crate::peers::{Body, PeerError, Peers};
use crate::schema::SchemaStore;
use crate::schema::builtin::{AUTH, builtin};
use crate::seams::clock::Clock;
use crate::storage::{Engine, StorageError};
use crate::tasks::Tasks;
use from_ledger::Settles;
use futures_util::future::join_all;
use helenus_core::ring::TokenRange;
use helenus_core::tally::FailureReason;
use helenus_core::{GcSeconds, NodeId, TableDef, TableId};
use job::NewJob;
use session::Named;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Ranges of tables that one repair may have.
const UNITS_MAX: usize = 1_000_000;
/// How often a step is asked for when the link fails (it may have been closed, or not been there yet) or the other side has
/// too much to do. A step may be done twice.
const ATTEMPTS: u32 = 3;
/// The wait before the next attempt.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

/// Why a repair was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    #[error(
        "repair {running} is under way on this node, and one runs at a time: wait for it, or cancel it (`helenusctl repair \
         --cancel`)"
    )]
    Busy { running: u64 },
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    #[error("there are {units} ranges to compare, {UNITS_MAX} are the most: name fewer tables")]
    TooMany { units: usize },
}

/// Which of this node's ranges to repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Empty: every keyspace.
    pub(crate) keyspace: String,
    /// Empty: every table.
    pub(crate) tables: Vec<String>,
    pub(crate) primary_range: bool,
    pub(crate) preview: bool,
    /// Only this part of the ring, whether this node is a replica of it or not.
    pub(crate) range: Option<TokenRange>,
    /// Only what this node's loss ledger names.
    pub(crate) from_ledger: bool,
}

/// Coordinates repairs.
pub(crate) struct Repairs {
    id: NodeId,
    clock: Arc<dyn Clock>,
    engine: Arc<dyn Engine>,
    peers: Arc<Peers>,
    membership: Arc<Membership>,
    schema: Arc<SchemaStore>,
    tasks: Arc<Tasks>,
    /// For placements.
    coordinator: Arc<Coordinator>,
    pub(crate) participant: Arc<Participant>,
    metrics: RepairMetrics,
    sessions: usize,
    session_space: u64,
    last: Mutex<Last>,
}

/// The repair that runs, or ran last.
struct Last {
    job: Option<Arc<Job>>,
    /// The number of the last repair, also of earlier lives of the node.
    id: u64,
}

impl Repairs {
    pub(crate) fn new(
        coordinator: &Arc<Coordinator>,
        engine: Arc<dyn Engine>,
        schema: Arc<SchemaStore>,
        participant: Participant,
    ) -> Repairs {
        let now = coordinator.now_seconds();
        let past = history::read(&*engine, now, None).unwrap_or_else(|error| {
            tracing::warn!(%error, "the repair history cannot be read; numbers begin anew");
            Vec::new()
        });
        let config = &coordinator.config.repair;
        Repairs {
            id: coordinator.id,
            clock: Arc::clone(&coordinator.clock),
            engine,
            peers: Arc::clone(&coordinator.peers),
            membership: Arc::clone(&coordinator.membership),
            schema,
            tasks: Arc::clone(&coordinator.tasks),
            coordinator: Arc::clone(coordinator),
            metrics: participant.metrics.clone(),
            participant: Arc::new(participant),
            sessions: usize::from(config.concurrent_repair_sessions.max(1)),
            session_space: config.repair_session_space,
            last: Mutex::new(Last { job: None, id: past.first().map_or(0, |record| record.id) }),
        }
    }

    /// Starts a repair of what this node is a replica of. It goes on by itself.
    pub(crate) fn start(self: &Arc<Self>, wanted: &Wanted) -> Result<Arc<Job>, RepairError> {
        let tables = self.tables(wanted)?;
        if wanted.from_ledger {
            return self.start_from_ledger(wanted, &tables);
        }
        if let Some(range) = wanted.range {
            if wanted.primary_range {
                let why = "a token range and the primary ranges exclude each other";
                return Err(RepairError::Invalid(why.to_owned()));
            }
            let piece = |def: &TableDef| Piece { table: def.id, range, targets: Vec::new() };
            let pieces: Vec<Piece> = tables.iter().map(piece).collect();
            return self.start_pieces(&pieces, what(wanted), wanted.preview, Vec::new());
        }
        let mut units = Vec::new();
        for def in &tables {
            let Some(placement) = self.placement(def) else { continue };
            units.extend(units::own(def.id, &placement, self.id, wanted.primary_range));
        }
        let Wanted { primary_range, preview, .. } = *wanted;
        let what = what(wanted);
        self.begin(NewJob { primary_range, preview, what, units, ..self.new_job(&tables) })
    }

    /// Starts a repair of token ranges that somebody names, whether this node is a replica of them or not. Ranges that
    /// several pieces name are compared once for each. `settles` leaves the loss ledger if nothing fails.
    fn start_pieces(
        self: &Arc<Self>,
        pieces: &[Piece],
        what: String,
        preview: bool,
        settles: Vec<Settles>,
    ) -> Result<Arc<Job>, RepairError> {
        let view = self.schema.current();
        let mut units = Vec::new();
        let mut tables: BTreeMap<TableId, TableDef> = BTreeMap::new();
        for piece in pieces {
            // A table that was dropped since has lost nothing.
            let Some(def) = view.table(piece.table) else { continue };
            let Some(placement) = self.placement(def) else { continue };
            tables.entry(def.id).or_insert_with(|| def.clone());
            units.extend(units::of_piece(piece, &placement, self.id));
        }
        let tables: Vec<TableDef> = tables.into_values().collect();
        let new = NewJob { preview, what, settles, units, ..self.new_job(&tables) };
        self.begin(new)
    }

    /// One about these tables, and nothing yet.
    fn new_job(&self, tables: &[TableDef]) -> NewJob {
        let named = tables.iter().map(|def| (def.id, (def.keyspace.clone(), def.name.clone())));
        let started_us = self.clock.wall_micros();
        NewJob { started_us, tables: named.collect(), ..NewJob::default() }
    }

    fn begin(self: &Arc<Self>, new: NewJob) -> Result<Arc<Job>, RepairError> {
        if new.units.len() > UNITS_MAX {
            return Err(RepairError::TooMany { units: new.units.len() });
        }
        let job = {
            let mut last = self.last();
            if let Some(job) = last.job.as_ref().filter(|job| job.is_running()) {
                return Err(RepairError::Busy { running: job.id });
            }
            last.id += 1;
            let job = Arc::new(Job::new(NewJob { id: last.id, ..new }));
            last.job = Some(Arc::clone(&job));
            job
        };
        self.record(&job);
        let Job { id, what, primary_range, preview, .. } = &*job;
        tracing::info!(repair = id, %what, primary_range, preview, "repair started");
        self.metrics.set_running(true);
        self.tasks.spawn(Arc::clone(self).run(Arc::clone(&job)));
        Ok(job)
    }

    async fn run(self: Arc<Self>, job: Arc<Job>) {
        let work = async {
            self.let_writes_end(&job).await;
            join_all((0..self.sessions).map(|_| self.work(&job))).await;
            self.settle(&job).await;
        };
        let cancelled = tokio::select! {
            biased;
            // Between two polls of the sessions, wherever they stand: what they sent stays sent.
            () = job.cancelled.notified() => true,
            () = work => false,
        };
        job.end(cancelled, self.clock.wall_micros());
        self.metrics.set_running(false);
        self.record(&job);
        let outcome = job.progress().outcome.as_str();
        tracing::info!(repair = job.id, outcome, "repair ended");
    }

    /// One session after the other, until none is left.
    async fn work(&self, job: &Job) {
        while let Some(unit) = job.next_unit() {
            let ended = session::run(self, job, &unit).await;
            self.metrics.session(ended.is_ok());
            let reason = ended.err().map(|error| error.to_string());
            if let Some(reason) = &reason {
                let until = unit.span.until;
                tracing::warn!(repair = job.id, table = %unit.table, %until, reason, "a range was not repaired");
            }
            job.compared(&unit, reason);
        }
    }

    /// The repair with this number; `None`: the one that runs or ran last. Only that one is known in full.
    pub(crate) fn job(&self, id: Option<u64>) -> Option<Arc<Job>> {
        self.last().job.clone().filter(|job| id.is_none_or(|id| id == job.id))
    }

    /// Ends the repair that runs; `None`: there is none.
    pub(crate) fn cancel(&self) -> Option<Arc<Job>> {
        let job = self.last().job.clone().filter(|job| job.is_running())?;
        job.cancelled.notify_one();
        Some(job)
    }

    /// The repairs that this node remembers, the newest first.
    pub(crate) fn history(&self) -> Result<Vec<history::Record>, StorageError> {
        let running = self.job(None).filter(|job| job.is_running()).map(|job| job.id);
        history::read(&*self.engine, self.now_seconds(), running)
    }

    /// That it cannot be recorded is no reason not to repair.
    fn record(&self, job: &Job) {
        let write = history::Record::of(job).to_write();
        if let Err(error) = self.engine.apply(write).and_then(|_| self.engine.commit()) {
            tracing::warn!(%error, "a repair is missing from the history");
        }
    }

    fn tables(&self, wanted: &Wanted) -> Result<Vec<TableDef>, RepairError> {
        let view = self.schema.current();
        let keyspace = wanted.keyspace.as_str();
        if keyspace.is_empty() {
            return match wanted.tables.first() {
                None => Ok(view.schema.live_tables().cloned().collect()),
                Some(table) => Err(RepairError::Invalid(format!(
                    "table `{table}` was named without its keyspace"
                ))),
            };
        }
        // What is known without a schema is repaired when it is named.
        let builtin = || builtin().tables.iter().filter(|def| def.keyspace == keyspace);
        if keyspace == AUTH
            && wanted.tables.iter().all(|name| builtin().any(|def| def.name == *name))
        {
            return Ok(builtin().cloned().collect());
        }
        if view.schema.keyspace(keyspace).is_none() {
            let what = format!("keyspace `{keyspace}` does not exist");
            return Err(RepairError::NotFound(what));
        }
        if wanted.tables.is_empty() {
            let tables = view.schema.live_tables().filter(|def| def.keyspace == keyspace);
            return Ok(tables.cloned().collect());
        }
        let mut found: BTreeMap<TableId, TableDef> = BTreeMap::new();
        for name in &wanted.tables {
            let def = view.schema.table(keyspace, name).ok_or_else(|| {
                RepairError::NotFound(format!("table `{keyspace}.{name}` does not exist"))
            })?;
            found.insert(def.id, def.clone());
        }
        Ok(found.into_values().collect())
    }

    fn placement(&self, def: &TableDef) -> Option<helenus_core::placement::Placement> {
        let replication = self.replication(def, &self.membership.ring())?;
        Some(self.coordinator.routes.placement(&replication))
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().expect("nothing panics while it holds this lock")
    }

    fn is_alive(&self, node: NodeId) -> bool {
        node == self.id || self.membership.is_alive(node)
    }

    fn named(&self, node: NodeId) -> Named {
        Named(self.membership.describe(node))
    }

    fn now_seconds(&self) -> GcSeconds {
        self.coordinator.now_seconds()
    }
}

/// What a repair is about, for people.
fn what(wanted: &Wanted) -> String {
    let tables = match (wanted.keyspace.as_str(), wanted.tables.as_slice()) {
        ("", _) => "all keyspaces".to_owned(),
        (keyspace, []) => keyspace.to_owned(),
        (keyspace, [table]) => format!("{keyspace}.{table}"),
        (keyspace, tables) => format!("{keyspace}.{{{}}}", tables.join(",")),
    };
    match wanted.range {
        Some(TokenRange { after, until }) => format!("{tables} in ({after}, {until}]"),
        None => tables,
    }
}

/// Asks a peer for a step, again when that may help. The error is for people.
async fn ask(
    peers: &Arc<Peers>,
    node: NodeId,
    body: Body,
    timeout: Duration,
) -> Result<Body, String> {
    let mut attempt = 1;
    loop {
        let (why, passes) = match peers.call(&[node], body.clone(), timeout).next().await {
            Some((_, Ok(Body::Failed(error)))) => {
                let passes = error.reason == FailureReason::Overloaded.name();
                (error.message, passes)
            }
            Some((_, Ok(answer))) => return Ok(answer),
            Some((_, Err(why))) => {
                use PeerError::{Disconnected, NotConnected, QueueFull};
                (why.to_string(), matches!(why, NotConnected | Disconnected | QueueFull))
            }
            None => ("it was not asked".to_owned(), false),
        };
        if !passes || attempt >= ATTEMPTS {
            return Err(why);
        }
        attempt += 1;
        tokio::time::sleep(ATTEMPT_PAUSE).await;
    }
}
