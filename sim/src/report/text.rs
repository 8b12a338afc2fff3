//! The report for people: the timeline, the table, the first of each kind of trouble, and the verdict.

use super::series::columns;
use super::timeline::timeline;
use crate::lab::Run;
use crate::oracle::Judged;
use crate::scenario::Unit;
use crate::scenario::figure::show;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use std::io::{self, Write};

/// How it may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With colours.
    pub color: bool,
    /// The width of the terminal in characters.
    pub width: u16,
}

/// Writes the whole report.
pub fn write_text(run: &Run, replay: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    write_timeline(run, out)?;
    write_table(run, style, out)?;
    write_series(run, style, out)?;
    write_firsts(run, style, out)?;
    for error in &run.ledger.operator_errors {
        writeln!(out, "an operator's command failed: {error}")?;
    }
    write_verdict(run, replay, style, out)
}

fn write_timeline(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nTimeline (* measured)")?;
    for moment in timeline(run) {
        let mark = if moment.measured { '*' } else { ' ' };
        let at = run.scenario.clock(moment.at).to_string();
        writeln!(out, "  {at:<8} {mark} {}", moment.text)?;
    }
    Ok(())
}

fn write_table(run: &Run, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(style.width);
    table.set_header(["expectation", "the source says", "predicted", "measured", "verdict"]);
    for judged in &run.judged {
        table.add_row(row(judged, style));
    }
    writeln!(out, "\nWhat the source says, what physics predicts, what was measured\n{table}")
}

/// One table for each series: what the source says, then the figures.
fn write_series(run: &Run, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for series in columns(run) {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(style.width);
        let source = (!series.claimed.is_empty()).then(|| "the source says".to_owned());
        let names = series.columns.iter().map(|c| c.name.to_owned());
        table.set_header(["time".to_owned()].into_iter().chain(source).chain(names));
        for (nth, at) in series.at.iter().enumerate() {
            let claimed = series.claimed.get(nth).map(|n| show(*n, Unit::Count));
            let values = series.columns.iter().map(|column| match column.values.get(nth) {
                Some(Some(value)) => show(*value, column.figure.figure().unit),
                _ => "-".to_owned(),
            });
            let at = run.scenario.clock(*at).to_string();
            table.add_row([at].into_iter().chain(claimed).chain(values));
        }
        writeln!(out, "\n{}\n{table}", series.title)?;
    }
    Ok(())
}

fn row(judged: &Judged, style: Style) -> Vec<Cell> {
    let (word, color) =
        if judged.holds { ("holds", Color::Green) } else { ("DOES NOT HOLD", Color::Red) };
    let paint = |cell: Cell, color| if style.color { cell.fg(color) } else { cell };
    let claimed = match (&judged.claimed, judged.source_holds) {
        (None, _) => Cell::new("-"),
        (Some(text), None) => Cell::new(text),
        (Some(text), Some(true)) => Cell::new(format!("{text}\n(so it is)")),
        (Some(text), Some(false)) => {
            paint(Cell::new(format!("{text}\n(the source is wrong)")), Color::Yellow)
        }
    };
    let predicted = match &judged.arithmetic {
        Some(sum) => format!("{}\n= {sum}", judged.predicted_text()),
        None => "-".to_owned(),
    };
    let name = format!("{}\n{}, {}", judged.id, judged.that, judged.when);
    let verdict = Cell::new(word);
    let verdict = if style.color { verdict.add_attribute(Attribute::Bold) } else { verdict };
    vec![
        Cell::new(name),
        claimed,
        Cell::new(predicted),
        Cell::new(judged.measured_text()),
        paint(verdict, color),
    ]
}

fn write_firsts(run: &Run, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if run.firsts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nThe first of each kind")?;
    for first in &run.firsts {
        let at = run.scenario.clock(first.at);
        let (bold, plain) = if style.color { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        writeln!(out, "  {bold}{}{plain} ({} in all), first at {at}", first.kind, first.count)?;
        let mut facts = Vec::new();
        for (name, value) in
            [("key", &first.key), ("level", &first.level), ("coordinator", &first.coordinator)]
        {
            if !value.is_empty() {
                facts.push(format!("{name} {value}"));
            }
        }
        if !first.replicas.is_empty() {
            facts.push(format!("answered by {}", first.replicas.join(", ")));
        }
        writeln!(out, "    {}", facts.join(", "))?;
        writeln!(out, "    {}", first.why)?;
    }
    Ok(())
}

fn write_verdict(run: &Run, replay: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let failed: Vec<&Judged> = run.judged.iter().filter(|j| !j.holds).collect();
    let claims = run.judged.iter().filter(|j| j.source_holds.is_some()).count();
    let wrong = run.judged.iter().filter(|j| j.source_holds == Some(false)).count();
    writeln!(out)?;
    if claims > 0 {
        writeln!(out, "{wrong} of the source's {claims} claims do not hold in this run.")?;
    }
    writeln!(out, "trace {:016x} over {} events", run.trace_hash, run.trace_events)?;
    let paint = |code: &str, text: &str| {
        if style.color { format!("\u{1b}[1;{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    let all = run.judged.len();
    if failed.is_empty() {
        writeln!(out, "{}", paint("32", &format!("verdict: all {all} expectations hold")))?;
        return write_breaks(run, out);
    }
    for judged in &failed {
        let text = format!(
            "{} does not hold: {}, {}, measured {}; it should, because {}",
            judged.id,
            judged.that,
            judged.when,
            judged.measured_text().replace('\n', " "),
            judged.because
        );
        writeln!(out, "{}", paint("31", &text))?;
    }
    let text = format!("verdict: {} of {all} expectations do not hold", failed.len());
    writeln!(out, "{}", paint("31", &text))?;
    write_breaks(run, out)?;
    writeln!(out, "replay: {replay}")
}

/// Whether the variants broke what they say they break.
fn write_breaks(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let (meant, broken) = (run.scenario.meant_to_break(), run.broken());
    if run.scenario.chosen.is_empty() {
        return Ok(());
    }
    let list = |ids: Vec<&&str>| ids.into_iter().copied().collect::<Vec<_>>().join(", ");
    let (more, fewer) = (broken.difference(&meant).collect(), meant.difference(&broken).collect());
    match (list(more), list(fewer)) {
        (more, fewer) if more.is_empty() && fewer.is_empty() => {
            writeln!(out, "that is what the variant is said to break, no more and no less")
        }
        (more, fewer) => {
            if !more.is_empty() {
                writeln!(out, "the variant is not said to break {more}")?;
            }
            if !fewer.is_empty() {
                writeln!(out, "the variant is said to break {fewer}, and did not")?;
            }
            Ok(())
        }
    }
}
