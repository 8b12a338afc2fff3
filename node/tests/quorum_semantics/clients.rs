//! Clients of CQL that go away half-way, and clients that ask for more than there is room for.

use crate::cluster::{A, B, C, Cluster, put};
use crate::cql::{Cql, serve};
use helenus_core::Level;
use helenus_node::config::Config;
use helenus_proto::cql::{ErrorKind, Response, Version};
use helenus_proto::v1;
use std::time::Duration;

/// Bytes that may be in flight on a node of these tests.
const ROOM: u64 = 300 * 1024;

async fn three() -> Cluster {
    Cluster::three_with(serve).await
}

fn little_room(config: &mut Config) {
    serve(config);
    config.max_request_data_in_flight = ROOM;
}

/// Until nobody has anything to do any more: the clock moves only then.
async fn settled() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn insert(key: &str) -> String {
    format!("INSERT INTO ks.kv (key, value) VALUES (textAsBlob('{key}'), textAsBlob('there'))")
}

/// Requests that a node works on.
async fn active(watcher: &mut Cql) -> i32 {
    let pools = "SELECT active_tasks FROM system_views.thread_pools WHERE name = 'client-requests'";
    let rows = watcher.rows(pools).await;
    i32::from_be_bytes(rows[0][0].as_ref().unwrap()[..].try_into().unwrap())
}

/// The tables of `ks`, as a node knows them.
async fn tables(cluster: &Cluster, at: usize) -> Vec<String> {
    let described = v1::DescribeRequest { keyspace: "ks".to_owned() };
    let described = cluster.admin(at).describe(described).await.unwrap().into_inner();
    let tables = described.keyspaces.into_iter().flat_map(|keyspace| keyspace.tables);
    tables.map(|table| table.name).collect()
}

