//! What can go wrong with an operation, in Cassandra's words and with Cassandra's fields.
//!
//! Three failures, three words: **Unavailable** (never sent to a replica, nothing applied), **Timeout** (undecided),
//! **Failure** (replicas refused; a minority may hold it). To these the client adds what happens before and between
//! nodes: it could not connect, a connection broke, its own queue is full, its own deadline passed.
//!
//! [`KvError`] is what *one* attempt met. An operation may take several, so what it returns is an [`OpError`]: the last
//! attempt's error and those of the attempts before it, because a write whose first attempt timed out may have been
//! applied whatever its second attempt was told.

use helenus_core::{Level, NodeId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One replica's reason for refusing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFailure {
    /// Who refused; absent when the answer did not name it properly.
    pub node: Option<NodeId>,
    /// Why, e.g. `READ_TOO_MANY_TOMBSTONES`.
    pub reason: String,
}

/// Why one attempt at an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The coordinator knew that too few replicas were alive. It sent nothing; nothing was applied.
    #[error("unavailable: {level} needs {required} replicas and {alive} are alive ({message})")]
    Unavailable {
        /// The level asked for.
        level: Level,
        /// Replicas that the level needs.
        required: u32,
        /// Replicas that the coordinator believed to be alive.
        alive: u32,
        /// The coordinator's words.
        message: String,
    },
    /// Too few replicas answered in time. A write may have been applied, or may yet be, e.g. by a hint.
    #[error("timeout: {received} of {block_for} replicas answered in time at {level} ({message})")]
    Timeout {
        /// The level asked for.
        level: Level,
        /// Replicas that answered.
        received: u32,
        /// Replicas that the level waits for.
        block_for: u32,
        /// Reads: whether the replica asked for the data (not a digest) answered.
        data_present: bool,
        /// Whether this was a write.
        write: bool,
        /// The coordinator's words.
        message: String,
    },
    /// Replicas refused, so that the level cannot be met any more. A minority may hold a write.
    #[error(
        "failure: {} replicas refused, {received} of {block_for} answered at {level} ({message})",
        failures.len()
    )]
    Failure {
        /// The level asked for.
        level: Level,
        /// Replicas that answered well.
        received: u32,
        /// Replicas that the level waits for.
        block_for: u32,
        /// Reads: whether the replica asked for the data (not a digest) answered.
        data_present: bool,
        /// Whether this was a write.
        write: bool,
        /// Who refused, and why.
        failures: Vec<ReplicaFailure>,
        /// The coordinator's words.
        message: String,
    },
    /// The request itself is wrong; sending it again will not help.
    #[error("invalid request: {message}")]
    Invalid {
        /// What is wrong with it.
        message: String,
    },
    /// The coordinator would not take it now: too much in flight, a poisoned log, or shutting down.
    #[error("overloaded: the node does not take the request now ({message})")]
    Overloaded {
        /// The coordinator's words.
        message: String,
    },
    /// This client has too much in flight to the node already. Nothing was sent.
    #[error(
        "overloaded: this client has {in_flight_max} requests in flight to {addr} already; wait for some, or raise in_flight_max"
    )]
    TooMuchInFlight {
        /// The node.
        addr: SocketAddr,
        /// The bound that was reached.
        in_flight_max: usize,
    },
    /// The node does not read a request that large: only its length was looked at, nothing was applied.
    #[error(
        "the value is larger than the server takes (max_value_size): the request has {bytes} bytes and {addr} reads at most {bytes_max}; split it, or raise the limit on every node"
    )]
    TooLarge {
        /// The node.
        addr: SocketAddr,
        /// The request's size on the wire.
        bytes: usize,
        /// The most that the node reads.
        bytes_max: usize,
    },
    /// There is no connection to the node. Nothing was sent.
    #[error("cannot connect to {addr}: {reason}; is a node listening there?")]
    NotConnected {
        /// The node.
        addr: SocketAddr,
        /// What connecting met.
        reason: String,
        /// The error beneath, if there was one.
        source: Option<SharedError>,
    },
    /// The connection broke after the request was handed to it and before the answer came.
    #[error("the connection to {addr} was lost before the answer came: {reason}")]
    ConnectionLost {
        /// The node.
        addr: SocketAddr,
        /// What the connection met.
        reason: String,
        /// Whether this was a write.
        write: bool,
        /// The error beneath, if there was one.
        source: Option<SharedError>,
    },
    /// The operation's own deadline passed while the client waited.
    #[error("no answer within {}", if *sent { "the operation's deadline" } else { "the operation's deadline, and the request was never sent" })]
    Deadline {
        /// Who was asked.
        addr: SocketAddr,
        /// How long the operation had in all.
        timeout: Duration,
        /// Whether the request left the client.
        sent: bool,
        /// Whether this was a write.
        write: bool,
    },
    /// The answer is not one that this client understands.
    #[error(
        "{addr} answered something this client does not understand: {problem}; do their versions differ?"
    )]
    Protocol {
        /// Who answered.
        addr: SocketAddr,
        /// What is wrong with the answer.
        problem: String,
        /// Whether this was a write.
        write: bool,
    },
    /// The client knows no node at all to ask.
    #[error("no node to ask: the topology is empty; give contact points that are up")]
    NoHosts,
}

