//! The client: the topology it keeps fresh, the links it keeps open, and the loop that tries an operation until it is
//! answered or given up.

use crate::admin::Admin;
use crate::builder::Settings;
use crate::channel;
use crate::connect::Connect;
use crate::error::{AdminError, ConnectError, FailedAttempt, KvError, OpError};
use crate::link::{CallContext, Link, Readiness};
use crate::options::{Options, Routing, TimestampSource};
use crate::retry::Decision;
use crate::stats::{ClientStats, Counters};
use crate::table::Table;
use crate::task::Task;
use crate::timestamps::Timestamps;
use crate::topology::{Ask, Topology, next_host};
use crate::wire::Asked;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use helenus_core::{Dc, TimestampMicros};
use helenus_proto::{level, v1};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Errors ask for a fresh topology; this is the least time between two refreshes, however many errors there are.
const REFRESH_PAUSE_MIN: Duration = Duration::from_secs(1);
/// How long one node may take to describe the cluster before the next is asked.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to a cluster. Cheap to clone; clones share everything. When the last clone is dropped, its tasks stop
/// and its connections close.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// Owned here and not by `Inner`, which it keeps alive: it ends with the last clone of the client.
    _refresher: Arc<Task>,
}

struct Inner {
    settings: Settings,
    connector: Arc<dyn Connect>,
    timestamps: Timestamps,
    counters: Arc<Counters>,
    topology: RwLock<Arc<Topology>>,
    local_dc: RwLock<Option<Dc>>,
    /// Bounded by the members of the ring, the contact points, and addresses that callers pinned since the last refresh.
    links: Mutex<BTreeMap<SocketAddr, Kept>>,
    turn: AtomicU64,
    refresh: Notify,
}

struct Kept {
    link: Arc<Link>,
    /// Since the last refresh.
    used: AtomicBool,
}

/// What is done to a table, without whom and how.
pub(crate) struct Operation<'a> {
    pub(crate) keyspace: &'a str,
    pub(crate) table: &'a str,
    pub(crate) op: v1::kv_request::Op,
    pub(crate) options: &'a Options,
}

impl Client {
    /// Settings first.
    pub fn builder() -> crate::builder::Builder {
        crate::builder::Builder::default()
    }

    pub(crate) async fn start(
        settings: Settings,
        connector: Arc<dyn Connect>,
    ) -> Result<Client, ConnectError> {
        if settings.contact_points.is_empty() {
            return Err(ConnectError::NoContactPoints);
        }
        let inner = Arc::new(Inner {
            timestamps: Timestamps::new(Arc::clone(&settings.wall_clock)),
            counters: Arc::default(),
            topology: RwLock::new(Arc::new(Topology::of_contacts(&settings.contact_points))),
            local_dc: RwLock::new(settings.local_dc.clone()),
            links: Mutex::default(),
            // Clients that start together should not all begin with the same node.
            turn: AtomicU64::new(settings.seed >> 32),
            refresh: Notify::new(),
            connector,
            settings,
        });
        let mut tried = Vec::new();
        for addr in inner.settings.contact_points.clone() {
            match inner.learn_from(addr).await {
                Ok(()) => {
                    let refresher = Task::spawn(keep_fresh(Arc::clone(&inner)));
                    return Ok(Client { inner, _refresher: Arc::new(refresher) });
                }
                Err(error) => tried.push((addr, error)),
            }
        }
        Err(ConnectError::NoneAnswered { tried })
    }

    /// A table to read and write, with the client's default options.
    pub fn table(&self, keyspace: &str, name: &str) -> Table {
        Table::new(self.clone(), keyspace, name)
    }

    /// The operator's door of one node.
    pub fn admin(&self, addr: SocketAddr) -> Admin {
        let settings = &self.inner.settings;
        let connector = Arc::clone(&self.inner.connector);
        let channel = channel::open_lazily(addr, connector, settings.link.channel);
        Admin::over(addr, settings.admin_timeout, channel)
    }

    /// The cluster as last learned.
    pub fn topology(&self) -> Arc<Topology> {
        self.inner.topology()
    }

