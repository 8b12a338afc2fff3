//! What nodes say to each other when they gossip.

use super::{StateKey, Versioned};
use crate::types::{Generation, NodeId};

/// About the bytes of a digest on the wire.
pub(super) const DIGEST_COST: usize = 40;
/// About the bytes of a state without its values.
pub(super) const STATE_COST: usize = 40;
/// About the bytes of a value without its text.
pub(super) const VALUE_COST: usize = 24;

/// How much the sender knows of a node: everything of `generation` up to `max_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Of whom.
    pub node: NodeId,
    /// Which of its lives. 0: the sender knows nothing of it.
    pub generation: Generation,
    /// The largest version known.
    pub max_version: u64,
}

impl Digest {
    /// Nothing is known of `node`.
    pub(super) fn of_nothing(node: NodeId) -> Digest {
        Digest { node, generation: Generation(0), max_version: 0 }
    }
}

/// What is news of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDelta {
    /// Whose state.
    pub node: NodeId,
    /// Which of its lives.
    pub generation: Generation,
    /// The version of its heartbeat; 0: not in this message.
    pub heartbeat_version: u64,
    /// Its values, in order of version. A sender that has more to say than fits leaves the newest out.
    pub values: Vec<(StateKey, Versioned)>,
}

impl StateDelta {
    /// The largest version in it.
    pub fn max_version(&self) -> u64 {
        let values = self.values.iter().map(|(_, value)| value.version).max().unwrap_or(0);
        values.max(self.heartbeat_version)
    }

    fn cost_bytes(&self) -> usize {
        let text = |(_, v): &(StateKey, Versioned)| v.value.len() + VALUE_COST;
        STATE_COST + self.values.iter().map(text).sum::<usize>()
    }
}

/// The first word: this is how much I know of everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syn {
    /// Of which cluster.
    pub cluster_name: String,
    /// At most one a node.
    pub digests: Vec<Digest>,
}

/// The answer: tell me what lies beyond these; this lies beyond yours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// What the sender of the answer would like to know.
    pub requests: Vec<Digest>,
    /// What the sender of the [`Syn`] did not know.
    pub states: Vec<StateDelta>,
}

/// The last word: here is what you asked for. Also said unasked, by a node that shuts down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack2 {
    /// What the sender of the [`Ack`] did not know.
    pub states: Vec<StateDelta>,
}

/// A gossip message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first word.
    Syn(Syn),
    /// The answer.
    Ack(Ack),
    /// The last word.
    Ack2(Ack2),
}

impl Message {
    /// About how many bytes it takes on the wire.
    pub fn cost_bytes(&self) -> usize {
        let of_states = |states: &[StateDelta]| states.iter().map(StateDelta::cost_bytes).sum();
        match self {
            Message::Syn(syn) => syn.digests.len() * DIGEST_COST,
            Message::Ack(ack) => ack.requests.len() * DIGEST_COST + of_states(&ack.states),
            Message::Ack2(ack2) => of_states(&ack2.states),
        }
    }
}
