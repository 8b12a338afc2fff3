//! A write, top to bottom.
//!
//! Invariants: a replica is counted once however often it answers; answering the client never cancels replication; a
//! replica that did not acknowledge is owed a hint (or the refusal of one is counted and the client is warned); a hint
//! counts as an acknowledgement at ANY and nowhere else, and there only once it is durable. A hint that was set aside as a
//! dead letter is kept (no refusal, no warning), and is no acknowledgement anywhere: nobody delivers it until told.
//!
//! CAVEAT: a write that timed out is hinted to whoever did not acknowledge, so it may surface later. That is Cassandra's
//! behaviour too, and why a timeout means "undecided".

use super::counter::{self, Counting};
use super::error::{ReplicaFailure, Unlogged, failures};
use super::route::{Shape, TableRoute};
use super::trace::words::concluded;
use super::trace::{Trace, room};
use super::{Coordinator, RequestError};
use crate::hints::NewHint;
use crate::peers::{Inflight, PeerError};
use crate::replica;
use crate::seams::net::BoxFuture;
use crate::seams::probe::{ApplyPath, HintLoss};
use crate::storage::{Applied, StorageError, Write};
use bytes::Bytes;
use helenus_core::hint::Overflow;
use helenus_core::level::{Op, Requirement};
use helenus_core::placement::Replica as Holder;
use helenus_core::tally::{Answer, FailureReason, Tally, Verdict};
use helenus_core::{
    Expiry, GcSeconds, HintRefused, Key, Level, NodeId, Partition, TableId, TimestampMicros, merge,
    token,
};
use helenus_proto::v1;
use helenus_proto::v1::message::Body;
use std::sync::Arc;
use std::time::Duration;

/// Cassandra's limit: a key's length travels in 16 bits.
const MAX_KEY_BYTES: usize = 65_535;

/// The reason in a failure of a write that reached its level, in a table with `hint_refused = ERROR`: this replica missed it
/// and no hint is kept.
const HINT_REFUSED: &str = "HINT_REFUSED";

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A value, for `ttl_s` seconds; 0 takes the table's default.
    Put {
        /// The value.
        value: Bytes,
        /// Seconds it lives.
        ttl_s: u32,
    },
    /// Nothing, from now on.
    Delete,
    /// Any update of a partition of this very table, in normal form and with timestamps of its own.
    Update(TableId, Partition),
}

/// A client's write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteRequest {
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// The partition key.
    pub key: Bytes,
    /// What to do.
    pub change: Change,
    /// How many replicas must have it.
    pub level: Level,
    /// The version; absent: this coordinator's clock.
    pub timestamp: Option<TimestampMicros>,
    /// How long the client waits, if that is less than the node would.
    pub timeout: Option<Duration>,
    /// Who wants to know what becomes of it.
    pub trace: Trace,
}

/// A write of which all is known that can be before it is sent.
pub(super) struct PlannedWrite {
    pub(super) table: Arc<TableRoute>,
    pub(super) write: Write,
    timestamp: TimestampMicros,
    pub(super) requirement: Requirement,
    pub(super) timeout: Option<Duration>,
    pub(super) trace: Trace,
}

impl PlannedWrite {
    /// Whether it is a write of counters, which a replica has to lead.
    pub(super) fn counts(&self) -> bool {
        self.table.def.columns.has_counters()
    }
}

/// A write that reached its level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The version it was written with.
    pub timestamp: TimestampMicros,
    /// What the client should know all the same.
    pub warnings: Vec<String>,
    /// Who acknowledged before the answer, in order of arrival.
    pub responders: Vec<NodeId>,
    /// How many had to.
    pub block_for: usize,
}

impl WriteOutcome {
    /// Whether, and how, the answer depends on the log of `coordinator`.
    pub(crate) fn unlogged(&self, coordinator: NodeId, level: Level) -> Option<Unlogged> {
        let counted = self.responders.contains(&coordinator);
        counted.then_some(Unlogged { level, block_for: self.block_for })
    }
}

impl Coordinator {
    /// Writes, and answers once the level is met or out of reach.
    pub async fn write(
        self: &Arc<Self>,
        request: WriteRequest,
    ) -> Result<WriteOutcome, RequestError> {
        let began = self.clock.now();
        let result = match self.admit() {
            Ok(_place) => self.write_admitted(request, Counting::Anywhere).await,
            Err(full) => Err(full),
        };
        self.answered("write", began, &result);
        result
    }

