//! Scuttlebutt gossip as a step machine: how every node comes to know every other.
//!
//! Each node owns a few values about itself (its tokens, its addresses, its status), and numbers them with versions
//! that only grow. Once a round it tells a random peer how much it knows of everyone (digests), and the two hand each
//! other what is newer:
//!
//! ```text
//!   a                                     b
//!   | Syn   digests of all I know        |
//!   |----------------------------------->|  compares
//!   | Ack   send me these; here are those|
//!   |<-----------------------------------|
//!   | Ack2  here they are                |
//!   |----------------------------------->|
//! ```
//!
//! The machine does no IO and keeps no time: [`Gossip::step`] takes what happened and gives back what to do.
//!
//! Invariants:
//! - Only a node itself writes its values; everyone else copies them. So there is nothing to merge: a newer generation
//!   replaces an older one whole, and within a generation the higher version of each value wins.
//! - What is sent of a node's state is a prefix in order of version. A message that is cut at its bound therefore
//!   leaves the receiver with "all up to version v", and the next round goes on from there.
//! - The heartbeat is a value like the others with a version of its own; it grows once a round. `heartbeat_version` 0 in
//!   a message means that it did not fit in.
//! - Every message is bounded in bytes, the number of nodes known is bounded, and so are each node's values. What does
//!   not fit waits for the next round or is refused, and [`Counters`] say how often.
//!
//! CAVEAT: nodes believe each other. A peer that lies about a third node is believed; a checksum on the wire catches a
//! flipped bit (S3, 2008-07-20), not malice.
//! CAVEAT: a restart is known by its generation, so two nodes with the same host id (a copied data directory) fight;
//! each sees it as [`Effect::Impostor`].
//!
//! Source: van Renesse et al., "Efficient reconciliation and flow control for anti-entropy protocols" (2008);
//! Cassandra's `Gossiper`.

mod message;
mod state;
#[cfg(test)]
mod tests;

pub use message::{Ack, Ack2, Digest, Message, StateDelta, Syn};
pub use state::{EndpointState, StateKey, Versioned};

use crate::types::{Generation, NodeId};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A generation may be ahead of this node's wall clock by so much (Cassandra: one year). One that is further ahead
/// comes from a broken clock or a flipped bit, and would shut its node's real restarts out for as long.
pub const GENERATION_AHEAD_MAX_S: u64 = 86_400 * 365;

/// What a node is willing to hold and to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message, by [`Message::cost_bytes`]. Default 64 KiB. One value is sent even if it alone is larger,
    /// or it would never be.
    pub message_bytes_max: usize,
    /// Nodes known, this one included. Further ones are refused. Default 4096.
    pub endpoints_max: usize,
    /// Values per node. Further ones are refused. Default 64.
    pub values_max: usize,
    /// Bytes of a value. A longer one is refused. Default 48 KiB: 2000 tokens.
    pub value_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_bytes_max: 64 << 10,
            endpoints_max: 4096,
            values_max: 64,
            value_bytes_max: 48 << 10,
        }
    }
}

/// What happened to the machine's node.
pub enum Event<'a> {
    /// A round is due: beat the heart, choose whom to talk to.
    Tick {
        /// A random number below its argument.
        random: &'a mut dyn FnMut(usize) -> usize,
        /// Peers that the failure detector holds alive.
        live: &'a [NodeId],
        /// Peers that it doesn't, and that have not left.
        unreachable: &'a [NodeId],
        /// Where to begin; this node itself is not among them.
        seeds: &'a [SocketAddr],
    },
    /// A peer said something. `wall_s` is this node's wall clock in seconds since the epoch.
    Received {
        /// Who, by its handshake.
        from: NodeId,
        /// What it said.
        message: Message,
        /// For judging generations.
        wall_s: u64,
    },
    /// This node has something new to say of itself.
    SetLocal(StateKey, String),
    /// Do not wait for a round: tell these peers this node's own state now.
    Announce(&'a [NodeId]),
}

/// Whom to send a message to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// A node that is known.
    Node(NodeId),
    /// A seed, whose host id may not be known yet.
    Seed(SocketAddr),
}

