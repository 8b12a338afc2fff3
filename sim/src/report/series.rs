//! The series that a scenario asks for: figures at times, beside what the source says.

use crate::lab::Run;
use crate::scenario::{FigureRef, Kind};
use std::time::Duration;

/// One series, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured<'r> {
    /// Its name.
    pub id: &'r str,
    /// What it shows.
    pub title: &'r str,
    /// Its times.
    pub at: &'r [Duration],
    /// What the source says of the first figure at each; may be empty.
    pub claimed: &'r [f64],
    /// The figures.
    pub columns: Vec<Column<'r>>,
}

/// One figure at every time of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Column<'r> {
    /// Which.
    pub figure: &'r FigureRef,
    /// What the scenario calls it.
    pub name: &'r str,
    /// `None` where nothing measured it.
    pub values: Vec<Option<f64>>,
}

/// All series of a run.
pub fn columns(run: &Run) -> Vec<Measured<'_>> {
    let lens = run.lens();
    let measured = run.scenario.series.iter().map(|series| {
        let columns = series.figures.iter().zip(&series.names).map(|(figure, name)| {
            let values = series.at.iter().map(|at| {
                // The moment itself belongs to what is measured at it.
                let until = *at + Duration::from_nanos(1);
                let from = match figure.figure().kind {
                    Kind::Gauge => Duration::ZERO,
                    _ => at.saturating_sub(series.window),
                };
                lens.value(figure, (from, until))
            });
            Column { figure, name, values: values.collect() }
        });
        Measured {
            id: &series.id,
            title: &series.title,
            at: &series.at,
            claimed: &series.claimed,
            columns: columns.collect(),
        }
    });
    measured.collect()
}
