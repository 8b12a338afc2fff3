//! Where acknowledged data lives.
//!
//! [`Engine`] is the seam between the replica and the two engines: `lsm` (ours, the default) and `sled` (a plain
//! alternative and the benchmarks' peer). One conformance suite runs on both.
//!
//! Every engine promises: what `apply` acknowledged is what `read` returns, merged by `helenus_core`'s one merge
//! function; after a crash, everything acknowledged under the configured sync is there; a failed sync poisons the
//! engine, which then refuses writes and says why.

#[cfg(test)]
mod conformance;
mod integrity;
pub mod history;
pub mod lsm;
mod metrics;
mod sled_engine;
pub(crate) mod system_row;
mod upkeep;

pub use integrity::{
    FINDINGS_MAX, Lost, Problem, ScrubOptions, ScrubReport, SnapshotFigures, VerifyOptions,
    VerifyReport,
};
pub use lsm::LsmEngine;
pub use metrics::StorageMetrics;
pub use sled_engine::SledEngine;
pub use upkeep::{
    CompactionFigures, EngineFigures, RecoveryReport, RunningCompaction, TableFigures, Upkeep,
};

use crate::seams::net::BoxFuture;
use bytes::Bytes;
use helenus_core::codec::{self, CodecError};
use helenus_core::read::{self, AsOf, Part, RowFilter};
use helenus_core::{Expiry, Key, Partition, TableDef, TableId, TimestampMicros, Token, merge};
use std::ops::ControlFlow;

/// Why an operation on the engine failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The table is not open here: the schema has not arrived yet, or it was dropped.
    #[error("table {table} is not known to this node's storage")]
    UnknownTable {
        /// The table asked for.
        table: TableId,
    },
    /// An earlier sync failed: what is on disk is unknown, so no more writes are taken until a restart has replayed
    /// the log (fsyncgate).
    #[error("storage refuses writes since a sync failed: {cause}")]
    Poisoned {
        /// The failure that poisoned it.
        cause: String,
    },
    /// The disk said no.
    #[error("{path}: {message}")]
    Io {
        /// The file.
        path: String,
        /// The system's words, and what to do where there is something to do.
        message: String,
    },
    /// Bytes that were written are no longer what they were.
    #[error("{path}: corrupt at byte {offset}: {what}. {remedy}")]
    Corrupt {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What does not hold there.
        what: String,
        /// What an operator can do.
        remedy: String,
    },
    /// Flushing does not keep up with writing (a slow or full disk): the write was not taken.
    #[error(
        "memtables that wait to be flushed take {waiting_bytes} bytes, {limit_bytes} are allowed: the write was \
         refused; look for a full or failing disk in the log, or write more slowly"
    )]
    Overloaded {
        /// What waits.
        waiting_bytes: u64,
        /// What may wait.
        limit_bytes: u64,
    },
    /// One write, or one partition, is larger than the files' format holds.
    #[error("{bytes} bytes in one piece; {limit} are the most that storage takes")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// A read met more tombstones than it may (`tombstone_failure_threshold`).
    #[error(
        "the read met {tombstones} tombstones, {limit} are allowed: read less at a time, delete less, or raise \
         tombstone_failure_threshold; compaction removes tombstones that are older than gc_grace_seconds"
    )]
    TooManyTombstones {
        /// How many when it gave up.
        tombstones: u64,
        /// The bound.
        limit: u64,
    },
    /// A background job ran into a bug. What it worked on is as it was before.
    #[error("a background job panicked; the log has the message and the place: please report it")]
    Panicked,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
    /// One verify or scrub runs at a time.
    #[error(
        "a {running} is under way on this node, and one verify or scrub runs at a time: wait for it \
         (`helenusctl compactionstats` shows how far it is)"
    )]
    Busy {
        /// What runs.
        running: &'static str,
    },
    /// The engine has nothing that could do it.
    #[error("{what} needs `storage.engine = \"lsm\"`: {why}")]
    Unsupported {
        /// The verb.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A snapshot cannot have this name.
    #[error("`{tag}` cannot name a snapshot: {why}")]
    BadTag {
        /// The name.
        tag: String,
        /// Why not.
        why: &'static str,
    },
    /// There is a snapshot of this name.
    #[error(
        "snapshot `{tag}` exists: clear it (`helenusctl clearsnapshot --tag {tag}`), or take another name"
    )]
    SnapshotExists {
        /// The name.
        tag: String,
    },
    /// There is none.
    #[error("there is no snapshot `{tag}` here: `helenusctl listsnapshots` lists them")]
    NoSuchSnapshot {
        /// The name.
        tag: String,
    },
}

