//! A TOML table while it is read: every key is asked for by name, and whatever was not asked for is an error that
//! names the nearest key that would have been.

use super::problem::{Collector, unknown};
use super::units;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it stands.
pub(super) type At<T> = (T, Range<usize>);

/// One table, half read.
pub(super) struct Section<'t, 'd> {
    /// What the table is, for messages: "`[cluster]`".
    what: String,
    /// Where it begins.
    pub(super) span: Range<usize>,
    left: BTreeMap<&'d str, (Range<usize>, &'d Spanned<DeValue<'t>>)>,
    asked: BTreeSet<&'static str>,
    /// Every key of the table, read or not.
    present: BTreeSet<&'d str>,
}

impl<'t, 'd> Section<'t, 'd> {
    pub(super) fn new(what: impl Into<String>, table: &'d DeTable<'t>, span: Range<usize>) -> Self {
        let left: BTreeMap<_, _> = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value)))
            .collect();
        let present = left.keys().copied().collect();
        Section { what: what.into(), span, left, asked: BTreeSet::new(), present }
    }

    fn take(&mut self, key: &'static str) -> Option<(Range<usize>, &'d Spanned<DeValue<'t>>)> {
        self.asked.insert(key);
        self.left.remove(key)
    }

    /// Says that a key which must be there is not. A key that is there and wrong has had its say already.
    pub(super) fn missing(&self, key: &str, example: &str, problems: &mut Collector<'_>) {
        if self.present.contains(key) {
            return;
        }
        problems.add(&self.span, format!("{} needs `{key}`, for example {example}", self.what));
    }

    /// A text, or nothing when the key is absent or is no text (then a problem is noted).
    pub(super) fn text(
        &mut self,
        key: &'static str,
        problems: &mut Collector<'_>,
    ) -> Option<At<&'d str>> {
        let (_, value) = self.take(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some((text.as_ref(), value.span())),
            other => {
                let kind = other.type_str();
                problems.add(&value.span(), format!("`{key}` is a text in quotes, not {kind}"));
                None
            }
        }
    }

    /// A text that `read` understands.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        problems: &mut Collector<'_>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        let (text, span) = self.text(key, problems)?;
        match read(text) {
            Ok(value) => Some((value, span)),
            Err(why) => {
                problems.add(&span, format!("`{key}`: {why}"));
                None
            }
        }
    }

    /// A text or a list of texts, as a list.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        problems: &mut Collector<'_>,
    ) -> Option<Vec<At<&'d str>>> {
        let (_, value) = self.take(key)?;
        let items: Vec<&'d Spanned<DeValue<'t>>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let mut out = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => out.push((text.as_ref(), item.span())),
                other => problems.add(
                    &item.span(),
                    format!("`{key}` is a text or a list of texts, not {}", other.type_str()),
                ),
            }
        }
        Some(out)
    }

    /// A whole number that is not negative.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        problems: &mut Collector<'_>,
    ) -> Option<At<u64>> {
        let (_, value) = self.take(key)?;
        let number = whole(value.get_ref());
        if number.is_none() {
            problems.add(&value.span(), format!("`{key}` is a whole number, 0 or more"));
        }
        number.map(|n| (n, value.span()))
    }

    /// A list of whole numbers that are not negative.
    pub(super) fn numbers(
        &mut self,
        key: &'static str,
        problems: &mut Collector<'_>,
    ) -> Option<At<Vec<f64>>> {
        let (_, value) = self.take(key)?;
        let items = value.get_ref().as_array();
        let numbers = items.and_then(|items| {
            items.iter().map(|item| Some(units::number(whole(item.get_ref())?))).collect()
        });
        if numbers.is_none() {
            problems.add(&value.span(), format!("`{key}` is a list of whole numbers, 0 or more"));
        }
        numbers.map(|n| (n, value.span()))
    }

    /// `true` or `false`.
    pub(super) fn flag(
        &mut self,
        key: &'static str,
        problems: &mut Collector<'_>,
    ) -> Option<At<bool>> {
        let (_, value) = self.take(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            problems.add(&value.span(), format!("`{key}` is true or false"));
        }
        flag.map(|f| (f, value.span()))
    }

    /// A table inside this one.
    pub(super) fn section(
        &mut self,
        key: &'static str,
        problems: &mut Collector<'_>,
    ) -> Option<Section<'t, 'd>> {
        let (span, value) = self.take(key)?;
        as_section(format!("`{key}`"), value, span, problems)
    }

    /// The tables of `[[key]]`.
    pub(super) fn list(
        &mut self,
        key: &'static str,
        problems: &mut Collector<'_>,
    ) -> Vec<Section<'t, 'd>> {
        let Some((span, value)) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            problems.add(&span, format!("write each `{key}` as a table of its own: [[{key}]]"));
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| as_section(format!("`[[{key}]]`"), item, item.span(), problems))
            .collect()
    }

    /// Everything that is left: for tables whose keys are names that the scenario chooses.
    pub(super) fn named(&mut self) -> Vec<(&'d str, Range<usize>, &'d Spanned<DeValue<'t>>)> {
        std::mem::take(&mut self.left).into_iter().map(|(k, (span, v))| (k, span, v)).collect()
    }

    /// Says what was not asked for.
    pub(super) fn finish(self, problems: &mut Collector<'_>) {
        for (key, (span, _)) in self.left {
            let what = format!("key in {}", self.what);
            problems.add(&span, unknown(&what, key, self.asked.iter().copied()));
        }
    }
}

/// A value that has to be a table.
pub(super) fn as_section<'t, 'd>(
    what: String,
    value: &'d Spanned<DeValue<'t>>,
    span: Range<usize>,
    problems: &mut Collector<'_>,
) -> Option<Section<'t, 'd>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(Section::new(what, table, span)),
        other => {
            problems.add(&value.span(), format!("{what} is a table, not {}", other.type_str()));
            None
        }
    }
}

/// A whole number that is not negative.
pub(super) fn whole(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str().trim_start_matches('+'), number.radix()).ok()
}
