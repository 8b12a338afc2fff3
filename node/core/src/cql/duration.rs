//! Durations: months, days and nanoseconds, which no calendar lets us add up.
//!
//! ```text
//! | months vint | days vint | nanoseconds vint |
//! vint: zigzag, then as many leading ones in the first byte as bytes follow it, big-endian
//! ```
//!
//! Source: native protocol v5, §6.10; texts as Cassandra 4.1's CQL reference has them ("Duration").

use super::value::ValueError;
use crate::varint;
use bytes::Bytes;
use std::fmt;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A duration. Invariant of those that were read: no two parts have different signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Duration {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Nanoseconds.
    pub nanoseconds: i64,
}

impl Duration {
    /// Reads the bytes of one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Duration, ValueError> {
        let mut rest = bytes;
        let mut next = || take_vint(&mut rest).ok_or(ValueError::Truncated { ty: "duration" });
        let (months, days, nanoseconds) = (next()?, next()?, next()?);
        if !rest.is_empty() {
            return Err(ValueError::Trailing { ty: "duration", extra: rest.len() });
        }
        Duration::new(months, days, nanoseconds)
    }

    fn new(months: i64, days: i64, nanoseconds: i64) -> Result<Duration, ValueError> {
        let all = [months, days, nanoseconds];
        if all.iter().any(|n| *n < 0) && all.iter().any(|n| *n > 0) {
            let found = format!("{months}, {days}, {nanoseconds}");
            return Err(ValueError::DurationSigns { found });
        }
        let int = |n: i64| {
            i32::try_from(n)
                .map_err(|_| ValueError::OutOfRange { ty: "duration", value: n.to_string() })
        };
        Ok(Duration { months: int(months)?, days: int(days)?, nanoseconds })
    }

    /// Its bytes.
    pub fn to_bytes(self) -> Bytes {
        let mut out = Vec::with_capacity(16);
        for part in [self.months.into(), self.days.into(), self.nanoseconds] {
            put_vint(&mut out, part);
        }
        Bytes::from(out)
    }

    /// Reads `1y2mo3w4d5h6m7s8ms9us10ns`, `P1Y2M3DT4H5M6S`, `P3W` or `P0001-02-03T04:05:06`, each perhaps after a `-`.
    pub fn parse(text: &str) -> Result<Duration, ValueError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let sum = match rest.strip_prefix('P') {
            Some(iso) if iso.contains('-') => alternative(iso),
            Some(iso) => designators(iso),
            None => units(rest),
        };
        let why = "expected units such as 1h30m, P1DT2H, P3W or P0001-02-03T04:05:06, in order and in range";
        let unreadable = || ValueError::unreadable("duration", text, why);
        let Sum { months, days, nanoseconds, .. } = sum.ok_or_else(unreadable)?;
        let sign = if negative { -1 } else { 1 };
        Duration::new(sign * months, sign * days, sign * nanoseconds).map_err(|_| unreadable())
    }
}

/// `1y2mo3d4h5m6s7ms8us9ns` without the zeros; `0s` if there is nothing else.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Duration::default() {
            return f.write_str("0s");
        }
        if self.months < 0 || self.days < 0 || self.nanoseconds < 0 {
            f.write_str("-")?;
        }
        let months = u64::from(self.months.unsigned_abs());
        let nanos = self.nanoseconds.unsigned_abs();
        let parts = [
            (months / 12, "y"),
            (months % 12, "mo"),
            (u64::from(self.days.unsigned_abs()), "d"),
            (nanos / (3600 * NANOS_PER_SECOND), "h"),
            (nanos / (60 * NANOS_PER_SECOND) % 60, "m"),
            (nanos / NANOS_PER_SECOND % 60, "s"),
            (nanos / 1_000_000 % 1000, "ms"),
            (nanos / 1000 % 1000, "us"),
            (nanos % 1000, "ns"),
        ];
        for (n, unit) in parts.into_iter().filter(|(n, _)| *n > 0) {
            write!(f, "{n}{unit}")?;
        }
        Ok(())
    }
}

/// A duration as it is read, unit by unit. Never negative.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    nanoseconds: i64,
    /// The rank of the last unit: units come in order, each once.
    last: u8,
}

