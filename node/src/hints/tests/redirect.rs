//! Hints that others take in their target's stead.

use super::*;

/// Takes what is owed to `A`, which has left, and to nobody else.
struct Successors;

impl Deliver for Successors {
    fn alive(&self, _: NodeId) -> bool {
        false
    }
    fn redirects(&self, target: NodeId) -> bool {
        target == A
    }
    fn gc_grace_s(&self, _: TableId) -> Option<u32> {
        None
    }
    fn deliver(
        &self,
        target: NodeId,
        _: Vec<Hint>,
    ) -> BoxFuture<'static, Result<Duration, DeliverError>> {
        assert_eq!(target, A, "nobody takes what is owed to one that is only down");
        Box::pin(std::future::ready(Ok(Duration::ZERO)))
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_to_one_that_left_is_redirected_counted_apart_and_gives_its_bytes_back() {
    let node = Node::new(1, config(256 * KIB, NEWEST));
    for nth in 0..20 {
        node.append(A, &format!("a{nth}"), 300).unwrap();
        node.append(B, &format!("b{nth}"), 300).unwrap();
    }
    let of_b = node.store.list().into_iter().find(|row| row.target == B).unwrap().bytes;
    node.store.start(&node.tasks, Arc::new(Successors));
    let settled = node.store.await_delivered(A, Duration::from_secs(30)).await.unwrap();
    assert_eq!((settled.owed, settled.delivered, settled.pending), (20, 20, 0));
    let (a, b) = (node.account(A), node.account(B));
    assert_eq!((a.created, a.redirected, a.delivered, a.pending), (20, 20, 0, 0));
    assert_eq!((b.redirected, b.pending), (0, 20));
    assert!(a.balances() && node.store.figures().account.balances());
    let delivered = |it: &PendingHints| it.target == A && it.delivered_bytes > 0;
    assert!(!node.store.list().iter().any(delivered), "its target has acknowledged nothing");
    node.store.flush().await.unwrap();
    let rest = node.store.list().into_iter().find(|row| row.target == B).unwrap().bytes;
    assert_eq!(rest, of_b);
    let of_a = node.store.list().into_iter().find(|row| row.target == A).unwrap().bytes;
    assert!(of_a < KIB, "only its position file is left: {of_a}");
    node.check();
}
