use super::Strategy;
use super::*;
use crate::schema::TableOptions;
use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;
use std::collections::BTreeSet;

const MIB: u64 = 1 << 20;

/// A table without a disk: flushes come in, choices are begun and ended.
struct Sim {
    strategy: Strategy,
    sstables: Vec<Candidate>,
    under_way: Vec<Choice>,
    rounds: Rounds,
    next_id: u64,
    flushed: u64,
    rewritten: u64,
    /// What of the inputs is left after a merge.
    survives: f64,
}

impl Sim {
    fn new(class: CompactionClass) -> Sim {
        Sim::with(Strategy { class, ..Strategy::default() })
    }

    fn with(strategy: Strategy) -> Sim {
        Sim {
            strategy,
            sstables: Vec::new(),
            under_way: Vec::new(),
            rounds: Rounds::default(),
            next_id: 0,
            flushed: 0,
            rewritten: 0,
            survives: 1.0,
        }
    }

    fn running(&self) -> Vec<Running> {
        self.under_way.iter().map(Choice::running).collect()
    }

    fn ask<T>(&self, question: impl Fn(&Table<'_>, &Strategy) -> T) -> T {
        let running = self.running();
        let table = Table {
            sstables: &self.sstables,
            running: &running,
            memtable_min_timestamp: None,
            rounds: &self.rounds,
        };
        question(&table, &self.strategy)
    }

    fn choose(&self) -> Option<Choice> {
        self.ask(choose)
    }

    fn pending(&self) -> u64 {
        self.ask(pending_tasks)
    }

    fn flush(&mut self, sstable: Candidate) {
        self.flushed += sstable.bytes;
        self.sstables.push(Candidate { id: self.next_id, ..sstable });
        self.next_id += 1;
    }

    fn flush_bytes(&mut self, bytes: u64) {
        self.flush(Candidate::new(0, bytes));
    }

    /// Begins one; says whether there was one.
    fn begin(&mut self) -> bool {
        let Some(choice) = self.choose() else { return false };
        assert!(choice.inputs.is_sorted() && !choice.inputs.is_empty());
        let busy: BTreeSet<u64> = self.running().into_iter().flat_map(|r| r.inputs).collect();
        for input in &choice.inputs {
            assert!(!busy.contains(input), "SSTable {input} is compacted twice at once");
            assert!(self.sstables.iter().any(|s| s.id == *input), "it chose what was there");
        }
        self.rounds.advance(&choice);
        self.under_way.push(choice);
        true
    }

    /// Ends one of those that were begun.
    fn end(&mut self, which: usize) {
        let choice = self.under_way.remove(which % self.under_way.len());
        let is_input = |s: &Candidate| choice.inputs.contains(&s.id);
        let inputs: Vec<Candidate> =
            self.sstables.iter().filter(|s| is_input(s)).cloned().collect();
        self.sstables.retain(|s| !choice.inputs.contains(&s.id));
        match choice.action {
            Action::Drop => {}
            Action::Move => {
                self.sstables
                    .extend(inputs.into_iter().map(|s| Candidate { level: choice.level, ..s }));
            }
            Action::Merge => self.merge(&choice, &inputs),
        }
        self.check();
    }

    /// Partitions are spread evenly over each input's span.
    fn merge(&mut self, choice: &Choice, inputs: &[Candidate]) {
        self.rewritten += choice.bytes;
        let survives = if inputs.len() > 1 { self.survives } else { 1.0 };
        let mut edges: BTreeSet<i128> = BTreeSet::new();
        for s in inputs {
            let (first, span) = (i128::from(s.first.0), span(s));
            edges.extend((0..=16).map(|n| first + span * n / 16));
        }
        let edges: Vec<i128> = edges.into_iter().collect();
        let mut output: Option<(i128, f64)> = None;
        for pair in edges.windows(2) {
            let (from, until) = (pair[0], pair[1]);
            let bytes: f64 = inputs.iter().map(|s| overlap(s, from, until)).sum::<f64>() * survives;
            if bytes == 0.0 {
                continue;
            }
            let (start, so_far) = output.unwrap_or((from, 0.0));
            output = Some((start, so_far + bytes));
            if so_far + bytes >= choice.output_bytes_max as f64 {
                self.emit(choice, start, until, so_far + bytes);
                output = None;
            }
        }
        if let (Some((start, bytes)), Some(last)) = (output, edges.last()) {
            self.emit(choice, start, *last, bytes);
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes of a test")]
    fn emit(&mut self, choice: &Choice, from: i128, until: i128, bytes: f64) {
        let token = |t: i128| Token(i64::try_from(t).unwrap());
        self.sstables.push(Candidate {
            level: choice.level,
            first: token(from),
            last: token(until - 1),
            ..Candidate::new(self.next_id, (bytes as u64).max(1))
        });
        self.next_id += 1;
    }

    /// Levels from 1 on do not overlap, and their SSTables are of bounded size.
    fn check(&self) {
        let mut sorted: Vec<&Candidate> = self.sstables.iter().filter(|s| s.level > 0).collect();
        sorted.sort_by_key(|s| (s.level, s.first));
        for pair in sorted.windows(2) {
            let apart = pair[0].level != pair[1].level || !pair[0].overlaps(pair[1]);
            assert!(apart, "{:?} overlaps {:?}", pair[0], pair[1]);
        }
    }

    fn settle(&mut self) {
        let mut steps = 0;
        while self.begin() {
            self.end(0);
            steps += 1;
            assert!(steps < 10_000, "compaction does not end");
        }
    }

    fn bytes(&self) -> u64 {
        self.sstables.iter().map(|s| s.bytes).sum()
    }

    fn level(&self, level: u32) -> Vec<&Candidate> {
        self.sstables.iter().filter(|s| s.level == level).collect()
    }
}

fn span(s: &Candidate) -> i128 {
    i128::from(s.last.0) - i128::from(s.first.0) + 1
}

/// What of an SSTable lies in `from..until`.
fn overlap(s: &Candidate, from: i128, until: i128) -> f64 {
    let (first, last) = (i128::from(s.first.0), i128::from(s.last.0) + 1);
    let common = (last.min(until) - first.max(from)).max(0);
    s.bytes as f64 * common as f64 / span(s) as f64
}

/// The crash fuzz met it: tombstones that must stay had their SSTable rewritten for ever.
#[test]
fn an_sstable_is_not_rewritten_for_its_tombstones_in_the_second_it_was_written() {
    let options = TableOptions { tombstone_compaction_interval: 0, ..TableOptions::default() };
    let mut table = Sim::with(Strategy::of(&options));
    table.flush(Candidate { droppable_ratio: 1.0, ..Candidate::new(0, MIB) });
    assert_eq!(table.choose(), None);
    table.sstables[0].age_s = 1;
    assert_eq!(table.choose().map(|choice| choice.inputs), Some(vec![0]));
}

#[test]
fn a_thousand_flushes_stay_few_sstables_and_are_rewritten_few_times() {
    let mut table = Sim::new(CompactionClass::SizeTiered);
    let mut most = 0;
    for n in 0..1024_u64 {
        // Flushes are never quite of one size.
        table.flush_bytes(64 * MIB + (n * 7919) % (16 * MIB));
        table.settle();
        most = most.max(table.sstables.len());
    }
    // Three of each size may wait for a fourth, in log4(1024) = 5 tiers; a size between two tiers makes one more.
    assert!(most <= 3 * 6, "{most} sstables");
    let amplification = table.rewritten as f64 / table.flushed as f64;
    assert!((4.0..=6.0).contains(&amplification), "every byte was rewritten {amplification} times");
    assert_eq!(table.bytes(), table.flushed);
}

#[test]
fn a_backlog_is_worked_off_and_pending_tasks_said_so() {
    let mut table = Sim::new(CompactionClass::SizeTiered);
    for _ in 0..100 {
        table.flush_bytes(60 * MIB);
    }
    assert_eq!(table.pending(), 4, "100 of one size, 32 at a time");
    table.settle();
    assert_eq!(table.pending(), 0);
    assert!(table.sstables.len() < 8, "{} sstables", table.sstables.len());
}

#[test]
fn levels_keep_their_sizes_and_a_read_meets_one_sstable_of_each() {
    let mut table = Sim::new(CompactionClass::Leveled);
    for n in 0..1024_u64 {
        table.flush_bytes(64 * MIB + (n * 7919) % (16 * MIB));
        table.settle();
        assert!(table.level(0).len() < 8);
        for (level, size) in [(1, 1600), (2, 16_000)] {
            let bytes: u64 = table.level(level).iter().map(|s| s.bytes).sum();
            assert!(bytes <= size * MIB * 1001 / 1000, "level {level} holds {} MiB", bytes / MIB);
        }
    }
    let largest = table.sstables.iter().filter(|s| s.level > 0).map(|s| s.bytes).max().unwrap();
    assert!(largest < 200 * MIB, "{} MiB", largest / MIB);
    assert_eq!(table.pending(), 0);
    assert!(table.level(3).len() > 100, "72 GB reach level 3");
    // The price: each level costs about fanout + 1 rewrites of what goes through it.
    let amplification = table.rewritten as f64 / table.flushed as f64;
    assert!((10.0..=33.0).contains(&amplification), "rewritten {amplification} times");
}

#[test]
fn overwriting_one_set_of_keys_takes_little_more_than_their_size_in_levels() {
    let mut table = Sim::new(CompactionClass::Leveled);
    // Each flush overwrites half of what a merge brings together.
    table.survives = 0.6;
    for _ in 0..300 {
        table.flush_bytes(100 * MIB);
        table.settle();
    }
    assert!(table.bytes() < 4000 * MIB, "{} MiB", table.bytes() / MIB);
}

#[test]
fn a_week_of_windows_is_a_week_of_sstables() {
    let mut table = Sim::new(CompactionClass::TimeWindow);
    const HOUR_US: i64 = 3_600_000_000;
    for hour in 0..7 * 24_i64 {
        let written = |h: i64| TimestampMicros(h * HOUR_US);
        table.flush(Candidate {
            min_timestamp: written(hour),
            max_timestamp: written(hour),
            ..Candidate::new(0, 60 * MIB)
        });
        while table.begin() {
            // The output is of its inputs' window.
            let newest = table.under_way[0]
                .inputs
                .iter()
                .filter_map(|id| table.sstables.iter().find(|s| s.id == *id))
                .map(|s| s.max_timestamp)
                .max();
            table.end(0);
            if let (Some(output), Some(newest)) = (table.sstables.last_mut(), newest) {
                output.max_timestamp = newest;
            }
        }
    }
    let windows = |table: &Sim| {
        let days = table.sstables.iter().map(|s| s.max_timestamp.0 / (24 * HOUR_US));
        days.fold(std::collections::BTreeMap::<i64, u32>::new(), |mut days, day| {
            *days.entry(day).or_default() += 1;
            days
        })
    };
    let found = windows(&table);
    assert_eq!(found.len(), 7);
    assert!((0..6).all(|day| found[&day] == 1), "{found:?}");
    // A byte is rewritten within its day's window only, and once more at its end.
    assert!(table.rewritten <= table.flushed * 4);
}

fn strategies() -> impl Generator<Value = Strategy> {
    let class = prop_oneof![
        Just(CompactionClass::SizeTiered),
        Just(CompactionClass::Leveled),
        Just(CompactionClass::TimeWindow),
    ];
    // Of a few megabytes there would be thousands, and a case would take minutes.
    (class, 0..6_u32, 0..40_u32, 20..200_u64, 2..5_u32).prop_map(
        |(class, min_threshold, max_threshold, sstable_mib, fanout_size)| {
            let standard = Strategy::default();
            let tiers = SizeTiered { min_threshold, max_threshold, ..standard.tiers };
            let leveled = Leveled { sstable_size: sstable_mib * MIB, fanout_size };
            Strategy { class, tiers, leveled, ..standard }
        },
    )
}

/// Any SSTable as a flush may leave it: somewhere on the ring, of some time.
fn flushes(count: usize) -> impl Generator<Value = Vec<Candidate>> {
    let one = (0..300 * MIB, -1000..1000_i64, 0..500_i64, 0..200_i64, 0..50_i64, any::<bool>());
    let one = one.prop_map(|(bytes, first, len, hour, hours, expired)| {
        let at = |hour: i64| TimestampMicros(hour * 3_600_000_000);
        Candidate {
            first: Token(first << 40),
            last: Token((first + len) << 40),
            min_timestamp: at(hour),
            max_timestamp: at(hour + hours),
            expired,
            ..Candidate::new(0, bytes)
        }
    });
    prop::collection::vec(one, 0..count)
}

proptest! {
    #[test]
    fn every_size_tiered_choice_keeps_to_the_thresholds_and_compaction_ends(
        sizes in prop::collection::vec(0..2000 * MIB, 0..80),
        min_threshold in 0..6_u32,
        max_threshold in 0..40_u32,
    ) {
        let mut table = Sim::new(CompactionClass::SizeTiered);
        table.strategy.tiers.min_threshold = min_threshold;
        table.strategy.tiers.max_threshold = max_threshold;
        sizes.iter().for_each(|size| table.flush_bytes(*size));
        let count = table.next_id;
        while let Some(choice) = table.choose() {
            let (min, max) = table.strategy.tiers.thresholds();
            prop_assert!((min..=max).contains(&choice.inputs.len()));
            prop_assert!(table.pending() > 0);
            prop_assert!(table.begin());
            table.end(0);
            prop_assert!(table.next_id <= 2 * count, "each compaction leaves fewer");
        }
    }

    /// `Sim` asserts the rest: nothing is compacted twice at once, levels do not overlap.
    #[test]
    fn whatever_comes_and_however_many_run_at_once_it_ends_in_order(
        strategy in strategies(),
        flushes in flushes(60),
        moves in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..200),
    ) {
        let mut table = Sim::with(strategy);
        let mut flushes = flushes.into_iter();
        for (what, which) in moves {
            match what {
                0 | 1 => flushes.next().into_iter().for_each(|s| table.flush(s)),
                2 => drop(table.begin()),
                _ if table.under_way.is_empty() => {}
                _ => table.end(which.index(64)),
            }
        }
        flushes.for_each(|s| table.flush(s));
        while !table.under_way.is_empty() {
            table.end(0);
        }
        table.settle();
        prop_assert_eq!(table.pending(), 0, "nothing to choose, so nothing waits");
        let too_large = 4 * table.strategy.leveled.sstable_size + 1000 * MIB;
        prop_assert!(table.level(1).iter().all(|s| s.bytes < too_large));
    }

    #[test]
    fn the_order_of_the_candidates_does_not_matter(
        strategy in strategies(),
        flushes in flushes(20),
    ) {
        let mut table = Sim::with(strategy);
        flushes.into_iter().for_each(|s| table.flush(s));
        let forwards = table.choose();
        table.sstables.reverse();
        prop_assert_eq!(table.choose(), forwards);
    }

    /// Dropping an SSTable may uncover nothing: what is as old as its tombstones goes with it, or lies elsewhere.
    #[test]
    fn what_is_dropped_covers_nothing_that_stays(flushes in flushes(30), memtable in 0..300_i64) {
        let mut table = Sim::new(CompactionClass::TimeWindow);
        flushes.into_iter().for_each(|s| table.flush(s));
        let oldest = TimestampMicros(memtable * 3_600_000_000);
        let dropped = table.ask(|table, strategy| {
            choose(&Table { memtable_min_timestamp: Some(oldest), ..*table }, strategy)
        });
        let Some(choice) = dropped.filter(|choice| choice.action == Action::Drop) else {
            return Ok(());
        };
        let (gone, stays): (Vec<_>, Vec<_>) =
            table.sstables.iter().partition(|s| choice.inputs.contains(&s.id));
        for s in &gone {
            prop_assert!(s.expired && s.max_timestamp < oldest);
            let beneath = |o: &&&Candidate| o.overlaps(s) && o.min_timestamp <= s.max_timestamp;
            prop_assert_eq!(stays.iter().find(beneath), None);
        }
    }
}
