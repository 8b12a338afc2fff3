//! What a node does as a replica: apply, read, digest.
//!
//! The same functions serve the coordinator on this node and the messages of other coordinators. A replica
//! decides nothing: it merges what it is sent and answers with what it has.

mod notes;

pub(crate) use notes::{
    NOTES_MAX, Notes, applied_in_words, count, in_words, page_in_words, short, take as notes_of,
};

use crate::config::Config;
use crate::schema::SchemaStore;
use crate::seams::clock::{Clock, gc_seconds};
use crate::seams::probe::{ApplyPath, Event, Probe};
use crate::storage::{
    Applied, Engine, RangePage, RangeRows, RangeStart, RowsPage, StorageError, Write,
};
use bytes::Bytes;
use helenus_core::read::{self, AsOf, Part, RowFilter};
use helenus_core::tally::FailureReason;
use helenus_core::{
    GcSeconds, Key, Partition, TableId, TimestampMicros, Token, codec, merge, token,
};
use helenus_proto::v1::message::Body;
use helenus_proto::{ids, v1};
use notes::Look;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::sync::{Arc, Mutex};

/// The most partitions that one answer to a range read holds, whatever was asked for.
const RANGE_PARTITIONS_MAX: usize = 5_000;
/// Bytes that fill an answer to a range read, however few partitions they are. The one that goes over it is still in it.
const RANGE_BYTES: usize = 4 * 1024 * 1024;
/// Partitions read before it is known how large they are.
const RANGE_FIRST_LOOK: usize = 64;

/// What a replica counts.
#[derive(Debug, Clone)]
pub struct ReplicaMetrics {
    applied: [Counter; 5],
    reads: Counter,
    rows: Counter,
    cut: Counter,
    unknown_table: Counter,
    failures: [Counter; 2],
    tombstones: Counter,
    tombstone_warnings: Counter,
    /// What storage said last, so that a damaged block that is read a thousand times is logged once.
    logged: Arc<Mutex<String>>,
}

/// What a replica was asked for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Read,
    Write,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Path {
    path: &'static str,
}

impl ReplicaMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> ReplicaMetrics {
        let applied: Family<Path, Counter> = Family::default();
        let of = |path| applied.get_or_create_owned(&Path { path });
        let failures: Family<Operation, Counter> = Family::default();
        let metrics = ReplicaMetrics {
            applied: [of("write"), of("hint"), of("read_repair"), of("repair"), of("replay")],
            reads: Counter::default(),
            rows: Counter::default(),
            cut: Counter::default(),
            unknown_table: Counter::default(),
            failures: ["read", "write"]
                .map(|operation| failures.get_or_create_owned(&Operation { operation })),
            tombstones: Counter::default(),
            tombstone_warnings: Counter::default(),
            logged: Arc::default(),
        };
        registry.register("replica_mutations", "Mutations merged, by how they came", applied);
        registry.register("replica_reads", "Reads served to coordinators", metrics.reads.clone());
        registry.register(
            "replica_rows_read",
            "Rows, dead ones included, that reads of parts of partitions were answered with",
            metrics.rows.clone(),
        );
        registry.register(
            "replica_reads_cut",
            "Parts of partitions that ended at their bound of rows or bytes, with more behind them",
            metrics.cut.clone(),
        );
        registry.register(
            "hints_received_of_unknown_tables",
            "Hints received and left out because their table does not exist here",
            metrics.unknown_table.clone(),
        );
        registry.register(
            "replica_tombstones_read",
            "Tombstones that reads met",
            metrics.tombstones.clone(),
        );
        registry.register(
            "replica_tombstone_warnings",
            "Reads that met more tombstones than tombstone_warn_threshold",
            metrics.tombstone_warnings.clone(),
        );
        registry.register(
            "replica_failures",
            "Requests that this replica's storage could not serve; coordinators ask others",
            failures,
        );
        metrics
    }

    /// Counts what storage could not do, and says so in the log when it says something new.
    fn watch<T>(&self, asked: Asked, done: Result<T, StorageError>) -> Result<T, StorageError> {
        done.inspect_err(|error| {
            let [read, write] = &self.failures;
            match asked {
                Asked::Read => read.inc(),
                Asked::Write => write.inc(),
            };
            let text = error.to_string();
            let mut logged = self.logged.lock().expect("no holder of this lock panics");
            if *logged != text {
                tracing::error!(operation = ?asked, error = %text, "storage failed");
                *logged = text;
            }
        })
    }

    fn applied(&self, path: ApplyPath) {
        let [write, hint, read_repair, repair, replay] = &self.applied;
        match path {
            ApplyPath::Write => write.inc(),
            ApplyPath::Hint => hint.inc(),
            ApplyPath::ReadRepair => read_repair.inc(),
            ApplyPath::Repair => repair.inc(),
            ApplyPath::Replay => replay.inc(),
        };
    }

    fn read(&self) {
        self.reads.inc();
    }

    fn part(&self, part: &Part) {
        self.rows.inc_by(part.partition.rows.len() as u64);
        if part.next.is_some() {
            self.cut.inc();
        }
    }

    pub(crate) fn hints_of_unknown_table(&self, count: u64) {
        self.unknown_table.inc_by(count);
    }
}

