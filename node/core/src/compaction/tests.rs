use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn sstable(id: u64, bytes: u64) -> Candidate {
    Candidate { id, bytes, droppable_ratio: 0.0, age_s: 0, hotness: 0.0 }
}

/// A table without a disk: flushes come in, choices are carried out.
struct Table {
    sstables: Vec<Candidate>,
    next_id: u64,
    flushed: u64,
    rewritten: u64,
}

impl Table {
    fn new() -> Table {
        Table { sstables: Vec::new(), next_id: 0, flushed: 0, rewritten: 0 }
    }

    fn add(&mut self, bytes: u64) {
        self.sstables.push(sstable(self.next_id, bytes));
        self.next_id += 1;
    }

    fn flush(&mut self, bytes: u64) {
        self.flushed += bytes;
        self.add(bytes);
    }

    /// Carries out one choice; says whether there was one.
    fn compact(&mut self, options: &SizeTiered) -> bool {
        let Some(choice) = choose(&self.sstables, options) else { return false };
        let before = self.sstables.len();
        self.sstables.retain(|s| !choice.inputs.contains(&s.id));
        assert_eq!(before - self.sstables.len(), choice.inputs.len(), "it chose what was there");
        self.rewritten += choice.bytes;
        self.add(choice.bytes);
        true
    }
}

#[test]
fn a_thousand_flushes_stay_few_sstables_and_are_rewritten_few_times() {
    let options = SizeTiered::default();
    let mut table = Table::new();
    let mut most = 0;
    for n in 0..1024_u64 {
        // Flushes are never quite of one size.
        table.flush(64 * MIB + (n * 7919) % (16 * MIB));
        while table.compact(&options) {}
        most = most.max(table.sstables.len());
    }
    // Three of each size may wait for a fourth, in log4(1024) = 5 tiers; a size between two tiers makes one more.
    assert!(most <= 3 * 6, "{most} sstables");
    let amplification = table.rewritten as f64 / table.flushed as f64;
    assert!((4.0..=6.0).contains(&amplification), "every byte was rewritten {amplification} times");
    assert_eq!(table.sstables.iter().map(|s| s.bytes).sum::<u64>(), table.flushed);
}

#[test]
fn a_backlog_is_worked_off_and_pending_tasks_said_so() {
    let options = SizeTiered::default();
    let mut table = Table::new();
    for _ in 0..100 {
        table.flush(60 * MIB);
    }
    assert_eq!(pending_tasks(&table.sstables, &options), 4, "100 of one size, 32 at a time");
    let mut steps = 0;
    while table.compact(&options) {
        steps += 1;
        assert!(steps < 100, "compaction does not end");
    }
    assert_eq!(pending_tasks(&table.sstables, &options), 0);
    assert!(table.sstables.len() < 8, "{} sstables", table.sstables.len());
}

proptest! {
    #[test]
    fn every_choice_keeps_to_the_thresholds_and_compaction_ends(
        sizes in prop::collection::vec(0..2000 * MIB, 0..80),
        min_threshold in 0..6_u32,
        max_threshold in 0..40_u32,
    ) {
        let options = SizeTiered { min_threshold, max_threshold, ..SizeTiered::default() };
        let mut table = Table::new();
        sizes.iter().for_each(|size| table.flush(*size));
        let count = table.next_id;
        while let Some(choice) = choose(&table.sstables, &options) {
            let (min, max) = options.thresholds();
            prop_assert!((min..=max).contains(&choice.inputs.len()));
            prop_assert!(choice.inputs.is_sorted());
            prop_assert!(pending_tasks(&table.sstables, &options) > 0);
            table.compact(&options);
            prop_assert!(table.next_id <= 2 * count, "each compaction leaves fewer");
        }
    }

    #[test]
    fn the_order_of_the_candidates_does_not_matter(
        sizes in prop::collection::vec(0..500 * MIB, 0..20)
    ) {
        let options = SizeTiered::default();
        let mut sstables: Vec<_> = (0..).zip(sizes).map(|(id, size)| sstable(id, size)).collect();
        let forwards = choose(&sstables, &options);
        sstables.reverse();
        prop_assert_eq!(choose(&sstables, &options), forwards);
    }
}
