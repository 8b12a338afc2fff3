//! Figures that are more than counts: what of a table is still of use.

use super::state::{Table, View};
use helenus_core::GcSeconds;
use helenus_core::compaction;

/// Look-ups in filters that one estimate may cost: under a millisecond.
const LOOKUPS_MAX: usize = 16_384;
/// More samples of an SSTable would not make it much better.
const SAMPLES_MAX: usize = 64;

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
            let (mut all, mut live) = (0_u64, 0_u64);
            for token in sstable.sample(samples) {
                all += 1;
                live += u64::from(!newer.iter().any(|other| other.may_contain(token)));
            }
            let bytes = u128::from(sstable.content.raw_bytes);
            u64::try_from(bytes * u128::from(live) / u128::from(all.max(1))).unwrap_or(u64::MAX)
        });
        live.sum()
    }
}

impl Table {
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
