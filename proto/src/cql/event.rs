//! What changed: pushed as EVENT to clients that registered for it, and answered to statements that change the schema.
//! (§4.2.5.5, §4.2.6)

use super::read::{Malformed, Problem, Reader};
use super::write::{EncodeError, Writer};
use std::net::SocketAddr;

/// The stream of every EVENT: no client chose it.
pub const EVENT_STREAM: i16 = -1;

/// What a client can register for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// Nodes join, leave and move.
    TopologyChange,
    /// Nodes go up and down.
    StatusChange,
    /// Keyspaces, tables, types and functions come, change and go.
    SchemaChange,
}

/// A push to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Who is in the ring.
    Topology {
        /// What happened.
        change: TopologyChange,
        /// To which node: where clients connect to it.
        node: SocketAddr,
    },
    /// Who answers.
    Status {
        /// Whether it does.
        up: bool,
        /// Which node: where clients connect to it.
        node: SocketAddr,
    },
    /// The schema.
    Schema(SchemaChange),
}

/// What happened to a node's place in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopologyChange {
    /// It joined.
    NewNode,
    /// It left.
    RemovedNode,
    /// It has other tokens. CAVEAT: Cassandra's own; the specifications do not name it, and some drivers refuse it.
    MovedNode,
}

/// What happened to something of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// It is not as before.
    Updated,
    /// It is gone.
    Dropped,
}

/// A change of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// What happened.
    pub kind: ChangeKind,
    /// The keyspace that changed, or that holds what changed.
    pub keyspace: String,
    /// What of the keyspace changed.
    pub target: SchemaTarget,
}

/// What of a keyspace changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaTarget {
    /// The keyspace itself.
    Keyspace,
    /// The table of this name.
    Table(String),
    /// The user-defined type of this name.
    Type(String),
    /// The function of this name for these types.
    Function {
        /// Its name.
        name: String,
        /// The types of its arguments.
        argument_types: Vec<String>,
    },
    /// The aggregate of this name for these types.
    Aggregate {
        /// Its name.
        name: String,
        /// The types of its arguments.
        argument_types: Vec<String>,
    },
}

impl EventKind {
    /// All of them.
    pub const EVERY: [EventKind; 3] =
        [EventKind::TopologyChange, EventKind::StatusChange, EventKind::SchemaChange];

    /// The word in REGISTER and EVENT.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::TopologyChange => "TOPOLOGY_CHANGE",
            EventKind::StatusChange => "STATUS_CHANGE",
            EventKind::SchemaChange => "SCHEMA_CHANGE",
        }
    }

    pub(crate) fn read(from: &mut Reader) -> Result<EventKind, Malformed> {
        word(from, "the event's type", "TOPOLOGY_CHANGE, STATUS_CHANGE or SCHEMA_CHANGE", |found| {
            EventKind::EVERY.into_iter().find(|kind| kind.name() == found)
        })
    }
}

impl TopologyChange {
    const EVERY: [TopologyChange; 3] =
        [TopologyChange::NewNode, TopologyChange::RemovedNode, TopologyChange::MovedNode];

    const fn name(self) -> &'static str {
        match self {
            TopologyChange::NewNode => "NEW_NODE",
            TopologyChange::RemovedNode => "REMOVED_NODE",
            TopologyChange::MovedNode => "MOVED_NODE",
        }
    }
}

impl ChangeKind {
    const EVERY: [ChangeKind; 3] = [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Dropped];

    const fn name(self) -> &'static str {
        match self {
            ChangeKind::Created => "CREATED",
            ChangeKind::Updated => "UPDATED",
            ChangeKind::Dropped => "DROPPED",
        }
    }
}

impl Event {
    /// What a client must have registered for to be told.
    pub const fn kind(&self) -> EventKind {
        match self {
            Event::Topology { .. } => EventKind::TopologyChange,
            Event::Status { .. } => EventKind::StatusChange,
            Event::Schema(_) => EventKind::SchemaChange,
        }
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) -> Result<(), EncodeError> {
        to.string("the event's type", self.kind().name())?;
        match self {
            Event::Topology { change, node } => {
                to.string("the event's change", change.name())?;
                to.inet(*node);
            }
            Event::Status { up, node } => {
                to.string("the event's change", if *up { "UP" } else { "DOWN" })?;
                to.inet(*node);
            }
            Event::Schema(change) => change.write(to)?,
        }
        Ok(())
    }

