//! `+`, `-`, `*`, `/` and `%`.
//!
//! The result has the wider of the two types: that of the larger size, and floating if one of them is. Integers wrap
//! around, as they do in Java; a division of integers is cut off, and one by 0 is an error, but of floats an infinity.

use super::number::{
    Number, Rounding, ZEROS_MAX, aligned, divide_rounded, lowest_8, lowest_16, precision, too_large,
};
use super::{FunctionError, unsupported};
use crate::cql::decimal::Decimal;
use crate::cql::types::CqlType;
use bytes::Bytes;
use num_bigint::{BigInt, Sign};

/// The most digits that a sum or a product of decimals keeps; it is rounded to them.
const PRECISION_MAX: usize = 10_000;
/// A quotient of decimals has at least so many digits behind the point, and so many that count.
const QUOTIENT_SCALE_MIN: i64 = 32;
/// And no more than these behind the point.
const QUOTIENT_SCALE_MAX: i64 = 1000;

/// An operator on two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+`.
    Add,
    /// `-`.
    Subtract,
    /// `*`.
    Multiply,
    /// `/`.
    Divide,
    /// `%`: the rest of a division, with the sign of the dividend.
    Remainder,
}

impl Operator {
    /// As it is written.
    pub fn symbol(self) -> char {
        match self {
            Operator::Add => '+',
            Operator::Subtract => '-',
            Operator::Multiply => '*',
            Operator::Divide => '/',
            Operator::Remainder => '%',
        }
    }
}

/// The type of the result; `None`: one of them is not a number.
pub fn arithmetic_type(left: &CqlType, right: &CqlType) -> Option<CqlType> {
    // The size in bytes, 16 standing for any; and whether it is floating.
    let shape = |ty: &CqlType| {
        Some(match ty {
            CqlType::Tinyint => (1, false),
            CqlType::Smallint => (2, false),
            CqlType::Int => (4, false),
            CqlType::Bigint | CqlType::Counter => (8, false),
            CqlType::Varint => (16, false),
            CqlType::Float => (4, true),
            CqlType::Double => (8, true),
            CqlType::Decimal => (16, true),
            _ => return None,
        })
    };
    let ((a, a_floats), (b, b_floats)) = (shape(left)?, shape(right)?);
    Some(match (a.max(b), a_floats || b_floats) {
        (1, _) => CqlType::Tinyint,
        (2, false) => CqlType::Smallint,
        (4, false) => CqlType::Int,
        (8, false) => CqlType::Bigint,
        (_, false) => CqlType::Varint,
        (8, true) => CqlType::Double,
        (16, true) => CqlType::Decimal,
        (_, true) => CqlType::Float,
    })
}

/// `left operator right` as a value of [`arithmetic_type`].
pub fn arithmetic(
    operator: Operator,
    left: (&CqlType, Option<&[u8]>),
    right: (&CqlType, Option<&[u8]>),
) -> Result<Option<Bytes>, FunctionError> {
    let Some(ty) = arithmetic_type(left.0, right.0) else {
        return Err(unsupported("arithmetic", &[left.0, right.0]));
    };
    let (Some(a), Some(b)) = (left.1, right.1) else {
        return Ok(None);
    };
    let (Some(a), Some(b)) = (Number::read(left.0, a)?, Number::read(right.0, b)?) else {
        return Ok(None);
    };
    let by_zero = || FunctionError::DivisionByZero {
        left: left.0.to_string(),
        operator: operator.symbol(),
        right: right.0.to_string(),
    };
    let result = match ty {
        CqlType::Float => Number::Float(floats(operator, a.to_f32()?, b.to_f32()?)),
        CqlType::Double => Number::Double(floats(operator, a.to_f64()?, b.to_f64()?)),
        CqlType::Decimal => {
            let (a, b) = (a.to_decimal()?, b.to_decimal()?);
            Number::Decimal(decimals(operator, &a, &b, by_zero)?)
        }
        CqlType::Varint => {
            let (a, b) = (a.to_decimal()?.unscaled, b.to_decimal()?.unscaled);
            Number::Varint(match operator {
                Operator::Add => a + b,
                Operator::Subtract => a - b,
                Operator::Multiply => a * b,
                Operator::Divide | Operator::Remainder if b == BigInt::ZERO => {
                    return Err(by_zero());
                }
                Operator::Divide => a / b,
                Operator::Remainder => a % b,
            })
        }
        CqlType::Bigint => {
            Number::Bigint(whole(operator, a.to_i64(), b.to_i64()).ok_or_else(by_zero)?)
        }
        narrow => {
            // No product of two of these is too large for 64 bits, so narrowing wraps as each would.
            let n = whole(operator, a.to_i64(), b.to_i64()).ok_or_else(by_zero)?;
            let n = super::number::lowest_32(n);
            match narrow {
                CqlType::Int => Number::Int(n),
                CqlType::Smallint => Number::Smallint(lowest_16(n)),
                _ => Number::Tinyint(lowest_8(n)),
            }
        }
    };
    Ok(Some(result.to_bytes()))
}

