//! Snapshots: the SSTables of some tables as they are at one moment, kept by hard links.
//!
//! ```text
//! snapshots/<tag>/<keyspace>.<table>-<id>/ | SSTables, linked | MANIFEST | schema.json |
//! snapshots/.partial-<tag>/                  one that is being made or removed
//! ```
//!
//! An SSTable never changes, so a link costs a name and no bytes, until compaction replaces the original. They lie by tag
//! and not in the tables' directories as Cassandra's do: so a snapshot appears, and goes, by one rename, and outlives its
//! table.
//!
//! A snapshot's manifest belongs to no table and knows no log: put into a table's directory, it becomes that table's, and
//! what the log holds of the table is replayed on top.
//!
//! Invariants: what has a tag is whole and durable; only jobs of the flush lane make and remove snapshots, so no SSTable
//! goes while it is being linked.
//!
//! CAVEAT: a snapshot that was put back by copying counts as shared with the live files of that table; it is not.

use super::flush::{Place, create_dir_durably, write_memtable};
use super::manifest::Manifest;
use super::replay::read_all;
use super::sstable::SsTable;
use super::state::Frozen;
use super::{LsmEngine, Shared, corrupt, io_error};
use crate::seams::background::{self, Lane};
use crate::seams::disk::Disk;
use crate::storage::{SnapshotFigures, StorageError, Upkeep};
use helenus_core::{TableDef, TableId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const PARTIAL: &str = ".partial-";
const SCHEMA: &str = "schema.json";
const GONE: &str =
    "As long as the node runs it has it open: `helenusctl scrub --no-snapshot` writes it anew";
const TAG_BYTES_MAX: usize = 128;
/// Snapshots whose names were made here, of one millisecond, that get names of their own.
const SAME_NAME_MAX: u32 = 1000;
/// The table of a manifest that becomes the manifest of whatever table it is put to.
pub(super) const ANY_TABLE: TableId = TableId(0);

/// What a snapshot says of its table. For people too: it has what `create-table` needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    keyspace: String,
    table: String,
    id: String,
    created_ms: i64,
    options: BTreeMap<String, String>,
}

/// How a snapshot is called.
#[derive(Debug, Clone)]
pub(super) enum Name {
    /// So, or not at all.
    Exactly(String),
    /// So, or with a number behind it.
    Like(String),
}

/// A table to take a snapshot of.
struct Source {
    def: TableDef,
    dir: PathBuf,
    manifest: Arc<Mutex<Manifest>>,
}

/// A name that is one name: it neither leaves the directory nor hides in it.
fn check_tag(tag: &str) -> Result<(), StorageError> {
    let bad = |why| Err(StorageError::BadTag { tag: tag.to_owned(), why });
    if tag.is_empty() || tag.len() > TAG_BYTES_MAX {
        return bad("it must have from 1 to 128 characters");
    }
    if tag.starts_with(['.', '-']) {
        return bad("it must begin with a letter, a digit or an underscore");
    }
    if tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Ok(());
    }
    bad("letters, digits, dots, underscores and hyphens are allowed")
}

impl Shared {
    fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    fn now_ms(&self) -> i64 {
        self.clock.wall_micros() / 1000
    }

    fn def(&self, table: TableId) -> Option<TableDef> {
        self.defs
            .lock()
            .expect("nothing panics while it holds the definitions")
            .get(&table)
            .cloned()
    }

    fn sources(&self, tables: Option<&[TableId]>) -> Vec<Source> {
        let state = self.lock();
        let open = state.tables.values().filter(|table| table.options.is_some());
        let wanted = open.filter(|table| tables.is_none_or(|tables| tables.contains(&table.id)));
        let sources = wanted.filter_map(|table| {
            let manifest = Arc::clone(&table.manifest);
            Some(Source { def: self.def(table.id)?, dir: table.dir.clone(), manifest })
        });
        sources.collect()
    }
}

/// Flushes, then links. Gives the snapshot's name.
pub(super) async fn snapshot(
    shared: &Arc<Shared>,
    name: Name,
    tables: Option<Vec<TableId>>,
) -> Result<String, StorageError> {
    let (Name::Exactly(tag) | Name::Like(tag)) = &name;
    check_tag(tag)?;
    let engine = LsmEngine { shared: Arc::clone(shared) };
    match &tables {
        None => engine.flush(None).await?,
        Some(tables) => {
            for table in tables {
                engine.flush(Some(*table)).await?;
            }
        }
    }
    let (disk, root, now_ms) = (Arc::clone(&shared.disk), shared.snapshots(), shared.now_ms());
    let sources = shared.sources(tables.as_deref());
    // One job for all tables: whoever asked may go away, and the snapshot is whole or not there.
    on_flush_lane(shared, move || take(disk.as_ref(), &root, name, &sources, now_ms)).await?
}

