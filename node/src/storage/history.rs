//! `system.compaction_history`: which compactions ended, as an ordinary table of the node's own engine.
//!
//! It lives beside the engines because it is made of nothing but [`Engine`]'s own verbs: the engine that compacts applies a
//! write to it, and [`read`] is a range scan. The node opens it at its start ([`table`]). It is in no schema, so it is not
//! gossiped, not replicated and not seen by clients; `helenusctl compactionhistory` shows it. Its own compactions are not
//! recorded, or each would cause the next.
//!
//! Invariants: at most [`ROWS_MAX`] rows (the newest; a row's key is the compaction's number modulo that), none older than
//! seven days (by TTL, as in Cassandra).
//!
//! CAVEAT: what was recorded last may be lost in a crash, and a compaction is no less done when it cannot be recorded.

use super::system_row::{self, number};
use super::{Engine, RangeStart, StorageError, Write};
use bytes::{Buf, Bytes};
use helenus_core::{GcSeconds, Partition, TableDef, TableId, Token};

/// Its identity, the same on every node. Ids of tables that are created are random.
pub const TABLE: TableId = TableId(u128::from_be_bytes(*b"compaction_hist\0"));
/// As many compactions are remembered.
pub const ROWS_MAX: u64 = 4096;
/// For so long, in seconds.
const TTL_S: u32 = 7 * 86_400;

/// The keyspace and the table's name, for operators.
pub const NAME: (&str, &str) = ("system", "compaction_history");

/// Its definition.
pub fn table() -> TableDef {
    system_row::table(TABLE, NAME)
}

/// A compaction that ended well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Larger than those before it.
    pub id: u64,
    /// When it ended, in microseconds since 1970 by this node's clock.
    pub ended_us: i64,
    /// The table.
    pub table: u128,
    /// Why these SSTables.
    pub reason: String,
    /// The level of the outputs.
    pub level: u64,
    /// The generations of what went in.
    pub inputs: Vec<u64>,
    /// And of what came out. Nothing when all was dropped; the inputs themselves when they were moved.
    pub outputs: Vec<u64>,
    /// Bytes of the inputs.
    pub bytes_in: u64,
    /// Bytes of the outputs.
    pub bytes_out: u64,
    /// Partitions in the inputs, each counted in every one of them.
    pub partitions_in: u64,
    /// Partitions in the outputs.
    pub partitions_out: u64,
}

/// Columns, in the order of [`Record`]'s fields.
const COLUMNS: u32 = 11;

fn key(id: u64) -> Bytes {
    number(id % ROWS_MAX)
}

fn numbers(numbers: &[u64]) -> Bytes {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>().into()
}

fn take_numbers(mut bytes: Bytes) -> Vec<u64> {
    std::iter::from_fn(|| bytes.try_get_u64().ok()).collect()
}

impl Record {
    /// The write that records it.
    pub fn to_write(&self) -> Write {
        let values: [Bytes; COLUMNS as usize] = [
            number(self.id),
            Bytes::copy_from_slice(&self.ended_us.to_be_bytes()),
            Bytes::copy_from_slice(&self.table.to_be_bytes()),
            Bytes::copy_from_slice(self.reason.as_bytes()),
            number(self.level),
            numbers(&self.inputs),
            numbers(&self.outputs),
            number(self.bytes_in),
            number(self.bytes_out),
            number(self.partitions_in),
            number(self.partitions_out),
        ];
        system_row::write(TABLE, key(self.id), self.ended_us, TTL_S, values)
    }

    /// `None`: there is none (any more), or another build wrote it otherwise.
    fn from_partition(partition: &Partition, now: GcSeconds) -> Option<Record> {
        let value = |column: u32| system_row::value(partition, column, now);
        let number = |column: u32| value(column)?.try_get_u64().ok();
        Some(Record {
            id: number(0)?,
            ended_us: value(1)?.try_get_i64().ok()?,
            table: value(2)?.try_get_u128().ok()?,
            reason: String::from_utf8(value(3)?.to_vec()).ok()?,
            level: number(4)?,
            inputs: take_numbers(value(5)?),
            outputs: take_numbers(value(6)?),
            bytes_in: number(7)?,
            bytes_out: number(8)?,
            partitions_in: number(9)?,
            partitions_out: number(10)?,
        })
    }
}

/// What is remembered as of `now`, the newest first. Nothing where the table isn't open.
pub fn read(engine: &dyn Engine, now: GcSeconds) -> Result<Vec<Record>, StorageError> {
    let rows_max = usize::try_from(ROWS_MAX).unwrap_or(usize::MAX);
    let page = match engine.range(TABLE, &RangeStart::First, Token::MAX, rows_max) {
        Err(StorageError::UnknownTable { .. }) => return Ok(Vec::new()),
        page => page?,
    };
    let partitions = page.partitions.iter();
    let mut records: Vec<Record> =
        partitions.filter_map(|(_, _, p)| Record::from_partition(p, now)).collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.id));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_until_it_expires() {
        let record = Record {
            id: 3 * ROWS_MAX + 5,
            ended_us: 1_700_000_000_000_001,
            table: u128::MAX - 2,
            reason: "leveled".to_owned(),
            level: 2,
            inputs: vec![1, 2, u64::MAX],
            outputs: vec![],
            bytes_in: 7,
            bytes_out: 8,
            partitions_in: 9,
            partitions_out: 10,
        };
        let write = record.to_write();
        assert_eq!(write.key.0[..], 5_u64.to_be_bytes(), "the row of the one 4096 before");
        let at = |now| Record::from_partition(&write.partition(), GcSeconds(now));
        assert_eq!(at(1_700_000_000 + TTL_S - 1), Some(record));
        assert_eq!(at(1_700_000_000 + TTL_S), None);
        assert_eq!(helenus_core::codec::decode(write.encoded.clone()).unwrap(), write.partition());
    }
}
