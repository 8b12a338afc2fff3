//! Conditional writes under cuts, power losses and clocks that jump: one order explains what clients saw.

#![allow(clippy::unwrap_used, reason = "a test may")]

use helenus_sim::bench::software;
use helenus_sim::cas::{Settings, Told, forgetful, replay, run};
use helenus_sim::oracle::linear::{Step, Verdict};
use helenus_sim::world::Software;
use std::time::Duration;

fn told(seed: u64, seconds: u64, software: Software) -> Told {
    let length = Duration::from_secs(seconds);
    run(Settings { seed, length, software }).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

#[test]
fn one_order_explains_what_clients_saw() {
    let (mut swaps, mut unknown) = (0, 0);
    for seed in 1..=4 {
        let told = told(seed, 40, software());
        assert!(told.holds(), "seed {seed}: {:#?}", told.verdicts);
        unknown += told.operations().filter(|op| op.returned.is_none()).count();
        let swapped = told.operations().filter(|op| matches!(op.step, Step::Swaps { .. }));
        swaps += swapped.filter(|op| op.returned.is_some()).count();
        assert_eq!(told.histories.len(), 3);
    }
    // Otherwise nothing was tried.
    assert!(swaps > 100 && unknown > 5, "{swaps} swaps, {unknown} of unknown end");
}

/// A judge that has never found anybody guilty proves nothing: here is a store that is. The same seeds acquit the whole one,
/// above.
#[test]
fn a_store_that_forgets_what_it_promised_is_found_out() {
    const FORGOTTEN: usize = 200;
    const SECONDS: u64 = 40;
    let broken = |told: &Told| {
        let verdicts = told.verdicts.values();
        verdicts.filter(|verdict| matches!(verdict, Verdict::Broken(_))).count()
    };
    let run = |seed| told(seed, SECONDS, forgetful(software(), FORGOTTEN));
    let found = (1..=4).map(|seed| (seed, run(seed))).find(|(_, told)| broken(told) > 0);
    let (seed, told) =
        found.expect("promises and acceptances were forgotten, and no judge noticed");
    let command = replay(seed, Duration::from_secs(SECONDS), FORGOTTEN);
    eprintln!("seed {seed}: {:#?}\nreplay: {command}", told.verdicts);
    let again = run(seed);
    assert_eq!((again.trace_hash, again.verdicts), (told.trace_hash, told.verdicts), "{command}");
}
