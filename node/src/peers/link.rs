//! A link that this node dials: requests go out on it, answers come back.
//!
//! States: dialling (the first time: messages are queued) -> up -> down (messages are refused at once, so that a
//! coordinator can leave a hint instead of waiting) -> up ... A link that ends fails what it carried: what was still
//! queued as not connected, what was under way as disconnected.
//!
//! It is dialled again after a wait that doubles up to a bound. Three things cut the wait short, because each says that
//! the peer can be reached now: a [`Link::nudge`] (the peer has just dialled us), a [`Link::reset`] (the failure
//! detector gave it up), and a restart of the peer. A refused link is left alone for much longer.

use super::Peers;
use super::handshake::{Greeting, Refusal};
use super::pending::{LinkId, PeerError, Via};
use super::queue::{OutStream, Outbox, Outgoing, Queued};
use super::stats::{DropReason, Drops, LinkCounts, LinkStat, add};
use super::transport;
use super::verb::{Lane, Verb};
use crate::seams::clock::Clock;
use helenus_core::negotiate::Backoff;
use helenus_core::{Generation, NodeId};
use helenus_proto::v1::internode_client::InternodeClient;
use helenus_proto::v1::{Frame, Message};
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tonic::Streaming;
use tonic::transport::Channel;

/// From the first byte to the peer's Hello.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Waits between dials of a peer that cannot be reached.
const UNREACHABLE: Backoff =
    Backoff { base: Duration::from_millis(100), max: Duration::from_secs(5) };
/// Waits between dials of a peer that refuses: it takes an operator to change that.
const REFUSED: Backoff = Backoff { base: Duration::from_secs(10), max: Duration::from_secs(300) };
/// A link that was up for this long was a good one: the next wait is the first again.
const GOOD: Duration = Duration::from_secs(10);

/// One dialled link.
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) addr: SocketAddr,
    pub(crate) lane: Lane,
    outbox: Outbox,
    counts: LinkCounts,
    /// Who answered the last time.
    known: Mutex<Option<(NodeId, Generation)>>,
    clock: Arc<dyn Clock>,
    drops: Arc<Drops>,
    nudged: Notify,
    reset: Notify,
}

/// How a connection ended.
#[derive(Debug)]
enum Ended {
    Refused(Refusal),
    Unreachable(String),
    /// It was up that long.
    Lost {
        up_for: Duration,
        why: String,
    },
}

/// A link that was greeted on both sides.
struct Greeted {
    greeting: Greeting,
    answers: Streaming<Frame>,
    /// Held while the link lives: dropping it closes the connection.
    _client: InternodeClient<Channel>,
}

impl Link {
    pub(crate) fn new(
        id: LinkId,
        addr: SocketAddr,
        lane: Lane,
        outbox: Outbox,
        clock: Arc<dyn Clock>,
        drops: Arc<Drops>,
    ) -> Link {
        Link {
            id,
            addr,
            lane,
            outbox,
            counts: LinkCounts::default(),
            known: Mutex::new(None),
            clock,
            drops,
            nudged: Notify::new(),
            reset: Notify::new(),
        }
    }

    fn known_lock(&self) -> MutexGuard<'_, Option<(NodeId, Generation)>> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }

    /// Who answered the last time, and in which of its lives.
    pub(crate) fn known(&self) -> Option<(NodeId, Generation)> {
        *self.known_lock()
    }

    /// Queues a message.
    pub(crate) fn push(&self, queued: Queued) -> Result<(), PeerError> {
        let verb = queued.verb;
        self.outbox.push(queued).map_err(|refused| {
            self.drops.count(verb, refused.into());
            add(&self.counts.dropped, 1);
            refused.into()
        })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.outbox.is_up()
    }

    /// Dials now if it waits to dial.
    pub(crate) fn nudge(&self) {
        self.nudged.notify_waiters();
    }

    /// Gives up the connection there is, and dials now.
    pub(crate) fn reset(&self) {
        self.reset.notify_waiters();
        self.nudged.notify_waiters();
    }

    /// Ends it for good.
    pub(crate) fn close(&self) -> Vec<Queued> {
        let left = self.outbox.close();
        self.reset();
        left
    }

    pub(crate) fn stat(&self) -> LinkStat {
        let (queued, bytes) = self.outbox.depth();
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        LinkStat {
            peer: self.known().map(|(node, _)| node),
            addr: self.addr,
            lane: self.lane,
            connected: self.is_up(),
            queued: u64::try_from(queued).unwrap_or(u64::MAX),
            queued_bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            sent: count(&self.counts.sent),
            received: count(&self.counts.received),
            dropped: count(&self.counts.dropped),
            connects: count(&self.counts.connects),
            refusals: count(&self.counts.refusals),
        }
    }
}

impl Outgoing for Link {
    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn sent(&self, messages: usize, expired: &[Verb]) {
        add(&self.counts.sent, messages);
        add(&self.counts.dropped, expired.len());
        for verb in expired {
            self.drops.count(*verb, DropReason::ExpiredBeforeSend);
        }
    }
}

