//! Storage's figures for Prometheus, read from the engine at each scrape.
//!
//! SSTables and compactions that pile up are how a node that takes too many writes is noticed before its reads are slow.

use super::{Engine, EngineFigures, TableFigures};
use crate::schema::SchemaStore;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;

/// Register it with `Registry::register_collector`. Labels are bounded by the tables that exist.
pub struct StorageMetrics {
    engine: Arc<dyn Engine>,
    /// For the tables' names.
    schema: Arc<SchemaStore>,
}

impl fmt::Debug for StorageMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageMetrics").finish_non_exhaustive()
    }
}

/// Name, help, type and value of a figure.
type Figure = (&'static str, &'static str, MetricType, fn(&TableFigures) -> u64);
const FIGURES: [Figure; 19] = [
    ("table_sstables", "SSTables", MetricType::Gauge, |t| t.sstables),
    ("table_live_bytes", "Bytes of SSTables", MetricType::Gauge, |t| t.live_bytes),
    ("table_memtable_bytes", "Bytes in memtables", MetricType::Gauge, |t| t.memtable_bytes),
    ("table_memtable_partitions", "Partitions in memtables", MetricType::Gauge, |t| {
        t.memtable_partitions
    }),
    ("table_pending_compactions", "Compactions that wait", MetricType::Gauge, |t| {
        t.pending_compactions
    }),
    ("table_reads", "Reads of storage", MetricType::Counter, |t| t.reads),
    ("table_scans", "Pages and scans of token ranges", MetricType::Counter, |t| t.scans),
    (
        "table_sstables_read",
        "SSTables of which a point read opened a block; divided by reads, the read amplification",
        MetricType::Counter,
        |t| t.sstables_read,
    ),
    (
        "table_blocks_read",
        "Blocks of SSTables that point reads opened, in the cache or on the disk",
        MetricType::Counter,
        |t| t.blocks_read,
    ),
    (
        "table_sstables_skipped",
        "SSTables that point reads passed by since they had found something newer than all in there",
        MetricType::Counter,
        |t| t.sstables_skipped,
    ),
    ("table_writes", "Writes to storage", MetricType::Counter, |t| t.writes),
    ("table_flushes", "Memtables written to SSTables", MetricType::Counter, |t| t.flushes),
    ("table_flushed_bytes", "Bytes that flushes wrote", MetricType::Counter, |t| t.flushed_bytes),
    ("table_compactions", "Compactions done", MetricType::Counter, |t| t.compactions),
    ("table_compacted_bytes", "Bytes that compactions wrote", MetricType::Counter, |t| {
        t.compacted_bytes_written
    }),
    ("table_compaction_read_bytes", "Bytes that compactions read", MetricType::Counter, |t| {
        t.compacted_bytes_read
    }),
    (
        "table_raw_bytes",
        "Keys and values in SSTables, unpacked, every version",
        MetricType::Gauge,
        |t| t.raw_bytes,
    ),
    (
        "table_live_raw_bytes",
        "An estimate of those that no newer SSTable overwrites",
        MetricType::Gauge,
        |t| t.live_raw_bytes,
    ),
    (
        "table_bloom_false_positives",
        "Reads of an SSTable that its bloom filter should have spared",
        MetricType::Counter,
        |t| t.bloom_false_positives,
    ),
];

impl StorageMetrics {
    /// The metrics of `engine`.
    pub fn new(engine: Arc<dyn Engine>, schema: Arc<SchemaStore>) -> StorageMetrics {
        StorageMetrics { engine, schema }
    }
}

impl Collector for StorageMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let view = self.schema.current();
        let figures = self.engine.table_figures();
        // A table that was dropped a moment ago may still have figures, and has no name any more.
        let tables: Vec<_> = figures
            .iter()
            .filter_map(|(id, figures)| {
                let def = view.table(*id)?;
                Some(([("keyspace", def.keyspace.clone()), ("table", def.name.clone())], figures))
            })
            .collect();
        for (name, help, kind, value) in FIGURES {
            let counts = matches!(kind, MetricType::Counter);
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, figures) in &tables {
                let mut sample = family.encode_family(labels)?;
                match counts {
                    true => {
                        sample.encode_counter::<NoLabelSet, u64, u64>(&value(figures), None)?;
                    }
                    false => sample.encode_gauge(&value(figures))?,
                }
            }
        }
        let mut family = encoder.encode_descriptor(
            "table_level_sstables",
            "SSTables in a level",
            None,
            MetricType::Gauge,
        )?;
        for ([keyspace, table], figures) in &tables {
            for (level, sstables) in figures.levels.iter().enumerate() {
                let labels = [keyspace.clone(), table.clone(), ("level", level.to_string())];
                family.encode_family(&labels)?.encode_gauge(sstables)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "table_droppable_tombstone_ratio",
            "The share of cells in SSTables that are tombstones past gc_grace",
            None,
            MetricType::Gauge,
        )?;
        for (labels, figures) in &tables {
            let ratio = f64::from(figures.droppable_tombstones_ppm) / 1e6;
            family.encode_family(labels)?.encode_gauge(&ratio)?;
        }
        let compaction = self.engine.compaction_figures();
        let gauges = [
            (
                "compactions_pending",
                "Compactions that wait, of all tables",
                compaction.pending_tasks,
            ),
            ("compactions_running", "Compactions under way", compaction.running.len() as u64),
            (
                "concurrent_compactors",
                "Compactions that may run at a time",
                u64::from(compaction.compactors),
            ),
            (
                "storage_poisoned",
                "1 when storage takes no more writes until a restart; the log says why",
                u64::from(self.engine.poisoned().is_some()),
            ),
        ];
        for (name, help, value) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode_gauge(&value)?;
        }
        encode_engine(&self.engine.engine_figures(), &mut encoder)
    }
}

/// The engine as a whole.
fn encode_engine(
    engine: &EngineFigures,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let gauges = [
        ("commitlog_bytes", "Bytes of commit log segments", engine.log_bytes),
        ("commitlog_segments", "Commit log segments", engine.log_segments),
        ("memtables_waiting", "Memtables that wait to be flushed", engine.frozen_memtables),
        ("memtables_waiting_bytes", "Bytes of memtables that wait", engine.waiting_bytes),
    ];
    for (name, help, value) in gauges {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)?;
    }
    let counters = [
        ("commitlog_writes", "Writes of the commit log's buffer to its file", engine.log_writes),
        ("flush_failures", "Flushes that failed and are tried again", engine.flush_failures),
        ("compaction_failures", "Compactions that failed", engine.compaction_failures),
        (
            "storage_writes_slowed",
            "Writes whose acknowledgement was held back because flushing fell behind",
            engine.slowed,
        ),
        (
            "storage_writes_refused",
            "Writes refused because flushing did not keep up",
            engine.overloaded,
        ),
    ];
    for (name, help, value) in counters {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
    }
    let mut slowed = encoder.encode_descriptor(
        "storage_writes_slowed_seconds",
        "For how long acknowledgements were held back, in all",
        None,
        MetricType::Counter,
    )?;
    let seconds = engine.slowed_micros as f64 / 1e6;
    slowed.encode_counter::<NoLabelSet, f64, u64>(&seconds, None)
}
