//! `[actors]`: who uses the store.

use super::level;
use crate::scenario::problem::{Collector, unknown};
use crate::scenario::section::{Section, as_section};
use crate::scenario::units;
use crate::scenario::{Actor, Cluster, History, KeyStyle, OnError, Shard};
use helenus_core::Level;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// As large as the store takes a value.
const VALUE_BYTES_MAX: u64 = 16 << 20;

const ACTOR_KINDS: [&str; 5] = ["sql", "log", "projector", "open-loop", "reader"];

pub(super) fn read_actors(
    mut section: Section<'_, '_>,
    cluster: &Cluster,
    problems: &mut Collector<'_>,
) -> BTreeMap<String, Actor> {
    let mut actors = BTreeMap::new();
    // Who an actor leans on: (its name, the other's, the kind the other must be of, where it says so).
    let mut leans: Vec<(String, &'static str, Range<usize>)> = Vec::new();
    for (name, span, value) in section.named() {
        let what = format!("the actor `{name}`");
        let Some(section) = as_section(what, value, span, problems) else { continue };
        if let Some(actor) = read_actor(section, cluster, &mut leans, problems) {
            actors.insert(name.to_owned(), actor);
        }
    }
    for (other, kind, span) in leans {
        match actors.get(&other) {
            Some(actor) if kind_of(actor) == kind => {}
            Some(actor) => problems.add(
                &span,
                format!("`{other}` is a {}, but a {kind} is needed here", kind_of(actor)),
            ),
            None => {
                problems.add(&span, unknown("actor", &other, actors.keys().map(String::as_str)))
            }
        }
    }
    // The order system is one line from shoppers to readers; two of a kind would make "the" order ambiguous.
    for kind in ACTOR_KINDS {
        let count = actors.values().filter(|a| kind_of(a) == kind).count();
        if count != 1 {
            problems
                .add(&section.span, format!("there is one actor of kind `{kind}`, not {count}"));
        }
    }
    actors
}

pub(super) fn kind_of(actor: &Actor) -> &'static str {
    match actor {
        Actor::Sql { .. } => "sql",
        Actor::Log { .. } => "log",
        Actor::Projector { .. } => "projector",
        Actor::Shop { .. } => "open-loop",
        Actor::Reader { .. } => "reader",
    }
}

fn read_actor(
    mut section: Section<'_, '_>,
    cluster: &Cluster,
    leans: &mut Vec<(String, &'static str, Range<usize>)>,
    problems: &mut Collector<'_>,
) -> Option<Actor> {
    let Some((kind, kind_span)) = section.text("kind", problems) else {
        section.missing("kind", "kind = \"reader\"", problems);
        return None;
    };
    let mut other = |section: &mut Section<'_, '_>, key, kind, problems: &mut Collector<'_>| {
        let Some((name, span)) = section.text(key, problems) else {
            section.missing(key, "the name of another actor", problems);
            return None;
        };
        leans.push((name.to_owned(), kind, span));
        Some(name.to_owned())
    };
    let keyspace = |section: &mut Section<'_, '_>, key, problems: &mut Collector<'_>| {
        let known = || cluster.keyspaces.keys().map(String::as_str);
        let Some((name, span)) = section.text(key, problems) else {
            section.missing(key, "the name of a keyspace", problems);
            return None;
        };
        if !cluster.keyspaces.contains_key(name) {
            problems.add(&span, unknown("keyspace", name, known().collect::<Vec<_>>()));
        }
        Some(name.to_owned())
    };
    let actor = match kind {
        "sql" => keyspace(&mut section, "table", problems).map(|table| Actor::Sql { table }),
        "log" => {
            let from = other(&mut section, "from", "sql", problems);
            let shards = positive(&mut section, "shards", 1, 1000, problems);
            from.map(|from| Actor::Log { from, shards })
        }
        "projector" => {
            let from = other(&mut section, "from", "log", problems);
            let into = keyspace(&mut section, "into", problems);
            read_projector(&mut section, from, into, problems)
        }
        "open-loop" => {
            let into = other(&mut section, "into", "sql", problems);
            read_shop(&mut section, into, cluster, problems)
        }
        "reader" => {
            let from = keyspace(&mut section, "from", problems);
            read_reader(&mut section, from, problems)
        }
        unknown_kind => {
            problems.add(&kind_span, unknown("kind of actor", unknown_kind, ACTOR_KINDS));
            return None;
        }
    };
    section.finish(problems);
    actor
}

fn positive(
    section: &mut Section<'_, '_>,
    key: &'static str,
    default: u64,
    most: u64,
    problems: &mut Collector<'_>,
) -> u64 {
    let Some((n, span)) = section.number(key, problems) else { return default };
    if !(1..=most).contains(&n) {
        problems.add(&span, format!("`{key}` is between 1 and {most}"));
        return default;
    }
    n
}

fn read_projector(
    section: &mut Section<'_, '_>,
    from: Option<String>,
    into: Option<String>,
    problems: &mut Collector<'_>,
) -> Option<Actor> {
    let write_cl = section.parsed("write_cl", problems, level);
    let on_error = section.parsed("on_error", problems, |text| match text {
        "drop" => Ok(OnError::Drop),
        "retry" => Ok(OnError::Retry),
        other => Err(unknown("reaction", other, ["drop", "retry"])),
    });
    let concurrency = positive(section, "concurrency", 1, 1000, problems);
    Some(Actor::Projector {
        from: from?,
        into: into?,
        write_cl: write_cl.map_or(Level::Quorum, |w| w.0),
        on_error: on_error.map_or(OnError::Retry, |o| o.0),
        concurrency,
    })
}

