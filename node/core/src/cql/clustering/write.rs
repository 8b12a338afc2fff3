//! Values become components. What comes here was checked.

use super::{AFTER, END, ESCAPE, ESCAPED_END, ESCAPED_ZERO, LONG, NEGATIVE, POSITIVE, ZERO, tag};
use crate::cql::collection::{Elements, Pairs, Parts};
use crate::cql::decimal::{Decimal, trim_sign};
use crate::cql::order::{double_key, float_key, is_true};
use crate::cql::types::CqlType;
use crate::cql::uuid;
use crate::cql::value::{ValueError, array};
use num_bigint::BigInt;

/// Appends the component of a value.
pub(super) fn component(
    out: &mut Vec<u8>,
    ty: &CqlType,
    value: Option<&[u8]>,
) -> Result<(), ValueError> {
    match value {
        None => out.push(tag::NULL),
        Some([]) => out.push(tag::EMPTY),
        Some(value) => {
            out.push(tag::VALUE);
            payload(out, ty, value)?;
        }
    }
    Ok(())
}

fn payload(out: &mut Vec<u8>, ty: &CqlType, value: &[u8]) -> Result<(), ValueError> {
    match ty {
        CqlType::Tinyint
        | CqlType::Smallint
        | CqlType::Int
        | CqlType::Bigint
        | CqlType::Counter
        | CqlType::Timestamp => {
            out.extend(
                value.iter().enumerate().map(|(n, byte)| if n == 0 { byte ^ 0x80 } else { *byte }),
            );
        }
        CqlType::Date | CqlType::Time => out.extend_from_slice(value),
        CqlType::Boolean => out.push(u8::from(is_true(value))),
        CqlType::Float => out.extend_from_slice(&float_key(fixed(ty, value)?).to_be_bytes()),
        CqlType::Double => out.extend_from_slice(&double_key(fixed(ty, value)?).to_be_bytes()),
        CqlType::Timeuuid => {
            out.extend_from_slice(&uuid::time_key(fixed(ty, value)?).to_be_bytes())
        }
        CqlType::Uuid => out.extend_from_slice(&uuid::key(fixed(ty, value)?).to_be_bytes()),
        // A duration comes no further than `has_order`.
        CqlType::Ascii | CqlType::Text | CqlType::Blob | CqlType::Inet | CqlType::Duration => {
            escaped(out, value);
        }
        CqlType::Varint => varint(out, value),
        CqlType::Decimal => decimal(
            out,
            &Decimal::from_bytes(value).ok_or(ValueError::Truncated { ty: "decimal" })?,
        ),
        CqlType::List { of, .. } | CqlType::Set { of, .. } => {
            for element in Elements::new(value, "list")? {
                component(out, of, Some(element?))?;
            }
            out.push(END);
        }
        CqlType::Map { key, value: of, .. } => {
            for pair in Pairs::new(value)? {
                let (k, v) = pair?;
                component(out, key, Some(k))?;
                component(out, of, Some(v))?;
            }
            out.push(END);
        }
        CqlType::Tuple(types) => parts(out, types.iter(), value)?,
        CqlType::User { of, .. } => parts(out, of.fields.iter().map(|(_, ty)| ty), value)?,
    }
    Ok(())
}

fn fixed<const N: usize>(ty: &CqlType, value: &[u8]) -> Result<[u8; N], ValueError> {
    array(value).ok_or_else(|| ValueError::Length {
        ty: ty.to_string(),
        wanted: "another number of",
        found: value.len(),
    })
}

fn escaped(out: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        out.push(*byte);
        if *byte == ESCAPE {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[ESCAPE, ESCAPED_END]);
}

fn varint(out: &mut Vec<u8>, value: &[u8]) {
    let value = trim_sign(value);
    let (sign, magnitude) = BigInt::from_signed_bytes_be(value).to_bytes_be();
    match sign {
        num_bigint::Sign::NoSign => out.push(ZERO),
        _ => {
            let start = out.len();
            // The value's length, and so this one, was capped.
            match u8::try_from(magnitude.len()).ok().filter(|length| *length < LONG) {
                Some(length) => out.push(ZERO + length),
                None => {
                    out.push(ZERO + LONG);
                    let length = u32::try_from(magnitude.len()).unwrap_or(u32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                }
            }
            out.extend_from_slice(&magnitude);
            if sign == num_bigint::Sign::Minus {
                out.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
            }
        }
    }
}

fn decimal(out: &mut Vec<u8>, decimal: &Decimal) {
    let number = decimal.to_scientific();
    if number.digits.is_empty() {
        return out.push(ZERO);
    }
    out.push(if number.negative { NEGATIVE } else { POSITIVE });
    let start = out.len();
    varint(out, &number.exponent.to_be_bytes());
    for pair in number.digits.chunks(2) {
        let tens = pair.first().copied().unwrap_or(0);
        out.push(1 + 10 * tens + pair.get(1).copied().unwrap_or(0));
    }
    out.push(END);
    if number.negative {
        out.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
    }
}

fn parts<'a>(
    out: &mut Vec<u8>,
    types: impl Iterator<Item = &'a CqlType>,
    value: &[u8],
) -> Result<(), ValueError> {
    let mut end = out.len();
    for (ty, part) in types.zip(Parts::new(value, "tuple")) {
        let part = part?;
        component(out, ty, part)?;
        if part.is_some() {
            end = out.len();
        }
    }
    // Nulls at the end are as good as missing.
    out.truncate(end);
    out.push(END);
    Ok(())
}

// A prefix's end sorts after whatever can follow the prefix, and a container's end before.
const _: () = assert!(AFTER > !tag::NULL && END < tag::NULL && END < !tag::VALUE);