/// A mutation as the engine takes it: the very bytes it came in, known to be sound.
#[derive(Debug, Clone)]
pub struct Write {
    /// The table.
    pub table: TableId,
    /// The partition key.
    pub key: Key,
    /// Its token, computed once.
    pub token: Token,
    /// What to merge in, in its canonical encoding (`helenus_core::codec`).
    pub encoded: Bytes,
    /// What the memtable needs to know of it.
    pub(crate) update: Update,
}

/// An update, decoded as far as merging it asks for.
#[derive(Debug, Clone)]
pub(crate) enum Update {
    /// A key-value put: of two the newer one wins whole, so its encoding is merged as it is.
    Put { timestamp: TimestampMicros, expiry: Option<Expiry> },
    /// Anything else.
    Other(Partition),
}

impl Update {
    /// Of these bytes, which `shared` gives to be kept. An error says what is wrong with them.
    pub(crate) fn decode(
        encoded: &[u8],
        shared: impl FnOnce() -> Bytes,
    ) -> Result<Update, CodecError> {
        match codec::peek_put(encoded) {
            Some(put) => Ok(Update::Put { timestamp: put.timestamp, expiry: put.expiry }),
            None => codec::decode(shared()).map(Update::Other),
        }
    }
}

impl Write {
    /// Of an update that came encoded. An error says what is wrong with the bytes.
    pub fn decode(
        table: TableId,
        key: Key,
        token: Token,
        encoded: Bytes,
    ) -> Result<Write, CodecError> {
        let update = Update::decode(&encoded, || encoded.clone())?;
        Ok(Write { table, key, token, encoded, update })
    }

    /// Of a key-value put.
    pub fn put(
        (table, key, token): (TableId, Key, Token),
        value: &[u8],
        timestamp: TimestampMicros,
        expiry: Option<Expiry>,
    ) -> Write {
        let encoded = codec::encode_put(timestamp, value, expiry);
        Write { table, key, token, encoded, update: Update::Put { timestamp, expiry } }
    }

    /// Of an update in normal form.
    pub fn of(table: TableId, key: Key, token: Token, update: Partition) -> Write {
        let encoded = codec::encode(&update);
        let update = match codec::peek_put(&encoded) {
            Some(put) => Update::Put { timestamp: put.timestamp, expiry: put.expiry },
            None => Update::Other(update),
        };
        Write { table, key, token, encoded, update }
    }

    /// The update, decoded.
    pub fn partition(&self) -> Partition {
        match &self.update {
            Update::Put { .. } => {
                codec::decode(self.encoded.clone()).expect("a write's encoding is sound")
            }
            Update::Other(update) => update.clone(),
        }
    }

    /// The newest timestamp in it.
    pub fn version(&self) -> Option<TimestampMicros> {
        match &self.update {
            Update::Put { timestamp, .. } => Some(*timestamp),
            Update::Other(update) => merge::version(update),
        }
    }
}

/// Whether an applied write is durable already.
pub enum Applied {
    /// By the configured sync mode, it may be acknowledged now.
    Now,
    /// It may be acknowledged when this resolves (sync modes `batch` and `group`).
    After(BoxFuture<'static, Result<(), StorageError>>),
}

impl std::fmt::Debug for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Applied::Now => "Now",
            Applied::After(_) => "After(..)",
        })
    }
}

/// A page of a token range.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RangePage {
    /// Partitions in (token, key) order, tombstones included.
    pub partitions: Vec<(Token, Key, Partition)>,
    /// There may be more behind the last one.
    pub more: bool,
}

/// Where a range read begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeStart {
    /// Behind this token (exclusive).
    AfterToken(Token),
    /// Behind this partition (exclusive), which has this token.
    AfterKey(Token, Key),
    /// At the very first partition.
    First,
}

/// A part of each partition of a token range.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowsPage {
    /// In (token, key) order; of a partition that has nothing in the slices the part is empty.
    pub parts: Vec<(Token, Key, Part)>,
    /// There may be more partitions behind the last one.
    pub more: bool,
}

