//! Answers of several replicas become one answer, and who is behind by what.
//!
//! The winner is the merge of all answers. A replica that lacks part of it is stale, and what it lacks is what read
//! repair sends it: no more, because everything more would be written, logged and compacted for nothing.
//!
//! CAVEAT: repairing cell by cell may split what one write changed together (scylla#3696). A reader at QUORUM does not
//! see that; one at ONE may.

use crate::data::Partition;
use crate::merge;
use crate::types::NodeId;
use std::collections::BTreeMap;

/// What the replicas hold together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// The merge of all answers; empty (see [`merge::is_empty`]) when nobody knows anything.
    pub winner: Partition,
    /// Who is behind, and exactly what it lacks: merged into its answer this gives the winner. Invariant: in order of
    /// [`NodeId`], unique, no part is empty.
    pub stale: Vec<(NodeId, Partition)>,
}

/// Reconciles the answers of replicas; `None` is the answer of one that knows nothing of the partition. The order of
/// the answers does not matter, and a replica that answered twice is taken at both its words.
pub fn reconcile(answers: Vec<(NodeId, Option<Partition>)>) -> Reconciled {
    let mut by_node: BTreeMap<NodeId, Partition> = BTreeMap::new();
    for (node, answer) in answers {
        merge::merge(by_node.entry(node).or_default(), answer.unwrap_or_default());
    }
    let mut parts = by_node.values();
    let mut winner = parts.next().cloned().unwrap_or_default();
    for part in parts {
        // Replicas mostly agree, and then there is nothing to merge.
        if *part != winner {
            merge::merge(&mut winner, part.clone());
        }
    }
    let stale = by_node
        .into_iter()
        .filter(|(_, held)| *held != winner)
        .map(|(node, held)| (node, merge::difference(&winner, &held)))
        .collect();
    Reconciled { winner, stale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Row;
    use crate::merge::arbitrary as any;
    use crate::types::{GcSeconds, TimestampMicros};
    use bytes::Bytes;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn a_stale_replica_needs_its_difference_and_nothing_else(
            answers in prop::collection::vec(prop::option::weighted(0.8, any::partition()), 0..5)
        ) {
            let answers: Vec<_> = (0..).map(NodeId).zip(answers).collect();
            let Reconciled { winner, stale } = reconcile(answers.clone());
            let stale: BTreeMap<_, _> = stale.into_iter().collect();
            for (node, answer) in &answers {
                let mut repaired = answer.clone().unwrap_or_default();
                prop_assert_eq!(repaired == winner, !stale.contains_key(node));
                if let Some(missing) = stale.get(node) {
                    prop_assert!(!merge::is_empty(missing));
                    // Nothing of the difference was there before.
                    for (key, row) in &missing.rows {
                        let held = repaired.rows.iter().find(|(k, _)| k == key);
                        let held = held.map_or_else(Row::default, |(_, row)| row.clone());
                        prop_assert!(row.cells.iter().all(|cell| !held.cells.contains(cell)));
                    }
                    merge::merge(&mut repaired, missing.clone());
                }
                prop_assert_eq!(&repaired, &winner);
            }
            let backwards = answers.into_iter().rev().collect();
            prop_assert_eq!(reconcile(backwards).winner, winner);
        }
    }

    fn put(timestamp: i64, value: &'static str) -> Option<Partition> {
        Some(Partition::put(TimestampMicros(timestamp), Bytes::from_static(value.as_bytes()), None))
    }

    #[test]
    fn the_replica_that_missed_a_write_gets_that_write() {
        let (a, b, c) = (NodeId(1), NodeId(2), NodeId(3));
        let answers = vec![(c, None), (a, put(2, "new")), (b, put(1, "old"))];
        let Reconciled { winner, stale } = reconcile(answers);
        assert_eq!(Some(winner.clone()), put(2, "new"));
        assert_eq!(stale, vec![(b, winner.clone()), (c, winner)]);
    }

    #[test]
    fn a_replica_that_missed_a_delete_gets_the_tombstone() {
        let delete = Partition::delete(TimestampMicros(2), GcSeconds(1));
        let answers = vec![(NodeId(1), Some(delete.clone())), (NodeId(2), put(1, "old"))];
        let reconciled = reconcile(answers);
        assert_eq!(reconciled.winner, delete);
        assert_eq!(reconciled.stale, vec![(NodeId(2), delete)]);
    }

    #[test]
    fn nobody_is_behind_when_nobody_knows_anything() {
        let reconciled = reconcile(vec![(NodeId(1), None), (NodeId(2), None)]);
        assert_eq!(reconciled, Reconciled::default());
    }
}
