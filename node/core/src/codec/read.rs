//! From bytes to partitions. Every read is checked, every count is capped by what remains, nothing is trusted.

use super::{VERSION, complex_flag, flag, kind, row_flag};
use crate::data::{
    Bound, Cell, ClusteringKey, ColumnId, Complex, Content, Deletion, Expiry, Liveness, Partition,
    RangeTombstone, Row,
};
use crate::merge;
use crate::types::{GcSeconds, TimestampMicros};
use crate::varint;
use bytes::Bytes;

/// Why bytes are not a partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// They end too early.
    #[error("the encoded partition ends at byte {at}, in the middle of {what}")]
    Truncated {
        /// Where they end.
        at: usize,
        /// What should be there.
        what: &'static str,
    },
    /// A format this build does not know.
    #[error("a partition in format {version}; this build reads format {VERSION}: upgrade it")]
    UnknownVersion {
        /// The first byte.
        version: u8,
    },
    /// Something that no encoder writes.
    #[error("byte {at} of the encoded partition: {what}")]
    Invalid {
        /// Where.
        at: usize,
        /// What does not hold there.
        what: &'static str,
    },
}

/// Decodes a partition. Values are slices of `encoded`, not copies. What comes out is in normal form, even if what came
/// in was not.
pub fn decode(encoded: Bytes) -> Result<Partition, CodecError> {
    let mut reader = Reader { input: &encoded, at: 0, time: 0, second: 0 };
    let version = reader.u8("the version")?;
    if version != VERSION {
        return Err(CodecError::UnknownVersion { version });
    }
    let flags = reader.u8("the flags")?;
    let partition = if flags & flag::PLAIN != 0 {
        if flags & !(flag::PLAIN | flag::PLAIN_EXPIRING) != 0 {
            return Err(reader.invalid("a plain value with other flags"));
        }
        let timestamp = reader.time()?;
        let expiring = flags & flag::PLAIN_EXPIRING != 0;
        let expiry = if expiring { Some(reader.expiry()?) } else { None };
        let value = reader.bytes("a value")?;
        Partition::put(timestamp, value, expiry)
    } else {
        let mut partition = reader.partition(flags)?;
        merge::normalise(&mut partition);
        partition
    };
    if reader.at != encoded.len() {
        return Err(reader.invalid("more bytes than the partition has"));
    }
    Ok(partition)
}

/// A key-value put, as it lies in its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put<'a> {
    /// Its version.
    pub timestamp: TimestampMicros,
    /// Its TTL, if it has one.
    pub expiry: Option<Expiry>,
    /// The value.
    pub value: &'a [u8],
}

/// What `encoded` says, if it is the encoding of a key-value put and nothing else; `None` for any other partition, and
/// for bytes that [`decode`] would refuse. Allocates nothing: of two puts the newer one wins whole, so whoever merges
/// them needs no more than this.
pub fn peek_put(encoded: &[u8]) -> Option<Put<'_>> {
    let (&[VERSION, flags], mut rest) = encoded.split_first_chunk::<2>()? else { return None };
    if flags & !flag::PLAIN_EXPIRING != flag::PLAIN {
        return None;
    }
    let timestamp = TimestampMicros(varint::unzigzag(varint::take(&mut rest)?));
    let expiry = if flags & flag::PLAIN_EXPIRING == 0 {
        None
    } else {
        let ttl_s = u32::try_from(varint::take(&mut rest)?).ok().filter(|ttl| *ttl > 0)?;
        let zigzag = u32::try_from(varint::take(&mut rest)?).ok()?;
        let second = (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32);
        Some(Expiry { ttl_s, expires_at: GcSeconds(second as u32) })
    };
    let len = usize::try_from(varint::take(&mut rest)?).ok()?;
    (rest.len() == len).then_some(Put { timestamp, expiry, value: rest })
}

/// No list is given more room than this before its entries are there: a count is only a claim.
const RESERVED_MAX: usize = 256;

