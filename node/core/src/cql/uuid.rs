//! UUIDs: their order, and the time in those of version 1.
//!
//! ```text
//! | time_low u32 | time_mid u16 | version 4 bits, time_hi 12 bits | clock_seq u16 | node 6 bytes |
//! ```
//!
//! The time counts 100 ns since 1582-10-15. Source: RFC 4122; `UUIDType`, `TimeUUIDType` and `UUIDGen` of Cassandra 4.1.

use std::fmt::Write;

/// 1970-01-01 in units of 100 ns since 1582-10-15.
const UNIX_EPOCH: i64 = 0x01b2_1dd2_1381_4000;
/// The time takes 60 bits.
const TIME: u64 = (1 << 60) - 1;
/// The clock sequence and node with which `minTimeuuid` is the least: Cassandra compares these bytes with their signs.
const LEAST: u64 = 0x8080_8080_8080_8080;
/// The ones with which `maxTimeuuid` is the greatest.
const GREATEST: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// Its version: 1 has a time, 4 is random.
pub fn version(uuid: [u8; 16]) -> u8 {
    uuid.get(6).map_or(0, |byte| byte >> 4)
}

/// `7a2b1c3d-...`, in lower case.
pub fn format(uuid: [u8; 16]) -> String {
    let mut out = String::with_capacity(36);
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// A UUID of version 1. `clock_seq` and `node` make it unique: the caller draws them once, and never gives the same
/// `unix_100ns` (100 ns since 1970) twice. `None`: the time is before 1582 or after 5236.
pub fn from_time(unix_100ns: i64, clock_seq: u16, node: [u8; 6]) -> Option<[u8; 16]> {
    // The variant of RFC 4122 takes the upper two bits of the clock sequence.
    let clock_seq = (clock_seq & 0x3fff) | 0x8000;
    let [a, b] = clock_seq.to_be_bytes();
    let [n0, n1, n2, n3, n4, n5] = node;
    with_time(unix_100ns, u64::from_be_bytes([a, b, n0, n1, n2, n3, n4, n5]))
}

/// `minTimeuuid(timestamp)`: not more than any of that millisecond. Not a UUID to keep: it is not unique.
pub fn min_of(unix_millis: i64) -> Option<[u8; 16]> {
    with_time(unix_millis.checked_mul(10_000)?, LEAST)
}

/// `maxTimeuuid(timestamp)`: not less than any of that millisecond.
pub fn max_of(unix_millis: i64) -> Option<[u8; 16]> {
    with_time(unix_millis.checked_mul(10_000)?.checked_add(9_999)?, GREATEST)
}

fn with_time(unix_100ns: i64, low: u64) -> Option<[u8; 16]> {
    let time = unix_100ns.checked_add(UNIX_EPOCH)?;
    let time = u64::try_from(time).ok().filter(|time| *time <= TIME)?;
    // Version 1 above the time, and then the time's three groups in the order of the UUID.
    let high = unswap(time | (1 << 60));
    Some(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
}

/// When one of version 1 was made, in 100 ns since 1970; `None` for other versions.
pub fn unix_100ns(uuid: [u8; 16]) -> Option<i64> {
    if version(uuid) != 1 {
        return None;
    }
    let time = swap(halves(uuid).0) & TIME;
    // 60 bits are less than 2^63.
    Some(time.cast_signed() - UNIX_EPOCH)
}

/// When one of version 1 was made, in milliseconds since 1970; `None` for other versions.
pub fn unix_millis(uuid: [u8; 16]) -> Option<i64> {
    // Down, also before 1970: Cassandra divides what counts from 1582.
    unix_100ns(uuid).map(|time| time.div_euclid(10_000))
}

/// A `timeuuid` as an integer that sorts as Cassandra sorts them: by time, then by the other bytes *with their signs*.
pub(super) fn time_key(uuid: [u8; 16]) -> u128 {
    let (high, low) = halves(uuid);
    // With its version, which is 1 in all of them.
    (u128::from(swap(high)) << 64) | u128::from(low ^ LEAST)
}

/// What [`time_key`] was given.
pub(super) fn of_time_key(key: u128) -> [u8; 16] {
    let (high, low) = halves(key.to_be_bytes());
    ((u128::from(unswap(high)) << 64) | u128::from(low ^ LEAST)).to_be_bytes()
}

/// A `uuid` as an integer that sorts as Cassandra sorts them: by version, those of version 1 by time, then by bytes.
pub(super) fn key(uuid: [u8; 16]) -> u128 {
    let (high, low) = halves(uuid);
    let high = if version(uuid) == 1 {
        swap(high)
    } else {
        // The version in front of the 48 bits that are before it; the 12 bits after it stay.
        ((high << 48) & (0xf << 60)) | ((high >> 4) & (((1 << 48) - 1) << 12)) | (high & 0xfff)
    };
    (u128::from(high) << 64) | u128::from(low)
}

/// What [`key`] was given.
pub(super) fn of_key(key: u128) -> [u8; 16] {
    let (high, low) = halves(key.to_be_bytes());
    let high = if high >> 60 == 1 {
        unswap(high)
    } else {
        ((high & (((1 << 48) - 1) << 12)) << 4) | ((high >> 60) << 12) | (high & 0xfff)
    };
    ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
}

#[expect(clippy::cast_possible_truncation, reason = "the high and the low half")]
fn halves(uuid: [u8; 16]) -> (u64, u64) {
    let both = u128::from_be_bytes(uuid);
    ((both >> 64) as u64, both as u64)
}

/// low, mid, hi-and-version -> hi-and-version, mid, low.
fn swap(high: u64) -> u64 {
    (high << 48) | ((high << 16) & 0xffff_0000_0000) | (high >> 32)
}

/// What [`swap`] was given.
fn unswap(high: u64) -> u64 {
    (high << 32) | ((high >> 16) & 0xffff_0000) | (high >> 48)
}

#[cfg(test)]
mod tests;
