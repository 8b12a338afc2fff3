//! Three failures, three words: Unavailable (never sent), Timeout (undecided), Failure (replicas refused). The fields
//! are Cassandra's (native protocol v5, section 8), so that a driver's retry policy can be as exact as there.

use helenus_core::level::{LevelNotAllowed, Unavailable};
use helenus_core::tally::Tally;
use helenus_core::{Level, NodeId};

/// One replica's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFailure {
    /// Which replica.
    pub node: NodeId,
    /// Cassandra's reason words, or ours where it has none.
    pub reason: String,
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
            RequestError::Timeout { write, .. } | RequestError::Failure { write, .. } => *write,
            RequestError::Unavailable { .. }
            | RequestError::Invalid(_)
            | RequestError::Overloaded(_) => false,
        }
    }

    /// The outcome's name in metrics and traces.
    pub fn outcome(&self) -> &'static str {
        match self {
            RequestError::Unavailable { .. } => "unavailable",
            RequestError::Timeout { .. } => "timeout",
            RequestError::Failure { .. } => "failure",
            RequestError::Invalid(_) => "invalid",
            RequestError::Overloaded(_) => "overloaded",
        }
    }
}