async fn on_flush_lane<T: Send + 'static>(
    shared: &Shared,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    background::run(shared.background.as_ref(), Lane::Flush, 4096, job)
        .await
        .map_err(|_| StorageError::Stopped)
}

fn take(
    disk: &dyn Disk,
    root: &Path,
    name: Name,
    sources: &[Source],
    now_ms: i64,
) -> Result<String, StorageError> {
    create_dir_durably(disk, root)?;
    let taken = disk.list(root).map_err(|e| io_error(root, &e))?;
    let tag = match name {
        Name::Exactly(tag) if taken.contains(&tag) => {
            return Err(StorageError::SnapshotExists { tag });
        }
        Name::Exactly(tag) => tag,
        Name::Like(tag) => {
            let mut numbered = (2..SAME_NAME_MAX).map(|n| format!("{tag}-{n}"));
            match taken.contains(&tag) {
                false => tag,
                true => numbered
                    .find(|tag| !taken.contains(tag))
                    .ok_or(StorageError::SnapshotExists { tag })?,
            }
        }
    };
    let partial = root.join(format!("{PARTIAL}{tag}"));
    let made = link_all(disk, &partial, sources, now_ms).and_then(|()| {
        let whole = root.join(&tag);
        disk.rename(&partial, &whole).map_err(|e| io_error(&whole, &e))?;
        disk.sync_dir(root).map_err(|e| io_error(root, &e))
    });
    if let Err(error) = made {
        if let Err(error) = remove_tree(disk, &partial) {
            tracing::debug!(dir = %partial.display(), %error, "the next start will remove it");
        }
        return Err(error);
    }
    tracing::info!(%tag, tables = sources.len(), "took a snapshot");
    Ok(tag)
}

fn link_all(
    disk: &dyn Disk,
    partial: &Path,
    sources: &[Source],
    now_ms: i64,
) -> Result<(), StorageError> {
    // What an earlier attempt left under this name is not ours.
    remove_tree(disk, partial).map_err(|e| io_error(partial, &e))?;
    disk.create_dir(partial).map_err(|e| io_error(partial, &e))?;
    for source in sources {
        link(disk, &partial.join(dir_name(&source.def)), source, now_ms)?;
    }
    disk.sync_dir(partial).map_err(|e| io_error(partial, &e))
}

fn dir_name(def: &TableDef) -> String {
    format!("{}.{}-{}", def.keyspace, def.name, def.id)
}

fn link(disk: &dyn Disk, dir: &Path, source: &Source, now_ms: i64) -> Result<(), StorageError> {
    disk.create_dir(dir).map_err(|e| io_error(dir, &e))?;
    let manifest = source.manifest.lock().expect("no job panics while it holds a manifest");
    for generation in &manifest.generations {
        let name = SsTable::name(*generation);
        let (from, to) = (source.dir.join(&name), dir.join(&name));
        disk.hard_link(&from, &to).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => corrupt(&from, 0, "the SSTable is gone", GONE),
            _ => io_error(&from, &e),
        })?;
    }
    let mut own = Manifest {
        next_generation: manifest.next_generation,
        generations: manifest.generations.clone(),
        ..Manifest::new(ANY_TABLE)
    };
    let description = Description {
        keyspace: source.def.keyspace.clone(),
        table: source.def.name.clone(),
        id: source.def.id.to_string(),
        created_ms: now_ms,
        options: source.def.options.to_map(),
    };
    let path = dir.join(SCHEMA);
    let written = serde_json::to_vec_pretty(&description).map_err(io::Error::other);
    let written = written.and_then(|text| {
        let file = disk.open(&path, true)?;
        file.write_at(0, &text)?;
        file.sync()
    });
    written.map_err(|e| io_error(&path, &e))?;
    // Storing it syncs the directory, and with it every name in there.
    Ok(own.store(disk, dir)?)
}

/// What a drop needs to keep the table first.
pub(super) struct Keepsake {
    root: PathBuf,
    source: Source,
    frozen: Vec<Arc<Frozen>>,
    now_ms: i64,
}

