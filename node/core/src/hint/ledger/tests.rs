//! Nothing recorded is ever uncovered, and nothing takes more room than it may.

use super::*;
use proptest::prelude::*;

const A: NodeId = NodeId(0xa);
const T: TableId = TableId(7);

fn at(token: i64) -> Lost {
    Lost { tokens: Tokens::one(Token(token)), count: 1, bytes: 100, written_ms: 5 }
}

fn tokens(first: i64, last: i64) -> Tokens {
    Tokens { first: Token(first), last: Token(last) }
}

const RING: Span = Span { after: None, until: Token::MAX };

#[test]
fn losses_at_one_token_are_one_range() {
    let mut ledger = Ledger::new();
    ledger.record(Scope::table(A, T), Loss::Evicted, Lost { written_ms: 9, ..at(3) });
    ledger.record(Scope::table(A, T), Loss::Evicted, Lost { written_ms: 4, ..at(3) });
    let (_, _, ranges) = ledger.rows().next().unwrap();
    let range = LostRange {
        tokens: Tokens::one(Token(3)),
        count: 2,
        bytes: 200,
        first_ms: 4,
        last_ms: 9,
        latest: 2,
    };
    assert_eq!(ranges, [range]);
}

#[test]
fn a_full_row_joins_its_two_nearest_ranges() {
    let mut ledger = Ledger::new();
    let far = |i: usize| i64::try_from(i).unwrap() * 1000;
    for i in 0..RANGES_MAX {
        ledger.record(Scope::table(A, T), Loss::Evicted, at(far(i)));
    }
    ledger.record(Scope::table(A, T), Loss::Evicted, at(5003));
    let ranges = ledger.to_repair(Scope::table(A, T)).ranges;
    assert_eq!(ranges.len(), RANGES_MAX);
    assert!(ranges.contains(&tokens(5000, 5003)), "{ranges:?}");
}

#[test]
fn a_repair_settles_what_it_covered_and_knew_of() {
    let mut ledger = Ledger::new();
    let scope = Scope::table(A, T);
    for token in [10, 20, 30] {
        ledger.record(scope, Loss::NodeCapReached, at(token));
    }
    ledger.record(scope, Loss::Expired, at(20));
    let plan = ledger.to_repair(Scope::table(A, T));
    assert_eq!(plan.ranges, [tokens(10, 10), tokens(20, 20), tokens(30, 30)]);
    // While it ran, one more was lost there.
    ledger.record(scope, Loss::NodeCapReached, at(30));
    let upto_25 = Span { after: None, until: Token(25) };
    assert_eq!(
        ledger.settle(scope, &[upto_25], plan.as_of),
        Settled { ranges: 3, count: 3, bytes: 300 }
    );
    assert_eq!(ledger.settle(scope, &[RING], plan.as_of), Settled::default(), "30 is newer");
    assert_eq!(ledger.to_repair(Scope::table(A, T)).ranges, [tokens(30, 30)]);
    assert_eq!(ledger.settle(scope, &[RING], ledger.recorded()).count, 2);
    assert_eq!(ledger, Ledger::resumed(5));
}

#[test]
fn what_could_not_be_read_is_to_be_repaired_in_every_table() {
    let mut ledger = Ledger::new();
    let lost = Lost { tokens: Tokens::ALL, ..at(0) };
    ledger.record(Scope::target(A), Loss::Damaged, lost);
    assert_eq!(ledger.to_repair(Scope::table(A, T)).ranges, [Tokens::ALL]);
    assert_eq!(ledger.to_repair(Scope::table(A, TableId(8))).ranges, [Tokens::ALL]);
    assert_eq!(ledger.to_repair(Scope::table(NodeId(1), T)).ranges, []);
    // A repair of one table is not one of all.
    assert_eq!(ledger.settle(Scope::table(A, T), &[RING], u64::MAX).ranges, 0);
    assert_eq!(ledger.settle(Scope::target(A), &[RING], u64::MAX).ranges, 1);
}

