//! `CAST(value AS type)`.

use super::number::{Number, lowest_8, lowest_16};
use super::{FunctionError, time, unsupported};
use crate::cql::types::CqlType;
use bytes::Bytes;
use num_bigint::BigInt;

/// Whether there is such a cast: between numbers, from scalars to text, and from times to dates and back.
pub fn can_cast(from: &CqlType, to: &CqlType) -> bool {
    use CqlType::{Ascii, Boolean, Counter, Date, Inet, Text, Time, Timestamp, Timeuuid, Uuid};
    match (from, to) {
        (from, to) if from == to => true,
        // A counter is only in counter columns.
        (_, Counter) => false,
        (from, to) if from.is_numeric() && to.is_numeric() => true,
        (Ascii, Text) => true,
        (Boolean | Inet | Timeuuid | Timestamp | Date | Time | Uuid, Ascii | Text) => true,
        (from, Ascii | Text) => from.is_numeric(),
        (Timeuuid, Date | Timestamp) | (Timestamp, Date) | (Date, Timestamp) => true,
        _ => false,
    }
}

/// The value as one of type `to`. Numbers that do not fit are cut as Java cuts them, without an error: floats to the
/// nearest end of the range, others to their lowest bits.
pub fn cast(
    from: &CqlType,
    to: &CqlType,
    value: Option<&[u8]>,
) -> Result<Option<Bytes>, FunctionError> {
    if !can_cast(from, to) {
        return Err(unsupported("a cast", &[from, to]));
    }
    let Some(bytes) = value else {
        return Ok(None);
    };
    from.check(bytes)?;
    if from == to {
        return Ok(Some(Bytes::copy_from_slice(bytes)));
    }
    match to {
        CqlType::Ascii | CqlType::Text => {
            Ok(from.to_plain(bytes)?.map(|text| Bytes::from(text.into_bytes())))
        }
        CqlType::Date => time::to_date(from, value),
        CqlType::Timestamp => time::to_timestamp(from, value),
        number => {
            let Some(n) = Number::read(from, bytes)? else {
                return Ok(None);
            };
            let n = match number {
                CqlType::Tinyint => Number::Tinyint(lowest_8(n.to_i32())),
                CqlType::Smallint => Number::Smallint(lowest_16(n.to_i32())),
                CqlType::Int => Number::Int(n.to_i32()),
                CqlType::Bigint => Number::Bigint(n.to_i64()),
                CqlType::Float => Number::Float(n.to_f32()?),
                CqlType::Double => Number::Double(n.to_f64()?),
                CqlType::Decimal => Number::Decimal(n.to_decimal()?),
                // By way of 64 bits, as in Cassandra.
                _ => Number::Varint(BigInt::from(n.to_i64())),
            };
            Ok(Some(n.to_bytes()))
        }
    }
}
