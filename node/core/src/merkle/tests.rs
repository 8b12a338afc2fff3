use super::*;
use crate::data::{Expiry, Partition};
use crate::merge::arbitrary;
use crate::types::TimestampMicros;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn span(after: Option<i64>, until: i64) -> Span {
    Span { after: after.map(Token), until: Token(until) }
}

fn contains(spans: &[Span], token: i64) -> bool {
    spans.iter().any(|s| s.after.is_none_or(|after| after.0 < token) && token <= s.until.0)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let ends = prop_oneof![
        (any::<i64>(), any::<i64>()).prop_map(|(a, b)| (Some(a.min(b)), a.max(b))),
        any::<i64>().prop_map(|until| (None, until)),
        (any::<i64>(), 1..40_i64).prop_map(|(after, n)| (Some(after), after.saturating_add(n))),
        Just((None, i64::MAX)),
        Just((None, i64::MIN)),
    ];
    (ends, 0..12_u8).prop_filter_map("an empty span", |((after, until), depth)| {
        Shape::new(span(after, until), depth)
    })
}

/// Tokens of a shape, its ends among them.
fn tokens(shape: Shape) -> impl Strategy<Value = i64> {
    let first = i64::try_from(shape.first()).unwrap();
    prop_oneof![1 => Just(first), 1 => Just(shape.span.until.0), 8 => first..=shape.span.until.0]
}

type Content = BTreeMap<(i64, Vec<u8>), Vec<u8>>;

fn contents(shape: Shape) -> impl Strategy<Value = Content> {
    btree_map((tokens(shape), vec(any::<u8>(), 0..3)), vec(any::<u8>(), 0..4), 0..24)
}

fn leaves(shape: Shape, content: &Content) -> Leaves {
    let mut leaves = Leaves::new(shape);
    for ((token, key), bytes) in content {
        leaves.add(Token(*token), key, bytes).unwrap();
    }
    leaves
}

fn tree(shape: Shape, content: &Content) -> Tree {
    leaves(shape, content).into_tree()
}

fn is_sorted_and_disjoint(spans: &[Span]) -> bool {
    spans.windows(2).all(|pair| matches!(pair, [a, b] if b.after.is_some_and(|t| a.until < t)))
}

