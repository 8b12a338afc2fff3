//! Numbers of all types, and Java's ways of turning one into another.

use super::FunctionError;
use crate::cql::decimal::{DIGITS_MAX, Decimal, is_printable};
use crate::cql::text::{java_double, java_float};
use crate::cql::types::CqlType;
use crate::cql::value::array;
use bytes::Bytes;
use num_bigint::{BigInt, Sign};

/// How far apart the scales of two decimals may be that are added, and how many zeros a result may gain.
pub(super) const ZEROS_MAX: u32 = 20_000;

/// A number. A `counter` is a `bigint`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Number {
    Tinyint(i8),
    Smallint(i16),
    Int(i32),
    Bigint(i64),
    Varint(BigInt),
    Float(f32),
    Double(f64),
    Decimal(Decimal),
}

impl Number {
    /// `None`: no bytes, which is null here.
    pub(super) fn read(ty: &CqlType, bytes: &[u8]) -> Result<Option<Number>, FunctionError> {
        ty.check(bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let number = match ty {
            CqlType::Tinyint => array(bytes).map(|n| Number::Tinyint(i8::from_be_bytes(n))),
            CqlType::Smallint => array(bytes).map(|n| Number::Smallint(i16::from_be_bytes(n))),
            CqlType::Int => array(bytes).map(|n| Number::Int(i32::from_be_bytes(n))),
            CqlType::Bigint | CqlType::Counter => {
                array(bytes).map(|n| Number::Bigint(i64::from_be_bytes(n)))
            }
            CqlType::Float => array(bytes).map(|n| Number::Float(f32::from_be_bytes(n))),
            CqlType::Double => array(bytes).map(|n| Number::Double(f64::from_be_bytes(n))),
            // What cannot be shown takes too long to calculate with.
            CqlType::Varint | CqlType::Decimal if !is_printable(bytes) => {
                return Err(too_large("reading a number"));
            }
            CqlType::Varint => Some(Number::Varint(BigInt::from_signed_bytes_be(bytes))),
            CqlType::Decimal => Decimal::from_bytes(bytes).map(Number::Decimal),
            _ => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(super::unsupported("reading a number", &[ty])),
        }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        match self {
            Number::Tinyint(n) => Bytes::copy_from_slice(&n.to_be_bytes()),
            Number::Smallint(n) => Bytes::copy_from_slice(&n.to_be_bytes()),
            Number::Int(n) => Bytes::copy_from_slice(&n.to_be_bytes()),
            Number::Bigint(n) => Bytes::copy_from_slice(&n.to_be_bytes()),
            Number::Varint(n) => Bytes::from(n.to_signed_bytes_be()),
            Number::Float(n) => Bytes::copy_from_slice(&n.to_be_bytes()),
            Number::Double(n) => Bytes::copy_from_slice(&n.to_be_bytes()),
            Number::Decimal(n) => n.to_bytes(),
        }
    }

    /// Java's `longValue`: floats are cut off and kept within 64 bits, larger numbers keep their lowest 64.
    pub(super) fn to_i64(&self) -> i64 {
        match self {
            Number::Tinyint(n) => (*n).into(),
            Number::Smallint(n) => (*n).into(),
            Number::Int(n) => (*n).into(),
            Number::Bigint(n) => *n,
            Number::Varint(n) => low_bits(n),
            Number::Float(n) => saturated_64(f64::from(*n)),
            Number::Double(n) => saturated_64(*n),
            Number::Decimal(n) => low_bits(&whole(n)),
        }
    }

    /// Java's `intValue`.
    pub(super) fn to_i32(&self) -> i32 {
        match self {
            Number::Float(n) => saturated_32(f64::from(*n)),
            Number::Double(n) => saturated_32(*n),
            other => lowest_32(other.to_i64()),
        }
    }

    pub(super) fn to_f64(&self) -> Result<f64, FunctionError> {
        Ok(match self {
            Number::Float(n) => (*n).into(),
            Number::Double(n) => *n,
            Number::Int(n) => (*n).into(),
            other => parse_float(&other.digits())?,
        })
    }

    pub(super) fn to_f32(&self) -> Result<f32, FunctionError> {
        match self {
            Number::Float(n) => Ok(*n),
            Number::Double(n) => Ok(single(*n)),
            other => parse_float(&other.digits()),
        }
    }

    pub(super) fn to_decimal(&self) -> Result<Decimal, FunctionError> {
        let text = match self {
            Number::Decimal(n) => return Ok(n.clone()),
            Number::Varint(n) => return Ok(Decimal { unscaled: n.clone(), scale: 0 }),
            // By way of a double, as Java's `BigDecimal.valueOf` does.
            Number::Float(n) if n.is_finite() => java_double(f64::from(*n)),
            Number::Double(n) if n.is_finite() => java_double(*n),
            Number::Float(n) => return Err(FunctionError::NotDecimal { value: java_float(*n) }),
            Number::Double(n) => return Err(FunctionError::NotDecimal { value: java_double(*n) }),
            whole => return Ok(Decimal { unscaled: BigInt::from(whole.to_i64()), scale: 0 }),
        };
        Ok(Decimal::parse(&text)?)
    }

    /// As text that the parser of floats reads.
    fn digits(&self) -> String {
        match self {
            Number::Varint(n) => n.to_string(),
            Number::Decimal(n) => format!("{}e{}", n.unscaled, -i64::from(n.scale)),
            whole => whole.to_i64().to_string(),
        }
    }
}

pub(super) fn too_large(function: &'static str) -> FunctionError {
    FunctionError::TooLarge { function }
}

fn parse_float<F: std::str::FromStr>(text: &str) -> Result<F, FunctionError> {
    text.parse().map_err(|_| too_large("a conversion"))
}

/// The lowest 64 bits in two's complement.
fn low_bits(n: &BigInt) -> i64 {
    let (sign, digits) = n.to_u64_digits();
    let low = digits.first().copied().unwrap_or(0).cast_signed();
    if sign == Sign::Minus { low.wrapping_neg() } else { low }
}

/// What is before the point; only the lowest 64 bits are right, which are 0 from 64 zeros on.
fn whole(n: &Decimal) -> BigInt {
    let ten = |zeros| BigInt::from(10).pow(zeros);
    match n.scale {
        0 => n.unscaled.clone(),
        scale if scale < 0 && scale.unsigned_abs() >= 64 => BigInt::ZERO,
        scale if scale < 0 => &n.unscaled * ten(scale.unsigned_abs()),
        // Less than 8^scale, so less than 10^scale: nothing is before the point.
        scale if n.unscaled.bits() < 3 * u64::from(scale.unsigned_abs()) => BigInt::ZERO,
        scale => &n.unscaled / ten(scale.unsigned_abs()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "saturating, and 0 for NaN, as in Java")]
fn saturated_64(n: f64) -> i64 {
    n as i64
}

#[expect(clippy::cast_possible_truncation, reason = "saturating, and 0 for NaN, as in Java")]
fn saturated_32(n: f64) -> i32 {
    n as i32
}

#[expect(clippy::cast_possible_truncation, reason = "Java's narrowing keeps the lowest bits")]
pub(super) fn lowest_32(n: i64) -> i32 {
    n as i32
}

#[expect(clippy::cast_possible_truncation, reason = "Java's narrowing keeps the lowest bits")]
pub(super) fn lowest_16(n: i32) -> i16 {
    n as i16
}

#[expect(clippy::cast_possible_truncation, reason = "Java's narrowing keeps the lowest bits")]
pub(super) fn lowest_8(n: i32) -> i8 {
    n as i8
}

#[expect(clippy::cast_possible_truncation, reason = "rounds, and to infinity what is too large")]
pub(super) fn single(n: f64) -> f32 {
    n as f32
}

/// Two decimals at the larger of their scales.
pub(super) fn aligned(
    a: &Decimal,
    b: &Decimal,
    function: &'static str,
) -> Result<(BigInt, BigInt, i32), FunctionError> {
    let difference = a.scale.abs_diff(b.scale);
    // Zero is zero at any scale.
    let zero = a.unscaled.sign() == Sign::NoSign || b.unscaled.sign() == Sign::NoSign;
    if difference > ZEROS_MAX && !zero {
        return Err(too_large(function));
    }
    if difference > ZEROS_MAX {
        let scale = if a.unscaled.sign() == Sign::NoSign { b.scale } else { a.scale };
        return Ok((a.unscaled.clone(), b.unscaled.clone(), scale));
    }
    let factor = BigInt::from(10).pow(difference);
    Ok(if a.scale < b.scale {
        (&a.unscaled * factor, b.unscaled.clone(), b.scale)
    } else {
        (a.unscaled.clone(), &b.unscaled * factor, a.scale)
    })
}

/// How many decimal digits it has; 1 for zero.
pub(super) fn precision(n: &BigInt) -> usize {
    n.magnitude().to_string().len()
}

/// Which way a quotient that is not whole is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// To the nearest, halves away from 0.
    HalfUp,
    /// To the nearest, halves to the even one.
    HalfEven,
}

/// `a / b`, rounded. `b` is not 0.
pub(super) fn divide_rounded(a: &BigInt, b: &BigInt, rounding: Rounding) -> BigInt {
    let quotient = a / b;
    let rest = a - &quotient * b;
    let twice = rest.magnitude() * 2_u8;
    let up = match twice.cmp(b.magnitude()) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => rounding == Rounding::HalfUp || quotient.bit(0),
    };
    let away = if (a.sign() == Sign::Minus) == (b.sign() == Sign::Minus) { 1 } else { -1 };
    if up { quotient + away } else { quotient }
}

const _: () = assert!(DIGITS_MAX > 10_000);
