//! One run, from a scenario to a ledger: the world is set up, events happen at their times, operators finish, and
//! everything is judged.

use crate::actors::{self, Command, Controls, State};
use crate::ledger::Ledger;
use crate::oracle::{First, Judged, Lens, Places, firsts, judge};
use crate::scenario::{Action, Event, Kind, Scenario, When};
use crate::world::{Software, Trace, World, warm_up as warm_up_of};
use std::collections::BTreeSet;
use std::time::Duration;

/// The last comparisons and reads have this much simulated time.
const FINISH_MAX: Duration = Duration::from_secs(1800);

/// What a run is made with besides its scenario.
pub struct Settings {
    /// Where all chance comes from.
    pub seed: u64,
    /// What the nodes run.
    pub software: Software,
    /// Where every event of the trace is written, one a line.
    pub trace: Option<std::fs::File>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Why a run has no verdict.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The cluster was not ready when the scenario's clock should have started.
    #[error("the cluster did not come up within {seconds} simulated seconds: {waited_for}")]
    ClusterNotReady {
        /// How long it had.
        seconds: u64,
        /// What was missing last.
        waited_for: String,
    },
    /// A node stopped by itself, or the simulator did.
    #[error("at {at} of the simulation something stopped by itself: {why}")]
    Stopped {
        /// When, on the scenario's clock.
        at: String,
        /// Its words.
        why: String,
    },
    /// The scenario cannot be played.
    #[error("the scenario cannot be played: {0}")]
    Setup(String),
    /// The last comparisons did not end.
    #[error("the last comparison of replicas did not end within {} simulated seconds", FINISH_MAX.as_secs())]
    Unfinished,
    /// Operators had more to do than there was time for.
    #[error(
        "the operators had not done all that they were told when the scenario ended: it ends too early for them"
    )]
    Late,
    /// The trace could not be written.
    #[error("the trace could not be written: {0}")]
    Trace(#[from] std::io::Error),
}

/// A run that has ended.
#[derive(Debug)]
pub struct Run {
    /// What was run.
    pub scenario: Scenario,
    /// With which seed.
    pub seed: u64,
    /// What happened.
    pub ledger: Ledger,
    /// The hash over everything that happened.
    pub trace_hash: u64,
    /// How many events it is over.
    pub trace_events: u64,
    /// Every expectation, judged.
    pub judged: Vec<Judged>,
    /// The first of each kind of trouble.
    pub firsts: Vec<First>,
    /// Where orders belong.
    pub places: Places,
}

impl Run {
    /// Whether every expectation holds.
    pub fn holds(&self) -> bool {
        self.judged.iter().all(|j| j.holds)
    }

    /// The expectations that do not hold.
    pub fn broken(&self) -> BTreeSet<&str> {
        self.judged.iter().filter(|j| !j.holds).map(|j| j.id.as_str()).collect()
    }

    /// Asks questions of it.
    pub fn lens(&self) -> Lens<'_> {
        Lens { scenario: &self.scenario, ledger: &self.ledger, places: &self.places }
    }
}

/// Runs a scenario. `progress` is told the scenario's time about once a simulated second.
pub fn run(
    scenario: &Scenario,
    settings: Settings,
    progress: &mut dyn FnMut(Duration),
) -> Result<Run, LabError> {
    run_with(scenario, settings, &[], progress)
}

/// Runs a scenario in which operators also do this, each when its time has come and what was told before is done. The run
/// ends when all is done, and without the last comparisons and reads; with no commands it is that of [`run`].
pub fn run_with(
    scenario: &Scenario,
    settings: Settings,
    commands: &[(Duration, Command)],
    progress: &mut dyn FnMut(Duration),
) -> Result<Run, LabError> {
    let Settings { seed, software, trace } = settings;
    // From here on there is one seed: keys, too, follow from it.
    let scenario = &Scenario { seed, ..scenario.clone() };
    let mut world = World::new(scenario, seed, &software, Trace::new(trace));
    let controls = actors::enter(&mut world, scenario, seed).map_err(LabError::Setup)?;
    warm_up(&mut world, scenario, &controls)?;
    world.start_clock(scenario);
    play(&mut world, scenario, &controls, commands, progress)?;
    world.stop_clock();
    if commands.is_empty() {
        finish(&mut world, scenario, &controls)?;
    }

    let recorder = world.recorder();
    recorder.finish_trace()?;
    let (trace_hash, trace_events) = recorder.digest();
    let ledger = recorder.ledger(std::mem::take);
    // Nodes and actors end here, and whatever they say while they are torn down is no part of the run.
    drop(world);
    let places = Places::new(scenario);
    let lens = Lens { scenario, ledger: &ledger, places: &places };
    let judged = scenario.expectations.iter().map(|e| judge(e, &lens)).collect();
    let firsts = firsts(&lens);
    let scenario = scenario.clone();
    Ok(Run { scenario, seed, ledger, trace_hash, trace_events, judged, firsts, places })
}

