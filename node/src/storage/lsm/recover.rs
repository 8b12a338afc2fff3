//! Opening what an earlier run left: tables, then the log.

use super::flush::{self, create_dir_durably, write_memtable};
use super::log::{Log, Mutation, Position, Segment};
use super::manifest::{self, Manifest};
use super::replay::{self, Replayed};
use super::snapshot;
use super::sstable::{BlockCache, SsTable};
use super::state::Table;
use super::{LsmParts, RecoveryReport, corrupt, io_error, table_dir, undecodable};
use crate::storage::{StorageError, Update};
use bytes::Bytes;
use helenus_core::{GcSeconds, TableId};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// What was found, ready to go on with.
pub(super) struct Recovered {
    pub(super) tables: BTreeMap<TableId, Table>,
    pub(super) log: Log,
    pub(super) report: RecoveryReport,
}

/// Reads everything back. Blocks, as nothing is served before.
pub(super) fn recover(
    parts: &LsmParts,
    cache: &Arc<BlockCache>,
    now: GcSeconds,
) -> Result<Recovered, StorageError> {
    let log_dir = parts.dir.join("commitlog");
    create_dir_durably(parts.disk.as_ref(), &log_dir)?;
    create_dir_durably(parts.disk.as_ref(), &parts.dir.join("tables"))?;
    let mut recovery =
        Recovery { parts, cache, now, tables: open_tables(parts, cache)?, flushed: 0, bytes: 0 };
    let replayed = replay::replay(parts.disk.as_ref(), &log_dir, &mut |at, mutation| {
        recovery.take(at, mutation)
    })?;
    // Ids go on behind whatever a manifest has ever seen, or new records would look as if they had been flushed.
    let flushed_to = recovery.tables.values().map(|table| lock(table).flushed_to.segment).max();
    let next_id = replayed.end.segment.max(flushed_to.unwrap_or(0)) + 1;
    // A crash may have lost the newest segments although a flush had made their writes durable. What is left must not be
    // followed by a gap: the next start would take it for a lost file.
    let leaves_gap = !replayed.segments.is_empty() && next_id > replayed.end.segment + 1;
    let begins_anew = replayed.is_cut() || leaves_gap;
    let Replayed { segments, durable, records, cut_bytes, end } = replayed;
    let report = RecoveryReport { records, segments: segments.len() as u64, cut_bytes };
    let (segments, durable) = if begins_anew {
        recovery.flush_all(end)?;
        for segment in segments {
            parts.disk.remove(&segment.path).map_err(|e| io_error(&segment.path, &e))?;
            // One by one: never a later segment gone before an earlier one.
            parts.disk.sync_dir(&log_dir).map_err(|e| io_error(&log_dir, &e))?;
        }
        (VecDeque::new(), Position::default())
    } else {
        segments.iter().try_for_each(write_again)?;
        (segments, durable)
    };
    let oldest = segments.front().map_or(next_id, |segment| segment.id);
    let mut tables = recovery.tables;
    forget_dropped(parts, &mut tables, oldest);
    let log = Log::open(
        Arc::clone(&parts.disk),
        log_dir,
        parts.config.commitlog_segment_size,
        segments,
        durable,
        next_id,
    )?;
    Ok(Recovered { tables, log, report })
}

/// Writes once more what no mark covers. A sync of it may have failed before the process died: then the system has it in
/// memory, calls it clean, and would answer the next sync without writing anything (fsyncgate).
fn write_again(segment: &Segment) -> Result<(), StorageError> {
    let len = usize::try_from(segment.written.saturating_sub(segment.synced)).unwrap_or(0);
    if len == 0 {
        return Ok(());
    }
    replay::read_all_at(segment.file.as_ref(), segment.synced, len)
        .and_then(|bytes| segment.file.write_at(segment.synced, &bytes))
        .map_err(|e| io_error(&segment.path, &e))
}

fn lock(table: &Table) -> std::sync::MutexGuard<'_, Manifest> {
    table.manifest.lock().expect("nothing else runs during recovery")
}

struct Recovery<'a> {
    parts: &'a LsmParts,
    cache: &'a Arc<BlockCache>,
    now: GcSeconds,
    tables: BTreeMap<TableId, Table>,
    flushed: u64,
    /// Of all memtables.
    bytes: u64,
}

