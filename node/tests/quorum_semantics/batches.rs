//! Logged batches over CQL: whole or not at all, wherever on its way their coordinator dies.

use crate::cluster::{A, B, C, Cluster};
use bytes::BytesMut;
use helenus_core::Level;
use helenus_node::seams::net::BoxIo;
use helenus_node::seams::probe::ApplyPath;
use helenus_proto::cql::{
    BODY_BYTES_MAX_DEFAULT, Call, Consistency, Inbound, Outbound, Parameters, Reply, Request,
    Response, Side, Startup, Version,
};
use helenus_proto::v1;
use helenus_proto::v1::filter_rule::Nth;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PORT: u16 = 9042;

/// Three nodes in three racks, and one copy of everything.
async fn one_copy() -> Cluster {
    let cluster = Cluster::start(&["dc1"; 3], |config| {
        config.native_transport_address = Some(SocketAddr::new(config.listen_address.ip(), PORT));
        config.hints.paused = false;
    })
    .await;
    cluster.create_keyspace(A, "ks", 1, &[]).await;
    cluster.create_table(A, "kv", &[]).await;
    cluster
}

/// Two keys of each node.
fn keys(cluster: &Cluster) -> Vec<String> {
    [A, B, C].into_iter().flat_map(|node| [cluster.key(node, 0), cluster.key(node, 1)]).collect()
}

/// Asks a node to write all of them to `whole` in one batch, and waits for nothing.
async fn ask(cluster: &Cluster, at: usize, keys: &[String]) -> BoxIo {
    let mut query = "BEGIN BATCH ".to_owned();
    for key in keys {
        write!(
            query,
            "INSERT INTO ks.kv (key, value) VALUES (textAsBlob('{key}'), textAsBlob('whole')); "
        )
        .unwrap();
    }
    query += "APPLY BATCH";
    let consistency = Consistency::Ordinary(Level::One);
    let parameters = Parameters { consistency, ..Parameters::default() };
    let mut startup = Startup::default();
    startup.options.insert("CQL_VERSION".to_owned(), "3.0.0".to_owned());
    let mut out = Outbound::new();
    let requests = [Request::Startup(startup), Request::Query { query, parameters }];
    for (stream, request) in (0..).zip(requests) {
        let call = Call { tracing: false, custom_payload: BTreeMap::default(), request };
        out.call(Version::V4, stream, &call).unwrap();
    }
    let mut io = cluster.connect(at, PORT).await;
    io.write_all(&out.take()).await.unwrap();
    io
}

/// The answer to the batch.
async fn answer(mut io: BoxIo) -> Response {
    let mut inbound = Inbound::new(Side::Client, BODY_BYTES_MAX_DEFAULT);
    let mut unread = BytesMut::new();
    loop {
        match inbound.decode(&mut unread).unwrap() {
            Some(envelope) if envelope.header.stream == 1 => {
                return Reply::decode(&envelope).unwrap().response;
            }
            Some(_) => {}
            None => assert!(io.read_buf(&mut unread).await.unwrap() > 0, "the node closed"),
        }
    }
}

/// Of these messages the first `passed` go on, and the others are lost.
fn loses(verb: &str, passed: u64) -> v1::FilterRule {
    v1::FilterRule {
        verb: verb.to_owned(),
        action: v1::FilterAction::Drop.into(),
        nth: Some(Nth::StartingWith(passed + 1)),
        ..v1::FilterRule::default()
    }
}

/// Everything that the three nodes hold.
async fn holdings(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for node in [A, B, C] {
        all.extend(cluster.holdings(node).await);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_whole_or_not_there_wherever_its_coordinator_dies() {
    // So many of its keepers hear of it, and so many replicas besides the coordinator get their part.
    let deaths = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)];
    for (keepers, mutations) in deaths {
        let mut cluster = one_copy().await;
        let keys = keys(&cluster);
        cluster.arm(A, vec![loses("BATCH_STORE", keepers), loses("MUTATION", mutations)]).await;
        let io = ask(&cluster, A, &keys).await;
        let sent = if keepers == 2 { [2, 4] } else { [2, 0] };
        cluster.until("it has got so far", async || cluster.matched(A).await == sent).await;
        cluster.kill(A).await;
        drop(io);
        cluster.boot(A).await;
        if keepers > 0 {
            let is_whole = async || holdings(&cluster).await.len() == keys.len();
            cluster.until("the batch is whole", is_whole).await;
        }
        let written = keys.into_iter().filter(|_| keepers > 0);
        let expected: BTreeMap<String, String> =
            written.map(|key| (key, "whole".to_owned())).collect();
        let held = holdings(&cluster).await;
        assert_eq!(held, expected, "{keepers} keepers, {mutations} mutations");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_done_is_not_done_again() {
    let cluster = one_copy().await;
    let keys = keys(&cluster);
    let io = ask(&cluster, A, &keys).await;
    assert_eq!(answer(io).await, Response::Void);
    assert_eq!(holdings(&cluster).await.len(), keys.len());
    // Far beyond the time at which it would be; time is simulated.
    tokio::time::sleep(Duration::from_secs(60)).await;
    for key in &keys {
        let applied: usize =
            [A, B, C].into_iter().map(|node| cluster.applied(node, key, ApplyPath::Write)).sum();
        assert_eq!(applied, 1, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_coordinator_is_silent_is_finished_once_by_each_keeper() {
    let cluster = one_copy().await;
    let keys = keys(&cluster);
    cluster.arm(A, vec![loses("BATCH_REMOVE", 0)]).await;
    let io = ask(&cluster, A, &keys).await;
    assert_eq!(answer(io).await, Response::Void);
    tokio::time::sleep(Duration::from_secs(60)).await;
    for key in &keys {
        let applied: usize =
            [A, B, C].into_iter().map(|node| cluster.applied(node, key, ApplyPath::Write)).sum();
        assert_eq!(applied, 3, "{key}: by its coordinator, and by B and C");
    }
}
