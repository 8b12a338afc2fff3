//! Counting replicas, not replies, until a level is met or out of reach.
//!
//! A tally is made when an operation is sent and told every answer that comes back. It says `Met` as soon as the
//! level's requirement is, `Lost` as soon as no answer that is still open could meet it, and `Pending` in between. It
//! knows nothing of time: a coordinator whose deadline passes while the tally is pending reports a timeout.
//!
//! Invariants:
//! - each contacted replica has one answer, the first; a duplicate changes nothing;
//! - `Met` and `Lost` are final: acknowledgements are never taken back, and a replica that failed never acknowledges;
//! - at levels that count by data centre, answers from elsewhere are kept (they may be failures worth telling) but do
//!   not count;
//! - a hint is a debt, not an acknowledgement, except at ANY, where a durable one is enough. So ANY is never `Lost`.
//!
//! CAVEAT: `Lost` does not mean "not applied": a minority may have applied the write and keeps it.

use crate::level::{Level, Requirement};
use crate::placement::Replica;
use crate::types::NodeId;
use std::fmt;
use std::str::FromStr;

/// Why a replica refused (Cassandra's `RequestFailureReason`, and what only we have).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureReason {
    /// It did not say, or said something this version does not know.
    Unknown,
    /// A read met more tombstones than it may.
    ReadTooManyTombstones,
    /// It gave up by itself.
    Timeout,
    /// It does not know the table, or knows another shape of it.
    IncompatibleSchema,
    /// A read would have returned more than it may.
    ReadSize,
    /// It went away with the request open.
    NodeDown,
    /// Its storage refuses: a poisoned log, a full disk.
    Storage,
    /// It has more to do than it can.
    Overloaded,
}

impl FailureReason {
    const EVERY: [FailureReason; 8] = [
        FailureReason::Unknown,
        FailureReason::ReadTooManyTombstones,
        FailureReason::Timeout,
        FailureReason::IncompatibleSchema,
        FailureReason::ReadSize,
        FailureReason::NodeDown,
        FailureReason::Storage,
        FailureReason::Overloaded,
    ];

    /// The name it has between nodes and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            FailureReason::Unknown => "UNKNOWN",
            FailureReason::ReadTooManyTombstones => "READ_TOO_MANY_TOMBSTONES",
            FailureReason::Timeout => "TIMEOUT",
            FailureReason::IncompatibleSchema => "INCOMPATIBLE_SCHEMA",
            FailureReason::ReadSize => "READ_SIZE",
            FailureReason::NodeDown => "NODE_DOWN",
            FailureReason::Storage => "STORAGE",
            FailureReason::Overloaded => "OVERLOADED",
        }
    }

    /// The code in CQL's map of failures; what only we have is UNKNOWN there.
    pub const fn cql_code(self) -> u16 {
        match self {
            FailureReason::Unknown | FailureReason::Storage | FailureReason::Overloaded => 0,
            FailureReason::ReadTooManyTombstones => 1,
            FailureReason::Timeout => 2,
            FailureReason::IncompatibleSchema => 3,
            FailureReason::ReadSize => 4,
            FailureReason::NodeDown => 5,
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FailureReason {
    type Err = std::convert::Infallible;

    /// A name that a newer node may have made up is `Unknown`, never an error: the replica failed all the same.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = FailureReason::EVERY.into_iter().find(|reason| reason.name() == name);
        Ok(known.unwrap_or(FailureReason::Unknown))
    }
}

/// What a replica answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// It did what was asked.
    Ack,
    /// It did not.
    Failed(FailureReason),
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Undecided: wait for more answers, or for the deadline.
    Pending,
    /// The level is met: answer the client.
    Met,
    /// The level is out of reach, whatever the open answers say.
    Lost,
}

/// The answers to one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    requirement: Requirement,
    /// Invariant: one for each contacted replica.
    slots: Vec<Slot>,
    /// A durable hint is kept for a replica that was not reached.
    hinted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    replica: Replica,
    answer: Option<Answer>,
}

