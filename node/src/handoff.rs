//! The way of a hint from this node's store to whoever is to have it: a page at a time, acknowledged as one.
//!
//! That is its target, on the bulk lane; or, of a target that has **left the ring**, the replicas of its partition as they are
//! now, like a write that another coordinator left (it changes nothing where it is known); or, when **this node is leaving** and
//! the target is down, another node, which keeps the hint as its own. The last two are counted as redirected.

use crate::coordinator::Coordinator;
use crate::hints::{Deliver, DeliverError, Hint, NewHint};
use crate::peers::Body;
use crate::replica;
use crate::seams::net::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use helenus_core::batchlog::Logged;
use helenus_core::tally::FailureReason;
use helenus_core::{Key, NodeId, TableId, TimestampMicros};
use helenus_proto::{ids, v1};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Hints of one page that are written to their replicas at a time.
const REDIRECTED_AT_ONCE: usize = 32;

/// Delivers pages of hints to peers.
pub(crate) struct Handoff {
    coordinator: Arc<Coordinator>,
    /// This node is leaving: what its targets cannot take now, others keep.
    handing_over: AtomicBool,
    /// Which of them is next.
    turn: AtomicUsize,
}

impl Handoff {
    pub(crate) fn new(coordinator: Arc<Coordinator>) -> Handoff {
        Handoff { coordinator, handing_over: AtomicBool::new(false), turn: AtomicUsize::new(0) }
    }

    /// Begins, or ceases, to give hints to other nodes whose targets are down.
    pub(crate) fn hand_over(&self, on: bool) {
        self.handing_over.store(on, Ordering::Relaxed);
        self.coordinator.hints.wake_replay();
    }

    fn call(&self, to: NodeId, body: Body) -> BoxFuture<'static, Result<Duration, DeliverError>> {
        let timeout = self.coordinator.config.write_request_timeout;
        let mut inflight = self.coordinator.peers.call(&[to], body, timeout);
        Box::pin(async move {
            let reason = match inflight.next().await {
                Some((_, Ok(Body::Ack(ack)))) => {
                    return Ok(Duration::from_micros(ack.next_after_us));
                }
                Some((_, Ok(Body::Failed(error)))) => error.message,
                Some((_, Ok(_))) => "the target answered something else".to_owned(),
                Some((_, Err(error))) => error.to_string(),
                None => "the target was not asked".to_owned(),
            };
            Err(DeliverError { reason })
        })
    }

    /// To the replicas that there are now. Those that are down are owed it, in new hints that are as old as this one.
    fn redirect(&self, hints: Vec<Hint>) -> BoxFuture<'static, Result<Duration, DeliverError>> {
        let coordinator = Arc::clone(&self.coordinator);
        Box::pin(async move {
            let writes = hints.into_iter().map(|hint| {
                let Hint { table, key, update, created_ms, .. } = hint;
                let written_us = i64::try_from(created_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
                let write = Logged { table, key, update };
                coordinator.finish(write, TimestampMicros(written_us))
            });
            let written = stream::iter(writes).buffer_unordered(REDIRECTED_AT_ONCE);
            let written: Vec<Result<(), String>> = written.collect().await;
            if let Some(reason) = written.into_iter().find_map(Result::err) {
                return Err(DeliverError { reason });
            }
            // This node's own copies are in its log before the hints are gone.
            let logged = coordinator.replica.engine.commit();
            logged.map_err(|error| DeliverError { reason: error.to_string() })?;
            Ok(Duration::ZERO)
        })
    }

    /// To another node, to keep: in turn to those that stay, of this data centre if there are any.
    fn give_away(
        &self,
        target: NodeId,
        hints: Vec<Hint>,
    ) -> BoxFuture<'static, Result<Duration, DeliverError>> {
        let ring = self.coordinator.membership.ring();
        let mut others = self.coordinator.membership.live_peers();
        others.retain(|node| *node != target && !ring.is_leaving(*node));
        let is_near =
            |node: &NodeId| ring.endpoint(*node).is_some_and(|it| it.dc == self.coordinator.dc);
        if others.iter().any(is_near) {
            others.retain(is_near);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % others.len().max(1);
        let Some(keeper) = others.get(turn).copied() else {
            let reason = "no other node is there to keep them".to_owned();
            return Box::pin(std::future::ready(Err(DeliverError { reason })));
        };
        let handed = hints.into_iter().map(|hint| v1::HandedHint {
            table: ids::table_to_wire(hint.table),
            key: hint.key.0,
            update: hint.update,
            created_ms: hint.created_ms,
            gc_grace_s: hint.gc_grace_s,
        });
        let target = ids::node_to_wire(target);
        self.call(keeper, Body::HintHandover(v1::HintHandover { target, hints: handed.collect() }))
    }
}

