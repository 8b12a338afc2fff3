//! One node, one connection, one stream: all operations to a node share it, and answers come in any order.
//!
//! A request waits in the *outbox* until the transport takes it; the transport takes whatever is ready each time it
//! writes, so concurrent requests share system calls without any timer. From then on the request is *handed over*: if
//! the connection breaks, nobody knows whether the node saw it. That border is what makes `may_have_applied` exact.
//!
//! The link connects by itself, again after each loss, with a backoff that grows and is jittered. While it has no
//! connection, requests fail at once (the caller has other nodes to ask); only during the very first attempt, and the
//! first one after a loss, do they wait. A caller that has no other node to ask *wants* the link ([`Link::up`]): while
//! anybody does, the link rests only for the least backoff between two attempts.
//!
//! Invariants: `outbox` is a subset of `pending`; `pending` never exceeds `in_flight_max`; every entry of `pending` has
//! exactly one caller waiting for it.

use crate::channel::{self, ChannelOptions};
use crate::connect::Connect;
use crate::error::{KvError, SharedError, root_cause};
use crate::stats::Counters;
use crate::task::Task;
use futures_util::Stream;
use helenus_proto::{limit, v1};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;

/// How a link behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkOptions {
    pub(crate) channel: ChannelOptions,
    /// Requests without an answer yet; the next one is refused and counted.
    pub(crate) in_flight_max: usize,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    /// Of the backoff's jitter.
    pub(crate) seed: u64,
}

/// Where a link stands.
#[derive(Clone)]
enum Phase {
    /// The first attempt, or the first after a loss: worth waiting for.
    Connecting,
    Up(Channel),
    /// The last attempt failed; the link goes on trying.
    Down {
        reason: String,
    },
}

/// How promising a link is. Smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Readiness {
    Up,
    Connecting,
    Down,
}

/// What an operation says about itself beside its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallContext {
    pub(crate) write: bool,
    pub(crate) deadline: Instant,
    /// The whole operation's time, for the error message.
    pub(crate) timeout: Duration,
}

/// The link.
pub(crate) struct Link {
    shared: Arc<Shared>,
    _task: Task,
}

struct Shared {
    addr: SocketAddr,
    in_flight_max: usize,
    state: Mutex<State>,
    phase: watch::Sender<Phase>,
    /// Callers that wait for this link because no node is connected.
    wanted: watch::Sender<usize>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct State {
    /// Which connection is the current one; a stream of an older one gets nothing.
    connection: u64,
    open: bool,
    /// The id given last; ids are never reused within a link.
    last_id: u64,
    /// Not yet taken by the transport, in order of their ids.
    outbox: BTreeMap<u64, v1::KvRequest>,
    pending: BTreeMap<u64, Pending>,
    /// The largest request that the node said it reads, if it said so on this connection.
    request_bytes_max: Option<usize>,
    /// The transport's, while it waits for the outbox to fill.
    transport: Option<Waker>,
    answered: bool,
}

/// A request without an answer yet.
struct Pending {
    /// Its size on the wire.
    bytes: usize,
    sender: oneshot::Sender<Result<v1::KvResponse, Unanswered>>,
}

/// Why a request gets no answer.
#[derive(Debug, Clone)]
enum Unanswered {
    /// The connection went away under it.
    Lost {
        /// Whether the transport had taken the request.
        handed_over: bool,
        reason: String,
        source: Option<SharedError>,
    },
    /// The node does not read it.
    TooLarge { bytes: usize, bytes_max: usize },
}

impl Link {
    /// Starts connecting to `addr`.
    pub(crate) fn start(
        addr: SocketAddr,
        connector: Arc<dyn Connect>,
        options: LinkOptions,
        counters: Arc<Counters>,
    ) -> Link {
        let shared = Arc::new(Shared {
            addr,
            in_flight_max: options.in_flight_max,
            state: Mutex::new(State::default()),
            phase: watch::Sender::new(Phase::Connecting),
            wanted: watch::Sender::new(0),
            counters,
        });
        let task = Task::spawn(run(Arc::clone(&shared), connector, options));
        Link { shared, _task: task }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        match &*self.shared.phase.borrow() {
            Phase::Up(_) => Readiness::Up,
            Phase::Connecting => Readiness::Connecting,
            Phase::Down { .. } => Readiness::Down,
        }
    }

