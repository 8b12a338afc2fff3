use super::*;
use crate::ledger::{Ack, FailedWrite, HintOutcomes, Order, Refusal};
use crate::scenario::LIBRARY;
use helenus_core::{Level, TimestampMicros};

const END: Duration = Duration::from_secs(4800);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn scenario() -> Scenario {
    Scenario::parse("az-partition.toml", LIBRARY[0].text).unwrap()
}

fn figure(text: &str) -> FigureRef {
    FigureRef::parse(text, &scenario().cluster.host_names()).unwrap()
}

fn read(at: u64, level: Level, coordinator: NodeIndex, verdict: ReadVerdict) -> Read {
    let (invoked, ended) = (secs(at), secs(at) + Duration::from_millis(40));
    Read { invoked, ended, order: 0, level, coordinator, replicas: vec![], verdict }
}

/// Asks one figure of a ledger over a span.
fn ask(ledger: &Ledger, text: &str, span: Span) -> Option<f64> {
    let scenario = scenario();
    let places = Places::new(&scenario);
    Lens { scenario: &scenario, ledger, places: &places }.value(&figure(text), span)
}

#[test]
fn reads_are_counted_by_verdict_level_side_and_span() {
    let refused = ReadVerdict::Refused(Refusal::Timeout, String::new());
    let ledger = Ledger {
        reads: vec![
            read(10, Level::Quorum, 0, ReadVerdict::Fresh),
            read(20, Level::One, 0, ReadVerdict::Stale),
            read(30, Level::One, 1, ReadVerdict::Missing),
            read(40, Level::Quorum, 0, refused),
        ],
        ..Ledger::default()
    };
    let all = (Duration::ZERO, END);
    for (text, expected) in [
        ("reads.total", 4.0),
        ("reads.stale{cl=ONE, of=acked}", 1.0),
        ("reads.stale{cl=QUORUM}", 0.0),
        ("reads.missing{of=placed}", 1.0),
        ("reads.refused{side=rack:a}", 1.0),
        ("reads.refused{side=rack:b}", 0.0),
        ("reads.refused{kind=timeout}", 1.0),
        ("reads.refused{kind=unavailable}", 0.0),
        ("reads.refused_share{side=rack:a}", 100.0 / 3.0),
    ] {
        assert_eq!(ask(&ledger, text, all), Some(expected), "{text}");
    }
    assert_eq!(ask(&ledger, "reads.total", (secs(15), secs(35))), Some(2.0));
    assert_eq!(ask(&ledger, "reads.refused_share", (secs(50), secs(60))), None);
    let mean = ask(&ledger, "reads.latency_mean{cl=QUORUM}", all).unwrap();
    assert!((mean - 0.040).abs() < 1e-9);
}

#[test]
fn gauges_are_what_the_last_sample_of_the_span_says() {
    let node = |bytes: u64, pending: u64| NodeSample {
        hint_bytes: bytes,
        hint_bytes_max: 500_000,
        outcomes: HintOutcomes { created: pending + 1, pending, ..HintOutcomes::default() },
        by_target: BTreeMap::from([(0, (pending, bytes))]),
        unaccounted_by_target: 0,
    };
    let sample =
        |at, bytes| Sample { at: secs(at), nodes: (0..9).map(|_| Some(node(bytes, 2))).collect() };
    let ledger = Ledger { samples: vec![sample(10, 100), sample(20, 200)], ..Ledger::default() };
    assert_eq!(ask(&ledger, "hints.bytes{target=rack:a}", (secs(0), secs(15))), Some(900.0));
    assert_eq!(ask(&ledger, "hints.bytes{target=rack:a}", (secs(0), END)), Some(1800.0));
    assert_eq!(ask(&ledger, "hints.bytes{target=rack:b}", (secs(0), END)), Some(0.0));
    // Six nodes are outside of rack a.
    assert_eq!(ask(&ledger, "hints.cap{target=rack:a}", (secs(0), END)), Some(3_000_000.0));
    // Each of the nine says it created one more than it can account for.
    assert_eq!(ask(&ledger, "hints.unaccounted", (secs(0), END)), Some(9.0));
    assert_eq!(ask(&ledger, "hints.unaccounted", (secs(30), END)), None);
}

