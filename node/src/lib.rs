//! One Helenus server.
//!
//! `run(parts, shutdown)` is the whole of it: the same code in production, in `helenus dev` and under simulation; only
//! the [`seams`] differ. Storage, coordinator, peers, hints and the front ends live here; what they *mean* is decided
//! in `helenus-core`.

pub mod run;
mod serve;
pub mod config;
pub mod seams;
// A request, top to bottom.
pub mod server;
mod cql;
mod auth;
pub mod coordinator;
pub mod peers;
mod inbound;
mod intake;
pub mod replica;
mod paxos;
pub mod storage;
// What is owed.
pub mod hints;
mod handoff;
mod decommission;
// What a coordinator may leave half done.
mod batchlog;
mod own_tables;
// What was missed all the same.
mod repair;
// Who is there, and what is defined.
pub mod membership;
pub mod schema;
// Housekeeping.
pub mod metrics;
mod grpc;
mod tls;
pub mod tasks;
#[cfg(test)]
mod seeds;
// A node, or several, on this machine.
pub mod launch;
pub mod dev;

pub use run::{Parts, Ready, StartError, run};
