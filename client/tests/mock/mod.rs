//! Nodes that do as they are told, in this process, over pipes: the clock is tokio's paused one, so that nothing here
//! waits for real and nothing depends on the machine's speed.

#![allow(dead_code, reason = "every test crate compiles all of it and uses its part")]

use bytes::Bytes;
use helenus_client::v1::admin_server::{Admin, AdminServer};
use helenus_client::v1::kv_server::{Kv, KvServer};
use helenus_client::{BoxFuture, BoxIo, Builder, Client, Connect, v1};
use helenus_proto::limit;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// What a node does with a request.
pub(crate) enum Reply {
    Answer(v1::kv_response::Outcome),
    /// Say nothing.
    Silence,
    /// Break the stream.
    Break,
    /// End the stream as a node does that reads no request larger than this.
    ReadsAtMost(usize),
}

type Handler = Arc<dyn Fn(usize, &v1::KvRequest) -> Reply + Send + Sync>;

/// A cluster of mock nodes, numbered from 1.
pub(crate) struct World {
    nodes: Mutex<BTreeMap<SocketAddr, Arc<Node>>>,
    handler: Mutex<Handler>,
    /// Requests in order of arrival, with the node that got them.
    pub(crate) seen: Mutex<Vec<(usize, v1::KvRequest)>>,
    /// How many of the nodes the topology names.
    pub(crate) members: AtomicUsize,
    pub(crate) streams_open: AtomicUsize,
    pub(crate) connects: AtomicUsize,
    servers: Mutex<JoinSet<()>>,
    /// The message filter, one for all nodes.
    pub(crate) rules: Mutex<Vec<v1::FilterRule>>,
    /// What nodes say about how large a request they read, in the headers of each stream.
    pub(crate) announces: Mutex<Option<usize>>,
    /// Where each node says that clients reach it.
    addrs: Mutex<Vec<SocketAddr>>,
}

pub(crate) struct Node {
    up: AtomicBool,
    /// Bytes go nowhere in either direction, as in a partition.
    stalled: Arc<AtomicBool>,
    dial: mpsc::UnboundedSender<Pipe>,
}

pub(crate) fn addr(number: usize) -> SocketAddr {
    format!("127.0.0.{number}:9160").parse().unwrap()
}

pub(crate) fn written(timestamp_us: i64) -> Reply {
    Reply::Answer(v1::kv_response::Outcome::Written(v1::Written { timestamp_us }))
}

pub(crate) fn error(kind: v1::error::Kind) -> Reply {
    let error = v1::Error { message: "mock".into(), kind: Some(kind) };
    Reply::Answer(v1::kv_response::Outcome::Error(error))
}

pub(crate) fn unavailable() -> Reply {
    error(v1::error::Kind::Unavailable(v1::Unavailable { level: 5, required: 2, alive: 1 }))
}

impl World {
    fn of(nodes: usize) -> Arc<World> {
        let store: Mutex<BTreeMap<Bytes, (Bytes, i64)>> = Mutex::default();
        Arc::new(World {
            nodes: Mutex::default(),
            handler: Mutex::new(Arc::new(move |_, request| kept(&store, request))),
            seen: Mutex::default(),
            members: AtomicUsize::new(nodes),
            streams_open: AtomicUsize::new(0),
            connects: AtomicUsize::new(0),
            servers: Mutex::new(JoinSet::new()),
            rules: Mutex::default(),
            announces: Mutex::default(),
            addrs: Mutex::new((1..=nodes).map(addr).collect()),
        })
    }

    /// `nodes` nodes that keep what they are given in one shared map.
    pub(crate) fn new(nodes: usize) -> Arc<World> {
        let world = World::of(nodes);
        for number in 1..=nodes {
            let (dial, incoming) = mpsc::unbounded_channel();
            let node = Arc::new(Node { up: AtomicBool::new(true), stalled: Arc::default(), dial });
            world.nodes.lock().unwrap().insert(addr(number), Arc::clone(&node));
            let service = Service { number, world: Arc::clone(&world) };
            let server = tonic::transport::Server::builder()
                .add_service(KvServer::new(service.clone()))
                .add_service(AdminServer::new(service))
                .serve_with_incoming(UnboundedReceiverStream::new(incoming).map(io::Result::Ok));
            world.servers.lock().unwrap().spawn(async move { server.await.unwrap() });
        }
        world
    }

