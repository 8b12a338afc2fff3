//! Lives of an engine on a disk that fails, many of them, and a proof that the fuzz can see: every planted bug is caught.
//!
//! Seeds, and how to replay one: `crate::seeds`. Everything but this file and `plants` uses the crate's public interface
//! only, so that `benches/crash_fuzz.rs` measures the same code.

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
use crate::seeds;
use life::{Scale, Subject};

/// Gives the recoveries.
fn all_well(test: &str, lives: std::ops::Range<u64>, scale: &Scale) -> u64 {
    // One life that was asked for is told in full.
    let subject = || Subject { loud: seeds::one_was_asked_for(), ..Subject::honest() };
    seeds::all_well(&format!("crash_fuzz::{test}"), lives, |seed| {
        run::life(seed, scale, &subject())
    })
}

#[test]
fn small_lives_lose_and_invent_nothing() {
    let seeds = seeds::seeds(4_000);
    let lives = seeds.end - seeds.start;
    let rounds = all_well("small_lives", seeds, &run::SMALL);
    println!("{lives} lives, {rounds} recoveries");
    assert!(rounds >= 5 * lives, "hardly anything happened: {rounds} recoveries");
}

#[test]
fn large_lives_lose_and_invent_nothing() {
    all_well("large_lives", seeds::seeds(40), &run::LARGE);
}

#[test]
fn equal_seeds_live_equal_lives() {
    for seed in 0..20 {
        let once = run::life(seed, &run::SMALL, &Subject::honest());
        assert_eq!(once, run::life(seed, &run::SMALL, &Subject::honest()));
    }
}
