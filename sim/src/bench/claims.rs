//! What the write-up of the sale says of its hints, each sentence beside the arithmetic and the run.
//!
//! The source is teaching material ("Amazon CQRS Cassandra Outage"); its numbers are claims, not facts. A claim is wrong when
//! the run is further from it than `CLOSE`, and each says in a sentence why.

use super::figures::{BY_LEDGER, BY_REPLAY, Figure, KEPT, OWED, REPLAY, TIME_TO_FULL, Value};
use super::predict::{Terms, relative_error};
use super::story::full_size_terms;
use super::{Bench, Preset, Told};
use crate::scenario::Unit;
use crate::scenario::figure::show;
use crate::scenario::units::number;
use helenus_core::hint::Overflow;

/// A claim that is no further from the run than this share of what was measured holds.
const CLOSE: f64 = 0.1;

/// One claim, weighed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// What the source says.
    pub says: &'static str,
    /// Its number.
    pub claimed: f64,
    /// What follows from the source's own terms.
    pub closed_form: Value,
    /// What the run showed.
    pub measured: Value,
    /// What they are counted in.
    pub unit: Unit,
    /// Why it is so.
    pub because: String,
}

impl Claim {
    /// By what share the claim is off what was measured.
    pub fn error(&self) -> Option<f64> {
        match self.measured {
            Value::Number(measured) => relative_error(self.claimed, measured),
            _ => None,
        }
    }

    /// Whether the run bears it out.
    pub fn holds(&self) -> bool {
        match self.measured {
            Value::Number(measured) => {
                (self.claimed - measured).abs() <= CLOSE * measured.abs().max(self.claimed.abs())
            }
            _ => false,
        }
    }
}

/// The claims; none where the sweep is another one.
pub fn claims(bench: &Bench) -> Vec<Claim> {
    if bench.preset != Some(Preset::BlackFriday) {
        return Vec::new();
    }
    let at = |per_minute: f64| {
        bench.points.iter().find(|told| {
            let point = &told.story.point;
            let rate = (point.rate.per_second * 60.0).round();
            point.policy == Overflow::DropNewest && rate == per_minute
        })
    };
    match (at(15_000.0), at(50_000.0)) {
        (Some(claimed), Some(sale)) => weigh(claimed, sale),
        _ => Vec::new(),
    }
}

/// One of a point's figures, as it was measured.
fn measured(told: &Told, name: &str) -> Value {
    told.figure(name).map_or(Value::Nothing, |figure: &Figure| figure.measured)
}

fn divided(value: Value, by: f64) -> Value {
    match value {
        Value::Number(value) => Value::Number(value / by),
        other => other,
    }
}

fn time(seconds: f64) -> String {
    show(seconds, Unit::Seconds)
}

fn weigh(claimed: &Told, sale: &Told) -> Vec<Claim> {
    [of_the_fill(claimed, sale), of_the_hints(sale), of_the_healing(sale)].concat()
}

/// How large a store is, and how soon it is full.
fn of_the_fill(claimed: &Told, sale: &Told) -> Vec<Claim> {
    let (terms, sold) = (full_size_terms(&claimed.story.point), full_size_terms(&sale.story.point));
    let alone = Terms { stores: 1.0, ..terms }.full_after();
    let seconds = |time: Option<f64>| time.map_or(Value::Never(None), Value::Number);
    vec![
        Claim {
            says: "500 MB hold 10,000 hints of 50 KB",
            claimed: 10_000.0,
            closed_form: Value::Number(terms.fit()),
            measured: divided(measured(claimed, KEPT), terms.stores),
            unit: Unit::Count,
            because: "a hint takes little more than its value: header, key and framing".to_owned(),
        },
        Claim {
            says: "30 % of the writes go to the lost zone: 15,000 hints a minute of 50,000 writes",
            claimed: 15_000.0,
            closed_form: Value::Number(sold.rate * 60.0),
            measured: divided(measured(sale, OWED), sold.outage / 60.0),
            unit: Unit::Count,
            because: "with three copies in three zones every write has one in each".to_owned(),
        },
        Claim {
            says: "at 15,000 a minute the store is full in about 40 s",
            claimed: 40.0,
            closed_form: seconds(terms.full_after()),
            measured: measured(claimed, TIME_TO_FULL),
            unit: Unit::Seconds,
            because: format!(
                "a hint is kept by the write's coordinator, and the nodes that are left share them; one store alone would \
                 take {}",
                alone.map_or_else(|| "for ever".to_owned(), time)
            ),
        },
        Claim {
            says: "in the sale itself, at 50,000 writes a minute, about 40 s as well",
            claimed: 40.0,
            closed_form: seconds(sold.full_after()),
            measured: measured(sale, TIME_TO_FULL),
            unit: Unit::Seconds,
            because: "two errors, 15,000 for 50,000 and one store for two, that half undo each other; the story's nine nodes \
                      have six stores, and take three times as long"
                .to_owned(),
        },
    ]
}

