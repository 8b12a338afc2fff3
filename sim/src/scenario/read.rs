//! TOML text -> [`Scenario`]: every key, name and unit is checked here, and all problems are reported at once.

mod actors;
mod cluster;
mod events;
mod series;
mod variants;

use super::problem::{Collector, unknown};
use super::section::Section;
use super::units::{self, TimeOfDay};
use super::{
    Action, Actor, Cluster, Comparison, Expectation, Hosts, NodeName, Problems,
    SET_COMPACTION_THROUGHPUT, Scenario, VERBS, Variant, Verb, When,
};
use actors::{kind_of, read_actors};
use cluster::read_cluster;
use events::read_events;
use helenus_core::Level;
use series::read_series;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use toml::de::DeTable;
use variants::{Declared, read_variants};

/// More text than this is no scenario.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Reads a consistency level by Cassandra's name.
fn level(text: &str) -> Result<Level, String> {
    let found = Level::EVERY.into_iter().find(|level| level.name() == text);
    found.ok_or_else(|| unknown("consistency level", text, Level::EVERY.map(Level::name)))
}

pub(super) fn scenario(file: &str, text: &str, chosen: &[&str]) -> Result<Scenario, Problems> {
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
    let scenario = all_variants(table.get_ref(), chosen, &mut problems);
    match scenario {
        Some(scenario) if problems.is_clean() => Ok(scenario),
        _ => Err(problems.into_problems()),
    }
}

fn root<'t, 'd>(table: &'d DeTable<'t>) -> Section<'t, 'd> {
    Section::new("the scenario", table, 0..0)
}

/// Reads the story as it is written, every variant by itself, so that one that nobody chose is checked too, and then
/// those chosen together.
fn all_variants(
    table: &DeTable<'_>,
    chosen: &[&str],
    problems: &mut Collector<'_>,
) -> Option<Scenario> {
    let (scenario, declared) = whole_scenario(root(table), problems);
    if !problems.is_clean() {
        // A variant would only say the same again.
        return scenario;
    }
    let mut scenario = scenario?;
    for one in &declared {
        one.check_breaks(&scenario.expectations, problems);
        let mut varied = table.clone();
        one.apply(&mut varied, problems);
        drop(whole_scenario(root(&varied), problems));
    }
    if chosen.is_empty() {
        return Some(scenario);
    }
    let mut varied = table.clone();
    let mut applied = Vec::new();
    for id in chosen {
        let Some(one) = declared.iter().find(|d| d.variant.id == *id) else {
            let known: Vec<&str> = declared.iter().map(|d| d.variant.id.as_str()).collect();
            let none = || format!("`{}` has no variants, so there is no `{id}`", scenario.id);
            problems.add(
                &(0..0),
                if known.is_empty() { none() } else { unknown("variant", id, known) },
            );
            continue;
        };
        one.apply(&mut varied, problems);
        applied.push(one.variant.clone());
    }
    scenario = whole_scenario(root(&varied), problems).0?;
    scenario.chosen = applied;
    Some(scenario)
}

/// Reads on after a problem, so that one run names all of them; `None` when a part is missing altogether.
fn whole_scenario<'t, 'd>(
    mut root: Section<'t, 'd>,
    problems: &mut Collector<'_>,
) -> (Option<Scenario>, Vec<Declared<'t, 'd>>) {
    let declared = read_variants(root.list("variant", problems), problems);
    let variants = declared.iter().map(|d| d.variant.clone()).collect();
    (one_scenario(root, variants, problems), declared)
}

fn one_scenario(
    mut root: Section<'_, '_>,
    variants: Vec<Variant>,
    problems: &mut Collector<'_>,
) -> Option<Scenario> {
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
    let series = root.list("series", problems);
    root.finish(problems);
    let (clock, cluster) = (clock?, cluster?);

    let actors = actors.map(|s| read_actors(s, &cluster, problems)).unwrap_or_default();
    let names = Names { clock: &clock, cluster: &cluster, actors: &actors };
    let events = read_events(events, &names, problems);
    let expectations = read_expectations(expectations, &names, problems);
    let series = read_series(series, &names, problems);
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
        series,
        variants,
        chosen: Vec::new(),
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
        if let ["nodetool" | "helenusctl", verb @ ..] = words.as_slice()
            && let Some((_, verb)) = VERBS.iter().find(|(name, _)| *name == verb.join(" "))
        {
            return Ok(Action::Nodetool { verb: *verb, on });
        }
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
            ["nodetool" | "helenusctl", SET_COMPACTION_THROUGHPUT, rate] => {
                let verb = Verb::SetCompactionThroughput(units::throughput(rate)?);
                Ok(Action::Nodetool { verb, on })
            }
            ["nodetool" | "helenusctl", SET_COMPACTION_THROUGHPUT] => {
                Err(format!("`{SET_COMPACTION_THROUGHPUT}` needs a rate, such as 16MiB/s, or 0"))
            }
            ["nodetool" | "helenusctl", verb, ..] if !verbs().any(|known| known == *verb) => {
                Err(unknown("verb", verb, verbs()))
            }
            ["nodetool" | "helenusctl", verb, ..] => {
                Err(format!("`{verb}` takes nothing behind it; say where it runs with `on`"))
            }
            _ => Err(format!("`{text}`: an operator runs `set ACTOR.cl=LEVEL` or `nodetool VERB`")),
        }
    }
}

fn verbs() -> impl Iterator<Item = &'static str> + Clone {
    VERBS.iter().map(|(name, _)| *name).chain([SET_COMPACTION_THROUGHPUT])
}

fn read_expectations(
    sections: Vec<Section<'_, '_>>,
    names: &Names<'_>,
    problems: &mut Collector<'_>,
) -> Vec<Expectation> {
    let hosts = names.cluster.host_names();
    let mut seen = BTreeSet::new();
    let mut expectations = Vec::new();
    for mut section in sections {
        let id = section.text("id", problems);
        let that = section.parsed("that", problems, |text| Comparison::parse(text, &hosts));
        let because = section.text("because", problems);
        section.missing("id", "id = \"quorum-not-stale\"", problems);
        section.missing("because", "a sentence that says why it must be so", problems);
        if let Some((text, span)) = &because
            && text.trim().is_empty()
        {
            problems.add(span, "`because` says in a sentence why it must be so");
        }
        let claimed = section.text("claimed", problems).map(|(t, _)| t.to_owned());
        let claim = section.parsed("claim", problems, |text| Comparison::parse(text, &hosts));
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
