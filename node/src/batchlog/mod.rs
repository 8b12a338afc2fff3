//! The batches that this node keeps for others: written down before anything of them is applied, forgotten when their
//! coordinators say so, finished by this node when they do not. What that is for, and whom it is asked of, says
//! `helenus_core::batchlog`; how a batch is coordinated, `coordinator::batch`.
//!
//! `mod` keeps them, in `system.batches`, an ordinary table of the node's own engine like `storage::history`; `replay`
//! finishes them; `metrics` counts.
//!
//! Invariants: a batch is as durable as any write when it is acknowledged, and found again after a restart; at most
//! [`BATCHES_MAX`] of them with [`BYTES_MAX`] bytes are kept (what is beyond is refused, counted, and its client told that
//! nothing was applied). In memory are their ids and sizes only.
//!
//! CAVEAT: when a batch is due is counted from when this node got it, or found it at its start: a restart begins anew.

mod metrics;
mod replay;

pub(crate) use metrics::BatchlogMetrics;
pub(crate) use metrics::Now;
pub(crate) use replay::replay;

use crate::seams::clock::{Clock, gc_seconds};
use crate::storage::{Applied, Engine, RangeStart, StorageError, Write, system_row};
use bytes::Bytes;
use helenus_core::batchlog::{BatchId, due_at};
use helenus_core::{GcSeconds, Key, Partition, TableDef, TableId, Token, codec, merge, token};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// The table's identity, the same on every node.
pub(crate) const TABLE: TableId = TableId(u128::from_be_bytes(*b"system.batches\0\0"));
/// Its keyspace and name, for operators.
pub(crate) const NAME: (&str, &str) = ("system", "batches");
/// Batches kept at a time. A healthy one is kept for a few milliseconds.
const BATCHES_MAX: usize = 65_536;
/// Bytes of them.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Its definition.
pub(crate) fn table() -> TableDef {
    system_row::table(TABLE, NAME)
}

/// Why a batch is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// There are too many.
    #[error(
        "{batches} batches of {bytes} bytes are kept here already, and wait to be finished: see why their replicas do not \
         take them, or write fewer logged batches"
    )]
    Full {
        /// How many.
        batches: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// Storage refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What is known of a batch without reading it.
#[derive(Debug, Clone, Copy)]
struct Kept {
    bytes: u64,
    due: Duration,
}

/// Invariant: `by_due` has exactly the batches of `kept`, and `bytes` is their sum.
#[derive(Debug, Default)]
struct Index {
    kept: BTreeMap<BatchId, Kept>,
    by_due: BTreeSet<(Duration, BatchId)>,
    bytes: u64,
}

impl Index {
    fn insert(&mut self, id: BatchId, kept: Kept) {
        self.remove(id);
        self.kept.insert(id, kept);
        self.by_due.insert((kept.due, id));
        self.bytes += kept.bytes;
    }

    fn remove(&mut self, id: BatchId) -> Option<Kept> {
        let kept = self.kept.remove(&id)?;
        self.by_due.remove(&(kept.due, id));
        self.bytes -= kept.bytes;
        Some(kept)
    }
}

/// The batches that this node keeps.
pub(crate) struct Batchlog {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    write_request_timeout: Duration,
    index: Mutex<Index>,
    /// There is one where there was none, or replay is to stop.
    changed: Notify,
    paused: AtomicBool,
    metrics: BatchlogMetrics,
}

impl fmt::Debug for Batchlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batchlog").field("kept", &self.figures()).finish_non_exhaustive()
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) batches: usize,
    pub(crate) bytes: u64,
    /// When the one that was written first was, by its coordinator's clock.
    pub(crate) oldest_us: Option<i64>,
}

