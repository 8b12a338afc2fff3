//! Which nodes hold the copies of a token: SimpleStrategy and NetworkTopologyStrategy.
//!
//! Both walk the ring from the token's owner. SimpleStrategy takes the next distinct nodes, whatever they are.
//! NetworkTopologyStrategy does so for each data centre by itself and prefers new racks: a node in a rack that has no
//! copy yet is always taken; a second copy in a rack only as often as the data centre has fewer racks than copies. Of a
//! data centre with fewer nodes than copies, every node is taken.
//!
//! Replicas come in the order of the walk. Token-aware drivers compute the same lists, so the order is Cassandra's too.
//!
//! Invariant: the answer is the same for all tokens of one of the ring's ranges, and all answers have the same length:
//! they are computed once per range, kept side by side, and found by binary search.
//!
//! CAVEAT: whether copies are spread over racks is up to the operator: two racks and three copies put two of them in one
//! rack, and what fails together then takes a quorum with it.
//!
//! Source: `SimpleStrategy.calculateNaturalReplicas`, `NetworkTopologyStrategy.DatacenterEndpoints`.

use crate::ring::{Ring, Span, TokenRange};
use crate::schema::Replication;
use crate::types::{Dc, Endpoint, NodeId, Rack, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// A node that holds a copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// Who.
    pub node: NodeId,
    /// Where: LOCAL_ levels and EACH_QUORUM count by data centre.
    pub dc: Dc,
}

impl From<&Endpoint> for Replica {
    fn from(endpoint: &Endpoint) -> Self {
        Replica { node: endpoint.node, dc: endpoint.dc.clone() }
    }
}

/// A replication that the ring cannot give in full. Data is placed all the same, on fewer nodes; levels still count the
/// configured copies, as Cassandra's do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// More copies than nodes.
    #[error(
        "replication factor {rf}, but the ring has {nodes} nodes: each of them holds one copy. Add nodes, or lower the factor"
    )]
    TooFewNodes {
        /// Copies.
        rf: NonZeroU32,
        /// Nodes that own tokens.
        nodes: usize,
    },
    /// More copies than nodes in one data centre.
    #[error(
        "replication factor {rf} in data centre {dc}, but it has {nodes} nodes: each of them holds one copy. Add nodes there, or lower the factor"
    )]
    TooFewNodesInDc {
        /// The data centre.
        dc: Dc,
        /// Copies there.
        rf: NonZeroU32,
        /// Nodes there that own tokens.
        nodes: usize,
    },
    /// No node is in this data centre: a misspelt name, perhaps.
    #[error(
        "replication factor {rf} in data centre {dc}, but no node is there: nothing is stored there. There are nodes in: {known}"
    )]
    UnknownDc {
        /// The data centre.
        dc: Dc,
        /// Copies there.
        rf: NonZeroU32,
        /// Data centres that have nodes, separated by commas.
        known: String,
    },
}

/// Where the copies of every token are, for one ring and one replication.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// The last tokens of the ring's ranges. Invariant: sorted, unique.
    until: Vec<Token>,
    /// `width` replicas for each of `until`, in the same order.
    replicas: Vec<Replica>,
    width: usize,
    warnings: Vec<Warning>,
}

impl Placement {
    /// Walks the ring once for each of its ranges.
    pub fn new(ring: &Ring, replication: &Replication) -> Placement {
        let dcs = Datacenters::of(ring);
        let until: Vec<Token> = ring.tokens().map(|(token, _)| token).collect();
        let mut replicas = Vec::new();
        let (width, warnings) = match replication {
            Replication::Simple { rf } => {
                let nodes = dcs.nodes();
                for &token in &until {
                    simple(ring, token, copies(*rf).min(nodes), &mut replicas);
                }
                let short = copies(*rf) > nodes && nodes > 0;
                let warning = short.then_some(Warning::TooFewNodes { rf: *rf, nodes });
                (copies(*rf).min(nodes), warning.into_iter().collect())
            }
            Replication::NetworkTopology { per_dc } => {
                let wanted = dcs.wanted(per_dc);
                for &token in &until {
                    network_topology(ring, token, wanted.clone(), &mut replicas);
                }
                (wanted.values().map(|dc| dc.left).sum(), dcs.warnings(per_dc))
            }
        };
        assert_eq!(replicas.len(), until.len() * width, "a walk around the whole ring finds all");
        Placement { until, replicas, width, warnings }
    }

    /// The replicas of `token`, its owner's data centre first as the walk found them. Empty only if nobody owns tokens
    /// or no data centre of the replication has nodes.
    pub fn replicas(&self, token: Token) -> &[Replica] {
        self.at(range_of(&self.until, token))
    }

    /// What the ring cannot give.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The ring's ranges and who holds them, in the order of their last tokens. The first one wraps.
    pub fn ranges(&self) -> impl Iterator<Item = (TokenRange, &[Replica])> {
        let before = self.until.last().into_iter().chain(&self.until);
        before
            .zip(&self.until)
            .enumerate()
            .map(|(place, (&after, &until))| (TokenRange { after, until }, self.at(place)))
    }

