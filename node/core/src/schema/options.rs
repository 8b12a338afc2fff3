//! A table's options, as text and as values. Text comes from statements, from peers and from files, so it is checked here
//! and nowhere else.

use std::collections::BTreeMap;

/// Whether a read that finds its replicas in disagreement repairs them before it answers (CASSANDRA-10726, -14534).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ReadRepair {
    /// The default: the answer waits until a quorum holds it, which makes quorum reads monotonic.
    #[default]
    Blocking,
    /// Reconcile for the reader, repair nothing: partition writes stay atomic, reads may go back in time.
    None,
}

/// What a client hears of an acknowledged write that a replica missed and that no hint was kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum HintRefused {
    /// The default: the write is a success with a warning.
    #[default]
    Warn,
    /// A failure, with the reason `HINT_REFUSED` for that replica. The others hold the write.
    Error,
}

/// How SSTables are chosen for compaction (`helenus_core::compaction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum CompactionClass {
    /// SSTables of like size, for tables that are mostly written. The default.
    #[default]
    SizeTiered,
    /// Levels of SSTables that do not overlap, for tables that are mostly read.
    Leveled,
    /// One SSTable for each window of time, for series that expire.
    TimeWindow,
}

impl CompactionClass {
    const ALL: [(CompactionClass, &'static str, &'static str); 3] = [
        (CompactionClass::SizeTiered, "SizeTieredCompactionStrategy", "STCS"),
        (CompactionClass::Leveled, "LeveledCompactionStrategy", "LCS"),
        (CompactionClass::TimeWindow, "TimeWindowCompactionStrategy", "TWCS"),
    ];

    /// Cassandra's name, with or without its package, or the abbreviation.
    fn parse(text: &str) -> Option<CompactionClass> {
        let name = text.strip_prefix("org.apache.cassandra.db.compaction.").unwrap_or(text);
        let (class, ..) = CompactionClass::ALL.into_iter().find(|(_, full, short)| {
            name.eq_ignore_ascii_case(full) || name.eq_ignore_ascii_case(short)
        })?;
        Some(class)
    }

    /// Cassandra's name, without its package.
    pub fn as_str(self) -> &'static str {
        let named = CompactionClass::ALL.into_iter().find(|(class, ..)| *class == self);
        named.map_or("", |(_, full, _)| full)
    }
}

/// What a time window is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub enum WindowUnit {
    Minutes,
    Hours,
    #[default]
    Days,
}

impl WindowUnit {
    const ALL: [(WindowUnit, &'static str, u64); 3] = [
        (WindowUnit::Minutes, "MINUTES", 60),
        (WindowUnit::Hours, "HOURS", 3600),
        (WindowUnit::Days, "DAYS", 86_400),
    ];

    fn parse(text: &str) -> Option<WindowUnit> {
        let named =
            WindowUnit::ALL.into_iter().find(|(_, name, _)| text.eq_ignore_ascii_case(name));
        named.map(|(unit, ..)| unit)
    }

    fn as_str(self) -> &'static str {
        WindowUnit::ALL.into_iter().find(|(unit, ..)| *unit == self).map_or("", |(_, name, _)| name)
    }

    /// One of it, in microseconds.
    pub fn micros(self) -> u64 {
        let seconds = WindowUnit::ALL.into_iter().find(|(unit, ..)| *unit == self);
        seconds.map_or(0, |(_, _, seconds)| seconds * 1_000_000)
    }
}

