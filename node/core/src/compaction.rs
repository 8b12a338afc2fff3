//! Which SSTables to compact next, and into what: size-tiered, leveled or time-window, as Cassandra does it.
//!
//! Choosing is pure: [`choose`] says what, the engine does it, apart. Which is why the tests below can simulate years
//! of flushes without a disk. What the engine must tell is in [`Table`]: the SSTables, and the compactions that run.
//!
//! In this order:
//! 1. SSTables of which nothing is needed any more are dropped whole ([`Action::Drop`]), whatever the strategy;
//! 2. what the strategy wants: `size_tiered`, `leveled`, `time_window`;
//! 3. with nothing else to do, one SSTable that is full of tombstones is rewritten by itself.
//!
//! Invariants:
//! - an SSTable that a running compaction has is in no other choice;
//! - leveled: SSTables of one level from 1 on do not overlap, also when compactions run side by side: what is chosen never
//!   reaches into the span that a running compaction writes to the same level.
//!
//! CAVEAT: a compaction needs room for its output beside its inputs, so size-tiered compaction of the largest bucket may
//! need as much free space as the table has data.

mod expired;
mod leveled;
mod size_tiered;
mod strategy;
mod time_window;
mod tombstones;

pub use leveled::{LEVELS_MAX, Rounds};
pub use strategy::{Leveled, SizeTiered, Strategy, TimeWindow, Tombstones};

use crate::schema::CompactionClass;
use crate::types::{TimestampMicros, Token};

/// An SSTable, as far as the choice needs to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its number. Later SSTables have larger ones.
    pub id: u64,
    /// Its size on disk.
    pub bytes: u64,
    /// Leveled: how deep it lies. Flushes arrive in level 0.
    pub level: u32,
    /// The token of its first partition.
    pub first: Token,
    /// The token of its last partition.
    pub last: Token,
    /// The smallest timestamp of anything in it; the smallest of all when nobody knows.
    pub min_timestamp: TimestampMicros,
    /// The largest timestamp of anything in it; the largest of all when nobody knows.
    pub max_timestamp: TimestampMicros,
    /// The share of it that gc_grace would let go by now: 0 to 1.
    pub droppable_ratio: f64,
    /// Everything in it was deleted or has expired, longer than gc_grace ago.
    pub expired: bool,
    /// Seconds since it was written.
    pub age_s: u64,
    /// Reads per second and partition; 0 where nobody counts them.
    pub hotness: f64,
    /// Leveled: the share of its partitions of which level 1 has an older version, as far as it is known: 0 to 1.
    pub overwrites: f64,
}

impl Candidate {
    /// An SSTable of which only the size is known: it may hold anything, from anywhere on the ring.
    pub fn new(id: u64, bytes: u64) -> Candidate {
        Candidate {
            id,
            bytes,
            level: 0,
            first: Token::MIN,
            last: Token::MAX,
            min_timestamp: TimestampMicros(i64::MIN),
            max_timestamp: TimestampMicros(i64::MAX),
            droppable_ratio: 0.0,
            expired: false,
            age_s: 0,
            hotness: 0.0,
            overwrites: 0.0,
        }
    }

    /// Whether a partition may be in both, by their tokens.
    pub fn overlaps(&self, other: &Candidate) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// A compaction under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// What it has, by [`Candidate::id`].
    pub inputs: Vec<u64>,
    /// Where its output goes.
    pub level: u32,
}

/// A table as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Every SSTable, those that are being compacted too.
    pub sstables: &'a [Candidate],
    /// What is being compacted.
    pub running: &'a [Running],
    /// The smallest timestamp in memtables; `None`: they are empty.
    pub memtable_min_timestamp: Option<TimestampMicros>,
    /// Leveled: where each level goes on.
    pub rounds: &'a Rounds,
}

impl<'a> Table<'a> {
    /// What no running compaction has.
    fn free(&self) -> Vec<&'a Candidate> {
        self.sstables.iter().filter(|sstable| !self.is_busy(sstable.id)).collect()
    }

    fn is_busy(&self, id: u64) -> bool {
        self.running.iter().any(|running| running.inputs.contains(&id))
    }
}

/// Why these SSTables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// There are enough of like size.
    Tier,
    /// A level holds more than it should.
    Level,
    /// Level 0 is so far behind that it is tidied by size first.
    LevelZero,
    /// A time window is over, so it becomes one SSTable.
    Window,
    /// There is nothing better to do, and much of this one could be dropped.
    Tombstones,
    /// Nothing of them is needed any more.
    Expired,
    /// An operator asked for everything.
    Major,
}

