//! Leveled: from level 1 on the SSTables of a level are small and do not overlap, so a read looks into one of each level;
//! each level holds `fanout_size` times what the one before it holds. The price is rewriting: a byte that goes down a
//! level takes along about `fanout_size` bytes that are there already.
//!
//! Flushes arrive in level 0, where they do overlap. A level that is over its size by more than a thousandth gives one
//! SSTable at a time to the next one, in rounds along the ring, together with what it overlaps there. Levels are looked at
//! from the deepest up: what is deep and too much would otherwise be taken along again and again.
//!
//! When more than 32 SSTables wait in level 0 they are compacted by size first, within level 0: reads need few SSTables
//! sooner than they need levels (CASSANDRA-5371).
//!
//! We differ from Cassandra in level 0: it compacts any two SSTables there, we wait for four times `sstable_size`, at which
//! Cassandra calls level 0 full, or for twice `min_threshold` (eight) SSTables. What is new lies over all of level 1, so all of
//! that is written anew each time, and the less often the better; a read asks up to seven more filters for it. But where
//! level 0 overwrites what lies deeper, waiting takes space: so it is compacted as soon as the versions that this would free
//! are a `fanout_size`th of level 1, which is what a byte costs on its way down anyway, if that is most of what is there.
//! Levels that were passed over for long are not taken along with others (its `NO_COMPACTION_LIMIT`).

use super::{
    Action, Candidate, Choice, Leveled, Reason, Strategy, Table, hull, size_tiered, total,
};
use crate::types::Token;
use std::collections::BTreeMap;

/// How many levels there are, level 0 included.
pub const LEVELS_MAX: u32 = 9;
/// With more SSTables than this, level 0 is compacted by size first.
const L0_TIERED_ABOVE: usize = 32;
/// Level 0 is full when it holds so many times `sstable_size`.
const L0_SSTABLES: u64 = 4;
/// Or so many times `min_threshold` SSTables.
const L0_THRESHOLDS: usize = 2;
/// A level may be over its size by as little as this.
const SCORE_MAX: f64 = 1.001;

/// Where each level goes on: behind the last token of what it gave away last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rounds(BTreeMap<u32, Token>);

impl Rounds {
    /// A choice is under way: its level's next one begins behind it.
    pub fn advance(&mut self, choice: &Choice) {
        if let Some((level, behind)) = choice.round {
            self.0.insert(level, behind);
        }
    }

    fn of(&self, level: u32) -> Token {
        self.0.get(&level).copied().unwrap_or(Token::MIN)
    }
}

/// What to compact next.
pub(super) fn choose(table: &Table<'_>, strategy: &Strategy) -> Option<Choice> {
    let levels = levels(table.sstables);
    let free = |level: usize| -> Vec<&Candidate> {
        let level = levels.get(level).map_or(&[][..], Vec::as_slice);
        level.iter().copied().filter(|s| !table.is_busy(s.id)).collect()
    };
    let tiered = || tier_level_zero(&free(0), strategy);
    for level in (1..levels.len()).rev() {
        let size = level_size(level, &strategy.leveled);
        if total(&free(level)) as f64 / size <= SCORE_MAX || level + 1 >= LEVELS_MAX as usize {
            continue;
        }
        if let Some(choice) = tiered() {
            return Some(choice);
        }
        if let Some(choice) = give_one_down(table, &levels, level, &strategy.leveled) {
            return Some(choice);
        }
    }
    from_level_zero(table, &levels, &free(0), strategy).or_else(tiered)
}

