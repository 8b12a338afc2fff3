//! The simulated world: turmoil hosts that run real nodes, the network between them, and what may happen to both.
//!
//! A node under turmoil is the node: the same `run(parts, shutdown)` as in production, with other [`Parts`].
//!
//! Traps that this module works around (all measured with turmoil 0.7.2):
//! - a host that is crashed says goodbye (its sockets send FIN). Power loss does not: the node is cut off from everyone
//!   first, then crashed, then its links are mended;
//! - the epoch is the real wall clock unless it is set;
//! - a segment that is lost in a cut stalls its stream for ever, so every link needs keepalive and must reconnect. That
//!   is the node's and the client's own business; nothing here helps them.

mod busy;
mod clock;
mod net;
mod recorder;
mod trace;

pub use busy::{Busy, BusyBackground, BusyDisk, BusyNet, ReadCost};
pub use clock::{Now, SimClock};
pub use net::TurmoilNet;
pub use recorder::{NodeProbe, Recorder};
pub use trace::Trace;

use crate::ledger::NodeIndex;
use crate::scenario::{Action, Actor, Hosts, NodeName, Scenario};
use helenus_node::config::{Config, HintsConfig, RepairConfig, StorageConfig};
use helenus_node::seams::background::{Background, SimBackground};
use helenus_node::seams::disk::{Disk, Faults, SimDisk};
use helenus_node::seams::net::Net;
use helenus_node::seams::rng::Rng;
use helenus_node::{Parts, StartError};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// How long the cluster has to come up before the scenario's clock starts.
const WARM_UP: Duration = Duration::from_secs(60);
/// And how much longer when it has a history to write and to compact.
const WARM_UP_HISTORY: Duration = Duration::from_secs(240);

/// How long a scenario's cluster has to come up before its clock starts.
pub fn warm_up(scenario: &Scenario) -> Duration {
    let has_history = |actor: &Actor| matches!(actor, Actor::Shop { history: Some(_), .. });
    let history = scenario.actors.values().any(has_history);
    WARM_UP + if history { WARM_UP_HISTORY } else { Duration::ZERO }
}
/// The port that peers use.
const INTERNODE_PORT: u16 = 7000;
/// The port that clients use.
const RPC_PORT: u16 = 9160;
/// The host that clients and operators share.
const LAB: &str = "lab";

/// A node while it runs.
pub type Running = Pin<Box<dyn Future<Output = Result<(), StartError>>>>;

/// What a node runs: `helenus_node::run` in an experiment; a test may hand in parts that it has tampered with, to see
/// whether the checkers notice.
pub type Software = Rc<dyn Fn(Parts) -> Running>;

/// One node, as the world sees it.
pub struct SimNode {
    /// Its names.
    pub name: NodeName,
    /// Where it is.
    pub ip: IpAddr,
    /// Its clocks.
    pub clock: Arc<SimClock>,
    /// Its disk; another one after each power loss.
    disk: Rc<RefCell<SimDisk>>,
    /// What its reads cost; `None`: nothing.
    busy: Option<Arc<Busy>>,
}

impl std::fmt::Debug for SimNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimNode").field("name", &self.name.name).finish_non_exhaustive()
    }
}

impl SimNode {
    /// Where clients reach it.
    pub fn rpc(&self) -> SocketAddr {
        SocketAddr::new(self.ip, RPC_PORT)
    }
}

