use super::*;
use proptest::prelude::*;

/// A ring of nodes 1.. given as (data centre, rack, tokens).
pub(crate) fn ring(nodes: &[(u8, u8, Vec<i64>)]) -> Ring {
    Ring::new(nodes.iter().zip(1..).map(|((dc, rack, tokens), node)| {
        let endpoint = Endpoint {
            node: NodeId(node),
            internode: "127.0.0.1:7000".parse().unwrap(),
            dc: Dc::from(format!("dc{dc}")),
            rack: Rack::from(format!("r{rack}")),
        };
        (endpoint, tokens.iter().copied().map(Token).collect())
    }))
}

pub(crate) fn rf(copies: u32) -> NonZeroU32 {
    NonZeroU32::new(copies).unwrap()
}

fn nts(per_dc: &[(u8, u32)]) -> Replication {
    let per_dc = per_dc.iter().map(|(dc, copies)| (Dc::from(format!("dc{dc}")), rf(*copies)));
    Replication::NetworkTopology { per_dc: per_dc.collect() }
}

/// Distinct nodes in the order of the walk, found by sorting instead of searching.
fn naive_walk(ring: &Ring, token: Token) -> Vec<Endpoint> {
    let mut claims: Vec<(bool, Token, Endpoint)> =
        ring.tokens().map(|(claimed, owner)| (claimed < token, claimed, owner.clone())).collect();
    claims.sort();
    let mut walk: Vec<Endpoint> = Vec::new();
    for (_, _, owner) in claims {
        if !walk.contains(&owner) {
            walk.push(owner);
        }
    }
    walk
}

/// NetworkTopologyStrategy told another way: in each data centre mark the first node of every rack, then as many of
/// the others as copies exceed racks, and keep the first marked ones. The walk's order holds between data centres.
fn naive_nts(ring: &Ring, token: Token, per_dc: &BTreeMap<Dc, NonZeroU32>) -> Vec<NodeId> {
    let walk = naive_walk(ring, token);
    let mut chosen: BTreeSet<NodeId> = BTreeSet::new();
    for (dc, copies) in per_dc {
        let here: Vec<&Endpoint> = walk.iter().filter(|endpoint| endpoint.dc == *dc).collect();
        let racks: BTreeSet<&Rack> = here.iter().map(|endpoint| &endpoint.rack).collect();
        let copies = copies.get() as usize;
        let first_of_rack = |place: usize| here[..place].iter().all(|e| e.rack != here[place].rack);
        let (firsts, others): (Vec<usize>, Vec<usize>) =
            (0..here.len()).partition(|place| first_of_rack(*place));
        let repeats = others.into_iter().take(copies.saturating_sub(racks.len()));
        let mut marked: Vec<usize> = firsts.into_iter().chain(repeats).collect();
        marked.sort_unstable();
        chosen.extend(marked.into_iter().take(copies).map(|place| here[place].node));
    }
    walk.into_iter().map(|endpoint| endpoint.node).filter(|node| chosen.contains(node)).collect()
}

fn nodes(replicas: &[Replica]) -> Vec<NodeId> {
    replicas.iter().map(|replica| replica.node).collect()
}

fn rings() -> impl Strategy<Value = Ring> {
    let token = prop_oneof![-50..50_i64, any::<i64>()];
    let node = (1..4_u8, 1..5_u8, proptest::collection::vec(token, 0..6));
    proptest::collection::vec(node, 0..12).prop_map(|nodes| ring(&nodes))
}

fn replications() -> impl Strategy<Value = Replication> {
    prop_oneof![
        (1..8_u32).prop_map(|copies| Replication::Simple { rf: rf(copies) }),
        // Data centre 4 has no nodes.
        proptest::collection::btree_map(1..5_u8, 1..8_u32, 0..4)
            .prop_map(|per_dc| nts(&per_dc.into_iter().collect::<Vec<_>>())),
    ]
}

