//! What a scenario says: a clock, a cluster, actors, timed events, and what is expected of the figures.
//!
//! A scenario is a TOML file that becomes one [`Scenario`], checked to the last name before anything runs: unknown
//! keys, figures, units, racks and verbs are errors with their line, their column and the nearest known word. There is
//! no scripting, so that a reader sees everything that will happen in the order in which it does.
//!
//! **Scale.** A run copies every byte through a simulated network, so it stands for a larger one. `scale` divides rates
//! and byte bounds: one simulated order stands for `scale` real ones. `value_scale` divides sizes: of values, and once
//! more of bounds and throttles. What fills in 72 seconds at full size still fills in 72 seconds, because the bound
//! and the flow shrink alike. Both are printed with every run.

pub mod figure;
mod library;
mod problem;
mod read;
mod section;
pub mod units;

pub use figure::{Comparison, Figure, FigureRef, Kind, Op, Operand, Unit};
pub use library::{Embedded, LIBRARY};
pub use problem::{Problem, Problems};
pub use units::{Rate, TimeOfDay};

use helenus_core::Level;
use helenus_node::config::Overflow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The figures that only a node's own tables can tell.
const TABLE_FIGURES: [&str; 2] = ["storage.pending_compactions", "storage.read_amplification"];

/// One experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name on the command line.
    pub id: String,
    /// What it shows, in one line.
    pub title: String,
    /// Where the story comes from.
    pub source: String,
    /// Where all chance comes from, unless the command line says otherwise.
    pub seed: u64,
    /// Divides rates and byte bounds.
    pub scale: u64,
    /// Divides sizes of values, and byte bounds once more.
    pub value_scale: u64,
    /// When it begins on the wall.
    pub start: TimeOfDay,
    /// When it ends.
    pub end: TimeOfDay,
    /// The simulator's step: messages are delivered at its multiples.
    pub tick: Duration,
    /// How long a message is on its way, at least and at most.
    pub latency: (Duration, Duration),
    /// The store.
    pub cluster: Cluster,
    /// Who uses it, by name.
    pub actors: BTreeMap<String, Actor>,
    /// What happens, in order of time.
    pub events: Vec<Event>,
    /// What is expected.
    pub expectations: Vec<Expectation>,
    /// Figures over time, beside what the source says of them.
    pub series: Vec<Series>,
    /// The same story with something changed: every variant that it knows.
    pub variants: Vec<Variant>,
    /// Those that are applied here, in order.
    pub chosen: Vec<Variant>,
}

/// A named change of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name on the command line.
    pub id: String,
    /// What is different, in one line.
    pub title: String,
    /// The expectations that then do not hold: these, and no other.
    pub breaks: Vec<String>,
}

/// The store as the scenario sets it up.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Data centre -> rack -> nodes in it.
    pub dcs: BTreeMap<String, BTreeMap<String, u64>>,
    /// Keyspaces by name.
    pub keyspaces: BTreeMap<String, Keyspace>,
    /// Virtual nodes a node; spread evenly, so that a rack's nodes own equal shares.
    pub num_tokens: u64,
    /// Hinted handoff.
    pub hints: Hints,
    /// Memtables of this size are flushed (unscaled).
    pub memtable: u64,
    /// Blocks that a node keeps in memory (unscaled); `None`: the store's own default, at full size.
    pub block_cache: Option<u64>,
    /// What a node's compaction may write a second (unscaled); `None`: the store's own default, at full size.
    pub compaction_throughput: Option<u64>,
    /// The nodes' disks.
    pub disk: DiskSpeed,
    /// How long a coordinator waits for replicas to acknowledge a write.
    pub write_timeout: Duration,
    /// How long it waits for them to answer a read.
    pub read_timeout: Duration,
}

/// How fast a disk is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskSpeed {
    /// What a read takes before its bytes move. `None`: reads take no time.
    pub read_latency: Option<Duration>,
    /// Bytes a second (unscaled). `None`: more than a scaled-down cluster can ask for.
    pub bandwidth: Option<u64>,
}

/// One keyspace and its one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyspace {
    /// Copies per data centre.
    pub rf: BTreeMap<String, u64>,
    /// The table's name.
    pub table: String,
    /// The table's options, by Cassandra's names.
    pub options: BTreeMap<String, String>,
    /// Leveled compaction's SSTables (unscaled); `None`: the store's own default, at full size.
    pub sstable_size: Option<u64>,
    /// What gives way when there is no room for a hint of its writes; `None`: what `[cluster.hints]` says.
    pub hint_overflow: Option<Overflow>,
}

