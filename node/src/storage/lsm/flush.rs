//! Memtables become SSTables, oldest first, one at a time.

use super::log::Position;
use super::manifest::{Manifest, StoreError};
use super::memtable::{Held, Memtable, Stored};
use super::sstable::{BlockCache, SsTable, Writer};
use super::state::Frozen;
use super::{Shared, io_error};
use crate::seams::background::{self, Lane};
use crate::seams::disk::Disk;
use crate::seams::probe::Event;
use crate::storage::StorageError;
use helenus_core::{GcSeconds, TableOptions, codec};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A flush that failed is tried again after this; the memtable stays readable, and its log stays.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// So many partitions are brought into the processor's caches at once.
const AHEAD: usize = 32;

/// What a flush needs besides the memtable.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) cache: Arc<BlockCache>,
    /// The table's directory.
    pub(super) dir: PathBuf,
    pub(super) manifest: Arc<Mutex<Manifest>>,
    pub(super) options: TableOptions,
    pub(super) now: GcSeconds,
}

/// Writes a memtable as an SSTable and lists it in the manifest. `None`: the table was dropped after these writes.
pub(super) fn write_memtable(
    place: &Place,
    memtable: &Memtable,
    upto: Position,
) -> Result<Option<SsTable>, StorageError> {
    let mut manifest = place.manifest.lock().expect("no job panics while it holds a manifest");
    let first = memtable.first().unwrap_or_default();
    if memtable.is_empty() || (manifest.dropped && first < manifest.flushed_to) {
        return Ok(None);
    }
    let disk = place.disk.as_ref();
    if !manifest.stored {
        // An SSTable never lies in a directory without a manifest: that is how a lost manifest is noticed.
        create_dir_durably(disk, &place.dir)?;
        manifest.store(disk, &place.dir)?;
    }
    let generation = manifest.next_generation;
    manifest.next_generation += 1;
    let count = memtable.partitions() as u64;
    let disk_handle = Arc::clone(&place.disk);
    let mut writer = Writer::create(disk_handle, &place.dir, generation, &place.options, count)?;
    if let Err(error) = write_partitions(&mut writer, memtable) {
        writer.abandon();
        return Err(error);
    }
    let sstable =
        writer.finish(*memtable.statistics(), place.now, &place.cache).inspect_err(|_| {
            abandon(disk, &place.dir, generation);
        })?;
    let mut next = manifest.clone();
    next.dropped = false;
    next.flushed_to = next.flushed_to.max(upto);
    next.generations.push(generation);
    match next.store(disk, &place.dir) {
        Ok(()) => {
            *manifest = next;
            Ok(Some(sstable))
        }
        Err(StoreError::Before(error)) => {
            abandon(disk, &place.dir, generation);
            Err(error)
        }
        Err(StoreError::Amid(error)) => Err(error),
    }
}

fn write_partitions(writer: &mut Writer, memtable: &Memtable) -> Result<(), StorageError> {
    let mut buffer = Vec::new();
    let mut rest = memtable.iter(&Bound::Unbounded);
    let mut ahead = Vec::with_capacity(AHEAD);
    loop {
        ahead.extend(rest.by_ref().take(AHEAD));
        if ahead.is_empty() {
            return Ok(());
        }
        fetch(&ahead);
        for Held { token, key, stored } in ahead.drain(..) {
            let encoded = match stored {
                Stored::Encoded(encoded) => encoded,
                Stored::Partition(partition) => {
                    buffer.clear();
                    codec::encode_into(partition, &mut buffer);
                    &buffer
                }
            };
            writer.add(token, key, encoded)?;
        }
    }
}

/// Reads a byte of each cache line of each (the last one begins anywhere), one soon after the other. Partitions that sort side by side lie all over the
/// memtable, and here a processor waits for several of them at once: what follows waits for one after the other.
fn fetch(partitions: &[Held<'_>]) {
    let mut sum = 0_u8;
    for held in partitions {
        sum ^= held.key.first().copied().unwrap_or(0);
        if let Stored::Encoded(encoded) = held.stored {
            let lines = encoded.iter().step_by(64).chain(encoded.last());
            sum = lines.fold(sum, |sum, byte| sum ^ byte);
        }
    }
    std::hint::black_box(sum);
}

/// Removes a file that no manifest lists. If it stays, the next start removes it.
pub(super) fn abandon(disk: &dyn Disk, dir: &Path, generation: u64) {
    let path = dir.join(SsTable::name(generation));
    if let Err(error) = disk.remove(&path) {
        tracing::debug!(path = %path.display(), %error, "the next start will remove it");
    }
}

/// Creates a directory, and makes its name and its parents' durable.
pub(super) fn create_dir_durably(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    disk.create_dir(dir).map_err(|e| io_error(dir, &e))?;
    for parent in dir.ancestors().skip(1) {
        disk.sync_dir(parent).map_err(|e| io_error(parent, &e))?;
    }
    Ok(())
}

/// The engine's flush task.
pub(super) async fn flush_loop(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    loop {
        let next = shared.lock().queue.front().cloned();
        let Some(frozen) = next else {
            tokio::select! { biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = shared.flush_wanted.notified() => continue,
            }
        };
        match flush_one(&shared, &frozen).await {
            Ok(()) => {}
            Err(StorageError::Stopped) => return,
            Err(error) => {
                tracing::error!(table = %frozen.table, %error, "a flush failed; it will be tried again");
                shared.lock().flush_failures += 1;
                shared.flushes.send_modify(|progress| progress.failure(error));
                tokio::select! { biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = tokio::time::sleep(RETRY_AFTER) => {}
                }
            }
        }
    }
}

async fn flush_one(shared: &Arc<Shared>, frozen: &Arc<Frozen>) -> Result<(), StorageError> {
    let Some(place) = shared.place(frozen.table) else { return Ok(()) };
    let job = {
        let frozen = Arc::clone(frozen);
        move || write_memtable(&place, &frozen.memtable, frozen.upto)
    };
    let sstable =
        background::run(shared.background.as_ref(), Lane::Flush, frozen.memtable.bytes(), job)
            .await
            .map_err(|_| StorageError::Stopped)??;
    let (sstables, freed, done) = {
        let mut state = shared.lock();
        let sstables = state.flushed(frozen, sstable);
        (sstables, state.free_log(), state.flushed_sequence())
    };
    shared.remove_log_files(freed);
    if let Some(sstables) = sstables {
        shared.probe.event(&Event::Flushed { table: frozen.table, sstables });
    }
    shared.flushes.send_modify(|progress| progress.done = done);
    shared.compaction_wanted.notify_one();
    Ok(())
}

/// How far flushing has come: what a `flush()` waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Every memtable up to this sequence is flushed.
    pub(super) done: u64,
    pub(super) failures: u64,
    pub(super) last_error: Option<StorageError>,
}

impl Progress {
    fn failure(&mut self, error: StorageError) {
        self.failures += 1;
        self.last_error = Some(error);
    }
}
