//! The lab tried whole: its stories, its judges and its command line.
//!
//! One program, so that the long runs share out the processor's cores: Cargo runs one test program after the other, and most of
//! these have a run or two that others would wait for.

mod az_partition;
mod bench_hints;
mod cas;
mod cli;
mod common;
mod hot_partition;
mod power_loss;
mod replay;
