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
use super::error::{Unlogged, failures};
use super::route::{Shape, TableRoute};
use super::sent::Owed;
use super::trace::words::concluded;
use super::trace::{Trace, room};
use super::{Coordinator, RequestError};
use crate::replica;
use crate::seams::probe::ApplyPath;
use crate::storage::{Applied, StorageError, Write};
use bytes::Bytes;
use helenus_core::hint::Overflow;
use helenus_core::level::{Op, Requirement};
use helenus_core::placement::Replica as Holder;
use helenus_core::tally::{FailureReason, Tally, Verdict};
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

/// A write that is about to be sent.
pub(super) struct Outgoing {
    pub(super) owed: Owed,
    pub(super) requirement: Requirement,
    pub(super) timestamp: TimestampMicros,
    pub(super) timeout: Option<Duration>,
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
        let planned = self.planned(request)?;
        if planned.counts() {
            let holders = planned.table.placement.replicas(planned.write.token);
            if holders.iter().all(|holder| holder.node != self.id) {
                return Box::pin(self.hand_to_leader(planned, counting)).await;
            }
        }
        self.carry_out(planned).await
    }

    /// All that can be found out before anything is sent.
    pub(super) fn planned(&self, request: WriteRequest) -> Result<PlannedWrite, RequestError> {
        let WriteRequest { keyspace, table, key, change, level, timestamp, timeout, trace } =
            request;
        let table = self.routes.table(&keyspace, &table)?;
        table.check_shape(match change {
            Change::Update(id, _) => Shape::Of(id),
            Change::Put { .. } | Change::Delete => Shape::OneValue,
        })?;
        let (write, timestamp) = self.mutation(&table, key, change, timestamp)?;
        counter::check_level(&table, level)?;
        let targets = table.write_targets(write.token);
        let requirement =
            level.requirement(Op::Write, &table.replication, &self.dc, targets.pending)?;
        let needed = (level, requirement.block_for());
        self.tell_plan(&trace, ("mutation", write.token), targets.all, needed);
        requirement.check(targets.all, |node| self.is_alive(node))?;
        Ok(PlannedWrite { table, write, timestamp, requirement, timeout, trace })
    }

    /// Sends it, and counts who acknowledges.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        planned: PlannedWrite,
    ) -> Result<WriteOutcome, RequestError> {
        let counts = planned.counts();
        let PlannedWrite { table, mut write, mut timestamp, requirement, timeout, trace } = planned;
        let holders = table.write_targets(write.token).all;
        let (key, encoded) = (write.key.clone(), write.encoded.clone());
        let mut owed = self.owed(&table, (key, encoded), &trace);
        self.find_room(&owed, holders, timeout).await?;
        let mut counted = None;
        if counts {
            self.tell_leader(&trace, self.id);
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
        let level = requirement.level();
        let mut tally = Tally::new(requirement, holders);
        let mut sent = self.send(owed, body, own, holders, &mut tally);
        sent.owe_the_dead(&mut tally).await;
        let mut responders = Vec::new();
        let verdict = match timeout.filter(|t| *t < self.config.write_request_timeout) {
            // The links end every call after `write_request_timeout`; only a client that waits for less needs a timer.
            None => sent.gather(&mut tally, &mut responders).await,
            Some(patience) => {
                let gathered = sent.gather(&mut tally, &mut responders);
                let gathered = Box::pin(tokio::time::timeout(patience, gathered)).await;
                gathered.unwrap_or(Verdict::Pending)
            }
        };
        sent.owed.trace.tell(|| concluded(level, &tally, verdict));
        // `sent` is dropped here, and with it go the stragglers, on a task of their own: see `Sent`.
        match verdict {
            Verdict::Met => {
                let block_for = tally.block_for();
                let on_refusal = sent.owed.table.def.options.hint_refused;
                if !sent.refused.is_empty() && on_refusal == HintRefused::Error {
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
        key: Bytes,
        change: Change,
        timestamp: Option<TimestampMicros>,
    ) -> Result<(Write, TimestampMicros), RequestError> {
        check_key(&key)?;
        let now = self.now_seconds();
        let timestamp = timestamp.unwrap_or_else(|| self.next_timestamp());
        let (id, token, key) = (table.def.id, token::of(&key), Key(key));
        let write = match change {
            Change::Delete => Write::of(id, key, token, Partition::delete(timestamp, now)),
            Change::Update(_, update) => {
                self.check_size("update", merge::value_bytes(&update))?;
                Write::of(id, key, token, update)
            }
            Change::Put { value, ttl_s } => {
                self.check_size("value", value.len())?;
                table.check_put(&key.0, &value)?;
                Write::put((id, key, token), &value, timestamp, expiry(table, ttl_s, now))
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