/// Hinted handoff, unscaled.
#[derive(Debug, Clone, PartialEq)]
pub struct Hints {
    /// Bytes that one node may keep.
    pub cap: u64,
    /// Bytes of dead letters that one node may keep.
    pub dead_letters: u64,
    /// What gives way when it is full.
    pub overflow: Overflow,
    /// Bytes per second per target.
    pub throttle: u64,
    /// A target that has been down for longer gets no new hints.
    pub window: Duration,
    /// Replay begins paused; an operator resumes it.
    pub paused: bool,
}

/// Someone who uses the store, or stands in front of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Actor {
    /// The source of truth: a transactional database that is never wrong and never down here.
    Sql {
        /// The keyspace whose table mirrors it.
        table: String,
    },
    /// An event log in shards, each in order.
    Log {
        /// The source of its events.
        from: String,
        /// How many shards.
        shards: u64,
    },
    /// Carries events from the log to the store.
    Projector {
        /// The log.
        from: String,
        /// The keyspace.
        into: String,
        /// The level of its writes.
        write_cl: Level,
        /// What it does with an order whose write timed out.
        on_error: OnError,
        /// Writes in flight per shard.
        concurrency: u64,
    },
    /// Places orders at a rate, whatever happens to them.
    Shop {
        /// The source of truth.
        into: String,
        /// Orders over time (unscaled).
        rate: Rate,
        /// The size of an order (unscaled).
        value: u64,
        /// How an order's key is made.
        keys: KeyStyle,
        /// Who shops, by the first letter of the user ID; their shares add up to 100 %. None: shoppers without names.
        shards: Vec<Shard>,
        /// What was stored before the clock starts.
        history: Option<History>,
    },
    /// Looks for the orders that were just placed.
    Reader {
        /// The keyspace.
        from: String,
        /// The level, until an operator sets another.
        cl: Level,
        /// How long after placing an order its owner looks, at least and at most.
        after: (Duration, Duration),
        /// Reads for each order placed.
        reads_per_order: u64,
    },
}

/// How an order's key is made; see [`crate::keys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStyle {
    /// It goes wherever its hash says.
    Hashed,
    /// It goes where its letter's shard lives.
    FirstLetter,
}

/// What the table holds already when the clock starts: written, flushed and compacted while the cluster comes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// All of it, before it is copied (unscaled).
    pub bytes: u64,
    /// One record (unscaled): older orders, some of them in one, because nobody will look for any of them.
    pub record: u64,
}

/// Shoppers whose user IDs begin alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    /// The first and the last letter.
    pub letters: (char, char),
    /// Their share of the orders.
    pub percent: f64,
    /// The node whose arc of the ring holds the shard; its replicas are that arc's.
    pub on: String,
}

/// What becomes of an order whose write timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is forgotten.
    Drop,
    /// It is tried again until it succeeds.
    Retry,
}

/// A set of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// All nodes.
    All,
    /// The nodes of a rack.
    Rack(String),
    /// One node.
    Node(String),
}

/// Something that happens at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What variants call it.
    pub id: Option<String>,
    /// When, counted from the start.
    pub at: Duration,
    /// What.
    pub action: Action,
    /// A sentence for the timeline.
    pub note: Option<String>,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A shop's rate changes.
    Load {
        /// The shop.
        actor: String,
        /// The new rate (unscaled).
        rate: Rate,
    },
    /// Messages between two groups are lost.
    Cut {
        /// One side.
        from: Vec<Hosts>,
        /// The other.
        to: Vec<Hosts>,
        /// Only messages from `from` to `to`.
        oneway: bool,
    },
    /// They arrive again.
    Heal {
        /// One side.
        from: Vec<Hosts>,
        /// The other.
        to: Vec<Hosts>,
    },
    /// A node loses its power: what it did not sync is gone, and nobody hears a goodbye.
    Crash {
        /// The node.
        node: String,
    },
    /// It starts again.
    Start {
        /// The node.
        node: String,
    },
    /// A node's wall clock jumps.
    Clock {
        /// The node.
        node: String,
        /// By how many microseconds, either way.
        jump_micros: i64,
    },
    /// A reader's level changes (`set app.cl=ONE`).
    SetLevel {
        /// The reader.
        actor: String,
        /// The new level.
        level: Level,
    },
    /// An operator runs a verb on nodes.
    Nodetool {
        /// What.
        verb: Verb,
        /// Where.
        on: Vec<Hosts>,
    },
    /// Nothing but its note: what the source says happened.
    Note,
}