fn step(world: &mut World, scenario: &Scenario) -> Result<(), LabError> {
    world
        .step()
        .map_err(|why| LabError::Stopped { at: scenario.clock(world.elapsed()).to_string(), why })
}

fn warm_up(world: &mut World, scenario: &Scenario, controls: &Controls) -> Result<(), LabError> {
    while !world.is_warm() {
        step(world, scenario)?;
    }
    match &*controls.state.borrow() {
        State::Starting(waited_for) => Err(LabError::ClusterNotReady {
            seconds: warm_up_of(scenario).as_secs(),
            waited_for: waited_for.clone(),
        }),
        State::Ready | State::Finished => Ok(()),
    }
}

/// The times at which an expectation asks what replicas hold.
fn comparisons(scenario: &Scenario) -> Vec<Duration> {
    let asked = scenario.expectations.iter().filter_map(|e| match e.when {
        When::At(at) | When::By(at) if e.that.figure.figure().kind == Kind::Compared => Some(at),
        _ => None,
    });
    let mut times: Vec<Duration> = asked.collect();
    times.sort_unstable();
    times.dedup();
    times
}

fn play(
    world: &mut World,
    scenario: &Scenario,
    controls: &Controls,
    commands: &[(Duration, Command)],
    progress: &mut dyn FnMut(Duration),
) -> Result<(), LabError> {
    let mut commands_left = commands.iter().peekable();
    let mut told_to = 0_usize;
    let mut events = scenario.events.iter().peekable();
    let compare_at = comparisons(scenario);
    let mut compare_at = compare_at.iter().peekable();
    let mut told = Duration::ZERO;
    loop {
        let now = world.elapsed();
        while let Some(event) = events.next_if(|e| e.at <= now) {
            told_to += happen(world, scenario, controls, event)?;
        }
        while compare_at.next_if(|at| **at <= now).is_some() {
            command(controls, Command::Compare)?;
            told_to += 1;
        }
        while let Some((_, next)) = commands_left.next_if(|(at, _)| *at <= now) {
            command(controls, next.clone())?;
            told_to += 1;
        }
        let all_done = *controls.obeyed.borrow() == told_to;
        if !commands.is_empty() && commands_left.peek().is_none() && all_done {
            return Ok(());
        }
        if now >= scenario.length() {
            return if commands.is_empty() { Ok(()) } else { Err(LabError::Late) };
        }
        if now >= told {
            progress(now);
            told = now + Duration::from_secs(1);
        }
        step(world, scenario)?;
    }
}

/// Gives how many commands it told operators.
fn happen(
    world: &mut World,
    scenario: &Scenario,
    controls: &Controls,
    event: &Event,
) -> Result<usize, LabError> {
    world.recorder().trace("scenario", &event.action);
    world.apply(&event.action);
    match &event.action {
        Action::Load { rate, .. } => {
            controls.rate.send_replace(scenario.scaled_rate(*rate));
        }
        Action::SetLevel { level, .. } => {
            controls.level.send_replace(*level);
        }
        Action::Nodetool { verb, on } => {
            let nodes = world.nodes.iter().enumerate();
            let nodes = nodes.filter(|(_, n)| on.iter().any(|hosts| hosts.holds(&n.name)));
            let nodes = nodes.map(|(index, _)| index).collect();
            command(controls, Command::Nodetool(scenario.scaled_verb(*verb), nodes))?;
            return Ok(1);
        }
        _ => {}
    }
    Ok(0)
}

fn command(controls: &Controls, command: Command) -> Result<(), LabError> {
    controls.commands.try_send(command).map_err(|error| {
        LabError::Setup(format!("the operators cannot keep up with the scenario: {error}"))
    })
}

fn finish(world: &mut World, scenario: &Scenario, controls: &Controls) -> Result<(), LabError> {
    command(controls, Command::Finish)?;
    let deadline = world.elapsed() + FINISH_MAX;
    while *controls.state.borrow() != State::Finished {
        if world.elapsed() > deadline {
            return Err(LabError::Unfinished);
        }
        step(world, scenario)?;
    }
    Ok(())
}
