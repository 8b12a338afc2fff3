//! Time-window: SSTables are kept apart by the time of their newest write. The newest window is compacted by size while it
//! fills; each older one becomes a single SSTable and then rests, until all of it has expired and it is dropped whole. For
//! series with a TTL, in which nothing is overwritten.
//!
//! A window is named by the largest *timestamp* in an SSTable, as clients gave it, and the newest window is the newest that
//! any SSTable is in: no clock is asked (so a client whose clock is far ahead makes all windows old).

use super::{Candidate, Choice, Reason, Strategy, size_tiered};
use std::collections::BTreeMap;

/// The newest window by size, else the newest older one that has more than one SSTable.
pub(super) fn choose(free: &[&Candidate], strategy: &Strategy) -> Option<Choice> {
    let (_, max) = strategy.tiers.thresholds();
    let windows = windows(free, strategy);
    let newest = windows.keys().next_back().copied();
    windows.into_iter().rev().find_map(|(window, mut sstables)| {
        if Some(window) == newest {
            let bucket = size_tiered::choose(&sstables, &strategy.tiers)?;
            return Some(Choice::merge(&bucket, Reason::Tier));
        }
        // The largest are left out first: they are the dearest to rewrite.
        sstables.sort_by_key(|s| (s.bytes, s.id));
        sstables.truncate(max);
        (sstables.len() >= 2).then(|| Choice::merge(&sstables, Reason::Window))
    })
}

/// Windows in which there is something to do.
pub(super) fn pending_tasks(free: &[&Candidate], strategy: &Strategy) -> u64 {
    let windows = windows(free, strategy);
    let newest = windows.keys().next_back().copied();
    let wanting = windows.iter().filter(|(window, sstables)| {
        if Some(**window) == newest {
            size_tiered::choose(sstables, &strategy.tiers).is_some()
        } else {
            sstables.len() >= 2
        }
    });
    wanting.count() as u64
}

fn windows<'a>(free: &[&'a Candidate], strategy: &Strategy) -> BTreeMap<i128, Vec<&'a Candidate>> {
    let length = i128::from(strategy.window.window_us.max(1));
    let mut windows: BTreeMap<i128, Vec<&Candidate>> = BTreeMap::new();
    for sstable in free {
        let window = i128::from(sstable.max_timestamp.0).div_euclid(length);
        windows.entry(window).or_default().push(sstable);
    }
    windows
}
