//! `helenus-lab`: runs scenarios. Exit code 0: all expectations hold; 1: one does not; 2: the input is wrong, or the
//! run has no verdict.

use clap::{Parser, Subcommand};
use helenus_sim::bench::command::{self as bench, BenchVerb};
use helenus_sim::bench::software;
use helenus_sim::cas::{self, CasArgs};
use helenus_sim::lab::{self, Settings};
use helenus_sim::report::{Json, Style, write_text};
use helenus_sim::scenario::figure::FIGURES;
use helenus_sim::scenario::{LIBRARY, Scenario};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "Examples:
  helenus-lab                                   run the flagship, az-partition
  helenus-lab run az-partition --seed 7         the same story with other chance
  helenus-lab run power-loss                    a node that forgets, in a store that does not
  helenus-lab run NAME --variant ID             the same story with something changed (see list)
  helenus-lab run my.toml --json report.json    a scenario of your own, and a report for programs
  helenus-lab check my.toml                     say what is wrong with it before running it
  helenus-lab figures                           what expectations may measure
  helenus-lab bench hints --preset black-friday the limits of hint stores, measured and predicted
  helenus-lab cas --runs 100                    conditional writes under faults: is there one order?";

/// Runs experiments on a simulated cluster of real nodes, and says whether what was expected holds.
#[derive(Debug, Parser)]
#[command(name = "helenus-lab", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a scenario and judge it.
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
    /// List the scenarios that come with the lab, each with its variants.
    List,
    /// Check a scenario file without running it.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// List the figures that expectations may use.
    Figures,
    /// Measure limits over many runs, beside what arithmetic says of them.
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Compare and set registers by conditional writes under faults, and judge what clients saw for linearizability.
    Cas(CasArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The name of a scenario (see `list`), or a file.
    #[arg(default_value = LIBRARY[0].id)]
    scenario: String,
    /// Where all chance comes from; the scenario's own seed if left out.
    #[arg(long)]
    seed: Option<u64>,
    /// How many real orders one simulated order stands for; the scenario's own if left out.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    scale: Option<u64>,
    /// A variant of the scenario (see `list`); may be given several times, and later ones change what earlier ones left.
    #[arg(long = "variant", value_name = "ID")]
    variants: Vec<String>,
    /// Write the report for programs here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every event of the trace here, one a line.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let default = || Verb::Run(RunArgs::parse_from_nothing());
    let done = match Cli::parse().verb.unwrap_or_else(default) {
        Verb::Run(args) => run(&args),
        Verb::List => list(),
        Verb::Check { file } => check(&file),
        Verb::Figures => figures(),
        Verb::Bench(verb) => bench::run(&verb),
        Verb::Cas(args) => cas::command(&args),
    };
    match done {
        Ok(code) => code,
        Err(why) => {
            // Nothing is left to be done if even this cannot be written.
            let _unwritable = writeln!(std::io::stderr(), "{why}");
            ExitCode::from(2)
        }
    }
}

impl RunArgs {
    fn parse_from_nothing() -> RunArgs {
        RunArgs {
            scenario: LIBRARY[0].id.to_owned(),
            seed: None,
            scale: None,
            variants: Vec::new(),
            json: None,
            trace: None,
        }
    }
}

/// Writing to a closed pipe is how `| head` ends us: no error worth a word.
fn written(result: std::io::Result<()>) -> Result<(), String> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write the report: {error}"))
        }
        _ => Ok(()),
    }
}

