//! The report for programs. Field names are stable; counts are of simulated things.

use super::series::{Measured, columns};
use super::timeline::timeline;
use crate::lab::Run;
use crate::ledger::{HintOutcomes, Ledger, NodeIndex, ReadVerdict, Sample};
use crate::oracle::{First, Judged};
use crate::scenario::FigureRef;
use helenus_core::TableId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Json {
    scenario: String,
    /// Those applied, in order.
    variants: Vec<String>,
    /// `holds` or `fails`.
    verdict: &'static str,
    seed: u64,
    scale: u64,
    value_scale: u64,
    trace_hash: String,
    trace_events: u64,
    expectations: Vec<JsonExpectation>,
    firsts: Vec<JsonFirst>,
    timeline: Vec<JsonMoment>,
    series: Vec<JsonPoint>,
    /// What the scenario itself asks to see over time.
    tables: Vec<JsonTable>,
    hints: JsonHints,
    operator_errors: Vec<String>,
    replay: String,
}

#[derive(Debug, Clone, Serialize)]
struct JsonExpectation {
    id: String,
    that: String,
    when: String,
    holds: bool,
    measured: Option<f64>,
    predicted: Option<f64>,
    arithmetic: Option<String>,
    claimed: Option<String>,
    source_holds: Option<bool>,
    because: String,
}

