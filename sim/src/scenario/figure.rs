//! The figures that a run measures, and the small grammar in which a scenario says what it expects of them:
//!
//! ```text
//! reads.stale{cl=QUORUM, of=acked} == 0
//! hints.bytes{target=rack:a} >= 99% of cap
//! hints.fill_time{target=rack:a} within 10% of predicted
//! reads.latency_mean{cl=ONE} < reads.latency_mean{cl=QUORUM}
//! ```
//!
//! Counts are of simulated things; `750000 real` stands for what they stand for. Bytes are always written at full size.
//! A figure is a name and labels that narrow it. A label that is left out means "all of them together".

mod list;

pub use list::{FIGURES, Figure, Kind, Unit};

use super::problem::unknown;
use super::units;
use super::{HostNames, Scenario};
use helenus_core::Level;
use std::collections::BTreeMap;
use std::fmt;

/// The labels' names; their values are checked by [`check_label`].
const KINDS: [&str; 3] = ["unavailable", "timeout", "failure"];
const REASONS: [&str; 7] =
    ["cap", "evicted", "window", "disabled", "expired", "truncated", "damaged"];

/// A figure and the labels that narrow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FigureRef {
    /// One of [`FIGURES`].
    pub name: String,
    /// Racks and nodes without the `rack:` or `node:` in front.
    pub labels: BTreeMap<String, String>,
}

impl FigureRef {
    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// What is known of it.
    pub fn figure(&self) -> &'static Figure {
        FIGURES
            .iter()
            .find(|f| f.name == self.name)
            .expect("a reference is made only for a known name")
    }
}

impl FigureRef {
    /// Reads `storage.sstables{node=a1}`, checking every name in it.
    pub fn parse(text: &str, hosts: &HostNames) -> Result<FigureRef, String> {
        let mut rest = Scanner { rest: text.trim() };
        let figure = rest.figure(hosts)?;
        let left = rest.rest.trim();
        if left.is_empty() {
            Ok(figure)
        } else {
            Err(format!("`{left}` is too much; only a figure stands here"))
        }
    }
}

impl fmt::Display for FigureRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.labels.is_empty() {
            return Ok(());
        }
        let labels: Vec<String> = self.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        write!(f, "{{{}}}", labels.join(", "))
    }
}

/// How a figure is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
    /// `within N% of`
    Within(f64),
}

/// What a figure is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A number, in the figure's unit.
    Number(f64),
    /// A number of real things or bytes, which the run divides by its scale.
    Real(f64),
    /// Another figure, times a factor (`99% of cap` is 0.99 of `hints.cap`).
    Figure(f64, FigureRef),
    /// What physics says of the same figure.
    Predicted,
}

/// One expectation's condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The left side.
    pub figure: FigureRef,
    /// How.
    pub op: Op,
    /// The right side.
    pub operand: Operand,
}

impl Comparison {
    /// Whether it holds between two numbers.
    pub fn holds(&self, left: f64, right: f64) -> bool {
        match self.op {
            Op::Equal => (left - right).abs() < 1e-9,
            Op::NotEqual => (left - right).abs() >= 1e-9,
            Op::Less => left < right,
            Op::AtMost => left <= right,
            Op::More => left > right,
            Op::AtLeast => left >= right,
            Op::Within(percent) => (left - right).abs() <= right.abs() * percent / 100.0,
        }
    }

    /// The figures that it names.
    pub fn figures(&self) -> impl Iterator<Item = &FigureRef> {
        let other = match &self.operand {
            Operand::Figure(_, other) => Some(other),
            _ => None,
        };
        [&self.figure].into_iter().chain(other)
    }

    /// Reads one, checking every name in it. `hosts` are those of the cluster.
    pub fn parse(text: &str, hosts: &HostNames) -> Result<Comparison, String> {
        let mut rest = Scanner { rest: text.trim() };
        let figure = rest.figure(hosts)?;
        let op = rest.op()?;
        let operand = rest.operand(&figure, hosts)?;
        let left = rest.rest.trim();
        if !left.is_empty() {
            return Err(format!("`{left}` is too much; the comparison ended before it"));
        }
        if let Operand::Figure(_, other) = &operand
            && other.figure().unit != figure.figure().unit
        {
            return Err(format!(
                "`{}` and `{}` are not counted in the same unit",
                figure.name, other.name
            ));
        }
        Ok(Comparison { figure, op, operand })
    }
}

struct Scanner<'t> {
    rest: &'t str,
}