/// What the shell is to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send `message`. It may get lost: the next round mends it.
    Send {
        /// To whom.
        to: To,
        /// What.
        message: Message,
    },
    /// A node that was not known is. Its values follow as `Changed`.
    NewNode {
        /// Its host id.
        node: NodeId,
    },
    /// A known node has a newer generation. What it said before is void; its values follow as `Changed`.
    Restarted {
        /// Its host id.
        node: NodeId,
        /// The new one.
        generation: Generation,
    },
    /// A node's value is another than before.
    Changed {
        /// Whose.
        node: NodeId,
        /// Which.
        key: StateKey,
        /// What it is now.
        value: String,
    },
    /// A node gave a sign of life: its heart has beaten since it was last heard.
    Heard {
        /// Which.
        node: NodeId,
    },
    /// A node of another cluster tried to gossip; it was not answered.
    RefusedCluster {
        /// Its host id.
        from: NodeId,
        /// What it thinks this cluster is called.
        theirs: String,
    },
    /// Someone spreads news of this very node that it never wrote: a data directory was copied, or an id taken.
    Impostor {
        /// Who told.
        from: NodeId,
        /// The generation that the other self claims.
        generation: Generation,
    },
}

/// What was refused or put off. Every bound that was reached shows here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages of another cluster.
    pub refused_cluster: u64,
    /// States with a generation more than a year ahead of the clock.
    pub refused_generation: u64,
    /// States of nodes beyond `endpoints_max`.
    pub refused_endpoints: u64,
    /// Values beyond `values_max` or `value_bytes_max`, and versions out of any plausible range.
    pub refused_values: u64,
    /// News of this node itself that it never wrote.
    pub impostors: u64,
    /// Messages that were cut at `message_bytes_max`; the rest went next round.
    pub cut_messages: u64,
}

/// A version beyond this was not counted up to by a living node, and leaves no room above it.
const VERSION_MAX: u64 = 1 << 48;

/// One node's part in the gossip.
#[derive(Debug)]
pub struct Gossip {
    cluster_name: String,
    local: NodeId,
    limits: Limits,
    /// Invariant: holds `local`; at most `endpoints_max` long.
    endpoints: BTreeMap<NodeId, EndpointState>,
    /// The largest version that this node has given out.
    version: u64,
    /// Where the next digests begin, after some that did not fit.
    digest_turn: NodeId,
    /// Where the next states begin, after some that did not fit. Without it the lowest ids would always be served
    /// first, and their heartbeats never leave off.
    state_turn: NodeId,
    counters: Counters,
}

impl Gossip {
    /// A node that knows only itself.
    pub fn new(
        cluster_name: impl Into<String>,
        local: NodeId,
        generation: Generation,
        limits: Limits,
    ) -> Gossip {
        let mut own = EndpointState::new(generation);
        own.heartbeat = 1;
        own.confirmed = true;
        Gossip {
            cluster_name: cluster_name.into(),
            local,
            limits,
            endpoints: BTreeMap::from([(local, own)]),
            version: 1,
            digest_turn: NodeId(0),
            state_turn: NodeId(0),
            counters: Counters::default(),
        }
    }

    /// Takes what happened, gives back what to do.
    pub fn step(&mut self, event: Event<'_>) -> Vec<Effect> {
        match event {
            Event::Tick { random, live, unreachable, seeds } => {
                self.tick(random, live, unreachable, seeds)
            }
            Event::Received { from, message, wall_s } => self.receive(from, message, wall_s),
            Event::SetLocal(key, value) => self.set_local(key, value),
            Event::Announce(peers) => self.announce(peers),
        }
    }

    /// This node's host id.
    pub fn local(&self) -> NodeId {
        self.local
    }

    /// What is known of a node.
    pub fn state(&self, node: NodeId) -> Option<&EndpointState> {
        self.endpoints.get(&node)
    }

    /// A value of a node.
    pub fn value(&self, node: NodeId, key: StateKey) -> Option<&str> {
        Some(self.endpoints.get(&node)?.values.get(&key)?.value.as_str())
    }

    /// Everyone who is known, this node included, in order.
    pub fn endpoints(&self) -> impl Iterator<Item = (NodeId, &EndpointState)> {
        self.endpoints.iter().map(|(node, state)| (*node, state))
    }

