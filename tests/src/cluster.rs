//! Several nodes, each a process of its own with its own data directory, rack and address.

use crate::process::{Finished, Process, run};
use crate::{binary, until};
use bytes::Bytes;
use helenus_client::{Admin, Client, NewReplication, Options, Routing, Scan};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// The keyspace that [`Cluster::create`] makes.
pub const KEYSPACE: &str = "shop";
/// Its table.
pub const TABLE: &str = "orders";

/// How long an operator's call may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Partitions that a scan asks for at once.
const PAGE: u32 = 1000;

/// Below the ports from which systems serve outgoing connections: one of those would take a killed node's port.
const PORTS: std::ops::Range<u16> = 15_000..30_000;

/// A port that nobody listens on. Tests that run side by side get different ones.
pub fn free_port(ip: IpAddr) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    // Test processes that run one after another begin at different places.
    let offset = u16::try_from(std::process::id() % u32::from(span)).unwrap_or(0);
    for _ in 0..span {
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (offset.wrapping_mul(7).wrapping_add(nth)) % span;
        if TcpListener::bind((ip, port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free on {ip}")
}

/// The first of `len` ports in a row that nobody listens on, on 127.0.0.1.
pub fn free_ports(len: u16) -> u16 {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    loop {
        let first = free_port(ip);
        let next = (1..len).all(|nth| free_port(ip) == first + nth);
        if next {
            return first;
        }
    }
}

/// What a node is told.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// Where peers reach it.
    pub listen: SocketAddr,
    /// Where clients reach it.
    pub rpc: SocketAddr,
    /// Where CQL clients reach it, if they do.
    pub native: Option<SocketAddr>,
    /// Where its metrics are.
    pub metrics: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
    /// Lines of its configuration beside the above; later ones may open a table.
    pub extra: String,
    /// Who it asks first.
    pub seeds: Vec<SocketAddr>,
    /// Its rack.
    pub rack: String,
}

impl NodeSpec {
    /// Node `nth` (counted from 1) with free ports and a data directory below `dir`.
    pub fn new(dir: &Path, nth: u8) -> NodeSpec {
        let ip = loopback(nth);
        let address = || SocketAddr::new(ip, free_port(ip));
        NodeSpec {
            listen: address(),
            rpc: address(),
            native: None,
            metrics: address(),
            data: dir.join(format!("node{nth}")),
            extra: String::new(),
            seeds: Vec::new(),
            rack: format!("rack{nth}"),
        }
    }

    /// The configuration file's text.
    pub fn toml(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(|seed| format!("\"{seed}\"")).collect();
        let mut text = String::new();
        let lines = [
            format!("listen_address = \"{}\"", self.listen),
            format!("rpc_address = \"{}\"", self.rpc),
            format!("metrics_address = \"{}\"", self.metrics),
            format!("data_directory = \"{}\"", self.data.display()),
            format!("seeds = [{}]", seeds.join(", ")),
            format!("rack = \"{}\"", self.rack),
            // Faster than a real cluster's second, so that an outage is noticed within a test's patience.
            "gossip_interval = \"100ms\"".to_owned(),
            self.extra.clone(),
        ];
        let native = self.native.map(|native| format!("native_transport_address = \"{native}\""));
        for line in native.into_iter().chain(lines) {
            writeln!(text, "{line}").expect("text can be written to a string");
        }
        text
    }

    /// Writes the configuration beside the data directory, and says where.
    pub fn write(&self) -> PathBuf {
        let file = self.data.with_extension("toml");
        fs::write(&file, self.toml()).expect("the test's own directory can be written");
        file
    }

    /// Where its stderr goes.
    pub fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// The samples of its metrics whose names begin with `name`, added up.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.metrics_page().await;
        let samples = page.lines().filter(|line| line.starts_with(name));
        samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// What it shows Prometheus.
    pub async fn metrics_page(&self) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let page = async {
            let mut socket = tokio::net::TcpStream::connect(self.metrics).await?;
            let ask = b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
            socket.write_all(ask).await?;
            let mut page = String::new();
            socket.read_to_string(&mut page).await.map(|_| page)
        };
        page.await.expect("a running node shows its metrics")
    }

    /// Starts it where it cannot start, and gives back how it ended.
    pub async fn refused(&self) -> Finished {
        run(&binary("helenus"), [PathBuf::from("--config"), self.write()]).await
    }

    /// Starts it, and waits until it says that it takes requests.
    pub async fn start(&self) -> Process {
        let config = self.write();
        let args = ["--format", "json", "--config"].map(PathBuf::from);
        let mut process =
            Process::start(&binary("helenus"), args.into_iter().chain([config]), &self.log());
        process.ready().await;
        process
    }
}