impl<'t> Scanner<'t> {
    /// The longest run of characters that `keep` takes.
    fn run(&mut self, keep: impl Fn(char) -> bool) -> &'t str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn eat(&mut self, text: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn figure(&mut self, hosts: &HostNames) -> Result<FigureRef, String> {
        let name = self.run(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        let Some(known) = FIGURES.iter().find(|f| f.name == name) else {
            return Err(unknown("figure", name, FIGURES.iter().map(|f| f.name)));
        };
        let mut labels = BTreeMap::new();
        if self.eat("{") {
            loop {
                let label = self.run(|c| c.is_ascii_alphanumeric() || c == '_');
                if !known.labels.contains(&label) {
                    let what = format!("label of `{name}`");
                    return Err(unknown(&what, label, known.labels.iter().copied()));
                }
                if !self.eat("=") {
                    return Err(format!("after the label `{label}` comes `=` and its value"));
                }
                let value = self.run(|c| c.is_ascii_alphanumeric() || "_-:.".contains(c));
                labels.insert(label.to_owned(), check_label(label, value, hosts)?);
                if self.eat("}") {
                    break;
                }
                if !self.eat(",") {
                    return Err("labels are parted by `,` and end with `}`".to_owned());
                }
            }
        }
        Ok(FigureRef { name: name.to_owned(), labels })
    }

    fn op(&mut self) -> Result<Op, String> {
        // Longer signs first: `<=` begins with `<`.
        for (sign, op) in [
            ("==", Op::Equal),
            ("!=", Op::NotEqual),
            ("<=", Op::AtMost),
            (">=", Op::AtLeast),
            ("<", Op::Less),
            (">", Op::More),
        ] {
            if self.eat(sign) {
                return Ok(op);
            }
        }
        if self.eat("within") {
            let percent = self.number()?;
            if self.eat("%") && self.eat("of") {
                return Ok(Op::Within(percent));
            }
            return Err("write it as `within 10% of`".to_owned());
        }
        Err(format!("a comparison (==, !=, <, <=, >, >=, within) was expected at `{}`", self.rest))
    }

    fn number(&mut self) -> Result<f64, String> {
        let digits = self.run(|c| c.is_ascii_digit() || c == '.' || c == '_');
        let number: f64 = digits
            .replace('_', "")
            .parse()
            .map_err(|_| format!("a number was expected at `{digits}{}`", self.rest))?;
        Ok(number)
    }

    fn operand(&mut self, left: &FigureRef, hosts: &HostNames) -> Result<Operand, String> {
        if !self.rest.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            return self.figure_operand(1.0, left, hosts);
        }
        let number = self.number()?;
        if self.eat("%") {
            if self.eat("of") {
                return self.figure_operand(number / 100.0, left, hosts);
            }
            return match left.figure().unit {
                Unit::Percent => Ok(Operand::Number(number)),
                _ => Err(format!("`{}` is no share; say `{number}% of` what", left.name)),
            };
        }
        let unit = self.run(|c| c.is_ascii_alphabetic());
        let text = format!("{number}{unit}");
        match (left.figure().unit, unit) {
            (_, "") if number == 0.0 => Ok(Operand::Number(0.0)),
            (Unit::Count | Unit::Ratio, "") => Ok(Operand::Number(number)),
            (Unit::Count, "real") => Ok(Operand::Real(number)),
            (Unit::Count, _) => Err(format!("`{}` is a count and has no unit", left.name)),
            (Unit::Ratio, _) => Err(format!("`{}` is a ratio and has no unit", left.name)),
            (Unit::Percent, _) => Err(format!("`{}` is a share: write `{number}%`", left.name)),
            (Unit::Bytes, _) =>
            {
                #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
                units::bytes(&text).map(|b| Operand::Real(b as f64))
            }
            (Unit::Seconds, _) => units::duration(&text).map(|d| Operand::Number(d.as_secs_f64())),
        }
    }

    fn figure_operand(
        &mut self,
        factor: f64,
        left: &FigureRef,
        hosts: &HostNames,
    ) -> Result<Operand, String> {
        if self.eat("predicted") {
            return if left.figure().predicted {
                Ok(Operand::Predicted)
            } else {
                let known = FIGURES.iter().filter(|f| f.predicted).map(|f| f.name);
                let known: Vec<&str> = known.collect();
                Err(format!("nothing predicts `{}`; predicted: {}", left.name, known.join(", ")))
            };
        }
        if self.eat("cap") {
            let labels = left.labels.iter().filter(|(k, _)| *k == "target");
            let labels = labels.map(|(k, v)| (k.clone(), v.clone())).collect();
            return Ok(Operand::Figure(factor, FigureRef { name: "hints.cap".to_owned(), labels }));
        }
        Ok(Operand::Figure(factor, self.figure(hosts)?))
    }
}

/// A label's value in its canonical form.
fn check_label(label: &str, value: &str, hosts: &HostNames) -> Result<String, String> {
    let among = |what: &str, known: &[&str], value: &str| {
        if known.contains(&value) {
            Ok(value.to_owned())
        } else {
            Err(unknown(what, value, known.iter().copied()))
        }
    };
    match label {
        "cl" => among("consistency level", &Level::EVERY.map(Level::name), value),
        "kind" => among("kind of refusal", &KINDS, value),
        "reason" => among("reason", &REASONS, value),
        "by" => among("kind of repair", &["ledger", "full"], value),
        "of" => among("state of an order", &["acked", "placed"], value),
        "node" | "replica" => {
            let node = value.strip_prefix("node:").unwrap_or(value);
            let nodes: Vec<&str> = hosts.nodes.iter().map(String::as_str).collect();
            among("node", &nodes, node)
        }
        _ => {
            let rack = value.strip_prefix("rack:").unwrap_or(value);
            let racks: Vec<&str> = hosts.racks.iter().map(String::as_str).collect();
            among("rack", &racks, rack)
        }
    }
}

