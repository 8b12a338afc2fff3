//! Links: who is dialled, who is refused, and what a cut, a restart or a move does to them.

use super::*;

#[tokio::test(start_paused = true)]
async fn whoever_was_dialled_can_answer_on_a_link_of_its_own() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    let two = start(&net, config(2)).await;
    // As with a seed: only the address is known.
    one.peers.send_one_way(addr(2), Lane::Urgent, mutation(5)).unwrap();
    tokio::time::sleep(ms(100)).await;
    assert_eq!(*two.desk.seen.lock().unwrap(), [(N1, mutation(5))]);
    assert_eq!(one.peers.address(N2), Some(addr(2)));
    assert!(one.peers.is_connected(N2, Lane::Urgent));
    two.peers.send_one_way(N1, Lane::Urgent, mutation(6)).unwrap();
    tokio::time::sleep(ms(100)).await;
    assert_eq!(*one.desk.seen.lock().unwrap(), [(N2, mutation(6))]);
    assert_eq!(two.peers.send_one_way(N3, Lane::Urgent, mutation(7)), Err(PeerError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_noticed_by_keepalive_and_healed_by_dialling_again() {
    let net = Pipes::default();
    let (one, _two) = pair(&net).await;
    net.cut.store(true, Ordering::Relaxed);
    // The first calls find nothing wrong: their bytes only vanish.
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    let mut under_way = one.peers.call(&[N2], mutation(10), ms(60_000));
    assert_eq!(under_way.next().await, Some((N2, Err(PeerError::Disconnected))));
    let begun = tokio::time::Instant::now();
    assert_eq!(answer(&one).await, Err(PeerError::NotConnected));
    assert_eq!(begun.elapsed(), Duration::ZERO, "a coordinator is told at once");
    tokio::time::sleep(Duration::from_secs(600)).await;
    net.cut.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn a_reset_does_not_wait_for_keepalive() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut under_way = one.peers.call(&[N2], mutation(10), ms(60_000));
    tokio::time::sleep(ms(10)).await;
    one.peers.reset(N2);
    let begun = tokio::time::Instant::now();
    assert_eq!(under_way.next().await, Some((N2, Err(PeerError::Disconnected))));
    two.desk.hold.store(false, Ordering::Relaxed);
    tokio::time::sleep(ms(200)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
    assert!(begun.elapsed() < DIAL_SOON);
}

/// Longer than the first wait, shorter than any keepalive.
const DIAL_SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_peer_that_dials_us_is_dialled_without_waiting() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    one.peers.register_address(N2, addr(2));
    // Nobody listens there: the waits have grown to their bound.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(answer(&one).await, Err(PeerError::NotConnected));
    let two = start(&net, config(2)).await;
    two.peers.register_address(N1, addr(1));
    tokio::time::sleep(ms(10)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_peer_is_dialled_anew_though_its_old_connection_never_ended() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    // Power loss: no byte of the old life arrives any more, not even its end.
    net.cut.store(true, Ordering::Relaxed);
    one.peers.send_one_way(N2, Lane::Small, mutation(1)).unwrap();
    two.peers.close();
    tokio::time::sleep(ms(10)).await;
    net.cut.store(false, Ordering::Relaxed);
    let again = start(&net, PeersConfig { generation: Generation(2), ..config(2) }).await;
    again.peers.register_address(N1, addr(1));
    tokio::time::sleep(ms(10)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(again.desk.seen.lock().unwrap().len(), 1);
}

async fn refused(net: &Pipes, theirs: PeersConfig) -> Node {
    let one = start(net, config(1)).await;
    let _two = start(net, theirs).await;
    one.peers.register_address(N2, addr(2));
    let mut first = one.peers.call(&[N2], mutation(10), ms(1000));
    assert_eq!(first.next().await, Some((N2, Err(PeerError::NotConnected))));
    assert!(!one.peers.is_connected(N2, Lane::Small));
    net.dials.store(0, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let dials = net.dials.load(Ordering::Relaxed);
    assert!(dials > 0 && dials < 60, "two lanes dialled {dials} times in an hour");
    one
}

#[tokio::test(start_paused = true)]
async fn another_cluster_is_refused_and_seldom_asked_again() {
    let net = Pipes::default();
    let other = PeersConfig { cluster_name: "other".to_owned(), ..config(2) };
    let one = refused(&net, other).await;
    assert!(one.peers.link_stats().iter().all(|link| link.refusals > 1 && link.connects == 0));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_nobody_shares_is_refused_and_one_that_is_shared_is_spoken() {
    let versions = |min, max| VersionRange { min, max };
    let net = Pipes::default();
    refused(&net, PeersConfig { versions: versions(9, 9), ..config(2) }).await;
    let net = Pipes::default();
    let one = start(&net, PeersConfig { versions: versions(1, 3), ..config(1) }).await;
    let _two = start(&net, PeersConfig { versions: versions(3, 9), ..config(2) }).await;
    one.peers.register_address(N2, addr(2));
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn a_refused_peer_that_was_upgraded_is_dialled_without_waiting() {
    let net = Pipes::default();
    let old = VersionRange { min: 9, max: 9 };
    let one = refused(&net, PeersConfig { versions: old, ..config(2) }).await;
    let upgraded = start(&net, PeersConfig { generation: Generation(2), ..config(2) }).await;
    upgraded.peers.register_address(N1, addr(1));
    tokio::time::sleep(ms(10)).await;
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_link_that_is_gone_is_counted() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let under_way = one.peers.call(&[N2], mutation(1), ms(60_000));
    tokio::time::sleep(ms(10)).await;
    one.peers.reset(N2);
    tokio::time::sleep(ms(10)).await;
    assert_eq!(under_way.waiting(), []);
    two.desk.held.lock().unwrap().pop().unwrap().send(ack());
    assert_eq!(dropped(&two, Verb::Ack, DropReason::NotConnected), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dials_itself_stops() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    one.peers.send_one_way(addr(1), Lane::Urgent, mutation(1)).unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(net.dials.load(Ordering::Relaxed), 1);
    assert_eq!(one.desk.seen.lock().unwrap().len(), 0);
    assert_eq!(dropped(&one, Verb::Mutation, DropReason::NotConnected), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_moved_is_found_and_one_that_is_forgotten_is_not() {
    let net = Pipes::default();
    let (one, _old) = pair(&net).await;
    let moved = start(&net, PeersConfig { address: addr(9), ..config(2) }).await;
    one.peers.register_address(N2, addr(9));
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(moved.desk.seen.lock().unwrap().len(), 1);
    assert_eq!(one.peers.link_stats().iter().filter(|link| link.addr == addr(2)).count(), 0);
    one.peers.forget(N2);
    assert_eq!(answer(&one).await, Err(PeerError::Unknown));
    assert_eq!(one.peers.link_stats(), []);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_node_has_taken_over_gets_nothing_meant_for_the_first() {
    let net = Pipes::default();
    let one = start(&net, config(1)).await;
    let three = start(&net, PeersConfig { node: N3, ..config(2) }).await;
    one.peers.register_address(N2, addr(2));
    assert_eq!(answer(&one).await, Err(PeerError::NotConnected), "queued before the Hello");
    assert_eq!(answer(&one).await, Err(PeerError::NotConnected), "after it");
    assert_eq!(three.desk.seen.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_node_fails_what_is_under_way_and_sends_no_more() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    two.desk.hold.store(true, Ordering::Relaxed);
    let mut under_way = one.peers.call(&[N2], mutation(1), ms(60_000));
    tokio::time::sleep(ms(10)).await;
    one.peers.close();
    assert_eq!(under_way.next().await, Some((N2, Err(PeerError::Disconnected))));
    assert!(answer(&one).await.is_err());
    tokio::time::sleep(ms(10)).await;
    assert_eq!(two.peers.sessions().len(), 0, "the other end notices");
}

#[tokio::test]
async fn the_same_over_tcp() {
    let net = crate::seams::net::TcpNet;
    let mut nodes = Vec::new();
    for n in [1, 2] {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = net.listen(any).await.unwrap();
        let address = listener.local_addr().unwrap();
        let parts = PeersParts {
            clock: Arc::new(crate::seams::clock::SystemClock::new()),
            net: Arc::new(net),
            rng: Rng::from_seed(1),
            probe: Arc::new(Silent),
            tasks: Arc::new(Tasks::new()),
        };
        let peers = Peers::new(PeersConfig { address, ..config(n) }, parts);
        let desk = Arc::new(Desk::default());
        peers.serve(listener, desk.clone());
        nodes.push((Node { peers, desk }, address));
    }
    let (two, at) = nodes.pop().unwrap();
    let (one, _) = nodes.pop().unwrap();
    one.peers.register_address(N2, at);
    for bytes in [0, 100, 20_000_000] {
        let mut inflight = one.peers.call(&[N2], mutation(bytes), Duration::from_secs(60));
        assert_eq!(inflight.next().await, Some((N2, Ok(ack()))));
        assert_eq!(two.desk.seen.lock().unwrap().pop(), Some((N1, mutation(bytes))));
    }
}

/// What a dialler that says `frames`, and then nothing, is told until the link ends or `patience` does.
async fn told(net: &Pipes, frames: Vec<helenus_proto::v1::Frame>) -> Vec<helenus_proto::v1::Frame> {
    let net: Arc<dyn Net> = Arc::new(net.clone());
    let mut client = transport::dial(&net, addr(2)).await.unwrap();
    let says =
        futures_util::StreamExt::chain(tokio_stream::iter(frames), futures_util::stream::pending());
    let mut answers = client.link(says).await.unwrap().into_inner();
    let mut told = Vec::new();
    let patience = Duration::from_secs(3600);
    while let Ok(Ok(Some(frame))) = tokio::time::timeout(patience, answers.message()).await {
        told.push(frame);
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_dialler_without_manners_is_told_nothing_and_an_unknown_request_is_refused() {
    use helenus_proto::v1::Frame;
    let net = Pipes::default();
    let two = start(&net, config(2)).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(told(&net, Vec::new()).await, [], "it says nothing");
    assert!(begun.elapsed() < Duration::from_secs(60), "and is not waited for");
    assert_eq!(told(&net, vec![Frame::default()]).await, [], "it does not greet");

    let one = start(&net, config(1)).await;
    let hello = one.peers.identity.hello(Lane::Small);
    let message = |id, body| Message { id, timeout_ms: 0, body };
    let requests = vec![
        message(5, None),
        message(6, Some(ack())),
        message(0, None),
        message(7, Some(mutation(1))),
    ];
    let frames = vec![
        Frame { hello: Some(hello), messages: Vec::new() },
        Frame { hello: None, messages: requests },
    ];
    let mut told = told(&net, frames).await.into_iter();
    assert_eq!(told.next().unwrap().hello, Some(two.peers.identity.hello(Lane::Small)));
    let answers: Vec<_> = told.flat_map(|frame| frame.messages).collect();
    assert_eq!(answers.iter().map(|m| m.id).collect::<Vec<_>>(), [5, 7]);
    let Some(Body::Failed(failed)) = &answers[0].body else { panic!("{answers:?}") };
    assert_eq!(failed.reason, "UNKNOWN_VERB");
    assert_eq!(answers[1].body, Some(ack()));
    assert_eq!(dropped(&two, Verb::Unknown, DropReason::Unexpected), 2);
    assert_eq!(dropped(&two, Verb::Ack, DropReason::Unexpected), 1);
}
