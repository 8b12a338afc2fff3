//! What was measured beside what was predicted, at full size.

use super::Told;
use super::measure::Measured;
use super::predict::relative_error;
use super::story::Story;
use crate::scenario::Unit;
use crate::scenario::figure::show;
use crate::scenario::units::{group, number};

/// What one side says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Nothing.
    Nothing,
    /// A number, in the figure's unit.
    Number(f64),
    /// It does not come, and so many orders stay missing where somebody counted them.
    Never(Option<f64>),
}

impl Value {
    fn time(time: Option<f64>) -> Value {
        time.map_or(Value::Never(None), Value::Number)
    }

    fn known(value: Option<f64>) -> Value {
        value.map_or(Value::Nothing, Value::Number)
    }

    /// For people.
    pub fn text(self, unit: Unit) -> String {
        match self {
            Value::Nothing => "-".to_owned(),
            Value::Number(value) => show(value, unit),
            Value::Never(Some(missing)) => format!("never: {} missing", group(missing)),
            Value::Never(None) => "never".to_owned(),
        }
    }

    /// For programs.
    pub fn plain(self) -> String {
        match self {
            Value::Nothing => String::new(),
            Value::Number(value) => format!("{value:.3}"),
            Value::Never(_) => "never".to_owned(),
        }
    }
}

/// One figure of one point.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// By the closed form.
    pub predicted: Value,
    /// By the run.
    pub measured: Value,
    /// They agree when they differ by no more than this share,
    pub within: f64,
    /// and this much besides: what a few simulated hints stand for.
    pub slack: f64,
    /// What else is to be said.
    pub remark: String,
}

impl Figure {
    /// By what share the two differ.
    pub fn error(&self) -> Option<f64> {
        match (self.measured, self.predicted) {
            (Value::Number(measured), Value::Number(predicted)) => {
                relative_error(measured, predicted)
            }
            _ => None,
        }
    }

    /// Whether the two agree; where one says nothing, they do.
    pub fn agrees(&self) -> bool {
        match (self.predicted, self.measured) {
            (Value::Nothing, _) | (_, Value::Nothing) | (Value::Never(_), Value::Never(_)) => true,
            (Value::Number(predicted), Value::Number(measured)) => {
                (measured - predicted).abs() <= predicted.abs() * self.within + self.slack
            }
            _ => false,
        }
    }
}

/// The names that other rooms look figures up by.
pub const TIME_TO_FULL: &str = "time to full";
/// Hints that came to be owed.
pub const OWED: &str = "hints owed";
/// Hints that were delivered.
pub const KEPT: &str = "hints kept";
/// Hints that were not.
pub const LOST: &str = "hints lost";
/// From the heal until the last hint was delivered.
pub const REPLAY: &str = "replay ends after";
/// From the heal until nothing was missing, by replay alone.
pub const BY_REPLAY: &str = "equal by replay alone";
/// By replay and a repair from the ledgers.
pub const BY_LEDGER: &str = "equal by replay, then ledger repair";
/// By a full repair.
pub const BY_FULL: &str = "equal by full repair";
/// Orders of the outage that the store took only when the target was back.
pub const HELD_BACK: &str = "writes held back";
/// What replicas sent each other in the repair from the ledgers.
pub const LEDGER_BYTES: &str = "sent by ledger repair";

