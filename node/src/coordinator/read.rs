//! A read, top to bottom: data from the nearest replica, digests from the others that the level needs; if they
//! disagree, everything from all of them, reconciled, and repaired before the answer (CASSANDRA-10726).
//!
//! Invariant: with blocking read repair, what a QUORUM read returned is on a quorum before the reader has it, so a later
//! QUORUM read returns it or something newer, even if the write it came from had failed.
//!
//! CAVEAT: there is no speculative retry yet. A contacted replica that falls silent before the failure detector knows
//! costs the read its timeout; one that refuses, or cannot be reached at once, is replaced by another live one.

use super::error::failures;
use super::route::{Shape, TableRoute};
use super::trace::words::concluded;
use super::trace::{Trace, room};
use super::write::check_key;
use super::{Coordinator, RequestError};
use crate::peers::{PeerError, Verb};
use crate::seams::probe::Event;
use bytes::Bytes;
use helenus_core::level::{Op, Requirement};
use helenus_core::placement::Replica as Holder;
use helenus_core::read::{self, Part, RowFilter};
use helenus_core::reconcile::{Reconciled, reconcile};
use helenus_core::tally::{Answer, FailureReason, Tally, Verdict};
use helenus_core::{
    ClusteringKey, GcSeconds, Key, Level, NodeId, Partition, ReadRepair, TimestampMicros, codec,
    merge, token,
};
use helenus_proto::v1;
use helenus_proto::v1::message::Body;
use std::sync::Arc;
use std::time::Duration;

/// How long a read that is content with whoever answers waits for the others.
const BEST_EFFORT_PATIENCE: Duration = Duration::from_millis(500);

/// A client's read of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// The partition key.
    pub key: Bytes,
    /// How many replicas must answer.
    pub level: Level,
    /// How long the client waits, if that is less than the node would.
    pub timeout: Option<Duration>,
    /// Of what shape the caller takes the table to be.
    pub shape: Shape,
    /// Who wants to know how it goes.
    pub trace: Trace,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOutcome {
    /// All that is known of the partition, or of the part of it that was asked for, tombstones included.
    pub partition: Partition,
    /// Of a part: where to go on; `None`: it is all that was asked for.
    pub next: Option<ClusteringKey>,
    /// By this coordinator's clock, when it was read: what had expired by then is no value.
    pub at: GcSeconds,
    /// Who answered before the client did, in order of arrival.
    pub responders: Vec<NodeId>,
    /// Replicas that were behind and were repaired, or that would have been but for `read_repair = NONE`.
    pub stale: Vec<NodeId>,
}

impl ReadOutcome {
    /// A key-value table's live value; `None`: there is none.
    pub fn value(&self) -> Option<&Bytes> {
        merge::live_value(&self.partition, self.at).map(|(value, _)| value)
    }

    /// The version of the value, or of the newest tombstone that hides it; `None`: nothing was ever there.
    pub fn timestamp(&self) -> Option<TimestampMicros> {
        let live = merge::live_value(&self.partition, self.at);
        live.map(|(_, at)| at).or_else(|| merge::version(&self.partition))
    }
}

/// One replica's answer to a read.
struct Found {
    node: NodeId,
    /// Its digest; of its data where it sent that.
    digest: [u8; 16],
    /// `None`: it was asked for the digest only.
    data: Option<Part>,
}

/// A read while it is under way.
struct Reading<'a> {
    coordinator: &'a Coordinator,
    table: &'a TableRoute,
    key: Key,
    /// `None`: the whole partition.
    filter: Option<RowFilter>,
    trace: &'a Trace,
    level: Level,
    requirement: Requirement,
    responders: Vec<NodeId>,
    data_present: bool,
}

impl Coordinator {
    /// Reads one partition.
    pub async fn read(self: &Arc<Self>, request: ReadRequest) -> Result<ReadOutcome, RequestError> {
        self.read_part(request, None).await
    }

