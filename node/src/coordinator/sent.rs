//! A write on its way to its replicas: who has answered, who is owed a hint, and what becomes of the answers that come after
//! the client's.
//!
//! The story is in `write`; this is what it holds in its hands from the moment that the messages are sent.

use super::Coordinator;
use super::error::{ReplicaFailure, RequestError};
use super::route::TableRoute;
use super::trace::Trace;
use super::write::storage_reason;
use crate::hints::NewHint;
use crate::peers::{Inflight, PeerError, Verb};
use crate::seams::net::BoxFuture;
use crate::seams::probe::HintLoss;
use crate::storage::{Applied, StorageError};
use bytes::Bytes;
use helenus_core::placement::Replica as Holder;
use helenus_core::tally::{Answer, FailureReason, Tally, Verdict};
use helenus_core::{Key, Level, NodeId};
use helenus_proto::v1::message::Body;
use std::sync::Arc;

/// The reason in a failure of a write that reached its level, in a table with `hint_refused = ERROR`: this replica missed it
/// and no hint is kept.
const HINT_REFUSED: &str = "HINT_REFUSED";

impl Coordinator {
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
        let what = Verb::of(&body).as_str();
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

/// A mutation for as long as some replica may still be owed it.
#[derive(Clone)]
pub(super) struct Owed {
    pub(super) trace: Trace,
    pub(super) table: Arc<TableRoute>,
    key: Key,
    pub(super) encoded: Bytes,
    /// When it was written, by this node's wall clock: a hint's life is counted from here.
    pub(super) created_ms: u64,
}

/// A write on its way to its replicas.
///
/// Whoever has not acknowledged when this is dropped is waited for on a task of its own and then owed a hint. Dropping
/// happens when the client has its answer, and just as well when the client goes away half-way: either way replication
/// goes on.
pub(super) struct Sent {
    coordinator: Arc<Coordinator>,
    pub(super) owed: Owed,
    inflight: Option<Inflight>,
    /// This node's own copy, while its sync is waited for.
    own: Option<BoxFuture<'static, Result<(), StorageError>>>,
    /// Replicas that nothing was sent to, because they are down.
    dead: Vec<NodeId>,
    /// Replicas that missed it and that no hint is kept for, as far as is known.
    pub(super) refused: Vec<(NodeId, HintLoss)>,
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
    pub(super) fn warnings(&self) -> Vec<String> {
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
    pub(super) fn hint_refused(
        &self,
        level: Level,
        received: usize,
        block_for: usize,
    ) -> RequestError {
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
    pub(super) async fn gather(
        &mut self,
        tally: &mut Tally,
        responders: &mut Vec<NodeId>,
    ) -> Verdict {
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

    pub(super) fn hint(&self) -> NewHint<'_> {
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
        let owed = self.owed.clone();
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
