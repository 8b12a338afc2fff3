//! Consistency levels: how many replicas must answer before the coordinator does.
//!
//! A level and a keyspace's replication make a [`Requirement`]: so many answers from anywhere, from the coordinator's
//! data centre, or from each data centre. Everything that counts replicas asks it: whether enough are alive to try
//! (`check`), whom a read contacts (`contacts`), and when enough have answered (`tally`).
//!
//! Invariant: the arithmetic uses the *configured* replication factor. Copies that the ring is too small to place
//! count as replicas that never answer: three copies on two nodes still need two for QUORUM, and ALL cannot be met.
//!
//! Writes while a node is leaving need one more answer for each pending replica (a node that is about to own the
//! token, see `pending`), because the quorum of the old owners must overlap with the quorum of the new ones. At LOCAL_
//! levels only the coordinator's data centre counts; ANY asks for nothing more.
//!
//! Two quorums of one replica set share a replica, which is why a QUORUM read sees every acknowledged QUORUM write.
//! CAVEAT: that holds for LOCAL_QUORUM within one data centre only, and for no pair with ONE or ANY in it below ALL.
//!
//! Source: Cassandra's `ConsistencyLevel.blockFor`, `blockForWrite` and `ReplicaPlans.assureSufficientLiveReplicas`.

use crate::placement::Replica;
use crate::schema::Replication;
use crate::types::{Dc, NodeId};
use std::fmt;
use std::str::FromStr;

/// How many replicas must answer an operation (Cassandra's `ConsistencyLevel`; the numbers are CQL's wire codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// A write may be satisfied by a durable hint alone. Writes only.
    Any = 0,
    /// One replica.
    One = 1,
    /// Two replicas.
    Two = 2,
    /// Three replicas.
    Three = 3,
    /// A majority of all replicas in all data centres.
    Quorum = 4,
    /// Every replica.
    All = 5,
    /// A majority of the replicas in the coordinator's data centre.
    LocalQuorum = 6,
    /// A majority in each data centre.
    EachQuorum = 7,
    /// One replica in the coordinator's data centre.
    LocalOne = 10,
}

/// What a level is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Reads of every kind.
    Read,
    /// Writes of every kind.
    Write,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Read => "read",
            Op::Write => "write",
        })
    }
}

/// The operation does not know this level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a {op} cannot be done at {level}, which a hint alone would satisfy, and hints cannot be read; use ONE or higher"
)]
pub struct LevelNotAllowed {
    /// The level.
    pub level: Level,
    /// The operation.
    pub op: Op,
}

/// The text names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a consistency level{}; levels are: {}", self.hint(), Level::names())]
pub struct UnknownLevel {
    /// The text.
    pub given: String,
    /// The level whose name is nearest, if one is near.
    pub nearest: Option<Level>,
}

impl UnknownLevel {
    fn hint(&self) -> String {
        self.nearest.map(|level| format!(" (did you mean {level}?)")).unwrap_or_default()
    }
}

impl Level {
    /// All of them, in the order of their codes.
    pub const EVERY: [Level; 9] = [
        Level::Any,
        Level::One,
        Level::Two,
        Level::Three,
        Level::Quorum,
        Level::All,
        Level::LocalQuorum,
        Level::EachQuorum,
        Level::LocalOne,
    ];