#[test]
fn neighbouring_spans_cover_together() {
    let mut ledger = Ledger::new();
    let scope = Scope::table(A, T);
    ledger.record(scope, Loss::Evicted, Lost { tokens: tokens(-5, 5), ..at(0) });
    let low = Span { after: Some(Token(-9)), until: Token(0) };
    let gap = Span { after: Some(Token(1)), until: Token(9) };
    let high = Span { after: Some(Token(0)), until: Token(9) };
    assert_eq!(ledger.settle(scope, &[low, gap], u64::MAX).ranges, 0, "token 1 is missing");
    assert_eq!(ledger.settle(scope, &[high, low], u64::MAX).ranges, 1);
}

#[test]
fn tokens_and_spans_say_the_same() {
    for range in [Tokens::ALL, Tokens::one(Token::MIN), Tokens::one(Token::MAX), tokens(-3, 9)] {
        assert_eq!(Tokens::of(range.span()), Some(range));
    }
    let nothing = Span { after: Some(Token::MAX), until: Token::MAX };
    assert_eq!(Tokens::of(nothing), None);
}

type Step = (u128, u128, usize, i64, u64, u8);

/// Few enough targets, tables and tokens that they meet; more than there is room for.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let token = prop_oneof![any::<i64>(), -300..300_i64, Just(i64::MIN), Just(i64::MAX)];
    let step = (0..40_u128, 0..20_u128, 0..Loss::ALL.len(), token, 0..1000_u64, 0..10_u8);
    prop::collection::vec(step, 0..600)
}

proptest! {
    #[test]
    fn every_loss_is_covered_counted_and_bounded(steps in steps()) {
        let mut ledger = Ledger::new();
        let mut recorded: Vec<(Scope, Token)> = Vec::new();
        let (mut count, mut bytes, mut settled) = (0, 0, Settled::default());
        for (target, table, reason, token, size, what) in steps {
            let scope = Scope::table(NodeId(target), TableId(table));
            if what == 0 {
                let upto = Span { after: None, until: Token(token) };
                let done = ledger.settle(scope, &[upto], ledger.recorded());
                settled.count += done.count;
                settled.bytes += done.bytes;
                recorded.retain(|(of, at)| *of != scope || *at > Token(token));
            } else {
                let lost = Lost { bytes: size, ..at(token) };
                ledger.record(scope, Loss::ALL[reason], lost);
                recorded.push((scope, Token(token)));
                count += 1;
                bytes += size;
            }
        }
        for (scope, token) in recorded {
            let plan = ledger.to_repair(scope);
            prop_assert!(plan.ranges.iter().any(|r| r.first <= token && token <= r.last));
        }
        prop_assert!(ledger.rows().count() <= ROWS_MAX);
        for (_, _, ranges) in ledger.rows() {
            prop_assert!((1..=RANGES_MAX).contains(&ranges.len()));
            prop_assert!(ranges.windows(2).all(|w| w[0].tokens.last < w[1].tokens.first));
            prop_assert!(ranges.iter().all(|r| r.tokens.first <= r.tokens.last && r.count > 0));
            count -= ranges.iter().map(|r| r.count).sum::<u64>();
            bytes -= ranges.iter().map(|r| r.bytes).sum::<u64>();
        }
        prop_assert_eq!((count, bytes), (settled.count, settled.bytes));
    }

    #[test]
    fn what_is_put_back_is_what_was_there(steps in steps()) {
        let mut ledger = Ledger::new();
        for (target, table, reason, token, ..) in steps {
            let scope = Scope::table(NodeId(target), TableId(table));
            ledger.record(scope, Loss::ALL[reason], at(token));
        }
        let mut copy = Ledger::resumed(ledger.recorded());
        for (scope, reason, ranges) in ledger.rows() {
            for range in ranges {
                copy.put(scope, reason, *range);
            }
        }
        prop_assert!(copy == ledger);
    }
}
