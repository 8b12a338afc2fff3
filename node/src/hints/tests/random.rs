//! Random lives: the bound, the identity and the ledger hold through crashes and failing disks.

use super::*;
use helenus_core::token;

#[derive(Debug, Clone)]
enum Step {
    Append(NodeId, usize),
    Deliver(NodeId, u64),
    Refuse(NodeId),
    Flush,
    Truncate(NodeId),
    Replay(NodeId, u64),
    Purge(NodeId),
    Crash,
    Restart,
}

fn policy() -> impl Strategy<Value = Overflow> {
    prop_oneof![Just(NEWEST), Just(OLDEST), Just(LETTER)]
}

fn step() -> impl Strategy<Value = Step> {
    let target = prop_oneof![Just(A), Just(B), Just(NodeId(0xc))];
    prop_oneof![
        12 => (target.clone(), 0..3000_usize).prop_map(|(t, n)| Step::Append(t, n)),
        3 => (target.clone(), 1..9000_u64).prop_map(|(t, n)| Step::Deliver(t, n)),
        1 => target.clone().prop_map(Step::Refuse),
        2 => Just(Step::Flush),
        1 => target.clone().prop_map(Step::Truncate),
        2 => (target.clone(), 1..9000_u64).prop_map(|(t, n)| Step::Replay(t, n)),
        1 => target.prop_map(Step::Purge),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
    ]
}

/// What a run must and may find, by key.
#[derive(Default)]
struct Owed {
    /// Synced, and neither delivered nor lost: must be there.
    synced: BTreeMap<String, NodeId>,
    /// Appended, not synced: may be gone after a crash.
    unsynced: BTreeMap<String, NodeId>,
    /// Evicted since the last flush: may come back with a crash.
    evicted: BTreeMap<String, NodeId>,
    /// Unsynced or evicted when it crashed: may be there.
    maybe: BTreeMap<String, NodeId>,
    /// Lost, and told: the ledger must cover them.
    lost: Vec<(NodeId, String)>,
    /// Of those, how many were told before the last flush.
    lost_flushed: usize,
}

impl Owed {
    /// Takes in what the probe was told since.
    fn learn(&mut self, node: &Node) {
        for event in node.probe.0.lock().unwrap().drain(..) {
            if let Event::HintLost { target, key, .. } = &event {
                self.lost.push((*target, name(key)));
            }
            let (key, evicted) = match &event {
                Event::HintLost { key, reason, .. } => (name(key), *reason == HintLoss::Evicted),
                Event::HintDelivered { key, .. } => (name(key), false),
                _ => continue,
            };
            let maps = [&mut self.synced, &mut self.unsynced, &mut self.maybe];
            let target = maps.into_iter().find_map(|map| map.remove(&key));
            if let Some(target) = target.filter(|_| evicted) {
                self.evicted.insert(key, target);
            }
        }
    }