    /// The connection's channel, for calls beside the stream. Waits while the link is connecting.
    pub(crate) async fn channel(&self) -> Result<Channel, String> {
        let mut phase = self.shared.phase.subscribe();
        match phase.wait_for(|phase| !matches!(phase, Phase::Connecting)).await.as_deref() {
            Ok(Phase::Up(channel)) => Ok(channel.clone()),
            Ok(Phase::Down { reason }) => Err(reason.clone()),
            Ok(Phase::Connecting) | Err(_) => Err("the link was closed".to_owned()),
        }
    }

    /// Waits until the link is up, however long that takes, and makes it dial soon meanwhile. Dropping the future takes
    /// the wish back.
    pub(crate) async fn up(&self) {
        let _wish = Wish::new(&self.shared);
        let mut phase = self.shared.phase.subscribe();
        if phase.wait_for(|phase| matches!(phase, Phase::Up(_))).await.is_err() {
            // The sender lives as long as `self`.
            std::future::pending::<()>().await;
        }
    }

    /// Sends `request` (its `id` is overwritten) and waits for its answer until the deadline.
    pub(crate) async fn call(
        &self,
        request: v1::KvRequest,
        context: CallContext,
    ) -> Result<v1::KvResponse, KvError> {
        let shared = &self.shared;
        let deadline = |sent| KvError::Deadline {
            addr: shared.addr,
            timeout: context.timeout,
            sent,
            write: context.write,
        };
        if self.readiness() == Readiness::Connecting {
            let connected = timeout_at(context.deadline, self.channel()).await;
            if connected.is_err() {
                return Err(deadline(false));
            }
        }
        let mut flight = shared.enqueue(request)?;
        match timeout_at(context.deadline, &mut flight.answer).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(unanswered))) => Err(unanswered.into_error(shared.addr, context.write)),
            Ok(Err(_)) => {
                let handed_over = flight.handed_over();
                let reason = "the client was closed".to_owned();
                let lost = Unanswered::Lost { handed_over, reason, source: None };
                Err(lost.into_error(shared.addr, context.write))
            }
            Err(_) => Err(deadline(flight.handed_over())),
        }
    }
}

impl Drop for Link {
    /// The connection's task holds the outbox, and the link's phase holds the connection: the circle is cut here.
    fn drop(&mut self) {
        self.shared.closed("the link was closed", None);
        self.shared.phase.send_replace(Phase::Down { reason: "the link was closed".to_owned() });
    }
}

impl Unanswered {
    fn into_error(self, addr: SocketAddr, write: bool) -> KvError {
        match self {
            Unanswered::Lost { handed_over: true, reason, source } => {
                KvError::ConnectionLost { addr, reason, write, source }
            }
            Unanswered::Lost { handed_over: false, reason, source } => {
                KvError::NotConnected { addr, reason, source }
            }
            Unanswered::TooLarge { bytes, bytes_max } => {
                KvError::TooLarge { addr, bytes, bytes_max }
            }
        }
    }
}

