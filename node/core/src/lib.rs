//! What the store *means*, and nothing about how it runs.
//!
//! Tokens, the ring, placement, consistency levels, tallies, versions, hints, gossip and the choice of what to
//! compact are decided here by plain functions and step machines over plain values. Time is an argument, chance is
//! an argument, and every answer is a value that the shell (`helenus-node`) carries out.
//!
//! **Absent on purpose:** tokio, clocks, random numbers, files, sockets, logs. Cargo enforces it: this crate cannot
//! name them.
//!
//! Read in this order: a key becomes a token (`token`), a token finds its replicas (`ring`, `placement`; `pending` while
//! somebody leaves), a level says how many must answer (`level`), a tally counts them (`tally`), conditional writes are
//! agreed on (`paxos`), versions merge (`data`, `merge`; `counter` for sums), answers are reconciled (`reconcile`; `read`
//! for parts of partitions), whole ranges are compared (`merkle`), what a replica missed is owed to it (`hint`), and a
//! batch is written whole or not at all (`batchlog`).
//! The rest is how nodes know each other (`gossip`, `phi`, `negotiate`), how storage stays small (`compaction`), and what
//! a statement of CQL says (`cql`).

pub mod types;
// Where a key lives.
pub mod token;
pub mod ring;
pub mod placement;
pub mod pending;
// How many must answer.
pub mod level;
pub mod tally;
// How they agree on one write after the other.
pub mod paxos;
// What they hold.
pub mod schema;
pub mod data;
pub mod merge;
pub mod counter;
pub mod varint;
pub mod codec;
pub mod reconcile;
pub mod read;
// How whole ranges are compared.
pub mod merkle;
// What they are owed, and how fast it is sent.
pub mod hint;
pub mod throttle;
// How several partitions are written whole or not at all.
pub mod batchlog;
// How nodes know each other.
pub mod phi;
pub mod gossip;
pub mod negotiate;
// How storage stays small.
pub mod compaction;
// What a statement says.
pub mod cql;

pub use data::{
    Bound, Cell, ClusteringKey, ColumnId, Complex, Content, Deletion, Expiry, Key, Liveness,
    Mutation, Partition, RangeTombstone, Row,
};
pub use level::Level;
pub use schema::{
    Columns, HintRefused, KeyspaceDef, ReadRepair, Replication, Schema, SchemaVersion, TableDef,
    TableId, TableOptions, TypeDef,
};
pub use types::{Dc, Endpoint, GcSeconds, Generation, NodeId, Rack, TimestampMicros, Token};