/// The world.
pub struct World {
    sim: turmoil::Sim<'static>,
    /// In the order of [`crate::scenario::Cluster::nodes`].
    pub nodes: Vec<SimNode>,
    now: Arc<Now>,
    recorder: Arc<Recorder>,
    began_micros: i64,
    /// What of the simulation's time is before the scenario's.
    warm_up: Duration,
    /// Directed pairs of nodes between which messages are lost.
    cut: BTreeSet<(NodeIndex, NodeIndex)>,
    down: BTreeSet<NodeIndex>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl World {
    /// Sets the cluster up; nothing runs until the first step.
    pub fn new(scenario: &Scenario, seed: u64, software: &Software, trace: Trace) -> World {
        let mut builder = turmoil::Builder::new();
        let began = u64::from(scenario.start.0).saturating_sub(warm_up(scenario).as_secs());
        builder
            .rng_seed(seed)
            .epoch(UNIX_EPOCH + clock::epoch(began))
            .tick_duration(scenario.tick)
            .min_message_latency(scenario.latency.0)
            .max_message_latency(scenario.latency.1)
            // The lab's own end is what ends a run; this is only further away than any.
            .simulation_duration(
                scenario.length() + warm_up(scenario) + Duration::from_secs(24 * 3600),
            )
            // Segments lost in a cut never give their credit back, and links outlive many cuts.
            .tcp_capacity(4096)
            .ephemeral_ports(10_000..=65_000);
        let mut sim = builder.build();
        let now = Arc::new(Now::default());
        let names = scenario.cluster.nodes();
        let recorder = Recorder::new(Arc::clone(&now), warm_up(scenario), names.len(), trace);
        let recorder = Arc::new(recorder);
        let ips: Vec<IpAddr> = names.iter().map(|n| sim.lookup(n.name.as_str())).collect();
        let mut nodes = Vec::new();
        for (index, (name, ip)) in names.iter().zip(&ips).enumerate() {
            let clock = SimClock::new(Arc::clone(&now), began);
            let node_seed = seed.wrapping_mul(1_000_003).wrapping_add(index as u64);
            let disk = SimDisk::new(node_seed, Faults::default());
            let busy = read_cost(scenario).map(|cost| Arc::new(Busy::new(Arc::clone(&now), cost)));
            let node = SimNode {
                name: name.clone(),
                ip: *ip,
                clock: Arc::new(clock),
                disk: Rc::new(RefCell::new(disk)),
                busy,
            };
            let config = config(scenario, &names, &ips, index);
            let probe =
                NodeProbe { recorder: Arc::clone(&recorder), node: index, name: name.name.clone() };
            register(&mut sim, &node, config, node_seed, Arc::new(probe), software);
            nodes.push(node);
        }
        let began_micros = i64::try_from(clock::epoch(began).as_micros()).unwrap_or(i64::MAX);
        let (cut, down) = (BTreeSet::new(), BTreeSet::new());
        let warm_up = warm_up(scenario);
        World { sim, nodes, now, recorder, began_micros, warm_up, cut, down }
    }

    /// Who listens to the nodes.
    pub fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.recorder)
    }

    /// The scenario's time; 0 while the cluster comes up.
    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed().saturating_sub(self.warm_up)
    }

    /// Wall microseconds when the simulation began, by a right clock.
    pub fn began_micros(&self) -> i64 {
        self.began_micros
    }

    /// Whether the scenario's clock has started.
    pub fn is_warm(&self) -> bool {
        self.sim.elapsed() >= self.warm_up
    }

    /// The cluster is up, and the scenario's clock starts: from here on disks are as slow as it says.
    pub fn start_clock(&self, scenario: &Scenario) {
        self.charge_reads(true);
        let Some(bandwidth) = scenario.cluster.disk.bandwidth else { return };
        // All the bytes of a scaled-down cluster, so the pace is scaled like their bounds.
        let bytes_per_s = scenario.scaled_bytes(bandwidth);
        for node in &self.nodes {
            node.disk.borrow().set_faults(|faults| faults.bytes_per_s = bytes_per_s);
        }
    }

    /// The scenario's clock has stopped. What is read to judge the run costs it nothing.
    pub fn stop_clock(&self) {
        self.charge_reads(false);
    }

    fn charge_reads(&self, charged: bool) {
        self.nodes.iter().filter_map(|n| n.busy.as_ref()).for_each(|busy| busy.charge(charged));
    }

    /// Starts the host from which clients and operators act. It reaches every node at all times.
    pub fn lab(&mut self, software: impl Future<Output = ()> + 'static) {
        let once = RefCell::new(Some(software));
        self.sim.host(LAB, move || {
            let software = once.borrow_mut().take();
            async move {
                if let Some(software) = software {
                    software.await;
                }
                Ok(())
            }
        });
    }

    /// One tick. An error is a node that stopped by itself, in its own words.
    pub fn step(&mut self) -> Result<(), String> {
        self.now.advance(self.sim.elapsed());
        self.sim.step().map(|_| ()).map_err(|error| error.to_string())
    }

    /// Does to the network, the power or the clocks what an event says; the rest is for actors and operators.
    pub fn apply(&mut self, action: &Action) {
        match action {
            Action::Cut { from, to, oneway } => self.change_cut(from, to, |cut, a, b| {
                cut.insert((a, b));
                if !oneway {
                    cut.insert((b, a));
                }
            }),
            Action::Heal { from, to } => self.change_cut(from, to, |cut, a, b| {
                cut.remove(&(a, b));
                cut.remove(&(b, a));
            }),
            Action::Crash { node } => {
                if let Some(index) = self.index_of(node) {
                    self.power_loss(index);
                }
            }
            Action::Start { node } => {
                if let Some(index) = self.index_of(node)
                    && self.down.remove(&index)
                {
                    self.sim.bounce(node.as_str());
                }
            }
            Action::Clock { node, jump_micros } => {
                if let Some(node) = self.index_of(node).and_then(|i| self.nodes.get(i)) {
                    node.clock.jump(*jump_micros);
                }
            }
            Action::Load { .. }
            | Action::SetLevel { .. }
            | Action::Nodetool { .. }
            | Action::Note => {}
        }
    }

    fn index_of(&self, name: &str) -> Option<NodeIndex> {
        self.nodes.iter().position(|n| n.name.name == name)
    }

    fn change_cut(
        &mut self,
        from: &[Hosts],
        to: &[Hosts],
        change: impl Fn(&mut BTreeSet<(NodeIndex, NodeIndex)>, NodeIndex, NodeIndex),
    ) {
        let before = self.cut.clone();
        let members = |hosts: &[Hosts]| -> Vec<NodeIndex> {
            let nodes = self.nodes.iter().enumerate();
            nodes.filter(|(_, n)| hosts.iter().any(|h| h.holds(&n.name))).map(|(i, _)| i).collect()
        };
        let (from, to) = (members(from), members(to));
        for a in &from {
            for b in to.iter().filter(|b| *b != a) {
                change(&mut self.cut, *a, *b);
            }
        }
        for (a, b) in self.cut.difference(&before) {
            self.lose(*a, *b);
        }
        for (a, b) in before.difference(&self.cut) {
            self.mend(*a, *b);
        }
    }

    fn lose(&self, from: NodeIndex, to: NodeIndex) {
        if let (Some(from), Some(to)) = (self.nodes.get(from), self.nodes.get(to)) {
            self.sim.partition_oneway(from.ip, to.ip);
        }
    }

    fn mend(&self, from: NodeIndex, to: NodeIndex) {
        if let (Some(from), Some(to)) = (self.nodes.get(from), self.nodes.get(to)) {
            self.sim.repair_oneway(from.ip, to.ip);
        }
    }

    /// Nobody hears a goodbye, and what was not synced is gone.
    fn power_loss(&mut self, index: NodeIndex) {
        if !self.down.insert(index) {
            return;
        }
        let others: Vec<NodeIndex> = (0..self.nodes.len()).filter(|o| *o != index).collect();
        for other in &others {
            self.lose(index, *other);
        }
        let Some(node) = self.nodes.get(index) else { return };
        self.sim.partition_oneway(node.ip, LAB);
        let (ip, disk) = (node.ip, Rc::clone(&node.disk));
        self.sim.crash(ip);
        disk.borrow().crash();
        let reopened = disk.borrow().reopen();
        disk.replace(reopened);
        self.sim.repair_oneway(ip, LAB);
        for other in others {
            if !self.cut.contains(&(index, other)) {
                self.mend(index, other);
            }
        }
    }
}

