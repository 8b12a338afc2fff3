//! Calls: who answers, who is too late, what does not fit, and what is counted.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_gathers_the_answers_of_all_peers_and_of_the_node_itself() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    let two = start(&net, config(2)).await;
    let three = start(&net, config(3)).await;
    one.peers.register_address(N2, addr(2));
    one.peers.register_address(N3, addr(3));
    let mut inflight = one.peers.call(&[N2, N3], mutation(100), ms(1000));
    inflight.local().send(ack());
    let mut from = Vec::new();
    while let Some((node, answer)) = inflight.next().await {
        assert_eq!(answer, Ok(ack()));
        from.push(node);
    }
    from.sort();
    assert_eq!(from, [N1, N2, N3]);
    assert_eq!(*two.desk.seen.lock().unwrap(), [(N1, mutation(100))]);
    assert_eq!(*three.desk.seen.lock().unwrap(), [(N1, mutation(100))]);
    assert_eq!(one.peers.dropped(), BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_call_expires_and_its_answer_is_late() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let begun = tokio::time::Instant::now();
    let mut kept = one.peers.call(&[N2], mutation(10), ms(1000));
    assert_eq!(kept.next().await, Some((N2, Err(PeerError::Expired))));
    let took = begun.elapsed();
    assert!(took >= ms(1000) && took <= ms(1000) + 2 * SWEEP_GRANULE, "{took:?}");
    assert_eq!(kept.next().await, None);
    for reply in two.desk.held.lock().unwrap().drain(..) {
        reply.send(ack());
    }
    tokio::time::sleep(ms(10)).await;
    assert_eq!(kept.next().await, None);
    assert_eq!(dropped(&one, Verb::Ack, DropReason::Late), 1);
}

#[tokio::test(start_paused = true)]
async fn a_short_call_behind_a_long_one_expires_in_its_own_time() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut long = one.peers.call(&[N2], mutation(10), ms(10_000));
    tokio::time::sleep(ms(100)).await;
    let begun = tokio::time::Instant::now();
    let mut short = one.peers.call(&[N2], mutation(10), ms(200));
    assert_eq!(short.next().await, Some((N2, Err(PeerError::Expired))));
    assert!(begun.elapsed() <= ms(200) + 2 * SWEEP_GRANULE);
    assert_eq!(long.waiting(), [N2]);
    assert_eq!(long.next().await, Some((N2, Err(PeerError::Expired))));
}

#[tokio::test(start_paused = true)]
async fn a_call_expires_for_each_peer_though_nobody_polls_it() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut kept = one.peers.call(&[N2, N3], mutation(10), ms(100));
    let unanswered = kept.local();
    tokio::time::sleep(ms(1000)).await;
    assert_eq!(kept.waiting(), []);
    let mut errors = Vec::new();
    while let Some((node, answer)) = kept.next().await {
        errors.push((node, answer.unwrap_err()));
    }
    errors.sort();
    let expected = [(N1, PeerError::Expired), (N2, PeerError::Expired), (N3, PeerError::Unknown)];
    assert_eq!(errors, expected);
    unanswered.send(ack());
    assert_eq!(dropped(&one, Verb::Ack, DropReason::Late), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_and_counts_by_verb() {
    let net = Pipes::default();
    let two = start(&net, config(2)).await;
    let one = start(&net, PeersConfig { queue_bytes: 3500, ..config(1) }).await;
    one.peers.register_address(N2, addr(2));
    // Nothing is drained while this task does not yield.
    let calls: Vec<_> = (0..5).map(|_| one.peers.call(&[N2], mutation(1000), ms(1000))).collect();
    let mut outcomes = Vec::new();
    for mut call in calls {
        outcomes.push(call.next().await.unwrap().1);
    }
    let full = Err(PeerError::QueueFull);
    assert_eq!(outcomes, [Ok(ack()), Ok(ack()), Ok(ack()), full.clone(), full]);
    assert_eq!(dropped(&one, Verb::Mutation, DropReason::QueueFull), 2);
    assert_eq!(two.desk.seen.lock().unwrap().len(), 3);
    assert_eq!(answer(&one).await, Ok(ack()), "it takes more once it is drained");
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_goes_out_together_and_is_one_batch() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.batches.store(0, Ordering::Relaxed);
    let calls: Vec<_> = (0..100).map(|_| one.peers.call(&[N2], mutation(10), ms(1000))).collect();
    for mut call in calls {
        assert_eq!(call.next().await, Some((N2, Ok(ack()))));
    }
    assert_eq!(two.desk.batches.load(Ordering::Relaxed), 1);
    assert_eq!(two.desk.seen.lock().unwrap().len(), 101);
}

#[tokio::test(start_paused = true)]
async fn answers_may_come_later_and_in_another_order() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut first = one.peers.call(&[N2], mutation(1), ms(1000));
    let mut second = one.peers.call(&[N2], mutation(2), ms(1000));
    tokio::time::sleep(ms(100)).await;
    let mut held = std::mem::take(&mut *two.desk.held.lock().unwrap());
    assert_eq!(held.len(), 2);
    held.pop().unwrap().send(ack());
    assert_eq!(second.next().await, Some((N2, Ok(ack()))));
    assert_eq!(first.waiting(), [N2]);
    held.pop().unwrap().send(ack());
    assert_eq!(first.next().await, Some((N2, Ok(ack()))));
}

#[tokio::test(start_paused = true)]
async fn metrics_and_figures_tell_the_same() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    drop(one.peers.call(&[N3], mutation(1), ms(1000)));
    one.peers.filter().arm(vec![rule(Side::Send, Verb::Mutation, Nth::Every, Action::Drop)]);
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    let small = one.peers.link_stats().into_iter().find(|link| link.lane == Lane::Small).unwrap();
    assert_eq!((small.connected, small.sent, small.received, small.connects), (true, 1, 1, 1));
    assert_eq!(small.peer, Some(N2));
    let mut registry = Registry::with_prefix("helenus");
    one.peers.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        format!("helenus_link_up{{peer=\"{N2}\",lane=\"small\"}} 1"),
        format!("helenus_link_sent_messages_total{{peer=\"{N2}\",lane=\"small\"}} 1"),
        "helenus_dropped_messages_total{verb=\"MUTATION\",reason=\"filtered\"} 1".to_owned(),
        "helenus_link_sessions 2".to_owned(),
        "helenus_open_calls 0".to_owned(),
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in:\n{text}");
    }
    assert_eq!(two.peers.sessions().len(), 2);
}

/// Answers with more than a link takes.
struct TooMuch;

impl Handler for TooMuch {
    fn handle(&self, _: NodeId, _: Body, reply: ReplyTo) {
        reply.send(mutation(queue::MESSAGE_BYTES_MAX));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_costs_neither_the_link_nor_its_other_messages() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    let mut inflight = one.peers.call(&[N2], mutation(queue::MESSAGE_BYTES_MAX), ms(1000));
    assert_eq!(inflight.next().await, Some((N2, Err(PeerError::TooLarge))));
    assert_eq!(dropped(&one, Verb::Mutation, DropReason::TooLarge), 1);
    assert_eq!(answer(&one).await, Ok(ack()));

    two.peers.serve(net.listen(addr(9)).await.unwrap(), Arc::new(TooMuch));
    one.peers.register_address(N2, addr(9));
    let Ok(Body::Failed(failed)) = answer(&one).await else { panic!("it was sent") };
    assert_eq!(failed.reason, "TOO_LARGE");
    assert_eq!(dropped(&two, Verb::Mutation, DropReason::TooLarge), 1);
}
