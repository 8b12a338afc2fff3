//! Which points there are: six lists, and every combination of what is in them.

use crate::scenario::units::{self, Rate};
use helenus_core::hint::Overflow;
use std::fmt;
use std::time::Duration;

/// More points than this are refused: each is two simulated outages.
pub const POINTS_MAX: usize = 256;
/// After three hours of absence no hint is kept any more (Cassandra's `max_hint_window`), and that is not what is asked here.
const OUTAGE_MAX: Duration = Duration::from_secs(3 * 3600);
/// Shorter, and the failure detector's seconds are most of it.
const OUTAGE_MIN: Duration = Duration::from_secs(60);
/// As scenarios take it.
const VALUE_BYTES: std::ops::RangeInclusive<u64> = 100..=(16 << 20);
const CAP_BYTES: std::ops::RangeInclusive<u64> = 100_000..=(1 << 40);

/// One outage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// `max_hints_size` of each node.
    pub cap: u64,
    /// How long the target is cut off.
    pub outage: Duration,
    /// Writes, each of which owes the target a hint while it is away.
    pub rate: Rate,
    /// Bytes of a value.
    pub value: u64,
    /// What gives way when a store is full.
    pub policy: Overflow,
    /// `hinted_handoff_throttle`: bytes a second of each node for each target.
    pub throttle: u64,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cap, value, throttle) = (size(self.cap), size(self.value), size(self.throttle));
        let (outage, rate, policy) = (span(self.outage), self.rate, self.policy.as_str());
        write!(f, "{policy}, {rate} of {value}, {cap} a node, {outage} away, {throttle}/s")
    }
}

/// What is to be swept, as it is typed: lists parted by commas.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    /// Sizes.
    pub cap: Vec<String>,
    /// Durations.
    pub outage: Vec<String>,
    /// Rates.
    pub rate: Vec<String>,
    /// Sizes.
    pub value: Vec<String>,
    /// Names of policies, or `all`.
    pub policy: Vec<String>,
    /// Sizes a second.
    pub throttle: Vec<String>,
}

/// Named sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The figures of the write-up about the sale: at its own 15,000 hints a minute, and at the 50,000 writes a minute that
    /// the sale had, under every policy. Dead letters are replayed like hints, which at the sale's throttle takes ten hours:
    /// that point has another one.
    BlackFriday,
    /// Where the limit is: caps and outages, from a store that never fills to one that fills at once.
    Limits,
}

impl Preset {
    /// Every preset and its name on the command line.
    pub const NAMES: [(&'static str, Preset); 2] =
        [("black-friday", Preset::BlackFriday), ("limits", Preset::Limits)];

    /// Its name.
    pub fn name(self) -> &'static str {
        let named = Preset::NAMES.iter().find(|(_, preset)| *preset == self);
        named.map_or("", |(name, _)| name)
    }

    /// Its points.
    pub fn points(self) -> Result<Vec<Point>, String> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        match self {
            Preset::BlackFriday => {
                let sale = Lists {
                    cap: list("500MB"),
                    outage: list("16min"),
                    rate: list("50000/min"),
                    value: list("50KB"),
                    policy: list("drop-newest,drop-oldest,fail-write,throttle"),
                    throttle: list("512KiB/s"),
                };
                let letters =
                    Lists { policy: list("dead-letter"), throttle: list("7MiB/s"), ..sale.clone() };
                let claimed =
                    Lists { rate: list("15000/min"), policy: list("drop-newest"), ..sale.clone() };
                Ok([claimed.points()?, sale.points()?, letters.points()?].concat())
            }
            Preset::Limits => Lists {
                cap: list("40MB,200MB,1GB"),
                outage: list("2min,10min"),
                rate: list("5000/min"),
                value: list("10KB"),
                policy: list("drop-newest"),
                throttle: list("1MiB/s"),
            }
            .points(),
        }
    }
}

impl Lists {
    /// What is swept where nothing is said.
    pub const DEFAULTS: [(&'static str, &'static str); 6] = [
        ("cap", "50MB"),
        ("outage", "5min"),
        ("rate", "5000/min"),
        ("value", "10KB"),
        ("policy", "drop-newest"),
        ("throttle", "1MiB/s"),
    ];

    /// Every combination, in the order in which the lists are written, the last list turning fastest.
    pub fn points(&self) -> Result<Vec<Point>, String> {
        let caps = each("cap", &self.cap, |text| within(units::bytes(text)?, &CAP_BYTES))?;
        let outages = each("outage", &self.outage, outage)?;
        let rates = each("rate", &self.rate, rate)?;
        let values = each("value", &self.value, |text| within(units::bytes(text)?, &VALUE_BYTES))?;
        let policies = policies(&self.policy)?;
        let throttles = each("throttle", &self.throttle, |text| match units::byte_rate(text)? {
            0 => Err("replay that is throttled to nothing never ends".to_owned()),
            bytes_per_s => Ok(bytes_per_s),
        })?;
        let sizes = [caps.len(), outages.len(), rates.len(), values.len(), policies.len()];
        let count = sizes.iter().fold(throttles.len(), |all, n| all.saturating_mul(*n));
        if count > POINTS_MAX {
            return Err(format!(
                "{count} points are asked for, and {POINTS_MAX} are the most: shorten a list"
            ));
        }
        let mut points = Vec::with_capacity(count);
        for &cap in &caps {
            for &outage in &outages {
                for &rate in &rates {
                    for &value in &values {
                        for &policy in &policies {
                            points.extend(throttles.iter().map(|&throttle| Point {
                                cap,
                                outage,
                                rate,
                                value,
                                policy,
                                throttle,
                            }));
                        }
                    }
                }
            }
        }
        Ok(points)
    }
}

