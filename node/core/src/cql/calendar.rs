//! Dates and times of day: the civil calendar and the texts that Cassandra reads and writes.
//!
//! CAVEAT: a timestamp's text without a zone is read as UTC (Cassandra takes the zone of the JVM, which is UTC on
//! any well-kept server), zones by name other than `UTC` and `GMT` are refused, and the calendar is Gregorian in all
//! centuries (Java turns Julian before 1582).
//!
//! Source: `TimestampSerializer`, `SimpleDateSerializer` and `TimeSerializer` of Cassandra 4.1 for what is accepted;
//! H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", for the arithmetic.

use super::value::ValueError;

/// Milliseconds in a day.
pub const MILLIS_PER_DAY: i64 = 86_400_000;
/// Nanoseconds in a day: a `time` is less.
pub const NANOS_PER_DAY: i64 = 86_400_000_000_000;
/// What a `date` holds on 1970-01-01.
pub const EPOCH_DATE: i64 = 1 << 31;

/// Days since 1970-01-01 of a date whose year is between -2^40 and 2^40; `None` if there is no such date.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if year.unsigned_abs() > 1 << 40 || day < 1 || day > days_in_month(year, month)? {
        return None;
    }
    // Years begin in March, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of so many days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Saturating, for days that no type of ours has.
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

/// `days` since 1970-01-01, so many months later; a day that the month lacks becomes its last.
pub fn add_months(days: i64, months: i64) -> Option<i64> {
    let (year, month, day) = civil_from_days(days);
    let month = year.checked_mul(12)?.checked_add(month - 1)?.checked_add(months)?;
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    days_from_civil(year, month, day.min(days_in_month(year, month)?))
}

/// Reads a timestamp: milliseconds since the epoch as digits, or a date with an optional time and zone:
/// `2011-02-03`, `2011-02-03 04:05`, `2011-02-03T04:05:06.789Z`, `2011-02-03 04:05:06+0100`. `now` is not read here:
/// time is an argument in this crate.
pub fn parse_timestamp(text: &str) -> Result<i64, ValueError> {
    let unreadable = |why| ValueError::unreadable("timestamp", text, why);
    if is_integer(text) {
        return text.parse().map_err(|_| unreadable("more milliseconds than 64 bits hold"));
    }
    timestamp(text).ok_or_else(|| {
        unreadable("expected milliseconds, or yyyy-mm-dd[(T| )HH:MM[:SS[.fff]]][(+|-)NNNN]")
    })
}

fn timestamp(text: &str) -> Option<i64> {
    let mut rest = text;
    let year = number(&mut rest)?;
    let month = rest.strip_prefix('-').and_then(|tail| number_of(tail, &mut rest))?;
    let day = rest.strip_prefix('-').and_then(|tail| number_of(tail, &mut rest))?;
    let mut millis = days_from_civil(year, month, day)?.checked_mul(MILLIS_PER_DAY)?;
    let time = rest.strip_prefix('T').or_else(|| {
        // A blank may also be in front of a zone.
        rest.strip_prefix(' ').filter(|tail| tail.starts_with(|c: char| c.is_ascii_digit()))
    });
    if let Some(time) = time {
        let hour = number_of(time, &mut rest).filter(|hour| *hour < 24)?;
        let minute = rest.strip_prefix(':').and_then(|tail| number_of(tail, &mut rest))?;
        let mut second = 0;
        let mut fraction = 0;
        if let Some(tail) = rest.strip_prefix(':') {
            second = number_of(tail, &mut rest)?;
            if let Some(tail) = rest.strip_prefix('.') {
                // A number of milliseconds, as Java reads it: `.5` is five of them.
                fraction = number_of(tail, &mut rest)?;
            }
        }
        if minute > 59 || second > 59 || fraction > 999 {
            return None;
        }
        millis = millis.checked_add(((hour * 60 + minute) * 60 + second) * 1000 + fraction)?;
    }
    millis.checked_sub(zone(rest)? * 60_000)
}

/// Minutes east of Greenwich: `Z`, `+01`, `+0130` or `+01:30`, and after a blank `UTC`, `GMT`, `GMT+1:30` or `+0130`.
fn zone(text: &str) -> Option<i64> {
    let Some(named) = text.strip_prefix(' ') else {
        return if matches!(text, "" | "Z") { Some(0) } else { offset(text, 2) };
    };
    if named.eq_ignore_ascii_case("UTC") || named.eq_ignore_ascii_case("GMT") {
        return Some(0);
    }
    match named.split_at_checked(3) {
        Some((gmt, east)) if gmt.eq_ignore_ascii_case("GMT") && east.contains(':') => {
            offset(east, 1)
        }
        _ if named.len() == 5 && !named.contains(':') => offset(named, 2),
        _ => None,
    }
}