impl Told {
    /// One of its figures.
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

/// Compared at the latest a few seconds after a repair has ended; the failure detector takes seconds as well.
const SECONDS_SLACK: f64 = 6.0;
/// Counts of simulated hints are off by one here and there: at either end of the outage, in each store.
const HINTS_SLACK: f64 = 4.0;
/// A write takes at most so long, so what is in flight at the heal is at most so many seconds of writes.
const IN_FLIGHT_S: f64 = 2.0;

/// What is to be said of latencies in a simulated run.
pub const SIMULATED: &str = "network alone: a simulated CPU is never busy";

/// All figures of a point, and what is to be said of its latencies.
pub fn of(story: &Story, measured: &Measured, of_latencies: &str) -> Vec<Figure> {
    let mut figures = hints(story, measured);
    figures.extend(sizes(story, measured));
    figures.extend(healing(story, measured));
    figures.extend(stale(story, measured));
    figures.extend(latencies(measured, of_latencies));
    figures
}

/// A count, given as simulated.
fn count(
    story: &Story,
    name: &'static str,
    (predicted, measured): (f64, f64),
    (within, slack): (f64, f64),
) -> Figure {
    let scale = number(story.scale);
    Figure {
        name,
        unit: Unit::Count,
        predicted: Value::Number(predicted * scale),
        measured: Value::Number(measured * scale),
        within,
        slack: slack * scale,
        remark: String::new(),
    }
}

fn time(name: &'static str, predicted: Value, measured: Value, within: f64) -> Figure {
    let (unit, slack, remark) = (Unit::Seconds, SECONDS_SLACK, String::new());
    Figure { name, unit, predicted, measured, within, slack, remark }
}

/// What became of the hints.
fn hints(story: &Story, measured: &Measured) -> Vec<Figure> {
    const SHARE: f64 = 0.02;
    let said = &story.predicted;
    let in_flight = HINTS_SLACK + IN_FLIGHT_S * story.terms.rate;
    let count = |name, pair, slack| count(story, name, pair, (SHARE, slack));
    let full = (Value::time(said.full_after), Value::time(measured.full_after));
    vec![
        time(TIME_TO_FULL, full.0, full.1, 0.05),
        count(OWED, (said.owed, measured.owed), in_flight),
        count(KEPT, (said.kept, measured.kept), HINTS_SLACK),
        Figure {
            remark: reasons(measured, number(story.scale)),
            ..count(LOST, (said.lost, measured.lost()), in_flight)
        },
        count(HELD_BACK, (said.held_back, measured.held_back), in_flight),
    ]
}

/// How long it took until the replicas were equal.
fn healing(story: &Story, measured: &Measured) -> Vec<Figure> {
    let (scale, bytes) = (number(story.scale), story.bytes_scale());
    let said = &story.predicted;
    let never = |missing: Option<f64>| Value::Never(missing.map(|n| n * scale));
    let by_replay = match measured.missing[0] {
        Some(0.0) => Value::time(measured.replay),
        missing => never(missing),
    };
    let by_ledger = match measured.missing[1] {
        // Nothing was left for the repair to do.
        Some(0.0) if measured.missing[0] == Some(0.0) => Value::time(measured.replay),
        Some(0.0) => {
            let replayed = measured.replay.map(|replay| replay.max(story.terms.ready));
            let ended = replayed.zip(measured.ledger_repair).map(|(then, took)| then + took);
            Value::time(ended)
        }
        missing => never(missing),
    };
    let by_full = match measured.missing_after_full {
        Some(0.0) => Value::time(measured.full_repair),
        missing => never(missing),
    };
    let predicted_replay = match said.by_replay {
        Some(seconds) => Value::Number(seconds),
        None => never(Some(said.missing)),
    };
    vec![
        time(REPLAY, Value::Number(said.replay), Value::known(measured.replay), 0.05),
        time(BY_REPLAY, predicted_replay, by_replay, 0.05),
        time(BY_LEDGER, Value::Number(said.by_ledger), by_ledger, 0.1),
        Figure {
            name: LEDGER_BYTES,
            unit: Unit::Bytes,
            predicted: Value::Number(said.ledger_bytes * bytes),
            measured: Value::Number(measured.ledger_bytes * bytes),
            within: 0.05,
            slack: HINTS_SLACK * story.terms.payload * bytes,
            remark: String::new(),
        },
        time(BY_FULL, Value::Number(said.by_full), by_full, 0.1),
    ]
}

/// Counts of chance events: within a tenth and three deviations of a Poisson count.
fn stale(story: &Story, measured: &Measured) -> [Figure; 2] {
    let said = &story.predicted;
    let count = |name, predicted: f64, measured| {
        let slack = 3.0 * predicted.sqrt() + HINTS_SLACK;
        count(story, name, (predicted, measured), (0.1, slack))
    };
    let [replay, full] = measured.stale;
    [
        count("stale reads at ONE, heal to end of replay", said.stale_replay, replay),
        count("stale reads at ONE, heal to end of full repair", said.stale_full, full),
    ]
}

/// A hint at full size, and what of it is not the value.
fn sizes(story: &Story, measured: &Measured) -> [Figure; 2] {
    let value = number(story.value);
    let figure = |name, predicted, measured: Option<f64>, within| Figure {
        name,
        unit: Unit::Bytes,
        predicted: Value::Number(predicted),
        measured: Value::known(measured),
        within,
        slack: 0.0,
        remark: String::new(),
    };
    let (record, shrunk) = (story.terms.record, number(story.value_scale));
    let whole = measured.record.map(|record| record * shrunk);
    let remark = "header, key and framing: not divided by the scale".to_owned();
    let overhead = measured.record.map(|record| record - value);
    [
        figure("bytes a hint", record * shrunk, whole, 0.02),
        Figure { remark, ..figure("of these not value", record - value, overhead, 0.2) },
    ]
}

fn reasons(measured: &Measured, scale: f64) -> String {
    let told = measured.lost_by.iter().map(|(reason, n)| format!("{reason} {}", group(n * scale)));
    told.collect::<Vec<_>>().join(", ")
}

fn latencies(measured: &Measured, remark: &str) -> [Figure; 4] {
    let figure = |name, measured| Figure {
        name,
        unit: Unit::Seconds,
        predicted: Value::Nothing,
        measured: Value::known(measured),
        within: 0.0,
        slack: 0.0,
        remark: remark.to_owned(),
    };
    let ([write_before, write], [read_before, read]) = (measured.write_p99, measured.read_p99);
    [
        figure("write p99 before the cut", write_before),
        figure("write p99 during replay", write),
        figure("read p99 at ONE before the heal", read_before),
        figure("read p99 at ONE during replay", read),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(predicted: Value, measured: Value) -> Figure {
        let (name, unit, remark) = ("x", Unit::Seconds, String::new());
        Figure { name, unit, predicted, measured, within: 0.1, slack: 1.0, remark }
    }

    #[test]
    fn never_agrees_with_never_only() {
        let (never, number) = (Value::Never(Some(7.0)), Value::Number(100.0));
        assert!(figure(never, Value::Never(None)).agrees());
        assert!(!figure(never, number).agrees());
        assert!(!figure(number, never).agrees());
        assert!(figure(Value::Nothing, number).agrees());
        assert!(figure(number, Value::Number(111.0)).agrees());
        assert!(!figure(number, Value::Number(111.1)).agrees());
        assert_eq!(figure(number, Value::Number(90.0)).error(), Some(-0.1));
        assert_eq!(figure(number, never).error(), None);
    }

    #[test]
    fn what_never_comes_is_no_number() {
        assert_eq!(Value::Never(Some(1234.0)).text(Unit::Seconds), "never: 1,234 missing");
        assert_eq!(Value::Never(Some(1234.0)).plain(), "never");
        assert_eq!(Value::Number(1.5).plain(), "1.500");
        assert_eq!(Value::Nothing.plain(), "");
    }
}
