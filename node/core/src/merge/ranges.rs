//! Range tombstones as a step function: every place between two clustering keys has at most one deletion over it.
//!
//! Two such functions combine place by place, which is why the join of range tombstones inherits every law from the
//! join of two deletions. Writing the result down with as few steps as possible makes it the only way to write it.

use crate::data::{Bound, ClusteringKey, Deletion, RangeTombstone};

/// A place between keys. Bounds of both ends become cuts, so that they compare with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut<'a> {
    /// Before every key.
    First,
    /// Beside a key.
    At(&'a ClusteringKey, Side),
    /// Behind every key.
    Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Before,
    Behind,
}

impl<'a> Cut<'a> {
    fn start(bound: &'a Bound) -> Cut<'a> {
        match bound {
            Bound::Open => Cut::First,
            // No key is smaller than the empty one.
            Bound::Included(key) if key.0.is_empty() => Cut::First,
            Bound::Included(key) => Cut::At(key, Side::Before),
            Bound::Excluded(key) => Cut::At(key, Side::Behind),
        }
    }

    fn end(bound: &'a Bound) -> Cut<'a> {
        match bound {
            Bound::Open => Cut::Last,
            Bound::Excluded(key) if key.0.is_empty() => Cut::First,
            Bound::Excluded(key) => Cut::At(key, Side::Before),
            Bound::Included(key) => Cut::At(key, Side::Behind),
        }
    }

    fn to_start(self) -> Bound {
        match self {
            Cut::First | Cut::Last => Bound::Open,
            Cut::At(key, Side::Before) => Bound::Included(key.clone()),
            Cut::At(key, Side::Behind) => Bound::Excluded(key.clone()),
        }
    }

    fn to_end(self) -> Bound {
        match self {
            Cut::First | Cut::Last => Bound::Open,
            Cut::At(key, Side::Before) => Bound::Excluded(key.clone()),
            Cut::At(key, Side::Behind) => Bound::Included(key.clone()),
        }
    }
}

/// A walk over a normal list from cut to cut.
struct Steps<'a> {
    ranges: &'a [RangeTombstone],
    /// The range the walk is in or before.
    at: usize,
    /// Whether the walk is inside that range.
    inside: bool,
}

impl<'a> Steps<'a> {
    fn new(ranges: &'a [RangeTombstone]) -> Steps<'a> {
        Steps { ranges, at: 0, inside: false }
    }

    fn next_cut(&self) -> Option<Cut<'a>> {
        let range = self.ranges.get(self.at)?;
        Some(if self.inside { Cut::end(&range.end) } else { Cut::start(&range.start) })
    }

    /// Steps over every cut at `here`: a range that ends where the next one starts has two.
    fn pass(&mut self, here: Cut<'_>) {
        while self.next_cut().is_some_and(|cut| cut <= here) {
            self.at += usize::from(self.inside);
            self.inside = !self.inside;
        }
    }

    fn value(&self) -> Option<Deletion> {
        self.ranges.get(self.at).filter(|_| self.inside).map(|range| range.deletion)
    }
}

/// Combines two normal lists place by place; the result is normal. `pick` must give `None` for two `None`s.
fn combine(
    a: &[RangeTombstone],
    b: &[RangeTombstone],
    pick: impl Fn(Option<Deletion>, Option<Deletion>) -> Option<Deletion>,
) -> Vec<RangeTombstone> {
    let (mut a, mut b) = (Steps::new(a), Steps::new(b));
    let mut out = Vec::new();
    let mut open: Option<(Cut<'_>, Deletion)> = None;
    loop {
        let here = match (a.next_cut(), b.next_cut()) {
            (Some(x), Some(y)) => x.min(y),
            (Some(x), None) | (None, Some(x)) => x,
            (None, None) => return out,
        };
        a.pass(here);
        b.pass(here);
        let value = pick(a.value(), b.value());
        if open.map(|(_, deletion)| deletion) != value {
            if let Some((start, deletion)) = open {
                out.push(RangeTombstone { start: start.to_start(), end: here.to_end(), deletion });
            }
            open = value.map(|deletion| (here, deletion));
        }
    }
}

/// The newest deletion wins at every place.
pub(super) fn join(a: &[RangeTombstone], b: &[RangeTombstone]) -> Vec<RangeTombstone> {
    combine(a, b, Ord::max)
}

/// What `newer` says at the places where `older` says something else.
pub(super) fn difference(
    newer: &[RangeTombstone],
    older: &[RangeTombstone],
) -> Vec<RangeTombstone> {
    combine(newer, older, |new, old| new.filter(|_| new != old))
}

/// What is said at these places (a normal list, whose deletions do not matter).
pub(crate) fn within(ranges: &[RangeTombstone], places: &[RangeTombstone]) -> Vec<RangeTombstone> {
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return Vec::new() };
    let (start, end) = (Cut::start(&first.start), Cut::end(&last.end));
    let from = ranges.partition_point(|range| Cut::end(&range.end) <= start);
    let until = ranges.partition_point(|range| Cut::start(&range.start) < end);
    let near = ranges.get(from..until).unwrap_or_default();
    combine(near, places, |range, place| range.filter(|_| place.is_some()))
}

/// Any list of ranges, in any order and however they overlap, as a normal one. Empty ranges vanish.
pub(super) fn normalise(ranges: &[RangeTombstone]) -> Vec<RangeTombstone> {
    match ranges {
        [] => Vec::new(),
        [one] if Cut::start(&one.start) >= Cut::end(&one.end) => Vec::new(),
        [_] => combine(ranges, &[], Ord::max),
        _ => {
            // By halves, so that a hostile list costs n log n steps and not n squared.
            let (left, right) = ranges.split_at(ranges.len() / 2);
            join(&normalise(left), &normalise(right))
        }
    }
}

/// Whether the list is what [`normalise`] would make of it.
pub(super) fn is_normal(ranges: &[RangeTombstone]) -> bool {
    let canonical = |range: &RangeTombstone| {
        let (start, end) = (Cut::start(&range.start), Cut::end(&range.end));
        start < end && (start != Cut::First || range.start == Bound::Open)
    };
    ranges.iter().all(canonical)
        && ranges.is_sorted_by(|a, b| {
            let (end, start) = (Cut::end(&a.end), Cut::start(&b.start));
            end < start || (end == start && a.deletion != b.deletion)
        })
}

/// The range deletion over the row of `key`, in a normal list.
pub fn covering(ranges: &[RangeTombstone], key: &ClusteringKey) -> Option<Deletion> {
    let behind = Cut::At(key, Side::Behind);
    let at = ranges.partition_point(|range| Cut::end(&range.end) < behind);
    ranges
        .get(at)
        .filter(|range| Cut::start(&range.start) <= Cut::At(key, Side::Before))
        .map(|range| range.deletion)
}
