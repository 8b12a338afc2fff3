//! Clustering columns as one key: bytes that sort as CQL sorts the rows.
//!
//! Storage compares rows by `memcmp` and knows no types. So the values of the clustering columns are written in a form
//! of which the bytes sort as the values do; a column that is `DESC` is written with every bit flipped.
//!
//! ```text
//! key       | component | component | ...      one for each clustering column, in order
//! component | 0x10 |             null
//!           | 0x20 |             no bytes at all
//!           | 0x30 | payload |   a value, by its type:
//!
//! tinyint, smallint, int, bigint, timestamp   1, 2, 4 or 8 bytes, big-endian, the sign bit flipped
//! date, time                                  4 or 8 bytes, big-endian, as they are
//! boolean                                     0 or 1
//! float, double                               4 or 8 bytes: IEEE 754, NaN as 0x7fc00000 or 0x7ff8000000000000;
//!                                             then the sign bit is flipped, or all bits if it was set
//! timeuuid                                    hi-and-version u16 | mid u16 | low u32 | 8 bytes, each ^ 0x80
//! uuid, version 1                             hi-and-version u16 | mid u16 | low u32 | 8 bytes
//! uuid, others                                version 4 bits | low, mid 48 bits | hi 12 bits | 8 bytes
//! ascii, text, blob, inet                     the bytes, 0x00 as 0x00 0xff; then 0x00 0x01
//! varint                                      n >= 0: 0x80 + length | magnitude |   without zeros in front; 0 has no bytes;
//!                                             a length of 0x70 and more: 0xf0 | length u32 | magnitude |
//!                                             n < 0: that of -n with every bit flipped
//! decimal                                     0x80 is zero; else the value is +-0.d1 d2 ... * 10^exponent with no zero
//!                                             at either end of the digits:
//!                                             0xc0 | exponent as a varint | 1 + 10 * d1 + d2 | 1 + 10 * d3 + d4 | ... | 0x00
//!                                             negative: 0x40 | all that follows, every bit flipped |
//! list, set                                   a component for each element | 0x00
//! map                                         two components for each pair | 0x00
//! tuple, udt                                  a component for each part up to the last that is not null | 0x00
//! ```
//!
//! Invariants, for values that [`CqlType::check`] accepts (property tests hold them against [`CqlType::compare`]):
//! - `encode(a) < encode(b)` as bytes exactly if CQL sorts row `a` before row `b`, and equal if CQL says that they are
//!   the same row;
//! - no component is a prefix of another one of its column, so a key ends where its last column does;
//! - no component begins with 0x00 or 0xff, so `key` sorts before, and `key | 0xff` after, every longer key that
//!   begins with `key`: [`prefix_start`] and [`prefix_end`].
//!
//! **What is equal is one key**, as in Cassandra, and reads back in one form: a decimal without zeros at its end (`1.00`
//! as `1`), a varint without superfluous bytes, NaN as Java's, `true` as 1, a tuple with a null for each missing part.
//! The others read back byte for byte. A type that gains fields (`ALTER TYPE ADD`) leaves the keys as they are.
//!
//! **This goes to disk: it never changes.** The idea of flipping and escaping is that of Cassandra's byte-comparable
//! types (CASSANDRA-6936); the format is our own.

mod read;
#[cfg(test)]
mod tests;
mod write;

use super::types::CqlType;
use super::value::ValueError;
use crate::data::{Bound, ClusteringKey};
use bytes::Bytes;
use thiserror::Error;

/// The longest value of a clustering column, in bytes, as in Cassandra.
pub const VALUE_BYTES_MAX: usize = 65_535;

/// What components begin with.
mod tag {
    pub(super) const NULL: u8 = 0x10;
    pub(super) const EMPTY: u8 = 0x20;
    pub(super) const VALUE: u8 = 0x30;
}

/// After the components of a collection or a tuple: sorts before any component.
const END: u8 = 0x00;
/// In a text: stands for a 0x00, and for the end.
const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const ESCAPED_END: u8 = 0x01;
/// After a prefix: sorts after any component.
const AFTER: u8 = 0xff;
/// The first byte of a zero.
const ZERO: u8 = 0x80;
/// From this length on, a varint's length has four bytes.
const LONG: u8 = 0x70;
/// The first byte of a decimal more than 0.
const POSITIVE: u8 = 0xc0;
/// The first byte of a decimal less than 0.
const NEGATIVE: u8 = 0x40;

/// Why values are no clustering key, or bytes are not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClusteringError {
    /// A value that its type does not have.
    #[error("clustering column {column}: {source}")]
    Value {
        /// The column's place among the clustering columns, from 0.
        column: usize,
        /// What is wrong.
        source: ValueError,
    },
    /// A value too long for a key.
    #[error("clustering column {column}: {found} bytes is longer than the maximum of 65535")]
    TooLong {
        /// The column's place among the clustering columns, from 0.
        column: usize,
        /// How many bytes it has.
        found: usize,
    },
    /// More values than there are clustering columns.
    #[error("{found} values for {columns} clustering columns")]
    TooMany {
        /// How many columns there are.
        columns: usize,
        /// How many values were given.
        found: usize,
    },
    /// A type that has no order.
    #[error("clustering column {column}: a value of type {ty} has no order")]
    NoOrder {
        /// The column's place among the clustering columns, from 0.
        column: usize,
        /// Its type.
        ty: String,
    },
    /// Bytes that this module did not write, or not for these columns.
    #[error("corrupt clustering key: column {column}, byte {at}: expected {expected}")]
    Corrupt {
        /// The column's place among the clustering columns, from 0.
        column: usize,
        /// Where in the key.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
}