    /// As [`Coordinator::write`], for the node itself: no client's request is counted.
    pub(crate) async fn write_own(
        self: &Arc<Self>,
        request: WriteRequest,
    ) -> Result<WriteOutcome, RequestError> {
        self.write_admitted(request, Counting::Anywhere).await
    }

    /// `counting`: where counters are counted, should it be a write of those.
    pub(super) async fn write_admitted(
        self: &Arc<Self>,
        request: WriteRequest,
        counting: Counting,
    ) -> Result<WriteOutcome, RequestError> {
        let planned = self.planned(&request)?;
        let holders = planned.table.placement.replicas(planned.write.token);
        let holds = holders.iter().any(|holder| holder.node == self.id);
        if planned.counts() && !holds {
            return self.hand_to_leader(planned, counting).await;
        }
        self.carry_out(planned).await
    }

    /// All that can be found out before anything is sent.
    pub(super) fn planned(&self, request: &WriteRequest) -> Result<PlannedWrite, RequestError> {
        let table = self.routes.table(&request.keyspace, &request.table)?;
        table.check_shape(match request.change {
            Change::Update(id, _) => Shape::Of(id),
            Change::Put { .. } | Change::Delete => Shape::OneValue,
        })?;
        let (write, timestamp) = self.mutation(&table, request)?;
        counter::check_level(&table, request.level)?;
        // Nobody joins or leaves the ring while it runs yet, so no replica is pending.
        let requirement =
            request.level.requirement(Op::Write, &table.replication, &self.dc, &[])?;
        let holders = table.placement.replicas(write.token);
        let needed = (request.level, requirement.block_for());
        self.tell_plan(&request.trace, ("mutation", write.token), holders, needed);
        requirement.check(holders, |node| self.is_alive(node))?;
        let (timeout, trace) = (request.timeout, request.trace.clone());
        Ok(PlannedWrite { table, write, timestamp, requirement, timeout, trace })
    }