proptest! {
    #[test]
    fn leaves_tile_the_span(shape in shapes(), at in any::<u32>()) {
        let last = (1_u32 << shape.depth) - 1;
        let ends = [0, at % (last + 1), last];
        prop_assert_eq!(shape.leaves(0, last + 1), shape.span);
        for leaf in ends {
            let tokens = shape.leaves(leaf, leaf + 1);
            let first = tokens.after.map_or(i64::MIN, |after| after.0 + 1);
            prop_assert!(first <= tokens.until.0, "no leaf is empty");
            prop_assert_eq!(shape.leaf_of(Token(first)), Some(leaf));
            prop_assert_eq!(shape.leaf_of(tokens.until), Some(leaf));
            if leaf > 0 {
                prop_assert_eq!(shape.leaf_of(Token(first - 1)), Some(leaf - 1));
            }
        }
    }

    #[test]
    fn equal_data_has_no_difference_whatever_the_order_and_the_steps(
        (shape, content, cut) in shapes().prop_flat_map(|s| (Just(s), contents(s), 0..24_usize)),
    ) {
        let whole = tree(shape, &content);
        let mut backwards = Leaves::new(shape);
        for step in [content.iter().skip(cut).rev().collect::<Vec<_>>(), content.iter().take(cut).collect()] {
            let mut part = Leaves::new(shape);
            for ((token, key), bytes) in step {
                part.add(Token(*token), key, bytes).unwrap();
            }
            backwards.absorb(&part.encode()).unwrap();
        }
        let backwards = backwards.into_tree();
        prop_assert_eq!(whole.root(), backwards.root());
        prop_assert_eq!(whole.difference(&backwards), []);
        prop_assert_eq!(whole.partitions(), content.len() as u64);
        prop_assert_eq!(whole, backwards);
    }

    #[test]
    fn every_difference_is_covered_and_equal_leaves_are_left_alone(
        (shape, a, b) in shapes().prop_flat_map(|s| (Just(s), contents(s), contents(s))),
    ) {
        let (one, other) = (tree(shape, &a), tree(shape, &b));
        let found = one.difference(&other);
        prop_assert!(is_sorted_and_disjoint(&found), "{:?}", found);
        prop_assert_eq!(&found, &other.difference(&one));
        prop_assert_eq!(found.is_empty(), one.root() == other.root());
        let differs = |content: &Content, other: &Content| -> Vec<i64> {
            content.iter().filter(|(k, v)| other.get(*k) != Some(v)).map(|((t, _), _)| *t).collect()
        };
        let differing = [differs(&a, &b), differs(&b, &a)].concat();
        for token in &differing {
            prop_assert!(contains(&found, *token), "{token} is in none of {found:?}");
        }
        let leaf_of = |token: &i64| shape.leaf_of(Token(*token)).unwrap();
        for (token, _) in a.keys().chain(b.keys()) {
            if differing.iter().all(|other| leaf_of(other) != leaf_of(token)) {
                prop_assert!(!contains(&found, *token), "{token} is in {found:?}");
            }
        }
    }

    #[test]
    fn a_single_difference_gives_one_leaf(
        (shape, content, token) in shapes().prop_flat_map(|s| (Just(s), contents(s), tokens(s))),
    ) {
        let mut other = content.clone();
        other.insert((token, b"only here".to_vec()), vec![1]);
        let found = tree(shape, &content).difference(&tree(shape, &other));
        let leaf = shape.leaf_of(Token(token)).unwrap();
        prop_assert_eq!(found, [shape.leaves(leaf, leaf + 1)]);
    }

    /// What the plan says is carried out, and all are equal then; what is there already is not sent again.
    #[test]
    fn a_plan_makes_all_replicas_equal(
        (shape, held) in shapes().prop_flat_map(|s| (Just(s), vec(contents(s), 2..5))),
    ) {
        // Bytes stand for versions: the greater wins.
        let nodes: Vec<NodeId> = (1..).map(NodeId).take(held.len()).collect();
        let trees: Vec<_> = nodes.iter().copied().zip(held.iter().map(|c| tree(shape, c))).collect();
        let plan = plan(&trees);
        let mut after = held.clone();
        for Transfer { from, to, spans } in &plan.transfers {
            prop_assert!(from != to && !spans.is_empty() && is_sorted_and_disjoint(spans));
            let at = |node: &NodeId| nodes.iter().position(|n| n == node).unwrap();
            let sent = held[at(from)].iter().filter(|((token, _), _)| contains(spans, *token));
            let mut sent_any = false;
            for (key, bytes) in sent {
                prop_assert!(contains(&plan.differing, key.0));
                sent_any = true;
                let here = after[at(to)].entry(key.clone()).or_default();
                if *bytes > *here {
                    here.clone_from(bytes);
                }
            }
            prop_assert!(sent_any, "nothing is there to send");
        }
        for content in &after {
            prop_assert_eq!(content, &after[0]);
        }
        prop_assert_eq!(plan.differing.is_empty(), held.iter().all(|c| *c == held[0]));
    }

    #[test]
    fn leaves_come_back_and_any_bytes_are_survived(
        (shape, content, junk) in shapes().prop_flat_map(|s| (Just(s), contents(s), vec(any::<u8>(), 0..64))),
        cut in any::<prop::sample::Index>(),
    ) {
        let made = leaves(shape, &content);
        let bytes = made.encode();
        let mut read = Leaves::new(shape);
        read.absorb(&bytes).unwrap();
        prop_assert_eq!(&read, &made);
        let mut spare = Leaves::new(shape);
        prop_assert!(spare.absorb(&bytes[..cut.index(bytes.len())]).is_err(), "cut short");
        prop_assert!(spare.absorb(&[&bytes[..], &[0]].concat()).is_err(), "too long");
        prop_assert_eq!(&spare, &Leaves::new(shape), "nothing was taken of what was wrong");
        let _either = spare.absorb(&[&[VERSION][..], &junk].concat());
    }

    /// Two replicas that were told the same, one of which expired and purged earlier on, as compaction does.
    #[test]
    fn replicas_that_compacted_at_different_times_compare_alike(
        partition in arbitrary::partition(), early in 0..6_u32, later in 0..6_u32, gc_grace in 0..3_u32,
    ) {
        let now = GcSeconds(early + later);
        let compacted = merge::for_read(partition.clone(), GcSeconds(early), gc_grace);
        let seen = |partition: &Partition| {
            comparable(&codec::encode(partition), now, gc_grace).unwrap().map(Cow::into_owned)
        };
        prop_assert_eq!(seen(&partition), compacted.as_ref().and_then(seen));
    }

    #[test]
    fn what_is_taken_as_it_is_stored_is_in_the_form_that_is_compared(
        value in vec(any::<u8>(), 0..3), expires_at in 0..4_u32, ttl_s in 0..3_u32, now in 0..4_u32, gc_grace in 0..3_u32,
    ) {
        let expiry = (ttl_s > 0).then_some(Expiry { ttl_s, expires_at: GcSeconds(expires_at) });
        let put = Partition::put(TimestampMicros(1), value.into(), expiry);
        let encoded = codec::encode(&put);
        let slow = merge::for_read(put, GcSeconds(now), gc_grace).map(|p| codec::encode(&p).to_vec());
        let fast = comparable(&encoded, GcSeconds(now), gc_grace).unwrap().map(Cow::into_owned);
        prop_assert_eq!(fast, slow);
    }
}

