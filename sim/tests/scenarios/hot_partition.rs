//! The hot shard's story holds, and each of its variants breaks what it says it breaks, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test may")]

use helenus_sim::lab::{self, Run, Settings};
use helenus_sim::scenario::{Embedded, LIBRARY, Scenario};
use std::rc::Rc;

fn embedded() -> Embedded {
    *LIBRARY.iter().find(|e| e.id == "hot-partition").unwrap()
}

/// The whole story: it cannot be told in less time, because what piles up does so in minutes.
fn run(variants: &[&str]) -> Run {
    let Embedded { file, text, .. } = embedded();
    let scenario = Scenario::parse_varied(file, text, variants).unwrap();
    let software: helenus_sim::world::Software =
        Rc::new(|parts| Box::pin(helenus_node::run(parts, std::future::pending())));
    let settings = Settings { seed: scenario.seed, software, trace: None };
    let run = lab::run(&scenario, settings, &mut |_| {}).unwrap();
    assert_eq!(run.ledger.operator_errors, Vec::<String>::new());
    run
}

fn measured(run: &Run, id: &str) -> f64 {
    run.judged.iter().find(|j| j.id == id).unwrap().measured.unwrap()
}

#[test]
fn the_story_holds() {
    let run = run(&[]);
    assert_eq!(run.broken(), run.scenario.meant_to_break());
    assert!(run.holds());
}

#[test]
fn hashed_keys_share_out_the_heat_and_cure_nothing_else() {
    let run = run(&["hashed-keys"]);
    assert_eq!(run.broken(), run.scenario.meant_to_break());
    // The same orders at the same moments; only their places differ.
    let hot = measured(&run, "hot-node");
    let all = run.judged.iter().find(|j| j.id == "hot-node").unwrap().against.unwrap() / 1.86;
    assert!((0.9..1.1).contains(&(hot / all)), "{hot} and {all} copies");
    assert!(measured(&run, "pile-up") > 500.0);
}

#[test]
fn without_a_pause_nothing_piles_up() {
    let run = run(&["never-paused"]);
    assert_eq!(run.broken(), run.scenario.meant_to_break());
}
