//! The store as actors see it: the real client, over turmoil's network, without any retry of its own, so that every
//! refusal shows.

use super::{Setup, State};
use crate::keys::order_of;
use crate::ledger::{NodeIndex, OrderId, Refusal};
use crate::oracle::Places;
use crate::world::{Recorder, TurmoilNet};
use bytes::Bytes;
use helenus_client::{
    Admin, BoxFuture, BoxIo, Client, Connect, KvError, NewReplication, OpError, Options,
    RetryPolicy, Routing, Scan, Table,
};
use helenus_core::hint::Overflow;
use helenus_core::{Level, NodeId, TimestampMicros};
use helenus_node::seams::net::Net as _;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a client waits beyond the node's own timeouts.
const PATIENCE: Duration = Duration::from_secs(12);
/// Orders per page when a replica is read.
const PAGE: u32 = 200;

/// turmoil's TCP for the client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connector;

impl Connect for Connector {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
        let connecting = TurmoilNet.connect(addr);
        Box::pin(async move { Ok(Box::new(connecting.await?) as BoxIo) })
    }
}

/// The store.
pub(super) struct Store {
    client: Client,
    table: Table,
    addrs: Vec<SocketAddr>,
    admins: Vec<Admin>,
    recorder: Arc<Recorder>,
    places: Arc<Places>,
}

/// What a read returned.
pub(super) struct Found {
    pub(super) value: Option<Bytes>,
    pub(super) replicas: Vec<NodeIndex>,
}

/// An operation that was not answered.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) refusal: Refusal,
    pub(super) may_have_applied: bool,
    pub(super) why: String,
}

impl From<OpError> for Failed {
    fn from(error: OpError) -> Failed {
        let refusal = match error.error() {
            KvError::Unavailable { .. } => Refusal::Unavailable,
            KvError::Timeout { .. } | KvError::Deadline { .. } => Refusal::Timeout,
            _ => Refusal::Failure,
        };
        let may_have_applied = error.may_have_applied();
        // What the coordinator said, where it said something; the client's own words otherwise.
        let why = match error.error() {
            KvError::Unavailable { message, .. }
            | KvError::Timeout { message, .. }
            | KvError::Failure { message, .. } => message.clone(),
            other => other.to_string(),
        };
        Failed { refusal, may_have_applied, why }
    }
}

impl Store {
    /// A version for a write, to be kept through all its attempts.
    pub(super) fn next_timestamp(&self) -> TimestampMicros {
        self.client.next_timestamp()
    }

    /// The operator's door of a node.
    pub(super) fn admin(&self, node: NodeIndex) -> Option<&Admin> {
        self.admins.get(node)
    }

    /// Nodes by the place of their names.
    pub(super) fn nodes(&self) -> usize {
        self.addrs.len()
    }

    fn options(&self, level: Level, coordinator: NodeIndex) -> Options {
        let options = Options::new().level(level).timeout(PATIENCE).trace();
        match self.addrs.get(coordinator) {
            Some(addr) => options.routing(Routing::Pinned(*addr)),
            None => options,
        }
    }

    fn indices(&self, ids: &[NodeId]) -> Vec<NodeIndex> {
        self.recorder.ledger(|l| ids.iter().filter_map(|id| l.ids.get(id).copied()).collect())
    }

    /// Writes an order; gives the replicas that had answered.
    pub(super) async fn put(
        &self,
        order: OrderId,
        value: Bytes,
        level: Level,
        timestamp: TimestampMicros,
        coordinator: NodeIndex,
    ) -> Result<Vec<NodeIndex>, Failed> {
        let options = self.options(level, coordinator).timestamp(timestamp);
        let written = self.table.put_with(self.places.key(order), value, &options).await?;
        Ok(self.indices(&written.answer.responders))
    }

    /// Writes a record of any key.
    pub(super) async fn put_record(
        &self,
        key: String,
        value: Bytes,
        level: Level,
        coordinator: NodeIndex,
    ) -> Result<(), Failed> {
        self.table.put_with(key, value, &self.options(level, coordinator)).await?;
        Ok(())
    }