    /// Reads a part of one partition: replicas send no more than that (where a partition is one row, that row). Going on
    /// from `next` is the caller's business, also when fewer rows are alive than were asked for.
    pub async fn read_rows(
        self: &Arc<Self>,
        request: ReadRequest,
        filter: RowFilter,
    ) -> Result<ReadOutcome, RequestError> {
        self.read_part(request, Some(filter)).await
    }

    /// As [`Coordinator::read`], for the node itself: no client's request is counted.
    pub(crate) async fn read_own(&self, request: ReadRequest) -> Result<ReadOutcome, RequestError> {
        self.read_admitted(&request, None).await
    }

    async fn read_part(
        self: &Arc<Self>,
        request: ReadRequest,
        filter: Option<RowFilter>,
    ) -> Result<ReadOutcome, RequestError> {
        let began = self.clock.now();
        let result = match self.admit() {
            Ok(_place) => self.read_admitted(&request, filter).await,
            Err(full) => Err(full),
        };
        self.answered("read", began, &result);
        result
    }

    pub(super) async fn read_admitted(
        &self,
        request: &ReadRequest,
        filter: Option<RowFilter>,
    ) -> Result<ReadOutcome, RequestError> {
        check_key(&request.key)?;
        let level = request.level;
        let table = self.routes.table(&request.keyspace, &request.table)?;
        table.check_shape(request.shape)?;
        // Without clustering columns a partition is one row: to be cut to that row costs each replica more than it saves.
        let filter = filter.filter(|_| !table.def.columns.clustering.is_empty());
        let place = token::of(&request.key);
        let holders = table.placement.replicas(place);
        let requirement = level.requirement(Op::Read, &table.replication, &self.dc, &[])?;
        let needed = (level, requirement.block_for());
        self.tell_plan(&request.trace, ("read", place), holders, needed);
        let nearest = self.nearest_first(holders);
        let contacts = requirement.contacts(nearest.iter().copied(), |node| self.is_alive(node))?;
        let spare = nearest.iter().copied();
        let spare = spare.filter(|h| !contacts.contains(h) && self.is_alive(h.node)).collect();
        let mut reading = Reading {
            coordinator: self,
            table: &table,
            key: Key(request.key.clone()),
            filter,
            trace: &request.trace,
            level,
            requirement,
            responders: Vec::new(),
            data_present: false,
        };
        if table.best_effort {
            return Box::pin(reading.run_best_effort(holders)).await;
        }
        let patience = request.timeout.filter(|t| *t < self.config.read_request_timeout);
        match patience {
            None => reading.run(&contacts, holders, spare).await,
            Some(patience) => {
                let reader = reading.run(&contacts, holders, spare);
                match Box::pin(tokio::time::timeout(patience, reader)).await {
                    Ok(result) => result,
                    Err(_) => Err(reading.timeout(reading.responders.len())),
                }
            }
        }
    }

    /// Replicas in the order in which a read prefers them: this node, its rack, its data centre, the rest; within each,
    /// the order of the ring.
    pub(super) fn nearest_first<'h>(&self, holders: &'h [Holder]) -> Vec<&'h Holder> {
        let ring = self.membership.ring();
        let mut nearest: Vec<&Holder> = holders.iter().collect();
        nearest.sort_by_key(|h| {
            let same_rack = ring.endpoint(h.node).is_some_and(|e| e.rack == self.rack);
            (h.node != self.id, h.dc != self.dc, !same_rack)
        });
        nearest
    }
}

