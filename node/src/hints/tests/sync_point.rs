//! What a sync point waits for, and what it says of it.

use super::*;

async fn outcome(node: &Node, ms: u64) -> PointOutcome {
    node.store.await_delivered(A, Duration::from_millis(ms)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_owed_is_reached_at_once() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    node.append(B, "another's", 100).unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(outcome(&node, 1000).await, PointOutcome::default());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_what_was_owed_before_and_for_nothing_that_came_later() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    let peers = Arc::new(Peers::default());
    node.start(&peers);
    for i in 0..20 {
        node.append(A, &format!("k{i}"), 100).unwrap();
    }
    let files = node.store.list()[0].files;
    let waits = outcome(&node, 5000);
    let later = async {
        // Polled after the point is made.
        node.append(A, "later", 100).unwrap();
        assert_eq!(node.store.list()[0].files, files + 1, "it does not share a segment");
        peers.up(A);
    };
    let (reached, ()) = tokio::join!(biased; waits, later);
    let all = PointOutcome { owed: 20, delivered: 20, ..PointOutcome::default() };
    assert_eq!(reached, all);
    assert!(node.store.lock().points.is_empty(), "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn it_says_what_will_never_be_delivered() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    for i in 0..20 {
        node.append(A, &format!("k{i}"), 100).unwrap();
    }
    let (reached, _) = tokio::join!(biased; outcome(&node, 5000), async {
        node.deliver(A, 500).await;
        node.store.truncate(Some(A)).await.unwrap()
    });
    assert_eq!(reached.pending, 0);
    let truncated = reached.undelivered[&HintLoss::Truncated];
    assert_eq!((reached.owed, reached.delivered + truncated), (20, 20));
    assert!(reached.delivered > 0 && truncated > 0, "{reached:?}");
}

#[tokio::test(start_paused = true)]
async fn a_point_that_is_not_reached_says_what_is_pending() {
    let node = Node::new(1, config(64 * KIB, NEWEST));
    node.append(A, "owed", 100).unwrap();
    let late = outcome(&node, 300).await;
    assert_eq!((late.owed, late.pending, late.delivered), (1, 1, 0));
    assert!(node.store.lock().points.is_empty());
}
