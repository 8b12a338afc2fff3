//! Three failures, three words: Unavailable (never sent), Timeout (undecided), Failure (replicas refused). The fields
//! are Cassandra's (native protocol v5, section 8), so that a driver's retry policy can be as exact as there.

use helenus_core::level::{LevelNotAllowed, Unavailable};
use helenus_core::paxos::SerialLevel;
use helenus_core::tally::{FailureReason, Tally};
use helenus_core::{Level, NodeId};

/// One replica's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFailure {
    /// Which replica.
    pub node: NodeId,
    /// Cassandra's reason words, or ours where it has none.
    pub reason: String,
}

/// Why a conditional write, or a read at a serial level, was not decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CasError {
    /// Too few of those who decide are alive. Nothing was sent.
    #[error(
        "unavailable: {serial} needs {required} replicas and {alive} are alive; nothing was sent"
    )]
    Unavailable {
        /// Among whom it was to be decided.
        serial: SerialLevel,
        /// Replicas it needs.
        required: usize,
        /// Replicas alive.
        alive: usize,
    },
    /// Too few answered in time, or other proposers were in the way for all of it.
    #[error("timeout: {received} of {block_for} replicas answered at {serial}, other proposals were in the way {contentions} times{}", if *.write { "; the write may still be applied" } else { "" })]
    Timeout {
        /// Among whom it was to be decided.
        serial: SerialLevel,
        /// Replicas that answered the last round.
        received: usize,
        /// Replicas it needs.
        block_for: usize,
        /// How often another proposer was in the way.
        contentions: u32,
        /// A conditional write?
        write: bool,
    },
    /// So few accepted a proposal, before a newer one came in its way, that nobody knows whether it will be decided.
    #[error(
        "unknown: {received} of {block_for} replicas accepted the write at {serial} before another proposal came; it may be applied or not: a read at {serial} settles it"
    )]
    Unknown {
        /// Among whom it was to be decided.
        serial: SerialLevel,
        /// Replicas that accepted.
        received: usize,
        /// Replicas it needs.
        block_for: usize,
    },
    /// Too many refused to take part.
    #[error("failure: {received} of {block_for} replicas answered at {serial} and {} refused ({})", .failures.len(), reasons(.failures))]
    Failure {
        /// Among whom it was to be decided.
        serial: SerialLevel,
        /// Replicas that answered.
        received: usize,
        /// Replicas it needs.
        block_for: usize,
        /// Who refused, and why.
        failures: Vec<ReplicaFailure>,
        /// A conditional write?
        write: bool,
    },
}

/// Why an operation was not answered with a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Too few replicas are alive. Nothing was sent, nothing was applied.
    #[error(
        "unavailable: {level} needs {required} replicas and {alive} are alive; nothing was sent"
    )]
    Unavailable {
        /// The level asked for.
        level: Level,
        /// Replicas it needs.
        required: usize,
        /// Replicas alive.
        alive: usize,
    },
    /// Too few replicas answered in time. A write may or may not have been applied.
    #[error("timeout: {received} of {block_for} replicas answered at {level}{}", if *.write { "; the write may still be applied" } else { "" })]
    Timeout {
        /// The level asked for.
        level: Level,
        /// Replicas that answered.
        received: usize,
        /// Replicas it needs.
        block_for: usize,
        /// Reads: the replica asked for the data (not a digest) answered.
        data_present: bool,
        /// A write?
        write: bool,
    },
    /// Too many replicas refused. A minority may hold the write.
    #[error("failure: {received} of {block_for} replicas answered at {level} and {} refused ({})", .failures.len(), reasons(.failures))]
    Failure {
        /// The level asked for.
        level: Level,
        /// Replicas that answered.
        received: usize,
        /// Replicas it needs.
        block_for: usize,
        /// Reads: the replica asked for the data answered.
        data_present: bool,
        /// A write?
        write: bool,
        /// Who refused, and why.
        failures: Vec<ReplicaFailure>,
    },
    /// Of a conditional write, or a read at a serial level.
    #[error(transparent)]
    Cas(#[from] CasError),
    /// The request itself is wrong; sending it again will not help.
    #[error("{0}")]
    Invalid(String),
    /// The node takes no more now.
    #[error("overloaded: {0}")]
    Overloaded(String),
}

impl From<Unavailable> for RequestError {
    fn from(u: Unavailable) -> Self {
        RequestError::Unavailable { level: u.level, required: u.required, alive: u.alive }
    }
}

impl From<LevelNotAllowed> for RequestError {
    fn from(error: LevelNotAllowed) -> Self {
        RequestError::Invalid(error.to_string())
    }
}

/// Who refused, as the client is told.
pub(super) fn failures(tally: &Tally) -> Vec<ReplicaFailure> {
    let failures = tally.failures();
    failures.map(|(node, why)| ReplicaFailure { node, reason: why.name().to_owned() }).collect()
}

fn reasons(failures: &[ReplicaFailure]) -> String {
    let mut reasons: Vec<&str> = failures.iter().map(|f| f.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons.join(", ")
}

impl RequestError {
    /// Whether a write that ended so may be in some replica all the same. `false` is a promise.
    pub fn may_have_applied(&self) -> bool {
        match self {
            RequestError::Timeout { write, .. }
            | RequestError::Failure { write, .. }
            | RequestError::Cas(
                CasError::Timeout { write, .. } | CasError::Failure { write, .. },
            ) => *write,
            RequestError::Cas(CasError::Unknown { .. }) => true,
            RequestError::Unavailable { .. }
            | RequestError::Cas(CasError::Unavailable { .. })
            | RequestError::Invalid(_)
            | RequestError::Overloaded(_) => false,
        }
    }

    /// The outcome's name in metrics and traces.
    pub fn outcome(&self) -> &'static str {
        match self {
            RequestError::Unavailable { .. } | RequestError::Cas(CasError::Unavailable { .. }) => {
                "unavailable"
            }
            RequestError::Timeout { .. } | RequestError::Cas(CasError::Timeout { .. }) => "timeout",
            RequestError::Failure { .. } | RequestError::Cas(CasError::Failure { .. }) => "failure",
            RequestError::Cas(CasError::Unknown { .. }) => "unknown",
            RequestError::Invalid(_) => "invalid",
            RequestError::Overloaded(_) => "overloaded",
        }
    }
}

/// A write that counted its coordinator's own copy, which is in the log only when that is written. If it cannot be, the
/// write has one copy less than it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unlogged {
    pub(super) level: Level,
    pub(super) block_for: usize,
}

impl Unlogged {
    /// What the client is told then.
    pub(crate) fn failure(self, coordinator: NodeId) -> RequestError {
        let reason = FailureReason::Storage.name().to_owned();
        RequestError::Failure {
            level: self.level,
            received: self.block_for.saturating_sub(1),
            block_for: self.block_for,
            data_present: false,
            write: true,
            failures: vec![ReplicaFailure { node: coordinator, reason }],
        }
    }
}
