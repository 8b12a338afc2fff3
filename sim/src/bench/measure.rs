//! What two runs of a point have shown, in simulated numbers: questions asked of their ledgers.

use super::story::{KEEPERS, Story, TARGET, TARGET_RACK};
use crate::lab::Run;
use crate::ledger::{Comparison, HintEvent, HintFate, Projection, ReadVerdict, Repair};
use crate::oracle::Span;
use crate::scenario::FigureRef;
use crate::scenario::units::number;
use helenus_core::Level;
use helenus_core::hint::Class;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that is asked of a point. `None` of a time: it did not come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// From the cut until every store was full.
    pub full_after: Option<f64>,
    /// Hints that came to be owed.
    pub owed: f64,
    /// Of these, delivered.
    pub kept: f64,
    /// Not delivered, by reason.
    pub lost_by: BTreeMap<&'static str, f64>,
    /// Orders of the outage that the store took only when the target was back.
    pub held_back: f64,
    /// What a hint took of the bound, on average.
    pub record: Option<f64>,
    /// From the heal until the last hint was delivered; `None`: none was.
    pub replay: Option<f64>,
    /// Orders that the target lacked when replay had ended, and after the repair from the ledgers.
    pub missing: [Option<f64>; 2],
    /// The same after a full repair.
    pub missing_after_full: Option<f64>,
    /// What the repairs from the ledgers took, one after the other; `None`: one of them failed. What comparing took in
    /// between, which is the lab's own business, is left out.
    pub ledger_repair: Option<f64>,
    /// From the heal until the full repair had ended.
    pub full_repair: Option<f64>,
    /// Bytes that the repair from the ledgers sent.
    pub ledger_bytes: f64,
    /// Stale reads at ONE from the heal until replay had ended, and until the full repair had.
    pub stale: [f64; 2],
    /// The 99th percentile of writes before the cut and during replay, in seconds.
    pub write_p99: [Option<f64>; 2],
    /// The same of reads at ONE, of which there are too few before the cut: before the heal, and during replay.
    pub read_p99: [Option<f64>; 2],
    /// Bytes that stores keep for the target over time, from the cut on.
    pub fill: Vec<(f64, f64)>,
    /// What went wrong, in words.
    pub faults: Vec<String>,
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn count(n: usize) -> f64 {
    n as f64
}

impl Measured {
    /// Of a story told both ways.
    pub fn of(story: &Story, replayed: &Run, repaired: &Run) -> Measured {
        let heal = story.heal();
        let owed = hints(replayed).filter(|h| match h.fate {
            HintFate::Stored(_) => true,
            HintFate::Lost(loss) => loss.class() == Class::Refused,
            HintFate::DeadLettered(_) => true,
            HintFate::Delivered => false,
        });
        let delivered = || hints(replayed).filter(|h| h.fate == HintFate::Delivered);
        let mut lost_by = BTreeMap::new();
        for hint in hints(replayed) {
            if let HintFate::Lost(loss) = hint.fate {
                *lost_by.entry(loss.as_str()).or_default() += 1.0;
            }
        }
        let replay_end = delivered().map(|h| h.at).max();
        let since_heal = |at: Duration| at.saturating_sub(heal).as_secs_f64();
        let full_end = repaired.ledger.repairs.iter().map(|r| r.ended).max();
        let sent = replayed.ledger.repairs.iter().map(|r| r.bytes_sent).sum();
        let during = (heal, replay_end.unwrap_or(heal));
        let p99 =
            |figure, before| percentiles(replayed, figure, [(Duration::ZERO, before), during]);
        let stale = [(replayed, replay_end), (repaired, full_end)];
        Measured {
            full_after: full_after(story, replayed),
            owed: count(owed.count()),
            kept: count(delivered().count()),
            lost_by,
            held_back: held_back(replayed, story),
            record: record(replayed),
            replay: replay_end.map(since_heal),
            missing: [missing(replayed, 0), missing(replayed, 1)],
            missing_after_full: missing(repaired, 0),
            ledger_repair: repair_seconds(replayed),
            full_repair: full_end.map(since_heal).filter(|_| repair_seconds(repaired).is_some()),
            ledger_bytes: number(sent),
            stale: stale.map(|(run, end)| stale_at_one(run, heal, end.unwrap_or(heal))),
            write_p99: p99("writes.latency_p99", story.cut()),
            read_p99: p99("reads.latency_p99", heal),
            fill: fill(story, replayed),
            faults: [faults(replayed), faults(repaired)].concat(),
        }
    }

