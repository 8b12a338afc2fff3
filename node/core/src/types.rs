//! Identities and units. A number that has a unit or an owner is never a bare integer past the edge of a room.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

/// A node's host id: 128 random bits, chosen once at its first start and kept in its data directory. Printed as a
/// UUID, because that is what operators of Cassandra look for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u128);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let (a, rest) = hex.split_at(8);
        let (b, rest) = rest.split_at(4);
        let (c, rest) = rest.split_at(4);
        let (d, e) = rest.split_at(4);
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a host id: 32 hexadecimal digits, with or without dashes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host id (32 hexadecimal digits, dashes allowed)")]
pub struct BadNodeId(String);

impl FromStr for NodeId {
    type Err = BadNodeId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        if hex.len() != 32 {
            return Err(BadNodeId(text.to_owned()));
        }
        u128::from_str_radix(&hex, 16).map(NodeId).map_err(|_| BadNodeId(text.to_owned()))
    }
}

/// A position on the ring: the signed 64-bit output of Cassandra's Murmur3 partitioner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub i64);

impl Token {
    /// The token before all others; no key but the empty one has it.
    pub const MIN: Token = Token(i64::MIN);
    /// The last token.
    pub const MAX: Token = Token(i64::MAX);
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A cell's version: microseconds since the Unix epoch by the writer's clock, as in CQL's `USING TIMESTAMP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMicros(pub i64);

/// Seconds since the Unix epoch by the replica's wall clock: what TTL and `gc_grace` are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GcSeconds(pub u32);

/// Which start of a node this is. It only grows; a peer that comes back with a larger one has restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                $name(Arc::from(name))
            }
        }
        impl From<String> for $name {
            fn from(name: String) -> Self {
                $name(Arc::from(name))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// A data centre's name. Replication is set per data centre, and LOCAL_ levels mean the coordinator's.
    Dc
}
name_type! {
    /// A rack's name: a set of nodes that fail together (on EC2, an availability zone).
    Rack
}

/// A member of the ring as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its host id.
    pub node: NodeId,
    /// Where peers reach it.
    pub internode: SocketAddr,
    /// Its data centre.
    pub dc: Dc,
    /// Its rack.
    pub rack: Rack,
}
