//! `[[series]]`: figures over time, beside what the source says of the first of them.

use super::Names;
use crate::scenario::figure::{FigureRef, Kind};
use crate::scenario::problem::Collector;
use crate::scenario::section::Section;
use crate::scenario::{Series, units};
use std::collections::BTreeSet;
use std::time::Duration;

/// What is counted or averaged is so over as long before each time, unless the scenario says otherwise.
const WINDOW: Duration = Duration::from_secs(60);

pub(super) fn read_series(
    sections: Vec<Section<'_, '_>>,
    names: &Names<'_>,
    problems: &mut Collector<'_>,
) -> Vec<Series> {
    let hosts = names.cluster.host_names();
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for mut section in sections {
        let id = section.text("id", problems);
        section.missing("id", "id = \"sstables\"", problems);
        let title = section.text("title", problems).map_or_else(String::new, |(t, _)| t.to_owned());
        let figures = texts(&mut section, "figures", problems, |text| {
            let figure = FigureRef::parse(text, &hosts)?;
            match figure.figure().kind {
                Kind::Compared => {
                    Err(format!("`{}` is known only where replicas were compared", figure.name))
                }
                _ => Ok(figure),
            }
        });
        section.missing("figures", "figures = [\"storage.sstables{node=a1}\"]", problems);
        let called = section.texts("names", problems);
        let names_of: Vec<String> = match &called {
            Some(called) => called.iter().map(|(name, _)| (*name).to_owned()).collect(),
            None => figures.iter().map(FigureRef::to_string).collect(),
        };
        if names_of.len() != figures.len() {
            let (given, wanted) = (names_of.len(), figures.len());
            problems.add(
                &section.span,
                format!("`names` has one for each of the {wanted} figures, not {given}"),
            );
        }
        let at = texts(&mut section, "at", problems, |text| names.time(text));
        section.missing("at", "at = [\"14:00\", \"14:15\"]", problems);
        let window = section.parsed("window", problems, units::duration).map_or(WINDOW, |w| w.0);
        let claimed = section.numbers("claimed", problems);
        if let Some((claimed, span)) = &claimed
            && claimed.len() != at.len()
        {
            let (said, times) = (claimed.len(), at.len());
            problems
                .add(span, format!("`claimed` has a number for each time: {times}, not {said}"));
        }
        if !at.is_sorted() {
            problems.add(&section.span, "the times in `at` come in order");
        }
        if let Some((id, span)) = &id
            && !seen.insert(*id)
        {
            problems.add(span, format!("two series are called `{id}`"));
        }
        section.finish(problems);
        let Some((id, _)) = id else { continue };
        let claimed = claimed.map_or_else(Vec::new, |(c, _)| c);
        all.push(Series {
            id: id.to_owned(),
            title,
            figures,
            names: names_of,
            at,
            window,
            claimed,
        });
    }
    all
}

/// The texts of a list that `read` understands; the others are problems.
fn texts<T>(
    section: &mut Section<'_, '_>,
    key: &'static str,
    problems: &mut Collector<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let mut all = Vec::new();
    for (text, span) in section.texts(key, problems).unwrap_or_default() {
        match read(text) {
            Ok(one) => all.push(one),
            Err(why) => problems.add(&span, format!("`{key}`: {why}")),
        }
    }
    all
}