/// A table's options, under Cassandra's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableOptions {
    /// `read_repair`.
    pub read_repair: ReadRepair,
    /// `hint_refused`.
    pub hint_refused: HintRefused,
    /// `gc_grace_seconds`: how long a tombstone is kept for replicas that missed it. Default 864000 (ten days).
    pub gc_grace_seconds: u32,
    /// `default_time_to_live` in seconds; 0 is none.
    pub default_time_to_live: u32,
    /// `bloom_filter_fp_chance`, in parts per million so that options stay comparable. Default 10000 (0.01).
    pub bloom_filter_fp_ppm: u32,
    /// `compression`: lz4 blocks in SSTables. Default on.
    pub compression: bool,
    /// Size-tiered `min_threshold`: fewer similar SSTables than this are left alone. Default 4.
    pub min_threshold: u32,
    /// Size-tiered `max_threshold`: at most so many are compacted at once. Default 32.
    pub max_threshold: u32,
    /// Size-tiered `min_sstable_size` in bytes: SSTables smaller than this are all alike. Default 50 MiB.
    pub min_sstable_size: u64,
    /// `compaction.class`. Default size-tiered.
    pub compaction_class: CompactionClass,
    /// Size-tiered `bucket_low` in parts per million: an SSTable joins a bucket if it is larger than this part of the
    /// bucket's average. Default 500000 (0.5).
    pub bucket_low_ppm: u32,
    /// Size-tiered `bucket_high` in parts per million: and smaller than this multiple of it. Default 1500000 (1.5).
    pub bucket_high_ppm: u32,
    /// Leveled: an SSTable of level 1 and up has about so many bytes. Cassandra calls it `sstable_size_in_mb`. Default
    /// 160 MiB.
    pub sstable_size: u64,
    /// Leveled `fanout_size`: each level holds so many times what the one before it holds. Default 10.
    pub fanout_size: u32,
    /// Time-window `compaction_window_unit`. Default days.
    pub compaction_window_unit: WindowUnit,
    /// Time-window `compaction_window_size`, in its units. Default 1.
    pub compaction_window_size: u32,
    /// `tombstone_threshold` in parts per million: a single SSTable is rewritten if more than this part of it could be
    /// dropped. Default 200000 (0.2).
    pub tombstone_threshold_ppm: u32,
    /// `tombstone_compaction_interval` in seconds: but not one that is younger than this, at least 1. Default 86400 (a day).
    pub tombstone_compaction_interval: u32,
    /// `unchecked_tombstone_compaction`: rewrite it although overlapping SSTables may keep its tombstones needed. Default
    /// off.
    pub unchecked_tombstone_compaction: bool,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions {
            read_repair: ReadRepair::Blocking,
            hint_refused: HintRefused::Warn,
            gc_grace_seconds: 864_000,
            default_time_to_live: 0,
            bloom_filter_fp_ppm: 10_000,
            compression: true,
            min_threshold: 4,
            max_threshold: 32,
            min_sstable_size: 50 << 20,
            compaction_class: CompactionClass::SizeTiered,
            bucket_low_ppm: PPM / 2,
            bucket_high_ppm: PPM / 2 * 3,
            sstable_size: 160 << 20,
            fanout_size: 10,
            compaction_window_unit: WindowUnit::Days,
            compaction_window_size: 1,
            tombstone_threshold_ppm: PPM / 5,
            tombstone_compaction_interval: 86_400,
            unchecked_tombstone_compaction: false,
        }
    }
}

/// Why an option cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// There is no such option.
    #[error("unknown table option `{name}`{}", nearest.map(|n| format!(": did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// What was given.
        name: String,
        /// The option that is spelled most like it, if one is.
        nearest: Option<&'static str>,
    },
    /// There is, but it cannot have this value.
    #[error("table option `{name}` cannot be `{value}`: it takes {expected}")]
    Invalid {
        /// The option.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// The thresholds contradict each other.
    #[error(
        "`compaction.min_threshold` is {min}, which is more than `compaction.max_threshold`, {max}: no compaction could \
         ever start"
    )]
    Thresholds {
        /// `compaction.min_threshold`.
        min: u32,
        /// `compaction.max_threshold`.
        max: u32,
    },
    /// No SSTable would be like a bucket.
    #[error(
        "`compaction.bucket_low` is {}, which is more than `compaction.bucket_high`, {}: no two SSTables would be of like \
         size", ratio_text(*low_ppm), ratio_text(*high_ppm)
    )]
    Buckets {
        /// `compaction.bucket_low`, in parts per million.
        low_ppm: u32,
        /// `compaction.bucket_high`, in parts per million.
        high_ppm: u32,
    },
}

/// An option's name, what it takes, and how it is read and written.
struct TableOption {
    name: &'static str,
    expected: &'static str,
    /// Says whether the value was one.
    set: fn(&mut TableOptions, &str) -> bool,
    get: fn(&TableOptions) -> String,
}

/// Stores a value that parsed and is within bounds.
fn put<T>(slot: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            *slot = value;
            true
        }
        None => false,
    }
}

fn seconds(text: &str, max: u32) -> Option<u32> {
    text.parse().ok().filter(|seconds| *seconds <= max)
}

/// Cassandra's bound on TTLs: 20 years.
const TTL_MAX_S: u32 = 20 * 365 * 86_400;

const PPM: u32 = 1_000_000;

/// The least `compaction.sstable_size`: smaller ones would be mostly index.
const SSTABLE_SIZE_MIN: u64 = 4096;

/// A number between 0 and `max`, in parts per million.
fn ratio_ppm(text: &str, max: u32) -> Option<u32> {
    let ppm = (text.parse::<f64>().ok()? * f64::from(PPM)).round();
    // NaN is in no range.
    let legal = (0.0..=f64::from(max) * f64::from(PPM)).contains(&ppm);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    legal.then_some(ppm as u32)
}

