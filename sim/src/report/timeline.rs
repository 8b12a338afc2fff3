//! What happened when: the scenario's events, and what was measured between them.

use crate::lab::Run;
use crate::ledger::{HintFate, NodeIndex, ReadVerdict};
use crate::oracle::Lens;
use crate::scenario::{Action, Event, Hosts};
use std::collections::BTreeSet;
use std::time::Duration;

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// When.
    pub at: Duration,
    /// Whether the run measured it; otherwise the scenario made it happen.
    pub measured: bool,
    /// What, in one sentence.
    pub text: String,
}

/// The whole run in order of time.
pub fn timeline(run: &Run) -> Vec<Moment> {
    let lens = run.lens();
    let scripted = run.scenario.events.iter().map(|event| Moment {
        at: event.at,
        measured: false,
        text: describe(event, &lens),
    });
    let mut moments: Vec<Moment> = scripted.chain(convictions(run)).collect();
    moments.extend(hint_moments(run));
    moments.extend(read_moments(run));
    moments.extend(size_moments(run));
    moments.sort();
    moments
}

fn describe(event: &Event, lens: &Lens<'_>) -> String {
    let list = |hosts: &[Hosts]| hosts.iter().map(Hosts::to_string).collect::<Vec<_>>().join(", ");
    let what = match &event.action {
        Action::Load { rate, .. } => {
            let simulated = lens.scenario.scaled_rate(*rate) * 60.0;
            format!("load {rate} (simulated: {simulated:.0}/min)")
        }
        Action::Cut { from, to, oneway: false } => format!("cut: {} | {}", list(from), list(to)),
        Action::Cut { from, to, oneway: true } => {
            format!("cut one way: {} -x-> {}", list(from), list(to))
        }
        Action::Heal { from, to } => format!("heal: {} | {}", list(from), list(to)),
        Action::Crash { node } => format!("power loss: {node}"),
        Action::Start { node } => format!("start: {node}"),
        Action::Clock { node, jump_micros } => {
            let millis = jump_micros / 1000;
            format!("{node}'s wall clock jumps by {millis} ms")
        }
        Action::SetLevel { actor, level } => format!("operator: set {actor}.cl={level}"),
        Action::Nodetool { verb, on } => {
            format!("operator: {verb} on {}", list(on))
        }
        Action::Note => String::new(),
    };
    match (&event.note, what.is_empty()) {
        (Some(note), true) => note.clone(),
        (Some(note), false) => format!("{what} - {note}"),
        (None, _) => what,
    }
}

fn name(run: &Run, node: NodeIndex) -> String {
    let nodes = run.scenario.cluster.nodes();
    nodes.get(node).map_or_else(|| format!("node {node}"), |n| n.name.clone())
}

/// When the failure detectors had made up their minds: the first and the last change of each wave.
fn convictions(run: &Run) -> Vec<Moment> {
    const WAVE: Duration = Duration::from_secs(60);
    let mut moments = Vec::new();
    for alive in [false, true] {
        let mut wave: Vec<(Duration, NodeIndex, Option<NodeIndex>)> = Vec::new();
        let changes = run.ledger.liveness.iter().filter(|c| c.alive == alive);
        // Before the clock starts the cluster only gets to know itself.
        let changes = changes.filter(|c| c.at > Duration::ZERO);
        let mut flush = |wave: &mut Vec<(Duration, NodeIndex, Option<NodeIndex>)>| {
            if let (Some(first), Some(last)) = (wave.first(), wave.last()) {
                let observers: BTreeSet<NodeIndex> = wave.iter().map(|(_, n, _)| *n).collect();
                let peers: BTreeSet<NodeIndex> = wave.iter().filter_map(|(.., p)| *p).collect();
                let word = if alive { "sees alive again" } else { "takes for dead" };
                let text = format!(
                    "{} {word} {}: the first of {} such verdicts by {} nodes about {}; the last {:.0} s later",
                    name(run, first.1),
                    first.2.map_or_else(|| "a node".to_owned(), |peer| name(run, peer)),
                    wave.len(),
                    observers.len(),
                    peers.len(),
                    last.0.saturating_sub(first.0).as_secs_f64()
                );
                moments.push(Moment { at: first.0, measured: true, text });
            }
            wave.clear();
        };
        for change in changes {
            if wave.last().is_some_and(|(at, ..)| change.at.saturating_sub(*at) > WAVE) {
                flush(&mut wave);
            }
            wave.push((change.at, change.node, change.peer));
        }
        flush(&mut wave);
    }
    moments
}

fn hint_moments(run: &Run) -> Vec<Moment> {
    let hints = &run.ledger.hints;
    let mut moments = Vec::new();
    let mut add = |at: Duration, text: String| moments.push(Moment { at, measured: true, text });
    if let Some(first) = hints.iter().find(|h| matches!(h.fate, HintFate::Stored(_))) {
        add(first.at, format!("{} stores the first hint", name(run, first.node)));
    }
    let overflow = |fate| crate::oracle::is_overflow(fate);
    if let Some(first) = hints.iter().find(|h| overflow(h.fate)) {
        let total = hints.iter().filter(|h| overflow(h.fate)).count();
        add(
            first.at,
            format!(
                "{}'s hint store is full: the first of {total} hints that overflow",
                name(run, first.node)
            ),
        );
    }
    let delivered: Vec<Duration> =
        hints.iter().filter(|h| h.fate == HintFate::Delivered).map(|h| h.at).collect();
    if let (Some(first), Some(last)) = (delivered.first(), delivered.last()) {
        add(*first, "the first hint is delivered".to_owned());
        add(*last, format!("the last of {} hints is delivered", delivered.len()));
    }
    moments
}

fn read_moments(run: &Run) -> Vec<Moment> {
    let reads = &run.ledger.reads;
    let mut moments = Vec::new();
    let mut stale = reads.iter().filter(|r| r.verdict == ReadVerdict::Stale);
    if let Some(first) = stale.clone().next() {
        let text =
            format!("the first of {} stale reads, at {}", stale.clone().count(), first.level);
        moments.push(Moment { at: first.ended, measured: true, text });
    }
    if let Some(last) = stale.next_back() {
        moments.push(Moment {
            at: last.ended,
            measured: true,
            text: "the last stale read".to_owned(),
        });
    }
    moments
}

/// What each rack lacked whenever replicas were compared.
fn size_moments(run: &Run) -> Vec<Moment> {
    let racks = run.scenario.cluster.racks();
    let seen = run.ledger.comparisons.iter().map(|seen| {
        let lacks: Vec<String> = racks
            .iter()
            .map(|rack| match run.places.missing(&run.ledger, seen, Some(rack)) {
                Some(missing) => format!("{rack} lacks {}", missing.len()),
                None => format!("{rack} did not answer"),
            })
            .collect();
        let text = format!("replicas compared: of the acknowledged orders {}", lacks.join(", "));
        Moment { at: seen.began, measured: true, text }
    });
    seen.collect()
}
