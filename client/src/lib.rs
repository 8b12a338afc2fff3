//! The client of Helenus: it knows the ring, sends each operation to a replica, and says exactly what it knows when
//! something goes wrong.
//!
//! Read in this order: how to set it up ([`Builder`]), what to ask for ([`Table`], [`Options`]), what can go wrong
//! ([`KvError`]), when it tries again ([`RetryPolicy`]); then, inside, whom it asks (`topology`), the loop that tries
//! (`client`) and the one stream per node that everything shares (`link`). [`cql`] stands apart: one connection in the other
//! protocol, for `helenusctl bench`; what follows is not said of it.
//!
//! Invariants:
//! - Every attempt of a write carries the same timestamp, so applying it twice is applying it once.
//! - [`OpError::may_have_applied`] is false only if no node was handed a request that it could have applied.
//! - Everything is bounded: requests in flight per node, attempts per operation, time per operation.
//!
//! **Absent on purpose:** any knowledge of the server's insides (`helenus-node` is not a dependency), a clock or chance
//! that cannot be injected, and tasks that outlive the client. With [`Builder::connector`], [`Builder::wall_clock`] and
//! [`Builder::seed`] the same code runs in the simulation.

// What a caller says and hears.
mod builder;
mod table;
mod options;
mod error;
mod retry;
mod admin;
mod stats;
// The other protocol.
pub mod cql;
// How it is done.
mod client;
mod topology;
mod wire;
mod timestamps;
// How it reaches nodes.
mod link;
mod channel;
mod connect;
mod tls;
mod task;

pub use admin::{Admin, NewReplication, TableFilter};
pub use builder::Builder;
pub use client::Client;
pub use connect::{BoxFuture, BoxIo, Connect, Io, Tcp};
pub use error::{
    AdminError, ConnectError, FailedAttempt, KvError, OpError, ReplicaFailure, SharedError,
};
pub use options::{
    Answer, Entry, Got, Options, PagePosition, Routing, Scan, ScanPage, TimestampSource, Versioned,
    Written,
};
pub use retry::{Decision, RetryPolicy};
pub use stats::ClientStats;
pub use table::Table;
pub use timestamps::{WallClock, system_wall_clock};
pub use tls::{Tls, TlsError, TlsOptions};
pub use topology::{Host, Topology};

pub use helenus_core::{Level, NodeId, TimestampMicros};
/// The wire's own messages, which [`Admin`]'s calls answer with.
pub use helenus_proto::v1;
