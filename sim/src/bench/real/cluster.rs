//! Three processes, their configurations and their data in a directory of their own. Dropped, they are killed, and the
//! directory is removed.

use crate::bench::sweep::Point;
use helenus_client::{Admin, Client, NewReplication, RetryPolicy, Table};
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const NODES: u8 = 3;
const KEYSPACE: &str = "bench";
const TABLE: &str = "orders";
/// How long a node may take for an operator's call, and the cluster to see itself.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);
/// Of a log that says why a node did not start, so many lines are shown.
const LOG_LINES: usize = 8;

#[derive(Debug)]
struct Node {
    config: PathBuf,
    rpc: SocketAddr,
    process: Option<Child>,
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    binary: PathBuf,
    dir: PathBuf,
    nodes: Vec<Node>,
    /// One door a node.
    pub(super) admins: Vec<Admin>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                // It may have ended by itself; then there is nothing to kill.
                let _gone = process.kill().and_then(|()| process.wait());
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "the benchmark's directory stays");
        }
    }
}

/// `helenus`, built beside this program.
fn binary() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("who am I? {error}"))?;
    let binary = own.with_file_name(format!("helenus{}", std::env::consts::EXE_SUFFIX));
    if binary.is_file() {
        return Ok(binary);
    }
    Err(format!(
        "--real needs {}, which is not there: build it the same way (cargo build --release -p helenus-node)",
        binary.display()
    ))
}

/// So many addresses on loopback that nobody listens on now. All are held until all are found.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, String> {
    let bound: std::io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    let addresses: std::io::Result<Vec<SocketAddr>> =
        bound.and_then(|all| all.iter().map(TcpListener::local_addr).collect());
    addresses.map_err(|error| format!("no free ports on 127.0.0.1: {error}"))
}

impl Cluster {
    /// Starts it, and creates the table.
    pub(super) async fn start(point: &Point) -> Result<Cluster, String> {
        let binary = binary()?;
        let dir = std::env::temp_dir().join(format!("helenus-bench-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        let mut cluster = Cluster { binary, dir, nodes: Vec::new(), admins: Vec::new() };
        let addresses = free_addresses(usize::from(NODES) * 3)?;
        let internode: Vec<SocketAddr> = addresses.iter().step_by(3).copied().collect();
        for (nth, three) in addresses.chunks_exact(3).enumerate() {
            let [listen, rpc, metrics] = three else { continue };
            let text = config(&cluster.dir, nth, [*listen, *rpc, *metrics], &internode, point);
            let config = cluster.dir.join(format!("node{nth}.toml"));
            let written = fs::write(&config, text);
            written.map_err(|error| format!("cannot write {}: {error}", config.display()))?;
            cluster.nodes.push(Node { config, rpc: *rpc, process: None });
            cluster.admins.push(Admin::to(*rpc, PATIENCE));
        }
        for nth in 0..cluster.nodes.len() {
            cluster.start_node(nth).await?;
        }
        cluster.all_see(cluster.nodes.len()).await?;
        cluster.create().await?;
        Ok(cluster)
    }

    /// Starts a node, and returns when it takes requests. Whatever else is under way goes on meanwhile.
    pub(super) async fn start_node(&mut self, nth: usize) -> Result<(), String> {
        let node = self.nodes.get_mut(nth).ok_or("there is no such node")?;
        let admin = self.admins.get(nth).ok_or("there is no such node")?;
        let path = node.config.with_extension("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&node.config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn();
        let process =
            process.map_err(|error| format!("cannot start {}: {error}", self.binary.display()))?;
        let process = node.process.insert(process);
        let mut looks = PATIENCE.as_millis() / LOOK.as_millis();
        while admin.info().await.is_err() {
            let ended = process.try_wait().is_ok_and(|status| status.is_some());
            if ended || looks == 0 {
                return Err(format!("node {nth} did not start:\n{}", last_lines(&path)));
            }
            looks -= 1;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// `kill -9`. Returns when it is gone.
    pub(super) fn kill(&mut self, nth: usize) -> Result<(), String> {
        let node = self.nodes.get_mut(nth).ok_or("there is no such node")?;
        let Some(mut process) = node.process.take() else { return Ok(()) };
        let gone = process.kill().and_then(|()| process.wait());
        gone.map(drop).map_err(|error| format!("cannot kill node {nth}: {error}"))
    }

    /// Waits until every node that runs sees so many up.
    pub(super) async fn all_see(&self, up: usize) -> Result<(), String> {
        let running = self.nodes.iter().zip(&self.admins).filter(|(n, _)| n.process.is_some());
        let wait = async {
            for (_, admin) in running {
                loop {
                    let seen = admin
                        .topology()
                        .await
                        .map(|topology| topology.members.iter().filter(|member| member.up).count());
                    if seen.is_ok_and(|seen| seen == up) {
                        break;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.map_err(|_| format!("the nodes do not see {up} of them up after {PATIENCE:?}"))
    }

    async fn create(&self) -> Result<(), String> {
        let first = self.admins.first().ok_or("there is no node")?;
        let copies = NewReplication::Simple(u32::from(NODES));
        let created = first.create_keyspace(KEYSPACE, copies, false).await;
        created.map_err(|error| format!("the keyspace was not created: {error}"))?;
        let created = first.create_table(KEYSPACE, TABLE, false, BTreeMap::new()).await;
        created.map(drop).map_err(|error| format!("the table was not created: {error}"))
    }

    /// The keyspace's name.
    pub(super) fn keyspace(&self) -> String {
        KEYSPACE.to_owned()
    }

    /// Where clients reach the nodes.
    pub(super) fn rpc(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.rpc).collect()
    }

    /// The table, through a client that tries nothing twice, so that every refusal shows.
    pub(super) async fn table(&self) -> Result<Table, String> {
        let client = Client::builder().contact_points(self.rpc()).retry(RetryPolicy::NEVER);
        let client = client.connect().await;
        let client = client.map_err(|error| format!("the client did not connect: {error}"))?;
        Ok(client.table(KEYSPACE, TABLE))
    }
}

fn config(
    dir: &Path,
    nth: usize,
    [listen, rpc, metrics]: [SocketAddr; 3],
    internode: &[SocketAddr],
    point: &Point,
) -> String {
    // Two, so that the first one, too, finds the others when it comes back.
    let seeds: Vec<String> = internode.iter().take(2).map(|seed| format!("\"{seed}\"")).collect();
    let data = dir.join(format!("node{nth}"));
    format!(
        r#"cluster_name = "helenus-bench"
listen_address = "{listen}"
rpc_address = "{rpc}"
metrics_address = "{metrics}"
data_directory = {data:?}
seeds = [{}]
rack = "rack{nth}"
gossip_interval = "200ms"

[hints]
max_hints_size = "{}B"
hinted_handoff_throttle = "{}B/s"
overflow = "{}"
"#,
        seeds.join(", "),
        point.cap,
        point.throttle,
        point.policy.as_str()
    )
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(LOG_LINES)).copied().collect::<Vec<_>>().join("\n")
}
