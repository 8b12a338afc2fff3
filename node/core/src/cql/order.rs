//! The order of values: what ORDER BY, slices, sets and `min` go by.
//!
//! Invariant: for bytes that [`CqlType::check`] accepts this is a total preorder, the one of Cassandra's comparators,
//! and [`clustering`](super::clustering) keeps it. Other bytes have some place in it too, and nothing panics.
//!
//! No bytes at all come first. Two values may be equal and differ in bytes: `1.0` and `1.00`, NaNs, the bytes of a
//! `true`, integers with superfluous bytes, tuples with and without nulls at their end.
//!
//! CAVEAT: in one place Cassandra has no order to follow: it takes an empty part at the end of a tuple for a null if
//! the other tuple is shorter, but not if that one has a null there. Here an empty part is always more than a null.

#[cfg(test)]
mod tests;

use super::collection::{Elements, Pairs, Parts};
use super::decimal::{Decimal, compare_varints};
use super::types::CqlType;
use super::uuid;
use super::value::array;
use std::cmp::Ordering;

impl CqlType {
    /// Which of two values of this type comes first.
    pub fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        match self {
            CqlType::Ascii
            | CqlType::Text
            | CqlType::Blob
            | CqlType::Inet
            | CqlType::Date
            | CqlType::Time
            // It has no order; this one serves to tell equal from unequal, and Cassandra does the same.
            | CqlType::Duration => a.cmp(b),
            CqlType::Boolean => is_true(a).cmp(&is_true(b)),
            CqlType::Bigint | CqlType::Counter | CqlType::Timestamp => {
                by(a, b, |bytes| array(bytes).map(i64::from_be_bytes))
            }
            CqlType::Int => by(a, b, |bytes| array(bytes).map(i32::from_be_bytes)),
            CqlType::Smallint => {
                by(a, b, |bytes| array(bytes).map(i16::from_be_bytes))
            }
            CqlType::Tinyint => by(a, b, |bytes| array(bytes).map(i8::from_be_bytes)),
            CqlType::Float => by(a, b, |bytes| array(bytes).map(float_key)),
            CqlType::Double => by(a, b, |bytes| array(bytes).map(double_key)),
            CqlType::Timeuuid => by(a, b, |bytes| array(bytes).map(uuid::time_key)),
            CqlType::Uuid => by(a, b, |bytes| array(bytes).map(uuid::key)),
            CqlType::Varint => compare_varints(a, b),
            CqlType::Decimal => match (Decimal::from_bytes(a), Decimal::from_bytes(b)) {
                (Some(x), Some(y)) => x.compare(&y),
                (x, y) => x.is_some().cmp(&y.is_some()).then_with(|| a.cmp(b)),
            },
            CqlType::List { of, .. } | CqlType::Set { of, .. } => compare_elements(of, a, b),
            CqlType::Map { key, value, .. } => compare_pairs(key, value, a, b),
            CqlType::Tuple(parts) => compare_parts(parts.iter(), a, b),
            CqlType::User { of, .. } => compare_parts(of.fields.iter().map(|(_, ty)| ty), a, b),
        }
    }
}

/// By what the bytes say, those that say nothing first and by their bytes.
fn by<T: Ord>(a: &[u8], b: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Ordering {
    match (read(a), read(b)) {
        (None, None) => a.cmp(b),
        (x, y) => x.cmp(&y),
    }
}

/// 0 is false, all else is true.
pub(super) fn is_true(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| *byte != 0)
}

/// A float as an integer that sorts as Java's `Float.compare` does: -0 before 0, and NaN, of which there is one, last.
pub(super) fn float_key(bytes: [u8; 4]) -> u32 {
    let float = f32::from_be_bytes(bytes);
    let bits = if float.is_nan() { 0x7fc0_0000 } else { float.to_bits() };
    if bits >> 31 == 0 { bits | (1 << 31) } else { !bits }
}

/// What [`float_key`] was given.
pub(super) fn float_of_key(key: u32) -> [u8; 4] {
    let bits = if key >> 31 == 1 { key & !(1 << 31) } else { !key };
    bits.to_be_bytes()
}

/// [`float_key`] of 64 bits.
pub(super) fn double_key(bytes: [u8; 8]) -> u64 {
    let double = f64::from_be_bytes(bytes);
    let bits = if double.is_nan() { 0x7ff8_0000_0000_0000 } else { double.to_bits() };
    if bits >> 63 == 0 { bits | (1 << 63) } else { !bits }
}

/// What [`double_key`] was given.
pub(super) fn double_of_key(key: u64) -> [u8; 8] {
    let bits = if key >> 63 == 1 { key & !(1 << 63) } else { !key };
    bits.to_be_bytes()
}

/// Element by element; of two that begin alike the shorter one first.
fn compare_elements(of: &CqlType, a: &[u8], b: &[u8]) -> Ordering {
    let (Ok(mut xs), Ok(mut ys)) = (Elements::new(a, "list"), Elements::new(b, "list")) else {
        return a.cmp(b);
    };
    loop {
        match (xs.next(), ys.next()) {
            (Some(Ok(x)), Some(Ok(y))) => match of.compare(x, y) {
                Ordering::Equal => {}
                decided => return decided,
            },
            (x, y) => return has(x).cmp(&has(y)),
        }
    }
}

fn compare_pairs(key: &CqlType, value: &CqlType, a: &[u8], b: &[u8]) -> Ordering {
    let (Ok(mut xs), Ok(mut ys)) = (Pairs::new(a), Pairs::new(b)) else {
        return a.cmp(b);
    };
    loop {
        match (xs.next(), ys.next()) {
            (Some(Ok((k, v))), Some(Ok((l, w)))) => {
                match key.compare(k, l).then_with(|| value.compare(v, w)) {
                    Ordering::Equal => {}
                    decided => return decided,
                }
            }
            (x, y) => return has(x).cmp(&has(y)),
        }
    }
}

/// Whether there is another one; what cannot be read is not there.
fn has<T, E>(next: Option<Result<T, E>>) -> bool {
    matches!(next, Some(Ok(_)))
}

/// Part by part, nulls first, missing ones being null.
fn compare_parts<'a>(types: impl Iterator<Item = &'a CqlType>, a: &[u8], b: &[u8]) -> Ordering {
    let (mut xs, mut ys) = (Parts::new(a, "tuple"), Parts::new(b, "tuple"));
    for ty in types {
        // What cannot be read is as good as null.
        let x = xs.next().and_then(Result::ok).flatten();
        let y = ys.next().and_then(Result::ok).flatten();
        let order = match (x, y) {
            (Some(x), Some(y)) => ty.compare(x, y),
            (x, y) => x.is_some().cmp(&y.is_some()),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}
