//! Dead letters: what a bound keeps out is set aside to the byte, told, kept, read, replayed and purged.

use super::*;
use crate::hints::dead::Stopped;
use helenus_core::hint::Loss;

/// Room for a few hints, and for more letters.
fn letters(max_dead_letters_size: u64) -> HintsConfig {
    HintsConfig { max_dead_letters_size, ..config(4 * KIB, LETTER) }
}

/// A node with hints and letters for A; their keys.
fn overflowed(seed: u64, count: usize) -> (Node, Vec<String>, Vec<String>) {
    let node = Node::new(seed, letters(64 * KIB));
    let (mut owed, mut dead) = (Vec::new(), Vec::new());
    for i in 0..count {
        let key = format!("k{i:03}");
        let receipt = node.append(A, &key, 100).unwrap();
        if receipt.dead_letter {
            dead.push(key)
        } else {
            owed.push(key)
        }
        node.check();
    }
    assert!(!owed.is_empty() && !dead.is_empty());
    (node, owed, dead)
}

async fn replay(node: &Node, peers: &Arc<Peers>, target: NodeId, ms: u64) -> Replayed {
    let patience = Duration::from_millis(ms);
    node.store.dead_letters().replay(peers.clone(), target, patience).await
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_set_aside_and_not_lost() {
    let (node, owed, dead) = overflowed(1, 100);
    let account = node.account(A);
    let (pending, dead_lettered) = (owed.len() as u64, dead.len() as u64);
    assert_eq!((account.created, account.pending), (100, pending));
    assert_eq!((account.dead_lettered, account.refused), (dead_lettered, 0));
    assert_eq!(node.probe.lost(), []);
    assert_eq!(node.store.ledger().rows().count(), 0);
    let set_aside = |event: &Event| matches!(event, Event::HintDeadLettered { target: A, .. });
    let events = node.probe.0.lock().unwrap().clone();
    assert_eq!(events.iter().filter(|event| set_aside(event)).count(), dead.len());
    // What nobody asked for is not delivered.
    let peers = Arc::new(Peers::default());
    peers.up(A);
    node.start(&peers);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let account = node.account(A);
    assert_eq!((account.pending, account.dead_lettered), (0, dead_lettered));
    assert_eq!(node.probe.delivered(), owed);
}

#[tokio::test(start_paused = true)]
async fn the_log_is_full_to_the_byte_and_then_refuses() {
    let cap = 8 * KIB;
    let node = Node::new(1, letters(cap));
    let mut kept = 0;
    while node.append(A, &format!("k{kept:03}"), 100).is_ok() {
        kept += 1;
        node.check();
    }
    let figures = node.store.dead_letters().figures();
    let record = 24 + 16 + 4 + 100;
    assert!(figures.bytes <= cap && figures.bytes + record > cap, "{figures:?}");
    assert_eq!(node.append(B, "b", 100), Err(HintLoss::DeadLettersFull));
    let all = node.store.accounts().total();
    assert_eq!((all.created, all.refused), (kept + 2, 2));
    let refused = node.probe.lost();
    let full = HintLoss::DeadLettersFull;
    assert_eq!(refused, [(A, format!("k{kept:03}"), full), (B, "b".to_owned(), full)]);
    assert_eq!(node.store.ledger().outstanding(Loss::DeadLettersFull).count, 2);
    node.store.flush().await.unwrap();
    assert_eq!(node.letter_bytes(), figures.bytes - 64, "the position file is not there yet");
    // No room at all.
    let node = Node::new(1, letters(0));
    while node.append(A, "k", 100).is_ok() {}
    assert_eq!(node.store.figures().account.dead_lettered, 0);
    assert_eq!(node.store.accounts().reason(full), 1);
}

#[tokio::test(start_paused = true)]
async fn only_what_a_bound_keeps_out_becomes_a_letter() {
    let node = Node::new(1, letters(64 * KIB));
    let (key, update) = mutation("k", 10);
    let new = hint(&key, &update, node.store.wall_ms());
    let late = node.store.append(A, &new, Duration::from_secs(4 * 3600));
    assert_eq!(late, Err(HintLoss::WindowClosed));
    let off = Node::new(1, HintsConfig { enabled: false, ..letters(64 * KIB) });
    assert_eq!(off.append(A, "k", 10), Err(HintLoss::Disabled));
    for node in [node, off] {
        assert_eq!(node.account(A).dead_lettered, 0);
    }
    // A keyspace may have another policy than its node, either way.
    let node = Node::new(1, HintsConfig { max_dead_letters_size: 8 * KIB, ..config(KIB, NEWEST) });
    while node.append(A, "k", 100).is_ok() {}
    let (key, update) = mutation("k", 100);
    let wanted = NewHint { overflow: Some(LETTER), ..hint(&key, &update, 1_000_000_000) };
    assert!(node.store.append(A, &wanted, Duration::ZERO).unwrap().dead_letter);
    // A hint larger than the bound of hints has room here.
    let (key, update) = mutation("large", 3000);
    let large = NewHint { overflow: Some(LETTER), ..hint(&key, &update, 1_000_000_000) };
    assert!(node.store.append(A, &large, Duration::ZERO).unwrap().dead_letter);
}

#[tokio::test(start_paused = true)]
async fn a_replay_delivers_every_letter_once_and_beside_the_hints() {
    let (node, owed, dead) = overflowed(1, 300);
    let peers = Arc::new(Peers::default());
    let down = replay(&node, &peers, A, 1000).await;
    assert_eq!((down.stopped, down.account.pending), (Stopped::TargetDown, dead.len() as u64));
    peers.up(A);
    let done = replay(&node, &peers, A, 60_000).await;
    let delivered = dead.len() as u64;
    assert_eq!(done.stopped, Stopped::Done);
    assert_eq!((done.account.delivered, done.account.pending), (delivered, 0));
    assert_eq!(node.probe.delivered(), dead);
    let account = node.account(A);
    assert_eq!((account.delivered, account.pending), (delivered, owed.len() as u64));
    assert_eq!(account.dead_lettered, 0);
    let again = replay(&node, &peers, A, 60_000).await;
    assert_eq!((again.stopped, again.account.delivered), (Stopped::Done, 0));
    node.store.flush().await.unwrap();
    assert_eq!(node.letter_bytes(), 64, "only the position file is left");
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_ends_early_says_why_and_goes_on_there() {
    let (mut node, _, dead) = overflowed(1, 300);
    node.store.flush().await.unwrap();
    let peers = Arc::new(Peers::default());
    peers.up(A);
    node.config.hinted_handoff_throttle = 2000;
    node.reopen();
    let first = replay(&node, &peers, A, 2500).await;
    assert_eq!(first.stopped, Stopped::TimeUp);
    assert!(first.account.delivered > 0 && first.account.pending > 0, "{first:?}");
    peers.refuse.store(true, std::sync::atomic::Ordering::Relaxed);
    let failed = replay(&node, &peers, A, 2500).await;
    let Stopped::Failed(reason) = &failed.stopped else { panic!("{failed:?}") };
    assert!(reason.contains("timeout"), "{reason}");
    assert_eq!((failed.account.delivered, failed.account.pending), (0, first.account.pending));
    peers.refuse.store(false, std::sync::atomic::Ordering::Relaxed);
    node.store.set_paused(true);
    assert_eq!(replay(&node, &peers, A, 2500).await.stopped, Stopped::Paused);
    node.store.set_paused(false);
    // A crash forgets no position.
    node.crash();
    let rest = replay(&node, &peers, A, 600_000).await;
    assert_eq!((rest.stopped, rest.account.pending), (Stopped::Done, 0));
    assert_eq!(node.probe.delivered(), dead);
}

#[tokio::test(start_paused = true)]
async fn two_replays_at_once_do_not_deliver_twice() {
    let (node, _, dead) = overflowed(1, 300);
    let peers = Arc::new(Peers::default());
    peers.up(A);
    let (one, two) =
        tokio::join!(replay(&node, &peers, A, 60_000), replay(&node, &peers, A, 60_000));
    assert_eq!(one.stopped, Stopped::Done);
    let Stopped::Failed(reason) = two.stopped else { panic!("{two:?}") };
    assert!(reason.contains("on its way"), "{reason}");
    assert_eq!(node.probe.delivered(), dead);
}

#[tokio::test(start_paused = true)]
async fn letters_too_old_are_counted_and_not_applied() {
    let (node, _, dead) = overflowed(1, 60);
    let peers = Arc::new(Peers::default());
    peers.up(A);
    tokio::time::advance(Duration::from_secs(864_000)).await;
    let done = replay(&node, &peers, A, 60_000).await;
    assert_eq!(done.stopped, Stopped::Done);
    assert_eq!((done.account.delivered, done.account.expired), (0, dead.len() as u64));
    assert_eq!((peers.pages(), node.account(A).expired), (0, dead.len() as u64));
    assert_eq!(node.store.ledger().outstanding(Loss::Expired).count, dead.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn purged_letters_are_counted_in_the_ledger_and_do_not_come_back() {
    for seed in 0..20 {
        let (mut node, owed, dead) = overflowed(seed, 60);
        while !node.append(B, "b", 100).unwrap().dead_letter {}
        node.store.flush().await.unwrap();
        let purged = node.store.dead_letters().purge(Some(A)).await.unwrap();
        assert_eq!(purged, dead.len() as u64);
        let account = node.account(A);
        assert_eq!((account.evicted, account.dead_lettered), (purged, 0));
        assert_eq!(node.store.accounts().reason(Loss::Purged), purged);
        node.crash();
        assert_eq!(node.store.ledger().outstanding(Loss::Purged).count, purged);
        super::ledger::covers_all_that_was_told(&node);
        assert_eq!(node.account(B).dead_lettered, 1, "those of others stay");
        assert!(node.drain_letters(A).await.is_empty());
        assert_eq!(node.drain(A).await, owed);
        // And the other way round: truncated hints leave the letters alone.
        assert_eq!(node.store.truncate(None).await.unwrap(), 0);
        assert_eq!(node.account(B).dead_lettered, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn only_letters_written_before_a_time_are_purged() {
    let (mut node, owed, dead) = overflowed(1, 60);
    tokio::time::advance(Duration::from_secs(10)).await;
    let young = ["y0", "y1", "y2"].map(str::to_owned);
    for key in &young {
        assert!(node.append(A, key, 100).unwrap().dead_letter);
    }
    let now_ms = node.store.wall_ms();
    node.store.flush().await.unwrap();
    let log = node.store.dead_letters().clone();
    assert_eq!(log.purge_older(Some(B), now_ms).await.unwrap(), 0);
    assert_eq!(log.purge_older(None, now_ms - 10_000).await.unwrap(), 0, "none is older than that");
    let files = log.list()[0].files;
    let purged = log.purge_older(None, now_ms).await.unwrap();
    assert_eq!(purged, dead.len() as u64);
    assert_eq!(log.purge_older(None, now_ms).await.unwrap(), 0);
    assert!(log.list()[0].files < files, "segments that are through are removed");
    node.check();
    node.crash();
    let account = node.account(A);
    assert_eq!((account.dead_lettered, account.pending), (3, owed.len() as u64));
    assert_eq!(node.store.ledger().outstanding(Loss::Purged).count, purged);
    super::ledger::covers_all_that_was_told(&node);
    assert_eq!(node.drain_letters(A).await, young);
}

#[tokio::test(start_paused = true)]
async fn letters_survive_what_hints_survive() {
    for seed in 0..20 {
        let (mut node, owed, dead) = overflowed(seed, 80);
        node.store.flush().await.unwrap();
        node.append(A, "unsynced", 100).unwrap();
        node.crash();
        node.check();
        let account = node.account(A);
        assert_eq!(account.created, account.pending + account.dead_lettered);
        assert_eq!(node.drain(A).await, owed);
        let found = node.drain_letters(A).await;
        assert_eq!(found[..dead.len()], dead, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_letter_is_counted_and_the_rest_delivered() {
    for reopened in [false, true] {
        let (mut node, _, dead) = overflowed(1, 100);
        node.store.flush().await.unwrap();
        let dir = Path::new("hints/dead");
        let view = node.disk.reopen();
        let segment = view.list(dir).unwrap().into_iter().find(|name| name.ends_with("-1.hints"));
        // In the body of the third record.
        let file = view.open(&dir.join(segment.unwrap()), false).unwrap();
        file.write_at(48 + 2 * (24 + 16 + 4 + 100) + 90, b"!").unwrap();
        if reopened {
            node.reopen();
        }
        let read = node.store.dead_letters().read(Some(A), None, 1000).await.unwrap();
        assert_eq!(read.letters.len(), dead.len() - 1);
        let delivered = node.drain_letters(A).await;
        assert_eq!(delivered.len(), dead.len() - 1);
        assert!(!delivered.contains(&dead[2]));
        let account = node.account(A);
        assert_eq!((account.lost, account.dead_lettered), (1, 0));
        assert_eq!(node.store.accounts().reason(Loss::Damaged), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn letters_are_read_in_pages_and_stay() {
    let (node, _, dead) = overflowed(1, 200);
    while node.account(B).dead_lettered < 5 {
        node.append(B, "b", 100).unwrap();
    }
    let log = node.store.dead_letters();
    for count in [1, 7, 1000] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = log.read(None, after, count).await.unwrap();
            assert!(page.letters.len() <= count);
            read.extend(page.letters.iter().map(|it| (it.target, name(&it.hint.key))));
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        let of_a = dead.iter().map(|key| (A, key.clone()));
        let of_b = std::iter::repeat_n((B, "b".to_owned()), 5);
        assert_eq!(read, of_a.chain(of_b).collect::<Vec<_>>(), "{count} at a time");
    }
    let one = log.read(Some(B), None, 1).await.unwrap();
    assert_eq!((one.letters[0].bytes, one.letters.len()), (24 + 16 + 1 + 100, 1));
    // A place that is gone meanwhile is no error: the next letter behind it is read.
    let place = log.read(Some(A), None, 3).await.unwrap().next;
    deliver_from(&log.log, A, 1000).await;
    let later = log.read(Some(A), place, 1).await.unwrap();
    assert!(name(&later.letters[0].hint.key) > dead[3]);
    log.purge(None).await.unwrap();
    assert_eq!(log.read(None, place, 9).await.unwrap(), Letters::default());
}

#[tokio::test(start_paused = true)]
async fn a_letter_for_any_is_durable_and_says_what_it_is() {
    let (mut node, _, dead) = overflowed(1, 50);
    node.start(&Arc::new(Peers::default()));
    let (key, update) = mutation("any", 100);
    let new = hint(&key, &update, 1_000_000_000);
    let receipt = node.store.append_durable(A, &new, Duration::ZERO).await.unwrap();
    assert!(receipt.dead_letter);
    node.crash();
    let found = node.drain_letters(A).await;
    assert_eq!(found[..dead.len()], dead);
    assert_eq!(found[dead.len()..], ["any"]);
}

#[tokio::test(start_paused = true)]
async fn a_sync_point_names_letters_and_does_not_wait_for_them() {
    let (node, owed, dead) = overflowed(1, 50);
    let peers = Arc::new(Peers::default());
    peers.up(A);
    node.start(&peers);
    let point = node.store.await_delivered(A, Duration::from_secs(60)).await.unwrap();
    assert_eq!((point.delivered, point.pending), (owed.len() as u64, 0));
    assert_eq!(point.dead_lettered, dead.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_lowered_bound_of_letters_is_enforced_at_the_start() {
    let (mut node, _, dead) = overflowed(1, 200);
    node.store.flush().await.unwrap();
    node.config.max_dead_letters_size = 8 * KIB;
    node.reopen();
    node.check();
    let account = node.account(A);
    assert!(account.evicted > 0 && account.dead_lettered > 0, "{account:?}");
    assert_eq!(account.evicted + account.dead_lettered, dead.len() as u64);
    assert_eq!(node.store.ledger().outstanding(Loss::Evicted).count, account.evicted);
}