    /// Sends it, and counts who acknowledges.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        planned: PlannedWrite,
    ) -> Result<WriteOutcome, RequestError> {
        let counts = planned.counts();
        let PlannedWrite { table, mut write, mut timestamp, requirement, timeout, trace } = planned;
        let holders = table.placement.replicas(write.token);
        let (key, encoded) = (write.key.clone(), write.encoded.clone());
        let mut owed = self.owed(&table, (key, encoded), &trace);
        self.find_room(&owed, holders, timeout).await?;
        let mut counted = None;
        if counts {
            let done = self.count(&write).map_err(|error| error.failure(self.id, &requirement))?;
            (write, timestamp, counted) = (done.write, done.timestamp, Some(done.applied));
            owed.encoded = write.encoded.clone();
        }
        let body = message(&table, &write, &trace);
        // Where counters are counted they are merged in already.
        let own = || {
            let applied = counted.map_or_else(|| self.replica.apply(write, ApplyPath::Write), Ok);
            trace.tell_in(room::REPLICA, || replica::applied_in_words(&applied));
            applied.map_err(|error| storage_reason(&error))
        };
        self.replicate(Outgoing { owed, requirement, timestamp, timeout }, holders, body, own).await
    }

    /// Sends a write, and answers once the level is met or out of reach. Replication goes on behind the answer.
    pub(super) async fn replicate(
        self: &Arc<Self>,
        outgoing: Outgoing,
        holders: &[Holder],
        body: Body,
        own: impl FnOnce() -> Result<Applied, FailureReason>,
    ) -> Result<WriteOutcome, RequestError> {
        let Outgoing { owed, requirement, timestamp, timeout } = outgoing;
        let (level, table) = (requirement.level(), Arc::clone(&owed.table));
        let mut tally = Tally::new(requirement, holders);
        let mut sent = self.send(owed, body, own, holders, &mut tally);
        sent.owe_the_dead(&mut tally).await;
        let mut responders = Vec::new();
        let verdict = match timeout.filter(|t| *t < self.config.write_request_timeout) {
            // The links end every call after `write_request_timeout`; only a client that waits for less needs a timer.
            None => sent.gather(&mut tally, &mut responders).await,
            Some(patience) => {
                let gathered = sent.gather(&mut tally, &mut responders);
                tokio::time::timeout(patience, gathered).await.unwrap_or(Verdict::Pending)
            }
        };
        sent.owed.trace.tell(|| concluded(level, &tally, verdict));
        // `sent` is dropped here, and with it go the stragglers, on a task of their own: see `Sent`.
        match verdict {
            Verdict::Met => {
                let block_for = tally.block_for();
                if !sent.refused.is_empty() && table.def.options.hint_refused == HintRefused::Error
                {
                    return Err(sent.hint_refused(level, tally.received(), block_for));
                }
                let warnings = sent.warnings();
                Ok(WriteOutcome { timestamp, warnings, responders, block_for })
            }
            Verdict::Pending => Err(RequestError::Timeout {
                level,
                received: tally.received(),
                block_for: tally.block_for(),
                data_present: false,
                write: true,
            }),
            Verdict::Lost => Err(RequestError::Failure {
                level,
                received: tally.received(),
                block_for: tally.block_for(),
                data_present: false,
                write: true,
                failures: failures(&tally),
            }),
        }
    }

    /// The request as the replicas get it. All that can be wrong with it is found here, before anything is sent.
    fn mutation(
        &self,
        table: &TableRoute,
        request: &WriteRequest,
    ) -> Result<(Write, TimestampMicros), RequestError> {
        check_key(&request.key)?;
        let now = self.now_seconds();
        let timestamp = request.timestamp.unwrap_or_else(|| self.next_timestamp());
        let (id, key, token) = (table.def.id, Key(request.key.clone()), token::of(&request.key));
        let write = match &request.change {
            Change::Delete => Write::of(id, key, token, Partition::delete(timestamp, now)),
            Change::Update(_, update) => {
                self.check_size("update", merge::value_bytes(update))?;
                Write::of(id, key, token, update.clone())
            }
            Change::Put { value, ttl_s } => {
                self.check_size("value", value.len())?;
                table.check_put(&request.key, value)?;
                Write::put((id, key, token), value, timestamp, expiry(table, *ttl_s, now))
            }
        };
        Ok((write, timestamp))
    }

    pub(super) fn check_size(&self, what: &str, bytes: usize) -> Result<(), RequestError> {
        let limit = self.config.max_value_size;
        if bytes as u64 <= limit {
            return Ok(());
        }
        Err(RequestError::Invalid(format!(
            "the {what} has {bytes} bytes and the limit is {limit} (max_value_size): split it, or raise the limit on every \
             node"
        )))
    }

    /// What a replica that misses this write is owed.
    pub(super) fn owed(
        &self,
        table: &Arc<TableRoute>,
        (key, encoded): (Key, Bytes),
        trace: &Trace,
    ) -> Owed {
        Owed {
            trace: trace.clone(),
            table: Arc::clone(table),
            key,
            encoded,
            created_ms: u64::try_from(self.clock.wall_micros() / 1000).unwrap_or(0),
        }
    }

    /// Before anything is sent: room for the hints that replicas which are down will be owed, where the keyspace's policy
    /// is to refuse the write, or to let it wait.
    ///
    /// CAVEAT: a replica that is thought to be alive and does not answer is owed a hint as well, and nobody asked for
    /// room for that one. At ANY, hints after the first are stored once the first is synced, so others may come between.
    async fn find_room(
        &self,
        owed: &Owed,
        holders: &[Holder],
        timeout: Option<Duration>,
    ) -> Result<(), RequestError> {
        let policy = owed.table.hint_overflow.unwrap_or(self.config.hints.overflow);
        if !matches!(policy, Overflow::FailWrite | Overflow::Throttle) || owed.table.best_effort {
            return Ok(());
        }
        let dead = holders.iter().map(|holder| holder.node).filter(|node| !self.is_alive(*node));
        let dead = dead.map(|node| (node, self.membership.down_for(node)));
        let dead: Vec<(NodeId, Duration)> = dead.collect();
        if dead.is_empty() {
            return Ok(());
        }
        if policy == Overflow::Throttle {
            let patience = self.config.hints.hint_throttle_max_wait;
            let patience = timeout.map_or(patience, |timeout| timeout.min(patience));
            // Without room the hint is refused like any other, counted and warned of.
            self.hints.wait_for_room(&dead, &owed.hint(), patience).await.ok();
            return Ok(());
        }
        self.hints.room_or_refuse(&dead, &owed.hint()).map_err(|(node, loss)| {
            RequestError::Overloaded(format!(
                "replica {} is down and there is no room for the hint that it would be owed ({}); nothing was sent. Bring \
                 it back, raise max_hints_size, or let the keyspace have another hint_overflow than fail-write",
                self.membership.describe(node),
                loss.as_str()
            ))
        })
    }

    /// One message to each live replica; this node's own copy is applied on the spot.
    pub(super) fn send(
        self: &Arc<Self>,
        owed: Owed,
        body: Body,
        apply_own: impl FnOnce() -> Result<Applied, FailureReason>,
        holders: &[Holder],
        tally: &mut Tally,
    ) -> Sent {
        let mut live = Vec::with_capacity(holders.len());
        let mut dead = Vec::new();
        let mut own = false;
        for holder in holders {
            match holder.node {
                node if node == self.id => own = true,
                node if self.membership.is_alive(node) => live.push(node),
                node => dead.push(node),
            }
        }
        // They are taken from the end.
        dead.reverse();
        let what = if matches!(body, Body::PaxosCommit(_)) { "PAXOS_COMMIT" } else { "MUTATION" };
        for node in &live {
            self.tell_sent(&owed.trace, what, *node);
        }
        let inflight = self.peers.call(&live, body, self.config.write_request_timeout);
        let mut sent = Sent {
            coordinator: Arc::clone(self),
            owed,
            inflight: Some(inflight),
            own: None,
            dead,
            refused: Vec::new(),
        };
        if own {
            match apply_own() {
                Ok(Applied::Now) => {
                    tally.record(self.id, Answer::Ack);
                }
                Ok(Applied::After(synced)) => sent.own = Some(synced),
                Err(reason) => {
                    tally.record(self.id, Answer::Failed(reason));
                }
            }
        }
        sent
    }
}

