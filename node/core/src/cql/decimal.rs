//! Integers of any size and decimals: their bytes, their texts, their order.
//!
//! ```text
//! varint  | two's complement, big-endian; as few bytes as will do when we write them |
//! decimal | scale i32 | varint |      its value is varint * 10^-scale
//! ```
//!
//! Source: native protocol v5, §6.8 and §6.23; Java's `BigDecimal` for texts.
//!
//! CAVEAT: a number of more than [`DIGITS_MAX`] digits is kept and compared, but neither read from a text nor shown as
//! one: turning a number into decimal digits takes time by the square of their count, and any client may send one.

use super::value::ValueError;
use bytes::Bytes;
use num_bigint::{BigInt, Sign};
use std::cmp::Ordering;
use std::fmt;

/// The longest number that is read from or shown as text, in digits.
pub const DIGITS_MAX: usize = 1 << 16;
/// The most zeros that come back to a number of the smallest scale. More than the longest key has digits.
const ZEROS_MAX: usize = 1 << 18;

/// A decimal number: `unscaled * 10^-scale`. Equality is of both; [`Decimal::compare`] is by value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    /// Its digits, and its sign.
    pub unscaled: BigInt,
    /// How many of the digits are behind the point; negative: zeros that are not written.
    pub scale: i32,
}

/// A decimal number's value in one form: `0.d1 d2 d3... * 10^exponent` with no zero at either end of the digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scientific {
    pub(crate) negative: bool,
    pub(crate) exponent: i64,
    /// Each between 0 and 9. Empty: the number is 0.
    pub(crate) digits: Vec<u8>,
}

impl Decimal {
    /// Reads the bytes of one; `None`: there are too few of them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Decimal> {
        let (scale, unscaled) = bytes.split_first_chunk::<4>()?;
        let unscaled = (!unscaled.is_empty()).then(|| BigInt::from_signed_bytes_be(unscaled))?;
        Some(Decimal { unscaled, scale: i32::from_be_bytes(*scale) })
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = self.scale.to_be_bytes().to_vec();
        out.extend_from_slice(&self.unscaled.to_signed_bytes_be());
        Bytes::from(out)
    }

    /// Reads `-12.50`, `1e-7`.
    pub fn parse(text: &str) -> Result<Decimal, ValueError> {
        let unreadable = |why| ValueError::unreadable("decimal", text, why);
        if text.len() > DIGITS_MAX {
            return Err(unreadable("too many digits"));
        }
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        // A sign belongs in front of all digits, and an underscore, which the parser of integers takes, nowhere.
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(fraction) || digits.contains('_') {
            return Err(unreadable("expected digits, a point and an exponent"));
        }
        let unscaled = parse_integer(&digits)
            .ok_or_else(|| unreadable("expected digits, a point and an exponent"))?;
        let exponent: i64 =
            exponent.parse().map_err(|_| unreadable("the exponent is not a number of 32 bits"))?;
        let scale = i64::try_from(fraction.len()).ok().and_then(|n| n.checked_sub(exponent));
        match scale.and_then(|scale| i32::try_from(scale).ok()) {
            Some(scale) => Ok(Decimal { unscaled, scale }),
            None => Err(unreadable("the exponent is not a number of 32 bits")),
        }
    }

    /// By value: 1.0 equals 1.00. Takes time in proportion to the bytes, whatever the scales are.
    pub fn compare(&self, other: &Decimal) -> Ordering {
        let (mine, theirs) = (&self.unscaled, &other.unscaled);
        let sign = mine.sign();
        if sign != theirs.sign() || sign == Sign::NoSign || self.scale == other.scale {
            return mine.cmp(theirs);
        }
        let ((low, high), (their_low, their_high)) = (self.magnitude(), other.magnitude());
        let larger = if sign == Sign::Minus { Ordering::Less } else { Ordering::Greater };
        if low > their_high {
            return larger;
        }
        if high < their_low {
            return larger.reverse();
        }
        // Of about the same magnitude, so their scales differ by no more than their digits do.
        let difference = self.scale.abs_diff(other.scale);
        let factor = BigInt::from(10).pow(difference);
        if self.scale < other.scale {
            (mine * factor).cmp(theirs)
        } else {
            mine.cmp(&(theirs * factor))
        }
    }

    /// Bounds of the exponent: the number is less than 10^high and not less than 10^(low - 1), its sign aside.
    fn magnitude(&self) -> (i64, i64) {
        // log10(2) from both sides, in units of 10^-10: close enough that bounds of numbers which fit into memory are
        // a few digits apart at most.
        let bits = i128::from(self.unscaled.bits());
        let low = ((bits - 1) * 3_010_299_956 / 10_000_000_000) + 1;
        let high = (bits * 3_010_299_957 / 10_000_000_000) + 1;
        let scaled = |n: i128| i64::try_from(n - i128::from(self.scale)).unwrap_or(i64::MAX);
        (scaled(low), scaled(high))
    }

    /// Its value in the one form.
    pub(crate) fn to_scientific(&self) -> Scientific {
        let (sign, mut digits) = self.unscaled.to_radix_be(10);
        if sign == Sign::NoSign {
            return Scientific { negative: false, exponent: 0, digits: Vec::new() };
        }
        let whole = i64::try_from(digits.len()).unwrap_or(i64::MAX);
        let exponent = whole.saturating_sub(i64::from(self.scale));
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Scientific { negative: sign == Sign::Minus, exponent, digits }
    }

    /// The decimal of this value with the fewest digits; `None`: its scale has no 32 bits, even with zeros added.
    pub(crate) fn from_scientific(number: Scientific) -> Option<Decimal> {
        let Scientific { negative, exponent, mut digits } = number;
        if digits.is_empty() {
            return Some(Decimal { unscaled: BigInt::ZERO, scale: 0 });
        }
        let scale = i64::try_from(digits.len()).ok()?.checked_sub(exponent)?;
        let scale = scale.max(i64::from(i32::MIN));
        // Digits that were stripped from a number of the smallest scales come back.
        let wanted = usize::try_from(scale.checked_add(exponent)?).ok()?;
        if wanted > digits.len().checked_add(ZEROS_MAX)? {
            return None;
        }
        digits.resize(wanted.max(digits.len()), 0);
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        let unscaled = BigInt::from_radix_be(sign, &digits, 10)?;
        Some(Decimal { unscaled, scale: i32::try_from(scale).ok()? })
    }

    /// Without zeros at the end of its digits.
    pub fn stripped(&self) -> Decimal {
        Decimal::from_scientific(self.to_scientific()).unwrap_or_else(|| self.clone())
    }
}

