//! What there is to compare: parts of the ring, each with the replicas that should hold the same of it. Pure.

use helenus_core::pending::Move;
use helenus_core::placement::{Placement, Replica};
use helenus_core::ring::{Span, TokenRange};
use helenus_core::{NodeId, TableId};

/// A part of the ring of one table, compared between its replicas as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) table: TableId,
    pub(crate) span: Span,
    /// Invariant: distinct, at least two. The first one sends what several have alike.
    pub(crate) replicas: Vec<NodeId>,
    /// Only these receive; empty: whoever lacks something does.
    pub(crate) targets: Vec<NodeId>,
}

/// A token range to repair, named by whoever knows that something is missing there (a ledger of lost hints, say).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) table: TableId,
    pub(crate) range: TokenRange,
    /// Replicas that miss something: only they receive, and only what they are replicas of is compared. Empty: all of them.
    pub(crate) targets: Vec<NodeId>,
}

/// What `me` is a replica of, or with `primary_range` the first replica of, range by range.
pub(crate) fn own(
    table: TableId,
    placement: &Placement,
    me: NodeId,
    primary_range: bool,
) -> Vec<Unit> {
    let is_own = |replicas: &[Replica]| match primary_range {
        true => replicas.first().is_some_and(|replica| replica.node == me),
        false => replicas.iter().any(|replica| replica.node == me),
    };
    let ranges = placement.ranges().filter(|(_, replicas)| replicas.len() > 1 && is_own(replicas));
    let units = ranges.flat_map(|(range, replicas)| {
        let nodes = in_order(replicas, me);
        range.spans().map(move |span| Unit {
            table,
            span,
            replicas: nodes.clone(),
            targets: Vec::new(),
        })
    });
    units.collect()
}

/// A piece, cut where the replicas change.
pub(crate) fn of_piece(piece: &Piece, placement: &Placement, me: NodeId) -> Vec<Unit> {
    let mut units = Vec::new();
    for (part, replicas) in placement.spans().filter(|(_, replicas)| replicas.len() > 1) {
        let nodes = in_order(replicas, me);
        let targets: Vec<NodeId> =
            piece.targets.iter().copied().filter(|target| nodes.contains(target)).collect();
        if targets.is_empty() && !piece.targets.is_empty() {
            continue;
        }
        for span in piece.range.spans().filter_map(|span| intersection(span, part)) {
            let (replicas, targets) = (nodes.clone(), targets.clone());
            units.push(Unit { table: piece.table, span, replicas, targets });
        }
    }
    units
}

/// What is to be handed from a replica to new ones: each range against its new owners, which only receive. The source is
/// `me` where it is a replica, else the first replica.
pub(crate) fn of_moves(
    table: TableId,
    moves: impl Iterator<Item = Move>,
    me: NodeId,
) -> impl Iterator<Item = Unit> {
    moves.flat_map(move |moved| {
        let source = match moved.from.contains(&me) {
            true => Some(me),
            false => moved.from.first().copied(),
        };
        let targets: Vec<NodeId> = moved.to.iter().map(|replica| replica.node).collect();
        let replicas: Vec<NodeId> = source.into_iter().chain(targets.iter().copied()).collect();
        let spans: Vec<Span> =
            if source.is_some() { moved.range.spans().collect() } else { vec![] };
        spans.into_iter().map(move |span| Unit {
            table,
            span,
            replicas: replicas.clone(),
            targets: targets.clone(),
        })
    })
}

/// This node first: what it sends does not have to be asked for.
fn in_order(replicas: &[Replica], me: NodeId) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = replicas.iter().map(|replica| replica.node).collect();
    nodes.sort_by_key(|node| *node != me);
    nodes
}

fn intersection(a: Span, b: Span) -> Option<Span> {
    // `None`, the beginning of all tokens, is the smallest.
    let both = Span { after: a.after.max(b.after), until: a.until.min(b.until) };
    both.after.is_none_or(|after| after < both.until).then_some(both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_core::ring::Ring;
    use helenus_core::{Endpoint, Replication, Token};
    use std::num::NonZeroU32;

    const TABLE: TableId = TableId(7);

    fn member(node: u128) -> (Endpoint, Vec<Token>) {
        let endpoint = Endpoint {
            node: NodeId(node),
            internode: "127.0.0.1:7000".parse().unwrap(),
            dc: "dc1".into(),
            rack: "r1".into(),
        };
        (endpoint, vec![Token(i64::try_from(node).unwrap() * 100)])
    }

    /// Three nodes with the tokens 0, 100 and 200.
    fn placement(rf: u32) -> Placement {
        let ring = Ring::new((0..3).map(member));
        Placement::new(&ring, &Replication::Simple { rf: NonZeroU32::new(rf).unwrap() })
    }

    fn spans(units: &[Unit]) -> Vec<(Option<i64>, i64)> {
        units.iter().map(|u| (u.span.after.map(|t| t.0), u.span.until.0)).collect()
    }

    #[test]
    fn every_range_has_one_first_replica_and_rf_replicas() {
        let placement = placement(2);
        let primary = own(TABLE, &placement, NodeId(1), true);
        assert_eq!(spans(&primary), [(Some(0), 100)]);
        assert_eq!(primary[0].replicas, [NodeId(1), NodeId(2)]);
        let all = own(TABLE, &placement, NodeId(1), false);
        assert_eq!(spans(&all), [(None, 0), (Some(200), i64::MAX), (Some(0), 100)]);
        assert_eq!(all[0].replicas, [NodeId(1), NodeId(0)], "this node first");
    }

    #[test]
    fn what_moves_is_sent_by_the_one_that_leaves_and_only_the_new_owners_receive() {
        let placement = placement(2);
        let ring = Ring::new((0..2).map(member));
        let rf = NonZeroU32::new(2).unwrap();
        let after = Placement::new(&ring, &Replication::Simple { rf });
        let moved = helenus_core::pending::moves(&placement, &after);
        let units: Vec<Unit> = of_moves(TABLE, moved, NodeId(2)).collect();
        // Token 200's range is held by 2 and 0, token 100's by 1 and 2.
        assert_eq!(spans(&units), [(Some(0), 100), (Some(100), 200)]);
        let ends: Vec<_> = units.iter().map(|u| (u.replicas.clone(), u.targets.clone())).collect();
        let to = |node| (vec![NodeId(2), NodeId(node)], vec![NodeId(node)]);
        assert_eq!(ends, [to(0), to(1)]);
    }

    #[test]
    fn what_has_one_copy_has_nothing_to_compare() {
        assert_eq!(own(TABLE, &placement(1), NodeId(1), false), []);
    }

    #[test]
    fn a_piece_is_cut_at_the_ring_and_to_its_targets() {
        let placement = placement(2);
        let range = TokenRange { after: Token(50), until: Token(-50) };
        let mut piece = Piece { table: TABLE, range, targets: vec![NodeId(2)] };
        let units = of_piece(&piece, &placement, NodeId(0));
        assert_eq!(
            spans(&units),
            [(Some(50), 100), (Some(100), 200)],
            "2 holds nothing else of it"
        );
        assert!(units.iter().all(|u| u.targets == [NodeId(2)] && u.replicas.len() == 2));
        piece.targets.clear();
        let units = of_piece(&piece, &placement, NodeId(0));
        let whole = [(None, -50), (Some(50), 100), (Some(100), 200), (Some(200), i64::MAX)];
        assert_eq!(spans(&units), whole);
    }
}
