//! Whether one order explains all that clients saw of a register: linearizability (Herlihy and Wing 1990), decided by Wing
//! and Gong's search (1993) with Lowe's memory of where it has been (2017).
//!
//! An operation takes effect at one moment between its call and its return. One of which nobody knows how it ended does so
//! at any moment after its call, or never. Operations that overlap may come in either order, others in the order of time.
//!
//! Bound: [`CONFIGURATIONS_MAX`]; a history that takes more has no verdict. Values that are written once keep the search
//! short, however many ends are unknown: a swap can come only where its value is.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Configurations that are looked at before the search gives up.
pub const CONFIGURATIONS_MAX: usize = 2_000_000;

/// What a register holds.
pub type Held = Option<i64>;

/// What an operation does to the register, as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is read, and holds this.
    Sees(Held),
    /// It held the one, and now holds the other.
    Swaps {
        /// What must be there.
        from: Held,
        /// What is there then.
        to: i64,
    },
}

impl Step {
    /// What the register holds afterwards; `None`: it cannot be now.
    fn after(self, held: Held) -> Option<Held> {
        match self {
            Step::Sees(seen) => (seen == held).then_some(held),
            Step::Swaps { from, to } => (from == held).then_some(Some(to)),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |held: &Held| held.map_or_else(|| "nothing".to_owned(), |v| v.to_string());
        match self {
            Step::Sees(held) => write!(f, "sees {}", name(held)),
            Step::Swaps { from, to } => write!(f, "swaps {} for {to}", name(from)),
        }
    }
}

/// An operation, by the clock of an observer who sees all clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Whose.
    pub client: usize,
    /// When it was asked for.
    pub called: Duration,
    /// When it was answered; `None`: nobody knows whether it was carried out, or when.
    pub returned: Option<Duration>,
    /// What it did, or would do.
    pub step: Step,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, step) = (self.client, self.step);
        write!(f, "client {client} {step}, called at {:?}, ", self.called)?;
        match self.returned {
            Some(at) => write!(f, "answered at {at:?}"),
            None => write!(f, "end unknown"),
        }
    }
}

/// What is to be said of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// One order explains it.
    Linearizable,
    /// None does.
    Broken(Stuck),
    /// The search was given up.
    Undecided,
}

/// The furthest that an order could be continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// So many of the answered operations have their place in it.
    pub explained: usize,
    /// Of so many.
    pub of: usize,
    /// What the register holds at its end.
    pub held: Held,
    /// One of these has to come next, and none can.
    pub next: Vec<Op>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.map_or_else(|| "nothing".to_owned(), |held| held.to_string());
        write!(f, "after {} of {} operations ", self.explained, self.of)?;
        write!(f, "the register holds {held}, and none of these can come next:")?;
        self.next.iter().try_for_each(|op| write!(f, "\n    {op}"))
    }
}

/// A place in the search: which operations have had their effect, and what the register holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Configuration {
    /// The answered ones before this place, in the order of their calls, all have.
    prefix: usize,
    /// And these behind it. Invariant: sorted, all greater than `prefix`.
    beyond: Vec<usize>,
    /// And these of unknown end. Invariant: sorted.
    unknown: Vec<usize>,
    held: Held,
}

impl Configuration {
    fn explained(&self) -> usize {
        self.prefix + self.beyond.len()
    }

    fn has(&self, nth: usize) -> bool {
        nth < self.prefix || self.beyond.binary_search(&nth).is_ok()
    }

    /// With one more of the answered operations.
    fn with(&self, nth: usize, held: Held) -> Configuration {
        let mut next = Configuration { held, ..self.clone() };
        insert(&mut next.beyond, nth);
        while next.beyond.first() == Some(&next.prefix) {
            next.beyond.remove(0);
            next.prefix += 1;
        }
        next
    }

    fn with_unknown(&self, nth: usize, held: Held) -> Configuration {
        let mut next = Configuration { held, ..self.clone() };
        insert(&mut next.unknown, nth);
        next
    }
}

fn insert(sorted: &mut Vec<usize>, value: usize) {
    if let Err(place) = sorted.binary_search(&value) {
        sorted.insert(place, value);
    }
}

/// Judges the history of one register, which holds nothing at its beginning.
pub fn judge(history: &[Op]) -> Verdict {
    judge_within(history, CONFIGURATIONS_MAX)
}

fn judge_within(history: &[Op], configurations_max: usize) -> Verdict {
    let (mut answered, mut unknown): (Vec<&Op>, Vec<&Op>) =
        history.iter().partition(|op| op.returned.is_some());
    answered.sort_by_key(|op| op.called);
    unknown.sort_by_key(|op| op.called);
    let mut furthest = Configuration::default();
    let mut seen = BTreeSet::new();
    let mut open = vec![Configuration::default()];
    while let Some(at) = open.pop() {
        if at.prefix == answered.len() {
            return Verdict::Linearizable;
        }
        if seen.len() >= configurations_max {
            return Verdict::Undecided;
        }
        if !seen.insert(at.clone()) {
            continue;
        }
        if at.explained() > furthest.explained() {
            furthest = at.clone();
        }
        let (next, latest) = candidates(&answered, &at);
        // What is pushed last is tried first: an unknown end is believed only where nothing else goes on.
        for (nth, op) in unknown.iter().enumerate().take_while(|(_, op)| op.called <= latest) {
            if at.unknown.binary_search(&nth).is_err()
                && let Some(held) = op.step.after(at.held)
            {
                open.push(at.with_unknown(nth, held));
            }
        }
        for (nth, op) in next {
            if let Some(held) = op.step.after(at.held) {
                open.push(at.with(nth, held));
            }
        }
    }
    let (next, _) = candidates(&answered, &furthest);
    Verdict::Broken(Stuck {
        explained: furthest.explained(),
        of: answered.len(),
        held: furthest.held,
        next: next.into_iter().map(|(_, op)| op.clone()).collect(),
    })
}