/// An error shared by all the requests that one broken connection took with it.
pub type SharedError = Arc<dyn std::error::Error + Send + Sync + 'static>;

impl KvError {
    /// Whether this attempt may have changed what the store holds, now or later. False is a promise: the write is not
    /// applied and will not be. Reads never change anything.
    pub fn may_have_applied(&self) -> bool {
        match self {
            KvError::Unavailable { .. }
            | KvError::Invalid { .. }
            | KvError::Overloaded { .. }
            | KvError::TooMuchInFlight { .. }
            | KvError::TooLarge { .. }
            | KvError::NotConnected { .. }
            | KvError::NoHosts => false,
            KvError::Timeout { write, .. }
            | KvError::Failure { write, .. }
            | KvError::ConnectionLost { write, .. }
            | KvError::Protocol { write, .. } => *write,
            KvError::Deadline { sent, write, .. } => *sent && *write,
        }
    }

    /// One word for it, stable: for counting errors by kind.
    pub fn kind(&self) -> &'static str {
        match self {
            KvError::Unavailable { .. } => "unavailable",
            KvError::Timeout { .. } => "timeout",
            KvError::Failure { .. } => "failure",
            KvError::Invalid { .. } => "invalid",
            KvError::Overloaded { .. } => "overloaded",
            KvError::TooMuchInFlight { .. } => "too-much-in-flight",
            KvError::TooLarge { .. } => "too-large",
            KvError::NotConnected { .. } => "not-connected",
            KvError::ConnectionLost { .. } => "connection-lost",
            KvError::Deadline { .. } => "deadline",
            KvError::Protocol { .. } => "protocol",
            KvError::NoHosts => "no-hosts",
        }
    }
}

/// One attempt that failed, and at whose door.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// The coordinator that was asked; absent when there was none to ask.
    pub coordinator: Option<SocketAddr>,
    /// What came of it.
    pub error: KvError,
}

/// Why an operation failed: its last attempt, and the attempts before.
#[derive(Debug, Clone)]
pub struct OpError {
    /// The attempt after which the retry policy gave up.
    pub last: FailedAttempt,
    /// The attempts before it, oldest first. Their number is bounded by the retry policy.
    pub earlier: Vec<FailedAttempt>,
}

impl OpError {
    /// From the attempts, oldest first. None at all means that there was nobody to ask.
    pub(crate) fn of(mut attempts: Vec<FailedAttempt>) -> OpError {
        let nobody = FailedAttempt { coordinator: None, error: KvError::NoHosts };
        OpError { last: attempts.pop().unwrap_or(nobody), earlier: attempts }
    }

    /// The last attempt's error.
    pub fn error(&self) -> &KvError {
        &self.last.error
    }

    /// Whether *any* attempt may have changed what the store holds. False is a promise: nothing was applied and nothing
    /// will be.
    pub fn may_have_applied(&self) -> bool {
        self.last.error.may_have_applied()
            || self.earlier.iter().any(|attempt| attempt.error.may_have_applied())
    }

    /// The last attempt's [`KvError::kind`].
    pub fn kind(&self) -> &'static str {
        self.last.error.kind()
    }

    /// How often the operation was tried.
    pub fn attempts(&self) -> usize {
        self.earlier.len() + 1
    }
}

impl std::fmt::Display for OpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.last.error)?;
        // Errors about the connection name the node themselves.
        if let (
            Some(addr),
            KvError::Unavailable { .. }
            | KvError::Timeout { .. }
            | KvError::Failure { .. }
            | KvError::Overloaded { .. }
            | KvError::Deadline { .. },
        ) = (self.last.coordinator, &self.last.error)
        {
            write!(f, "; coordinator {addr}")?;
        }
        if !self.earlier.is_empty() {
            write!(f, "; {} attempts", self.attempts())?;
        }
        Ok(())
    }
}

impl std::error::Error for OpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.last.error)
    }
}

/// Why the client could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No contact point was given.
    #[error("no contact points: name at least one node, e.g. 127.0.0.1:9160")]
    NoContactPoints,
    /// No contact point answered.
    #[error("cannot connect to any contact point: {}; is a node listening there?", list(tried))]
    NoneAnswered {
        /// Each contact point and what it met, in the order they were tried.
        tried: Vec<(SocketAddr, AdminError)>,
    },
}