fn read_shop(
    section: &mut Section<'_, '_>,
    into: Option<String>,
    cluster: &Cluster,
    problems: &mut Collector<'_>,
) -> Option<Actor> {
    let rate = section.parsed("rate", problems, units::rate);
    let value = section.parsed("value", problems, units::bytes);
    section.missing("rate", "rate = \"5000/min\"", problems);
    if let Some((bytes, span)) = &value
        && !(16..=VALUE_BYTES_MAX).contains(bytes)
    {
        problems.add(span, format!("`value` is between 16B and {VALUE_BYTES_MAX} bytes"));
    }
    let keys = section.parsed("keys", problems, |text| match text {
        "hashed" => Ok(KeyStyle::Hashed),
        "first-letter" => Ok(KeyStyle::FirstLetter),
        other => Err(unknown("way to make keys", other, ["hashed", "first-letter"])),
    });
    let shards = section.section("shards", problems).map(|s| read_shards(s, cluster, problems));
    let shards = shards.unwrap_or_default();
    if let Some((KeyStyle::FirstLetter, span)) = &keys
        && shards.is_empty()
    {
        problems.add(span, format!("first-letter keys need {SHARDS_EXAMPLE}"));
    }
    let (keys, value) = (keys.map_or(KeyStyle::Hashed, |k| k.0), value.map_or(1000, |v| v.0));
    let history = section.section("history", problems);
    let history = history.and_then(|s| read_history(s, problems));
    Some(Actor::Shop { into: into?, rate: rate?.0, value, keys, shards, history })
}

fn read_history(mut section: Section<'_, '_>, problems: &mut Collector<'_>) -> Option<History> {
    let bytes = section.parsed("bytes", problems, units::bytes);
    section.missing("bytes", "bytes = \"50GB\"", problems);
    let record = section.parsed("record", problems, units::bytes);
    section.missing("record", "record = \"200KB\"", problems);
    if let Some((bytes, span)) = &record
        && !(16..=VALUE_BYTES_MAX).contains(bytes)
    {
        problems.add(span, format!("`record` is between 16B and {VALUE_BYTES_MAX} bytes"));
    }
    section.finish(problems);
    Some(History { bytes: bytes?.0, record: record?.0 })
}

const SHARDS_EXAMPLE: &str =
    "shards = { a-m = { share = \"65%\", on = \"a1\" }, n-z = { share = \"35%\", on = \"a2\" } }";

/// `a-m = { share = "65%", on = "a1" }`: who shops, and where their orders live.
fn read_shards(
    mut section: Section<'_, '_>,
    cluster: &Cluster,
    problems: &mut Collector<'_>,
) -> Vec<Shard> {
    let nodes: Vec<String> = cluster.nodes().into_iter().map(|n| n.name).collect();
    let mut shards: Vec<Shard> = Vec::new();
    for (name, span, value) in section.named() {
        let what = format!("the shard `{name}`");
        let Some(mut shard) = as_section(what, value, span.clone(), problems) else { continue };
        let share = shard.parsed("share", problems, units::percent);
        shard.missing("share", "share = \"65%\"", problems);
        let on = shard.parsed("on", problems, |node| {
            let known = nodes.iter().map(String::as_str);
            if nodes.iter().any(|n| n == node) {
                Ok(node.to_owned())
            } else {
                Err(unknown("node", node, known))
            }
        });
        shard.missing("on", "on = \"a1\", the node whose arc of the ring holds it", problems);
        shard.finish(problems);
        let Some(letters) = letters(name) else {
            problems.add(&span, format!("`{name}` is no range of letters; write it as `a-m`"));
            continue;
        };
        let (first, last) = letters;
        if shards.iter().any(|s| s.letters.0 <= last && first <= s.letters.1) {
            problems.add(&span, format!("a letter of `{name}` is in another shard already"));
        }
        if let (Some((percent, _)), Some((on, _))) = (share, on) {
            shards.push(Shard { letters, percent, on });
        }
    }
    let all: f64 = shards.iter().map(|s| s.percent).sum();
    if !shards.is_empty() && (all - 100.0).abs() > 1e-6 {
        problems.add(&section.span, format!("the shares of `shards` add up to 100 %, not {all} %"));
    }
    shards
}

/// `a-m`.
fn letters(text: &str) -> Option<(char, char)> {
    let mut chars = text.chars();
    let (first, dash, last) = (chars.next()?, chars.next()?, chars.next()?);
    let letters = first.is_ascii_lowercase() && last.is_ascii_lowercase() && first <= last;
    (letters && dash == '-' && chars.next().is_none()).then_some((first, last))
}

fn read_reader(
    section: &mut Section<'_, '_>,
    from: Option<String>,
    problems: &mut Collector<'_>,
) -> Option<Actor> {
    if let Some((read, span)) = section.text("read", problems)
        && read != "own-last-order"
    {
        problems.add(&span, unknown("way to read", read, ["own-last-order"]));
    }
    let cl = section.parsed("cl", problems, level);
    if let Some((level, span)) = &cl
        && matches!(level, Level::Any | Level::EachQuorum)
    {
        problems.add(span, format!("{} is for writes only", level));
    }
    let low = section.parsed("after_min", problems, units::duration);
    let high = section.parsed("after_max", problems, units::duration);
    let low = low.map_or(Duration::from_millis(100), |l| l.0);
    let high = high.map_or(Duration::from_secs(5), |h| h.0);
    if low > high {
        problems.add(&section.span, "`after_min` is at most `after_max`");
    }
    let reads_per_order = positive(section, "reads_per_order", 1, 100, problems);
    let cl = cl.map_or(Level::Quorum, |c| c.0);
    Some(Actor::Reader { from: from?, cl, after: (low, high), reads_per_order })
}
