//! The bounded queue in front of one direction of one link, and the stream of frames that drains it.
//!
//! Coalesce what is ready, never wait on a timer: whenever the transport can take a frame, it takes all that is queued,
//! up to `FRAME_BYTES`.
//!
//! Bounds: messages and bytes; a message past them is refused and its sender told at once. One message alone is taken
//! whatever its size, or a value larger than the queue could never be written.

use super::pending::PeerError;
use super::stats::DropReason;
use super::verb::Verb;
use helenus_core::NodeId;
use helenus_proto::v1::{Frame, Hello, Message};
use prost::Message as _;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio_stream::Stream;

/// A frame is closed when it holds this much; a single message may be larger.
const FRAME_BYTES: usize = 256 * 1024;
/// No message is larger: the receiver would give up the link, and everything else on it, rather than decode it. Room for
/// a value of 16 MiB several times over.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) message: Message,
    pub(crate) verb: Verb,
    /// The node it is meant for, if that is known: an address may come to belong to another.
    pub(crate) target: Option<NodeId>,
    /// By the monotonic clock; past it the message is not sent. `None`: answers, which their caller expires.
    pub(crate) deadline: Option<Duration>,
    bytes: usize,
}

impl Queued {
    pub(crate) fn new(
        message: Message,
        verb: Verb,
        target: Option<NodeId>,
        deadline: Option<Duration>,
    ) -> Queued {
        let bytes = message.encoded_len();
        Queued { message, verb, target, deadline, bytes }
    }
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    TooLarge,
    NotConnected,
}

impl From<Refused> for DropReason {
    fn from(refused: Refused) -> DropReason {
        match refused {
            Refused::Full => DropReason::QueueFull,
            Refused::TooLarge => DropReason::TooLarge,
            Refused::NotConnected => DropReason::NotConnected,
        }
    }
}

impl From<Refused> for PeerError {
    fn from(refused: Refused) -> PeerError {
        match refused {
            Refused::Full => PeerError::QueueFull,
            Refused::TooLarge => PeerError::TooLarge,
            Refused::NotConnected => PeerError::NotConnected,
        }
    }
}

/// Whether messages are taken and drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// The first dial is under way: taken, not drained.
    Dialling,
    /// Connected to that node.
    Up(Option<NodeId>),
    /// The link was lost or could not be made: refused until it is up.
    Down,
    /// For good.
    Closed,
}

#[derive(Debug)]
struct Inner {
    gate: Gate,
    /// Which connection drains the queue; an older one finds that it is over.
    epoch: u64,
    messages: VecDeque<Queued>,
    bytes: usize,
    waker: Option<Waker>,
}

/// What was drained.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) messages: Vec<Message>,
    /// What was too old to be sent.
    pub(crate) expired: Vec<Verb>,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    messages_max: usize,
    bytes_max: usize,
}

