//! A coordinator's part: counting promises and acceptances, and what they oblige it to.

use super::{Accepted, Ballot, Prepared, Proposal, newer};
use crate::tally::Verdict;
use crate::types::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest pause after a contention (Cassandra's).
const BACKOFF_MAX: Duration = Duration::from_millis(100);
/// The longest pause after the first one.
const BACKOFF_FIRST: Duration = Duration::from_millis(4);

/// How long to hold back after so many contentions, the latest among them: anything up to twice as long each time, or two
/// proposers would overtake each other for ever. `random` is drawn for each.
pub fn backoff(contentions: u32, random: u64) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << contentions.saturating_sub(1).min(16));
    let most = u64::try_from(doubled.min(BACKOFF_MAX).as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random % most.max(1))
}

/// The answers to one prepare.
#[derive(Debug, Clone)]
pub struct Promises {
    needed: usize,
    /// Those who were asked and have not answered: neither a promise nor a refusal nor a failure.
    open: usize,
    promised: BTreeMap<NodeId, Promise>,
    /// The newest ballot that stood in the way.
    superseded_by: Option<Ballot>,
}

/// What came with a promise.
#[derive(Debug, Clone)]
struct Promise {
    accepted: Option<Proposal>,
    committed: Option<Proposal>,
}

/// What a quorum of promises obliges their proposer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Propose this update under the ballot that was promised, commit it, and begin anew: it may have been decided.
    Finish(Proposal),
    /// Tell these replicas of the newest commit first, so that a quorum knows of it before another is made.
    Teach {
        /// It.
        commit: Proposal,
        /// Who lacks it.
        missing: Vec<NodeId>,
    },
    /// Nothing: it may propose what it likes.
    Free,
}

impl Promises {
    /// None yet of so many who are asked; `needed` of them make a quorum.
    pub fn new(needed: usize, asked: usize) -> Promises {
        Promises { needed, open: asked, promised: BTreeMap::new(), superseded_by: None }
    }

    /// Notes a replica's first answer; its transport sees to it that there is no second.
    pub fn record(&mut self, node: NodeId, answer: Prepared) -> Verdict {
        self.open = self.open.saturating_sub(1);
        match answer {
            Prepared::Promised { accepted, committed } => {
                self.promised.insert(node, Promise { accepted, committed });
            }
            Prepared::Refused { by } if by.supersedes(self.superseded_by.as_ref()) => {
                self.superseded_by = Some(by);
            }
            Prepared::Refused { .. } => {}
        }
        self.verdict()
    }

    /// Notes that a replica will not answer.
    pub fn failed(&mut self) -> Verdict {
        self.open = self.open.saturating_sub(1);
        self.verdict()
    }

    /// Where it stands.
    pub fn verdict(&self) -> Verdict {
        match self.promised.len() {
            promised if promised >= self.needed => Verdict::Met,
            promised if promised + self.open < self.needed => Verdict::Lost,
            _ => Verdict::Pending,
        }
    }

    /// Promises so far.
    pub fn received(&self) -> usize {
        self.promised.len()
    }

    /// The newest ballot that anybody named: the next one has to be larger.
    pub fn newest(&self) -> Option<Ballot> {
        let told = self.promised.values().flat_map(|told| [&told.accepted, &told.committed]);
        let told = told.flatten().map(|proposal| proposal.ballot);
        told.chain(self.superseded_by).max_by_key(|ballot| ballot.micros)
    }

    /// Whether a newer ballot was in the way.
    pub fn is_superseded(&self) -> bool {
        self.superseded_by.is_some()
    }

    /// What those who promised oblige to.
    pub fn next(&self) -> Next {
        let all = self.promised.values();
        let commit = all.clone().map(|told| told.committed.clone()).fold(None, newer);
        let committed = commit.as_ref().map(|commit| commit.ballot);
        // An empty one hides older ones, and needs no finishing: it was proposed by somebody who knew that nothing older
        // was decided, and whoever accepted it takes nothing older any more.
        if let Some(accepted) = all.map(|told| told.accepted.clone()).fold(None, newer)
            && accepted.ballot.supersedes(committed.as_ref())
            && !accepted.update.is_empty()
        {
            return Next::Finish(accepted);
        }
        let Some(commit) = commit else { return Next::Free };
        let lacks = |known: &Option<Proposal>| {
            commit.ballot.supersedes(known.as_ref().map(|known| &known.ballot))
        };
        let missing: Vec<NodeId> = self
            .promised
            .iter()
            .filter(|(_, told)| lacks(&told.committed))
            .map(|(node, _)| *node)
            .collect();
        if missing.is_empty() { Next::Free } else { Next::Teach { commit, missing } }
    }
}

/// The answers to one proposal.
#[derive(Debug, Clone)]
pub struct Accepts {
    needed: usize,
    asked: usize,
    accepted: usize,
    refused: usize,
    failed: usize,
    superseded_by: Option<Ballot>,
}

/// How a proposal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposed {
    /// It is decided.
    Accepted,
    /// Nobody has taken it, and nobody will: another may be tried.
    Refused {
        /// What stood in the way.
        by: Ballot,
    },
    /// Somebody may have taken it, so another proposer may finish it, or not: nobody knows.
    Unknown {
        /// Those who said that they did.
        accepted: usize,
    },
}

impl Accepts {
    /// None yet of so many who are asked; `needed` of them make a quorum.
    pub fn new(needed: usize, asked: usize) -> Accepts {
        Accepts { needed, asked, accepted: 0, refused: 0, failed: 0, superseded_by: None }
    }

    /// Notes a replica's first answer, and says how it ended, if it has.
    pub fn record(&mut self, answer: Accepted) -> Option<Proposed> {
        match answer {
            Accepted::Yes => self.accepted += 1,
            Accepted::Refused { by } => {
                self.refused += 1;
                if by.supersedes(self.superseded_by.as_ref()) {
                    self.superseded_by = Some(by);
                }
            }
        }
        self.ended()
    }

    /// Notes that a replica did not answer, or with an error: it may have accepted all the same.
    pub fn failed(&mut self) -> Option<Proposed> {
        self.failed += 1;
        self.ended()
    }

    /// Acceptances so far.
    pub fn received(&self) -> usize {
        self.accepted
    }

    fn ended(&self) -> Option<Proposed> {
        if self.accepted >= self.needed {
            return Some(Proposed::Accepted);
        }
        let open = self.asked.saturating_sub(self.accepted + self.refused + self.failed);
        if self.accepted + open >= self.needed {
            return None;
        }
        match self.superseded_by {
            // Whoever is still to answer may have accepted: only if all refused was it taken by nobody.
            Some(by) if self.refused == self.asked => Some(Proposed::Refused { by }),
            Some(_) if self.accepted == 0 && self.failed == 0 && open > 0 => None,
            _ => Some(Proposed::Unknown { accepted: self.accepted }),
        }
    }
}
