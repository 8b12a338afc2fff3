//! The engines, side by side on the same work in the same run: ours, fjall, RocksDB, sled.
//!
//! ```text
//! cargo bench -p helenus-node --bench engines                       # ours, fjall, sled: a quarter of an hour
//! cargo bench -p helenus-node --bench engines -- --help
//!
//! apt-get install -y librocksdb-dev libclang-dev                    # RocksDB too, Debian's; nothing compiles one
//! cargo bench -p helenus-node --bench engines --features bench-rocksdb
//! ```
//!
//! (Elsewhere than on Debian on x86-64, say where the library is: `ROCKSDB_LIB_DIR=... ROCKSDB_INCLUDE_DIR=...`. A build
//! that stops at `rocksdb/c.h` or at `-lrocksdb` has not found it. It is linked to its 7.8; others may fit.)
//!
//! The parent process measures nothing: each engine's round is a child process, so that memory, CPU and the allocator's
//! state are one engine's. Rounds are interleaved (A B C D, A B C D, ...), because the machine's speed drifts. In the
//! order of reading: `subject` (the engines), `workload` (the work), `meter` (what it cost), `batch` (durable writes),
//! `report` and `goals`.
//!
//! CAVEAT: our log goes to the system once a wake of the node (64 puts), as a node does it; fjall's and RocksDB's with
//! every put, as they come. `--group-peers` gives them ours, `--wake 1` gives us theirs.
//!
//! `cargo test` runs the same with a few thousand keys and says nothing of speed.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod subject;
mod workload;
mod meter;
mod batch;
mod report;
mod goals;

use clap::Parser;
use report::Results;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use subject::{ENGINES, Settings};
use workload::{Round, Work};

const EXAMPLES: &str = "Examples:
  cargo bench -p helenus-node --bench engines -- --keys 500000 --rounds 1
  cargo bench -p helenus-node --bench engines -- --engines lsm,fjall --json engines.json
  cargo bench -p helenus-node --bench engines --features bench-rocksdb -- --group-peers";

/// Measures storage engines on the same work: load, gets, misses, scan, overwrites, reopen, log replay, durable writes.
#[derive(Debug, Clone, Parser)]
#[command(name = "engines", after_help = EXAMPLES)]
struct Args {
    /// Keys to load; the same as --keys.
    #[arg(value_name = "KEYS", conflicts_with = "keys")]
    count: Option<u64>,
    /// Keys to load: 16 bytes each, with a value of 100 bytes.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Engines to measure, in this order. Default: all that are built.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// How often each engine is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Gets, and as many misses. Default: half the keys.
    #[arg(long)]
    reads: Option<u64>,
    /// Keys to overwrite. Default: half the keys.
    #[arg(long)]
    overwrites: Option<u64>,
    /// Records of the log that is replayed; 0: none is.
    #[arg(long, default_value_t = 300_000)]
    replay_keys: u64,
    /// Writers that wait for their syncs; 0: none do.
    #[arg(long, default_value_t = 64)]
    batch_writers: u64,
    /// For how long, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    batch_ms: u64,
    /// Client threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    threads: u64,
    /// Puts between two writes of our log.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    wake: u64,
    /// The peers' logs are written once a wake too, instead of with every put.
    #[arg(long)]
    group_peers: bool,
    /// Cache of each engine.
    #[arg(long, default_value_t = 256)]
    cache_mib: u64,
    /// Memtable, or write buffer, of each engine that has one.
    #[arg(long, default_value_t = 64)]
    memtable_mib: u64,
    /// Writes everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the engines' files go. Default: below the build directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What one child process does.
    #[arg(long, hide = true)]
    child: Option<String>,
    /// Cargo says that this is a benchmark, not a test.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = if std::env::args().any(|argument| argument == "--bench") {
        Args::parse()
    } else if is_filtered_out() {
        return ExitCode::SUCCESS;
    } else {
        smoke()
    };
    if let Some(job) = &args.child {
        child(job, &args);
        return ExitCode::SUCCESS;
    }
    match parent(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("{complaint}");
            ExitCode::FAILURE
        }
    }
}

/// What `cargo test` runs: every phase, little of each.
fn smoke() -> Args {
    let few = "engines --keys 20000 --rounds 1 --replay-keys 1000 --batch-writers 4 --batch-ms 20 --cache-mib 4 \
               --memtable-mib 1 --threads 2";
    Args::parse_from(few.split_whitespace())
}

/// `cargo test SOMETHING` asks every test binary: this one is called as the benchmark is.
fn is_filtered_out() -> bool {
    let mut filters = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    std::env::args().any(|argument| argument == "--list")
        || filters.next().is_some_and(|filter| !"engines".contains(&filter))
}

fn print(line: String) {
    println!("{line}");
}

impl Args {
    fn keys(&self) -> u64 {
        self.count.unwrap_or(self.keys)
    }

    fn settings(&self) -> Settings {
        Settings {
            cache_bytes: self.cache_mib << 20,
            memtable_bytes: self.memtable_mib << 20,
            group_peers: self.group_peers,
        }
    }

    fn work(&self) -> Work {
        let keys = self.keys();
        Work {
            keys,
            reads: self.reads.unwrap_or(keys / 2).max(1),
            overwrites: self.overwrites.unwrap_or(keys / 2).clamp(1, keys),
            threads: self.threads,
            wake: self.wake,
        }
    }

