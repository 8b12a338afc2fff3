//! What is appended is delivered once, and survives what it must.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_was_appended_is_delivered_in_order_once() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    let keys: Vec<String> = (0..100).map(|i| format!("k{i:03}")).collect();
    for key in &keys {
        node.append(A, key, 100).unwrap();
    }
    assert_eq!(node.drain(A).await, keys);
    assert_eq!(node.probe.delivered(), keys);
    let account = node.account(A);
    assert_eq!((account.created, account.delivered, account.pending), (100, 100, 0));
    node.store.flush().await.unwrap();
    assert_eq!(node.store.figures().bytes, 64, "only the position file is left");
    assert_eq!(node.disk_bytes(), 64);
}

#[tokio::test(start_paused = true)]
async fn an_unacknowledged_page_is_pending_as_before() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    node.append(A, "k", 100).unwrap();
    let page = node.store.next_page(A, 1000, &|_| None).await.unwrap().unwrap();
    let second = node.store.next_page(A, 1000, &|_| None).await;
    assert!(matches!(second, Err(HintError::Busy { target: A })));
    drop(page);
    assert_eq!(node.account(A).pending, 1);
    assert_eq!(node.drain(A).await, ["k"]);
}

#[tokio::test(start_paused = true)]
async fn one_write_a_wake_and_one_sync_a_period() {
    let node = Node::new(1, config(1024 * KIB, NEWEST));
    node.start(&Arc::new(Peers::default()));
    node.append(A, "first", 100).unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    let before = node.disk.figures();
    for i in 0..100 {
        node.append(A, &format!("k{i}"), 100).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(node.disk.figures().writes - before.writes, 1);
    assert_eq!(node.disk.figures().syncs, before.syncs);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(node.disk.figures().syncs - before.syncs, 1, "no new names: the file only");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.disk.figures().syncs - before.syncs, 1, "an idle store syncs nothing");
}

