//! Where orders belong, and what the replicas compared with that lack.

use crate::keys::Keys;
use crate::ledger::{Comparison, HintFate, Ledger, NodeIndex, OrderId, Projection};
use crate::scenario::Scenario;
use crate::world::tokens;
use helenus_core::placement::Placement;
use helenus_core::ring::Ring;
use helenus_core::{Dc, Endpoint, NodeId, Rack, Replication, Token};
use helenus_node::seams::probe::HintLoss;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

/// An acknowledged write may still be on its way to the replicas that it did not need. Those acknowledged less than
/// this before a comparison are not compared.
const SETTLE: Duration = Duration::from_secs(10);

/// An order and a replica of it.
pub type Copy = (OrderId, NodeIndex);

/// Where orders belong. Computed from the scenario and the ring's own arithmetic, not asked of the nodes.
#[derive(Debug)]
pub struct Places {
    placement: Placement,
    keys: Keys,
    /// In the cluster's order, as are the racks.
    names: Vec<String>,
    racks: Vec<String>,
}

impl Places {
    /// For the keyspace that the projector writes into.
    pub fn new(scenario: &Scenario) -> Places {
        let nodes = scenario.cluster.nodes();
        let members = nodes.iter().enumerate().map(|(index, node)| {
            let endpoint = Endpoint {
                node: NodeId(index as u128),
                internode: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7000),
                dc: Dc::from(node.dc.as_str()),
                rack: Rack::from(node.rack.as_str()),
            };
            let tokens = tokens(scenario.cluster.num_tokens, nodes.len(), index);
            (endpoint, tokens.into_iter().map(Token).collect())
        });
        let rf = scenario.cluster.keyspaces.values().next().map(|k| &k.rf);
        let per_dc = rf.into_iter().flatten().filter_map(|(dc, copies)| {
            let copies = u32::try_from(*copies).ok().and_then(NonZeroU32::new)?;
            Some((Dc::from(dc.as_str()), copies))
        });
        let replication = Replication::NetworkTopology { per_dc: per_dc.collect() };
        let placement = Placement::new(&Ring::new(members), &replication);
        let keys = Keys::new(scenario);
        let (names, racks) = nodes.into_iter().map(|n| (n.name, n.rack)).unzip();
        Places { placement, keys, names, racks }
    }

    /// An order's key in the store.
    pub fn key(&self, order: OrderId) -> String {
        self.keys.of(order)
    }

    /// The key of a record from before the run.
    pub fn history_key(&self, record: u32) -> String {
        self.keys.of_history(record)
    }

    /// The replicas of an order.
    pub fn of(&self, order: OrderId) -> Vec<NodeIndex> {
        let token = helenus_core::token::of(self.key(order).as_bytes());
        let replicas = self.placement.replicas(token).iter();
        replicas.filter_map(|r| usize::try_from(r.node.0).ok()).collect()
    }

    /// Whether a node goes by that name.
    pub fn is_node(&self, node: NodeIndex, name: &str) -> bool {
        self.names.get(node).is_some_and(|own| own == name)
    }

    /// Whether the node of that name is a replica of the order.
    pub fn is_on(&self, order: OrderId, name: &str) -> bool {
        self.of(order).into_iter().any(|node| self.is_node(node, name))
    }

    /// A node's rack.
    pub fn rack(&self, node: NodeIndex) -> &str {
        self.racks.get(node).map_or("", String::as_str)
    }

    /// Whether a node is in the rack; no rack means any.
    pub fn is_in(&self, node: NodeIndex, rack: Option<&str>) -> bool {
        rack.is_none_or(|rack| self.rack(node) == rack)
    }

    /// The nodes outside of a rack.
    pub fn outside(&self, rack: Option<&str>) -> Vec<NodeIndex> {
        let all = 0..self.racks.len();
        all.filter(|node| rack.is_none() || !self.is_in(*node, rack)).collect()
    }

    /// The acknowledged copies that the rack should have had when the comparison began.
    fn owed(&self, ledger: &Ledger, seen: &Comparison, rack: Option<&str>) -> BTreeSet<Copy> {
        let mut owed = BTreeSet::new();
        for (number, order) in ledger.orders.iter().enumerate() {
            let Ok(id) = OrderId::try_from(number) else { continue };
            if let Projection::Acked(ack) = &order.projection
                && ack.at + SETTLE <= seen.began
            {
                let replicas = self.of(id).into_iter().filter(|node| self.is_in(*node, rack));
                owed.extend(replicas.map(|node| (id, node)));
            }
        }
        owed
    }

    /// The acknowledged copies that the rack's nodes lack; `None` when one of them did not answer.
    pub fn missing(
        &self,
        ledger: &Ledger,
        seen: &Comparison,
        rack: Option<&str>,
    ) -> Option<BTreeSet<Copy>> {
        let mut missing = BTreeSet::new();
        for (order, node) in self.owed(ledger, seen, rack) {
            if !seen.held.get(node)?.as_ref()?.contains(&order) {
                missing.insert((order, node));
            }
        }
        Some(missing)
    }

    /// The acknowledged copies of the rack whose hint overflowed before `before`, and when each first reached its
    /// replica by another way, if it did.
    fn overflowed(
        &self,
        ledger: &Ledger,
        seen: &Comparison,
        rack: Option<&str>,
    ) -> BTreeMap<Copy, Option<Duration>> {
        let owed = self.owed(ledger, seen, rack);
        let lost = ledger.hints.iter().filter(|h| h.at <= seen.ended && is_overflow(h.fate));
        lost.filter_map(|hint| Some((hint.order?, hint.target?)))
            .filter(|copy| owed.contains(copy))
            .map(|(order, node)| {
                let applied = ledger.applied.get(node).and_then(|n| n.get(&order)).map(|a| a.at);
                ((order, node), applied)
            })
            .collect()
    }

    /// How many copies overflowed and had not reached their replica when the comparison began.
    pub fn overflow_count(&self, ledger: &Ledger, seen: &Comparison, rack: Option<&str>) -> usize {
        let overflowed = self.overflowed(ledger, seen, rack);
        overflowed.values().filter(|applied| applied.is_none_or(|at| at > seen.began)).count()
    }

    /// The copies that only one of the two stories knows: missing though nothing overflowed, or overflowed, never
    /// applied, and there all the same. What was applied while the replicas were read may be in either.
    pub fn unexplained(
        &self,
        ledger: &Ledger,
        seen: &Comparison,
        rack: Option<&str>,
    ) -> Option<BTreeSet<Copy>> {
        let missing = self.missing(ledger, seen, rack)?;
        let overflowed = self.overflowed(ledger, seen, rack);
        let unowed = missing.iter().filter(|copy| {
            overflowed.get(copy).is_none_or(|applied| applied.is_some_and(|at| at < seen.began))
        });
        let conjured = overflowed.iter().filter(|(copy, applied)| {
            applied.is_none_or(|at| at > seen.ended) && !missing.contains(copy)
        });
        Some(unowed.copied().chain(conjured.map(|(copy, _)| *copy)).collect())
    }
}

