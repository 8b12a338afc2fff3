//! A batch, top to bottom.
//!
//! An unlogged batch is several writes at once, and nothing more. A logged one of several partitions is written whole or not
//! at all: it is with its keepers before anything of it is sent (`helenus_core::batchlog`), and whatever happens then, to its
//! client or to this node, a keeper finishes it.
//!
//! Invariants: what is refused as Unavailable was told to nobody; a batch that is not with all of its keepers is not sent to
//! any replica (it may still be finished by a keeper that has it and did not hear that it should forget it); keepers forget a
//! batch only when each of its writes has reached the client's level, and this node's own copies are in its log.
//!
//! Source: Cassandra 4.1's `StorageProxy.mutateAtomically`.

use super::error::{ReplicaFailure, Unlogged};
use super::trace::Trace;
use super::write::{PlannedWrite, message};
use super::{Coordinator, RequestError, WriteOutcome, WriteRequest, storage_reason};
use crate::batchlog::KeepError;
use crate::peers::{Lane, Verb};
use crate::seams::probe::ApplyPath;
use crate::storage::Write;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use helenus_core::batchlog::{self, BatchId, Logged};
use helenus_core::level::Op;
use helenus_core::tally::{FailureReason, Tally, Verdict};
use helenus_core::{Level, NodeId, TimestampMicros, token};
use helenus_proto::v1;
use helenus_proto::v1::message::Body;
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::future::Future;
use std::sync::{Arc, Mutex};

/// Writes of one batch that are under way at once.
const WRITES_AT_ONCE: usize = 64;
/// Different warnings that a batch's answer brings.
const WARNINGS_MAX: usize = 16;

/// Several writes of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRequest {
    /// What is written: one for each partition, all of the same level.
    pub writes: Vec<WriteRequest>,
    /// All of them or none, whatever becomes of this node.
    pub logged: bool,
}

/// A batch of which every write has reached its level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// What the client should know all the same.
    pub warnings: Vec<String>,
    /// Set if the answer depends on this node's log.
    pub(crate) unlogged: Option<Unlogged>,
}

impl BatchOutcome {
    /// One of its writes has reached its level.
    fn add(&mut self, written: WriteOutcome, coordinator: NodeId, level: Level) {
        self.unlogged = written.unlogged(coordinator, level).or(self.unlogged);
        for warning in written.warnings {
            if !self.warnings.contains(&warning) && self.warnings.len() < WARNINGS_MAX {
                self.warnings.push(warning);
            }
        }
    }
}

/// How far a batch had come: what the client is told of as the type of the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchStep {
    /// Its keepers were to write it down. Nothing of it was sent to a replica.
    Log,
    /// Its writes. If it is logged, it will be finished.
    Writes,
}

/// Why a batch was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct BatchError {
    /// How far it had come.
    pub step: BatchStep,
    /// What happened there.
    pub error: RequestError,
}

fn at_log(error: RequestError) -> BatchError {
    BatchError { step: BatchStep::Log, error }
}

fn at_writes(error: impl Into<RequestError>) -> BatchError {
    BatchError { step: BatchStep::Writes, error: error.into() }
}

/// What batches' ids and keepers are drawn from.
pub(crate) struct BatchChance {
    rng: Mutex<SmallRng>,
    clock_seq: u16,
    node: [u8; 6],
}

impl BatchChance {
    /// `rng` is another one in each life of a node, so that no id is given twice.
    pub(crate) fn new(mut rng: SmallRng) -> BatchChance {
        let (clock_seq, node) = (rng.random(), rng.random());
        BatchChance { rng: Mutex::new(rng), clock_seq, node }
    }

    fn below(&self, n: usize) -> usize {
        let mut rng = self.rng.lock().expect("nothing panics while it holds this lock");
        rng.random_range(0..n.max(1))
    }
}

impl Coordinator {
    /// Writes them all, and answers when every one of them has reached its level, or one cannot.
    pub async fn write_batch(
        self: &Arc<Self>,
        mut batch: BatchRequest,
    ) -> Result<BatchOutcome, BatchError> {
        let level = level_of(&batch.writes);
        // Most are one write, which needs nobody to wait for several.
        if batch.writes.len() == 1
            && let Some(write) = batch.writes.pop()
        {
            let written = self.write(write).await.map_err(at_writes)?;
            let mut outcome = BatchOutcome::default();
            outcome.add(written, self.id, level);
            return Ok(outcome);
        }
        if !batch.logged || batch.writes.is_empty() {
            let writes = batch.writes.into_iter().map(|write| self.write(write));
            let written = Box::pin(self.all_of(writes, level, Then::Stop)).await;
            return written.map_err(at_writes);
        }
        let began = self.clock.now();
        let result = match self.admit() {
            Ok(_place) => Box::pin(self.write_logged(batch.writes)).await,
            Err(full) => Err(at_writes(full)),
        };
        let seen = result.as_ref().map_err(|failed| failed.error.clone());
        self.answered("batch", began, &seen);
        result
    }