    /// All that were not delivered.
    pub fn lost(&self) -> f64 {
        // An empty sum of floats would be -0.
        self.lost_by.values().fold(0.0, |sum, lost| sum + lost)
    }
}

/// What became of the hints for the target.
fn hints(run: &Run) -> impl Iterator<Item = &HintEvent> {
    run.ledger.hints.iter().filter(|hint| hint.target == Some(TARGET))
}

/// When the last of the stores had no room for one more like those before it.
fn full_after(story: &Story, run: &Run) -> Option<f64> {
    let mut full = BTreeMap::new();
    let mut used = BTreeMap::<usize, u64>::new();
    for hint in &run.ledger.hints {
        let HintFate::Stored(bytes) = hint.fate else { continue };
        let used = used.entry(hint.node).or_default();
        *used += bytes;
        if number(*used) + 1.5 * number(bytes) > story.terms.cap && hint.at < story.heal() {
            full.entry(hint.node).or_insert(hint.at);
        }
    }
    let all = KEEPERS.map(|node| full.get(&node).copied()).collect::<Option<Vec<Duration>>>()?;
    all.into_iter().max().map(|at| at.saturating_sub(story.cut()).as_secs_f64())
}

fn record(run: &Run) -> Option<f64> {
    let stored = hints(run).filter_map(|hint| match hint.fate {
        HintFate::Stored(bytes) => Some(bytes),
        _ => None,
    });
    let (records, bytes) = stored.fold((0_u64, 0_u64), |(n, sum), b| (n + 1, sum + b));
    (records > 0).then(|| number(bytes) / number(records))
}

fn held_back(run: &Run, story: &Story) -> f64 {
    let (cut, heal) = (story.cut(), story.heal());
    let orders = run.ledger.orders.iter().filter(|o| cut <= o.placed && o.placed < heal);
    let late = orders.filter(|order| match &order.projection {
        Projection::Acked(ack) => ack.at >= heal,
        _ => true,
    });
    count(late.count())
}

/// Repairs one after the other, if all of them ended well.
fn repair_seconds(run: &Run) -> Option<f64> {
    let repairs = &run.ledger.repairs;
    let took = repairs.iter().map(|r| r.ended.saturating_sub(r.began).as_secs_f64());
    repairs.iter().all(|r| r.outcome == "completed").then(|| took.sum())
}

/// The acknowledged orders that the target lacked at the nth comparison.
fn missing(run: &Run, nth: usize) -> Option<f64> {
    let seen: &Comparison = run.ledger.comparisons.get(nth)?;
    let missing = run.places.missing(&run.ledger, seen, Some(TARGET_RACK))?;
    Some(count(missing.len()))
}

fn stale_at_one(run: &Run, from: Duration, to: Duration) -> f64 {
    let reads = run.ledger.reads.iter().filter(|r| r.level == Level::One);
    let stale = reads.filter(|r| r.verdict == ReadVerdict::Stale);
    count(stale.filter(|r| from <= r.ended && r.ended < to).count())
}

fn percentiles(run: &Run, figure: &str, spans: [Span; 2]) -> [Option<f64>; 2] {
    let hosts = run.scenario.cluster.host_names();
    let Ok(figure) = FigureRef::parse(figure, &hosts) else { return [None, None] };
    spans.map(|span| run.lens().value(&figure, span))
}

fn fill(story: &Story, run: &Run) -> Vec<(f64, f64)> {
    let samples = run.ledger.samples.iter().filter(|sample| sample.at >= story.cut());
    let bytes = samples.map(|sample| {
        let owed = sample.nodes.iter().flatten().filter_map(|n| n.by_target.get(&TARGET));
        let bytes: u64 = owed.map(|(_, bytes)| bytes).sum();
        (sample.at.saturating_sub(story.cut()).as_secs_f64(), number(bytes))
    });
    bytes.collect()
}

fn faults(run: &Run) -> Vec<String> {
    let failed = |repair: &Repair| {
        let why = repair.failures.first().map_or("", String::as_str);
        format!("a repair on node {} {}: {why}", repair.node, repair.outcome)
    };
    let repairs = run.ledger.repairs.iter().filter(|r| r.outcome != "completed").map(failed);
    run.ledger.operator_errors.iter().cloned().chain(repairs).collect()
}
