//! The lab: scenarios are run against real nodes in a simulated world, and what was expected is checked.
//!
//! Read in this order: what a scenario says (`scenario`), the world it happens in (`world`), who acts in it
//! (`actors`), what is noted as it happens (`ledger`), who watches (`oracle`), and what is told at the end (`report`).
//! `lab` puts them together: one run. `bench` sweeps many and
//! compares them with arithmetic. `cas` is an experiment of its own in the same world: conditional writes, judged for
//! linearizability.

pub mod actors;
pub mod bench;
pub mod cas;
pub mod keys;
pub mod lab;
pub mod ledger;
pub mod oracle;
pub mod report;
pub mod scenario;
pub mod world;
