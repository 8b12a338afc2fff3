//! Who is about to hold what, while members are leaving the ring.
//!
//! A member that leaves hands each of its ranges to whoever is a replica of it in the ring without the member. From the
//! moment that it says so until it is gone, these new owners are **pending**: a write goes to them too, and must be
//! acknowledged by one more replica for each of them (`level`), so that its acknowledgements are a quorum of the old owners
//! and of the new ones, whatever becomes of the leave. Reads go to the old owners only: the new ones do not have everything
//! yet.
//!
//! Invariant: for every token, the replicas of the ring without the leaving members are among the replicas and the pending
//! ones of the ring as it is. That holds for each of them alone, and for all of them together.
//!
//! Source: Cassandra's `TokenMetadata.calculatePendingRanges`; CASSANDRA-833.

use crate::placement::{Placement, Replica, range_of};
use crate::ring::{Ring, TokenRange};
use crate::types::{NodeId, Token};

/// A part of the ring that gets new owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which part.
    pub range: TokenRange,
    /// Who holds it now.
    pub from: Vec<NodeId>,
    /// Who will hold it and does not yet. Invariant: not empty, distinct.
    pub to: Vec<Replica>,
}

/// What gets new owners between two placements of one replication, where the ring of the second has lost members only.
pub fn moves<'a>(now: &'a Placement, after: &'a Placement) -> impl Iterator<Item = Move> + 'a {
    now.ranges().filter_map(|(range, held)| {
        // No token was added, so the whole range is in one range of the other ring.
        let to = after.replicas(range.until).iter().filter(|new| !holds(held, new.node));
        let to: Vec<Replica> = to.cloned().collect();
        let from = || held.iter().map(|replica| replica.node).collect();
        (!to.is_empty()).then(|| Move { range, from: from(), to })
    })
}

/// Where writes of a token go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteTargets<'a> {
    /// The replicas, and behind them the pending ones.
    pub all: &'a [Replica],
    /// The pending ones.
    pub pending: &'a [Replica],
}

/// Where writes of every token go, for one ring of which somebody is leaving, and one replication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The last tokens of the ring's ranges. Invariant: sorted, unique, as long as `targets`.
    until: Vec<Token>,
    /// The replicas of each, the pending ones last.
    targets: Vec<Vec<Replica>>,
    /// How many of `targets` are replicas now. The same for all ranges.
    width: usize,
}

impl Pending {
    /// `None`: nobody is leaving, or nothing gets a new owner. `place`: the placement of the same keyspace in another ring.
    pub fn new(
        ring: &Ring,
        now: &Placement,
        place: impl Fn(&Ring) -> Placement,
    ) -> Option<Pending> {
        let leaving = ring.leaving();
        // Each alone, because it may be that only one of them ever gets away; and all, because all of them may.
        let mut gone: Vec<&[NodeId]> = leaving.chunks(1).collect();
        gone.extend((leaving.len() > 1).then_some(leaving));
        let afters: Vec<Placement> = gone.iter().map(|gone| place(&ring.without(gone))).collect();
        let mut pending = Pending { until: Vec::new(), targets: Vec::new(), width: 0 };
        let mut any = false;
        for (range, held) in now.ranges() {
            let mut targets = held.to_vec();
            for new in afters.iter().flat_map(|after| after.replicas(range.until)) {
                if !holds(&targets, new.node) {
                    any = true;
                    targets.push(new.clone());
                }
            }
            pending.width = held.len();
            pending.until.push(range.until);
            pending.targets.push(targets);
        }
        any.then_some(pending)
    }

    /// Where writes of `token` go.
    pub fn targets(&self, token: Token) -> WriteTargets<'_> {
        let all = self.targets.get(range_of(&self.until, token)).map_or(&[][..], Vec::as_slice);
        WriteTargets { all, pending: all.get(self.width..).unwrap_or_default() }
    }
}

fn holds(replicas: &[Replica], node: NodeId) -> bool {
    replicas.iter().any(|replica| replica.node == node)
}

#[cfg(test)]
mod tests;