    /// Forgets a node, which is never this one. It is known again as soon as somebody tells of it, unless it has left and is
    /// over ([`StateKey::LEFT_UNTIL`]).
    pub fn forget(&mut self, node: NodeId) {
        if node != self.local {
            self.endpoints.remove(&node);
        }
    }

    /// What was refused or put off so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A round, as Cassandra does it: one live peer; perhaps one unreachable peer, because it may be back; and perhaps
    /// a seed, because seeds are what joins the halves of a cluster that do not know each other.
    fn tick(
        &mut self,
        random: &mut dyn FnMut(usize) -> usize,
        live: &[NodeId],
        unreachable: &[NodeId],
        seeds: &[SocketAddr],
    ) -> Vec<Effect> {
        self.version += 1;
        let version = self.version;
        self.own().heartbeat = version;

        let mut targets = Vec::new();
        let spoken = pick(random, live).map(To::Node);
        targets.extend(spoken);
        // With all peers live this is never; with all but one dead, almost every time.
        if random(live.len() + 1) < unreachable.len() {
            targets.extend(pick(random, unreachable).map(To::Node));
        }
        let to_seed = spoken.is_some_and(|to| self.is_seed(to, seeds));
        let known = live.len() + unreachable.len();
        if live.is_empty() {
            // Alone, as at every start: whoever answers first will do. Seeds are few, so this is no storm.
            targets.extend(seeds.iter().copied().map(To::Seed));
        } else if !to_seed && (live.len() < seeds.len() || random(known) < seeds.len()) {
            targets.extend(pick(random, seeds).map(To::Seed));
        }
        if targets.is_empty() {
            return Vec::new();
        }
        let syn = self.syn();
        let send = |to| Effect::Send { to, message: Message::Syn(syn.clone()) };
        targets.into_iter().map(send).collect()
    }

    fn is_seed(&self, to: To, seeds: &[SocketAddr]) -> bool {
        let To::Node(node) = to else { return true };
        let address = self.value(node, StateKey::INTERNODE_ADDRESS).and_then(|a| a.parse().ok());
        address.is_some_and(|address| seeds.contains(&address))
    }

    /// Digests of everyone. When they are too many for a message, a run of them that goes on next round.
    fn syn(&mut self) -> Syn {
        let fit = (self.limits.message_bytes_max / message::DIGEST_COST).max(1);
        let turn = self.digest_turn;
        let mut turned = self.endpoints.range(turn..).chain(self.endpoints.range(..turn));
        let digests = turned.by_ref().take(fit).map(|(node, state)| state.digest(*node)).collect();
        if let Some((next, _)) = turned.next() {
            self.digest_turn = *next;
            self.counters.cut_messages += 1;
        }
        Syn { cluster_name: self.cluster_name.clone(), digests }
    }

    fn receive(&mut self, from: NodeId, message: Message, wall_s: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        if from == self.local {
            // Either this node dialled itself, or someone has a copy of its data directory.
            let generation = self.own().generation;
            self.impostor(from, generation, &mut effects);
            return effects;
        }
        match message {
            Message::Syn(Syn { cluster_name, .. }) if cluster_name != self.cluster_name => {
                self.counters.refused_cluster += 1;
                effects.push(Effect::RefusedCluster { from, theirs: cluster_name });
                return effects;
            }
            Message::Syn(syn) => self.on_syn(from, syn, &mut effects),
            Message::Ack(ack) => {
                self.apply(from, ack.states, wall_s, &mut effects);
                let states = self.answer(&ack.requests, self.limits.message_bytes_max);
                if !states.is_empty() {
                    let message = Message::Ack2(Ack2 { states });
                    effects.push(Effect::Send { to: To::Node(from), message });
                }
            }
            Message::Ack2(ack2) => self.apply(from, ack2.states, wall_s, &mut effects),
        }
        // A node that was known by hearsay has spoken for itself.
        if let Some(state) = self.endpoints.get_mut(&from)
            && !std::mem::replace(&mut state.confirmed, true)
        {
            effects.push(Effect::Heard { node: from });
        }
        effects
    }

