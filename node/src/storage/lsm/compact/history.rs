//! What is remembered of compactions that ended: rows of a table of this very engine (`storage::history`).

use super::Compaction;
use crate::storage::lsm::LsmEngine;
use crate::storage::lsm::sstable::SsTable;
use crate::storage::{Engine as _, StorageError, history};
use helenus_core::compaction::Action;
use std::sync::Arc;

/// The number of the last compaction that an earlier run recorded.
pub(in crate::storage::lsm) fn last_id(engine: &LsmEngine) -> u64 {
    let found = history::read(engine, engine.shared.now()).unwrap_or_else(|error| {
        tracing::warn!(%error, "the compaction history cannot be read; numbers begin anew");
        Vec::new()
    });
    found.first().map_or(0, |record| record.id)
}

impl Compaction<'_> {
    /// Records it. That it cannot be is no reason to call a compaction that took effect a failure.
    pub(super) fn remember(&self, outputs: &[Arc<SsTable>]) {
        if self.table == history::TABLE {
            return;
        }
        let outputs = if self.choice.action == Action::Move { &self.inputs } else { outputs };
        let partitions = |sstables: &[Arc<SsTable>]| -> u64 {
            sstables.iter().map(|sstable| sstable.content.partitions).sum()
        };
        let record = history::Record {
            id: self.id,
            ended_us: self.shared.clock.wall_micros(),
            table: self.table.0,
            reason: self.choice.reason.as_str().to_owned(),
            level: u64::from(self.choice.level),
            inputs: self.choice.inputs.clone(),
            outputs: outputs.iter().map(|output| output.generation).collect(),
            bytes_in: self.choice.bytes,
            bytes_out: outputs.iter().map(|output| output.bytes).sum(),
            partitions_in: partitions(&self.inputs),
            partitions_out: partitions(outputs),
        };
        let engine = LsmEngine { shared: Arc::clone(self.shared) };
        // Nobody waits until it is durable.
        match engine.apply(record.to_write()).and_then(|_| engine.commit()) {
            // An engine without a node has no such table.
            Ok(()) | Err(StorageError::UnknownTable { .. }) => {}
            Err(error) => tracing::warn!(%error, "a compaction is missing from the history"),
        }
    }
}
