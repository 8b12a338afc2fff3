//! The flagship's expectations hold, and each of them fails when, and only when, the reason for it is taken away.

#![allow(clippy::unwrap_used, reason = "a test may")]

use crate::common::{run, short, short_with};
use helenus_node::seams::probe::HintLoss;
use helenus_sim::lab::Run;
use helenus_sim::ledger::HintFate;
use std::collections::BTreeSet;

/// In five minutes of cut fewer SSTables pile up than the expectation, written for fifteen, asks for.
const TOO_SHORT_FOR: &str = "sstables-pile-up";

/// The expectations that do not hold.
fn broken(run: &Run) -> BTreeSet<&str> {
    let broken = run.judged.iter().filter(|j| !j.holds).map(|j| j.id.as_str());
    broken.filter(|id| *id != TOO_SHORT_FOR).collect()
}

fn measured(run: &Run, id: &str) -> Option<f64> {
    run.judged.iter().find(|j| j.id == id).unwrap().measured
}

#[test]
fn the_story_holds_and_every_trouble_is_opened_up() {
    let run = run(&short());
    assert_eq!(broken(&run), BTreeSet::new());
    assert_eq!(run.ledger.operator_errors, Vec::<String>::new());
    let kinds: Vec<&str> = run.firsts.iter().map(|f| f.kind.as_str()).collect();
    for kind in [
        "stale read at ONE",
        "hint overflowed",
        "order given up by the projector",
        "order not yet projected, read at QUORUM",
        "read refused (unavailable) by rack a at QUORUM",
    ] {
        assert!(kinds.contains(&kind), "{kind} is among {kinds:?}");
    }
    let stale = run.firsts.iter().find(|f| f.kind == "stale read at ONE").unwrap();
    assert!(!stale.replicas.is_empty() && stale.replicas.iter().all(|r| r.starts_with('a')));
    assert!(stale.why.contains("out of reach"), "{}", stale.why);
    // The source is wrong about QUORUM, and the run says so by itself.
    let quorum = run.judged.iter().find(|j| j.id == "quorum-not-stale").unwrap();
    assert_eq!(quorum.source_holds, Some(false));
}

#[test]
fn drop_oldest_forgets_the_first_minutes_instead_of_the_last() {
    let run = run(&short_with("overflow = \"drop-newest\"", "overflow = \"drop-oldest\""));
    assert_eq!(broken(&run), BTreeSet::from(["newest-refused"]));
    let source = run.judged.iter().find(|j| j.id == "newest-refused").unwrap();
    assert_eq!(
        source.source_holds,
        Some(true),
        "this is the FIFO eviction that the source speaks of"
    );
    assert!(measured(&run, "handoff-cannot-heal").unwrap() > 0.0);
    // What was kept and delivered is younger than what gave way.
    let mean_order = |wanted: fn(HintFate) -> bool| {
        let orders = run.ledger.hints.iter().filter(|h| wanted(h.fate)).filter_map(|h| h.order);
        let orders: Vec<f64> = orders.map(f64::from).collect();
        orders.iter().sum::<f64>() / f64::from(u32::try_from(orders.len()).unwrap())
    };
    let delivered = mean_order(|fate| fate == HintFate::Delivered);
    let evicted = mean_order(|fate| fate == HintFate::Lost(HintLoss::Evicted));
    assert!(delivered > evicted, "{delivered} {evicted}");
}

#[test]
fn dead_letters_are_replayed_and_nothing_is_left_to_repair() {
    let policy = "overflow = \"dead-letter\", dead_letters = \"10GB\"";
    let text = short_with("overflow = \"drop-newest\"", policy);
    let run = run(&text.replacen("512KiB/s", "16MiB/s", 1));
    let broken = broken(&run);
    for id in ["hints-overflow", "handoff-cannot-heal"] {
        assert!(broken.contains(id), "{id} is among {broken:?}");
        assert_eq!(measured(&run, id), Some(0.0));
    }
    let fates = || run.ledger.hints.iter().map(|hint| hint.fate);
    let letters = fates().filter(|fate| matches!(fate, HintFate::DeadLettered(_))).count();
    let stored = fates().filter(|fate| matches!(fate, HintFate::Stored(_))).count();
    assert!(letters > stored, "{letters} letters, {stored} hints");
    assert_eq!(fates().filter(|fate| matches!(fate, HintFate::Lost(_))).count(), 0);
    let delivered = fates().filter(|fate| *fate == HintFate::Delivered).count();
    assert_eq!(delivered, stored + letters);
    assert_eq!(run.ledger.operator_errors, Vec::<String>::new());
}

