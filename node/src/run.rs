//! A node from start to stop. Those of its parts that take more than a line to open are opened in `open`.

mod open;

use crate::auth::{Auth, AuthMetrics};
use crate::batchlog;
use crate::config::{Config, TlsFiles};
use crate::coordinator::{
    BatchChance, Coordinator, CoordinatorParts, RequestMetrics, Routes, TraceMetrics,
};
use crate::cql::{CqlMetrics, Front, FrontParts};
use crate::decommission::{Decommission, DecommissionParts};
use crate::handoff::Handoff;
use crate::hints::{Deliver, HintStore};
use crate::inbound::Inbound;
use crate::intake::{Intake, IntakeMetrics};
use crate::membership::{Identity, Membership};
use crate::paxos::Acceptors;
use crate::peers::Peers;
use crate::repair::Repairs;
use crate::replica::{Replica, ReplicaMetrics, TombstoneThresholds};
use crate::schema::{Keeper, SchemaStore};
use crate::seams::background::Background;
use crate::seams::clock::Clock;
use crate::seams::disk::Disk;
use crate::seams::net::{BoxFuture, Listener, Net};
use crate::seams::probe::Probe;
use crate::seams::rng::Rng;
use crate::server::{AdminParts, AdminService, KvService};
use crate::storage::{Engine, StorageError, StorageMetrics};
use crate::tasks::Tasks;
use crate::tls::{self, TlsError, TlsListener, TlsMetrics};
use crate::{metrics, serve};
use helenus_core::{Generation, NodeId};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::Instrument as _;

/// How long a stopping node lets requests under way finish.
const DRAIN: Duration = Duration::from_secs(2);
/// How often it looks whether they have.
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// How long a starting node waits for its peers to answer before it calls itself ready. They may be down for good.
const SETTLE: Duration = Duration::from_secs(1);

/// Everything a node is made of that differs between production and simulation.
pub struct Parts {
    /// What it was told.
    pub config: Config,
    /// Its clocks.
    pub clock: Arc<dyn Clock>,
    /// Its chance.
    pub rng: Rng,
    /// Its disk; the root is the data directory.
    pub disk: Arc<dyn Disk>,
    /// Where slow work runs.
    pub background: Arc<dyn Background>,
    /// Its network.
    pub net: Arc<dyn Net>,
    /// Who watches it.
    pub probe: Arc<dyn Probe>,
    /// Told when the node takes requests.
    pub ready: Option<oneshot::Sender<Ready>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a node says when it takes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its host id.
    pub node: NodeId,
    /// Where clients reach it, with the port that was really taken.
    pub rpc: SocketAddr,
    /// Where peers reach it.
    pub internode: SocketAddr,
    /// Where CQL clients reach it, if they do.
    pub native_transport: Option<SocketAddr>,
    /// Where its metrics are, if they are shown.
    pub metrics: Option<SocketAddr>,
}

/// Why a node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("{key}: {message}")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The address again, the system's words and what to do.
        message: String,
    },
    /// An address could not be encrypted.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data directory is not this cluster's, or cannot be used.
    #[error("data directory: {message}")]
    DataDirectory {
        /// What is wrong and what to do.
        message: String,
    },
    /// Storage did not open or did not close.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// The hint store did not open.
    #[error("hints: {message}")]
    Hints {
        /// What is wrong and what to do.
        message: String,
    },
}

impl StartError {
    fn listen(key: &'static str, address: SocketAddr, error: &std::io::Error) -> StartError {
        StartError::Listen { key, address, message: error.to_string() }
    }
}

/// Runs a node until `shutdown` resolves, then stops it cleanly: everything acknowledged is durable when this returns.
///
/// Dropping the future instead is a crash: nothing is synced, and the next start recovers.
pub fn run(
    parts: Parts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> BoxFuture<'static, Result<(), StartError>> {
    // Boxed here, so that the node is compiled once, and not again by everyone who runs one.
    let shutdown: BoxFuture<'static, ()> = Box::pin(shutdown);
    run_until(parts, shutdown)
}

fn run_until(
    parts: Parts,
    shutdown: BoxFuture<'static, ()>,
) -> BoxFuture<'static, Result<(), StartError>> {
    let span = tracing::info_span!("node", at = %parts.config.rpc_address);
    Box::pin(start_and_serve(parts, shutdown).instrument(span))
}

