//! Answers become outcomes or errors here. What a node says is untrusted until it has become one of these values.

use crate::error::{KvError, ReplicaFailure};
use crate::options::{Answer, Entry, Got, PagePosition, ScanPage, Versioned, Written};
use helenus_core::{Level, TimestampMicros};
use helenus_proto::v1::kv_response::Outcome;
use helenus_proto::{ids, level, v1};
use std::net::SocketAddr;

/// What the answer is read against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) addr: SocketAddr,
    pub(crate) level: Level,
    pub(crate) write: bool,
    pub(crate) attempt: u32,
}

impl Asked {
    fn protocol(&self, problem: impl Into<String>) -> KvError {
        KvError::Protocol { addr: self.addr, problem: problem.into(), write: self.write }
    }

    /// The outcome, and how it was answered; the node's errors become ours.
    pub(crate) fn read(&self, response: v1::KvResponse) -> Result<(Outcome, Answer), KvError> {
        let responders = response
            .responders
            .iter()
            .map(|node| ids::node_from_wire("responders", node))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.protocol(error.to_string()))?;
        let answer = Answer {
            coordinator: self.addr,
            responders,
            warnings: response.warnings,
            attempts: self.attempt,
        };
        match response.outcome {
            Some(Outcome::Error(error)) => Err(self.error(error)),
            Some(outcome) => Ok((outcome, answer)),
            None => Err(self.protocol("the answer has no outcome")),
        }
    }

    fn error(&self, error: v1::Error) -> KvError {
        use v1::error::Kind;
        let message = error.message;
        let level = |wire: i32| level::from_wire(wire).unwrap_or(self.level);
        match error.kind {
            Some(Kind::Unavailable(e)) => KvError::Unavailable {
                level: level(e.level),
                required: e.required,
                alive: e.alive,
                message,
            },
            // Whether it was a write is for us to know: the answer cannot make a write harmless.
            Some(Kind::Timeout(e)) => KvError::Timeout {
                level: level(e.level),
                received: e.received,
                block_for: e.block_for,
                data_present: e.data_present,
                write: self.write,
                message,
            },
            Some(Kind::Failure(e)) => KvError::Failure {
                level: level(e.level),
                received: e.received,
                block_for: e.block_for,
                data_present: e.data_present,
                write: self.write,
                failures: e
                    .failures
                    .into_iter()
                    .map(|failure| ReplicaFailure {
                        node: ids::node_from_wire("failures.node", &failure.node).ok(),
                        reason: failure.reason,
                    })
                    .collect(),
                message,
            },
            Some(Kind::Invalid(v1::Invalid {})) => KvError::Invalid { message },
            Some(Kind::Overloaded(v1::Overloaded {})) => KvError::Overloaded { message },
            None => self.protocol(format!("an error of no known kind: {message}")),
        }
    }

    pub(crate) fn written(&self, response: v1::KvResponse) -> Result<Written, KvError> {
        match self.read(response)? {
            (Outcome::Written(written), answer) => {
                Ok(Written { timestamp: TimestampMicros(written.timestamp_us), answer })
            }
            _ => Err(self.protocol("a write was answered with something else")),
        }
    }

    pub(crate) fn got(&self, response: v1::KvResponse) -> Result<Got, KvError> {
        match self.read(response)? {
            (Outcome::Value(v1::Value { value, timestamp_us }), answer) => {
                let timestamp = TimestampMicros(timestamp_us);
                let deleted = (value.is_none() && timestamp_us != 0).then_some(timestamp);
                let value = value.map(|value| Versioned { value, timestamp });
                Ok(Got { value, deleted, answer })
            }
            _ => Err(self.protocol("a read was answered with something else")),
        }
    }

    pub(crate) fn page(&self, response: v1::KvResponse) -> Result<ScanPage, KvError> {
        match self.read(response)? {
            (Outcome::Page(page), answer) => {
                let entries = page.entries.into_iter().map(|entry| {
                    let timestamp = TimestampMicros(entry.timestamp_us);
                    Entry { key: entry.key, value: Versioned { value: entry.value, timestamp } }
                });
                let next = (!page.next_page.is_empty()).then_some(PagePosition(page.next_page));
                Ok(ScanPage { entries: entries.collect(), next, answer })
            }
            _ => Err(self.protocol("a scan was answered with something else")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn asked(write: bool) -> Asked {
        let addr = "127.0.0.1:9160".parse().unwrap();
        Asked { addr, level: Level::Quorum, write, attempt: 2 }
    }

    fn answer(outcome: Outcome) -> v1::KvResponse {
        v1::KvResponse { outcome: Some(outcome), ..Default::default() }
    }

    #[test]
    fn a_value_a_tombstone_and_nothing_are_three_things() {
        let got = |value: Option<&'static [u8]>, timestamp_us| {
            let value = value.map(Bytes::from_static);
            asked(false).got(answer(Outcome::Value(v1::Value { value, timestamp_us }))).unwrap()
        };
        let value = Versioned { value: Bytes::new(), timestamp: TimestampMicros(5) };
        assert_eq!(got(Some(b""), 5).value, Some(value));
        assert_eq!(got(None, 6).deleted, Some(TimestampMicros(6)));
        assert_eq!((got(None, 0).value, got(None, 0).deleted), (None, None));
        assert_eq!(got(None, 0).answer.attempts, 2);
    }

    #[test]
    fn a_node_cannot_call_a_write_harmless() {
        let timeout = v1::Timeout { write: false, ..Default::default() };
        let kind = Some(v1::error::Kind::Timeout(timeout));
        let error = v1::Error { message: "late".into(), kind };
        let error = asked(true).written(answer(Outcome::Error(error))).unwrap_err();
        assert!(error.may_have_applied());
    }

    #[test]
    fn answers_that_make_no_sense_are_errors() {
        let wrong = answer(Outcome::Page(v1::Page::default()));
        assert_eq!(asked(true).written(wrong).unwrap_err().kind(), "protocol");
        let none = asked(true).written(v1::KvResponse::default()).unwrap_err();
        assert!(none.may_have_applied(), "it was sent");
        let mut bad = answer(Outcome::Written(v1::Written { timestamp_us: 1 }));
        bad.responders = vec![Bytes::from_static(b"short")];
        let bad = asked(true).written(bad).unwrap_err().to_string();
        assert!(bad.contains("responders"), "{bad}");
    }
}
