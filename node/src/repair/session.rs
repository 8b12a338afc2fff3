//! One range of one table: hash it on every replica, compare, have them send each other what they lack.
//!
//! A session fails as a whole, with one reason: when a replica is down, refuses a step, or is silent for longer than
//! [`STEP_TIMEOUT`]. What was sent by then stays sent; sending it again changes nothing.

use super::job::Job;
use super::units::Unit;
use super::{Repairs, ask, wire};
use crate::peers::Body;
use bytes::Bytes;
use futures_util::future::try_join_all;
use helenus_core::merkle::{self, Leaves, Shape, Transfer, Tree};
use helenus_core::ring::Span;
use helenus_core::{NodeId, TableId};
use helenus_proto::{ids, v1};
use std::time::Duration;

/// How long a replica may take for one step: much longer than it needs, so that a busy disk is no failure.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Spans in one request to send.
pub(super) const SPANS_MAX: usize = 256;

/// Why a range was not repaired.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("replica {0} is down: repair again when it is back")]
    Down(Named),
    #[error("replica {node} did not {step}: {why}")]
    Step { node: Named, step: &'static str, why: String },
    #[error("the table was dropped meanwhile")]
    TableDropped,
}

/// A node as people know it.
#[derive(Debug)]
pub(super) struct Named(pub(super) String);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What all steps of a session have in common.
struct Session<'s> {
    repairs: &'s Repairs,
    job: &'s Job,
    table: TableId,
    wire_id: Bytes,
    now_s: u32,
    gc_grace_s: u32,
}

/// Where a step ended.
type Behind = Option<v1::RepairPosition>;

pub(super) async fn run(repairs: &Repairs, job: &Job, unit: &Unit) -> Result<(), SessionError> {
    if let Some(node) = unit.replicas.iter().find(|node| !repairs.is_alive(**node)) {
        return Err(SessionError::Down(repairs.named(*node)));
    }
    let view = repairs.schema.current();
    let def = view.table(unit.table).ok_or(SessionError::TableDropped)?;
    let session = Session {
        repairs,
        job,
        table: unit.table,
        wire_id: ids::table_to_wire(unit.table),
        now_s: repairs.now_seconds().0,
        gc_grace_s: def.options.gc_grace_seconds,
    };
    let depth = merkle::depth_within(repairs.session_space, unit.replicas.len() as u64);
    let Some(shape) = Shape::new(unit.span, depth) else { return Ok(()) };
    let trees = unit.replicas.iter().map(|node| session.tree(*node, shape));
    let trees = try_join_all(trees).await?;
    let mut plan = merkle::plan(&trees);
    drop(trees);
    if !unit.targets.is_empty() {
        plan.transfers.retain(|transfer| unit.targets.contains(&transfer.to));
    }
    repairs.metrics.differing(plan.differing.len() as u64);
    job.planned(unit.table, &plan);
    if job.preview {
        return Ok(());
    }
    for transfer in &plan.transfers {
        session.transfer(transfer).await?;
    }
    Ok(())
}

impl Session<'_> {
    /// The tree of what one replica holds.
    async fn tree(&self, node: NodeId, shape: Shape) -> Result<(NodeId, Tree), SessionError> {
        let step = "hash its data";
        let mut leaves = Leaves::new(shape);
        let mut behind: Behind = None;
        loop {
            let ask = v1::RepairHash {
                table: self.wire_id.clone(),
                span: Some(wire::span_to_wire(shape.span())),
                depth: u32::from(shape.depth()),
                behind: behind.clone(),
                now_s: self.now_s,
                gc_grace_s: self.gc_grace_s,
            };
            let answer = self.hash_step(node, ask).await;
            let answer = answer.map_err(|why| self.failed(node, step, why))?;
            let before = leaves.partitions();
            let absorbed = leaves.absorb(&answer.leaves);
            absorbed.map_err(|e| self.failed(node, step, e.to_string()))?;
            self.job.hashed(self.table, leaves.partitions() - before);
            match answer.behind {
                None => return Ok((node, leaves.into_tree())),
                next if !is_ahead(&next, &behind) => return Err(self.stuck(node, step)),
                next => behind = next,
            }
        }
    }

    async fn hash_step(
        &self,
        node: NodeId,
        step: v1::RepairHash,
    ) -> Result<v1::RepairHashes, String> {
        if node == self.repairs.id {
            return self.repairs.participant.hash(step).await.map_err(|e| e.to_string());
        }
        match ask(&self.repairs.peers, node, Body::RepairHash(step), STEP_TIMEOUT).await? {
            Body::RepairHashes(hashes) => Ok(hashes),
            _ => Err("it answered something else".to_owned()),
        }
    }

    /// Has one replica send another what it holds of some ranges.
    async fn transfer(&self, transfer: &Transfer) -> Result<(), SessionError> {
        let step = "send what another lacks";
        let (from, to) = (transfer.from, transfer.to);
        let mut left: &[Span] = &transfer.spans;
        let mut behind: Behind = None;
        while !left.is_empty() {
            let spans: Vec<_> =
                left.iter().take(SPANS_MAX).copied().map(wire::span_to_wire).collect();
            let ask = v1::RepairSend {
                table: self.wire_id.clone(),
                spans,
                behind: behind.clone(),
                to: ids::node_to_wire(to),
                now_s: self.now_s,
                gc_grace_s: self.gc_grace_s,
            };
            let sent = self.send_step(from, ask).await;
            let sent = sent.map_err(|why| self.failed(from, step, why))?;
            if sent.pause_ms > 0 {
                tokio::time::sleep(Duration::from_millis(u64::from(sent.pause_ms))).await;
                continue;
            }
            self.job.sent(self.table, (from, to), sent.partitions, sent.bytes);
            let done = usize::try_from(sent.spans_done).unwrap_or(usize::MAX);
            if done == 0 && !is_ahead(&sent.behind, &behind) {
                return Err(self.stuck(from, step));
            }
            left = left.get(done..).unwrap_or_default();
            behind = sent.behind;
        }
        Ok(())
    }

    async fn send_step(
        &self,
        from: NodeId,
        step: v1::RepairSend,
    ) -> Result<v1::RepairSent, String> {
        if from == self.repairs.id {
            return self.repairs.participant.send(step).await.map_err(|e| e.to_string());
        }
        match ask(&self.repairs.peers, from, Body::RepairSend(step), STEP_TIMEOUT).await? {
            Body::RepairSent(sent) => Ok(sent),
            _ => Err("it answered something else".to_owned()),
        }
    }

    fn failed(&self, node: NodeId, step: &'static str, why: String) -> SessionError {
        SessionError::Step { node: self.repairs.named(node), step, why }
    }

    /// Whoever does not get on would be asked for ever.
    fn stuck(&self, node: NodeId, step: &'static str) -> SessionError {
        self.failed(node, step, "its answer is no step forward; please report it".to_owned())
    }
}

/// Whether a step got further than the one before it.
fn is_ahead(next: &Behind, before: &Behind) -> bool {
    match (next, before) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(next), Some(before)) => (next.token, &next.key) > (before.token, &before.key),
    }
}
