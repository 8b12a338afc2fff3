//! Several nodes' links in one runtime, over pipes in memory, with tokio's clock standing still until nobody has
//! anything to do.

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
    Body::Ack(Ack {})
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

#[tokio::test(start_paused = true)]
async fn a_call_gathers_the_answers_of_all_peers_and_of_the_node_itself() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    let two = start(&net, config(2)).await;
    let three = start(&net, config(3)).await;
    one.peers.register_address(N2, addr(2));
    one.peers.register_address(N3, addr(3));
    let mut inflight = one.peers.call(&[N2, N3], mutation(100), ms(1000));
    inflight.local().send(ack());
    let mut from = Vec::new();
    while let Some((node, answer)) = inflight.next().await {
        assert_eq!(answer, Ok(ack()));
        from.push(node);
    }
    from.sort();
    assert_eq!(from, [N1, N2, N3]);
    assert_eq!(*two.desk.seen.lock().unwrap(), [(N1, mutation(100))]);
    assert_eq!(*three.desk.seen.lock().unwrap(), [(N1, mutation(100))]);
    assert_eq!(one.peers.dropped(), BTreeMap::new());
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

#[tokio::test(start_paused = true)]
async fn an_unanswered_call_expires_and_its_answer_is_late() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let begun = tokio::time::Instant::now();
    let mut kept = one.peers.call(&[N2], mutation(10), ms(1000));
    assert_eq!(kept.next().await, Some((N2, Err(PeerError::Expired))));
    let took = begun.elapsed();
    assert!(took >= ms(1000) && took <= ms(1000) + 2 * SWEEP_GRANULE, "{took:?}");
    assert_eq!(kept.next().await, None);
    for reply in two.desk.held.lock().unwrap().drain(..) {
        reply.send(ack());
    }
    tokio::time::sleep(ms(10)).await;
    assert_eq!(kept.next().await, None);
    assert_eq!(dropped(&one, Verb::Ack, DropReason::Late), 1);
}

#[tokio::test(start_paused = true)]
async fn a_short_call_behind_a_long_one_expires_in_its_own_time() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut long = one.peers.call(&[N2], mutation(10), ms(10_000));
    tokio::time::sleep(ms(100)).await;
    let begun = tokio::time::Instant::now();
    let mut short = one.peers.call(&[N2], mutation(10), ms(200));
    assert_eq!(short.next().await, Some((N2, Err(PeerError::Expired))));
    assert!(begun.elapsed() <= ms(200) + 2 * SWEEP_GRANULE);
    assert_eq!(long.waiting(), [N2]);
    assert_eq!(long.next().await, Some((N2, Err(PeerError::Expired))));
}

#[tokio::test(start_paused = true)]
async fn a_call_expires_for_each_peer_though_nobody_polls_it() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut kept = one.peers.call(&[N2, N3], mutation(10), ms(100));
    let unanswered = kept.local();
    tokio::time::sleep(ms(1000)).await;
    assert_eq!(kept.waiting(), []);
    let mut errors = Vec::new();
    while let Some((node, answer)) = kept.next().await {
        errors.push((node, answer.unwrap_err()));
    }
    errors.sort();
    let expected = [(N1, PeerError::Expired), (N2, PeerError::Expired), (N3, PeerError::Unknown)];
    assert_eq!(errors, expected);
    unanswered.send(ack());
    assert_eq!(dropped(&one, Verb::Ack, DropReason::Late), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_and_counts_by_verb() {
    let net = Pipes::default();
    let two = start(&net, config(2)).await;
    let one = start(&net, PeersConfig { queue_bytes: 3500, ..config(1) }).await;
    one.peers.register_address(N2, addr(2));
    // Nothing is drained while this task does not yield.
    let calls: Vec<_> = (0..5).map(|_| one.peers.call(&[N2], mutation(1000), ms(1000))).collect();
    let mut outcomes = Vec::new();
    for mut call in calls {
        outcomes.push(call.next().await.unwrap().1);
    }
    let full = Err(PeerError::QueueFull);
    assert_eq!(outcomes, [Ok(ack()), Ok(ack()), Ok(ack()), full.clone(), full]);
    assert_eq!(dropped(&one, Verb::Mutation, DropReason::QueueFull), 2);
    assert_eq!(two.desk.seen.lock().unwrap().len(), 3);
    assert_eq!(answer(&one).await, Ok(ack()), "it takes more once it is drained");
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_goes_out_together_and_is_one_batch() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.batches.store(0, Ordering::Relaxed);
    let calls: Vec<_> = (0..100).map(|_| one.peers.call(&[N2], mutation(10), ms(1000))).collect();
    for mut call in calls {
        assert_eq!(call.next().await, Some((N2, Ok(ack()))));
    }
    assert_eq!(two.desk.batches.load(Ordering::Relaxed), 1);
    assert_eq!(two.desk.seen.lock().unwrap().len(), 101);
}

#[tokio::test(start_paused = true)]
async fn answers_may_come_later_and_in_another_order() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut first = one.peers.call(&[N2], mutation(1), ms(1000));
    let mut second = one.peers.call(&[N2], mutation(2), ms(1000));
    tokio::time::sleep(ms(100)).await;
    let mut held = std::mem::take(&mut *two.desk.held.lock().unwrap());
    assert_eq!(held.len(), 2);
    held.pop().unwrap().send(ack());
    assert_eq!(second.next().await, Some((N2, Ok(ack()))));
    assert_eq!(first.waiting(), [N2]);
    held.pop().unwrap().send(ack());
    assert_eq!(first.next().await, Some((N2, Ok(ack()))));
}