/// Six stores outside of rack a, which each store `fit` hints of 5,000 bytes and then overflow, one hint a second each.
fn filling(fit: u64, stores: &[NodeIndex]) -> Ledger {
    let cut = 19 * 60;
    let mut ledger = Ledger::default();
    for nth in 0..=fit {
        for node in stores {
            let lost = HintFate::Lost(HintLoss::NodeCapReached);
            let fate = if nth < fit { HintFate::Stored(5_000) } else { lost };
            let at = secs(cut + nth);
            ledger.hints.push(HintEvent { at, node: *node, target: Some(0), order: Some(1), fate });
        }
    }
    ledger
}

#[test]
fn the_fill_is_timed_from_the_cut_to_the_last_store() {
    let ledger = filling(70, &[1, 2, 4, 5, 7, 8]);
    let all = (Duration::ZERO, END);
    assert_eq!(ask(&ledger, "hints.fill_time{target=rack:a}", all), Some(70.0));
    assert_eq!(ask(&ledger, "hints.record_count{target=rack:a}", all), Some(70.0));
    assert_eq!(ask(&ledger, "hints.overflowed{target=rack:a}", all), Some(6.0));
    assert_eq!(ask(&ledger, "hints.stored{target=rack:a}", all), Some(420.0));
    // One store that has room is enough for "not full".
    assert_eq!(ask(&filling(70, &[1, 2, 4]), "hints.fill_time{target=rack:a}", all), None);
}

#[test]
fn physics_predicts_from_the_scenario_and_the_record() {
    let (scenario, ledger) = (scenario(), filling(70, &[1, 2, 4, 5, 7, 8]));
    let places = Places::new(&scenario);
    let lens = Lens { scenario: &scenario, ledger: &ledger, places: &places };
    let all = (Duration::ZERO, END);
    // 500 kB x 6 stores / (500 orders a minute x 5 kB), and a third of 8 x ln(10) s, in which a third of the orders is
    // dropped on rack a's side.
    let (fill, sum) = lens.predicted(&figure("hints.fill_time{target=rack:a}"), all).unwrap();
    assert!((fill - (72.0 + 8.0 * 10.0_f64.ln() / 3.0)).abs() < 1e-6, "{fill} = {sum}");
    let (fitting, _) = lens.predicted(&figure("hints.record_count{target=rack:a}"), all).unwrap();
    assert!((fitting - 100.0).abs() < 1e-9);
    // Ten minutes at 50 a minute, then ten at 500.
    let (placed, _) = lens.predicted(&figure("orders.placed"), (secs(300), secs(1500))).unwrap();
    assert!((placed - 5500.0).abs() < 1e-6, "{placed}");
    assert!(lens.predicted(&figure("orders.acked"), all).is_none());
}

#[test]
fn orders_and_writes_are_counted_by_their_end() {
    let ack = Ack {
        at: secs(12),
        took: Duration::from_millis(30),
        level: Level::LocalQuorum,
        timestamp: TimestampMicros(1),
        coordinator: 1,
        replicas: vec![1, 2],
    };
    let dropped = Projection::Dropped { at: secs(14), why: "timeout".to_owned() };
    let order = |projection| Order { placed: secs(10), projection };
    let write = FailedWrite {
        at: secs(14),
        order: 1,
        coordinator: 0,
        level: Level::LocalQuorum,
        refusal: Refusal::Timeout,
        why: String::new(),
    };
    let ledger = Ledger {
        orders: vec![order(Projection::Acked(ack)), order(dropped), order(Projection::Pending)],
        failed_writes: vec![write],
        samples: vec![
            Sample { at: secs(13), nodes: vec![] },
            Sample { at: secs(20), nodes: vec![] },
        ],
        ..Ledger::default()
    };
    let all = (Duration::ZERO, END);
    assert_eq!(ask(&ledger, "orders.placed", all), Some(3.0));
    assert_eq!(ask(&ledger, "orders.acked", all), Some(1.0));
    assert_eq!(ask(&ledger, "orders.dropped", all), Some(1.0));
    assert_eq!(ask(&ledger, "orders.lag", (secs(0), secs(15))), Some(2.0));
    assert_eq!(ask(&ledger, "orders.lag", all), Some(1.0));
    assert_eq!(ask(&ledger, "writes.refused{side=rack:a, kind=timeout}", all), Some(1.0));
    assert_eq!(ask(&ledger, "writes.refused{side=rack:b}", all), Some(0.0));
    assert_eq!(ask(&ledger, "writes.latency_p99", all), Some(0.03));
}

#[test]
fn percentiles_take_the_nearest_rank() {
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    assert_eq!(percentile(hundred, 0.99), Some(99.0));
    assert_eq!(percentile(vec![7.0], 0.99), Some(7.0));
    assert_eq!(percentile(vec![], 0.99), None);
}
