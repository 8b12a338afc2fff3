//! Whom the load asks, and in which protocol: the same reads and writes of the same table.
//!
//! In CQL: one connection to each node, statements prepared on each, nodes asked in turn. Where every node has a copy,
//! that is what a token-aware driver does; elsewhere gRPC's client, which is token-aware, saves a hop that this does not.
//! Statements carry no timestamp: the coordinator gives it. A connection that is lost is left out from then on.

use crate::context::Failure;
use crate::input::TableName;
use bytes::Bytes;
use helenus_client::cql::{CqlConnection, CqlError, CqlOptions, at};
use helenus_client::{Client, Level, OpError, Options, Table, Tcp};
use helenus_proto::cql::{Parameters, Prepared, Response, Value, Values};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

/// What the load is said in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// Helenus' own, over gRPC.
    Grpc,
    /// Cassandra's, version 5: prepared INSERT and SELECT.
    Cql,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Grpc => "gRPC",
            Protocol::Cql => "CQL",
        })
    }
}

/// A table, by way of a protocol.
#[derive(Clone)]
pub(crate) enum Target {
    Grpc { table: Table, options: Options },
    Cql(Rc<CqlTable>),
}

/// Why an operation failed.
pub(crate) enum Failed {
    Grpc(Box<OpError>),
    Cql(CqlError),
}

impl Failed {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Failed::Grpc(error) => error.kind(),
            Failed::Cql(error) => error.kind(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Grpc(error) => error.fmt(f),
            Failed::Cql(error) => error.fmt(f),
        }
    }
}

impl Target {
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Target::Grpc { .. } => Protocol::Grpc,
            Target::Cql(_) => Protocol::Cql,
        }
    }

    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<(), Failed> {
        match self {
            Target::Grpc { table, options } => {
                let put = table.put_with(key, value, options).await;
                put.map(drop).map_err(|error| Failed::Grpc(Box::new(error)))
            }
            Target::Cql(table) => table.put(key, value).await.map_err(Failed::Cql),
        }
    }

    /// Whether there is a value.
    pub(crate) async fn get(&self, key: Bytes) -> Result<bool, Failed> {
        match self {
            Target::Grpc { table, options } => match table.get_with(key, options).await {
                Ok(got) => Ok(got.value.is_some()),
                Err(error) => Err(Failed::Grpc(Box::new(error))),
            },
            Target::Cql(table) => table.get(key).await.map_err(Failed::Cql),
        }
    }
}

/// A key-value table on all nodes.
pub(crate) struct CqlTable {
    /// Invariant: at least one.
    nodes: Vec<Node>,
    parameters: Parameters,
    turn: Cell<usize>,
}

struct Node {
    connection: CqlConnection,
    insert: Prepared,
    select: Prepared,
}

impl CqlTable {
    /// Connects to every node that `client` knows to be up, and prepares the statements there.
    pub(crate) async fn connect(
        client: &Client,
        name: &TableName,
        level: Level,
        port: u16,
        options: CqlOptions,
    ) -> Result<CqlTable, Failure> {
        let failed = |error: CqlError| Failure::Here(format!("CQL: {error}"));
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let table = format!("{}.{}", quoted(&name.keyspace), quoted(&name.table));
        let topology = client.topology();
        let up = topology.hosts().filter(|host| host.up);
        let addresses: BTreeSet<_> = up.map(|host| SocketAddr::new(host.addr.ip(), port)).collect();
        let mut nodes = Vec::new();
        for addr in addresses {
            let connection = CqlConnection::connect(&Tcp, addr, options).await.map_err(failed)?;
            let insert = format!("INSERT INTO {table} (key, value) VALUES (?, ?)");
            let insert = connection.prepare(&insert).await.map_err(failed)?;
            let select = format!("SELECT value FROM {table} WHERE key = ?");
            let select = connection.prepare(&select).await.map_err(failed)?;
            nodes.push(Node { connection, insert, select });
        }
        if nodes.is_empty() {
            return Err(Failure::Here("CQL: no node is up".to_owned()));
        }
        // As drivers do: what PREPARE has told of the columns need not be told again.
        let parameters = Parameters { skip_metadata: true, ..at(level) };
        Ok(CqlTable { nodes, parameters, turn: Cell::new(0) })
    }

    /// The next node in turn whose connection holds; if none does, the next in turn, which says so.
    fn node(&self) -> &Node {
        let first = self.turn.get();
        self.turn.set(first.wrapping_add(1));
        let at = |nth: usize| self.nodes.get(first.wrapping_add(nth) % self.nodes.len());
        let holds = |node: &&Node| !node.connection.is_lost();
        let node = (0..self.nodes.len()).filter_map(at).find(holds).or_else(|| at(0));
        node.expect("`connect` makes no table without nodes")
    }

    fn bound(&self, values: impl IntoIterator<Item = Bytes>) -> Parameters {
        let values = Values::Positional(values.into_iter().map(Value::Bytes).collect());
        Parameters { values, ..self.parameters.clone() }
    }

    async fn put(&self, key: Bytes, value: Bytes) -> Result<(), CqlError> {
        let Node { connection, insert, .. } = self.node();
        connection.execute(insert, self.bound([key, value])).await.map(drop)
    }

    async fn get(&self, key: Bytes) -> Result<bool, CqlError> {
        let Node { connection, select, .. } = self.node();
        match connection.execute(select, self.bound([key])).await? {
            Response::Rows(rows) => Ok(!rows.rows.is_empty()),
            response => Err(CqlError::Protocol {
                addr: connection.addr(),
                problem: format!("a SELECT was answered with {response:?}"),
            }),
        }
    }
}