impl Reading<'_> {
    async fn run(
        &mut self,
        contacts: &[&Holder],
        holders: &[Holder],
        spare: Vec<&Holder>,
    ) -> Result<ReadOutcome, RequestError> {
        let found = self.first_round(contacts, holders, spare).await?;
        if found.windows(2).all(|pair| matches!(pair, [a, b] if a.digest == b.digest)) {
            let part = found.into_iter().find_map(|f| f.data).unwrap_or_default();
            let part = match &self.filter {
                Some(filter) => read::only_asked_for(filter, part),
                None => part,
            };
            return Ok(self.outcome(part, Vec::new()));
        }
        Box::pin(self.settle_mismatch(found)).await
    }

    /// The replicas disagree: what each of them has, put together, and those repaired who lack something of it.
    async fn settle_mismatch(&mut self, found: Vec<Found>) -> Result<ReadOutcome, RequestError> {
        self.coordinator.metrics.digest_mismatch();
        let digests = found.iter().map(|answer| (answer.node, answer.digest));
        self.coordinator.tell_mismatch(self.trace, digests);
        let answers = self.second_round(found).await?;
        let (winner, stale) = reconciled(self.filter.as_ref(), answers);
        self.coordinator.tell_winner(self.trace, &winner.partition, &stale);
        let behind: Vec<NodeId> = stale.iter().map(|(node, _)| *node).collect();
        if self.table.def.options.read_repair == ReadRepair::Blocking {
            let answered = self.responders.clone();
            self.coordinator
                .repair(
                    self.table,
                    vec![(self.key.clone(), stale)],
                    &answered,
                    self.level,
                    self.trace,
                )
                .await
                .map_err(|received| self.timeout(received))?;
        }
        Ok(self.outcome(winner, behind))
    }

    /// Whatever the live replicas know: a silent one is not waited for until it is known to be down.
    async fn run_best_effort(&mut self, holders: &[Holder]) -> Result<ReadOutcome, RequestError> {
        let live = holders.iter().map(|h| h.node).filter(|node| self.coordinator.is_alive(*node));
        let calls: Vec<(NodeId, bool)> = live.map(|node| (node, false)).collect();
        let mut asked = self.ask(&calls, BEST_EFFORT_PATIENCE);
        let mut answers = Vec::with_capacity(calls.len());
        while let Some((node, answer)) = asked.next().await {
            let Ok(Found { data, .. }) = self.take(node, answer) else { continue };
            self.responders.push(node);
            answers.push((node, data.unwrap_or_default()));
        }
        if answers.is_empty() {
            return Err(self.timeout(0));
        }
        let (known, _) = reconciled(self.filter.as_ref(), answers);
        Ok(self.outcome(known, Vec::new()))
    }

    /// Data from the nearest, digests from the rest; whoever refuses or cannot be reached is replaced while there is a
    /// live replica to spare.
    async fn first_round(
        &mut self,
        contacts: &[&Holder],
        holders: &[Holder],
        mut spare: Vec<&Holder>,
    ) -> Result<Vec<Found>, RequestError> {
        // Everyone may end up contacted, so the tally is over all holders; those that never are stay open in it.
        let mut tally = Tally::new(self.requirement.clone(), holders);
        let mut found: Vec<Found> = Vec::with_capacity(contacts.len());
        let mut silence = false;
        let mut wanted: Vec<NodeId> = contacts.iter().map(|h| h.node).collect();
        let deadline = self.coordinator.clock.now() + self.coordinator.config.read_request_timeout;
        while !wanted.is_empty() {
            let mut data_wanted = found.iter().all(|f| f.data.is_none());
            let calls: Vec<(NodeId, bool)> = std::mem::take(&mut wanted)
                .into_iter()
                .map(|node| (node, !std::mem::take(&mut data_wanted)))
                .collect();
            let left = deadline.saturating_sub(self.coordinator.clock.now());
            let mut answers = self.ask(&calls, left);
            while let Some((node, answer)) = answers.next().await {
                match self.take(node, answer) {
                    Ok(answer) => {
                        tally.record(node, Answer::Ack);
                        self.responders.push(node);
                        self.data_present |= answer.data.is_some();
                        found.push(answer);
                    }
                    Err(Some(reason)) => {
                        tally.record(node, Answer::Failed(reason));
                        wanted.extend(stand_in(&self.requirement, node, holders, &mut spare));
                    }
                    // It was sent the read, and time is up.
                    Err(None) => silence = true,
                }
            }
            if tally.verdict() == Verdict::Met && self.data_present {
                self.trace.tell(|| concluded(self.level, &tally, Verdict::Met));
                return Ok(found);
            }
        }
        let verdict = if silence { Verdict::Pending } else { Verdict::Lost };
        self.trace.tell(|| concluded(self.level, &tally, verdict));
        Err(if silence { self.timeout(tally.received()) } else { self.failure(&tally) })
    }

    /// Everything, from everyone who sent a digest only.
    async fn second_round(
        &mut self,
        found: Vec<Found>,
    ) -> Result<Vec<(NodeId, Part)>, RequestError> {
        let mut answers = Vec::with_capacity(found.len());
        let mut calls = Vec::new();
        for answer in found {
            match answer.data {
                Some(data) => answers.push((answer.node, data)),
                None => calls.push((answer.node, false)),
            }
        }
        let mut asked = self.ask(&calls, self.coordinator.config.read_request_timeout);
        while let Some((node, answer)) = asked.next().await {
            if let Ok(Found { data, .. }) = self.take(node, answer) {
                answers.push((node, data.unwrap_or_default()));
            }
        }
        // Whoever sent a digest and then not the data may hold the newest version: without it this is no answer.
        if answers.len() < self.responders.len() {
            return Err(self.timeout(answers.len()));
        }
        Ok(answers)
    }

    /// Asks peers, and this node by itself.
    fn ask(&self, calls: &[(NodeId, bool)], timeout: Duration) -> crate::peers::Inflight {
        let me = self.coordinator;
        let message = |digest| {
            Body::Read(v1::ReadPartition {
                table: self.table.wire_id.clone(),
                key: self.key.0.clone(),
                digest,
                rows: self.filter.as_ref().map(helenus_proto::read::filter_to_wire),
                trace: self.trace.is_on(),
            })
        };
        let mut inflight = me.peers.begin(timeout);
        for (node, digest) in calls.iter().filter(|(node, _)| *node != me.id) {
            me.tell_sent(self.trace, if *digest { "READ (digest)" } else { "READ" }, *node);
            inflight.send(*node, message(*digest));
        }
        if calls.iter().any(|(node, _)| *node == me.id) {
            let (table, filter, traced) =
                (self.table.def.id, self.filter.as_ref(), self.trace.is_on());
            let say = |said| self.trace.tell_in(room::REPLICA, || said);
            let answer = me.replica.answer(table, &self.key, filter, false, traced, say);
            inflight.push_local(me.id, Ok(answer));
        }
        inflight
    }

    /// An answer, or why there is none: a refusal, or (`None`) silence.
    fn take(
        &self,
        node: NodeId,
        mut answer: Result<Body, PeerError>,
    ) -> Result<Found, Option<FailureReason>> {
        self.coordinator.tell_answer(self.trace, node, &mut answer);
        match answer {
            Ok(Body::Partition(answer)) => {
                let digest = <[u8; 16]>::try_from(&answer.digest[..]);
                let digest = digest.map_err(|_| Some(FailureReason::Unknown))?;
                let data = answer.data.map(codec::decode).transpose();
                let data = data.map_err(|_| Some(FailureReason::Unknown))?;
                let next = answer.next.map(ClusteringKey);
                let data = data.map(|partition| Part { partition, next });
                Ok(Found { node, digest, data })
            }
            Ok(Body::Failed(error)) => {
                let Ok(reason) = error.reason.parse();
                Err(Some(reason))
            }
            Ok(_) => Err(Some(FailureReason::Unknown)),
            Err(error) if error.may_have_arrived() => Err(None),
            Err(_) => Err(Some(FailureReason::NodeDown)),
        }
    }

    fn outcome(&self, part: Part, stale: Vec<NodeId>) -> ReadOutcome {
        let (responders, at) = (self.responders.clone(), self.coordinator.now_seconds());
        let Part { partition, next } = part;
        ReadOutcome { partition, next, at, responders, stale }
    }

    fn timeout(&self, received: usize) -> RequestError {
        RequestError::Timeout {
            level: self.level,
            received,
            block_for: self.requirement.block_for(),
            data_present: self.data_present,
            write: false,
        }
    }

    fn failure(&self, tally: &Tally) -> RequestError {
        RequestError::Failure {
            level: self.level,
            received: tally.received(),
            block_for: tally.block_for(),
            data_present: self.data_present,
            write: false,
            failures: failures(tally),
        }
    }
}