/// How many compactions of about one SSTable's size bring every level down to its own.
pub(super) fn pending_tasks(free: &[&Candidate], strategy: &Strategy) -> u64 {
    let levels = levels(free.iter().copied());
    let over = |(level, sstables): (usize, &Vec<&Candidate>)| {
        let allowed = level_size(level, &strategy.leveled) * SCORE_MAX;
        let over = total(sstables) as f64 - allowed;
        let tasks = (over / strategy.leveled.sstable_size as f64).ceil().max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates"
        )]
        let tasks = tasks as u64;
        tasks
    };
    let level_zero = levels.first().map_or(&[][..], Vec::as_slice);
    let waiting = level_zero.len();
    let (_, max) = strategy.tiers.thresholds();
    let tiered = if waiting > L0_TIERED_ABOVE { (waiting / max) as u64 } else { 0 };
    // The deepest level has nowhere to give to.
    let giving = levels.iter().enumerate().take(LEVELS_MAX as usize - 1);
    let count: u64 = giving.map(over).sum::<u64>() + tiered;
    // Small SSTables fill level 0 by their number.
    let frees = frees_enough(&levels, level_zero, &strategy.leveled);
    count.max(u64::from(is_full(level_zero, strategy) || frees))
}

/// Whether level 0 is full, by bytes or by number.
fn is_full(waiting: &[&Candidate], strategy: &Strategy) -> bool {
    let (min, _) = strategy.tiers.thresholds();
    let size = level_size(0, &strategy.leveled);
    waiting.len() >= min * L0_THRESHOLDS || total(waiting) as f64 / size > SCORE_MAX
}

/// Whether as much below is overwritten by these SSTables of level 0 as it may cost to take them down.
fn frees_enough(levels: &[Vec<&Candidate>], free: &[&Candidate], options: &Leveled) -> bool {
    let overwritten: f64 = free.iter().map(|s| s.bytes as f64 * s.overwrites).sum();
    let below = levels.get(1).map_or(0, |level| total(level)) as f64;
    // Half of it, at the least: filters err, and what is new may as well wait.
    let is_most = overwritten > 0.0 && 2.0 * overwritten >= total(free) as f64;
    is_most && overwritten * f64::from(options.fanout_size) >= below
}

/// The first level that takes so much.
pub(super) fn level_for(bytes: u64, options: &Leveled) -> u32 {
    (1..LEVELS_MAX - 1)
        .find(|level| bytes as f64 <= level_size(clamp(*level), options))
        .unwrap_or(LEVELS_MAX - 1)
}

fn clamp(level: u32) -> usize {
    level.min(LEVELS_MAX - 1) as usize
}

fn level_size(level: usize, options: &Leveled) -> f64 {
    let size = options.sstable_size as f64;
    match i32::try_from(level) {
        Ok(level @ 1..) => size * f64::from(options.fanout_size).powi(level),
        _ => size * L0_SSTABLES as f64,
    }
}

/// SSTables by level; from level 1 on in order of their tokens. What overlaps within such a level (it cannot, but files
/// come from outside too) counts as of level 0, so that it is set right.
fn levels<'a>(sstables: impl IntoIterator<Item = &'a Candidate>) -> Vec<Vec<&'a Candidate>> {
    let mut levels = vec![Vec::new(); LEVELS_MAX as usize];
    let mut sorted: Vec<&Candidate> = sstables.into_iter().collect();
    sorted.sort_by_key(|s| (s.first, s.id));
    for sstable in sorted {
        let level = clamp(sstable.level);
        let overlaps = levels
            .get(level)
            .and_then(|level: &Vec<&Candidate>| level.last())
            .is_some_and(|before| before.overlaps(sstable));
        if let Some(level) = levels.get_mut(if overlaps { 0 } else { level }) {
            level.push(sstable);
        }
    }
    levels
}

fn tier_level_zero(free: &[&Candidate], strategy: &Strategy) -> Option<Choice> {
    if free.len() <= L0_TIERED_ABOVE {
        return None;
    }
    let bucket = size_tiered::choose(free, &strategy.tiers)?;
    Some(Choice::merge(&bucket, Reason::LevelZero))
}

