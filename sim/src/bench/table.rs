//! What is told of a sweep: Markdown that a terminal shows as well, CSV, and JSON.

use super::claims::{Claim, claims};
use super::figures::{
    BY_FULL, BY_LEDGER, BY_REPLAY, Figure, HELD_BACK, KEPT, LOST, TIME_TO_FULL, Value,
};
use super::sweep::{size, span};
use super::{Bench, Told};
use crate::scenario::Unit;
use crate::scenario::units::{group, number};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;
use std::io::{self, Write};

/// A simulated hint that is more than this share of a store makes figures come in coarse steps, and that is said.
const COARSE: f64 = 0.02;

/// `+1.2 %`, or nothing where there is nothing to compare.
fn error_text(error: Option<f64>) -> String {
    error.map_or_else(|| "-".to_owned(), |error| format!("{:+.1} %", error * 100.0))
}

/// Columns marked with `>` are numbers.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.trim_start_matches('>')));
    for (nth, _) in header.iter().enumerate().filter(|(_, name)| name.starts_with('>')) {
        if let Some(column) = table.column_mut(nth) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Writes everything for people.
pub fn write_text(bench: &Bench, replay: &str, out: &mut dyn Write) -> io::Result<()> {
    let claims = claims(bench);
    if !claims.is_empty() {
        writeln!(out, "## What the source says of its hints\n\n{}\n", claims_table(&claims))?;
        for claim in &claims {
            writeln!(out, "- *{}*: {}.", claim.says, claim.because)?;
        }
        writeln!(out)?;
    }
    writeln!(out, "## All points\n\n{}\n", summary(bench))?;
    for (nth, told) in (1..).zip(&bench.points) {
        write_point(bench, nth, told, out)?;
    }
    let off = bench.points.iter().flat_map(|told| &told.figures).filter(|f| !f.agrees()).count();
    let verdict = match off {
        0 => "Every figure is within its bound of the closed form.".to_owned(),
        off => format!("{off} figures are further from the closed form than their bound."),
    };
    writeln!(out, "{verdict}\n\nMade by: `{replay}`")
}

fn claims_table(claims: &[Claim]) -> Table {
    let mut rows = table(&[
        "the source says",
        ">claimed",
        ">closed form",
        ">measured",
        ">claim is off by",
        "verdict",
    ]);
    for claim in claims {
        rows.add_row([
            claim.says.to_owned(),
            Value::Number(claim.claimed).text(claim.unit),
            claim.closed_form.text(claim.unit),
            claim.measured.text(claim.unit),
            error_text(claim.error()),
            if claim.holds() { "holds" } else { "does not hold" }.to_owned(),
        ]);
    }
    rows
}

/// One line a point.
fn summary(bench: &Bench) -> Table {
    let columns = [
        (TIME_TO_FULL, ">full after"),
        (KEPT, ">kept"),
        (LOST, ">lost"),
        (HELD_BACK, ">held back"),
        (BY_REPLAY, ">equal by replay"),
        (BY_LEDGER, ">+ ledger repair"),
        (BY_FULL, ">by full repair"),
    ];
    let point = ["#", "policy", ">writes", ">value", ">cap", ">away", ">throttle"];
    let header: Vec<&str> = point.into_iter().chain(columns.map(|(_, title)| title)).collect();
    let mut rows = table(&header);
    for (nth, told) in (1..).zip(&bench.points) {
        let point = &told.story.point;
        let mut row = vec![
            format!("{nth}"),
            point.policy.as_str().to_owned(),
            point.rate.to_string(),
            size(point.value),
            size(point.cap),
            span(point.outage),
            format!("{}/s", size(point.throttle)),
        ];
        row.extend(columns.map(|(name, _)| {
            told.figure(name).map_or_else(|| "-".to_owned(), |f| f.measured.text(f.unit))
        }));
        rows.add_row(row);
    }
    rows
}

fn write_point(bench: &Bench, nth: usize, told: &Told, out: &mut dyn Write) -> io::Result<()> {
    let story = &told.story;
    writeln!(out, "## {nth}. {}\n", story.point)?;
    let fit = story.terms.fit();
    let coarse = if fit * COARSE < 1.0 {
        format!("; one is {:.1} % of it, so figures come in steps", 100.0 / fit)
    } else {
        String::new()
    };
    if bench.real {
        writeln!(
            out,
            "Real processes on this machine, in real time; a store holds {fit:.0} hints.\n"
        )?;
    } else {
        writeln!(
            out,
            "One simulated order stands for {}, sizes are 1/{}; a store holds {fit:.0} simulated hints{coarse}.\n",
            story.scale, story.value_scale
        )?;
    }
    let mut rows = table(&["figure", ">closed form", ">measured", ">error", "", "remark"]);
    for figure in &told.figures {
        rows.add_row([
            figure.name.to_owned(),
            figure.predicted.text(figure.unit),
            figure.measured.text(figure.unit),
            error_text(figure.error()),
            if figure.agrees() { "" } else { "OFF" }.to_owned(),
            figure.remark.clone(),
        ]);
    }
    writeln!(out, "{rows}\n")?;
    for fault in &told.measured.faults {
        writeln!(out, "- {fault}")?;
    }
    Ok(())
}

/// A CSV file's columns.
const CSV_HEADER: &str = "point,policy,cap_bytes,outage_s,writes_per_s,value_bytes,throttle_bytes_per_s,scale,value_scale,\
                          figure,unit,closed_form,measured,relative_error,agrees";

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "count",
        Unit::Bytes => "bytes",
        Unit::Seconds => "seconds",
        Unit::Percent => "percent",
        Unit::Ratio => "ratio",
    }
}

