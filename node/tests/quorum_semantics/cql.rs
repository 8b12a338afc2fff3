//! A CQL client of a few lines: one connection, and any number of requests under way.

use crate::cluster::Cluster;
use bytes::BytesMut;
use helenus_core::Level;
use helenus_node::config::Config;
use helenus_node::seams::net::BoxIo;
use helenus_proto::cql::{
    BODY_BYTES_MAX_DEFAULT, Call, Consistency, Inbound, Outbound, Parameters, Reply, Request,
    Response, Rows, Side, Startup, Version,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Where nodes serve it.
pub(crate) const PORT: u16 = 9042;

/// Has a node serve CQL.
pub(crate) fn serve(config: &mut Config) {
    config.native_transport_address = Some(SocketAddr::new(config.listen_address.ip(), PORT));
}

/// A connection. Who drops it has gone.
pub(crate) struct Cql {
    io: BoxIo,
    inbound: Inbound,
    outbound: Outbound,
    unread: BytesMut,
    version: Version,
    stream: i16,
}

impl Cql {
    pub(crate) async fn connect(cluster: &Cluster, at: usize, version: Version) -> Cql {
        let mut cql = Cql {
            io: cluster.connect(at, PORT).await,
            inbound: Inbound::new(Side::Client, BODY_BYTES_MAX_DEFAULT),
            outbound: Outbound::new(),
            unread: BytesMut::new(),
            version,
            stream: 0,
        };
        let mut startup = Startup::default();
        startup.options.insert("CQL_VERSION".to_owned(), "3.0.0".to_owned());
        cql.send(Request::Startup(startup)).await;
        assert_eq!(cql.reply().await.unwrap().1, Response::Ready);
        cql.inbound.agree(version, None);
        cql.outbound.agree(version, None);
        cql
    }

    /// The bytes of a statement, on the next stream.
    pub(crate) fn encode(&mut self, query: &str, level: Level) -> BytesMut {
        let parameters =
            Parameters { consistency: Consistency::Ordinary(level), ..Parameters::default() };
        self.encoded(Request::Query { query: query.to_owned(), parameters })
    }

    fn encoded(&mut self, request: Request) -> BytesMut {
        self.stream += 1;
        let call = Call { tracing: false, custom_payload: BTreeMap::default(), request };
        self.outbound.call(self.version, self.stream, &call).unwrap();
        self.outbound.take()
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    async fn send(&mut self, request: Request) -> i16 {
        let bytes = self.encoded(request);
        self.send_bytes(&bytes).await;
        self.stream
    }

    /// Asks for a statement to be carried out; gives the stream that it is answered on.
    pub(crate) async fn ask(&mut self, query: &str, level: Level) -> i16 {
        let bytes = self.encode(query, level);
        self.send_bytes(&bytes).await;
        self.stream
    }

    /// Asks for a statement to be carried out, and waits until the node has begun to.
    pub(crate) async fn begin(&mut self, query: &str, level: Level) {
        self.ask(query, level).await;
        // Requests are begun in their order, and this one is answered at once.
        let options = self.send(Request::Options).await;
        assert_eq!(self.reply().await.unwrap().0, options, "{query} is answered already");
    }

    /// The next answer, whichever it is to; `None`: the node has closed the connection.
    pub(crate) async fn reply(&mut self) -> Option<(i16, Response)> {
        loop {
            match self.inbound.decode(&mut self.unread).unwrap() {
                Some(envelope) => {
                    let response = Reply::decode(&envelope).unwrap().response;
                    return Some((envelope.header.stream, response));
                }
                None if self.io.read_buf(&mut self.unread).await.unwrap() == 0 => return None,
                None => {}
            }
        }
    }

    /// Carries out a statement at ONE, with nothing else under way.
    pub(crate) async fn run(&mut self, query: &str) -> Response {
        let stream = self.ask(query, Level::One).await;
        let (of, response) = self.reply().await.expect("the node answers");
        assert_eq!(of, stream);
        response
    }

    pub(crate) async fn rows(&mut self, query: &str) -> Vec<Vec<Option<bytes::Bytes>>> {
        match self.run(query).await {
            Response::Rows(Rows { rows, .. }) => rows,
            other => panic!("{query}: {other:?}"),
        }
    }
}