/// Gives a node its host. The closure runs again at every start after a power loss.
fn register(
    sim: &mut turmoil::Sim<'static>,
    node: &SimNode,
    config: Config,
    seed: u64,
    probe: Arc<NodeProbe>,
    software: &Software,
) {
    let (software, disk) = (Rc::clone(software), Rc::clone(&node.disk));
    let (clock, name) = (Arc::clone(&node.clock), node.name.name.clone());
    let busy = node.busy.clone();
    let boots = Rc::new(RefCell::new(0_u64));
    sim.host(node.name.name.as_str(), move || {
        let disk = disk.borrow().clone();
        let boot = boots.replace_with(|b| *b + 1);
        let (ready, became_ready) = tokio::sync::oneshot::channel();
        let (disk, background, net) = seams(disk, busy.as_ref());
        let parts = Parts {
            config: config.clone(),
            clock: Arc::<SimClock>::clone(&clock),
            rng: Rng::from_seed(seed.wrapping_add(boot << 32)),
            disk,
            background,
            net,
            probe: Arc::<NodeProbe>::clone(&probe),
            ready: Some(ready),
        };
        let (running, probe, name) = (software(parts), Arc::clone(&probe), name.clone());
        async move {
            let learn = async {
                if let Ok(ready) = became_ready.await {
                    probe.recorder.ledger(|l| l.ids.insert(ready.node, probe.node));
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                ended = running => ended.map_err(|error| format!("node {name}: {error}").into()),
                () = learn => Ok(()),
            }
        }
    });
}

/// A node's configuration: production's defaults, except for what the scenario sets and what scale divides.
type Seams = (Arc<dyn Disk>, Arc<dyn Background>, Arc<dyn Net>);

/// A node's seams. Where reads cost nothing there is nothing between it and the simulated machine.
fn seams(disk: SimDisk, busy: Option<&Arc<Busy>>) -> Seams {
    let background = SimBackground::new(disk.clone());
    let Some(busy) = busy else {
        return (Arc::new(disk), Arc::new(background), Arc::new(TurmoilNet));
    };
    let background = BusyBackground { background, busy: Arc::clone(busy) };
    let net = BusyNet { net: TurmoilNet, busy: Arc::clone(busy) };
    (Arc::new(BusyDisk { disk, busy: Arc::clone(busy) }), Arc::new(background), Arc::new(net))
}

/// What one read costs. It moves one value's bytes, so the pace is scaled as values are.
fn read_cost(scenario: &Scenario) -> Option<ReadCost> {
    let disk = &scenario.cluster.disk;
    let bandwidth = disk.bandwidth.unwrap_or(u64::MAX) / scenario.value_scale.max(1);
    disk.read_latency.map(|latency| ReadCost { latency, bytes_per_s: bandwidth.max(1) })
}

fn config(scenario: &Scenario, names: &[NodeName], ips: &[IpAddr], index: NodeIndex) -> Config {
    let cluster = &scenario.cluster;
    let address = |ip: &IpAddr, port| SocketAddr::new(*ip, port);
    let ip = ips.get(index).copied().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let name = names.get(index);
    // Everybody gossips with the first node of each rack first.
    let seeds = cluster.racks().len().max(1);
    let memtable = scenario.scaled_bytes(cluster.memtable);
    let hints = &cluster.hints;
    let cap = scenario.scaled_bytes(hints.cap);
    Config {
        cluster_name: scenario.id.clone(),
        listen_address: address(&ip, INTERNODE_PORT),
        rpc_address: address(&ip, RPC_PORT),
        metrics_address: None,
        data_directory: PathBuf::from("data"),
        seeds: ips.iter().take(seeds).map(|ip| address(ip, INTERNODE_PORT)).collect(),
        dc: name.map_or_else(String::new, |n| n.dc.clone()),
        rack: name.map_or_else(String::new, |n| n.rack.clone()),
        num_tokens: u16::try_from(cluster.num_tokens).unwrap_or(u16::MAX),
        initial_token: tokens(cluster.num_tokens, names.len(), index),
        write_request_timeout: cluster.write_timeout,
        read_request_timeout: cluster.read_timeout,
        storage: StorageConfig {
            memtable_heap_space: memtable,
            commitlog_segment_size: (memtable * 2).max(64 << 10),
            commitlog_total_space: (memtable * 16).max(1 << 20),
            block_cache_size: cluster
                .block_cache
                .map_or(StorageConfig::default().block_cache_size, |b| scenario.scaled_bytes(b)),
            compaction_throughput: cluster
                .compaction_throughput
                .map_or(StorageConfig::default().compaction_throughput, |b| {
                    scenario.scaled_bytes(b)
                }),
            ..StorageConfig::default()
        },
        hints: HintsConfig {
            max_hint_window: hints.window,
            max_hints_size: cap,
            // A fill is made of several segments, as at full size.
            max_hints_file_size: (cap / 4).max(4096),
            max_dead_letters_size: scenario.scaled_bytes(hints.dead_letters),
            hinted_handoff_throttle: scenario.scaled_bytes(hints.throttle),
            hinted_handoff_throttle_total: scenario
                .scaled_bytes(HintsConfig::default().hinted_handoff_throttle_total),
            hints_receive_throttle: scenario
                .scaled_bytes(HintsConfig::default().hints_receive_throttle),
            overflow: hints.overflow,
            paused: hints.paused,
            ..HintsConfig::default()
        },
        repair: RepairConfig {
            stream_throughput_outbound: scenario
                .scaled_throughput(RepairConfig::default().stream_throughput_outbound),
            ..RepairConfig::default()
        },
        ..Config::default()
    }
}

/// Tokens spread evenly over the ring, going round the nodes, so that every node of a rack owns the same share.
pub(crate) fn tokens(per_node: u64, nodes: usize, index: NodeIndex) -> Vec<i64> {
    let nodes = nodes.max(1) as u64;
    let step = u64::MAX / (nodes * per_node).max(1);
    (0..per_node)
        .map(|v| {
            let place = (v * nodes + index as u64).wrapping_mul(step);
            // Half a step off, because no key has the smallest token.
            i64::MIN.wrapping_add_unsigned(place + step / 2)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_even_and_all_different() {
        let all: BTreeSet<i64> = (0..9).flat_map(|i| tokens(4, 9, i)).collect();
        assert_eq!(all.len(), 36);
        let gaps: BTreeSet<i64> =
            all.iter().zip(all.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a)).collect();
        assert_eq!(gaps.len(), 1);
    }

    #[test]
    fn the_configuration_is_scaled() {
        let text = crate::scenario::LIBRARY[0].text;
        let scenario = Scenario::parse("az-partition.toml", text).unwrap();
        let names = scenario.cluster.nodes();
        let ips: Vec<IpAddr> = (1..=9).map(|n| IpAddr::from([192, 168, 0, n])).collect();
        let config = config(&scenario, &names, &ips, 3);
        assert_eq!((config.rack.as_str(), config.dc.as_str()), ("a", "us-east-1"));
        assert_eq!(config.hints.max_hints_size, 500_000);
        assert_eq!(config.hints.hinted_handoff_throttle, 524);
        assert_eq!(config.seeds.len(), 3);
    }
}
