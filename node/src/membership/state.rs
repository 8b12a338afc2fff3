//! What a node believes of the others: gossip's values, the detector's verdicts, and the ring that follows from both.
//!
//! Everything here happens under one lock and sends nothing: what is to be done outside comes back as [`Work`].
//!
//! Invariants: a node stays in the ring, with the tokens it last had, until it says that it has left; being dead, restarted
//! or half heard does not move data. One that has left never comes back under its host id. The ring changes only when
//! somebody's place does, so its `Arc` can be compared.

use super::known::{Known, LEFT_MAX, Left, Placed};
use super::status;
use helenus_core::gossip::{Effect, Event, Gossip, Message, StateKey, To};
use helenus_core::phi::Detector;
use helenus_core::ring::Ring;
use helenus_core::{Dc, Endpoint, NodeId, Rack, Token};
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What is to be done when the lock is free again, in this order.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Where nodes are.
    pub(super) addresses: Vec<(NodeId, SocketAddr)>,
    /// Who turned alive or dead.
    pub(super) liveness: Vec<(NodeId, bool)>,
    /// What to send.
    pub(super) messages: Vec<(To, Message)>,
    /// Whether somebody has another place on the ring.
    pub(super) ring: bool,
    /// Whether somebody has another schema.
    pub(super) schema: bool,
    /// Who has left for good: their links lead nowhere any more.
    pub(super) left: Vec<NodeId>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) gossip: Gossip,
    pub(super) detector: Detector,
    pub(super) placed: BTreeMap<NodeId, Placed>,
    pub(super) ring: Arc<Ring>,
    /// Who has left for good. Invariant: at most [`LEFT_MAX`], and none of them is in `placed`.
    pub(super) left: Left,
    /// Since when a peer is not alive, as far as this node knows. Invariant: holds whoever is known and not alive.
    pub(super) down_since: BTreeMap<NodeId, Duration>,
    pub(super) chance: SmallRng,
    /// It has said goodbye and starts no more rounds.
    pub(super) silent: bool,
}

impl State {
    /// `known` are the members of the last life; they are placed, and not alive until they are heard.
    pub(super) fn new(
        gossip: Gossip,
        detector: Detector,
        known: Known,
        chance: SmallRng,
        now: Duration,
    ) -> State {
        let local = gossip.local();
        let others = known.members.into_iter().filter(|placed| placed.endpoint.node != local);
        let placed: BTreeMap<NodeId, Placed> =
            others.map(|placed| (placed.endpoint.node, placed)).collect();
        let down_since = placed.keys().map(|node| (*node, now)).collect();
        let (ring, left, silent) = (Arc::default(), known.left, false);
        let mut state = State { gossip, detector, placed, ring, left, down_since, chance, silent };
        state.build_ring();
        state
    }

    pub(super) fn local(&self) -> NodeId {
        self.gossip.local()
    }

    pub(super) fn is_alive(&self, node: NodeId) -> bool {
        node == self.local() || self.detector.is_alive(node)
    }

    /// Peers that are alive, in order.
    pub(super) fn live(&self) -> Vec<NodeId> {
        self.peers().filter(|node| self.detector.is_alive(*node)).collect()
    }

    /// Everyone known but this node, in order, by gossip or from the last life.
    pub(super) fn peers(&self) -> impl Iterator<Item = NodeId> {
        let mut nodes: Vec<NodeId> = self
            .gossip
            .endpoints()
            .map(|(node, _)| node)
            .chain(self.placed.keys().copied())
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let local = self.local();
        nodes.into_iter().filter(move |node| *node != local)
    }

    /// Whether a node has left for good, as far as is known.
    pub(super) fn has_left(&self, node: NodeId) -> bool {
        self.value(node, StateKey::STATUS) == Some(status::LEFT)
            || (node != self.local() && self.left.contains_key(&node))
    }

    pub(super) fn value(&self, node: NodeId, key: StateKey) -> Option<&str> {
        self.gossip.value(node, key)
    }

