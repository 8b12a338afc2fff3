//! Storage's figures, as they travel.

use crate::storage::{CompactionFigures, TableFigures, history};
use helenus_core::TableId;
use helenus_proto::v1;

/// A table's.
pub(super) fn table(keyspace: String, table: String, f: TableFigures) -> v1::TableStats {
    v1::TableStats {
        keyspace,
        table,
        sstables: f.sstables,
        live_bytes: f.live_bytes,
        memtable_bytes: f.memtable_bytes,
        memtable_partitions: f.memtable_partitions,
        reads: f.reads,
        writes: f.writes,
        flushes: f.flushes,
        compactions: f.compactions,
        bloom_false_positives: f.bloom_false_positives,
        pending_compactions: f.pending_compactions,
        sstables_read: f.sstables_read,
        levels: f.levels,
        flushed_bytes: f.flushed_bytes,
        compacted_bytes_read: f.compacted_bytes_read,
        compacted_bytes_written: f.compacted_bytes_written,
        raw_bytes: f.raw_bytes,
        live_raw_bytes: f.live_raw_bytes,
        droppable_tombstone_ratio: f64::from(f.droppable_tombstones_ppm) / 1e6,
    }
}

/// What compaction is doing. `name` gives a table's keyspace and name.
pub(super) fn compactions(
    figures: CompactionFigures,
    name: impl Fn(TableId) -> (String, String),
) -> v1::CompactionStatsResponse {
    let running = figures.running.into_iter().map(|r| {
        let (keyspace, table) = name(r.table);
        v1::RunningCompaction {
            keyspace,
            table,
            done_bytes: r.done_bytes,
            total_bytes: r.total_bytes,
            id: r.id,
            reason: r.reason.to_owned(),
            level: r.level,
        }
    });
    v1::CompactionStatsResponse {
        pending_tasks: figures.pending_tasks,
        running: running.collect(),
        auto_compaction: figures.auto_compaction,
        throughput_bytes_per_s: figures.throughput_bytes_per_s,
        completed: figures.completed,
        compactors: u32::from(figures.compactors),
    }
}

/// A compaction that ended.
pub(super) fn finished(
    record: history::Record,
    name: impl Fn(TableId) -> (String, String),
) -> v1::FinishedCompaction {
    let (keyspace, table) = name(TableId(record.table));
    v1::FinishedCompaction {
        id: record.id,
        ended_us: record.ended_us,
        keyspace,
        table,
        reason: record.reason,
        level: record.level,
        inputs: record.inputs,
        outputs: record.outputs,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        partitions_in: record.partitions_in,
        partitions_out: record.partitions_out,
    }
}