    fn engines(&self) -> Result<Vec<String>, String> {
        if self.engines.is_empty() {
            let built = ENGINES.into_iter().filter(|engine| subject::is_built(engine));
            return Ok(built.map(str::to_owned).collect());
        }
        match self.engines.iter().find(|engine| !subject::is_built(engine)) {
            None => Ok(self.engines.clone()),
            Some(engine) if engine == "rocksdb" => Err("this build has no RocksDB: install librocksdb-dev and \
                libclang-dev, then run `cargo bench -p helenus-node --bench engines --features bench-rocksdb`"
                .to_owned()),
            Some(engine) => {
                Err(format!("no engine is called `{engine}`: there are {}", ENGINES.join(", ")))
            }
        }
    }
}

/// Starts the children, one after the other, and gathers what they report.
fn parent(args: Args) -> Result<(), String> {
    let engines = args.engines()?;
    let root = args.dir.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    std::fs::create_dir_all(&root).map_err(|e| format!("{}: {e}", root.display()))?;
    let mut results = Results { machine: machine(&args, &root), ..Results::default() };
    for round in 1..=args.rounds {
        for engine in &engines {
            let started = meter::now();
            let dir = scratch(&root)?;
            let mut figures: Round = spawn(&args, &format!("round:{engine}"), dir.path())?;
            if args.replay_keys > 0 && engine != "sled" {
                // sled has no log beside its data, and keeps what it has not flushed in memory.
                let dir = scratch(&root)?;
                let () = spawn(&args, &format!("write-log:{engine}"), dir.path())?;
                let replay: Round = spawn(&args, &format!("replay:{engine}"), dir.path())?;
                figures.phases.extend(replay.phases);
                figures.remarks.extend(replay.remarks);
            }
            let took = started.elapsed().as_secs_f64();
            eprintln!("round {round} of {}: {engine} took {took:.0} s", args.rounds);
            results.rounds.entry(engine.clone()).or_default().push(figures);
        }
        if args.batch_writers > 0 && engines.iter().any(|engine| engine == "lsm") {
            results.batch.push(spawn(&args, "batch", scratch(&root)?.path())?);
        }
    }
    if args.bench {
        results.print();
    } else {
        // So few keys say nothing of speed: that the figures can be worked out is all.
        print(format!(
            "smoke: {} goals worked out for {}",
            goals::goals(&results).len(),
            engines.join(", ")
        ));
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results.json()).map_err(|e| e.to_string())?;
        std::fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn scratch(root: &Path) -> Result<tempfile::TempDir, String> {
    let made = tempfile::Builder::new().prefix("engines-").tempdir_in(root);
    made.map_err(|e| format!("{}: {e}", root.display()))
}

/// Runs this program as a child that does `job` in `dir`.
fn spawn<T: serde::de::DeserializeOwned>(args: &Args, job: &str, dir: &Path) -> Result<T, String> {
    let work = args.work();
    let program = std::env::current_exe().map_err(|e| format!("this program is not found: {e}"))?;
    let mut command = Command::new(program);
    for (flag, number) in [
        ("--keys", work.keys),
        ("--reads", work.reads),
        ("--overwrites", work.overwrites),
        ("--replay-keys", args.replay_keys),
        ("--batch-writers", args.batch_writers),
        ("--batch-ms", args.batch_ms),
        ("--threads", work.threads),
        ("--wake", work.wake),
        ("--cache-mib", args.cache_mib),
        ("--memtable-mib", args.memtable_mib),
    ] {
        command.arg(flag).arg(number.to_string());
    }
    if args.group_peers {
        command.arg("--group-peers");
    }
    command.args(["--bench", "--child", job, "--dir"]).arg(dir);
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{job}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{job} ended with {}: see above", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("{job} reported nonsense: {e}"))
}

/// In a child: does the job and reports it.
fn child(job: &str, args: &Args) {
    let dir = args.dir.as_deref().expect("the parent gives a directory");
    let (settings, work) = (args.settings(), args.work());
    let json = |report: serde_json::Result<String>| print(report.expect("figures become JSON"));
    match job.split_once(':') {
        Some(("round", engine)) => {
            json(serde_json::to_string(&workload::run(engine, dir, &settings, &work)));
        }
        Some(("write-log", engine)) => {
            workload::write_log(engine, dir, &settings, args.replay_keys);
            json(serde_json::to_string(&()));
            // As after a kill: no destructor runs, no thread of the engine gets another turn.
            std::process::exit(0);
        }
        Some(("replay", engine)) => {
            json(serde_json::to_string(&workload::replay(
                engine,
                dir,
                &settings,
                args.replay_keys,
            )));
        }
        _ => {
            let time = Duration::from_millis(args.batch_ms);
            json(serde_json::to_string(&batch::run(dir, &settings, args.batch_writers, time)));
        }
    }
}

/// Where and how this was measured.
fn machine(args: &Args, root: &Path) -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let facts = [
        ("cpu", model.unwrap_or("unknown").trim().to_owned()),
        ("cpus", cpus.to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("load before", read("/proc/loadavg").trim().to_owned()),
        ("directory", root.display().to_string()),
        ("work", format!("{:?}", args.work())),
        ("rounds", args.rounds.to_string()),
    ];
    for (name, fact) in &facts {
        print(format!("{name:12}{fact}"));
    }
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect()
}
