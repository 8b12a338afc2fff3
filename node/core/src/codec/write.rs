//! From partitions to bytes.

use super::{VERSION, complex_flag, flag, kind, row_flag};
use crate::data::{
    Bound, Cell, ClusteringKey, ColumnId, Complex, Content, Deletion, Expiry, Liveness, Partition,
    Row,
};
use crate::types::{GcSeconds, TimestampMicros};
use crate::varint;
use bytes::{BufMut, Bytes, BytesMut};

/// The canonical encoding. The partition must be in normal form, as everything that `merge` or `decode` made is.
pub fn encode(partition: &Partition) -> Bytes {
    let mut out = BytesMut::with_capacity(roughly(partition));
    encode_into(partition, &mut out);
    out.freeze()
}

/// The encoding of `Partition::put(timestamp, value, expiry)`, without making one.
pub fn encode_put(timestamp: TimestampMicros, value: &[u8], expiry: Option<Expiry>) -> Bytes {
    // What is in front of the value is made first, so that the allocation has the very size: a larger one would need another
    // as soon as it is shared.
    let mut head = [0; PLAIN_OVERHEAD];
    let mut room = head.as_mut_slice();
    plain_head(&mut room, timestamp, value.len(), expiry);
    let unused = room.len();
    let head = head.get(..PLAIN_OVERHEAD - unused).unwrap_or(&[]);
    let mut out = Vec::with_capacity(head.len() + value.len());
    out.extend_from_slice(head);
    out.extend_from_slice(value);
    out.into()
}

/// Appends to `out` what [`encode_put`] makes.
pub fn encode_put_into(
    timestamp: TimestampMicros,
    value: &[u8],
    expiry: Option<Expiry>,
    out: &mut impl BufMut,
) {
    plain(out, timestamp, value, expiry);
}

/// Appends the canonical encoding to `out`.
pub fn encode_into(partition: &Partition, out: &mut impl BufMut) {
    if let Some((timestamp, value, expiry)) = as_plain(partition) {
        return plain(out, timestamp, value, expiry);
    }
    let mut flags = 0;
    for (set, bit) in [
        (partition.deletion.is_some(), flag::DELETION),
        (partition.static_row.is_some(), flag::STATIC),
        (!partition.ranges.is_empty(), flag::RANGES),
        (!partition.rows.is_empty(), flag::ROWS),
    ] {
        flags |= if set { bit } else { 0 };
    }
    out.put_u8(VERSION);
    out.put_u8(flags);
    let mut writer = Writer { out, time: 0, second: 0 };
    if let Some(deletion) = partition.deletion {
        writer.deletion(deletion);
    }
    if let Some(row) = &partition.static_row {
        writer.row(row);
    }
    if !partition.ranges.is_empty() {
        writer.varint(partition.ranges.len() as u64);
        for range in &partition.ranges {
            let (start_kind, start) = bound(&range.start);
            let (end_kind, end) = bound(&range.end);
            writer.out.put_u8(start_kind + 3 * end_kind);
            for key in start.into_iter().chain(end) {
                writer.bytes(&key.0);
            }
            writer.deletion(range.deletion);
        }
    }
    if !partition.rows.is_empty() {
        writer.varint(partition.rows.len() as u64);
        for (key, row) in &partition.rows {
            writer.bytes(&key.0);
            writer.row(row);
        }
    }
}

/// More than a plain put takes beside its value: version, flags, time, TTL, second, length.
const PLAIN_OVERHEAD: usize = 2 + 10 + 5 + 5 + 10;

/// About how many bytes the encoding takes, rather more than less: one allocation instead of several.
fn roughly(partition: &Partition) -> usize {
    let cell = |cell: &Cell| match &cell.content {
        Content::Value { value, .. } => 16 + value.len(),
        Content::Tombstone { .. } => 16,
    };
    let complex = |complex: &Complex| {
        let elements = complex.elements.iter().map(|(path, it)| 4 + path.len() + cell(it));
        24 + elements.sum::<usize>()
    };
    let row = |row: &Row| {
        let cells = row.cells.iter().map(|(_, it)| cell(it)).sum::<usize>();
        24 + cells + row.complex.iter().map(|(_, it)| complex(it)).sum::<usize>()
    };
    let rows = partition.rows.iter().map(|(key, r)| 4 + key.0.len() + row(r));
    PLAIN_OVERHEAD
        + rows.sum::<usize>()
        + partition.static_row.iter().map(row).sum::<usize>()
        + 48 * partition.ranges.len()
}

/// What `Partition::put` made, if that is all there is.
fn as_plain(partition: &Partition) -> Option<(TimestampMicros, &[u8], Option<Expiry>)> {
    let Partition { deletion: None, static_row: None, ranges, rows } = partition else {
        return None;
    };
    let [(ClusteringKey(key), row)] = rows.as_slice() else { return None };
    let Row { liveness: Some(liveness), deletion: None, cells, complex } = row else { return None };
    let [(ColumnId::VALUE, Cell { timestamp, content: Content::Value { value, expiry } })] =
        cells.as_slice()
    else {
        return None;
    };
    let alike = *liveness == Liveness { timestamp: *timestamp, expiry: *expiry };
    let alone = ranges.is_empty() && complex.is_empty();
    (alone && key.is_empty() && alike).then_some((*timestamp, value.as_ref(), *expiry))
}