impl Shared {
    /// To be asked before the table is forgotten. `None`: `auto_snapshot` is off, or nobody knows the table.
    pub(super) fn keepsake(&self, table: TableId) -> Option<Keepsake> {
        if !self.config.auto_snapshot {
            return None;
        }
        let source = self.sources(Some(&[table])).pop()?;
        let mut state = self.lock();
        state.freeze(table);
        let frozen = state.tables.get(&table)?.view.frozen.clone();
        drop(state);
        Some(Keepsake { root: self.snapshots(), source, frozen, now_ms: self.now_ms() })
    }
}

impl Keepsake {
    /// Writes what was in memory, and links it with the rest. A table that holds nothing leaves nothing. A job of the
    /// flush lane.
    pub(super) fn take(self, place: &Place) -> Result<(), StorageError> {
        for frozen in &self.frozen {
            let flushed_to = {
                let manifest = self.source.manifest.lock();
                manifest.expect("no job panics while it holds a manifest").flushed_to
            };
            // The flush task may have had its turn since.
            if flushed_to < frozen.upto {
                write_memtable(place, &frozen.memtable, frozen.upto)?;
            }
        }
        let is_empty = {
            let manifest = self.source.manifest.lock();
            manifest.expect("no job panics while it holds a manifest").generations.is_empty()
        };
        if is_empty {
            return Ok(());
        }
        let TableDef { keyspace, name, .. } = &self.source.def;
        let name = Name::Like(format!("dropped-{}-{keyspace}.{name}", self.now_ms));
        take(place.disk.as_ref(), &self.root, name, &[self.source], self.now_ms).map(drop)
    }
}

/// Lists all snapshots.
pub(super) async fn list(shared: &Arc<Shared>) -> Result<Vec<SnapshotFigures>, StorageError> {
    let (disk, root) = (Arc::clone(&shared.disk), shared.snapshots());
    let manifests: BTreeMap<TableId, Arc<Mutex<Manifest>>> = {
        let state = shared.lock();
        state.tables.iter().map(|(id, table)| (*id, Arc::clone(&table.manifest))).collect()
    };
    on_flush_lane(shared, move || list_all(disk.as_ref(), &root, &manifests)).await?
}

fn list_all(
    disk: &dyn Disk,
    root: &Path,
    manifests: &BTreeMap<TableId, Arc<Mutex<Manifest>>>,
) -> Result<Vec<SnapshotFigures>, StorageError> {
    let mut all = Vec::new();
    for entry in names(disk, root)? {
        let (tag, complete) = match entry.strip_prefix(PARTIAL) {
            Some(tag) => (tag, false),
            None => (entry.as_str(), true),
        };
        for name in names(disk, &root.join(&entry))? {
            let dir = root.join(&entry).join(&name);
            let description = describe(disk, &dir);
            let table = table_of(&name);
            let live: BTreeSet<u64> = table
                .and_then(|table| manifests.get(&table))
                .map(|manifest| manifest.lock().expect("no job panics while it holds a manifest"))
                .map(|manifest| manifest.generations.iter().copied().collect())
                .unwrap_or_default();
            let mut figures = SnapshotFigures {
                tag: tag.to_owned(),
                table,
                keyspace: description.as_ref().map_or_else(String::new, |d| d.keyspace.clone()),
                name: description.as_ref().map_or_else(|| name.clone(), |d| d.table.clone()),
                created_ms: description.as_ref().map_or(0, |d| d.created_ms),
                sstables: 0,
                bytes_on_disk: 0,
                true_bytes: 0,
                complete,
            };
            measure(disk, &dir, &live, &mut figures)?;
            all.push(figures);
        }
    }
    Ok(all)
}

fn measure(
    disk: &dyn Disk,
    dir: &Path,
    live: &BTreeSet<u64>,
    figures: &mut SnapshotFigures,
) -> Result<(), StorageError> {
    for file in names(disk, dir)? {
        let path = dir.join(&file);
        let len = disk.open(&path, false).and_then(|file| file.len());
        let len = len.map_err(|e| io_error(&path, &e))?;
        let generation = SsTable::generation_of(&file);
        figures.sstables += u64::from(generation.is_some());
        figures.bytes_on_disk += len;
        if !generation.is_some_and(|generation| live.contains(&generation)) {
            figures.true_bytes += len;
        }
    }
    Ok(())
}