/// 127.0.0.`nth` where the system has it (Linux), else 127.0.0.1.
fn loopback(nth: u8) -> IpAddr {
    let own = IpAddr::V4(Ipv4Addr::new(127, 0, 0, nth));
    match TcpListener::bind((own, 0)) {
        Ok(_) => own,
        Err(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

/// Nodes that know each other. Dropped, all of them are killed and their data is removed.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    nodes: Vec<(NodeSpec, Option<Process>)>,
}

impl Cluster {
    /// Starts `nodes` nodes in as many racks, and waits until each sees all of them up.
    pub async fn start(nodes: u8) -> Cluster {
        Cluster::start_with(nodes, "").await
    }

    /// As [`Cluster::start`], with CQL on the same port of each node's own address, as drivers expect it.
    pub async fn start_cql(nodes: u8) -> Cluster {
        Cluster::start_cql_with(nodes, "").await
    }

    /// As [`Cluster::start_cql`], with more lines in every configuration.
    pub async fn start_cql_with(nodes: u8, extra: &str) -> Cluster {
        let mut cluster = Cluster::of(nodes, extra);
        let ips: Vec<IpAddr> = cluster.nodes.iter().map(|(spec, _)| spec.listen.ip()).collect();
        let port = loop {
            let port = free_port(IpAddr::V4(Ipv4Addr::LOCALHOST));
            if ips.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok()) {
                break port;
            }
        };
        for ((spec, _), ip) in cluster.nodes.iter_mut().zip(ips) {
            spec.native = Some(SocketAddr::new(ip, port));
        }
        cluster.start_missing().await;
        cluster
    }

    /// As [`Cluster::start`], with more lines in every configuration.
    pub async fn start_with(nodes: u8, extra: &str) -> Cluster {
        let mut cluster = Cluster::of(nodes, extra);
        cluster.start_missing().await;
        cluster
    }

    /// As [`Cluster::start_with`], one node for each token, of which it has no other.
    pub async fn start_on(tokens: &[i64], extra: &str) -> Cluster {
        let nodes = u8::try_from(tokens.len()).expect("a test starts a few nodes");
        let mut cluster = Cluster::of(nodes, extra);
        for ((spec, _), token) in cluster.nodes.iter_mut().zip(tokens) {
            spec.extra = format!("initial_token = [{token}]\n{extra}");
        }
        cluster.start_missing().await;
        cluster
    }

    /// Where CQL clients reach a node of [`Cluster::start_cql`].
    pub fn native(&self, nth: usize) -> SocketAddr {
        self.spec(nth).native.expect("the cluster was started with CQL")
    }

    fn of(nodes: u8, extra: &str) -> Cluster {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let mut specs: Vec<NodeSpec> =
            (1..=nodes).map(|nth| NodeSpec::new(dir.path(), nth)).collect();
        // Two seeds, so that the first node, too, finds the others when it comes back.
        let seeds: Vec<SocketAddr> = specs.iter().take(2).map(|spec| spec.listen).collect();
        for spec in &mut specs {
            spec.seeds.clone_from(&seeds);
            extra.clone_into(&mut spec.extra);
        }
        let nodes = specs.into_iter().map(|spec| (spec, None)).collect();
        Cluster { dir, nodes }
    }

    /// Where the cluster's files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How many nodes it has, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What a node, counted from 0, was told.
    pub fn spec(&self, at: usize) -> &NodeSpec {
        &self.nodes.get(at).expect("the test names a node that it made").0
    }

    /// Changes what a node will be told when it starts again.
    pub fn spec_mut(&mut self, at: usize) -> &mut NodeSpec {
        &mut self.nodes.get_mut(at).expect("the test names a node that it made").0
    }

    /// Where clients reach a node.
    pub fn rpc(&self, at: usize) -> SocketAddr {
        self.spec(at).rpc
    }

    /// The operator's door of a node.
    pub fn admin(&self, at: usize) -> Admin {
        Admin::to(self.rpc(at), ADMIN_TIMEOUT)
    }

    /// The ids of the processes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|(_, process)| process.as_ref().map(Process::pid)).collect()
    }

    /// A client that knows all nodes.
    pub async fn client(&self) -> Client {
        let rpc = self.nodes.iter().map(|(spec, _)| spec.rpc);
        Client::builder().contact_points(rpc).connect().await.expect("a node that runs answers")
    }

    /// A node's process, taken out: whoever has it may end it as it likes.
    pub fn take(&mut self, at: usize) -> Process {
        let node = self.nodes.get_mut(at).expect("the test names a node that it made");
        node.1.take().expect("the node runs")
    }

    /// `kill -9`.
    pub async fn kill(&mut self, at: usize) {
        self.take(at).kill().await;
    }

    /// Sends a signal to a node's process.
    pub async fn signal(&self, at: usize, signal: &str) {
        let node = self.nodes.get(at).expect("the test names a node that it made");
        node.1.as_ref().expect("the node runs").signal(signal).await;
    }

    /// `kill -9` of all of them, none knowing of the others' end.
    pub async fn kill_all(&mut self) {
        for (_, process) in &self.nodes {
            if let Some(process) = process {
                process.signal("KILL").await;
            }
        }
        for (_, process) in &mut self.nodes {
            if let Some(mut process) = process.take() {
                process.ended().await;
            }
        }
    }

    /// Starts every node that does not run, side by side, and waits until all see all of them up.
    pub async fn start_missing(&mut self) {
        let mut starting = Vec::new();
        for (spec, process) in &mut self.nodes {
            if process.is_none() {
                let config = spec.write();
                let args = ["--format", "json", "--config"].map(PathBuf::from).into_iter();
                let helenus = binary("helenus");
                starting.push(process.insert(Process::start(
                    &helenus,
                    args.chain([config]),
                    &spec.log(),
                )));
            }
        }
        for process in starting {
            process.ready().await;
        }
        self.all_see(self.nodes.len()).await;
    }

    /// Waits until every running node sees exactly `up` nodes up.
    pub async fn all_see(&self, up: usize) {
        for (spec, _) in self.nodes.iter().filter(|(_, process)| process.is_some()) {
            let admin = Admin::to(spec.rpc, ADMIN_TIMEOUT);
            until(
                || format!("{} sees {up} nodes up", spec.rpc),
                async || {
                    let topology = admin.topology().await.ok()?;
                    (topology.members.iter().filter(|member| member.up).count() == up).then_some(())
                },
            )
            .await;
        }
    }

    /// Creates [`KEYSPACE`]`.`[`TABLE`] with `rf` copies, known to every node when this returns.
    pub async fn create(&self, rf: u32) {
        let admin = self.admin(0);
        let made = admin.create_keyspace(KEYSPACE, NewReplication::Simple(rf), false).await;
        assert_eq!(made.expect("a new keyspace can be made").pending_nodes, [""; 0]);
        let made = admin.create_table(KEYSPACE, TABLE, false, BTreeMap::new()).await;
        assert_eq!(made.expect("a new table can be made").pending_nodes, [""; 0]);
    }

    /// Panics if any node ever wrote of a panic.
    fn check_logs(&self) {
        for (spec, _) in &self.nodes {
            let log = fs::read_to_string(spec.log()).unwrap_or_default();
            assert!(!log.contains("panicked at"), "{} panicked:\n{log}", spec.rpc);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_logs();
            return;
        }
        for (spec, _) in &self.nodes {
            let log = fs::read_to_string(spec.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
            eprintln!("--- the end of {}'s log\n{}", spec.rpc, last.join("\n"));
        }
    }
}

/// Every live key that one node itself stores, with its value. No other node is asked and nothing is repaired.
pub async fn local_keys(node: SocketAddr) -> BTreeMap<Bytes, Bytes> {
    // A client of its own: one that knew the node before may still hold off from dialling it again.
    let client = Client::builder().contact_points([node]).connect().await;
    let client = client.expect("a node that runs answers");
    let table = client.table(KEYSPACE, TABLE);
    let options = Options::new().routing(Routing::Pinned(node));
    let mut scan = Scan { limit: PAGE, from: None, node_local: true };
    let mut found = BTreeMap::new();
    loop {
        let page =
            table.scan_with(&scan, &options).await.expect("a running node reads its own data");
        found.extend(page.entries.into_iter().map(|entry| (entry.key, entry.value.value)));
        scan.from = page.next;
        if scan.from.is_none() {
            return found;
        }
    }
}
