//! Medians over the rounds, the table, the goals, and the same as JSON.
//!
//! A ratio is the median of the rounds' ratios, not the ratio of the medians: what ran one after the other is compared.

use crate::batch::Batch;
use crate::goals::{Goal, goals};
use crate::meter::Figures;
use crate::workload::Round;
use crate::{print, subject};
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that was measured, by engine, in the order of the rounds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) rounds: BTreeMap<String, Vec<Round>>,
    pub(crate) batch: Vec<Batch>,
}

/// The middle and the ends of one figure over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Spread> {
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let (lower, upper) = ((figures.len() - 1) / 2, figures.len() / 2);
        let median = (figures.get(lower)? + figures.get(upper)?) / 2.0;
        Some(Spread { median, min, max })
    }

    /// How far the rounds lie apart, in percent of the median.
    fn percent(&self) -> f64 {
        (self.max - self.min) * 100.0 / self.median
    }
}

/// One row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    phase: &'static str,
    figure: fn(&Figures) -> f64,
}

type BatchFigure = fn(&Batch) -> f64;

const MB: f64 = 1e6;
/// Bytes of a key and its value.
const ENTRY_BYTES: f64 = 116.0;

pub(crate) const ROWS: &[Row] = &[
    Row { name: "put/s, until settled", phase: "load", figure: Figures::rate },
    Row { name: "put/s, as the client sees", phase: "load", figure: Figures::client_rate },
    Row { name: "put CPU us", phase: "load", figure: Figures::cpu_us },
    Row { name: "put p50 us", phase: "load", figure: |f| f.latency.p50 },
    Row { name: "put p99 us", phase: "load", figure: |f| f.latency.p99 },
    Row { name: "put p99.9 us", phase: "load", figure: |f| f.latency.p99_9 },
    Row { name: "put max us", phase: "load", figure: |f| f.latency.max },
    Row { name: "load write amplification", phase: "load", figure: disk_amplification },
    Row { name: "  the same, by write()", phase: "load", figure: call_amplification },
    Row { name: "load peak MB", phase: "load", figure: |f| f.peak_rss_bytes as f64 / MB },
    Row { name: "disk MB after load", phase: "load", figure: |f| f.disk_bytes as f64 / MB },
    Row { name: "get/s", phase: "get", figure: Figures::rate },
    Row { name: "get CPU us", phase: "get", figure: Figures::cpu_us },
    Row { name: "get p50 us", phase: "get", figure: |f| f.latency.p50 },
    Row { name: "get p99 us", phase: "get", figure: |f| f.latency.p99 },
    Row { name: "get p99.9 us", phase: "get", figure: |f| f.latency.p99_9 },
    Row { name: "get max us", phase: "get", figure: |f| f.latency.max },
    Row { name: "miss/s", phase: "miss", figure: Figures::rate },
    Row { name: "miss CPU us", phase: "miss", figure: Figures::cpu_us },
    Row { name: "miss p50 us", phase: "miss", figure: |f| f.latency.p50 },
    Row { name: "miss p99 us", phase: "miss", figure: |f| f.latency.p99 },
    Row { name: "miss p99.9 us", phase: "miss", figure: |f| f.latency.p99_9 },
    Row { name: "scan entries/s", phase: "scan", figure: Figures::rate },
    Row { name: "scan CPU us", phase: "scan", figure: Figures::cpu_us },
    Row { name: "overwrite/s, until settled", phase: "overwrite", figure: Figures::rate },
    Row { name: "overwrite/s, client", phase: "overwrite", figure: Figures::client_rate },
    Row { name: "overwrite CPU us", phase: "overwrite", figure: Figures::cpu_us },
    Row { name: "overwrite p99 us", phase: "overwrite", figure: |f| f.latency.p99 },
    Row { name: "overwrite p99.9 us", phase: "overwrite", figure: |f| f.latency.p99_9 },
    Row { name: "overwrite max us", phase: "overwrite", figure: |f| f.latency.max },
    Row { name: "overwrite write ampl.", phase: "overwrite", figure: disk_amplification },
    Row { name: "  the same, by write()", phase: "overwrite", figure: call_amplification },
    Row {
        name: "disk MB after overwrites",
        phase: "overwrite",
        figure: |f| f.disk_bytes as f64 / MB,
    },
    Row { name: "get/s after overwrites", phase: "get again", figure: Figures::rate },
    Row { name: "get CPU us, then", phase: "get again", figure: Figures::cpu_us },
    Row { name: "get p99.9 us, then", phase: "get again", figure: |f| f.latency.p99_9 },
    Row { name: PEAK, phase: "", figure: |f| f.peak_rss_bytes as f64 / MB },
    Row { name: "close ms", phase: "close", figure: milliseconds },
    Row { name: "reopen ms", phase: "reopen", figure: milliseconds },
    Row { name: "log replay records/s", phase: "replay", figure: Figures::rate },
    Row { name: "log replay CPU us", phase: "replay", figure: Figures::cpu_us },
];
/// The highest of all phases.
const PEAK: &str = "peak MB, all phases";

fn disk_amplification(figures: &Figures) -> f64 {
    figures.write_bytes as f64 / (figures.ops as f64 * ENTRY_BYTES)
}

fn call_amplification(figures: &Figures) -> f64 {
    figures.wchar as f64 / (figures.ops as f64 * ENTRY_BYTES)
}

fn milliseconds(figures: &Figures) -> f64 {
    figures.wall_s * 1e3
}

impl Row {
    /// The row's figure in one round, if the round has it.
    fn of(&self, round: &Round) -> Option<f64> {
        let mut phases = round.phases.iter();
        if self.phase.is_empty() {
            return phases.map(self.figure).reduce(f64::max);
        }
        phases.find(|figures| figures.phase == self.phase).map(self.figure)
    }
}