fn list() -> Result<ExitCode, String> {
    let mut out = std::io::stdout().lock();
    for embedded in LIBRARY {
        let scenario = Scenario::parse(embedded.file, embedded.text)
            .map_err(|problems| problems.to_string())?;
        written(writeln!(out, "{:<16} {}", embedded.id, scenario.title))?;
        for variant in &scenario.variants {
            written(writeln!(out, "  --variant {:<14} {}", variant.id, variant.title))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn figures() -> Result<ExitCode, String> {
    let mut out = std::io::stdout().lock();
    for figure in FIGURES {
        let labels = match figure.labels {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(", ")),
        };
        let name = format!("{}{labels}", figure.name);
        let predicted = if figure.predicted { " (predicted)" } else { "" };
        written(writeln!(out, "{name:<34} {}{predicted}", figure.what))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(file: &Path) -> Result<ExitCode, String> {
    let scenario = load(&file.to_string_lossy(), &[])?;
    let (events, expectations) = (scenario.events.len(), scenario.expectations.len());
    let text = format!(
        "{}: {} is in order: {} nodes, {events} events, {expectations} expectations, {} variants",
        file.display(),
        scenario.id,
        scenario.cluster.nodes().len(),
        scenario.variants.len()
    );
    written(writeln!(std::io::stdout(), "{text}"))?;
    Ok(ExitCode::SUCCESS)
}

/// A scenario by its name, or from a file, with variants of it applied.
fn load(name: &str, variants: &[String]) -> Result<Scenario, String> {
    let chosen: Vec<&str> = variants.iter().map(String::as_str).collect();
    if let Some(embedded) = LIBRARY.iter().find(|e| e.id == name) {
        return Scenario::parse_varied(embedded.file, embedded.text, &chosen)
            .map_err(|problems| problems.to_string());
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let known: Vec<&str> = LIBRARY.iter().map(|e| e.id).collect();
        format!(
            "`{name}` is neither a scenario of the lab ({}) nor a file that can be read: {error}",
            known.join(", ")
        )
    })?;
    Scenario::parse_varied(name, &text, &chosen).map_err(|problems| problems.to_string())
}

fn create(path: Option<&PathBuf>) -> Result<Option<std::fs::File>, String> {
    let Some(path) = path else { return Ok(None) };
    let file = std::fs::File::create(path);
    file.map(Some).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn run(args: &RunArgs) -> Result<ExitCode, String> {
    let mut scenario = load(&args.scenario, &args.variants)?;
    scenario.scale = args.scale.unwrap_or(scenario.scale);
    let seed = args.seed.unwrap_or(scenario.seed);
    // Opened before the run: a wrong path is told at once, not after it.
    let (trace, json) = (create(args.trace.as_ref())?, create(args.json.as_ref())?);
    let variants = args.variants.iter().map(|id| format!(" --variant {id}"));
    let replay = format!(
        "helenus-lab run {} --seed {seed} --scale {}{}",
        args.scenario,
        scenario.scale,
        variants.collect::<String>()
    );
    written(headline(&scenario, seed))?;

    let bar = progress_bar(&scenario);
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a run takes; nothing simulated sees it"
    )]
    let began = Instant::now();
    let settings = Settings { seed, software: software(), trace };
    let done = lab::run(&scenario, settings, &mut |at| {
        bar.set_position(at.as_secs());
        bar.set_message(scenario.clock(at).to_string());
    });
    bar.finish_and_clear();
    let run = done.map_err(|error| format!("{error}\nreplay: {replay}"))?;

    if let Some(mut file) = json {
        let report = serde_json::to_writer_pretty(&mut file, &Json::new(&run, replay.clone()));
        report.map_err(|error| format!("cannot write the report: {error}"))?;
        written(writeln!(file))?;
    }
    let mut out = std::io::stdout().lock();
    written(write_text(&run, &replay, style(), &mut out))?;
    written(writeln!(out, "{}", pace(scenario.length(), began.elapsed())))?;
    Ok(if run.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn pace(simulated: Duration, took: Duration) -> String {
    format!("{} simulated minutes took {:.1} s", simulated.as_secs() / 60, took.as_secs_f64())
}

/// With fewer hints in a full store than this, one hint more or less is more than two percent.
const RECORDS_COARSE: u64 = 50;

fn headline(scenario: &Scenario, seed: u64) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: {}", scenario.id, scenario.title)?;
    for variant in &scenario.chosen {
        writeln!(out, "variant {}: {}", variant.id, variant.title)?;
    }
    writeln!(out, "source: {}", scenario.source)?;
    writeln!(
        out,
        "seed {seed}; {} nodes in {} racks; {} to {}; one order stands for {}, sizes are 1/{}",
        scenario.cluster.nodes().len(),
        scenario.cluster.racks().len(),
        scenario.start,
        scenario.end,
        scenario.scale,
        scenario.value_scale
    )?;
    if let Some(records) = scenario.records_per_store().filter(|n| *n < RECORDS_COARSE) {
        writeln!(
            out,
            "note: at this scale a hint store holds {records} records, so figures come in coarse steps; \
             a smaller --scale is finer and slower"
        )?;
    }
    Ok(())
}

/// In simulated time, on stderr; hidden by itself where stderr is no terminal.
fn progress_bar(scenario: &Scenario) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        Some(scenario.length().as_secs()),
        ProgressDrawTarget::stderr(),
    );
    let style =
        ProgressStyle::with_template("{msg:>8} [{bar:40}] {percent}% {elapsed} (left: {eta})");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn style() -> Style {
    let terminal = std::io::stdout().is_terminal();
    let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    Style { color, width: columns.filter(|w| *w >= 60).unwrap_or(140) }
}