    fn check_ledger(&self, node: &Node) {
        let ledger = node.store.ledger();
        for (target, key) in &self.lost {
            let at = token::of(key.as_bytes());
            let ranges = ledger.to_repair(Scope::table(*target, TableId(7))).ranges;
            let covered = ranges.iter().any(|range| range.first <= at && at <= range.last);
            assert!(covered, "{key} for {target} was lost, and no range covers it");
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one step after another")]
async fn run_steps(seed: u64, config: HintsConfig, steps: Vec<Step>) {
    let mut node = Node::new(seed, config);
    let mut owed = Owed::default();
    let mut crashed = false;
    for (i, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append(target, size) => {
                let key = format!("k{i}");
                if node.append(target, &key, size).is_ok() {
                    owed.unsynced.insert(key, target);
                }
            }
            Step::Deliver(target, max_bytes) => {
                node.deliver(target, max_bytes).await;
            }
            Step::Refuse(target) => {
                drop(node.store.next_page(target, 5000, &|_| None).await.unwrap());
            }
            Step::Flush => {
                node.store.flush().await.unwrap();
                // Names that were removed while it ran are durable with the next one.
                node.store.flush().await.unwrap();
                owed.learn(&node);
                owed.synced.append(&mut owed.unsynced);
                owed.evicted.clear();
                owed.lost_flushed = owed.lost.len();
            }
            Step::Replay(target, max_bytes) => {
                deliver_from(&node.store.dead_letters().log, target, max_bytes).await;
            }
            Step::Purge(target) => {
                node.store.dead_letters().purge(Some(target)).await.unwrap();
                owed.learn(&node);
                owed.lost_flushed = owed.lost.len();
            }
            Step::Truncate(target) => {
                node.store.truncate(Some(target)).await.unwrap();
                owed.learn(&node);
                owed.evicted.retain(|_, of| *of != target);
                owed.lost_flushed = owed.lost.len();
            }
            Step::Crash => {
                owed.learn(&node);
                crashed = true;
                owed.maybe.append(&mut owed.unsynced);
                owed.maybe.append(&mut owed.evicted);
                owed.lost.truncate(owed.lost_flushed);
                node.crash();
            }
            Step::Restart => {
                node.store.flush().await.unwrap();
                owed.learn(&node);
                owed.synced.append(&mut owed.unsynced);
                owed.lost_flushed = owed.lost.len();
                node.reopen();
            }
        }
        owed.learn(&node);
        owed.check_ledger(&node);
        node.check();
        if !crashed {
            let expected = owed.synced.len() + owed.unsynced.len();
            let account = node.store.figures().account;
            assert_eq!(account.pending + account.dead_lettered, expected as u64, "step {i}");
        }
    }
    for target in [A, B, NodeId(0xc)] {
        let mut found: Vec<String> = node.drain(target).await;
        found.extend(node.drain_letters(target).await);
        let unique: BTreeSet<&String> = found.iter().collect();
        assert_eq!(unique.len(), found.len(), "nothing is delivered twice");
        for (key, of) in &owed.synced {
            assert!(*of != target || unique.contains(key), "{key} was synced, and is gone");
        }
        for key in found {
            let known = [&owed.synced, &owed.unsynced, &owed.maybe];
            assert!(known.iter().any(|m| m.get(&key) == Some(&target)), "{key} came back");
        }
    }
    let account = node.store.figures().account;
    assert_eq!((account.pending, account.dead_lettered), (0, 0));
}

pub(super) fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens: the files never take more than is charged, which never exceeds the bound; the accounts balance;
    /// after a crash everything synced is there, and nothing that was delivered, truncated or purged. Of hints and of dead
    /// letters.
    #[test]
    fn the_bound_and_the_identity_hold_through_crashes(
        seed: u64,
        cap_kib in 8..64_u64,
        per_host in prop::option::of(4..32_u64),
        letters_kib in 0..48_u64,
        policy in policy(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let config = HintsConfig {
            max_hints_size_per_host: per_host.unwrap_or(0) * KIB,
            max_dead_letters_size: letters_kib * KIB,
            ..config(cap_kib * KIB, policy)
        };
        paused_runtime().block_on(run_steps(seed, config, steps));
    }

    /// A disk that fails now and then: no panic, no byte above the bound, every hint accounted for.
    #[test]
    fn a_failing_disk_is_counted_not_feared(
        seed: u64,
        policy in policy(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        paused_runtime().block_on(async {
            let config = HintsConfig { max_dead_letters_size: 16 * KIB, ..config(12 * KIB, policy) };
            let node = Node::new(seed, config);
            node.disk.set_faults(|f| {
                (f.read_error, f.write_error, f.sync_error, f.bit_rot) = (0.1, 0.1, 0.2, 0.05);
                f.capacity_bytes = Some(24 * KIB);
            });
            for (i, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Append(target, size) => {
                        let _stored = node.append(target, &format!("k{i}"), size);
                    }
                    Step::Deliver(target, bytes) => {
                        if let Ok(Some(page)) = node.store.next_page(target, bytes, &|_| None).await {
                            node.store.complete(page).await.unwrap();
                        }
                    }
                    Step::Refuse(target) => {
                        drop(node.store.next_page(target, 5000, &|_| None).await);
                    }
                    Step::Truncate(target) => {
                        let _removed = node.store.truncate(Some(target)).await;
                    }
                    Step::Replay(target, bytes) => {
                        let log = &node.store.dead_letters().log;
                        if let Ok(Some(page)) = log.next_page(target, bytes, &|_| None).await {
                            log.complete(page).await.unwrap();
                        }
                    }
                    Step::Purge(target) => {
                        let _removed = node.store.dead_letters().purge(Some(target)).await;
                    }
                    Step::Flush | Step::Crash | Step::Restart => {
                        let _flushed = node.store.flush().await;
                    }
                }
                node.check();
            }
            node.disk.set_faults(|f| *f = Faults::default());
            for target in [A, B, NodeId(0xc)] {
                node.drain(target).await;
                node.drain_letters(target).await;
            }
            let account = node.store.figures().account;
            prop_assert_eq!((account.pending, account.dead_lettered), (0, 0));
            Ok(())
        })?;
    }
}
