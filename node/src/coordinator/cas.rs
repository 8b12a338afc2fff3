//! A conditional write, top to bottom: a quorum promises, what was begun before is finished, the partition is read, the
//! condition judged, the update proposed and, once a quorum has accepted it, committed at the request's own level.
//!
//! A read at SERIAL or LOCAL_SERIAL is the same story with an empty update (`settle`), and behind it an ordinary read by the
//! same quorum.
//!
//! Invariants: an update is committed only if a quorum accepted it; a client hears that its condition did not hold only
//! if a quorum accepted that nothing is written; whatever may yet be decided is told as undecided (Timeout, Unknown).
//!
//! Bounds: rounds are begun until `cas_contention_timeout` has passed since the request came, each answered for within
//! `write_request_timeout`; between two rounds that collided there is a pause of at most 100 ms.
//!
//! CAVEAT: Unknown is no rare answer where many write one partition at once: of two proposers that overtake each other
//! between prepare and propose, the first may have been accepted by one replica. A read at SERIAL settles what became of it.
//!
//! While somebody leaves the ring, those who are about to be replicas take part, and one answer more is needed for each
//! (`Level::decree`): so whatever is decided is known to a quorum of the old replicas and of the new ones.
//!
//! Unlike Cassandra, a commit's level that too few replicas are alive for is Unavailable before anything is promised;
//! there the decree is made, and then a timeout says that it was. A QUORUM of replicas is one of the configured number.

use super::error::{CasError, ReplicaFailure, Unlogged};
use super::read::ReadRequest;
use super::route::{Shape, TableRoute};
use super::trace::words::{committed, judged};
use super::trace::{Trace, room};
use super::write::{Outgoing, check_key};
use super::{Coordinator, ReadOutcome, RequestError};
use crate::peers::{Inflight, Verb};
use bytes::Bytes;
use helenus_core::level::Op;
use helenus_core::paxos::{
    Accepted, Accepts, Ballot, Next, Prepared, Promises, Proposal, Proposed, SerialLevel, backoff,
};
use helenus_core::pending::WriteTargets;
use helenus_core::placement::Replica as Holder;
use helenus_core::tally::{FailureReason, Verdict};
use helenus_core::{
    GcSeconds, Key, Level, NodeId, Partition, TableId, TimestampMicros, codec, merge, token,
};
use helenus_proto::v1;
use helenus_proto::v1::message::Body;
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;

/// A client's conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CasRequest {
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// This very table.
    pub id: TableId,
    /// The partition key.
    pub key: Bytes,
    /// Among whom it is decided.
    pub serial: SerialLevel,
    /// How many replicas must have it before the client is answered. ANY: those who decided it will do.
    pub level: Level,
    /// Where its story is told.
    pub trace: Trace,
}

/// Judges a condition by the partition as it is, at this second; `Some`: it holds, and this is to be merged in, with this
/// timestamp. It may be asked several times, of a partition that others change in between.
pub type Judge<'j> = dyn Fn(&Partition, GcSeconds, TimestampMicros) -> Result<Option<Partition>, RequestError>
    + Send
    + Sync
    + 'j;

/// A conditional write that was decided, one way or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CasOutcome {
    /// Whether the condition held, and the update is written.
    pub applied: bool,
    /// The partition that it was judged by.
    pub current: Partition,
    /// The second that it was judged at.
    pub at: GcSeconds,
    /// What the client should know all the same.
    pub warnings: Vec<String>,
    /// Set if the answer depends on this node's log.
    pub(crate) unlogged: Option<Unlogged>,
}

/// What a request does to one partition, while it is under way.
struct Decree<'a> {
    coordinator: &'a Arc<Coordinator>,
    table: Arc<TableRoute>,
    key: Key,
    serial: SerialLevel,
    /// All replicas, those among them that are pending too: a commit goes to each.
    targets: WriteTargets<'a>,
    /// Those who are alive and may decide.
    participants: Vec<NodeId>,
    needed: usize,
    /// The newest ballot that anybody named.
    newest: Option<Ballot>,
    contentions: u32,
    /// After this no round is begun.
    deadline: Duration,
    /// A conditional write, or a read at a serial level?
    write: bool,
    trace: Trace,
}

