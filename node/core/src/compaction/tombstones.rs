//! One SSTable is rewritten by itself when much of it could be dropped.
//!
//! A tombstone can be dropped only if nothing outside may hold what it covers, so what counts is the part of the SSTable's
//! span that no other one with as old data overlaps; `unchecked_tombstone_compaction` leaves that question to the
//! compaction itself, which asks it partition by partition, and may then have rewritten everything for nothing.

use super::{Candidate, Choice, Reason, Strategy, Table};
use crate::schema::CompactionClass;
use crate::types::Token;

/// The largest that is worth it, since it frees the most.
pub(super) fn choose(
    table: &Table<'_>,
    free: &[&Candidate],
    strategy: &Strategy,
) -> Option<Choice> {
    let options = &strategy.tombstones;
    let worthwhile = |s: &&&Candidate| {
        s.droppable_ratio > options.threshold
            && s.age_s >= options.interval_s
            && (options.unchecked || s.droppable_ratio * uncovered(table, s) > options.threshold)
    };
    let one = free.iter().filter(worthwhile).max_by_key(|s| (s.bytes, std::cmp::Reverse(s.id)))?;
    let output_bytes_max = match strategy.class {
        CompactionClass::Leveled if one.level > 0 => strategy.leveled.sstable_size,
        _ => u64::MAX,
    };
    // It stays where it is: what it covers there it covers afterwards.
    let choice = Choice::merge(&[one], Reason::Tombstones);
    Some(Choice { level: one.level, output_bytes_max, ..choice })
}

/// The share of an SSTable's span where nothing else may hold data as old as its own.
fn uncovered(table: &Table<'_>, sstable: &Candidate) -> f64 {
    let mut others: Vec<(Token, Token)> = table
        .sstables
        .iter()
        .filter(|other| {
            other.id != sstable.id
                && other.min_timestamp <= sstable.max_timestamp
                && other.overlaps(sstable)
        })
        .map(|other| (other.first.max(sstable.first), other.last.min(sstable.last)))
        .collect();
    others.sort_unstable();
    let mut covered = 0.0;
    let mut behind = i128::from(sstable.first.0);
    for (first, last) in others {
        let from = i128::from(first.0).max(behind);
        let until = i128::from(last.0) + 1;
        covered += (until - from).max(0) as f64;
        behind = behind.max(until);
    }
    let span = (i128::from(sstable.last.0) - i128::from(sstable.first.0) + 1).max(1) as f64;
    (1.0 - covered / span).max(0.0)
}
