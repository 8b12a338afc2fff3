//! Links to peers: batched streams, calls with deadlines, the message filter.
//!
//! One stream per peer and lane, dialled by whoever has something to ask; answers come back on the stream that asked.
//! So between two nodes that talk to each other there are up to six connections: three lanes each way.
//!
//! | file | what it decides |
//! |---|---|
//! | `verb` | what a message is about, and its lane |
//! | `handshake` | whether two nodes can talk (pure) |
//! | `filter` | which messages are dropped, delayed or doubled on purpose (pure) |
//! | `directory` | which node is where |
//! | `call` | what was asked of whom |
//! | `pending` | which call an answer belongs to, and when a call has waited long enough |
//! | `queue` | what waits to be sent, how much of it, and what goes out together |
//! | `link` | the dialler's end: dial, greet, read answers, dial again |
//! | `session` | the listener's end: greet, read requests, handle them where they arrive |
//! | `transport` | tonic over the net seam |
//! | `stats` | what is counted |
//!
//! Invariants: a call is answered for exactly once by each peer it was sent to, by an answer or a [`PeerError`], whether
//! anybody polls it or not. Nothing waits on a timer to gather more. Every queue is bounded and every drop is counted by
//! verb and reason.
//!
//! CAVEAT: messages on one lane to one peer keep their order as long as the link stays up; across lanes and reconnects
//! there is none. An unanswered message may or may not have been acted on: [`PeerError::may_have_arrived`].
//!
//! Absent on purpose: retries. Whoever calls knows whether a message may be sent twice; links only know that it was not
//! answered.

mod call;
mod directory;
mod filter;
mod handshake;
mod link;
mod pending;
mod queue;
mod session;
mod stats;
mod transport;
mod verb;

#[cfg(test)]
mod tests;

pub use call::Inflight;
pub use filter::{Action, Filter, Nth, Rule, Rules, Side, Verdict};
pub use helenus_proto::v1::message::Body;
pub use pending::PeerError;
pub use session::ReplyTo;
pub use stats::{DropReason, LinkStat};
pub use verb::{Lane, Verb};

use crate::config::Config;
use crate::seams::clock::Clock;
use crate::seams::net::{Listener, Net};
use crate::seams::probe::{Event, Probe};
use crate::seams::rng::Rng;
use crate::tasks::Tasks;
use directory::Directory;
use handshake::{Greeting, Identity, Refusal};
use helenus_core::negotiate::VersionRange;
use helenus_core::{Generation, NodeId};
use helenus_proto::v1::{Hello, Message};
use link::Link;
use pending::{Pending, Via};
use prometheus_client::registry::Registry;
use queue::{Outbox, Queued};
use session::{Inbound, Server};
use stats::{Drops, Figures, Metrics, Source};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Messages in one queue, whatever their size.
const QUEUE_MESSAGES_MAX: usize = 65_536;
/// Calls under way at once.
const CALLS_MAX: usize = 65_536;
/// Addresses that are known at once: far more than a cluster has nodes, far fewer than a liar can invent.
const PEERS_MAX: usize = 4096;
/// Links that peers have dialled at once.
const SESSIONS_MAX: usize = 3 * PEERS_MAX;
/// Messages that the filter holds back at once; past it they are dropped, and counted as filtered.
const DELAYED_MAX: usize = 65_536;
/// The sweeper's patience: calls expire up to this much after their deadline.
const SWEEP_GRANULE: Duration = Duration::from_millis(20);
/// How long a one-way message may wait in the queue.
const ONE_WAY_TIMEOUT: Duration = Duration::from_secs(2);

/// What a node says of itself to its peers, and its bounds.
#[derive(Debug, Clone)]
pub struct PeersConfig {
    /// Its host id.
    pub node: NodeId,
    /// Which of its lives this is.
    pub generation: Generation,
    /// Nodes of another cluster are refused.
    pub cluster_name: String,
    /// Where peers reach it, with the port that was really taken.
    pub address: SocketAddr,
    /// The protocol versions it speaks.
    pub versions: VersionRange,
    /// The bound of each queue in bytes.
    pub queue_bytes: u64,
}

impl PeersConfig {
    /// As the configuration says; `address` is what the listener really got.
    pub fn new(
        config: &Config,
        node: NodeId,
        generation: Generation,
        address: SocketAddr,
    ) -> PeersConfig {
        PeersConfig {
            node,
            generation,
            cluster_name: config.cluster_name.clone(),
            address,
            versions: VersionRange::OURS,
            queue_bytes: config.internode_queue_bytes,
        }
    }
}

