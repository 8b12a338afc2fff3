//! TOML text -> [`Scenario`]: every key, name and unit is checked here, and all problems are reported at once.

use super::problem::{Collector, unknown};
use super::section::{Section, as_section, whole};
use super::units::{self, TimeOfDay};
use super::{
    Action, Actor, Cluster, Comparison, Event, Expectation, Hints, Hosts, Keyspace, NodeName,
    OnError, Problems, Scenario, VERBS, When,
};
use helenus_core::Level;
use helenus_node::config::Overflow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;
use toml::de::DeTable;

/// More text than this is no scenario.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// More nodes than this would be simulated for hours.
const NODES_MAX: usize = 100;
/// A scenario may take at most a day of simulated time by its clock's nature; a value may take this much.
const VALUE_BYTES_MAX: u64 = 16 << 20;

/// Reads a consistency level by Cassandra's name.
fn level(text: &str) -> Result<Level, String> {
    let found = Level::EVERY.into_iter().find(|level| level.name() == text);
    found.ok_or_else(|| unknown("consistency level", text, Level::EVERY.map(Level::name)))
}

pub(super) fn scenario(file: &str, text: &str) -> Result<Scenario, Problems> {
    let mut problems = Collector::new(file, text);
    if text.len() > TEXT_BYTES_MAX {
        problems.add(&(0..0), format!("a scenario has at most {TEXT_BYTES_MAX} bytes"));
        return Err(problems.into_problems());
    }
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            problems.add(&error.span().unwrap_or(0..0), error.message().to_owned());
            return Err(problems.into_problems());
        }
    };
    let root = Section::new("the scenario", table.get_ref(), 0..0);
    let scenario = whole_scenario(root, &mut problems);
    match scenario {
        Some(scenario) if problems.is_clean() => Ok(scenario),
        _ => Err(problems.into_problems()),
    }
}

/// Reads on after a problem, so that one run names all of them; `None` when a part is missing altogether.
fn whole_scenario(mut root: Section<'_, '_>, problems: &mut Collector<'_>) -> Option<Scenario> {
    if let Some((format, span)) = root.number("format", problems)
        && format != 1
    {
        problems.add(&span, format!("format {format} is not known; this lab reads format 1"));
    }
    let id = root.text("id", problems);
    root.missing("id", "id = \"az-partition\"", problems);
    let title = root.text("title", problems).map_or_else(String::new, |(t, _)| t.to_owned());
    let source = root.text("source", problems).map_or_else(String::new, |(t, _)| t.to_owned());
    let seed = root.number("seed", problems).map_or(1, |(n, _)| n);
    let scale = divisor(&mut root, "scale", problems);
    let value_scale = divisor(&mut root, "value_scale", problems);
    let clock = root.section("clock", problems);
    let clock = match clock {
        Some(section) => read_clock(section, problems),
        None => {
            root.missing("clock", "clock = { start = \"14:00\", end = \"15:20\" }", problems);
            None
        }
    };
    let cluster = match root.section("cluster", problems) {
        Some(section) => read_cluster(section, problems),
        None => {
            root.missing("cluster", "[cluster]", problems);
            None
        }
    };
    let actors = root.section("actors", problems);
    let events = root.list("at", problems);
    let expectations = root.list("expect", problems);
    root.finish(problems);
    let (clock, cluster) = (clock?, cluster?);

    let actors = actors.map(|s| read_actors(s, &cluster, problems)).unwrap_or_default();
    let names = Names { clock: &clock, cluster: &cluster, actors: &actors };
    let events = read_events(events, &names, problems);
    let expectations = read_expectations(expectations, &names, problems);
    let Clock { start, end, tick, latency } = clock;
    Some(Scenario {
        id: id?.0.to_owned(),
        title,
        source,
        seed,
        scale,
        value_scale,
        start,
        end,
        tick,
        latency,
        cluster,
        actors,
        events,
        expectations,
    })
}

fn divisor(root: &mut Section<'_, '_>, key: &'static str, problems: &mut Collector<'_>) -> u64 {
    match root.number(key, problems) {
        Some((0, span)) => {
            problems.add(&span, format!("`{key}` divides, so it is 1 or more"));
            1
        }
        Some((n, _)) => n,
        None => 1,
    }
}

struct Clock {
    start: TimeOfDay,
    end: TimeOfDay,
    tick: Duration,
    latency: (Duration, Duration),
}