#[test]
fn a_purged_tombstone_is_no_difference_and_a_live_one_is() {
    let delete = codec::encode(&Partition::delete(TimestampMicros(1), GcSeconds(100)));
    assert_eq!(comparable(&delete, GcSeconds(120), 10).unwrap(), None);
    assert!(comparable(&delete, GcSeconds(105), 10).unwrap().is_some());
    assert!(comparable(b"\xff", GcSeconds(0), 0).is_err(), "damage is not an empty partition");
}

#[test]
fn the_depth_fits_the_memory_bound() {
    assert_eq!(depth_within(0, 3), 0);
    assert_eq!(depth_within(16 << 20, 2), 17);
    assert_eq!(depth_within(u64::MAX, 1), DEPTH_MAX);
    for bytes in [64, 1000, 1 << 20, (16 << 20) - 1] {
        let nodes = 1_u64 << (depth_within(bytes, 3) + 1);
        assert!(nodes == 2 || 3 * nodes * NODE_BYTES <= bytes, "{bytes}");
    }
}

#[test]
fn a_partition_outside_is_refused_and_an_empty_span_has_no_tree() {
    let shape = Shape::new(span(Some(5), 9), 20).unwrap();
    assert_eq!(shape.depth(), 2, "no leaf is narrower than a token");
    let mut leaves = Leaves::new(shape);
    for token in [5, 10] {
        let outside = leaves.add(Token(token), b"k", b"");
        assert_eq!(outside, Err(Outside { token: Token(token) }));
    }
    assert_eq!(Shape::new(span(Some(5), 5), 3), None);
    assert_eq!(Shape::new(span(Some(5), 4), 3), None);
    assert!(leaves.into_tree().root().is_none());
}

#[test]
fn equal_replicas_send_once_and_empty_ones_send_nothing() {
    let shape = Shape::new(span(None, i64::MAX), 4).unwrap();
    let full: Content = [((7, b"k".to_vec()), vec![1])].into();
    let trees = [(1, &full), (2, &full), (3, &Content::new())];
    let trees = trees.map(|(node, content)| (NodeId(node), tree(shape, content)));
    let Plan { differing, transfers } = plan(&trees);
    let leaf = shape.leaf_of(Token(7)).unwrap();
    assert_eq!(differing, [shape.leaves(leaf, leaf + 1)]);
    let transfer = Transfer { from: NodeId(1), to: NodeId(3), spans: differing };
    assert_eq!(transfers, [transfer]);
    assert_eq!(plan(&[]), Plan::default());
}
