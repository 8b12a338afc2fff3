//! Who compacts what, under the engine's lock: no SSTable is in two compactions, no more run than may, and tables take
//! turns.

use super::super::sstable::SsTable;
use super::super::state::{Major, State, Table};
use super::level_byte;
use crate::seams::background::{COMPACTORS_MAX, Lane};
use crate::storage::{RunningCompaction, StorageError};
use helenus_core::compaction::{self, Action, Candidate, Choice, Rounds, Running, Strategy};
use helenus_core::schema::CompactionClass;
use helenus_core::{GcSeconds, TableId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A table's side of it.
#[derive(Debug, Default)]
pub(in crate::storage::lsm) struct TableBook {
    /// As in the manifest: levels other than 0.
    pub(in crate::storage::lsm) levels: BTreeMap<u64, u8>,
    rounds: Rounds,
    running: BTreeMap<u64, Running>,
    /// The number of its last turn.
    turn: u64,
}

/// The engine's side of it.
#[derive(Debug, Default)]
pub(in crate::storage::lsm) struct Book {
    /// How many may run. Those that run already when it becomes less run to their end.
    pub(in crate::storage::lsm) compactors: u8,
    running: BTreeMap<u64, UnderWay>,
    /// The last compaction's.
    pub(in crate::storage::lsm) last_id: u64,
    turns: u64,
}

#[derive(Debug)]
struct UnderWay {
    figures: RunningCompaction,
    /// Which lane it has.
    place: u8,
    /// It keeps its lane and its SSTables, but counts for nothing while others may run.
    paused: bool,
}

/// A compaction to carry out. It is on the book until [`State::end_compaction`].
pub(super) struct Task {
    pub(super) id: u64,
    pub(super) table: TableId,
    pub(super) choice: Choice,
    pub(super) inputs: Vec<Arc<SsTable>>,
    pub(super) lane: Lane,
    /// Who waits for it: an operator asked.
    pub(super) done: Option<oneshot::Sender<Result<(), StorageError>>>,
}

/// What comes next.
pub(super) enum Next {
    Begin(Task),
    /// An operator asked for a compaction of nothing.
    Nothing(Major),
}

impl TableBook {
    /// Of a table with these levels.
    pub(in crate::storage::lsm) fn new(levels: BTreeMap<u64, u8>) -> TableBook {
        TableBook { levels, ..TableBook::default() }
    }
}

impl Book {
    pub(in crate::storage::lsm) fn new(compactors: u8) -> Book {
        Book { compactors, ..Book::default() }
    }

    /// What runs, oldest first.
    pub(in crate::storage::lsm) fn running(&self) -> Vec<RunningCompaction> {
        self.running.values().map(|under_way| under_way.figures.clone()).collect()
    }

    /// How many lanes may have work.
    pub(in crate::storage::lsm) fn lanes(&self) -> impl Iterator<Item = Lane> {
        (0..COMPACTORS_MAX).map(Lane::compaction)
    }

    /// A lane for one more, if one more may run.
    fn free_place(&self) -> Option<u8> {
        let working = self.running.values().filter(|under_way| !under_way.paused).count();
        if working >= usize::from(self.compactors) {
            return None;
        }
        let taken: BTreeSet<u8> = self.running.values().map(|under_way| under_way.place).collect();
        // With that many paused ones a lane is shared, which delays their steps and nothing else.
        Some((0..COMPACTORS_MAX).find(|place| !taken.contains(place)).unwrap_or(0))
    }
}

impl State {
    /// Puts the next compaction on the book. `may` says which tables may be compacted by themselves.
    pub(super) fn begin_compaction(
        &mut self,
        now: GcSeconds,
        may: impl Fn(TableId) -> bool,
    ) -> Option<Next> {
        let place = self.book.free_place()?;
        if let Some(asked) = self.next_major() {
            let table = self.tables.get(&asked.table);
            return Some(match table.and_then(|table| table.ask(now, compaction::choose_all)) {
                None => Next::Nothing(asked),
                Some(choice) => {
                    let task = self.begin(place, asked.table, choice);
                    Next::Begin(Task { done: Some(asked.done), ..task })
                }
            });
        }
        let waiting: BTreeSet<TableId> = self.majors.iter().map(|major| major.table).collect();
        let eligible = self.tables.values().filter(|table| {
            let runs = table.auto_compaction && table.options.is_some() && may(table.id);
            // An operator's compaction wants all of its SSTables: none of them is taken away again.
            runs && !waiting.contains(&table.id)
        });
        let mut eligible: Vec<&Table> = eligible.collect();
        eligible.sort_by_key(|table| (table.book.running.len(), table.book.turn, table.id));
        let (table, choice) = eligible
            .into_iter()
            .find_map(|table| Some((table.id, table.ask(now, compaction::choose)?)))?;
        Some(Next::Begin(self.begin(place, table, choice)))
    }

    /// The first operator's whose table nothing else compacts.
    fn next_major(&mut self) -> Option<Major> {
        let ready = self.majors.iter().position(|major| {
            self.tables.get(&major.table).is_none_or(|table| table.book.running.is_empty())
        });
        ready.and_then(|ready| self.majors.remove(ready))
    }

    fn begin(&mut self, place: u8, id: TableId, choice: Choice) -> Task {
        self.book.last_id += 1;
        self.book.turns += 1;
        let number = self.book.last_id;
        let mut inputs = Vec::new();
        if let Some(table) = self.tables.get_mut(&id) {
            let own = table.view.sstables.iter();
            inputs.extend(own.filter(|s| choice.inputs.contains(&s.generation)).cloned());
            table.book.rounds.advance(&choice);
            table.book.running.insert(number, choice.running());
            table.book.turn = self.book.turns;
        }
        // In the order of the choice, whatever order the view has.
        inputs.sort_by_key(|sstable| sstable.generation);
        debug_assert_eq!(inputs.len(), choice.inputs.len());
        let figures = RunningCompaction {
            id: number,
            kind: "Compaction",
            reason: choice.reason.as_str(),
            level: choice.level,
            table: id,
            done_bytes: 0,
            total_bytes: if choice.action == Action::Merge { choice.bytes } else { 0 },
        };
        self.book.running.insert(number, UnderWay { figures, place, paused: false });
        let lane = Lane::compaction(place);
        Task { id: number, table: id, choice, inputs, lane, done: None }
    }

    /// Takes one off the book, however it ended.
    pub(super) fn end_compaction(&mut self, id: u64, table: TableId) {
        self.book.running.remove(&id);
        if let Some(table) = self.tables.get_mut(&table) {
            table.book.running.remove(&id);
        }
    }

    /// One has come further.
    pub(super) fn compaction_progress(&mut self, id: u64, bytes: u64) {
        if let Some(under_way) = self.book.running.get_mut(&id) {
            under_way.figures.done_bytes += bytes;
        }
    }

    /// Pauses one, or not. Says whether it was paused.
    pub(super) fn pause_compaction(&mut self, id: u64, paused: bool) -> bool {
        let under_way = self.book.running.get_mut(&id);
        under_way.is_some_and(|under_way| std::mem::replace(&mut under_way.paused, paused))
    }

    /// What a choice said has been done. Gives the table's number of SSTables; `None` if the table was dropped.
    pub(super) fn compacted(
        &mut self,
        table: TableId,
        choice: &Choice,
        outputs: &[Arc<SsTable>],
    ) -> Option<usize> {
        let table = self.tables.get_mut(&table)?;
        if !table.has(&choice.inputs) {
            return None;
        }
        table.figures.compactions += 1;
        if choice.action == Action::Merge {
            table.figures.compacted_bytes_read += choice.bytes;
        }
        table.figures.compacted_bytes_written += outputs.iter().map(|o| o.bytes).sum::<u64>();
        let settled: Vec<u64> = if choice.action == Action::Move {
            choice.inputs.clone()
        } else {
            let replaced = |sstables: &mut Vec<Arc<SsTable>>| {
                sstables.retain(|sstable| !choice.inputs.contains(&sstable.generation));
                sstables.extend(outputs.iter().cloned());
            };
            table.change_sstables(replaced);
            outputs.iter().map(|output| output.generation).collect()
        };
        let book = &mut table.book;
        book.levels.retain(|generation, _| !choice.inputs.contains(generation));
        if choice.level > 0 {
            let level = level_byte(choice.level);
            book.levels.extend(settled.into_iter().map(|generation| (generation, level)));
        }
        self.compactions_completed += 1;
        Some(table.view.sstables.len())
    }
}

impl Table {
    /// Asks the choice about this table.
    pub(in crate::storage::lsm) fn ask<T>(
        &self,
        now: GcSeconds,
        question: impl FnOnce(&compaction::Table<'_>, &Strategy) -> T,
    ) -> T {
        let options = self.options();
        let gc_before = GcSeconds(match &self.options {
            Some(options) => now.0.saturating_sub(options.gc_grace_seconds),
            None => 0,
        });
        let running: Vec<Running> = self.book.running.values().cloned().collect();
        let memtables = self.view.frozen.iter().map(|frozen| &frozen.memtable);
        let memtables = memtables.chain([&self.active]).filter(|memtable| !memtable.is_empty());
        let table = compaction::Table {
            sstables: &self.candidates(now, gc_before),
            running: &running,
            memtable_min_timestamp: memtables.filter_map(|m| m.statistics().min_timestamp).min(),
            rounds: &self.book.rounds,
        };
        question(&table, &Strategy::of(&options))
    }

    fn candidates(&self, now: GcSeconds, gc_before: GcSeconds) -> Vec<Candidate> {
        let leveled = self.options().compaction_class == CompactionClass::Leveled;
        let candidate = |sstable: &Arc<SsTable>| {
            let statistics = &sstable.content.statistics;
            let droppable = statistics.min_deleted_at.is_some_and(|second| second < gc_before);
            let any = Candidate::new(sstable.generation, sstable.bytes);
            Candidate {
                level: u32::from(self.book.levels.get(&any.id).copied().unwrap_or(0)),
                first: sstable.first_token(),
                last: sstable.last_token(),
                min_timestamp: statistics.min_timestamp.unwrap_or(any.min_timestamp),
                max_timestamp: statistics.max_timestamp.unwrap_or(any.max_timestamp),
                droppable_ratio: if droppable { statistics.tombstone_ratio() } else { 0.0 },
                expired: statistics.is_expired(gc_before),
                age_s: u64::from(now.0.saturating_sub(sstable.content.written_at)),
                overwrites: if leveled { self.overwrites(sstable) } else { 0.0 },
                ..any
            }
        };
        self.view.sstables.iter().map(candidate).collect()
    }

    /// SSTables in each level, from 0 up to the deepest that has any.
    pub(in crate::storage::lsm) fn levels(&self) -> Vec<u64> {
        let mut levels = Vec::new();
        for sstable in &self.view.sstables {
            let level = self.book.levels.get(&sstable.generation).copied().unwrap_or(0);
            let level = usize::from(level);
            if levels.len() <= level {
                levels.resize(level + 1, 0);
            }
            if let Some(count) = levels.get_mut(level) {
                *count += 1;
            }
        }
        levels
    }
}
