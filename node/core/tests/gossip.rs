//! Runs the golden scripts of gossip (`testscripts/gossip`): a few nodes, a network that delivers when it is told to.

mod common;

use common::Outcome;
use helenus_core::gossip::{
    Ack2, Digest, Effect, Event, Gossip, Limits, Message, StateDelta, StateKey, Syn, To, Versioned,
};
use helenus_core::{Generation, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

/// Nodes are numbers, values are named by `StateKey`'s names or by numbers. The wall clock is the command's, 1000 at
/// the start.
#[derive(goldenscript::Command)]
enum Command {
    /// Starts a node.
    Start {
        node: u128,
        #[arg(key)]
        generation: u64,
        #[arg(key)]
        cluster: Option<String>,
        #[arg(key)]
        endpoints_max: Option<usize>,
        #[arg(key)]
        message_bytes_max: Option<usize>,
        #[arg(key)]
        values_max: Option<usize>,
    },
    /// Sets values of a node: set 1 STATUS=NORMAL
    Set { node: u128, values: Vec<(String, String)> },
    /// A round of a node, in which it happens to choose this peer.
    Round { node: u128, with: u128 },
    /// A round of a node that knows nobody but a seed.
    Seed { node: u128, with: u128 },
    /// Sets the wall clock of all.
    Clock(u64),
    /// Delivers what is on its way, and the answers, and theirs.
    Deliver,
    /// Loses what is on its way.
    Lose,
    /// A forged digest in a Syn.
    ForgeSyn {
        from: u128,
        to: u128,
        #[arg(key)]
        node: u128,
        #[arg(key)]
        generation: u64,
        #[arg(key)]
        version: u64,
    },
    /// A forged state in an Ack2.
    ForgeState {
        from: u128,
        to: u128,
        #[arg(key)]
        node: u128,
        #[arg(key)]
        generation: u64,
        #[arg(key)]
        heartbeat: u64,
        #[arg(key, optional)]
        status: String,
        #[arg(key, optional)]
        version: u64,
    },
    /// A node tells its peer about itself without being asked.
    Announce { node: u128, to: u128 },
    /// What a node knows.
    Show(u128),
    /// What a node refused.
    Counters(u128),
}

struct Runner {
    nodes: BTreeMap<NodeId, Gossip>,
    wire: VecDeque<(NodeId, NodeId, Message)>,
    wall_s: u64,
}

impl Runner {
    fn node(&mut self, node: u128) -> Result<&mut Gossip, String> {
        self.nodes.get_mut(&NodeId(node)).ok_or_else(|| format!("node {node} was not started"))
    }

    /// Steps a node, puts its messages on the wire and says what else it wants done.
    fn step(&mut self, node: u128, event: Event<'_>) -> Outcome<String> {
        let effects = self.node(node)?.step(event);
        let mut said = String::new();
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    let to = match to {
                        To::Node(to) => to,
                        To::Seed(address) => NodeId(u128::from(address.port())),
                    };
                    writeln!(said, "{node} -> {}: {}", to.0, show(&message))?;
                    self.wire.push_back((NodeId(node), to, message));
                }
                Effect::NewNode { node: who } => writeln!(said, "{node} meets {}", who.0)?,
                Effect::Restarted { node: who, generation } => {
                    writeln!(said, "{node} sees {} restarted as {}", who.0, generation.0)?;
                }
                Effect::Changed { node: who, key, value } => {
                    writeln!(said, "{node} learns {} {key}={value}", who.0)?;
                }
                Effect::Heard { node: who } => writeln!(said, "{node} heard {}", who.0)?,
                Effect::RefusedCluster { from, theirs } => {
                    writeln!(said, "{node} refuses {} of cluster {theirs}", from.0)?;
                }
                Effect::Impostor { from, generation } => {
                    writeln!(
                        said,
                        "{node} hears of another self, {}, from {}",
                        generation.0, from.0
                    )?;
                }
            }
        }
        Ok(said)
    }

    fn start(&mut self, command: &Command) -> String {
        let Command::Start {
            node,
            generation,
            cluster,
            endpoints_max,
            message_bytes_max,
            values_max,
        } = command
        else {
            panic!("only called to start");
        };
        let default = Limits::default();
        let limits = Limits {
            endpoints_max: endpoints_max.unwrap_or(default.endpoints_max),
            message_bytes_max: message_bytes_max.unwrap_or(default.message_bytes_max),
            values_max: values_max.unwrap_or(default.values_max),
            ..default
        };
        let cluster = cluster.clone().unwrap_or("helenus".to_owned());
        let node = NodeId(*node);
        self.nodes.insert(node, Gossip::new(cluster, node, Generation(*generation), limits));
        String::new()
    }

    fn receive(&mut self, from: u128, to: u128, message: Message) -> Outcome<String> {
        let wall_s = self.wall_s;
        self.step(to, Event::Received { from: NodeId(from), message, wall_s })
    }
}