async fn until_all_know(cluster: &Cluster, table: &str) {
    for node in [A, B, C] {
        let knows = async || tables(cluster, node).await.iter().any(|name| name == table);
        cluster.until("the table is known", knows).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_dropped_when_its_client_goes() {
    let cluster = three().await;
    let mut watcher = Cql::connect(&cluster, A, Version::V4).await;
    let mut reader = Cql::connect(&cluster, A, Version::V4).await;
    cluster.arm(A, vec![cluster.drops("READ", B)]).await;
    let key = cluster.key(A, 0);
    let select = format!("SELECT * FROM ks.kv WHERE key = textAsBlob('{key}')");
    reader.begin(&select, Level::All).await;
    assert_eq!(active(&mut watcher).await, 1);
    drop(reader);
    // It would wait for B for five seconds.
    settled().await;
    assert_eq!(active(&mut watcher).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_client_goes_owes_its_hints_all_the_same() {
    let cluster = three().await;
    let mut writer = Cql::connect(&cluster, A, Version::V4).await;
    cluster.arm(A, vec![cluster.drops("MUTATION", B)]).await;
    let key = cluster.key(A, 0);
    writer.begin(&insert(&key), Level::All).await;
    drop(writer);
    cluster.until("B is owed a hint", async || cluster.owed(A).await == 1).await;
    assert_eq!(cluster.held(A, &key).await.as_deref(), Some("there"));
    assert_eq!(cluster.held(C, &key).await.as_deref(), Some("there"));
    assert_eq!(cluster.held(B, &key).await, None);
    cluster.disarm(A).await;
    cluster.replay_hints(A).await;
    assert_eq!(cluster.held(B, &key).await.as_deref(), Some("there"));
}

#[tokio::test(start_paused = true)]
async fn a_conditional_write_whose_client_goes_is_decided_and_committed() {
    let cluster = three().await;
    let mut writer = Cql::connect(&cluster, A, Version::V4).await;
    let late = [B, C].map(|node| cluster.delays("PAXOS_PROPOSE", node, 500));
    cluster.arm(A, late.into()).await;
    let key = cluster.key(A, 0);
    writer.begin(&format!("{} IF NOT EXISTS", insert(&key)), Level::Quorum).await;
    drop(writer);
    // Without SERIAL, only what is committed is seen.
    for node in [A, B, C] {
        let is_there = async || cluster.held(node, &key).await.is_some();
        cluster.until("it is committed", is_there).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_is_made_everywhere_though_its_client_goes() {
    let cluster = three().await;
    let mut client = Cql::connect(&cluster, A, Version::V4).await;
    cluster.disk(A).set_faults(|faults| faults.latency = Duration::from_millis(300));
    client.begin("CREATE TABLE ks.of_cql (id int PRIMARY KEY)", Level::One).await;
    drop(client);
    until_all_know(&cluster, "of_cql").await;
    // The other door is no different.
    let mut admin = cluster.admin(A);
    let create = admin.create_table(v1::CreateTableRequest {
        keyspace: "ks".to_owned(),
        name: "of_grpc".to_owned(),
        ..v1::CreateTableRequest::default()
    });
    let given_up = tokio::time::timeout(Duration::from_millis(100), create).await;
    given_up.expect_err("it takes longer than that");
    until_all_know(&cluster, "of_grpc").await;
}

#[tokio::test(start_paused = true)]
async fn a_table_is_emptied_everywhere_though_its_client_goes() {
    let cluster = three().await;
    let key = cluster.key(A, 0);
    cluster.write(A, put(Level::All, &key, "old")).await.unwrap();
    let mut client = Cql::connect(&cluster, A, Version::V4).await;
    cluster.disk(A).set_faults(|faults| faults.latency = Duration::from_millis(300));
    client.begin("TRUNCATE ks.kv", Level::One).await;
    drop(client);
    for node in [A, B, C] {
        let is_empty = async || {
            let scan = v1::Scan { limit: 1, node_local: true, ..v1::Scan::default() };
            // Until it has heard of it, a node may refuse.
            cluster.page(node, Level::One, scan).await.is_ok_and(|page| page.entries.is_empty())
        };
        cluster.until("it is empty", is_empty).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_there_in_part_takes_room_and_one_that_finds_none_is_passed_over() {
    for version in [Version::V4, Version::V5] {
        let cluster = Cluster::three_with(little_room).await;
        let mut one = Cql::connect(&cluster, A, version).await;
        let mut other = Cql::connect(&cluster, A, version).await;
        // A little over 250 KiB, of which 200 are sent.
        let large = |key: &str| {
            let value = "61".repeat(125 * 1024);
            format!("INSERT INTO ks.kv (key, value) VALUES (textAsBlob('{key}'), 0x{value})")
        };
        let (of_one, of_other) =
            (one.encode(&large("one"), Level::One), other.encode(&large("other"), Level::One));
        let (begun, rest) = of_one.split_at(200 * 1024);
        one.send_bytes(begun).await;
        settled().await;
        let (other_begun, other_rest) = of_other.split_at(200 * 1024);
        other.send_bytes(other_begun).await;
        // It is told so before it has sent the rest, which may come later all the same.
        let (_, refused) = other.reply().await.expect("the connection lives on");
        let Response::Error(refused) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.kind, ErrorKind::Overloaded);
        other.send_bytes(other_rest).await;
        assert_eq!(other.run(&insert("small")).await, Response::Void);
        one.send_bytes(rest).await;
        assert_eq!(one.reply().await.unwrap().1, Response::Void);
        let there = cluster.holdings(A).await;
        assert_eq!(there.keys().collect::<Vec<_>>(), ["one", "small"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_send_the_rest_of_a_request_loses_its_connection_and_its_room() {
    let cluster = Cluster::three_with(little_room).await;
    let mut idle = Cql::connect(&cluster, A, Version::V4).await;
    let mut dawdles = Cql::connect(&cluster, A, Version::V4).await;
    let bytes = dawdles.encode(&insert("never"), Level::One);
    let began = tokio::time::Instant::now();
    dawdles.send_bytes(&bytes[..20]).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    dawdles.send_bytes(&bytes[20..30]).await;
    assert_eq!(dawdles.reply().await, None);
    let waited = began.elapsed();
    assert!((50..51).contains(&waited.as_secs()), "from the last piece on: {waited:?}");
    assert_eq!(idle.run(&insert("small")).await, Response::Void, "who asks for nothing stays");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_its_answers_gets_nothing_begun_and_the_others_do() {
    let cluster = Cluster::three_with(little_room).await;
    cluster.write(A, put(Level::All, "large", &"x".repeat(100 * 1024))).await.unwrap();
    let select = "SELECT value FROM ks.kv WHERE key = textAsBlob('large')";
    let mut slow = Cql::connect(&cluster, A, Version::V4).await;
    for _ in 0..8 {
        slow.ask(select, Level::One).await;
    }
    settled().await;
    // The pipe has taken 256 KiB of the 800, and a connection alone may leave a MiB.
    let late = slow.ask(&insert("late"), Level::One).await;
    settled().await;
    assert_eq!(cluster.held(A, "late").await, None);
    let mut other = Cql::connect(&cluster, A, Version::V4).await;
    for _ in 0..5 {
        other.ask(select, Level::One).await;
    }
    for _ in 0..5 {
        assert!(matches!(other.reply().await, Some((_, Response::Rows(_)))));
    }
    assert_eq!(cluster.held(A, "late").await, None);
    for _ in 0..8 {
        assert!(matches!(slow.reply().await, Some((_, Response::Rows(_)))));
    }
    assert_eq!(slow.reply().await, Some((late, Response::Void)));
    assert_eq!(cluster.held(A, "late").await.as_deref(), Some("there"));
}
