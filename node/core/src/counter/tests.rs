#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use super::*;
use crate::codec;
use crate::data::{ClusteringKey, ColumnId, Deletion};
use crate::merge::merge;
use proptest::prelude::*;

const HITS: ColumnId = ColumnId(0);
const NOW: GcSeconds = GcSeconds(1000);

fn shard(node: u128, generation: u64) -> Shard {
    Shard { node: NodeId(node), generation: Generation(generation) }
}

/// An update of one row that adds each of these.
fn increments(by: &[i64]) -> Partition {
    let element = |(nth, by): (u8, &i64)| {
        let value = Bytes::copy_from_slice(&by.to_be_bytes());
        let content = Content::Value { value, expiry: None };
        (Bytes::copy_from_slice(&[nth]), Cell { timestamp: TimestampMicros(5), content })
    };
    let elements = (0..).zip(by).map(element).collect();
    let row = Row { complex: vec![(HITS, Complex { deletion: None, elements })], ..Row::default() };
    Partition { rows: vec![(ClusteringKey::default(), row)], ..Partition::default() }
}

fn value(partition: &Partition) -> Option<i64> {
    let (_, row) = partition.rows.first()?;
    row.complex(HITS).and_then(|complex| total(complex, NOW).unwrap())
}

/// Leads a write: what is replicated.
fn lead(held: &mut Partition, shard: Shard, by: &[i64], clock: i64) -> Partition {
    let mut update = increments(by);
    let at = next_timestamp(held, TimestampMicros(clock));
    count(&mut update, held, shard, at).unwrap();
    merge::normalise(&mut update);
    merge(held, update.clone());
    update
}

#[test]
fn a_shard_lies_under_its_node_and_life() {
    let path = shard(0x0102, 0x0304).path();
    assert_eq!(path.len(), PATH_BYTES);
    assert_eq!(&path[14..], [1, 2, 0, 0, 0, 0, 0, 0, 3, 4]);
}

#[test]
fn increments_of_one_request_add_up_and_sums_wrap_around() {
    let mut held = Partition::default();
    lead(&mut held, shard(1, 1), &[3, -1, 40], 10);
    assert_eq!(value(&held), Some(42));
    lead(&mut held, shard(1, 1), &[i64::MAX], 11);
    assert_eq!(value(&held), Some(i64::MAX.wrapping_add(42)));
}

#[test]
fn a_leader_whose_clock_stands_still_or_goes_back_counts_all_the_same() {
    let mut held = Partition::default();
    for clock in [10, 10, 3] {
        lead(&mut held, shard(1, 1), &[1], clock);
    }
    assert_eq!(value(&held), Some(3));
    assert_eq!(merge::version(&held), Some(TimestampMicros(12)));
}

#[test]
fn another_life_of_a_node_leaves_the_shards_before_it_alone() {
    let (mut leader, mut other) = (Partition::default(), Partition::default());
    merge(&mut other, lead(&mut leader, shard(1, 1), &[5], 10));
    let before_the_cut = leader.clone();
    merge(&mut other, lead(&mut leader, shard(1, 1), &[7], 20));
    // The leader's disk never had the second one.
    let mut leader = before_the_cut;
    merge(&mut other, lead(&mut leader, shard(1, 2), &[1], 30));
    assert_eq!(value(&other), Some(13));
    merge(&mut leader, other);
    assert_eq!(value(&leader), Some(13));
}

#[test]
fn a_deletion_covers_what_was_counted_and_not_what_comes_after_it() {
    let mut held = Partition::default();
    lead(&mut held, shard(1, 1), &[5], 10);
    let deletion = Some(Deletion { timestamp: TimestampMicros(50), deleted_at: NOW });
    merge(&mut held, Partition { deletion, ..Partition::default() });
    assert_eq!(value(&held), None);
    // By its clock the leader is behind the deletion, but it knows of it.
    lead(&mut held, shard(1, 1), &[2], 20);
    assert_eq!(value(&held), Some(2));
}

#[test]
fn only_the_leader_writes_shards() {
    let mut update = increments(&[1]);
    update.rows[0].1.complex[0].1.elements[0].0 = shard(2, 1).path();
    let counted = count(&mut update, &Partition::default(), shard(1, 1), TimestampMicros(1));
    assert_eq!(counted, Err(CounterError::NamedLikeAShard));
}

#[test]
fn what_is_no_number_is_told() {
    let mut update = increments(&[1]);
    let element = &mut update.rows[0].1.complex[0].1.elements[0].1;
    element.content = Content::Value { value: Bytes::from_static(b"abc"), expiry: None };
    assert_eq!(
        total(&update.rows[0].1.complex[0].1, NOW),
        Err(CounterError::NotANumber { bytes: 3 })
    );
    let counted = count(&mut update, &Partition::default(), shard(1, 1), TimestampMicros(1));
    assert_eq!(counted, Err(CounterError::NotANumber { bytes: 3 }));
}

/// What happens to one counter with three replicas.
#[derive(Debug, Clone)]
enum Act {
    /// A replica leads a write, by its clock.
    Add { leader: usize, by: i64, clock: i64 },
    /// A replica gets something that was replicated, perhaps long ago, perhaps again.
    Deliver { to: usize, nth: prop::sample::Index },
    /// A replica loses what it did since it was last safe, and begins another life.
    PowerCut { node: usize },
    /// What a replica holds is safe.
    Sync { node: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let node = || 0..3_usize;
    prop_oneof![
        4 => (node(), -9..9_i64, 0..50_i64).prop_map(|(leader, by, clock)| Act::Add { leader, by, clock }),
        4 => (node(), any::<prop::sample::Index>()).prop_map(|(to, nth)| Act::Deliver { to, nth }),
        1 => node().prop_map(|node| Act::PowerCut { node }),
        1 => node().prop_map(|node| Act::Sync { node }),
    ]
}

proptest! {
    /// Totals are lost, late, repeated and out of order; leaders lose what they did not sync. What comes out in the end, when
    /// everything that was ever replicated has reached everybody, in any order, is the sum of all increments.
    #[test]
    fn in_the_end_every_increment_counts_once(
        acts in prop::collection::vec(act(), 1..60),
        order in any::<[u8; 3]>(),
    ) {
        let mut replicas = [(); 3].map(|()| Partition::default());
        let mut safe = replicas.clone();
        let mut lives = [1_u64; 3];
        let mut sent: Vec<Partition> = Vec::new();
        let mut sum = 0;
        for act in acts {
            match act {
                Act::Add { leader, by, clock } => {
                    let who = shard(leader as u128, lives[leader]);
                    let update = lead(&mut replicas[leader], who, &[by], clock);
                    // As it travels.
                    sent.push(codec::decode(codec::encode(&update)).unwrap());
                    sum += by;
                }
                Act::Deliver { to, nth } if !sent.is_empty() => {
                    merge(&mut replicas[to], nth.get(&sent).clone());
                }
                Act::Deliver { .. } => {}
                Act::PowerCut { node } => {
                    replicas[node] = safe[node].clone();
                    lives[node] += 1;
                }
                Act::Sync { node } => safe[node] = replicas[node].clone(),
            }
        }
        for (replica, order) in replicas.iter_mut().zip(order) {
            let middle = usize::from(order).checked_rem(sent.len()).unwrap_or(0);
            let (first, last) = sent.split_at(middle);
            for update in last.iter().chain(first).rev().chain(sent.first()) {
                merge(replica, update.clone());
            }
            let expected = (!sent.is_empty()).then_some(sum);
            prop_assert_eq!(value(replica), expected);
        }
    }
}