    /// Cassandra's name.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Any => "ANY",
            Level::One => "ONE",
            Level::Two => "TWO",
            Level::Three => "THREE",
            Level::Quorum => "QUORUM",
            Level::All => "ALL",
            Level::LocalQuorum => "LOCAL_QUORUM",
            Level::EachQuorum => "EACH_QUORUM",
            Level::LocalOne => "LOCAL_ONE",
        }
    }

    /// The code on CQL's wire.
    pub const fn cql_code(self) -> u16 {
        self as u16
    }

    /// The level with this code; SERIAL (8), LOCAL_SERIAL (9) and NODE_LOCAL (11) are not among ours.
    pub fn from_cql_code(code: u16) -> Option<Level> {
        Level::EVERY.into_iter().find(|level| level.cql_code() == code)
    }

    /// Whether `op` may be done at this level: everything but a read at ANY.
    pub const fn allows(self, op: Op) -> bool {
        !matches!((self, op), (Level::Any, Op::Read))
    }

    /// What must answer an `op` at this level, coordinated from `local_dc`. `pending` are the nodes that are about to
    /// become replicas of the token; only writes go to them.
    pub fn requirement(
        self,
        op: Op,
        replication: &Replication,
        local_dc: &Dc,
        pending: &[Replica],
    ) -> Result<Requirement, LevelNotAllowed> {
        if !self.allows(op) {
            return Err(LevelNotAllowed { level: self, op });
        }
        let pending = if op == Op::Write { pending } else { &[] };
        let from_anywhere = |needed: usize| Scope::Anywhere(needed + pending.len());
        let pending_in = |dc: &Dc| pending.iter().filter(|replica| replica.dc == *dc).count();
        let local = |needed: usize| Scope::Within(local_dc.clone(), needed + pending_in(local_dc));
        let scope = match self {
            Level::Any => Scope::Anywhere(1),
            Level::One => from_anywhere(1),
            Level::Two => from_anywhere(2),
            Level::Three => from_anywhere(3),
            Level::Quorum => from_anywhere(quorum(copies(replication))),
            // A keyspace without copies anywhere cannot be written to, not even at ALL.
            Level::All => from_anywhere(copies(replication).max(1)),
            Level::LocalOne => local(1),
            Level::LocalQuorum => local(quorum(copies_in(replication, local_dc))),
            Level::EachQuorum => match replication {
                // SimpleStrategy knows no data centres, so the whole ring is one.
                Replication::Simple { .. } => from_anywhere(quorum(copies(replication))),
                Replication::NetworkTopology { per_dc } if per_dc.is_empty() => from_anywhere(1),
                Replication::NetworkTopology { per_dc } => {
                    let each = per_dc
                        .iter()
                        .map(|(dc, rf)| (dc.clone(), quorum(rf.get() as usize) + pending_in(dc)));
                    Scope::Each(each.collect())
                }
            },
        };
        Ok(Requirement { level: self, scope })
    }

    /// Who must answer for conditional writes to be decided at QUORUM or LOCAL_QUORUM (any other level is taken for QUORUM).
    ///
    /// Without pending replicas it is a quorum. With some, they take part, and so many of all must answer that any two such
    /// sets meet, and each meets every quorum of the replicas before and of those afterwards. With one pending replica, which
    /// is what a leaving node makes, that is a quorum of all, as in Cassandra (CASSANDRA-833); with several it is more, where
    /// Cassandra refuses.
    pub fn decree(
        self,
        replication: &Replication,
        local_dc: &Dc,
        pending: &[Replica],
    ) -> Requirement {
        let here = pending.iter().filter(|replica| replica.dc == *local_dc).count();
        let needed = |copies: usize, pending: usize| {
            let meets_old_and_new = (copies + 1 + pending).saturating_sub(quorum(copies));
            quorum(copies + pending).max(meets_old_and_new)
        };
        let scope = match self {
            Level::LocalQuorum => {
                let copies = copies_in(replication, local_dc);
                Scope::Within(local_dc.clone(), needed(copies, here))
            }
            _ => Scope::Anywhere(needed(copies(replication), pending.len())),
        };
        Requirement { level: self, scope }
    }

    fn names() -> String {
        Level::EVERY.map(Level::name).join(" ")
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Reads Cassandra's names in upper or lower case, with `_` or `-`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_ascii_uppercase().replace('-', "_");
        if let Some(level) = Level::EVERY.into_iter().find(|level| level.name() == name) {
            return Ok(level);
        }
        let distance = |level: &Level| strsim::damerau_levenshtein(level.name(), &name);
        let nearest = Level::EVERY.into_iter().min_by_key(distance);
        // Half of the letters wrong is another word, not a slip.
        let nearest = nearest.filter(|level| distance(level) * 2 < level.name().len());
        Err(UnknownLevel { given: text.to_owned(), nearest })
    }
}

/// A majority of `copies`.
pub const fn quorum(copies: usize) -> usize {
    copies / 2 + 1
}

// Any two quorums share a replica, no smaller number would do, and a quorum can be met.
const _: () = {
    let mut copies = 1;
    while copies <= 64 {
        assert!(2 * quorum(copies) > copies);
        assert!(2 * (quorum(copies) - 1) <= copies);
        assert!(quorum(copies) <= copies);
        copies += 1;
    }
};

/// Configured copies in all data centres.
fn copies(replication: &Replication) -> usize {
    match replication {
        Replication::Simple { rf } => rf.get() as usize,
        Replication::NetworkTopology { per_dc } => {
            per_dc.values().map(|rf| rf.get() as usize).sum()
        }
    }
}

/// Configured copies in `dc`; SimpleStrategy knows no data centres, so there it is all of them.
fn copies_in(replication: &Replication, dc: &Dc) -> usize {
    match replication {
        Replication::Simple { rf } => rf.get() as usize,
        Replication::NetworkTopology { per_dc } => per_dc.get(dc).map_or(0, |rf| rf.get() as usize),
    }
}