struct Reader<'a> {
    input: &'a Bytes,
    at: usize,
    /// The time read last.
    time: i64,
    /// The second read last.
    second: u32,
}

impl Reader<'_> {
    fn invalid(&self, what: &'static str) -> CodecError {
        CodecError::Invalid { at: self.at, what }
    }

    fn remaining(&self) -> usize {
        self.input.len() - self.at
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        let byte = self.input.get(self.at).ok_or(CodecError::Truncated { at: self.at, what })?;
        self.at += 1;
        Ok(*byte)
    }

    fn varint(&mut self, what: &'static str) -> Result<u64, CodecError> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(self.invalid("a number of more than 64 bits"));
            }
            n |= bits << shift;
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    return Err(self.invalid("a number that is longer than it needs to be"));
                }
                return Ok(n);
            }
        }
        Err(self.invalid("a number of more than 64 bits"))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        let n = self.varint(what)?;
        u32::try_from(n).map_err(|_| self.invalid("a number of more than 32 bits"))
    }

    fn bytes(&mut self, what: &'static str) -> Result<Bytes, CodecError> {
        let len = self.varint(what)?;
        match usize::try_from(len) {
            Ok(len) if len <= self.remaining() => {
                let bytes = self.input.slice(self.at..self.at + len);
                self.at += len;
                Ok(bytes)
            }
            _ => Err(CodecError::Truncated { at: self.input.len(), what }),
        }
    }

    /// A list's length: entries of at least `entry_min` bytes each must fit into what remains.
    fn count(&mut self, entry_min: usize, what: &'static str) -> Result<usize, CodecError> {
        let count = self.varint(what)?;
        match usize::try_from(count) {
            Ok(0) => Err(self.invalid("an empty list")),
            Ok(count) if count <= self.remaining() / entry_min => Ok(count),
            _ => Err(CodecError::Truncated { at: self.input.len(), what }),
        }
    }

    fn time(&mut self) -> Result<TimestampMicros, CodecError> {
        let step = varint::unzigzag(self.varint("a timestamp")?);
        self.time = self.time.wrapping_add(step);
        Ok(TimestampMicros(self.time))
    }

    fn second(&mut self) -> Result<GcSeconds, CodecError> {
        let n = self.u32("a second")?;
        let step = (n >> 1) as i32 ^ -((n & 1) as i32);
        self.second = self.second.wrapping_add(step as u32);
        Ok(GcSeconds(self.second))
    }

    fn expiry(&mut self) -> Result<Expiry, CodecError> {
        let ttl_s = self.u32("a TTL")?;
        if ttl_s == 0 {
            return Err(self.invalid("a TTL of 0"));
        }
        Ok(Expiry { ttl_s, expires_at: self.second()? })
    }

    fn deletion(&mut self) -> Result<Deletion, CodecError> {
        Ok(Deletion { timestamp: self.time()?, deleted_at: self.second()? })
    }

    fn partition(&mut self, flags: u8) -> Result<Partition, CodecError> {
        if flags & !(flag::DELETION | flag::STATIC | flag::RANGES | flag::ROWS) != 0 {
            return Err(self.invalid("unknown flags of a partition"));
        }
        let mut partition = Partition::default();
        if flags & flag::DELETION != 0 {
            partition.deletion = Some(self.deletion()?);
        }
        if flags & flag::STATIC != 0 {
            partition.static_row = Some(self.row()?);
        }
        if flags & flag::RANGES != 0 {
            let count = self.count(3, "the range tombstones")?;
            partition.ranges.reserve(count.min(RESERVED_MAX));
            for _ in 0..count {
                partition.ranges.push(self.range()?);
            }
        }
        if flags & flag::ROWS != 0 {
            let count = self.count(3, "the rows")?;
            partition.rows.reserve(count.min(RESERVED_MAX));
            for _ in 0..count {
                let key = ClusteringKey(self.bytes("a clustering key")?);
                partition.rows.push((key, self.row()?));
            }
        }
        Ok(partition)
    }

    fn range(&mut self) -> Result<RangeTombstone, CodecError> {
        let kinds = self.u8("a range tombstone")?;
        let start = self.bound(kinds % 3)?;
        let end = self.bound(kinds / 3)?;
        Ok(RangeTombstone { start, end, deletion: self.deletion()? })
    }

    fn bound(&mut self, kind: u8) -> Result<Bound, CodecError> {
        match kind {
            0 => Ok(Bound::Open),
            1 => Ok(Bound::Included(ClusteringKey(self.bytes("a bound")?))),
            2 => Ok(Bound::Excluded(ClusteringKey(self.bytes("a bound")?))),
            _ => Err(self.invalid("an unknown kind of bound")),
        }
    }

    fn row(&mut self) -> Result<Row, CodecError> {
        use row_flag::{CELLS, COMPLEX, DELETION, EXPIRING, LIVENESS};
        let flags = self.u8("a row")?;
        if flags == 0 || flags & !(LIVENESS | EXPIRING | DELETION | CELLS | COMPLEX) != 0 {
            return Err(self.invalid("unknown flags of a row, or none"));
        }
        let mut row = Row::default();
        if flags & LIVENESS != 0 {
            let timestamp = self.time()?;
            let expiry = if flags & EXPIRING != 0 { Some(self.expiry()?) } else { None };
            row.liveness = Some(Liveness { timestamp, expiry });
        } else if flags & EXPIRING != 0 {
            return Err(self.invalid("a row that expires without being there"));
        }
        if flags & DELETION != 0 {
            row.deletion = Some(self.deletion()?);
        }
        if flags & CELLS != 0 {
            let count = self.count(4, "the cells")?;
            row.cells.reserve(count.min(RESERVED_MAX));
            for _ in 0..count {
                let kind = self.u8("a cell")?;
                let column = ColumnId(self.u32("a column")?);
                row.cells.push((column, self.cell(kind)?));
            }
        }
        if flags & COMPLEX != 0 {
            let count = self.count(4, "the complex columns")?;
            row.complex.reserve(count.min(RESERVED_MAX));
            for _ in 0..count {
                let column = ColumnId(self.u32("a column")?);
                row.complex.push((column, self.complex()?));
            }
        }
        Ok(row)
    }

    fn complex(&mut self) -> Result<Complex, CodecError> {
        use complex_flag::{DELETION, ELEMENTS};
        let flags = self.u8("a complex column")?;
        if flags == 0 || flags & !(DELETION | ELEMENTS) != 0 {
            return Err(self.invalid("unknown flags of a complex column, or none"));
        }
        let mut complex = Complex::default();
        if flags & DELETION != 0 {
            complex.deletion = Some(self.deletion()?);
        }
        if flags & ELEMENTS != 0 {
            let count = self.count(4, "the elements")?;
            complex.elements.reserve(count.min(RESERVED_MAX));
            for _ in 0..count {
                let kind = self.u8("an element")?;
                let path = self.bytes("an element's path")?;
                complex.elements.push((path, self.cell(kind)?));
            }
        }
        Ok(complex)
    }

    /// What follows a cell's place.
    fn cell(&mut self, kind: u8) -> Result<Cell, CodecError> {
        let timestamp = self.time()?;
        let content = match kind {
            kind::VALUE => Content::Value { value: self.bytes("a value")?, expiry: None },
            kind::EXPIRING => {
                let expiry = Some(self.expiry()?);
                Content::Value { value: self.bytes("a value")?, expiry }
            }
            kind::TOMBSTONE => Content::Tombstone { deleted_at: self.second()? },
            _ => return Err(self.invalid("an unknown kind of cell")),
        };
        Ok(Cell { timestamp, content })
    }
}
