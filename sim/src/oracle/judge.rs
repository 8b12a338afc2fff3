//! One expectation against what was measured.

use super::figures::{Lens, Span};
use crate::scenario::figure::show;
use crate::scenario::{Comparison, Expectation, Kind, Operand, Unit, When};
use std::time::Duration;

/// What became of an expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The expectation's name.
    pub id: String,
    /// Its condition, as text.
    pub that: String,
    /// When it had to hold, as text.
    pub when: String,
    /// Whether it does. An expectation that nothing measured does not.
    pub holds: bool,
    /// What was measured; `None` when nothing was.
    pub measured: Option<f64>,
    /// How many real things one of the measured stands for.
    pub scale: u64,
    /// The other figure that it was compared with.
    pub against: Option<f64>,
    /// What physics says.
    pub predicted: Option<f64>,
    /// The arithmetic behind it.
    pub arithmetic: Option<String>,
    /// What the figures are counted in.
    pub unit: Unit,
    /// What the source says.
    pub claimed: Option<String>,
    /// Whether the run bears the source out; `None` when its claim was not put as a condition, or not measured.
    pub source_holds: Option<bool>,
    /// Why it must be so.
    pub because: String,
}

impl Judged {
    /// The measured figure for people, with the one that it was compared with and what it stands for.
    pub fn measured_text(&self) -> String {
        let Some(measured) = self.measured else { return "not measured".to_owned() };
        let mut text = show(measured, self.unit);
        if let Some(against) = self.against {
            text = format!("{text} against {}", show(against, self.unit));
        }
        #[expect(clippy::cast_precision_loss, reason = "a scale is far below 2^53")]
        let real = measured * self.scale as f64;
        if self.scale > 1 && measured > 0.0 {
            text = format!("{text}\n(stands for {})", show(real, self.unit));
        }
        text
    }

    /// The predicted figure for people.
    pub fn predicted_text(&self) -> String {
        self.predicted.map_or_else(String::new, |value| show(value, self.unit))
    }
}

/// Judges one expectation.
pub fn judge(expectation: &Expectation, lens: &Lens<'_>) -> Judged {
    let end = lens.scenario.length();
    // The last moment belongs to a run: a sample at its very end counts.
    let whole = (Duration::ZERO, end + Duration::from_nanos(1));
    let (span, when) = match expectation.when {
        When::During(from, to) => {
            ((from, to.max(from)), format!("{} - {}", lens.clock(from), lens.clock(to)))
        }
        When::By(by) => ((Duration::ZERO, by), format!("by {}", lens.clock(by))),
        When::At(at) => ((Duration::ZERO, at), format!("at {}", lens.clock(at))),
        When::End => (whole, "whole run".to_owned()),
    };
    let every = matches!(expectation.when, When::During(..));
    let any = matches!(expectation.when, When::By(_));
    let outcome = weigh(&expectation.that, lens, span, every, any);
    let source = expectation.claim.as_ref().map(|claim| weigh(claim, lens, span, every, any));
    let prediction = lens.predicted(&expectation.that.figure, span);
    Judged {
        id: expectation.id.clone(),
        that: text(&expectation.that),
        when,
        holds: outcome.holds.unwrap_or(false),
        measured: outcome.measured,
        scale: lens.scenario.scale_of(expectation.that.figure.figure()),
        against: match expectation.that.operand {
            Operand::Figure(..) => outcome.right,
            _ => None,
        },
        predicted: prediction.as_ref().map(|(value, _)| *value),
        arithmetic: prediction.map(|(_, sum)| sum),
        unit: expectation.that.figure.figure().unit,
        claimed: expectation.claimed.clone(),
        source_holds: source.and_then(|source| source.holds),
        because: expectation.because.clone(),
    }
}

struct Outcome {
    measured: Option<f64>,
    right: Option<f64>,
    /// `None`: one of the two sides was not measured.
    holds: Option<bool>,
}

/// Weighs a condition over a span. A gauge has to hold at `every` sample of it, at `any`, or at its last.
fn weigh(that: &Comparison, lens: &Lens<'_>, span: Span, every: bool, any: bool) -> Outcome {
    if that.figure.figure().kind != Kind::Gauge || !(every || any) {
        return weigh_once(that, lens, span);
    }
    let mut last = Outcome { measured: None, right: None, holds: None };
    for (at, left) in lens.series(&that.figure, span) {
        let upto = (span.0, at + Duration::from_nanos(1));
        let right = right_side(that, lens, upto);
        let holds = right.map(|right| that.holds(left, right));
        last = Outcome { measured: Some(left), right, holds };
        // The sample that decides is the one that is shown.
        if (every && holds != Some(true)) || (any && holds == Some(true)) {
            break;
        }
    }
    last
}

