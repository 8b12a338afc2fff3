//! When replay begins, how fast it goes, when it stops.

use super::*;

#[tokio::test(start_paused = true)]
async fn replay_begins_when_a_target_is_alive_and_ends_when_nothing_is_owed() {
    let node = Node::new(1, config(1024 * KIB, NEWEST));
    let peers = Arc::new(Peers::default());
    node.start(&peers);
    for i in 0..500 {
        node.append(A, &format!("k{i:03}"), 100).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(peers.pages() == 0, "nobody is alive");
    peers.up(A);
    node.store.wake_replay();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.account(A).delivered, 500);
    assert_eq!(node.account(A).pending, 0);
    // What comes later is delivered too, without being woken.
    node.append(A, "later", 100).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(node.account(A).delivered, 501);
}

#[tokio::test(start_paused = true)]
async fn a_refused_page_is_sent_again_less_and_less_often() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    let peers = Arc::new(Peers::default());
    node.start(&peers);
    peers.up(A);
    peers.refuse.store(true, std::sync::atomic::Ordering::Relaxed);
    node.append(A, "k", 100).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tries = peers.pages();
    assert!((6..12).contains(&tries), "{tries}");
    assert_eq!(node.account(A).pending, 1);
    peers.refuse.store(false, std::sync::atomic::Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(node.account(A).delivered, 1);
}

/// A node that owes A and B a hundred hints of a kilobyte each. Both are alive, and replay begins.
fn owing_both(config: HintsConfig) -> Node {
    let node = Node::new(1, config);
    let peers = Arc::new(Peers::default());
    node.start(&peers);
    for i in 0..100 {
        node.append(A, &format!("k{i:03}"), 996).unwrap();
        node.append(B, &format!("k{i:03}"), 996).unwrap();
    }
    peers.up(A);
    peers.up(B);
    node
}

#[tokio::test(start_paused = true)]
async fn the_throttle_holds_for_each_target() {
    let throttled = HintsConfig { hinted_handoff_throttle: 10_000, ..config(1024 * KIB, NEWEST) };
    let node = owing_both(throttled);
    tokio::time::sleep(Duration::from_millis(5500)).await;
    for target in [A, B] {
        // 5.5 s, less a second until it was noticed, at 10 kB/s; a page is sent on credit.
        let delivered = node.account(target).delivered;
        assert!((35..=60).contains(&delivered), "{delivered}");
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(node.account(A).delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn paused_replay_sends_nothing_until_it_is_resumed() {
    let node = Node::new(1, HintsConfig { paused: true, ..config(64 * KIB, NEWEST) });
    let peers = Arc::new(Peers::default());
    node.start(&peers);
    peers.up(A);
    node.append(A, "k", 100).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(node.account(A).pending, 1);
    node.store.set_paused(false);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(node.account(A).delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_wants_no_page_yet_gets_none() {
    let node = Node::new(1, config(4096 * KIB, NEWEST));
    let peers = Arc::new(Peers::default());
    *peers.credit.lock().unwrap() = Duration::from_secs(3);
    node.start(&peers);
    for i in 0..3000 {
        node.append(A, &format!("k{i:04}"), 996).unwrap();
    }
    peers.up(A);
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    // Of six, those at 1, 4, 7 and 10 s.
    assert_eq!(peers.pages(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_nodes_throttle_holds_for_all_targets_together() {
    let throttled = HintsConfig {
        hinted_handoff_throttle: 0,
        hinted_handoff_throttle_total: 10_000,
        ..config(1024 * KIB, NEWEST)
    };
    let node = owing_both(throttled);
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    let (to_a, to_b) = (node.account(A).delivered, node.account(B).delivered);
    assert!((80..=110).contains(&(to_a + to_b)), "{to_a} + {to_b}");
    assert!(to_a.abs_diff(to_b) < 20, "{to_a} + {to_b}");
}

#[tokio::test(start_paused = true)]
async fn pages_are_sent_ahead_only_while_nothing_holds_them_back() {
    let throttle = |bytes_per_s| HintsConfig {
        hinted_handoff_throttle: bytes_per_s,
        hinted_handoff_throttle_total: 0,
        ..config(16 * 1024 * KIB, NEWEST)
    };
    let half_second = Duration::from_millis(500);
    for (config, credit, at_once) in [
        (throttle(0), Duration::ZERO, 4),
        (throttle(8 * 1024 * KIB), Duration::ZERO, 1),
        (throttle(0), half_second, 1),
    ] {
        let node = Node::new(1, config);
        let peers = Arc::new(Peers::default());
        *peers.credit.lock().unwrap() = credit;
        node.start(&peers);
        for i in 0..8000 {
            node.append(A, &format!("k{i:04}"), 996).unwrap();
        }
        peers.up(A);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(node.account(A).delivered, 8000);
        assert_eq!(peers.on_the_way.lock().unwrap().1, at_once);
    }
}