async fn start_and_serve(
    mut parts: Parts,
    shutdown: BoxFuture<'static, ()>,
) -> Result<(), StartError> {
    let ready = parts.ready.take();
    let ports = Ports::open(&parts).await?;
    let node = Node::open(&parts, &ports)?;
    if node.decommission.is_gone() {
        return node.say_goodbye(&parts.config, ports.internode).await;
    }
    let ready_at = node.serve(&parts, ports).await?;
    tracing::info!(node = %ready_at.node, rpc = %ready_at.rpc, internode = %ready_at.internode, "ready");
    if let Some(ready) = ready {
        // Whoever wanted to know may have gone; the node runs all the same.
        drop(ready.send(ready_at));
    }
    shutdown.await;
    node.stop().await
}

/// Everything that can be taken by somebody else is taken first, before a file is touched.
struct Ports {
    internode: Box<dyn Listener>,
    rpc: Box<dyn Listener>,
    internode_address: SocketAddr,
    rpc_address: SocketAddr,
    native: Option<(Box<dyn Listener>, SocketAddr)>,
    tls: TlsMetrics,
}

impl Ports {
    async fn open(parts: &Parts) -> Result<Ports, StartError> {
        let config = &parts.config;
        // Files before ports: what is wrong with them is wrong whoever has the port.
        let wall = Duration::from_micros(parts.clock.wall_micros().max(0).unsigned_abs());
        let acceptor = |port: tls::Port, files: &Option<TlsFiles>| {
            files.as_ref().map(|files| port.acceptor(files, wall)).transpose()
        };
        let native_tls = acceptor(tls::CQL, &config.native_transport_tls)?;
        let rpc_tls = acceptor(tls::RPC, &config.rpc_tls)?;
        let tls = TlsMetrics::default();
        let (internode, internode_address) =
            listen(parts, "listen_address", config.listen_address).await?;
        let (rpc, rpc_address) = listen(parts, "rpc_address", config.rpc_address).await?;
        let native = match config.native_transport_address {
            None => None,
            Some(address) => Some(listen(parts, "native_transport_address", address).await?),
        };
        let encrypted = |listener, acceptor: Option<_>, failures: &Counter| match acceptor {
            None => listener,
            Some(acceptor) => Box::new(TlsListener::new(listener, acceptor, failures.clone()))
                as Box<dyn Listener>,
        };
        let native = native.map(|(listener, address)| {
            (encrypted(listener, native_tls, &tls.cql_failures), address)
        });
        let rpc = encrypted(rpc, rpc_tls, &tls.rpc_failures);
        Ok(Ports { internode, rpc, internode_address, rpc_address, native, tls })
    }
}

async fn listen(
    parts: &Parts,
    key: &'static str,
    address: SocketAddr,
) -> Result<(Box<dyn Listener>, SocketAddr), StartError> {
    let listener =
        parts.net.listen(address).await.map_err(|e| StartError::listen(key, address, &e))?;
    let taken = listener.local_addr().map_err(|e| StartError::listen(key, address, &e))?;
    Ok((listener, taken))
}

/// Ends a node's tasks when the node ends, however it does: its tasks hold what holds them, so nothing else would.
struct Owned(Arc<Tasks>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort_all();
    }
}

/// The parts of a running node, made in the order in which they need each other.
struct Node {
    tasks: Owned,
    membership: Arc<Membership>,
    peers: Arc<Peers>,
    engine: Arc<dyn Engine>,
    hints: Arc<HintStore>,
    keeper: Arc<Keeper>,
    coordinator: Arc<Coordinator>,
    repairs: Arc<Repairs>,
    intake: Arc<Intake>,
    cql_metrics: CqlMetrics,
    auth: Arc<Auth>,
    handoff: Arc<Handoff>,
    decommission: Arc<Decommission>,
    generation: Generation,
    registry: Arc<Registry>,
    started: Duration,
}

