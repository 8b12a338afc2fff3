//! What an engine does besides serving requests: what operators ask for, and what they are shown.

use super::StorageError;
use super::integrity::{ScrubOptions, ScrubReport, SnapshotFigures, VerifyOptions, VerifyReport};
use crate::seams::net::BoxFuture;
use helenus_core::TableId;
use std::collections::BTreeMap;

/// Figures of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct TableFigures {
    pub sstables: u64,
    pub live_bytes: u64,
    pub memtable_bytes: u64,
    pub memtable_partitions: u64,
    pub reads: u64,
    /// Pages and scans of token ranges.
    pub scans: u64,
    /// SSTables of which point reads opened a block: divided by `reads`, the read amplification.
    pub sstables_read: u64,
    /// Blocks of SSTables that they opened.
    pub blocks_read: u64,
    /// SSTables that point reads passed by, since what they had found was newer than all that is in there.
    pub sstables_skipped: u64,
    pub writes: u64,
    pub flushes: u64,
    pub compactions: u64,
    pub bloom_false_positives: u64,
    pub pending_compactions: u64,
    pub compacted_bytes_written: u64,
    /// With the two others the write amplification: (flushed + written) / flushed.
    pub compacted_bytes_read: u64,
    /// SSTables in each level, from level 0 on.
    pub levels: Vec<u64>,
    /// Keys and values in SSTables, unpacked, every version of them.
    pub raw_bytes: u64,
    /// An estimate of what of that is not overwritten in a newer SSTable: `live_bytes` beside it is the space amplification.
    pub live_raw_bytes: u64,
    /// The share of cells in SSTables that are tombstones and past gc_grace, in millionths.
    pub droppable_tombstones_ppm: u32,
    pub flushed_bytes: u64,
}

/// What the start found in the commit log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct RecoveryReport {
    pub records: u64,
    pub segments: u64,
    /// Bytes of a torn tail: writes that no sync had covered.
    pub cut_bytes: u64,
}

/// Figures of the engine as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct EngineFigures {
    pub log_bytes: u64,
    pub log_segments: u64,
    pub log_writes: u64,
    /// Memtables that wait to be flushed, and their bytes.
    pub frozen_memtables: u64,
    pub waiting_bytes: u64,
    pub flush_failures: u64,
    pub compaction_failures: u64,
    /// Writes whose acknowledgement was held back because flushing fell behind, and for how long in all.
    pub slowed: u64,
    pub slowed_micros: u64,
    /// Writes that were refused because flushing did not keep up all the same.
    pub overloaded: u64,
    pub recovery: RecoveryReport,
}

/// A compaction under way, or a verify or scrub: they share the lane and the throttle.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct RunningCompaction {
    /// As in the history; it grows. 0 for a verify or scrub.
    pub id: u64,
    /// As `compactionstats` shows it: `Compaction`, `Verify`, `Scrub`.
    pub kind: &'static str,
    /// Why these SSTables.
    pub reason: &'static str,
    /// The level that its output goes to.
    pub level: u32,
    pub table: TableId,
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// What `compactionstats` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct CompactionFigures {
    pub pending_tasks: u64,
    pub running: Vec<RunningCompaction>,
    pub auto_compaction: bool,
    pub throughput_bytes_per_s: u64,
    pub completed: u64,
    /// How many may run at a time.
    pub compactors: u8,
}

/// The operator's side of an engine. What takes long is a future; nothing here holds up requests.
pub trait Upkeep: Send + Sync {
    /// Resolves when all that was applied before is in SSTables (or their like). `None`: every table.
    fn flush(&self, table: Option<TableId>) -> BoxFuture<'static, Result<(), StorageError>>;
    /// A major compaction of one table, or all; resolves when it is done.
    fn compact(&self, table: Option<TableId>) -> BoxFuture<'static, Result<(), StorageError>>;
    /// Automatic compaction of one table, or all, on or off. A compaction under way pauses at its next step.
    fn set_auto_compaction(&self, table: Option<TableId>, on: bool);
    /// The compaction throttle; 0 is none.
    fn set_compaction_throughput(&self, bytes_per_s: u64);
    /// How many compactions may run at a time: 1 to 8. Those under way run to their end.
    fn set_concurrent_compactors(&self, compactors: u8);
    /// SSTables that point reads of one table have opened, and those that they passed by, so far; `None`: the engine
    /// has no such files.
    fn sstables_read(&self, table: TableId) -> Option<(u64, u64)> {
        let _ = table;
        None
    }
    /// Figures per table.
    fn table_figures(&self) -> BTreeMap<TableId, TableFigures>;
    /// Figures of the engine as a whole.
    fn engine_figures(&self) -> EngineFigures;
    /// What compaction is doing.
    fn compaction_figures(&self) -> CompactionFigures;
    /// Reads what there is and reports what does not hold. Changes nothing. Ends when nobody waits for it any more; one
    /// verify or scrub runs at a time.
    fn verify(
        &self,
        options: VerifyOptions,
    ) -> BoxFuture<'static, Result<VerifyReport, StorageError>>;
    /// Writes damaged SSTables anew, with all that can still be read. Goes on though nobody waits for it.
    fn scrub(&self, options: ScrubOptions)
    -> BoxFuture<'static, Result<ScrubReport, StorageError>>;
    /// Keeps the tables (`None`: all of them) as they are now under a name, durably.
    fn snapshot(
        &self,
        tag: String,
        tables: Option<Vec<TableId>>,
    ) -> BoxFuture<'static, Result<(), StorageError>>;
    /// The snapshots there are, by tag and table.
    fn list_snapshots(&self) -> BoxFuture<'static, Result<Vec<SnapshotFigures>, StorageError>>;
    /// Removes a snapshot (`None`: all of them) of the tables (`None`: of all). Gives how many tables' snapshots went.
    fn clear_snapshots(
        &self,
        tag: Option<String>,
        tables: Option<Vec<TableId>>,
    ) -> BoxFuture<'static, Result<u64, StorageError>>;
}