/// Keeps the link up until it is closed.
pub(crate) async fn run(peers: Arc<Peers>, link: Arc<Link>) {
    let mut rng: SmallRng = peers.rng.stream(&format!("link {} {}", link.addr, link.lane));
    let (mut failures, mut refusals) = (0_u32, 0_u32);
    loop {
        // Taken before the dial, so that a nudge during it counts.
        let nudged = link.nudged.notified();
        if link.outbox.is_closed() {
            return;
        }
        let ended = connect(&peers, &link).await;
        drop_queued(&peers, &link, link.outbox.shut());
        let wait = match ended {
            Ended::Refused(Refusal::Own) => {
                // A seed list may well name the node itself.
                tracing::debug!(addr = %link.addr, "this address is this node's own");
                drop_queued(&peers, &link, link.close());
                return;
            }
            Ended::Refused(why) => {
                add(&link.counts.refusals, 1);
                let wait = REFUSED.delay(refusals, rng.random());
                refusals = refusals.saturating_add(1);
                tracing::warn!(addr = %link.addr, lane = %link.lane, %why, ?wait, "link refused");
                wait
            }
            Ended::Unreachable(why) => {
                let wait = UNREACHABLE.delay(failures, rng.random());
                failures = failures.saturating_add(1);
                tracing::debug!(addr = %link.addr, lane = %link.lane, %why, ?wait, "no link");
                wait
            }
            Ended::Lost { up_for, why } => {
                refusals = 0;
                failures = if up_for >= GOOD { 0 } else { failures.saturating_add(1) };
                let wait = UNREACHABLE.delay(failures, rng.random());
                tracing::info!(addr = %link.addr, lane = %link.lane, %why, ?wait, "link lost");
                wait
            }
        };
        // A nudge beats the wait even of a refused link: it says that the peer's own Hello was accepted just now.
        tokio::select! { biased; () = nudged => {} () = tokio::time::sleep(wait) => {} }
    }
}

/// One connection, from dialling to its end.
async fn connect(peers: &Arc<Peers>, link: &Arc<Link>) -> Ended {
    let mut reset = pin!(link.reset.notified());
    let epoch = link.outbox.begin();
    let greeted = match tokio::time::timeout(DIAL_TIMEOUT, greet(peers, link, epoch)).await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(ended)) => {
            if let (Ended::Refused(why), Some((peer, _))) = (&ended, link.known())
                && *why != Refusal::Own
            {
                peers.link_event(peer, "refused");
            }
            return ended;
        }
        Err(_) => return Ended::Unreachable(format!("no answer within {DIAL_TIMEOUT:?}")),
    };
    let Greeted { greeting, mut answers, _client } = greeted;
    let peer = greeting.node;
    let since = link.clock.now();
    *link.known_lock() = Some((peer, greeting.generation));
    add(&link.counts.connects, 1);
    tracing::info!(%peer, addr = %link.addr, lane = %link.lane, version = greeting.version, "link up");
    peers.link_event(peer, "connected");
    peers.learn(peer, link.addr);
    drop_queued(peers, link, link.outbox.open(Some(peer)));
    let why = loop {
        tokio::select! {
            biased;
            // A reset beats an answer: the detector has given the peer up, or it is another life of it by now.
            () = &mut reset => break "reset".to_owned(),
            frame = answers.message() => match frame {
                Ok(Some(frame)) => take_answers(peers, link, peer, frame.messages),
                Ok(None) => break "closed by the peer".to_owned(),
                Err(status) => break status.to_string(),
            },
        }
    };
    // First shut, then fail: what is refused from now on is not waited for.
    drop_queued(peers, link, link.outbox.shut());
    peers.pending.fail_link(Some(link.id), PeerError::Disconnected);
    peers.link_event(peer, "lost");
    Ended::Lost { up_for: link.clock.now().saturating_sub(since), why }
}

async fn greet(peers: &Arc<Peers>, link: &Arc<Link>, epoch: u64) -> Result<Greeted, Ended> {
    let mut client = transport::dial(&peers.net, link.addr)
        .await
        .map_err(|error| Ended::Unreachable(with_sources(&error)))?;
    let requests = OutStream::new(peers.identity.hello(link.lane), epoch, link.clone());
    let unreachable = |status: tonic::Status| Ended::Unreachable(status.to_string());
    let mut answers = client.link(requests).await.map_err(unreachable)?.into_inner();
    let first = answers.message().await.map_err(unreachable)?;
    let hello = first
        .and_then(|frame| frame.hello)
        .ok_or_else(|| Ended::Unreachable("the first frame has no Hello".to_owned()))?;
    let greeting = peers.identity.judge(&hello).map_err(Ended::Refused)?;
    Ok(Greeted { greeting, answers, _client: client })
}

/// The causes too: tonic's own words are only "transport error".
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Tells the callers of messages that will not be sent.
pub(crate) fn drop_queued(peers: &Peers, link: &Link, left: Vec<Queued>) {
    add(&link.counts.dropped, left.len());
    for queued in left {
        peers.drops.count(queued.verb, DropReason::NotConnected);
        if let Some(target) = queued.target {
            let via = Via::Link(link.id);
            peers.pending.answer_wire(queued.message.id, target, via, PeerError::NotConnected);
        }
    }
}

/// Gives a frame's answers to those who wait for them.
fn take_answers(peers: &Arc<Peers>, link: &Arc<Link>, peer: NodeId, messages: Vec<Message>) {
    add(&link.counts.received, messages.len());
    let expected = messages.into_iter().filter_map(|message| {
        let verb = Verb::of_option(message.body.as_ref());
        if !verb.is_answer() {
            peers.drops.count(verb, DropReason::Unexpected);
            return None;
        }
        message.body.map(|body| (message.id, verb, body))
    });
    let late = |body: &_| peers.drops.count(Verb::of(body), DropReason::Late);
    if peers.filter.is_armed() {
        for (id, verb, body) in expected {
            let (to, link) = (peers.clone(), link.id);
            let answer = move |body| {
                let late = |body: &_| to.drops.count(Verb::of(body), DropReason::Late);
                to.pending.answer_all(peer, link, std::iter::once((id, body)), late);
            };
            peers.receive_filtered(verb, peer, body, answer);
        }
    } else {
        let answers = expected.map(|(id, _, body)| (id, body));
        peers.pending.answer_all(peer, link.id, answers, late);
    }
}
