//! One connection, run to completion where its bytes arrive: its requests are futures that the connection itself polls.
//!
//! A wake takes what has arrived, runs what can run, writes the log once, and only then sends answers: what a client is
//! told is in the log. Answers go in the order in which they are ready; clients find them by their stream.
//!
//! While answers are on their way to a client, its requests go on. A client that takes none of them for [`WRITE_PATIENCE`]
//! loses its connection; so does one that sends nothing more of a request for [`REQUEST_PATIENCE`].
//!
//! What all clients together have not taken has a bound as well ([`Front`]'s). Beyond it a client that owes to take something
//! gets no more requests begun, and any other one at a time: those who do take their answers go on.
//!
//! A client that has closed its side has gone, as in Cassandra. Its reads are dropped, and what else it has asked for is carried
//! out on a task: see `audience`.

use super::answer::{Answer, Answered, Session};
use super::clients::Client;
use super::share::Share;
use super::{Front, Place};
use crate::seams::net::BoxIo;
use bytes::BytesMut;
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use helenus_proto::cql::{
    BODY_BYTES_MAX_DEFAULT, Call, EVENT_STREAM, Envelope, ErrorKind, ErrorResponse, Extras, Fault,
    Header, Inbound, Outbound, Response, Side, Version,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::Instant;

/// Requests of one connection that are worked on at once. Past it no more are read from its socket, which is the client's
/// backpressure.
pub(super) const REQUESTS_MAX: usize = 1024;
/// Bytes of answers that wait for the client. Past it no more requests are begun.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that are read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Room that is enough to read on without making more: requests hold on to what they were read into, so more room is
/// another buffer.
const READ_ROOM_MIN: usize = 4 * 1024;
/// How long a client may take for what was written to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take between two pieces of one request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to say STARTUP and, where that is asked for, who it is.
const STARTUP_PATIENCE: Duration = Duration::from_secs(60);

type Running = Pin<Box<dyn Future<Output = Answered> + Send>>;

struct Connection {
    front: Arc<Front>,
    client: Arc<Client>,
    session: Session,
    inbound: Inbound,
    outbound: Outbound,
    /// Read, and not understood yet.
    unread: BytesMut,
    /// What that takes, and what `inbound` holds, of the node's room for requests.
    held: Share,
    /// What answers that are not taken yet take of the node's room for them.
    unsent: Share,
    /// The others leave it no room for more.
    held_back: bool,
    running: FuturesUnordered<Running>,
    /// Nothing more is begun: it is closed when what it is owed is sent.
    closing: bool,
}

/// Serves a client until it goes away, or has to.
pub(super) async fn serve(front: Arc<Front>, io: BoxIo, place: Place) {
    let mut connection = Connection {
        session: Session::new(&front, &place.client),
        client: Arc::clone(&place.client),
        held: front.in_flight.share(),
        unsent: front.unsent.share(),
        held_back: false,
        front,
        inbound: Inbound::new(Side::Server, BODY_BYTES_MAX_DEFAULT),
        outbound: Outbound::new(),
        unread: BytesMut::new(),
        running: FuturesUnordered::new(),
        closing: false,
    };
    let (mut reader, mut writer) = tokio::io::split(io);
    connection.run(&mut reader, &mut writer).await;
    connection.leave();
    // The client may have gone, or take nothing: there is nobody to tell.
    tokio::time::timeout(WRITE_PATIENCE, writer.shutdown()).await.ok();
    drop(place);
}

impl Connection {
    async fn run(&mut self, reader: &mut ReadHalf<BoxIo>, writer: &mut WriteHalf<BoxIo>) {
        let started_by = Instant::now() + STARTUP_PATIENCE;
        let mut sending = Sending::default();
        let mut sent_by = Instant::now();
        let mut more_by = Instant::now();
        let mut answered = None;
        loop {
            let all_begun = self.take_in();
            self.give_what_is_ready(answered.take());
            self.unsent.set(self.outbound.len() + sending.bytes.len());
            if sending.bytes.is_empty() && !self.outbound.is_empty() {
                sending.bytes = self.outbound.take();
                sent_by = Instant::now() + WRITE_PATIENCE;
            }
            if self.closing && self.running.is_empty() && sending.is_sent() {
                return;
            }
            let has_room = self.has_room();
            if !all_begun && has_room && sending.is_sent() {
                // What has arrived need not wait for more to arrive.
                tokio::task::yield_now().await;
                continue;
            }
            // Who is to be closed is still listened to: whether it goes before it has its last answers.
            let reads = self.closing || (has_room && all_begun);
            let waits_for_startup = !self.closing && !self.session.is_ready();
            let waits_for_more = reads && self.held.bytes() > 0;
            if !reads {
                // It could not send more if it wanted to.
                more_by = Instant::now() + REQUEST_PATIENCE;
            }
            tokio::select! {
                // Answers first: they make room. A run replays because the order is this one.
                biased;
                Some(first) = self.running.next(), if !self.running.is_empty() => {
                    answered = Some(first);
                }
                sent = sending.some(writer), if !sending.is_sent() => match sent {
                    Ok(()) => sent_by = Instant::now() + WRITE_PATIENCE,
                    Err(_) => return,
                },
                event = self.session.event() => {
                    let version = self.session.version();
                    self.reply(version, EVENT_STREAM, &Extras::default(), &Response::Event(event));
                }
                read = read(reader, &mut self.unread), if reads => match read {
                    Ok(true) => more_by = Instant::now() + REQUEST_PATIENCE,
                    Ok(false) | Err(_) => return,
                },
                () = tokio::time::sleep_until(sent_by), if !sending.is_sent() => {
                    self.front.metrics.slow_clients.inc();
                    return;
                }
                () = tokio::time::sleep_until(more_by), if waits_for_more => {
                    self.front.metrics.slow_clients.inc();
                    return;
                }
                () = tokio::time::sleep_until(started_by), if waits_for_startup => {
                    self.closing = true;
                }
            }
        }
    }

    /// Whether another request may be begun. A client that does not take its answers is not asked for more.
    fn has_room(&mut self) -> bool {
        if self.running.len() >= REQUESTS_MAX || self.outbound.len() >= UNSENT_BYTES_MAX {
            return false;
        }
        let busy = !self.running.is_empty() || !self.outbound.is_empty() || self.unsent.bytes() > 0;
        let held_back = busy && !self.front.unsent.has_room();
        if held_back && !self.held_back {
            self.front.metrics.held_back.inc();
        }
        self.held_back = held_back;
        !held_back
    }

    /// Begins what has arrived. False: there was no room for all of it.
    fn take_in(&mut self) -> bool {
        while !self.closing {
            if !self.has_room() {
                return false;
            }
            match self.inbound.decode(&mut self.unread) {
                Ok(Some(envelope)) => {
                    // It is whole, and takes room as what it asks for.
                    self.held.set(0);
                    self.begin(&envelope);
                }
                Ok(None) => {
                    self.hold();
                    return true;
                }
                Err(fault) => self.fault(&fault),
            }
        }
        self.unread.clear();
        self.held.set(0);
        true
    }

    /// What is there of a request that is not whole takes room as well. If there is none, the request is refused, and passed
    /// over.
    fn hold(&mut self) {
        let bytes = self.unread.len() + self.inbound.held();
        if self.held.try_set(bytes) {
            return;
        }
        if let Some(header) = self.inbound.skip_begun(&mut self.unread) {
            self.overloaded(header.version, header.stream);
        }
        // Where nobody knows yet what is to be refused, it is less than a header or a segment.
        self.held.set(self.unread.len() + self.inbound.held());
    }

    fn overloaded(&mut self, version: Version, stream: i16) {
        self.front.metrics.requests_refused.inc();
        let error = ErrorResponse::new(
            ErrorKind::Overloaded,
            "too many bytes of requests are in flight on this node \
             (native_transport_max_request_data_in_flight): try again, or another node",
        );
        self.error(version, stream, &error);
    }

    /// The client has gone, or is sent away. What it has asked for has no audience any more.
    fn leave(&mut self) {
        self.session.leave();
        let left = std::mem::take(&mut self.running);
        if left.is_empty() {
            return;
        }
        self.front.metrics.unheard.inc_by(left.len() as u64);
        // Anew, so that each is polled once more and those that need an audience end.
        let mut left: FuturesUnordered<Running> = left.into_iter().collect();
        let front = Arc::clone(&self.front);
        // They have the bounds that they had: their bytes are counted still, and so are their places at the coordinator.
        self.front.coordinator.tasks.spawn(async move {
            while left.next().await.is_some() {
                while let Some(Some(_)) = left.next().now_or_never() {}
                if let Err(error) = front.coordinator.replica.engine.commit() {
                    tracing::error!(%error, "the log could not be written");
                }
            }
        });
    }

    fn begin(&mut self, envelope: &Envelope) {
        let Header { version, stream, .. } = envelope.header;
        self.front.metrics.requests.inc();
        let call = match Call::decode(envelope) {
            Ok(call) => call,
            Err(malformed) => {
                self.front.metrics.protocol_errors.inc();
                return self.error(version, stream, &malformed.into());
            }
        };
        let traced_for = call.tracing.then_some(self.client.address);
        match self.session.begin(version, call) {
            Ok(Answer::Now(response)) => self.reply(version, stream, &Extras::default(), &response),
            Ok(Answer::Started { response, compression }) => {
                self.inbound.agree(version, compression);
                self.reply(version, stream, &Extras::default(), &response);
                self.outbound.agree(version, compression);
            }
            Ok(Answer::Login(who)) => {
                let front = Arc::clone(&self.front);
                self.running.push(Box::pin(front.login(version, stream, who)));
            }
            Ok(Answer::Statement(work)) => {
                let Some(room) = self.front.in_flight.admit(envelope.body.len()) else {
                    return self.overloaded(version, stream);
                };
                let front = Arc::clone(&self.front);
                self.running.push(Box::pin(async move {
                    let answered = front.answer(version, stream, work, traced_for).await;
                    drop(room);
                    answered
                }));
            }
            Err(error) => {
                self.closing |= self.session.is_over();
                self.error(version, stream, &error);
            }
        }
    }

    fn fault(&mut self, fault: &Fault) {
        self.front.metrics.protocol_errors.inc();
        if let Some(owed) = fault.owed() {
            self.error(owed.version, owed.stream, &owed.error);
        }
        self.closing |= !fault.connection_survives();
    }

    /// Writes the log, then the answers that there are, `first` among them. If the log cannot be written, no write among
    /// them may count this node's copy.
    fn give_what_is_ready(&mut self, first: Option<Answered>) {
        let mut ready: Vec<Answered> = first.into_iter().collect();
        while let Some(Some(answered)) = self.running.next().now_or_never() {
            ready.push(answered);
        }
        if ready.is_empty() {
            return;
        }
        let written = self.front.coordinator.replica.engine.commit();
        if let Err(error) = &written {
            tracing::error!(%error, "the log could not be written");
        }
        for answered in ready {
            let Answered { version, stream, extras, response, unlogged } = answered;
            let response = match (unlogged, &written) {
                (Some(unlogged), Err(_)) => {
                    let failure = unlogged.it.failure(self.front.coordinator.id);
                    Response::Error(self.front.failure_of(&failure, unlogged.write_type))
                }
                _ => response,
            };
            self.session.note(&response);
            self.closing |= self.session.is_over();
            self.reply(version, stream, &extras, &response);
        }
    }

    fn reply(&mut self, version: Version, stream: i16, extras: &Extras, response: &Response) {
        if let Err(error) = self.outbound.reply(version, stream, extras, response) {
            // It is too large for the protocol: rows of more than 2 GiB, a name of more than 64 KiB.
            let error = ErrorResponse::new(
                ErrorKind::Server,
                format!("the answer cannot be written: {error}; ask for less at a time"),
            );
            self.error(version, stream, &error);
        }
    }

    fn error(&mut self, version: Version, stream: i16, error: &ErrorResponse) {
        if let Err(error) = self.outbound.error(version, stream, error) {
            tracing::error!(%error, "an error could not be written to a client");
            self.closing = true;
        }
    }
}

/// Answers on their way.
#[derive(Default)]
struct Sending {
    bytes: BytesMut,
    /// Some were taken, and may wait to be encrypted or sent still.
    unflushed: bool,
}

impl Sending {
    fn is_sent(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// Sends some of them, or the rest of what was taken. Nothing is lost if this is dropped half-way.
    async fn some(&mut self, to: &mut WriteHalf<BoxIo>) -> std::io::Result<()> {
        if !self.bytes.is_empty() {
            if to.write_buf(&mut self.bytes).await? == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            self.unflushed = true;
        }
        if self.bytes.is_empty() {
            to.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }
}

/// True: there is more. False: the client has said its last.
async fn read(from: &mut ReadHalf<BoxIo>, into: &mut BytesMut) -> std::io::Result<bool> {
    if into.capacity() - into.len() < READ_ROOM_MIN {
        into.reserve(READ_BYTES);
    }
    Ok(from.read_buf(into).await? > 0)
}
