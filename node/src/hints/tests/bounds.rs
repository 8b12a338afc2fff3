//! The bound to the byte, and who makes room for whom.

use super::*;

#[tokio::test(start_paused = true)]
async fn drop_newest_refuses_at_the_bound_to_the_byte() {
    let cap = 16 * KIB;
    let node = Node::new(1, config(cap, NEWEST));
    let mut stored = 0;
    while node.append(A, &format!("k{stored:05}"), 100).is_ok() {
        stored += 1;
    }
    let figures = node.store.figures();
    let record = 24 + 16 + 6 + 100;
    assert!(figures.bytes <= cap && figures.bytes + record > cap, "{figures:?}");
    assert_eq!(node.append(B, "b", 100), Err(HintLoss::NodeCapReached));
    assert_eq!(figures.account.pending, stored);
    assert_eq!((figures.account.refused, figures.account.evicted), (1, 0));
    assert_eq!(
        node.probe.lost(),
        [
            (A, format!("k{stored:05}"), HintLoss::NodeCapReached),
            (B, "b".to_owned(), HintLoss::NodeCapReached),
        ]
    );
    node.store.flush().await.unwrap();
    assert_eq!(node.disk_bytes(), figures.bytes - 64, "the position file is not there yet");
    // Once something is delivered there is room again.
    node.deliver(A, 4096).await;
    node.append(A, "again", 100).unwrap();
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_evicts_the_oldest_segment_and_names_every_hint_in_it() {
    let cap = 64 * KIB;
    let node = Node::new(1, config(cap, OLDEST));
    let keys: Vec<String> = (0..2000).map(|i| format!("k{i:05}")).collect();
    for key in &keys {
        node.append(A, key, 100).unwrap();
        assert!(node.store.figures().bytes <= cap);
        node.store.write_out();
        assert!(node.disk_bytes() <= cap);
    }
    let lost = node.probe.lost();
    assert!(lost.iter().all(|(_, _, reason)| *reason == HintLoss::Evicted));
    let account = node.account(A);
    assert_eq!(account.evicted, lost.len() as u64);
    let mut seen: Vec<String> = lost.into_iter().map(|(_, key, _)| key).collect();
    let share = node.store.figures().bytes as f64 / cap as f64;
    assert!(share > 0.9, "little is lost at a time: {share}");
    seen.extend(node.drain(A).await);
    assert_eq!(seen, keys, "the oldest went, in order; the rest was delivered");
}

#[tokio::test(start_paused = true)]
async fn a_targets_bound_leaves_others_alone() {
    let bounded = HintsConfig { max_hints_size_per_host: 8 * KIB, ..config(64 * KIB, NEWEST) };
    let node = Node::new(1, bounded);
    while node.append(A, "a", 100).is_ok() {}
    assert_eq!(node.append(A, "a", 100), Err(HintLoss::TargetCapReached));
    assert!(node.append(B, "b", 100).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_window_and_the_switch_refuse() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    let (key, update) = mutation("k", 10);
    let new = hint(&key, &update, node.store.wall_ms());
    let down = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!(node.store.append(A, &new, down(4)), Err(HintLoss::WindowClosed));
    assert!(node.store.append(A, &new, down(2)).is_ok());
    tokio::time::advance(down(4)).await;
    // It was up for a moment, but its oldest hint is older than the window.
    assert_eq!(node.store.append(A, &new, down(1)), Err(HintLoss::WindowClosed));
    assert!(node.store.append(B, &new, down(1)).is_ok());

    let off = Node::new(1, HintsConfig { enabled: false, ..config(64 * KIB, NEWEST) });
    assert_eq!(off.append(A, "k", 10), Err(HintLoss::Disabled));
    assert_eq!(off.account(A).refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lowered_bound_is_enforced_at_the_start() {
    for overflow in [NEWEST, OLDEST] {
        let mut node = Node::new(1, config(64 * KIB, overflow));
        let keys: Vec<String> = (0..200).map(|i| format!("k{i:03}")).collect();
        for key in &keys {
            node.append(A, key, 100).unwrap();
        }
        node.store.flush().await.unwrap();
        node.config.max_hints_size = 16 * KIB;
        node.reopen();
        assert!(node.disk_bytes() <= 16 * KIB);
        let lost = node.probe.lost().len();
        let account = node.account(A);
        assert_eq!(account.evicted, lost as u64);
        let left = node.drain(A).await;
        assert!(lost > 50 && left.len() > 50 && left.len() + lost == 200);
        let expected = if overflow == NEWEST { &keys[..left.len()] } else { &keys[lost..] };
        assert_eq!(left, expected, "{overflow:?}");
    }
}
