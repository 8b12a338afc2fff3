//! A CQL connection: many requests in flight, answers in any order, what is ready sent together.
//!
//! It is what `helenusctl bench --protocol cql` measures with, so that it costs what a good driver costs and no more.
//! Applications have drivers.
//!
//! Bounds: `in_flight_max` streams, 32,768 at most; one more request is refused at once. An answer that nobody waits for
//! any more keeps its stream until it arrives, as the protocol wants it.
//!
//! **Absent:** retries, reconnecting, token awareness, events, paging, authentication. A connection that is lost stays
//! lost, and says so to all who wait and all who come.

use crate::connect::{BoxIo, Connect};
use crate::task::Task;
use bytes::BytesMut;
use helenus_core::Level;
use helenus_proto::cql::{
    BODY_BYTES_MAX_DEFAULT, Call, Compression, Consistency, ErrorKind, ErrorResponse, Inbound,
    Outbound, Parameters, Prepared, Reply, Request, Response, Side, Startup, Version,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};

/// Streams of a connection: the protocol has no more.
const STREAMS_MAX: usize = 1 << 15;
/// Room for answers each time that the socket is read. Without it a buffer makes room for 64 bytes.
const READ_BYTES: usize = 16 * 1024;

/// Why a request was not answered as it was meant to be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CqlError {
    /// The node answered with an error.
    #[error("{}", .0.message)]
    Server(ErrorResponse),
    /// There is no connection. Nothing was sent.
    #[error("cannot connect to {addr}: {reason}; is native_transport_address set there?")]
    NotConnected {
        /// The node.
        addr: SocketAddr,
        /// What connecting met.
        reason: String,
    },
    /// The connection broke before the answer came, or had broken before.
    #[error("the connection to {addr} was lost: {reason}")]
    ConnectionLost {
        /// The node.
        addr: SocketAddr,
        /// What it met.
        reason: String,
    },
    /// All streams of the connection wait for an answer. Nothing was sent.
    #[error("{addr} owes {in_flight_max} answers already; wait for some")]
    TooMuchInFlight {
        /// The node.
        addr: SocketAddr,
        /// The bound that was reached.
        in_flight_max: usize,
    },
    /// The request has no form in the protocol, or the answer no meaning.
    #[error("{addr}: {problem}")]
    Protocol {
        /// The node.
        addr: SocketAddr,
        /// What is wrong.
        problem: String,
    },
    /// No answer in time.
    #[error("{addr} has not answered within {} ms", timeout.as_millis())]
    Deadline {
        /// The node.
        addr: SocketAddr,
        /// How long it had.
        timeout: Duration,
    },
}

impl CqlError {
    /// One word for it, stable, and the same as [`KvError::kind`](crate::KvError::kind) has for the same failure.
    pub fn kind(&self) -> &'static str {
        match self {
            CqlError::Server(error) => match &error.kind {
                ErrorKind::Unavailable { .. } => "unavailable",
                ErrorKind::WriteTimeout { .. } | ErrorKind::ReadTimeout { .. } => "timeout",
                ErrorKind::WriteFailure { .. } | ErrorKind::ReadFailure { .. } => "failure",
                ErrorKind::Overloaded | ErrorKind::IsBootstrapping => "overloaded",
                ErrorKind::Server | ErrorKind::Protocol => "protocol",
                _ => "invalid",
            },
            CqlError::NotConnected { .. } => "not-connected",
            CqlError::ConnectionLost { .. } => "connection-lost",
            CqlError::TooMuchInFlight { .. } => "too-much-in-flight",
            CqlError::Protocol { .. } => "protocol",
            CqlError::Deadline { .. } => "deadline",
        }
    }
}

/// What a connection is told at its start.
#[derive(Debug, Clone, Copy)]
pub struct CqlOptions {
    /// The protocol's version.
    pub version: Version,
    /// What both ends compress with.
    pub compression: Option<Compression>,
    /// Requests without an answer yet.
    pub in_flight_max: usize,
    /// How long connecting may take, and an answer.
    pub timeout: Duration,
}

impl Default for CqlOptions {
    /// Version 5, nothing compressed, 2,048 in flight, and as much patience as the client of gRPC has.
    fn default() -> CqlOptions {
        CqlOptions {
            version: Version::V5,
            compression: None,
            in_flight_max: 2048,
            timeout: Duration::from_secs(12),
        }
    }
}