/// What a decree is for.
struct Aim {
    serial: SerialLevel,
    /// A conditional write, or a read at a serial level?
    write: bool,
    trace: Trace,
}

impl Coordinator {
    /// Writes if a condition holds.
    pub async fn cas(
        self: &Arc<Self>,
        request: CasRequest,
        judge: &Judge<'_>,
    ) -> Result<CasOutcome, RequestError> {
        let began = self.clock.now();
        let result = match self.admit() {
            Ok(_place) => self.cas_admitted(request, judge).await,
            Err(full) => Err(full),
        };
        self.answered("cas", began, &result);
        result
    }

    async fn cas_admitted(
        self: &Arc<Self>,
        request: CasRequest,
        judge: &Judge<'_>,
    ) -> Result<CasOutcome, RequestError> {
        let CasRequest { keyspace, table, id, key, serial, level, trace } = request;
        let table = self.route_of(&keyspace, &table, id, &key)?;
        let route = Arc::clone(&table);
        let targets = route.write_targets(token::of(&key));
        let aim = Aim { serial, write: true, trace };
        let mut decree = Decree::new(self, table, targets, Key(key), aim)?;
        decree.check_commit(level)?;
        loop {
            let ballot = decree.begin().await?;
            let ReadOutcome { partition: current, at, .. } = decree.read().await?;
            let update = judge(&current, at, ballot.micros)?;
            let applied = update.is_some();
            decree.trace.tell(|| judged(applied, &current));
            let update = update.filter(|update| !merge::is_empty(update));
            let update = update.map(|update| decree.encoded(&update)).transpose()?;
            let proposal = Proposal { ballot, update: update.unwrap_or_default() };
            if !decree.propose(&proposal).await? {
                decree.hold_back().await;
                continue;
            }
            let mut outcome =
                CasOutcome { applied, current, at, warnings: Vec::new(), unlogged: None };
            if !proposal.update.is_empty() {
                let written = decree.commit(&proposal, level).await?;
                outcome.unlogged = written.unlogged(self.id, level);
                outcome.warnings = written.warnings;
            }
            return Ok(outcome);
        }
    }

    /// Finishes what conditional writes have begun on a partition, and sees to it that what a minority has accepted of them
    /// does not come up later. A read by the same quorum that begins now is serial.
    pub async fn settle(
        self: &Arc<Self>,
        table: (&str, &str, TableId),
        key: &Key,
        serial: SerialLevel,
        trace: &Trace,
    ) -> Result<(), RequestError> {
        let began = self.clock.now();
        let result = match self.admit() {
            Ok(_place) => self.settle_admitted(table, key, serial, trace).await,
            Err(full) => Err(full),
        };
        self.answered("settle", began, &result);
        result
    }

    async fn settle_admitted(
        self: &Arc<Self>,
        (keyspace, table, id): (&str, &str, TableId),
        key: &Key,
        serial: SerialLevel,
        trace: &Trace,
    ) -> Result<(), RequestError> {
        let table = self.route_of(keyspace, table, id, &key.0)?;
        let route = Arc::clone(&table);
        let targets = route.write_targets(token::of(&key.0));
        let aim = Aim { serial, write: false, trace: trace.clone() };
        let mut decree = Decree::new(self, table, targets, key.clone(), aim)?;
        loop {
            let ballot = decree.begin().await?;
            if decree.propose(&Proposal { ballot, update: Bytes::new() }).await? {
                return Ok(());
            }
            decree.hold_back().await;
        }
    }

    fn route_of(
        &self,
        keyspace: &str,
        table: &str,
        id: TableId,
        key: &Bytes,
    ) -> Result<Arc<TableRoute>, RequestError> {
        check_key(key)?;
        let table = self.routes.table(keyspace, table)?;
        table.check_shape(Shape::Of(id))?;
        Ok(table)
    }

    /// A ballot of this node's, newer than `newest`.
    fn ballot(&self, newest: Option<Ballot>) -> Ballot {
        let least = newest.map_or(TimestampMicros(i64::MIN), |newest| newest.micros);
        let micros = self.next_timestamp_after(least);
        Ballot { micros, node: self.id, nonce: self.draw() }
    }

    fn draw(&self) -> u64 {
        self.chance.lock().expect("no holder of this lock panics").random()
    }
}