    /// Asks for what they know better, and sends what we know better: also of nodes that they did not mention, which is
    /// how a newcomer learns everything in its first exchange. (When their digests were cut, that may be old news to
    /// them: it costs bytes, never truth.)
    fn on_syn(&mut self, from: NodeId, syn: Syn, effects: &mut Vec<Effect>) {
        let room = self.limits.message_bytes_max;
        let requests_max = (room / 2 / message::DIGEST_COST).max(1);
        let mut requests = Vec::new();
        // A node digested twice counts once.
        let mut theirs = BTreeMap::new();
        for digest in syn.digests {
            if requests.len() < requests_max {
                requests.extend(self.worth_a_request(from, &digest, effects));
            }
            if self.endpoints.contains_key(&digest.node) {
                theirs.insert(digest.node, digest);
            }
        }
        let all = self.endpoints.keys();
        let theirs: Vec<Digest> =
            all.map(|node| theirs.remove(node).unwrap_or(Digest::of_nothing(*node))).collect();
        let states =
            self.answer(&theirs, room.saturating_sub(requests.len() * message::DIGEST_COST));
        let message = Message::Ack(Ack { requests, states });
        effects.push(Effect::Send { to: To::Node(from), message });
    }

    /// What to ask for, when `digest` says that they know better.
    fn worth_a_request(
        &mut self,
        from: NodeId,
        digest: &Digest,
        effects: &mut Vec<Effect>,
    ) -> Option<Digest> {
        let known = self.endpoints.get(&digest.node).map(|state| state.digest(digest.node));
        let ours = known.unwrap_or(Digest::of_nothing(digest.node));
        if (digest.generation, digest.max_version) <= (ours.generation, ours.max_version) {
            return None;
        }
        if digest.node == self.local {
            self.impostor(from, digest.generation, effects);
            return None;
        }
        let same = digest.generation == ours.generation;
        let max_version = if same { ours.max_version } else { 0 };
        Some(Digest { node: digest.node, generation: digest.generation, max_version })
    }

    /// What we know beyond each of `digests`, as far as there is room for it.
    fn answer(&mut self, digests: &[Digest], mut room: usize) -> Vec<StateDelta> {
        let turn = self.state_turn;
        let (late, early): (Vec<&Digest>, _) = digests.iter().partition(|d| d.node < turn);
        let mut states = Vec::new();
        for digest in early.into_iter().chain(late) {
            let Some(state) = self.endpoints.get(&digest.node) else { continue };
            // Of an older generation of ours they want nothing; of an older one of theirs nothing is worth keeping.
            let after = match state.generation.cmp(&digest.generation) {
                Ordering::Less => continue,
                Ordering::Equal => digest.max_version,
                Ordering::Greater => 0,
            };
            let (delta, whole) = state.since(digest.node, after, &mut room, states.is_empty());
            states.extend(delta);
            if !whole {
                self.state_turn = digest.node;
                self.counters.cut_messages += 1;
                break;
            }
        }
        states
    }

    fn apply(
        &mut self,
        from: NodeId,
        states: Vec<StateDelta>,
        wall_s: u64,
        effects: &mut Vec<Effect>,
    ) {
        for delta in states {
            if delta.node != self.local {
                self.apply_one(from, delta, wall_s, effects);
                continue;
            }
            let own = self.own().digest(delta.node);
            if (delta.generation, delta.max_version()) > (own.generation, own.max_version) {
                self.impostor(from, delta.generation, effects);
            }
        }
    }

