//! The loss ledger: which writes a replica will never get by a hint, so that a repair of just those makes it whole.
//!
//! A row is for one (target, table, reason) and holds a few token ranges, each with how many hints were lost in it, of
//! how many bytes, and when the first and the last of those writes were made. Space is bounded: a row that is full joins
//! its two nearest ranges, and when there are too many rows, losses go to a row that says less ("some table of this
//! target", "some target").
//!
//! Invariants: every recorded loss lies in a range of a row that speaks of its target and its table, until it is settled;
//! a row's ranges are sorted and disjoint; counts and bytes of all ranges are those of all losses that were recorded and
//! not settled; [`ROWS_MAX`] and [`RANGES_MAX`] are never exceeded.
//!
//! CAVEAT: ranges coarsen. One that was joined covers tokens between its parts in which nothing was lost; a repair of it
//! compares more than it must, never less.

use super::Loss;
use crate::ring::Span;
use crate::schema::TableId;
use crate::types::{NodeId, Token};
use std::collections::BTreeMap;

/// A row has at most so many ranges.
pub const RANGES_MAX: usize = 64;
/// Rows that say everything; more share the next two kinds.
const EXACT_ROWS_MAX: usize = 128;
/// Rows for some table of a target.
const TARGET_ROWS_MAX: usize = 64;
/// Rows in all: one more for each reason, for some table of some target.
pub const ROWS_MAX: usize = EXACT_ROWS_MAX + TARGET_ROWS_MAX + Loss::ALL.len();

/// What a row speaks of. `None` is less than any: some target, some table, it is not known which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Whom the hints were owed.
    pub target: Option<NodeId>,
    /// Where they belong.
    pub table: Option<TableId>,
}

impl Scope {
    /// Some table of `target`: what could not be read back.
    pub fn target(target: NodeId) -> Scope {
        Scope { target: Some(target), table: None }
    }

    /// A table of `target`.
    pub fn table(target: NodeId, table: TableId) -> Scope {
        Scope { target: Some(target), table: Some(table) }
    }

    /// Whether a loss in `of` may be one of a row with this scope.
    fn speaks_of(self, of: Scope) -> bool {
        self.target.is_none_or(|target| Some(target) == of.target)
            && self.table.is_none_or(|table| Some(table) == of.table)
    }
}

/// Some tokens, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tokens {
    /// The first.
    pub first: Token,
    /// The last; not before the first.
    pub last: Token,
}

impl Tokens {
    /// The whole ring: the tokens are not known.
    pub const ALL: Tokens = Tokens { first: Token::MIN, last: Token::MAX };

    /// One token.
    pub fn one(token: Token) -> Tokens {
        Tokens { first: token, last: token }
    }

    /// The same tokens as the rest of the core speaks of them.
    pub fn span(self) -> Span {
        Span { after: self.first.0.checked_sub(1).map(Token), until: self.last }
    }

    /// A span's tokens; `None`: it has none.
    pub fn of(span: Span) -> Option<Tokens> {
        let first = match span.after {
            None => Token::MIN,
            Some(after) => Token(after.0.checked_add(1)?),
        };
        (first <= span.until).then_some(Tokens { first, last: span.until })
    }
}

/// Hints that were lost, with one reason and in one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Where.
    pub tokens: Tokens,
    /// How many.
    pub count: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// When they were written, in milliseconds of wall time.
    pub written_ms: u64,
}

/// A range of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostRange {
    /// Every loss that it counts is in here.
    pub tokens: Tokens,
    /// Hints lost.
    pub count: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// When the first of them was written, in milliseconds of wall time.
    pub first_ms: u64,
    /// When the last of them was written.
    pub last_ms: u64,
    /// The number of the last loss recorded in it: see [`Ledger::recorded`].
    pub latest: u64,
}

impl LostRange {
    fn join(&mut self, other: LostRange) {
        self.tokens.first = self.tokens.first.min(other.tokens.first);
        self.tokens.last = self.tokens.last.max(other.tokens.last);
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.latest = self.latest.max(other.latest);
    }
}

/// What a repair took out of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Ranges.
    pub ranges: u64,
    /// Hints that were lost in them.
    pub count: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

/// What a repair has to compare, and until which loss that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToRepair {
    /// Sorted and disjoint; they do not touch.
    pub ranges: Vec<Tokens>,
    /// To be given back to [`Ledger::settle`].
    pub as_of: u64,
}

/// The losses of one node's hints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    rows: BTreeMap<(Scope, Loss), Vec<LostRange>>,
    recorded: u64,
}

impl Ledger {
    /// Nothing lost yet.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// A ledger that goes on where another one ended. What is recorded here gets numbers behind `recorded`.
    pub fn resumed(recorded: u64) -> Ledger {
        Ledger { rows: BTreeMap::new(), recorded }
    }

