//! The schema on this node: changed by operators, pushed to all live nodes, pulled by late ones.
//!
//! `store` keeps it, `change` is what operators do to it, and [`Keeper`] sees that nodes come to agree: a change is pushed
//! to every live node before its operator is answered, and whoever sees another version in gossip for longer than a push
//! takes, pulls.
//!
//! CAVEAT: two operators who create the same table on two sides of a partition create two tables; the later one wins,
//! and the data of the other is unreachable. Cassandra before CEP-21 has the same hole.

mod change;
mod store;

pub use change::{Change, ChangeError, Changed};
pub use store::{SchemaError, SchemaStore, SchemaView};

use crate::membership::Membership;
use crate::peers::Peers;
use crate::seams::clock::Clock;
use crate::storage::Engine;
use helenus_core::{NodeId, Schema, TimestampMicros};
use helenus_proto::v1::message::Body;
use helenus_proto::{schema as wire, v1};
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    /// Where table ids come from.
    pub(crate) ids: Mutex<SmallRng>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Makes a change here and on every live node. It is durable on this node and on all that are not `pending` when this
    /// resolves.
    pub async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let fresh_id: u128 = self.ids.lock().expect("no holder of this lock panics").random();
        let current = self.store.current();
        let wall = TimestampMicros(self.clock.wall_micros());
        let Some(delta) = change.delta(&current.schema, wall, fresh_id)? else {
            return Ok(Changed { version: current.version.clone(), ..Changed::default() });
        };
        self.adopt(delta.clone()).await?;
        let pending = self.push(&delta).await;
        let version = self.store.current().version.clone();
        Ok(Changed { changed: true, version, pending })
    }

    /// Merges what another node or an operator has defined, and tells gossip of the new version.
    pub async fn adopt(&self, incoming: Schema) -> Result<(), SchemaError> {
        if let Some(view) = self.store.adopt(incoming, &*self.engine).await? {
            tracing::info!(version = %view.version, "schema changed");
            self.membership.set_schema_version(&view.version);
        }
        Ok(())
    }

    /// Sends a change to all live peers. Gives those that did not confirm it.
    async fn push(&self, delta: &Schema) -> Vec<NodeId> {
        let live = self.membership.live_peers();
        let body = Body::SchemaPush(wire::to_wire(delta));
        let mut inflight = self.peers.call(&live, body, PUSH_TIMEOUT);
        let mut pending = live;
        while let Some((node, answer)) = inflight.next().await {
            if matches!(answer, Ok(Body::Ack(_))) {
                pending.retain(|n| *n != node);
            }
        }
        pending
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
            Some((_, Ok(Body::Schema(theirs)))) => {
                let theirs = wire::from_wire(theirs).map_err(|e| e.to_string())?;
                self.adopt(theirs).await.map_err(|e| e.to_string())
            }
            Some((_, Ok(Body::Failed(error)))) => Err(error.message),
            Some((_, Ok(_))) => Err("it answered with something else than a schema".to_owned()),
            Some((_, Err(error))) => Err(error.to_string()),
            None => Err("it was not asked".to_owned()),
        }
    }
}