#[test]
fn fail_write_refuses_and_throttle_holds_up() {
    let policy = |name: &str| {
        let overflow = format!("overflow = \"{name}\"");
        run(&short_with("overflow = \"drop-newest\"", &overflow))
    };
    let refusing = policy("fail-write");
    assert_eq!(measured(&refusing, "hints-overflow"), Some(0.0));
    assert_eq!(measured(&refusing, "nothing-lost"), Some(0.0));
    // The projector was told that nothing was sent, and tries again until zone a is back.
    let refused =
        refusing.ledger.failed_writes.iter().filter(|w| w.why.contains("no room for the hint"));
    assert!(refused.count() > 1000);
    assert_eq!(measured(&refusing, "one-is-stale"), Some(0.0));
    let throttled = policy("throttle");
    assert_eq!(broken(&throttled), BTreeSet::from(["writes-not-held-up"]));
}

#[test]
fn a_cap_ten_times_larger_never_fills() {
    let run = run(&short_with("cap = \"500MB\"", "cap = \"5GB\""));
    let broken = broken(&run);
    for id in ["hints-fill", "fill-as-predicted", "hints-overflow", "hints-kept"] {
        assert!(broken.contains(id), "{id} is among {broken:?}");
    }
    for id in
        ["quorum-not-stale", "hints-accounted", "nothing-lost", "one-is-stale", "reads-repair"]
    {
        assert!(!broken.contains(id), "{id} is among {broken:?}");
    }
    assert_eq!(measured(&run, "hints-overflow"), Some(0.0));
}

#[test]
fn without_a_cut_nothing_happens_and_nothing_is_stale() {
    let text = short();
    let cut = text.find("[[at]]\nt = \"14:19\"\ndo = \"cut\"").unwrap();
    let end = cut + text[cut..].find("\n\n").unwrap();
    let run = run(&format!("{}{}", &text[..cut], &text[end..]));
    let broken = broken(&run);
    for id in [
        "a-side-refuses",
        "users-see-lag",
        "hints-fill",
        "hints-overflow",
        "one-is-stale",
        "handoff-cannot-heal",
    ] {
        assert!(broken.contains(id), "{id} is among {broken:?}");
    }
    for id in [
        "quorum-not-stale",
        "hints-accounted",
        "one-is-faster",
        "nothing-lost",
        "missing-is-what-overflowed",
    ] {
        assert!(!broken.contains(id), "{id} is among {broken:?}");
    }
    assert_eq!(measured(&run, "one-is-stale"), Some(0.0));
    assert_eq!(measured(&run, "handoff-cannot-heal"), Some(0.0));
}

#[test]
fn a_store_that_skips_read_repair_is_caught() {
    let run = run(&short_with(
        "compaction = \"stcs\" }",
        "compaction = \"stcs\", read_repair = \"NONE\" }",
    ));
    assert_eq!(broken(&run), BTreeSet::from(["reads-repair"]));
    assert!(measured(&run, "reads-repair").unwrap() > 0.0);
}

#[test]
fn a_store_that_counts_a_hint_as_an_ack_is_caught() {
    // That is what level ANY means: the coordinator is content with a hint. Readers at QUORUM are not.
    let run = run(&short_with("write_cl = \"LOCAL_QUORUM\"", "write_cl = \"ANY\""));
    assert!(broken(&run).contains("quorum-not-stale"), "{:?}", broken(&run));
    assert!(measured(&run, "quorum-not-stale").unwrap() > 0.0);
}
