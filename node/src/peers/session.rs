//! A link that a peer has dialled: requests come in on it, answers go back.
//!
//! Run to completion: the stream of answers is also what reads the requests. Whenever the transport asks it for a
//! frame, it handles all requests that have arrived, tells the handler that the batch is over, and gives the answers so
//! far as one frame. There is no task of its own and no queue between reading and handling. A peer that does not take
//! its answers is therefore not read from either: that is the back pressure.

use super::handshake::Refusal;
use super::pending::{CallId, Via};
use super::queue::{MESSAGE_BYTES_MAX, Outbox, Outgoing, Queued, Refused, poll_frame};
use super::stats::DropReason;
use super::verb::{Lane, Verb};
use super::{Handler, Peers};
use helenus_core::NodeId;
use helenus_proto::v1::internode_server::Internode;
use helenus_proto::v1::message::Body;
use helenus_proto::v1::{Frame, Hello, Message, ReplicaError};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// How long a dialler may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Frames handled before the answers so far are given back.
const FRAMES_A_BATCH: usize = 16;

/// The gRPC service.
pub(crate) struct Server {
    pub(crate) peers: Arc<Peers>,
    pub(crate) handler: Arc<dyn Handler>,
}

#[tonic::async_trait]
impl Internode for Server {
    type LinkStream = Session;

    async fn link(&self, request: Request<Streaming<Frame>>) -> Result<Response<Session>, Status> {
        if self.peers.is_closed() {
            // Not a refusal: the next life of this node will take the link.
            return Err(Status::unavailable("the node is stopping"));
        }
        Ok(Response::new(Session {
            peers: self.peers.clone(),
            handler: self.handler.clone(),
            requests: request.into_inner(),
            stage: Stage::Hello(Box::pin(tokio::time::sleep(HELLO_TIMEOUT))),
        }))
    }
}

/// The end of a link at which requests arrive.
pub(crate) struct Inbound {
    peers: Arc<Peers>,
    pub(crate) peer: NodeId,
    pub(crate) lane: Lane,
    outbox: Outbox,
    epoch: u64,
}

impl Inbound {
    /// Ends it: its stream finds that it is over.
    pub(crate) fn close(&self) {
        drop(self.outbox.close());
    }

    fn answer(self: &Arc<Self>, id: u64, body: Body) {
        let verb = Verb::of(&body);
        if id == 0 {
            // The peer does not wait for it.
            self.peers.drops.count(verb, DropReason::Unexpected);
            return;
        }
        let to = self.clone();
        self.peers.send_filtered(verb, Some(self.peer), body, move |body| {
            let message = Message { id, timeout_ms: 0, body: Some(body) };
            let Err(refused) = to.outbox.push(Queued::new(message, verb, None, None)) else {
                return;
            };
            to.peers.drops.count(verb, refused.into());
            if refused == Refused::TooLarge {
                // Said at once; the caller would wait for its timeout to learn less.
                let reason = "TOO_LARGE".to_owned();
                let message = format!("the answer is larger than {MESSAGE_BYTES_MAX} bytes");
                let refusal = ReplicaError { reason, message, ..ReplicaError::default() };
                to.answer(id, Body::Failed(refusal));
            }
        });
    }
}

impl Outgoing for Inbound {
    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn now(&self) -> Duration {
        self.peers.clock.now()
    }

    fn sent(&self, _: usize, _: &[Verb]) {}
}

/// Where an answer goes. It may be kept and used later, when a sync has made the write durable, say. Dropping it
/// unused answers nothing: the caller waits until its call expires.
pub struct ReplyTo(To);

enum To {
    Nobody,
    Peer { session: Arc<Inbound>, id: u64 },
    Local { peers: Arc<Peers>, call: CallId },
    Function(Box<dyn FnOnce(Body) + Send>),
}

impl ReplyTo {
    /// Answers. What is sent while a frame is handled goes back as one frame.
    pub fn send(self, body: Body) {
        match self.0 {
            To::Nobody => {}
            To::Peer { session, id } => session.answer(id, body),
            To::Local { peers, call } => {
                let verb = Verb::of(&body);
                if !peers.pending.answer(call, peers.identity.node, Via::Local, Ok(body)) {
                    peers.drops.count(verb, DropReason::Late);
                }
            }
            To::Function(function) => function(body),
        }
    }

    /// Whether anyone waits: requests that were sent one way need no answer made for them.
    pub fn is_wanted(&self) -> bool {
        !matches!(self.0, To::Nobody | To::Peer { id: 0, .. })
    }

    /// The answer goes to `function`.
    pub fn from_fn(function: impl FnOnce(Body) + Send + 'static) -> ReplyTo {
        ReplyTo(To::Function(Box::new(function)))
    }

    /// The answer goes nowhere.
    pub fn nobody() -> ReplyTo {
        ReplyTo(To::Nobody)
    }

    pub(crate) fn local(peers: Arc<Peers>, call: CallId) -> ReplyTo {
        ReplyTo(To::Local { peers, call })
    }
}

impl fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            To::Nobody => "ReplyTo(nobody)",
            To::Peer { .. } => "ReplyTo(peer)",
            To::Local { .. } => "ReplyTo(local)",
            To::Function(_) => "ReplyTo(function)",
        })
    }
}

enum Stage {
    /// Until then the dialler may take to say who it is.
    Hello(Pin<Box<Sleep>>),
    Open(Arc<Inbound>),
    Over,
}