/// What [`Engine::range_rows`] reads.
#[derive(Debug)]
pub struct RangeRows<'a> {
    /// Where it begins.
    pub start: &'a RangeStart,
    /// No partition behind this token.
    pub until: Token,
    /// At most so many partitions.
    pub limit: usize,
    /// So many bytes end it. The part that goes over it is still in it, and has a bound of its own.
    pub bytes: usize,
    /// What is wanted of each.
    pub filter: &'a RowFilter,
    /// As of when.
    pub as_of: AsOf,
}

/// Partitions that [`Engine::range_rows`] looks at before it is known how large they are.
const ROWS_FIRST_LOOK: usize = 16;

/// What [`Engine::scan`] calls for each partition: its token, its key, its canonical encoding. It may break.
pub type Visit<'v> = dyn FnMut(Token, &[u8], &[u8]) -> ControlFlow<()> + 'v;

/// A storage engine. `apply` and `read` run on the node's thread and must not wait for the disk longer than one
/// buffered write or one block read; everything slow goes through the background seam.
pub trait Engine: Upkeep + Send + Sync {
    /// Makes a table readable and writable, or takes over changed options. Idempotent.
    fn open_table(&self, def: &TableDef) -> Result<(), StorageError>;
    /// Forgets a table and removes its files.
    fn drop_table(&self, table: TableId) -> Result<(), StorageError>;
    /// Logs and merges one write. See [`Applied`] for when it may be acknowledged.
    fn apply(&self, write: Write) -> Result<Applied, StorageError>;
    /// Logs and merges several writes with one log write (hint pages, batches of a link).
    fn apply_all(&self, writes: Vec<Write>) -> Result<Applied, StorageError>;
    /// Writes what `apply` has buffered for the log: one system call for everything that one wake of the node brought. What
    /// was [`Applied::Now`] may be acknowledged only after this has returned `Ok`: then it survives the process, and by
    /// the sync mode the machine.
    fn commit(&self) -> Result<(), StorageError>;
    /// Resolves when all that was applied before is on the medium, whatever the sync mode: for what others build on and
    /// cannot be asked again (Paxos). Those who wait together share a sync.
    fn synced(&self) -> BoxFuture<'static, Result<(), StorageError>>;
    /// Everything known of a partition, tombstones included; `None` when nothing is.
    fn read(
        &self,
        table: TableId,
        token: Token,
        key: &Key,
    ) -> Result<Option<Partition>, StorageError>;
    /// Up to `limit` partitions from `start` to `until` (inclusive).
    fn range(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        limit: usize,
    ) -> Result<RangePage, StorageError>;
    /// Part of a partition, as a reader sees it: what [`read::select`] makes of all that is known. An engine that can reads no
    /// more than it takes for that.
    fn read_rows(
        &self,
        table: TableId,
        token: Token,
        key: &Key,
        filter: &RowFilter,
        as_of: AsOf,
    ) -> Result<Part, StorageError> {
        let found = self.read(table, token, key)?.unwrap_or_default();
        Ok(read::select(found, filter, as_of))
    }
    /// The same of each partition of a token range.
    fn range_rows(&self, table: TableId, wanted: &RangeRows<'_>) -> Result<RowsPage, StorageError> {
        let mut page = RowsPage::default();
        let (mut start, mut bytes) = (wanted.start.clone(), 0_usize);
        loop {
            let look = ROWS_FIRST_LOOK.min(wanted.limit - page.parts.len());
            let found = self.range(table, &start, wanted.until, look)?;
            page.more = found.more;
            let mut found = found.partitions.into_iter().peekable();
            while let Some((token, key, partition)) = found.next() {
                let part = read::select(partition, wanted.filter, wanted.as_of);
                bytes += key.0.len() + part.bytes();
                start = RangeStart::AfterKey(token, key.clone());
                page.parts.push((token, key, part));
                if bytes >= wanted.bytes {
                    page.more |= found.peek().is_some();
                    return Ok(page);
                }
            }
            if !page.more || page.parts.len() >= wanted.limit {
                return Ok(page);
            }
        }
    }
    /// Hands every partition from `start` to `until` (inclusive) to `visit` in (token, key) order, tombstones included, as
    /// bytes: for whoever reads a whole range and has no need of decoded partitions. Not one moment in time: a write that
    /// happens meanwhile is seen or not.
    fn scan(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError>;
    /// Why writes are refused, if they are.
    fn poisoned(&self) -> Option<String>;
    /// Syncs the log and stops the engine's own tasks. Everything acknowledged is durable when it resolves.
    fn shutdown(&self) -> BoxFuture<'static, Result<(), StorageError>>;
}
