//! Who is in the ring and who is alive: gossip and the failure detector, driven.
//!
//! What they *mean* is decided in `helenus_core::gossip` and `helenus_core::phi`. Here they get their clock, their chance,
//! their messages and their disk; everyone else asks [`Membership`] for the ring and for who is alive, on every request,
//! and never waits.
//!
//! | file | what it holds |
//! |---|---|
//! | `identity` | who this node is, for ever and in this life |
//! | `known` | the members it knew of in its last life |
//! | `state` | what it believes of the others, and what follows |
//! | `text` | small files that are replaced whole and checked |
//!
//! Invariants: nothing is sent, and nobody is told, under the lock. Opinions are this node's own: two nodes may disagree on
//! who is alive, and do when a network is cut.
//!
//! A node that leaves says LEAVING, then LEFT (`crate::decommission`). LEFT is gossiped for three days, so that whoever is away
//! for less than that hears of it; then gossip forgets the node, and only the file of known members says that it was there.
//!
//! CAVEAT: a node that was replaced (its data directory lost, a new one at its address) stays in the ring as a dead member; so
//! does one that left, on a node that was down for all of the three days.

mod identity;
mod known;
mod metrics;
mod state;
mod text;

#[cfg(test)]
mod tests;

pub(crate) use identity::Standing;
pub use identity::{Identity, IdentityError};

use crate::config::Config;
use crate::peers::{Body, Lane, Peers};
use crate::seams::background::{self, Background};
use crate::seams::clock::Clock;
use crate::seams::disk::Disk;
use crate::seams::probe::{Event as ProbeEvent, Probe};
use crate::seams::rng::Rng;
use crate::tasks::Tasks;
use helenus_core::gossip::{Event, Gossip, Limits, Message, StateKey, To};
use helenus_core::negotiate::VersionRange;
use helenus_core::phi::{Detector, Parameters};
use helenus_core::ring::Ring;
use helenus_core::{NodeId, Token};
use helenus_proto::v1;
use prometheus_client::registry::Registry;
use state::{State, Work};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// What a node says it is to the ring.
pub mod status {
    /// It holds its ranges.
    pub const NORMAL: &str = "NORMAL";
    /// It holds them and is giving them away.
    pub const LEAVING: &str = "LEAVING";
    /// It holds nothing any more and will not come back.
    pub const LEFT: &str = "LEFT";
    /// It was stopped in order; it holds its ranges and will come back.
    pub const SHUTDOWN: &str = "SHUTDOWN";
}

/// How messages reach other nodes: the links, in production and in simulation.
pub trait Outlet: Send + Sync + 'static {
    /// Sends a message; it may get lost.
    fn send(&self, to: To, message: Message);
    /// Says where a node is.
    fn register(&self, node: NodeId, address: SocketAddr);
    /// A peer is dead: its connections lead nowhere.
    fn reset(&self, node: NodeId);
    /// A peer is gone for good: it needs no connection any more.
    fn forget(&self, node: NodeId);
}

/// Gossip by the urgent lane of the links.
pub struct LinkOutlet(pub Arc<Peers>);

impl Outlet for LinkOutlet {
    fn send(&self, to: To, message: Message) {
        let body = Body::Gossip(helenus_proto::gossip::to_wire(message));
        // What is not sent is counted by the links, and the next round mends it.
        let _counted = match to {
            To::Node(node) => self.0.send_one_way(node, Lane::Urgent, body),
            To::Seed(address) => self.0.send_one_way(address, Lane::Urgent, body),
        };
    }

    fn register(&self, node: NodeId, address: SocketAddr) {
        self.0.register_address(node, address);
    }

    fn reset(&self, node: NodeId) {
        self.0.reset(node);
    }

    fn forget(&self, node: NodeId) {
        self.0.forget(node);
    }
}