#[tokio::test(start_paused = true)]
async fn a_durable_append_survives_the_crash_right_after_it() {
    for seed in 0..50 {
        let mut node = Node::new(seed, config(64 * KIB, NEWEST));
        node.start(&Arc::new(Peers::default()));
        let (key, update) = mutation("any", 100);
        let started = node.clock.now();
        let new = hint(&key, &update, 1_000_000_000);
        node.store.append_durable(A, &new, Duration::ZERO).await.unwrap();
        assert!(node.clock.now() - started < Duration::from_secs(1), "it does not wait a period");
        node.crash();
        assert_eq!(node.drain(A).await, ["any"], "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_durable_append_is_refused_when_the_sync_fails() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    node.start(&Arc::new(Peers::default()));
    let (key, update) = mutation("any", 100);
    node.disk.fail_next_syncs(1);
    let hint = hint(&key, &update, node.store.wall_ms());
    let stored = node.store.append_durable(A, &hint, Duration::ZERO).await;
    assert_eq!(stored, Err(HintLoss::Unwritable));
    assert_eq!(node.account(A).pending, 1, "it may still be delivered");
    assert_eq!(node.store.figures().sync_failures, 1);
    // The next one goes to a file of its own, whose sync says something.
    assert!(node.store.append_durable(A, &hint, Duration::ZERO).await.is_ok());
    assert_eq!(node.store.list()[0].files, 2);
}

#[tokio::test(start_paused = true)]
async fn expired_hints_are_skipped_and_counted() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    for i in 0..20 {
        node.append(A, &format!("old{i}"), 100).unwrap();
    }
    tokio::time::advance(Duration::from_secs(100)).await;
    node.append(A, "young", 100).unwrap();
    let grace = |_: TableId| Some(50);
    let page = node.store.next_page(A, 100_000, &grace).await.unwrap().unwrap();
    assert_eq!(page.hints().len(), 1);
    node.store.complete(page).await.unwrap();
    let account = node.account(A);
    assert_eq!((account.expired, account.delivered, account.pending), (20, 1, 0));
    assert_eq!(node.probe.lost().len(), 20);

    node.append(A, "last", 100).unwrap();
    tokio::time::advance(Duration::from_secs(100)).await;
    assert!(node.store.next_page(A, 100_000, &grace).await.unwrap().is_none());
    assert_eq!(node.account(A).expired, 21);
    assert_eq!(node.store.list()[0].files, 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_resends_at_most_the_page_that_was_on_its_way() {
    let mut node = Node::new(1, config(64 * KIB, NEWEST));
    let keys: Vec<String> = (0..100).map(|i| format!("k{i:03}")).collect();
    for key in &keys {
        node.append(A, key, 100).unwrap();
    }
    node.store.flush().await.unwrap();
    let first = node.deliver(A, 1000).await;
    assert!(!first.is_empty() && first.len() < 10);
    let page = node.store.next_page(A, 1000, &|_| None).await.unwrap().unwrap();
    node.crash();
    drop(page);
    assert_eq!(node.drain(A).await, keys[first.len()..]);
    let account = node.account(A);
    assert_eq!(account.created, 100 - first.len() as u64, "a new run counts what it finds");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_counted_and_the_rest_delivered() {
    for reopened in [false, true] {
        let mut node = Node::new(3, config(1024 * KIB, NEWEST));
        for i in 0..50 {
            node.append(A, &format!("k{i:03}"), 1000).unwrap();
        }
        node.store.flush().await.unwrap();
        let view = node.disk.reopen();
        let segment = view.list(Path::new("hints")).unwrap().remove(0);
        // In the body of the third record.
        let file = view.open(&Path::new("hints").join(segment), false).unwrap();
        file.write_at(48 + 2 * (24 + 16 + 4 + 1000) + 500, b"!").unwrap();
        if reopened {
            node.reopen();
        }
        let delivered = node.drain(A).await;
        assert_eq!(delivered.len(), 49);
        assert!(!delivered.contains(&"k002".to_owned()));
        let account = node.account(A);
        assert_eq!((account.created, account.lost, account.pending), (50, 1, 0));
        assert_eq!(node.store.accounts().reason(HintLoss::Damaged), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_read_is_given_up_after_three_tries() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    for i in 0..100 {
        node.append(A, &format!("k{i:03}"), 100).unwrap();
    }
    node.disk.set_faults(|f| f.read_error = 1.0);
    for _ in 0..3 {
        let failed = node.store.next_page(A, 1000, &|_| None).await;
        let Err(HintError::Io { path, .. }) = failed else { panic!("{failed:?}") };
        assert!(path.ends_with("-1.hints"), "{path}");
    }
    node.disk.set_faults(|f| f.read_error = 0.0);
    let delivered = node.drain(A).await;
    let account = node.account(A);
    assert!(account.lost > 0 && account.lost < 20, "one segment: {account:?}");
    assert_eq!(delivered.len() as u64 + account.lost, 100);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_new_hints_and_keeps_the_old_ones() {
    let node = Node::new(1, config(1024 * KIB, NEWEST));
    node.start(&Arc::new(Peers::default()));
    node.disk.set_faults(|f| f.capacity_bytes = Some(8192));
    let mut stored = Vec::new();
    let mut refused = 0;
    for i in 0..40 {
        let key = format!("k{i:02}");
        match node.append(A, &key, 1000) {
            Ok(_) => stored.push(key),
            Err(loss) => {
                assert_eq!(loss, HintLoss::Unwritable);
                refused += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(refused > 20 && stored.len() >= 7, "{refused}");
    assert!(node.store.figures().unwritable);
    assert!(node.store.flush().await.is_err());
    node.disk.set_faults(|f| f.capacity_bytes = None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!node.store.figures().unwritable, "it tries again by itself");
    node.append(A, "after", 1000).unwrap();
    stored.push("after".to_owned());
    assert_eq!(node.drain(A).await, stored, "nothing that was taken is lost");
    assert_eq!(node.account(A).refused, refused);
}

#[tokio::test(start_paused = true)]
async fn truncated_hints_are_counted_told_and_do_not_come_back() {
    for seed in 0..20 {
        let mut node = Node::new(seed, config(64 * KIB, NEWEST));
        for i in 0..30 {
            node.append(A, &format!("a{i}"), 100).unwrap();
            node.append(B, &format!("b{i}"), 100).unwrap();
        }
        node.store.flush().await.unwrap();
        node.append(A, "unwritten", 100).unwrap();
        let page = node.store.next_page(A, 1000, &|_| None).await.unwrap().unwrap();
        assert_eq!(node.store.truncate(Some(A)).await.unwrap(), 31);
        node.store.complete(page).await.unwrap();
        let account = node.account(A);
        assert_eq!((account.evicted, account.delivered, account.pending), (31, 0, 0));
        assert_eq!(node.probe.lost().len(), 31);
        assert_eq!(node.account(B).pending, 30);
        node.crash();
        assert!(node.drain(A).await.is_empty());
        assert_eq!(node.drain(B).await.len(), 30);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_read_ahead_is_settled_after_the_one_before_it_or_not_at_all() {
    let node = Node::new(1, config(1024 * KIB, NEWEST));
    for i in 0..40 {
        node.append(A, &format!("k{i:03}"), 100).unwrap();
    }
    let pages = async || {
        let first = node.store.next_page(A, 1000, &|_| None).await.unwrap().unwrap();
        let second = node.store.page_behind(&first, 1000, &|_| None).await.unwrap().unwrap();
        (first, second)
    };
    let keys =
        |page: &Page| -> Vec<Bytes> { page.hints().iter().map(|h| h.key.0.clone()).collect() };
    let (first, second) = pages().await;
    let read: Vec<Bytes> = keys(&first).into_iter().chain(keys(&second)).collect();
    let expected: Vec<Bytes> = (0..read.len()).map(|i| format!("k{i:03}").into()).collect();
    assert_eq!(read, expected, "the second goes on where the first ends");
    assert!(
        node.store.page_behind(&first, 1000, &|_| None).await.unwrap().is_none(),
        "one page follows another"
    );
    // Out of turn: what is before it is still owed, so nothing changes.
    node.store.complete(second).await.unwrap();
    assert_eq!(node.account(A).pending, 40);
    // The first is lost on its way: the second may not be settled either.
    drop(first);
    let (first, second) = pages().await;
    assert_eq!(keys(&first), expected[..first.hints().len()]);
    drop(first);
    node.store.complete(second).await.unwrap();
    assert_eq!(node.account(A).pending, 40);
    let (first, second) = pages().await;
    let sent = (first.hints().len() + second.hints().len()) as u64;
    node.store.complete(first).await.unwrap();
    node.store.complete(second).await.unwrap();
    let account = node.account(A);
    assert_eq!((account.delivered, account.pending), (sent, 40 - sent));
    assert_eq!(node.drain(A).await.len() as u64, 40 - sent);
}