/// A write as it travels to a replica.
pub(super) fn message(table: &TableRoute, write: &Write, trace: &Trace) -> Body {
    Body::Mutation(v1::ApplyMutation {
        table: table.wire_id.clone(),
        key: write.key.0.clone(),
        update: write.encoded.clone(),
        path: v1::ApplyPath::Write.into(),
        trace: trace.is_on(),
    })
}

pub(super) fn check_key(key: &Bytes) -> Result<(), RequestError> {
    match key.len() {
        0 => Err(RequestError::Invalid(
            "the key is empty: a partition key has at least one byte".to_owned(),
        )),
        1..=MAX_KEY_BYTES => Ok(()),
        bytes => Err(RequestError::Invalid(format!(
            "the key has {bytes} bytes and the limit is {MAX_KEY_BYTES}"
        ))),
    }
}

fn expiry(table: &TableRoute, ttl_s: u32, now: GcSeconds) -> Option<Expiry> {
    let ttl_s = if ttl_s == 0 { table.def.options.default_time_to_live } else { ttl_s };
    (ttl_s > 0).then(|| Expiry { ttl_s, expires_at: GcSeconds(now.0.saturating_add(ttl_s)) })
}

/// Storage's words as a replica's refusal.
pub(crate) fn storage_reason(error: &StorageError) -> FailureReason {
    match error {
        StorageError::UnknownTable { .. } => FailureReason::IncompatibleSchema,
        StorageError::Stopped => FailureReason::NodeDown,
        StorageError::Overloaded { .. } => FailureReason::Overloaded,
        StorageError::TooManyTombstones { .. } => FailureReason::ReadTooManyTombstones,
        _ => FailureReason::Storage,
    }
}

/// A mutation for as long as some replica may still be owed it.
pub(super) struct Owed {
    trace: Trace,
    table: Arc<TableRoute>,
    key: Key,
    encoded: Bytes,
    /// When it was written, by this node's wall clock: a hint's life is counted from here.
    pub(super) created_ms: u64,
}

/// A write that is about to be sent.
pub(super) struct Outgoing {
    pub(super) owed: Owed,
    pub(super) requirement: Requirement,
    pub(super) timestamp: TimestampMicros,
    pub(super) timeout: Option<Duration>,
}