    /// As [`World::new`], on real sockets: for clients that are other processes.
    pub(crate) async fn on_tcp(nodes: usize) -> Arc<World> {
        let world = World::of(nodes);
        for number in 1..=nodes {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            *world.addrs.lock().unwrap().get_mut(number - 1).unwrap() =
                listener.local_addr().unwrap();
            let service = Service { number, world: Arc::clone(&world) };
            let server = tonic::transport::Server::builder()
                .add_service(KvServer::new(service.clone()))
                .add_service(AdminServer::new(service))
                .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener));
            world.servers.lock().unwrap().spawn(async move { server.await.unwrap() });
        }
        world
    }

    /// Where clients reach a node.
    pub(crate) fn addr(&self, number: usize) -> SocketAddr {
        *self.addrs.lock().unwrap().get(number - 1).unwrap()
    }

    pub(crate) fn answer(
        &self,
        handler: impl Fn(usize, &v1::KvRequest) -> Reply + Send + Sync + 'static,
    ) {
        *self.handler.lock().unwrap() = Arc::new(handler);
    }

    pub(crate) fn node(&self, number: usize) -> Arc<Node> {
        Arc::clone(self.nodes.lock().unwrap().get(&addr(number)).unwrap())
    }

    pub(crate) fn builder(self: &Arc<Self>) -> Builder {
        let connector: Arc<dyn Connect> = Arc::new(Dialler(Arc::clone(self)));
        let clock = std::sync::atomic::AtomicI64::new(1_000_000);
        Client::builder()
            .contact_points([addr(1)])
            .connector(connector)
            .seed(1)
            .wall_clock(Arc::new(move || clock.fetch_add(10, Ordering::Relaxed)))
    }

    /// Nodes that were asked, in order.
    pub(crate) fn asked(&self) -> Vec<usize> {
        self.seen.lock().unwrap().iter().map(|(node, _)| *node).collect()
    }
}

impl Node {
    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }

    pub(crate) fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }
}

fn kept(store: &Mutex<BTreeMap<Bytes, (Bytes, i64)>>, request: &v1::KvRequest) -> Reply {
    use v1::kv_request::Op;
    let mut store = store.lock().unwrap();
    match request.op.as_ref().unwrap() {
        Op::Put(put) => {
            let timestamp = put.timestamp_us.unwrap_or(7);
            store.insert(put.key.clone(), (put.value.clone(), timestamp));
            written(timestamp)
        }
        Op::Delete(delete) => {
            store.remove(&delete.key);
            written(delete.timestamp_us.unwrap_or(7))
        }
        Op::Get(get) => {
            let found = store.get(&get.key).cloned();
            let timestamp_us = found.as_ref().map_or(0, |(_, timestamp)| *timestamp);
            let value = found.map(|(value, _)| value);
            Reply::Answer(v1::kv_response::Outcome::Value(v1::Value { value, timestamp_us }))
        }
        Op::Scan(scan) => {
            let after = scan.page.clone();
            let limit = usize::try_from(scan.limit).unwrap();
            let mut entries: Vec<v1::Entry> = store
                .iter()
                .filter(|(key, _)| after.is_empty() || **key > after)
                .map(|(key, (value, timestamp_us))| v1::Entry {
                    key: key.clone(),
                    value: value.clone(),
                    timestamp_us: *timestamp_us,
                })
                .take(limit + 1)
                .collect();
            let more = entries.len() > limit;
            entries.truncate(limit);
            let next_page = match entries.last() {
                Some(last) if more => last.key.clone(),
                _ => Bytes::new(),
            };
            Reply::Answer(v1::kv_response::Outcome::Page(v1::Page { entries, next_page }))
        }
    }
}

struct Dialler(Arc<World>);

impl Connect for Dialler {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
        let node = self.0.nodes.lock().unwrap().get(&addr).cloned();
        self.0.connects.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let node = node.filter(|node| node.up.load(Ordering::SeqCst));
            let node = node.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let pipe = |end| Pipe { end, stalled: Arc::clone(&node.stalled) };
            node.dial.send(pipe(theirs)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(pipe(ours)) as BoxIo)
        })
    }
}

