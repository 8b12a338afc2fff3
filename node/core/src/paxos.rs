//! Paxos: how a partition's replicas agree on a conditional write, one decree after the other.
//!
//! ```text
//! prepare(b)   a replica promises to take nothing older than b, and tells what it accepted and what it committed last
//! propose(b,u) a replica that has promised nothing newer accepts the update u
//! commit(b,u)  u is decided: it is merged into the table, and the replica is ready for the next decree
//! ```
//!
//! A proposer that a quorum has promised looks at what they told ([`Promises::next`]): a proposal that is newer than the
//! newest commit may be decided already, so it is finished first; whoever lacks the newest commit is taught it. Only then
//! does it read, judge its own condition, and propose. A read at SERIAL, and a condition that does not hold, propose the
//! empty update: what a minority accepted before can then no longer come up behind it (CASSANDRA-12126).
//!
//! Invariants, which the tests check over schedules of lost, doubled and late messages and of acceptors that crash:
//! - of one ballot at most one update is accepted by anybody, and of one micros at most one ballot by a quorum;
//! - once a quorum has accepted an update, every later decree was made with knowledge of it;
//! - an update keeps the timestamp of the ballot that it was first proposed with, also when another proposer finishes it:
//!   decrees are in the order of their timestamps, and to finish one twice is to write the same cells twice.
//!
//! All of it rests on acceptors that remember: [`State`] has to be durable before a promise or an acceptance is answered. A
//! commit need not be: what it forgets is still accepted by a quorum, and is finished again.
//!
//! CAVEAT: SERIAL and LOCAL_SERIAL are different sets of acceptors. What is written at the one is not ordered against what
//! is written at the other, nor against writes without a condition.
//!
//! Source: Lamport, *Paxos Made Simple* (2001); Cassandra 4.1's `StorageProxy.doPaxos` (`paxos_variant: v1`), whose second
//! variant, like this, keeps the timestamp of what it finishes.

mod acceptor;
mod proposer;

pub use acceptor::{Accepted, Prepared, State};
pub use proposer::{Accepts, Next, Promises, Proposed, backoff};

use crate::level::Level;
use crate::types::{NodeId, TimestampMicros};
use bytes::{Buf, Bytes};
use std::fmt;

/// Among whom a conditional write is decided, and whom a serial read asks (CQL's codes 8 and 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SerialLevel {
    /// A quorum of all replicas.
    Serial,
    /// A quorum of those in the coordinator's data centre.
    LocalSerial,
}

impl SerialLevel {
    /// The ordinary level with the same quorum: at which the state is read that a condition is judged by.
    pub const fn quorum(self) -> Level {
        match self {
            SerialLevel::Serial => Level::Quorum,
            SerialLevel::LocalSerial => Level::LocalQuorum,
        }
    }

    /// Cassandra's name.
    pub const fn name(self) -> &'static str {
        match self {
            SerialLevel::Serial => "SERIAL",
            SerialLevel::LocalSerial => "LOCAL_SERIAL",
        }
    }
}

impl fmt::Display for SerialLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A proposal's number. Unique: its node makes no two of one micros in one life, and draws the nonce anew for each.
///
/// Ballots are ordered by their micros *alone*. Two of the same micros are not ordered, and an acceptor that has seen the
/// one refuses the other; so at most one of them finds a quorum, and the updates of two decrees never have one timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ballot {
    /// Microseconds since 1970, by the proposer's clock, or more if it has seen a newer ballot. What it writes has this
    /// timestamp.
    pub micros: TimestampMicros,
    /// Whose it is.
    pub node: NodeId,
    /// Tells it from one of another life of the node, whose clock may have been set back.
    pub nonce: u64,
}

impl Ballot {
    /// Bytes of an encoded ballot: `| micros i64 | node u128 | nonce u64 |`, big-endian.
    pub const BYTES: usize = 32;

    /// Whether it is newer than `other`; anything is newer than nothing.
    pub fn supersedes(&self, other: Option<&Ballot>) -> bool {
        other.is_none_or(|other| self.micros > other.micros)
    }

    /// As it is stored and travels.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(Ballot::BYTES);
        out.extend_from_slice(&self.micros.0.to_be_bytes());
        out.extend_from_slice(&self.node.0.to_be_bytes());
        out.extend_from_slice(&self.nonce.to_be_bytes());
        out.into()
    }

    /// Reads what [`Ballot::encode`] wrote; `None` if these bytes are no ballot.
    pub fn decode(mut bytes: &[u8]) -> Option<Ballot> {
        if bytes.len() != Ballot::BYTES {
            return None;
        }
        let micros = TimestampMicros(bytes.try_get_i64().ok()?);
        let node = NodeId(bytes.try_get_u128().ok()?);
        Some(Ballot { micros, node, nonce: bytes.try_get_u64().ok()? })
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.micros.0, self.node)
    }
}

/// An update under a ballot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its number. Larger than its update's timestamp if another proposer finishes it.
    pub ballot: Ballot,
    /// What is merged in if it is decided, in the encoding of `codec`. Empty: nothing.
    pub update: Bytes,
}

impl Proposal {
    /// The ballot, and then the update.
    pub fn encode(&self) -> Bytes {
        [self.ballot.encode(), self.update.clone()].concat().into()
    }

    /// Reads what [`Proposal::encode`] wrote; `None` if these bytes are no proposal.
    pub fn decode(bytes: &Bytes) -> Option<Proposal> {
        let ballot = Ballot::decode(bytes.get(..Ballot::BYTES)?)?;
        Some(Proposal { ballot, update: bytes.slice(Ballot::BYTES..) })
    }
}

/// The newer of two proposals.
fn newer(a: Option<Proposal>, b: Option<Proposal>) -> Option<Proposal> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.ballot.supersedes(Some(&a.ballot)) { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;
