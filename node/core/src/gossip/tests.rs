//! Properties of many machines on a bad network, and of one machine among liars. The single claims are golden scripts
//! (`testscripts/gossip`).

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// Machines on a bus that loses what `drop` says, with every peer held alive.
struct Cluster {
    machines: BTreeMap<NodeId, Gossip>,
    wire: VecDeque<(NodeId, NodeId, Message)>,
    /// A plain linear congruential generator: the machines' chance and the network's.
    random: u64,
    limits: Limits,
    largest: usize,
}

fn draw(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % below.max(1)
}

fn seed_address(node: u128) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], u16::try_from(node).unwrap()))
}

impl Cluster {
    fn new(size: u128, random: u64, limits: Limits) -> Cluster {
        let machines = BTreeMap::new();
        let mut cluster = Cluster { machines, wire: VecDeque::new(), random, limits, largest: 0 };
        for node in 1..=size {
            cluster.start(node, 1);
        }
        cluster
    }

    fn start(&mut self, node: u128, generation: u64) {
        let mut machine = Gossip::new("test", NodeId(node), Generation(generation), self.limits);
        let address = seed_address(node).to_string();
        machine.step(Event::SetLocal(StateKey::INTERNODE_ADDRESS, address));
        self.machines.insert(NodeId(node), machine);
    }

    fn set(&mut self, node: u128, key: u32, value: String) {
        if let Some(machine) = self.machines.get_mut(&NodeId(node)) {
            machine.step(Event::SetLocal(StateKey(key), value));
        }
    }

    /// Every machine has a round; messages are delivered in order, each lost with `loss` percent.
    fn round(&mut self, loss: usize) {
        let nodes: Vec<NodeId> = self.machines.keys().copied().collect();
        for node in nodes {
            let machine = self.machines.get_mut(&node).unwrap();
            let live: Vec<NodeId> =
                machine.endpoints().map(|(n, _)| n).filter(|n| *n != node).collect();
            let seeds: Vec<SocketAddr> =
                [1, 2].into_iter().filter(|s| NodeId(*s) != node).map(seed_address).collect();
            let random = &mut |below| draw(&mut self.random, below);
            let tick = Event::Tick { random, live: &live, unreachable: &[], seeds: &seeds };
            let effects = machine.step(tick);
            self.send(node, effects);
            while let Some((from, to, message)) = self.wire.pop_front() {
                if draw(&mut self.random, 100) < loss {
                    continue;
                }
                let Some(machine) = self.machines.get_mut(&to) else { continue };
                let effects = machine.step(Event::Received { from, message, wall_s: 1_000_000 });
                self.send(to, effects);
            }
        }
    }