fn weigh_once(that: &Comparison, lens: &Lens<'_>, span: Span) -> Outcome {
    let measured = lens.value(&that.figure, span);
    let right = right_side(that, lens, span);
    let holds = measured.zip(right).map(|(left, right)| that.holds(left, right));
    Outcome { measured, right, holds }
}

#[expect(clippy::cast_precision_loss, reason = "a scale is far below 2^53")]
fn right_side(that: &Comparison, lens: &Lens<'_>, span: Span) -> Option<f64> {
    match &that.operand {
        Operand::Number(number) => Some(*number),
        Operand::Real(real) => Some(real / lens.scenario.scale_of(that.figure.figure()) as f64),
        Operand::Figure(factor, other) => lens.value(other, span).map(|value| factor * value),
        Operand::Predicted => lens.predicted(&that.figure, span).map(|(value, _)| value),
    }
}

/// A condition as a scenario writes it.
fn text(that: &Comparison) -> String {
    use crate::scenario::Op;
    let unit = that.figure.figure().unit;
    let right = match &that.operand {
        Operand::Number(number) => show(*number, unit),
        Operand::Real(real) => format!("{} real", show(*real, unit)),
        Operand::Figure(factor, other) if (factor - 1.0).abs() < 1e-12 => other.to_string(),
        Operand::Figure(factor, other) => format!("{:.0}% of {other}", factor * 100.0),
        Operand::Predicted => "predicted".to_owned(),
    };
    let op = match that.op {
        Op::Equal => "==".to_owned(),
        Op::NotEqual => "!=".to_owned(),
        Op::Less => "<".to_owned(),
        Op::AtMost => "<=".to_owned(),
        Op::More => ">".to_owned(),
        Op::AtLeast => ">=".to_owned(),
        Op::Within(percent) => format!("within {percent}% of"),
    };
    format!("{} {op} {right}", that.figure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, NodeSample, Sample};
    use crate::oracle::Places;
    use crate::scenario::{LIBRARY, Scenario};
    use std::collections::BTreeMap;

    /// Judges `that` at `when` on samples (second, hint bytes owed to rack a).
    fn judged(that: &str, when: When, samples: &[(u64, u64)]) -> Judged {
        let scenario = Scenario::parse("az-partition.toml", LIBRARY[0].text).unwrap();
        let places = Places::new(&scenario);
        let samples = samples.iter().map(|(at, bytes)| Sample {
            at: Duration::from_secs(*at),
            nodes: vec![
                None,
                Some(NodeSample {
                    hint_bytes_max: 100,
                    by_target: BTreeMap::from([(0, (1, *bytes))]),
                    ..NodeSample::default()
                }),
            ],
        });
        let ledger = Ledger { samples: samples.collect(), ..Ledger::default() };
        let lens = Lens { scenario: &scenario, ledger: &ledger, places: &places };
        let expectation = Expectation {
            id: "x".to_owned(),
            that: Comparison::parse(that, &scenario.cluster.host_names()).unwrap(),
            when,
            because: "it must".to_owned(),
            claimed: None,
            claim: None,
        };
        judge(&expectation, &lens)
    }

    const FULL: &str = "hints.bytes{target=rack:a} >= 99% of cap";

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn by_needs_one_sample_and_always_needs_all() {
        let rising = [(10, 50), (20, 99), (30, 60)];
        assert!(judged(FULL, When::By(secs(25)), &rising).holds);
        assert!(!judged(FULL, When::By(secs(15)), &rising).holds);
        let always = judged(FULL, When::During(secs(20), secs(40)), &rising);
        assert!(!always.holds);
        assert_eq!(always.measured, Some(60.0), "the sample that broke it is shown");
        assert!(judged(FULL, When::During(secs(20), secs(30)), &rising).holds);
    }

    #[test]
    fn at_takes_the_last_sample_before() {
        let falling = [(10, 100), (20, 0)];
        assert!(judged(FULL, When::At(secs(20)), &falling).holds);
        assert!(!judged(FULL, When::At(secs(21)), &falling).holds);
    }

    #[test]
    fn what_nobody_measured_does_not_hold() {
        let nothing = judged("hints.unaccounted == 0", When::End, &[]);
        assert_eq!((nothing.holds, nothing.measured), (false, None));
        let never_full = judged("hints.fill_time within 10% of predicted", When::End, &[(10, 1)]);
        assert!(!never_full.holds);
        assert_eq!(never_full.measured_text(), "not measured");
    }
}
