//! One connection, run to completion where its bytes arrive: its requests are futures that the connection itself polls.
//!
//! A wake takes what has arrived, runs what can run, writes the log once, and only then sends answers: what a client is
//! told is in the log. Answers go in the order in which they are ready; clients find them by their stream.
//!
//! While answers are on their way to a client, its requests go on. A client that takes none of them for [`WRITE_PATIENCE`]
//! loses its connection.

use super::answer::{Answer, Answered, Session};
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
use std::net::SocketAddr;
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
/// How long a client may take to say STARTUP.
const STARTUP_PATIENCE: Duration = Duration::from_secs(60);

type Running = Pin<Box<dyn Future<Output = Answered> + Send>>;

struct Connection {
    front: Arc<Front>,
    client: SocketAddr,
    session: Session,
    inbound: Inbound,
    outbound: Outbound,
    /// Read, and not understood yet.
    unread: BytesMut,
    running: FuturesUnordered<Running>,
    /// Nothing more is read.
    closing: bool,
}

/// Serves a client until it goes away, or has to.
pub(super) async fn serve(front: Arc<Front>, io: BoxIo, client: SocketAddr, place: Place) {
    let mut connection = Connection {
        session: Session::new(&front),
        front,
        client,
        inbound: Inbound::new(Side::Server, BODY_BYTES_MAX_DEFAULT),
        outbound: Outbound::new(),
        unread: BytesMut::new(),
        running: FuturesUnordered::new(),
        closing: false,
    };
    let (mut reader, mut writer) = tokio::io::split(io);
    connection.run(&mut reader, &mut writer).await;
    // The client may have gone: there is nobody to tell.
    writer.shutdown().await.ok();
    drop(place);
}

impl Connection {
    async fn run(&mut self, reader: &mut ReadHalf<BoxIo>, writer: &mut WriteHalf<BoxIo>) {
        let started_by = Instant::now() + STARTUP_PATIENCE;
        let mut sending = BytesMut::new();
        let mut sent_by = Instant::now();
        let mut answered = None;
        loop {
            let all_begun = self.take_in();
            self.give_what_is_ready(answered.take());
            if sending.is_empty() && !self.outbound.is_empty() {
                sending = self.outbound.take();
                sent_by = Instant::now() + WRITE_PATIENCE;
            }
            if self.closing && self.running.is_empty() && sending.is_empty() {
                return;
            }
            let has_room = self.has_room();
            if !all_begun && has_room && sending.is_empty() {
                // What has arrived need not wait for more to arrive.
                tokio::task::yield_now().await;
                continue;
            }
            let reads = !self.closing && has_room && all_begun;
            let waits_for_startup = reads && !self.session.is_started();
            tokio::select! {
                // Answers first: they make room. A run replays because the order is this one.
                biased;
                Some(first) = self.running.next(), if !self.running.is_empty() => {
                    answered = Some(first);
                }
                sent = writer.write_buf(&mut sending), if !sending.is_empty() => match sent {
                    Ok(0) | Err(_) => return,
                    Ok(_) => sent_by = Instant::now() + WRITE_PATIENCE,
                },
                event = self.session.event() => {
                    let version = self.session.version();
                    self.reply(version, EVENT_STREAM, &Extras::default(), &Response::Event(event));
                }
                read = read(reader, &mut self.unread), if reads => match read {
                    Ok(true) => {}
                    Ok(false) | Err(_) => self.closing = true,
                },
                () = tokio::time::sleep_until(sent_by), if !sending.is_empty() => {
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
    fn has_room(&self) -> bool {
        self.running.len() < REQUESTS_MAX && self.outbound.len() < UNSENT_BYTES_MAX
    }

    /// Begins what has arrived. False: there was no room for all of it.
    fn take_in(&mut self) -> bool {
        while !self.closing {
            if !self.has_room() {
                return false;
            }
            match self.inbound.decode(&mut self.unread) {
                Ok(Some(envelope)) => self.begin(&envelope),
                Ok(None) => return true,
                Err(fault) => self.fault(&fault),
            }
        }
        true
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
        let traced_for = call.tracing.then_some(self.client);
        match self.session.begin(version, call) {
            Ok(Answer::Now(response)) => self.reply(version, stream, &Extras::default(), &response),
            Ok(Answer::Started { compression }) => {
                self.inbound.agree(version, compression);
                self.reply(version, stream, &Extras::default(), &Response::Ready);
                self.outbound.agree(version, compression);
            }
            Ok(Answer::Statement(work)) => {
                let Some(room) = self.front.admit_bytes(envelope.body.len()) else {
                    let error = ErrorResponse::new(
                        ErrorKind::Overloaded,
                        "too many bytes of requests are in flight on this node: try again, or another node",
                    );
                    return self.error(version, stream, &error);
                };
                let front = Arc::clone(&self.front);
                self.running.push(Box::pin(async move {
                    let answered = front.answer(version, stream, work, traced_for).await;
                    drop(room);
                    answered
                }));
            }
            Err(error) => self.error(version, stream, &error),
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
            if let Response::SetKeyspace { keyspace } = &response {
                self.session.set_keyspace(keyspace);
            }
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

/// True: there is more. False: the client has said its last.
async fn read(from: &mut ReadHalf<BoxIo>, into: &mut BytesMut) -> std::io::Result<bool> {
    if into.capacity() - into.len() < READ_ROOM_MIN {
        into.reserve(READ_BYTES);
    }
    Ok(from.read_buf(into).await? > 0)
}