/// How many tombstones a read may meet (Cassandra's thresholds).
#[derive(Debug, Clone, Copy)]
pub struct TombstoneThresholds {
    /// More are counted and logged.
    pub warn: u64,
    /// More fail the read.
    pub failure: u64,
}

impl TombstoneThresholds {
    pub(crate) fn of(config: &Config) -> TombstoneThresholds {
        let (warn, failure) = (config.tombstone_warn_threshold, config.tombstone_failure_threshold);
        TombstoneThresholds { warn, failure }
    }
}

/// Counts what one read meets.
struct TombstoneCount<'r> {
    replica: &'r Replica,
    table: TableId,
    met: u64,
}

impl TombstoneCount<'_> {
    /// Counts a partition that the reader is to see; what a reader does not see (purgeable ones) is not counted.
    fn add(&mut self, partition: &Partition) -> Result<(), StorageError> {
        self.met += merge::tombstones(partition);
        let limit = self.replica.tombstone_thresholds.failure;
        if self.met > limit {
            return Err(StorageError::TooManyTombstones { tombstones: self.met, limit });
        }
        Ok(())
    }
}

impl Drop for TombstoneCount<'_> {
    fn drop(&mut self) {
        if self.met == 0 {
            return;
        }
        let metrics = &self.replica.metrics;
        metrics.tombstones.inc_by(self.met);
        if self.met > self.replica.tombstone_thresholds.warn {
            let nth = metrics.tombstone_warnings.inc() + 1;
            // Ever more seldom: the counter says how often.
            if nth.is_power_of_two() {
                tracing::warn!(
                    table = %self.table, tombstones = self.met, times = nth,
                    "a read met more tombstones than tombstone_warn_threshold"
                );
            }
        }
    }
}

/// A replica's holdings and what it needs to answer for them.
pub struct Replica {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) schema: Arc<SchemaStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) metrics: ReplicaMetrics,
    pub(crate) tombstone_thresholds: TombstoneThresholds,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").finish_non_exhaustive()
    }
}

impl Replica {
    /// Merges one write. See [`Applied`] for when it may be acknowledged.
    pub fn apply(&self, write: Write, path: ApplyPath) -> Result<Applied, StorageError> {
        let event = applied_event(&write, path);
        let applied = self.metrics.watch(Asked::Write, self.engine.apply(write))?;
        self.probe.event(&event);
        self.metrics.applied(path);
        Ok(applied)
    }

    /// Merges several writes with one write to the log.
    pub fn apply_all(&self, writes: Vec<Write>, path: ApplyPath) -> Result<Applied, StorageError> {
        let events: Vec<Event> = writes.iter().map(|w| applied_event(w, path)).collect();
        let applied = self.metrics.watch(Asked::Write, self.engine.apply_all(writes))?;
        for event in &events {
            self.probe.event(event);
            self.metrics.applied(path);
        }
        Ok(applied)
    }

    /// Waits until an applied write is as durable as an acknowledged one, for those who acknowledge it to nobody but go on
    /// by it.
    pub(crate) async fn durable(
        &self,
        applied: Result<Applied, StorageError>,
    ) -> Result<(), StorageError> {
        match applied? {
            Applied::Now => self.engine.commit(),
            Applied::After(synced) => synced.await,
        }
    }