impl Outbox {
    /// Takes messages, but drains none until it is [`Outbox::open`].
    pub(crate) fn new(messages_max: usize, bytes_max: usize) -> Outbox {
        Outbox {
            inner: Mutex::new(Inner {
                gate: Gate::Dialling,
                epoch: 0,
                messages: VecDeque::new(),
                bytes: 0,
                waker: None,
            }),
            messages_max,
            bytes_max,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }

    /// Queues a message and wakes the stream that drains it.
    pub(crate) fn push(&self, queued: Queued) -> Result<(), Refused> {
        if queued.bytes > MESSAGE_BYTES_MAX {
            return Err(Refused::TooLarge);
        }
        let waker = {
            let mut inner = self.inner();
            match inner.gate {
                Gate::Down | Gate::Closed => return Err(Refused::NotConnected),
                Gate::Up(Some(peer)) if queued.target.is_some_and(|t| t != peer) => {
                    return Err(Refused::NotConnected);
                }
                Gate::Up(_) | Gate::Dialling => {}
            }
            let bytes = inner.bytes.saturating_add(queued.bytes);
            let full = inner.messages.len() >= self.messages_max || bytes > self.bytes_max;
            if full && !inner.messages.is_empty() {
                return Err(Refused::Full);
            }
            inner.bytes = bytes;
            inner.messages.push_back(queued);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Begins a connection; a stream of an earlier one is over.
    pub(crate) fn begin(&self) -> u64 {
        let mut inner = self.inner();
        inner.epoch = inner.epoch.wrapping_add(1);
        inner.epoch
    }

    /// The connection is up and leads to `peer`. Gives back what was queued for another node.
    pub(crate) fn open(&self, peer: Option<NodeId>) -> Vec<Queued> {
        let mut inner = self.inner();
        if inner.gate == Gate::Closed {
            return Vec::new();
        }
        inner.gate = Gate::Up(peer);
        let (keep, strangers): (VecDeque<_>, Vec<_>) =
            inner.messages.drain(..).fold(Default::default(), |(mut keep, mut other), queued| {
                match (queued.target, peer) {
                    (Some(target), Some(peer)) if target != peer => other.push(queued),
                    _ => keep.push_back(queued),
                }
                (keep, other)
            });
        inner.bytes = keep.iter().map(|q| q.bytes).sum();
        inner.messages = keep;
        if let Some(waker) = inner.waker.take() {
            drop(inner);
            waker.wake();
        }
        strangers
    }

    /// Takes nothing more until it is open again, and gives back what was queued.
    pub(crate) fn shut(&self) -> Vec<Queued> {
        self.end(Gate::Down)
    }

    /// Takes nothing more, ever, and gives back what was queued.
    pub(crate) fn close(&self) -> Vec<Queued> {
        self.end(Gate::Closed)
    }

    fn end(&self, gate: Gate) -> Vec<Queued> {
        let mut inner = self.inner();
        if inner.gate != Gate::Closed {
            inner.gate = gate;
        }
        inner.epoch = inner.epoch.wrapping_add(1);
        inner.bytes = 0;
        let left = inner.messages.drain(..).collect();
        if let Some(waker) = inner.waker.take() {
            drop(inner);
            waker.wake();
        }
        left
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner().gate == Gate::Closed
    }

    /// The peer it leads to, when it is up.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.inner().gate, Gate::Up(_))
    }

    /// Messages and bytes queued.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.messages.len(), inner.bytes)
    }

    /// What is ready, for the connection `epoch`. `Ready(None)`: that connection is over.
    pub(crate) fn poll_drain(
        &self,
        epoch: u64,
        now: impl FnOnce() -> Duration,
        cx: &Context<'_>,
    ) -> Poll<Option<Drained>> {
        let mut inner = self.inner();
        if inner.epoch != epoch || inner.gate == Gate::Closed {
            return Poll::Ready(None);
        }
        if inner.messages.is_empty() || !matches!(inner.gate, Gate::Up(_)) {
            match &mut inner.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let now = now();
        let mut drained = Drained {
            messages: Vec::with_capacity(inner.messages.len().min(1024)),
            expired: Vec::new(),
        };
        let mut bytes = 0_usize;
        while let Some(next) = inner.messages.front() {
            if !drained.messages.is_empty() && bytes.saturating_add(next.bytes) > FRAME_BYTES {
                break;
            }
            let Some(mut queued) = inner.messages.pop_front() else { break };
            inner.bytes = inner.bytes.saturating_sub(queued.bytes);
            if let Some(deadline) = queued.deadline {
                let Some(left) = deadline.checked_sub(now).filter(|left| !left.is_zero()) else {
                    drained.expired.push(queued.verb);
                    continue;
                };
                queued.message.timeout_ms =
                    u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
            }
            bytes = bytes.saturating_add(queued.bytes);
            drained.messages.push(queued.message);
        }
        Poll::Ready(Some(drained))
    }
}

/// What watches the frames go out: counters and the clock.
pub(crate) trait Outgoing: Send + Sync + 'static {
    fn outbox(&self) -> &Outbox;
    fn now(&self) -> Duration;
    fn sent(&self, messages: usize, expired: &[Verb]);
}

/// The frames of one connection, beginning with the Hello.
pub(crate) struct OutStream<T> {
    hello: Option<Hello>,
    epoch: u64,
    from: Arc<T>,
}

impl<T: Outgoing> OutStream<T> {
    pub(crate) fn new(hello: Hello, epoch: u64, from: Arc<T>) -> OutStream<T> {
        OutStream { hello: Some(hello), epoch, from }
    }
}

impl<T: Outgoing> Stream for OutStream<T> {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Frame { hello: Some(hello), messages: Vec::new() }));
        }
        poll_frame(&*self.from, self.epoch, cx)
    }
}