proptest! {
    #[test]
    fn placement_equals_the_naive_walk(
        ring in rings(),
        replication in replications(),
        tokens in proptest::collection::vec(prop_oneof![-60..60_i64, any::<i64>()], 1..8),
    ) {
        let placement = Placement::new(&ring, &replication);
        for token in tokens.into_iter().chain([i64::MIN, i64::MAX]).map(Token) {
            let expected = match &replication {
                Replication::Simple { rf } => {
                    let walk = naive_walk(&ring, token);
                    walk.iter().take(rf.get() as usize).map(|endpoint| endpoint.node).collect()
                }
                Replication::NetworkTopology { per_dc } => naive_nts(&ring, token, per_dc),
            };
            prop_assert_eq!(nodes(placement.replicas(token)), expected, "token {}", token);
        }
    }

    #[test]
    fn copies_are_on_distinct_nodes_and_spread_over_racks(
        ring in rings(),
        replication in replications(),
    ) {
        let placement = Placement::new(&ring, &replication);
        let owners: BTreeMap<NodeId, &Endpoint> =
            ring.tokens().map(|(_, owner)| (owner.node, owner)).collect();
        for (_, replicas) in placement.ranges() {
            let distinct: BTreeSet<NodeId> = replicas.iter().map(|r| r.node).collect();
            prop_assert_eq!(distinct.len(), replicas.len());
            let Replication::NetworkTopology { per_dc } = &replication else {
                continue;
            };
            for (dc, rf) in per_dc {
                let here: Vec<_> = owners.values().filter(|e| e.dc == *dc).collect();
                let racks: BTreeSet<_> = here.iter().map(|e| &e.rack).collect();
                let chosen: Vec<_> = replicas.iter().filter(|r| r.dc == *dc).collect();
                let used: BTreeSet<_> = chosen.iter().map(|r| &owners[&r.node].rack).collect();
                let rf = rf.get() as usize;
                prop_assert_eq!(chosen.len(), rf.min(here.len()));
                prop_assert_eq!(used.len(), rf.min(racks.len()));
            }
        }
    }

    #[test]
    fn ranges_and_spans_tell_what_replicas_tells(
        ring in rings(),
        replication in replications(),
        token: i64,
    ) {
        let placement = Placement::new(&ring, &replication);
        let token = Token(token);
        let by_range: Vec<_> = placement.ranges().filter(|(r, _)| r.contains(token)).collect();
        prop_assert_eq!(by_range.len(), usize::from(ring.tokens().len() > 0));
        for (_, replicas) in by_range {
            prop_assert_eq!(replicas, placement.replicas(token));
        }
        // Spans leave no gap and do not overlap: each begins where the one before it ended.
        let mut end = None;
        for (span, replicas) in placement.spans() {
            prop_assert_eq!(span.after, end);
            prop_assert_eq!(replicas, placement.replicas(span.until));
            end = Some(span.until);
        }
        prop_assert_eq!(end, (ring.tokens().len() > 0).then_some(Token::MAX));
    }

    #[test]
    fn ownership_adds_up_to_the_copies(ring in rings(), replication in replications()) {
        let placement = Placement::new(&ring, &replication);
        let sum: f64 = ring.members().iter().map(|m| placement.ownership(m.node)).sum();
        prop_assert!((sum - placement.replicas(Token(0)).len() as f64).abs() < 1e-9, "{}", sum);
    }
}

#[test]
fn what_the_ring_cannot_give_is_said() {
    let ring = ring(&[(1, 1, vec![0]), (1, 2, vec![10]), (2, 1, vec![20])]);
    let warnings = |replication| Placement::new(&ring, &replication).warnings().to_vec();
    assert_eq!(warnings(Replication::Simple { rf: rf(3) }), []);
    assert_eq!(
        warnings(Replication::Simple { rf: rf(4) }),
        [Warning::TooFewNodes { rf: rf(4), nodes: 3 }]
    );
    assert_eq!(
        warnings(nts(&[(1, 2), (2, 2), (9, 1)])),
        [
            Warning::TooFewNodesInDc { dc: Dc::from("dc2"), rf: rf(2), nodes: 1 },
            Warning::UnknownDc { dc: Dc::from("dc9"), rf: rf(1), known: "dc1, dc2".to_owned() },
        ]
    );
}

#[test]
fn a_node_without_tokens_holds_nothing() {
    let ring = ring(&[(1, 1, vec![0]), (1, 2, vec![])]);
    let placement = Placement::new(&ring, &Replication::Simple { rf: rf(2) });
    assert_eq!(nodes(placement.replicas(Token(5))), [NodeId(1)]);
    assert_eq!(placement.ownership(NodeId(2)), 0.0);
}