/// What a membership is made of.
pub struct MembershipParts {
    /// What the node was told.
    pub config: Config,
    /// Who it is.
    pub identity: Identity,
    /// Where peers reach it, with the port that was really taken.
    pub internode: SocketAddr,
    /// Where clients reach it, with the port that was really taken.
    pub rpc: SocketAddr,
    /// Its clocks.
    pub clock: Arc<dyn Clock>,
    /// Its chance.
    pub rng: Rng,
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// Where the file of known members is written.
    pub background: Arc<dyn Background>,
    /// Who watches it.
    pub probe: Arc<dyn Probe>,
    /// Its way to the others.
    pub outlet: Arc<dyn Outlet>,
}

impl fmt::Debug for MembershipParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MembershipParts").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// How often something has changed. Whoever subscribes compares with what it last saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epochs {
    /// Somebody has another place on the ring.
    pub ring: u64,
    /// Somebody turned alive or dead.
    pub liveness: u64,
    /// Somebody has another schema.
    pub schema: u64,
}

/// What an operator is told of a member.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberInfo {
    /// Its host id.
    pub node: NodeId,
    /// Where clients reach it, once it has said so.
    pub client: Option<SocketAddr>,
    /// Where peers reach it.
    pub internode: Option<SocketAddr>,
    /// Its data centre.
    pub dc: String,
    /// Its rack.
    pub rack: String,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// Whether this node holds it alive.
    pub up: bool,
    /// What it says it is to the ring; empty: nothing yet.
    pub status: String,
    /// Bytes of live data it reports.
    pub load_bytes: u64,
    /// This node's suspicion; 0 for itself and for whom it has never heard.
    pub phi: f64,
    /// The version of its schema.
    pub schema_version: String,
    /// Which of its lives; 0: known from this node's last life only.
    pub generation: u64,
    /// The version of its last heartbeat known here.
    pub heartbeat: u64,
    /// All that it says of itself: name, value, version.
    pub states: Vec<(String, String, u64)>,
}

/// What a node knows of its cluster.
pub struct Membership {
    state: Mutex<State>,
    epochs: watch::Sender<Epochs>,
    seeds: Vec<SocketAddr>,
    gossip_interval: Duration,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    background: Arc<dyn Background>,
    probe: Arc<dyn Probe>,
    outlet: Arc<dyn Outlet>,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("epochs", &*self.epochs.borrow()).finish_non_exhaustive()
    }
}

impl Membership {
    /// Knows itself and the members of its last life. Says nothing yet: see [`Membership::start`].
    pub fn new(parts: MembershipParts) -> Arc<Membership> {
        let now = parts.clock.now();
        let Identity { node, generation, tokens, .. } = &parts.identity;
        let config = &parts.config;
        let gossip =
            Gossip::new(config.cluster_name.clone(), *node, *generation, Limits::default());
        let round = config.gossip_interval * 2;
        let detector = Detector::new(Parameters {
            threshold: config.phi_convict_threshold,
            initial_interval: round,
            max_interval: round,
            // A slow rhythm is no pause.
            max_local_pause: Parameters::default().max_local_pause.max(round),
            ..Parameters::default()
        });
        let known = known::read(&*parts.disk).unwrap_or_else(|problem| {
            tracing::warn!(
                problem,
                "the ring of the last life is forgotten; gossip will tell it anew"
            );
            known::Known::default()
        });
        let addresses: Vec<_> =
            known.members.iter().map(|k| (k.endpoint.node, k.endpoint.internode)).collect();
        let chance = parts.rng.stream("gossip");
        let mut state = State::new(gossip, detector, known, chance, now);
        // The status last: whoever hears that a node is normal has heard the rest.
        let standing = if parts.identity.left { status::LEFT } else { status::NORMAL };
        let values = [
            (StateKey::INTERNODE_ADDRESS, parts.internode.to_string()),
            (StateKey::CLIENT_ADDRESS, parts.rpc.to_string()),
            (StateKey::DC, config.dc.clone()),
            (StateKey::RACK, config.rack.clone()),
            (StateKey::TOKENS, state::tokens_to_text(tokens)),
            (StateKey::RELEASE_VERSION, env!("CARGO_PKG_VERSION").to_owned()),
            (
                StateKey::NET_VERSION,
                format!("{}-{}", VersionRange::OURS.min, VersionRange::OURS.max),
            ),
            (StateKey::STATUS, standing.to_owned()),
        ];
        for (key, value) in values {
            state.step(Event::SetLocal(key, value), now);
        }
        for (node, address) in addresses {
            parts.outlet.register(node, address);
        }
        // A seed that is this node itself has nothing to tell it.
        let own = [parts.internode, config.listen_address];
        let seeds = config.seeds.iter().copied().filter(|seed| !own.contains(seed)).collect();
        Arc::new(Membership {
            state: Mutex::new(state),
            epochs: watch::Sender::default(),
            seeds,
            gossip_interval: config.gossip_interval,
            clock: parts.clock,
            disk: parts.disk,
            background: parts.background,
            probe: parts.probe,
            outlet: parts.outlet,
        })
    }

