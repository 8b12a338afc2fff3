//! Several memberships on a bus in memory, under tokio's standing clock; and once over real links.

use super::*;
use crate::peers::{Handler, PeersConfig, PeersParts, ReplyTo};
use crate::seams::background::SimBackground;
use crate::seams::clock::SystemClock;
use crate::seams::disk::{Faults, SimDisk};
use crate::seams::net::{Net, TcpNet};
use crate::seams::probe::Silent;
use helenus_core::gossip::{Ack2, StateDelta, Versioned};
use helenus_core::{Dc, Generation, Rack};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{OnceLock, Weak};

/// tokio's clock, which stands still in these tests, and a wall that follows it.
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall_micros(&self) -> i64 {
        1_763_726_400_000_000 + i64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// Carries gossip in a millisecond, between nodes that are up and not cut from each other.
#[derive(Default)]
struct Bus {
    up: Mutex<BTreeMap<SocketAddr, (NodeId, Weak<Membership>)>>,
    cut: Mutex<BTreeSet<NodeId>>,
    tasks: Tasks,
}

/// A node's end of the bus. Like the links, it only finds nodes whose address it was told.
struct BusOutlet {
    bus: Arc<Bus>,
    from: OnceLock<NodeId>,
    addresses: Mutex<BTreeMap<NodeId, SocketAddr>>,
}

impl Outlet for BusOutlet {
    fn send(&self, to: To, message: Message) {
        let address = match to {
            To::Node(node) => self.addresses.lock().unwrap().get(&node).copied(),
            To::Seed(address) => Some(address),
        };
        let Some(address) = address else { return };
        let (bus, from) = (self.bus.clone(), *self.from.get().unwrap());
        self.bus.tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let target = bus.up.lock().unwrap().get(&address).cloned();
            let Some((to, membership)) = target else { return };
            let Some(membership) = membership.upgrade() else { return };
            // As over links: whoever was dialled knows where the dialler listens.
            let back = bus.address_of(from);
            let cut = [from, to].map(|node| bus.cut.lock().unwrap().contains(&node));
            if let Some(back) = back.filter(|_| cut[0] == cut[1]) {
                membership.outlet.register(from, back);
                membership.on_gossip(from, helenus_proto::gossip::to_wire(message));
            }
        });
    }

    fn register(&self, node: NodeId, address: SocketAddr) {
        self.addresses.lock().unwrap().insert(node, address);
    }

    fn reset(&self, _: NodeId) {}

    fn forget(&self, node: NodeId) {
        self.addresses.lock().unwrap().remove(&node);
    }
}

impl Bus {
    fn address_of(&self, node: NodeId) -> Option<SocketAddr> {
        self.up.lock().unwrap().iter().find(|(_, (n, _))| *n == node).map(|(address, _)| *address)
    }
}

struct Node {
    id: NodeId,
    membership: Arc<Membership>,
    disk: SimDisk,
    tasks: Tasks,
    number: u8,
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 7000))
}

/// Starts node `number`, with nodes 1 and 2 as seeds, on what its disk holds.
fn start(bus: &Arc<Bus>, number: u8, disk: SimDisk) -> Node {
    let config = Config {
        cluster_name: "test".to_owned(),
        seeds: vec![address(1), address(2)],
        rack: format!("rack{number}"),
        num_tokens: 4,
        ..Config::default()
    };
    let clock = Arc::new(TokioClock(started()));
    let rng = Rng::from_seed(u64::from(number));
    let identity = Identity::open(&disk, &config, &rng, clock.wall_micros()).unwrap();
    let id = identity.node;
    let outlet =
        BusOutlet { bus: bus.clone(), from: OnceLock::from(id), addresses: Mutex::default() };
    let membership = Membership::new(MembershipParts {
        config,
        identity,
        internode: address(number),
        rpc: SocketAddr::from(([10, 0, 0, number], 9160)),
        clock,
        rng,
        disk: Arc::new(disk.clone()),
        background: Arc::new(SimBackground::new(disk.clone())),
        probe: Arc::new(Silent),
        outlet: Arc::new(outlet),
    });
    bus.up.lock().unwrap().insert(address(number), (id, Arc::downgrade(&membership)));
    let tasks = Tasks::new();
    membership.start(&tasks);
    Node { id, membership, disk, tasks, number }
}

