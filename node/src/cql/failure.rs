//! Our errors in Cassandra's words, with the fields that drivers decide by.

use super::Front;
use crate::coordinator::{CasError, ReplicaFailure, RequestError};
use crate::schema::ChangeError;
use helenus_core::cql::SyntaxError;
use helenus_core::paxos::SerialLevel;
use helenus_core::{Level, TableDef};
use helenus_proto::cql::{
    Consistency, ErrorKind, ErrorResponse, FailureReason, Failures, WriteType,
};
use std::net::{IpAddr, Ipv4Addr};

/// Boxed: errors are rare, and large.
pub(super) type Refusal = Box<ErrorResponse>;

/// The statement is CQL, but cannot be done.
pub(super) fn invalid(why: impl Into<String>) -> Refusal {
    Box::new(ErrorResponse::new(ErrorKind::Invalid, why))
}

/// What is in the table is for nobody's eyes.
pub(super) fn unauthorized(table: &TableDef) -> Refusal {
    Box::new(ErrorResponse::new(
        ErrorKind::Unauthorized,
        format!(
            "table {}.{} holds hashes of passwords, and cannot be read with CQL: `helenusctl role list` shows the roles",
            table.keyspace, table.name
        ),
    ))
}

/// Not yet, or not ever.
pub(super) fn unsupported(what: &str) -> Refusal {
    invalid(format!("Helenus does not support {what}"))
}

pub(super) fn syntax(error: &SyntaxError) -> Refusal {
    Box::new(ErrorResponse::new(ErrorKind::Syntax, error.to_string()))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What failed.
enum Of {
    Write(WriteType),
    Read { data_present: bool },
}

impl Front {
    /// A request's error.
    pub(super) fn failure(&self, error: &RequestError) -> ErrorResponse {
        self.failure_of(error, WriteType::Simple)
    }

    /// A request's error; if it was a write, one of this type.
    pub(super) fn failure_of(&self, error: &RequestError, write_type: WriteType) -> ErrorResponse {
        let at = |level: &Level| Consistency::Ordinary(*level);
        let kind = match error {
            RequestError::Unavailable { level, required, alive } => ErrorKind::Unavailable {
                consistency: at(level),
                required: count(*required),
                alive: count(*alive),
            },
            RequestError::Timeout { level, received, block_for, data_present, write } => {
                let (consistency, received) = (at(level), count(*received));
                let block_for = count(*block_for);
                if *write {
                    let contentions = 0;
                    ErrorKind::WriteTimeout {
                        consistency,
                        received,
                        block_for,
                        write_type,
                        contentions,
                    }
                } else {
                    let data_present = *data_present;
                    ErrorKind::ReadTimeout { consistency, received, block_for, data_present }
                }
            }
            RequestError::Failure { level, received, block_for, data_present, write, failures } => {
                let of = if *write {
                    Of::Write(write_type)
                } else {
                    Of::Read { data_present: *data_present }
                };
                self.refused_by(failures, at(level), (*received, *block_for), of)
            }
            RequestError::Cas(error) => self.cas_failure(error),
            RequestError::Invalid(_) => ErrorKind::Invalid,
            RequestError::Overloaded(_) => ErrorKind::Overloaded,
        };
        ErrorResponse::new(kind, error.to_string())
    }

    /// What was not decided; of a write, it is one of type CAS.
    fn cas_failure(&self, error: &CasError) -> ErrorKind {
        let at = |serial: &SerialLevel| Consistency::Serial(*serial);
        let write_type = WriteType::Cas;
        match error {
            CasError::Unavailable { serial, required, alive } => ErrorKind::Unavailable {
                consistency: at(serial),
                required: count(*required),
                alive: count(*alive),
            },
            CasError::Timeout { serial, received, block_for, contentions, write: true } => {
                ErrorKind::WriteTimeout {
                    consistency: at(serial),
                    received: count(*received),
                    block_for: count(*block_for),
                    write_type,
                    contentions: u16::try_from(*contentions).unwrap_or(u16::MAX),
                }
            }
            CasError::Timeout { serial, received, block_for, write: false, .. } => {
                ErrorKind::ReadTimeout {
                    consistency: at(serial),
                    received: count(*received),
                    block_for: count(*block_for),
                    data_present: false,
                }
            }
            CasError::Unknown { serial, received, block_for } => ErrorKind::CasWriteUnknown {
                consistency: at(serial),
                received: count(*received),
                block_for: count(*block_for),
            },
            CasError::Failure { serial, received, block_for, failures, write } => {
                let of =
                    if *write { Of::Write(write_type) } else { Of::Read { data_present: false } };
                self.refused_by(failures, at(serial), (*received, *block_for), of)
            }
        }
    }

    /// Replicas that refused: so many answered, of so many that had to.
    fn refused_by(
        &self,
        failures: &[ReplicaFailure],
        consistency: Consistency,
        (received, block_for): (usize, usize),
        of: Of,
    ) -> ErrorKind {
        let (received, block_for) = (count(received), count(block_for));
        let failures = self.failures(failures);
        match of {
            Of::Write(write_type) => {
                ErrorKind::WriteFailure { consistency, received, block_for, failures, write_type }
            }
            Of::Read { data_present } => {
                ErrorKind::ReadFailure { consistency, received, block_for, failures, data_present }
            }
        }
    }

    fn failures(&self, failures: &[ReplicaFailure]) -> Failures {
        let nodes = self.client_nodes();
        let reasons = failures.iter().map(|failure| {
            let address = nodes.get(&failure.node).map(|(address, _)| address.ip());
            let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            (address, reason(&failure.reason))
        });
        Failures::new(reasons.collect())
    }
}

fn reason(word: &str) -> FailureReason {
    match word {
        "READ_TOO_MANY_TOMBSTONES" => FailureReason::READ_TOO_MANY_TOMBSTONES,
        "TIMEOUT" => FailureReason::TIMEOUT,
        "INCOMPATIBLE_SCHEMA" => FailureReason::INCOMPATIBLE_SCHEMA,
        "READ_SIZE" => FailureReason::READ_SIZE,
        "NODE_DOWN" => FailureReason::NODE_DOWN,
        _ => FailureReason::UNKNOWN,
    }
}

/// A change of the schema that was not made. `named`: the keyspace, and the table if it is about one.
pub(super) fn not_changed(error: &ChangeError, named: (&str, &str)) -> Refusal {
    let kind = match error {
        // Cassandra has no code for it: the one there is names tables.
        ChangeError::Exists { what: "type", .. } => ErrorKind::Invalid,
        ChangeError::Exists { .. } => {
            ErrorKind::AlreadyExists { keyspace: named.0.to_owned(), table: named.1.to_owned() }
        }
        ChangeError::Schema(_) => ErrorKind::Server,
        // So that drivers ask another node.
        ChangeError::Left => ErrorKind::Overloaded,
        // Cassandra wraps Unavailable and a timeout of TRUNCATE in an error of its own.
        ChangeError::NotAllUp { .. } | ChangeError::NotConfirmed { .. } => ErrorKind::Truncate,
        ChangeError::Define(error) if error.is_config() => ErrorKind::Config,
        ChangeError::BadName(_)
        | ChangeError::Columns(_)
        | ChangeError::Define(_)
        | ChangeError::Types(_)
        | ChangeError::TypeInUse { .. }
        | ChangeError::TypeInKeys { .. }
        | ChangeError::Missing { .. }
        | ChangeError::Overruled { .. }
        | ChangeError::TruncatedTooOften { .. } => ErrorKind::Invalid,
    };
    Box::new(ErrorResponse::new(kind, error.to_string()))
}