    fn apply_one(
        &mut self,
        from: NodeId,
        delta: StateDelta,
        wall_s: u64,
        effects: &mut Vec<Effect>,
    ) {
        let StateDelta { node, generation, heartbeat_version, values } = delta;
        let known = self.endpoints.get(&node).map(|known| known.generation);
        if known.is_some_and(|known| generation < known) {
            return;
        }
        let fresh = known != Some(generation);
        let left_until = values.iter().find(|(key, _)| *key == StateKey::LEFT_UNTIL);
        if known.is_none() && state::is_over(left_until.map(|(_, until)| until), wall_s) {
            // Whoever tells of it has not forgotten it yet, and would else remind everybody for ever.
            return;
        }
        if fresh {
            let Some(effect) = self.admit(node, generation, known, wall_s) else { return };
            effects.push(effect);
            self.endpoints.insert(node, EndpointState::new(generation));
        }
        let state = self.endpoints.get_mut(&node).expect("found or inserted just above");
        for (key, new) in values {
            let known = state.values.get(&key);
            if known.is_some_and(|known| known.version >= new.version) {
                continue;
            }
            let one_too_many = known.is_none() && state.values.len() >= self.limits.values_max;
            let too_long = new.value.len() > self.limits.value_bytes_max;
            if one_too_many || too_long || new.version > VERSION_MAX {
                self.counters.refused_values += 1;
                continue;
            }
            if known.is_none_or(|known| known.value != new.value) {
                effects.push(Effect::Changed { node, key, value: new.value.clone() });
            }
            state.values.insert(key, new);
        }
        if heartbeat_version > VERSION_MAX {
            self.counters.refused_values += 1;
        } else if heartbeat_version > state.heartbeat {
            let before = std::mem::replace(&mut state.heartbeat, heartbeat_version);
            // The first heartbeat of a node that is known by hearsay may be an echo of the dead: whoever told us may
            // have heard it an hour ago. It has to beat once more, or to speak for itself.
            if before > 0 || from == node {
                state.confirmed = true;
                effects.push(Effect::Heard { node });
            }
        }
        // Last, because the values say where to send it.
        if fresh && from != node {
            effects.push(self.probe(node, generation));
        }
    }

    /// Whether a node, or a newer generation of it, is let in; and the news that it is.
    fn admit(
        &mut self,
        node: NodeId,
        generation: Generation,
        known: Option<Generation>,
        wall_s: u64,
    ) -> Option<Effect> {
        match known {
            // As in Cassandra, the clock does not judge the generation of a node never met: should this node's own
            // clock be years behind, it would refuse everyone.
            None if self.endpoints.len() < self.limits.endpoints_max => {
                Some(Effect::NewNode { node })
            }
            None => {
                self.counters.refused_endpoints += 1;
                None
            }
            Some(_) if generation.0 > wall_s.saturating_add(GENERATION_AHEAD_MAX_S) => {
                self.counters.refused_generation += 1;
                None
            }
            Some(_) => Some(Effect::Restarted { node, generation }),
        }
    }

    /// Asks a node that was learned of from a third one to speak for itself, and introduces this one: its answer
    /// confirms it now and not when its heartbeat next comes round. One small message for each node and generation, so
    /// it cannot become a storm.
    fn probe(&mut self, node: NodeId, generation: Generation) -> Effect {
        let requests = vec![Digest { generation, ..Digest::of_nothing(node) }];
        let states = self.own_state(message::DIGEST_COST);
        Effect::Send { to: To::Node(node), message: Message::Ack(Ack { requests, states }) }
    }

    /// This node's state, in a message that says something else of `taken` bytes.
    fn own_state(&mut self, taken: usize) -> Vec<StateDelta> {
        let room = self.limits.message_bytes_max.saturating_sub(taken);
        self.answer(&[Digest::of_nothing(self.local)], room)
    }

    fn impostor(&mut self, from: NodeId, generation: Generation, effects: &mut Vec<Effect>) {
        self.counters.impostors += 1;
        effects.push(Effect::Impostor { from, generation });
    }

    fn set_local(&mut self, key: StateKey, value: String) -> Vec<Effect> {
        let node = self.local;
        if self.value(node, key) == Some(value.as_str()) {
            return Vec::new();
        }
        self.version += 1;
        let version = self.version;
        self.own().values.insert(key, Versioned { value: value.clone(), version });
        vec![Effect::Changed { node, key, value }]
    }

    fn announce(&mut self, peers: &[NodeId]) -> Vec<Effect> {
        let message = Message::Ack2(Ack2 { states: self.own_state(0) });
        let send = |peer: &NodeId| Effect::Send { to: To::Node(*peer), message: message.clone() };
        peers.iter().map(send).collect()
    }

    fn own(&mut self) -> &mut EndpointState {
        self.endpoints.get_mut(&self.local).expect("a node knows itself from the start")
    }
}

fn pick<T: Copy>(random: &mut dyn FnMut(usize) -> usize, from: &[T]) -> Option<T> {
    if from.is_empty() { None } else { from.get(random(from.len())).copied() }
}
