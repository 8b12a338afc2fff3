//! Who acts in a scenario: the order system.
//!
//! ```text
//!   shop --> sql --> log (shards) --> projector --write_cl--> the store
//!    \________________ own last order ________ reader --cl--> the store
//! ```
//!
//! The source of truth and the log are perfect here, because the experiment is about the store. All actors live on one
//! simulated host that reaches every node at all times: what they cannot do is the store's doing.

mod healing;
mod history;
mod operator;
mod projector;
mod reader;
mod shop;
mod store;
mod value;

pub use operator::Command;
pub use store::Connector;
pub use value::value;

use crate::ledger::OrderId;
use crate::oracle::Places;
use crate::scenario::{Actor, Keyspace, OnError, Scenario};
use crate::world::{Recorder, World};
use helenus_core::{Level, TableOptions};
use history::Past;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use store::Store;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Orders that a shard of the log holds back; more are given up, and counted.
const SHARD_ORDERS_MAX: usize = 100_000;
/// Commands that an operator may be behind with.
const COMMANDS_MAX: usize = 1024;

/// The order system as a scenario sets it up, in simulated numbers.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    seed: u64,
    keyspace: String,
    table: Keyspace,
    shards: usize,
    write_cl: Level,
    on_error: OnError,
    concurrency: usize,
    value_bytes: usize,
    reads_per_order: u64,
    after: (Duration, Duration),
    nodes: Vec<SocketAddr>,
    length: Duration,
    asks_tables: bool,
    history: Option<Past>,
}

/// What the actors share.
pub(crate) struct Shared {
    setup: Setup,
    recorder: Arc<Recorder>,
    places: Arc<Places>,
    store: Store,
    /// Whose turn it is to coordinate a write, and a read.
    turns: (AtomicUsize, AtomicUsize),
    level: watch::Receiver<Level>,
}

impl Shared {
    fn now(&self) -> Duration {
        self.recorder.now()
    }

    /// The next node of a round over all of them.
    fn next_writer(&self) -> usize {
        self.turns.0.fetch_add(1, Ordering::Relaxed) % self.setup.nodes.len().max(1)
    }

    fn next_reader(&self) -> usize {
        self.turns.1.fetch_add(1, Ordering::Relaxed) % self.setup.nodes.len().max(1)
    }

    /// An operator's command did not do what it should.
    fn complain(&self, what: String) {
        self.recorder.ledger(|ledger| ledger.operator_errors.push(what));
    }

    fn is_over(&self) -> bool {
        self.now() >= self.setup.length
    }
}

/// How the driver talks to the actors from outside of the simulation.
#[derive(Debug)]
pub struct Controls {
    /// The shop's rate, orders per simulated second.
    pub rate: watch::Sender<f64>,
    /// The reader's level.
    pub level: watch::Sender<Level>,
    /// What operators have to do, in order.
    pub commands: mpsc::Sender<Command>,
    /// How many of these they have done.
    pub obeyed: watch::Receiver<usize>,
    /// How far they are.
    pub state: watch::Receiver<State>,
}

/// How far the actors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The cluster comes up; the last thing that was waited for.
    Starting(String),
    /// The scenario can begin.
    Ready,
    /// The last command, [`Command::Finish`], is done.
    Finished,
}

/// Puts the actors into the world.
pub fn enter(world: &mut World, scenario: &Scenario, seed: u64) -> Result<Controls, String> {
    let (setup, rate, level) = setup(world, scenario, seed)?;
    let (rate, rate_seen) = watch::channel(rate);
    let (level, level_seen) = watch::channel(level);
    let (commands, orders) = mpsc::channel(COMMANDS_MAX);
    let (obeyed_told, obeyed) = watch::channel(0);
    let (state_told, state) = watch::channel(State::Starting("the nodes".to_owned()));
    let recorder = world.recorder();
    let places = Arc::new(Places::new(scenario));
    let began = world.began_micros();
    world.lab(async move {
        let store = match store::bring_up(&setup, &recorder, &places, began, &state_told).await {
            Ok(store) => store,
            Err(why) => {
                state_told.send_replace(State::Starting(why));
                return;
            }
        };
        if let Some(past) = &setup.history
            && let Err(why) = history::write(&store, &setup, past, &places, &state_told).await
        {
            state_told.send_replace(State::Starting(why));
            return;
        }
        let turns = Default::default();
        let shared = Shared { setup, recorder, places, store, turns, level: level_seen };
        state_told.send_replace(State::Ready);
        play(Arc::new(shared), rate_seen, (orders, obeyed_told), state_told).await;
    });
    Ok(Controls { rate, level, commands, obeyed, state })
}

