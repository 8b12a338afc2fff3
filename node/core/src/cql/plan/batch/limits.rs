//! How large a batch may be, and what its client is warned of.
//!
//! A batch is held whole by its coordinator, and a logged one by two more nodes: large ones are slow, and hard on all of
//! them. Invariant: a batch of one partition is neither warned of nor refused: it is one write (CASSANDRA-10876).
//!
//! Source: Cassandra 4.1's `BatchStatement.verifyBatchSize` and `verifyBatchType`; `dataSize` of rows and cells.

use super::super::PlanError;
use super::super::error::invalid;
use crate::data::{Cell, Content, Expiry, Key, Partition, Row};
use crate::schema::TableDef;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// A timestamp.
const TIME_BYTES: usize = 8;
/// A second, or a TTL.
const SECOND_BYTES: usize = 4;
/// A timestamp, and the second of the deletion.
const DELETION_BYTES: usize = TIME_BYTES + SECOND_BYTES;

/// The thresholds of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// `batch_size_warn_threshold`, in bytes: a larger batch is warned of.
    pub size_warn: u64,
    /// `batch_size_fail_threshold`, in bytes: a larger batch is refused.
    pub size_fail: u64,
    /// `unlogged_batch_across_partitions_warn_threshold`: an unlogged batch of more partitions is warned of.
    pub unlogged_partitions_warn: usize,
}

impl BatchLimits {
    /// What the client of a batch is warned of. `updates` are one for each partition.
    ///
    /// # Errors
    /// It is too large.
    pub fn check(
        &self,
        updates: &[(Arc<TableDef>, Key, Partition)],
        logged: bool,
    ) -> Result<Vec<String>, PlanError> {
        let mut warnings = Vec::new();
        if updates.len() <= 1 {
            return Ok(warnings);
        }
        let tables = || updates.iter().map(|(table, ..)| &**table);
        let size = updates.iter().map(|(_, _, update)| data_bytes(update) as u64).sum::<u64>();
        if size > self.size_fail {
            return invalid(format!(
                "Batch too large: it has {size} bytes and batch_size_fail_threshold is {}: split it, or write each \
                 partition by itself",
                self.size_fail
            ));
        }
        if size > self.size_warn {
            warnings.push(format!(
                "the batch of {} has {size} bytes, {} more than batch_size_warn_threshold ({}): smaller ones are easier on \
                 their coordinator",
                names(tables()),
                size - self.size_warn,
                self.size_warn
            ));
        }
        if logged {
            let mut forgetful =
                tables().filter(|table| table.options.gc_grace_seconds == 0).peekable();
            if forgetful.peek().is_some() {
                warnings.push(format!(
                    "gc_grace_seconds is 0 in {}: a logged batch that its coordinator does not finish is not finished by \
                     others either",
                    names(forgetful)
                ));
            }
            return Ok(warnings);
        }
        let keys: BTreeSet<&Key> = updates.iter().map(|(_, key, _)| key).collect();
        if keys.len() > self.unlogged_partitions_warn {
            warnings.push(format!(
                "the unlogged batch writes {} partitions of {}: use a logged batch to have all of them or none, or single \
                 writes, which are faster",
                keys.len(),
                names(tables())
            ));
        }
        Ok(warnings)
    }
}

/// Their names, each once.
fn names<'a>(tables: impl Iterator<Item = &'a TableDef>) -> String {
    let tables: BTreeSet<(&str, &str)> =
        tables.map(|table| (table.keyspace.as_str(), table.name.as_str())).collect();
    let mut names = String::new();
    for (nth, (keyspace, table)) in tables.into_iter().enumerate() {
        let comma = if nth == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(names, "{comma}{keyspace}.{table}");
    }
    names
}

/// What an update's rows and cells take, as Cassandra counts it.
fn data_bytes(update: &Partition) -> usize {
    let deletion = update.deletion.map_or(0, |_| DELETION_BYTES);
    let rows = update.rows.iter().map(|(key, row)| key.0.len() + row_bytes(row));
    let ranges = update.ranges.len() * DELETION_BYTES;
    let fixed = update.static_row.as_ref().map_or(0, row_bytes);
    deletion + ranges + fixed + rows.sum::<usize>()
}