impl Shared {
    /// The state is plain data that no code leaves half-changed, so a panic elsewhere while it was locked is no reason
    /// to stop.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Self>, mut request: v1::KvRequest) -> Result<Flight, KvError> {
        let mut state = self.state();
        if !state.open {
            drop(state);
            let reason = match &*self.phase.borrow() {
                Phase::Down { reason } => reason.clone(),
                Phase::Connecting | Phase::Up(_) => "the connection was just lost".to_owned(),
            };
            return Err(KvError::NotConnected { addr: self.addr, reason, source: None });
        }
        if state.pending.len() >= self.in_flight_max {
            self.counters.refused_in_flight.add(1);
            let in_flight_max = self.in_flight_max;
            return Err(KvError::TooMuchInFlight { addr: self.addr, in_flight_max });
        }
        state.last_id += 1;
        let id = state.last_id;
        request.id = id;
        let bytes = limit::request_bytes(&request);
        if let Some(bytes_max) = state.request_bytes_max.filter(|max| bytes > *max) {
            // Sending it would end the stream for all the others.
            return Err(KvError::TooLarge { addr: self.addr, bytes, bytes_max });
        }
        let (sender, answer) = oneshot::channel();
        state.pending.insert(id, Pending { bytes, sender });
        state.outbox.insert(id, request);
        let waker = state.transport.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(Flight { id, shared: Arc::clone(self), answer })
    }

    /// A new connection is there. Returns the requests that it is to carry.
    fn opened(self: &Arc<Self>, channel: Channel) -> Outgoing {
        let mut state = self.state();
        state.connection += 1;
        state.open = true;
        state.answered = false;
        state.request_bytes_max = None;
        let connection = state.connection;
        drop(state);
        self.counters.connects.add(1);
        self.phase.send_replace(Phase::Up(channel));
        Outgoing { shared: Arc::clone(self), connection }
    }

    fn answered(&self, response: v1::KvResponse) {
        let mut state = self.state();
        state.answered = true;
        let waiting = state.pending.remove(&response.id);
        // A node cannot answer what it was not asked; should it claim so, the request must not be sent after its answer.
        state.outbox.remove(&response.id);
        drop(state);
        let late = match waiting {
            Some(pending) => pending.sender.send(Ok(response)).is_err(),
            None => true,
        };
        if late {
            self.counters.late_answers.add(1);
        }
    }

    /// The node says how large a request it reads: those that are larger end here, whether they were handed over or not.
    fn reads_at_most(&self, bytes_max: usize) {
        let mut state = self.state();
        state.request_bytes_max = Some(bytes_max);
        let pending = std::mem::take(&mut state.pending);
        let (too_large, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            pending.into_iter().partition(|(_, pending)| pending.bytes > bytes_max);
        state.pending = rest;
        for id in too_large.keys() {
            state.outbox.remove(id);
        }
        // That was an answer: the node is well, and if this ends the connection, the next one is made at once.
        state.answered |= !too_large.is_empty();
        drop(state);
        for Pending { bytes, sender } in too_large.into_values() {
            // Whoever stopped waiting meanwhile needs no word.
            drop(sender.send(Err(Unanswered::TooLarge { bytes, bytes_max })));
        }
    }

    /// The connection is gone: everyone who waits is told. Returns whether the connection ever answered anything.
    fn lost(&self, reason: &str, source: Option<SharedError>) -> bool {
        self.counters.connections_lost.add(1);
        self.closed(reason, source)
    }

    fn closed(&self, reason: &str, source: Option<SharedError>) -> bool {
        let mut state = self.state();
        state.open = false;
        state.connection += 1;
        let answered = state.answered;
        let outbox = std::mem::take(&mut state.outbox);
        let pending = std::mem::take(&mut state.pending);
        let waker = state.transport.take();
        drop(state);
        for (id, Pending { sender, .. }) in pending {
            let handed_over = !outbox.contains_key(&id);
            let (reason, source) = (reason.to_owned(), source.clone());
            let lost = Unanswered::Lost { handed_over, reason, source };
            drop(sender.send(Err(lost)));
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        answered
    }
}

/// Somebody waits for a link, until this is dropped.
struct Wish<'a> {
    shared: &'a Shared,
}

impl Wish<'_> {
    fn new(shared: &Shared) -> Wish<'_> {
        shared.wanted.send_modify(|wanted| *wanted += 1);
        Wish { shared }
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.shared.wanted.send_modify(|wanted| *wanted -= 1);
    }
}

