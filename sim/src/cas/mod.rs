//! Conditional writes under faults: clients compare and set a few registers over CQL while nodes are cut off, lose their
//! power and have their clocks set, and afterwards one order has to explain all that the clients saw
//! ([`crate::oracle::linear`]).
//!
//! ```text
//!   clients --IF NOT EXISTS, IF v = x, SERIAL reads--> three nodes     faults: cuts, power losses, clocks
//!      \_________________ what they were told _______________ oracle::linear, register by register
//! ```
//!
//! The nodes are production's, CQL front end included, in the same world as the scenarios'. What happens to them follows
//! from the seed (`faults`); in the end all is mended, and every register is read until it answers, so that nothing that
//! was acknowledged can have got lost unseen.
//!
//! A judge that has never found anybody guilty proves nothing. So there is a store that is broken on purpose (`forgetful`),
//! and its histories are judged like the others.
//!
//! What clients make of an answer (`clients`) is what the protocol promises and no more: Unavailable did not happen, a
//! timeout may have, at any time since.

mod clients;
mod command;
mod faults;
mod forgetful;

pub use command::{CasArgs, replay, run as command};
pub use forgetful::forgetful;

use crate::oracle::linear::{self, Op, Verdict};
use crate::scenario::{Action, Hosts, Problems, Scenario};
use crate::world::{Software, Trace, World};
use clients::Shared;
pub use clients::Stage;
use helenus_node::Parts;
use helenus_node::seams::rng::Rng;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Three nodes, a rack each. Only the cluster of this scenario is used.
const CLUSTER: &str = r#"
format = 1
id = "cas"
title = "Conditional writes under faults"
source = "Herlihy and Wing 1990; Lamport 2001"
seed = 1
scale = 1
clock = { start = "12:00", end = "13:00", tick = "5ms", latency_min = "1ms", latency_max = "8ms" }
[cluster]
dcs = { dc1 = { a = 1, b = 1, c = 1 } }
keyspace.cas = { rf = { dc1 = 3 } }
"#;
/// Where the nodes serve CQL.
const CQL_PORT: u16 = 9042;
/// Registers, each a partition of its own.
const REGISTERS: i32 = 3;
/// Clients, each with one request at a time.
const CLIENTS: usize = 6;
/// How long the cluster has to come up.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long the last reads may take once all is mended.
const LAST_READS_MAX: Duration = Duration::from_secs(180);

/// What is run.
pub struct Settings {
    /// Where all chance comes from.
    pub seed: u64,
    /// How long clients write while things happen.
    pub length: Duration,
    /// What a node runs.
    pub software: Software,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { seed, length, .. } = self;
        f.debug_struct("Settings")
            .field("seed", seed)
            .field("length", length)
            .finish_non_exhaustive()
    }
}

/// Why there is nothing to judge.
#[derive(Debug, thiserror::Error)]
pub enum CasError {
    /// The cluster cannot be described.
    #[error("{0}")]
    Cluster(#[from] Problems),
    /// A node stopped by itself.
    #[error("{at:?} after the beginning: {why}")]
    Stopped {
        /// When, in simulated time.
        at: Duration,
        /// In its own words.
        why: String,
    },
    /// The clients could not begin, or not end.
    #[error("{what} within {} simulated seconds: {stage:?}", limit.as_secs())]
    Late {
        /// What did not happen.
        what: &'static str,
        /// How long it had.
        limit: Duration,
        /// How far they were.
        stage: Stage,
    },
    /// A node said what it must not say.
    #[error("a client was told: {0}")]
    Answer(String),
}

/// A run that has ended.
#[derive(Debug)]
pub struct Told {
    /// By register: what clients saw of it.
    pub histories: BTreeMap<i32, Vec<Op>>,
    /// By register: whether one order explains it.
    pub verdicts: BTreeMap<i32, Verdict>,
    /// What happened to the nodes, in order.
    pub faults: Vec<(Duration, Action)>,
    /// The hash over everything that happened.
    pub trace_hash: u64,
}

impl Told {
    /// Whether one order explains each register's history.
    pub fn holds(&self) -> bool {
        self.verdicts.values().all(|verdict| *verdict == Verdict::Linearizable)
    }

    /// All operations.
    pub fn operations(&self) -> impl Iterator<Item = &Op> {
        self.histories.values().flatten()
    }
}

/// Runs it.
pub fn run(settings: Settings) -> Result<Told, CasError> {
    let Settings { seed, length, software } = settings;
    let scenario = Scenario::parse("cas.toml", CLUSTER)?;
    let mut world = World::new(&scenario, seed, &serving_cql(software), Trace::new(None));
    let recorder = world.recorder();
    let names: Vec<String> = world.nodes.iter().map(|node| node.name.name.clone()).collect();
    let nodes = world.nodes.iter().map(|node| SocketAddr::new(node.ip, CQL_PORT)).collect();
    let (told, stage) = watch::channel(Stage::Starting(String::new()));
    let (stop, stopped) = watch::channel(false);
    let rng = Rng::from_seed(seed);
    let shared = Shared::new(nodes, Arc::clone(&recorder), rng.clone(), stopped);
    let shared = Arc::new(shared);
    world.lab(clients::play(Arc::clone(&shared), told));

    let reached = |world: &mut World, wanted: Stage, limit: Duration, what: &'static str| {
        let began = recorder.elapsed();
        loop {
            let late = recorder.elapsed() > began + limit;
            match &*stage.borrow() {
                Stage::Broken(why) => return Err(CasError::Answer(why.clone())),
                now if *now == wanted => return Ok(()),
                now if late => return Err(CasError::Late { what, limit, stage: now.clone() }),
                _ => {}
            }
            step(world, recorder.elapsed())?;
        }
    };
    reached(&mut world, Stage::Ready, READY_MAX, "the cluster did not come up")?;
    let began = recorder.elapsed();
    let faults = faults::plan(&rng, &names, length);
    let mut next = faults.iter().peekable();
    while recorder.elapsed() < began + length {
        while let Some((_, action)) = next.next_if(|(at, _)| began + *at <= recorder.elapsed()) {
            recorder.trace("world", action);
            world.apply(action);
        }
        step(&mut world, recorder.elapsed())?;
    }
    world.apply(&Action::Heal { from: vec![Hosts::All], to: vec![Hosts::All] });
    for node in names {
        world.apply(&Action::Start { node });
    }
    stop.send_replace(true);
    reached(&mut world, Stage::Over, LAST_READS_MAX, "the last reads were not answered")?;
    let (trace_hash, _) = recorder.digest();
    // Nodes and clients end here, and whatever they say while they are torn down is no part of the run.
    drop(world);
    let histories = shared.histories();
    let verdicts = histories.iter().map(|(k, history)| (*k, linear::judge(history))).collect();
    Ok(Told { histories, verdicts, faults, trace_hash })
}

fn step(world: &mut World, at: Duration) -> Result<(), CasError> {
    world.step().map_err(|why| CasError::Stopped { at, why })
}

/// The scenarios' clients speak gRPC, so that their nodes serve nothing else.
fn serving_cql(software: Software) -> Software {
    Rc::new(move |mut parts: Parts| {
        let ip = parts.config.rpc_address.ip();
        parts.config.native_transport_address = Some(SocketAddr::new(ip, CQL_PORT));
        software(parts)
    })
}