/// The first request of a connection.
pub fn startup(compression: Option<Compression>) -> Startup {
    let mut startup = Startup::default();
    startup.options.insert("CQL_VERSION".to_owned(), "3.0.0".to_owned());
    if let Some(compression) = compression {
        startup.options.insert("COMPRESSION".to_owned(), compression.to_string());
    }
    startup
}

/// Parameters of nothing but a level.
pub fn at(level: Level) -> Parameters {
    Parameters { consistency: Consistency::Ordinary(level), ..Parameters::default() }
}

/// A connection to one node. Cheap to clone; the last one that is dropped closes it.
#[derive(Clone)]
pub struct CqlConnection {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

struct Shared {
    addr: SocketAddr,
    options: CqlOptions,
    state: Mutex<State>,
    /// Something is to be sent.
    work: Notify,
}

struct State {
    outbound: Outbound,
    /// By stream: who waits. A stream that is not in `free` is taken, even if nobody waits any more.
    waiting: Vec<Option<oneshot::Sender<Result<Reply, CqlError>>>>,
    free: Vec<i16>,
    lost: Option<CqlError>,
}

impl CqlConnection {
    /// Connects, and agrees with the node on the version and the compression.
    pub async fn connect(
        to: &dyn Connect,
        addr: SocketAddr,
        options: CqlOptions,
    ) -> Result<CqlConnection, CqlError> {
        let dial = tokio::time::timeout(options.timeout, to.connect(addr)).await;
        let io = match dial {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => {
                return Err(CqlError::NotConnected { addr, reason: error.to_string() });
            }
            Err(_) => return Err(CqlError::Deadline { addr, timeout: options.timeout }),
        };
        let in_flight_max = options.in_flight_max.clamp(1, STREAMS_MAX);
        let options = CqlOptions { in_flight_max, ..options };
        let state =
            State { outbound: Outbound::new(), waiting: Vec::new(), free: Vec::new(), lost: None };
        let shared =
            Arc::new(Shared { addr, options, state: Mutex::new(state), work: Notify::new() });
        let task = Task::spawn(Shared::run(Arc::clone(&shared), io));
        let connection = CqlConnection { shared, _task: Arc::new(task) };
        match connection.ask(Request::Startup(startup(options.compression))).await?.response {
            Response::Ready => Ok(connection),
            Response::Error(error) => Err(CqlError::Server(error)),
            Response::Authenticate { .. } => {
                Err(connection.shared.protocol("it wants a password, which this client has not"))
            }
            response => Err(connection.shared.protocol(format!("STARTUP: {response:?}"))),
        }
    }

    /// The node.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// Whether it was lost.
    pub fn is_lost(&self) -> bool {
        self.shared.lock().lost.is_some()
    }

    /// Sends a request and waits for its answer, which may be an ERROR.
    pub async fn ask(&self, request: Request) -> Result<Reply, CqlError> {
        let answer = self.shared.send(request)?;
        self.shared.work.notify_one();
        let timeout = self.shared.options.timeout;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer,
            // Its task ended, which tells everybody why; this one came in between.
            Ok(Err(_)) => Err(self.shared.lost("it was closed")),
            Err(_) => Err(CqlError::Deadline { addr: self.shared.addr, timeout }),
        }
    }

    /// Prepares a statement.
    pub async fn prepare(&self, text: &str) -> Result<Prepared, CqlError> {
        let prepare = Request::Prepare { query: text.to_owned(), keyspace: None };
        match self.ask(prepare).await?.response {
            Response::Prepared(prepared) => Ok(prepared),
            Response::Error(error) => Err(CqlError::Server(error)),
            response => Err(self.shared.protocol(format!("PREPARE: {response:?}"))),
        }
    }

