//! Several nodes' links in one runtime, over pipes in memory, with tokio's clock standing still until nobody has
//! anything to do.

mod calls;
mod filter;
mod links;

use super::*;
use crate::seams::net::{BoxFuture, BoxIo};
use crate::seams::probe::Silent;
use helenus_proto::v1::{Ack, ApplyMutation};
use std::io;
use std::sync::atomic::AtomicBool;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// A network of pipes. A pair of addresses can be cut: dialling fails, and what is under way stalls, as under turmoil.
#[derive(Clone, Default)]
struct Pipes {
    listeners: Arc<Mutex<BTreeMap<SocketAddr, mpsc::UnboundedSender<BoxIo>>>>,
    cut: Arc<AtomicBool>,
    dials: Arc<AtomicUsize>,
}

struct PipeListener(SocketAddr, mpsc::UnboundedReceiver<BoxIo>);

impl Listener for PipeListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async {
            match self.1.recv().await {
                Some(io) => Ok((io, self.0)),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
}

/// A pipe that swallows for good whatever is written while the network is cut.
struct Pipe {
    io: tokio::io::DuplexStream,
    cut: Arc<AtomicBool>,
    stalled: bool,
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        self.stalled |= self.cut.load(Ordering::Relaxed);
        if self.stalled {
            return std::task::Poll::Ready(Ok(buf.len()));
        }
        std::pin::Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Net for Pipes {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
        let this = self.clone();
        Box::pin(async move {
            this.dials.fetch_add(1, Ordering::Relaxed);
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            if this.cut.load(Ordering::Relaxed) {
                return Err(refused());
            }
            let listener =
                this.listeners.lock().unwrap().get(&addr).cloned().ok_or_else(refused)?;
            let (here, there) = tokio::io::duplex(64 * 1024);
            let pipe = |io| Pipe { io, cut: this.cut.clone(), stalled: false };
            listener.send(Box::new(pipe(there))).map_err(|_| refused())?;
            Ok(Box::new(pipe(here)) as BoxIo)
        })
    }

    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (tx, rx) = mpsc::unbounded_channel();
        self.listeners.lock().unwrap().insert(addr, tx);
        Box::pin(async move { Ok(Box::new(PipeListener(addr, rx)) as Box<dyn Listener>) })
    }
}

/// tokio's clock, which stands still in these tests.
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall_micros(&self) -> i64 {
        0
    }
}

/// What a test's handler does with a request.
#[derive(Default)]
struct Desk {
    /// Requests as they came.
    seen: Mutex<Vec<(NodeId, Body)>>,
    /// Answers held back, while `hold` is set.
    held: Mutex<Vec<ReplyTo>>,
    hold: AtomicBool,
    batches: AtomicUsize,
}

impl Handler for Desk {
    fn handle(&self, from: NodeId, message: Body, reply: ReplyTo) {
        self.seen.lock().unwrap().push((from, message));
        if self.hold.load(Ordering::Relaxed) {
            self.held.lock().unwrap().push(reply);
        } else if reply.is_wanted() {
            reply.send(ack());
        }
    }

    fn end_of_batch(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }
}

struct Node {
    peers: Arc<Peers>,
    desk: Arc<Desk>,
}

fn addr(n: u128) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(n).unwrap()], 7000))
}

fn config(n: u128) -> PeersConfig {
    let config = Config { cluster_name: "test".to_owned(), ..Config::default() };
    PeersConfig::new(&config, NodeId(n), Generation(1), addr(n))
}

async fn start(net: &Pipes, config: PeersConfig) -> Node {
    let listener = net.listen(config.address).await.unwrap();
    let parts = PeersParts {
        clock: Arc::new(TokioClock(tokio::time::Instant::now())),
        net: Arc::new(net.clone()),
        rng: Rng::from_seed(1),
        probe: Arc::new(Silent),
        tasks: Arc::new(Tasks::new()),
    };
    let peers = Peers::new(config, parts);
    let desk = Arc::new(Desk::default());
    peers.serve(listener, desk.clone());
    Node { peers, desk }
}

fn ack() -> Body {
    Body::Ack(Ack::default())
}

fn mutation(bytes: usize) -> Body {
    Body::Mutation(ApplyMutation { update: vec![7; bytes].into(), ..ApplyMutation::default() })
}

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two nodes, the first of which has a link to the second.
async fn pair(net: &Pipes) -> (Node, Node) {
    let one = start(net, config(1)).await;
    let two = start(net, config(2)).await;
    one.peers.register_address(N2, addr(2));
    assert_eq!(answer(&one).await, Ok(ack()));
    (one, two)
}

/// What a call from `one` to the second node comes to.
async fn answer(one: &Node) -> Result<Body, PeerError> {
    let mut inflight = one.peers.call(&[N2], mutation(10), ms(1000));
    let (from, answer) = inflight.next().await.unwrap();
    assert_eq!(from, N2);
    assert_eq!(inflight.next().await, None);
    answer
}

fn dropped(node: &Node, verb: Verb, reason: DropReason) -> u64 {
    node.peers.dropped().get(&(verb, reason)).copied().unwrap_or(0)
}

fn rule(side: Side, verb: Verb, nth: Nth, action: Action) -> Rule {
    Rule { side, verb: Some(verb), from: None, to: None, nth, action }
}
