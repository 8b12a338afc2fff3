//! The chart: how the stores fill and empty, measured beside predicted, and how long each way takes until replicas are equal.
//!
//! Plain SVG, readable on light and on dark: the colours are named once and changed by `prefers-color-scheme`.

use super::figures::{BY_FULL, BY_LEDGER, BY_REPLAY, Value};
use super::sweep::size;
use super::{Bench, Told};
use crate::scenario::Unit;
use crate::scenario::figure::show;
use std::fmt::Write as _;

const WIDTH: f64 = 980.0;
/// Where the plots begin, and how wide they are.
const LEFT: f64 = 90.0;
const PLOT: f64 = 640.0;
const LINES_TOP: f64 = 64.0;
const LINES_HEIGHT: f64 = 260.0;
/// Between the plots.
const GAP: f64 = 90.0;
const BAR: f64 = 14.0;
/// Four bars' height a point: three ways, and space.
const POINT: f64 = 4.0 * BAR + 18.0;
/// More lines than this cannot be told apart, and more bars make a chart that nobody reads; the rest is in the table.
const LINES_MAX: usize = 6;
const POINTS_MAX: usize = 16;

const STYLE: &str = "
  svg { color-scheme: light dark; }
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 15px; }
  .small { font-size: 12px; fill: #59636e; }
  .back { fill: #ffffff; }
  .axis { stroke: #59636e; fill: none; }
  .grid { stroke: #d1d9e0; fill: none; }
  .line { fill: none; stroke-width: 2; }
  .said { fill: none; stroke-width: 1.5; stroke-dasharray: 5 4; }
  .s0 { stroke: #0969da; } .s1 { stroke: #bc4c00; } .s2 { stroke: #1a7f37; }
  .s3 { stroke: #8250df; } .s4 { stroke: #bf3989; } .s5 { stroke: #57606a; }
  .w0 { fill: #0969da; } .w1 { fill: #1a7f37; } .w2 { fill: #bc4c00; }
  .never { fill: #cf222e; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9198a1; } .back { fill: #0d1117; }
    .axis { stroke: #9198a1; } .grid { stroke: #30363d; }
    .s0 { stroke: #58a6ff; } .s1 { stroke: #f0883e; } .s2 { stroke: #3fb950; }
    .s3 { stroke: #bc8cff; } .s4 { stroke: #ff7bbd; } .s5 { stroke: #b1bac4; }
    .w0 { fill: #58a6ff; } .w1 { fill: #3fb950; } .w2 { fill: #f0883e; }
    .never { fill: #ff7b72; }
  }
";

/// The ways, in the order of their bars.
const WAYS: [(&str, &str); 3] = [
    (BY_REPLAY, "replay alone"),
    (BY_LEDGER, "replay, then ledger repair"),
    (BY_FULL, "full repair"),
];

/// A picture that grows. Text in it is escaped here and nowhere else.
struct Picture(String);

impl Picture {
    fn add(&mut self, shape: std::fmt::Arguments<'_>) {
        // A string takes all that is written to it.
        let _infallible = writeln!(self.0, "{shape}");
    }

    fn text(&mut self, at: (f64, f64), class: &str, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let (x, y) = at;
        self.add(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" class="{class}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.add(format_args!(r#"<polyline class="{class}" points="{points}"/>"#));
    }

    fn bar(&mut self, class: &str, at: (f64, f64), width: f64) {
        let (x, y) = at;
        let height = BAR - 2.0;
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
        ));
    }
}

/// A step between marks of 1, 2 or 5 times a power of ten, so that there are about five.
fn step(most: f64) -> f64 {
    let rough = (most / 5.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|t| t * power >= rough).unwrap_or(10.0);
    times * power
}

/// The marks of an axis from 0 to `most`.
fn marks(most: f64) -> Vec<f64> {
    let step = step(most);
    (0..=10_u32).map(|n| f64::from(n) * step).take_while(|mark| *mark <= most * 1.001).collect()
}

/// The points that are drawn: lines that differ by more than the policy, which a filling store does not show.
fn drawn(bench: &Bench) -> Vec<&Told> {
    let mut drawn: Vec<&Told> = Vec::new();
    for told in &bench.points {
        let alike = |other: &&Told| {
            let point =
                super::sweep::Point { policy: told.story.point.policy, ..other.story.point };
            point == told.story.point
        };
        if drawn.len() < LINES_MAX && !drawn.iter().any(alike) {
            drawn.push(told);
        }
    }
    drawn
}

/// What the closed form says of the bytes that stores keep: they grow until they are full, stay, and shrink in replay.
fn predicted_fill(told: &Told) -> Vec<(f64, f64)> {
    let (terms, said, scale) = (&told.story.terms, &told.story.predicted, told.story.bytes_scale());
    let top = said.kept * terms.record * scale;
    let full = said.full_after.unwrap_or(terms.outage);
    vec![(0.0, 0.0), (full, top), (terms.outage, top), (terms.outage + said.replay, 0.0)]
}

/// The chart.
pub fn chart(bench: &Bench) -> String {
    let points: Vec<&Told> = bench.points.iter().take(POINTS_MAX).collect();
    let lines = drawn(bench);
    let bars_top = LINES_TOP + LINES_HEIGHT + GAP + 30.0;
    let rows = points.iter().fold(0.0, |sum, _| sum + POINT);
    let height = bars_top + rows + 70.0;
    let mut picture = Picture(String::new());
    picture.add(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="Hint stores over time, and how long healing takes">"#
    ));
    picture.add(format_args!("<style>{STYLE}</style>"));
    picture
        .add(format_args!(r#"<rect class="back" x="0" y="0" width="{WIDTH}" height="{height}"/>"#));
    fill(&mut picture, &lines);
    bars(&mut picture, &points, bars_top);
    picture.add(format_args!("</svg>"));
    picture.0
}

fn fill(picture: &mut Picture, lines: &[&Told]) {
    let measured: Vec<Vec<(f64, f64)>> = lines
        .iter()
        .map(|told| {
            let scale = told.story.bytes_scale();
            told.measured.fill.iter().map(|(at, bytes)| (*at, bytes * scale)).collect()
        })
        .collect();
    let said: Vec<Vec<(f64, f64)>> = lines.iter().map(|told| predicted_fill(told)).collect();
    let all = || said.iter().flatten();
    // Until the last store is empty; what the runs went on for is the repairs' business.
    let last = all().fold(60.0, |most: f64, (at, _)| most.max(*at)) * 1.08;
    let most = all().fold(1.0, |most: f64, (_, bytes)| most.max(*bytes)) * 1.05;
    let (bottom, right) = (LINES_TOP + LINES_HEIGHT, LEFT + PLOT);
    let place = |(at, bytes): (f64, f64)| {
        (LEFT + at / last * PLOT, bottom - (bytes / most).min(1.0) * LINES_HEIGHT)
    };
    let title = "Bytes that the hint stores keep for the node that is away";
    picture.text((LEFT, 28.0), "title", "start", title);
    picture.text((LEFT, 46.0), "small", "start", "solid: measured; dashed: closed form");
    for mark in marks(most) {
        let (_, y) = place((0.0, mark));
        picture.path("grid", &[(LEFT, y), (right, y)]);
        picture.text((LEFT - 8.0, y + 4.0), "small", "end", &show(mark, Unit::Bytes));
    }
    for mark in marks(last / 60.0) {
        let (x, _) = place((mark * 60.0, 0.0));
        picture.path("axis", &[(x, bottom), (x, bottom + 5.0)]);
        picture.text((x, bottom + 20.0), "small", "middle", &format!("{mark}"));
    }
    picture.path("axis", &[(LEFT, LINES_TOP), (LEFT, bottom), (right, bottom)]);
    let label = "minutes since the cut";
    picture.text((LEFT + PLOT / 2.0, bottom + 40.0), "small", "middle", label);
    for (nth, (told, (measured, said))) in lines.iter().zip(measured.iter().zip(&said)).enumerate()
    {
        let path: Vec<(f64, f64)> =
            measured.iter().filter(|(at, _)| *at <= last).map(|sample| place(*sample)).collect();
        picture.path(&format!("line s{nth}"), &path);
        let path: Vec<(f64, f64)> = said.iter().map(|sample| place(*sample)).collect();
        picture.path(&format!("said s{nth}"), &path);
        let y = LINES_TOP + 14.0 + f64::from(u32::try_from(nth).unwrap_or(0)) * 40.0;
        let point = &told.story.point;
        picture.path(&format!("line s{nth}"), &[(right + 14.0, y - 4.0), (right + 40.0, y - 4.0)]);
        let legend = format!("{} of {}", point.rate, size(point.value));
        picture.text((right + 46.0, y), "", "start", &legend);
        let legend =
            format!("{} a node, {} away", size(point.cap), super::sweep::span(point.outage));
        picture.text((right + 46.0, y + 16.0), "small", "start", &legend);
    }
}

fn bars(picture: &mut Picture, points: &[&Told], top: f64) {
    let time = |told: &Told, name: &str| told.figure(name).map(|f| f.measured);
    let times = points.iter().flat_map(|told| WAYS.map(|(name, _)| time(told, name)));
    let most = times.fold(60.0, |most: f64, value| match value {
        Some(Value::Number(seconds)) => most.max(seconds),
        _ => most,
    }) * 1.08;
    let title = "From the heal until the replicas are equal again";
    picture.text((LEFT, top - 34.0), "title", "start", title);
    let mut x = LEFT;
    for (nth, (_, name)) in WAYS.iter().enumerate() {
        picture.bar(&format!("w{nth}"), (x, top - 22.0), 12.0);
        picture.text((x + 18.0, top - 11.0), "small", "start", name);
        x += 190.0;
    }
    let mut y = top + 6.0;
    for (number, told) in (1..).zip(points) {
        picture.text((LEFT, y + 11.0), "", "start", &format!("{number}. {}", told.story.point));
        for (nth, (name, _)) in WAYS.iter().enumerate() {
            let row = y + 18.0 + BAR * f64::from(u32::try_from(nth).unwrap_or(0));
            match time(told, name) {
                Some(Value::Number(seconds)) => {
                    let width = (seconds / most * PLOT).max(1.0);
                    picture.bar(&format!("w{nth}"), (LEFT, row), width);
                    let at = (LEFT + width + 6.0, row + 10.0);
                    picture.text(at, "small", "start", &show(seconds, Unit::Seconds));
                }
                Some(value) => {
                    picture.bar("never", (LEFT, row), 4.0);
                    let at = (LEFT + 10.0, row + 10.0);
                    picture.text(at, "small", "start", &value.text(Unit::Seconds));
                }
                None => {}
            }
        }
        y += POINT;
    }
    picture.path("axis", &[(LEFT, top), (LEFT, y), (LEFT + PLOT, y)]);
    for mark in marks(most / 60.0) {
        let x = LEFT + mark * 60.0 / most * PLOT;
        picture.path("axis", &[(x, y), (x, y + 5.0)]);
        picture.text((x, y + 20.0), "small", "middle", &format!("{mark}"));
    }
    picture.text((LEFT + PLOT / 2.0, y + 40.0), "small", "middle", "minutes since the heal");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_about_five_round_marks() {
        assert_eq!(marks(100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(marks(7.0), [0.0, 2.0, 4.0, 6.0]);
        assert!(marks(0.0).len() <= 11);
        for most in [1.0, 3.3, 47.0, 1e9] {
            assert!((3..=7).contains(&marks(most).len()), "{most}: {:?}", marks(most));
        }
    }

    #[test]
    fn text_cannot_break_the_picture() {
        let mut picture = Picture(String::new());
        picture.text((1.0, 2.0), "", "start", "a < b & c");
        assert!(picture.0.contains("a &lt; b &amp; c"), "{}", picture.0);
    }
}