    /// Executes a prepared statement; an ERROR is an error here.
    pub async fn execute(
        &self,
        prepared: &Prepared,
        parameters: Parameters,
    ) -> Result<Response, CqlError> {
        let (id, result_metadata_id) = (prepared.id.clone(), prepared.result_metadata_id.clone());
        let execute = Request::Execute { id, result_metadata_id, parameters };
        match self.ask(execute).await?.response {
            Response::Error(error) => Err(CqlError::Server(error)),
            response => Ok(response),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn protocol(&self, problem: impl Into<String>) -> CqlError {
        CqlError::Protocol { addr: self.addr, problem: problem.into() }
    }

    fn lost(&self, reason: impl Into<String>) -> CqlError {
        CqlError::ConnectionLost { addr: self.addr, reason: reason.into() }
    }

    /// Gives a request a stream, and puts it with what is to be sent.
    fn send(
        &self,
        request: Request,
    ) -> Result<oneshot::Receiver<Result<Reply, CqlError>>, CqlError> {
        let call = Call { tracing: false, custom_payload: Default::default(), request };
        let mut state = self.lock();
        if let Some(lost) = &state.lost {
            return Err(lost.clone());
        }
        let in_flight_max = self.options.in_flight_max;
        let count = state.waiting.len();
        let new = || i16::try_from(count).ok().filter(|_| count < in_flight_max);
        let Some(stream) = state.free.last().copied().or_else(new) else {
            return Err(CqlError::TooMuchInFlight { addr: self.addr, in_flight_max });
        };
        if state.free.pop().is_none() {
            state.waiting.push(None);
        }
        if let Err(error) = state.outbound.call(self.options.version, stream, &call) {
            state.free.push(stream);
            return Err(self.protocol(error.to_string()));
        }
        let (sender, answer) = oneshot::channel();
        if let Some(place) = state.place(stream) {
            *place = Some(sender);
        }
        Ok(answer)
    }

    /// The connection's life: it writes what is to be sent and gives out what arrives, until it is lost.
    async fn run(self: Arc<Shared>, io: BoxIo) {
        let (reader, writer) = tokio::io::split(io);
        let lost = tokio::select! {
            // Answers before requests: they make room.
            biased;
            lost = self.read(reader) => lost,
            lost = self.write(writer) => lost,
        };
        let mut state = self.lock();
        state.lost = Some(lost.clone());
        for waiting in state.waiting.drain(..).flatten() {
            // Whoever has gone does not want to know.
            waiting.send(Err(lost.clone())).ok();
        }
    }

    async fn write(&self, mut writer: WriteHalf<BoxIo>) -> CqlError {
        loop {
            self.work.notified().await;
            // All that was asked for since the last write travels together.
            let bytes = self.lock().outbound.take();
            if let Err(error) = writer.write_all(&bytes).await {
                return self.lost(error.to_string());
            }
        }
    }

    async fn read(&self, mut reader: ReadHalf<BoxIo>) -> CqlError {
        let mut inbound = Inbound::new(Side::Client, BODY_BYTES_MAX_DEFAULT);
        let mut unread = BytesMut::new();
        let mut started = false;
        loop {
            match inbound.decode(&mut unread) {
                Ok(Some(envelope)) => {
                    let stream = envelope.header.stream;
                    let reply = match Reply::decode(&envelope) {
                        Ok(reply) => reply,
                        Err(malformed) => return self.protocol(malformed.to_string()),
                    };
                    if !started && reply.response == Response::Ready {
                        started = true;
                        let CqlOptions { version, compression, .. } = self.options;
                        inbound.agree(version, compression);
                        self.lock().outbound.agree(version, compression);
                    }
                    if let Err(unasked) = self.answer(stream, reply) {
                        return unasked;
                    }
                }
                Ok(None) => {
                    unread.reserve(READ_BYTES);
                    match reader.read_buf(&mut unread).await {
                        Ok(0) => return self.lost("the node closed it"),
                        Ok(_) => {}
                        Err(error) => return self.lost(error.to_string()),
                    }
                }
                Err(fault) => return self.protocol(fault.to_string()),
            }
        }
    }

    fn answer(&self, stream: i16, reply: Reply) -> Result<(), CqlError> {
        let mut state = self.lock();
        let waiting = state.place(stream).and_then(Option::take);
        let Some(waiting) = waiting else {
            return Err(
                self.protocol(format!("an answer on stream {stream}, where nothing was asked"))
            );
        };
        state.free.push(stream);
        // Whoever has gone does not want to know.
        waiting.send(Ok(reply)).ok();
        Ok(())
    }
}

impl State {
    fn place(
        &mut self,
        stream: i16,
    ) -> Option<&mut Option<oneshot::Sender<Result<Reply, CqlError>>>> {
        self.waiting.get_mut(usize::try_from(stream).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::BoxFuture;
    use std::io;

    /// A node that is at the other end of a pipe.
    struct Pipe(Mutex<Option<tokio::io::DuplexStream>>);

    impl Connect for Pipe {
        fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
            let end = self.0.lock().unwrap().take();
            Box::pin(async move { Ok(Box::new(end.expect("dialled once")) as BoxIo) })
        }
    }

    /// The node's end, which takes requests and is told what to answer.
    struct Node {
        io: tokio::io::DuplexStream,
        inbound: Inbound,
        outbound: Outbound,
        unread: BytesMut,
    }

    impl Node {
        async fn asked(&mut self) -> (i16, Request) {
            loop {
                if let Some(envelope) = self.inbound.decode(&mut self.unread).unwrap() {
                    return (envelope.header.stream, Call::decode(&envelope).unwrap().request);
                }
                assert_ne!(self.io.read_buf(&mut self.unread).await.unwrap(), 0);
            }
        }

        async fn answers(&mut self, stream: i16, response: &Response) {
            self.outbound.reply(Version::V5, stream, &Default::default(), response).unwrap();
            let bytes = self.outbound.take();
            self.io.write_all(&bytes).await.unwrap();
        }
    }

    async fn connected(in_flight_max: usize) -> (CqlConnection, Node) {
        let (client, node) = tokio::io::duplex(1 << 16);
        let pipe = Pipe(Mutex::new(Some(client)));
        let options = CqlOptions { in_flight_max, ..CqlOptions::default() };
        let addr = SocketAddr::from(([127, 0, 0, 1], 9042));
        let inbound = Inbound::new(Side::Server, BODY_BYTES_MAX_DEFAULT);
        let (outbound, unread) = (Outbound::new(), BytesMut::new());
        let mut node = Node { io: node, inbound, outbound, unread };
        let greets = async {
            let (stream, request) = node.asked().await;
            assert!(matches!(request, Request::Startup(_)));
            node.inbound.agree(Version::V5, None);
            node.answers(stream, &Response::Ready).await;
            node.outbound.agree(Version::V5, None);
        };
        let connect = CqlConnection::connect(&pipe, addr, options);
        let (connection, ()) = tokio::join!(connect, greets);
        (connection.unwrap(), node)
    }

    #[tokio::test]
    async fn answers_come_to_those_who_asked_in_any_order() {
        let (connection, mut node) = connected(10).await;
        let ask = |text: &'static str| {
            let query = Request::Query { query: text.to_owned(), parameters: at(Level::One) };
            connection.ask(query)
        };
        let answers = async {
            let (first, second) = (node.asked().await, node.asked().await);
            assert_ne!(first.0, second.0);
            for (stream, request) in [second, first] {
                let Request::Query { query, .. } = request else { panic!("{request:?}") };
                let error = ErrorResponse::new(ErrorKind::Invalid, &*query);
                node.answers(stream, &Response::Error(error)).await;
            }
        };
        let (a, b, ()) = tokio::join!(ask("a"), ask("b"), answers);
        for (answer, text) in [(a, "a"), (b, "b")] {
            let Response::Error(error) = answer.unwrap().response else { panic!("no error") };
            assert_eq!(error.message, text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_is_refused_and_a_late_answer_frees_its_stream() {
        let (connection, mut node) = connected(1).await;
        let late = connection.ask(Request::Options).await.unwrap_err();
        assert_eq!(late.kind(), "deadline", "{late}");
        let (stream, _) = node.asked().await;
        let refused = connection.ask(Request::Options).await.unwrap_err();
        assert_eq!(refused.kind(), "too-much-in-flight", "{refused}");
        node.answers(stream, &Response::Ready).await;
        let answers = async {
            // The answer above is read first: it is on the way before the request is.
            while connection.shared.lock().free.is_empty() {
                tokio::task::yield_now().await;
            }
            let asked = connection.ask(Request::Options);
            let answer = async {
                let (stream, _) = node.asked().await;
                node.answers(stream, &Response::Ready).await;
            };
            tokio::join!(asked, answer).0
        };
        assert_eq!(answers.await.unwrap().response, Response::Ready);
    }

    #[tokio::test]
    async fn a_lost_connection_says_so_to_all() {
        let (connection, mut node) = connected(10).await;
        let leaves = async move { drop(node.asked().await) };
        let (waits, ()) = tokio::join!(connection.ask(Request::Options), leaves);
        let comes = connection.ask(Request::Options).await;
        for answer in [waits, comes] {
            assert_eq!(answer.unwrap_err().kind(), "connection-lost");
        }
        assert!(connection.is_lost());
    }

    #[tokio::test]
    async fn an_answer_to_nothing_ends_the_connection() {
        let (connection, mut node) = connected(10).await;
        node.answers(7, &Response::Ready).await;
        let answer = connection.ask(Request::Options).await.unwrap_err();
        assert!(["protocol", "connection-lost"].contains(&answer.kind()), "{answer}");
    }
}
