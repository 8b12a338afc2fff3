//! The hint benchmark: what a hint store's bound costs, measured on real nodes in the simulated world, beside what follows
//! from the numbers alone.
//!
//! Read in this order: the closed forms (`predict`), which points there are (`sweep`), a point as a scenario (`story`), what
//! its runs have shown (`measure`), both side by side (`figures`), what a write-up claims (`claims`), and what is told at the
//! end (`table`, `svg`). `command` is the command line, and `real` one point on real processes.
//!
//! Each point is told twice with the same seed: once hints are replayed and what was lost is then repaired from the loss
//! ledgers, once replay is paused and everything is repaired. There is no second simulator: a point is a [`Scenario`], and
//! `lab` runs it.
//!
//! Invariants: an error is computed from the two numbers beside it, never written down; what never comes is called so, with
//! how much is missing, and is no number; the same seed gives the same figures to the last digit.
//!
//! CAVEAT: a simulated node's CPU is never busy, so latencies are those of the network alone. `--real` measures the others.
//!
//! [`Scenario`]: crate::scenario::Scenario

pub mod predict;
pub mod sweep;
pub mod story;
pub mod measure;
pub mod figures;
pub mod claims;
pub mod table;
pub mod svg;
pub mod command;
mod real;

use crate::lab::{self, LabError, Run, Settings};
use crate::world::Software;
use figures::Figure;
use measure::Measured;
use std::rc::Rc;
use std::time::Duration;
use story::{Story, Way};
use sweep::{Point, Preset};

/// A point and what came of it.
#[derive(Debug)]
pub struct Told {
    /// What was run.
    pub story: Story,
    /// What it showed, in simulated numbers.
    pub measured: Measured,
    /// Both, in full-size numbers.
    pub figures: Vec<Figure>,
}

/// A sweep that has ended.
#[derive(Debug)]
pub struct Bench {
    /// What was asked for, if it has a name.
    pub preset: Option<Preset>,
    /// Where all chance came from.
    pub seed: u64,
    /// On real processes, not simulated.
    pub real: bool,
    /// In the order in which they were asked for.
    pub points: Vec<Told>,
}

/// Why a sweep did not end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A point cannot be played.
    #[error("{0}")]
    Refused(String),
    /// A run of a point has no verdict.
    #[error("{point}: {source}")]
    Run {
        /// Which.
        point: String,
        /// Why.
        source: Box<LabError>,
    },
}

/// How far a sweep is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which run, from 0 on: there are two a point.
    pub run: usize,
    /// How many there are.
    pub runs: usize,
    /// The time in it.
    pub at: Duration,
}

impl Bench {
    /// Whether every figure agrees with what was predicted.
    pub fn agrees(&self) -> bool {
        self.points.iter().flat_map(|told| &told.figures).all(Figure::agrees)
    }
}

/// What nodes run in every experiment.
pub fn software() -> Software {
    Rc::new(|parts| Box::pin(helenus_node::run(parts, std::future::pending())))
}

/// Measures every point. All are planned before the first is run, so that what cannot be played is told at once.
pub fn run(
    preset: Option<Preset>,
    points: &[Point],
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Bench, BenchError> {
    let stories: Result<Vec<Story>, String> =
        points.iter().map(|point| Story::new(*point, seed)).collect();
    let stories = stories.map_err(BenchError::Refused)?;
    let runs = stories.len() * 2;
    let mut told = Vec::with_capacity(stories.len());
    for (nth, story) in stories.into_iter().enumerate() {
        let mut one = |way, run| {
            run_once(&story, way, &mut |at| progress(Progress { run: nth * 2 + run, runs, at }))
        };
        let (replayed, repaired) = (one(Way::ReplayThenLedger, 0)?, one(Way::FullRepair, 1)?);
        let measured = Measured::of(&story, &replayed, &repaired);
        let figures = figures::of(&story, &measured, figures::SIMULATED);
        told.push(Told { story, measured, figures });
    }
    Ok(Bench { preset, seed, real: false, points: told })
}

fn run_once(
    story: &Story,
    way: Way,
    progress: &mut dyn FnMut(Duration),
) -> Result<Run, BenchError> {
    let scenario = story.scenario(way).map_err(BenchError::Refused)?;
    let settings = Settings { seed: story.seed, software: software(), trace: None };
    let run = lab::run_with(&scenario, settings, &story.commands(way), progress);
    run.map_err(|source| BenchError::Run {
        point: story.point.to_string(),
        source: Box::new(source),
    })
}
