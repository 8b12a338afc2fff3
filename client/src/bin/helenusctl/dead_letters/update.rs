//! What a mutation does, in a few words and in full.

use crate::data::Shown;
use crate::out;
use bytes::Bytes;
use helenus_core::codec;
use helenus_core::data::{Bound, Cell, Complex, Content, Deletion, Expiry, Partition, Row};
use helenus_core::{ClusteringKey, ColumnId};
use serde::Serialize;

/// In a few words.
pub(super) fn summary(update: &Bytes) -> String {
    let partition = match codec::decode(update.clone()) {
        Ok(partition) => partition,
        Err(error) => return format!("unreadable: {error}"),
    };
    let Partition { deletion, static_row, ranges, rows } = &partition;
    if let (Some(deletion), None, [], []) =
        (deletion, static_row, ranges.as_slice(), rows.as_slice())
    {
        return format!("delete, at {}", out::moment(deletion.timestamp.0));
    }
    if let (None, None, [], [(_, row)]) = (deletion, static_row, ranges.as_slice(), rows.as_slice())
        && let (None, [(ColumnId::VALUE, cell)], []) =
            (row.deletion, row.cells.as_slice(), row.complex.as_slice())
        && let Content::Value { value, expiry } = &cell.content
    {
        let ttl = expiry.map(|expiry| format!(", for {} s", expiry.ttl_s)).unwrap_or_default();
        return format!("put {} bytes{ttl}, at {}", value.len(), out::moment(cell.timestamp.0));
    }
    let cells = rows.iter().map(|(_, row)| row).chain(static_row).map(|row| {
        let elements = row.complex.iter().map(|(_, complex)| complex.elements.len());
        row.cells.len() + elements.sum::<usize>()
    });
    let cells: usize = cells.sum();
    let whole = if deletion.is_some() { "delete, then " } else { "" };
    format!("{whole}{} rows, {cells} cells, {} range deletions", rows.len(), ranges.len())
}

/// In full.
#[derive(Debug, Serialize)]
pub(super) struct Update {
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion: Option<Deleted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    static_row: Option<ShownRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    range_deletions: Vec<ShownRange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rows: Vec<ShownRow>,
}

#[derive(Debug, Serialize)]
struct Deleted {
    timestamp_us: i64,
    deleted_at_s: u32,
}

#[derive(Debug, Serialize)]
struct Lives {
    ttl_s: u32,
    expires_at_s: u32,
}

