//! What a read wants of a partition, as it travels.

use crate::WireError;
use crate::v1;
use bytes::Bytes;
use helenus_core::ClusteringKey;
use helenus_core::read::{Part, RowFilter, Slice};

/// A filter as it travels.
pub fn filter_to_wire(filter: &RowFilter) -> v1::RowFilter {
    let slice = |slice: &Slice| v1::RowSlice {
        start: slice.start.0.clone(),
        end: slice.end.as_ref().map(|end| end.0.clone()),
    };
    v1::RowFilter {
        slices: filter.slices.iter().map(slice).collect(),
        reversed: filter.reversed,
        static_row: filter.static_row,
        rows: filter.rows,
        bytes: filter.bytes,
    }
}

/// A filter that travelled: its slices are sorted, disjoint and not empty.
pub fn filter_from_wire(filter: &v1::RowFilter) -> Result<RowFilter, WireError> {
    let slice = |slice: &v1::RowSlice| Slice {
        start: ClusteringKey(slice.start.clone()),
        end: slice.end.clone().map(ClusteringKey),
    };
    let slices: Vec<Slice> = filter.slices.iter().map(slice).collect();
    if !slices.iter().all(|slice| slice.end.as_ref().is_none_or(|end| slice.start < *end)) {
        return Err(WireError::new("slices", "has one that ends before it begins"));
    }
    let in_order = |a: &Slice, b: &Slice| a.end.as_ref().is_some_and(|end| *end <= b.start);
    if !slices.is_sorted_by(in_order) {
        return Err(WireError::new("slices", "are not in order, or overlap"));
    }
    let v1::RowFilter { reversed, static_row, rows, bytes, .. } = *filter;
    Ok(RowFilter { slices, reversed, static_row, rows, bytes })
}

/// Where a part goes on, as it travels.
pub fn next_to_wire(part: &Part) -> Option<Bytes> {
    part.next.as_ref().map(|next| next.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(start: &'static str, end: Option<&'static str>) -> v1::RowSlice {
        let end = end.map(|end| Bytes::from_static(end.as_bytes()));
        v1::RowSlice { start: Bytes::from_static(start.as_bytes()), end }
    }

    fn filter(slices: Vec<v1::RowSlice>) -> v1::RowFilter {
        v1::RowFilter { slices, reversed: true, static_row: true, rows: 7, bytes: 9 }
    }

    #[test]
    fn filters_come_back_as_they_went_and_nonsense_is_refused() {
        let good =
            [vec![], vec![slice("", None)], vec![slice("a", Some("b")), slice("b\0", Some("c"))]];
        for slices in good {
            let wire = filter(slices);
            assert_eq!(filter_to_wire(&filter_from_wire(&wire).unwrap()), wire);
        }
        let bad = [
            vec![slice("a", Some("a"))],
            vec![slice("b", Some("c")), slice("a", Some("b"))],
            vec![slice("a", Some("c")), slice("b", None)],
            vec![slice("a", None), slice("b", None)],
        ];
        for slices in bad {
            assert!(filter_from_wire(&filter(slices)).is_err());
        }
    }
}
