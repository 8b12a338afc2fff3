//! What a message between two nodes costs: 100 B there, 100 B back, over TCP on the loopback interface, both nodes on
//! one thread. `cargo bench -p helenus-node --bench links`.
//!
//! The figure to watch is CPU per operation, both ends and the kernel's share together; wall time says little on a
//! machine with other work. At 1 in flight it is mostly system calls and wakes; what coalescing buys shows at 64 and 512.
//!
//! CAVEAT: Linux only, because CPU time is read from `/proc/self/schedstat` (the main thread's, in nanoseconds).

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use bytes::Bytes;
use helenus_core::{Generation, NodeId};
use helenus_node::config::Config;
use helenus_node::peers::{Body, Handler, Peers, PeersConfig, PeersParts, ReplyTo};
use helenus_node::seams::clock::{Clock, SystemClock};
use helenus_node::seams::net::{Net, TcpNet};
use helenus_node::seams::probe::Silent;
use helenus_node::seams::rng::Rng;
use helenus_node::tasks::Tasks;
use helenus_proto::v1::{ApplyMutation, PartitionAnswer};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const VALUE_BYTES: usize = 100;
const OPERATIONS: u32 = 400_000;
const OPERATIONS_ONE_BY_ONE: u32 = 40_000;

/// Gives back what it is sent.
struct Echo;

impl Handler for Echo {
    fn handle(&self, _: NodeId, message: Body, reply: ReplyTo) {
        if let Body::Mutation(ApplyMutation { update, .. }) = message {
            reply.send(Body::Partition(PartitionAnswer {
                next: None,
                data: Some(update),
                digest: Bytes::new(),
                ..PartitionAnswer::default()
            }));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` and `cargo test --benches` pass flags of a harness that this is not.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bench())
}

async fn bench() -> Result<(), Box<dyn Error>> {
    let clock = SystemClock::new();
    println!("{:>9} {:>12} {:>14} {:>12}", "in flight", "peers a call", "CPU us a call", "calls/s");
    for peers in [1_u128, 2] {
        for in_flight in [1_u32, 64, 512] {
            let mut nodes = Vec::new();
            for node in 0..=peers {
                nodes.push(start(NodeId(node + 1)).await?);
            }
            let (coordinator, _) = nodes.first().ok_or("no node")?;
            let replicas: Vec<NodeId> = (2..peers + 2).map(NodeId).collect();
            for (replica, (_, addr)) in replicas.iter().zip(nodes.iter().skip(1)) {
                coordinator.register_address(*replica, *addr);
            }
            // Connects, and warms what is lazy.
            calls(coordinator, &replicas, in_flight, 10 * in_flight).await?;
            let total = if in_flight == 1 { OPERATIONS_ONE_BY_ONE } else { OPERATIONS };
            let (began, cpu) = (clock.now(), cpu_time()?);
            calls(coordinator, &replicas, in_flight, total).await?;
            let (wall, cpu) = (clock.now() - began, cpu_time()? - cpu);
            println!(
                "{in_flight:>9} {peers:>12} {:>14.2} {:>12.0}",
                cpu.as_secs_f64() * 1e6 / f64::from(total),
                f64::from(total) / wall.as_secs_f64(),
            );
            for (peers, _) in &nodes {
                peers.close();
            }
        }
    }
    Ok(())
}

async fn start(node: NodeId) -> Result<(Arc<Peers>, SocketAddr), Box<dyn Error>> {
    let listener = TcpNet.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let addr = listener.local_addr()?;
    let parts = PeersParts {
        clock: Arc::new(SystemClock::new()),
        net: Arc::new(TcpNet),
        rng: Rng::from_seed(1),
        probe: Arc::new(Silent),
        tasks: Arc::new(Tasks::new()),
    };
    let config = PeersConfig::new(&Config::default(), node, Generation(1), addr);
    let peers = Peers::new(config, parts);
    peers.serve(listener, Arc::new(Echo));
    Ok((peers, addr))
}

/// As many callers as calls in flight; each makes one call after the other.
async fn calls(
    coordinator: &Arc<Peers>,
    replicas: &[NodeId],
    in_flight: u32,
    total: u32,
) -> Result<(), Box<dyn Error>> {
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let (coordinator, replicas, value) =
            (coordinator.clone(), replicas.to_vec(), value.clone());
        callers.spawn(async move {
            for _ in 0..total / in_flight {
                let body = Body::Mutation(ApplyMutation {
                    update: value.clone(),
                    ..ApplyMutation::default()
                });
                let mut call = coordinator.call(&replicas, body, Duration::from_secs(10));
                while let Some((from, answer)) = call.next().await {
                    answer.map_err(|error| format!("{from}: {error}"))?;
                }
            }
            Ok::<(), String>(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    Ok(())
}

/// The main thread's, user and kernel.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos = text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}