    pub(crate) fn read(from: &mut Reader) -> Result<Event, Malformed> {
        const CHANGE: &str = "the event's change";
        const NODE: &str = "the event's node";
        Ok(match EventKind::read(from)? {
            EventKind::TopologyChange => {
                let known = |found: &str| {
                    TopologyChange::EVERY.into_iter().find(|change| change.name() == found)
                };
                let change = word(from, CHANGE, "NEW_NODE, REMOVED_NODE or MOVED_NODE", known)?;
                Event::Topology { change, node: from.inet(NODE)? }
            }
            EventKind::StatusChange => {
                let known = |found: &str| match found {
                    "UP" => Some(true),
                    "DOWN" => Some(false),
                    _ => None,
                };
                let up = word(from, CHANGE, "UP or DOWN", known)?;
                Event::Status { up, node: from.inet(NODE)? }
            }
            EventKind::SchemaChange => Event::Schema(SchemaChange::read(from)?),
        })
    }
}

impl SchemaChange {
    pub(crate) fn write(&self, to: &mut Writer<'_>) -> Result<(), EncodeError> {
        let (target, name, argument_types) = match &self.target {
            SchemaTarget::Keyspace => ("KEYSPACE", None, None),
            SchemaTarget::Table(name) => ("TABLE", Some(name), None),
            SchemaTarget::Type(name) => ("TYPE", Some(name), None),
            SchemaTarget::Function { name, argument_types } => {
                ("FUNCTION", Some(name), Some(argument_types))
            }
            SchemaTarget::Aggregate { name, argument_types } => {
                ("AGGREGATE", Some(name), Some(argument_types))
            }
        };
        to.string("the change", self.kind.name())?;
        to.string("the change's target", target)?;
        to.string("a keyspace's name", &self.keyspace)?;
        if let Some(name) = name {
            to.string("the name of what changed", name)?;
        }
        if let Some(argument_types) = argument_types {
            to.string_list("the argument types of what changed", argument_types)?;
        }
        Ok(())
    }

    pub(crate) fn read(from: &mut Reader) -> Result<SchemaChange, Malformed> {
        let known =
            |found: &str| ChangeKind::EVERY.into_iter().find(|change| change.name() == found);
        let kind = word(from, "the change", "CREATED, UPDATED or DROPPED", known)?;
        let at = from.at();
        let target = from.string("the change's target")?;
        let keyspace = from.string("the keyspace that changed")?;
        const NAME: &str = "the name of what changed";
        const TYPES: &str = "the argument types of what changed";
        let target = match target.as_str() {
            "KEYSPACE" => SchemaTarget::Keyspace,
            "TABLE" => SchemaTarget::Table(from.string(NAME)?),
            "TYPE" => SchemaTarget::Type(from.string(NAME)?),
            "FUNCTION" => SchemaTarget::Function {
                name: from.string(NAME)?,
                argument_types: from.string_list(TYPES)?,
            },
            "AGGREGATE" => SchemaTarget::Aggregate {
                name: from.string(NAME)?,
                argument_types: from.string_list(TYPES)?,
            },
            _ => {
                let expected = "KEYSPACE, TABLE, TYPE, FUNCTION or AGGREGATE";
                let problem = Problem::Unknown { found: target, expected };
                return Err(Malformed { what: "the change's target", at, problem });
            }
        };
        Ok(SchemaChange { kind, keyspace, target })
    }
}

/// A `[string]` that is one of a few words.
fn word<T>(
    from: &mut Reader,
    what: &'static str,
    expected: &'static str,
    known: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Malformed> {
    let at = from.at();
    let found = from.string(what)?;
    let meant = known(&found);
    meant.ok_or(Malformed { what, at, problem: Problem::Unknown { found, expected } })
}