    /// Learns the topology and the keyspaces anew, now, from the first node that answers.
    pub async fn refresh(&self) -> Result<(), ConnectError> {
        self.inner.refresh_now().await
    }

    /// What the client counted.
    pub fn stats(&self) -> ClientStats {
        self.inner.counters.read()
    }

    /// A timestamp for a write: by this client's clock, and greater than all it gave before.
    pub fn next_timestamp(&self) -> TimestampMicros {
        self.inner.timestamps.next()
    }

    /// Tries the operation until it is answered, the retry policy gives up or its time is over. `read` makes an
    /// outcome of an answer.
    pub(crate) async fn run<T>(
        &self,
        operation: Operation<'_>,
        read: impl Fn(Asked, v1::KvResponse) -> Result<T, KvError>,
    ) -> Result<T, OpError> {
        let counters = &self.inner.counters;
        counters.operations.add(1);
        let done = self.attempts(operation, read).await;
        if done.is_err() {
            counters.failed.add(1);
        }
        done
    }

    async fn attempts<T>(
        &self,
        operation: Operation<'_>,
        read: impl Fn(Asked, v1::KvResponse) -> Result<T, KvError>,
    ) -> Result<T, OpError> {
        let inner = &*self.inner;
        let plan = inner.plan(operation);
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut failed: Vec<FailedAttempt> = Vec::new();
        let mut again: Option<SocketAddr> = None;
        let mut attempt = 0;
        loop {
            let mut next = again.take().or_else(|| inner.next_host(&plan, &tried));
            if inner.is_cut_off(&plan, next) {
                // Nodes that were asked before and come back are as good as any: what they met is over.
                if inner.first_up(plan.deadline).await {
                    tried.clear();
                }
                next = inner.next_host(&plan, &tried);
            }
            // When every node was asked, or the time is over, what the attempts met says why.
            let late = attempt > 0 && Instant::now() >= plan.deadline;
            let Some(addr) = next.filter(|_| !late) else { return Err(OpError::of(failed)) };
            attempt += 1;
            if attempt > 1 {
                inner.counters.retries.add(1);
            }
            let asked = Asked { addr, level: plan.level, write: plan.write, attempt };
            let result = inner.attempt(addr, &plan).await.and_then(|answer| read(asked, answer));
            let error = match result {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if matches!(error, KvError::NotConnected { .. } | KvError::ConnectionLost { .. }) {
                inner.refresh.notify_one();
            }
            let decision = inner.settings.retry.decide(attempt, &error, plan.idempotent);
            tried.push(addr);
            failed.push(FailedAttempt { coordinator: Some(addr), error });
            match decision {
                Decision::GiveUp => return Err(OpError::of(failed)),
                Decision::RetrySameHost => again = Some(addr),
                Decision::RetryNextHost => {}
            }
        }
    }
}

/// Everything about an operation that its attempts share.
struct Plan {
    request: v1::KvRequest,
    level: helenus_core::Level,
    routing: Routing,
    write: bool,
    idempotent: bool,
    turn: u64,
    timeout: Duration,
    deadline: Instant,
    /// The coordinator is told how long the client waits only if the caller said so; else its own timeouts apply.
    tell_timeout: bool,
}

impl Plan {
    fn key(&self) -> Option<&[u8]> {
        use v1::kv_request::Op;
        match &self.request.op {
            Some(Op::Put(put)) => Some(&put.key),
            Some(Op::Get(get)) => Some(&get.key),
            Some(Op::Delete(delete)) => Some(&delete.key),
            Some(Op::Scan(_)) | None => None,
        }
    }
}

impl Inner {
    fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Kept>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link to a node, started now if there is none yet.
    fn link(&self, addr: SocketAddr) -> Arc<Link> {
        let mut links = self.links();
        let kept = links.entry(addr).or_insert_with(|| {
            let (connector, counters) = (Arc::clone(&self.connector), Arc::clone(&self.counters));
            let link = Arc::new(Link::start(addr, connector, self.settings.link, counters));
            Kept { link, used: AtomicBool::new(true) }
        });
        kept.used.store(true, Ordering::Relaxed);
        Arc::clone(&kept.link)
    }

