//! A cluster in one process and one thread, on simulated disks, with tokio's clock standing still until nobody has
//! anything to do. Everything goes through the doors that clients, operators and lessons use: the Kv and Admin services.
//!
//! Node `i` owns the i-th part of the ring, so a key's replicas are its owner and those behind it, in that order, and a
//! coordinator asks itself first and then in that order. That is how a test says which pair answers; `responders` is how
//! it checks that.

use crate::net::Pipes;
use helenus_core::{Level, NodeId, token};
use helenus_node::config::Config;
use helenus_node::seams::background::SimBackground;
use helenus_node::seams::clock::Clock;
use helenus_node::seams::disk::{Faults, SimDisk};
use helenus_node::seams::net::{BoxIo, Net as _};
use helenus_node::seams::probe::{ApplyPath, Event, Probe};
use helenus_node::seams::rng::Rng;
use helenus_node::{Parts, Ready, StartError};
use helenus_proto::v1::admin_client::AdminClient;
use helenus_proto::v1::error::Kind;
use helenus_proto::v1::kv_client::KvClient;
use helenus_proto::v1::kv_request::Op;
use helenus_proto::v1::kv_response::Outcome;
use helenus_proto::{ids, v1};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;
pub(crate) const C: usize = 2;

/// 2023-11-14, as good as any.
const EPOCH_MICROS: i64 = 1_700_000_000_000_000;
/// Simulated time after which a test stops hoping.
const PATIENCE: Duration = Duration::from_secs(600);

/// tokio's clock, and a wall clock that a test may set.
pub(crate) struct TestClock {
    origin: tokio::time::Instant,
    pub(crate) skew_micros: AtomicI64,
}

impl Clock for TestClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wall_micros(&self) -> i64 {
        let elapsed = i64::try_from(self.origin.elapsed().as_micros()).unwrap();
        EPOCH_MICROS + elapsed + self.skew_micros.load(Ordering::Relaxed)
    }
}

/// Remembers what its node decided.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Vec<Event>>);

impl Probe for Notes {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), StartError>>,
}

struct Slot {
    ip: IpAddr,
    config: Config,
    disk: SimDisk,
    clock: Arc<TestClock>,
    notes: Arc<Notes>,
    boots: u64,
    id: Option<NodeId>,
    running: Option<Running>,
    channel: Channel,
}

pub(crate) struct Cluster {
    pub(crate) net: Pipes,
    slots: Vec<Slot>,
    /// The table that `put`, `get` and `scan` are about.
    pub(crate) table: String,
    pub(crate) keyspace: String,
}

/// An acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) timestamp: i64,
    pub(crate) warnings: Vec<String>,
    pub(crate) responders: Vec<usize>,
}

/// An answered read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) value: Option<String>,
    pub(crate) timestamp: i64,
    /// In order of node.
    pub(crate) responders: Vec<usize>,
}

/// What a client is told instead.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

/// A write with all that may be said of one.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) level: Level,
    pub(crate) timeout_ms: u32,
    pub(crate) op: Op,
}

pub(crate) fn put(level: Level, key: &str, value: &str) -> Write {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    Write { level, timeout_ms: 0, op: Op::Put(v1::Put { key, value, ..v1::Put::default() }) }
}

pub(crate) fn delete(level: Level, key: &str) -> Write {
    let key = key.to_owned().into();
    Write { level, timeout_ms: 0, op: Op::Delete(v1::Delete { key, timestamp_us: None }) }
}

impl Write {
    pub(crate) fn at(mut self, timestamp: i64) -> Write {
        match &mut self.op {
            Op::Put(put) => put.timestamp_us = Some(timestamp),
            Op::Delete(delete) => delete.timestamp_us = Some(timestamp),
            other => panic!("{other:?} has no timestamp"),
        }
        self
    }

    pub(crate) fn ttl(mut self, seconds: u32) -> Write {
        let Op::Put(put) = &mut self.op else { panic!("only a put has a ttl") };
        put.ttl_s = seconds;
        self
    }

    pub(crate) fn patience(mut self, ms: u32) -> Write {
        self.timeout_ms = ms;
        self
    }
}

/// A page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<(String, String)>,
    pub(crate) next: bytes::Bytes,
}