fn ratio_text(ppm: u32) -> String {
    (f64::from(ppm) / f64::from(PPM)).to_string()
}

fn flag(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

/// A share between 0.00007 (fewer false positives would take more than 20 bits a key) and 1 (no filter).
fn share_ppm(text: &str) -> Option<u32> {
    let share: f64 = text.parse().ok()?;
    let ppm = (share * f64::from(PPM)).round();
    // NaN is in no range.
    let legal = (70.0..=f64::from(PPM)).contains(&ppm);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    legal.then_some(ppm as u32)
}

/// By name, sorted.
const OPTIONS: [TableOption; 19] = [
    TableOption {
        name: "bloom_filter_fp_chance",
        expected: "a share between 0.00007 and 1",
        set: |options, text| put(&mut options.bloom_filter_fp_ppm, share_ppm(text)),
        get: |options| ratio_text(options.bloom_filter_fp_ppm),
    },
    TableOption {
        name: "compaction.bucket_high",
        expected: "a number between 0 and 1000",
        set: |options, text| put(&mut options.bucket_high_ppm, ratio_ppm(text, 1000)),
        get: |options| ratio_text(options.bucket_high_ppm),
    },
    TableOption {
        name: "compaction.bucket_low",
        expected: "a number between 0 and 1",
        set: |options, text| put(&mut options.bucket_low_ppm, ratio_ppm(text, 1)),
        get: |options| ratio_text(options.bucket_low_ppm),
    },
    TableOption {
        name: "compaction.class",
        expected: "`SizeTieredCompactionStrategy` (STCS), `LeveledCompactionStrategy` (LCS) or `TimeWindowCompactionStrategy` (TWCS)",
        set: |options, text| put(&mut options.compaction_class, CompactionClass::parse(text)),
        get: |options| options.compaction_class.as_str().to_owned(),
    },
    TableOption {
        name: "compaction.compaction_window_size",
        expected: "a number of units, at least 1",
        set: |options, text| {
            put(&mut options.compaction_window_size, text.parse().ok().filter(|n| *n >= 1))
        },
        get: |options| options.compaction_window_size.to_string(),
    },
    TableOption {
        name: "compaction.compaction_window_unit",
        expected: "`MINUTES`, `HOURS` or `DAYS`",
        set: |options, text| put(&mut options.compaction_window_unit, WindowUnit::parse(text)),
        get: |options| options.compaction_window_unit.as_str().to_owned(),
    },
    TableOption {
        name: "compaction.fanout_size",
        expected: "a whole number from 2 to 1000",
        set: |options, text| {
            put(&mut options.fanout_size, text.parse().ok().filter(|n| (2..=1000).contains(n)))
        },
        get: |options| options.fanout_size.to_string(),
    },
    TableOption {
        name: "compaction.max_threshold",
        expected: "a number of SSTables, at least 2",
        set: |options, text| put(&mut options.max_threshold, text.parse().ok().filter(|n| *n >= 2)),
        get: |options| options.max_threshold.to_string(),
    },
    TableOption {
        name: "compaction.min_sstable_size",
        expected: "bytes, as a whole number",
        set: |options, text| put(&mut options.min_sstable_size, text.parse().ok()),
        get: |options| options.min_sstable_size.to_string(),
    },
    TableOption {
        name: "compaction.min_threshold",
        expected: "a number of SSTables, at least 2",
        set: |options, text| put(&mut options.min_threshold, text.parse().ok().filter(|n| *n >= 2)),
        get: |options| options.min_threshold.to_string(),
    },
    TableOption {
        name: "compaction.sstable_size",
        expected: "bytes, as a whole number, at least 4096 (Cassandra's `sstable_size_in_mb` times 1048576)",
        set: |options, text| {
            put(&mut options.sstable_size, text.parse().ok().filter(|n| *n >= SSTABLE_SIZE_MIN))
        },
        get: |options| options.sstable_size.to_string(),
    },
    TableOption {
        name: "compaction.tombstone_compaction_interval",
        expected: "seconds, at least 1: at 0 an SSTable whose tombstones must stay would be rewritten for ever",
        set: |options, text| {
            let interval = seconds(text, u32::MAX).filter(|seconds| *seconds > 0);
            put(&mut options.tombstone_compaction_interval, interval)
        },
        get: |options| options.tombstone_compaction_interval.to_string(),
    },
    TableOption {
        name: "compaction.tombstone_threshold",
        expected: "a share between 0 and 1",
        set: |options, text| put(&mut options.tombstone_threshold_ppm, ratio_ppm(text, 1)),
        get: |options| ratio_text(options.tombstone_threshold_ppm),
    },
    TableOption {
        name: "compaction.unchecked_tombstone_compaction",
        expected: "`true` or `false`",
        set: |options, text| put(&mut options.unchecked_tombstone_compaction, flag(text)),
        get: |options| options.unchecked_tombstone_compaction.to_string(),
    },
    TableOption {
        name: "compression",
        expected: "`lz4` or `none`",
        set: |options, text| {
            let on = match text.to_ascii_lowercase().as_str() {
                "lz4" => Some(true),
                "none" => Some(false),
                _ => None,
            };
            put(&mut options.compression, on)
        },
        get: |options| if options.compression { "lz4" } else { "none" }.to_owned(),
    },
    TableOption {
        name: "default_time_to_live",
        expected: "seconds, at most 630720000 (20 years); 0 is none",
        set: |options, text| put(&mut options.default_time_to_live, seconds(text, TTL_MAX_S)),
        get: |options| options.default_time_to_live.to_string(),
    },
    TableOption {
        name: "gc_grace_seconds",
        expected: "seconds, as a whole number",
        set: |options, text| put(&mut options.gc_grace_seconds, seconds(text, u32::MAX)),
        get: |options| options.gc_grace_seconds.to_string(),
    },
    TableOption {
        name: "hint_refused",
        expected: "`WARN` or `ERROR`",
        set: |options, text| {
            let refused = match text.to_ascii_uppercase().as_str() {
                "WARN" => Some(HintRefused::Warn),
                "ERROR" => Some(HintRefused::Error),
                _ => None,
            };
            put(&mut options.hint_refused, refused)
        },
        get: |options| {
            match options.hint_refused {
                HintRefused::Warn => "WARN",
                HintRefused::Error => "ERROR",
            }
            .to_owned()
        },
    },
    TableOption {
        name: "read_repair",
        expected: "`BLOCKING` or `NONE`",
        set: |options, text| {
            let repair = match text.to_ascii_uppercase().as_str() {
                "BLOCKING" => Some(ReadRepair::Blocking),
                "NONE" => Some(ReadRepair::None),
                _ => None,
            };
            put(&mut options.read_repair, repair)
        },
        get: |options| {
            match options.read_repair {
                ReadRepair::Blocking => "BLOCKING",
                ReadRepair::None => "NONE",
            }
            .to_owned()
        },
    },
];

impl TableOptions {
    /// Sets one option by its name in Cassandra. Thresholds are checked against each other by
    /// [`TableOptions::check`], since they are set one after the other.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            return Err(OptionError::Unknown { name: name.to_owned(), nearest: nearest(name) });
        };
        if (option.set)(self, value.trim()) {
            return Ok(());
        }
        let value = value.to_owned();
        Err(OptionError::Invalid { name: option.name, value, expected: option.expected })
    }

    /// Whether the options fit together.
    pub fn check(&self) -> Result<(), OptionError> {
        let (min, max) = (self.min_threshold, self.max_threshold);
        if min > max {
            return Err(OptionError::Thresholds { min, max });
        }
        let (low_ppm, high_ppm) = (self.bucket_low_ppm, self.bucket_high_ppm);
        if low_ppm > high_ppm { Err(OptionError::Buckets { low_ppm, high_ppm }) } else { Ok(()) }
    }

    /// The defaults with these options set, and checked.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TableOptions, OptionError> {
        let mut options = TableOptions::default();
        for (name, value) in pairs {
            options.set(name, value)?;
        }
        options.check()?;
        Ok(options)
    }

    /// Every option as text, by name. [`TableOptions::from_pairs`] reads it back.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        OPTIONS.iter().map(|option| (option.name.to_owned(), (option.get)(self))).collect()
    }

    /// The options that are not at their defaults, as text. What nodes exchange and compare: a build that knows one option
    /// more agrees with one that does not, until somebody sets it. CAVEAT: a default can never change.
    pub fn to_set_map(&self) -> BTreeMap<String, String> {
        let standard = TableOptions::default();
        let set = OPTIONS.iter().map(|option| (option, (option.get)(self)));
        set.filter(|(option, value)| *value != (option.get)(&standard))
            .map(|(option, value)| (option.name.to_owned(), value))
            .collect()
    }
}

/// The option that was probably meant. People leave `compaction.` out.
fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let distance = |option: &TableOption| {
        let short = option.name.rsplit('.').next().unwrap_or(option.name);
        strsim::damerau_levenshtein(option.name, &name)
            .min(strsim::damerau_levenshtein(short, &name))
    };
    OPTIONS
        .iter()
        .map(|option| (distance(option), option.name))
        .min()
        // Half of the letters wrong is another word, not a slip.
        .filter(|(distance, _)| distance * 2 < name.len())
        .map(|(_, name)| name)
}