fn describe(disk: &dyn Disk, dir: &Path) -> Option<Description> {
    let file = disk.open(&dir.join(SCHEMA), false).ok()?;
    serde_json::from_slice(&read_all(file.as_ref()).ok()?).ok()
}

fn table_of(dir_name: &str) -> Option<TableId> {
    let (_, id) = dir_name.rsplit_once('-')?;
    u128::from_str_radix(id, 16).ok().map(TableId)
}

/// The names in a directory, none if it is not there.
fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, StorageError> {
    match disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|e| io_error(dir, &e)),
    }
}

/// Removes snapshots. Gives of how many tables.
pub(super) async fn clear(
    shared: &Arc<Shared>,
    tag: Option<String>,
    tables: Option<Vec<TableId>>,
) -> Result<u64, StorageError> {
    if let Some(tag) = &tag {
        check_tag(tag)?;
    }
    let (disk, root) = (Arc::clone(&shared.disk), shared.snapshots());
    let clear = move || clear_all(disk.as_ref(), &root, tag.as_deref(), tables.as_deref());
    on_flush_lane(shared, clear).await?
}

fn clear_all(
    disk: &dyn Disk,
    root: &Path,
    tag: Option<&str>,
    tables: Option<&[TableId]>,
) -> Result<u64, StorageError> {
    let there = names(disk, root)?;
    let tags: Vec<String> = match tag {
        None => there,
        Some(tag) => {
            let of_tag = |name: &String| name == tag || name.strip_prefix(PARTIAL) == Some(tag);
            let found: Vec<String> = there.into_iter().filter(of_tag).collect();
            if found.is_empty() {
                return Err(StorageError::NoSuchSnapshot { tag: tag.to_owned() });
            }
            found
        }
    };
    let mut cleared = 0;
    for tag in tags {
        let dir = root.join(&tag);
        let all = names(disk, &dir)?;
        let wanted = |name: &&String| {
            tables.is_none_or(|tables| table_of(name).is_some_and(|table| tables.contains(&table)))
        };
        let going: Vec<&String> = all.iter().filter(wanted).collect();
        cleared += going.len() as u64;
        // What goes is renamed first: whatever has a tag is whole.
        let partial = match tag.starts_with(PARTIAL) {
            true => dir.clone(),
            false => root.join(format!("{PARTIAL}{tag}")),
        };
        let remove = || -> io::Result<()> {
            if going.len() == all.len() {
                if partial != dir {
                    remove_tree(disk, &partial)?;
                    disk.rename(&dir, &partial)?;
                    disk.sync_dir(root)?;
                }
                remove_tree(disk, &partial)?;
            } else {
                disk.create_dir(&partial)?;
                for name in &going {
                    disk.rename(&dir.join(name), &partial.join(name))?;
                }
                disk.sync_dir(&dir)?;
                remove_tree(disk, &partial)?;
            }
            disk.sync_dir(root)
        };
        remove().map_err(|e| io_error(&dir, &e))?;
    }
    Ok(cleared)
}

/// Removes what was cut short, at the start.
pub(super) fn sweep(disk: &dyn Disk, engine_dir: &Path) {
    let root = engine_dir.join("snapshots");
    // No snapshots, or a disk on which nothing else will work either.
    let Ok(names) = disk.list(&root) else { return };
    for name in names.iter().filter(|name| name.starts_with(PARTIAL)) {
        let dir = root.join(name);
        match remove_tree(disk, &dir) {
            Ok(()) => tracing::info!(dir = %dir.display(), "removed a snapshot that was cut short"),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "a snapshot that was cut short stays");
            }
        }
    }
}

/// Removes a directory with all that is in it; one that is not there is removed already.
fn remove_tree(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let names = match disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed?,
    };
    for name in names {
        let path = dir.join(name);
        match disk.list(&path) {
            Ok(_) => remove_tree(disk, &path)?,
            Err(_) => disk.remove(&path)?,
        }
    }
    disk.remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_single_names() {
        for good in ["a", "2026-01-02", "pre-scrub-1700000000000", "dropped-1-shop.orders", "x..y"]
        {
            assert!(check_tag(good).is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        let bad =
            ["", ".", "..", "../x", "a/b", "/", ".partial-a", "-rf", "a b", "a\0", "ä", &long];
        for bad in bad {
            let refused = check_tag(bad);
            assert!(matches!(refused, Err(StorageError::BadTag { .. })), "{bad:?}");
        }
    }
}
