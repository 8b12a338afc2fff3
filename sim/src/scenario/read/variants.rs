//! `[[variant]]`: the same story with something changed in it, so that one seed tells both.
//!
//! ```toml
//! [[variant]]
//! id = "hashed-keys"
//! title = "users are spread by the hash of their whole key"
//! set = { "actors.shop.keys" = "hashed", "at.sale.rate" = "500/min" }
//! skip = ["pause"]
//! breaks = ["hot-node"]
//! ```
//!
//! `set` changes what is written at a path; in `[[at]]` and `[[expect]]` the part after the dot is the element's `id`.
//! `skip` leaves out events by their `id`. `breaks` says which expectations then fail: all of them, and no other.
//!
//! A variant changes the text's tables before they are read, and a changed value keeps the place where the variant wrote
//! it. So everything that is checked in a scenario is checked in each of its variants, and a problem is told at the line
//! that made it. Several chosen variants are applied in the order in which they are chosen.

use super::super::problem::{Collector, unknown};
use super::super::section::{At, Section};
use super::super::{Expectation, Variant};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// What a variant changes, and where it says so.
struct Change<'t, 'd> {
    path: &'d str,
    span: Range<usize>,
    value: &'d Spanned<DeValue<'t>>,
}

/// A variant as it is written.
pub(super) struct Declared<'t, 'd> {
    pub(super) variant: Variant,
    changes: Vec<Change<'t, 'd>>,
    skip: Vec<At<&'d str>>,
    breaks: Vec<At<&'d str>>,
}

pub(super) fn read_variants<'t, 'd>(
    sections: Vec<Section<'t, 'd>>,
    problems: &mut Collector<'_>,
) -> Vec<Declared<'t, 'd>> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for mut section in sections {
        let id = section.text("id", problems);
        section.missing("id", "id = \"hashed-keys\"", problems);
        let title = section.text("title", problems);
        section.missing("title", "a title that says what is different", problems);
        let changes = section.section("set", problems).map(|mut set| set.named());
        let changes: Vec<Change<'_, '_>> = changes
            .unwrap_or_default()
            .into_iter()
            .map(|(path, span, value)| Change { path, span, value })
            .collect();
        let skip = section.texts("skip", problems).unwrap_or_default();
        let breaks = section.texts("breaks", problems).unwrap_or_default();
        let Some((id, id_span)) = id else {
            section.finish(problems);
            continue;
        };
        if changes.is_empty() && skip.is_empty() {
            problems.add(&id_span, format!("the variant `{id}` changes nothing: `set` or `skip`"));
        }
        if !seen.insert(id) {
            problems.add(&id_span, format!("two variants are called `{id}`"));
        }
        section.finish(problems);
        let title = title.map_or_else(String::new, |(t, _)| t.to_owned());
        let names = breaks.iter().map(|(id, _)| (*id).to_owned()).collect();
        let variant = Variant { id: id.to_owned(), title, breaks: names };
        all.push(Declared { variant, changes, skip, breaks });
    }
    all
}

impl<'t> Declared<'t, '_> {
    /// Changes the scenario's tables.
    pub(super) fn apply(&self, root: &mut DeTable<'t>, problems: &mut Collector<'_>) {
        for Change { path, span, value } in &self.changes {
            if let Err(why) = assign(root, path, path, span, value) {
                problems.add(span, why);
            }
        }
        for (id, span) in &self.skip {
            if let Err(why) = skip(root, id) {
                problems.add(span, why);
            }
        }
    }

    /// Says which names in `breaks` are no expectation's.
    pub(super) fn check_breaks(&self, expectations: &[Expectation], problems: &mut Collector<'_>) {
        let known = || expectations.iter().map(|e| e.id.as_str());
        for (id, span) in &self.breaks {
            if !known().any(|k| k == *id) {
                problems.add(span, unknown("expectation", id, known().collect::<Vec<_>>()));
            }
        }
    }
}

/// Writes `value` at `path` below `table`. The last part may be new: whoever reads the table says whether it is known.
fn assign<'t>(
    table: &mut DeTable<'t>,
    whole: &str,
    path: &str,
    span: &Range<usize>,
    value: &Spanned<DeValue<'t>>,
) -> Result<(), String> {
    let Some((first, rest)) = path.split_once('.') else {
        if whole == path && matches!(value.get_ref(), DeValue::Table(_)) {
            return Err(format!(
                "a path stands in quotes, or `{path}` would be replaced as a whole: \"{path}.…\" = …"
            ));
        }
        // Removed first: the key that stays in the table would keep the place of the old one.
        table.remove(path);
        table.insert(Spanned::new(span.clone(), Cow::Owned(path.to_owned())), value.clone());
        return Ok(());
    };
    let known: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    let what = format!("part of the path `{whole}`:");
    let Some(found) = table.get_mut(first) else {
        return Err(unknown(&what, first, known.iter().map(String::as_str)));
    };
    match found.get_mut() {
        DeValue::Table(inner) => assign(inner, whole, rest, span, value),
        DeValue::Array(items) => {
            let (id, rest) = rest.split_once('.').ok_or_else(|| {
                format!("`{whole}` ends at an element of `{first}`; say what of it changes")
            })?;
            let known: Vec<String> = items.iter().filter_map(id_of).collect();
            let item = items.iter_mut().find(|item| id_of(item).is_some_and(|found| found == id));
            match item.map(Spanned::get_mut) {
                Some(DeValue::Table(inner)) => assign(inner, whole, rest, span, value),
                _ => {
                    Err(unknown(&format!("id in `{first}`"), id, known.iter().map(String::as_str)))
                }
            }
        }
        other => Err(format!("`{first}` is {}, so nothing lies below it", other.type_str())),
    }
}

/// Leaves out the event of this id.
fn skip(root: &mut DeTable<'_>, id: &str) -> Result<(), String> {
    let Some(DeValue::Array(events)) = root.get_mut("at").map(Spanned::get_mut) else {
        return Err("there is no event to leave out".to_owned());
    };
    let known: Vec<String> = events.iter().filter_map(id_of).collect();
    if !known.iter().any(|k| k == id) {
        return Err(unknown("id of an event", id, known.iter().map(String::as_str)));
    }
    let mut left = DeArray::new();
    for event in events.iter().filter(|event| id_of(event).is_none_or(|found| found != id)) {
        left.push(event.clone());
    }
    *events = left;
    Ok(())
}

fn id_of(item: &Spanned<DeValue<'_>>) -> Option<String> {
    let id = item.get_ref().as_table()?.get("id")?;
    id.get_ref().as_str().map(str::to_owned)
}
