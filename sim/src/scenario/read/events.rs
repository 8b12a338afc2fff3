//! `[[at]]`: what happens when, and what an operator types.

use super::Names;
use crate::scenario::problem::{Collector, unknown};
use crate::scenario::section::Section;
use crate::scenario::units;
use crate::scenario::{Action, Event, Hosts};
use std::collections::BTreeSet;

const ACTIONS: [&str; 8] = ["load", "cut", "heal", "crash", "start", "clock", "operator", "note"];

pub(super) fn read_events(
    sections: Vec<Section<'_, '_>>,
    names: &Names<'_>,
    problems: &mut Collector<'_>,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut ids = BTreeSet::new();
    for mut section in sections {
        let id = section.text("id", problems);
        if let Some((id, span)) = &id
            && !ids.insert(*id)
        {
            problems.add(span, format!("two events are called `{id}`"));
        }
        let id = id.map(|(id, _)| id.to_owned());
        let at = section.parsed("t", problems, |text| names.time(text));
        let note = section.text("note", problems).map(|(n, _)| n.to_owned());
        let Some((kind, span)) = section.text("do", problems) else {
            section.missing("do", "do = \"cut\"", problems);
            continue;
        };
        section.missing("t", "t = \"14:19\" within the run", problems);
        if !ACTIONS.contains(&kind) {
            problems.add(&span, unknown("action", kind, ACTIONS));
            continue;
        }
        let until = section.parsed("until", problems, |text| names.time(text));
        if let (Some((at, _)), Some((until, span))) = (&at, &until)
            && until <= at
        {
            problems.add(span, "`until` comes after `t`");
        }
        if let Some((_, span)) = &until
            && !["cut", "crash"].contains(&kind)
        {
            problems.add(span, format!("`{kind}` has no `until`"));
        }
        let action = read_action(kind, &mut section, names, problems);
        section.finish(problems);
        let (Some((at, _)), Some(action)) = (at, action) else { continue };
        if let Some((until, _)) = until {
            let end = match &action {
                Action::Cut { from, to, .. } => {
                    Some(Action::Heal { from: from.clone(), to: to.clone() })
                }
                Action::Crash { node } => Some(Action::Start { node: node.clone() }),
                _ => None,
            };
            events.extend(end.map(|action| Event { id: None, at: until, action, note: None }));
        }
        events.push(Event { id, at, action, note });
    }
    // Stable: what happens at the same time happens in the order of the text.
    events.sort_by_key(|e| e.at);
    events
}

fn read_action(
    kind: &str,
    section: &mut Section<'_, '_>,
    names: &Names<'_>,
    problems: &mut Collector<'_>,
) -> Option<Action> {
    let hosts = |section: &mut Section<'_, '_>, key, problems: &mut Collector<'_>| {
        let mut all = Vec::new();
        for (text, span) in section.texts(key, problems)? {
            match names.hosts(text) {
                Ok(hosts) => all.push(hosts),
                Err(why) => problems.add(&span, why),
            }
        }
        Some(all)
    };
    match kind {
        "load" => {
            let actor = section.parsed("actor", problems, |text| names.actor(text, "open-loop"));
            let rate = section.parsed("rate", problems, units::rate);
            section.missing("actor", "actor = \"shop\"", problems);
            section.missing("rate", "rate = \"50000/min\"", problems);
            Some(Action::Load { actor: actor?.0, rate: rate?.0 })
        }
        "cut" | "heal" => {
            let from = hosts(section, "from", problems);
            let to = hosts(section, "to", problems);
            section.missing("from", "from = \"rack:a\"", problems);
            section.missing("to", "to = [\"rack:b\", \"rack:c\"]", problems);
            if kind == "heal" {
                return Some(Action::Heal { from: from?, to: to? });
            }
            let oneway = section.flag("oneway", problems).is_some_and(|o| o.0);
            Some(Action::Cut { from: from?, to: to?, oneway })
        }
        "crash" | "start" | "clock" => {
            let node = section.parsed("node", problems, |text| names.node(text));
            section.missing("node", "node = \"a1\"", problems);
            if kind == "clock" {
                let jump = section.parsed("jump", problems, jump_micros);
                return Some(Action::Clock { node: node?.0, jump_micros: jump?.0 });
            }
            let node = node?.0;
            Some(if kind == "crash" { Action::Crash { node } } else { Action::Start { node } })
        }
        "operator" => {
            let on = hosts(section, "on", problems).unwrap_or_else(|| vec![Hosts::All]);
            let run = section.parsed("run", problems, |text| names.command(text, on));
            run.map(|(action, _)| action)
        }
        _ => Some(Action::Note),
    }
}

/// `"-2s"` or `"+500ms"` in microseconds.
fn jump_micros(text: &str) -> Result<i64, String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let micros = i64::try_from(units::duration(rest)?.as_micros());
    micros.map(|m| m * sign).map_err(|_| format!("`{text}` is out of range"))
}
