//! One point on real processes: three `helenus` nodes on loopback, one of them killed and started again, in real time.
//!
//! What is predicted and what is told is that of a simulated point; so are the writes (QUORUM, through the nodes that stay),
//! the reads (ONE, through all) and the order of things. The outage happens twice on the same cluster: first it is healed by
//! replay and then from the ledgers, the second time by a full repair while replay is paused.
//!
//! What is different: a kill is noticed at once, the disk and the CPU are this machine's, and no two runs are alike.

mod cluster;
mod load;
mod outage;

use super::story::Story;
use super::sweep::Point;
use super::{Bench, Told, figures};
use cluster::Cluster;
use std::time::Duration;

/// Longer outages are for the simulator.
const OUTAGE_MAX: Duration = Duration::from_secs(600);

/// Measures one point. `tell` gets a line for people now and then. The error is for people.
pub(super) fn run(point: &Point, seed: u64, tell: &mut dyn FnMut(&str)) -> Result<Bench, String> {
    if point.outage > OUTAGE_MAX {
        return Err(format!(
            "--real runs in real time: --outage is at most {} s there",
            OUTAGE_MAX.as_secs()
        ));
    }
    let story = Story::full_size(*point, seed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot run anything: {error}"))?;
    let local = tokio::task::LocalSet::new();
    let measured = local.block_on(&runtime, async {
        tell("starting three nodes");
        let mut cluster = Cluster::start(point).await?;
        outage::both(&mut cluster, &story, tell).await
    })?;
    let figures =
        figures::of(&story, &measured, "this machine, which runs all three nodes and the clients");
    let told = Told { story, measured, figures };
    Ok(Bench { preset: None, seed, real: true, points: vec![told] })
}