/// One SSTable of `level`, and what it overlaps in the next.
fn give_one_down(
    table: &Table<'_>,
    levels: &[Vec<&Candidate>],
    level: usize,
    options: &Leveled,
) -> Option<Choice> {
    let own = levels.get(level)?;
    let number = u32::try_from(level).ok()?;
    let behind = table.rounds.of(number);
    let start = own.partition_point(|s| s.first <= behind);
    let (before, after) = own.split_at_checked(start)?;
    let mut wanted = after.iter().chain(before).filter(|s| !table.is_busy(s.id));
    wanted.find_map(|sstable| {
        let choice = into_level(table, levels, vec![sstable], number + 1, options)?;
        Some(Choice { round: Some((number, sstable.last)), ..choice })
    })
}

/// `inputs` into a level from 1 on, with all that they overlap there. `None` if that is being compacted.
fn into_level<'a>(
    table: &Table<'_>,
    levels: &[Vec<&'a Candidate>],
    mut inputs: Vec<&'a Candidate>,
    level: u32,
    options: &Leveled,
) -> Option<Choice> {
    let (first, last) = hull(inputs.iter().copied())?;
    let there = levels.get(clamp(level))?;
    // By the hull: an output may reach over a gap between its inputs.
    let overlapped = there.iter().copied().filter(|s| s.first <= last && first <= s.last);
    let alone = inputs.len();
    inputs.extend(overlapped);
    if inputs.iter().any(|s| table.is_busy(s.id)) || is_being_written(table, &inputs, level) {
        return None;
    }
    let is_small = inputs.iter().all(|s| s.bytes / 2 <= options.sstable_size);
    let moves = alone == 1 && inputs.len() == 1 && is_small;
    Some(Choice {
        action: if moves { Action::Move } else { Action::Merge },
        level,
        output_bytes_max: options.sstable_size,
        ..Choice::merge(&inputs, Reason::Level)
    })
}

/// Whether a running compaction writes to this level, within the inputs' span.
fn is_being_written(table: &Table<'_>, inputs: &[&Candidate], level: u32) -> bool {
    let Some((first, last)) = hull(inputs.iter().copied()) else { return false };
    written_spans(table, level).any(|(start, end)| start <= last && first <= end)
}

/// Where running compactions write to a level.
fn written_spans<'a>(table: &Table<'a>, level: u32) -> impl Iterator<Item = (Token, Token)> + 'a {
    let Table { sstables, running, .. } = *table;
    let theirs = running.iter().filter(move |running| running.level == level);
    theirs.filter_map(|running| hull(sstables.iter().filter(|s| running.inputs.contains(&s.id))))
}

/// The oldest of level 0 with all that overlap them, into level 1; or among themselves while they do not fill an SSTable.
fn from_level_zero(
    table: &Table<'_>,
    levels: &[Vec<&Candidate>],
    free: &[&Candidate],
    strategy: &Strategy,
) -> Option<Choice> {
    let (min, max) = strategy.tiers.thresholds();
    let frees = frees_enough(levels, free, &strategy.leveled);
    if !is_full(free, strategy) && !frees {
        return None;
    }
    // What is being compacted has versions of the same partitions, or is written where these would go: they follow it.
    let busy = levels.first()?.iter().filter(|s| table.is_busy(s.id)).map(|s| (s.first, s.last));
    let taken: Vec<(Token, Token)> = busy.chain(written_spans(table, 1)).collect();
    let mut waiting = free.to_vec();
    waiting.retain(|s| !taken.iter().any(|(first, last)| s.first <= *last && *first <= s.last));
    waiting.sort_by_key(|s| s.id);
    let mut inputs: Vec<&Candidate> = Vec::new();
    for sstable in &waiting {
        for alike in waiting.iter().filter(|s| s.overlaps(sstable)) {
            if !inputs.iter().any(|chosen| chosen.id == alike.id) {
                inputs.push(alike);
            }
        }
        if inputs.len() > max {
            break;
        }
    }
    inputs.sort_by_key(|s| s.id);
    inputs.truncate(max);
    if total(&inputs) > strategy.leveled.sstable_size || frees {
        return into_level(table, levels, inputs, 1, &strategy.leveled);
    }
    (inputs.len() >= min).then(|| Choice::merge(&inputs, Reason::Level))
}
