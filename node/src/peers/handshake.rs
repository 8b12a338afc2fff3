//! The first frame each way: who are you, and can we talk? Pure.
//!
//! Both ends judge the other's Hello. The listener says why it refuses; the dialler tells its operator. A peer that was
//! refused stays so until somebody changes a version or a configuration, so it is asked again seldom.

use super::verb::Lane;
use helenus_core::negotiate::{Incompatible, VersionRange, negotiate};
use helenus_core::{Generation, NodeId};
use helenus_proto::v1::Hello;
use std::net::SocketAddr;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_name: String,
    pub(crate) node: NodeId,
    pub(crate) versions: VersionRange,
    pub(crate) generation: Generation,
    pub(crate) address: SocketAddr,
}

/// What the other one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    pub(crate) lane: Lane,
    pub(crate) version: u32,
    pub(crate) address: Option<SocketAddr>,
}

/// Why a link is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "the peer belongs to cluster `{theirs}`, this node to `{ours}`: check `cluster_name` and `seeds`"
    )]
    OtherCluster { ours: String, theirs: String },
    #[error("{0}")]
    Version(Incompatible),
    #[error("this node dialled itself")]
    Own,
    #[error("the peer's host id has {0} bytes instead of 16")]
    BadNode(usize),
    #[error("there is no lane `{0}`")]
    BadLane(String),
    #[error("this node has as many links as it takes")]
    TooMany,
    #[error("the peer refuses this node: {0}")]
    ByPeer(String),
}

impl Identity {
    /// The Hello for a link of `lane`.
    pub(crate) fn hello(&self, lane: Lane) -> Hello {
        Hello {
            cluster_name: self.cluster_name.clone(),
            node: self.node.0.to_be_bytes().to_vec().into(),
            version_min: self.versions.min,
            version_max: self.versions.max,
            lane: lane.as_str().to_owned(),
            generation: self.generation.0,
            refused: String::new(),
            address: self.address.to_string(),
        }
    }

    /// The Hello that refuses.
    pub(crate) fn refusal(&self, why: &Refusal) -> Hello {
        Hello { refused: why.to_string(), ..self.hello(Lane::Urgent) }
    }

    /// Judges the other one's Hello.
    pub(crate) fn judge(&self, hello: &Hello) -> Result<Greeting, Refusal> {
        let bytes: [u8; 16] =
            hello.node.as_ref().try_into().map_err(|_| Refusal::BadNode(hello.node.len()))?;
        let node = NodeId(u128::from_be_bytes(bytes));
        // Before the refusal: a node that dialled itself refuses itself, and should know why.
        if node == self.node {
            return Err(Refusal::Own);
        }
        if !hello.refused.is_empty() {
            return Err(Refusal::ByPeer(hello.refused.clone()));
        }
        if hello.cluster_name != self.cluster_name {
            return Err(Refusal::OtherCluster {
                ours: self.cluster_name.clone(),
                theirs: hello.cluster_name.clone(),
            });
        }
        let theirs = VersionRange { min: hello.version_min, max: hello.version_max };
        let version = negotiate(self.versions, theirs).map_err(Refusal::Version)?;
        let lane =
            Lane::from_name(&hello.lane).ok_or_else(|| Refusal::BadLane(hello.lane.clone()))?;
        Ok(Greeting {
            node,
            generation: Generation(hello.generation),
            lane,
            version,
            // Absent or nonsense: the peer can be answered on its own link, and gossip knows more.
            address: hello.address.parse().ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(node: u128) -> Identity {
        Identity {
            cluster_name: "test".to_owned(),
            node: NodeId(node),
            versions: VersionRange { min: 2, max: 4 },
            generation: Generation(7),
            address: SocketAddr::from(([127, 0, 0, 1], 7000)),
        }
    }

    #[test]
    fn two_of_a_kind_speak_the_highest_common_version() {
        let newer = Identity { versions: VersionRange { min: 3, max: 9 }, ..identity(2) };
        let greeting = identity(1).judge(&newer.hello(Lane::Bulk)).unwrap();
        assert_eq!(
            greeting,
            Greeting {
                node: NodeId(2),
                generation: Generation(7),
                lane: Lane::Bulk,
                version: 4,
                address: Some(newer.address),
            }
        );
    }

    #[test]
    fn whoever_cannot_be_talked_to_is_refused_and_told_why() {
        let me = identity(1);
        let hello = identity(2).hello(Lane::Small);
        let judged = |hello| me.judge(&hello).unwrap_err();
        let other = Hello { cluster_name: "prod".to_owned(), ..hello.clone() };
        assert!(judged(other).to_string().contains("cluster `prod`, this node to `test`"));
        let old = Hello { version_min: 1, version_max: 1, ..hello.clone() };
        assert!(matches!(judged(old), Refusal::Version(_)));
        let nonsense = Hello { version_min: 4, version_max: 2, ..hello.clone() };
        assert!(matches!(judged(nonsense), Refusal::Version(_)));
        let short = Hello { node: vec![1, 2, 3].into(), ..hello.clone() };
        assert_eq!(judged(short), Refusal::BadNode(3));
        let lane = Hello { lane: "slow".to_owned(), ..hello.clone() };
        assert_eq!(judged(lane), Refusal::BadLane("slow".to_owned()));
        assert_eq!(judged(Hello::default()), Refusal::BadNode(0));
        let refused = identity(2).refusal(&Refusal::BadNode(3));
        assert!(matches!(judged(refused), Refusal::ByPeer(why) if why.contains("16")));
        assert_eq!(judged(me.hello(Lane::Small)), Refusal::Own);
        assert_eq!(judged(me.refusal(&Refusal::Own)), Refusal::Own);
    }
}