impl From<&Judged> for JsonExpectation {
    fn from(judged: &Judged) -> Self {
        JsonExpectation {
            id: judged.id.clone(),
            that: judged.that.clone(),
            when: judged.when.clone(),
            holds: judged.holds,
            measured: judged.measured,
            predicted: judged.predicted,
            arithmetic: judged.arithmetic.clone(),
            claimed: judged.claimed.clone(),
            source_holds: judged.source_holds,
            because: judged.because.clone(),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
struct JsonFirst {
    kind: String,
    count: usize,
    at: String,
    key: String,
    level: String,
    coordinator: String,
    replicas: Vec<String>,
    why: String,
}

#[derive(Debug, Clone, Serialize)]
struct JsonMoment {
    at: String,
    measured: bool,
    text: String,
}

/// Figures, one a column, at times, one a row.
#[derive(Debug, Clone, Serialize)]
struct JsonTable {
    id: String,
    title: String,
    figures: Vec<String>,
    names: Vec<String>,
    rows: Vec<JsonRow>,
}

#[derive(Debug, Clone, Serialize)]
struct JsonRow {
    t: String,
    /// What the source says of the first figure.
    claimed: Option<f64>,
    values: Vec<Option<f64>>,
}

/// Ten simulated seconds.
#[derive(Debug, Clone, Serialize)]
struct JsonPoint {
    t: String,
    orders: usize,
    acked: f64,
    reads: usize,
    stale: usize,
    missing: usize,
    refused: usize,
    hint_bytes: u64,
    hints: JsonHints,
    sstables: usize,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct JsonHints {
    created: u64,
    delivered: u64,
    redirected: u64,
    expired: u64,
    refused: u64,
    evicted: u64,
    dead_lettered: u64,
    lost: u64,
    pending: u64,
}

impl From<HintOutcomes> for JsonHints {
    fn from(o: HintOutcomes) -> Self {
        let HintOutcomes {
            created,
            delivered,
            redirected,
            expired,
            refused,
            evicted,
            dead_lettered,
            lost,
            pending,
        } = o;
        JsonHints {
            created,
            delivered,
            redirected,
            expired,
            refused,
            evicted,
            dead_lettered,
            lost,
            pending,
        }
    }
}

impl Json {
    /// Of a run. `replay` is the command that repeats it.
    pub fn new(run: &Run, replay: String) -> Json {
        let clock = |at: Duration| run.scenario.clock(at).to_string();
        let first = |first: &First| JsonFirst {
            kind: first.kind.clone(),
            count: first.count,
            at: clock(first.at),
            key: first.key.clone(),
            level: first.level.clone(),
            coordinator: first.coordinator.clone(),
            replicas: first.replicas.clone(),
            why: first.why.clone(),
        };
        let moments = timeline(run).into_iter();
        let last = run.ledger.samples.last();
        Json {
            scenario: run.scenario.id.clone(),
            variants: run.scenario.chosen.iter().map(|v| v.id.clone()).collect(),
            verdict: if run.holds() { "holds" } else { "fails" },
            seed: run.seed,
            scale: run.scenario.scale,
            value_scale: run.scenario.value_scale,
            trace_hash: format!("{:016x}", run.trace_hash),
            trace_events: run.trace_events,
            expectations: run.judged.iter().map(JsonExpectation::from).collect(),
            firsts: run.firsts.iter().map(first).collect(),
            timeline: moments
                .map(|m| JsonMoment { at: clock(m.at), measured: m.measured, text: m.text })
                .collect(),
            series: series(run),
            tables: columns(run).iter().map(|m| table(run, m)).collect(),
            hints: last.map(total).unwrap_or_default().into(),
            operator_errors: run.ledger.operator_errors.clone(),
            replay,
        }
    }
}

fn table(run: &Run, measured: &Measured<'_>) -> JsonTable {
    let rows = measured.at.iter().enumerate().map(|(nth, at)| JsonRow {
        t: run.scenario.clock(*at).to_string(),
        claimed: measured.claimed.get(nth).copied(),
        values: measured.columns.iter().map(|c| c.values.get(nth).copied().flatten()).collect(),
    });
    JsonTable {
        id: measured.id.to_owned(),
        title: measured.title.to_owned(),
        figures: measured.columns.iter().map(|c| c.figure.to_string()).collect(),
        names: measured.columns.iter().map(|c| c.name.to_owned()).collect(),
        rows: rows.collect(),
    }
}

fn total(sample: &Sample) -> HintOutcomes {
    let mut total = HintOutcomes::default();
    for node in sample.nodes.iter().flatten() {
        total.add(&node.outcomes);
    }
    total
}

/// The most SSTables that one table has on one node, followed through the run.
struct SstableCount<'l> {
    changes: std::slice::Iter<'l, (Duration, NodeIndex, TableId, usize)>,
    next: Option<&'l (Duration, NodeIndex, TableId, usize)>,
    now: BTreeMap<(NodeIndex, TableId), usize>,
}

impl<'l> SstableCount<'l> {
    fn new(ledger: &'l Ledger) -> SstableCount<'l> {
        let mut changes = ledger.sstables.iter();
        let next = changes.next();
        SstableCount { changes, next, now: BTreeMap::new() }
    }

    /// The count at a moment; moments are asked for in order.
    fn at(&mut self, at: Duration) -> usize {
        while let Some((_, node, table, count)) = self.next.filter(|change| change.0 <= at) {
            self.now.insert((*node, *table), *count);
            self.next = self.changes.next();
        }
        self.now.values().copied().max().unwrap_or(0)
    }
}

fn series(run: &Run) -> Vec<JsonPoint> {
    let lens = run.lens();
    let figure = |text: &str| -> Option<FigureRef> {
        FigureRef::parse(text, &run.scenario.cluster.host_names()).ok()
    };
    let acked = figure("orders.acked");
    let mut sstables = SstableCount::new(&run.ledger);
    let mut from = Duration::ZERO;
    let mut points = Vec::new();
    for sample in &run.ledger.samples {
        let span = (from, sample.at);
        let at = span.0..span.1;
        let reads: Vec<&ReadVerdict> =
            run.ledger.reads.iter().filter(|r| at.contains(&r.ended)).map(|r| &r.verdict).collect();
        let of = |wanted: fn(&ReadVerdict) -> bool| reads.iter().filter(|v| wanted(v)).count();
        points.push(JsonPoint {
            t: run.scenario.clock(sample.at).to_string(),
            orders: run.ledger.orders.iter().filter(|o| at.contains(&o.placed)).count(),
            acked: acked.as_ref().and_then(|f| lens.value(f, span)).unwrap_or_default(),
            reads: reads.len(),
            stale: of(|v| *v == ReadVerdict::Stale),
            missing: of(|v| *v == ReadVerdict::Missing),
            refused: of(|v| matches!(v, ReadVerdict::Refused(..))),
            hint_bytes: sample.nodes.iter().flatten().map(|n| n.hint_bytes).sum(),
            hints: total(sample).into(),
            sstables: sstables.at(sample.at),
        });
        from = sample.at;
    }
    points
}