fn read_clock(mut section: Section<'_, '_>, problems: &mut Collector<'_>) -> Option<Clock> {
    let start = section.parsed("start", problems, TimeOfDay::parse);
    let end = section.parsed("end", problems, TimeOfDay::parse);
    let tick = section.parsed("tick", problems, units::duration);
    let low = section.parsed("latency_min", problems, units::duration);
    let high = section.parsed("latency_max", problems, units::duration);
    section.missing("start", "start = \"14:00\"", problems);
    section.missing("end", "end = \"15:20\"", problems);
    let millis = Duration::from_millis;
    if let Some((tick, span)) = &tick
        && !(millis(1)..=millis(1000)).contains(tick)
    {
        problems.add(span, "`tick` is between 1ms and 1s");
    }
    let latency =
        (low.as_ref().map_or(millis(1), |l| l.0), high.as_ref().map_or(millis(5), |h| h.0));
    if latency.0 > latency.1 || latency.1 > Duration::from_secs(60) {
        let span = high.or(low).map_or(section.span.clone(), |l| l.1);
        problems.add(&span, "`latency_min` is at most `latency_max`, and that at most 60s");
    }
    section.finish(problems);
    let ((start, _), (end, span)) = (start?, end?);
    if end <= start {
        problems.add(&span, "`end` comes after `start` on the same day");
    }
    Some(Clock { start, end, tick: tick.map_or(millis(10), |t| t.0), latency })
}

fn read_cluster(mut section: Section<'_, '_>, problems: &mut Collector<'_>) -> Option<Cluster> {
    let dcs = section.section("dcs", problems);
    section.missing("dcs", "dcs = { us-east-1 = { a = 3, b = 3, c = 3 } }", problems);
    let dcs = read_dcs(dcs, problems);
    let keyspaces = section.section("keyspace", problems);
    section.missing("keyspace", "keyspace.orders = { rf = { us-east-1 = 3 } }", problems);
    let keyspaces = read_keyspaces(keyspaces, &dcs, problems);
    let hints = section.section("hints", problems).map(|s| read_hints(s, problems));
    let num_tokens = section.number("num_tokens", problems).map_or(4, |(n, span)| {
        if !(1..=256).contains(&n) {
            problems.add(&span, "`num_tokens` is between 1 and 256");
        }
        n.clamp(1, 256)
    });
    let memtable = section.parsed("memtable_heap_space", problems, units::bytes);
    let write = section.parsed("write_request_timeout", problems, units::duration);
    let read = section.parsed("read_request_timeout", problems, units::duration);
    section.finish(problems);
    Some(Cluster {
        dcs,
        keyspaces,
        num_tokens,
        hints: hints.unwrap_or(Hints {
            cap: 1 << 30,
            overflow: Overflow::DropNewest,
            throttle: 1 << 20,
            window: Duration::from_secs(3 * 3600),
            paused: false,
        }),
        memtable: memtable.map_or(64 << 20, |m| m.0),
        write_timeout: write.map_or(Duration::from_secs(2), |w| w.0),
        read_timeout: read.map_or(Duration::from_secs(5), |r| r.0),
    })
}

type Dcs = BTreeMap<String, BTreeMap<String, u64>>;

fn read_dcs(section: Option<Section<'_, '_>>, problems: &mut Collector<'_>) -> Dcs {
    let mut dcs = Dcs::new();
    let mut seen = BTreeSet::new();
    let mut nodes: u64 = 0;
    let Some(mut section) = section else { return dcs };
    for (dc, span, value) in section.named() {
        let Some(mut racks) = as_section(format!("the data centre `{dc}`"), value, span, problems)
        else {
            continue;
        };
        let mut counts = BTreeMap::new();
        for (rack, span, count) in racks.named() {
            match whole(count.get_ref()) {
                Some(count) if (1..=99).contains(&count) => {
                    nodes += count;
                    counts.insert(rack.to_owned(), count);
                }
                _ => problems.add(&count.span(), "a rack has 1 to 99 nodes"),
            }
            let plain = rack.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
            if rack.is_empty() || !plain {
                // Digits would make `a1` both a rack and a node.
                problems.add(&span, format!("the rack `{rack}` is named with letters only"));
            }
            if !seen.insert(rack.to_owned()) {
                problems
                    .add(&span, format!("two racks are called `{rack}`; nodes are named by them"));
            }
        }
        dcs.insert(dc.to_owned(), counts);
    }
    if nodes == 0 || nodes > NODES_MAX as u64 {
        problems.add(&section.span, format!("a cluster has 1 to {NODES_MAX} nodes, not {nodes}"));
    }
    dcs
}

