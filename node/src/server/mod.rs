//! The gRPC front end: what clients and operators say, translated for the coordinator and back. No decision is made here.

mod admin;
mod dead_letters;
mod decommission;
mod filter;
mod hints;
mod integrity;
mod repair;
mod replication;
mod roles;
mod schema;
mod kv;
mod stats;

pub(crate) use admin::{AdminParts, AdminService};
pub(crate) use kv::KvService;

use crate::coordinator::{CasError, RequestError};
use helenus_proto::{ids, level, v1};

/// An error with Cassandra's fields, as it travels.
fn error_to_wire(error: RequestError) -> v1::Error {
    use v1::error::Kind;
    let message = error.to_string();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let kind = match error {
        RequestError::Unavailable { level, required, alive } => {
            Kind::Unavailable(v1::Unavailable {
                level: level::to_wire(level).into(),
                required: count(required),
                alive: count(alive),
            })
        }
        RequestError::Timeout { level, received, block_for, data_present, write } => {
            Kind::Timeout(v1::Timeout {
                level: level::to_wire(level).into(),
                received: count(received),
                block_for: count(block_for),
                data_present,
                write,
            })
        }
        RequestError::Failure { level, received, block_for, data_present, write, failures } => {
            let failures = failures
                .into_iter()
                .map(|f| v1::ReplicaFailure { node: ids::node_to_wire(f.node), reason: f.reason });
            Kind::Failure(v1::Failure {
                level: level::to_wire(level).into(),
                received: count(received),
                block_for: count(block_for),
                data_present,
                write,
                failures: failures.collect(),
            })
        }
        RequestError::Cas(error) => {
            return v1::Error { message, ..error_to_wire(at_quorum(error)) };
        }
        RequestError::Invalid(_) => Kind::Invalid(v1::Invalid {}),
        RequestError::Overloaded(_) => Kind::Overloaded(v1::Overloaded {}),
    };
    v1::Error { message, kind: Some(kind) }
}

/// Nothing that gRPC offers is conditional yet: told at the level that has the same quorum.
fn at_quorum(error: CasError) -> RequestError {
    let data_present = false;
    match error {
        CasError::Unavailable { serial, required, alive } => {
            RequestError::Unavailable { level: serial.quorum(), required, alive }
        }
        CasError::Timeout { serial, received, block_for, write, .. } => {
            let level = serial.quorum();
            RequestError::Timeout { level, received, block_for, data_present, write }
        }
        CasError::Unknown { serial, received, block_for } => {
            let level = serial.quorum();
            RequestError::Timeout { level, received, block_for, data_present, write: true }
        }
        CasError::Failure { serial, received, block_for, failures, write } => {
            let level = serial.quorum();
            RequestError::Failure { level, received, block_for, data_present, write, failures }
        }
    }
}