/// Whether a hint was lost because a store was full.
pub(crate) fn is_overflow(fate: HintFate) -> bool {
    matches!(
        fate,
        HintFate::Lost(
            HintLoss::NodeCapReached
                | HintLoss::TargetCapReached
                | HintLoss::DeadLettersFull
                | HintLoss::Evicted
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ack, Applied, HintEvent, Order};
    use crate::scenario::LIBRARY;
    use helenus_core::{Level, TimestampMicros};
    use helenus_node::seams::probe::ApplyPath;

    fn places() -> Places {
        Places::new(&Scenario::parse("az-partition.toml", LIBRARY[0].text).unwrap())
    }

    fn replica_in_a(places: &Places, order: OrderId) -> NodeIndex {
        places.of(order).into_iter().find(|n| places.is_in(*n, Some("a"))).unwrap()
    }

    /// Three acknowledged orders: 0 reached rack a, 1 overflowed, 2 overflowed and was repaired.
    fn story(places: &Places) -> (Ledger, Comparison) {
        let second = Duration::from_secs;
        let acked = |at| Order {
            placed: second(at),
            projection: Projection::Acked(Ack {
                at: second(at),
                took: Duration::ZERO,
                level: Level::Quorum,
                timestamp: TimestampMicros(1),
                coordinator: 1,
                replicas: vec![1, 2],
            }),
        };
        let mut ledger = Ledger { orders: vec![acked(1), acked(2), acked(3)], ..Ledger::default() };
        ledger.applied = vec![BTreeMap::new(); 9];
        let mut held = vec![Some(BTreeSet::new()); 9];
        for order in [0, 2] {
            held[replica_in_a(places, order)].as_mut().unwrap().insert(order);
        }
        for order in [1, 2] {
            let target = Some(replica_in_a(places, order));
            let fate = HintFate::Lost(HintLoss::NodeCapReached);
            ledger.hints.push(HintEvent {
                at: second(4),
                node: 1,
                target,
                order: Some(order),
                fate,
            });
        }
        let repaired = Applied { at: second(50), by: ApplyPath::ReadRepair };
        ledger.applied[replica_in_a(places, 2)].insert(2, repaired);
        (ledger, Comparison { began: second(100), ended: second(101), held })
    }

    #[test]
    fn an_order_has_one_copy_in_each_rack() {
        let places = places();
        for order in 0..200 {
            let racks: BTreeSet<&str> = places.of(order).iter().map(|n| places.rack(*n)).collect();
            assert_eq!(racks, BTreeSet::from(["a", "b", "c"]), "order {order}");
        }
    }

    #[test]
    fn what_is_missing_is_what_overflowed_and_was_not_repaired() {
        let places = places();
        let (ledger, seen) = story(&places);
        let missing = places.missing(&ledger, &seen, Some("a")).unwrap();
        assert_eq!(missing, BTreeSet::from([(1, replica_in_a(&places, 1))]));
        assert_eq!(places.overflow_count(&ledger, &seen, Some("a")), 1);
        assert_eq!(places.unexplained(&ledger, &seen, Some("a")).unwrap(), BTreeSet::new());
    }

    #[test]
    fn a_copy_that_vanished_without_overflow_is_unexplained() {
        let places = places();
        let (ledger, mut seen) = story(&places);
        let gone = replica_in_a(&places, 0);
        seen.held[gone].as_mut().unwrap().remove(&0);
        assert_eq!(
            places.unexplained(&ledger, &seen, Some("a")).unwrap(),
            BTreeSet::from([(0, gone)])
        );
    }

    #[test]
    fn a_copy_that_is_there_although_nothing_brought_it_is_unexplained() {
        let places = places();
        let (ledger, mut seen) = story(&places);
        let conjured = replica_in_a(&places, 1);
        seen.held[conjured].as_mut().unwrap().insert(1);
        assert_eq!(
            places.unexplained(&ledger, &seen, Some("a")).unwrap(),
            BTreeSet::from([(1, conjured)])
        );
    }

    #[test]
    fn a_repaired_copy_that_vanished_again_is_unexplained() {
        let places = places();
        let (ledger, mut seen) = story(&places);
        let gone = replica_in_a(&places, 2);
        seen.held[gone].as_mut().unwrap().remove(&2);
        assert_eq!(
            places.unexplained(&ledger, &seen, Some("a")).unwrap(),
            BTreeSet::from([(2, gone)])
        );
    }

    #[test]
    fn a_node_that_does_not_answer_leaves_no_figure() {
        let places = places();
        let (ledger, mut seen) = story(&places);
        let silent = replica_in_a(&places, 0);
        seen.held[silent] = None;
        assert_eq!(places.missing(&ledger, &seen, Some("a")), None);
    }
}
