//! A replica's part: what it has promised, accepted and committed of one partition.

use super::{Ballot, Proposal};

/// What a replica remembers of a partition's decrees. Nothing at all is the state of a partition that nobody wrote
/// conditionally.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// It takes nothing older.
    pub promised: Option<Ballot>,
    /// The newest proposal it took, until a commit of that ballot or a newer one.
    pub accepted: Option<Proposal>,
    /// The newest commit it was told.
    pub committed: Option<Proposal>,
}

/// The answer to a prepare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// Nothing older will be taken. What there was before:
    Promised {
        /// What it has accepted and not seen committed.
        accepted: Option<Proposal>,
        /// The newest commit it knows.
        committed: Option<Proposal>,
    },
    /// It has promised a newer ballot, or another one of the same micros.
    Refused {
        /// That one.
        by: Ballot,
    },
}

/// The answer to a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is accepted.
    Yes,
    /// It is not: a newer ballot was promised meanwhile.
    Refused {
        /// That one.
        by: Ballot,
    },
}

impl State {
    /// The newest ballot it has seen. That is what it promised; but pieces of a state may expire before others.
    fn newest(&self) -> Option<Ballot> {
        let accepted = self.accepted.as_ref().map(|proposal| proposal.ballot);
        let committed = self.committed.as_ref().map(|proposal| proposal.ballot);
        [self.promised, accepted, committed].into_iter().flatten().max_by_key(|b| b.micros)
    }

    /// What stands against it, if anything does. Nothing stands against the same message once more.
    fn refusal(&self, ballot: &Ballot) -> Option<Ballot> {
        self.newest().filter(|newest| newest != ballot && !ballot.supersedes(Some(newest)))
    }

    /// Asked to promise `ballot`. The state has to be durable before the answer leaves.
    pub fn prepare(&mut self, ballot: Ballot) -> Prepared {
        if let Some(by) = self.refusal(&ballot) {
            return Prepared::Refused { by };
        }
        self.promised = Some(ballot);
        let (accepted, committed) = (self.accepted.clone(), self.committed.clone());
        Prepared::Promised { accepted, committed }
    }

    /// Asked to accept. The state has to be durable before the answer leaves.
    pub fn accept(&mut self, proposal: &Proposal) -> Accepted {
        if let Some(by) = self.refusal(&proposal.ballot) {
            return Accepted::Refused { by };
        }
        self.promised = Some(proposal.ballot);
        self.accepted = Some(proposal.clone());
        Accepted::Yes
    }

    /// Told that `proposal` is decided. Its update is merged into the table whatever this says; `false`: the state knew
    /// of a commit as new as this one.
    pub fn commit(&mut self, proposal: &Proposal) -> bool {
        let known = self.committed.as_ref().map(|committed| committed.ballot);
        if !proposal.ballot.supersedes(known.as_ref()) {
            return false;
        }
        self.committed = Some(proposal.clone());
        self.accepted.take_if(|accepted| !accepted.ballot.supersedes(Some(&proposal.ballot)));
        true
    }
}