impl Node {
    #[expect(
        clippy::too_many_lines,
        reason = "the parts, in the order in which they need each other"
    )]
    fn open(parts: &Parts, ports: &Ports) -> Result<Node, StartError> {
        let config = &parts.config;
        let started = parts.clock.now();
        let owned = Owned(Arc::new(Tasks::new()));
        let tasks = Arc::clone(&owned.0);
        let mut registry = metrics::registry();
        let identity = Identity::open(&*parts.disk, config, &parts.rng, parts.clock.wall_micros())
            .map_err(|e| StartError::DataDirectory { message: e.to_string() })?;
        let schema = SchemaStore::open(Arc::clone(&parts.disk), Arc::clone(&parts.background))
            .map_err(|e| StartError::DataDirectory { message: e.to_string() })?;
        let schema = Arc::new(schema);
        let engine = open::engine(parts, &schema, &tasks)?;
        let storage = StorageMetrics::new(Arc::clone(&engine), Arc::clone(&schema));
        registry.register_collector(Box::new(storage));
        let hints = open::hints(parts, &mut registry)?;

        let peers = open::peers(parts, ports, &identity, &tasks);
        peers.register_metrics(&mut registry);
        let membership = open::membership(parts, ports, &identity, &peers);
        membership.set_schema_version(&schema.current().version);
        membership.register_metrics(&mut registry);
        let replica = Arc::new(Replica {
            engine: Arc::clone(&engine),
            schema: Arc::clone(&schema),
            clock: Arc::clone(&parts.clock),
            probe: Arc::clone(&parts.probe),
            metrics: ReplicaMetrics::register(&mut registry),
            tombstone_thresholds: TombstoneThresholds::of(config),
        });
        let keeper = Arc::new(Keeper {
            store: Arc::clone(&schema),
            engine: Arc::clone(&engine),
            membership: Arc::clone(&membership),
            peers: Arc::clone(&peers),
            clock: Arc::clone(&parts.clock),
            tasks: Arc::clone(&tasks),
            changing: Arc::default(),
        });
        let batchlog = open::batchlog(parts, &engine, &mut registry)?;
        // The generation keeps two starts of one seed from drawing the same again. So below.
        let batches = parts.rng.stream(&format!("batches/{}", identity.generation.0));
        let coordinator = Arc::new(Coordinator::new(CoordinatorParts {
            config: config.clone(),
            id: identity.node,
            generation: identity.generation,
            clock: Arc::clone(&parts.clock),
            probe: Arc::clone(&parts.probe),
            replica: Arc::clone(&replica),
            acceptors: Arc::new(Acceptors::new(Arc::clone(&replica), Arc::clone(&tasks))),
            peers: Arc::clone(&peers),
            membership: Arc::clone(&membership),
            hints: Arc::clone(&hints),
            batchlog,
            batch_chance: BatchChance::new(batches),
            routes: Routes::new(Arc::clone(&schema), Arc::clone(&membership)),
            tasks: Arc::clone(&tasks),
            metrics: RequestMetrics::register(&mut registry),
            chance: parts.rng.stream(&format!("paxos/{}", identity.generation.0)),
            trace_metrics: TraceMetrics::register(&mut registry),
        }));
        let intake = Arc::new(Intake::new(
            replica,
            Arc::clone(&tasks),
            IntakeMetrics::register(&mut registry),
            config.hints.hints_receive_throttle,
        ));
        let repairs = open::repairs(parts, &coordinator, Arc::clone(&schema), &mut registry);
        let handoff = Arc::new(Handoff::new(Arc::clone(&coordinator)));
        let generation = identity.generation;
        let decommission = Arc::new(Decommission::new(DecommissionParts {
            coordinator: Arc::clone(&coordinator),
            repairs: Arc::clone(&repairs),
            handoff: Arc::clone(&handoff),
            schema,
            background: Arc::clone(&parts.background),
            disk: Arc::clone(&parts.disk),
            identity,
        }));
        let cql_metrics = CqlMetrics::register(&mut registry);
        ports.tls.register(&mut registry);
        let auth = Arc::new(Auth::new(
            Arc::clone(&coordinator),
            Arc::clone(&parts.background),
            AuthMetrics::register(&mut registry),
        ));
        let (registry, tasks) = (Arc::new(registry), owned);
        Ok(Node {
            tasks,
            membership,
            peers,
            engine,
            hints,
            keeper,
            coordinator,
            repairs,
            intake,
            cql_metrics,
            auth,
            handoff,
            decommission,
            generation,
            registry,
            started,
        })
    }

    /// It had left the ring, and may not have been able to tell anybody. It does, and ends.
    async fn say_goodbye(
        self,
        config: &Config,
        internode: Box<dyn Listener>,
    ) -> Result<(), StartError> {
        self.peers.serve(internode, Arc::new(self.inbound()));
        self.membership.start(&self.tasks.0);
        self.membership.settle(SETTLE).await;
        if let Err(why) = self.decommission.tell_that_it_left().await {
            tracing::warn!(why, "start this node again when the others are up: they must hear it");
        }
        self.stop().await?;
        Err(StartError::DataDirectory { message: Identity::is_left(config).to_string() })
    }

    fn inbound(&self) -> Inbound {
        Inbound {
            replica: Arc::clone(&self.coordinator.replica),
            acceptors: Arc::clone(&self.coordinator.acceptors),
            membership: Arc::clone(&self.membership),
            keeper: Arc::clone(&self.keeper),
            tasks: Arc::clone(&self.tasks.0),
            repairs: Arc::clone(&self.repairs.participant),
            intake: Arc::clone(&self.intake),
            batchlog: Arc::clone(&self.coordinator.batchlog),
            coordinator: Arc::clone(&self.coordinator),
            unwritten: Mutex::default(),
        }
    }

    /// Opens the doors.
    async fn serve(&self, parts: &Parts, ports: Ports) -> Result<Ready, StartError> {
        let Ports { internode, rpc, internode_address, rpc_address, native, tls: _ } = ports;
        self.peers.serve(internode, Arc::new(self.inbound()));
        self.membership.start(&self.tasks.0);
        self.tasks.0.spawn(Arc::clone(&self.keeper).keep_in_agreement());
        let handoff = Arc::clone(&self.handoff) as Arc<dyn Deliver>;
        self.hints.start(&self.tasks.0, Arc::clone(&handoff));
        self.tasks.0.spawn(batchlog::replay(Arc::clone(&self.coordinator)));
        let kv = KvService { coordinator: Arc::clone(&self.coordinator) };
        let admin = AdminService::new(AdminParts {
            coordinator: Arc::clone(&self.coordinator),
            membership: Arc::clone(&self.membership),
            keeper: Arc::clone(&self.keeper),
            engine: Arc::clone(&self.engine),
            hints: Arc::clone(&self.hints),
            handoff,
            peers: Arc::clone(&self.peers),
            repairs: Arc::clone(&self.repairs),
            auth: Arc::clone(&self.auth),
            decommission: Arc::clone(&self.decommission),
            started: self.started,
        });
        self.tasks.0.spawn(serve::clients(rpc, kv, admin, parts.config.max_value_size));
        let metrics = match parts.config.metrics_address {
            None => None,
            Some(address) => Some(
                metrics::serve(Arc::clone(&self.registry), &*parts.net, address, &self.tasks.0)
                    .await
                    .map_err(|e| StartError::listen("metrics_address", address, &e))?,
            ),
        };
        self.membership.settle(SETTLE).await;
        // Only now: drivers connect again at once, and a node that knows of nobody yet would call everything unavailable.
        let native_transport = native.as_ref().map(|(_, address)| *address);
        if let Some((listener, address)) = native {
            let front = Front::new(FrontParts {
                coordinator: Arc::clone(&self.coordinator),
                membership: Arc::clone(&self.membership),
                keeper: Arc::clone(&self.keeper),
                clock: Arc::clone(&parts.clock),
                chance: parts.rng.stream(&format!("cql/{}", self.generation.0)),
                address,
                cluster_name: parts.config.cluster_name.clone(),
                auth: Arc::clone(&self.auth),
                metrics: self.cql_metrics.clone(),
            });
            let served = Arc::new(front).serve(listener, Arc::clone(&self.tasks.0));
            self.tasks.0.spawn(served);
        }
        let node = self.coordinator.id;
        let (rpc, internode) = (rpc_address, internode_address);
        Ok(Ready { node, rpc, internode, native_transport, metrics })
    }

    async fn stop(self) -> Result<(), StartError> {
        tracing::info!("stopping");
        self.decommission.stop();
        // Peers hear it from us rather than from our silence, and stop sending.
        self.membership.announce_shutdown();
        // Or it would fail range by range on links that are closed.
        self.repairs.cancel();
        // Its hints would be for nobody who is down.
        self.coordinator.batchlog.pause();
        // What is under way may finish, and what is queued may be sent; neither for longer than `DRAIN`.
        let drained = async {
            while self.coordinator.in_flight() > 0 || self.peers.queued() > 0 {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let (requests, messages) = (self.coordinator.in_flight(), self.peers.queued());
            tracing::warn!(requests, messages, "stopping with work under way");
        }
        self.peers.close();
        // With the links, what was under way has failed: every replica that was still silent is owed a hint by now, or as
        // soon as its write's task has run.
        let settled = async {
            while self.coordinator.settling() > 0 {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(DRAIN, settled).await.is_err() {
            tracing::warn!(writes = self.coordinator.settling(), "stopping with writes unsettled");
        }
        let hints = self.hints.flush().await;
        self.engine.shutdown().await?;
        self.tasks.0.abort_all();
        hints.map_err(|e| StartError::Hints { message: e.to_string() })?;
        tracing::info!("stopped");
        Ok(())
    }
}