/// One request in flight. Dropping it gives up waiting and frees its place.
struct Flight {
    id: u64,
    shared: Arc<Shared>,
    answer: oneshot::Receiver<Result<v1::KvResponse, Unanswered>>,
}

impl Flight {
    fn handed_over(&self) -> bool {
        !self.shared.state().outbox.contains_key(&self.id)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.pending.remove(&self.id);
        state.outbox.remove(&self.id);
    }
}

/// The requests of one connection, as the transport takes them.
struct Outgoing {
    shared: Arc<Shared>,
    connection: u64,
}

impl Stream for Outgoing {
    type Item = v1::KvRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<v1::KvRequest>> {
        let mut state = self.shared.state();
        if state.connection != self.connection {
            return Poll::Ready(None);
        }
        match state.outbox.pop_first() {
            Some((_, request)) => Poll::Ready(Some(request)),
            None => {
                state.transport = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Connects, carries the stream until it breaks, and again, for as long as the link exists.
async fn run(shared: Arc<Shared>, connector: Arc<dyn Connect>, options: LinkOptions) {
    let mut backoff = Backoff::new(&options, shared.addr);
    let mut wanted = shared.wanted.subscribe();
    loop {
        match channel::open(shared.addr, Arc::clone(&connector), options.channel).await {
            Ok(channel) => {
                let outgoing = shared.opened(channel.clone());
                let (reason, source) = carry(&shared, channel, outgoing).await;
                tracing::debug!(addr = %shared.addr, reason, "connection lost");
                if shared.lost(&reason, source) {
                    // It worked until now, so a new connection is likely: callers wait for this one attempt.
                    backoff.reset();
                    shared.phase.send_replace(Phase::Connecting);
                    continue;
                }
                shared.phase.send_replace(Phase::Down { reason });
            }
            Err(reason) => {
                shared.counters.connect_failures.add(1);
                tracing::debug!(addr = %shared.addr, reason, "cannot connect");
                shared.phase.send_replace(Phase::Down { reason });
            }
        }
        // The least rest is kept even if somebody waits, or a node that is down would be dialled in a tight loop.
        let rest = backoff.next();
        let least = rest.min(options.backoff_min);
        sleep(least).await;
        tokio::select! {
            biased;
            _ = wanted.wait_for(|wanted| *wanted > 0) => {}
            () = sleep(rest - least) => {}
        }
    }
}

/// Hands answers to those who wait for them until the stream ends, and returns why it did.
async fn carry(
    shared: &Shared,
    channel: Channel,
    outgoing: Outgoing,
) -> (String, Option<SharedError>) {
    let mut answers = match channel::kv(channel).stream(outgoing).await {
        Ok(response) => {
            if let Some(bytes_max) = limit::announced(response.metadata()) {
                shared.reads_at_most(bytes_max);
            }
            response.into_inner()
        }
        Err(status) => return why(shared, status),
    };
    loop {
        match answers.message().await {
            Ok(Some(response)) => shared.answered(response),
            Ok(None) => return ("the node closed the stream".to_owned(), None),
            Err(status) => return why(shared, status),
        }
    }
}

fn why(shared: &Shared, status: tonic::Status) -> (String, Option<SharedError>) {
    if let Some(bytes_max) = limit::announced(status.metadata()) {
        shared.reads_at_most(bytes_max);
    }
    (root_cause(&status), Some(Arc::new(status)))
}

/// How long to wait before connecting again: doubling, bounded, and jittered so that clients of a node that came back
/// do not arrive all at once.
struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    rng: SmallRng,
}

impl Backoff {
    fn new(options: &LinkOptions, addr: SocketAddr) -> Backoff {
        let ip = match addr.ip() {
            IpAddr::V4(ip) => u64::from(u32::from(ip)),
            IpAddr::V6(ip) => {
                let ip = u128::from(ip);
                u64::try_from((ip >> 64) ^ (ip & u128::from(u64::MAX))).unwrap_or_default()
            }
        };
        // A stream of its own per address: links do not disturb each other's chance.
        let key = (ip << 16 | u64::from(addr.port())).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Backoff {
            min: options.backoff_min,
            max: options.backoff_max,
            next: options.backoff_min,
            rng: SmallRng::seed_from_u64(options.seed ^ key),
        }
    }

    fn reset(&mut self) {
        self.next = self.min;
    }

    /// Between half of the current step and all of it; the step doubles.
    fn next(&mut self) -> Duration {
        let step = self.next.min(self.max);
        self.next = step.saturating_mul(2).min(self.max);
        step.mul_f64(self.rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> LinkOptions {
        LinkOptions {
            channel: ChannelOptions {
                connect_timeout: Duration::from_secs(1),
                keepalive_interval: Duration::from_secs(1),
                keepalive_timeout: Duration::from_secs(1),
            },
            in_flight_max: 2,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            seed: 7,
        }
    }

    fn shared() -> Arc<Shared> {
        let state = State { open: true, connection: 1, ..State::default() };
        Arc::new(Shared {
            addr: "127.0.0.1:1".parse().unwrap(),
            in_flight_max: options().in_flight_max,
            state: Mutex::new(state),
            phase: watch::Sender::new(Phase::Connecting),
            wanted: watch::Sender::new(0),
            counters: Arc::default(),
        })
    }

    #[test]
    fn backoff_doubles_is_jittered_and_bounded() {
        let addr = "10.0.0.1:9160".parse().unwrap();
        let mut backoff = Backoff::new(&options(), addr);
        for step_ms in [100, 200, 400, 800, 1000, 1000] {
            let step = Duration::from_millis(step_ms);
            let wait = backoff.next();
            assert!(wait >= step / 2 && wait <= step, "{wait:?} for {step:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
        let waits = |addr: &str| {
            let mut backoff = Backoff::new(&options(), addr.parse().unwrap());
            (0..4).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        assert_eq!(waits("10.0.0.1:9160"), waits("10.0.0.1:9160"));
        assert_ne!(waits("10.0.0.1:9160"), waits("10.0.0.2:9160"));
    }

    #[test]
    fn past_the_bound_requests_are_refused_and_counted_and_room_comes_back() {
        let shared = shared();
        let first = shared.enqueue(v1::KvRequest::default()).unwrap();
        let _second = shared.enqueue(v1::KvRequest::default()).unwrap();
        let refused = shared.enqueue(v1::KvRequest::default()).err().unwrap();
        assert_eq!(refused.kind(), "too-much-in-flight");
        assert_eq!(shared.counters.read().refused_in_flight, 1);
        drop(first);
        assert!(shared.state().outbox.len() == 1, "an abandoned request is not sent");
        assert!(shared.enqueue(v1::KvRequest::default()).is_ok());
    }

    #[tokio::test]
    async fn only_requests_that_the_transport_took_may_have_been_applied() {
        use futures_util::StreamExt;
        let shared = shared();
        let mut sent = shared.enqueue(v1::KvRequest::default()).unwrap();
        let mut waiting = shared.enqueue(v1::KvRequest::default()).unwrap();
        let mut outgoing = Outgoing { shared: Arc::clone(&shared), connection: 1 };
        assert_eq!(outgoing.next().await.unwrap().id, sent.id);
        shared.lost("reset", None);
        assert!(outgoing.next().await.is_none(), "an old connection gets nothing");
        let error = |lost: Unanswered| lost.into_error(shared.addr, true);
        let sent = error((&mut sent.answer).await.unwrap().unwrap_err());
        assert_eq!((sent.kind(), sent.may_have_applied()), ("connection-lost", true));
        let waiting = error((&mut waiting.answer).await.unwrap().unwrap_err());
        assert_eq!((waiting.kind(), waiting.may_have_applied()), ("not-connected", false));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_counted() {
        let shared = shared();
        shared.answered(v1::KvResponse { id: 99, ..Default::default() });
        assert_eq!(shared.counters.read().late_answers, 1);
    }
}