/// The seams that links touch.
#[derive(Clone)]
pub struct PeersParts {
    /// Deadlines.
    pub clock: Arc<dyn Clock>,
    /// Dialling.
    pub net: Arc<dyn Net>,
    /// Jitter.
    pub rng: Rng,
    /// Who watches.
    pub probe: Arc<dyn Probe>,
    /// Where the link tasks run.
    pub tasks: Arc<Tasks>,
}

impl fmt::Debug for PeersParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeersParts").finish_non_exhaustive()
    }
}

/// Handles requests, on the node's thread, where they arrive.
pub trait Handler: Send + Sync + 'static {
    /// One request of a peer. It must not block; the answer may be given now or later.
    fn handle(&self, from: NodeId, message: Body, reply: ReplyTo);

    /// Everything that had arrived has been handled: the moment to write the log once for all of it. Answers given
    /// here still go back in the same frame.
    fn end_of_batch(&self) {}
}

/// Whom a one-way message is for. A seed has only an address until it has said who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A node whose address is registered.
    Node(NodeId),
    /// Whoever listens there.
    Address(SocketAddr),
}

impl From<NodeId> for Target {
    fn from(node: NodeId) -> Target {
        Target::Node(node)
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Target {
        Target::Address(addr)
    }
}

/// All links of one node.
pub struct Peers {
    identity: Identity,
    queue_bytes: usize,
    clock: Arc<dyn Clock>,
    net: Arc<dyn Net>,
    rng: Rng,
    probe: Arc<dyn Probe>,
    tasks: Arc<Tasks>,
    directory: Mutex<Directory>,
    sessions: Mutex<BTreeMap<(NodeId, Lane), Arc<Inbound>>>,
    pending: Pending,
    filter: Filter,
    drops: Arc<Drops>,
    delayed: Arc<AtomicUsize>,
    refusals_given: AtomicU64,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Peers {
    /// No links yet. Starts the task that expires calls.
    pub fn new(config: PeersConfig, parts: PeersParts) -> Arc<Peers> {
        let PeersParts { clock, net, rng, probe, tasks } = parts;
        let peers = Arc::new(Peers {
            identity: Identity {
                cluster_name: config.cluster_name,
                node: config.node,
                versions: config.versions,
                generation: config.generation,
                address: config.address,
            },
            queue_bytes: usize::try_from(config.queue_bytes).unwrap_or(usize::MAX),
            clock,
            net,
            rng,
            probe,
            tasks,
            directory: Mutex::default(),
            sessions: Mutex::default(),
            pending: Pending::new(CALLS_MAX),
            filter: Filter::default(),
            drops: Arc::default(),
            delayed: Arc::default(),
            refusals_given: AtomicU64::new(0),
        });
        peers.tasks.spawn(sweep(peers.clone()));
        peers
    }

    /// Accepts links on `listener`; `handler` gets their requests.
    pub fn serve(self: &Arc<Self>, listener: Box<dyn Listener>, handler: Arc<dyn Handler>) {
        let server = Server { peers: self.clone(), handler };
        self.tasks.spawn(async move {
            if let Err(error) = transport::serve(listener, server).await {
                tracing::error!(%error, "peers are no longer accepted");
            }
        });
    }

    /// This node's host id.
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    /// Says where a node is, and dials it. A node that has moved is dialled anew.
    pub fn register_address(self: &Arc<Self>, node: NodeId, addr: SocketAddr) {
        if node == self.identity.node {
            return;
        }
        let old = {
            let mut directory = self.directory();
            if !directory.addresses.contains_key(&node) && directory.addresses.len() >= PEERS_MAX {
                tracing::warn!(%node, %addr, "too many peers: not registered");
                return;
            }
            let old = directory.addresses.insert(node, addr).filter(|old| *old != addr);
            old.map(|old| directory.unused_links(old)).unwrap_or_default()
        };
        self.close_links(old);
        // The bulk lane waits until it is needed: most peers never get a hint.
        for lane in [Lane::Urgent, Lane::Small] {
            self.link_at(addr, lane);
        }
    }

    /// Forgets a node and closes its links.
    pub fn forget(&self, node: NodeId) {
        let links = {
            let mut directory = self.directory();
            let old = directory.addresses.remove(&node);
            old.map(|old| directory.unused_links(old)).unwrap_or_default()
        };
        self.close_links(links);
    }

    /// Where a node is.
    pub fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.directory().addresses.get(&node).copied()
    }