impl Recovery<'_> {
    /// One record of the log.
    fn take(&mut self, at: Position, mutation: &Mutation<'_>) -> Result<(), StorageError> {
        let dir = || table_dir(&self.parts.dir, mutation.table);
        let table = self
            .tables
            .entry(mutation.table)
            .or_insert_with(|| Table::new(dir(), Manifest::new(mutation.table), Vec::new()));
        if at < lock(table).flushed_to {
            return Ok(());
        }
        let Mutation { token, key, update: encoded, .. } = mutation;
        let copied = || Bytes::copy_from_slice(encoded);
        let update = Update::decode(encoded, copied).map_err(|e| undecodable(&e))?;
        let before = table.active.bytes();
        let spot = table.active.locate(*token, key);
        table.active.merge(at, spot, key, update, encoded, copied)?;
        self.bytes += table.active.bytes() - before;
        if self.bytes >= self.parts.config.memtable_heap_space || table.active.is_full() {
            let largest = self.tables.values().max_by_key(|table| table.active.bytes());
            let largest = largest.map(|table| table.id);
            // The record itself is in; the next one is behind it.
            let upto = Position { offset: at.offset + 1, ..at };
            largest.map_or(Ok(()), |table| self.flush(table, upto))?;
        }
        Ok(())
    }

    fn flush(&mut self, id: TableId, upto: Position) -> Result<(), StorageError> {
        let options = self.parts.tables.iter().find(|def| def.id == id);
        let Some(table) = self.tables.get_mut(&id) else { return Ok(()) };
        let memtable = std::mem::take(&mut table.active);
        let place = flush::Place {
            disk: Arc::clone(&self.parts.disk),
            cache: Arc::clone(self.cache),
            dir: table.dir.clone(),
            manifest: Arc::clone(&table.manifest),
            options: options.map(|def| def.options.clone()).unwrap_or_default(),
            now: self.now,
        };
        self.bytes -= memtable.bytes();
        if let Some(sstable) = write_memtable(&place, &memtable, upto)? {
            table.add(sstable);
            self.flushed += 1;
        }
        Ok(())
    }

    fn flush_all(&mut self, upto: Position) -> Result<(), StorageError> {
        let ids: Vec<TableId> = self.tables.keys().copied().collect();
        ids.into_iter().try_for_each(|table| self.flush(table, upto))
    }
}

/// Every table that has a directory, whether or not anybody has defined it yet.
fn open_tables(
    parts: &LsmParts,
    cache: &Arc<BlockCache>,
) -> Result<BTreeMap<TableId, Table>, StorageError> {
    let disk = parts.disk.as_ref();
    let root = parts.dir.join("tables");
    let mut tables = BTreeMap::new();
    for name in disk.list(&root).map_err(|e| io_error(&root, &e))? {
        let dir = root.join(&name);
        let Some(id) = parse_id(&name) else {
            tracing::warn!(dir = %dir.display(), "not a table's directory: left alone");
            continue;
        };
        let files = disk.list(&dir).map_err(|e| io_error(&dir, &e))?;
        let Some(mut manifest) = Manifest::load(disk, &dir)? else {
            if let Some(orphan) = files.iter().find(|f| SsTable::generation_of(f).is_some()) {
                return Err(corrupt(
                    &dir.join(orphan),
                    0,
                    "an SSTable lies here, but the directory's MANIFEST is gone",
                    "Restore the MANIFEST, or remove the directory and repair the node from its replicas",
                ));
            }
            continue;
        };
        if manifest.table == snapshot::ANY_TABLE {
            // Somebody has put a snapshot back.
            manifest.table = id;
        }
        if manifest.table != id {
            return Err(corrupt(
                &dir.join(manifest::NAME),
                12,
                format!("it is the manifest of table {}", manifest.table),
                "The directory was renamed: give it back its name",
            ));
        }
        // The process may have died, or the sync failed, between the manifest's new name and its sync. Whatever rests on
        // this manifest from now on, freed log segments first of all, needs it to be the one that a crash leaves.
        disk.sync_dir(&dir).map_err(|e| io_error(&dir, &e))?;
        remove_orphans(parts, &dir, &files, &mut manifest);
        let sstables = manifest
            .generations
            .iter()
            .map(|generation| SsTable::open(disk, &dir, *generation, cache).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| missing(error, &dir))?;
        tables.insert(id, Table::new(dir, manifest, sstables));
    }
    Ok(tables)
}

/// An SSTable that the manifest lists and that is not there is corruption, not a plain IO error.
fn missing(error: StorageError, dir: &Path) -> StorageError {
    match error {
        StorageError::Io { path, message } => StorageError::Corrupt {
            path,
            offset: 0,
            what: format!("{} lists this SSTable: {message}", dir.join(manifest::NAME).display()),
            remedy: "Restore the file, or remove the table's directory and repair the node from its replicas"
                .to_owned(),
        },
        other => other,
    }
}

/// Files that no manifest lists are what a flush or a compaction left when the process died.
fn remove_orphans(parts: &LsmParts, dir: &Path, files: &[String], manifest: &mut Manifest) {
    for generation in files.iter().filter_map(|name| SsTable::generation_of(name)) {
        manifest.next_generation = manifest.next_generation.max(generation + 1);
        if !manifest.generations.contains(&generation) {
            flush::abandon(parts.disk.as_ref(), dir, generation);
        }
    }
}

/// Removes directories of dropped tables of which the log holds nothing any more.
fn forget_dropped(parts: &LsmParts, tables: &mut BTreeMap<TableId, Table>, oldest_segment: u64) {
    let disk = parts.disk.as_ref();
    tables.retain(|_, table| {
        let manifest = lock(table);
        if !manifest.dropped
            || manifest.flushed_to.segment >= oldest_segment
            || !table.active.is_empty()
        {
            return true;
        }
        let removed = disk.remove(&table.dir.join(manifest::NAME)).and_then(|()| {
            for name in disk.list(&table.dir)? {
                disk.remove(&table.dir.join(name))?;
            }
            disk.remove_dir(&table.dir)
        });
        if let Err(error) = removed {
            tracing::warn!(dir = %table.dir.display(), %error, "a dropped table's directory stays");
        }
        false
    });
}

fn parse_id(name: &str) -> Option<TableId> {
    if name.len() == 32 { u128::from_str_radix(name, 16).ok().map(TableId) } else { None }
}