    /// What is here of a partition, as a reader may see it: purgeable tombstones left out, so that replicas agree whether
    /// or not they have compacted. `None`: nothing.
    pub fn read(&self, table: TableId, key: &Key) -> Result<Option<Partition>, StorageError> {
        self.metrics.read();
        let found = self.engine.read(table, token::of(&key.0), key);
        let found = self.metrics.watch(Asked::Read, found)?;
        let found = found.and_then(|partition| self.for_reader(table, partition));
        if let Some(partition) = &found {
            let counted = self.tombstone_count(table).add(partition);
            self.metrics.watch(Asked::Read, counted)?;
        }
        Ok(found)
    }

    /// A part of a partition, as a reader may see it.
    pub fn read_rows(
        &self,
        table: TableId,
        key: &Key,
        filter: &RowFilter,
    ) -> Result<Part, StorageError> {
        self.metrics.read();
        let filter = bounded(filter);
        let part = self.engine.read_rows(table, token::of(&key.0), key, &filter, self.as_of(table));
        let part = self.metrics.watch(Asked::Read, part)?;
        let counted = self.tombstone_count(table).add(&part.partition);
        self.metrics.watch(Asked::Read, counted)?;
        self.metrics.part(&part);
        Ok(part)
    }

    /// Answers a read of a partition, or of the part of it that `filter` says. If it is `traced`, `tell` is told how it
    /// went.
    pub(crate) fn answer(
        &self,
        table: TableId,
        key: &Key,
        filter: Option<&RowFilter>,
        digest_only: bool,
        traced: bool,
        tell: impl FnOnce(String),
    ) -> Body {
        let look = Look::before(traced, &*self.engine, table);
        let answer = match filter {
            None => {
                let found = self.read(table, key);
                if traced {
                    tell(look.after(&found));
                }
                found.map(|found| partition_answer(found, digest_only))
            }
            Some(filter) => {
                let part = self.read_rows(table, key, filter);
                if traced {
                    tell(look.after_part(&part));
                }
                part.map(|part| part_answer(&part, digest_only))
            }
        };
        answer.unwrap_or_else(|error| failed(crate::coordinator::storage_reason(&error), &error))
    }

    /// Parts of the partitions of a token range, as a reader may see them.
    pub fn range_rows(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        limit: usize,
        filter: &RowFilter,
    ) -> Result<RowsPage, StorageError> {
        self.metrics.read();
        let wanted = RangeRows {
            start,
            until,
            limit: limit.clamp(1, RANGE_PARTITIONS_MAX),
            bytes: RANGE_BYTES,
            filter: &bounded(filter),
            as_of: self.as_of(table),
        };
        let page = self.metrics.watch(Asked::Read, self.engine.range_rows(table, &wanted))?;
        let mut tombstones = self.tombstone_count(table);
        for (_, _, part) in &page.parts {
            self.metrics.watch(Asked::Read, tombstones.add(&part.partition))?;
            self.metrics.part(part);
        }
        Ok(page)
    }

    fn as_of(&self, table: TableId) -> AsOf {
        let view = self.schema.current();
        let gc_grace_seconds = view.table(table).map_or(0, |def| def.options.gc_grace_seconds);
        AsOf { now: self.now(), gc_grace_seconds }
    }

    fn tombstone_count(&self, table: TableId) -> TombstoneCount<'_> {
        TombstoneCount { replica: self, table, met: 0 }
    }

    /// A page of a token range, as a reader may see it.
    pub fn range(
        &self,
        table: TableId,
        start: &RangeStart,
        until: Token,
        limit: usize,
    ) -> Result<RangePage, StorageError> {
        self.metrics.read();
        let limit = limit.min(RANGE_PARTITIONS_MAX);
        let mut found = RangePage::default();
        let (mut start, mut bytes, mut look) = (start.clone(), 0, RANGE_FIRST_LOOK);
        let mut tombstones = self.tombstone_count(table);
        loop {
            let next = look.min(limit - found.partitions.len());
            let page = self.engine.range(table, &start, until, next);
            let page = self.metrics.watch(Asked::Read, page)?;
            found.more = page.more;
            for (token, key, partition) in page.partitions {
                // Partitions that only hold purgeable tombstones stay in the page, empty: the page's end is where it was.
                let partition = self.for_reader(table, partition).unwrap_or_default();
                self.metrics.watch(Asked::Read, tombstones.add(&partition))?;
                bytes += key.0.len() + merge::value_bytes(&partition);
                found.partitions.push((token, key, partition));
            }
            let Some((token, key, _)) = found.partitions.last() else { return Ok(found) };
            if !found.more || found.partitions.len() >= limit || bytes >= RANGE_BYTES {
                return Ok(found);
            }
            start = RangeStart::AfterKey(*token, key.clone());
            let mean = (bytes / found.partitions.len()).max(1);
            look = ((RANGE_BYTES - bytes) / mean).max(1);
        }
    }

    fn for_reader(&self, table: TableId, partition: Partition) -> Option<Partition> {
        let AsOf { now, gc_grace_seconds } = self.as_of(table);
        merge::for_read(partition, now, gc_grace_seconds)
    }

    pub(crate) fn now(&self) -> GcSeconds {
        gc_seconds(&*self.clock)
    }
}

