//! Figures that are more than counts: what of a table is still of use.

use super::sstable::SsTable;
use super::state::{Table, View};
use helenus_core::GcSeconds;
use helenus_core::compaction;
use std::sync::Arc;

/// Look-ups in filters that one estimate may cost: under a millisecond.
const LOOKUPS_MAX: usize = 16_384;
/// More samples of an SSTable would not make it much better.
const SAMPLES_MAX: usize = 64;
/// The same of what each choice of a compaction asks again.
const CHOICE_LOOKUPS_MAX: usize = 4096;
const CHOICE_SAMPLES_MAX: usize = 32;

/// Of up to `samples` partitions from all over an SSTable: how many there are, and how many of them are in others too, by
/// the filters of these.
fn sampled<'o>(
    sstable: &SsTable,
    samples: usize,
    others: impl Iterator<Item = &'o Arc<SsTable>> + Clone,
) -> (u64, u64) {
    sstable.sample(samples).fold((0, 0), |(all, found), token| {
        (all + 1, found + u64::from(others.clone().any(|other| other.may_contain(token))))
    })
}

impl View {
    /// About how many bytes of keys and values are not overwritten by a newer SSTable. Partitions all over each SSTable are
    /// looked up in the filters of the newer ones; an SSTable counts by the share that is in none of them. With very many
    /// SSTables only the next few newer ones are asked.
    pub(super) fn live_raw_bytes(&self) -> u64 {
        let count = self.sstables.len().max(1);
        let samples = (LOOKUPS_MAX / count / count).clamp(1, SAMPLES_MAX);
        let asked = LOOKUPS_MAX / count / samples;
        let live = self.sstables.iter().enumerate().map(|(i, sstable)| {
            let newer = self.sstables.get(i + 1..).unwrap_or(&[]);
            let newer = newer.get(..asked).unwrap_or(newer);
            let (all, overwritten) = sampled(sstable, samples, newer.iter());
            let live = all - overwritten;
            let bytes = u128::from(sstable.content.raw_bytes);
            u64::try_from(bytes * u128::from(live) / u128::from(all.max(1))).unwrap_or(u64::MAX)
        });
        live.sum()
    }
}

impl Table {
    /// For an SSTable of level 0: the share of its partitions that level 1 has too.
    pub(super) fn overwrites(&self, sstable: &SsTable) -> f64 {
        let levels = &self.book.levels;
        if levels.contains_key(&sstable.generation) {
            return 0.0;
        }
        let own = self.view.sstables.iter();
        let below = own.filter(|other| levels.get(&other.generation) == Some(&1));
        let samples = CHOICE_LOOKUPS_MAX / below.clone().count().max(1);
        let samples = samples.clamp(1, CHOICE_SAMPLES_MAX);
        let (all, found) = sampled(sstable, samples, below);
        found as f64 / all.max(1) as f64
    }

    /// Over all SSTables, by their cells.
    pub(super) fn droppable_tombstones_ppm(&self, now: GcSeconds) -> u32 {
        let ratios = self.ask(now, |table: &compaction::Table<'_>, _| {
            table.sstables.iter().map(|s| s.droppable_ratio).collect::<Vec<_>>()
        });
        let (mut cells, mut droppable) = (0.0, 0.0);
        for (sstable, ratio) in self.view.sstables.iter().zip(ratios) {
            let statistics = &sstable.content.statistics;
            let here = statistics.cells.max(statistics.tombstones) as f64;
            cells += here;
            droppable += here * ratio;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
        let ppm = if cells > 0.0 { (droppable / cells * 1e6) as u32 } else { 0 };
        ppm
    }
}