fn row_bytes(row: &Row) -> usize {
    let expiring = |expiry: Option<Expiry>| expiry.map_or(0, |_| 2 * SECOND_BYTES);
    let liveness = row.liveness.map_or(0, |it| TIME_BYTES + expiring(it.expiry));
    let deletion = row.deletion.map_or(0, |_| DELETION_BYTES);
    let cells = row.cells.iter().map(|(_, cell)| cell_bytes(cell));
    let complex = row.complex.iter().map(|(_, column)| {
        let deletion = column.deletion.map_or(0, |_| DELETION_BYTES);
        let elements = column.elements.iter().map(|(path, cell)| path.len() + cell_bytes(cell));
        deletion + elements.sum::<usize>()
    });
    liveness + deletion + cells.sum::<usize>() + complex.sum::<usize>()
}

fn cell_bytes(cell: &Cell) -> usize {
    let value = match &cell.content {
        Content::Value { value, .. } => value.len(),
        Content::Tombstone { .. } => 0,
    };
    TIME_BYTES + 2 * SECOND_BYTES + value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Columns, TableId, TableOptions};
    use crate::types::TimestampMicros;
    use bytes::Bytes;

    fn update(name: &str, key: u8, bytes: usize) -> (Arc<TableDef>, Key, Partition) {
        let gc_grace_seconds = if name == "brief" { 0 } else { 10 };
        let table = TableDef {
            id: TableId(1),
            keyspace: "ks".to_owned(),
            name: name.to_owned(),
            columns: Columns::key_value(),
            options: TableOptions { gc_grace_seconds, ..TableOptions::default() },
            altered: TimestampMicros(0),
            dropped: false,
        };
        let value = Bytes::from(vec![0; bytes]);
        let update = Partition::put(TimestampMicros(1), value, None);
        (Arc::new(table), Key(Bytes::copy_from_slice(&[key])), update)
    }

    const LIMITS: BatchLimits =
        BatchLimits { size_warn: 200, size_fail: 300, unlogged_partitions_warn: 2 };

    #[test]
    fn what_is_over_a_threshold_is_warned_of_or_refused_and_one_partition_never() {
        // A liveness of 8 bytes, and 16 beside the value.
        let sized = |bytes: usize| [update("a", 1, bytes), update("b", 2, 0)];
        let check = |bytes| LIMITS.check(&sized(bytes), true);
        assert_eq!(check(152), Ok(Vec::new()), "200 are not more than 200");
        let warned = check(153).unwrap();
        assert_eq!(warned.len(), 1);
        assert!(
            warned[0].starts_with("the batch of ks.a, ks.b has 201 bytes, 1 more"),
            "{warned:?}"
        );
        assert_eq!(check(252).unwrap().len(), 1, "300 are not more than 300");
        let refused = check(253).unwrap_err();
        assert!(refused.to_string().starts_with("Batch too large: it has 301 bytes"), "{refused}");
        assert_eq!(LIMITS.check(&[update("a", 1, 9999)], false), Ok(Vec::new()));
    }

    #[test]
    fn partitions_are_counted_by_their_keys_in_unlogged_batches_only() {
        let four = [1, 1, 2, 3].map(|key| update("a", key, 0));
        let warned = LIMITS.check(&four, false).unwrap();
        assert!(
            warned[0].starts_with("the unlogged batch writes 3 partitions of ks.a:"),
            "{warned:?}"
        );
        assert_eq!(LIMITS.check(&four[..3], false), Ok(Vec::new()));
        assert_eq!(LIMITS.check(&four, true), Ok(Vec::new()));
    }

    #[test]
    fn a_logged_batch_of_a_table_without_grace_is_warned_of() {
        let both = [update("a", 1, 0), update("brief", 2, 0)];
        let warned = LIMITS.check(&both, true).unwrap();
        assert!(warned[0].starts_with("gc_grace_seconds is 0 in ks.brief:"), "{warned:?}");
        assert_eq!(LIMITS.check(&both, false), Ok(Vec::new()));
    }
}