/// The answered operations that may come next: those that were called before any that is left had returned. And when the
/// first of these returned.
fn candidates<'h>(answered: &[&'h Op], at: &Configuration) -> (Vec<(usize, &'h Op)>, Duration) {
    let left = || answered.iter().enumerate().skip(at.prefix).filter(|(nth, _)| !at.has(*nth));
    let mut latest = Duration::MAX;
    for (_, op) in left() {
        if op.called > latest {
            break;
        }
        latest = latest.min(op.returned.unwrap_or(Duration::MAX));
    }
    let next = left().take_while(|(_, op)| op.called <= latest);
    (next.map(|(nth, op)| (nth, *op)).collect(), latest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn op(called: u64, returned: Option<u64>, step: Step) -> Op {
        let at = Duration::from_millis;
        Op { client: 0, called: at(called), returned: returned.map(at), step }
    }

    fn sees(called: u64, returned: u64, held: Held) -> Op {
        op(called, Some(returned), Step::Sees(held))
    }

    fn swaps(called: u64, returned: Option<u64>, from: Held, to: i64) -> Op {
        op(called, returned, Step::Swaps { from, to })
    }

    fn holds(history: &[Op]) -> bool {
        judge(history) == Verdict::Linearizable
    }

    #[test]
    fn operations_that_overlap_may_come_in_either_order() {
        let write = swaps(0, Some(10), None, 1);
        assert!(holds(&[write.clone(), sees(5, 6, None), sees(11, 12, Some(1))]));
        assert!(holds(&[write.clone(), sees(5, 6, Some(1)), sees(7, 8, Some(1))]));
        assert!(!holds(&[write.clone(), sees(5, 6, Some(1)), sees(7, 8, None)]));
        assert!(!holds(&[write, sees(11, 12, None)]));
    }

    #[test]
    fn an_unknown_end_is_late_or_never_but_only_once() {
        let write = swaps(0, None, None, 1);
        assert!(holds(&[write.clone(), sees(5, 6, None), sees(70, 80, Some(1))]));
        assert!(holds(&[write.clone(), sees(70, 80, None)]));
        assert!(!holds(&[write.clone(), sees(5, 6, Some(1)), sees(7, 8, None)]));
        assert!(!holds(&[sees(5, 6, Some(1)), swaps(7, None, None, 1)]));
        let again = [write, swaps(10, Some(11), Some(1), 2), swaps(12, Some(13), Some(2), 3)];
        assert!(holds(&again));
        assert!(!holds(&[&again[..], &[sees(14, 15, Some(1))]].concat()));
    }

    #[test]
    fn two_swaps_of_one_value_are_found_and_named() {
        let history = [
            swaps(0, Some(1), None, 1),
            swaps(2, Some(9), Some(1), 2),
            swaps(3, Some(9), Some(1), 3),
        ];
        let Verdict::Broken(stuck) = judge(&history) else { panic!("it was believed") };
        assert_eq!((stuck.explained, stuck.of, stuck.next.len()), (2, 3, 1));
        assert!(
            stuck.to_string().contains("none of these can come next:\n    client 0 swaps 1 for")
        );
    }

    #[test]
    fn a_search_that_takes_too_long_has_no_verdict() {
        let history = [swaps(0, Some(9), None, 1), sees(0, 9, Some(1)), sees(0, 9, Some(1))];
        assert_eq!(judge_within(&history, 2), Verdict::Undecided);
        assert_eq!(judge_within(&history, 100), Verdict::Linearizable);
    }

    /// The definition, word by word: some order of all answered operations and some of the others.
    fn by_definition(history: &[Op]) -> bool {
        fn go(history: &[Op], done: &mut Vec<usize>, held: Held) -> bool {
            let left: Vec<usize> = (0..history.len()).filter(|nth| !done.contains(nth)).collect();
            if left.iter().all(|nth| history[*nth].returned.is_none()) {
                return true;
            }
            left.iter().any(|nth| {
                let op = &history[*nth];
                let too_early =
                    |other: &usize| history[*other].returned.is_some_and(|at| at < op.called);
                if left.iter().any(too_early) {
                    return false;
                }
                let Some(held) = op.step.after(held) else { return false };
                done.push(*nth);
                let found = go(history, done, held);
                done.pop();
                found
            })
        }
        go(history, &mut Vec::new(), None)
    }

    fn any_held() -> impl Strategy<Value = Held> {
        proptest::option::weighted(0.8, 0_i64..3)
    }

    fn any_op() -> impl Strategy<Value = Op> {
        let step = prop_oneof![
            any_held().prop_map(Step::Sees),
            (any_held(), 0_i64..3).prop_map(|(from, to)| Step::Swaps { from, to }),
        ];
        (0_u64..12, 1_u64..8, step, prop::bool::weighted(0.7)).prop_map(
            |(called, took, step, known)| op(called, known.then_some(called + took), step),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_search_finds_what_the_definition_says(history in prop::collection::vec(any_op(), 0..7)) {
            prop_assert_eq!(holds(&history), by_definition(&history));
        }
    }
}
