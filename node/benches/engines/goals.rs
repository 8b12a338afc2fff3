//! What the engine is held against: the figures of the peers in the same run, and a few absolute ones.

use crate::report::{Results, Spread, human};
use serde::Serialize;

/// A goal and how it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) text: String,
    /// Nothing, when the run did not measure it.
    pub(crate) measured: Option<f64>,
    /// The same ratio by CPU, where there is one.
    pub(crate) by_cpu: Option<f64>,
    at_least: bool,
    bound: f64,
}

impl Goal {
    fn is_met(&self) -> Option<bool> {
        let measured = self.measured?;
        Some(if self.at_least { measured >= self.bound } else { measured <= self.bound })
    }

    pub(crate) fn shown(&self) -> String {
        self.measured.map_or("-".to_owned(), human)
    }

    pub(crate) fn verdict(&self) -> &'static str {
        match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not run",
        }
    }
}

const OURS: &str = "lsm";

/// Ours over theirs: (row, other, bound, at least).
const RATIOS: &[(&str, &str, f64, bool)] = &[
    ("put/s, until settled", "fjall", 1.5, true),
    ("put/s, until settled", "rocksdb", 2.5, true),
    ("put/s, until settled", "sled", 4.0, true),
    ("get/s", "fjall", 1.3, true),
    ("get/s", "rocksdb", 1.7, true),
    ("scan entries/s", "rocksdb", 1.1, true),
    ("disk MB after load", "rocksdb", 1.1, false),
    ("disk MB after overwrites", "rocksdb", 1.1, false),
];

const ABSOLUTE: &[(&str, f64, bool)] = &[
    ("put CPU us", 3.5, false),
    ("miss CPU us", 0.6, false),
    ("reopen ms", 20.0, false),
    ("log replay records/s", 500_000.0, true),
];

/// No worse than the best of the others.
const NO_WORSE: &[&str] = &[
    "put p99.9 us",
    "get p99.9 us",
    "miss p99.9 us",
    "overwrite p99.9 us",
    "load peak MB",
    "peak MB, all phases",
];

/// The row that says what a rate's operations cost.
fn cpu_row(rate: &str) -> Option<&'static str> {
    match rate {
        "put/s, until settled" => Some("put CPU us"),
        "get/s" => Some("get CPU us"),
        "scan entries/s" => Some("scan CPU us"),
        _ => None,
    }
}

const BATCH: f64 = 0.8;

pub(crate) fn goals(results: &Results) -> Vec<Goal> {
    let sign = |at_least| if at_least { ">=" } else { "<=" };
    let mut goals = Vec::new();
    for &(row, other, bound, at_least) in RATIOS {
        goals.push(Goal {
            text: format!("{row}: {} {bound} x {other}", sign(at_least)),
            measured: results.ratio(OURS, other, row),
            by_cpu: cpu_row(row).and_then(|row| results.ratio(other, OURS, row)),
            at_least,
            bound,
        });
    }
    for &(row, bound, at_least) in ABSOLUTE {
        goals.push(Goal {
            text: format!("{row}: {} {bound}", sign(at_least)),
            measured: results.spread(OURS, row).map(|spread| spread.median),
            by_cpu: None,
            at_least,
            bound,
        });
    }
    for &row in NO_WORSE {
        let others = results.rounds.keys().filter(|engine| *engine != OURS);
        let ratios = others.filter_map(|other| results.ratio(OURS, other, row));
        goals.push(Goal {
            text: format!("{row}: <= 1 x the best of the others"),
            measured: ratios.reduce(f64::max),
            by_cpu: None,
            at_least: false,
            bound: 1.0,
        });
    }
    let batch = results.batch.iter().map(crate::batch::Batch::ratio).collect();
    goals.push(Goal {
        text: format!("batch sync: >= {BATCH} x (records a group x raw syncs/s)"),
        measured: Spread::of(batch).map(|spread| spread.median),
        by_cpu: None,
        at_least: true,
        bound: BATCH,
    });
    goals
}
