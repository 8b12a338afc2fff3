//! Printing: tables for people, JSON for programs, and never a panic because a pipe was closed.

use crate::context::Failure;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::{Duration, UNIX_EPOCH};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: one JSON value a line, with field names that stay.
    Json,
}

/// Where results go.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    format: Format,
    color: bool,
}

impl Out {
    pub(crate) fn new(format: Format) -> Out {
        // https://no-color.org: any value but the empty one.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Out { format, color: !no_color && std::io::stdout().is_terminal() }
    }

    pub(crate) fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether somebody sits there and watches: progress bars are for them only.
    pub(crate) fn watched(&self) -> bool {
        !self.json() && std::io::stderr().is_terminal()
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let mut line = match self.format {
            Format::Json => serde_json::to_string(value)
                .map_err(|error| Failure::Here(format!("cannot write JSON: {error}")))?,
            Format::Table => text(value),
        };
        if !line.is_empty() && !line.ends_with('\n') {
            line.push('\n');
        }
        self.raw(line.as_bytes())
    }

    /// Bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// A remark beside the result.
    pub(crate) fn remark(&self, text: impl std::fmt::Display) {
        // Where stderr is gone there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Warnings that came with an answer.
    pub(crate) fn warnings(&self, warnings: &[String]) {
        for warning in warnings {
            self.remark(format_args!("warning: {warning}"));
        }
    }

    /// Why the verb failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if matches!(failure, Failure::OutputClosed) {
            return;
        }
        match self.format {
            Format::Json => {
                let may_have_applied = match failure {
                    Failure::Operation(error) => Some(error.may_have_applied()),
                    _ => None,
                };
                let error = serde_json::json!({ "error": {
                    "kind": failure.kind(),
                    "message": failure.to_string(),
                    "may_have_applied": may_have_applied,
                }});
                self.remark(error);
            }
            Format::Table => {
                self.remark(format_args!("error: {failure}"));
                if let Some(advice) = failure.advice() {
                    self.remark(format_args!("       {advice}"));
                }
            }
        }
    }

    /// An empty table with these columns; those that start with `>` are numbers and stand to the right.
    pub(crate) fn table(&self, columns: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if !self.color {
            table.force_no_tty();
        }
        table.set_header(
            columns
                .iter()
                .map(|name| Cell::new(name.trim_start_matches('>')).add_attribute(Attribute::Bold)),
        );
        for (index, name) in columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index)
                && name.starts_with('>')
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

/// A cell that asks to be looked at, or one that does not.
pub(crate) fn cell(text: impl ToString, alarming: bool) -> Cell {
    let cell = Cell::new(text.to_string());
    if alarming { cell.fg(Color::Red) } else { cell }
}

/// `1.2 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// `66.7%`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// A version as a moment: `2026-01-02T03:04:05.123456Z`.
pub(crate) fn moment(timestamp_us: i64) -> String {
    // Past the year 9999 the format has no words, and a timestamp may be anything a writer chose.
    let since = Duration::from_micros(timestamp_us.unsigned_abs());
    let in_range = timestamp_us >= 0 && since.as_secs() < 253_402_300_800;
    match UNIX_EPOCH.checked_add(since) {
        Some(time) if in_range => humantime::format_rfc3339_micros(time).to_string(),
        _ => format!("{timestamp_us} us"),
    }
}

/// Text if it is text that a terminal survives, else escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_any_timestamp() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(moment(1_767_323_045_123_456), "2026-01-02T03:04:05.123456Z");
        for odd in [-1, i64::MIN, i64::MAX] {
            assert_eq!(moment(odd), format!("{odd} us"));
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("Ilios é".as_bytes()), "Ilios é");
        assert_eq!(printable(b"\x1b[31m"), "\\x1b[31m");
        assert_eq!(printable(b"\xff"), "\\xff");
    }

    #[test]
    fn columns_are_aligned_and_plain_without_a_terminal() {
        let out = Out { format: Format::Table, color: false };
        let mut table = out.table(&["name", ">bytes"]);
        table.add_row(vec![cell("a", true), cell(5, false)]);
        let text = table.trim_fmt();
        assert!(!text.contains('\x1b'), "{text:?}");
        assert_eq!(text, " name  bytes\n a         5");
    }
}