/// A write on its way to its replicas.
///
/// Whoever has not acknowledged when this is dropped is waited for on a task of its own and then owed a hint. Dropping
/// happens when the client has its answer, and just as well when the client goes away half-way: either way replication
/// goes on.
pub(super) struct Sent {
    coordinator: Arc<Coordinator>,
    owed: Owed,
    inflight: Option<Inflight>,
    /// This node's own copy, while its sync is waited for.
    own: Option<BoxFuture<'static, Result<(), StorageError>>>,
    /// Replicas that nothing was sent to, because they are down.
    dead: Vec<NodeId>,
    /// Replicas that missed it and that no hint is kept for, as far as is known.
    refused: Vec<(NodeId, HintLoss)>,
}

impl Sent {
    /// Hints for the replicas that are down. At ANY the hint has to be durable, and then it is enough.
    pub(super) async fn owe_the_dead(&mut self, tally: &mut Tally) {
        // One by one: should the client go away while a hint is synced, the others are owed theirs by `drop`.
        while let Some(node) = self.dead.pop() {
            self.owe_for(node, tally).await;
        }
    }

    /// A hint for a replica that does not have it, and the tally told of it where it counts.
    async fn owe_for(&mut self, node: NodeId, tally: &mut Tally) {
        let counts = tally.level() == Level::Any && tally.verdict() != Verdict::Met;
        if !counts || self.owed.table.best_effort {
            return self.owe(node);
        }
        let down_for = self.coordinator.membership.down_for(node);
        let hints = &self.coordinator.hints;
        let kept = hints.append_durable(node, &self.owed.hint(), down_for).await;
        self.coordinator.tell_hint(&self.owed.trace, node, kept.as_ref().err());
        match kept {
            // It is durable, and may never be delivered: no acknowledgement.
            Ok(receipt) if receipt.dead_letter => {}
            Ok(_) => {
                tally.hint_kept();
            }
            Err(loss) => self.refused.push((node, loss)),
        }
    }

    /// Waits for every answer, met or not: nobody else does.
    pub(super) async fn gather_all(&mut self, tally: &mut Tally) {
        if let Some(synced) = self.own.take() {
            self.take_own(synced.await, tally, &mut Vec::new());
        }
        while let Some(inflight) = self.inflight.as_mut()
            && let Some((node, answer)) = inflight.next().await
        {
            match answer {
                Ok(Body::Ack(_)) => {
                    tally.record(node, Answer::Ack);
                }
                _ => self.owe_for(node, tally).await,
            }
        }
    }

    fn owe(&mut self, node: NodeId) {
        let refused = self.owed.owe(&self.coordinator, node).err();
        self.refused.extend(refused.map(|loss| (node, loss)));
    }

    /// What the client of an acknowledged write should know.
    fn warnings(&self) -> Vec<String> {
        let warning = |(node, loss): &(NodeId, HintLoss)| {
            let name = self.coordinator.membership.describe(*node);
            format!(
                "replica {name} missed this write and no hint is kept for it ({}); repair it, or read at a level that \
                 reaches others",
                loss.as_str()
            )
        };
        self.refused.iter().map(warning).collect()
    }

    /// The same as a failure, for tables whose clients want to hear it so.
    fn hint_refused(&self, level: Level, received: usize, block_for: usize) -> RequestError {
        let failure = |(node, _): &(NodeId, HintLoss)| ReplicaFailure {
            node: *node,
            reason: HINT_REFUSED.to_owned(),
        };
        RequestError::Failure {
            level,
            received,
            block_for,
            data_present: false,
            write: true,
            failures: self.refused.iter().map(failure).collect(),
        }
    }

    /// Counts answers until the level is met or out of reach. `Pending`: nobody is left who could still answer.
    async fn gather(&mut self, tally: &mut Tally, responders: &mut Vec<NodeId>) -> Verdict {
        let own_id = self.coordinator.id;
        if self.own.is_none() && tally.received() > 0 {
            responders.push(own_id);
        }
        loop {
            match tally.verdict() {
                Verdict::Pending => {}
                decided => return decided,
            }
            let Some(inflight) = self.inflight.as_mut() else { return Verdict::Pending };
            tokio::select! {
                // In this order so that a run replays; an answer that is there is taken before any sync is.
                biased;
                answer = inflight.next() => match answer {
                    Some((node, answer)) => {
                        if self.take(node, answer, tally) {
                            responders.push(node);
                        }
                    }
                    None => match self.own.take() {
                        Some(synced) => self.take_own(synced.await, tally, responders),
                        None => return tally.verdict(),
                    },
                },
                Some(synced) = poll_own(&mut self.own) => {
                    self.own = None;
                    self.take_own(synced, tally, responders);
                }
            }
        }
    }

