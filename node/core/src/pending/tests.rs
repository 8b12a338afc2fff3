use super::*;
use crate::level::{Level, Op, quorum};
use crate::placement::tests::{rf, ring};
use crate::schema::Replication;
use crate::types::Dc;
use proptest::prelude::*;

fn simple(copies: u32) -> Replication {
    Replication::Simple { rf: rf(copies) }
}

fn nodes(replicas: &[Replica]) -> Vec<u128> {
    replicas.iter().map(|replica| replica.node.0).collect()
}

fn pending(ring: &Ring, replication: &Replication) -> Option<Pending> {
    let now = Placement::new(ring, replication);
    Pending::new(ring, &now, |ring| Placement::new(ring, replication))
}

/// Nodes 1 to 4 with the tokens 100 to 400.
fn four() -> Ring {
    ring(&[(1, 1, vec![100]), (1, 2, vec![200]), (1, 3, vec![300]), (1, 4, vec![400])])
}

#[test]
fn nobody_is_pending_while_nobody_leaves() {
    assert_eq!(pending(&four(), &simple(3)), None);
    assert_eq!(pending(&Ring::default(), &simple(3)), None);
}

#[test]
fn the_next_on_the_ring_is_pending_for_each_range_of_the_one_that_leaves() {
    let ring = four().with_leaving([NodeId(2)]);
    let pending = pending(&ring, &simple(3)).unwrap();
    let targets = |token| {
        let targets = pending.targets(Token(token));
        (nodes(targets.all), nodes(targets.pending))
    };
    assert_eq!(targets(150), (vec![2, 3, 4, 1], vec![1]));
    assert_eq!(targets(50), (vec![1, 2, 3, 4], vec![4]));
    assert_eq!(targets(350), (vec![4, 1, 2, 3], vec![3]));
    assert_eq!(targets(250), (vec![3, 4, 1], vec![]), "it holds nothing of this range");
    assert_eq!(targets(i64::MAX), targets(50), "behind the last token the ring begins again");
}

#[test]
fn where_there_is_nobody_else_nobody_is_pending() {
    assert_eq!(pending(&four().with_leaving([NodeId(2)]), &simple(4)), None);
}

#[test]
fn what_moves_is_what_the_leaving_one_holds() {
    let (ring, replication) = (four(), simple(2));
    let now = Placement::new(&ring, &replication);
    let after = Placement::new(&ring.without(&[NodeId(2)]), &replication);
    let moved: Vec<_> = moves(&now, &after)
        .map(|it| {
            (it.range.until.0, it.from.iter().map(|n| n.0).collect::<Vec<_>>(), nodes(&it.to))
        })
        .collect();
    assert_eq!(moved, [(100, vec![1, 2], vec![3]), (200, vec![2, 3], vec![4])]);
}

fn rings() -> impl Strategy<Value = Ring> {
    let token = prop_oneof![-50..50_i64, any::<i64>()];
    let node = (1..4_u8, 1..5_u8, proptest::collection::vec(token, 0..6));
    proptest::collection::vec(node, 1..10).prop_map(|nodes| ring(&nodes))
}

fn replications() -> impl Strategy<Value = Replication> {
    let per_dc = proptest::collection::btree_map(1..4_u8, 1..5_u32, 0..4);
    let per_dc = per_dc.prop_map(|per_dc| {
        let per_dc = per_dc.into_iter().map(|(dc, n)| (Dc::from(format!("dc{dc}")), rf(n)));
        Replication::NetworkTopology { per_dc: per_dc.collect() }
    });
    prop_oneof![(1..6_u32).prop_map(simple), per_dc]
}

proptest! {
    #[test]
    fn whoever_holds_a_token_afterwards_holds_it_before_or_is_pending(
        ring in rings(),
        replication in replications(),
        leaving in proptest::collection::btree_set(1..10_u128, 0..3),
        token: i64,
    ) {
        let ring = ring.with_leaving(leaving.into_iter().map(NodeId));
        let now = Placement::new(&ring, &replication);
        let pending = pending(&ring, &replication);
        let gone = ring.leaving().iter().map(|node| vec![*node]).chain([ring.leaving().to_vec()]);
        for gone in gone {
            let after = Placement::new(&ring.without(&gone), &replication);
            let edges = ring.tokens().flat_map(|(t, _)| [t, Token(t.0.wrapping_add(1))]);
            for token in edges.chain([Token(token), Token(token % 60), Token::MIN, Token::MAX]) {
                let held = now.replicas(token);
                let all = pending.as_ref().map_or(held, |pending| pending.targets(token).all);
                prop_assert_eq!(held, &all[..held.len()], "the replicas come first");
                for new in after.replicas(token) {
                    let is_known = all.iter().any(|known| known == new);
                    prop_assert!(is_known, "{:?} of {:?} without {:?}", new, token, gone);
                }
                // What is streamed is what is pending.
                let moved = moves(&now, &after).find(|it| it.range.contains(token));
                let new = after.replicas(token).iter().filter(|new| !holds(held, new.node));
                let new: Vec<Replica> = new.cloned().collect();
                prop_assert_eq!(moved.map(|it| it.to).unwrap_or_default(), new);
            }
        }
    }

    /// What a QUORUM write has while somebody leaves is a quorum before and afterwards, and so is what decides.
    #[test]
    fn a_quorum_with_the_pending_is_one_of_the_old_and_of_the_new(
        ring in rings(),
        copies in 1..5_u32,
        gone in proptest::collection::btree_set(1..10_u128, 1..3),
        token: i64,
        chosen: u16,
    ) {
        let (replication, dc) = (simple(copies), Dc::from("dc1"));
        let ring = ring.with_leaving(gone.into_iter().map(NodeId));
        let Some(pending) = pending(&ring, &replication) else { return Ok(()) };
        let after = Placement::new(&ring.without(ring.leaving()), &replication);
        let WriteTargets { all, pending } = pending.targets(Token(token));
        let required = Level::Quorum.requirement(Op::Write, &replication, &dc, pending).unwrap();
        let decides = Level::Quorum.decree(&replication, &dc, pending);
        let acked = all.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1);
        let acked: Vec<&Replica> = acked.map(|(_, replica)| replica).collect();
        let of = |set: &[Replica]| acked.iter().filter(|it| set.contains(it)).count();
        let (old, new) = (&all[..all.len() - pending.len()], after.replicas(Token(token)));
        // Where the ring is too small for all copies, those that are missing count as replicas that never answer.
        let (copies, majority) = (copies as usize, quorum(copies as usize));
        if acked.len() >= required.block_for() {
            prop_assert!(of(old) >= majority);
            prop_assert!(of(new) >= majority || new.len() < copies);
        }
        // Two that decide meet; and each meets every quorum of the old ones and every one of the new ones.
        prop_assert!(2 * decides.block_for() > copies + pending.len());
        if acked.len() >= decides.block_for() {
            prop_assert!(of(old) + majority > old.len(), "{} of {:?}", of(old), old);
            prop_assert!(of(new) + majority > new.len(), "{} of {:?}", of(new), new);
        }
    }
}