#[derive(Debug, Serialize)]
struct ShownRange {
    start: ShownBound,
    end: ShownBound,
    deletion: Deleted,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum ShownBound {
    Open,
    IncludedHex(String),
    ExcludedHex(String),
}

#[derive(Debug, Serialize)]
struct ShownRow {
    /// Empty in a key-value table.
    clustering_key_hex: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    inserted: Option<Inserted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion: Option<Deleted>,
    cells: Vec<ShownCell>,
    /// Columns whose elements are written one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    collections: Vec<ShownCollection>,
}

#[derive(Debug, Serialize)]
struct ShownCollection {
    column: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion: Option<Deleted>,
    elements: Vec<ShownElement>,
}

#[derive(Debug, Serialize)]
struct ShownElement {
    /// A set's element, a map's key, a list's place.
    path_hex: String,
    #[serde(flatten)]
    content: ShownContent,
}

#[derive(Debug, Serialize)]
struct Inserted {
    timestamp_us: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<Lives>,
}

#[derive(Debug, Serialize)]
struct ShownCell {
    column: u32,
    #[serde(flatten)]
    content: ShownContent,
}

#[derive(Debug, Serialize)]
struct ShownContent {
    timestamp_us: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<Lives>,
    /// The cell was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at_s: Option<u32>,
}

impl Update {
    /// `Err`: why it cannot be decoded.
    pub(super) fn decode(update: &Bytes) -> Result<Update, String> {
        let partition = codec::decode(update.clone()).map_err(|error| error.to_string())?;
        let Partition { deletion, static_row, ranges, rows } = partition;
        let ranges = ranges.into_iter().map(|range| ShownRange {
            start: bound(range.start),
            end: bound(range.end),
            deletion: deleted(range.deletion),
        });
        Ok(Update {
            deletion: deletion.map(deleted),
            static_row: static_row.map(|static_row| row(&ClusteringKey::default(), static_row)),
            range_deletions: ranges.collect(),
            rows: rows.into_iter().map(|(key, it)| row(&key, it)).collect(),
        })
    }
}

fn deleted(deletion: Deletion) -> Deleted {
    Deleted { timestamp_us: deletion.timestamp.0, deleted_at_s: deletion.deleted_at.0 }
}

fn lives(expiry: Expiry) -> Lives {
    Lives { ttl_s: expiry.ttl_s, expires_at_s: expiry.expires_at.0 }
}

fn bound(bound: Bound) -> ShownBound {
    match bound {
        Bound::Open => ShownBound::Open,
        Bound::Included(key) => ShownBound::IncludedHex(crate::input::hex(&key.0)),
        Bound::Excluded(key) => ShownBound::ExcludedHex(crate::input::hex(&key.0)),
    }
}

fn row(key: &ClusteringKey, row: Row) -> ShownRow {
    let inserted = row
        .liveness
        .map(|it| Inserted { timestamp_us: it.timestamp.0, expiry: it.expiry.map(lives) });
    ShownRow {
        clustering_key_hex: crate::input::hex(&key.0),
        inserted,
        deletion: row.deletion.map(deleted),
        cells: row
            .cells
            .into_iter()
            .map(|(column, it)| ShownCell { column: column.0, content: content(it) })
            .collect(),
        collections: row.complex.into_iter().map(|(column, it)| collection(column, it)).collect(),
    }
}

fn collection(column: ColumnId, complex: Complex) -> ShownCollection {
    let elements = complex.elements.into_iter().map(|(path, cell)| ShownElement {
        path_hex: crate::input::hex(&path),
        content: content(cell),
    });
    ShownCollection {
        column: column.0,
        deletion: complex.deletion.map(deleted),
        elements: elements.collect(),
    }
}

fn content(cell: Cell) -> ShownContent {
    let (value, expiry, deleted_at_s) = match cell.content {
        Content::Value { value, expiry } => (Some(Shown::new(&value, false)), expiry, None),
        Content::Tombstone { deleted_at } => (None, None, Some(deleted_at.0)),
    };
    ShownContent { timestamp_us: cell.timestamp.0, value, expiry: expiry.map(lives), deleted_at_s }
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_core::{GcSeconds, TimestampMicros};

    fn json(partition: &Partition) -> serde_json::Value {
        let update = Update::decode(&codec::encode(partition)).unwrap();
        serde_json::to_value(update).unwrap()
    }

    #[test]
    fn puts_and_deletes_are_told_in_a_line_and_in_full() {
        let expiry = Some(Expiry { ttl_s: 30, expires_at: GcSeconds(100) });
        let put = Partition::put(TimestampMicros(70), Bytes::from_static(b"hello"), expiry);
        let text = summary(&codec::encode(&put));
        assert_eq!(text, "put 5 bytes, for 30 s, at 1970-01-01T00:00:00.000070Z");
        let cell = &json(&put)["rows"][0]["cells"][0];
        assert_eq!(
            (&cell["value"]["text"], &cell["expiry"]["expires_at_s"]),
            (&"hello".into(), &100.into())
        );
        let delete = Partition::delete(TimestampMicros(70), GcSeconds(9));
        let text = summary(&codec::encode(&delete));
        assert_eq!(text, "delete, at 1970-01-01T00:00:00.000070Z");
        assert_eq!(json(&delete)["deletion"]["deleted_at_s"], 9);
    }

    #[test]
    fn elements_are_counted_and_told_with_their_paths() {
        let timestamp = TimestampMicros(70);
        let content = Content::Value { value: Bytes::new(), expiry: None };
        let complex = Complex {
            deletion: Some(Deletion { timestamp: TimestampMicros(69), deleted_at: GcSeconds(9) }),
            elements: vec![(Bytes::from_static(b"tea"), Cell { timestamp, content })],
        };
        let row = Row { complex: vec![(ColumnId(3), complex)], ..Row::default() };
        let rows = vec![(ClusteringKey::default(), row)];
        let partition = Partition { rows, ..Partition::default() };
        assert_eq!(summary(&codec::encode(&partition)), "1 rows, 1 cells, 0 range deletions");
        let collection = &json(&partition)["rows"][0]["collections"][0];
        assert_eq!(collection["column"], 3);
        assert_eq!(collection["deletion"]["timestamp_us"], 69);
        assert_eq!(collection["elements"][0]["path_hex"], "746561");
        assert_eq!(collection["elements"][0]["timestamp_us"], 70);
    }

    #[test]
    fn what_is_no_mutation_is_said_to_be_none() {
        let nonsense = Bytes::from_static(b"\x07nonsense");
        assert!(summary(&nonsense).starts_with("unreadable: "));
        assert!(Update::decode(&nonsense).unwrap_err().contains("format 7"));
    }
}