/// The operator's verbs that scenarios may use, as `helenusctl` calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Stops replaying hints.
    PauseHandoff,
    /// Replays hints.
    ResumeHandoff,
    /// Forgets all hints.
    TruncateHints,
    /// Writes memtables out.
    Flush,
    /// Compacts everything into one.
    Compact,
    /// Compaction runs by itself.
    EnableAutoCompaction,
    /// It does not.
    DisableAutoCompaction,
    /// Compares what replicas hold, and has them send each other what they lack.
    Repair,
    /// The same for just what a node's loss ledger names.
    RepairFromLedger,
    /// Delivers the dead letters that a node keeps, until none is left.
    ReplayDeadLetters,
    /// Compaction writes at most so many bytes a second (unscaled); 0: as much as it can.
    SetCompactionThroughput(u64),
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Verb::SetCompactionThroughput(bytes_per_s) = self {
            let rate = figure::show(units::number(*bytes_per_s), Unit::Bytes);
            return write!(f, "{SET_COMPACTION_THROUGHPUT} {rate}/s");
        }
        let name = VERBS.iter().find(|(_, verb)| verb == self).map_or("?", |(name, _)| *name);
        f.write_str(name)
    }
}

/// The verb that takes a rate.
pub const SET_COMPACTION_THROUGHPUT: &str = "setcompactionthroughput";

/// The verbs that take nothing, by name.
pub const VERBS: [(&str, Verb); 10] = [
    ("pausehandoff", Verb::PauseHandoff),
    ("resumehandoff", Verb::ResumeHandoff),
    ("truncatehints", Verb::TruncateHints),
    ("flush", Verb::Flush),
    ("compact", Verb::Compact),
    ("enableautocompaction", Verb::EnableAutoCompaction),
    ("disableautocompaction", Verb::DisableAutoCompaction),
    ("repair", Verb::Repair),
    ("repair --from-ledger", Verb::RepairFromLedger),
    ("deadletters replay", Verb::ReplayDeadLetters),
];

/// When an expectation has to hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// Over a span: counters count what happened in it, gauges have to comply at every sample in it.
    During(Duration, Duration),
    /// At some sample up to then.
    By(Duration),
    /// Then.
    At(Duration),
    /// Over the whole run; gauges at its end.
    End,
}

/// Something that a run has to show.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// Its name.
    pub id: String,
    /// The condition.
    pub that: Comparison,
    /// When it has to hold.
    pub when: When,
    /// Why it must be so.
    pub because: String,
    /// What the source says, in its words.
    pub claimed: Option<String>,
    /// The source's claim as a condition on the same span, so that the run itself says whether the source is right.
    pub claim: Option<Comparison>,
}

/// Some figures at some times, as a table of the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub id: String,
    /// What it shows, in one line.
    pub title: String,
    /// One column each.
    pub figures: Vec<FigureRef>,
    /// What the columns are called; the figures themselves where nothing is said.
    pub names: Vec<String>,
    /// One row each, in order.
    pub at: Vec<Duration>,
    /// What is counted or averaged is so over as long before each time.
    pub window: Duration,
    /// What the source says of the first figure at each time; empty where it says nothing.
    pub claimed: Vec<f64>,
}

/// A node of the cluster as the scenario names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// Rack and number: `a1`.
    pub name: String,
    /// Its data centre.
    pub dc: String,
    /// Its rack.
    pub rack: String,
}

/// The names that labels of figures may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNames {
    /// Racks.
    pub racks: Vec<String>,
    /// Nodes.
    pub nodes: Vec<String>,
}

impl Cluster {
    /// What figures' labels may name.
    pub fn host_names(&self) -> HostNames {
        let nodes = self.nodes().into_iter().map(|n| n.name).collect();
        HostNames { racks: self.racks(), nodes }
    }

    /// All racks.
    pub fn racks(&self) -> Vec<String> {
        let mut racks: Vec<String> = self.dcs.values().flat_map(|dc| dc.keys().cloned()).collect();
        racks.sort();
        racks.dedup();
        racks
    }