/// `-value`, of the same type. The least integer has no counterpart and stays.
pub fn negate(ty: &CqlType, value: Option<&[u8]>) -> Result<Option<Bytes>, FunctionError> {
    if !ty.is_numeric() {
        return Err(unsupported("negation", &[ty]));
    }
    let Some(number) = value.map(|bytes| Number::read(ty, bytes)).transpose()?.flatten() else {
        return Ok(None);
    };
    let negated = match number {
        Number::Tinyint(n) => Number::Tinyint(n.wrapping_neg()),
        Number::Smallint(n) => Number::Smallint(n.wrapping_neg()),
        Number::Int(n) => Number::Int(n.wrapping_neg()),
        Number::Bigint(n) => Number::Bigint(n.wrapping_neg()),
        Number::Varint(n) => Number::Varint(-n),
        Number::Float(n) => Number::Float(-n),
        Number::Double(n) => Number::Double(-n),
        Number::Decimal(n) => Number::Decimal(Decimal { unscaled: -n.unscaled, scale: n.scale }),
    };
    Ok(Some(negated.to_bytes()))
}

/// `None`: a division by 0.
fn whole(operator: Operator, a: i64, b: i64) -> Option<i64> {
    Some(match operator {
        Operator::Add => a.wrapping_add(b),
        Operator::Subtract => a.wrapping_sub(b),
        Operator::Multiply => a.wrapping_mul(b),
        Operator::Divide | Operator::Remainder if b == 0 => return None,
        Operator::Divide => a.wrapping_div(b),
        Operator::Remainder => a.wrapping_rem(b),
    })
}

fn floats<F>(operator: Operator, a: F, b: F) -> F
where
    F: std::ops::Add<Output = F>
        + std::ops::Sub<Output = F>
        + std::ops::Mul<Output = F>
        + std::ops::Div<Output = F>
        + std::ops::Rem<Output = F>,
{
    match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::Remainder => a % b,
    }
}

fn decimals(
    operator: Operator,
    a: &Decimal,
    b: &Decimal,
    by_zero: impl Fn() -> FunctionError,
) -> Result<Decimal, FunctionError> {
    const FUNCTION: &str = "arithmetic";
    match operator {
        Operator::Add | Operator::Subtract => {
            let (x, y, scale) = aligned(a, b, FUNCTION)?;
            let unscaled = if operator == Operator::Add { x + y } else { x - y };
            rounded(Decimal { unscaled, scale })
        }
        Operator::Multiply => {
            let scale = a.scale.checked_add(b.scale).ok_or_else(|| too_large(FUNCTION))?;
            rounded(Decimal { unscaled: &a.unscaled * &b.unscaled, scale })
        }
        Operator::Divide | Operator::Remainder if b.unscaled.sign() == Sign::NoSign => {
            Err(by_zero())
        }
        Operator::Divide => quotient(a, b),
        Operator::Remainder => {
            let (x, y, scale) = aligned(a, b, FUNCTION)?;
            Ok(Decimal { unscaled: x % y, scale })
        }
    }
}

/// With no more than [`PRECISION_MAX`] digits.
fn rounded(n: Decimal) -> Result<Decimal, FunctionError> {
    let digits = precision(&n.unscaled);
    let Some(surplus) = digits.checked_sub(PRECISION_MAX).filter(|surplus| *surplus > 0) else {
        return Ok(n);
    };
    let out = || too_large("arithmetic");
    let surplus = i32::try_from(surplus).map_err(|_| out())?;
    let divisor = BigInt::from(10).pow(surplus.unsigned_abs());
    Ok(Decimal {
        unscaled: divide_rounded(&n.unscaled, &divisor, Rounding::HalfUp),
        scale: n.scale.checked_sub(surplus).ok_or_else(out)?,
    })
}

/// `a / b` with as many digits as Cassandra gives it, without zeros at the end.
fn quotient(a: &Decimal, b: &Decimal) -> Result<Decimal, FunctionError> {
    let out = || too_large("arithmetic");
    let digits = |n: &Decimal| i64::try_from(precision(&n.unscaled)).map_err(|_| out());
    let (a_digits, b_digits) = (digits(a)?, digits(b)?);
    let (a_scale, b_scale) = (i64::from(a.scale), i64::from(b.scale));
    // Where the first digit of the quotient is, give or take one.
    let first = (a_digits - a_scale) - (b_digits - b_scale);
    let scale = (QUOTIENT_SCALE_MIN - first)
        .max(a_scale)
        .max(b_scale)
        .clamp(QUOTIENT_SCALE_MIN, QUOTIENT_SCALE_MAX);
    let zeros = scale - a_scale + b_scale;
    let power = |zeros: i64| u32::try_from(zeros).map(|zeros| BigInt::from(10).pow(zeros));
    let unscaled = if zeros > i64::from(ZEROS_MAX) {
        return Err(out());
    } else if zeros >= 0 {
        let dividend = &a.unscaled * power(zeros).map_err(|_| out())?;
        divide_rounded(&dividend, &b.unscaled, Rounding::HalfUp)
    } else if -zeros > a_digits + 1 {
        // Less than half of the last digit.
        BigInt::ZERO
    } else {
        let divisor = &b.unscaled * power(-zeros).map_err(|_| out())?;
        divide_rounded(&a.unscaled, &divisor, Rounding::HalfUp)
    };
    let scale = i32::try_from(scale).map_err(|_| out())?;
    Ok(Decimal { unscaled, scale }.stripped())
}
