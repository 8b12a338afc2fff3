//! Tests that live many lives, each from its seed.
//!
//! `HELENUS_FUZZ_SEED=n` replays one life; `HELENUS_FUZZ_SEEDS=n` runs so many instead of the default. A life that ends badly
//! says how to replay it, in one line.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Whether one life was asked for: it may be told in full.
pub(crate) fn one_was_asked_for() -> bool {
    variable("HELENUS_FUZZ_SEED").is_some()
}

/// The lives to run: the one that was asked for, as many as were asked for, or `default`. An unoptimised build is ten
/// times slower, and runs fewer.
pub(crate) fn seeds(default: u64) -> Range<u64> {
    if let Some(seed) = variable("HELENUS_FUZZ_SEED") {
        return seed..seed + 1;
    }
    let default = if cfg!(debug_assertions) { default.div_ceil(20) } else { default };
    0..variable("HELENUS_FUZZ_SEEDS").unwrap_or(default)
}

/// Runs lives that must all end well, and adds up what they give. `test` is the path of the test, for the replay line.
pub(crate) fn all_well(
    test: &str,
    seeds: Range<u64>,
    life: impl Fn(u64) -> Result<u64, String>,
) -> u64 {
    let mut sum = 0;
    for seed in seeds {
        let replay = || {
            format!("HELENUS_FUZZ_SEED={seed} cargo test -p helenus-node --release --lib {test}")
        };
        match catch_unwind(AssertUnwindSafe(|| life(seed))) {
            Ok(Ok(more)) => sum += more,
            Ok(Err(what)) => panic!("seed {seed}: {what}\nreplay: {}", replay()),
            Err(panic) => {
                println!("seed {seed} panicked\nreplay: {}", replay());
                resume_unwind(panic);
            }
        }
    }
    sum
}