    /// All nodes: the first of each rack, then the second of each, so that going round them in order never stays in
    /// one rack.
    pub fn nodes(&self) -> Vec<NodeName> {
        let most = self.dcs.values().flat_map(|dc| dc.values().copied()).max().unwrap_or(0);
        let mut nodes = Vec::new();
        for ordinal in 1..=most {
            for (dc, racks) in &self.dcs {
                for (rack, count) in racks {
                    if ordinal <= *count {
                        let name = format!("{rack}{ordinal}");
                        nodes.push(NodeName { name, dc: dc.clone(), rack: rack.clone() });
                    }
                }
            }
        }
        nodes
    }
}

impl Hosts {
    /// Whether a node belongs to the set.
    pub fn holds(&self, node: &NodeName) -> bool {
        match self {
            Hosts::All => true,
            Hosts::Rack(rack) => node.rack == *rack,
            Hosts::Node(name) => node.name == *name,
        }
    }
}

impl std::fmt::Display for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hosts::All => f.write_str("all nodes"),
            Hosts::Rack(rack) => write!(f, "rack {rack}"),
            Hosts::Node(node) => write!(f, "node {node}"),
        }
    }
}

impl Scenario {
    /// Reads and checks a scenario; `file` is what problems are reported under.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, Problems> {
        read::scenario(file, text, &[])
    }

    /// As [`Scenario::parse`], with variants of it applied in this order.
    pub fn parse_varied(file: &str, text: &str, chosen: &[&str]) -> Result<Scenario, Problems> {
        read::scenario(file, text, chosen)
    }

    /// The expectations that the chosen variants say they break.
    pub fn meant_to_break(&self) -> BTreeSet<&str> {
        self.chosen.iter().flat_map(|v| &v.breaks).map(String::as_str).collect()
    }

    /// How long it lasts.
    pub fn length(&self) -> Duration {
        self.end.since(self.start).unwrap_or_default()
    }

    /// A bound or a throttle in bytes, as simulated. Never 0: that would mean "unbounded".
    pub fn scaled_bytes(&self, bytes: u64) -> u64 {
        (bytes / self.scale / self.value_scale).max(1)
    }

    /// A throttle where 0 means none, as simulated.
    pub fn scaled_throughput(&self, bytes_per_s: u64) -> u64 {
        if bytes_per_s == 0 { 0 } else { self.scaled_bytes(bytes_per_s) }
    }

    /// A verb as it is run on a simulated node.
    pub fn scaled_verb(&self, verb: Verb) -> Verb {
        match verb {
            Verb::SetCompactionThroughput(bytes_per_s) => {
                Verb::SetCompactionThroughput(self.scaled_throughput(bytes_per_s))
            }
            other => other,
        }
    }

    /// The size of a value, as simulated.
    pub fn scaled_value(&self, bytes: u64) -> u64 {
        (bytes / self.value_scale).max(1)
    }

    /// About how many orders one node's hint store holds, as simulated.
    pub fn records_per_store(&self) -> Option<u64> {
        let value = self.actors.values().find_map(|actor| match actor {
            Actor::Shop { value, .. } => Some(*value),
            _ => None,
        });
        value.map(|bytes| self.scaled_bytes(self.cluster.hints.cap) / self.scaled_value(bytes))
    }

    /// A rate per second, as simulated.
    pub fn scaled_rate(&self, rate: Rate) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a scale is far below 2^53")]
        let scale = self.scale as f64;
        rate.per_second / scale
    }

    /// A moment of the run as the clock on the wall shows it.
    pub fn clock(&self, at: Duration) -> TimeOfDay {
        self.start.plus(at)
    }

    /// Whether any of its figures is one that the nodes' tables are asked for.
    pub fn asks_tables(&self) -> bool {
        let expected = self.expectations.iter().flat_map(|e| {
            [Some(&e.that), e.claim.as_ref()].into_iter().flatten().flat_map(Comparison::figures)
        });
        let shown = self.series.iter().flat_map(|s| &s.figures);
        let mut all = expected.chain(shown);
        all.any(|f| TABLE_FIGURES.contains(&f.name.as_str()))
    }

    /// When the first event happens that `matches`.
    pub fn first(&self, matches: impl Fn(&Action) -> bool) -> Option<Duration> {
        self.events.iter().find(|e| matches(&e.action)).map(|e| e.at)
    }
}
