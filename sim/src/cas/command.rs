//! `helenus-lab cas`: one run after the other, each with the next seed.

use super::{CasError, Settings, Told, forgetful, run as run_one};
use crate::bench::software;
use crate::oracle::linear::{Step, Verdict};
use crate::scenario::Action;
use crate::world::Software;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct CasArgs {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many runs, each with the next seed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// How many simulated seconds clients write in each.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Breaks the store: a node that starts again has forgotten so many of the last records of its log, promises among them.
    /// The judge should notice.
    #[arg(long, default_value_t = 0)]
    forget: usize,
}

impl CasArgs {
    fn software(&self) -> Software {
        match self.forget {
            0 => software(),
            records => forgetful(software(), records),
        }
    }
}

/// The command that runs this seed, and no other, again. `forget`: see `forgetful`; 0 is the whole store.
pub fn replay(seed: u64, length: Duration, forget: usize) -> String {
    let seconds = length.as_secs();
    let mut command = format!("helenus-lab cas --seed {seed} --runs 1 --seconds {seconds}");
    if forget > 0 {
        // Writing to a string cannot fail.
        let _infallible = write!(command, " --forget {forget}");
    }
    command
}

/// Runs them all. Exit code 1: some history is explained by no order, or has no verdict.
pub fn run(args: &CasArgs) -> Result<ExitCode, String> {
    let mut broken = false;
    for seed in (args.seed..).take(usize::try_from(args.runs).unwrap_or(usize::MAX)) {
        let length = Duration::from_secs(args.seconds);
        let told = run_one(Settings { seed, length, software: args.software() });
        let again = replay(seed, length, args.forget);
        let told = told.map_err(|error: CasError| format!("{error}\nreplay: {again}"))?;
        let mut text = format!("seed {seed}: {}\n", in_words(&told));
        if !told.holds() {
            broken = true;
            text.push_str(&troubles(&told));
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "  replay: {again}");
        }
        match std::io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(format!("cannot write the report: {error}"));
            }
            _ => {}
        }
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A run in one line.
fn in_words(told: &Told) -> String {
    let count = |is: fn(&Action) -> bool| told.faults.iter().filter(|(_, a)| is(a)).count();
    let cuts = count(|action| matches!(action, Action::Cut { .. }));
    let losses = count(|action| matches!(action, Action::Crash { .. }));
    let jumps = count(|action| matches!(action, Action::Clock { .. }));
    let unknown = told.operations().filter(|op| op.returned.is_none()).count();
    let swaps = |op: &&crate::oracle::linear::Op| matches!(op.step, Step::Swaps { .. });
    let swaps = told.operations().filter(swaps).count() - unknown;
    let verdict = match told.holds() {
        true => "one order explains it",
        false => "NO ORDER IS KNOWN THAT EXPLAINS IT",
    };
    format!(
        "{} operations, {swaps} swaps and {unknown} of unknown end among them; {cuts} cuts, {losses} power losses, \
         {jumps} clocks set; trace {:016x}: {verdict}",
        told.operations().count(),
        told.trace_hash
    )
}

/// What cannot be explained.
fn troubles(told: &Told) -> String {
    let mut text = String::new();
    for (register, verdict) in &told.verdicts {
        let why = match verdict {
            Verdict::Linearizable => continue,
            Verdict::Broken(stuck) => stuck.to_string(),
            Verdict::Undecided => "the search was given up: run it for fewer seconds".to_owned(),
        };
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  register {register}: {why}");
    }
    text
}