fn read_keyspaces(
    section: Option<Section<'_, '_>>,
    dcs: &Dcs,
    problems: &mut Collector<'_>,
) -> BTreeMap<String, Keyspace> {
    let mut keyspaces = BTreeMap::new();
    let Some(mut section) = section else { return keyspaces };
    for (name, span, value) in section.named() {
        let what = format!("the keyspace `{name}`");
        let Some(mut keyspace) = as_section(what, value, span, problems) else { continue };
        let rf = keyspace.section("rf", problems);
        keyspace.missing("rf", "rf = { us-east-1 = 3 }", problems);
        let mut copies = BTreeMap::new();
        for (dc, span, count) in rf.map(|mut s| s.named()).unwrap_or_default() {
            let Some(racks) = dcs.get(dc) else {
                problems.add(&span, unknown("data centre", dc, dcs.keys().map(String::as_str)));
                continue;
            };
            let nodes: u64 = racks.values().sum();
            match whole(count.get_ref()) {
                Some(n) if (1..=nodes).contains(&n) => {
                    copies.insert(dc.to_owned(), n);
                }
                _ => problems.add(&count.span(), format!("`{dc}` holds 1 to {nodes} copies")),
            }
        }
        let table = keyspace.text("table", problems).map_or(name, |(t, _)| t).to_owned();
        let mut options = BTreeMap::new();
        if let Some((repair, span)) = keyspace.text("read_repair", problems) {
            if ["BLOCKING", "NONE"].contains(&repair) {
                options.insert("read_repair".to_owned(), repair.to_owned());
            } else {
                problems.add(&span, unknown("read repair", repair, ["BLOCKING", "NONE"]));
            }
        }
        if let Some((compaction, span)) = keyspace.text("compaction", problems)
            && compaction != "stcs"
        {
            problems.add(&span, unknown("compaction strategy", compaction, ["stcs"]));
        }
        keyspace.finish(problems);
        keyspaces.insert(name.to_owned(), Keyspace { rf: copies, table, options });
    }
    keyspaces
}

fn read_hints(mut section: Section<'_, '_>, problems: &mut Collector<'_>) -> Hints {
    let cap = section.parsed("cap", problems, units::bytes);
    let overflow = section.parsed("overflow", problems, |text| match text {
        "drop-newest" => Ok(Overflow::DropNewest),
        "drop-oldest" => Ok(Overflow::DropOldest),
        other => Err(unknown("overflow policy", other, ["drop-newest", "drop-oldest"])),
    });
    let throttle = section.parsed("throttle", problems, units::byte_rate);
    let window = section.parsed("window", problems, units::duration);
    let paused = section.flag("paused", problems);
    section.finish(problems);
    Hints {
        cap: cap.map_or(1 << 30, |c| c.0),
        overflow: overflow.map_or(Overflow::DropNewest, |o| o.0),
        throttle: throttle.map_or(1 << 20, |t| t.0),
        window: window.map_or(Duration::from_secs(3 * 3600), |w| w.0),
        paused: paused.is_some_and(|p| p.0),
    }
}

const ACTOR_KINDS: [&str; 5] = ["sql", "log", "projector", "open-loop", "reader"];

fn read_actors(
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

fn kind_of(actor: &Actor) -> &'static str {
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
            read_shop(&mut section, into, problems)
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
    Some(Actor::Shop { into: into?, rate: rate?.0, value: value.map_or(1000, |v| v.0) })
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

/// The names that events and expectations may use.
struct Names<'n> {
    clock: &'n Clock,
    cluster: &'n Cluster,
    actors: &'n BTreeMap<String, Actor>,
}