impl Cluster {
    /// Three nodes in three racks, a table `ks.kv` with three copies of everything. Hints are kept and not replayed
    /// until `resumehandoff`.
    pub(crate) async fn three() -> Cluster {
        Cluster::three_with(|_| ()).await
    }

    pub(crate) async fn three_with(change: impl Fn(&mut Config)) -> Cluster {
        let cluster = Cluster::start(&["dc1"; 3], change).await;
        cluster.create_keyspace(A, "ks", 3, &[]).await;
        cluster.create_table(A, "kv", &[]).await;
        cluster
    }

    /// One node for each data centre named, without any schema.
    pub(crate) async fn start(dcs: &[&str], change: impl Fn(&mut Config)) -> Cluster {
        let net = Pipes::default();
        let origin = tokio::time::Instant::now();
        let step = u64::MAX / dcs.len() as u64;
        let mut slots = Vec::new();
        for (i, dc) in dcs.iter().enumerate() {
            let ip = IpAddr::from([10, 0, 0, u8::try_from(i).unwrap() + 1]);
            let mut config = Config {
                listen_address: SocketAddr::new(ip, 7000),
                rpc_address: SocketAddr::new(ip, 9160),
                seeds: vec![SocketAddr::from(([10, 0, 0, 1], 7000))],
                dc: (*dc).to_owned(),
                rack: format!("r{i}"),
                initial_token: vec![i64::MIN.wrapping_add_unsigned(step * (i as u64 + 1))],
                fault_injection: true,
                ..Config::default()
            };
            config.hints.paused = true;
            change(&mut config);
            let clock = Arc::new(TestClock { origin, skew_micros: AtomicI64::new(0) });
            slots.push(Slot {
                ip,
                channel: channel(&net, config.rpc_address),
                config,
                disk: SimDisk::new(i as u64, Faults::default()),
                clock,
                notes: Arc::default(),
                boots: 0,
                id: None,
                running: None,
            });
        }
        let (table, keyspace) = ("kv".to_owned(), "ks".to_owned());
        let mut cluster = Cluster { net, slots, table, keyspace };
        for i in 0..dcs.len() {
            cluster.boot(i).await;
        }
        cluster.all_see_alive(dcs.len()).await;
        cluster
    }

    /// What a node is made of in its next life.
    fn parts(&mut self, i: usize, ready: Option<oneshot::Sender<Ready>>) -> Parts {
        let net = self.net.clone();
        let slot = &mut self.slots[i];
        assert!(slot.running.is_none(), "node {i} runs");
        slot.boots += 1;
        Parts {
            config: slot.config.clone(),
            clock: Arc::<TestClock>::clone(&slot.clock),
            rng: Rng::from_seed(i as u64 + (slot.boots << 32)),
            disk: Arc::new(slot.disk.clone()),
            background: Arc::new(SimBackground::new(slot.disk.clone())),
            net: Arc::new(net.host(slot.ip)),
            probe: Arc::<Notes>::clone(&slot.notes),
            ready,
        }
    }

