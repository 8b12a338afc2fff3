//! What a caller may ask of one operation, and what it gets back.

use bytes::Bytes;
use helenus_core::{Level, NodeId, TimestampMicros};
use std::net::SocketAddr;
use std::time::Duration;

/// Which node coordinates an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// A replica of the key, so that one of the answers needs no network; the replicas take turns. Other nodes follow
    /// when no replica can be reached. Scans take turns among all nodes.
    #[default]
    TokenAware,
    /// All nodes take turns, whatever the key.
    RoundRobin,
    /// This node and no other, which is how an experiment asks "what does *this* side of the cut say?".
    Pinned(SocketAddr),
}

/// Options of one operation. What is absent is the client's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The consistency level.
    pub level: Option<Level>,
    /// The write's timestamp; absent: see [`TimestampSource`].
    pub timestamp: Option<TimestampMicros>,
    /// How long a written value lives, in whole seconds (a fraction counts as a whole one); absent: the table's default.
    pub ttl: Option<Duration>,
    /// How long the operation may take in all, retries included.
    pub timeout: Option<Duration>,
    /// Ask which replicas answered.
    pub trace: bool,
    /// Who coordinates.
    pub routing: Option<Routing>,
}

impl Options {
    /// All defaults.
    pub fn new() -> Options {
        Options::default()
    }

    /// At this consistency level.
    #[must_use]
    pub fn level(mut self, level: Level) -> Options {
        self.level = Some(level);
        self
    }

    /// With this timestamp. Two writes with the same timestamp are settled by their values, not by their order.
    #[must_use]
    pub fn timestamp(mut self, timestamp: TimestampMicros) -> Options {
        self.timestamp = Some(timestamp);
        self
    }

    /// The value expires after this long.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Options {
        self.ttl = Some(ttl);
        self
    }

    /// Give up after this long. The coordinator is told a little less, so that its own answer (which says how many
    /// replicas replied) comes before the client stops waiting.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Options {
        self.timeout = Some(timeout);
        self
    }

    /// Say in the answer which replicas answered.
    #[must_use]
    pub fn trace(mut self) -> Options {
        self.trace = true;
        self
    }

    /// Route it so.
    #[must_use]
    pub fn routing(mut self, routing: Routing) -> Options {
        self.routing = Some(routing);
        self
    }
}

/// Who chooses the timestamp of a write that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampSource {
    /// This client, once per operation: every attempt writes the same version, so retries are idempotent.
    #[default]
    Client,
    /// Whichever coordinator takes it. Such writes are not retried once they may have been applied.
    Coordinator,
}

/// How an operation was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who coordinated.
    pub coordinator: SocketAddr,
    /// Replicas that answered, in order of arrival; empty unless [`Options::trace`] was set.
    pub responders: Vec<NodeId>,
    /// An acknowledged operation may still be worth a word, e.g. that a replica missed a write and no hint was kept.
    pub warnings: Vec<String>,
    /// Attempts it took, the one that was answered included.
    pub attempts: u32,
}

/// An acknowledged write or delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The version that was written.
    pub timestamp: TimestampMicros,
    /// How it was answered.
    pub answer: Answer,
}

/// A value and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// When it was written, by the writer's clock.
    pub timestamp: TimestampMicros,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The live value, if there is one.
    pub value: Option<Versioned>,
    /// With no live value: the version of the tombstone that hides it. Absent: nothing was ever there, as far as the
    /// replicas that answered remember.
    pub deleted: Option<TimestampMicros>,
    /// How it was answered.
    pub answer: Answer,
}

/// Which part of a table to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// At most so many live partitions in one page; 0: the node's page size.
    pub limit: u32,
    /// Where the page before ended ([`ScanPage::next`]); absent: from the first token.
    pub from: Option<PagePosition>,
    /// Read only what the coordinator itself stores, and ask no other node (Cassandra's NODE_LOCAL). Meaningful with
    /// [`Routing::Pinned`].
    pub node_local: bool,
}

/// Where a page of a scan ended. Opaque: the node that made it may put anything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePosition(pub Bytes);

/// One partition of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Bytes,
    /// Its value and version.
    pub value: Versioned,
}

/// A page of a scan, in token order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The live partitions.
    pub entries: Vec<Entry>,
    /// Where the next page starts; absent: this was the last.
    pub next: Option<PagePosition>,
    /// How it was answered.
    pub answer: Answer,
}