fn show(message: &Message) -> String {
    let digest = |d: &Digest| format!("{}@{}:{}", d.node.0, d.generation.0, d.max_version);
    let state = |s: &StateDelta| {
        let values = s.values.iter().map(|(k, v)| format!("{k}={}:{}", v.value, v.version));
        let mut parts: Vec<String> = values.collect();
        if s.heartbeat_version > 0 {
            parts.push(format!("heartbeat:{}", s.heartbeat_version));
        }
        format!("{}@{} {{{}}}", s.node.0, s.generation.0, parts.join(" "))
    };
    let digests = |ds: &[Digest]| ds.iter().map(digest).collect::<Vec<_>>().join(" ");
    let states = |ss: &[StateDelta]| ss.iter().map(state).collect::<Vec<_>>().join(" ");
    match message {
        Message::Syn(syn) => format!("Syn {}", digests(&syn.digests)),
        Message::Ack(a) => {
            format!("Ack send [{}], here [{}]", digests(&a.requests), states(&a.states))
        }
        Message::Ack2(ack2) => format!("Ack2 here [{}]", states(&ack2.states)),
    }
}

fn key(name: &str) -> Outcome<StateKey> {
    match StateKey::NAMED.iter().find(|key| key.name() == Some(name)) {
        Some(key) => Ok(*key),
        None => Ok(StateKey(name.parse()?)),
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Outcome<String> {
        match command {
            Command::Start { .. } => Ok(self.start(command)),
            Command::Set { node, values } => {
                let mut said = String::new();
                for (name, value) in values {
                    said += &self.step(*node, Event::SetLocal(key(name)?, value.clone()))?;
                }
                Ok(said)
            }
            Command::Round { node, with } => {
                let (random, live) = (&mut |_: usize| 0, [NodeId(*with)]);
                let event = Event::Tick { random, live: &live, unreachable: &[], seeds: &[] };
                self.step(*node, event)
            }
            Command::Seed { node, with } => {
                let seeds = [format!("127.0.0.1:{with}").parse()?];
                let random = &mut |_: usize| 0;
                let event = Event::Tick { random, live: &[], unreachable: &[], seeds: &seeds };
                self.step(*node, event)
            }
            Command::Clock(wall_s) => {
                self.wall_s = *wall_s;
                Ok(String::new())
            }
            Command::Deliver => {
                let mut said = String::new();
                while let Some((from, to, message)) = self.wire.pop_front() {
                    said += &self.receive(from.0, to.0, message)?;
                }
                Ok(said)
            }
            Command::Lose => Ok(format!("lost {}", std::mem::take(&mut self.wire).len())),
            Command::ForgeSyn { from, to, node, generation, version } => {
                let digest = Digest {
                    node: NodeId(*node),
                    generation: Generation(*generation),
                    max_version: *version,
                };
                let cluster_name = "helenus".to_owned();
                self.receive(*from, *to, Message::Syn(Syn { cluster_name, digests: vec![digest] }))
            }
            Command::ForgeState { from, to, node, generation, heartbeat, status, version } => {
                let value = Versioned { value: status.clone(), version: *version };
                let values =
                    if status.is_empty() { vec![] } else { vec![(StateKey::STATUS, value)] };
                let state = StateDelta {
                    node: NodeId(*node),
                    generation: Generation(*generation),
                    heartbeat_version: *heartbeat,
                    values,
                };
                self.receive(*from, *to, Message::Ack2(Ack2 { states: vec![state] }))
            }
            Command::Announce { node, to } => self.step(*node, Event::Announce(&[NodeId(*to)])),
            Command::Show(node) => {
                let mut said = String::new();
                for (who, state) in self.node(*node)?.endpoints() {
                    write!(said, "{}@{} heartbeat:{}", who.0, state.generation.0, state.heartbeat)?;
                    for (key, value) in &state.values {
                        write!(said, " {key}={}:{}", value.value, value.version)?;
                    }
                    said.push('\n');
                }
                Ok(said)
            }
            Command::Counters(node) => Ok(format!("{:?}", self.node(*node)?.counters())),
        }
    }
}

#[test]
fn gossip_scripts_hold() {
    common::scripts_hold("gossip", || Runner {
        nodes: BTreeMap::new(),
        wire: VecDeque::new(),
        wall_s: 1000,
    });
}
