//! `helenus dev`: a local cluster in one process.
//!
//! The nodes are whole nodes: each has its own thread, runtime, directory, sockets and racks, and they know of each
//! other only what they gossip. A restart finds the tokens, the schema and the data where they were.
//!
//! The nodes are on 127.0.0.1, 127.0.0.2, ... with the usual ports, as they would be on several machines; where only
//! 127.0.0.1 exists (macOS), `port_base` puts them all there, side by side.
//!
//! CAVEAT: one process is one failure: this shows how replication behaves, not how it survives.

use crate::config::Config;
use crate::launch::{LaunchError, Node};
use crate::run::Ready;
use helenus_proto::v1;
use helenus_proto::v1::admin_client::AdminClient;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tonic::transport::Channel;

/// The keyspace that is there from the start.
pub const KEYSPACE: &str = "demo";
/// Its table.
pub const TABLE: &str = "kv";

const DC: &str = "dc1";
const RACKS: usize = 3;
/// Faster than a real cluster's second, so that a local one is ready, and notices an outage, sooner.
const GOSSIP_INTERVAL: Duration = Duration::from_millis(200);
/// How long the nodes may take to see each other.
const MEETING_TIME_MAX: Duration = Duration::from_secs(30);
const MEETING_POLL: Duration = Duration::from_millis(20);
/// Ports from one node to the next when they share an address.
const PORTS_A_NODE: u16 = 10;

/// What is asked for on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Each node has a directory in this one.
    pub data: PathBuf,
    /// How many nodes.
    pub nodes: u8,
    /// All on 127.0.0.1, with ports from this one on; 0: free ports. `None`: one address each, the usual ports.
    pub port_base: Option<u16>,
}

impl Options {
    /// Copies of everything: three, or as many as there are nodes.
    pub fn copies(&self) -> usize {
        usize::from(self.nodes).min(RACKS)
    }

    /// The configuration of the `nth` node, counted from 1.
    pub fn config(&self, nth: u8, seeds: Vec<SocketAddr>) -> Config {
        let defaults = Config::default();
        let place = |usual: u16, offset: u16| match self.port_base {
            None => SocketAddr::from(([127, 0, 0, nth], usual)),
            Some(0) => SocketAddr::from(([127, 0, 0, 1], 0)),
            Some(base) => {
                let ports_before = PORTS_A_NODE * (u16::from(nth) - 1);
                let port = base.saturating_add(ports_before).saturating_add(offset);
                SocketAddr::from(([127, 0, 0, 1], port))
            }
        };
        Config {
            cluster_name: "helenus-dev".to_owned(),
            listen_address: place(defaults.listen_address.port(), 0),
            rpc_address: place(defaults.rpc_address.port(), 1),
            // Drivers take it for granted that nodes differ by address and not by port.
            native_transport_address: self.port_base.is_none().then(|| place(9042, 0)),
            metrics_address: Some(place(9180, 2)),
            data_directory: self.data.join(format!("node{nth}")),
            seeds,
            dc: DC.to_owned(),
            rack: format!("rack{}", (usize::from(nth) - 1) % RACKS + 1),
            gossip_interval: GOSSIP_INTERVAL,
            ..defaults
        }
    }
}

/// Why the cluster did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// One of its nodes.
    #[error("node {nth}: {source}")]
    Node {
        /// Which, counted from 1.
        nth: usize,
        /// Why.
        source: LaunchError,
    },
    /// The nodes run, but not together.
    #[error("after {} s node {nth} sees {up} of {nodes} nodes up; the log (RUST_LOG=info) says more", MEETING_TIME_MAX.as_secs())]
    Apart {
        /// Which node, counted from 1.
        nth: usize,
        /// Nodes that are up in its eyes.
        up: usize,
        /// Nodes that were started.
        nodes: usize,
    },
    /// A node did not do what it was asked.
    #[error("a node cannot {what}: {message}")]
    Admin {
        /// What it was asked.
        what: &'static str,
        /// Its words.
        message: String,
    },
}

/// A local cluster that runs.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    ready: Vec<Ready>,
}

impl Cluster {
    /// Starts the nodes, waits until they see each other, and creates `demo.kv` unless it is there. If anything fails,
    /// what was started is stopped again.
    pub async fn start(options: &Options) -> Result<Cluster, DevError> {
        let mut cluster = Cluster { nodes: Vec::new(), ready: Vec::new() };
        match cluster.bring_up(options).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                if let Err(also) = cluster.stop().await {
                    tracing::warn!(error = %also, "while stopping after a failed start");
                }
                Err(error)
            }
        }
    }

    /// Where the nodes are, in their order.
    pub fn ready(&self) -> &[Ready] {
        &self.ready
    }

    /// Resolves if a node stops by itself.
    pub async fn ended(&mut self) -> DevError {
        let ends = self.nodes.iter_mut().zip(1..).map(|(node, nth)| {
            Box::pin(
                async move { (nth, node.ended().await.err().unwrap_or(LaunchError::Panicked)) },
            )
        });
        let ((nth, source), ..) = futures_util::future::select_all(ends).await;
        DevError::Node { nth, source }
    }

    /// Stops all nodes and waits until what they acknowledged is on disk. Tells the first failure, after the others
    /// have stopped too.
    pub async fn stop(self) -> Result<(), DevError> {
        let stops = self.nodes.into_iter().map(Node::stop);
        let outcomes = futures_util::future::join_all(stops).await;
        let failure = |(outcome, nth): (Result<(), LaunchError>, usize)| {
            outcome.err().map(|source| DevError::Node { nth, source })
        };
        outcomes.into_iter().zip(1..).find_map(failure).map_or(Ok(()), Err)
    }

    async fn bring_up(&mut self, options: &Options) -> Result<(), DevError> {
        // The first one first: with free ports, only it knows where the others find it.
        let seed = self.add(options, vec![1], &[]).await?;
        self.add(options, (2..=options.nodes).collect(), &seed).await?;
        // Every node must see all others, or the first requests to it would be refused.
        let meetings = self.ready.iter().zip(1..).map(|(ready, nth)| async move {
            let mut admin = connect(ready.rpc).await?;
            meet(&mut admin, nth, usize::from(options.nodes)).await?;
            Ok(admin)
        });
        let admins = futures_util::future::try_join_all(meetings).await?;
        let mut first = admins.into_iter().next().expect("there is at least one node");
        create_demo(&mut first, options.copies()).await
    }

    /// Starts these nodes side by side. Gives back where they listen.
    async fn add(
        &mut self,
        options: &Options,
        which: Vec<u8>,
        seeds: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, DevError> {
        let starts = which.iter().map(|&nth| async move {
            let config = options.config(nth, seeds.to_vec());
            (nth, Node::start(&format!("node{nth}"), config).await)
        });
        let mut failure = None;
        let mut listening = Vec::new();
        for (nth, outcome) in futures_util::future::join_all(starts).await {
            match outcome {
                Ok((node, ready)) => {
                    listening.push(ready.internode);
                    self.nodes.push(node);
                    self.ready.push(ready);
                }
                Err(source) => {
                    failure = failure.or(Some(DevError::Node { nth: usize::from(nth), source }));
                }
            }
        }
        failure.map_or(Ok(listening), Err)
    }
}

