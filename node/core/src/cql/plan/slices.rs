//! Ranges of clustering keys: sorted, disjoint, and none empty.
//!
//! A range begins with a key and ends before one, as [`clustering`] cuts them, so that every restriction of CQL is a list of
//! ranges, whichever way a column is sorted.

use super::PlanError;
use crate::cql::clustering::{self, Limit};
use crate::cql::types::CqlType;
use crate::data::{Bound, ClusteringKey};
pub use crate::read::Slice;
use bytes::Bytes;

impl Slice {
    /// All rows whose key begins so.
    pub(super) fn of_prefix(prefix: &ClusteringKey) -> Slice {
        Slice::of(clustering::prefix_start(prefix), clustering::prefix_end(prefix))
    }

    /// A start is included and an end is not: there is no other way to cut.
    fn of(start: Bound, end: Bound) -> Slice {
        let start = match start {
            Bound::Open => ClusteringKey::default(),
            Bound::Included(key) | Bound::Excluded(key) => key,
        };
        let end = match end {
            Bound::Open => None,
            Bound::Included(key) | Bound::Excluded(key) => Some(key),
        };
        Slice { start, end }
    }

    fn is_empty(&self) -> bool {
        !self.is_before_end(&self.start)
    }
}

/// Sorts, joins what overlaps or touches, drops what is empty.
pub(super) fn normalise(mut slices: Vec<Slice>) -> Vec<Slice> {
    slices.retain(|slice| !slice.is_empty());
    slices.sort_by(|a, b| a.start.cmp(&b.start));
    let mut out: Vec<Slice> = Vec::with_capacity(slices.len());
    for slice in slices {
        match out.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| slice.start <= *end) => {
                last.end = match (last.end.take(), slice.end) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
            _ => out.push(slice),
        }
    }
    out
}

/// What is in both lists.
pub(super) fn intersect(a: &[Slice], b: &[Slice]) -> Vec<Slice> {
    let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
    let mut out = Vec::new();
    while let (Some(x), Some(y)) = (left.peek(), right.peek()) {
        // An open end is the later one.
        let x_ends_first = match (&x.end, &y.end) {
            (Some(x), Some(y)) => x < y,
            (x, _) => x.is_some(),
        };
        out.extend(x.within(y));
        if x_ends_first {
            left.next();
        } else {
            right.next();
        }
    }
    out
}

/// Which end of a slice a tuple is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Low,
    High,
}

/// The rows whose first columns are `equal` and whose next ones, taken together, are more (or less) than `tuple`. Of columns
/// that are sorted in different ways these are several ranges.
pub(super) fn beyond(
    types: &[(CqlType, bool)],
    equal: &[Bytes],
    tuple: &[Bytes],
    inclusive: bool,
    side: Side,
) -> Result<Vec<Slice>, PlanError> {
    let mut out = Vec::with_capacity(tuple.len());
    let mut prefix: Vec<Option<&[u8]>> = equal.iter().map(|value| Some(value.as_ref())).collect();
    for (place, value) in tuple.iter().enumerate() {
        // More means: more in the first column, or the same there and more in the rest.
        let is_last = place + 1 == tuple.len();
        let limit = Some(Limit { value: value.as_ref(), inclusive: inclusive && is_last });
        let (low, high) = if side == Side::Low { (limit, None) } else { (None, limit) };
        let (start, end) = clustering::slice(types, &prefix, low, high)?;
        out.push(Slice::of(start, end));
        prefix.push(Some(value.as_ref()));
    }
    Ok(normalise(out))
}
