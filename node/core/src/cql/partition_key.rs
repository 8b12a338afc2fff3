//! Partition keys: what a row's token is made of, and drivers route by.
//!
//! ```text
//! one column | its bytes |
//! several    | for each: length u16 | bytes | 0x00 |
//! ```
//!
//! Source: `CompositeType` of Cassandra 4.1. Drivers build the same bytes from bound values, so there is no other form.

#[cfg(test)]
mod tests;

use crate::data::Key;
use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// The longest key, and the longest part of one, in bytes.
pub const BYTES_MAX: usize = 65_535;

/// Why values are not a partition key, or bytes are not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PartitionKeyError {
    /// No bytes at all, or no columns.
    #[error("Key may not be empty")]
    Empty,
    /// Longer than [`BYTES_MAX`].
    #[error("Key length of {found} is longer than maximum of 65535")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// Bytes that are not a key of so many columns.
    #[error("corrupt partition key: column {column} of {columns} cannot be read")]
    Corrupt {
        /// The column that cannot be read, from 0; `columns` if something follows the last.
        column: usize,
        /// How many columns there should be.
        columns: usize,
    },
}

/// The key of these values, one for each column of the partition key.
pub fn encode<V: AsRef<[u8]>>(values: &[V]) -> Result<Key, PartitionKeyError> {
    let key = match values {
        [] => return Err(PartitionKeyError::Empty),
        [only] => Bytes::copy_from_slice(only.as_ref()),
        several => {
            let mut out = BytesMut::new();
            for value in several {
                let value = value.as_ref();
                let too_long = PartitionKeyError::TooLong { found: value.len() };
                out.put_u16(u16::try_from(value.len()).map_err(|_| too_long)?);
                out.put_slice(value);
                out.put_u8(0);
            }
            out.freeze()
        }
    };
    match key.len() {
        0 => Err(PartitionKeyError::Empty),
        found if found > BYTES_MAX => Err(PartitionKeyError::TooLong { found }),
        _ => Ok(Key(key)),
    }
}

/// The values of a key of so many columns, as slices of it.
pub fn decode(key: &Key, columns: usize) -> Result<Vec<Bytes>, PartitionKeyError> {
    if columns == 1 {
        return Ok(vec![key.0.clone()]);
    }
    let mut values = Vec::new();
    let mut at = 0_usize;
    let mut component = || {
        let rest = key.0.get(at..)?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        // The byte after a component is 0 in keys; other values are for bounds, which we have elsewhere.
        if rest.get(length) != Some(&0) {
            return None;
        }
        let start = at + 2;
        at = start + length + 1;
        Some(key.0.slice(start..start + length))
    };
    for column in 0..columns {
        let corrupt = PartitionKeyError::Corrupt { column, columns };
        values.push(component().ok_or(corrupt)?);
    }
    if at == key.0.len() {
        Ok(values)
    } else {
        Err(PartitionKeyError::Corrupt { column: columns, columns })
    }
}