    fn plan(&self, operation: Operation<'_>) -> Plan {
        use v1::kv_request::Op;
        let Operation { keyspace, table, mut op, options } = operation;
        let settings = &self.settings;
        let write = matches!(op, Op::Put(_) | Op::Delete(_));
        if let Op::Put(v1::Put { timestamp_us, .. }) | Op::Delete(v1::Delete { timestamp_us, .. }) =
            &mut op
        {
            *timestamp_us = match (options.timestamp, settings.timestamps) {
                (Some(timestamp), _) => Some(timestamp.0),
                (None, TimestampSource::Client) => Some(self.timestamps.next().0),
                (None, TimestampSource::Coordinator) => None,
            };
        }
        let timestamped = match &op {
            Op::Put(put) => put.timestamp_us.is_some(),
            Op::Delete(delete) => delete.timestamp_us.is_some(),
            Op::Get(_) | Op::Scan(_) => true,
        };
        let level = options.level.unwrap_or(settings.level);
        let said = options.timeout.or(settings.timeout);
        let timeout = said.unwrap_or(crate::builder::PATIENCE);
        let request = v1::KvRequest {
            level: level::to_wire(level).into(),
            keyspace: keyspace.to_owned(),
            table: table.to_owned(),
            op: Some(op),
            trace: options.trace,
            ..Default::default()
        };
        Plan {
            request,
            level,
            routing: options.routing.unwrap_or(settings.routing),
            write,
            // A write with a timestamp merges with itself; reads change nothing.
            idempotent: timestamped,
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
            timeout,
            deadline: Instant::now() + timeout,
            tell_timeout: said.is_some(),
        }
    }

    fn next_host(&self, plan: &Plan, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let topology = self.topology();
        let local_dc = self.local_dc.read().unwrap_or_else(PoisonError::into_inner);
        let ask = Ask {
            routing: plan.routing,
            local_dc: local_dc.as_ref(),
            keyspace: &plan.request.keyspace,
            key: plan.key(),
            turn: plan.turn,
        };
        let links = self.links();
        next_host(&topology, ask, tried, |addr| {
            links.get(&addr).map_or(Readiness::Connecting, |kept| kept.link.readiness())
        })
    }

    /// Whether `next`, the best that there is to ask, is out of reach, and so is every other node. A pinned operation is
    /// a question to one node, and that the node is not there is an answer: it does not wait.
    fn is_cut_off(&self, plan: &Plan, next: Option<SocketAddr>) -> bool {
        if matches!(plan.routing, Routing::Pinned(_)) {
            return false;
        }
        let links = self.links();
        let down = |addr: &SocketAddr| {
            links.get(addr).is_some_and(|kept| kept.link.readiness() == Readiness::Down)
        };
        next.as_ref().is_none_or(down) && self.topology().hosts().all(|host| down(&host.addr))
    }

    /// Makes the links of all nodes dial, and waits until the first is up. False: none was until the deadline.
    async fn first_up(&self, deadline: Instant) -> bool {
        let links: Vec<Arc<Link>> =
            self.topology().hosts().map(|host| self.link(host.addr)).collect();
        let mut ups: FuturesUnordered<_> = links.iter().map(|link| link.up()).collect();
        if ups.is_empty() {
            return false;
        }
        tokio::time::timeout_at(deadline, ups.next()).await.is_ok()
    }

    async fn attempt(&self, addr: SocketAddr, plan: &Plan) -> Result<v1::KvResponse, KvError> {
        let mut request = plan.request.clone();
        if plan.tell_timeout {
            request.timeout_ms = told_ms(plan.deadline.saturating_duration_since(Instant::now()));
        }
        let Plan { write, deadline, timeout, .. } = *plan;
        self.link(addr).call(request, CallContext { write, deadline, timeout }).await
    }