/// As Java's `BigDecimal` shows itself: `12.50`, `1E+3`, `1E-7`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.unscaled.magnitude().to_string();
        if self.unscaled.sign() == Sign::Minus {
            f.write_str("-")?;
        }
        let Some(count) = i64::try_from(digits.len()).ok() else {
            return Err(fmt::Error);
        };
        let scale = i64::from(self.scale);
        let adjusted = count - 1 - scale;
        if scale < 0 || adjusted < -6 {
            let (first, others) = digits.split_at_checked(1).unwrap_or((&digits, ""));
            let point = if others.is_empty() { "" } else { "." };
            let sign = if adjusted < 0 { "" } else { "+" };
            return write!(f, "{first}{point}{others}E{sign}{adjusted}");
        }
        match usize::try_from(count - scale) {
            _ if scale == 0 => f.write_str(&digits),
            Ok(whole) if whole > 0 => {
                let (whole, fraction) = digits.split_at_checked(whole).unwrap_or((&digits, ""));
                write!(f, "{whole}.{fraction}")
            }
            // At most six zeros: the adjusted exponent says so.
            _ => {
                let zeros = usize::try_from(scale - count).unwrap_or(0);
                write!(f, "0.{}{digits}", "0".repeat(zeros))
            }
        }
    }
}

/// Reads an integer; `None`: there is something else in it, or it is too long.
pub(crate) fn parse_integer(text: &str) -> Option<BigInt> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (plain && digits.len() <= DIGITS_MAX).then(|| text.parse().ok())?
}

/// Whether a number of these bytes is shown as text: it has no more than about [`DIGITS_MAX`] digits.
pub fn is_printable(bytes: &[u8]) -> bool {
    // A byte has less than 2.5 digits.
    bytes.len() <= DIGITS_MAX * 2 / 5
}

/// A varint without the bytes in front that only repeat its sign: equal numbers are equal bytes. 0 is no bytes.
pub(crate) fn trim_sign(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        let repeats = match rest.first() {
            Some(second) => (*first == 0 && *second < 0x80) || (*first == 0xff && *second >= 0x80),
            None => *first == 0,
        };
        if !repeats {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// Two varints by value.
pub(crate) fn compare_varints(a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (trim_sign(a), trim_sign(b));
    let negative = |bytes: &[u8]| bytes.first().is_some_and(|byte| *byte >= 0x80);
    match (negative(a), negative(b)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        // Of one length, two's complement sorts as its bytes do, and more bytes are further from 0.
        (false, false) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (true, true) => b.len().cmp(&a.len()).then_with(|| a.cmp(b)),
    }
}

#[cfg(test)]
mod tests;