/// One origin for all clocks of a test, so that a node that starts again starts later.
fn started() -> tokio::time::Instant {
    thread_local!(static ORIGIN: tokio::time::Instant = tokio::time::Instant::now());
    ORIGIN.with(|origin| *origin)
}

impl Node {
    /// The power goes. What its disk holds is given back.
    fn crash(self, bus: &Bus) -> (u8, SimDisk) {
        self.tasks.abort_all();
        bus.up.lock().unwrap().remove(&address(self.number));
        self.disk.crash();
        (self.number, self.disk.reopen())
    }

    fn sees_alive(&self, other: &Node) -> bool {
        self.membership.is_alive(other.id)
    }
}

async fn seconds(s: f64) {
    tokio::time::sleep(Duration::from_secs_f64(s)).await;
}

fn three(bus: &Arc<Bus>) -> [Node; 3] {
    [1, 2, 3].map(|n| start(bus, n, SimDisk::new(u64::from(n), Faults::default())))
}

#[tokio::test(start_paused = true)]
async fn three_nodes_know_each_other_within_a_blink() {
    let bus = Arc::new(Bus::default());
    let nodes = three(&bus);
    seconds(0.05).await;
    for node in &nodes {
        assert!(nodes.iter().all(|other| node.sees_alive(other)), "node {}", node.number);
        assert_eq!(node.membership.ring(), nodes[0].membership.ring());
        assert!(node.membership.settle(Duration::ZERO).await);
    }
    let ring = nodes[0].membership.ring();
    assert_eq!(ring.members().len(), 3);
    assert_eq!(ring.tokens().len(), 12);
    let endpoint = ring.endpoint(nodes[2].id).unwrap();
    assert_eq!(endpoint.internode, address(3));
    assert_eq!((&endpoint.dc, &endpoint.rack), (&Dc::from("datacenter1"), &Rack::from("rack3")));
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_noticed_after_about_twenty_seconds_and_moves_no_data() {
    let bus = Arc::new(Bus::default());
    let [one, two, three] = three(&bus);
    // The two seconds that each window starts with have little weight by then.
    seconds(600.0).await;
    let ring = one.membership.ring();
    let mut epochs = one.membership.subscribe();
    epochs.mark_unchanged();
    bus.cut.lock().unwrap().insert(three.id);
    let cut = tokio::time::Instant::now();
    while one.sees_alive(&three) {
        epochs.changed().await.unwrap();
    }
    let noticed = cut.elapsed().as_secs_f64();
    // 8 ln 10 = 18.4 mean intervals, and a round at either end.
    assert!((15.0..25.0).contains(&noticed), "after {noticed} s");
    seconds(30.0).await;
    assert!(!two.sees_alive(&three) && !three.sees_alive(&one) && !three.sees_alive(&two));
    assert!(one.sees_alive(&two) && two.sees_alive(&one));
    assert!(Arc::ptr_eq(&ring, &one.membership.ring()), "being dead is no change of place");
    assert_eq!(one.membership.live_peers(), [two.id]);
    let down_for = one.membership.down_for(three.id).as_secs_f64();
    assert!((29.9..30.1).contains(&down_for), "{down_for} s");
    assert_eq!(one.membership.down_for(two.id), Duration::ZERO);

    bus.cut.lock().unwrap().clear();
    let healed = tokio::time::Instant::now();
    while !(one.sees_alive(&three) && three.sees_alive(&one)) {
        assert!(healed.elapsed() < Duration::from_secs(10), "never healed");
        seconds(0.1).await;
    }
    assert_eq!(one.membership.down_for(three.id), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nine_nodes_suspect_nobody_in_quiet_times_and_a_rack_when_it_is_cut() {
    let bus = Arc::new(Bus::default());
    let nodes: Vec<Node> =
        (1..=9).map(|n| start(&bus, n, SimDisk::new(u64::from(n), Faults::default()))).collect();
    seconds(10.0).await;
    assert!(nodes.iter().all(|node| node.membership.live_peers().len() == 8));
    let liveness = |node: &Node| node.membership.subscribe().borrow().liveness;
    let risen: Vec<u64> = nodes.iter().map(liveness).collect();
    seconds(1200.0).await;
    let now: Vec<u64> = nodes.iter().map(liveness).collect();
    assert_eq!(now, risen, "somebody was held dead without a reason");

    let (rack, rest) = nodes.split_at(3);
    bus.cut.lock().unwrap().extend(rack.iter().map(|node| node.id));
    seconds(60.0).await;
    for node in rack {
        assert_eq!(node.membership.live_peers().len(), 2);
    }
    for node in rest {
        assert_eq!(node.membership.live_peers().len(), 5);
    }
    bus.cut.lock().unwrap().clear();
    seconds(15.0).await;
    for node in &nodes {
        assert_eq!(node.membership.live_peers().len(), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_goodbye_is_dead_at_once_and_alive_again_when_it_returns() {
    let bus = Arc::new(Bus::default());
    let [one, two, three] = three(&bus);
    seconds(5.0).await;
    let ring = one.membership.ring();
    three.membership.announce_shutdown();
    seconds(0.01).await;
    assert!(!one.sees_alive(&three) && !two.sees_alive(&three));
    // Its old state goes round, and must not bring it back.
    seconds(10.0).await;
    assert!(!one.sees_alive(&three) && !two.sees_alive(&three));
    let info =
        |node: &Node| one.membership.members().into_iter().find(|m| m.node == node.id).unwrap();
    assert_eq!(info(&three).status, status::SHUTDOWN);

    let before = info(&three).generation;
    let (number, disk) = three.crash(&bus);
    let three = start(&bus, number, disk);
    seconds(0.05).await;
    assert!(one.sees_alive(&three) && two.sees_alive(&three) && three.sees_alive(&one));
    assert_eq!(info(&three).status, status::NORMAL);
    assert!(info(&three).generation > before);
    assert!(Arc::ptr_eq(&ring, &one.membership.ring()), "its place is what it was");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_restarts_alone_does_not_think_that_it_owns_the_ring() {
    let bus = Arc::new(Bus::default());
    let [one, two, three] = three(&bus);
    seconds(5.0).await;
    let ring = one.membership.ring();
    let ids = [two.id, three.id];
    for node in [two, three] {
        node.crash(&bus);
    }
    let (number, disk) = one.crash(&bus);
    seconds(60.0).await;
    let one = start(&bus, number, disk);
    assert_eq!(one.membership.ring(), ring);
    assert!(!one.membership.settle(Duration::from_secs(1)).await, "nobody answers");
    assert!(ids.iter().all(|id| !one.membership.is_alive(*id)));
    let down_for = ids.map(|id| one.membership.down_for(id));
    assert!(down_for.iter().all(|d| *d >= Duration::from_secs(1)), "{down_for:?}");
    let other = one.membership.members().into_iter().find(|m| m.node == ids[0]).unwrap();
    assert_eq!((other.up, other.generation, other.rack.as_str()), (false, 0, "rack2"));
    assert_eq!(one.membership.describe(ids[0]), "10.0.0.2:7000 (rack rack2)");
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_differs_is_seen() {
    let bus = Arc::new(Bus::default());
    let [one, two, three] = three(&bus);
    let epochs = one.membership.subscribe();
    for node in [&one, &two, &three] {
        node.membership.set_schema_version("v1");
    }
    seconds(5.0).await;
    assert_eq!(one.membership.peers_with_other_schema("v1"), []);
    let before = epochs.borrow().schema;
    two.membership.set_schema_version("v2");
    seconds(5.0).await;
    assert_eq!(one.membership.peers_with_other_schema("v1"), [two.id]);
    assert_eq!(one.membership.schema_version_of(two.id).as_deref(), Some("v2"));
    assert_eq!(epochs.borrow().schema, before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_half_heard_after_its_restart_keeps_its_place() {
    let bus = Arc::new(Bus::default());
    let [one, two, _three] = three(&bus);
    seconds(5.0).await;
    let ring = one.membership.ring();
    // A newer generation of which only the address and the status have come.
    let value = |key, value: &str, version| (key, Versioned { value: value.to_owned(), version });
    let state = StateDelta {
        node: two.id,
        generation: Generation(1_763_726_500),
        heartbeat_version: 0,
        values: vec![
            value(StateKey::INTERNODE_ADDRESS, "10.0.0.2:7000", 2),
            value(StateKey::STATUS, status::NORMAL, 3),
        ],
    };
    one.membership.receive(two.id, Message::Ack2(Ack2 { states: vec![state] }));
    assert!(Arc::ptr_eq(&ring, &one.membership.ring()));
    // One that has left for good gives its place up.
    let state = StateDelta {
        node: two.id,
        generation: Generation(1_763_726_501),
        heartbeat_version: 0,
        values: vec![value(StateKey::STATUS, status::LEFT, 2)],
    };
    one.membership.receive(two.id, Message::Ack2(Ack2 { states: vec![state] }));
    assert_eq!(one.membership.ring().endpoint(two.id), None);
    assert!(!one.sees_alive(&two));
}

#[tokio::test(start_paused = true)]
async fn gossip_that_makes_no_sense_changes_nothing() {
    let bus = Arc::new(Bus::default());
    let [one, two, _three] = three(&bus);
    seconds(1.0).await;
    let (members, ring) = (one.membership.members(), one.membership.ring());
    one.membership.on_gossip(two.id, v1::Gossip { step: None });
    let digest = v1::GossipDigest { node: vec![1, 2].into(), generation: 1, max_version: 1 };
    let syn = v1::GossipSyn { cluster_name: "test".to_owned(), digests: vec![digest] };
    let step = Some(v1::gossip::Step::Syn(syn));
    one.membership.on_gossip(two.id, v1::Gossip { step });
    assert_eq!(one.membership.members(), members);
    assert!(Arc::ptr_eq(&ring, &one.membership.ring()));
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_see_equal_things() {
    async fn life() -> Vec<MemberInfo> {
        let bus = Arc::new(Bus::default());
        let nodes = three(&bus);
        let now = started().elapsed();
        seconds(100.0).await;
        let mut members = nodes[0].membership.members();
        for member in &mut members {
            // The two lives begin at different times of this test's clock.
            member.generation -= now.as_secs();
        }
        members
    }
    assert_eq!(life().await, life().await);
}

/// Hands gossip to the membership, as the node does.
struct GossipDesk(Arc<Membership>);

impl Handler for GossipDesk {
    fn handle(&self, from: NodeId, message: Body, _: ReplyTo) {
        if let Body::Gossip(gossip) = message {
            self.0.on_gossip(from, gossip);
        }
    }
}

struct RealNode {
    membership: Arc<Membership>,
    _tasks: Arc<Tasks>,
}

async fn start_real(number: u64, seeds: Vec<SocketAddr>) -> (RealNode, SocketAddr) {
    let config = Config { seeds, num_tokens: 4, ..Config::default() };
    let disk = SimDisk::new(number, Faults::default());
    let rng = Rng::from_seed(number);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let identity = Identity::open(&disk, &config, &rng, clock.wall_micros()).unwrap();
    let net: Arc<dyn Net> = Arc::new(TcpNet);
    let listener = net.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let internode = listener.local_addr().unwrap();
    let tasks = Arc::new(Tasks::new());
    let peers = Peers::new(
        PeersConfig::new(&config, identity.node, identity.generation, internode),
        PeersParts {
            clock: clock.clone(),
            net,
            rng: rng.clone(),
            probe: Arc::new(Silent),
            tasks: tasks.clone(),
        },
    );
    let membership = Membership::new(MembershipParts {
        config,
        identity,
        internode,
        rpc: internode,
        clock,
        rng,
        disk: Arc::new(disk.clone()),
        background: Arc::new(SimBackground::new(disk)),
        probe: Arc::new(Silent),
        outlet: Arc::new(LinkOutlet(peers.clone())),
    });
    peers.serve(listener, Arc::new(GossipDesk(membership.clone())));
    membership.start(&tasks);
    (RealNode { membership, _tasks: tasks }, internode)
}

#[tokio::test]
async fn three_nodes_find_each_other_over_real_links() {
    let (one, seed) = start_real(1, vec![]).await;
    let (two, _) = start_real(2, vec![seed]).await;
    let (three, _) = start_real(3, vec![seed]).await;
    for node in [&one, &two, &three] {
        let mut epochs = node.membership.subscribe();
        let all_alive = async {
            while node.membership.live_peers().len() < 2 {
                epochs.changed().await.unwrap();
            }
        };
        // Generous: what is tested is that it happens.
        tokio::time::timeout(Duration::from_secs(30), all_alive).await.unwrap();
        assert_eq!(node.membership.ring().members().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_keeps_its_place_until_it_has_left_and_is_forgotten_in_the_end() {
    let bus = Arc::new(Bus::default());
    let [one, two, three] = three(&bus);
    seconds(5.0).await;
    let ring = one.membership.ring();
    three.membership.announce(status::LEAVING);
    seconds(0.1).await;
    for node in [&one, &two, &three] {
        let leaving = node.membership.ring();
        assert_eq!((leaving.leaving(), leaving.members().len()), (&[three.id][..], 3));
        assert!(leaving.tokens().eq(ring.tokens()), "nothing has moved yet");
        assert!(node.sees_alive(&three));
    }
    // It thought better of it.
    three.membership.announce(status::NORMAL);
    seconds(0.1).await;
    assert_eq!(*one.membership.ring(), *ring);

    let remembered_s = 600;
    let now_s = u64::try_from(one.membership.clock.wall_micros() / 1_000_000).unwrap();
    three.membership.announce(status::LEAVING);
    three.membership.announce_left(now_s + remembered_s);
    seconds(0.1).await;
    let settled = |node: &Node| {
        let (membership, gone) = (&node.membership, three.id);
        assert_eq!(membership.ring().endpoint(gone), None);
        assert!(membership.has_left(gone) && !membership.is_alive(gone));
        assert_eq!(membership.members().len(), 2);
        assert_eq!(membership.down_for(gone), Duration::ZERO, "nobody waits for it");
    };
    settled(&one);
    settled(&two);
    assert_eq!(one.membership.known().len(), 3, "gossip tells those who have not heard");
    three.membership.fall_silent();
    let (gone, _) = (three.id, three.crash(&bus));

    // One that was away hears of it; it starts with what it knew.
    let (number, disk) = two.crash(&bus);
    let two = start(&bus, number, disk);
    assert!(two.membership.has_left(gone), "its file says so");
    seconds(5.0).await;
    assert_eq!(two.membership.ring().members().len(), 2);
    assert!(two.membership.settle(Duration::ZERO).await, "it waits for nobody who has left");

    seconds(700.0).await;
    for node in [&one, &two] {
        assert_eq!(node.membership.known().len(), 2, "gossip has forgotten it");
        assert!(node.membership.has_left(gone), "and the node has not");
        assert!(node.membership.live_peers().len() == 1);
    }
}