impl Scenario {
    /// How many real things or bytes one simulated one of a figure stands for.
    pub fn scale_of(&self, figure: &Figure) -> u64 {
        match figure.unit {
            // Files are as many as at full size: what they hold shrinks.
            Unit::Count if figure.name.starts_with("storage.") => 1,
            // Ranges of the ring, not orders.
            Unit::Count if figure.name == "repair.differing" => 1,
            Unit::Count => self.scale,
            Unit::Bytes => self.scale * self.value_scale,
            Unit::Seconds | Unit::Percent | Unit::Ratio => 1,
        }
    }
}

/// A number for people, in its unit.
pub fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count | Unit::Ratio => units::group(value),
        Unit::Percent => format!("{value:.1} %"),
        Unit::Seconds if value < 1.0 => format!("{:.1} ms", value * 1000.0),
        Unit::Seconds if value < 120.0 => format!("{value:.1} s"),
        Unit::Seconds => format!("{:.1} min", value / 60.0),
        Unit::Bytes if value < 1e4 => format!("{value:.0} B"),
        Unit::Bytes if value < 1e7 => format!("{:.1} kB", value / 1e3),
        Unit::Bytes => format!("{:.1} MB", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> HostNames {
        let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect();
        HostNames { racks: names(&["a", "b"]), nodes: names(&["a1", "b1"]) }
    }

    fn parse(text: &str) -> Result<Comparison, String> {
        Comparison::parse(text, &hosts())
    }

    #[test]
    fn the_grammar_reads_what_scenarios_write() {
        let stale = parse("reads.stale{cl=QUORUM, of=acked} == 0").unwrap();
        assert_eq!(stale.figure.label("cl"), Some("QUORUM"));
        assert_eq!((stale.op, stale.operand), (Op::Equal, Operand::Number(0.0)));

        let full = parse("hints.bytes{target=rack:a} >= 99% of cap").unwrap();
        let Operand::Figure(factor, cap) = full.operand else { panic!("a figure") };
        assert!((factor - 0.99).abs() < 1e-12);
        assert_eq!(cap.to_string(), "hints.cap{target=a}");

        let fill = parse("hints.fill_time{target=a} within 10% of predicted").unwrap();
        assert_eq!((fill.op, fill.operand), (Op::Within(10.0), Operand::Predicted));

        let within = parse("hints.fill_time within 10% of 40s").unwrap();
        assert_eq!(within.operand, Operand::Number(40.0));
        assert!(parse("reads.latency_mean{cl=ONE} < reads.latency_mean{cl=QUORUM}").is_ok());
        assert!(parse("reads.refused_share{side=rack:a} > 95%").is_ok());
        assert!(parse("hints.bytes < 20MB").is_ok());
    }

    #[test]
    fn wrong_names_are_told_with_the_nearest() {
        for (text, part) in [
            ("reads.stail == 0", "did you mean `reads.stale`"),
            ("reads.stale{lc=ONE} == 0", "did you mean `cl`"),
            ("reads.stale{cl=QUORAM} == 0", "did you mean `QUORUM`"),
            ("replica.missing{rack=z} == 0", "unknown rack `z`"),
            ("storage.sstables{node=a9} == 0", "unknown node `a9`; did you mean `a1`"),
            ("reads.latency_mean{replica=a} < 1s", "unknown node `a`"),
            ("reads.stale == 0 !", "too much"),
            ("reads.stale = 0", "a comparison"),
            ("reads.stale == 5s", "has no unit"),
            ("hints.fill_time == 5", "a unit is missing"),
            ("reads.stale == predicted", "nothing predicts"),
            ("hints.bytes >= 99%", "is no share"),
            ("hints.bytes == reads.stale", "same unit"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn comparisons_hold_as_written() {
        let within = parse("hints.fill_time within 10% of 40s").unwrap();
        assert!(within.holds(44.0, 40.0) && within.holds(36.0, 40.0));
        assert!(!within.holds(44.1, 40.0));
        assert!(parse("reads.stale > 0").unwrap().holds(1.0, 0.0));
        assert!(!parse("reads.stale != 0").unwrap().holds(0.0, 0.0));
    }

    proptest::proptest! {
        #[test]
        fn no_comparison_panics(text in "(reads\\.stale|hints\\.bytes)?[ a-z{}=,%0-9.<>!]{0,40}") {
            drop(parse(&text));
        }
    }
}