impl Reason {
    /// For figures and for the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Tier => "size-tiered",
            Reason::Level => "leveled",
            Reason::LevelZero => "size-tiered in level 0",
            Reason::Window => "time-window",
            Reason::Tombstones => "tombstones",
            Reason::Expired => "expired",
            Reason::Major => "major",
        }
    }
}

/// What to do with the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Merge them into new SSTables.
    Merge,
    /// Nothing overlaps them where they go: they change their level, and not a byte is written.
    Move,
    /// Forget them.
    Drop,
}

/// What to compact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The SSTables, by [`Candidate::id`]. Invariant: ascending, not empty.
    pub inputs: Vec<u64>,
    /// Their bytes together.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
    /// What to do with them.
    pub action: Action,
    /// The level of the output.
    pub level: u32,
    /// An output that has grown to this is closed, and another one begun.
    pub output_bytes_max: u64,
    /// Leveled: the round that this is part of. Give it to [`Rounds::advance`] once the compaction is under way.
    pub round: Option<(u32, Token)>,
}

impl Choice {
    /// Merges into one SSTable of level 0.
    fn merge(inputs: &[&Candidate], reason: Reason) -> Choice {
        let mut ids: Vec<u64> = inputs.iter().map(|s| s.id).collect();
        ids.sort_unstable();
        Choice {
            inputs: ids,
            bytes: total(inputs),
            reason,
            action: Action::Merge,
            level: 0,
            output_bytes_max: u64::MAX,
            round: None,
        }
    }

    /// As a compaction under way.
    pub fn running(&self) -> Running {
        Running { inputs: self.inputs.clone(), level: self.level }
    }
}

/// What to compact next, if anything.
pub fn choose(table: &Table<'_>, strategy: &Strategy) -> Option<Choice> {
    let free = table.free();
    let wanted = || match strategy.class {
        CompactionClass::SizeTiered => size_tiered::choose(&free, &strategy.tiers)
            .map(|bucket| Choice::merge(&bucket, Reason::Tier)),
        CompactionClass::Leveled => leveled::choose(table, strategy),
        CompactionClass::TimeWindow => time_window::choose(&free, strategy),
    };
    expired::choose(table, &free)
        .or_else(wanted)
        .or_else(|| tombstones::choose(table, &free, strategy))
}

/// About how many compactions it would take until nothing is left to choose, by the SSTables there are now; what is being
/// compacted doesn't count. As Cassandra estimates it: full buckets, bytes above each level's size, windows to merge.
pub fn pending_tasks(table: &Table<'_>, strategy: &Strategy) -> u64 {
    let free = table.free();
    match strategy.class {
        CompactionClass::SizeTiered => size_tiered::pending_tasks(&free, &strategy.tiers),
        CompactionClass::Leveled => leveled::pending_tasks(&free, strategy),
        CompactionClass::TimeWindow => time_window::pending_tasks(&free, strategy),
    }
}

/// A major compaction: everything into one SSTable, or (leveled) into the first level that is large enough. `None` when
/// there is nothing, or when some of it is being compacted.
pub fn choose_all(table: &Table<'_>, strategy: &Strategy) -> Option<Choice> {
    let all: Vec<&Candidate> = table.sstables.iter().collect();
    if all.is_empty() || !table.running.is_empty() {
        return None;
    }
    let choice = Choice::merge(&all, Reason::Major);
    Some(match strategy.class {
        CompactionClass::Leveled => Choice {
            level: leveled::level_for(choice.bytes, &strategy.leveled),
            output_bytes_max: strategy.leveled.sstable_size,
            ..choice
        },
        // CAVEAT: as in Cassandra, this joins all windows, and old data is no longer dropped whole.
        CompactionClass::SizeTiered | CompactionClass::TimeWindow => choice,
    })
}

fn total(sstables: &[&Candidate]) -> u64 {
    sstables.iter().map(|s| s.bytes).sum()
}

/// From the first token of any to the last of any. `None` of nothing.
fn hull<'a>(sstables: impl IntoIterator<Item = &'a Candidate>) -> Option<(Token, Token)> {
    sstables.into_iter().fold(None, |hull, s| match hull {
        None => Some((s.first, s.last)),
        Some((first, last)) => Some((s.first.min(first), s.last.max(last))),
    })
}

#[cfg(test)]
mod tests;
