//! A row of one of the node's own tables: numbered columns. Rows made here have one TTL and are written at once;
//! `paxos` writes cells apart, and `batchlog` plain values.
//!
//! Such tables are in no schema: they are not gossiped, not replicated and not seen by clients, and no replica is owed
//! their tombstones.

use super::Write;
use bytes::Bytes;
use helenus_core::{
    Cell, ClusteringKey, ColumnId, Columns, Content, Expiry, GcSeconds, Key, Liveness, Partition,
    Row, TableDef, TableId, TableOptions, TimestampMicros, token,
};

/// A table's definition. `name` is its keyspace and its own.
pub(crate) fn table(id: TableId, name: (&str, &str)) -> TableDef {
    TableDef {
        id,
        keyspace: name.0.to_owned(),
        name: name.1.to_owned(),
        columns: Columns::key_value(),
        options: TableOptions { gc_grace_seconds: 0, ..TableOptions::default() },
        altered: TimestampMicros(0),
        dropped: false,
    }
}

/// The write of a row with these columns, numbered from 0. It is gone `ttl_s` seconds after `written_us`.
pub(crate) fn write(
    table: TableId,
    key: Bytes,
    written_us: i64,
    ttl_s: u32,
    values: impl IntoIterator<Item = Bytes>,
) -> Write {
    let seconds = u32::try_from(written_us / 1_000_000).unwrap_or(0);
    let expiry = Some(Expiry { ttl_s, expires_at: GcSeconds(seconds.saturating_add(ttl_s)) });
    let timestamp = TimestampMicros(written_us);
    let cells = (0..).zip(values).map(|(column, value)| {
        (ColumnId(column), Cell { timestamp, content: Content::Value { value, expiry } })
    });
    let liveness = Some(Liveness { timestamp, expiry });
    let row = Row { liveness, cells: cells.collect(), ..Row::default() };
    let rows = vec![(ClusteringKey::default(), row)];
    let update = Partition { rows, ..Partition::default() };
    let token = token::of(&key);
    Write::of(table, Key(key), token, update)
}

/// A column's value, if there is one that has not expired.
pub(crate) fn value(partition: &Partition, column: u32, now: GcSeconds) -> Option<Bytes> {
    let (_, row) = partition.rows.first()?;
    let (_, cell) = row.cells.iter().find(|(id, _)| *id == ColumnId(column))?;
    match &cell.content {
        Content::Value { value, expiry } if expiry.is_none_or(|e| e.expires_at > now) => {
            Some(value.clone())
        }
        _ => None,
    }
}

/// A number as a column's value.
pub(crate) fn number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}