/// `+01`, `+0130` or `+01:30`, in minutes; hours have two digits, or so many and a colon after them.
fn offset(text: &str, hour_digits_min: usize) -> Option<i64> {
    let (sign, digits) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(digits), _) => (1, digits),
        (_, Some(digits)) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) if minutes.len() == 2 => (hours, minutes),
        Some(_) => return None,
        None => digits.split_at_checked(2)?,
    };
    if !(hour_digits_min..=2).contains(&hours.len()) || !matches!(minutes.len(), 0 | 2) {
        return None;
    }
    let number = |text: &str| if is_digits(text) { text.parse::<i64>().ok() } else { None };
    let hours = number(hours)?;
    let minutes = if minutes.is_empty() { 0 } else { number(minutes)? };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// Reads a date: days with 1970-01-01 being 2^31, or `yyyy-mm-dd`. Years past 9999 have a sign.
pub fn parse_date(text: &str) -> Result<u32, ValueError> {
    let unreadable = |why| ValueError::unreadable("date", text, why);
    if is_integer(text) {
        return text.parse().map_err(|_| unreadable("days are between 0 and 2^32 - 1"));
    }
    let days = || {
        let (sign, rest) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
            (Some(rest), _) => (-1, rest),
            (_, Some(rest)) => (1, rest),
            _ => (0, text),
        };
        let (year, rest) = rest.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        let long = if sign == 0 { year.len() == 4 } else { (4..=10).contains(&year.len()) };
        if !long
            || month.len() != 2
            || day.len() != 2
            || ![year, month, day].iter().all(|n| is_digits(n))
        {
            return None;
        }
        let year = year.parse::<i64>().ok()? * if sign < 0 { -1 } else { 1 };
        days_from_civil(year, month.parse().ok()?, day.parse().ok()?)
    };
    let days =
        days().ok_or_else(|| unreadable("expected days since -5877641-06-23, or yyyy-mm-dd"))?;
    u32::try_from(days + EPOCH_DATE)
        .map_err(|_| unreadable("dates are between -5877641-06-23 and +5881580-07-11"))
}

/// Reads a time of day: nanoseconds since midnight, or `HH:MM:SS[.fffffffff]`.
pub fn parse_time(text: &str) -> Result<i64, ValueError> {
    let unreadable = |why| ValueError::unreadable("time", text, why);
    if is_integer(text) {
        let nanos = text.parse().ok().filter(|nanos| (0..NANOS_PER_DAY).contains(nanos));
        return nanos.ok_or_else(|| unreadable("a day has 86400000000000 nanoseconds"));
    }
    let nanos = || {
        let mut parts = text.trim().splitn(3, ':');
        let mut next = |below: i64| {
            let text = parts.next().filter(|text| is_digits(text))?;
            text.parse::<i64>().ok().filter(|n| *n < below)
        };
        let (hour, minute) = (next(24)?, next(60)?);
        let last = parts.next()?;
        let (second, fraction) = match last.split_once('.') {
            Some((second, fraction)) => (second, fraction),
            None => (last, "0"),
        };
        if !is_digits(second) || !is_digits(fraction) || fraction.len() > 9 {
            return None;
        }
        let second = second.parse::<i64>().ok().filter(|n| *n < 60)?;
        let fraction = format!("{fraction:0<9}").parse::<i64>().ok()?;
        Some(((hour * 60 + minute) * 60 + second) * 1_000_000_000 + fraction)
    };
    nanos().ok_or_else(|| unreadable("expected nanoseconds, or HH:MM:SS[.fffffffff]"))
}

/// `2011-02-03`; years past 9999 with a sign, as Java writes them.
pub fn format_date(days_since_epoch: i64) -> String {
    let (year, month, day) = civil_from_days(days_since_epoch);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        10_000.. => format!("+{year}"),
        _ => format!("-{:04}", year.unsigned_abs()),
    };
    format!("{year}-{month:02}-{day:02}")
}

/// `04:05:06.000000007`.
pub fn format_time(nanos: i64) -> String {
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (minutes, second) = (seconds.div_euclid(60), seconds.rem_euclid(60));
    let (hour, minute) = (minutes.div_euclid(60), minutes.rem_euclid(60));
    format!("{hour:02}:{minute:02}:{second:02}.{nanos:09}")
}

/// `2011-02-03 04:05:06.789Z` in UTC, with `between` where the blank is.
pub fn format_timestamp(millis: i64, between: char) -> String {
    let (days, millis) = (millis.div_euclid(MILLIS_PER_DAY), millis.rem_euclid(MILLIS_PER_DAY));
    let date = format_date(days);
    let time = format_time(millis * 1_000_000);
    let time = time.get(..12).unwrap_or(&time);
    format!("{date}{between}{time}Z")
}

/// Digits, perhaps after a minus.
fn is_integer(text: &str) -> bool {
    is_digits(text.strip_prefix('-').unwrap_or(text))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Takes digits off the front.
fn number(text: &mut &str) -> Option<i64> {
    let whole = *text;
    number_of(whole, text)
}

/// The number at the front of `text`; what follows it goes to `rest`.
fn number_of<'a>(text: &'a str, rest: &mut &'a str) -> Option<i64> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, tail) = text.split_at_checked(end)?;
    *rest = tail;
    digits.parse().ok()
}

#[cfg(test)]
mod tests;