    /// The same in the order of the token's values, cut where the first range wraps: what a scan goes through.
    pub fn spans(&self) -> impl Iterator<Item = (Span, &[Replica])> {
        let mut spans: Vec<_> =
            self.ranges().flat_map(|(range, who)| range.spans().map(move |s| (s, who))).collect();
        spans.sort_by_key(|(span, _)| *span);
        spans.into_iter()
    }

    /// Which share of all tokens `node` is a replica of: 0 to 1.
    pub fn ownership(&self, node: NodeId) -> f64 {
        self.ranges()
            .filter(|(_, replicas)| replicas.iter().any(|replica| replica.node == node))
            // Not `sum`, which gives -0.0 for nothing.
            .fold(0.0, |sum, (range, _)| sum + range.share())
    }

    fn at(&self, place: usize) -> &[Replica] {
        let start = place * self.width;
        self.replicas.get(start..start + self.width).unwrap_or_default()
    }
}

/// Which of the ranges that end at `until` (sorted) `token` lies in.
pub(crate) fn range_of(until: &[Token], token: Token) -> usize {
    let place = until.partition_point(|&until| until < token);
    // Behind the last token the ring begins again.
    if place == until.len() { 0 } else { place }
}

fn copies(rf: NonZeroU32) -> usize {
    rf.get() as usize
}

/// The nodes that own tokens, by data centre and rack.
struct Datacenters<'a>(BTreeMap<&'a Dc, BTreeMap<NodeId, &'a Rack>>);

/// What a walk still has to find in one data centre.
#[derive(Clone)]
struct Wanted<'a> {
    /// Copies that are missing.
    left: usize,
    /// How many of them may go to a rack that has one already.
    repeats_left: usize,
    racks: BTreeSet<&'a Rack>,
}

impl<'a> Datacenters<'a> {
    fn of(ring: &'a Ring) -> Self {
        let mut dcs: BTreeMap<&Dc, BTreeMap<NodeId, &Rack>> = BTreeMap::new();
        for (_, owner) in ring.tokens() {
            dcs.entry(&owner.dc).or_default().insert(owner.node, &owner.rack);
        }
        Datacenters(dcs)
    }

    fn nodes(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    fn wanted(&self, per_dc: &BTreeMap<Dc, NonZeroU32>) -> BTreeMap<&'a Dc, Wanted<'a>> {
        let wanted = |(dc, nodes): (&&'a Dc, &BTreeMap<NodeId, &'a Rack>)| {
            let rf = copies(*per_dc.get(*dc)?);
            let racks: BTreeSet<&Rack> = nodes.values().copied().collect();
            let repeats_left = rf.saturating_sub(racks.len());
            let left = rf.min(nodes.len());
            Some((*dc, Wanted { left, repeats_left, racks: BTreeSet::new() }))
        };
        self.0.iter().filter_map(wanted).collect()
    }

    fn warnings(&self, per_dc: &BTreeMap<Dc, NonZeroU32>) -> Vec<Warning> {
        let warning = |(dc, &rf): (&Dc, &NonZeroU32)| match self.0.get(dc).map_or(0, BTreeMap::len)
        {
            0 => {
                let known: Vec<&str> = self.0.keys().map(|dc| dc.as_str()).collect();
                Some(Warning::UnknownDc { dc: dc.clone(), rf, known: known.join(", ") })
            }
            nodes if copies(rf) > nodes => {
                Some(Warning::TooFewNodesInDc { dc: dc.clone(), rf, nodes })
            }
            _ => None,
        };
        if self.0.is_empty() { Vec::new() } else { per_dc.iter().filter_map(warning).collect() }
    }
}

/// Appends the next `left` distinct nodes.
fn simple(ring: &Ring, token: Token, left: usize, found: &mut Vec<Replica>) {
    let start = found.len();
    for endpoint in ring.walk(token) {
        if found.len() - start == left {
            return;
        }
        if !holds(found, start, endpoint.node) {
            found.push(Replica::from(endpoint));
        }
    }
}

/// Appends what is wanted in each data centre, in the order of the walk.
fn network_topology<'a>(
    ring: &'a Ring,
    token: Token,
    mut wanted: BTreeMap<&'a Dc, Wanted<'a>>,
    found: &mut Vec<Replica>,
) {
    let start = found.len();
    let mut left: usize = wanted.values().map(|dc| dc.left).sum();
    for endpoint in ring.walk(token) {
        if left == 0 {
            return;
        }
        let Some(dc) = wanted.get_mut(&endpoint.dc) else { continue };
        if dc.left == 0 || holds(found, start, endpoint.node) {
            continue;
        }
        if !dc.racks.insert(&endpoint.rack) {
            // The racks that are still to come need all the copies that are left.
            let Some(fewer) = dc.repeats_left.checked_sub(1) else { continue };
            dc.repeats_left = fewer;
        }
        dc.left -= 1;
        left -= 1;
        found.push(Replica::from(endpoint));
    }
}

/// A node has one copy, however many tokens it has.
fn holds(found: &[Replica], start: usize, node: NodeId) -> bool {
    found.iter().skip(start).any(|replica| replica.node == node)
}

#[cfg(test)]
pub(crate) mod tests;