/// The stream of answers, which also reads the requests.
pub(crate) struct Session {
    peers: Arc<Peers>,
    handler: Arc<dyn Handler>,
    requests: Streaming<Frame>,
    stage: Stage,
}

impl Stream for Session {
    type Item = Result<Frame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match &mut this.stage {
            Stage::Hello(deadline) => {
                let hello = match Pin::new(&mut this.requests).poll_next(cx) {
                    Poll::Ready(Some(Ok(Frame { hello: Some(hello), .. }))) => hello,
                    // No Hello, an error, the end: there is nobody to talk to.
                    Poll::Ready(_) => {
                        this.stage = Stage::Over;
                        return Poll::Ready(None);
                    }
                    Poll::Pending if deadline.as_mut().poll(cx).is_ready() => {
                        this.stage = Stage::Over;
                        return Poll::Ready(None);
                    }
                    Poll::Pending => return Poll::Pending,
                };
                let answer = this.greet(&hello);
                Poll::Ready(Some(Ok(Frame { hello: Some(answer), messages: Vec::new() })))
            }
            Stage::Open(inbound) => {
                let inbound = inbound.clone();
                let ended = this.read(&inbound, cx);
                match poll_frame(&*inbound, inbound.epoch, cx) {
                    Poll::Ready(Some(frame)) => Poll::Ready(Some(Ok(frame))),
                    Poll::Pending if !ended => Poll::Pending,
                    Poll::Pending | Poll::Ready(None) => {
                        this.stage = Stage::Over;
                        this.peers.session_over(&inbound);
                        Poll::Ready(None)
                    }
                }
            }
            Stage::Over => Poll::Ready(None),
        }
    }
}

impl Session {
    /// Judges the dialler's Hello and gives ours.
    fn greet(&mut self, hello: &Hello) -> Hello {
        let refuse = |this: &mut Self, why: &Refusal| {
            tracing::warn!(%why, "a link was refused");
            this.stage = Stage::Over;
            this.peers.identity.refusal(why)
        };
        let greeting = match self.peers.identity.judge(hello) {
            Ok(greeting) => greeting,
            Err(Refusal::Own) => {
                self.stage = Stage::Over;
                return self.peers.identity.refusal(&Refusal::Own);
            }
            Err(why) => {
                self.peers.session_refused(hello);
                return refuse(self, &why);
            }
        };
        let outbox = self.peers.new_outbox();
        let epoch = outbox.begin();
        drop(outbox.open(None));
        let inbound = Arc::new(Inbound {
            peers: self.peers.clone(),
            peer: greeting.node,
            lane: greeting.lane,
            outbox,
            epoch,
        });
        if let Err(why) = self.peers.session_open(&greeting, inbound.clone()) {
            return refuse(self, &why);
        }
        self.stage = Stage::Open(inbound);
        self.peers.identity.hello(greeting.lane)
    }

    /// Handles what has arrived. True: the peer sends no more.
    fn read(&mut self, inbound: &Arc<Inbound>, cx: &mut Context<'_>) -> bool {
        let mut handled = false;
        let mut ended = false;
        let mut frames = 0;
        loop {
            if frames == FRAMES_A_BATCH {
                // More may be ready, and nobody else would wake us for it.
                cx.waker().wake_by_ref();
                break;
            }
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    frames += 1;
                    handled |= !frame.messages.is_empty();
                    let arrived = self.peers.clock.now();
                    for message in frame.messages {
                        self.handle(inbound, message, arrived);
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => {
                    ended = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        if handled {
            self.handler.end_of_batch();
        }
        ended
    }

    fn handle(&self, inbound: &Arc<Inbound>, message: Message, arrived: Duration) {
        let Message { id, timeout_ms, body } = message;
        let verb = Verb::of_option(body.as_ref());
        let Some(body) = body else {
            self.peers.drops.count(verb, DropReason::Unexpected);
            let reason = "UNKNOWN_VERB".to_owned();
            let text = "this node's version does not know that request".to_owned();
            let refusal = ReplicaError { reason, message: text, ..ReplicaError::default() };
            inbound.answer(id, Body::Failed(refusal));
            return;
        };
        if verb.is_answer() {
            self.peers.drops.count(verb, DropReason::Unexpected);
            return;
        }
        let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into()));
        let deadline = timeout.map(|timeout| arrived.saturating_add(timeout));
        if !self.peers.filter.is_armed() {
            handle_in_time(&*self.handler, inbound, verb, deadline, body, id);
            return;
        }
        let (handler, to) = (self.handler.clone(), inbound.clone());
        self.peers.receive_filtered(verb, inbound.peer, body, move |body| {
            handle_in_time(&*handler, &to, verb, deadline, body, id);
            // It may come late, on its own.
            handler.end_of_batch();
        });
    }
}

fn handle_in_time(
    handler: &dyn Handler,
    inbound: &Arc<Inbound>,
    verb: Verb,
    deadline: Option<Duration>,
    body: Body,
    id: u64,
) {
    if deadline.is_some_and(|deadline| inbound.peers.clock.now() >= deadline) {
        inbound.peers.drops.count(verb, DropReason::ExpiredBeforeHandling);
        return;
    }
    let reply = ReplyTo(To::Peer { session: inbound.clone(), id });
    handler.handle(inbound.peer, body, reply);
}

impl Drop for Session {
    fn drop(&mut self) {
        // The connection is gone, whatever we thought of it.
        if let Stage::Open(inbound) = &self.stage {
            self.peers.session_over(inbound);
        }
    }
}