/// What these answers are together, and who is behind.
pub(super) fn reconciled(
    filter: Option<&RowFilter>,
    answers: Vec<(NodeId, Part)>,
) -> (Part, Vec<(NodeId, Partition)>) {
    if let Some(filter) = filter {
        let read::Reconciled { winner, stale } = read::reconcile(filter, answers);
        return (winner, stale);
    }
    let answers = answers.into_iter().map(|(node, part)| (node, Some(part.partition)));
    let Reconciled { winner, stale } = reconcile(answers.collect());
    (Part { partition: winner, next: None }, stale)
}

/// The nearest replica left that counts where `failed` would have.
pub(super) fn stand_in(
    requirement: &Requirement,
    failed: NodeId,
    holders: &[Holder],
    spare: &mut Vec<&Holder>,
) -> Option<NodeId> {
    let failed = holders.iter().find(|h| h.node == failed)?;
    let next = spare.iter().position(|other| requirement.may_stand_in(failed, other))?;
    Some(spare.remove(next).node)
}

impl Coordinator {
    /// Sends stale replicas what they lack, and waits until the level's number of the replicas that `answered` is known
    /// to hold the winner. `Err`: so many did when time was up.
    pub(super) async fn repair(
        &self,
        table: &TableRoute,
        partitions: Vec<(Key, Vec<(NodeId, Partition)>)>,
        answered: &[NodeId],
        level: Level,
        trace: &Trace,
    ) -> Result<(), usize> {
        let mut behind: std::collections::BTreeSet<NodeId> = std::collections::BTreeSet::new();
        let mut calls = Vec::new();
        for (key, stale) in partitions {
            for (node, lacks) in stale {
                self.probe.event(&Event::ReadRepaired { replica: node, key: key.clone() });
                self.metrics.read_repair(level);
                behind.insert(node);
                calls.push((node, key.clone(), lacks));
            }
        }
        let clean = answered.iter().filter(|node| !behind.contains(node)).count();
        let waited_for = calls.len();
        let acked = self.send_repairs(table, calls, trace).await;
        // Exactly as many were contacted as the level needs, so all of the stale ones have to confirm.
        if acked < waited_for { Err(clean + acked.min(behind.len())) } else { Ok(()) }
    }