    async fn write_logged(
        self: &Arc<Self>,
        writes: Vec<WriteRequest>,
    ) -> Result<BatchOutcome, BatchError> {
        let level = level_of(&writes);
        let trace = writes.first().map(|write| write.trace.clone()).unwrap_or_default();
        let planned = writes.into_iter().map(|write| self.planned(write));
        let planned = planned.collect::<Result<Vec<_>, _>>().map_err(at_writes)?;
        let keepers = self.keepers(level).map_err(at_writes)?;
        let (id, batch) = self.to_log(&planned).map_err(at_writes)?;
        self.tell_keepers(&trace, (id, planned.len()), &keepers);
        self.log(id, batch, &keepers, &trace).await.map_err(at_log)?;
        trace.tell(|| "The batch is logged: its writes begin".to_owned());
        // From here on it will be finished: by this node, or by a keeper.
        let written = planned.into_iter().map(|write| self.carry_out(write));
        let outcome = self.all_of(written, level, Then::GoOn).await;
        let mut outcome = outcome.map_err(at_writes)?;
        if let Some(unlogged) = outcome.unlogged.take() {
            // A keeper that forgot it now could not write this node's copies again if this process ended.
            let committed = self.replica.engine.commit();
            committed.map_err(|_| at_writes(unlogged.failure(self.id)))?;
        }
        trace.tell(|| "All of the batch is written: its keepers may forget it".to_owned());
        self.forget(id, &keepers);
        Ok(outcome)
    }

    /// Who keeps the next batch.
    fn keepers(&self, level: Level) -> Result<Vec<NodeId>, RequestError> {
        let ring = self.membership.ring();
        let Some(own) = ring.endpoint(self.id) else { return Ok(vec![self.id]) };
        // One that is leaving would have to finish it first: it is asked if nobody else is there.
        let stays = |node| self.is_alive(node) && !ring.is_leaving(node);
        let others = ring.members().iter().filter(|it| it.dc == own.dc && it.node != self.id);
        let any_stays = others.map(|it| it.node).any(stays);
        let alive = |node| if any_stays { stays(node) } else { self.is_alive(node) };
        let draw = |n| self.batch_chance.below(n);
        Ok(batchlog::keepers(own, ring.members(), level, alive, draw)?)
    }

    /// A batch as its keepers get it.
    fn to_log(&self, writes: &[PlannedWrite]) -> Result<(BatchId, Bytes), RequestError> {
        let BatchChance { clock_seq, node, .. } = self.batch_chance;
        let id = BatchId::new(self.next_timestamp(), clock_seq, node).ok_or_else(|| {
            RequestError::Invalid(
                "this node's clock is set to a year that no timeuuid can name: set it right"
                    .to_owned(),
            )
        })?;
        let logged = writes.iter().map(|PlannedWrite { write, .. }| Logged {
            table: write.table,
            key: write.key.clone(),
            update: write.encoded.clone(),
        });
        Ok((id, batchlog::encode(&logged.collect::<Vec<_>>())))
    }

    /// Has the batch written down by all of its keepers.
    async fn log(
        &self,
        id: BatchId,
        batch: Bytes,
        keepers: &[NodeId],
        trace: &Trace,
    ) -> Result<(), RequestError> {
        let mut received = 0;
        let mut failures = Vec::new();
        let others: Vec<NodeId> = keepers.iter().copied().filter(|node| *node != self.id).collect();
        if others.len() < keepers.len() {
            match self.keep(id, &batch).await {
                Ok(()) => received += 1,
                Err(reason) => failures.push((self.id, reason)),
            }
        }
        let body =
            Body::BatchStore(v1::BatchStore { id: Bytes::copy_from_slice(id.as_bytes()), batch });
        for node in &others {
            self.tell_sent(trace, Verb::of(&body).as_str(), *node);
        }
        let mut asked = self.peers.call(&others, body, self.config.write_request_timeout);
        // One refusal is enough to know how it ends.
        while failures.is_empty()
            && let Some((node, mut answer)) = asked.next().await
        {
            self.tell_answer(trace, node, &mut answer);
            match answer {
                Ok(Body::Ack(_)) => received += 1,
                Ok(Body::Failed(error)) => {
                    let Ok(reason) = error.reason.parse();
                    failures.push((node, reason));
                }
                Ok(_) => failures.push((node, FailureReason::Unknown)),
                // Silence is no refusal: the keeper may have it.
                Err(_) => {}
            }
        }
        let block_for = keepers.len();
        if received == block_for {
            return Ok(());
        }
        // A keeper that has it would finish it, and the client is told that it was not written.
        self.forget(id, keepers);
        let level = if block_for == 1 { Level::One } else { Level::Two };
        if failures.is_empty() {
            let (data_present, write) = (false, true);
            return Err(RequestError::Timeout { level, received, block_for, data_present, write });
        }
        let failure = |(node, reason): (NodeId, FailureReason)| ReplicaFailure {
            node,
            reason: reason.name().to_owned(),
        };
        Err(RequestError::Failure {
            level,
            received,
            block_for,
            data_present: false,
            write: true,
            failures: failures.into_iter().map(failure).collect(),
        })
    }