/// The next frame of a connection. `Ready(None)`: it is over.
pub(crate) fn poll_frame<T: Outgoing>(
    from: &T,
    epoch: u64,
    cx: &Context<'_>,
) -> Poll<Option<Frame>> {
    loop {
        let drained = match from.outbox().poll_drain(epoch, || from.now(), cx) {
            Poll::Ready(Some(drained)) => drained,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        from.sent(drained.messages.len(), &drained.expired);
        // All of it may have been too old.
        if !drained.messages.is_empty() {
            return Poll::Ready(Some(Frame { hello: None, messages: drained.messages }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_proto::v1::message::Body;
    use helenus_proto::v1::{Ack, ApplyMutation};

    fn queued(id: u64, deadline_ms: Option<u64>) -> Queued {
        let message = Message { id, timeout_ms: 0, body: Some(Body::Ack(Ack::default())) };
        Queued::new(message, Verb::Ack, None, deadline_ms.map(Duration::from_millis))
    }

    fn large(id: u64, bytes: usize) -> Queued {
        let update = vec![0; bytes].into();
        let body = Body::Mutation(ApplyMutation { update, ..ApplyMutation::default() });
        let message = Message { id, timeout_ms: 0, body: Some(body) };
        Queued::new(message, Verb::Mutation, None, None)
    }

    fn drain(outbox: &Outbox, epoch: u64, now_ms: u64) -> Poll<Option<Drained>> {
        let cx = Context::from_waker(Waker::noop());
        outbox.poll_drain(epoch, || Duration::from_millis(now_ms), &cx)
    }

    fn ready(outbox: &Outbox, epoch: u64, now_ms: u64) -> Drained {
        match drain(outbox, epoch, now_ms) {
            Poll::Ready(Some(drained)) => drained,
            other => panic!("nothing was ready: {other:?}"),
        }
    }

    #[test]
    fn one_drain_takes_all_that_is_ready_in_order() {
        let outbox = Outbox::new(10, 1000);
        let epoch = outbox.begin();
        for id in 1..=3 {
            outbox.push(queued(id, None)).unwrap();
        }
        assert!(drain(&outbox, epoch, 0).is_pending(), "not before it is open");
        assert!(outbox.open(None).is_empty());
        let ids: Vec<u64> = ready(&outbox, epoch, 0).messages.iter().map(|m| m.id).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert!(drain(&outbox, epoch, 0).is_pending());
        assert_eq!(outbox.depth(), (0, 0));
    }

    #[test]
    fn both_bounds_refuse_but_one_message_always_fits() {
        let outbox = Outbox::new(2, 1000);
        outbox.push(large(1, 5000)).unwrap();
        assert_eq!(outbox.push(queued(2, None)), Err(Refused::Full), "bytes");
        let epoch = outbox.begin();
        outbox.open(None);
        assert_eq!(ready(&outbox, epoch, 0).messages.len(), 1);
        outbox.push(queued(3, None)).unwrap();
        outbox.push(queued(4, None)).unwrap();
        assert_eq!(outbox.push(queued(5, None)), Err(Refused::Full), "messages");
    }

    #[test]
    fn a_frame_is_closed_at_its_bound_and_the_rest_follows() {
        let outbox = Outbox::new(10, usize::MAX);
        let epoch = outbox.begin();
        outbox.open(None);
        for id in 1..=3 {
            outbox.push(large(id, FRAME_BYTES * 2 / 3)).unwrap();
        }
        for id in 1..=3 {
            let drained = ready(&outbox, epoch, 0);
            assert_eq!(drained.messages.iter().map(|m| m.id).collect::<Vec<_>>(), [id]);
        }
    }

    #[test]
    fn what_is_too_old_is_not_sent_and_the_rest_says_how_long_it_has_left() {
        let outbox = Outbox::new(10, 1000);
        let epoch = outbox.begin();
        outbox.open(None);
        outbox.push(queued(1, Some(10))).unwrap();
        outbox.push(queued(2, Some(50))).unwrap();
        outbox.push(queued(3, None)).unwrap();
        let drained = ready(&outbox, epoch, 20);
        assert_eq!(drained.expired, [Verb::Ack]);
        let left: Vec<_> = drained.messages.iter().map(|m| (m.id, m.timeout_ms)).collect();
        assert_eq!(left, [(2, 30), (3, 0)]);
    }

    #[test]
    fn a_lost_link_refuses_and_gives_back_what_was_queued() {
        let outbox = Outbox::new(10, 1000);
        let epoch = outbox.begin();
        outbox.open(None);
        outbox.push(queued(1, None)).unwrap();
        assert_eq!(outbox.shut().len(), 1);
        assert_eq!(outbox.push(queued(2, None)), Err(Refused::NotConnected));
        assert!(matches!(drain(&outbox, epoch, 0), Poll::Ready(None)), "its stream is over");
        let epoch = outbox.begin();
        outbox.open(None);
        outbox.push(queued(3, None)).unwrap();
        assert_eq!(ready(&outbox, epoch, 0).messages.len(), 1);
        outbox.close();
        outbox.open(None);
        assert!(outbox.is_closed(), "closed is for good");
    }

    #[test]
    fn an_address_that_belongs_to_another_node_now_gets_none_of_the_old_ones_messages() {
        let outbox = Outbox::new(10, 1000);
        let to = |node| Queued { target: Some(NodeId(node)), ..queued(1, None) };
        outbox.push(to(1)).unwrap();
        outbox.push(to(2)).unwrap();
        let strangers = outbox.open(Some(NodeId(2)));
        assert_eq!(strangers.iter().map(|q| q.target).collect::<Vec<_>>(), [Some(NodeId(1))]);
        assert_eq!(outbox.push(to(1)), Err(Refused::NotConnected));
        assert_eq!(outbox.push(to(2)), Ok(()));
    }
}