    async fn send_repairs(
        &self,
        table: &TableRoute,
        calls: Vec<(NodeId, Key, Partition)>,
        trace: &Trace,
    ) -> usize {
        let mut acked = 0;
        let mut inflight = self.peers.begin(self.config.write_request_timeout);
        for (node, key, lacks) in calls {
            if node == self.id {
                let token = token::of(&key.0);
                let write = crate::storage::Write::of(table.def.id, key, token, lacks);
                let applied = self.replica.apply(write, crate::seams::probe::ApplyPath::ReadRepair);
                let durable = self.replica.durable(applied).await;
                trace.tell_in(room::REPLICA, || match &durable {
                    Ok(()) => "Repaired this node's own copy".to_owned(),
                    Err(error) => format!("This node's own copy could not be repaired: {error}"),
                });
                acked += usize::from(durable.is_ok());
            } else {
                let body = Body::Mutation(v1::ApplyMutation {
                    table: table.wire_id.clone(),
                    key: key.0,
                    update: codec::encode(&lacks),
                    path: v1::ApplyPath::ReadRepair.into(),
                    trace: trace.is_on(),
                });
                self.tell_sent(trace, Verb::ReadRepair.as_str(), node);
                inflight.send(node, body);
            }
        }
        while let Some((node, mut answer)) = inflight.next().await {
            self.tell_answer(trace, node, &mut answer);
            acked += usize::from(matches!(answer, Ok(Body::Ack(_))));
        }
        acked
    }
}
