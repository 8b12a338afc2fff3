//! Values with units, as a scenario writes them: `"500MB"`, `"512KiB/s"`, `"5000/min"`, `"10ms"`, `"14:19"`.

use helenus_node::config::did_you_mean;
use std::fmt;
use std::time::Duration;

/// A time of day on the scenario's clock, in seconds since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(pub u32);

impl TimeOfDay {
    /// Reads `14:19` or `14:19:30`.
    pub fn parse(text: &str) -> Result<TimeOfDay, String> {
        let complain =
            || format!("`{text}` is not a time of day; write it as \"14:19\" or \"14:19:30\"");
        let parts: Vec<&str> = text.split(':').collect();
        let (hours, minutes, seconds) = match parts.as_slice() {
            [h, m] => (*h, *m, "0"),
            [h, m, s] => (*h, *m, *s),
            _ => return Err(complain()),
        };
        let number = |part: &str, below: u32| {
            let digits =
                !part.is_empty() && part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten().filter(|n| *n < below)
        };
        match (number(hours, 24), number(minutes, 60), number(seconds, 60)) {
            (Some(h), Some(m), Some(s)) => Ok(TimeOfDay(h * 3600 + m * 60 + s)),
            _ => Err(complain()),
        }
    }

    /// The time that is `after` later.
    pub fn plus(self, after: Duration) -> TimeOfDay {
        TimeOfDay(self.0.saturating_add(u32::try_from(after.as_secs()).unwrap_or(u32::MAX)))
    }

    /// How long after `start` this is; nothing when it is before.
    pub fn since(self, start: TimeOfDay) -> Option<Duration> {
        self.0.checked_sub(start.0).map(|s| Duration::from_secs(u64::from(s)))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (h, m, s) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        if s == 0 { write!(f, "{h:02}:{m:02}") } else { write!(f, "{h:02}:{m:02}:{s:02}") }
    }
}

/// Events over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// How many a second.
    pub per_second: f64,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/min", group((self.per_second * 60.0).round()))
    }
}

const BYTES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const TIMES: [(&str, u64); 6] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The number in front and the unit behind it.
fn split(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number
        .replace('_', "")
        .parse()
        .map_err(|_| format!("`{text}` does not begin with a number"))?;
    Ok((number, unit.trim()))
}

fn unit_of(unit: &str, table: &[(&str, u64)], example: &str) -> Result<u64, String> {
    if let Some((_, factor)) = table.iter().find(|(name, _)| *name == unit) {
        return Ok(*factor);
    }
    if unit.is_empty() {
        return Err(format!("a unit is missing; write it as {example}"));
    }
    Err(match did_you_mean(unit, table.iter().map(|(name, _)| *name)) {
        Some(near) => format!("unknown unit `{unit}`; did you mean `{near}`?"),
        None => {
            let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            format!("unknown unit `{unit}`; known: {}", names.join(", "))
        }
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be finite, positive and within range just before"
)]
fn whole(value: f64) -> Result<u64, String> {
    if value.is_finite() && (0.0..9.0e18).contains(&value) {
        Ok(value.round() as u64)
    } else {
        Err(format!("{value} is out of range"))
    }
}

#[expect(clippy::cast_precision_loss, reason = "unit factors are far below 2^53")]
fn times(number: f64, factor: u64) -> f64 {
    number * factor as f64
}

/// `"500MB"` in bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    whole(times(number, unit_of(unit, &BYTES, "\"500MB\" or \"64KiB\"")?))
}

/// `"512KiB/s"` in bytes per second.
pub fn byte_rate(text: &str) -> Result<u64, String> {
    match text.trim().split_once('/') {
        Some((amount, "s")) => bytes(amount),
        Some((_, per)) => Err(format!("`/{per}` is not a rate of bytes; write it as \"512KiB/s\"")),
        None => Err(format!("`{text}` is not a rate of bytes; write it as \"512KiB/s\"")),
    }
}

/// `"16MiB/s"`, or `"0"` for no bound.
pub fn throughput(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { byte_rate(text) }
}

/// `"65%"`.
pub fn percent(text: &str) -> Result<f64, String> {
    let complain = || format!("`{text}` is not a share; write it as \"65%\"");
    let (number, unit) = split(text)?;
    if unit == "%" && (0.0..=100.0).contains(&number) { Ok(number) } else { Err(complain()) }
}

/// `"10ms"`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    whole(times(number, unit_of(unit, &TIMES, "\"10ms\" or \"3h\"")?)).map(Duration::from_nanos)
}

/// `"5000/min"`, `"12/s"`.
pub fn rate(text: &str) -> Result<Rate, String> {
    let complain = || format!("`{text}` is not a rate; write it as \"5000/min\" or \"80/s\"");
    let (count, per) = text.trim().split_once('/').ok_or_else(complain)?;
    let (number, rest) = split(count)?;
    if !rest.is_empty() {
        return Err(complain());
    }
    let seconds = match per {
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("unknown unit of time `{other}` in a rate; known: s, min, h")),
    };
    let per_second = number / seconds;
    if per_second.is_finite() { Ok(Rate { per_second }) } else { Err(complain()) }
}

/// A count of bytes or things as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "sizes and counts are far below 2^53")]
pub fn number(n: u64) -> f64 {
    n as f64
}

/// A number for people: thousands apart.
pub fn group(value: f64) -> String {
    let text = if value.fract() == 0.0 || value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |d| ("-", d));
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if fraction.is_empty() { format!("{sign}{out}") } else { format!("{sign}{out}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_exactly() {
        assert_eq!(bytes("500MB"), Ok(500_000_000));
        assert_eq!(bytes("64 KiB"), Ok(65_536));
        assert_eq!(byte_rate("512KiB/s"), Ok(524_288));
        assert_eq!(duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(rate("5000/min").map(|r| (r.per_second * 60.0).round()), Ok(5000.0));
        assert_eq!(TimeOfDay::parse("14:20:15"), Ok(TimeOfDay(51_615)));
        assert_eq!(TimeOfDay(51_615).to_string(), "14:20:15");
        assert_eq!(TimeOfDay(50_400).to_string(), "14:00");
    }

    #[test]
    fn wrong_units_name_the_nearest() {
        assert!(bytes("500Mb").unwrap_err().contains("did you mean `MB`"));
        assert!(bytes("500").unwrap_err().contains("a unit is missing"));
        assert!(duration("3hours").unwrap_err().contains("unknown unit `hours`"));
        assert!(rate("5000/day").unwrap_err().contains("known: s, min, h"));
        for wrong in ["25:00", "14", "14:60", "14:1x", "+1:00", "", "14:19:"] {
            assert!(TimeOfDay::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_grouped_for_people() {
        assert_eq!(group(1_234_567.0), "1,234,567");
        assert_eq!(group(-1000.0), "-1,000");
        assert_eq!(group(72.25), "72.2");
        assert_eq!(group(0.5), "0.50");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            drop((bytes(&text), byte_rate(&text), duration(&text), rate(&text), TimeOfDay::parse(&text)));
        }
    }
}