impl Sum {
    /// Adds so many of a unit of CQL; `None`: out of order, unknown or too many.
    fn add(&mut self, n: i64, unit: &str) -> Option<()> {
        let (rank, field, factor) = match unit.to_ascii_lowercase().as_str() {
            "y" => (1, &mut self.months, 12),
            "mo" => (2, &mut self.months, 1),
            "w" => (3, &mut self.days, 7),
            "d" => (4, &mut self.days, 1),
            "h" => (5, &mut self.nanoseconds, 3_600_000_000_000),
            "m" => (6, &mut self.nanoseconds, 60_000_000_000),
            "s" => (7, &mut self.nanoseconds, 1_000_000_000),
            "ms" => (8, &mut self.nanoseconds, 1_000_000),
            "us" | "µs" => (9, &mut self.nanoseconds, 1000),
            "ns" => (10, &mut self.nanoseconds, 1),
            _ => return None,
        };
        if rank <= self.last {
            return None;
        }
        self.last = rank;
        *field = field.checked_add(n.checked_mul(factor)?)?;
        Some(())
    }
}

/// Digits off the front, and what follows them.
fn digits(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, rest))
}

fn units(mut text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    while !text.is_empty() {
        let (n, rest) = digits(text)?;
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at_checked(end)?;
        sum.add(n, unit)?;
        text = rest;
    }
    // Nothing is not a duration.
    (sum.last > 0).then_some(sum)
}

/// What follows the `P` of ISO 8601: years, months and days, and after a `T` hours, minutes and seconds; or weeks.
fn designators(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let only_weeks = date.ends_with('W') && time.is_empty();
    let mut part = |mut text: &str, of_time: bool| -> Option<()> {
        while !text.is_empty() {
            let (n, rest) = digits(text)?;
            let mut rest = rest.chars();
            let unit = match (rest.next()?, of_time) {
                ('Y', false) => "y",
                ('M', false) => "mo",
                ('D', false) => "d",
                ('W', false) if only_weeks => "w",
                ('H', true) => "h",
                ('M', true) => "m",
                ('S', true) => "s",
                _ => return None,
            };
            sum.add(n, unit)?;
            text = rest.as_str();
            if only_weeks && !text.is_empty() {
                return None;
            }
        }
        Some(())
    };
    part(date, false)?;
    part(time, true)?;
    Some(sum)
}

/// `0001-02-03T04:05:06`.
fn alternative(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut rest = text;
    for (width, unit, after) in
        [(4, "y", "-"), (2, "mo", "-"), (2, "d", "T"), (2, "h", ":"), (2, "m", ":"), (2, "s", "")]
    {
        let (number, tail) = rest.split_at_checked(width)?;
        let (n, "") = digits(number)? else {
            return None;
        };
        sum.add(n, unit)?;
        rest = tail.strip_prefix(after)?;
    }
    rest.is_empty().then_some(sum)
}

fn put_vint(out: &mut Vec<u8>, n: i64) {
    let n = varint::zigzag(n);
    // Seven bits in the first byte, and seven more for each that follows; the ninth byte makes it a whole 64.
    let follow =
        (1..=8).find(|follow| *follow == 8 || n >> (7 * (follow + 1)) == 0).filter(|_| n > 0x7f);
    let follow: usize = follow.unwrap_or(0);
    let bytes = n.to_be_bytes();
    if follow == 8 {
        out.push(0xff);
        return out.extend_from_slice(&bytes);
    }
    // The ones that say how many follow fill bits that are 0 in `n`.
    let ones = !(0xff_u8 >> follow);
    for (at, byte) in bytes.iter().skip(7 - follow).enumerate() {
        out.push(if at == 0 { byte | ones } else { *byte });
    }
}

fn take_vint(bytes: &mut &[u8]) -> Option<i64> {
    let (first, rest) = bytes.split_first()?;
    let follow = first.leading_ones();
    // Eight ones leave no bit of the first byte to the number.
    let low = 0xff_u8.checked_shr(follow).map_or(0, |mask| first & mask);
    let (more, rest) = rest.split_at_checked(usize::try_from(follow).ok()?)?;
    *bytes = rest;
    let n = more.iter().fold(u64::from(low), |n, byte| (n << 8) | u64::from(*byte));
    Some(varint::unzigzag(n))
}

#[cfg(test)]
mod tests;