impl Tally {
    /// No answers yet from `contacted`, which are distinct.
    pub fn new<'a>(
        requirement: Requirement,
        contacted: impl IntoIterator<Item = &'a Replica>,
    ) -> Tally {
        let contacted = contacted.into_iter();
        let mut slots: Vec<Slot> = Vec::with_capacity(contacted.size_hint().0);
        for replica in contacted {
            let twice = slots.iter().any(|slot| slot.replica.node == replica.node);
            assert!(!twice, "replica {} is contacted twice for one operation", replica.node);
            slots.push(Slot { replica: replica.clone(), answer: None });
        }
        Tally { requirement, slots, hinted: false }
    }

    /// Notes the answer of a contacted replica and says where the operation stands. Only a replica's first answer
    /// counts.
    ///
    /// # Panics
    ///
    /// If `node` was not contacted. The caller matches replies to requests, so that is a bug, not weather.
    pub fn record(&mut self, node: NodeId, answer: Answer) -> Verdict {
        let slot = self.slots.iter_mut().find(|slot| slot.replica.node == node);
        let slot = slot.expect("an answer from outside the replicas that were contacted");
        slot.answer.get_or_insert(answer);
        self.verdict()
    }

    /// Notes that a durable hint is kept for a replica. That satisfies ANY, and no other level.
    pub fn hint_kept(&mut self) -> Verdict {
        self.hinted = true;
        self.verdict()
    }

    /// Where the operation stands.
    pub fn verdict(&self) -> Verdict {
        let hint_will_do = self.requirement.level() == Level::Any;
        if hint_will_do && self.hinted {
            return Verdict::Met;
        }
        let mut verdict = Verdict::Met;
        for group in self.requirement.groups() {
            let slots = || self.slots.iter().filter(|slot| group.counts(&slot.replica));
            let acked = slots().filter(|slot| slot.answer == Some(Answer::Ack)).count();
            let open = slots().filter(|slot| slot.answer.is_none()).count();
            if acked + open < group.needed && !hint_will_do {
                return Verdict::Lost;
            }
            if acked < group.needed {
                verdict = Verdict::Pending;
            }
        }
        verdict
    }

    /// Acknowledgements that count towards the level; beyond what a data centre needs they do not, so this is below
    /// [`Tally::block_for`] exactly while the level is not met by replicas.
    pub fn received(&self) -> usize {
        let acked = self.slots.iter().filter(|slot| slot.answer == Some(Answer::Ack));
        let acked_in = |group: &crate::level::Group<'_>| {
            acked.clone().filter(|slot| group.counts(&slot.replica)).count()
        };
        self.requirement.groups().map(|group| acked_in(&group).min(group.needed)).sum()
    }

    /// Acknowledgements that the level needs.
    pub fn block_for(&self) -> usize {
        self.requirement.block_for()
    }

    /// The level asked for.
    pub fn level(&self) -> Level {
        self.requirement.level()
    }

    /// Who refused, and why; those that do not count towards the level too.
    pub fn failures(&self) -> impl Iterator<Item = (NodeId, FailureReason)> {
        self.slots.iter().filter_map(|slot| match slot.answer {
            Some(Answer::Failed(reason)) => Some((slot.replica.node, reason)),
            _ => None,
        })
    }

    /// Who has acknowledged.
    pub fn acked(&self) -> impl Iterator<Item = NodeId> {
        let acked = self.slots.iter().filter(|slot| slot.answer == Some(Answer::Ack));
        acked.map(|slot| slot.replica.node)
    }

    /// Who has not answered yet.
    pub fn open(&self) -> impl Iterator<Item = NodeId> {
        let open = self.slots.iter().filter(|slot| slot.answer.is_none());
        open.map(|slot| slot.replica.node)
    }
}

#[cfg(test)]
mod tests;
