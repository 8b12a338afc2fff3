//! The hint benchmark on one small point a policy: what is measured is what follows from the numbers, and the same seed
//! gives the same bytes.

#![allow(clippy::unwrap_used, reason = "a test may")]

use helenus_core::hint::Overflow;
use helenus_sim::bench::figures::{
    BY_FULL, BY_LEDGER, BY_REPLAY, HELD_BACK, KEPT, LOST, OWED, TIME_TO_FULL, Value,
};
use helenus_sim::bench::sweep::Lists;
use helenus_sim::bench::{self, Bench, Told, svg, table};

/// A store of two megabytes that is full after a third of a two-minute outage.
fn small(policy: &str, seed: u64) -> Bench {
    let list = |text: &str| vec![text.to_owned()];
    let lists = Lists {
        cap: list("1MB"),
        outage: list("2min"),
        rate: list("25/s"),
        value: list("2KB"),
        policy: list(policy),
        throttle: list("64KiB/s"),
    };
    bench::run(None, &lists.points().unwrap(), seed, &mut |_| {}).unwrap()
}

fn csv(bench: &Bench) -> String {
    let mut out = Vec::new();
    table::write_csv(bench, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn number(told: &Told, name: &str) -> f64 {
    match told.figure(name).unwrap().measured {
        Value::Number(value) => value,
        other => panic!("{name} is {other:?}"),
    }
}

/// Within a share of the closed form.
fn close(told: &Told, name: &str, within: f64) {
    let error = told.figure(name).unwrap().error();
    assert!(error.is_some_and(|e| e.abs() <= within), "{name}: {:?}", told.figure(name));
}

#[test]
fn a_store_that_overflows_does_what_arithmetic_says_twice_the_same() {
    let bench = small("drop-newest", 205);
    let told = &bench.points[0];
    assert_eq!(told.measured.faults, Vec::<String>::new());
    for (name, within) in
        [(TIME_TO_FULL, 0.05), (OWED, 0.03), (KEPT, 0.01), (LOST, 0.03), (BY_LEDGER, 0.15)]
    {
        close(told, name, within);
    }
    close(told, "sent by ledger repair", 0.05);
    close(told, "bytes a hint", 0.01);
    // What was refused is not replayed: never, and so many, is the only honest time.
    let Value::Never(Some(missing)) = told.figure(BY_REPLAY).unwrap().measured else {
        panic!("{:?}", told.figure(BY_REPLAY));
    };
    assert!((missing - number(told, LOST)).abs() <= 0.03 * missing, "{missing}");
    assert_eq!(told.measured.missing, [Some(missing / told.story.scale as f64), Some(0.0)]);
    assert_eq!(told.measured.missing_after_full, Some(0.0));
    assert!(number(told, BY_FULL) > 0.0);
    assert!(bench.agrees(), "{}", csv(&bench));

    let again = small("drop-newest", 205);
    assert_eq!(csv(&bench), csv(&again));
    assert_eq!(svg::chart(&bench), svg::chart(&again));
    assert_ne!(csv(&bench), csv(&small("drop-newest", 206)));
}

#[test]
fn a_refused_write_is_no_lost_hint() {
    let bench = small("fail-write", 205);
    let told = &bench.points[0];
    close(told, KEPT, 0.01);
    close(told, HELD_BACK, 0.05);
    assert_eq!(told.measured.lost_by.len(), 0, "{:?}", told.measured.lost_by);
    // So replay alone is enough.
    close(told, BY_REPLAY, 0.2);
    assert!(bench.agrees(), "{}", csv(&bench));
}

#[test]
fn whoever_evicts_loses_the_oldest() {
    let bench = small(Overflow::DropOldest.as_str(), 205);
    let told = &bench.points[0];
    let reasons: Vec<&&str> = told.measured.lost_by.keys().collect();
    assert_eq!(reasons, [&"evicted"]);
    assert!(bench.agrees(), "{}", csv(&bench));
}
