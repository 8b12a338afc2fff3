//! Functions about time.
//!
//! CAVEAT: before 1970 a moment belongs to the date it is on; Cassandra cuts towards 1970 and answers the next day.

use super::{FunctionError, unsupported};
use crate::cql::calendar::{self, EPOCH_DATE, MILLIS_PER_DAY};
use crate::cql::duration::Duration;
use crate::cql::types::CqlType;
use crate::cql::uuid;
use crate::cql::value::array;
use crate::types::TimestampMicros;
use bytes::Bytes;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// `now()`: a `timeuuid`. `tick`, less than 10, tells those of one microsecond apart; `clock_seq` and `node` those of
/// different coordinators. The caller draws both once, and never gives the same time and tick twice.
pub fn now(
    wall: TimestampMicros,
    tick: u8,
    clock_seq: u16,
    node: [u8; 6],
) -> Result<Bytes, FunctionError> {
    let time = wall.0.checked_mul(10).and_then(|time| time.checked_add(i64::from(tick % 10)));
    let made = time.and_then(|time| uuid::from_time(time, clock_seq, node));
    let out = FunctionError::TooLarge { function: "now" };
    made.map(|bytes| Bytes::copy_from_slice(&bytes)).ok_or(out)
}

/// `minTimeuuid(timestamp)`: see [`uuid::min_of`].
pub fn min_timeuuid(timestamp: Option<&[u8]>) -> Result<Option<Bytes>, FunctionError> {
    around(timestamp, "mintimeuuid", uuid::min_of)
}

/// `maxTimeuuid(timestamp)`: see [`uuid::max_of`].
pub fn max_timeuuid(timestamp: Option<&[u8]>) -> Result<Option<Bytes>, FunctionError> {
    around(timestamp, "maxtimeuuid", uuid::max_of)
}

fn around(
    timestamp: Option<&[u8]>,
    function: &'static str,
    of: impl Fn(i64) -> Option<[u8; 16]>,
) -> Result<Option<Bytes>, FunctionError> {
    let Some(millis) = millis(function, &CqlType::Timestamp, timestamp)? else {
        return Ok(None);
    };
    let bytes = of(millis).ok_or(FunctionError::TooLarge { function })?;
    Ok(Some(Bytes::copy_from_slice(&bytes)))
}

/// `toDate(timeuuid | timestamp)`.
pub fn to_date(ty: &CqlType, value: Option<&[u8]>) -> Result<Option<Bytes>, FunctionError> {
    let Some(millis) = millis("todate", ty, value)? else {
        return Ok(None);
    };
    date_of(millis.div_euclid(MILLIS_PER_DAY), "todate").map(Some)
}

/// `toTimestamp(timeuuid | date)`.
pub fn to_timestamp(ty: &CqlType, value: Option<&[u8]>) -> Result<Option<Bytes>, FunctionError> {
    let millis = millis("totimestamp", ty, value)?;
    Ok(millis.map(|millis| Bytes::copy_from_slice(&millis.to_be_bytes())))
}

/// `toUnixTimestamp(timeuuid | timestamp | date)`: milliseconds, as a `bigint`.
pub fn to_unix_timestamp(
    ty: &CqlType,
    value: Option<&[u8]>,
) -> Result<Option<Bytes>, FunctionError> {
    let millis = millis("tounixtimestamp", ty, value)?;
    Ok(millis.map(|millis| Bytes::copy_from_slice(&millis.to_be_bytes())))
}

/// `value + duration` or, if `negative`, `value - duration`, of a `timestamp` or a `date`: first the months, then the
/// days, then the rest.
pub fn add_duration(
    ty: &CqlType,
    value: Option<&[u8]>,
    duration: Option<&[u8]>,
    negative: bool,
) -> Result<Option<Bytes>, FunctionError> {
    const FUNCTION: &str = "arithmetic";
    if !matches!(ty, CqlType::Timestamp | CqlType::Date) {
        return Err(unsupported(FUNCTION, &[ty, &CqlType::Duration]));
    }
    let (Some(millis), Some(duration)) = (millis(FUNCTION, ty, value)?, duration) else {
        return Ok(None);
    };
    let duration = Duration::from_bytes(duration)?;
    let precision = |wanted| FunctionError::Precision { wanted, found: duration.to_string() };
    if *ty == CqlType::Date && duration.nanoseconds != 0 {
        return Err(precision("day"));
    }
    if duration.nanoseconds % NANOS_PER_MILLI != 0 {
        return Err(precision("millisecond"));
    }
    let sign = if negative { -1 } else { 1 };
    let days = millis.div_euclid(MILLIS_PER_DAY);
    let moved = || {
        let days = calendar::add_months(days, sign * i64::from(duration.months))?
            .checked_add(sign * i64::from(duration.days))?;
        let rest = sign * (duration.nanoseconds / NANOS_PER_MILLI);
        let of_day = millis.rem_euclid(MILLIS_PER_DAY);
        days.checked_mul(MILLIS_PER_DAY)?.checked_add(of_day)?.checked_add(rest)
    };
    let moved = moved().ok_or(FunctionError::TooLarge { function: FUNCTION })?;
    if *ty == CqlType::Date {
        return date_of(moved.div_euclid(MILLIS_PER_DAY), FUNCTION).map(Some);
    }
    Ok(Some(Bytes::copy_from_slice(&moved.to_be_bytes())))
}

fn date_of(days: i64, function: &'static str) -> Result<Bytes, FunctionError> {
    match days.checked_add(EPOCH_DATE).and_then(|days| u32::try_from(days).ok()) {
        Some(date) => Ok(Bytes::copy_from_slice(&date.to_be_bytes())),
        None => Err(FunctionError::TooLarge { function }),
    }
}

/// Milliseconds since the epoch, of what has a time; `None` is null.
fn millis(
    function: &'static str,
    ty: &CqlType,
    value: Option<&[u8]>,
) -> Result<Option<i64>, FunctionError> {
    if !matches!(ty, CqlType::Timestamp | CqlType::Timeuuid | CqlType::Date) {
        return Err(unsupported(function, &[ty]));
    }
    let Some(bytes) = value else {
        return Ok(None);
    };
    ty.check(bytes)?;
    Ok(match ty {
        CqlType::Timestamp => array(bytes).map(i64::from_be_bytes),
        CqlType::Timeuuid => array(bytes).and_then(uuid::unix_millis),
        // 32 bits of days are few enough for 64 bits of milliseconds.
        _ => array(bytes).map(|n| (i64::from(u32::from_be_bytes(n)) - EPOCH_DATE) * MILLIS_PER_DAY),
    })
}
