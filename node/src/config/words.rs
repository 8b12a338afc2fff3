//! Values as the file has them: what is read back is what was written.

use std::time::Duration;

pub(super) fn text(value: &impl ToString) -> String {
    // TOML's own quoting, for paths and names with quotes or backslashes in them.
    toml::Value::String(value.to_string()).to_string()
}

pub(super) fn list<T>(items: &[T], item: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(item).collect::<Vec<_>>().join(", "))
}

pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], meant: T) -> String {
    let word = words.iter().find(|(_, value)| *value == meant);
    text(&word.expect("every variant has its word").0)
}

pub(super) fn float(value: &f64) -> String {
    // `{:?}` writes the point that TOML wants in a float.
    format!("{value:?}")
}

pub(super) fn time(value: &Duration) -> String {
    text(&humantime::format_duration(*value))
}

/// Exact, in the largest unit that divides it.
pub(super) fn size(bytes: &u64) -> String {
    text(&plain_size(*bytes))
}

pub(super) fn throughput(bytes: &u64) -> String {
    let per = if *bytes == 0 { "" } else { "/s" };
    text(&format!("{}{per}", plain_size(*bytes)))
}

fn plain_size(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None if bytes == 0 => "0".to_owned(),
        None => format!("{bytes}B"),
    }
}