    /// Reads an order.
    pub(super) async fn get(
        &self,
        order: OrderId,
        level: Level,
        coordinator: NodeIndex,
    ) -> Result<Found, Failed> {
        let options = self.options(level, coordinator);
        let got = self.table.get_with(self.places.key(order), &options).await?;
        let replicas = self.indices(&got.answer.responders);
        Ok(Found { value: got.value.map(|v| v.value), replicas })
    }

    /// The orders that a node itself holds, asking no other; `None` when it does not answer.
    pub(super) async fn held_by(&self, node: NodeIndex) -> Option<BTreeSet<OrderId>> {
        let options = self.options(Level::One, node).timeout(Duration::from_secs(30));
        let mut held = BTreeSet::new();
        let mut scan = Scan { limit: PAGE, from: None, node_local: true };
        loop {
            let page = self.table.scan_with(&scan, &options).await.ok()?;
            held.extend(page.entries.iter().filter_map(|e| order_of(&e.key)));
            match page.next {
                Some(next) => scan.from = Some(next),
                None => return Some(held),
            }
        }
    }
}

/// Waits until every node is up and sees every other, then creates the keyspace and the table.
pub(super) async fn bring_up(
    setup: &Setup,
    recorder: &Arc<Recorder>,
    places: &Arc<Places>,
    began_micros: i64,
    state: &watch::Sender<State>,
) -> Result<Store, String> {
    let connector: Arc<dyn Connect> = Arc::new(Connector);
    let patience = Duration::from_secs(10);
    let admins: Vec<Admin> = setup
        .nodes
        .iter()
        .map(|addr| Admin::through(*addr, patience, Arc::clone(&connector)))
        .collect();
    for (index, admin) in admins.iter().enumerate() {
        wait_for_ring(setup, index, admin, state).await;
    }
    let first = admins.first().ok_or("the cluster has no nodes")?;
    let copies = setup.table.rf.iter();
    let per_dc: BTreeMap<String, u32> =
        copies.filter_map(|(dc, n)| Some((dc.clone(), u32::try_from(*n).ok()?))).collect();
    let per_dc = NewReplication::PerDc(per_dc.into_iter().collect());
    let overflow = setup.table.hint_overflow.map_or("", Overflow::as_str);
    let keyspace =
        first.create_keyspace_with_overflow(&setup.keyspace, per_dc, overflow, true).await;
    keyspace.map_err(|error| format!("the keyspace was not created: {error}"))?;
    let options = setup.table.options.clone().into_iter().collect();
    let table = first.create_table(&setup.keyspace, &setup.table.table, true, options).await;
    table.map_err(|error| format!("the table was not created: {error}"))?;
    let now = Arc::clone(recorder);
    let client = Client::builder()
        .contact_points(setup.nodes.clone())
        .connector(connector)
        .retry(RetryPolicy::NEVER)
        // The actors stand outside every cut, so their links never fall silent; pings would be most of what they say.
        .keepalive(Duration::from_secs(60), Duration::from_secs(10))
        .seed(setup.seed)
        .wall_clock(Arc::new(move || {
            began_micros + i64::try_from(now.elapsed().as_micros()).unwrap_or(i64::MAX)
        }))
        .connect()
        .await
        .map_err(|error| format!("the client did not connect: {error}"))?;
    let table = client.table(&setup.keyspace, &setup.table.table);
    let (addrs, places) = (setup.nodes.clone(), Arc::clone(places));
    Ok(Store { client, table, addrs, admins, recorder: Arc::clone(recorder), places })
}

/// Waits until the node sees every node alive.
async fn wait_for_ring(
    setup: &Setup,
    index: NodeIndex,
    admin: &Admin,
    state: &watch::Sender<State>,
) {
    loop {
        let seen = match admin.topology().await {
            Ok(topology) => {
                let up = topology.members.iter().filter(|m| m.up).count();
                if up == setup.nodes.len() {
                    return;
                }
                format!("node {index} sees {up} of {} nodes", setup.nodes.len())
            }
            Err(error) => format!("node {index}: {error}"),
        };
        state.send_replace(State::Starting(seen));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
