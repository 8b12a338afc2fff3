//! CQL's native protocol: what cqlsh and the drivers of Cassandra talk to.
//!
//! `connection` turns bytes into requests and answers into bytes, `answer` says what a request is answered with,
//! `execute` carries statements out (`select` reads, `paging` says where a page ends, `held` reads what a write must know
//! before, `conditional` decides; `values` is what clients bind, `moments` the time and the chance that go with a request),
//! `statements` remembers the prepared ones, `definition` changes the schema and `description` shows it, `system` makes up the
//! tables in which drivers look for the cluster, `trace` writes down the traces of requests, `login` asks clients who they
//! are, `failure` puts our errors into Cassandra's words.
//!
//! No semantics live here: what a statement means is `helenus_core::cql`, and reads and writes are the coordinator's, the
//! same ones that the gRPC front end calls.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections, `connection::REQUESTS_MAX` requests of each at a time, [`IN_FLIGHT_BYTES_MAX`]
//! bytes of requests on all of them (what is beyond is answered with OVERLOADED), `statements::STATEMENTS_MAX` prepared
//! statements (the one that was not used for longest is forgotten, and prepared again by its clients).
//!
//! CAVEAT: what is not supported is refused with Invalid and a sentence. `docs/src/cql.md` lists it.

mod answer;
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
use moments::Moments;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rand::rngs::SmallRng;
use statements::Statements;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use system::SystemTables;

/// Connections at a time. One more is closed at once, and counted.
const CONNECTIONS_MAX: usize = 4096;
/// Bytes of requests that are being worked on, over all connections.
const IN_FLIGHT_BYTES_MAX: usize = 256 * 1024 * 1024;
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
                "Requests answered with OVERLOADED because too many bytes were in flight",
                &metrics.requests_refused,
            ),
            ("cql_protocol_errors", "Requests that broke the protocol", &metrics.protocol_errors),
            (
                "cql_slow_clients",
                "Connections closed because their client did not take its answers",
                &metrics.slow_clients,
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
    connections: AtomicUsize,
    in_flight_bytes: AtomicUsize,
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
            connections: AtomicUsize::new(0),
            in_flight_bytes: AtomicUsize::new(0),
        }
    }

    /// Takes connections until the task that polls it ends.
    pub(crate) async fn serve(self: Arc<Self>, mut listener: Box<dyn Listener>, tasks: Arc<Tasks>) {
        loop {
            match listener.accept().await {
                Ok((io, from)) => {
                    let Some(place) = self.admit() else {
                        tracing::warn!(%from, "a CQL connection was refused: {CONNECTIONS_MAX} are open");
                        continue;
                    };
                    tasks.spawn(connection::serve(Arc::clone(&self), io, from, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "a CQL connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>) -> Option<Place> {
        if self.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            self.metrics.connections_refused.inc();
            return None;
        }
        self.metrics.connections.inc();
        Some(Place(Arc::clone(self)))
    }

    /// Room for a request of so many bytes among those in flight.
    fn admit_bytes(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let before = self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
        // One is always taken, however large: its size has a limit of its own.
        if before > 0 && before.saturating_add(bytes) > IN_FLIGHT_BYTES_MAX {
            self.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.requests_refused.inc();
            return None;
        }
        Some(Room(Arc::clone(self), bytes))
    }
}

/// A connection's place, given back when dropped.
struct Place(Arc<Front>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections.dec();
    }
}

/// A request's bytes among those in flight, given back when dropped.
struct Room(Arc<Front>, usize);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.in_flight_bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}