    /// How many times something was recorded. Only grows, so it says what a repair that began then could know of.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The rows, by scope and reason; none is empty.
    pub fn rows(&self) -> impl Iterator<Item = (Scope, Loss, &[LostRange])> + '_ {
        self.rows.iter().map(|((scope, reason), ranges)| (*scope, *reason, ranges.as_slice()))
    }

    /// Hints lost and not settled, for this reason.
    pub fn outstanding(&self, reason: Loss) -> Settled {
        let mut sum = Settled::default();
        let rows = self.rows().filter(|(_, why, _)| *why == reason);
        rows.flat_map(|(_, _, ranges)| ranges).for_each(|range| sum += range.into());
        sum
    }

    /// Hints were lost. None at all changes nothing.
    pub fn record(&mut self, scope: Scope, reason: Loss, lost: Lost) {
        if lost.count == 0 {
            return;
        }
        self.recorded += 1;
        let Lost { tokens, count, bytes, written_ms } = lost;
        let (first_ms, last_ms) = (written_ms, written_ms);
        let latest = self.recorded;
        self.put(scope, reason, LostRange { tokens, count, bytes, first_ms, last_ms, latest });
    }

    /// A range of a row that another ledger had. Whatever it is, the invariants hold behind it.
    pub fn put(&mut self, scope: Scope, reason: Loss, range: LostRange) {
        let Tokens { first, last } = range.tokens;
        let tokens = Tokens { first: first.min(last), last: last.max(first) };
        let scope = self.scope_with_room(scope, reason);
        let ranges = self.rows.entry((scope, reason)).or_default();
        insert(ranges, LostRange { tokens, ..range });
        self.recorded = self.recorded.max(range.latest);
        debug_assert!(self.rows.len() <= ROWS_MAX, "the ledger has too many rows");
    }

    /// The most telling scope that there is a row for, or room. Each kind of scope has its own room, so that rows may be
    /// put back in any order.
    fn scope_with_room(&self, scope: Scope, reason: Loss) -> Scope {
        let fits = |scope: &Scope| {
            let alike = |of: &Scope| {
                (of.target.is_some(), of.table.is_some())
                    == (scope.target.is_some(), scope.table.is_some())
            };
            let max = if scope.table.is_some() { EXACT_ROWS_MAX } else { TARGET_ROWS_MAX };
            self.rows.contains_key(&(*scope, reason))
                || self.rows.keys().filter(|(of, _)| alike(of)).count() < max
        };
        let any = Scope { target: None, table: None };
        [scope, Scope { table: None, ..scope }].into_iter().find(fits).unwrap_or(any)
    }

    /// What a repair of this scope has to compare so that no recorded loss is left: of a table of a target, or, without a
    /// table, what was lost of nobody knows which (and so is to be compared in each). It is right to begin it
    /// once every write that was under way now has ended (after `write_request_timeout`): a hint is refused before the
    /// other replicas have its write.
    pub fn to_repair(&self, wanted: Scope) -> ToRepair {
        let rows = self.rows().filter(|(scope, ..)| scope.speaks_of(wanted));
        let ranges = rows.flat_map(|(_, _, ranges)| ranges.iter().map(|range| range.tokens));
        ToRepair { ranges: joined(ranges.collect()), as_of: self.recorded }
    }

    /// A repair has compared `repaired` and mended what it found. The ranges of exactly this scope that lie in there as a
    /// whole, and had no loss since `as_of`, are done with; others stay as they are. What the target does not hold needs
    /// no repair and counts as repaired.
    ///
    /// A row of "some table" is settled by a scope of the same kind, once every table was repaired.
    pub fn settle(&mut self, scope: Scope, repaired: &[Span], as_of: u64) -> Settled {
        let repaired = joined(repaired.iter().filter_map(|span| Tokens::of(*span)).collect());
        let mut settled = Settled::default();
        self.rows.retain(|(of, _), ranges| {
            if *of == scope {
                ranges.retain(|range| {
                    let done = range.latest <= as_of && covered(&repaired, range.tokens);
                    if done {
                        settled += range.into();
                    }
                    !done
                });
            }
            !ranges.is_empty()
        });
        settled
    }
}

impl std::ops::AddAssign for Settled {
    fn add_assign(&mut self, other: Settled) {
        self.ranges += other.ranges;
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl From<&LostRange> for Settled {
    fn from(range: &LostRange) -> Settled {
        Settled { ranges: 1, count: range.count, bytes: range.bytes }
    }
}

/// Adds a range to sorted, disjoint ones: those that it touches become one, and past [`RANGES_MAX`] the nearest two.
fn insert(ranges: &mut Vec<LostRange>, range: LostRange) {
    let from = ranges.partition_point(|it| it.tokens.last < range.tokens.first);
    let until = ranges.partition_point(|it| it.tokens.first <= range.tokens.last);
    let mut range = range;
    for met in ranges.drain(from..until.max(from)) {
        range.join(met);
    }
    ranges.insert(from, range);
    if ranges.len() > RANGES_MAX {
        let gaps = ranges.windows(2).enumerate().filter_map(|(at, pair)| match pair {
            [one, next] => Some((one.tokens.last.0.abs_diff(next.tokens.first.0), at)),
            _ => None,
        });
        if let Some((_, at)) = gaps.min() {
            let next = ranges.remove(at + 1);
            if let Some(one) = ranges.get_mut(at) {
                one.join(next);
            }
        }
    }
}

/// The same tokens as sorted ranges that neither overlap nor touch.
fn joined(mut ranges: Vec<Tokens>) -> Vec<Tokens> {
    ranges.sort_unstable();
    let mut out: Vec<Tokens> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(before) if range.first.0 <= before.last.0.saturating_add(1) => {
                before.last = before.last.max(range.last);
            }
            _ => out.push(range),
        }
    }
    out
}

/// Whether one of `ranges`, which do not touch, has all of `tokens`.
fn covered(ranges: &[Tokens], tokens: Tokens) -> bool {
    let behind = ranges.partition_point(|range| range.first <= tokens.first);
    let before = behind.checked_sub(1).and_then(|at| ranges.get(at));
    before.is_some_and(|range| tokens.last <= range.last)
}

#[cfg(test)]
mod tests;
