//! `helenus`: one node from a configuration file, or a local cluster.
//!
//! Answers go to standard output, the log to standard error. Exit codes: 0 stopped as told, 1 did not start or did not
//! go on, 2 wrong command line or configuration.

use clap::{Args, Parser, Subcommand, ValueEnum};
use helenus_node::config::Config;
use helenus_node::dev::{self, Cluster};
use helenus_node::launch::{LaunchError, Node};
use helenus_node::seams::clock::{Clock, SystemClock};
use helenus_node::{Ready, StartError};
use serde_json::json;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  helenus dev                           three nodes on this machine, data in ./helenus-data
  helenus --print-config > node.toml    a configuration file that explains itself
  helenus --config node.toml            one node
  RUST_LOG=debug helenus dev            the same, telling more

Talk to it with helenusctl.";

/// A replicated key-value store in the manner of Cassandra.
#[derive(Parser)]
#[command(name = "helenus", version, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    /// Run one node as this file says.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a configuration file (of --config, with all defaults; else of the defaults) and stop.
    #[arg(long)]
    print_config: bool,
    /// How to say where the node is.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a local cluster in this process: three racks, keyspace `demo` with a copy in each, table `kv`.
    #[command(after_help = DEV_EXAMPLES)]
    Dev(Dev),
}

const DEV_EXAMPLES: &str = "\
Examples:
  helenus dev                        127.0.0.1 to 127.0.0.3, gRPC on 9160, metrics on 9180
  helenus dev --nodes 6              two nodes in each rack
  helenus dev --port-base 20000      all on 127.0.0.1 (macOS has no other by default)
  helenus dev --data /tmp/h --port-base 0 --format json    free ports, told as JSON

Ctrl-C stops it; the data stays, and the next start finds it.";

#[derive(Args)]
struct Dev {
    /// Where the nodes keep their data.
    #[arg(long, value_name = "DIR", default_value = "helenus-data")]
    data: PathBuf,
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    nodes: u8,
    /// Put all nodes on 127.0.0.1, with ten ports each from this one on; 0 takes free ports.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(..=60_000))]
    port_base: Option<u16>,
    /// How to say where the nodes are.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One line of JSON when it takes requests.
    Json,
}

/// A failure, and the exit code that tells its kind.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn run(error: impl Display) -> Failure {
        Failure { code: 1, message: error.to_string() }
    }

    fn input(error: impl Display) -> Failure {
        Failure { code: 2, message: error.to_string() }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(obey(cli)),
        Err(error) => Err(Failure::run(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            // With nowhere to write to, the exit code says it.
            writeln!(io::stderr(), "helenus: {message}").ok();
            ExitCode::from(code)
        }
    }
}

async fn obey(cli: Cli) -> Result<(), Failure> {
    match cli {
        Cli { command: Some(Command::Dev(dev)), .. } => run_dev(dev).await,
        Cli { print_config: true, config: None, .. } => say(Config::example()),
        Cli { print_config: true, config: Some(file), .. } => say(read(&file)?.to_toml()),
        Cli { config: Some(file), format, .. } => run_node(read(&file)?, format).await,
        Cli { config: None, .. } => {
            Err(Failure::input("nothing to do: give --config FILE, or say `helenus dev`"))
        }
    }
}

fn read(file: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let remedy = "`helenus --print-config` writes an example";
        Failure::input(format!("{}: {error}; {remedy}", file.display()))
    })?;
    Config::from_toml(&text, &file.display().to_string()).map_err(Failure::input)
}

async fn run_node(config: Config, format: Format) -> Result<(), Failure> {
    log_to_stderr("info");
    let mut stop = Stop::listen().map_err(Failure::run)?;
    let (mut node, ready) = Node::start("node", config).await.map_err(Failure::run)?;
    match format {
        Format::Text => say(format!(
            "node {} takes requests on {} (peers on {}{}). Ctrl-C stops it.\n",
            ready.node,
            ready.rpc,
            ready.internode,
            ready.metrics.map(|at| format!(", metrics on http://{at}/metrics")).unwrap_or_default(),
        ))?,
        Format::Json => say(format!("{}\n", told(&ready)))?,
    }
    tokio::select! { biased;
        outcome = node.ended() => return outcome.map_err(Failure::run),
        () = stop.told() => {}
    }
    stop.unless_told_again(node.stop()).await
}