    /// Keeps it here: nobody else is there.
    async fn keep(&self, id: BatchId, batch: &Bytes) -> Result<(), FailureReason> {
        let kept = self.batchlog.store(id, batch).map_err(|error| keep_reason(&error))?;
        let durable = self.replica.durable(Ok(kept)).await;
        durable.map_err(|error| storage_reason(&error))
    }

    /// Tells the keepers that the batch is done. One that does not hear it does it again, which changes nothing.
    fn forget(&self, id: BatchId, keepers: &[NodeId]) {
        for keeper in keepers {
            if *keeper == self.id {
                if let Err(error) = self.batchlog.remove(id) {
                    tracing::warn!(batch = %id, %error, "a batch that is done could not be forgotten");
                }
                continue;
            }
            let body =
                Body::BatchRemove(v1::BatchRemove { id: Bytes::copy_from_slice(id.as_bytes()) });
            // Counted as dropped if it cannot be queued.
            self.peers.send_one_way(*keeper, Lane::Small, body).ok();
        }
    }

    /// A mutation that another coordinator left, in a batch, or that is owed to a replica which has left the ring: to all of
    /// its replicas, with a hint for each that is down or does
    /// not acknowledge it. An error, in a sentence: no replica has it, and to none it is owed for certain.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        mutation: Logged,
        written: TimestampMicros,
    ) -> Result<(), String> {
        let schema = self.replica.schema.current();
        // Its table was dropped.
        let Some(def) = schema.table(mutation.table) else { return Ok(()) };
        let table = self.routes.table(&def.keyspace, &def.name).map_err(|e| e.to_string())?;
        let token = token::of(&mutation.key.0);
        let write = Write::decode(mutation.table, mutation.key, token, mutation.update)
            .map_err(|error| error.to_string())?;
        let holders = table.write_targets(token).all;
        let requirement = Level::Any.requirement(Op::Write, &table.replication, &self.dc, &[]);
        let requirement = requirement.map_err(|error| error.to_string())?;
        let mut tally = Tally::new(requirement, holders);
        let _settling = self.settles();
        let untraced = Trace::default();
        let mut owed = self.owed(&table, (write.key.clone(), write.encoded.clone()), &untraced);
        // A hint's life is counted from when the batch was written.
        owed.created_ms = u64::try_from(written.0.div_euclid(1000)).unwrap_or(0);
        let body = message(&table, &write, &untraced);
        let own =
            || self.replica.apply(write, ApplyPath::Write).map_err(|error| storage_reason(&error));
        let mut sent = self.send(owed, body, own, holders, &mut tally);
        sent.owe_the_dead(&mut tally).await;
        sent.gather_all(&mut tally).await;
        match tally.verdict() {
            Verdict::Met => Ok(()),
            Verdict::Pending | Verdict::Lost => Err(format!(
                "no replica of {}.{} has taken a mutation, and no hint is kept for it",
                def.keyspace, def.name
            )),
        }
    }

    /// Does them all, [`WRITES_AT_ONCE`] at a time. Of several errors, the first.
    async fn all_of<F>(
        &self,
        writes: impl Iterator<Item = F>,
        level: Level,
        then: Then,
    ) -> Result<BatchOutcome, RequestError>
    where
        F: Future<Output = Result<WriteOutcome, RequestError>>,
    {
        let mut waiting = writes;
        let mut running = FuturesUnordered::new();
        let mut outcome = BatchOutcome::default();
        let mut failed = None;
        loop {
            while running.len() < WRITES_AT_ONCE
                && (failed.is_none() || then == Then::GoOn)
                && let Some(write) = waiting.next()
            {
                running.push(write);
            }
            let Some(written) = running.next().await else { break };
            match written {
                Ok(written) => outcome.add(written, self.id, level),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(outcome), Err)
    }
}

/// A keeper's refusal.
pub(crate) fn keep_reason(error: &KeepError) -> FailureReason {
    match error {
        KeepError::Full { .. } => FailureReason::Overloaded,
        KeepError::Storage(error) => storage_reason(error),
    }
}

/// What becomes of writes that were not begun when another one has failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// They never are: nobody promised them.
    Stop,
    /// They are begun all the same: they were promised.
    GoOn,
}

/// All have the same.
fn level_of(writes: &[WriteRequest]) -> Level {
    writes.first().map_or(Level::Any, |write| write.level)
}
