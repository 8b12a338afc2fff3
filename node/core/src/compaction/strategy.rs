//! A table's strategy, with every figure that it goes by. Defaults are Cassandra's.

use crate::schema::{CompactionClass, TableOptions};

/// How a table is compacted. All figures are there whatever the class: leveled and time-window go by size within level 0
/// and within the newest window.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    /// Which of the strategies.
    pub class: CompactionClass,
    /// SSTables of like size.
    pub tiers: SizeTiered,
    /// Levels.
    pub leveled: Leveled,
    /// Time windows.
    pub window: TimeWindow,
    /// Single SSTables that are full of tombstones.
    pub tombstones: Tombstones,
}

/// Size-tiered compaction.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeTiered {
    /// Fewer SSTables of like size than this are left alone.
    pub min_threshold: u32,
    /// At most so many are compacted at once.
    pub max_threshold: u32,
    /// An SSTable joins a bucket if it is larger than this part of the bucket's average.
    pub bucket_low: f64,
    /// And smaller than this multiple of it.
    pub bucket_high: f64,
    /// SSTables smaller than this are all alike.
    pub min_sstable_size: u64,
}

/// Leveled compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leveled {
    /// An SSTable of a level from 1 on has about this many bytes.
    pub sstable_size: u64,
    /// Each level holds this many times what the one before it holds.
    pub fanout_size: u32,
}

/// Time-window compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeWindow {
    /// A window's length in microseconds. Never 0.
    pub window_us: u64,
}

/// When a single SSTable is rewritten for its tombstones.
#[derive(Debug, Clone, PartialEq)]
pub struct Tombstones {
    /// More than this part of it must be droppable.
    pub threshold: f64,
    /// But it is left alone while it is younger than this: rewriting it over and over would gain nothing.
    pub interval_s: u64,
    /// Rewrite it even where an overlapping SSTable may keep its tombstones needed.
    pub unchecked: bool,
}

impl Default for Strategy {
    fn default() -> Self {
        Strategy::of(&TableOptions::default())
    }
}

fn share(ppm: u32) -> f64 {
    f64::from(ppm) / 1e6
}

impl Strategy {
    /// As a table's options say.
    pub fn of(options: &TableOptions) -> Strategy {
        let unit = options.compaction_window_unit.micros();
        Strategy {
            class: options.compaction_class,
            tiers: SizeTiered {
                min_threshold: options.min_threshold,
                max_threshold: options.max_threshold,
                bucket_low: share(options.bucket_low_ppm),
                bucket_high: share(options.bucket_high_ppm),
                min_sstable_size: options.min_sstable_size,
            },
            leveled: Leveled {
                sstable_size: options.sstable_size.max(1),
                fanout_size: options.fanout_size.max(2),
            },
            window: TimeWindow {
                window_us: unit.saturating_mul(u64::from(options.compaction_window_size.max(1))),
            },
            tombstones: Tombstones {
                threshold: share(options.tombstone_threshold_ppm),
                // Never 0: an SSTable whose tombstones must stay would be rewritten for ever.
                interval_s: u64::from(options.tombstone_compaction_interval.max(1)),
                unchecked: options.unchecked_tombstone_compaction,
            },
        }
    }
}

impl SizeTiered {
    /// The thresholds as counts. Compacting one SSTable by itself for its size would go on for ever, so both are at
    /// least 2.
    pub(super) fn thresholds(&self) -> (usize, usize) {
        let min = usize::try_from(self.min_threshold).unwrap_or(usize::MAX).max(2);
        let max = usize::try_from(self.max_threshold).unwrap_or(usize::MAX).max(min);
        (min, max)
    }
}
