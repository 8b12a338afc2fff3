//! What is known of a node.

use super::Digest;
use super::message::{STATE_COST, StateDelta, VALUE_COST};
use crate::types::{Generation, NodeId};
use std::collections::BTreeMap;
use std::fmt;

/// Which value of a node's state, by number. A number that this build has no name for is kept and passed on: a newer
/// node may have put it there for newer nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey(pub u32);

macro_rules! state_keys {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl StateKey {
            $($(#[$doc])* pub const $name: StateKey = StateKey($number);)*

            /// Its name, when this build has one for it.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(StateKey::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// All that have a name, in order of their numbers.
            pub const NAMED: &[StateKey] = &[$(StateKey::$name),*];
        }
    };
}

state_keys! {
    /// What the node is to the ring: `NORMAL`, `JOINING`, `LEAVING`, `LEFT`, `SHUTDOWN`.
    STATUS = 1;
    /// Where peers reach it: `ip:port`.
    INTERNODE_ADDRESS = 2;
    /// Where clients reach it: `ip:port`.
    CLIENT_ADDRESS = 3;
    /// Its data centre.
    DC = 4;
    /// Its rack.
    RACK = 5;
    /// Its tokens, in decimal, separated by commas.
    TOKENS = 6;
    /// The version of its schema.
    SCHEMA = 7;
    /// Bytes of live data.
    LOAD = 8;
    /// The release it runs.
    RELEASE_VERSION = 9;
    /// The protocol versions that it speaks: `min-max`.
    NET_VERSION = 10;
    /// Whether it serves clients: `true`, `false`.
    RPC_READY = 11;
    /// Its hinted handoff: `enabled`, `disabled`, `paused`.
    HANDOFF = 12;
    /// It has left for good; until this second since the epoch others are to remember that.
    LEFT_UNTIL = 13;
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "STATE_{}", self.0),
        }
    }
}

/// A value and when, by its owner's count, it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: String,
    /// Its version: unique among all values and heartbeats of its node's generation.
    pub version: u64,
}

/// Whether a node of this [`StateKey::LEFT_UNTIL`] need not be remembered.
pub(super) fn is_over(left_until: Option<&Versioned>, wall_s: u64) -> bool {
    let until = left_until.and_then(|until| until.value.parse::<u64>().ok());
    until.is_some_and(|until| until <= wall_s)
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// Which of its lives this is about.
    pub generation: Generation,
    /// The version of its last heartbeat known here.
    pub heartbeat: u64,
    /// Its values.
    pub values: BTreeMap<StateKey, Versioned>,
    /// Whether it was heard in this life, rather than heard of.
    pub(super) confirmed: bool,
}

impl EndpointState {
    pub(super) fn new(generation: Generation) -> EndpointState {
        EndpointState { generation, heartbeat: 0, values: BTreeMap::new(), confirmed: false }
    }

    /// The largest version known.
    pub fn max_version(&self) -> u64 {
        let values = self.values.values().map(|value| value.version).max().unwrap_or(0);
        values.max(self.heartbeat)
    }

    /// Whether it has left for good, so long ago that it need not be remembered.
    pub fn is_over(&self, wall_s: u64) -> bool {
        is_over(self.values.get(&StateKey::LEFT_UNTIL), wall_s)
    }

    pub(super) fn digest(&self, node: NodeId) -> Digest {
        Digest { node, generation: self.generation, max_version: self.max_version() }
    }

    /// What is newer than `after`, oldest first, as far as there is `room`, which is used up; and whether that is all.
    /// The `first` one in a message may exceed the room by one value, or a value that is larger than a message would
    /// never be sent.
    pub(super) fn since(
        &self,
        node: NodeId,
        after: u64,
        room: &mut usize,
        first: bool,
    ) -> (Option<StateDelta>, bool) {
        // The heartbeat has its place among the values: it may not overtake one that does not fit.
        let values = self.values.iter().map(|(key, value)| (value.version, Some((*key, value))));
        let all = values.chain([(self.heartbeat, None)]);
        let mut newer: Vec<_> = all.filter(|(version, _)| *version > after).collect();
        newer.sort_by_key(|(version, _)| *version);

        let (generation, heartbeat_version) = (self.generation, 0);
        let mut delta = StateDelta { node, generation, heartbeat_version, values: Vec::new() };
        let mut cost = STATE_COST;
        let mut taken = 0;
        for (version, value) in &newer {
            let more = value.map_or(0, |(_, value)| VALUE_COST + value.value.len());
            if cost + more > *room && !(first && taken == 0) {
                break;
            }
            cost += more;
            taken += 1;
            match value {
                Some((key, value)) => delta.values.push((*key, (*value).clone())),
                None => delta.heartbeat_version = *version,
            }
        }
        if taken > 0 {
            *room = room.saturating_sub(cost);
        }
        ((taken > 0).then_some(delta), taken == newer.len())
    }
}
