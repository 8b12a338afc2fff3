//! SSTables of which nothing is needed any more: all in them was deleted or has expired longer than gc_grace ago, and
//! nothing that may hold the same partitions is as old as they are, so their tombstones cover nothing anywhere.

use super::{Action, Candidate, Choice, Reason, Table};
use std::collections::BTreeMap;

/// All that can be dropped as they are.
pub(super) fn choose(table: &Table<'_>, free: &[&Candidate]) -> Option<Choice> {
    let in_memory = table.memtable_min_timestamp;
    let mut droppable: BTreeMap<u64, &Candidate> = free
        .iter()
        .filter(|s| s.expired && in_memory.is_none_or(|oldest| s.max_timestamp < oldest))
        .map(|s| (s.id, *s))
        .collect();
    if droppable.is_empty() {
        return None;
    }
    // Whatever stays may keep others from going; and these others too, since they stay then.
    let mut staying: Vec<&Candidate> =
        table.sstables.iter().filter(|s| !droppable.contains_key(&s.id)).collect();
    while let Some(stays) = staying.pop() {
        let needed: Vec<u64> = droppable
            .values()
            .filter(|s| s.overlaps(stays) && stays.min_timestamp <= s.max_timestamp)
            .map(|s| s.id)
            .collect();
        staying.extend(needed.iter().filter_map(|id| droppable.remove(id)));
    }
    let inputs: Vec<&Candidate> = droppable.into_values().collect();
    (!inputs.is_empty())
        .then(|| Choice { action: Action::Drop, ..Choice::merge(&inputs, Reason::Expired) })
}