#[tokio::test(start_paused = true)]
async fn whoever_was_dialled_can_answer_on_a_link_of_its_own() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    let two = start(&net, config(2)).await;
    // As with a seed: only the address is known.
    one.peers.send_one_way(addr(2), Lane::Urgent, mutation(5)).unwrap();
    tokio::time::sleep(ms(100)).await;
    assert_eq!(*two.desk.seen.lock().unwrap(), [(N1, mutation(5))]);
    assert_eq!(one.peers.address(N2), Some(addr(2)));
    assert!(one.peers.is_connected(N2, Lane::Urgent));
    two.peers.send_one_way(N1, Lane::Urgent, mutation(6)).unwrap();
    tokio::time::sleep(ms(100)).await;
    assert_eq!(*one.desk.seen.lock().unwrap(), [(N2, mutation(6))]);
    assert_eq!(two.peers.send_one_way(N3, Lane::Urgent, mutation(7)), Err(PeerError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_noticed_by_keepalive_and_healed_by_dialling_again() {
    let net = Pipes::default();
    let (one, _two) = pair(&net).await;
    net.cut.store(true, Ordering::Relaxed);
    // The first calls find nothing wrong: their bytes only vanish.
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    let mut under_way = one.peers.call(&[N2], mutation(10), ms(60_000));
    assert_eq!(under_way.next().await, Some((N2, Err(PeerError::Disconnected))));
    let begun = tokio::time::Instant::now();
    assert_eq!(answer(&one).await, Err(PeerError::NotConnected));
    assert_eq!(begun.elapsed(), Duration::ZERO, "a coordinator is told at once");
    tokio::time::sleep(Duration::from_secs(600)).await;
    net.cut.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn a_reset_does_not_wait_for_keepalive() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut under_way = one.peers.call(&[N2], mutation(10), ms(60_000));
    tokio::time::sleep(ms(10)).await;
    one.peers.reset(N2);
    let begun = tokio::time::Instant::now();
    assert_eq!(under_way.next().await, Some((N2, Err(PeerError::Disconnected))));
    two.desk.hold.store(false, Ordering::Relaxed);
    tokio::time::sleep(ms(200)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
    assert!(begun.elapsed() < DIAL_SOON);
}

/// Longer than the first wait, shorter than any keepalive.
const DIAL_SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_peer_that_dials_us_is_dialled_without_waiting() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    one.peers.register_address(N2, addr(2));
    // Nobody listens there: the waits have grown to their bound.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(answer(&one).await, Err(PeerError::NotConnected));
    let two = start(&net, config(2)).await;
    two.peers.register_address(N1, addr(1));
    tokio::time::sleep(ms(10)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_peer_is_dialled_anew_though_its_old_connection_never_ended() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    // Power loss: no byte of the old life arrives any more, not even its end.
    net.cut.store(true, Ordering::Relaxed);
    one.peers.send_one_way(N2, Lane::Small, mutation(1)).unwrap();
    two.peers.close();
    tokio::time::sleep(ms(10)).await;
    net.cut.store(false, Ordering::Relaxed);
    let again = start(&net, PeersConfig { generation: Generation(2), ..config(2) }).await;
    again.peers.register_address(N1, addr(1));
    tokio::time::sleep(ms(10)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(again.desk.seen.lock().unwrap().len(), 1);
}

async fn refused(net: &Pipes, theirs: PeersConfig) -> Node {
    let one = start(net, config(1)).await;
    let _two = start(net, theirs).await;
    one.peers.register_address(N2, addr(2));
    let mut first = one.peers.call(&[N2], mutation(10), ms(1000));
    assert_eq!(first.next().await, Some((N2, Err(PeerError::NotConnected))));
    assert!(!one.peers.is_connected(N2, Lane::Small));
    net.dials.store(0, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let dials = net.dials.load(Ordering::Relaxed);
    assert!(dials > 0 && dials < 60, "two lanes dialled {dials} times in an hour");
    one
}

#[tokio::test(start_paused = true)]
async fn another_cluster_is_refused_and_seldom_asked_again() {
    let net = Pipes::default();
    let other = PeersConfig { cluster_name: "other".to_owned(), ..config(2) };
    let one = refused(&net, other).await;
    assert!(one.peers.link_stats().iter().all(|link| link.refusals > 1 && link.connects == 0));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_nobody_shares_is_refused_and_one_that_is_shared_is_spoken() {
    let versions = |min, max| VersionRange { min, max };
    let net = Pipes::default();
    refused(&net, PeersConfig { versions: versions(9, 9), ..config(2) }).await;
    let net = Pipes::default();
    let one = start(&net, PeersConfig { versions: versions(1, 3), ..config(1) }).await;
    let _two = start(&net, PeersConfig { versions: versions(3, 9), ..config(2) }).await;
    one.peers.register_address(N2, addr(2));
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn a_refused_peer_that_was_upgraded_is_dialled_without_waiting() {
    let net = Pipes::default();
    let old = VersionRange { min: 9, max: 9 };
    let one = refused(&net, PeersConfig { versions: old, ..config(2) }).await;
    let upgraded = start(&net, PeersConfig { generation: Generation(2), ..config(2) }).await;
    upgraded.peers.register_address(N1, addr(1));
    tokio::time::sleep(ms(10)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_link_that_is_gone_is_counted() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let under_way = one.peers.call(&[N2], mutation(1), ms(60_000));
    tokio::time::sleep(ms(10)).await;
    one.peers.reset(N2);
    tokio::time::sleep(ms(10)).await;
    assert_eq!(under_way.waiting(), []);
    two.desk.held.lock().unwrap().pop().unwrap().send(ack());
    assert_eq!(dropped(&two, Verb::Ack, DropReason::NotConnected), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dials_itself_stops() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    one.peers.send_one_way(addr(1), Lane::Urgent, mutation(1)).unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(net.dials.load(Ordering::Relaxed), 1);
    assert_eq!(one.desk.seen.lock().unwrap().len(), 0);
    assert_eq!(dropped(&one, Verb::Mutation, DropReason::NotConnected), 1);
}

fn rule(side: Side, verb: Verb, nth: Nth, action: Action) -> Rule {
    Rule { side, verb: Some(verb), from: None, to: None, nth, action }
}

#[tokio::test(start_paused = true)]
async fn the_filter_drops_the_message_that_a_rule_names_and_no_other() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    one.peers.filter().arm(vec![rule(Side::Send, Verb::Mutation, Nth::Only(2), Action::Drop)]);
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(dropped(&one, Verb::Mutation, DropReason::Filtered), 1);
    // The request arrives and is acted on; only its answer is lost.
    one.peers.filter().arm(vec![rule(Side::Receive, Verb::Ack, Nth::Every, Action::Drop)]);
    let before = two.desk.seen.lock().unwrap().len();
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    assert_eq!(two.desk.seen.lock().unwrap().len(), before + 1);
    one.peers.filter().disarm();
    two.peers.filter().arm(vec![rule(Side::Send, Verb::Ack, Nth::Only(1), Action::Drop)]);
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn the_filter_doubles_requests_and_answers_and_the_second_answer_is_late() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    one.peers.filter().arm(vec![rule(Side::Send, Verb::Mutation, Nth::Every, Action::Duplicate)]);
    let before = two.desk.seen.lock().unwrap().len();
    assert_eq!(answer(&one).await, Ok(ack()));
    tokio::time::sleep(ms(10)).await;
    assert_eq!(two.desk.seen.lock().unwrap().len(), before + 2);
    assert_eq!(dropped(&one, Verb::Ack, DropReason::Late), 1);
    one.peers.filter().arm(vec![rule(Side::Receive, Verb::Ack, Nth::Every, Action::Duplicate)]);
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(dropped(&one, Verb::Ack, DropReason::Late), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_is_overtaken_and_one_delayed_for_too_long_is_not_handled() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    let late = Action::Delay(ms(300));
    two.peers.filter().arm(vec![rule(Side::Receive, Verb::Mutation, Nth::Only(1), late)]);
    two.desk.seen.lock().unwrap().clear();
    let mut first = one.peers.call(&[N2], mutation(1), ms(1000));
    let mut second = one.peers.call(&[N2], mutation(2), ms(1000));
    assert_eq!(second.next().await, Some((N2, Ok(ack()))));
    assert_eq!(first.waiting(), [N2]);
    assert_eq!(first.next().await, Some((N2, Ok(ack()))));
    assert_eq!(*two.desk.seen.lock().unwrap(), [(N1, mutation(2)), (N1, mutation(1))]);

    let too_late = Action::Delay(ms(2000));
    two.peers.filter().arm(vec![rule(Side::Receive, Verb::Mutation, Nth::Every, too_late)]);
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    tokio::time::sleep(ms(3000)).await;
    assert_eq!(two.desk.seen.lock().unwrap().len(), 2);
    assert_eq!(dropped(&two, Verb::Mutation, DropReason::ExpiredBeforeHandling), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_moved_is_found_and_one_that_is_forgotten_is_not() {
    let net = Pipes::default();
    let (one, _old) = pair(&net).await;
    let moved = start(&net, PeersConfig { address: addr(9), ..config(2) }).await;
    one.peers.register_address(N2, addr(9));
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(moved.desk.seen.lock().unwrap().len(), 1);
    assert_eq!(one.peers.link_stats().iter().filter(|link| link.addr == addr(2)).count(), 0);
    one.peers.forget(N2);
    assert_eq!(answer(&one).await, Err(PeerError::Unknown));
    assert_eq!(one.peers.link_stats(), []);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_node_has_taken_over_gets_nothing_meant_for_the_first() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    let three = start(&net, PeersConfig { node: N3, ..config(2) }).await;
    one.peers.register_address(N2, addr(2));
    assert_eq!(answer(&one).await, Err(PeerError::NotConnected), "queued before the Hello");
    assert_eq!(answer(&one).await, Err(PeerError::NotConnected), "after it");
    assert_eq!(three.desk.seen.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_node_fails_what_is_under_way_and_sends_no_more() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut under_way = one.peers.call(&[N2], mutation(1), ms(60_000));
    tokio::time::sleep(ms(10)).await;
    one.peers.close();
    assert_eq!(under_way.next().await, Some((N2, Err(PeerError::Disconnected))));
    assert!(answer(&one).await.is_err());
    tokio::time::sleep(ms(10)).await;
    assert_eq!(two.peers.sessions().len(), 0, "the other end notices");
}

#[tokio::test(start_paused = true)]
async fn metrics_and_figures_tell_the_same() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    drop(one.peers.call(&[N3], mutation(1), ms(1000)));
    one.peers.filter().arm(vec![rule(Side::Send, Verb::Mutation, Nth::Every, Action::Drop)]);
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    let small = one.peers.link_stats().into_iter().find(|link| link.lane == Lane::Small).unwrap();
    assert_eq!((small.connected, small.sent, small.received, small.connects), (true, 1, 1, 1));
    assert_eq!(small.peer, Some(N2));
    let mut registry = Registry::with_prefix("helenus");
    one.peers.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        format!("helenus_link_up{{peer=\"{N2}\",lane=\"small\"}} 1"),
        format!("helenus_link_sent_messages_total{{peer=\"{N2}\",lane=\"small\"}} 1"),
        "helenus_dropped_messages_total{verb=\"MUTATION\",reason=\"filtered\"} 1".to_owned(),
        "helenus_link_sessions 2".to_owned(),
        "helenus_open_calls 0".to_owned(),
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in:\n{text}");
    }
    assert_eq!(two.peers.sessions().len(), 2);
}

#[tokio::test]
async fn the_same_over_tcp() {
    let net = crate::seams::net::TcpNet;
    let mut nodes = Vec::new();
    for n in [1, 2] {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = net.listen(any).await.unwrap();
        let address = listener.local_addr().unwrap();
        let parts = PeersParts {
            clock: Arc::new(crate::seams::clock::SystemClock::new()),
            net: Arc::new(net),
            rng: Rng::from_seed(1),
            probe: Arc::new(Silent),
            tasks: Arc::new(Tasks::new()),
        };
        let peers = Peers::new(PeersConfig { address, ..config(n) }, parts);
        let desk = Arc::new(Desk::default());
        peers.serve(listener, desk.clone());
        nodes.push((Node { peers, desk }, address));
    }
    let (two, at) = nodes.pop().unwrap();
    let (one, _) = nodes.pop().unwrap();
    one.peers.register_address(N2, at);
    for bytes in [0, 100, 20_000_000] {
        let mut inflight = one.peers.call(&[N2], mutation(bytes), Duration::from_secs(60));
        assert_eq!(inflight.next().await, Some((N2, Ok(ack()))));
        assert_eq!(two.desk.seen.lock().unwrap().pop(), Some((N1, mutation(bytes))));
    }
}

/// Answers with more than a link takes.
struct TooMuch;

impl Handler for TooMuch {
    fn handle(&self, _: NodeId, _: Body, reply: ReplyTo) {
        reply.send(mutation(queue::MESSAGE_BYTES_MAX));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_costs_neither_the_link_nor_its_other_messages() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    let mut inflight = one.peers.call(&[N2], mutation(queue::MESSAGE_BYTES_MAX), ms(1000));
    assert_eq!(inflight.next().await, Some((N2, Err(PeerError::TooLarge))));
    assert_eq!(dropped(&one, Verb::Mutation, DropReason::TooLarge), 1);
    assert_eq!(answer(&one).await, Ok(ack()));

    two.peers.serve(net.listen(addr(9)).await.unwrap(), Arc::new(TooMuch));
    one.peers.register_address(N2, addr(9));
    let Ok(Body::Failed(failed)) = answer(&one).await else { panic!("it was sent") };
    assert_eq!(failed.reason, "TOO_LARGE");
    assert_eq!(dropped(&two, Verb::Mutation, DropReason::TooLarge), 1);
}

/// What a dialler that says `frames`, and then nothing, is told until the link ends or `patience` does.
async fn told(net: &Pipes, frames: Vec<helenus_proto::v1::Frame>) -> Vec<helenus_proto::v1::Frame> {
    let net: Arc<dyn Net> = Arc::new(net.clone());
    let mut client = transport::dial(&net, addr(2)).await.unwrap();
    let says =
        futures_util::StreamExt::chain(tokio_stream::iter(frames), futures_util::stream::pending());
    let mut answers = client.link(says).await.unwrap().into_inner();
    let mut told = Vec::new();
    let patience = Duration::from_secs(3600);
    while let Ok(Ok(Some(frame))) = tokio::time::timeout(patience, answers.message()).await {
        told.push(frame);
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_dialler_without_manners_is_told_nothing_and_an_unknown_request_is_refused() {
    use helenus_proto::v1::Frame;
    let net = Pipes::default();
    let two = start(&net, config(2)).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(told(&net, Vec::new()).await, [], "it says nothing");
    assert!(begun.elapsed() < Duration::from_secs(60), "and is not waited for");
    assert_eq!(told(&net, vec![Frame::default()]).await, [], "it does not greet");

    let one = start(&net, config(1)).await;
    let hello = one.peers.identity.hello(Lane::Small);
    let message = |id, body| Message { id, timeout_ms: 0, body };
    let requests = vec![
        message(5, None),
        message(6, Some(ack())),
        message(0, None),
        message(7, Some(mutation(1))),
    ];
    let frames = vec![
        Frame { hello: Some(hello), messages: Vec::new() },
        Frame { hello: None, messages: requests },
    ];
    let mut told = told(&net, frames).await.into_iter();
    assert_eq!(told.next().unwrap().hello, Some(two.peers.identity.hello(Lane::Small)));
    let answers: Vec<_> = told.flat_map(|frame| frame.messages).collect();
    assert_eq!(answers.iter().map(|m| m.id).collect::<Vec<_>>(), [5, 7]);
    let Some(Body::Failed(failed)) = &answers[0].body else { panic!("{answers:?}") };
    assert_eq!(failed.reason, "UNKNOWN_VERB");
    assert_eq!(answers[1].body, Some(ack()));
    assert_eq!(dropped(&two, Verb::Unknown, DropReason::Unexpected), 2);
    assert_eq!(dropped(&two, Verb::Ack, DropReason::Unexpected), 1);
}
