//! What is lost is in the ledger, and a restart forgets none of it.

use super::*;
use helenus_core::hint::Loss;
use helenus_core::hint::ledger::Tokens;
use helenus_core::{Token, token};

const T: TableId = TableId(7);
const RING: Span = Span { after: None, until: Token::MAX };

fn outstanding(node: &Node, reason: Loss) -> u64 {
    node.store.ledger().outstanding(reason).count
}

/// Every loss that was told is covered by what a repair would compare.
pub(super) fn covers_all_that_was_told(node: &Node) {
    let plans: BTreeMap<NodeId, Vec<Tokens>> =
        [A, B].map(|target| (target, node.store.to_repair(Scope::table(target, T)).ranges)).into();
    for (target, key, reason) in node.probe.lost() {
        let at = token::of(key.as_bytes());
        let covered = plans[&target].iter().any(|range| range.first <= at && at <= range.last);
        assert!(covered, "{key} for {target} was lost ({}) and is not covered", reason.as_str());
    }
}

#[tokio::test(start_paused = true)]
async fn refused_hints_are_in_the_ledger_at_their_tokens() {
    let node = Node::new(1, config(4 * KIB, NEWEST));
    while node.append(A, "stored", 500).is_ok() {}
    node.append(B, "late", 500).unwrap_err();
    assert_eq!(
        node.store.to_repair(Scope::table(A, T)).ranges,
        [Tokens::one(token::of(b"stored"))]
    );
    assert_eq!(node.store.to_repair(Scope::table(B, T)).ranges, [Tokens::one(token::of(b"late"))]);
    assert_eq!(node.store.to_repair(Scope::table(B, TableId(8))).ranges, []);
    let lost = node.store.ledger().outstanding(Loss::NodeCapReached);
    assert_eq!((lost.count, lost.bytes), (2, 2 * (24 + 16 + 500) + 6 + 4));
}

#[tokio::test(start_paused = true)]
async fn evicted_expired_and_truncated_hints_are_in_the_ledger() {
    let node = Node::new(1, config(64 * KIB, OLDEST));
    for i in 0..2000 {
        node.append(A, &format!("k{i:05}"), 100).unwrap();
    }
    assert_eq!(outstanding(&node, Loss::Evicted), node.account(A).evicted);
    // Half of what is left is too old by now, the other half is truncated.
    let page = node.store.next_page(A, 20_000, &|_| Some(0)).await.unwrap();
    assert!(page.is_none(), "nothing is worth delivering with no grace at all");
    node.append(B, "other", 100).unwrap();
    node.store.truncate(None).await.unwrap();
    assert_eq!(outstanding(&node, Loss::Expired), node.account(A).expired);
    assert_eq!(outstanding(&node, Loss::Truncated), 1);
    covers_all_that_was_told(&node);
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_nothing_that_was_flushed() {
    for seed in 0..20 {
        let mut node = Node::new(seed, config(4 * KIB, NEWEST));
        while node.append(A, "stored", 500).is_ok() {}
        node.store.flush().await.unwrap();
        node.append(B, "unflushed", 500).unwrap_err();
        let before = node.store.to_repair(Scope::table(A, T));
        node.crash();
        let after = node.store.to_repair(Scope::table(A, T));
        assert_eq!(after.ranges, before.ranges, "seed {seed}");
        assert!(after.as_of > before.as_of, "what comes now is newer than what was asked before");
        // What was known before the crash does not settle what was lost behind it.
        node.append(B, "x".repeat(9).as_str(), 4000).unwrap_err();
        let settled = node.store.settle_losses(&[Scope::table(B, T)], &[RING], before.as_of).await;
        assert_eq!(settled.unwrap(), Settled::default());
    }
}

#[tokio::test(start_paused = true)]
async fn a_settled_loss_stays_settled() {
    let mut node = Node::new(1, config(4 * KIB, NEWEST));
    while node.append(A, "stored", 500).is_ok() {}
    node.store.flush().await.unwrap();
    let plan = node.store.to_repair(Scope::table(A, T));
    let spans: Vec<Span> = plan.ranges.iter().map(|range| range.span()).collect();
    let scope = Scope::table(A, T);
    let settled = node.store.settle_losses(&[scope], &spans, plan.as_of).await.unwrap();
    assert_eq!((settled.ranges, settled.count), (1, 1));
    node.crash();
    assert_eq!(node.store.to_repair(Scope::table(A, T)).ranges, []);
}

#[tokio::test(start_paused = true)]
async fn truncated_hints_are_in_the_ledger_before_they_are_gone() {
    for seed in 0..20 {
        let mut node = Node::new(seed, config(64 * KIB, NEWEST));
        node.append(A, "owed", 100).unwrap();
        node.store.flush().await.unwrap();
        node.store.truncate(None).await.unwrap();
        node.crash();
        assert_eq!(node.account(A).pending, 0);
        assert_eq!(
            node.store.to_repair(Scope::table(A, T)).ranges,
            [Tokens::one(token::of(b"owed"))]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_could_not_be_synced_leaves_the_one_before() {
    let mut node = Node::new(1, config(4 * KIB, NEWEST));
    while node.append(A, "stored", 500).is_ok() {}
    node.store.flush().await.unwrap();
    node.append(B, "late", 500).unwrap_err();
    // Once for the hints, and once more for the dead letters, which share the ledger.
    node.disk.fail_next_syncs(2);
    assert!(node.store.flush().await.is_err(), "whoever flushes hears of it");
    node.crash();
    assert_eq!(
        node.store.to_repair(Scope::table(A, T)).ranges,
        [Tokens::one(token::of(b"stored"))]
    );
    // The next one is whole.
    node.append(B, &"x".repeat(99), 4000).unwrap_err();
    node.store.flush().await.unwrap();
    node.crash();
    assert_eq!(
        node.store.to_repair(Scope::table(B, T)).ranges,
        [Tokens::one(token::of("x".repeat(99).as_bytes()))]
    );
}
