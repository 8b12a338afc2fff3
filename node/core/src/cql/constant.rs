//! A constant as it was written, before it has a type: `1` may become an `int`, a `bigint`, a `decimal` or a `timestamp`.

use super::written::Written;

/// A constant of a statement. Numbers stay text, so that no digit is lost before the type is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constant {
    /// `null`.
    Null,
    /// `'it''s'` or `$$it's$$`, without quotes and with `''` undone.
    String(Written),
    /// Decimal digits, perhaps with a minus.
    Integer(Written),
    /// A number with a point or an exponent; `NaN`, `Infinity` and their negatives.
    Float(Written),
    /// `true` or `false`.
    Boolean(bool),
    /// Eight, four, four, four and twelve hexadecimal digits.
    Uuid(u128),
    /// `0xcafe`.
    Blob(Vec<u8>),
    /// `1y2mo3d`, `P1Y2M`, `P0001-02-03T04:05:06`: as written.
    Duration(Written),
}