async fn run_dev(dev: Dev) -> Result<(), Failure> {
    // Nodes that stop together see each other go: that is no news.
    log_to_stderr("warn,helenus_node::membership=error");
    let clock = SystemClock::new();
    let mut stop = Stop::listen().map_err(Failure::run)?;
    let options = dev::Options { data: dev.data, nodes: dev.nodes, port_base: dev.port_base };
    let mut cluster = tokio::select! { biased;
        // Stopped while it starts: dropping the nodes tells them to stop.
        () = stop.told() => return Ok(()),
        cluster = Cluster::start(&options) => cluster.map_err(dev_failure)?,
    };
    match dev.format {
        Format::Text => say(welcome(&options, cluster.ready(), clock.now().as_secs_f64()))?,
        Format::Json => {
            let nodes: Vec<_> = cluster.ready().iter().map(told).collect();
            let (keyspace, table) = (dev::KEYSPACE, dev::TABLE);
            say(format!("{}\n", json!({"nodes": nodes, "keyspace": keyspace, "table": table})))?;
        }
    }
    tokio::select! { biased;
        error = cluster.ended() => return Err(Failure::run(error)),
        () = stop.told() => {}
    }
    if dev.format == Format::Text {
        say("\nStopping: what was acknowledged is being synced.\n")?;
    }
    stop.unless_told_again(cluster.stop()).await
}

/// Ports are what most often stands in the way of a local cluster, and there is a way around it.
fn dev_failure(error: dev::DevError) -> Failure {
    let remedy = match &error {
        dev::DevError::Node { source: LaunchError::Start(StartError::Listen { .. }), .. } => {
            ". Or let it take free ports on 127.0.0.1: helenus dev --port-base 0"
        }
        _ => "",
    };
    Failure::run(format!("{error}{remedy}"))
}

fn told(ready: &Ready) -> serde_json::Value {
    json!({
        "node": ready.node.to_string(),
        "rpc": ready.rpc.to_string(),
        "internode": ready.internode.to_string(),
        "metrics": ready.metrics.map(|address| address.to_string()),
    })
}

fn welcome(options: &dev::Options, ready: &[Ready], seconds: f64) -> String {
    let (keyspace, table) = (dev::KEYSPACE, dev::TABLE);
    let mut lines = vec![
        format!(
            "Helenus: {} nodes ready in {seconds:.1} s; keyspace {keyspace} with {} copies, table {table}.\n",
            ready.len(),
            options.copies(),
        ),
        format!("  {:<37} {:<7} {:<21} metrics", "node", "rack", "clients"),
    ];
    for (ready, nth) in ready.iter().zip(1..) {
        let rack = options.config(nth, Vec::new()).rack;
        let metrics = ready.metrics.map(|at| format!("http://{at}/metrics")).unwrap_or_default();
        let (node, rpc) = (ready.node.to_string(), ready.rpc.to_string());
        lines.push(format!("  {node:<37} {rack:<7} {rpc:<21} {metrics}"));
    }
    let usual = "127.0.0.1:9160";
    let first = ready.first().map(|ready| ready.rpc.to_string()).unwrap_or_default();
    let host = if first == usual { String::new() } else { format!(" --host {first}") };
    lines.push("\nTry, in another terminal:\n".to_owned());
    for command in [
        "status".to_owned(),
        format!("put {keyspace}.{table} greeting hello --level quorum"),
        format!("get {keyspace}.{table} greeting --level quorum --trace"),
        format!("getendpoints {keyspace}.{table} greeting"),
        "listpendinghints".to_owned(),
    ] {
        lines.push(format!("  helenusctl{host} {command}"));
    }
    let data = options.data.display();
    lines.push(format!("\nThe data is in {data}, and stays there. Ctrl-C stops the cluster.\n"));
    lines.join("\n")
}

fn say(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let said = write!(out, "{text}").and_then(|()| out.flush());
    match said {
        // Whoever read it has seen enough (`helenus --print-config | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => said.map_err(|error| Failure::run(format!("standard output: {error}"))),
    }
}

fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(!plain && io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

/// Ctrl-C, or a polite kill.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// From now on the signals are ours: what starts up is stopped in order, too.
    fn listen() -> io::Result<Stop> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Stop { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn told(&mut self) {
        tokio::select! { biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for an orderly stop, unless whoever asked for it gets impatient. A stop at once is a crash, which loses
    /// nothing that is safe from a crash by `commitlog_sync`.
    async fn unless_told_again<E: Display>(
        mut self,
        stopping: impl Future<Output = Result<(), E>>,
    ) -> Result<(), Failure> {
        tokio::select! { biased;
            outcome = stopping => outcome.map_err(Failure::run),
            () = self.told() => Err(Failure::run("told twice to stop: not waiting for the last sync")),
        }
    }
}
