//! The client against nodes that misbehave on request.

#![expect(clippy::unwrap_used, reason = "a test that stops there has failed")]

mod mock;

use helenus_client::{
    AdminError, Client, ConnectError, KvError, Level, NodeId, Options, RetryPolicy, Routing, Scan,
    TimestampMicros, TimestampSource, v1,
};
use mock::{Reply, World, addr, error, unavailable, written};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Waits until every node of the world is connected, so that routing has all to choose from.
async fn connected(world: &Arc<World>, client: &Client) {
    let nodes = client.topology().hosts().len();
    until(|| world.streams_open.load(Ordering::SeqCst) == nodes).await;
}

/// Virtual time passes until it holds; a test that waits in vain ends by panic, not by hanging.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to pass");
}

fn timestamp(request: &v1::KvRequest) -> Option<i64> {
    match request.op.as_ref().unwrap() {
        v1::kv_request::Op::Put(put) => put.timestamp_us,
        v1::kv_request::Op::Delete(delete) => delete.timestamp_us,
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_put_is_got_and_what_was_deleted_is_not() {
    let world = World::new(3);
    let client = world.builder().connect().await.unwrap();
    let orders = client.table("shop", "orders");
    let put = orders.put("k", "v").await.unwrap();
    let got = orders.get_with("k", &Options::new().trace()).await.unwrap();
    let value = got.value.unwrap();
    assert_eq!((&value.value[..], value.timestamp), (&b"v"[..], put.timestamp));
    assert_eq!(got.answer.responders, [NodeId(5)]);
    assert!(put.answer.responders.is_empty(), "nobody asked for a trace");
    orders.delete("k").await.unwrap();
    let got = orders.get("k").await.unwrap();
    assert_eq!((got.value, got.deleted), (None, None));
    assert_eq!(client.topology().cluster_name(), "mock");
}

#[tokio::test(start_paused = true)]
async fn options_reach_the_node() {
    let world = World::new(1);
    let client = world.builder().connect().await.unwrap();
    let options = Options::new()
        .level(Level::LocalQuorum)
        .timestamp(TimestampMicros(-5))
        .ttl(Duration::from_millis(1500))
        .timeout(Duration::from_secs(1))
        .trace();
    client.table("shop", "orders").put_with("k", "v", &options).await.unwrap();
    client.table("shop", "orders").get("k").await.unwrap();
    let seen = world.seen.lock().unwrap();
    let put = &seen[0].1;
    assert_eq!((put.keyspace.as_str(), put.table.as_str()), ("shop", "orders"));
    assert_eq!((put.level(), put.timeout_ms, put.trace), (v1::Level::LocalQuorum, 900, true));
    let Some(v1::kv_request::Op::Put(op)) = &put.op else { panic!("{put:?}") };
    assert_eq!((op.timestamp_us, op.ttl_s), (Some(-5), 2));
    let get = &seen[1].1;
    assert_eq!((get.level(), get.timeout_ms), (v1::Level::Quorum, 0), "the node's own timeout");
}

#[tokio::test(start_paused = true)]
async fn a_scan_goes_page_by_page_to_the_end() {
    let world = World::new(1);
    let client = world.builder().connect().await.unwrap();
    let orders = client.table("shop", "orders");
    for key in ["a", "b", "c", "d", "e"] {
        orders.put(key, "v").await.unwrap();
    }
    let mut keys = Vec::new();
    let mut scan = Scan { limit: 2, ..Scan::default() };
    loop {
        let page = orders.scan(&scan).await.unwrap();
        keys.extend(page.entries.into_iter().map(|entry| entry.key));
        scan.from = page.next;
        if scan.from.is_none() {
            break;
        }
    }
    assert_eq!(keys, ["a", "b", "c", "d", "e"]);
}

#[tokio::test(start_paused = true)]
async fn operations_go_to_replicas_in_turns() {
    let world = World::new(4);
    let client = world.builder().connect().await.unwrap();
    connected(&world, &client).await;
    let replicas: Vec<_> =
        client.topology().replicas("shop", b"k").iter().map(|host| host.addr).collect();
    assert_eq!(replicas.len(), 2);
    for _ in 0..4 {
        client.table("shop", "orders").get("k").await.unwrap();
    }
    let asked: Vec<_> = world.asked().into_iter().map(addr).collect();
    assert!(asked.iter().all(|addr| replicas.contains(addr)), "{asked:?} of {replicas:?}");
    assert_ne!(asked[0], asked[1]);
    assert_eq!(asked[..2], asked[2..]);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_holds_up_no_other() {
    // The node never answers the first request, and the second one at once.
    let world = World::new(1);
    let client = world.builder().connect().await.unwrap();
    let orders = client.table("shop", "orders");
    let (slow, fast) = tokio::join!(
        async {
            world.answer(|_, request| match timestamp(request) {
                Some(1) => Reply::Silence,
                other => written(other.unwrap()),
            });
            let options =
                Options::new().timestamp(TimestampMicros(1)).timeout(Duration::from_secs(2));
            orders.put_with("slow", "v", &options).await
        },
        async {
            let options = Options::new().timestamp(TimestampMicros(2));
            orders.put_with("fast", "v", &options).await
        }
    );
    assert_eq!(fast.unwrap().timestamp, TimestampMicros(2));
    assert_eq!(slow.unwrap_err().kind(), "deadline");
}

#[tokio::test(start_paused = true)]
async fn unavailable_here_may_be_available_there_and_the_timestamp_stays() {
    let world = World::new(3);
    let client = world.builder().connect().await.unwrap();
    connected(&world, &client).await;
    let calls = AtomicUsize::new(0);
    world.answer(move |_, request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => unavailable(),
        _ => written(timestamp(request).unwrap()),
    });
    let put = client.table("shop", "orders").put("k", "v").await.unwrap();
    assert_eq!(put.answer.attempts, 2);
    let seen = world.seen.lock().unwrap();
    assert_ne!(seen[0].0, seen[1].0, "another coordinator");
    assert_eq!(timestamp(&seen[0].1), timestamp(&seen[1].1));
    assert_eq!(timestamp(&seen[1].1), Some(put.timestamp.0));
    assert_eq!(client.stats().retries, 1);
}

#[tokio::test(start_paused = true)]
async fn without_retries_the_first_refusal_shows() {
    let world = World::new(3);
    world.answer(|_, _| unavailable());
    let client = world.builder().retry(RetryPolicy::NEVER).connect().await.unwrap();
    let err = client.table("shop", "orders").put("k", "v").await.unwrap_err();
    assert!(matches!(
        err.error(),
        KvError::Unavailable { level: Level::Quorum, required: 2, alive: 1, .. }
    ));
    assert!(!err.may_have_applied());
    assert_eq!((world.asked().len(), err.attempts(), client.stats().failed), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_timed_out_attempt_marks_the_whole_operation() {
    let world = World::new(3);
    let client = world.builder().retry(RetryPolicy::PERSISTENT).connect().await.unwrap();
    connected(&world, &client).await;
    let calls = AtomicUsize::new(0);
    world.answer(move |_, _| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => error(v1::error::Kind::Timeout(v1::Timeout::default())),
        _ => error(v1::error::Kind::Invalid(v1::Invalid {})),
    });
    let err = client.table("shop", "orders").put("k", "v").await.unwrap_err();
    assert_eq!((err.kind(), err.attempts()), ("invalid", 2));
    assert!(!err.error().may_have_applied() && err.may_have_applied());
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_connection_breaks_is_repeated_elsewhere_as_the_same_version() {
    let world = World::new(3);
    let client = world.builder().connect().await.unwrap();
    connected(&world, &client).await;
    let calls = AtomicUsize::new(0);
    world.answer(move |_, request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Break,
        _ => written(timestamp(request).unwrap()),
    });
    client.table("shop", "orders").put("k", "v").await.unwrap();
    let seen = world.seen.lock().unwrap();
    assert_ne!(seen[0].0, seen[1].0);
    assert_eq!(timestamp(&seen[0].1), timestamp(&seen[1].1));
}

#[tokio::test(start_paused = true)]
async fn a_write_stamped_by_the_coordinator_is_not_repeated_once_it_was_sent() {
    let world = World::new(3);
    let builder = world.builder().timestamps(TimestampSource::Coordinator);
    let client = builder.connect().await.unwrap();
    connected(&world, &client).await;
    world.answer(|_, _| Reply::Break);
    let err = client.table("shop", "orders").put("k", "v").await.unwrap_err();
    assert!(matches!(err.error(), KvError::ConnectionLost { write: true, .. }), "{err}");
    assert!(err.may_have_applied());
    let seen = world.seen.lock().unwrap();
    assert_eq!((seen.len(), timestamp(&seen[0].1)), (1, None));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_down_are_passed_over_and_come_back() {
    let world = World::new(3);
    for node in [2, 3] {
        world.node(node).set_up(false);
    }
    let client = world.builder().connect().await.unwrap();
    let orders = client.table("shop", "orders");
    for key in 0..10u8 {
        orders.put(vec![key], "v").await.unwrap();
    }
    assert_eq!(world.asked(), [1; 10]);
    for node in [2, 3] {
        world.node(node).set_up(true);
    }
    connected(&world, &client).await;
    for key in 0..10u8 {
        orders.put(vec![key], "v").await.unwrap();
    }
    let later = world.asked().split_off(10);
    assert!(later.contains(&2) && later.contains(&3), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pinned_operation_asks_that_node_or_fails() {
    let world = World::new(3);
    let client = world.builder().connect().await.unwrap();
    let orders = client.table("shop", "orders");
    let pinned = Options::new().routing(Routing::Pinned(addr(3)));
    for _ in 0..4 {
        let put = orders.put_with("k", "v", &pinned).await.unwrap();
        assert_eq!(put.answer.coordinator, addr(3));
    }
    world.node(3).set_up(false);
    world.answer(|_, _| Reply::Break);
    let lost = orders.put_with("k", "v", &pinned).await.unwrap_err();
    assert_eq!((lost.kind(), lost.may_have_applied()), ("connection-lost", true));
    let refused = orders.put_with("k", "v", &pinned).await.unwrap_err();
    assert_eq!((refused.kind(), refused.may_have_applied()), ("not-connected", false));
    assert!(refused.to_string().contains("127.0.0.3:9160"), "{refused}");
    assert_eq!(world.asked(), [3; 5]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_covers_the_whole_operation() {
    let world = World::new(2);
    world.answer(|_, _| Reply::Silence);
    let client = world.builder().timeout(Duration::from_millis(300)).connect().await.unwrap();
    let start = Instant::now();
    let err = client.table("shop", "orders").put("k", "v").await.unwrap_err();
    assert!(matches!(err.error(), KvError::Deadline { sent: true, write: true, .. }), "{err}");
    assert!(err.may_have_applied());
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_millis(350));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_found_dead_and_replaced() {
    let world = World::new(1);
    let keepalive = Duration::from_secs(2);
    let builder = world.builder().keepalive(keepalive, keepalive).retry(RetryPolicy::NEVER);
    let client = builder.connect().await.unwrap();
    let orders = client.table("shop", "orders");
    orders.put("k", "v").await.unwrap();
    world.node(1).stall();
    let start = Instant::now();
    let err = orders.put("k", "v").await.unwrap_err();
    assert_eq!(err.kind(), "connection-lost", "{err}");
    assert!(start.elapsed() <= 3 * keepalive, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_comes_back_by_itself() {
    let world = World::new(1);
    let client = world.builder().retry(RetryPolicy::NEVER).connect().await.unwrap();
    let orders = client.table("shop", "orders");
    orders.put("k", "v").await.unwrap();
    let calls = AtomicUsize::new(0);
    world.answer(move |_, request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Break,
        _ => written(timestamp(request).unwrap()),
    });
    orders.put("k", "v").await.unwrap_err();
    orders.put("k", "v").await.unwrap();
    let stats = client.stats();
    assert_eq!((stats.connections_lost, stats.connects), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_breaks_every_stream_is_not_stormed() {
    let world = World::new(1);
    let builder = world.builder().backoff(Duration::from_millis(100), Duration::from_secs(5));
    let client = builder.connect().await.unwrap();
    world.node(1).set_up(false);
    world.answer(|_, _| Reply::Break);
    client.table("shop", "orders").put("k", "v").await.unwrap_err();
    let before = world.connects.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let connects = world.connects.load(Ordering::SeqCst) - before;
    assert!((8..=40).contains(&connects), "{connects} connects in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_request_too_large_for_the_node_fails_alone_and_is_not_repeated() {
    let world = World::new(3);
    let client = world.builder().connect().await.unwrap();
    connected(&world, &client).await;
    let large = vec![0; 2000];
    let pinned = Options::new().routing(Routing::Pinned(addr(1)));
    // The first request is not answered before the second, which is too large, ends the stream under both.
    let calls = AtomicUsize::new(0);
    world.answer(move |_, request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Silence,
        1 => Reply::ReadsAtMost(1000),
        _ => written(timestamp(request).unwrap()),
    });
    let orders = client.table("shop", "orders");
    let (small, large) =
        tokio::join!(orders.put_with("k", "v", &pinned), orders.put_with("l", large, &pinned));
    let large = large.unwrap_err();
    assert!(matches!(large.error(), KvError::TooLarge { bytes_max: 1000, .. }), "{large}");
    assert!(!large.may_have_applied() && large.attempts() == 1);
    assert!(large.to_string().contains("larger than the server takes (max_value_size)"), "{large}");
    let small = small.unwrap_err();
    assert!(matches!(small.error(), KvError::ConnectionLost { write: true, .. }), "{small}");
    // The connection is made again at once: the node never was away.
    orders.put_with("k", "v", &pinned).await.unwrap();
    assert_eq!(world.asked(), [1; 3]);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_said_it_does_not_read_is_not_sent() {
    let world = World::new(1);
    *world.announces.lock().unwrap() = Some(1000);
    let client = world.builder().connect().await.unwrap();
    let orders = client.table("shop", "orders");
    orders.put("k", "v").await.unwrap();
    let large = orders.put("l", vec![0; 2000]).await.unwrap_err();
    assert_eq!((large.kind(), large.may_have_applied()), ("too-large", false), "{large}");
    orders.put("k", vec![0; 500]).await.unwrap();
    assert_eq!((world.asked().len(), client.stats().connections_lost), (2, 0));
}

/// All of three nodes go away for a minute, so that the links' rests have grown to their longest.
async fn after_an_outage() -> (Arc<World>, Client) {
    let world = World::new(3);
    let builder = world.builder().backoff(Duration::from_millis(100), Duration::from_secs(600));
    let client = builder.connect().await.unwrap();
    connected(&world, &client).await;
    for node in [1, 2, 3] {
        world.node(node).set_up(false);
    }
    world.answer(|_, _| Reply::Break);
    let at_once = Options::new().timeout(Duration::from_millis(1));
    let orders = client.table("shop", "orders");
    for node in [1, 2, 3] {
        let pinned = at_once.clone().routing(Routing::Pinned(addr(node)));
        orders.put_with("k", "v", &pinned).await.unwrap_err();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.answer(|_, request| written(timestamp(request).unwrap()));
    (world, client)
}

#[tokio::test(start_paused = true)]
async fn after_all_nodes_were_gone_an_operation_waits_for_the_first_that_is_back() {
    let (world, client) = after_an_outage().await;
    let start = Instant::now();
    world.node(2).set_up(true);
    let orders = client.table("shop", "orders");
    let put = orders.put("k", "v").await.unwrap();
    assert_eq!(put.answer.coordinator, addr(2));
    assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
    // Also if it comes back only while the operation waits.
    let (world, client) = after_an_outage().await;
    let orders = client.table("shop", "orders");
    let back = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.node(3).set_up(true);
    };
    let (put, ()) = tokio::join!(orders.put("k", "v"), back);
    assert_eq!(put.unwrap().answer.coordinator, addr(3));
}

#[tokio::test(start_paused = true)]
async fn an_operation_waits_for_a_node_until_its_deadline_and_storms_nobody() {
    let (world, client) = after_an_outage().await;
    let orders = client.table("shop", "orders");
    let before = world.connects.load(Ordering::SeqCst);
    let start = Instant::now();
    let options = Options::new().timeout(Duration::from_secs(2));
    let puts = (0..50).map(|_| orders.put_with("k", "v", &options));
    for put in futures_util::future::join_all(puts).await {
        let err = put.unwrap_err();
        assert_eq!((err.kind(), err.may_have_applied()), ("not-connected", false), "{err}");
    }
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_millis(2100), "{waited:?}");
    // One dial a link at a time, with the least rest between two, however many operations wait.
    let dials = world.connects.load(Ordering::SeqCst) - before;
    assert!((3 * 15..=3 * 21).contains(&dials), "{dials} dials of three links in two seconds");
    // The wish ends with the operations.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let later = world.connects.load(Ordering::SeqCst) - before - dials;
    assert!(later <= 3, "{later} dials for nobody");
}

#[tokio::test(start_paused = true)]
async fn too_much_in_flight_is_refused_and_counted() {
    let world = World::new(1);
    world.answer(|_, _| Reply::Silence);
    let builder = world.builder().in_flight_max(2).timeout(Duration::from_secs(1));
    let client = builder.connect().await.unwrap();
    let orders = client.table("shop", "orders");
    let (a, b, c) = tokio::join!(orders.get("a"), orders.get("b"), orders.get("c"));
    let mut kinds = [a, b, c].map(|result| result.unwrap_err().kind());
    kinds.sort_unstable();
    assert_eq!(kinds, ["deadline", "deadline", "too-much-in-flight"]);
    assert_eq!(client.stats().refused_in_flight, 1);
    world.answer(|_, _| written(1));
    orders.put("k", "v").await.expect("places come back when operations end");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_is_found() {
    let world = World::new(3);
    world.members.store(2, Ordering::SeqCst);
    let builder = world.builder().refresh_interval(Duration::from_secs(10));
    let client = builder.connect().await.unwrap();
    assert_eq!(client.topology().hosts().len(), 2);
    world.members.store(3, Ordering::SeqCst);
    until(|| client.topology().hosts().len() == 3).await;
    connected(&world, &client).await;
    world.members.store(1, Ordering::SeqCst);
    client.refresh().await.unwrap();
    assert_eq!(client.topology().hosts().len(), 1);
    until(|| world.streams_open.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn any_contact_point_will_do() {
    let world = World::new(3);
    world.node(1).set_up(false);
    let client = world.builder().contact_points([addr(1), addr(2)]).connect().await.unwrap();
    client.table("shop", "orders").put("k", "v").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_contact_is_an_error_that_names_each() {
    let world = World::new(2);
    for node in [1, 2] {
        world.node(node).set_up(false);
    }
    let builder = world.builder().contact_points([addr(1), addr(2)]);
    let Err(err) = builder.connect().await else { panic!("nobody is there") };
    let text = err.to_string();
    assert!(text.contains("127.0.0.1:9160: connection refused"), "{text}");
    assert!(text.contains("127.0.0.2:9160"), "{text}");
    let Err(err) = world.builder().contact_points([]).connect().await else { panic!() };
    assert!(matches!(err, ConnectError::NoContactPoints));
}

#[tokio::test(start_paused = true)]
async fn operators_hear_why() {
    let world = World::new(2);
    let client = world.builder().connect().await.unwrap();
    let topology = client.admin(addr(2)).topology().await.unwrap();
    assert_eq!(topology.members.len(), 2);
    let refused = client.admin(addr(2)).info().await.unwrap_err();
    assert!(matches!(&refused, AdminError::Refused { code: tonic::Code::Unimplemented, .. }));
    assert!(refused.to_string().contains("the mock node does not do that"), "{refused}");
    let nobody = client.admin(addr(9)).info().await.unwrap_err();
    assert!(matches!(&nobody, AdminError::NotConnected { .. }), "{nobody:?}");
    assert!(nobody.to_string().contains("127.0.0.9:9160"), "{nobody}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_client_leaves_nothing_behind() {
    let world = World::new(3);
    let client = world.builder().connect().await.unwrap();
    connected(&world, &client).await;
    let table = client.table("shop", "orders");
    drop(client);
    table.put("k", "v").await.expect("a table keeps its client");
    drop(table);
    until(|| world.streams_open.load(Ordering::SeqCst) == 0).await;
    let connects = world.connects.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.connects.load(Ordering::SeqCst), connects);
}