fn plain(out: &mut impl BufMut, timestamp: TimestampMicros, value: &[u8], expiry: Option<Expiry>) {
    plain_head(out, timestamp, value.len(), expiry);
    out.put_slice(value);
}

fn plain_head(
    out: &mut impl BufMut,
    timestamp: TimestampMicros,
    value_len: usize,
    expiry: Option<Expiry>,
) {
    out.put_u8(VERSION);
    out.put_u8(flag::PLAIN | if expiry.is_some() { flag::PLAIN_EXPIRING } else { 0 });
    let mut writer = Writer { out, time: 0, second: 0 };
    writer.time(timestamp);
    if let Some(expiry) = expiry {
        writer.expiry(expiry);
    }
    writer.varint(value_len as u64);
}

fn bound(bound: &Bound) -> (u8, Option<&ClusteringKey>) {
    match bound {
        Bound::Open => (0, None),
        Bound::Included(key) => (1, Some(key)),
        Bound::Excluded(key) => (2, Some(key)),
    }
}

struct Writer<'a, B> {
    out: &'a mut B,
    /// The time written last.
    time: i64,
    /// The second written last.
    second: u32,
}

impl<B: BufMut> Writer<'_, B> {
    fn varint(&mut self, n: u64) {
        varint::put(self.out, n);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.out.put_slice(bytes);
    }

    fn time(&mut self, time: TimestampMicros) {
        let step = time.0.wrapping_sub(self.time);
        self.time = time.0;
        self.varint(varint::zigzag(step));
    }

    fn second(&mut self, second: GcSeconds) {
        let step = second.0.wrapping_sub(self.second) as i32;
        self.second = second.0;
        self.varint(u64::from(((step << 1) ^ (step >> 31)) as u32));
    }

    fn expiry(&mut self, expiry: Expiry) {
        self.varint(u64::from(expiry.ttl_s));
        self.second(expiry.expires_at);
    }

    fn deletion(&mut self, deletion: Deletion) {
        self.time(deletion.timestamp);
        self.second(deletion.deleted_at);
    }

    fn row(&mut self, row: &Row) {
        let expiry = row.liveness.and_then(|l| l.expiry);
        let mut flags = 0;
        for (set, bit) in [
            (row.liveness.is_some(), row_flag::LIVENESS),
            (expiry.is_some(), row_flag::EXPIRING),
            (row.deletion.is_some(), row_flag::DELETION),
            (!row.cells.is_empty(), row_flag::CELLS),
            (!row.complex.is_empty(), row_flag::COMPLEX),
        ] {
            flags |= if set { bit } else { 0 };
        }
        self.out.put_u8(flags);
        if let Some(liveness) = row.liveness {
            self.time(liveness.timestamp);
        }
        if let Some(expiry) = expiry {
            self.expiry(expiry);
        }
        if let Some(deletion) = row.deletion {
            self.deletion(deletion);
        }
        if !row.cells.is_empty() {
            self.varint(row.cells.len() as u64);
            for (column, cell) in &row.cells {
                self.kind(cell);
                self.varint(u64::from(column.0));
                self.content(cell);
            }
        }
        if !row.complex.is_empty() {
            self.varint(row.complex.len() as u64);
            for (column, complex) in &row.complex {
                self.complex(*column, complex);
            }
        }
    }

    fn complex(&mut self, column: ColumnId, complex: &Complex) {
        self.varint(u64::from(column.0));
        let deletion = if complex.deletion.is_some() { complex_flag::DELETION } else { 0 };
        let elements = if complex.elements.is_empty() { 0 } else { complex_flag::ELEMENTS };
        self.out.put_u8(deletion | elements);
        if let Some(deletion) = complex.deletion {
            self.deletion(deletion);
        }
        if !complex.elements.is_empty() {
            self.varint(complex.elements.len() as u64);
            for (path, cell) in &complex.elements {
                self.kind(cell);
                self.bytes(path);
                self.content(cell);
            }
        }
    }

    fn kind(&mut self, cell: &Cell) {
        self.out.put_u8(match cell.content {
            Content::Value { expiry: None, .. } => kind::VALUE,
            Content::Value { expiry: Some(_), .. } => kind::EXPIRING,
            Content::Tombstone { .. } => kind::TOMBSTONE,
        });
    }

    /// What follows a cell's place: its time and what it holds.
    fn content(&mut self, cell: &Cell) {
        self.time(cell.timestamp);
        match &cell.content {
            Content::Value { value, expiry } => {
                if let Some(expiry) = expiry {
                    self.expiry(*expiry);
                }
                self.bytes(value);
            }
            Content::Tombstone { deleted_at } => self.second(*deleted_at),
        }
    }
}
