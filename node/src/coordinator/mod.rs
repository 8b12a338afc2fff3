//! What a node does as a coordinator: plan, send, tally, hint, answer.
//!
//! Read `write` first: it is the story the rest serves; `sent` is what it holds while answers come. `read` and `range` are
//! its counterparts; `batch`, `cas` and `counter` are what comes before an ordinary write; `door` says whether this node
//! takes requests at all; `trace` tells the story to whoever asked for it. Plans and tallies are values of
//! `helenus_core`; links are `crate::peers`; what this node holds itself is `crate::replica`. What this node promises and
//! keeps for conditional writes and logged batches is `crate::paxos` and `crate::batchlog`.
//!
//! **Absent on purpose:** this room never decides what an answer *means* (core does), and never touches a file.

mod batch;
mod cas;
mod counter;
mod door;
pub mod error;
mod figures;
mod range;
mod read;
mod route;
mod sent;
mod trace;
mod write;

pub(crate) use batch::{BatchChance, keep_reason};
pub use batch::{BatchError, BatchOutcome, BatchRequest, BatchStep};
pub use cas::{CasOutcome, CasRequest, Judge};
pub(crate) use door::{Door, LEFT};
pub(crate) use error::Unlogged;
pub use error::{CasError, ReplicaFailure, RequestError};
pub use figures::RequestMetrics;
pub(crate) use range::page_bytes;
pub use range::{ScanOutcome, ScanRequest};
pub use read::{ReadOutcome, ReadRequest};
pub use route::{Routes, Shape, TableRoute};
pub(crate) use trace::{Event as TraceEvent, Stories, Story, room};
pub use trace::{Trace, TraceMetrics};
pub(crate) use write::storage_reason;
pub use write::{Change, WriteOutcome, WriteRequest};

use crate::batchlog::Batchlog;
use crate::config::Config;
use crate::hints::HintStore;
use crate::membership::Membership;
use crate::paxos::Acceptors;
use crate::peers::Peers;
use crate::replica::Replica;
use crate::seams::clock::{Clock, gc_seconds};
use crate::seams::probe::{Event, Probe};
use crate::tasks::Tasks;
use helenus_core::counter::Shard;
use helenus_core::{Dc, GcSeconds, Generation, NodeId, Rack, TimestampMicros};
use rand::rngs::SmallRng;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Decides on behalf of clients.
pub struct Coordinator {
    /// What this node was told.
    pub(crate) config: Config,
    /// This node.
    pub(crate) id: NodeId,
    /// Where this life of the node counts what it leads.
    shard: Shard,
    pub(crate) dc: Dc,
    pub(crate) rack: Rack,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) acceptors: Arc<Acceptors>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) hints: Arc<HintStore>,
    pub(crate) batchlog: Arc<Batchlog>,
    pub(crate) batch_chance: BatchChance,
    pub(crate) routes: Routes,
    pub(crate) door: Door,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) metrics: RequestMetrics,
    /// Held from reading a counter's shard until its new total is merged in. On one thread nobody ever waits for it.
    counting: Mutex<()>,
    /// For ballots, and for how long two that collided hold back.
    chance: Mutex<SmallRng>,
    pub(crate) trace_metrics: TraceMetrics,
    stories: Stories,
    /// Client requests being worked on.
    in_flight: AtomicUsize,
    /// Writes whose clients have their answer while a replica does not have the write yet.
    settling: AtomicUsize,
    /// The last timestamp given to a write; the next is larger, whatever the wall clock does.
    last_timestamp: AtomicI64,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a coordinator is made of.
pub(crate) struct CoordinatorParts {
    pub(crate) config: Config,
    pub(crate) id: NodeId,
    pub(crate) generation: Generation,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) acceptors: Arc<Acceptors>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) hints: Arc<HintStore>,
    pub(crate) batchlog: Arc<Batchlog>,
    pub(crate) batch_chance: BatchChance,
    pub(crate) routes: Routes,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) metrics: RequestMetrics,
    pub(crate) chance: SmallRng,
    pub(crate) trace_metrics: TraceMetrics,
}

