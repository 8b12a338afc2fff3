//! The schema on this node: changed by operators, pushed to all live nodes, pulled by late ones.
//!
//! `store` keeps it, `change` is what operators do to it, `builtin` is what needs no schema to be known, and [`Keeper`]
//! sees that nodes come to agree: a change is pushed to every live node before its operator is answered, and whoever sees
//! another version in gossip for longer than a push takes, pulls.
//!
//! Of two changes to one name that two nodes make in the same moment the later wins, as a whole: whoever made the other one
//! hears of it from the first node that knows both, and tells its operator.
//!
//! CAVEAT: on two sides of a partition nobody knows both. What was changed on one side is lost when they meet; if two
//! different tables of one name were made, so is the data of the earlier one. Cassandra before CEP-21 has the same hole.

pub(crate) mod builtin;
mod change;
mod store;

pub use change::{Change, ChangeError, Changed};
pub use store::{SchemaError, SchemaStore, SchemaView};

use crate::membership::{Membership, status};
use crate::peers::Peers;
use crate::seams::clock::Clock;
use crate::storage::Engine;
use crate::tasks::Tasks;
use helenus_core::{NodeId, Schema, TimestampMicros};
use helenus_proto::v1::message::Body;
use helenus_proto::{schema as wire, v1};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, oneshot};

/// How long an operator's change waits for the live nodes to confirm it.
const PUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a pulled peer may take.
const PULL_TIMEOUT: Duration = Duration::from_secs(5);
/// A version that differs is left alone for so long: its push is probably on the way. Pulling at once is how
/// schema storms begin (CASSANDRA-5025).
const PULL_PATIENCE: Duration = Duration::from_secs(2);

/// Keeps this node's schema in agreement with the others'.
pub struct Keeper {
    pub(crate) store: Arc<SchemaStore>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Arc<Tasks>,
    /// One change at a time: the second has to see the first, or it would take its place.
    pub(crate) changing: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Makes a change here and on every live node. It is durable on this node and on all that are not `pending` when this
    /// resolves.
    ///
    /// Once it has begun it is made, though nobody waits for it any more: half a change would be a schema that this node has on
    /// its disk and does not know, or that the others hear of late.
    pub async fn change(self: &Arc<Self>, change: Change) -> Result<Changed, ChangeError> {
        if self.membership.has_left(self.membership.local()) {
            return Err(ChangeError::Left);
        }
        let turn = Arc::clone(&self.changing).lock_owned().await;
        let (tell, made) = oneshot::channel();
        let keeper = Arc::clone(self);
        self.tasks.spawn(async move {
            // Whoever wanted it may have gone.
            tell.send(keeper.make(change, turn).await).ok();
        });
        made.await.unwrap_or(Err(SchemaError::Stopped.into()))
    }