    /// One replica's answer. True: it acknowledged.
    fn take(
        &mut self,
        node: NodeId,
        mut answer: Result<Body, PeerError>,
        tally: &mut Tally,
    ) -> bool {
        self.coordinator.tell_answer(&self.owed.trace, node, &mut answer);
        match answer {
            Ok(Body::Ack(_)) => {
                tally.record(node, Answer::Ack);
                return true;
            }
            Ok(Body::Failed(error)) => {
                let Ok(reason) = error.reason.parse();
                tally.record(node, Answer::Failed(reason));
            }
            Ok(_) => {
                tally.record(node, Answer::Failed(FailureReason::Unknown));
            }
            // Silence is no refusal: the replica may have it. The tally stays open, and the client hears "timeout".
            Err(_) => {}
        }
        self.owe(node);
        false
    }

    fn take_own(
        &mut self,
        synced: Result<(), StorageError>,
        tally: &mut Tally,
        responders: &mut Vec<NodeId>,
    ) {
        match synced {
            Ok(()) => {
                tally.record(self.coordinator.id, Answer::Ack);
                responders.push(self.coordinator.id);
            }
            Err(error) => {
                tally.record(self.coordinator.id, Answer::Failed(storage_reason(&error)));
            }
        }
    }
}

/// The own copy's sync, if there is one to wait for.
async fn poll_own(
    own: &mut Option<BoxFuture<'static, Result<(), StorageError>>>,
) -> Option<Result<(), StorageError>> {
    match own {
        Some(synced) => Some(synced.await),
        None => None,
    }
}

impl Owed {
    /// Owes `node` this mutation, or says why no hint is kept.
    fn owe(&self, coordinator: &Coordinator, node: NodeId) -> Result<(), HintLoss> {
        if self.table.best_effort {
            return Ok(());
        }
        let down_for = coordinator.membership.down_for(node);
        let kept = coordinator.hints.append(node, &self.hint(), down_for).map(|_| ());
        coordinator.tell_hint(&self.trace, node, kept.as_ref().err());
        kept
    }

    /// An answer that came after the client's.
    fn settle(&self, coordinator: &Coordinator, node: NodeId, mut answer: Result<Body, PeerError>) {
        coordinator.tell_answer(&self.trace, node, &mut answer);
        if !matches!(answer, Ok(Body::Ack(_))) {
            // The client has its answer; the refusal of this hint, if any, is in the metrics.
            self.owe(coordinator, node).ok();
        }
    }

    fn hint(&self) -> NewHint<'_> {
        NewHint {
            table: self.table.def.id,
            key: &self.key,
            update: &self.encoded,
            created_ms: self.created_ms,
            gc_grace_s: self.table.def.options.gc_grace_seconds,
            overflow: self.table.hint_overflow,
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        for node in std::mem::take(&mut self.dead) {
            self.owed.owe(&self.coordinator, node).ok();
        }
        let Some(mut inflight) = self.inflight.take() else { return };
        // The answer that decided may not have been the last to come: a link that was lost in the same wake has answered
        // for its replica too, and nobody has looked.
        while let Some((node, answer)) = inflight.ready() {
            self.owed.settle(&self.coordinator, node, answer);
        }
        if inflight.waiting().is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let coordinator = Arc::clone(&self.coordinator);
        let owed = Owed {
            trace: self.owed.trace.clone(),
            table: Arc::clone(&self.owed.table),
            key: self.owed.key.clone(),
            encoded: self.owed.encoded.clone(),
            created_ms: self.owed.created_ms,
        };
        let settling = coordinator.settles();
        self.coordinator.tasks.spawn(async move {
            let _settling = settling;
            // Bounded by the links: they end every call after `write_request_timeout`.
            while let Some((node, answer)) = inflight.next().await {
                owed.settle(&coordinator, node, answer);
            }
        });
    }
}