    /// Whether the link of `lane` to `node` is up.
    pub fn is_connected(&self, node: NodeId, lane: Lane) -> bool {
        let directory = self.directory();
        let links = directory.addresses.get(&node).and_then(|addr| directory.links.get(addr));
        let link = links.and_then(|links| links.get(lane as usize)).and_then(Option::as_ref);
        link.is_some_and(|link| link.is_up() && link.known().is_some_and(|(peer, _)| peer == node))
    }

    /// Gives up the connections to `node` and dials it anew: for when the failure detector convicts or acquits it.
    pub fn reset(&self, node: NodeId) {
        for link in self.links_of(node) {
            link.reset();
        }
    }

    /// Closes every link, for good, and fails what is under way.
    pub fn close(&self) {
        let links = {
            let mut directory = self.directory();
            directory.closed = true;
            std::mem::take(&mut directory.links).into_values().flatten().flatten().collect()
        };
        self.close_links(links);
        self.pending.fail_link(None, PeerError::Disconnected);
        for session in std::mem::take(&mut *self.sessions()).into_values() {
            session.close();
        }
    }

    /// Sends a message that expects no answer. The error says why it was not even queued.
    pub fn send_one_way(
        self: &Arc<Self>,
        to: impl Into<Target>,
        lane: Lane,
        body: Body,
    ) -> Result<(), PeerError> {
        let (node, link) = match to.into() {
            Target::Node(node) => (Some(node), self.link_to(node, lane)),
            Target::Address(addr) => (None, self.link_at(addr, lane)),
        };
        let Some(link) = link else {
            self.drops.count(Verb::of(&body), DropReason::NotConnected);
            return Err(PeerError::Unknown);
        };
        self.transmit(&link, node, 0, self.clock.now().saturating_add(ONE_WAY_TIMEOUT), body)
    }

    /// The message filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Messages that wait to be sent on links that are up.
    pub fn queued(&self) -> u64 {
        self.link_stats().iter().filter(|link| link.connected).map(|link| link.queued).sum()
    }

    /// Every dialled link, by address and lane.
    pub fn link_stats(&self) -> Vec<LinkStat> {
        let directory = self.directory();
        directory.links.values().flatten().flatten().map(|link| link.stat()).collect()
    }

    /// What was dropped, by verb and reason.
    pub fn dropped(&self) -> BTreeMap<(Verb, DropReason), u64> {
        self.drops.counts()
    }

    /// Shows the links to Prometheus.
    pub fn register_metrics(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(Metrics(Arc::downgrade(self))));
    }
}

// What the rooms below need of it.
impl Peers {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<(NodeId, Lane), Arc<Inbound>>> {
        self.sessions.lock().expect("nothing panics while it holds this lock")
    }

    fn new_outbox(&self) -> Outbox {
        Outbox::new(QUEUE_MESSAGES_MAX, self.queue_bytes)
    }

    /// Queues a message on a link, past the filter.
    fn transmit(
        self: &Arc<Self>,
        link: &Arc<Link>,
        target: Option<NodeId>,
        id: u64,
        deadline: Duration,
        body: Body,
    ) -> Result<(), PeerError> {
        let verb = Verb::of(&body);
        let queued = move |body| {
            let message = Message { id, timeout_ms: 0, body: Some(body) };
            Queued::new(message, verb, target, Some(deadline))
        };
        if !self.filter.is_armed() {
            return link.push(queued(body));
        }
        let to = target.or_else(|| link.known().map(|(node, _)| node));
        let (peers, link) = (self.clone(), link.clone());
        self.send_filtered(verb, to, body, move |body| {
            // A filtered message is refused as late as the network would: the caller learns it through its call.
            if let (Err(error), Some(target)) = (link.push(queued(body)), target) {
                peers.pending.answer_wire(id, target, Via::Link(link.id), error);
            }
        });
        Ok(())
    }

    fn send_filtered(
        &self,
        verb: Verb,
        to: Option<NodeId>,
        body: Body,
        go: impl FnMut(Body) + Send + 'static,
    ) {
        let verdict = self.filter.decide(Side::Send, verb, self.identity.node, to);
        self.act(verdict, verb, body, go);
    }