    async fn make(
        &self,
        change: Change,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Changed, ChangeError> {
        let mut warnings = Vec::new();
        let delta = {
            let _turn = turn;
            let current = self.store.current();
            let wall = TimestampMicros(self.clock.wall_micros());
            let Some(delta) = change.delta(&current.schema, wall, &mut warnings)? else {
                let version = current.version.clone();
                return Ok(Changed { version, warnings, ..Changed::default() });
            };
            self.adopt(delta.clone()).await?;
            delta
        };
        let current = self.store.current();
        let sent = delta.clone().with_types_of(&current.schema);
        let (pending, overruled) = self.push(&sent).await;
        let current = self.store.current();
        let changed = if overruled { change.overruled(&delta, &current.schema)? } else { true };
        Ok(Changed { changed, version: current.version.clone(), pending, warnings })
    }

    /// Empties a table, on every node: each begins another incarnation of it and drops the one that was. What was written
    /// before does not come back, whoever still has it: replicas know no table of that id any more, neither from the log
    /// nor from hints nor from repairs.
    ///
    /// A request that is under way meanwhile may fail where it meets a node that has heard of it, or has not yet.
    pub async fn truncate(
        self: &Arc<Self>,
        keyspace: String,
        name: String,
    ) -> Result<(), ChangeError> {
        // Or a node that is down would answer reads from what it has, when it is back, until it has heard of this.
        let members = self.membership.members();
        let here: Vec<_> = members.iter().filter(|member| member.status != status::LEFT).collect();
        if let Some(down) = here.iter().find(|member| !member.up) {
            let alive = here.iter().filter(|member| member.up).count();
            let down = self.membership.describe(down.node);
            return Err(ChangeError::NotAllUp { alive, all: here.len(), down });
        }
        let changed = self.change(Change::Truncate { keyspace, name }).await?;
        if changed.pending.is_empty() {
            return Ok(());
        }
        let nodes = changed.pending.iter().map(|node| self.membership.describe(*node)).collect();
        Err(ChangeError::NotConfirmed { nodes })
    }

    /// Merges what another node or an operator has defined, and tells gossip of the new version.
    pub async fn adopt(&self, incoming: Schema) -> Result<(), SchemaError> {
        if let Some(view) = self.store.adopt(incoming, &*self.engine).await? {
            tracing::info!(version = %view.version, "schema changed");
            self.membership.set_schema_version(&view.version);
        }
        Ok(())
    }

    /// Takes over what another node pushes. Gives our schema, if something in it wins over what was pushed: who pushed
    /// it has to know.
    pub(crate) async fn adopt_pushed(&self, pushed: Schema) -> Result<Option<Schema>, SchemaError> {
        self.adopt(pushed.clone()).await?;
        let view = self.store.current();
        Ok((!view.schema.holds(&pushed)).then(|| view.schema.clone()))
    }

    /// Sends a change to all live peers. Gives those that did not confirm it, and whether one of them knows of another that
    /// wins over it.
    async fn push(&self, delta: &Schema) -> (Vec<NodeId>, bool) {
        let live = self.membership.live_peers();
        let body = Body::SchemaPush(wire::to_wire(delta));
        let mut inflight = self.peers.call(&live, body, PUSH_TIMEOUT);
        let (mut pending, mut overruled) = (live, false);
        while let Some((node, answer)) = inflight.next().await {
            match answer {
                Ok(Body::Ack(_)) => {}
                Ok(Body::Schema(theirs)) => match self.take_over(theirs).await {
                    Ok(()) => overruled = true,
                    Err(why) => {
                        tracing::warn!(peer = %node, %why, "could not take over a schema");
                        continue;
                    }
                },
                Ok(_) | Err(_) => continue,
            }
            pending.retain(|n| *n != node);
        }
        (pending, overruled)
    }

    /// Watches gossip for other versions, and pulls them. Runs as long as the node does.
    pub async fn keep_in_agreement(self: Arc<Self>) {
        let mut next_peer = 0usize;
        loop {
            tokio::time::sleep(PULL_PATIENCE).await;
            let ours = self.store.current().version.clone();
            let others = self.membership.peers_with_other_schema(&ours);
            // One peer at a time, another one the next time: pulling from all of them at once is a storm.
            let Some(peer) = others.get(next_peer % others.len().max(1)) else { continue };
            next_peer = next_peer.wrapping_add(1);
            if let Err(why) = self.pull(*peer).await {
                tracing::warn!(%peer, %why, "could not pull the schema");
            }
        }
    }

    async fn pull(&self, peer: NodeId) -> Result<(), String> {
        let body = Body::PullSchema(v1::PullSchema {});
        let mut inflight = self.peers.call(&[peer], body, PULL_TIMEOUT);
        match inflight.next().await {
            Some((_, Ok(Body::Schema(theirs)))) => self.take_over(theirs).await,
            Some((_, Ok(Body::Failed(error)))) => Err(error.message),
            Some((_, Ok(_))) => Err("it answered with something else than a schema".to_owned()),
            Some((_, Err(error))) => Err(error.to_string()),
            None => Err("it was not asked".to_owned()),
        }
    }

    async fn take_over(&self, theirs: v1::SchemaPush) -> Result<(), String> {
        let theirs = wire::from_wire(theirs).map_err(|e| e.to_string())?;
        self.adopt(theirs).await.map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests;