impl Batchlog {
    /// Finds what was kept before.
    pub(crate) fn open(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        write_request_timeout: Duration,
        metrics: BatchlogMetrics,
    ) -> Result<Batchlog, StorageError> {
        let mut index = Index::default();
        let due = due_at(clock.now(), write_request_timeout);
        let found = engine.scan(TABLE, &RangeStart::First, Token::MAX, &mut |_, key, encoded| {
            // What is no put is the tombstone of one that was forgotten.
            if let (Some(id), Some(_)) = (BatchId::from_bytes(key), codec::peek_put(encoded)) {
                index.insert(id, Kept { bytes: encoded.len() as u64, due });
            }
            ControlFlow::Continue(())
        });
        found?;
        if !index.kept.is_empty() {
            let (batches, bytes) = (index.kept.len(), index.bytes);
            tracing::info!(batches, bytes, "batches of an earlier life are kept, to be finished");
        }
        Ok(Batchlog {
            engine,
            clock,
            write_request_timeout,
            index: Mutex::new(index),
            changed: Notify::new(),
            paused: AtomicBool::new(false),
            metrics,
        })
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().expect("nothing panics while it holds this lock")
    }

    /// Keeps a batch. See [`Applied`] for when that may be acknowledged.
    pub(crate) fn store(&self, id: BatchId, batch: &Bytes) -> Result<Applied, KeepError> {
        let (batches, bytes) = {
            let index = self.index();
            (index.kept.len(), index.bytes)
        };
        if batches >= BATCHES_MAX || bytes.saturating_add(batch.len() as u64) > BYTES_MAX {
            self.metrics.refused.inc();
            return Err(KeepError::Full { batches, bytes });
        }
        let key = Key(Bytes::copy_from_slice(id.as_bytes()));
        let write = Write::put((TABLE, key.clone(), token::of(&key.0)), batch, id.written(), None);
        let kept = Kept {
            bytes: write.encoded.len() as u64,
            due: due_at(self.clock.now(), self.write_request_timeout),
        };
        let applied = self.engine.apply(write)?;
        self.metrics.stored.inc();
        self.index().insert(id, kept);
        self.changed.notify_one();
        Ok(applied)
    }

    /// Forgets a batch, whether or not it is kept: it may have been overtaken by this.
    pub(crate) fn remove(&self, id: BatchId) -> Result<Applied, StorageError> {
        self.index().remove(id);
        let key = Key(Bytes::copy_from_slice(id.as_bytes()));
        // Of the batch's own timestamp: a tombstone covers what is as old as itself, and nothing else has this key.
        let tombstone = Partition::delete(id.written(), gc_seconds(&*self.clock));
        let token = token::of(&key.0);
        self.engine.apply(Write::of(TABLE, key, token, tombstone))
    }

    /// A batch's bytes. `None`: it was forgotten.
    fn load(&self, id: BatchId) -> Result<Option<Bytes>, StorageError> {
        let key = Key(Bytes::copy_from_slice(id.as_bytes()));
        let found = self.engine.read(TABLE, token::of(&key.0), &key)?;
        // They have no TTL, so it does not matter when this is.
        let found = found.as_ref().and_then(|found| merge::live_value(found, GcSeconds(0)));
        Ok(found.map(|(batch, _)| batch.clone()))
    }

    /// Has a batch finished later.
    fn put_off(&self, id: BatchId, by: Duration) {
        let due = self.clock.now().saturating_add(by);
        let mut index = self.index();
        if let Some(kept) = index.remove(id) {
            index.insert(id, Kept { due, ..kept });
        }
    }

    /// When the next one is due.
    fn next_due(&self) -> Option<Duration> {
        self.index().by_due.first().map(|(due, _)| *due)
    }

    /// Those that are due, the longest due first.
    fn due(&self, now: Duration, limit: usize) -> Vec<BatchId> {
        let index = self.index();
        let due = index.by_due.iter().take_while(|(due, _)| *due <= now);
        due.take(limit).map(|(_, id)| *id).collect()
    }

    pub(crate) fn figures(&self) -> Figures {
        let index = self.index();
        let oldest = index.kept.keys().map(|id| id.written().0).min();
        Figures { batches: index.kept.len(), bytes: index.bytes, oldest_us: oldest }
    }

    /// No more batches are finished from now on: the node stops.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
