//! What the engine knows in memory: tables, their memtables and SSTables, and the log. One lock holds it all; it is never
//! held while the disk is read, and while it is written only for the log's own buffer.

use super::compact::{Book, TableBook};
use super::log::{Log, Mutation, Position};
use super::manifest::Manifest;
use super::memtable::{KEY_BYTES_MAX, Memtable};
use super::place::Place;
use super::sstable::{Lookup, SsTable};
use crate::storage::{StorageError, TableFigures, Write};
use helenus_core::compaction;
use helenus_core::{GcSeconds, Partition, TableDef, TableId, TableOptions, codec, merge};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// Memtables that wait to be flushed may take this many times `memtable_heap_space`; then writes are refused.
const FROZEN_HEAPS_MAX: u64 = 4;
/// From so many on writers are slowed: one that is being flushed is the ordinary case, another one behind it is not.
const FROZEN_HEAPS_SLOW: f64 = 1.5;
/// How long a write's acknowledgement is held back just before writes are refused. From [`FROZEN_HEAPS_SLOW`] on it grows
/// from nothing to this, so that writers in a closed loop come down to the pace of the disk, and no further.
const SLOWED_MAX: Duration = Duration::from_millis(50);

fn fits(write: &Write) -> Result<(), StorageError> {
    let bytes = write.key.0.len() as u64;
    let limit = KEY_BYTES_MAX as u64;
    if bytes > limit { Err(StorageError::TooLarge { bytes, limit }) } else { Ok(()) }
}

/// A memtable that takes no more writes, on its way to an SSTable.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) table: TableId,
    /// Over all tables; flushes happen in this order.
    pub(super) sequence: u64,
    pub(super) memtable: Memtable,
    /// The table's log records before this are in here or were flushed earlier.
    pub(super) upto: Position,
}

/// What a reader looks into besides the active memtable. It never changes: a flush or a compaction makes another one.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Oldest first.
    pub(super) frozen: Vec<Arc<Frozen>>,
    /// By their newest timestamp, oldest first.
    pub(super) sstables: Vec<Arc<SsTable>>,
    pub(super) read_figures: Arc<ReadFigures>,
}

/// What reads of one table cost, counted by readers that hold no lock.
#[derive(Debug, Default)]
pub(super) struct ReadFigures {
    /// SSTables of which a read opened a block.
    pub(super) sstables: AtomicU64,
    /// Blocks that reads of partitions opened.
    pub(super) blocks: AtomicU64,
    /// SSTables whose filter admitted a key that they do not hold.
    pub(super) false_positives: AtomicU64,
    /// SSTables that a read passed by because what it had found was newer than all they hold.
    pub(super) skipped: AtomicU64,
}

impl View {
    /// Merges what is known of a partition here into `found`, the newest first: what is older than all that was found, and
    /// covered by it, is not read.
    pub(super) fn read(
        &self,
        place: &Place,
        mut found: Option<Partition>,
    ) -> Result<Option<Partition>, StorageError> {
        for frozen in self.frozen.iter().rev() {
            if let Some(partition) = frozen.memtable.get(place)? {
                add(&mut found, partition);
            }
        }
        self.merge_tables(place, self.sstables.iter().rev(), &mut found)?;
        Ok(found)
    }