fn list(tried: &[(SocketAddr, AdminError)]) -> String {
    let mut out = String::new();
    for (addr, error) in tried {
        if !out.is_empty() {
            out.push_str("; ");
        }
        out.push_str(&match error {
            AdminError::NotConnected { reason, .. } => format!("{addr}: {reason}"),
            other => format!("{addr}: {other}"),
        });
    }
    out
}

/// Why an operator's call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// There is no connection to the node.
    #[error("cannot connect to {addr}: {reason}; is a node listening there?")]
    NotConnected {
        /// The node.
        addr: SocketAddr,
        /// What connecting met.
        reason: String,
    },
    /// The connection broke before the answer came. The node may still do what it was asked.
    #[error(
        "the connection to {addr} was lost before the answer came: {reason}; it may still do what it was asked"
    )]
    ConnectionLost {
        /// The node.
        addr: SocketAddr,
        /// What the connection met.
        reason: String,
    },
    /// The node understood and refused.
    #[error("{addr} refused: {message}")]
    Refused {
        /// The node.
        addr: SocketAddr,
        /// The gRPC code, for programs.
        code: tonic::Code,
        /// The node's words.
        message: String,
    },
    /// The node did not answer in time. It may still do what it was asked.
    #[error("{addr} did not answer within {timeout:?}; it may still do what it was asked")]
    Timeout {
        /// The node.
        addr: SocketAddr,
        /// How long the client waited.
        timeout: Duration,
    },
    /// The answer is not one that this client understands.
    #[error(
        "{addr} answered something this client does not understand: {problem}; do their versions differ?"
    )]
    Protocol {
        /// Who answered.
        addr: SocketAddr,
        /// What is wrong with the answer.
        problem: String,
    },
}

/// The innermost cause in words: transports wrap what happened ("connection refused") in layers that only say where.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr() -> SocketAddr {
        "127.0.0.1:9160".parse().unwrap()
    }

    fn timeout(write: bool) -> KvError {
        KvError::Timeout {
            level: Level::Quorum,
            received: 1,
            block_for: 2,
            data_present: true,
            write,
            message: String::new(),
        }
    }

    fn unavailable() -> KvError {
        KvError::Unavailable {
            level: Level::Quorum,
            required: 2,
            alive: 1,
            message: "one rack is cut off".into(),
        }
    }

    #[test]
    fn each_kind_says_whether_the_write_may_have_been_applied() {
        let lost = |write| KvError::ConnectionLost {
            addr: addr(),
            reason: "reset".into(),
            write,
            source: None,
        };
        let deadline = |sent, write| KvError::Deadline {
            addr: addr(),
            timeout: Duration::from_secs(1),
            sent,
            write,
        };
        let table = [
            (unavailable(), false),
            (timeout(true), true),
            (timeout(false), false),
            (KvError::Invalid { message: String::new() }, false),
            (KvError::Overloaded { message: String::new() }, false),
            (KvError::TooMuchInFlight { addr: addr(), in_flight_max: 1 }, false),
            (KvError::TooLarge { addr: addr(), bytes: 2, bytes_max: 1 }, false),
            (KvError::NotConnected { addr: addr(), reason: String::new(), source: None }, false),
            (lost(true), true),
            (lost(false), false),
            (deadline(true, true), true),
            (deadline(false, true), false),
            (deadline(true, false), false),
            (KvError::NoHosts, false),
        ];
        for (error, expected) in table {
            assert_eq!(error.may_have_applied(), expected, "{error}");
        }
    }

    #[test]
    fn an_earlier_attempt_that_may_have_applied_outlives_a_later_one_that_did_not() {
        let attempt = |error| FailedAttempt { coordinator: Some(addr()), error };
        let err = OpError { last: attempt(unavailable()), earlier: vec![attempt(timeout(true))] };
        assert!(!err.error().may_have_applied());
        assert!(err.may_have_applied());
        let err = OpError { last: attempt(unavailable()), earlier: vec![attempt(unavailable())] };
        assert!(!err.may_have_applied());
    }

    #[test]
    fn an_error_says_what_where_and_how_often() {
        let attempt = |error| FailedAttempt { coordinator: Some(addr()), error };
        let err = OpError { last: attempt(unavailable()), earlier: vec![attempt(unavailable())] };
        assert_eq!(
            err.to_string(),
            "unavailable: QUORUM needs 2 replicas and 1 are alive (one rack is cut off); \
             coordinator 127.0.0.1:9160; 2 attempts"
        );
        assert!(std::error::Error::source(&err).is_some());
    }
}