    fn receive_filtered(
        &self,
        verb: Verb,
        from: NodeId,
        body: Body,
        go: impl FnMut(Body) + Send + 'static,
    ) {
        let verdict = self.filter.decide(Side::Receive, verb, from, Some(self.identity.node));
        self.act(verdict, verb, body, go);
    }

    /// Carries out what the filter decided.
    fn act(
        &self,
        verdict: Verdict,
        verb: Verb,
        body: Body,
        mut go: impl FnMut(Body) + Send + 'static,
    ) {
        match verdict {
            Verdict::Pass => go(body),
            Verdict::Act(Action::Drop) => self.drops.count(verb, DropReason::Filtered),
            Verdict::Act(Action::Duplicate) => {
                go(body.clone());
                go(body);
            }
            Verdict::Act(Action::Delay(delay)) => {
                if self.delayed.load(Ordering::Relaxed) >= DELAYED_MAX {
                    self.drops.count(verb, DropReason::Filtered);
                    return;
                }
                self.delayed.fetch_add(1, Ordering::Relaxed);
                let delayed = self.delayed.clone();
                self.tasks.spawn(async move {
                    tokio::time::sleep(delay).await;
                    delayed.fetch_sub(1, Ordering::Relaxed);
                    go(body);
                });
            }
        }
    }

    fn link_event(&self, peer: NodeId, what: &'static str) {
        self.probe.event(&Event::Link { peer, what });
    }

    fn session_refused(&self, hello: &Hello) {
        self.refusals_given.fetch_add(1, Ordering::Relaxed);
        if let Ok(bytes) = hello.node.as_ref().try_into() {
            self.link_event(NodeId(u128::from_be_bytes(bytes)), "refused");
        }
    }

    /// A peer has dialled. Its older session on that lane is dead, or it would not have dialled.
    fn session_open(
        self: &Arc<Self>,
        greeting: &Greeting,
        inbound: Arc<Inbound>,
    ) -> Result<(), Refusal> {
        let old = {
            let mut sessions = self.sessions();
            let key = (greeting.node, greeting.lane);
            if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(&key) {
                return Err(Refusal::TooMany);
            }
            sessions.insert(key, inbound)
        };
        if let Some(old) = old {
            old.close();
        }
        // What a node says of itself beats what others said of it in its former life. When a whole cluster has moved, this
        // is the only way for its nodes to find each other again: answers to gossip go where a node is registered.
        if let Some(addr) = greeting.address.filter(|a| self.address(greeting.node) != Some(*a)) {
            self.register_address(greeting.node, addr);
        }
        // It can reach us, so we can probably reach it; and if it has restarted, our links lead to its former life.
        for link in self.links_of(greeting.node) {
            match link.known() {
                Some((node, generation))
                    if node == greeting.node && generation < greeting.generation =>
                {
                    link.reset();
                }
                _ => link.nudge(),
            }
        }
        Ok(())
    }

    fn session_over(&self, inbound: &Arc<Inbound>) {
        inbound.close();
        let mut sessions = self.sessions();
        let key = (inbound.peer, inbound.lane);
        // A newer session may have taken its place.
        if sessions.get(&key).is_some_and(|current| Arc::ptr_eq(current, inbound)) {
            sessions.remove(&key);
        }
    }
}

impl Source for Peers {
    fn figures(&self) -> Figures {
        Figures {
            links: self.link_stats(),
            dropped: self.dropped(),
            sessions: u64::try_from(self.sessions().len()).unwrap_or(u64::MAX),
            refusals_given: self.refusals_given.load(Ordering::Relaxed),
            open_calls: u64::try_from(self.pending.open_calls()).unwrap_or(u64::MAX),
        }
    }
}

/// Expires calls. It sleeps until the earliest deadline, so an idle node is not woken.
async fn sweep(peers: Arc<Peers>) {
    loop {
        let now = peers.clock.now();
        match peers.pending.sweep(now) {
            None => peers.pending.sooner().await,
            Some(deadline) => {
                let wait = deadline.saturating_sub(now).max(SWEEP_GRANULE);
                tokio::select! {
                    biased;
                    // A shorter call was opened: look again at when to wake.
                    () = peers.pending.sooner() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
}
