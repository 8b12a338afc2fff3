//! How many crash-recovery rounds a core does in a second: open, look at everything, some writes, flushes and
//! compactions, and the power fails. On a simulated disk, without faults of other kinds than its tests know.
//!
//! `cargo bench -p helenus-node --bench crash_fuzz [-- SECONDS [SEED]]`. Budget: at least 5,000 rounds a second and core.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    reason = "the life of an engine is the tests' code, of which this uses a part"
)]

#[path = "../src/storage/lsm/tests/crash_fuzz/life.rs"]
mod life;
#[path = "../src/storage/lsm/tests/crash_fuzz/loud.rs"]
mod loud;
#[path = "../src/storage/lsm/tests/crash_fuzz/model.rs"]
mod model;
#[path = "../src/storage/lsm/tests/crash_fuzz/run.rs"]
mod run;
#[path = "../src/storage/lsm/tests/crash_fuzz/steps.rs"]
mod steps;
#[path = "../src/storage/lsm/tests/crash_fuzz/writes.rs"]
mod writes;

// What the shared files call the crate.
use helenus_node as node;
use life::Subject;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let seconds = numbers.next().unwrap_or(10) as f64;
    let first = numbers.next().unwrap_or(0);
    let subject = Subject::honest();
    let (mut rounds, mut lives) = (0, 0);
    let start = cpu_seconds();
    let mut spent = 0.0;
    while spent < seconds {
        for _ in 0..50 {
            match run::life(first + lives, &run::SMALL, &subject) {
                Ok(more) => rounds += more,
                Err(what) => {
                    println!("seed {}: {what}", first + lives);
                    std::process::exit(1);
                }
            }
            lives += 1;
        }
        spent = cpu_seconds() - start;
    }
    println!("{:>8} {:>10} {:>12} {:>12}", "lives", "rounds", "CPU us/round", "rounds/s");
    println!(
        "{lives:>8} {rounds:>10} {:>12.1} {:>12.0}",
        spent * 1e6 / rounds as f64,
        rounds as f64 / spent
    );
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name may hold spaces; what follows its closing bracket does not.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // utime and stime, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}