impl Deliver for Handoff {
    fn alive(&self, target: NodeId) -> bool {
        let membership = &self.coordinator.membership;
        // A target with another schema might not know a table yet, and would drop its hints for good. One that is leaving has
        // given away what it had: what it gets now, its successors would not.
        membership.is_alive(target)
            && !membership.ring().is_leaving(target)
            && membership.schema_version_of(target).as_deref()
                == Some(self.coordinator.replica.schema.current().version.as_str())
    }

    fn redirects(&self, target: NodeId) -> bool {
        self.coordinator.membership.has_left(target)
            || (self.handing_over.load(Ordering::Relaxed) && !self.alive(target))
    }

    fn gc_grace_s(&self, table: TableId) -> Option<u32> {
        let view = self.coordinator.replica.schema.current();
        view.table(table).map(|def| def.options.gc_grace_seconds)
    }

    fn deliver(
        &self,
        target: NodeId,
        hints: Vec<Hint>,
    ) -> BoxFuture<'static, Result<Duration, DeliverError>> {
        if self.coordinator.membership.has_left(target) {
            return self.redirect(hints);
        }
        if self.redirects(target) {
            return self.give_away(target, hints);
        }
        // Neighbours are mostly of one table: its id is made once for all of them.
        let mut table = (TableId(0), ids::table_to_wire(TableId(0)));
        let mutations = hints.into_iter().map(|hint| {
            if hint.table != table.0 {
                table = (hint.table, ids::table_to_wire(hint.table));
            }
            v1::ApplyMutation {
                table: table.1.clone(),
                key: hint.key.0,
                update: hint.update,
                path: v1::ApplyPath::Hint.into(),
                trace: false,
            }
        });
        self.call(target, Body::HintPage(v1::HintPage { mutations: mutations.collect() }))
    }
}

/// Keeps what a node that is leaving owed. What there is no room for is refused like any other hint: counted, and in the
/// ledger of this node.
pub(crate) async fn keep(coordinator: &Coordinator, handed: v1::HintHandover) -> Body {
    let target = match ids::node_from_wire("target", &handed.target) {
        Ok(target) => target,
        Err(why) => return replica::failed(FailureReason::Unknown, &why),
    };
    let down_for = coordinator.membership.down_for(target);
    for hint in handed.hints {
        let table = match replica::table_of(&hint.table) {
            Ok(table) => table,
            Err(why) => return replica::failed(FailureReason::Unknown, &why),
        };
        let key = Key(hint.key);
        let kept = NewHint {
            table,
            key: &key,
            update: &hint.update,
            created_ms: hint.created_ms,
            gc_grace_s: hint.gc_grace_s,
            overflow: coordinator.routes.hint_overflow(table),
        };
        // Its refusal is counted and told already.
        coordinator.hints.append(target, &kept, down_for).ok();
    }
    // Nobody else has them from now on.
    match coordinator.hints.flush().await {
        Ok(()) => Body::Ack(v1::Ack::default()),
        Err(error) => replica::failed(FailureReason::Storage, &error),
    }
}
