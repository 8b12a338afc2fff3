//! What a conditional write tells of its rounds: who promised, who refused and for whose sake, what had to be finished
//! first, and what was decided.
//!
//! A ballot is named by its microseconds, by which ballots are ordered, and by the node whose it is.

use super::{Trace, heard};
use crate::coordinator::Coordinator;
use crate::peers::PeerError;
use crate::replica::in_words;
use crate::storage::Applied;
use bytes::Bytes;
use helenus_core::paxos::{Ballot, Next, Proposal, Proposed};
use helenus_core::tally::FailureReason;
use helenus_core::{NodeId, Partition};
use helenus_proto::v1;
use helenus_proto::v1::message::Body;
use std::time::Duration;

impl Coordinator {
    fn ballot_name(&self, ballot: &Ballot) -> String {
        format!("{} of {}", ballot.micros.0, self.name(ballot.node))
    }

    /// The ballot that an acceptor sent.
    fn ballot_in(&self, bytes: &Bytes) -> String {
        let ballot = Ballot::decode(bytes);
        ballot.map_or_else(|| "that cannot be read".to_owned(), |it| self.ballot_name(&it))
    }

    /// An acceptor has answered, or will not any more.
    pub(in crate::coordinator) fn tell_acceptor(
        &self,
        trace: &Trace,
        node: NodeId,
        answer: &Result<Body, PeerError>,
    ) {
        trace.tell(|| {
            let name = self.name(node);
            match answer {
                Ok(Body::PaxosPromise(promise)) => self.promise_in_words(&name, promise),
                Ok(Body::PaxosAccepted(v1::PaxosAccepted { refused_by: None })) => {
                    format!("Received acceptance from {name}")
                }
                Ok(Body::PaxosAccepted(v1::PaxosAccepted { refused_by: Some(by) })) => {
                    format!("{name} does not accept: it has promised ballot {}", self.ballot_in(by))
                }
                other => heard(&name, other),
            }
        });
    }

    fn promise_in_words(&self, name: &str, promise: &v1::PaxosPromise) -> String {
        if let Some(by) = &promise.refused_by {
            return format!(
                "{name} does not promise: it has promised ballot {}",
                self.ballot_in(by)
            );
        }
        let of = |proposal: &Option<Bytes>| {
            let proposal = proposal.as_ref().and_then(Proposal::decode);
            proposal.map(|proposal| self.ballot_name(&proposal.ballot))
        };
        let accepted = of(&promise.accepted).map(|ballot| format!("accepted ballot {ballot} last"));
        let committed =
            of(&promise.committed).map(|ballot| format!("committed ballot {ballot} last"));
        let told: Vec<String> = accepted.into_iter().chain(committed).collect();
        match told.is_empty() {
            true => format!("Received promise from {name}: it has accepted nothing"),
            false => format!("Received promise from {name}: it has {}", told.join(", and ")),
        }
    }

    /// A ballot is going to be prepared.
    pub(in crate::coordinator) fn tell_ballot(&self, trace: &Trace, ballot: Ballot) {
        trace.tell(|| format!("Preparing ballot {}", self.ballot_name(&ballot)));
    }

    /// A quorum has promised, and this is what it obliges to.
    pub(in crate::coordinator) fn tell_next(
        &self,
        trace: &Trace,
        (ballot, promises): (Ballot, usize),
        next: &Next,
    ) {
        trace.tell(|| {
            let then = match next {
                Next::Free => "nothing older is left to finish".to_owned(),
                Next::Teach { commit, missing } => format!(
                    "sending the newest commit, ballot {}, to {} first, which missed it",
                    self.ballot_name(&commit.ballot),
                    self.names(missing.iter().copied())
                ),
                Next::Finish(begun) => format!(
                    "finishing ballot {} first, which was accepted and may have been decided",
                    self.ballot_name(&begun.ballot)
                ),
            };
            format!("{promises} replicas have promised ballot {}: {then}", ballot.micros.0)
        });
    }

    /// How a proposal ended.
    pub(in crate::coordinator) fn tell_decided(
        &self,
        trace: &Trace,
        proposal: &Proposal,
        (ended, needed): (&Proposed, usize),
    ) {
        trace.tell(|| {
            let ballot = proposal.ballot.micros.0;
            match ended {
                Proposed::Accepted if proposal.update.is_empty() => format!(
                    "Ballot {ballot} is decided: {needed} replicas have accepted that nothing is written"
                ),
                Proposed::Accepted => {
                    format!("Ballot {ballot} is decided: {needed} replicas have accepted it")
                }
                Proposed::Refused { by } => format!(
                    "Ballot {ballot} was overtaken by {}, and nobody has accepted it",
                    self.ballot_name(by)
                ),
                Proposed::Unknown { accepted } => format!(
                    "Ballot {ballot} was overtaken: {accepted} of {needed} required replicas have accepted it, and \
                     whether it is decided will be seen"
                ),
            }
        });
    }

    /// Another proposer is in the way.
    pub(in crate::coordinator) fn tell_pause(
        &self,
        trace: &Trace,
        newest: Option<&Ballot>,
        pause: Duration,
    ) {
        trace.tell(|| {
            let newest = newest.map_or_else(
                || "Another round".to_owned(),
                |newest| format!("Ballot {}", self.ballot_name(newest)),
            );
            format!("{newest} is in the way: trying again in {} µs", pause.as_micros())
        });
    }
}

/// Whether a condition holds of what was read.
pub(in crate::coordinator) fn judged(holds: bool, current: &Partition) -> String {
    let verdict = if holds { "holds" } else { "does not hold" };
    format!("The condition {verdict} of what was read: {}", in_words(current))
}

/// What became of a commit at this node.
pub(in crate::coordinator) fn committed(applied: &Result<Applied, FailureReason>) -> String {
    match applied {
        Ok(_) => "Merged what was decided into the memtable".to_owned(),
        Err(reason) => format!("The commit was refused here: {}", reason.name()),
    }
}