    /// Takes the topology and the schema from one node, and starts and ends links accordingly.
    async fn learn_from(&self, addr: SocketAddr) -> Result<(), AdminError> {
        let timeout = REFRESH_TIMEOUT.max(self.settings.link.channel.connect_timeout);
        let link = self.link(addr);
        let channel = match tokio::time::timeout(timeout, link.channel()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(reason)) => return Err(AdminError::NotConnected { addr, reason }),
            Err(_) => return Err(AdminError::Timeout { addr, timeout }),
        };
        let admin = Admin::over(addr, REFRESH_TIMEOUT, channel);
        let members = admin.topology().await?;
        let schema = admin.describe("").await?;
        let local = members.local_node.clone();
        let topology = Topology::from_wire(members, schema);
        if topology.hosts().len() == 0 {
            let problem = match topology.skipped() {
                [] => "its topology has no members".to_owned(),
                skipped => format!("no member of its topology can be used: {}", skipped.join("; ")),
            };
            return Err(AdminError::Protocol { addr, problem });
        }
        self.adopt(topology, &local);
        Ok(())
    }

    fn adopt(&self, topology: Topology, local: &[u8]) {
        self.counters.members_skipped.add(u64::try_from(topology.skipped().len()).unwrap_or(0));
        for skipped in topology.skipped() {
            tracing::debug!(skipped, "a member of the ring cannot be used");
        }
        {
            // Near is where the first node that answered is, unless the caller said.
            let mut local_dc = self.local_dc.write().unwrap_or_else(PoisonError::into_inner);
            if local_dc.is_none() {
                let local = helenus_proto::ids::node_from_wire("local_node", local).ok();
                *local_dc = local
                    .and_then(|node| topology.addr_of(node))
                    .and_then(|addr| topology.host(addr))
                    .map(|host| host.dc.clone());
            }
        }
        for host in topology.hosts() {
            self.link(host.addr);
        }
        let contacts = &self.settings.contact_points;
        self.links().retain(|addr, kept| {
            let used = kept.used.swap(false, Ordering::Relaxed);
            used || contacts.contains(addr)
        });
        *self.topology.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(topology);
    }

    /// Asks nodes in turn, those that are connected first, and the contact points last.
    async fn refresh_now(&self) -> Result<(), ConnectError> {
        let mut candidates: Vec<SocketAddr> = {
            let topology = self.topology();
            let links = self.links();
            let mut hosts: Vec<(Readiness, SocketAddr)> = topology
                .hosts()
                .map(|host| {
                    let kept = links.get(&host.addr);
                    (kept.map_or(Readiness::Connecting, |k| k.link.readiness()), host.addr)
                })
                .collect();
            hosts.sort();
            hosts.into_iter().map(|(_, addr)| addr).collect()
        };
        for contact in &self.settings.contact_points {
            if !candidates.contains(contact) {
                candidates.push(*contact);
            }
        }
        let mut tried = Vec::new();
        for addr in candidates {
            match self.learn_from(addr).await {
                Ok(()) => {
                    self.counters.refreshes.add(1);
                    return Ok(());
                }
                Err(error) => tried.push((addr, error)),
            }
        }
        self.counters.refresh_failures.add(1);
        Err(ConnectError::NoneAnswered { tried })
    }
}

/// Refreshes the topology now and then, and soon after an error. The old one stays in use when nobody answers.
async fn keep_fresh(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            biased;
            // An error is news; the interval is only for what nobody complains about.
            () = inner.refresh.notified() => {}
            () = tokio::time::sleep(inner.settings.refresh_interval) => {}
        }
        if let Err(error) = inner.refresh_now().await {
            tracing::debug!(%error, "the topology could not be refreshed");
        }
        tokio::time::sleep(REFRESH_PAUSE_MIN).await;
    }
}

/// What a coordinator is told of the `remaining` time: a tenth less, so that its own answer arrives while the client
/// still waits, and never 0, which would mean "as long as you like".
fn told_ms(remaining: Duration) -> u32 {
    let margin = (remaining / 10).min(Duration::from_millis(100));
    u32::try_from((remaining - margin).as_millis()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinator_is_told_a_little_less() {
        for (remaining_ms, told) in [(0, 1), (1, 1), (10, 9), (1000, 900), (5000, 4900)] {
            assert_eq!(told_ms(Duration::from_millis(remaining_ms)), told);
        }
        assert_eq!(told_ms(Duration::MAX), u32::MAX);
    }
}