    /// A gossip round, and a look at who has been silent for too long.
    pub(super) fn tick(&mut self, seeds: &[SocketAddr], now: Duration, wall_s: u64) -> Work {
        let mut work = Work::default();
        self.forget_the_left(wall_s);
        if self.has_left(self.local()) && self.silent {
            // Nobody tells it anything any more, and nobody's silence means anything.
            return work;
        }
        for node in self.detector.interpret(now) {
            self.died(node, now, &mut work);
        }
        if self.silent {
            return work;
        }
        let live = self.live();
        let gone = |node: &NodeId| self.has_left(*node);
        let unreachable: Vec<NodeId> =
            self.peers().filter(|n| !self.detector.is_alive(*n) && !gone(n)).collect();
        let chance = &mut self.chance;
        let random = &mut |below: usize| chance.random_range(0..below.max(1));
        let tick = Event::Tick { random, live: &live, unreachable: &unreachable, seeds };
        let effects = self.gossip.step(tick);
        self.carry(effects, now, &mut work);
        work
    }

    pub(super) fn step(&mut self, event: Event<'_>, now: Duration) -> Work {
        let mut work = Work::default();
        let effects = self.gossip.step(event);
        self.carry(effects, now, &mut work);
        work
    }

    fn carry(&mut self, effects: Vec<Effect>, now: Duration, work: &mut Work) {
        let mut moved = false;
        for effect in effects {
            match effect {
                Effect::Send { to, message } => work.messages.push((to, message)),
                Effect::NewNode { node } => {
                    tracing::info!(peer = %node, "a node is known by gossip");
                    self.down_since.entry(node).or_insert(now);
                }
                Effect::Restarted { node, generation } => {
                    tracing::info!(peer = %node, generation = generation.0, "a node has restarted");
                }
                Effect::Changed { node, key, value } => {
                    moved |= self.changed(node, key, &value, now, work);
                }
                Effect::Heard { node } => self.heard(node, now, work),
                Effect::RefusedCluster { from, theirs } => {
                    // Each is counted; the log has the first, the second, the fourth...
                    if self.gossip.counters().refused_cluster.is_power_of_two() {
                        tracing::warn!(peer = %from, cluster = theirs, "gossip of another cluster is refused");
                    }
                }
                Effect::Impostor { from, generation } => {
                    if self.gossip.counters().impostors.is_power_of_two() {
                        tracing::error!(
                            told_by = %from,
                            generation = generation.0,
                            "another node speaks under this node's host id: was the data directory copied? Stop one of \
                             them, and start it with an empty data_directory"
                        );
                    }
                }
            }
        }
        if moved {
            self.build_ring();
            work.ring = true;
        }
    }

    /// Whether the ring is another one now.
    fn changed(
        &mut self,
        node: NodeId,
        key: StateKey,
        value: &str,
        now: Duration,
        work: &mut Work,
    ) -> bool {
        match key {
            StateKey::INTERNODE_ADDRESS if node != self.local() => match value.parse() {
                Ok(address) => work.addresses.push((node, address)),
                Err(_) => tracing::warn!(peer = %node, value, "this is no internode address"),
            },
            StateKey::SCHEMA => work.schema = true,
            StateKey::STATUS if value == status::LEFT && node != self.local() => {
                self.gone_for_good(node, now, work);
            }
            StateKey::STATUS if value == status::SHUTDOWN && self.detector.convict(node) => {
                self.died(node, now, work);
            }
            StateKey::LEFT_UNTIL if self.left.contains_key(&node) => self.note_left(node),
            _ => {}
        }
        let places = [
            StateKey::STATUS,
            StateKey::TOKENS,
            StateKey::INTERNODE_ADDRESS,
            StateKey::DC,
            StateKey::RACK,
        ];
        places.contains(&key) && self.place(node)
    }