/// How many were owed, kept and lost.
fn of_the_hints(sale: &Told) -> Vec<Claim> {
    let sold = full_size_terms(&sale.story.point);
    let said = sold.predict();
    let minutes = sold.outage / 60.0;
    let evicted = sale.measured.lost_by.get("evicted").copied().unwrap_or(0.0);
    vec![
        Claim {
            says: "about 750,000 hints came to be owed",
            claimed: 750_000.0,
            closed_form: Value::Number(said.owed),
            measured: measured(sale, OWED),
            unit: Unit::Count,
            because: format!("50,000 a minute for {minutes:.0} minutes; it is right for 15, and only at the full rate"),
        },
        Claim {
            says: "and accumulated",
            claimed: 750_000.0,
            closed_form: Value::Number(said.kept),
            measured: measured(sale, KEPT),
            unit: Unit::Count,
            because: "a bounded store keeps what fits; the rest was refused, and only the ledger knows of it".to_owned(),
        },
        Claim {
            says: "whatever overflowed, the oldest hints gave way (FIFO); in the same box: new ones were dropped",
            claimed: said.lost,
            closed_form: Value::Number(0.0),
            measured: Value::Number(evicted * number(sale.story.scale)),
            unit: Unit::Count,
            because: "it is one or the other: drop-newest, Cassandra's only policy, evicts nothing and keeps the first minute"
                .to_owned(),
        },
    ]
}

/// What came back, and when.
fn of_the_healing(sale: &Told) -> Vec<Claim> {
    let sold = full_size_terms(&sale.story.point);
    let said = sold.predict();
    let all_by_replay = said.owed / sold.stores * sold.sent / sold.throttle / 3600.0;
    let by_ledger = match measured(sale, BY_LEDGER) {
        Value::Number(seconds) => time(seconds),
        _ => "no time that was measured".to_owned(),
    };
    vec![
        Claim {
            says: "22 minutes of replay",
            claimed: 22.0 * 60.0,
            closed_form: Value::Number(said.replay),
            measured: measured(sale, REPLAY),
            unit: Unit::Seconds,
            because: format!(
                "the source names no throttle; at 512 KiB/s each store is empty sooner, and all 750,000 would have taken about \
                 {all_by_replay:.1} h"
            ),
        },
        Claim {
            says: "after the replay everything is recovered: nothing is missing",
            claimed: 0.0,
            closed_form: Value::Number(said.missing),
            measured: match measured(sale, BY_REPLAY) {
                Value::Never(Some(missing)) => Value::Number(missing),
                Value::Number(_) => Value::Number(0.0),
                other => other,
            },
            unit: Unit::Count,
            because: format!(
                "what was refused is not replayed; a repair from the ledgers has all of it there {by_ledger} after the heal"
            ),
        },
        Claim {
            says: "hints that overflow are data that is lost",
            claimed: said.lost,
            closed_form: Value::Number(0.0),
            measured: lost_for_good(sale),
            unit: Unit::Count,
            because: "an acknowledged write is on two replicas of three, and a repair brings it to the third".to_owned(),
        },
    ]
}

/// What the target lacked when all was done.
fn lost_for_good(sale: &Told) -> Value {
    let scale = number(sale.story.scale);
    let left = sale.measured.missing_after_full.map(|missing| missing * scale);
    left.map_or(Value::Nothing, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(claimed: f64, measured: Value) -> Claim {
        let closed_form = Value::Nothing;
        let because = String::new();
        Claim { says: "x", claimed, closed_form, measured, unit: Unit::Count, because }
    }

    #[test]
    fn a_claim_holds_within_a_tenth_and_never_against_never() {
        assert!(claim(40.0, Value::Number(42.0)).holds());
        assert!(!claim(40.0, Value::Number(80.0)).holds());
        assert!(!claim(0.0, Value::Number(10.0)).holds());
        assert!(claim(0.0, Value::Number(0.0)).holds());
        assert!(!claim(0.0, Value::Never(Some(5.0))).holds());
        assert_eq!(claim(40.0, Value::Number(80.0)).error(), Some(-0.5));
        assert_eq!(claim(5.0, Value::Number(0.0)).error(), None);
    }
}