async fn connect(rpc: SocketAddr) -> Result<AdminClient<Channel>, DevError> {
    let refused = |error: &dyn std::fmt::Display| DevError::Admin {
        what: "be reached",
        message: error.to_string(),
    };
    let endpoint = Channel::from_shared(format!("http://{rpc}")).map_err(|e| refused(&e))?;
    Ok(AdminClient::new(endpoint.connect().await.map_err(|e| refused(&e))?))
}

fn failed(what: &'static str) -> impl Fn(tonic::Status) -> DevError {
    move |status| DevError::Admin { what, message: status.message().to_owned() }
}

/// Waits until all nodes are up in the eyes of the `nth`.
async fn meet(admin: &mut AdminClient<Channel>, nth: usize, nodes: usize) -> Result<(), DevError> {
    let up = std::sync::atomic::AtomicUsize::new(0);
    let poll = async {
        loop {
            let topology = admin.topology(v1::TopologyRequest {}).await;
            let topology = topology.map_err(failed("tell its topology"))?.into_inner();
            let seen = topology.members.iter().filter(|member| member.up).count();
            up.store(seen, std::sync::atomic::Ordering::Relaxed);
            if seen >= nodes {
                return Ok(());
            }
            tokio::time::sleep(MEETING_POLL).await;
        }
    };
    match tokio::time::timeout(MEETING_TIME_MAX, poll).await {
        Ok(outcome) => outcome,
        Err(_) => Err(DevError::Apart { nth, up: up.into_inner(), nodes }),
    }
}

async fn create_demo(admin: &mut AdminClient<Channel>, copies: usize) -> Result<(), DevError> {
    let copies = u32::try_from(copies).expect("there are at most as many copies as racks");
    let keyspace = v1::CreateKeyspaceRequest {
        name: KEYSPACE.to_owned(),
        per_dc: [(DC.to_owned(), copies)].into(),
        if_not_exists: true,
        ..Default::default()
    };
    admin.create_keyspace(keyspace).await.map_err(failed("create the keyspace demo"))?;
    let table = v1::CreateTableRequest {
        keyspace: KEYSPACE.to_owned(),
        name: TABLE.to_owned(),
        if_not_exists: true,
        ..Default::default()
    };
    admin.create_table(table).await.map_err(failed("create the table demo.kv"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn options(port_base: Option<u16>, nodes: u8) -> Options {
        Options { data: PathBuf::from("data"), nodes, port_base }
    }

    /// Every node's configuration is one that the reader of files accepts, and no two nodes clash.
    #[test]
    fn nodes_do_not_share_addresses_or_directories() {
        for options in [options(None, 9), options(Some(20_000), 9)] {
            let mut addresses = BTreeSet::new();
            let mut directories = BTreeSet::new();
            for nth in 1..=options.nodes {
                let config = options.config(nth, vec!["127.0.0.1:7000".parse().unwrap()]);
                addresses.extend([config.listen_address, config.rpc_address]);
                addresses.extend(config.metrics_address);
                addresses.extend(config.native_transport_address);
                directories.insert(config.data_directory.clone());
                assert_eq!(Config::from_toml(&config.to_toml(), "dev"), Ok(config));
            }
            // Nodes on one address speak no CQL.
            let kinds = if options.port_base.is_none() { 4 } else { 3 };
            assert_eq!(addresses.len(), 9 * kinds);
            assert_eq!(directories.len(), 9);
        }
    }

    #[test]
    fn three_nodes_are_in_three_racks_on_three_addresses() {
        let configs = [1, 2, 3].map(|nth| options(None, 3).config(nth, Vec::new()));
        assert_eq!(configs.each_ref().map(|c| c.rack.as_str()), ["rack1", "rack2", "rack3"]);
        assert_eq!(
            configs.map(|c| c.rpc_address.to_string()),
            ["127.0.0.1:9160", "127.0.0.2:9160", "127.0.0.3:9160"]
        );
    }

    #[test]
    fn a_smaller_cluster_has_fewer_copies() {
        assert_eq!([1, 2, 3, 9].map(|nodes| options(None, nodes).copies()), [1, 2, 3, 3]);
    }
}
