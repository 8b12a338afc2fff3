//! `helenus-lab bench hints`: the command line of the benchmark.

use super::sweep::{Lists, Point, Preset};
use super::table::{Json, pace, write_csv, write_text};
use super::{Bench, Progress, real, svg};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const EXAMPLES: &str = "Examples:
  helenus-lab bench hints                                     one small point
  helenus-lab bench hints --preset black-friday --out DIR     the figures of the sale: table, CSV and chart
  helenus-lab bench hints --cap 50MB,500MB --policy all       every combination
  helenus-lab bench hints --outage 5min,1h --format json      for programs
  helenus-lab bench hints --real --cap 2MiB --outage 1min     three real processes, in real time

Every point is simulated twice: once hints are replayed and what was lost is repaired from the ledgers, once everything is
repaired without a replay. Exit code 0: every figure is within its bound of the closed form; 1: one is not; 2: the input is
wrong, or a run has no verdict.";

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Measure the limits of hint stores: how soon they are full, what is lost, and how long healing takes.
    #[command(after_help = EXAMPLES)]
    Hints(Box<HintsArgs>),
}

/// What is written on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables.
    Text,
    /// For programs.
    Json,
}

/// The arguments of `bench hints`.
#[derive(Debug, Args)]
pub struct HintsArgs {
    /// A named sweep: black-friday or limits.
    #[arg(long, value_name = "NAME", value_parser = preset,
          conflicts_with_all = ["cap", "outage", "rate", "value", "policy", "throttle"])]
    preset: Option<Preset>,
    /// What each node's hints may take, such as 50MB,1GiB.
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    cap: Vec<String>,
    /// How long one node of three is cut off, such as 5min,1h; at most the hint window of 3h.
    #[arg(long, value_name = "TIMES", value_delimiter = ',')]
    outage: Vec<String>,
    /// Writes, such as 5000/min,200/s. Each owes the node a hint.
    #[arg(long, value_name = "RATES", value_delimiter = ',')]
    rate: Vec<String>,
    /// The size of a value, such as 1KB,50KB.
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    value: Vec<String>,
    /// What gives way when a store is full: names of policies, or all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    policy: Vec<String>,
    /// What a node replays to another a second, such as 512KiB/s,8MiB/s.
    #[arg(long, value_name = "RATES", value_delimiter = ',')]
    throttle: Vec<String>,
    /// Where all chance comes from.
    #[arg(long, default_value_t = 205)]
    seed: u64,
    /// A directory for the table, the CSV and the chart, named after the preset; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One point on three real processes instead of in the simulator, in real time: two outages, and what healing takes.
    #[arg(long, conflicts_with = "preset")]
    real: bool,
    /// What is written on stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

fn preset(name: &str) -> Result<Preset, String> {
    let found = Preset::NAMES.iter().find(|(known, _)| *known == name);
    let known: Vec<&str> = Preset::NAMES.iter().map(|(name, _)| *name).collect();
    found.map(|(_, preset)| *preset).ok_or_else(|| format!("known presets: {}", known.join(", ")))
}

impl HintsArgs {
    fn points(&self) -> Result<Vec<Point>, String> {
        if let Some(preset) = self.preset {
            return preset.points();
        }
        let or = |list: &[String], real: &str| match list {
            [] if self.real => vec![real.to_owned()],
            list => list.to_vec(),
        };
        Lists {
            // In real time a point has to be small.
            cap: or(&self.cap, "2MiB"),
            outage: or(&self.outage, "1min"),
            rate: or(&self.rate, "40/s"),
            value: self.value.clone(),
            policy: self.policy.clone(),
            // Slow enough that replay lasts long enough to see what it does to others.
            throttle: or(&self.throttle, "128KiB/s"),
        }
        .points()
    }