/// The order system, until its operators are told to finish.
async fn play(
    shared: Arc<Shared>,
    rate: watch::Receiver<f64>,
    (commands, obeyed): (mpsc::Receiver<Command>, watch::Sender<usize>),
    state: watch::Sender<State>,
) {
    let mut tasks = JoinSet::new();
    let mut log = Vec::new();
    for _ in 0..shared.setup.shards {
        let (shard, events) = mpsc::channel::<OrderId>(SHARD_ORDERS_MAX);
        log.push(shard);
        tasks.spawn(projector::project_shard(Arc::clone(&shared), events));
    }
    tasks.spawn(shop::open(Arc::clone(&shared), rate, log));
    tasks.spawn(operator::sample(Arc::clone(&shared)));
    operator::obey(shared, commands, obeyed).await;
    state.send_replace(State::Finished);
    tasks.shutdown().await;
}

fn setup(world: &World, scenario: &Scenario, seed: u64) -> Result<(Setup, f64, Level), String> {
    let missing = |what: &str| format!("the scenario has no {what}");
    let find = |pick: fn(&Actor) -> bool| scenario.actors.values().find(|a| pick(a));
    let log = find(|a| matches!(a, Actor::Log { .. }));
    let projector = find(|a| matches!(a, Actor::Projector { .. }));
    let shop = find(|a| matches!(a, Actor::Shop { .. }));
    let reader = find(|a| matches!(a, Actor::Reader { .. }));
    let Some(Actor::Log { shards, .. }) = log else { return Err(missing("log")) };
    let Some(Actor::Projector { into, write_cl, on_error, concurrency, .. }) = projector else {
        return Err(missing("projector"));
    };
    let Some(Actor::Shop { rate, value, history, .. }) = shop else { return Err(missing("shop")) };
    let Some(Actor::Reader { cl, after, reads_per_order, .. }) = reader else {
        return Err(missing("reader"));
    };
    let keyspaces: &BTreeMap<String, Keyspace> = &scenario.cluster.keyspaces;
    let table = keyspaces.get(into).ok_or_else(|| missing("such keyspace"))?;
    let small = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let setup = Setup {
        seed,
        keyspace: into.clone(),
        table: scaled_table(table, scenario),
        shards: small(*shards),
        write_cl: *write_cl,
        on_error: *on_error,
        concurrency: small(*concurrency),
        value_bytes: small(scenario.scaled_value(*value)),
        reads_per_order: *reads_per_order,
        after: *after,
        nodes: world.nodes.iter().map(|n| n.rpc()).collect(),
        length: scenario.length(),
        asks_tables: scenario.asks_tables(),
        history: history.as_ref().map(|history| Past::of(scenario, history)),
    };
    Ok((setup, scenario.scaled_rate(*rate), *cl))
}

/// The table with its sizes scaled: at a thousandth of real sizes all SSTables would be "small" and compacted with each
/// other for ever.
fn scaled_table(table: &Keyspace, scenario: &Scenario) -> Keyspace {
    // The least that the option takes.
    const SSTABLE_SIZE_MIN: u64 = 4096;
    let TableOptions { min_sstable_size, sstable_size, .. } = TableOptions::default();
    let mut table = table.clone();
    let scaled = scenario.scaled_bytes(min_sstable_size);
    table.options.insert("compaction.min_sstable_size".to_owned(), scaled.to_string());
    let scaled = scenario.scaled_bytes(table.sstable_size.unwrap_or(sstable_size));
    let scaled = scaled.max(SSTABLE_SIZE_MIN);
    table.options.insert("compaction.sstable_size".to_owned(), scaled.to_string());
    table
}