    /// Starts to gossip: the first round at once, then one each `gossip_interval`.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let this = Arc::clone(self);
        tasks.spawn(async move {
            loop {
                let (now, wall_s) = (this.clock.now(), this.wall_s());
                let work = this.state().tick(&this.seeds, now, wall_s);
                this.carry_out(work);
                tokio::time::sleep(this.gossip_interval).await;
            }
        });
        tasks.spawn(Arc::clone(self).keep_known());
    }

    /// Waits until the node knows where it stands: somebody has answered, and everyone it knows of is alive. Gives up
    /// after `patience`, because they may be down for good; says whether it did not have to.
    pub async fn settle(&self, patience: Duration) -> bool {
        let mut epochs = self.subscribe();
        let settled = async {
            while !self.is_settled() {
                if epochs.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, settled).await.is_ok()
    }

    fn is_settled(&self) -> bool {
        let state = self.state();
        let alone = self.seeds.is_empty() && state.peers().next().is_none();
        let members = || state.peers().filter(|node| !state.has_left(*node));
        let anyone = members().next().is_some();
        alone || (anyone && members().all(|node| state.is_alive(node)))
    }

    /// A peer gossips.
    pub fn on_gossip(&self, from: NodeId, gossip: v1::Gossip) {
        match helenus_proto::gossip::from_wire(gossip) {
            Ok(message) => self.receive(from, message),
            Err(problem) => tracing::warn!(peer = %from, %problem, "gossip that makes no sense"),
        }
    }

    fn receive(&self, from: NodeId, message: Message) {
        let (now, wall_s) = (self.clock.now(), self.wall_s());
        let work = self.state().step(Event::Received { from, message, wall_s }, now);
        self.carry_out(work);
    }

    /// Says something new of this node.
    pub fn set_local(&self, key: StateKey, value: impl Into<String>) {
        let work = self.state().step(Event::SetLocal(key, value.into()), self.clock.now());
        self.carry_out(work);
    }

    /// Says which schema this node has.
    pub fn set_schema_version(&self, version: &str) {
        self.set_local(StateKey::SCHEMA, version);
    }

    /// Says how many bytes of live data this node holds.
    pub fn set_load(&self, bytes: u64) {
        self.set_local(StateKey::LOAD, bytes.to_string());
    }

    /// Tells the live peers that this node is stopping, so that they need not find out, and starts no more rounds. The
    /// links are to be given a moment to send it before they are closed. One that has left has said so, and says no more.
    pub fn announce_shutdown(&self) {
        self.fall_silent();
        if !self.has_left(self.local()) {
            self.announce(status::SHUTDOWN);
        }
    }

    /// Says what this node is to the ring, and does not wait for a round to tell the live peers.
    pub(crate) fn announce(&self, status: &'static str) {
        self.set_local(StateKey::STATUS, status);
        let now = self.clock.now();
        let work = {
            let mut state = self.state();
            let live = state.live();
            state.step(Event::Announce(&live), now)
        };
        self.carry_out(work);
    }

    /// Says that this node has left for good, and that others are to remember it until `until_s`, in seconds since the epoch.
    pub(crate) fn announce_left(&self, until_s: u64) {
        // Before the status: whoever hears that has heard this.
        self.set_local(StateKey::LEFT_UNTIL, until_s.to_string());
        self.announce(status::LEFT);
    }

    /// Starts no more rounds: everybody has heard the last that there is to say.
    pub(crate) fn fall_silent(&self) {
        self.state().silent = true;
    }

    /// This node.
    pub(crate) fn local(&self) -> NodeId {
        self.state().local()
    }

    /// What a node says that it is to the ring.
    pub(crate) fn status_of(&self, node: NodeId) -> Option<String> {
        self.state().value(node, StateKey::STATUS).map(str::to_owned)
    }

    /// Whether a node has left the ring for good. Remembered for much longer than gossip does.
    pub(crate) fn has_left(&self, node: NodeId) -> bool {
        self.state().has_left(node)
    }

    fn wall_s(&self) -> u64 {
        u64::try_from(self.clock.wall_micros() / 1_000_000).unwrap_or(0)
    }

    /// The ring as this node knows it. The same `Arc` until it changes.
    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.state().ring)
    }

    /// Whether this node holds `node` alive. Itself it always does.
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.state().is_alive(node)
    }

    /// For how long `node` has been known here and not alive; zero while it is alive. What the hint window is compared
    /// with, as in Cassandra: it counts from the conviction, and from the start of this node's life at the earliest.
    pub fn down_for(&self, node: NodeId) -> Duration {
        let state = self.state();
        let since = state.down_since.get(&node).copied();
        since.map_or(Duration::ZERO, |since| self.clock.now().saturating_sub(since))
    }

    /// The peers that are alive, in order; without this node.
    pub fn live_peers(&self) -> Vec<NodeId> {
        self.state().live()
    }

    /// The schema that a node says it has.
    pub fn schema_version_of(&self, node: NodeId) -> Option<String> {
        self.state().value(node, StateKey::SCHEMA).map(str::to_owned)
    }

    /// The live peers that say they have another schema than `ours`, in order.
    pub fn peers_with_other_schema(&self, ours: &str) -> Vec<NodeId> {
        let state = self.state();
        let mut live = state.live();
        live.retain(|node| state.value(*node, StateKey::SCHEMA).is_some_and(|v| v != ours));
        live
    }

    /// A node's name for people: its address and rack, or its host id while no more is known.
    pub fn describe(&self, node: NodeId) -> String {
        match self.state().placed.get(&node) {
            Some(placed) => {
                format!("{} (rack {})", placed.endpoint.internode, placed.endpoint.rack)
            }
            None => node.to_string(),
        }
    }

    /// Told of every change of ring, liveness and schema, by the number of changes so far.
    pub fn subscribe(&self) -> watch::Receiver<Epochs> {
        self.epochs.subscribe()
    }

    /// Everyone this node knows of and who has not left the ring, and itself, in the order of host ids.
    pub fn members(&self) -> Vec<MemberInfo> {
        self.infos(|state, node| node == state.local() || !state.has_left(node))
    }

    /// The same with those who have left and are still gossiped about.
    pub fn known(&self) -> Vec<MemberInfo> {
        self.infos(|_, _| true)
    }

    fn infos(&self, wanted: impl Fn(&State, NodeId) -> bool) -> Vec<MemberInfo> {
        let now = self.clock.now();
        let state = self.state();
        let mut nodes: Vec<NodeId> = state.peers().chain([state.local()]).collect();
        nodes.retain(|node| wanted(&state, *node));
        nodes.sort_unstable();
        nodes.into_iter().map(|node| member_info(&state, node, now)).collect()
    }

    /// Shows gossip and the failure detector to Prometheus.
    pub fn register_metrics(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(metrics::Metrics(Arc::downgrade(self))));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }

    /// Does what was decided under the lock, without it.
    fn carry_out(&self, work: Work) {
        for (node, address) in work.addresses {
            self.outlet.register(node, address);
        }
        for (peer, alive) in &work.liveness {
            let (peer, alive) = (*peer, *alive);
            self.probe.event(&ProbeEvent::Liveness { peer, alive });
            if alive {
                tracing::info!(%peer, "a peer is alive");
            } else {
                tracing::warn!(%peer, "a peer is dead, or cannot be reached");
                self.outlet.reset(peer);
            }
        }
        for node in work.left {
            self.outlet.forget(node);
        }
        let liveness = !work.liveness.is_empty();
        if work.ring || work.schema || liveness {
            self.epochs.send_modify(|epochs| {
                epochs.ring += u64::from(work.ring);
                epochs.schema += u64::from(work.schema);
                epochs.liveness += u64::from(liveness);
            });
        }
        for (to, message) in work.messages {
            self.outlet.send(to, message);
        }
    }

    /// Keeps the members for the next life, whenever the ring has changed. Changes that come while it writes are kept
    /// together.
    async fn keep_known(self: Arc<Self>) {
        let mut epochs = self.subscribe();
        let mut kept = None;
        loop {
            // Before the text is taken, so that what changes while it is written is written next.
            let ring = epochs.borrow_and_update().ring;
            let text = {
                let state = self.state();
                known::to_text(&state.placed, &state.left)
            };
            if kept.as_ref() != Some(&text) {
                let (disk, cost) = (Arc::clone(&self.disk), text.len() as u64);
                let written = text.clone();
                let lane = background::Lane::Flush;
                let write = move || known::write(&*disk, &written);
                match background::run(&*self.background, lane, cost, write).await {
                    Ok(Ok(())) => kept = Some(text),
                    // The next change tries again; until then a restart begins with an older ring.
                    Ok(Err(error)) => tracing::warn!(%error, "the members could not be kept"),
                    Err(background::Stopped) => return,
                }
            }
            while epochs.borrow_and_update().ring == ring {
                if epochs.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn member_info(state: &State, node: NodeId, now: Duration) -> MemberInfo {
    let placed = state.placed.get(&node);
    let known = state.gossip.state(node);
    let said = |key| state.value(node, key);
    let address = |key| said(key).and_then(|text| text.parse().ok());
    let place = |of: fn(&helenus_core::Endpoint) -> String| {
        placed.map(|placed| of(&placed.endpoint)).unwrap_or_default()
    };
    MemberInfo {
        node,
        client: address(StateKey::CLIENT_ADDRESS),
        internode: address(StateKey::INTERNODE_ADDRESS)
            .or(placed.map(|placed| placed.endpoint.internode)),
        dc: said(StateKey::DC).map_or_else(|| place(|e| e.dc.to_string()), str::to_owned),
        rack: said(StateKey::RACK).map_or_else(|| place(|e| e.rack.to_string()), str::to_owned),
        tokens: said(StateKey::TOKENS)
            .and_then(state::tokens_from_text)
            .or_else(|| placed.map(|placed| placed.tokens.clone()))
            .unwrap_or_default(),
        up: state.is_alive(node),
        status: said(StateKey::STATUS).unwrap_or_default().to_owned(),
        load_bytes: said(StateKey::LOAD).and_then(|text| text.parse().ok()).unwrap_or(0),
        phi: state.detector.phi(node, now).unwrap_or(0.0),
        schema_version: said(StateKey::SCHEMA).unwrap_or_default().to_owned(),
        generation: known.map_or(0, |known| known.generation.0),
        heartbeat: known.map_or(0, |known| known.heartbeat),
        states: known
            .into_iter()
            .flat_map(|known| &known.values)
            .map(|(key, value)| (key.to_string(), value.value.clone(), value.version))
            .collect(),
    }
}