    /// The command that repeats this one.
    fn replay(&self) -> String {
        let mut command = "helenus-lab bench hints".to_owned();
        let mut add = |name: &str, value: &str| {
            command.push_str(&format!(" --{name} {value}"));
        };
        if let Some(preset) = self.preset {
            add("preset", preset.name());
        }
        let lists = [
            ("cap", &self.cap),
            ("outage", &self.outage),
            ("rate", &self.rate),
            ("value", &self.value),
            ("policy", &self.policy),
            ("throttle", &self.throttle),
        ];
        for (name, list) in lists {
            if !list.is_empty() {
                add(name, &list.join(","));
            }
        }
        add("seed", &self.seed.to_string());
        if self.real {
            command.push_str(" --real");
        }
        command
    }
}

/// Runs what was asked for. The error is for people, and means exit code 2.
pub fn run(verb: &BenchVerb) -> Result<ExitCode, String> {
    let BenchVerb::Hints(args) = verb;
    let points = args.points()?;
    // Before the runs: a wrong path is told at once, not after them.
    let dir = args.out.as_deref().map(made).transpose()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a sweep takes; nothing simulated sees it"
    )]
    let began = Instant::now();
    let bench = if args.real { measure_real(args, &points) } else { simulate(args, &points) }?;
    let replay = args.replay();
    if let Some(dir) = dir {
        let name = args.preset.map_or("hints", Preset::name);
        let [text, csv, chart] = rendered(&bench, name, &replay)?;
        save(dir, &format!("{name}.md"), &text)?;
        save(dir, &format!("{name}.csv"), &csv)?;
        save(dir, &format!("{name}.svg"), &chart)?;
    }
    let mut out = io::stdout().lock();
    let told = match args.format {
        Format::Text => write_text(&bench, &replay, &mut out),
        Format::Json => serde_json::to_writer_pretty(&mut out, &Json::new(&bench, replay))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
    };
    match told {
        // A closed pipe is how `| head` ends us: no error worth a word.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(format!("cannot write the report: {error}"));
        }
        _ => {}
    }
    // Nothing is lost if this cannot be written.
    let _unwritable = writeln!(io::stderr(), "{}", pace(&bench, began.elapsed().as_secs_f64()));
    Ok(if bench.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn simulate(args: &HintsArgs, points: &[Point]) -> Result<Bench, String> {
    let bar = progress_bar(points.len() * 2);
    let done = super::run(args.preset, points, args.seed, &mut |progress: Progress| {
        bar.set_position(progress.run as u64);
        let point = points.get(progress.run / 2).map_or_else(String::new, ToString::to_string);
        bar.set_message(format!("{} s of: {point}", progress.at.as_secs()));
    });
    bar.finish_and_clear();
    done.map_err(|error| error.to_string())
}

fn measure_real(args: &HintsArgs, points: &[Point]) -> Result<Bench, String> {
    let [point] = points else {
        return Err(format!("--real measures one point, and {} are asked for", points.len()));
    };
    real::run(point, args.seed, &mut |what| {
        // Nothing is lost if this cannot be written.
        let _unwritable = writeln!(io::stderr(), "{what}");
    })
}

/// What `--out` keeps: a page with the tables, the CSV and the chart.
fn rendered(bench: &Bench, name: &str, replay: &str) -> Result<[Vec<u8>; 3], String> {
    let (mut text, mut csv) = (Vec::new(), Vec::new());
    let told = writeln!(text, "# The limits of hints: {name}\n\n![The chart]({name}.svg)\n")
        .and_then(|()| write_text(bench, replay, &mut text))
        .and_then(|()| write_csv(bench, &mut csv));
    told.map_err(|error| format!("cannot write the report: {error}"))?;
    Ok([text, csv, svg::chart(bench).into_bytes()])
}

fn made(dir: &Path) -> Result<&Path, String> {
    let made = fs::create_dir_all(dir);
    made.map(|()| dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))
}

fn save(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    let path = dir.join(name);
    fs::write(&path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// In runs, on stderr; hidden by itself where stderr is no terminal.
fn progress_bar(runs: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(runs as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("[{bar:20}] run {pos} of {len}, {elapsed}: {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