/// Reads a list, or what stands for it where it is empty.
fn each<T>(
    name: &str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let default = Lists::DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    let texts: Vec<&str> = match texts {
        [] => default.into_iter().collect(),
        texts => texts.iter().map(|text| text.trim()).collect(),
    };
    texts.into_iter().map(|text| read(text).map_err(|why| format!("--{name}: {why}"))).collect()
}

fn policies(names: &[String]) -> Result<Vec<Overflow>, String> {
    if names.iter().any(|name| name.trim() == "all") {
        return Ok(Overflow::NAMES.into_iter().map(|(_, policy)| policy).collect());
    }
    each("policy", names, |name| {
        let known: Vec<&str> = Overflow::NAMES.iter().map(|(name, _)| *name).collect();
        let complain =
            || format!("unknown policy `{name}`; known: {}, or all of them: all", known.join(", "));
        Overflow::parse(name).ok_or_else(complain)
    })
}

fn within(bytes: u64, bounds: &std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let (low, high) = (size(*bounds.start()), size(*bounds.end()));
    let complain = || format!("{} is not between {low} and {high}", size(bytes));
    bounds.contains(&bytes).then_some(bytes).ok_or_else(complain)
}

fn outage(text: &str) -> Result<Duration, String> {
    let outage = units::duration(text)?;
    let whole = Duration::from_secs(outage.as_secs());
    let complain = || {
        format!(
            "`{text}` is not between {} and {}, the hint window",
            span(OUTAGE_MIN),
            span(OUTAGE_MAX)
        )
    };
    (OUTAGE_MIN..=OUTAGE_MAX).contains(&whole).then_some(whole).ok_or_else(complain)
}

fn rate(text: &str) -> Result<Rate, String> {
    let rate = units::rate(text)?;
    let complain = || format!("`{text}` is not between 1/s and 1000000/s");
    (1.0..=1e6).contains(&rate.per_second).then_some(rate).ok_or_else(complain)
}

/// A size in the unit in which it is a whole number.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("kB", 1000),
    ];
    let whole = UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{} {name}", bytes / unit))
}

/// A duration in minutes where it is whole ones, else in seconds.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds.is_multiple_of(3600), seconds.is_multiple_of(60)) {
        (true, _) if seconds > 0 => format!("{} h", seconds / 3600),
        (_, true) if seconds > 0 => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn a_sweep_is_the_product_of_its_lists() {
        let lists = Lists { cap: list("1MB,2MB"), policy: list("all"), ..Lists::default() };
        let points = lists.points().unwrap();
        assert_eq!(points.len(), 2 * Overflow::NAMES.len());
        assert_eq!(points[0].cap, 1_000_000);
        assert_eq!(points[0].outage, Duration::from_secs(300));
        let policies: Vec<Overflow> = points.iter().map(|p| p.policy).collect();
        assert_eq!(policies[..Overflow::NAMES.len()], Overflow::NAMES.map(|(_, p)| p));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_list_it_stands_in() {
        let wrong = |lists: Lists| lists.points().unwrap_err();
        let cap = Lists { cap: list("500Mb"), ..Lists::default() };
        assert!(wrong(cap).starts_with("--cap: unknown unit `Mb`; did you mean `MB`?"));
        let policy = Lists { policy: list("drop"), ..Lists::default() };
        assert!(wrong(policy).contains("drop-newest"));
        for outage in ["4h", "5s", "5"] {
            assert!(wrong(Lists { outage: list(outage), ..Lists::default() }).contains("--outage"));
        }
        for throttle in ["0B/s", "1MB"] {
            let lists = Lists { throttle: list(throttle), ..Lists::default() };
            assert!(wrong(lists).contains("--throttle"));
        }
        let many = Lists {
            cap: vec!["1MB".to_owned(); 17],
            value: vec!["1KB".to_owned(); 16],
            ..Lists::default()
        };
        assert!(wrong(many).contains("272 points are asked for, and 256 are the most"));
    }

    #[test]
    fn presets_are_in_order() {
        for (name, preset) in Preset::NAMES {
            assert_eq!(preset.name(), name);
            let points = preset.points().unwrap();
            assert!(points.len() > 1 && points.len() <= 16, "{name}");
        }
        let first = Preset::BlackFriday.points().unwrap()[0];
        let told = "drop-newest, 15,000/min of 50 kB, 500 MB a node, 16 min away, 512 KiB/s";
        assert_eq!(first.to_string(), told);
    }

    #[test]
    fn sizes_and_spans_are_told_in_the_unit_that_is_whole() {
        let sizes = [500_000_000, 524_288, 1 << 30, 1001].map(size);
        assert_eq!(sizes, ["500 MB", "512 KiB", "1 GiB", "1001 B"]);
        let spans = [90, 60, 7200].map(|s| span(Duration::from_secs(s)));
        assert_eq!(spans, ["90 s", "1 min", "2 h"]);
    }
}