impl Names<'_> {
    /// A time within the run, counted from its start.
    fn time(&self, text: &str) -> Result<Duration, String> {
        let (start, end) = (self.clock.start, self.clock.end);
        let time = TimeOfDay::parse(text)?;
        let at = time.since(start).filter(|_| time <= end);
        at.ok_or_else(|| format!("{time} is outside of the run, {start} to {end}"))
    }

    fn span(&self, text: &str) -> Result<(Duration, Duration), String> {
        let (from, to) = text
            .split_once("..")
            .ok_or_else(|| format!("`{text}` is not a span; write it as \"14:00..14:27\""))?;
        let (from, to) = (self.time(from.trim())?, self.time(to.trim())?);
        if from < to { Ok((from, to)) } else { Err(format!("`{text}` ends before it begins")) }
    }

    fn hosts(&self, text: &str) -> Result<Hosts, String> {
        let racks = self.cluster.racks();
        if text == "all" {
            return Ok(Hosts::All);
        }
        if let Some(rack) = text.strip_prefix("rack:") {
            return if racks.iter().any(|r| r == rack) {
                Ok(Hosts::Rack(rack.to_owned()))
            } else {
                Err(unknown("rack", rack, racks.iter().map(String::as_str)))
            };
        }
        self.node(text.strip_prefix("node:").unwrap_or(text)).map(Hosts::Node)
    }

    fn node(&self, name: &str) -> Result<String, String> {
        let nodes: Vec<NodeName> = self.cluster.nodes();
        if nodes.iter().any(|n| n.name == name) {
            return Ok(name.to_owned());
        }
        let known = nodes.iter().map(|n| n.name.as_str()).chain(["all", "rack:..."]);
        Err(unknown("node", name, known))
    }

    fn actor(&self, name: &str, kind: &str) -> Result<String, String> {
        match self.actors.get(name) {
            Some(actor) if kind_of(actor) == kind => Ok(name.to_owned()),
            Some(actor) => Err(format!("`{name}` is a {}, not a {kind}", kind_of(actor))),
            None => Err(unknown("actor", name, self.actors.keys().map(String::as_str))),
        }
    }

    /// What an operator types.
    fn command(&self, text: &str, on: Vec<Hosts>) -> Result<Action, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["set", setting] => {
                let complain = || format!("`{setting}`: write it as `set app.cl=ONE`");
                let (path, value) = setting.split_once('=').ok_or_else(complain)?;
                let (actor, key) = path.split_once('.').ok_or_else(complain)?;
                if key != "cl" {
                    return Err(unknown("setting", key, ["cl"]));
                }
                let (actor, level) = (self.actor(actor, "reader")?, level(value)?);
                if matches!(level, Level::Any | Level::EachQuorum) {
                    return Err(format!("{} is for writes only", level));
                }
                Ok(Action::SetLevel { actor, level })
            }
            ["nodetool" | "helenusctl", verb] => {
                let found = VERBS.iter().find(|(name, _)| name == verb);
                let verb = found
                    .map(|(_, verb)| *verb)
                    .ok_or_else(|| unknown("verb", verb, VERBS.iter().map(|(name, _)| *name)))?;
                Ok(Action::Nodetool { verb, on })
            }
            ["nodetool" | "helenusctl", verb, ..] => {
                Err(format!("`{verb}` takes nothing behind it; say where it runs with `on`"))
            }
            _ => Err(format!("`{text}`: an operator runs `set ACTOR.cl=LEVEL` or `nodetool VERB`")),
        }
    }
}

const ACTIONS: [&str; 8] = ["load", "cut", "heal", "crash", "start", "clock", "operator", "note"];

fn read_events(
    sections: Vec<Section<'_, '_>>,
    names: &Names<'_>,
    problems: &mut Collector<'_>,
) -> Vec<Event> {
    let mut events = Vec::new();
    for mut section in sections {
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
            events.extend(end.map(|action| Event { at: until, action, note: None }));
        }
        events.push(Event { at, action, note });
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

fn read_expectations(
    sections: Vec<Section<'_, '_>>,
    names: &Names<'_>,
    problems: &mut Collector<'_>,
) -> Vec<Expectation> {
    let racks = names.cluster.racks();
    let mut seen = BTreeSet::new();
    let mut expectations = Vec::new();
    for mut section in sections {
        let id = section.text("id", problems);
        let that = section.parsed("that", problems, |text| Comparison::parse(text, &racks));
        let because = section.text("because", problems);
        section.missing("id", "id = \"quorum-not-stale\"", problems);
        section.missing("because", "a sentence that says why it must be so", problems);
        if let Some((text, span)) = &because
            && text.trim().is_empty()
        {
            problems.add(span, "`because` says in a sentence why it must be so");
        }
        let claimed = section.text("claimed", problems).map(|(t, _)| t.to_owned());
        let claim = section.parsed("claim", problems, |text| Comparison::parse(text, &racks));
        let when = section.parsed("when", problems, |text| names.span(text));
        let by = section.parsed("by", problems, |text| names.time(text));
        let at = section.parsed("at", problems, |text| names.time(text));
        if usize::from(when.is_some()) + usize::from(by.is_some()) + usize::from(at.is_some()) > 1 {
            problems.add(&section.span, "one of `when`, `by` and `at`, not several");
        }
        if let Some((id, span)) = &id
            && !seen.insert(id.to_owned())
        {
            problems.add(span, format!("two expectations are called `{id}`"));
        }
        section.missing("that", "that = \"reads.stale{cl=QUORUM} == 0\"", problems);
        section.finish(problems);
        let (Some((id, _)), Some((that, _)), Some((because, _))) = (id, that, because) else {
            continue;
        };
        let when = match (when, by, at) {
            (Some(((from, to), _)), ..) => When::During(from, to),
            (_, Some((by, _)), _) => When::By(by),
            (.., Some((at, _))) => When::At(at),
            _ => When::End,
        };
        let claim = claim.map(|(c, _)| c);
        let (id, because) = (id.to_owned(), because.to_owned());
        expectations.push(Expectation { id, that, when, because, claimed, claim });
    }
    expectations
}

#[cfg(test)]
mod tests;