/// Writes one line a figure. The same seed gives the same bytes.
pub fn write_csv(bench: &Bench, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{CSV_HEADER}")?;
    for (nth, told) in (1..).zip(&bench.points) {
        let (story, point) = (&told.story, &told.story.point);
        for figure in &told.figures {
            let error = figure.error().map_or_else(String::new, |e| format!("{e:.4}"));
            writeln!(
                out,
                "{nth},{},{},{},{:.4},{},{},{},{},\"{}\",{},{},{},{error},{}",
                point.policy.as_str(),
                point.cap,
                point.outage.as_secs(),
                point.rate.per_second,
                point.value,
                point.throttle,
                story.scale,
                story.value_scale,
                figure.name,
                unit_name(figure.unit),
                figure.predicted.plain(),
                figure.measured.plain(),
                figure.agrees()
            )?;
        }
    }
    Ok(())
}

/// The report for programs.
#[derive(Debug, Serialize)]
pub struct Json {
    preset: Option<&'static str>,
    real: bool,
    seed: u64,
    agrees: bool,
    replay: String,
    claims: Vec<JsonClaim>,
    points: Vec<JsonPoint>,
}

#[derive(Debug, Serialize)]
struct JsonClaim {
    says: &'static str,
    unit: &'static str,
    claimed: f64,
    closed_form: Option<f64>,
    measured: Option<f64>,
    off_by: Option<f64>,
    holds: bool,
    because: String,
}

#[derive(Debug, Serialize)]
struct JsonPoint {
    policy: &'static str,
    cap_bytes: u64,
    outage_s: u64,
    writes_per_s: f64,
    value_bytes: u64,
    throttle_bytes_per_s: u64,
    scale: u64,
    value_scale: u64,
    figures: Vec<JsonFigure>,
    /// (seconds since the cut, bytes that stores keep for the target).
    fill: Vec<(f64, f64)>,
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct JsonFigure {
    name: &'static str,
    unit: &'static str,
    closed_form: Option<f64>,
    closed_form_is_never: bool,
    measured: Option<f64>,
    measured_is_never: bool,
    relative_error: Option<f64>,
    agrees: bool,
    remark: String,
}

fn plain(value: Value) -> Option<f64> {
    match value {
        Value::Number(value) => Some(value),
        Value::Nothing | Value::Never(_) => None,
    }
}

impl JsonFigure {
    fn of(figure: &Figure) -> JsonFigure {
        JsonFigure {
            name: figure.name,
            unit: unit_name(figure.unit),
            closed_form: plain(figure.predicted),
            closed_form_is_never: matches!(figure.predicted, Value::Never(_)),
            measured: plain(figure.measured),
            measured_is_never: matches!(figure.measured, Value::Never(_)),
            relative_error: figure.error(),
            agrees: figure.agrees(),
            remark: figure.remark.clone(),
        }
    }
}

impl Json {
    /// Of a sweep that `replay` repeats.
    pub fn new(bench: &Bench, replay: String) -> Json {
        let claims = claims(bench).into_iter().map(|claim| JsonClaim {
            says: claim.says,
            unit: unit_name(claim.unit),
            claimed: claim.claimed,
            closed_form: plain(claim.closed_form),
            measured: plain(claim.measured),
            off_by: claim.error(),
            holds: claim.holds(),
            because: claim.because,
        });
        let points = bench.points.iter().map(|told| {
            let (story, point) = (&told.story, &told.story.point);
            let scale = story.bytes_scale();
            JsonPoint {
                policy: point.policy.as_str(),
                cap_bytes: point.cap,
                outage_s: point.outage.as_secs(),
                writes_per_s: point.rate.per_second,
                value_bytes: point.value,
                throttle_bytes_per_s: point.throttle,
                scale: story.scale,
                value_scale: story.value_scale,
                figures: told.figures.iter().map(JsonFigure::of).collect(),
                fill: told.measured.fill.iter().map(|(at, b)| (*at, b * scale)).collect(),
                faults: told.measured.faults.clone(),
            }
        });
        Json {
            preset: bench.preset.map(|preset| preset.name()),
            real: bench.real,
            seed: bench.seed,
            agrees: bench.agrees(),
            replay,
            claims: claims.collect(),
            points: points.collect(),
        }
    }
}

/// How long it took, for people.
pub fn pace(bench: &Bench, seconds: f64) -> String {
    let points = number(bench.points.len() as u64);
    format!("{} points took {seconds:.1} s", group(points))
}