/// Whatever was asked for, no part is larger than this.
fn bounded(filter: &RowFilter) -> Cow<'_, RowFilter> {
    let most = u32::try_from(RANGE_BYTES).unwrap_or(u32::MAX);
    if filter.bytes <= most {
        return Cow::Borrowed(filter);
    }
    Cow::Owned(RowFilter { bytes: most, ..filter.clone() })
}

fn applied_event(write: &Write, by: ApplyPath) -> Event {
    let timestamp = write.version().unwrap_or(TimestampMicros(0));
    Event::Applied { table: write.table, key: write.key.clone(), timestamp, by }
}

/// A refusal as it travels.
pub(crate) fn failed(reason: FailureReason, why: &dyn std::fmt::Display) -> Body {
    Body::Failed(v1::ReplicaError {
        reason: reason.name().to_owned(),
        message: why.to_string(),
        ..v1::ReplicaError::default()
    })
}

/// A partition as it travels, or only its digest.
fn partition_answer(found: Option<Partition>, digest_only: bool) -> Body {
    let encoded = codec::encode(&found.unwrap_or_default());
    let digest = Bytes::copy_from_slice(&codec::digest_encoded(&encoded));
    let data = (!digest_only).then_some(encoded);
    Body::Partition(v1::PartitionAnswer { data, digest, ..v1::PartitionAnswer::default() })
}

/// A part of one as it travels, or only its digest.
fn part_answer(part: &Part, digest_only: bool) -> Body {
    let encoded = codec::encode(&part.partition);
    let digest = Bytes::copy_from_slice(&read::digest(&encoded, part.next.as_ref()));
    let (data, next) = ((!digest_only).then_some(encoded), helenus_proto::read::next_to_wire(part));
    Body::Partition(v1::PartitionAnswer { data, digest, next, trace: Vec::new() })
}

/// A page of a range as it travels.
pub(crate) fn range_answer(page: RangePage) -> Body {
    let partitions = page.partitions.into_iter().map(|(_, key, partition)| v1::KeyedPartition {
        key: key.0,
        data: codec::encode(&partition),
        next: None,
    });
    Body::RangeAnswer(v1::RangeAnswer {
        partitions: partitions.collect(),
        more: page.more,
        ..v1::RangeAnswer::default()
    })
}

/// Parts of a range's partitions as they travel.
pub(crate) fn rows_answer(page: RowsPage) -> Body {
    let partitions = page.parts.into_iter().map(|(_, key, part)| v1::KeyedPartition {
        key: key.0,
        data: codec::encode(&part.partition),
        next: helenus_proto::read::next_to_wire(&part),
    });
    Body::RangeAnswer(v1::RangeAnswer {
        partitions: partitions.collect(),
        more: page.more,
        ..v1::RangeAnswer::default()
    })
}

/// A mutation that travelled. `Err` says in words what is wrong with it.
pub(crate) fn decode_mutation(mutation: v1::ApplyMutation) -> Result<Write, String> {
    decode_write(table_of(&mutation.table)?, mutation.key, mutation.update)
}

/// A page of a repair that travelled.
pub(crate) fn decode_page(page: v1::RepairPage) -> Result<Vec<Write>, String> {
    let table = table_of(&page.table)?;
    let partitions = page.partitions.into_iter();
    partitions.map(|partition| decode_write(table, partition.key, partition.data)).collect()
}

/// The table that a message is about. `Err` says in words what is wrong with it.
pub(crate) fn table_of(bytes: &[u8]) -> Result<TableId, String> {
    ids::table_from_wire("table", bytes).map_err(|e| e.to_string())
}

fn decode_write(table: TableId, key: Bytes, encoded: Bytes) -> Result<Write, String> {
    let token = token::of(&key);
    Write::decode(table, Key(key), token, encoded).map_err(|e| e.to_string())
}
