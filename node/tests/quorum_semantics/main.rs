//! What the levels promise, and what they do not: one test a claim, each a schedule that the message filter forces.
//!
//! The claims are the lessons' (L00 to L20): a QUORUM read never misses an acknowledged QUORUM write; whoever takes one
//! premise away (a smaller level, no read repair, a hint taken for a write) sees the anomaly that the books promise.
//!
//! Everything is deterministic: one thread, pipes for a network, simulated disks, and a clock that only moves when nobody
//! has anything to do.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

mod batches;
mod clients;
mod cluster;
mod cql;
mod debts;
mod leaving;
mod net;
mod overlap;
mod refusals;
mod repair;
mod room;
mod scans;
mod tables;
