//! `system.repair_history`: which repairs this node has coordinated, as an ordinary table of its own engine, like
//! `storage::history`. A repair is recorded when it begins and again when it ends, so one that a crash cut short is seen.
//!
//! Invariants: at most [`ROWS_MAX`] rows (the newest; a row's key is the repair's number modulo that), none older than 30
//! days (by TTL).

use super::job::{Job, Outcome};
use crate::storage::system_row::{self, number};
use crate::storage::{Engine, RangeStart, StorageError, Write};
use bytes::{Buf as _, Bytes};
use helenus_core::{GcSeconds, Partition, TableDef, TableId, Token};

/// Its identity, the same on every node.
pub(crate) const TABLE: TableId = TableId(u128::from_be_bytes(*b"repair_history\0\0"));
/// The keyspace and the table's name, for operators.
pub(crate) const NAME: (&str, &str) = ("system", "repair_history");
/// As many repairs are remembered.
const ROWS_MAX: u64 = 256;
/// For so long, in seconds.
const TTL_S: u32 = 30 * 86_400;

/// Its definition.
pub(crate) fn table() -> TableDef {
    system_row::table(TABLE, NAME)
}

/// A repair that was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Larger than those before it.
    pub(crate) id: u64,
    /// By this node's clock, in microseconds since 1970.
    pub(crate) started_us: i64,
    /// `None`: it runs, or did when the node ended.
    pub(crate) ended_us: Option<i64>,
    pub(crate) outcome: String,
    pub(crate) primary_range: bool,
    pub(crate) preview: bool,
    pub(crate) what: String,
    pub(crate) ranges: u64,
    pub(crate) failed: u64,
    pub(crate) differing: u64,
    pub(crate) partitions_sent: u64,
    pub(crate) bytes_sent: u64,
    /// Why the first range that failed did.
    pub(crate) reason: String,
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl Record {
    pub(super) fn of(job: &Job) -> Record {
        let progress = job.progress();
        let mut record = Record {
            id: job.id,
            started_us: job.started_us,
            ended_us: progress.ended_us,
            outcome: progress.outcome.as_str().to_owned(),
            primary_range: job.primary_range,
            preview: job.preview,
            what: job.what.clone(),
            reason: progress.failures.first().map(|f| f.reason.clone()).unwrap_or_default(),
            ..Record::default()
        };
        for table in progress.tables.values() {
            record.ranges += table.ranges;
            record.failed += table.failed;
            record.differing += table.differing;
            record.partitions_sent += table.partitions_sent;
            record.bytes_sent += table.bytes_sent;
        }
        record
    }

    pub(super) fn to_write(&self) -> Write {
        // The row of the end is newer than that of the beginning, whatever the wall clock did in between.
        let written_us = match self.ended_us {
            None => self.started_us,
            Some(ended) => ended.max(self.started_us.saturating_add(1)),
        };
        let flags = u64::from(self.primary_range) | u64::from(self.preview) << 1;
        let values = [
            number(self.id),
            number(self.started_us.cast_unsigned()),
            number(self.ended_us.unwrap_or(0).cast_unsigned()),
            text(&self.outcome),
            number(flags),
            text(&self.what),
            number(self.ranges),
            number(self.failed),
            number(self.differing),
            number(self.partitions_sent),
            number(self.bytes_sent),
            text(&self.reason),
        ];
        system_row::write(TABLE, number(self.id % ROWS_MAX), written_us, TTL_S, values)
    }

    /// `None`: there is none (any more), or another build wrote it otherwise.
    fn from_partition(partition: &Partition, now: GcSeconds) -> Option<Record> {
        let value = |column: u32| system_row::value(partition, column, now);
        let number = |column: u32| value(column)?.try_get_u64().ok();
        let text = |column: u32| String::from_utf8(value(column)?.to_vec()).ok();
        let flags = number(4)?;
        Some(Record {
            id: number(0)?,
            started_us: number(1)?.cast_signed(),
            ended_us: Some(number(2)?.cast_signed()).filter(|ended| *ended != 0),
            outcome: text(3)?,
            primary_range: flags & 1 != 0,
            preview: flags & 2 != 0,
            what: text(5)?,
            ranges: number(6)?,
            failed: number(7)?,
            differing: number(8)?,
            partitions_sent: number(9)?,
            bytes_sent: number(10)?,
            reason: text(11)?,
        })
    }
}

/// What is remembered as of `now`, the newest first. `running` is the repair that runs: another one that has no end was
/// interrupted.
pub(super) fn read(
    engine: &dyn Engine,
    now: GcSeconds,
    running: Option<u64>,
) -> Result<Vec<Record>, StorageError> {
    let rows_max = usize::try_from(ROWS_MAX).unwrap_or(usize::MAX);
    let page = match engine.range(TABLE, &RangeStart::First, Token::MAX, rows_max) {
        Err(StorageError::UnknownTable { .. }) => return Ok(Vec::new()),
        page => page?,
    };
    let partitions = page.partitions.iter();
    let mut records: Vec<Record> =
        partitions.filter_map(|(_, _, p)| Record::from_partition(p, now)).collect();
    for record in &mut records {
        let ran = record.outcome == Outcome::Running.as_str();
        if ran && running != Some(record.id) {
            "interrupted".clone_into(&mut record.outcome);
        }
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.id));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_until_it_expires_and_its_end_replaces_its_beginning() {
        let begun = Record {
            id: 2 * ROWS_MAX + 9,
            started_us: 1_700_000_000_000_001,
            outcome: "running".to_owned(),
            preview: true,
            what: "shop".to_owned(),
            ..Record::default()
        };
        // The clock was set back meanwhile.
        let ended = Record {
            ended_us: Some(1_600_000_000_000_000),
            outcome: "failed".to_owned(),
            failed: 3,
            reason: "n3 is down".to_owned(),
            ..begun.clone()
        };
        let mut row = begun.to_write().partition();
        assert_eq!(begun.to_write().key.0[..], 9_u64.to_be_bytes());
        let read = |row: &Partition, now| Record::from_partition(row, GcSeconds(now));
        assert_eq!(read(&row, 1_700_000_001), Some(begun));
        helenus_core::merge::merge(&mut row, ended.to_write().partition());
        assert_eq!(read(&row, 1_700_000_001), Some(ended));
        assert_eq!(read(&row, 1_700_000_000 + TTL_S), None);
    }
}