impl<'a> Decree<'a> {
    /// Whoever takes part has to be alive in sufficient number, or nothing is sent.
    fn new(
        coordinator: &'a Arc<Coordinator>,
        table: Arc<TableRoute>,
        targets: WriteTargets<'a>,
        key: Key,
        Aim { serial, write, trace }: Aim,
    ) -> Result<Decree<'a>, RequestError> {
        let level = serial.quorum();
        let WriteTargets { all: holders, pending } = targets;
        let requirement = level.decree(&table.replication, &coordinator.dc, pending);
        let what = if write { "conditional write" } else { "serial read" };
        let needed = (serial, requirement.block_for());
        coordinator.tell_plan(&trace, (what, token::of(&key.0)), holders, needed);
        let alive = |node| coordinator.is_alive(node);
        requirement.check(holders, alive).map_err(|unavailable| CasError::Unavailable {
            serial,
            required: unavailable.required,
            alive: unavailable.alive,
        })?;
        let is_local =
            |holder: &&Holder| serial == SerialLevel::Serial || holder.dc == coordinator.dc;
        let participants = holders.iter().filter(is_local).map(|holder| holder.node);
        let participants = participants.filter(|node| alive(*node)).collect();
        let contention = coordinator.config.cas_contention_timeout;
        Ok(Decree {
            coordinator,
            table,
            key,
            serial,
            targets,
            participants,
            needed: requirement.block_for(),
            newest: None,
            contentions: 0,
            deadline: coordinator.clock.now().saturating_add(contention),
            write,
            trace,
        })
    }

    /// Whether the commit's level can be met, as far as is known.
    fn check_commit(&self, level: Level) -> Result<(), RequestError> {
        let me = self.coordinator;
        let WriteTargets { all, pending } = self.targets;
        let requirement = level.requirement(Op::Write, &self.table.replication, &me.dc, pending)?;
        Ok(requirement.check(all, |node| me.is_alive(node))?)
    }

    /// A ballot that a quorum has promised, while nothing older is left to finish, and all who promised know the newest
    /// commit.
    async fn begin(&mut self) -> Result<Ballot, RequestError> {
        loop {
            if self.coordinator.clock.now() >= self.deadline {
                return Err(self.timeout(0).into());
            }
            let ballot = self.coordinator.ballot(self.newest);
            self.coordinator.tell_ballot(&self.trace, ballot);
            let Some(promises) = self.prepare(ballot).await? else {
                self.hold_back().await;
                continue;
            };
            let next = promises.next();
            self.coordinator.tell_next(&self.trace, (ballot, promises.received()), &next);
            match next {
                Next::Free => return Ok(ballot),
                Next::Teach { commit, missing } => {
                    self.teach(&commit, &missing).await?;
                    return Ok(ballot);
                }
                Next::Finish(begun) => self.finish(Proposal { ballot, ..begun }).await?,
            }
        }
    }

    /// Proposes and commits what another began. The next round tells whether more is to be done.
    async fn finish(&mut self, proposal: Proposal) -> Result<(), RequestError> {
        self.coordinator.metrics.paxos.finished.inc();
        match self.ask_to_accept(&proposal).await? {
            Proposed::Accepted => {
                self.commit(&proposal, self.serial.quorum()).await?;
            }
            // Ours or not, somebody finishes it.
            Proposed::Refused { .. } | Proposed::Unknown { .. } => self.hold_back().await,
        }
        Ok(())
    }

    /// `None`: a newer ballot is in the way.
    async fn prepare(&mut self, ballot: Ballot) -> Result<Option<Promises>, RequestError> {
        let message = v1::PaxosPrepare {
            table: self.table.wire_id.clone(),
            key: self.key.0.clone(),
            ballot: ballot.encode(),
        };
        let mut answers = self.call(Body::PaxosPrepare(message.clone()));
        if self.takes_part() {
            self.coordinator.acceptors.prepare(&message, answers.local());
        }
        let mut promises = Promises::new(self.needed, self.participants.len());
        let mut failures = Vec::new();
        while promises.verdict() == Verdict::Pending
            && let Some((node, answer)) = answers.next().await
        {
            self.coordinator.tell_acceptor(&self.trace, node, &answer);
            match answer.map(prepared) {
                Ok(Ok(answer)) => promises.record(node, answer),
                Ok(Err(reason)) => {
                    failures.push(ReplicaFailure { node, reason: reason.name().to_owned() });
                    promises.failed()
                }
                Err(_) => promises.failed(),
            };
        }
        self.saw(promises.newest());
        match promises.verdict() {
            Verdict::Met => Ok(Some(promises)),
            _ if promises.is_superseded() => Ok(None),
            _ if failures.is_empty() => Err(self.timeout(promises.received()).into()),
            _ => Err(self.failure(promises.received(), failures).into()),
        }
    }

    /// Whether a quorum accepted; `false`: nobody did, and nobody will.
    async fn propose(&mut self, proposal: &Proposal) -> Result<bool, RequestError> {
        match self.ask_to_accept(proposal).await? {
            Proposed::Accepted => Ok(true),
            Proposed::Refused { .. } => Ok(false),
            // Of nothing: that it may or may not have been decided makes no difference.
            Proposed::Unknown { .. } if proposal.update.is_empty() => Ok(false),
            Proposed::Unknown { accepted } => Err(CasError::Unknown {
                serial: self.serial,
                received: accepted,
                block_for: self.needed,
            }
            .into()),
        }
    }

    async fn ask_to_accept(&mut self, proposal: &Proposal) -> Result<Proposed, RequestError> {
        let message = self.message(proposal);
        let mut answers = self.call(Body::PaxosPropose(message.clone()));
        if self.takes_part() {
            self.coordinator.acceptors.propose(&message, answers.local());
        }
        let mut accepts = Accepts::new(self.needed, self.participants.len());
        let mut silent = false;
        while let Some((node, answer)) = answers.next().await {
            self.coordinator.tell_acceptor(&self.trace, node, &answer);
            let ended = match answer.map(accepted) {
                Ok(Some(answer)) => {
                    if let Accepted::Refused { by } = answer {
                        self.saw(Some(by));
                    }
                    accepts.record(answer)
                }
                Ok(None) => accepts.failed(),
                Err(_) => {
                    silent = true;
                    accepts.failed()
                }
            };
            match ended {
                // Nobody was in the way; too few have answered.
                Some(Proposed::Unknown { accepted }) if silent => {
                    return Err(self.timeout(accepted).into());
                }
                Some(ended) => {
                    self.coordinator.tell_decided(&self.trace, proposal, (&ended, self.needed));
                    return Ok(ended);
                }
                None => {}
            }
        }
        Err(self.timeout(accepts.received()).into())
    }

    /// Has all replicas merge what was decided; answered when `level` is met.
    async fn commit(
        &self,
        proposal: &Proposal,
        level: Level,
    ) -> Result<super::WriteOutcome, RequestError> {
        let message = self.message(proposal);
        let (me, targets) = (self.coordinator, self.targets);
        let own = || {
            let applied = me.acceptors.commit(&message).map_err(|refusal| refusal.reason());
            self.trace.tell_in(room::REPLICA, || committed(&applied));
            applied
        };
        // Whoever misses it is owed the update like any other.
        let outgoing = Outgoing {
            owed: me.owed(&self.table, (self.key.clone(), proposal.update.clone()), &self.trace),
            requirement: level.requirement(
                Op::Write,
                &self.table.replication,
                &me.dc,
                targets.pending,
            )?,
            timestamp: proposal.ballot.micros,
            timeout: None,
        };
        me.replicate(outgoing, targets.all, Body::PaxosCommit(message.clone()), own).await
    }

    /// Has these replicas learn the newest commit.
    async fn teach(&self, commit: &Proposal, missing: &[NodeId]) -> Result<(), RequestError> {
        let me = self.coordinator;
        me.metrics.paxos.taught.inc();
        let message = self.message(commit);
        let peers: Vec<NodeId> = missing.iter().copied().filter(|node| *node != me.id).collect();
        let timeout = me.config.write_request_timeout;
        let mut answers = me.peers.call(&peers, Body::PaxosCommit(message.clone()), timeout);
        let mut learnt = self.needed.saturating_sub(missing.len());
        if missing.contains(&me.id)
            && let Ok(applied) = me.acceptors.commit(&message)
        {
            learnt += usize::from(me.replica.durable(Ok(applied)).await.is_ok());
        }
        while let Some((_, answer)) = answers.next().await {
            learnt += usize::from(matches!(answer, Ok(Body::Ack(_))));
        }
        if learnt < self.needed { Err(self.timeout(learnt).into()) } else { Ok(()) }
    }

    /// The partition, by a quorum of those who may have promised.
    async fn read(&self) -> Result<ReadOutcome, RequestError> {
        let request = ReadRequest {
            keyspace: self.table.def.keyspace.clone(),
            table: self.table.def.name.clone(),
            key: self.key.0.clone(),
            level: self.serial.quorum(),
            timeout: None,
            shape: Shape::Of(self.table.def.id),
            trace: self.trace.clone(),
        };
        self.coordinator.read_admitted(&request, None).await
    }

    /// After a collision: for a moment, or the other would be overtaken as well.
    async fn hold_back(&mut self) {
        self.contentions = self.contentions.saturating_add(1);
        let me = self.coordinator;
        me.metrics.paxos.contentions.inc();
        let pause = backoff(self.contentions, me.draw());
        me.tell_pause(&self.trace, self.newest.as_ref(), pause);
        tokio::time::sleep(pause).await;
    }

    fn saw(&mut self, ballot: Option<Ballot>) {
        self.newest = match ballot {
            Some(ballot) if ballot.supersedes(self.newest.as_ref()) => Some(ballot),
            _ => self.newest,
        };
    }

    fn takes_part(&self) -> bool {
        self.participants.contains(&self.coordinator.id)
    }

    /// Asks the participants that are other nodes.
    fn call(&self, body: Body) -> Inflight {
        let me = self.coordinator;
        let others = self.participants.iter().copied().filter(|node| *node != me.id);
        let others: Vec<NodeId> = others.collect();
        for node in &others {
            me.tell_sent(&self.trace, Verb::of(&body).as_str(), *node);
        }
        me.peers.call(&others, body, me.config.write_request_timeout)
    }

    fn message(&self, proposal: &Proposal) -> v1::PaxosProposal {
        v1::PaxosProposal {
            table: self.table.wire_id.clone(),
            key: self.key.0.clone(),
            proposal: proposal.encode(),
        }
    }

    fn encoded(&self, update: &Partition) -> Result<Bytes, RequestError> {
        self.coordinator.check_size("update", merge::value_bytes(update))?;
        Ok(codec::encode(update))
    }

    fn timeout(&self, received: usize) -> CasError {
        CasError::Timeout {
            serial: self.serial,
            received,
            block_for: self.needed,
            contentions: self.contentions,
            write: self.write,
        }
    }

    fn failure(&self, received: usize, failures: Vec<ReplicaFailure>) -> CasError {
        CasError::Failure {
            serial: self.serial,
            received,
            block_for: self.needed,
            failures,
            write: self.write,
        }
    }
}

