//! CQL's native protocol: what cqlsh and the drivers of Cassandra talk to.
//!
//! `connection` turns bytes into requests and answers into bytes, `answer` says what a request is answered with,
//! `execute` carries statements out (`select` reads, `paging` says where a page ends, `held` reads what a write must know
//! before, `conditional` decides; `values` is what clients bind, `moments` the time and the chance that go with a request),
//! `statements` remembers the prepared ones, `definition` changes the schema and `description` shows it, `system` makes up the
//! tables in which drivers look for the cluster, `trace` writes down the traces of requests, `login` asks clients who they
//! are, `clients` knows who is connected, `audience` who still waits and `share` how many bytes they hold, `failure` puts our
//! errors into Cassandra's words.
//!
//! No semantics live here: what a statement means is `helenus_core::cql`, and reads and writes are the coordinator's, the
//! same ones that the gRPC front end calls.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections, `connection::REQUESTS_MAX` requests of each at a time;
//! `native_transport_max_request_data_in_flight` bytes of requests on all of them, those that are there in part included (what is
//! beyond is answered with OVERLOADED, and what is to come of it is passed over); as many bytes of answers that their clients
//! have not taken, and what is under way (`connection` says what happens beyond); `statements::STATEMENTS_MAX` prepared statements
//! (the one that was not used for longest is forgotten, and prepared again by its clients). Beside those, a connection holds what
//! it reads at a time: 64 KiB, and in version 5 a segment of 128 KiB.
//!
//! CAVEAT: what is not supported is refused with Invalid and a sentence. `docs/src/cql.md` lists it.

mod answer;
mod audience;
mod clients;
mod conditional;
mod connection;
mod definition;
mod description;
mod execute;
mod failure;
mod held;
mod login;
mod moments;
mod paging;
mod select;
mod share;
mod statements;
mod system;
mod trace;
mod values;

use crate::auth::Auth;
use crate::coordinator::Coordinator;
use crate::membership::Membership;
use crate::schema::Keeper;
use crate::seams::clock::Clock;
use crate::seams::net::Listener;
use crate::tasks::Tasks;
use clients::{Client, Clients};
use moments::Moments;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rand::rngs::SmallRng;
use share::Pool;
use statements::Statements;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use system::SystemTables;

/// Connections at a time. One more is closed at once, and counted.
const CONNECTIONS_MAX: usize = 4096;
/// How long no connection is accepted after the system refused one (it is out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the front end counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct CqlMetrics {
    connections: Gauge,
    connections_refused: Counter,
    requests: Counter,
    requests_refused: Counter,
    protocol_errors: Counter,
    slow_clients: Counter,
    held_back: Counter,
    unheard: Counter,
    prepared: Gauge,
    forgotten: Counter,
}

impl CqlMetrics {
    pub(crate) fn register(registry: &mut Registry) -> CqlMetrics {
        let metrics = CqlMetrics::default();
        let counters = [
            ("cql_connections_refused", "Connections over the limit", &metrics.connections_refused),
            ("cql_requests", "Requests of CQL clients", &metrics.requests),
            (
                "cql_requests_refused",
                "Requests answered with OVERLOADED because too many bytes were in flight, or there in part",
                &metrics.requests_refused,
            ),
            ("cql_protocol_errors", "Requests that broke the protocol", &metrics.protocol_errors),
            (
                "cql_slow_clients",
                "Connections closed because their client did not take its answers, or send the rest of a request",
                &metrics.slow_clients,
            ),
            (
                "cql_clients_held_back",
                "Times that a connection's requests had to wait because clients did not take their answers",
                &metrics.held_back,
            ),
            (
                "cql_requests_unheard",
                "Requests whose client had gone before they were answered",
                &metrics.unheard,
            ),
            (
                "cql_prepared_statements_forgotten",
                "Prepared statements forgotten to make room",
                &metrics.forgotten,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("cql_connections", "Open connections", metrics.connections.clone());
        registry.register(
            "cql_prepared_statements",
            "Prepared statements that are known",
            metrics.prepared.clone(),
        );
        metrics
    }
}

/// What the front end is made of.
pub(crate) struct FrontParts {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What `uuid()` and `now()` draw from.
    pub(crate) chance: SmallRng,
    /// Where clients reach this node; all nodes of a cluster have the same port.
    pub(crate) address: SocketAddr,
    pub(crate) cluster_name: String,
    /// Who may log in.
    pub(crate) auth: Arc<Auth>,
    pub(crate) metrics: CqlMetrics,
}

/// The front end.
pub(crate) struct Front {
    coordinator: Arc<Coordinator>,
    membership: Arc<Membership>,
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
    moments: Mutex<Moments>,
    address: SocketAddr,
    cluster_name: String,
    auth: Arc<Auth>,
    metrics: CqlMetrics,
    tables: SystemTables,
    statements: Mutex<Statements>,
    clients: Mutex<Clients>,
    in_flight: Arc<Pool>,
    unsent: Arc<Pool>,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Front {
    pub(crate) fn new(parts: FrontParts) -> Front {
        let FrontParts {
            coordinator,
            membership,
            keeper,
            clock,
            chance,
            address,
            cluster_name,
            auth,
            metrics,
        } = parts;
        let bytes_max = coordinator.config.max_request_data_in_flight;
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Front {
            coordinator,
            membership,
            keeper,
            clock,
            moments: Mutex::new(Moments::new(chance)),
            address,
            cluster_name,
            auth,
            metrics,
            tables: SystemTables::new(),
            statements: Mutex::default(),
            clients: Mutex::default(),
            in_flight: Pool::new(bytes_max),
            unsent: Pool::new(bytes_max),
        }
    }

    /// Takes connections until the task that polls it ends.
    pub(crate) async fn serve(self: Arc<Self>, mut listener: Box<dyn Listener>, tasks: Arc<Tasks>) {
        loop {
            match listener.accept().await {
                Ok((io, from)) => {
                    let Some(place) = self.admit(from) else {
                        tracing::warn!(%from, "a CQL connection was refused: {CONNECTIONS_MAX} are open");
                        continue;
                    };
                    tasks.spawn(connection::serve(Arc::clone(&self), io, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "a CQL connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, from: SocketAddr) -> Option<Place> {
        let admitted = self.clients().admit(from, CONNECTIONS_MAX);
        let Some((number, client)) = admitted else {
            self.metrics.connections_refused.inc();
            return None;
        };
        self.metrics.connections.inc();
        Some(Place { front: Arc::clone(self), number, client })
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().expect("nothing panics while it holds this")
    }

    /// Everybody who is connected, in the order in which they came.
    fn connected(&self) -> Vec<Arc<Client>> {
        self.clients().all()
    }
}

/// A connection's place, given back when dropped.
struct Place {
    front: Arc<Front>,
    number: u64,
    client: Arc<Client>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.front.clients().leave(self.number);
        self.front.metrics.connections.dec();
    }
}
