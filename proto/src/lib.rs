//! Wire <-> domain: the only crate that knows both.
//!
//! There are two wires. [`cql`] is Cassandra's native protocol, whose bytes are read and written here by hand. The other
//! one is ours: [`v1`] is what `protox` and `tonic-prost-build` generate from `proto/helenus/v1/*.proto`, and the other
//! modules convert, and check: whatever comes from a socket is untrusted until it has become a domain value.

/// The generated messages and services.
#[expect(missing_docs, reason = "generated; the .proto files carry the comments")]
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::too_many_lines,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("helenus.v1");
}

mod error;
mod secret;
// Domain values, one file a kind.
pub mod ids;
pub mod level;
pub mod limit;
pub mod read;
pub mod schema;
pub mod gossip;
// CQL's own wire, which needs no .proto file.
pub mod cql;

pub use error::WireError;