impl Coordinator {
    pub(crate) fn new(parts: CoordinatorParts) -> Coordinator {
        Coordinator {
            dc: Dc::from(parts.config.dc.as_str()),
            rack: Rack::from(parts.config.rack.as_str()),
            config: parts.config,
            id: parts.id,
            shard: Shard { node: parts.id, generation: parts.generation },
            clock: parts.clock,
            probe: parts.probe,
            replica: parts.replica,
            acceptors: parts.acceptors,
            peers: parts.peers,
            membership: parts.membership,
            hints: parts.hints,
            batchlog: parts.batchlog,
            batch_chance: parts.batch_chance,
            routes: parts.routes,
            door: Door::default(),
            tasks: parts.tasks,
            metrics: parts.metrics,
            counting: Mutex::new(()),
            chance: Mutex::new(parts.chance),
            trace_metrics: parts.trace_metrics,
            stories: Stories::default(),
            in_flight: AtomicUsize::new(0),
            settling: AtomicUsize::new(0),
            last_timestamp: AtomicI64::new(0),
        }
    }

    /// Takes a place among the requests in flight, or says that there is none.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<InFlight, RequestError> {
        self.door.check()?;
        let limit = self.config.max_concurrent_requests;
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= limit {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(RequestError::Overloaded(format!(
                "{limit} requests are in flight on this node already (native_transport_max_concurrent_requests); try again, or another node"
            )));
        }
        Ok(InFlight { coordinator: Arc::clone(self) })
    }

    /// The largest request of a client that is read, in bytes.
    pub(crate) fn request_bytes_max(&self) -> usize {
        crate::serve::request_bytes_max(self.config.max_value_size)
    }

    /// Client requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Writes that are answered and not yet settled: each ends with every replica's acknowledgement or a hint for it.
    pub fn settling(&self) -> usize {
        self.settling.load(Ordering::Relaxed)
    }

    fn settles(self: &Arc<Self>) -> Settling {
        self.settling.fetch_add(1, Ordering::Relaxed);
        Settling { coordinator: Arc::clone(self) }
    }

    /// A timestamp for a write that brings none: the wall clock, but never one that was given before.
    pub(crate) fn next_timestamp(&self) -> TimestampMicros {
        self.next_timestamp_after(TimestampMicros(i64::MIN))
    }

    /// The same, and newer than `least`.
    fn next_timestamp_after(&self, least: TimestampMicros) -> TimestampMicros {
        let wall = self.clock.wall_micros().max(least.0.saturating_add(1));
        let before = self
            .last_timestamp
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(wall.max(last + 1)))
            .unwrap_or(wall);
        TimestampMicros(wall.max(before + 1))
    }

    /// The wall clock in the unit of TTL and `gc_grace`.
    pub(crate) fn now_seconds(&self) -> GcSeconds {
        gc_seconds(&*self.clock)
    }

    /// Begins the trace of a request; `None`: too many are traced already, which is counted.
    pub(crate) fn trace(&self) -> Option<(Trace, Story)> {
        Story::begin(self.id, &self.clock, &self.stories, &self.trace_metrics)
    }

    fn is_alive(&self, node: NodeId) -> bool {
        node == self.id || self.membership.is_alive(node)
    }

    /// Tells metrics and watchers how a request ended.
    fn answered<T>(&self, op: &'static str, began: Duration, result: &Result<T, RequestError>) {
        let outcome = result.as_ref().map_or_else(RequestError::outcome, |_| "ok");
        self.metrics.answered(op, outcome, self.clock.now().saturating_sub(began));
        self.probe.event(&Event::Answered { op, outcome });
    }
}

/// A place among the requests in flight, given back when dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    coordinator: Arc<Coordinator>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.coordinator.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A write that is being settled, counted until this is dropped.
#[derive(Debug)]
struct Settling {
    coordinator: Arc<Coordinator>,
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.coordinator.settling.fetch_sub(1, Ordering::Relaxed);
    }
}
