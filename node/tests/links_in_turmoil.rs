//! Links over turmoil's TCP, where a segment that is lost in a partition is never sent again: the very code that runs
//! over real TCP must notice, dial anew, and do the same twice.

#![expect(clippy::unwrap_used, reason = "a test")]

use helenus_core::{Generation, NodeId};
use helenus_node::config::Config;
use helenus_node::peers::{
    Body, Handler, Lane, PeerError, Peers, PeersConfig, PeersParts, ReplyTo,
};
use helenus_node::seams::clock::Clock;
use helenus_node::seams::net::{BoxFuture, BoxIo, Listener, Net};
use helenus_node::seams::probe::{Event, Probe};
use helenus_node::seams::rng::Rng;
use helenus_node::tasks::Tasks;
use helenus_proto::v1::{Ack, ApplyMutation};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

const PORT: u16 = 7000;

struct TurmoilNet;

struct TurmoilListener(turmoil::net::TcpListener);

impl Net for TurmoilNet {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
        Box::pin(
            async move { Ok(Box::new(turmoil::net::TcpStream::connect(addr).await?) as BoxIo) },
        )
    }

    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(addr).await?;
            Ok(Box::new(TurmoilListener(listener)) as Box<dyn Listener>)
        })
    }
}

impl Listener for TurmoilListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxIo, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct SimClock;

impl Clock for SimClock {
    fn now(&self) -> Duration {
        turmoil::elapsed()
    }

    fn wall_micros(&self) -> i64 {
        0
    }
}

/// What happened, with the time and the node it happened on.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn note(&self, node: NodeId, what: &str) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.0.lock().unwrap().push(format!("{at:?} {} {what}", node.0));
    }
}

struct Tell(NodeId, Trace);

impl Probe for Tell {
    fn event(&self, event: &Event) {
        self.1.note(self.0, &format!("{event:?}"));
    }
}

struct Acks;

impl Handler for Acks {
    fn handle(&self, _: NodeId, _: Body, reply: ReplyTo) {
        reply.send(Body::Ack(Ack::default()));
    }
}

fn name(node: NodeId) -> String {
    format!("n{}", node.0)
}

async fn start(node: NodeId, all: &[NodeId], trace: &Trace) -> io::Result<Arc<Peers>> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = TurmoilNet.listen(any).await?;
    let parts = PeersParts {
        clock: Arc::new(SimClock),
        net: Arc::new(TurmoilNet),
        rng: Rng::from_seed(u64::try_from(node.0).unwrap()),
        probe: Arc::new(Tell(node, trace.clone())),
        tasks: Arc::new(Tasks::new()),
    };
    let address = SocketAddr::from((turmoil::lookup(name(node)), PORT));
    let config = PeersConfig::new(&Config::default(), node, Generation(1), address);
    let peers = Peers::new(config, parts);
    peers.serve(listener, Arc::new(Acks));
    for peer in all {
        peers.register_address(*peer, SocketAddr::from((turmoil::lookup(name(*peer)), PORT)));
    }
    Ok(peers)
}

fn cluster(seed: u64, nodes: u128, limit: Duration, trace: &Trace) -> turmoil::Sim<'static> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .tick_duration(Duration::from_millis(10))
        .simulation_duration(limit)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .build();
    let all: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
    // The first one asks; see `ask`.
    for node in all.iter().copied().skip(1) {
        let (all, trace) = (all.clone(), trace.clone());
        sim.host(name(node), move || {
            let (all, trace) = (all.clone(), trace.clone());
            async move {
                let _peers = start(node, &all, &trace).await?;
                std::future::pending().await
            }
        });
    }
    sim
}

const FIRST: NodeId = NodeId(1);

/// Asks every other node each 500 ms, and notes who answered.
async fn ask(nodes: u128, rounds: u32, trace: Trace) -> turmoil::Result {
    let all: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
    let peers = start(FIRST, &all, &trace).await?;
    let others: Vec<NodeId> = all.into_iter().skip(1).collect();
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let body = Body::Mutation(ApplyMutation::default());
        let mut call = peers.call(&others, body, Duration::from_millis(400));
        while let Some((from, answer)) = call.next().await {
            let what = match answer {
                Ok(_) => "ok",
                Err(PeerError::Expired) => "expired",
                Err(PeerError::Disconnected) => "disconnected",
                Err(PeerError::NotConnected) => "not connected",
                Err(PeerError::QueueFull | PeerError::TooLarge | PeerError::Unknown) => {
                    "another error"
                }
            };
            trace.note(FIRST, &format!("round {round} from {}: {what}", from.0));
        }
        assert!(call.waiting().is_empty());
    }
    assert!(peers.is_connected(NodeId(2), Lane::Small));
    Ok(())
}

/// Three nodes, the second of which is cut off from the first between 10 and 40 s.
fn cut_and_heal(seed: u64) -> Vec<String> {
    let trace = Trace::default();
    let mut sim = cluster(seed, 3, Duration::from_secs(120), &trace);
    sim.client(name(FIRST), ask(3, 140, trace.clone()));
    let (mut cut, mut healed) = (false, false);
    while !sim.step().unwrap() {
        if !cut && sim.elapsed() >= Duration::from_secs(10) {
            sim.partition("n1", "n2");
            cut = true;
        }
        if !healed && sim.elapsed() >= Duration::from_secs(40) {
            sim.repair("n1", "n2");
            healed = true;
        }
    }
    let lines = trace.0.lock().unwrap();
    lines.clone()
}

/// What the second node answered in `round`.
fn outcome(trace: &[String], from: u32, round: u32) -> &str {
    let what = format!("round {round} from {from}: ");
    trace.iter().find_map(|line| line.split_once(&what)).map_or("nothing", |(_, outcome)| outcome)
}

#[test]
fn a_cut_link_is_given_up_and_comes_back_after_the_heal() {
    let trace = cut_and_heal(7);
    assert_eq!(outcome(&trace, 2, 10), "ok");
    // The stream looks alive until the keepalive has gone unanswered: 5 + 5 s, and a little for the ticks.
    assert_eq!(outcome(&trace, 2, 25), "expired");
    assert_eq!(outcome(&trace, 2, 50), "not connected", "told at once, instead of waiting");
    // Healed at 40 s; a round lasts 0.5 s while everyone answers at once, and up to 0.9 s while one expires.
    assert_eq!(outcome(&trace, 2, 130), "ok");
    for round in 2..140 {
        assert_eq!(outcome(&trace, 3, round), "ok", "the third node was never cut off");
    }
    let lost = trace.iter().filter(|line| line.contains("\"lost\"")).count();
    assert!(lost >= 2, "both lanes of the first node notice: {lost}");
}

#[test]
fn the_same_seed_does_the_same_twice() {
    assert_eq!(cut_and_heal(3), cut_and_heal(3));
    assert_ne!(cut_and_heal(3), cut_and_heal(4));
}