    /// Gives a node its place by what it says of itself, as soon as it has said all of it.
    fn place(&mut self, node: NodeId) -> bool {
        match self.value(node, StateKey::STATUS) {
            Some(status::LEFT) => self.placed.remove(&node).is_some(),
            // Told by somebody who has not heard for long that it has left.
            _ if self.left.contains_key(&node) => false,
            Some(status::NORMAL | status::LEAVING | status::SHUTDOWN) => {
                let Some(placed) = self.said(node) else { return false };
                let leaving = self.value(node, StateKey::STATUS) == Some(status::LEAVING);
                let same = self.placed.get(&node) == Some(&placed);
                if same && leaving == self.ring.is_leaving(node) {
                    return false;
                }
                self.placed.insert(node, placed);
                true
            }
            _ => false,
        }
    }

    fn said(&self, node: NodeId) -> Option<Placed> {
        let internode = self.value(node, StateKey::INTERNODE_ADDRESS)?.parse().ok()?;
        let dc = Dc::from(self.value(node, StateKey::DC)?);
        let rack = Rack::from(self.value(node, StateKey::RACK)?);
        let tokens = tokens_from_text(self.value(node, StateKey::TOKENS)?)?;
        Some(Placed { endpoint: Endpoint { node, internode, dc, rack }, tokens })
    }

    fn build_ring(&mut self) {
        let members = self.placed.values().map(|p| (p.endpoint.clone(), p.tokens.clone()));
        let leaving =
            |node: &&NodeId| self.value(**node, StateKey::STATUS) == Some(status::LEAVING);
        let leaving: Vec<NodeId> = self.placed.keys().filter(leaving).copied().collect();
        let ring = Ring::new(members).with_leaving(leaving);
        for conflict in ring.conflicts() {
            tracing::error!(?conflict, "two nodes claim one token");
        }
        self.ring = Arc::new(ring);
    }

    fn heard(&mut self, node: NodeId, now: Duration, work: &mut Work) {
        // The last words of a node that is shutting down are no sign of life.
        let left = [Some(status::SHUTDOWN), Some(status::LEFT)];
        if left.contains(&self.value(node, StateKey::STATUS)) {
            return;
        }
        if self.detector.report(node, now) {
            self.down_since.remove(&node);
            work.liveness.push((node, true));
        }
    }

    /// A node has left: it is no member any more, and nobody is to wait for it.
    fn gone_for_good(&mut self, node: NodeId, now: Duration, work: &mut Work) {
        if self.detector.convict(node) {
            self.died(node, now, work);
        }
        self.detector.remove(node);
        self.down_since.remove(&node);
        self.note_left(node);
        work.left.push(node);
        tracing::info!(peer = %node, "a node has left the ring");
    }

    fn note_left(&mut self, node: NodeId) {
        let until = self.value(node, StateKey::LEFT_UNTIL).and_then(|until| until.parse().ok());
        // Until it is heard, it need not be remembered for long; that it has left is remembered all the same.
        self.left.insert(node, until.unwrap_or(0));
        if self.left.len() > LEFT_MAX {
            let oldest = self.left.iter().min_by_key(|(_, until)| **until).map(|(node, _)| *node);
            oldest.map(|oldest| self.left.remove(&oldest));
        }
    }

    /// Gossip forgets those who left long ago.
    fn forget_the_left(&mut self, wall_s: u64) {
        let over = |(node, state): (NodeId, &helenus_core::gossip::EndpointState)| {
            (node != self.gossip.local() && state.is_over(wall_s)).then_some(node)
        };
        let over: Vec<NodeId> = match self.left.is_empty() {
            true => return,
            false => self.gossip.endpoints().filter_map(over).collect(),
        };
        for node in over {
            self.gossip.forget(node);
            self.down_since.remove(&node);
        }
    }

    fn died(&mut self, node: NodeId, now: Duration, work: &mut Work) {
        self.down_since.insert(node, now);
        work.liveness.push((node, false));
    }
}

/// Tokens as they are gossiped.
pub(super) fn tokens_to_text(tokens: &[Token]) -> String {
    let tokens: Vec<String> = tokens.iter().map(Token::to_string).collect();
    tokens.join(",")
}

/// Tokens from gossip; `None` if one is no number. A node without tokens says nothing between no commas.
pub(super) fn tokens_from_text(text: &str) -> Option<Vec<Token>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',').map(|token| token.parse().ok().map(Token)).collect()
}