/// Fewer replicas are alive than the level needs. Nothing was sent, so nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{level} needs {required} live replicas{}; alive: {alive}", in_dc(.dc.as_ref()))]
pub struct Unavailable {
    /// The level.
    pub level: Level,
    /// Live replicas that it needs (in `dc`, if that is set).
    pub required: usize,
    /// Replicas that are alive (in `dc`, if that is set).
    pub alive: usize,
    /// The data centre that falls short, at levels that count by data centre.
    pub dc: Option<Dc>,
}

fn in_dc(dc: Option<&Dc>) -> String {
    dc.map(|dc| format!(" in data centre {dc}")).unwrap_or_default()
}

/// What must answer. Made by [`Level::requirement`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    level: Level,
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// So many replicas, wherever they are.
    Anywhere(usize),
    /// So many in one data centre; others may be sent the write, but do not count.
    Within(Dc, usize),
    /// So many in each. Invariant: sorted by data centre, unique, none asks for 0.
    Each(Vec<(Dc, usize)>),
}

/// So many answers from one set of replicas; a requirement is met when each of its groups is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    /// Only replicas in this data centre count; `None`: all do.
    pub(crate) dc: Option<&'a Dc>,
    /// Answers that are needed.
    pub(crate) needed: usize,
}

impl Group<'_> {
    /// Whether an answer of `replica` counts here.
    pub(crate) fn counts(&self, replica: &Replica) -> bool {
        self.dc.is_none_or(|dc| replica.dc == *dc)
    }
}

impl Requirement {
    /// The level it came from.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Answers needed in all: `blockFor` in Cassandra's errors.
    pub fn block_for(&self) -> usize {
        self.groups().map(|group| group.needed).sum()
    }

    /// Whether enough of `candidates` (natural replicas, and the pending ones for a write) are alive to try. Where
    /// several data centres fall short, the first by name is told. At ANY this never fails, since a hint will do.
    ///
    /// Unlike Cassandra, EACH_QUORUM asks for the pending replicas of a data centre there and not only in the sum,
    /// as the tally does: what would certainly time out is refused.
    pub fn check<'a>(
        &self,
        candidates: impl IntoIterator<Item = &'a Replica, IntoIter: Clone>,
        alive: impl Fn(NodeId) -> bool,
    ) -> Result<(), Unavailable> {
        if self.level == Level::Any {
            return Ok(());
        }
        let candidates = candidates.into_iter();
        for group in self.groups() {
            let live = candidates.clone().filter(|r| group.counts(r) && alive(r.node)).count();
            if live < group.needed {
                return Err(self.unavailable(group, live));
            }
        }
        Ok(())
    }

    /// Whom a read contacts: of the live ones in `preference` (nearest first), the first that the level needs, and no
    /// more.
    pub fn contacts<'a>(
        &self,
        preference: impl IntoIterator<Item = &'a Replica>,
        alive: impl Fn(NodeId) -> bool,
    ) -> Result<Vec<&'a Replica>, Unavailable> {
        let mut missing: Vec<(Group<'_>, usize)> = self.groups().map(|g| (g, g.needed)).collect();
        let mut chosen = Vec::with_capacity(self.block_for());
        for replica in preference {
            let wanted =
                missing.iter_mut().find(|(group, left)| *left > 0 && group.counts(replica));
            let Some((_, left)) = wanted else { continue };
            if alive(replica.node) {
                *left -= 1;
                chosen.push(replica);
            }
        }
        match missing.into_iter().find(|(_, left)| *left > 0) {
            Some((group, left)) => Err(self.unavailable(group, group.needed - left)),
            None => Ok(chosen),
        }
    }

    /// Whether an answer of `other` counts wherever one of `failed` would have: in the same data centre, at levels that
    /// count by data centre.
    pub fn may_stand_in(&self, failed: &Replica, other: &Replica) -> bool {
        self.groups().filter(|group| group.counts(failed)).all(|group| group.counts(other))
    }

    /// Its groups: no replica counts in two of them.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let (one, each) = match &self.scope {
            Scope::Anywhere(needed) => (Some(Group { dc: None, needed: *needed }), [].as_slice()),
            Scope::Within(dc, needed) => {
                (Some(Group { dc: Some(dc), needed: *needed }), [].as_slice())
            }
            Scope::Each(each) => (None, each.as_slice()),
        };
        let each = each.iter().map(|(dc, needed)| Group { dc: Some(dc), needed: *needed });
        one.into_iter().chain(each)
    }

    fn unavailable(&self, group: Group<'_>, alive: usize) -> Unavailable {
        Unavailable { level: self.level, required: group.needed, alive, dc: group.dc.cloned() }
    }
}

#[cfg(test)]
mod tests;
