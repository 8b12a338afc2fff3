//! Lives of an engine on a disk that fails, many of them, and a proof that the fuzz can see: every planted bug is caught.
//!
//! `HELENUS_FUZZ_SEED=n` replays one life; `HELENUS_FUZZ_SEEDS=n` runs so many instead of the default. Everything but
//! this file and `plants` uses the crate's public interface only, so that `benches/crash_fuzz.rs` measures the same code.

mod every_crash;
mod life;
mod loud;
mod model;
mod plants;
mod run;
mod steps;
mod writes;

// What the shared files call the crate: a benchmark has another name for it.
use crate as node;
use life::{Scale, Subject};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// The lives to run: the one that was asked for, as many as were asked for, or `default`. An unoptimised build is ten
/// times slower, and runs fewer.
fn seeds(default: u64) -> std::ops::Range<u64> {
    if let Some(seed) = variable("HELENUS_FUZZ_SEED") {
        return seed..seed + 1;
    }
    let default = if cfg!(debug_assertions) { default.div_ceil(20) } else { default };
    0..variable("HELENUS_FUZZ_SEEDS").unwrap_or(default)
}

/// Runs lives that must all end well. Gives the recoveries.
fn all_well(test: &str, seeds: std::ops::Range<u64>, scale: &Scale) -> u64 {
    let mut rounds = 0;
    for seed in seeds {
        let replay = || {
            format!(
                "HELENUS_FUZZ_SEED={seed} cargo test -p helenus-node --release --lib crash_fuzz::{test}"
            )
        };
        // One life that was asked for is told in full.
        let loud = variable("HELENUS_FUZZ_SEED").is_some();
        let subject = Subject { loud, ..Subject::honest() };
        let life = || run::life(seed, scale, &subject);
        match catch_unwind(AssertUnwindSafe(life)) {
            Ok(Ok(more)) => rounds += more,
            Ok(Err(what)) => panic!("seed {seed}: {what}\nreplay: {}", replay()),
            Err(panic) => {
                println!("seed {seed} panicked\nreplay: {}", replay());
                resume_unwind(panic);
            }
        }
    }
    rounds
}

#[test]
fn small_lives_lose_and_invent_nothing() {
    let seeds = seeds(4_000);
    let lives = seeds.end - seeds.start;
    let rounds = all_well("small_lives", seeds, &run::SMALL);
    println!("{lives} lives, {rounds} recoveries");
    assert!(rounds >= 5 * lives, "hardly anything happened: {rounds} recoveries");
}

#[test]
fn large_lives_lose_and_invent_nothing() {
    all_well("large_lives", seeds(40), &run::LARGE);
}

#[test]
fn equal_seeds_live_equal_lives() {
    for seed in 0..20 {
        let once = run::life(seed, &run::SMALL, &Subject::honest());
        assert_eq!(once, run::life(seed, &run::SMALL, &Subject::honest()));
    }
}
