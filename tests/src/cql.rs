//! A CQL client of a few lines: one connection, one request at a time, nothing retried. The drivers' own behaviour is the
//! business of `external/`.

use crate::PATIENCE;
use bytes::{Bytes, BytesMut};
pub use helenus_client::cql::at;
use helenus_client::cql::startup;
use helenus_client::{BoxIo, Connect, Tcp};
use helenus_core::Level;
use helenus_proto::cql::{
    BODY_BYTES_MAX_DEFAULT, Call, Compression, EVENT_STREAM, Envelope, ErrorResponse, Event,
    EventKind, Inbound, Outbound, Parameters, Plain, Prepared, Reply, Request, Response, Rows,
    Side, Value, Values, Version,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A connection to a node.
pub struct Cql {
    socket: BoxIo,
    inbound: Inbound,
    outbound: Outbound,
    unread: BytesMut,
    version: Version,
    stream: i16,
    events: VecDeque<Event>,
}

impl Cql {
    /// A connection over which nothing was said.
    pub async fn dial(address: SocketAddr, version: Version) -> Cql {
        let through = Cql::dial_through(&Tcp, address, version).await;
        through.expect("a node that runs takes connections")
    }

    /// As [`Cql::dial`], by another way than TCP.
    pub async fn dial_through(
        way: &dyn Connect,
        address: SocketAddr,
        version: Version,
    ) -> std::io::Result<Cql> {
        Ok(Cql {
            socket: way.connect(address).await?,
            inbound: Inbound::new(Side::Client, BODY_BYTES_MAX_DEFAULT),
            outbound: Outbound::new(),
            unread: BytesMut::new(),
            version,
            stream: 0,
            events: VecDeque::new(),
        })
    }

    /// A connection that is ready.
    pub async fn connect(
        address: SocketAddr,
        version: Version,
        compression: Option<Compression>,
    ) -> Cql {
        let mut cql = Cql::dial(address, version).await;
        assert_eq!(cql.start(compression).await, Response::Ready);
        cql
    }

    /// Says STARTUP; the answer is READY or AUTHENTICATE.
    pub async fn start(&mut self, compression: Option<Compression>) -> Response {
        let answer = self.ask(Request::Startup(startup(compression))).await.response;
        assert!(matches!(answer, Response::Ready | Response::Authenticate { .. }), "{answer:?}");
        self.inbound.agree(self.version, compression);
        self.outbound.agree(self.version, compression);
        answer
    }

    /// Says who it is; the answer is AUTH_SUCCESS or an error.
    pub async fn log_in(&mut self, username: &str, password: &str) -> Response {
        let who = Plain { username: username.to_owned(), password: password.to_owned() };
        let token = Some(Bytes::from(who.write()));
        self.ask(Request::AuthResponse { token }).await.response
    }

    /// Sends bytes that need not be a request.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        // A server that has heard enough may have closed already.
        self.socket.write_all(bytes).await.ok();
        self.socket.flush().await.ok();
    }

    /// The next envelope that is no event; `None`: the server has closed the connection.
    pub async fn next(&mut self) -> Option<Envelope> {
        tokio::time::timeout(PATIENCE, self.next_of(false)).await.expect("a node answers")
    }

    /// The next event.
    pub async fn event(&mut self) -> Event {
        if self.events.is_empty() {
            let next = tokio::time::timeout(PATIENCE, self.next_of(true)).await;
            next.expect("a node tells what it was asked to tell");
        }
        self.events.pop_front().expect("an event ended the wait")
    }

    /// Until an answer, or (`event`) an event.
    async fn next_of(&mut self, event: bool) -> Option<Envelope> {
        loop {
            let decoded = self.inbound.decode(&mut self.unread);
            match decoded.expect("a node keeps to the protocol") {
                Some(envelope) if envelope.header.stream == EVENT_STREAM => {
                    let reply = Reply::decode(&envelope).expect("a node keeps to the protocol");
                    let Response::Event(news) = reply.response else {
                        panic!("on the stream of events: {reply:?}");
                    };
                    self.events.push_back(news);
                    if event {
                        return Some(envelope);
                    }
                }
                Some(envelope) => return Some(envelope),
                None => {
                    let read = self.socket.read_buf(&mut self.unread).await;
                    if read.is_err() || matches!(read, Ok(0)) {
                        return None;
                    }
                }
            }
        }
    }

    /// Executes a statement, and waits until it is answered or the node closes the connection.
    pub async fn query_unheard(&mut self, text: &str, parameters: Parameters) {
        let request = Request::Query { query: text.to_owned(), parameters };
        self.tell(request, false).await;
        self.next().await;
    }

    /// Executes a statement at QUORUM that must succeed, and gives what it warns of.
    pub async fn warned(&mut self, text: &str) -> Vec<String> {
        let (query, parameters) = (text.to_owned(), at(Level::Quorum));
        let reply = self.ask(Request::Query { query, parameters }).await;
        assert_eq!(reply.response, Response::Void, "{text}");
        reply.extras.warnings
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&mut self, request: Request) -> Reply {
        self.send(request, false).await
    }

    /// Executes a statement that is to be traced; gives its answer and the trace's id, if there is one.
    pub async fn traced(&mut self, text: &str, level: Level) -> (Response, Option<u128>) {
        let request = Request::Query { query: text.to_owned(), parameters: at(level) };
        let reply = self.ask_traced(request).await;
        (reply.response, reply.extras.tracing_id)
    }

    /// Sends a request that is to be traced, and waits for its answer.
    pub async fn ask_traced(&mut self, request: Request) -> Reply {
        self.send(request, true).await
    }

    async fn send(&mut self, request: Request, tracing: bool) -> Reply {
        self.tell(request, tracing).await;
        let envelope = self.next().await.expect("a node answers before it closes");
        assert_eq!(envelope.header.stream, self.stream, "one request at a time");
        Reply::decode(&envelope).expect("a node keeps to the protocol")
    }

    async fn tell(&mut self, request: Request, tracing: bool) {
        self.stream = (self.stream + 1) % 1000;
        let call = Call { tracing, custom_payload: Default::default(), request };
        self.outbound.call(self.version, self.stream, &call).expect("the request can be written");
        let bytes = self.outbound.take();
        self.socket.write_all(&bytes).await.expect("a node reads what it is asked");
        self.socket.flush().await.expect("a node reads what it is asked");
    }

    /// Executes a statement.
    pub async fn query(&mut self, text: &str, parameters: Parameters) -> Response {
        self.ask(Request::Query { query: text.to_owned(), parameters }).await.response
    }

    /// Executes a statement at QUORUM that must succeed.
    pub async fn run(&mut self, text: &str) -> Response {
        match self.query(text, at(Level::Quorum)).await {
            Response::Error(error) => panic!("{text}: {error:?}"),
            response => response,
        }
    }

    /// Executes a statement at QUORUM that must be refused.
    pub async fn refused(&mut self, text: &str) -> ErrorResponse {
        match self.query(text, at(Level::Quorum)).await {
            Response::Error(error) => error,
            response => panic!("{text}: {response:?}"),
        }
    }

    /// The rows of a statement at QUORUM.
    pub async fn rows(&mut self, text: &str) -> Vec<Vec<Option<Bytes>>> {
        rows(self.run(text).await).rows
    }

    /// Prepares a statement.
    pub async fn prepare(&mut self, text: &str) -> Prepared {
        let prepare = Request::Prepare { query: text.to_owned(), keyspace: None };
        match self.ask(prepare).await.response {
            Response::Prepared(prepared) => prepared,
            response => panic!("{text}: {response:?}"),
        }
    }

    /// Executes a prepared statement.
    pub async fn execute(&mut self, prepared: &Prepared, parameters: Parameters) -> Response {
        let (id, result_metadata_id) = (prepared.id.clone(), prepared.result_metadata_id.clone());
        self.ask(Request::Execute { id, result_metadata_id, parameters }).await.response
    }

    /// Asks for all events.
    pub async fn register(&mut self) {
        let kinds = EventKind::EVERY.to_vec();
        assert_eq!(self.ask(Request::Register { kinds }).await.response, Response::Ready);
    }
}

/// A text, as a row has it.
pub fn text(value: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(value.as_bytes()))
}

/// An int, as a row has it.
pub fn int(value: i32) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&value.to_be_bytes()))
}

/// The rows in a response.
pub fn rows(response: Response) -> Rows {
    match response {
        Response::Rows(rows) => rows,
        response => panic!("rows were asked for, and this came: {response:?}"),
    }
}

/// Values for the markers, at QUORUM.
pub fn bound(values: &[&[u8]]) -> Parameters {
    let value = |bytes: &&[u8]| Value::Bytes(Bytes::copy_from_slice(bytes));
    let values = Values::Positional(values.iter().map(value).collect());
    Parameters { values, ..at(Level::Quorum) }
}

/// A page of so many rows at QUORUM, behind the one that ended with this state.
pub fn page(size: u32, state: Option<Bytes>) -> Parameters {
    let page_size = NonZeroU32::new(size);
    Parameters { page_size, paging_state: state, ..at(Level::Quorum) }
}
