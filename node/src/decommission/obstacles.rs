//! What is in the way of leaving the ring. Pure.

use helenus_core::placement::{Placement, Warning};
use helenus_core::ring::Ring;
use helenus_core::{Dc, NodeId, Replication};

/// Why a node may not leave. Most give way to force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error("this node is {status} and only one that is NORMAL can leave: {}", .advice)]
    NotNormal { status: String, advice: &'static str },
    #[error("this node is alone in the ring: there is nobody to leave its data to")]
    Alone,
    #[error("node {0} is leaving the ring, and one leaves at a time: wait until it has")]
    OtherLeaves(String),
    #[error(
        "keyspace {keyspace}: {warning}. This is how it would be without this node; lower its replication, or add nodes first \
         (--force leaves all the same)"
    )]
    TooFew { keyspace: String, warning: Warning },
    #[error(
        "{} of the members are down ({}): what they should be told they would hear late. Bring them back first (--force \
         leaves all the same)",
        .0.len(), .0.join(", ")
    )]
    Down(Vec<String>),
    #[error(
        "{0} dead letters are held here and would be lost: `helenusctl deadletters replay` or `purge` (--force loses them)"
    )]
    DeadLetters(u64),
    #[error(
        "{0} hints in this node's loss ledger were not made good, and nobody else knows of them: `helenusctl repair \
         --from-ledger` (--force forgets them)"
    )]
    Losses(u64),
}

impl Obstacle {
    /// Whether it is no reason to stay for an operator who insists.
    pub(crate) fn gives_way(&self) -> bool {
        match self {
            Obstacle::NotNormal { .. } | Obstacle::Alone | Obstacle::OtherLeaves(_) => false,
            Obstacle::TooFew { .. }
            | Obstacle::Down(_)
            | Obstacle::DeadLetters(_)
            | Obstacle::Losses(_) => true,
        }
    }
}

/// Keyspaces that would have fewer copies than they are to have, once `me` is gone.
pub(super) fn too_few<'a>(
    ring: &Ring,
    me: NodeId,
    keyspaces: impl Iterator<Item = (&'a str, &'a Replication)>,
) -> Vec<Obstacle> {
    let after = ring.without(&[me]);
    let dc = ring.endpoint(me).map(|me| me.dc.clone());
    let of_keyspace = |(keyspace, replication): (&str, &Replication)| {
        let warnings = Placement::new(&after, replication).warnings().to_vec();
        let about_me = warnings.into_iter().find(|warning| is_about(warning, dc.as_ref()));
        about_me.map(|warning| Obstacle::TooFew { keyspace: keyspace.to_owned(), warning })
    };
    keyspaces.filter_map(of_keyspace).collect()
}

/// Whether a node of this data centre makes the difference.
fn is_about(warning: &Warning, mine: Option<&Dc>) -> bool {
    match warning {
        Warning::TooFewNodes { .. } => true,
        Warning::TooFewNodesInDc { dc, .. } | Warning::UnknownDc { dc, .. } => Some(dc) == mine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_core::{Endpoint, Token};
    use std::num::NonZeroU32;

    /// Two nodes in dc1, one in dc2.
    fn ring() -> Ring {
        Ring::new([(1_u128, "dc1"), (2, "dc1"), (3, "dc2")].map(|(node, dc)| {
            let endpoint = Endpoint {
                node: NodeId(node),
                internode: "127.0.0.1:7000".parse().unwrap(),
                dc: dc.into(),
                rack: "r1".into(),
            };
            (endpoint, vec![Token(i64::try_from(node).unwrap())])
        }))
    }

    fn obstacles(me: u128, replication: &Replication) -> Vec<String> {
        let keyspaces = [("shop", replication)].into_iter();
        too_few(&ring(), NodeId(me), keyspaces).iter().map(ToString::to_string).collect()
    }

    fn rf(copies: u32) -> NonZeroU32 {
        NonZeroU32::new(copies).unwrap()
    }

    #[test]
    fn a_keyspace_keeps_its_copies_or_somebody_insists() {
        assert_eq!(obstacles(1, &Replication::Simple { rf: rf(2) }), [""; 0]);
        let refused = obstacles(1, &Replication::Simple { rf: rf(3) });
        assert!(
            refused[0].starts_with("keyspace shop: replication factor 3, but the ring has 2 nodes")
        );
        let per_dc = [("dc1".into(), rf(1)), ("dc2".into(), rf(1))];
        let per_dc = Replication::NetworkTopology { per_dc: per_dc.into() };
        assert_eq!(obstacles(1, &per_dc), [""; 0]);
        let refused = obstacles(3, &per_dc);
        assert!(refused[0].contains("data centre dc2, but no node is there"), "{refused:?}");
        // What dc9 lacks it lacks with this node too.
        let per_dc = Replication::NetworkTopology { per_dc: [("dc9".into(), rf(1))].into() };
        assert_eq!(obstacles(1, &per_dc), [""; 0]);
    }

    #[test]
    fn who_is_alone_or_no_member_cannot_insist() {
        assert!(!Obstacle::Alone.gives_way());
        assert!(!Obstacle::OtherLeaves("x".to_owned()).gives_way());
        assert!(Obstacle::DeadLetters(1).gives_way());
        let down = Obstacle::Down(vec!["a".to_owned(), "b".to_owned()]);
        assert!(down.to_string().starts_with("2 of the members are down (a, b)"));
    }
}
