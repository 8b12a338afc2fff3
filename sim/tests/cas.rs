//! Conditional writes under cuts, power losses and clocks that jump: one order explains what clients saw.

#![allow(clippy::unwrap_used, reason = "a test may")]

use helenus_sim::bench::software;
use helenus_sim::cas::{Settings, Told, run};
use helenus_sim::oracle::linear::Step;
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