    /// Merges what these SSTables, the newest first, know of a partition into `found`.
    pub(super) fn merge_tables<'s>(
        &self,
        place: &Place,
        sstables: impl Iterator<Item = &'s Arc<SsTable>>,
        found: &mut Option<Partition>,
    ) -> Result<(), StorageError> {
        let (mut read, mut blocks, mut skipped) = (0, 0, 0);
        for sstable in sstables {
            let statistics = &sstable.content.statistics;
            if found.as_ref().is_some_and(|found| statistics.cannot_change(found)) {
                skipped += 1;
                continue;
            }
            // Most end here. What `get` gives is large, and is not even made.
            if !sstable.may_contain(place.token) {
                continue;
            }
            match sstable.get(place.token, place.key.as_slice())? {
                Lookup::Excluded => {}
                Lookup::FalsePositive => {
                    read += 1;
                    blocks += 1;
                    self.read_figures.false_positives.fetch_add(1, Ordering::Relaxed);
                }
                Lookup::Found(encoded) => {
                    read += 1;
                    blocks += 1;
                    add(found, codec::decode(encoded).map_err(|e| sstable.undecodable(&e))?);
                }
                Lookup::Pieces(partition, pieces) => {
                    read += 1;
                    blocks += pieces;
                    add(found, partition);
                }
            }
        }
        let figures = &self.read_figures;
        for (count, more) in
            [(&figures.sstables, read), (&figures.blocks, blocks), (&figures.skipped, skipped)]
        {
            // Adding nothing would cost as much as adding something.
            if more > 0 {
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn with(
        &self,
        change: impl FnOnce(&mut Vec<Arc<Frozen>>, &mut Vec<Arc<SsTable>>),
    ) -> Arc<View> {
        let (mut frozen, mut sstables) = (self.frozen.clone(), self.sstables.clone());
        change(&mut frozen, &mut sstables);
        sstables.sort_by_key(|s| (s.content.statistics.max_timestamp, s.generation));
        Arc::new(View { frozen, sstables, read_figures: Arc::clone(&self.read_figures) })
    }
}

fn add(found: &mut Option<Partition>, partition: Partition) {
    match found {
        Some(found) => merge::merge(found, partition),
        None => *found = Some(partition),
    }
}

/// One table.
pub(super) struct Table {
    pub(super) id: TableId,
    pub(super) dir: PathBuf,
    /// `None`: there is data of it in the log or in files, but nobody has said what it is yet (the schema is read after
    /// storage was opened), or it was dropped. It can be flushed, but neither read nor written.
    pub(super) options: Option<TableOptions>,
    pub(super) active: Memtable,
    pub(super) view: Arc<View>,
    /// The durable list of SSTables. Locked by jobs of the flush lane only.
    pub(super) manifest: Arc<Mutex<Manifest>>,
    pub(super) auto_compaction: bool,
    pub(super) book: TableBook,
    pub(super) figures: TableFigures,
}

impl Table {
    pub(super) fn new(dir: PathBuf, manifest: Manifest, sstables: Vec<Arc<SsTable>>) -> Table {
        let book = TableBook::new(manifest.levels.clone());
        Table {
            id: manifest.table,
            dir,
            book,
            options: None,
            active: Memtable::default(),
            view: View::default().with(|_, own| *own = sstables),
            manifest: Arc::new(Mutex::new(manifest)),
            auto_compaction: true,
            figures: TableFigures::default(),
        }
    }

    /// The options, or the defaults for a table that nobody has defined yet.
    pub(super) fn options(&self) -> TableOptions {
        self.options.clone().unwrap_or_default()
    }

    /// Where the log holds the oldest write that is not in an SSTable.
    fn low(&self) -> Option<Position> {
        let frozen = self.view.frozen.iter().filter_map(|frozen| frozen.memtable.first());
        frozen.chain(self.active.first()).min()
    }

    /// The figures as of now.
    pub(super) fn figures(&self, now: GcSeconds) -> TableFigures {
        let frozen = || self.view.frozen.iter().map(|frozen| &frozen.memtable);
        TableFigures {
            sstables: self.view.sstables.len() as u64,
            levels: self.levels(),
            raw_bytes: self.view.sstables.iter().map(|sstable| sstable.content.raw_bytes).sum(),
            live_raw_bytes: self.view.live_raw_bytes(),
            droppable_tombstones_ppm: self.droppable_tombstones_ppm(now),
            live_bytes: self.view.sstables.iter().map(|sstable| sstable.bytes).sum(),
            memtable_bytes: self.active.bytes() + frozen().map(Memtable::bytes).sum::<u64>(),
            memtable_partitions: (self.active.partitions()
                + frozen().map(Memtable::partitions).sum::<usize>())
                as u64,
            sstables_read: self.view.read_figures.sstables.load(Ordering::Relaxed),
            blocks_read: self.view.read_figures.blocks.load(Ordering::Relaxed),
            sstables_skipped: self.view.read_figures.skipped.load(Ordering::Relaxed),
            bloom_false_positives: self.view.read_figures.false_positives.load(Ordering::Relaxed),
            pending_compactions: self.ask(now, compaction::pending_tasks),
            ..self.figures.clone()
        }
    }
}

/// A major compaction that an operator asked for.
pub(super) struct Major {
    pub(super) table: TableId,
    pub(super) done: oneshot::Sender<Result<(), StorageError>>,
}

/// All of it.
pub(super) struct State {
    pub(super) tables: BTreeMap<TableId, Table>,
    pub(super) log: Log,
    /// Oldest first.
    pub(super) queue: VecDeque<Arc<Frozen>>,
    pub(super) majors: VecDeque<Major>,
    pub(super) book: Book,
    pub(super) auto_compaction: bool,
    pub(super) compaction_throughput: u64,
    pub(super) compactions_completed: u64,
    pub(super) flush_failures: u64,
    pub(super) compaction_failures: u64,
    pub(super) overloaded: u64,
    pub(super) slowed: u64,
    pub(super) slowed_micros: u64,
    pub(super) stopping: bool,
    /// A sync of the log is under way.
    pub(super) syncing: bool,
    active_bytes: u64,
    frozen_bytes: u64,
    next_sequence: u64,
    heap_space: u64,
    /// Of it, what memtables that are written to may take.
    active_space: u64,
    log_space: u64,
}

/// What a write set off.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stirred {
    /// A memtable waits to be flushed.
    pub(super) flush: bool,
    /// The log has something to sync, and had not before.
    pub(super) sync: bool,
}

impl State {
    pub(super) fn new(
        tables: BTreeMap<TableId, Table>,
        log: Log,
        config: &crate::config::StorageConfig,
    ) -> State {
        let active_bytes = tables.values().map(|table| table.active.bytes()).sum();
        State {
            tables,
            log,
            queue: VecDeque::new(),
            majors: VecDeque::new(),
            book: Book::new(config.concurrent_compactors),
            auto_compaction: true,
            compaction_throughput: config.compaction_throughput,
            compactions_completed: 0,
            flush_failures: 0,
            compaction_failures: 0,
            overloaded: 0,
            slowed: 0,
            slowed_micros: 0,
            stopping: false,
            syncing: false,
            active_bytes,
            frozen_bytes: 0,
            next_sequence: 1,
            heap_space: config.memtable_heap_space,
            active_space: config.memtable_active_space(),
            log_space: config.commitlog_total_space,
        }
    }

    /// A table that is defined.
    pub(super) fn open_table(&mut self, table: TableId) -> Result<&mut Table, StorageError> {
        self.tables
            .get_mut(&table)
            .filter(|found| found.options.is_some())
            .ok_or(StorageError::UnknownTable { table })
    }

    /// Takes options over. Says whether the table was already open.
    pub(super) fn define(&mut self, def: &TableDef, dir: PathBuf) {
        let auto_compaction = self.auto_compaction;
        let table = self.tables.entry(def.id).or_insert_with(|| Table {
            auto_compaction,
            ..Table::new(dir, Manifest::new(def.id), Vec::new())
        });
        table.options = Some(def.options.clone());
    }

    /// Whether writes are taken at all, and for how long an acknowledgement has to be held back.
    pub(super) fn admit(&mut self) -> Result<Duration, StorageError> {
        if self.stopping {
            return Err(StorageError::Stopped);
        }
        let limit_bytes = self.heap_space.saturating_mul(FROZEN_HEAPS_MAX);
        if self.frozen_bytes > limit_bytes {
            self.overloaded += 1;
            return Err(StorageError::Overloaded { waiting_bytes: self.frozen_bytes, limit_bytes });
        }
        let heaps = self.frozen_bytes as f64 / self.heap_space.max(1) as f64;
        if heaps <= FROZEN_HEAPS_SLOW {
            return Ok(Duration::ZERO);
        }
        let share = (heaps - FROZEN_HEAPS_SLOW) / (FROZEN_HEAPS_MAX as f64 - FROZEN_HEAPS_SLOW);
        let slowed = SLOWED_MAX.mul_f64(share.min(1.0));
        self.slowed += 1;
        self.slowed_micros += u64::try_from(slowed.as_micros()).unwrap_or(u64::MAX);
        Ok(slowed)
    }

    /// Bytes of memtables that wait to be flushed.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.frozen_bytes
    }

    /// Refuses what [`State::apply`] would.
    pub(super) fn check(&mut self, write: &Write) -> Result<(), StorageError> {
        self.open_table(write.table)?;
        fits(write)
    }

    /// Logs and merges one write.
    pub(super) fn apply(&mut self, write: Write) -> Result<Stirred, StorageError> {
        let table = self
            .tables
            .get_mut(&write.table)
            .filter(|found| found.options.is_some())
            .ok_or(StorageError::UnknownTable { table: write.table })?;
        fits(&write)?;
        let was_unsynced = self.log.is_unsynced();
        let segment = self.log.end().segment;
        let Write { key, token, update, encoded, .. } = write;
        // First, and not when it is needed: what is loaded for it from far away comes while the log is written.
        let spot = table.active.locate(token, &key.0);
        let mutation = Mutation { table: write.table, token, key: &key.0, update: &encoded };
        let at = self.log.append(&mutation)?;
        let before = table.active.bytes();
        table.active.merge(at, spot, &key.0, update, &encoded, || encoded.clone())?;
        table.figures.writes += 1;
        self.active_bytes += table.active.bytes() - before;
        let heap_full = self.active_bytes >= self.active_space || table.active.is_full();
        let log_full = at.segment != segment && self.log.total_bytes() > self.log_space;
        let flush = (heap_full || log_full) && self.relieve(heap_full, log_full);
        Ok(Stirred { flush, sync: !was_unsynced })
    }

    /// Freezes what takes the most memory, or what holds the oldest segment. Says whether anything was frozen.
    pub(super) fn relieve(&mut self, heap_full: bool, log_full: bool) -> bool {
        let largest = || self.tables.values().max_by_key(|table| table.active.bytes());
        let oldest = || {
            self.tables.values().filter(|t| !t.active.is_empty()).min_by_key(|t| t.active.first())
        };
        let heap = if heap_full { largest().map(|table| table.id) } else { None };
        let log = if log_full { oldest().map(|table| table.id) } else { None };
        let before = self.next_sequence;
        for table in heap.into_iter().chain(log) {
            self.freeze(table);
        }
        self.next_sequence > before
    }

    /// Whether the log takes more than it may.
    pub(super) fn is_log_full(&self) -> bool {
        self.log.total_bytes() > self.log_space
    }

    /// Gives a table a new active memtable; the old one waits to be flushed.
    pub(super) fn freeze(&mut self, table: TableId) {
        let upto = self.log.end();
        let Some(table) = self.tables.get_mut(&table).filter(|t| !t.active.is_empty()) else {
            return;
        };
        let memtable = std::mem::take(&mut table.active);
        self.active_bytes -= memtable.bytes();
        self.frozen_bytes += memtable.bytes();
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let frozen = Arc::new(Frozen { table: table.id, sequence, memtable, upto });
        table.view = table.view.with(|list, _| list.push(Arc::clone(&frozen)));
        self.queue.push_back(frozen);
    }

    /// Every flush up to this sequence has ended.
    pub(super) fn flushed_sequence(&self) -> u64 {
        self.queue.front().map_or(self.next_sequence, |frozen| frozen.sequence) - 1
    }

    /// The last sequence given out.
    pub(super) fn last_sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    /// A memtable has become an SSTable, or (its table was dropped) nothing. Gives the table's number of SSTables.
    pub(super) fn flushed(&mut self, frozen: &Frozen, sstable: Option<SsTable>) -> Option<usize> {
        let here = self.queue.len();
        self.queue.retain(|waiting| waiting.sequence != frozen.sequence);
        if self.queue.len() == here {
            // The table was dropped meanwhile; its drop removes the file.
            return None;
        }
        self.frozen_bytes -= frozen.memtable.bytes();
        let table = self.tables.get_mut(&frozen.table)?;
        let bytes = sstable.as_ref().map(|sstable| sstable.bytes);
        table.view = table.view.with(|list, sstables| {
            list.retain(|waiting| waiting.sequence != frozen.sequence);
            sstables.extend(sstable.map(Arc::new));
        });
        table.figures.flushes += 1;
        table.figures.flushed_bytes += bytes?;
        Some(table.view.sstables.len())
    }

    /// Inputs have been written anew, with nothing merged. Gives the table's number of SSTables; `None` if they are no
    /// longer its own.
    pub(super) fn replaced(
        &mut self,
        table: TableId,
        inputs: &[u64],
        outputs: Vec<SsTable>,
    ) -> Option<usize> {
        let table = self.tables.get_mut(&table).filter(|table| table.has(inputs))?;
        table.view = table.view.with(|_, sstables| {
            sstables.retain(|sstable| !inputs.contains(&sstable.generation));
            sstables.extend(outputs.into_iter().map(Arc::new));
        });
        Some(table.view.sstables.len())
    }

    /// Forgets a table's content. What the log holds of it before the returned position is dead.
    pub(super) fn forget(&mut self, table: TableId) -> Option<Position> {
        let upto = self.log.end();
        let dropped = self.tables.get_mut(&table)?;
        dropped.options = None;
        self.active_bytes -= std::mem::take(&mut dropped.active).bytes();
        dropped.view = Arc::new(View::default());
        dropped.figures = TableFigures::default();
        dropped.book = TableBook::default();
        for frozen in self.queue.iter().filter(|frozen| frozen.table == table) {
            self.frozen_bytes -= frozen.memtable.bytes();
        }
        self.queue.retain(|frozen| frozen.table != table);
        Some(upto)
    }

    /// Removes from the log what no memtable needs any more; the caller removes the files, oldest first.
    pub(super) fn free_log(&mut self) -> Vec<PathBuf> {
        let low = self.tables.values().filter_map(Table::low).min();
        if low.is_none() {
            // All that was written is in SSTables: an idle node keeps no log of it.
            self.log.leave_segment();
        }
        self.log.free_before(low.unwrap_or(self.log.end()).segment)
    }
}

impl Table {
    /// One more SSTable, during recovery.
    pub(super) fn add(&mut self, sstable: SsTable) {
        self.view = self.view.with(|_, sstables| sstables.push(Arc::new(sstable)));
    }

    /// Other SSTables than before.
    pub(super) fn change_sstables(&mut self, change: impl FnOnce(&mut Vec<Arc<SsTable>>)) {
        self.view = self.view.with(|_, sstables| change(sstables));
    }

    /// Whether all these SSTables are still its own.
    pub(super) fn has(&self, generations: &[u64]) -> bool {
        let own = &self.view.sstables;
        generations.iter().all(|g| own.iter().any(|sstable| sstable.generation == *g))
    }
}
