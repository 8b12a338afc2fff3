//! When to try again, as a pure value: no clock, no counters, no hidden state. The same attempt, error and operation
//! always get the same answer, so a table tests all of it.
//!
//! Retrying is safe only if a second application changes nothing. Reads are; so are writes whose timestamp was fixed
//! before the first attempt, because the merge of a write with itself is that write. A write that lets each coordinator
//! choose the timestamp is not: a retry could land *after* somebody else's newer write and hide it.

use crate::error::KvError;

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Ask the next node of the plan.
    RetryNextHost,
    /// Ask the same node again.
    RetrySameHost,
    /// Hand the error to the caller.
    GiveUp,
}

/// Which errors are worth another attempt, and how many attempts an operation gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one counted. One means never to retry.
    pub attempts_max: u32,
    /// Ask another coordinator once when one says Unavailable: it may see other replicas alive (at the edge of a
    /// partition it often does).
    pub on_unavailable: bool,
    /// Ask again after a timeout, if that is safe.
    pub on_timeout: bool,
}

impl RetryPolicy {
    /// Every error goes to the caller at once. Experiments use it: a refusal that is retried away is not seen.
    pub const NEVER: RetryPolicy =
        RetryPolicy { attempts_max: 1, on_unavailable: false, on_timeout: false };

    /// The default: up to three attempts. Another node when one cannot be reached or is overloaded; one other node when
    /// one says Unavailable; no second try after a replica timeout, except a read that only missed its data reply
    /// (as Cassandra's drivers do: the digests came in time, so the replicas are there).
    pub const STANDARD: RetryPolicy =
        RetryPolicy { attempts_max: 3, on_unavailable: true, on_timeout: false };

    /// As [`RetryPolicy::STANDARD`], and timeouts are retried too when a second application changes nothing.
    pub const PERSISTENT: RetryPolicy =
        RetryPolicy { attempts_max: 5, on_unavailable: true, on_timeout: true };

    /// What to do after `attempt` (1 is the first) failed with `error`. `idempotent`: applying the operation twice is
    /// the same as applying it once.
    pub fn decide(&self, attempt: u32, error: &KvError, idempotent: bool) -> Decision {
        if attempt >= self.attempts_max {
            return Decision::GiveUp;
        }
        // An attempt that may have been applied must not be followed by one that is applied differently.
        let safe = idempotent || !error.may_have_applied();
        match error {
            KvError::NotConnected { .. } | KvError::Overloaded { .. } => Decision::RetryNextHost,
            KvError::ConnectionLost { .. } if safe => Decision::RetryNextHost,
            KvError::Unavailable { .. } if self.on_unavailable && attempt == 1 => {
                Decision::RetryNextHost
            }
            // Enough replicas answered and only the one that was asked for the data did not.
            KvError::Timeout { write: false, received, block_for, data_present: false, .. }
                if received >= block_for && attempt == 1 =>
            {
                Decision::RetrySameHost
            }
            KvError::Timeout { .. } if self.on_timeout && safe => Decision::RetryNextHost,
            // The caller's own queue is full, its time is up, or the next node would refuse for the same reason.
            _ => Decision::GiveUp,
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::STANDARD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_core::Level;
    use std::time::Duration;

    fn timeout(write: bool, received: u32, data_present: bool) -> KvError {
        KvError::Timeout {
            level: Level::Quorum,
            received,
            block_for: 2,
            data_present,
            write,
            message: String::new(),
        }
    }

    fn errors() -> Vec<(&'static str, KvError)> {
        let addr = "127.0.0.1:9160".parse().unwrap();
        let (level, message) = (Level::Quorum, String::new());
        vec![
            (
                "unavailable",
                KvError::Unavailable { level, required: 2, alive: 1, message: message.clone() },
            ),
            ("write timeout", timeout(true, 1, false)),
            ("read timeout", timeout(false, 1, false)),
            ("read timeout, digests only", timeout(false, 2, false)),
            ("read timeout, all came", timeout(false, 2, true)),
            (
                "failure",
                KvError::Failure {
                    level,
                    received: 1,
                    block_for: 2,
                    data_present: true,
                    write: true,
                    failures: vec![],
                    message: message.clone(),
                },
            ),
            ("invalid", KvError::Invalid { message: message.clone() }),
            ("overloaded", KvError::Overloaded { message: message.clone() }),
            ("too much in flight", KvError::TooMuchInFlight { addr, in_flight_max: 1 }),
            ("too large", KvError::TooLarge { addr, bytes: 2, bytes_max: 1 }),
            (
                "not connected",
                KvError::NotConnected { addr, reason: message.clone(), source: None },
            ),
            (
                "lost write",
                KvError::ConnectionLost {
                    addr,
                    reason: message.clone(),
                    write: true,
                    source: None,
                },
            ),
            (
                "deadline",
                KvError::Deadline {
                    addr,
                    timeout: Duration::from_secs(1),
                    sent: true,
                    write: false,
                },
            ),
            ("protocol", KvError::Protocol { addr, problem: message, write: false }),
            ("no hosts", KvError::NoHosts),
        ]
    }

    #[test]
    fn the_whole_table() {
        use Decision::{GiveUp as No, RetryNextHost as Next, RetrySameHost as Same};
        // Columns: standard idempotent, standard not idempotent, persistent idempotent, persistent not idempotent,
        // all after the first attempt; then standard and persistent idempotent after the second.
        let table = [
            ("unavailable", [Next, Next, Next, Next, No, No]),
            ("write timeout", [No, No, Next, No, No, Next]),
            ("read timeout", [No, No, Next, Next, No, Next]),
            ("read timeout, digests only", [Same, Same, Same, Same, No, Next]),
            ("read timeout, all came", [No, No, Next, Next, No, Next]),
            ("failure", [No; 6]),
            ("invalid", [No; 6]),
            ("overloaded", [Next; 6]),
            ("too much in flight", [No; 6]),
            ("too large", [No; 6]),
            ("not connected", [Next; 6]),
            ("lost write", [Next, No, Next, No, Next, Next]),
            ("deadline", [No; 6]),
            ("protocol", [No; 6]),
            ("no hosts", [No; 6]),
        ];
        let (standard, persistent) = (RetryPolicy::STANDARD, RetryPolicy::PERSISTENT);
        for ((name, error), (row, expected)) in errors().into_iter().zip(table) {
            assert_eq!(name, row);
            let got = [
                standard.decide(1, &error, true),
                standard.decide(1, &error, false),
                persistent.decide(1, &error, true),
                persistent.decide(1, &error, false),
                standard.decide(2, &error, true),
                persistent.decide(2, &error, true),
            ];
            assert_eq!(got, expected, "{name}");
        }
    }

    #[test]
    fn attempts_end() {
        for (name, error) in errors() {
            for policy in [RetryPolicy::NEVER, RetryPolicy::STANDARD, RetryPolicy::PERSISTENT] {
                let decision = policy.decide(policy.attempts_max, &error, true);
                assert_eq!(decision, Decision::GiveUp, "{name}");
            }
        }
    }

    #[test]
    fn never_means_never() {
        for (name, error) in errors() {
            assert_eq!(RetryPolicy::NEVER.decide(1, &error, true), Decision::GiveUp, "{name}");
        }
    }
}