    /// Starts a node that is not running.
    pub(crate) async fn boot(&mut self, i: usize) {
        let (tell, ready) = oneshot::channel();
        let parts = self.parts(i, Some(tell));
        let slot = &mut self.slots[i];
        let (stop, stopped) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "the test plays the machines")]
        let ended = tokio::spawn(helenus_node::run(parts, async {
            drop(stopped.await);
        }));
        slot.id = Some(ready.await.expect("the node starts").node);
        slot.running = Some(Running { stop, ended });
    }

    /// Starts a node that does not want to run; why not, in its words.
    pub(crate) async fn boot_in_vain(&mut self, i: usize) -> String {
        let parts = self.parts(i, None);
        let ended = helenus_node::run(parts, std::future::pending()).await;
        self.net.unplug(self.slots[i].ip);
        ended.unwrap_err().to_string()
    }

    /// Stops a node in order.
    pub(crate) async fn stop(&mut self, i: usize) {
        let Running { stop, ended } = self.slots[i].running.take().unwrap();
        stop.send(()).unwrap();
        ended.await.unwrap().unwrap();
        self.net.unplug(self.slots[i].ip);
    }

    /// `kill -9`: the process is gone, what it had written is with the operating system.
    pub(crate) async fn kill(&mut self, i: usize) {
        let slot = &mut self.slots[i];
        self.net.unplug(slot.ip);
        let Running { stop: _stop, ended } = slot.running.take().unwrap();
        ended.abort();
        assert!(ended.await.unwrap_err().is_cancelled());
    }

    /// The power fails: what was not synced is gone as well.
    pub(crate) async fn power_off(&mut self, i: usize) {
        self.kill(i).await;
        let slot = &mut self.slots[i];
        slot.disk.crash();
        slot.disk = slot.disk.reopen();
    }

    /// Cuts two nodes off from each other.
    pub(crate) fn cut(&self, a: usize, b: usize) {
        self.net.cut(self.slots[a].ip, self.slots[b].ip);
    }

    pub(crate) fn mend(&self, a: usize, b: usize) {
        self.net.mend(self.slots[a].ip, self.slots[b].ip);
    }

    pub(crate) fn disk(&self, i: usize) -> &SimDisk {
        &self.slots[i].disk
    }

    pub(crate) fn clock(&self, i: usize) -> &TestClock {
        &self.slots[i].clock
    }

    pub(crate) fn id(&self, i: usize) -> NodeId {
        self.slots[i].id.unwrap()
    }

    fn index(&self, id: &[u8]) -> usize {
        let id = ids::node_from_wire("node", id).unwrap();
        self.slots.iter().position(|s| s.id == Some(id)).unwrap()
    }

    /// The `nth` key whose first replica is `owner`: the order of its replicas is the ring's from there on.
    pub(crate) fn key(&self, owner: usize, nth: usize) -> String {
        let owned = |key: &String| {
            let token = token::of(key.as_bytes()).0;
            let at = self.slots.iter().position(|s| token <= s.config.initial_token[0]);
            at.unwrap_or(0) == owner
        };
        (0..).map(|n| format!("k{n}")).filter(owned).nth(nth).unwrap()
    }

    /// A client's connection to a node's port.
    pub(crate) async fn connect(&self, i: usize, port: u16) -> BoxIo {
        let net = self.net.host(IpAddr::from([10, 9, 9, 9]));
        net.connect(SocketAddr::new(self.slots[i].ip, port)).await.expect("the node listens")
    }

    pub(crate) fn admin(&self, i: usize) -> AdminClient<Channel> {
        AdminClient::new(self.slots[i].channel.clone())
    }

    pub(crate) fn kv(&self, i: usize) -> KvClient<Channel> {
        KvClient::new(self.slots[i].channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    pub(crate) async fn create_keyspace(&self, at: usize, name: &str, rf: u32, dcs: &[&str]) {
        self.create_keyspace_with(at, name, rf, dcs, "").await;
    }

    pub(crate) async fn create_keyspace_with(
        &self,
        at: usize,
        name: &str,
        rf: u32,
        dcs: &[&str],
        overflow: &str,
    ) {
        let per_dc: BTreeMap<String, u32> = dcs.iter().map(|dc| ((*dc).to_owned(), rf)).collect();
        let rf = if dcs.is_empty() { rf } else { 0 };
        let request = v1::CreateKeyspaceRequest {
            name: name.to_owned(),
            rf,
            per_dc,
            if_not_exists: false,
            hint_overflow: overflow.to_owned(),
        };
        let made = self.admin(at).create_keyspace(request).await.unwrap().into_inner();
        assert!(made.changed && made.pending_nodes.is_empty(), "{made:?}");
    }

    pub(crate) async fn create_table(&self, at: usize, name: &str, options: &[(&str, &str)]) {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let request = v1::CreateTableRequest {
            keyspace: self.keyspace.clone(),
            name: name.to_owned(),
            if_not_exists: false,
            options: options.collect(),
        };
        let made = self.admin(at).create_table(request).await.unwrap().into_inner();
        assert!(made.changed && made.pending_nodes.is_empty(), "{made:?}");
    }

    /// One request as a client sends it.
    pub(crate) async fn execute(&self, at: usize, write: Write) -> Result<v1::KvResponse, Refused> {
        let request = v1::KvRequest {
            id: 0,
            level: helenus_proto::level::to_wire(write.level).into(),
            timeout_ms: write.timeout_ms,
            keyspace: self.keyspace.clone(),
            table: self.table.clone(),
            trace: true,
            op: Some(write.op),
        };
        let mut kv = self.kv(at);
        let response = kv.execute(request).await.unwrap().into_inner();
        match response.outcome {
            Some(Outcome::Error(error)) => {
                Err(Refused { kind: error.kind.unwrap(), message: error.message })
            }
            _ => Ok(response),
        }
    }

    pub(crate) async fn write(&self, at: usize, write: Write) -> Result<Written, Refused> {
        let response = self.execute(at, write).await?;
        let Some(Outcome::Written(written)) = &response.outcome else { panic!("{response:?}") };
        Ok(Written {
            timestamp: written.timestamp_us,
            warnings: response.warnings,
            responders: response.responders.iter().map(|id| self.index(id)).collect(),
        })
    }

    pub(crate) async fn read(&self, at: usize, level: Level, key: &str) -> Result<Found, Refused> {
        let op = Op::Get(v1::Get { key: key.to_owned().into() });
        let response = self.execute(at, Write { level, timeout_ms: 0, op }).await?;
        let Some(Outcome::Value(found)) = response.outcome else { panic!("{response:?}") };
        let mut responders: Vec<usize> =
            response.responders.iter().map(|id| self.index(id)).collect();
        responders.sort_unstable();
        let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        Ok(Found { value: found.value.map(text), timestamp: found.timestamp_us, responders })
    }

    /// The value, of which the test knows that it can be read.
    pub(crate) async fn value(&self, at: usize, level: Level, key: &str) -> Option<String> {
        self.read(at, level, key).await.unwrap().value
    }

    pub(crate) async fn page(
        &self,
        at: usize,
        level: Level,
        scan: v1::Scan,
    ) -> Result<Page, Refused> {
        let response = self.execute(at, Write { level, timeout_ms: 0, op: Op::Scan(scan) }).await?;
        let Some(Outcome::Page(page)) = response.outcome else { panic!("{response:?}") };
        let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let entries = page.entries.iter().map(|e| (text(&e.key), text(&e.value))).collect();
        Ok(Page { entries, next: page.next_page })
    }

    /// What one node holds itself, alive, of the table.
    pub(crate) async fn holdings(&self, at: usize) -> BTreeMap<String, String> {
        let scan = v1::Scan { limit: 5000, node_local: true, ..v1::Scan::default() };
        self.page(at, Level::One, scan).await.unwrap().entries.into_iter().collect()
    }

    /// What one node holds itself of a partition.
    pub(crate) async fn held(&self, at: usize, key: &str) -> Option<String> {
        self.holdings(at).await.remove(key)
    }

    /// Arms the filter of the sending node.
    pub(crate) async fn arm(&self, at: usize, rules: Vec<v1::FilterRule>) {
        self.admin(at).arm_filter(v1::ArmFilterRequest { rules }).await.unwrap();
    }

    pub(crate) async fn disarm(&self, at: usize) {
        self.admin(at).disarm_filter(v1::DisarmFilterRequest {}).await.unwrap();
    }

    /// How many messages each rule has matched.
    pub(crate) async fn matched(&self, at: usize) -> Vec<u64> {
        let listed = self.admin(at).list_filter(v1::ListFilterRequest {}).await.unwrap();
        listed.into_inner().rules.iter().map(|rule| rule.matched).collect()
    }

    /// A rule about messages that leave a node for another.
    pub(crate) fn rule(&self, verb: &str, to: usize, action: v1::FilterAction) -> v1::FilterRule {
        v1::FilterRule {
            verb: verb.to_owned(),
            to: self.id(to).to_string(),
            action: action.into(),
            ..v1::FilterRule::default()
        }
    }

    pub(crate) fn drops(&self, verb: &str, to: usize) -> v1::FilterRule {
        self.rule(verb, to, v1::FilterAction::Drop)
    }

    pub(crate) fn delays(&self, verb: &str, to: usize, delay_ms: u32) -> v1::FilterRule {
        v1::FilterRule { delay_ms, ..self.rule(verb, to, v1::FilterAction::Delay) }
    }

    pub(crate) async fn hints(&self, at: usize) -> v1::ListPendingHintsResponse {
        let request = v1::ListPendingHintsRequest {};
        self.admin(at).list_pending_hints(request).await.unwrap().into_inner()
    }

    /// What a node knows of hints that will not be delivered.
    pub(crate) async fn ledger(&self, at: usize) -> v1::HintLedgerResponse {
        let all = v1::HintLedgerRequest::default();
        self.admin(at).hint_ledger(all).await.unwrap().into_inner()
    }

    /// Hints that a node owes.
    pub(crate) async fn owed(&self, at: usize) -> u64 {
        self.hints(at).await.outcomes.unwrap().pending
    }

    /// Has a node pay all that it owes.
    pub(crate) async fn replay_hints(&self, at: usize) {
        self.admin(at).resume_handoff(v1::ResumeHandoffRequest {}).await.unwrap();
        self.until("all hints are delivered", async || self.owed(at).await == 0).await;
    }

    /// How many mutations of a key a node has merged on one of the three ways.
    pub(crate) fn applied(&self, at: usize, key: &str, path: ApplyPath) -> usize {
        let notes = self.slots[at].notes.0.lock().unwrap();
        let merged = notes.iter().filter(
            |event| matches!(event, Event::Applied { key: k, by, .. } if k.0 == key && *by == path),
        );
        merged.count()
    }

    /// Everything that a node decided, in order.
    pub(crate) fn story(&self, at: usize) -> Vec<Event> {
        self.slots[at].notes.0.lock().unwrap().clone()
    }

    /// Waits until every running node holds exactly `alive` nodes alive.
    pub(crate) async fn all_see_alive(&self, alive: usize) {
        for i in 0..self.slots.len() {
            if self.slots[i].running.is_some() {
                self.sees_alive(i, alive).await;
            }
        }
    }

    /// Waits until one node holds exactly `alive` nodes alive and has links to them.
    pub(crate) async fn sees_alive(&self, at: usize, alive: usize) {
        self.until("liveness is known", async || {
            let topology = self.admin(at).topology(v1::TopologyRequest {}).await.unwrap();
            let members = topology.into_inner().members;
            let up: Vec<String> =
                members.iter().filter(|m| m.up).map(|m| m.internode_addr.clone()).collect();
            let placed = members.iter().filter(|m| m.up).all(|m| !m.tokens.is_empty());
            let stats = self.admin(at).tp_stats(v1::TpStatsRequest {}).await.unwrap();
            let links = stats.into_inner().links;
            let linked = links.iter().filter(|l| l.connected && l.lane == "small").count();
            up.len() == alive && placed && linked + 1 >= alive
        })
        .await;
    }

    /// Looks every so often, in simulated time, whether it is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let began = tokio::time::Instant::now();
        while !is_so().await {
            assert!(began.elapsed() < PATIENCE, "not even after {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A client's connection, made when it is needed and again after a loss.
fn channel(net: &Pipes, addr: SocketAddr) -> Channel {
    let net = Arc::new(net.host(IpAddr::from([10, 9, 9, 9])));
    let connector = tower::service_fn(move |_: http::Uri| {
        let connect = net.connect(addr);
        async move { Ok::<_, std::io::Error>(TokioIo::new(connect.await?)) }
    });
    Endpoint::from_static("http://node").connect_with_connector_lazy(connector)
}

impl Refused {
    pub(crate) fn timeout(self) -> v1::Timeout {
        match self.kind {
            Kind::Timeout(timeout) => timeout,
            other => panic!("not a timeout: {other:?}"),
        }
    }

    pub(crate) fn failure(self) -> v1::Failure {
        match self.kind {
            Kind::Failure(failure) => failure,
            other => panic!("not a failure: {other:?}"),
        }
    }

    pub(crate) fn unavailable(self) -> v1::Unavailable {
        match self.kind {
            Kind::Unavailable(unavailable) => unavailable,
            other => panic!("not unavailable: {other:?}"),
        }
    }

    pub(crate) fn invalid(self) -> String {
        assert!(matches!(self.kind, Kind::Invalid(_)), "{self:?}");
        self.message
    }
}