    fn send(&mut self, from: NodeId, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Send { to, message } = effect {
                self.largest = self.largest.max(message.cost_bytes());
                let to = match to {
                    To::Node(node) => node,
                    To::Seed(address) => NodeId(u128::from(address.port())),
                };
                self.wire.push_back((from, to, message));
            }
        }
    }

    /// Each node's values as its owner has them, and as everyone else does.
    fn converged(&self) -> Result<(), String> {
        for (owner, machine) in &self.machines {
            let truth = machine.state(*owner).unwrap();
            for (witness, other) in &self.machines {
                let seen = other.state(*owner);
                let same = seen.is_some_and(|seen| {
                    seen.generation == truth.generation && seen.values == truth.values
                });
                if !same {
                    return Err(format!("{witness} has {seen:?} of {owner}, which is {truth:?}"));
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Set(u128, u32, String),
    Restart(u128),
    Rounds(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1u128..=6, 1u32..6, "[a-z]{0,30}").prop_map(|(n, k, v)| Happening::Set(n, k, v)),
        1 => (1u128..=6).prop_map(Happening::Restart),
        3 => (1u8..4).prop_map(Happening::Rounds),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn machines_converge_whatever_was_lost(
        random: u64,
        loss in 0usize..90,
        happenings in proptest::collection::vec(happening(), 0..40),
        message_bytes_max in prop_oneof![Just(150usize), Just(64 << 10)],
    ) {
        let limits = Limits { message_bytes_max, ..Limits::default() };
        let mut cluster = Cluster::new(6, random, limits);
        let mut generation = 1;
        for happening in happenings {
            match happening {
                Happening::Set(node, key, value) => cluster.set(node, key, value),
                Happening::Restart(node) => {
                    generation += 1;
                    cluster.start(node, generation);
                }
                Happening::Rounds(rounds) => (0..rounds).for_each(|_| cluster.round(loss)),
            }
        }
        // Then the network is good and nothing changes any more. A small message bound takes more rounds.
        let rounds = if message_bytes_max < 1000 { 300 } else { 30 };
        for _ in 0..rounds {
            cluster.round(0);
            if cluster.converged().is_ok() {
                break;
            }
        }
        prop_assert_eq!(cluster.converged(), Ok(()));
        // One value may exceed a message by itself; nothing else may.
        let bound = message_bytes_max.max(message::STATE_COST + message::VALUE_COST + 30);
        prop_assert!(cluster.largest <= bound, "{} bytes in a message", cluster.largest);
    }

    #[test]
    fn no_message_panics_and_every_bound_holds(
        messages in proptest::collection::vec((1u128..8, any_message()), 0..30)
    ) {
        let limits = Limits {
            message_bytes_max: 500,
            endpoints_max: 4,
            values_max: 3,
            value_bytes_max: 20,
        };
        let mut machine = Gossip::new("test", NodeId(1), Generation(5), limits);
        machine.step(Event::SetLocal(StateKey::STATUS, "NORMAL".to_owned()));
        let own = machine.state(NodeId(1)).cloned();
        for (from, message) in messages {
            let from = NodeId(from);
            for effect in machine.step(Event::Received { from, message, wall_s: 100 }) {
                if let Effect::Send { message, .. } = effect {
                    prop_assert!(message.cost_bytes() <= 500);
                }
            }
            prop_assert!(machine.endpoints().count() <= 4);
            for (_, state) in machine.endpoints() {
                prop_assert!(state.values.len() <= 3);
                prop_assert!(state.values.values().all(|v| v.value.len() <= 20));
            }
        }
        prop_assert_eq!(machine.state(NodeId(1)), own.as_ref(), "nobody else writes our state");
    }
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..10, any::<u64>(), Just(u64::MAX)]
}

fn any_digest() -> impl Strategy<Value = Digest> {
    (1u128..8, any_number(), any_number()).prop_map(|(node, generation, max_version)| Digest {
        node: NodeId(node),
        generation: Generation(generation),
        max_version,
    })
}

fn any_delta() -> impl Strategy<Value = StateDelta> {
    let value = (0u32..6, "[a-z]{0,25}", any_number())
        .prop_map(|(key, value, version)| (StateKey(key), Versioned { value, version }));
    let values = proptest::collection::vec(value, 0..6);
    (1u128..8, any_number(), any_number(), values).prop_map(
        |(node, generation, heartbeat, values)| StateDelta {
            node: NodeId(node),
            generation: Generation(generation),
            heartbeat_version: heartbeat,
            values,
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    let digests = || proptest::collection::vec(any_digest(), 0..20);
    let states = || proptest::collection::vec(any_delta(), 0..10);
    prop_oneof![
        ("test|other", digests())
            .prop_map(|(cluster_name, digests)| Message::Syn(Syn { cluster_name, digests })),
        (digests(), states()).prop_map(|(requests, states)| Message::Ack(Ack { requests, states })),
        states().prop_map(|states| Message::Ack2(Ack2 { states })),
    ]
}

#[test]
fn a_dead_nodes_state_outlives_it_among_the_living() {
    let mut cluster = Cluster::new(5, 42, Limits::default());
    cluster.set(5, StateKey::TOKENS.0, "1,2,3".to_owned());
    (0..20).for_each(|_| cluster.round(0));
    cluster.machines.remove(&NodeId(5));
    // A newcomer never met it, and learns of it all the same.
    cluster.start(6, 1);
    (0..20).for_each(|_| cluster.round(0));
    assert_eq!(cluster.machines[&NodeId(6)].value(NodeId(5), StateKey::TOKENS), Some("1,2,3"));
}

#[test]
fn a_round_talks_to_few_whatever_the_size() {
    let mut machine = Gossip::new("test", NodeId(1), Generation(1), Limits::default());
    let live: Vec<NodeId> = (2..102).map(NodeId).collect();
    let unreachable: Vec<NodeId> = (102..202).map(NodeId).collect();
    let seeds: Vec<SocketAddr> = (2..5).map(seed_address).collect();
    let mut random = 7;
    let (mut to_live, mut to_unreachable, mut to_seed) = (0, 0, 0);
    for _ in 0..2000 {
        let random = &mut |below| draw(&mut random, below);
        let tick = Event::Tick { random, live: &live, unreachable: &unreachable, seeds: &seeds };
        for effect in machine.step(tick) {
            match effect {
                Effect::Send { to: To::Node(node), .. } if live.contains(&node) => to_live += 1,
                Effect::Send { to: To::Node(_), .. } => to_unreachable += 1,
                Effect::Send { to: To::Seed(_), .. } => to_seed += 1,
                other => panic!("a tick only sends, not {other:?}"),
            }
        }
    }
    assert_eq!(to_live, 2000, "one live peer each round");
    // 100 of 101 rounds, and 3 of 200.
    assert!((1950..2000).contains(&to_unreachable), "{to_unreachable}");
    assert!((15..60).contains(&to_seed), "{to_seed}");
}

#[test]
fn a_node_alone_asks_its_seeds_every_round() {
    let mut machine = Gossip::new("test", NodeId(1), Generation(1), Limits::default());
    let seeds = [seed_address(2)];
    let random = &mut |_| 0;
    let effects = machine.step(Event::Tick { random, live: &[], unreachable: &[], seeds: &seeds });
    assert!(
        matches!(effects.as_slice(), [Effect::Send { to: To::Seed(a), .. }] if *a == seeds[0]),
        "{effects:?}"
    );
    // And with nobody to ask, none.
    let random = &mut |_| 0;
    let effects = machine.step(Event::Tick { random, live: &[], unreachable: &[], seeds: &[] });
    assert_eq!(effects, []);
}

/// What a node that has left says: two values, of which the second is until when it is to be remembered.
fn left(node: u128, until: u64) -> StateDelta {
    let value = |key, value: String, version| (key, Versioned { value, version });
    StateDelta {
        node: NodeId(node),
        generation: Generation(1),
        heartbeat_version: 4,
        values: vec![
            value(StateKey::STATUS, "LEFT".to_owned(), 2),
            value(StateKey::LEFT_UNTIL, until.to_string(), 3),
        ],
    }
}

#[test]
fn one_that_has_left_is_remembered_for_its_time_and_nobody_reminds_of_it_afterwards() {
    let mut machine = Gossip::new("test", NodeId(1), Generation(1), Limits::default());
    let tell = |machine: &mut Gossip, wall_s| {
        let message = Message::Ack2(Ack2 { states: vec![left(3, 100)] });
        machine.step(Event::Received { from: NodeId(2), message, wall_s });
    };
    tell(&mut machine, 99);
    assert_eq!(machine.value(NodeId(3), StateKey::STATUS), Some("LEFT"));
    let is_over = |machine: &Gossip, wall_s| machine.state(NodeId(3)).unwrap().is_over(wall_s);
    assert!(!is_over(&machine, 99) && is_over(&machine, 100));
    machine.forget(NodeId(3));
    machine.forget(NodeId(1));
    assert_eq!(machine.endpoints().count(), 1, "a node never forgets itself");
    tell(&mut machine, 100);
    assert_eq!(machine.state(NodeId(3)), None);
    tell(&mut machine, 99);
    assert!(machine.state(NodeId(3)).is_some(), "a clock that is behind remembers it for longer");
}
