//! Whole-system tests: the built binaries as a user runs them, on real sockets and real files.
//!
//! This crate never imports the server. It builds `helenus` and `helenusctl` if they are not fresh ([`binary`]), starts
//! them as processes ([`Process`]), strings nodes together ([`Cluster`]) and puts load on them while keeping a ledger of
//! what was acknowledged ([`load`]), or speaks CQL to them ([`cql`]).
//!
//! Invariants:
//! - A test waits by asking until the answer is what it should be, never for a length of time; [`PATIENCE`] only decides
//!   when to give up.
//! - Only processes that a test started are ever ended, and all of those are, also when the test fails.
//! - A node that panicked fails the test that ran it, whatever else it checked.

mod binaries;
mod process;
mod cluster;
pub mod load;
pub mod cql;

pub use binaries::binary;
pub use cluster::{Cluster, KEYSPACE, NodeSpec, TABLE, free_port, free_ports, local_keys};
pub use process::{Finished, Process, run, run_fed};

use std::time::Duration;

/// When a test gives up. Far beyond what anything takes, because the machine may be busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two times of asking, so that asking does not keep the machine from answering.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Asks until there is an answer; gives up after [`PATIENCE`], saying what it waited for and how things stood.
pub async fn until<T>(what: impl Fn() -> String, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer,
        Err(_) => panic!("after {PATIENCE:?} still not: {}", what()),
    }
}