/// One end of a connection.
struct Pipe {
    end: DuplexStream,
    stalled: Arc<AtomicBool>,
}

impl tonic::transport::server::Connected for Pipe {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stalled.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.end).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.stalled.load(Ordering::SeqCst) {
            // Taken by the kernel, lost on the way.
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.end).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_shutdown(cx)
    }
}

#[derive(Clone)]
struct Service {
    number: usize,
    world: Arc<World>,
}

impl Service {
    fn reply(&self, request: &v1::KvRequest) -> Reply {
        self.world.seen.lock().unwrap().push((self.number, request.clone()));
        let handler = Arc::clone(&self.world.handler.lock().unwrap());
        handler(self.number, request)
    }

    fn response(request: &v1::KvRequest, outcome: v1::kv_response::Outcome) -> v1::KvResponse {
        let node = Bytes::copy_from_slice(&5u128.to_be_bytes());
        let responders = if request.trace { vec![node] } else { vec![] };
        v1::KvResponse { id: request.id, outcome: Some(outcome), responders, ..Default::default() }
    }
}

/// Counts a stream as open while it lives.
struct Open(Arc<World>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams_open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl Kv for Service {
    async fn execute(
        &self,
        request: Request<v1::KvRequest>,
    ) -> Result<Response<v1::KvResponse>, Status> {
        let request = request.into_inner();
        match self.reply(&request) {
            Reply::Answer(outcome) => Ok(Response::new(Self::response(&request, outcome))),
            Reply::Silence | Reply::Break | Reply::ReadsAtMost(_) => {
                Err(Status::unavailable("mock"))
            }
        }
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<v1::KvResponse, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::KvRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let mut requests = request.into_inner();
        let (answers, out) = mpsc::channel(64);
        let service = self.clone();
        self.world.streams_open.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&self.world));
        self.world.servers.lock().unwrap().spawn(async move {
            let _open = open;
            while let Ok(Some(request)) = requests.message().await {
                let sent = match service.reply(&request) {
                    Reply::Answer(outcome) => {
                        answers.send(Ok(Self::response(&request, outcome))).await
                    }
                    Reply::Silence => Ok(()),
                    Reply::Break => {
                        let broken = answers.send(Err(Status::aborted("mock broke it"))).await;
                        drop(broken);
                        return;
                    }
                    Reply::ReadsAtMost(bytes) => {
                        let mut status = Status::out_of_range("mock: too large");
                        limit::announce(status.metadata_mut(), bytes);
                        drop(answers.send(Err(status)).await);
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        let mut response: Response<Self::StreamStream> =
            Response::new(Box::pin(ReceiverStream::new(out)));
        if let Some(bytes) = *self.world.announces.lock().unwrap() {
            limit::announce(response.metadata_mut(), bytes);
        }
        Ok(response)
    }
}

fn member(number: usize, client_addr: SocketAddr) -> v1::Member {
    let step = i64::MAX / 8;
    v1::Member {
        node: Bytes::copy_from_slice(&(number as u128).to_be_bytes()),
        client_addr: client_addr.to_string(),
        internode_addr: format!("127.0.0.{number}:7000"),
        dc: "dc1".into(),
        rack: format!("r{number}"),
        tokens: vec![step * i64::try_from(number).unwrap(), -step * i64::try_from(number).unwrap()],
        up: true,
        status: "NORMAL".into(),
        ..Default::default()
    }
}

macro_rules! not_mocked {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl Admin for Service {
            async fn topology(
                &self,
                _: Request<v1::TopologyRequest>,
            ) -> Result<Response<v1::TopologyResponse>, Status> {
                let members = self.world.members.load(Ordering::SeqCst);
                Ok(Response::new(v1::TopologyResponse {
                    cluster_name: "mock".into(),
                    local_node: member(self.number, addr(self.number)).node,
                    schema_version: "1".into(),
                    members: (1..=members).map(|n| member(n, self.world.addr(n))).collect(),
                }))
            }

            async fn describe(
                &self,
                _: Request<v1::DescribeRequest>,
            ) -> Result<Response<v1::DescribeResponse>, Status> {
                let keyspace = v1::Keyspace { name: "shop".into(), rf: 2, ..Default::default() };
                Ok(Response::new(v1::DescribeResponse {
                    schema_version: "1".into(),
                    keyspaces: vec![keyspace],
                }))
            }

            async fn arm_filter(
                &self,
                request: Request<v1::ArmFilterRequest>,
            ) -> Result<Response<v1::Done>, Status> {
                *self.world.rules.lock().unwrap() = request.into_inner().rules;
                Ok(Response::new(v1::Done {}))
            }

            async fn list_filter(
                &self,
                _: Request<v1::ListFilterRequest>,
            ) -> Result<Response<v1::ListFilterResponse>, Status> {
                let rules = self.world.rules.lock().unwrap().clone().into_iter();
                let armed = |rule| v1::ArmedRule { rule: Some(rule), matched: 7 };
                let rules = rules.map(armed).collect();
                Ok(Response::new(v1::ListFilterResponse { rules }))
            }

            async fn disarm_filter(
                &self,
                _: Request<v1::DisarmFilterRequest>,
            ) -> Result<Response<v1::Done>, Status> {
                self.world.rules.lock().unwrap().clear();
                Ok(Response::new(v1::Done {}))
            }

            $(async fn $name(
                &self,
                _: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                Err(Status::unimplemented("the mock node does not do that"))
            })*
        }
    };
}

not_mocked! {
    create_keyspace(CreateKeyspaceRequest) -> SchemaChanged;
    drop_keyspace(DropKeyspaceRequest) -> SchemaChanged;
    create_table(CreateTableRequest) -> SchemaChanged;
    drop_table(DropTableRequest) -> SchemaChanged;
    info(InfoRequest) -> InfoResponse;
    gossip_info(GossipInfoRequest) -> GossipInfoResponse;
    tp_stats(TpStatsRequest) -> TpStatsResponse;
    table_stats(TableStatsRequest) -> TableStatsResponse;
    compaction_stats(CompactionStatsRequest) -> CompactionStatsResponse;
    compaction_history(CompactionHistoryRequest) -> CompactionHistoryResponse;
    get_endpoints(GetEndpointsRequest) -> GetEndpointsResponse;
    pause_handoff(PauseHandoffRequest) -> Done;
    resume_handoff(ResumeHandoffRequest) -> Done;
    list_pending_hints(ListPendingHintsRequest) -> ListPendingHintsResponse;
    truncate_hints(TruncateHintsRequest) -> TruncateHintsResponse;
    await_hints(AwaitHintsRequest) -> AwaitHintsResponse;
    hint_ledger(HintLedgerRequest) -> HintLedgerResponse;
    settle_hint_ledger(SettleHintLedgerRequest) -> SettleHintLedgerResponse;
    list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse;
    read_dead_letters(ReadDeadLettersRequest) -> ReadDeadLettersResponse;
    replay_dead_letters(ReplayDeadLettersRequest) -> ReplayDeadLettersResponse;
    purge_dead_letters(PurgeDeadLettersRequest) -> PurgeDeadLettersResponse;
    flush(StorageTarget) -> Done;
    compact(StorageTarget) -> Done;
    enable_auto_compaction(StorageTarget) -> Done;
    disable_auto_compaction(StorageTarget) -> Done;
    set_compaction_throughput(SetCompactionThroughputRequest) -> Done;
    verify(VerifyRequest) -> VerifyResponse;
    scrub(ScrubRequest) -> ScrubResponse;
    take_snapshot(TakeSnapshotRequest) -> Done;
    list_snapshots(ListSnapshotsRequest) -> ListSnapshotsResponse;
    clear_snapshot(ClearSnapshotRequest) -> ClearSnapshotResponse;
    set_concurrent_compactors(SetConcurrentCompactorsRequest) -> Done;
    start_repair(StartRepairRequest) -> RepairReport;
    repair_status(RepairStatusRequest) -> RepairReport;
    cancel_repair(CancelRepairRequest) -> RepairReport;
    repair_history(RepairHistoryRequest) -> RepairHistoryResponse;
    create_role(CreateRoleRequest) -> Done;
    alter_role(AlterRoleRequest) -> Done;
    drop_role(DropRoleRequest) -> Done;
    list_roles(ListRolesRequest) -> ListRolesResponse;
    decommission(DecommissionRequest) -> DecommissionReport;
    decommission_status(DecommissionStatusRequest) -> DecommissionReport;
}