impl Results {
    /// A row's figures of an engine, one a round.
    fn figures(&self, engine: &str, row: &Row) -> Vec<f64> {
        self.rounds.get(engine).into_iter().flatten().filter_map(|round| row.of(round)).collect()
    }

    pub(crate) fn spread(&self, engine: &str, row: &str) -> Option<Spread> {
        let row = ROWS.iter().find(|candidate| candidate.name == row)?;
        Spread::of(self.figures(engine, row))
    }

    /// The median over the rounds of `engine / other`.
    pub(crate) fn ratio(&self, engine: &str, other: &str, row: &str) -> Option<f64> {
        let row = ROWS.iter().find(|candidate| candidate.name == row)?;
        let (ours, theirs) = (self.figures(engine, row), self.figures(other, row));
        let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        Spread::of(ratios).map(|spread| spread.median)
    }

    fn engines(&self) -> impl Iterator<Item = &'static str> {
        subject::ENGINES.into_iter().filter(|engine| self.rounds.contains_key(*engine))
    }

    pub(crate) fn print(&self) {
        print(format!(
            "\n{:28}{}",
            "",
            self.engines().map(|e| format!("{e:>28}")).collect::<String>()
        ));
        for row in ROWS {
            let cells = self.engines().map(|engine| {
                let spread = Spread::of(self.figures(engine, row));
                spread.map_or("-".to_owned(), |s| {
                    format!("{} [{} - {}]", human(s.median), human(s.min), human(s.max))
                })
            });
            let cells: String = cells.map(|cell| format!("{cell:>28}")).collect();
            print(format!("{:28}{cells}", row.name));
        }
        self.print_notes();
        self.print_batch();
        print(format!("\n{:58}{:>10}{:>10}{:>10}", "goal", "measured", "", "by CPU"));
        for goal in goals(self) {
            let by_cpu = goal.by_cpu.map(human).unwrap_or_default();
            print(format!(
                "{:58}{:>10}{:>10}{by_cpu:>10}",
                goal.text,
                goal.shown(),
                goal.verdict()
            ));
        }
        print("(by CPU: their CPU an operation over ours, which other load on the machine disturbs less)".to_owned());
    }

    fn print_notes(&self) {
        print("\nmedian [lowest - highest] over the rounds. The machine's noise, (highest - lowest) / median:".to_owned());
        for row in ["put/s, until settled", "put CPU us", "get/s", "get CPU us", "scan entries/s"] {
            let noise = self.engines().filter_map(|engine| {
                Some(format!("{engine} {:.0} %", self.spread(engine, row)?.percent()))
            });
            print(format!("  {row:28}{}", noise.collect::<Vec<_>>().join(", ")));
        }
        let last = self.rounds.values().filter_map(|rounds| rounds.first());
        let clock: Vec<f64> = last.clone().map(|round| round.clock_ns).collect();
        if let Some(clock) = Spread::of(clock) {
            print(format!(
                "latencies include one reading of the clock ({:.0} ns) and the making of a key and a value; CPU figures do \
                 not",
                clock.median
            ));
        }
        for round in last {
            print(format!(
                "{}: {}\n    {}",
                round.engine,
                round.settings,
                round.remarks.join("\n    ")
            ));
        }
    }

    fn print_batch(&self) {
        let spread = |figure: BatchFigure| Spread::of(self.batch.iter().map(figure).collect());
        let Some(first) = self.batch.first() else { return };
        print(format!("\ncommitlog_sync = \"batch\", {} writers", first.writers));
        let rows: [(&str, BatchFigure); 9] = [
            ("writes/s", |b| b.writes_per_s),
            ("records per group", |b| b.records_per_group),
            ("bytes per group", |b| b.bytes_per_group),
            ("engine's syncs/s", |b| b.syncs_per_s),
            ("raw append + fdatasync/s", |b| b.raw_growing_per_s),
            ("raw overwrite + fdatasync/s", |b| b.raw_preallocated_per_s),
            ("CPU us/write", |b| b.cpu_us),
            ("p99 us", |b| b.latency.p99),
            ("of the raw rate", Batch::ratio),
        ];
        for (name, figure) in rows {
            if let Some(s) = spread(figure) {
                let cell = format!("{} [{} - {}]", human(s.median), human(s.min), human(s.max));
                print(format!("{name:28}{cell:>28}"));
            }
        }
        let how = if first.grows {
            "grow its files: the raw append counts"
        } else {
            "stay within preallocated files: the raw overwrite counts"
        };
        print(format!("the engine's log writes {how}"));
    }

    /// All of it, with medians and goals worked out.
    pub(crate) fn json(&self) -> serde_json::Value {
        let medians: BTreeMap<_, BTreeMap<_, _>> = self
            .engines()
            .map(|engine| {
                let rows = ROWS.iter().map(|row| {
                    let name = format!("{}: {}", row.phase, row.name.trim());
                    (name, Spread::of(self.figures(engine, row)))
                });
                (engine, rows.collect())
            })
            .collect();
        let goals: Vec<Goal> = goals(self);
        serde_json::json!({
            "machine": self.machine,
            "medians": medians,
            "goals": goals,
            "rounds": self.rounds,
            "batch": self.batch,
        })
    }
}

/// Three or four digits and a unit.
pub(crate) fn human(figure: f64) -> String {
    match figure.abs() {
        f if f < 10.0 => format!("{figure:.2}"),
        f if f < 1_000.0 => format!("{figure:.1}"),
        f if f < 1e6 => format!("{:.1}k", figure / 1e3),
        _ => format!("{:.2}M", figure / 1e6),
    }
}
