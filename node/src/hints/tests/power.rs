//! One life of hints and letters, and the power fails in place of every change of the disk in it, in every way.

use super::random::paused_runtime;
use super::*;
use crate::seams::disk::Survives;
use helenus_core::hint::Loss;
use helenus_core::token;

/// What a life had done when its power failed.
#[derive(Default)]
struct Life {
    appended: BTreeSet<String>,
    /// Appended before a flush that succeeded.
    synced: BTreeSet<String>,
    /// Acknowledged by their target, durably or not.
    delivered: BTreeSet<String>,
    /// How many letters for B a purge removed, if it said so.
    purged: Option<u64>,
}

async fn live(node: &Node, at_once: bool) -> Life {
    let mut life = Life::default();
    let letters = node.store.dead_letters();
    for round in 0..3 {
        for i in 0..40 {
            let (target, key) = (if i < 30 { A } else { B }, format!("{round}-{i:02}"));
            if node.append(target, &key, 100).is_ok() {
                life.appended.insert(key);
            }
        }
        if node.store.flush().await.is_ok() {
            life.synced = life.appended.clone();
        }
        for log in [&node.store, &letters.log] {
            if let Ok(Some(page)) = log.next_page(A, 1500, &|_| None).await {
                life.delivered.extend(page.hints().iter().map(|hint| name(&hint.key)));
                log.complete(page).await.ok();
            }
        }
        if round == 1 {
            life.purged = match at_once {
                true => letters.purge(Some(B)).await.ok(),
                false => letters.purge_older(Some(B), u64::MAX).await.ok(),
            };
        }
    }
    life
}

fn a_life(seed: u64) -> Node {
    Node::new(seed, HintsConfig { max_dead_letters_size: 16 * KIB, ..config(4 * KIB, LETTER) })
}

async fn check_after(node: &Node, life: &Life, when: &str) {
    node.check();
    let gone = node.store.ledger().outstanding(Loss::Purged).count;
    assert!(life.purged.is_none_or(|purged| gone == purged), "{when}: {gone} in the ledger");
    let mut found = BTreeSet::new();
    for target in [A, B] {
        let hints = node.drain(target).await;
        let letters = node.drain_letters(target).await;
        assert!(
            target == A || life.purged.is_none() || letters.iter().all(|key| key.starts_with('2')),
            "{when}: purged letters came back: {letters:?}"
        );
        for key in hints.into_iter().chain(letters) {
            assert!(life.appended.contains(&key), "{when}: {key} was never taken");
            assert!(found.insert(key.clone()), "{when}: {key} is there twice");
        }
    }
    // A purge that the power cut short has said in the ledger what it was about to remove.
    let in_ledger = |key: &String| {
        let of_b = key.get(2..).is_some_and(|nth| nth >= "30");
        let at = token::of(key.as_bytes());
        let ranges = node.store.to_repair(Scope::table(B, TableId(7))).ranges;
        of_b && ranges.iter().any(|range| range.first <= at && at <= range.last)
    };
    let missing = life.synced.difference(&found).filter(|key| !life.delivered.contains(*key));
    let missing: Vec<&String> = missing.filter(|key| !in_ledger(key)).collect();
    let account = node.store.accounts().total();
    assert!(missing.is_empty(), "{when}: {missing:?} were synced, and are gone: {account:?}");
}

fn the_power_fails_at_every_change(at_once: bool) {
    let changes = paused_runtime().block_on(async {
        let node = a_life(1);
        let before = node.disk.figures().changes;
        let life = live(&node, at_once).await;
        assert!(life.purged.is_some_and(|purged| purged > 5), "{:?}", life.purged);
        assert_eq!(life.appended.len(), 120, "there is room for all");
        node.disk.figures().changes - before
    });
    assert!(changes > 30, "{changes}");
    for nth in 0..changes {
        for survives in Survives::ALL {
            paused_runtime().block_on(async {
                let mut node = a_life(nth);
                node.disk.crash_after(nth, survives);
                let life = live(&node, at_once).await;
                assert!(!node.disk.is_powered(), "change {nth}");
                node.reopen();
                check_after(&node, &life, &format!("change {nth}, {survives:?}")).await;
            });
        }
    }
}

#[test]
fn the_power_may_fail_at_any_change() {
    the_power_fails_at_every_change(true);
}

#[test]
fn the_power_may_fail_while_the_oldest_are_purged() {
    the_power_fails_at_every_change(false);
}