/// The key of these values. `columns` are the types of the clustering columns, with `true` for `DESC`. With fewer
/// values than columns it is a prefix: see [`prefix_start`].
///
/// CQL has no null here; a `None` sorts first.
pub fn encode(
    columns: &[(CqlType, bool)],
    values: &[Option<&[u8]>],
) -> Result<ClusteringKey, ClusteringError> {
    if values.len() > columns.len() {
        return Err(ClusteringError::TooMany { columns: columns.len(), found: values.len() });
    }
    let mut out = Vec::with_capacity(values.iter().flatten().map(|value| value.len() + 4).sum());
    for (column, ((ty, reversed), value)) in columns.iter().zip(values).enumerate() {
        if !ty.has_order() {
            return Err(ClusteringError::NoOrder { column, ty: ty.to_string() });
        }
        if let Some(value) = value {
            if value.len() > VALUE_BYTES_MAX {
                return Err(ClusteringError::TooLong { column, found: value.len() });
            }
            ty.check(value).map_err(|source| ClusteringError::Value { column, source })?;
        }
        let start = out.len();
        write::component(&mut out, ty, *value)
            .map_err(|source| ClusteringError::Value { column, source })?;
        if *reversed {
            out.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
        }
    }
    Ok(ClusteringKey(Bytes::from(out)))
}

/// The values of a whole key, one for each column.
pub fn decode(
    columns: &[(CqlType, bool)],
    key: &ClusteringKey,
) -> Result<Vec<Option<Bytes>>, ClusteringError> {
    let mut reader = read::Reader::new(&key.0);
    let mut values = Vec::with_capacity(columns.len());
    for (column, (ty, reversed)) in columns.iter().enumerate() {
        let mask = if *reversed { 0xff } else { 0 };
        let value = reader.component(ty, mask);
        values.push(value.map_err(|expected| reader.corrupt(column, expected))?);
    }
    if reader.is_at_end() { Ok(values) } else { Err(reader.corrupt(columns.len(), "the end")) }
}

/// Where the rows whose key begins with `prefix` begin: the start of a range that has them, or with
/// [`end_before`] the end of one that has not. Of the empty prefix: open.
///
/// Bounds made here are cuts between keys, each written in one way only: a start is always `Included`, an end always
/// `Excluded`. So ranges that touch are seen to touch.
pub fn prefix_start(prefix: &ClusteringKey) -> Bound {
    if prefix.0.is_empty() { Bound::Open } else { Bound::Included(prefix.clone()) }
}

/// Where the rows whose key begins with `prefix` end: the end of a range that has them. Of the empty prefix: open.
pub fn prefix_end(prefix: &ClusteringKey) -> Bound {
    if prefix.0.is_empty() { Bound::Open } else { Bound::Excluded(after(prefix)) }
}

/// The end of a range of all rows before those whose key begins with `prefix`.
pub fn end_before(prefix: &ClusteringKey) -> Bound {
    Bound::Excluded(prefix.clone())
}

/// The start of a range of all rows after those whose key begins with `prefix`.
pub fn start_after(prefix: &ClusteringKey) -> Bound {
    Bound::Included(after(prefix))
}

/// Sorts after every key that begins with `prefix`, and before any other that is more.
pub fn after(prefix: &ClusteringKey) -> ClusteringKey {
    let mut out = Vec::with_capacity(prefix.0.len() + 1);
    out.extend_from_slice(&prefix.0);
    out.push(AFTER);
    ClusteringKey(Bytes::from(out))
}

/// A limit of a slice over one clustering column: `>= value`, or `> value` if not `inclusive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit<'a> {
    /// The value.
    pub value: &'a [u8],
    /// Whether rows with that very value are in.
    pub inclusive: bool,
}

/// The rows whose first columns are `equal` and whose next column is between `low` and `high` in CQL's order of its
/// values, whichever way the column is sorted: the start and the end of their range. If `low` is more than `high` the
/// range ends before it starts: there are no such rows.
pub fn slice(
    columns: &[(CqlType, bool)],
    equal: &[Option<&[u8]>],
    low: Option<Limit<'_>>,
    high: Option<Limit<'_>>,
) -> Result<(Bound, Bound), ClusteringError> {
    let prefix = encode(columns, equal)?;
    let reversed = columns.get(equal.len()).is_some_and(|(_, reversed)| *reversed);
    // With DESC the rows of the highest values come first.
    let (first, last) = if reversed { (high, low) } else { (low, high) };
    let key = |limit: Limit<'_>| {
        let mut values = equal.to_vec();
        values.push(Some(limit.value));
        encode(columns, &values)
    };
    let start = match first {
        None => prefix_start(&prefix),
        Some(limit) if limit.inclusive => prefix_start(&key(limit)?),
        Some(limit) => start_after(&key(limit)?),
    };
    let end = match last {
        None => prefix_end(&prefix),
        Some(limit) if limit.inclusive => prefix_end(&key(limit)?),
        Some(limit) => end_before(&key(limit)?),
    };
    Ok((start, end))
}