/// A promise or a refusal, or why it is neither.
fn prepared(body: Body) -> Result<Prepared, FailureReason> {
    let proposal = |bytes: Option<Bytes>| match bytes.map(|bytes| Proposal::decode(&bytes)) {
        None => Ok(None),
        Some(Some(proposal)) => Ok(Some(proposal)),
        Some(None) => Err(FailureReason::Unknown),
    };
    match body {
        Body::PaxosPromise(v1::PaxosPromise { refused_by: Some(by), .. }) => {
            let by = Ballot::decode(&by).ok_or(FailureReason::Unknown)?;
            Ok(Prepared::Refused { by })
        }
        Body::PaxosPromise(promise) => {
            let (accepted, committed) = (proposal(promise.accepted)?, proposal(promise.committed)?);
            Ok(Prepared::Promised { accepted, committed })
        }
        Body::Failed(error) => {
            let Ok(reason) = error.reason.parse();
            Err(reason)
        }
        _ => Err(FailureReason::Unknown),
    }
}

/// An acceptance or a refusal; `None`: neither, and it may have accepted.
fn accepted(body: Body) -> Option<Accepted> {
    match body {
        Body::PaxosAccepted(v1::PaxosAccepted { refused_by: Some(by) }) => {
            Ballot::decode(&by).map(|by| Accepted::Refused { by })
        }
        Body::PaxosAccepted(_) => Some(Accepted::Yes),
        _ => None,
    }
}
