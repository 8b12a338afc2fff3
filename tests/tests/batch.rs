//! Logged batches: all of their partitions or none, whatever happens to their coordinator.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use helenus_client::v1::{FilterAction, FilterRule};
use helenus_core::Level;
use helenus_proto::cql::{Consistency, ErrorKind, Response, Version, WriteType};
use helenus_tests::cql::{Cql, at};
use helenus_tests::{Cluster, until};
use std::fmt::Write as _;

/// Short, so that a batch is soon taken for left: it is finished after twice this.
const EXTRA: &str = "fault_injection = true\nwrite_request_timeout = \"1s\"\n";
/// Partitions of a batch: of three nodes each owns some, or the chance is 1 in 10^10 that one does not.
const PARTITIONS: usize = 64;

async fn cluster(copies: u8) -> Cluster {
    let cluster = Cluster::start_cql_with(3, EXTRA).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V4, None).await;
    cql.run(&format!(
        "CREATE KEYSPACE ks WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"
    ))
    .await;
    cql.run("CREATE TABLE ks.t (id int PRIMARY KEY, v text)").await;
    cluster
}

fn batch(kind: &str, partitions: usize) -> String {
    let mut text = format!("BEGIN {kind} BATCH ");
    for id in 0..partitions {
        write!(text, "INSERT INTO ks.t (id, v) VALUES ({id}, 'whole'); ").unwrap();
    }
    text + "APPLY BATCH"
}

/// Has a node lose these messages: all of them, or the first.
async fn lose(cluster: &Cluster, node: usize, verb: &str, nth: Option<u64>) {
    let rule = FilterRule {
        verb: verb.to_owned(),
        action: FilterAction::Drop.into(),
        nth: nth.map(helenus_client::v1::filter_rule::Nth::Only),
        ..FilterRule::default()
    };
    cluster.admin(node).arm_filter(vec![rule]).await.unwrap();
}

async fn kind_of(cql: &mut Cql, statement: &str, level: Level) -> ErrorKind {
    match cql.query(statement, at(level)).await {
        Response::Error(error) => error.kind,
        response => panic!("{response:?}"),
    }
}

async fn rows(cluster: &Cluster, at: usize) -> usize {
    let mut cql = Cql::connect(cluster.native(at), Version::V4, None).await;
    cql.rows("SELECT id FROM ks.t").await.len()
}

async fn kept(cluster: &Cluster, at: usize) -> f64 {
    cluster.spec(at).metric("helenus_batchlog_batches ").await
}

/// A batch is with both of its keepers, and nothing of it with replicas other than its coordinator.
async fn left_half_way() -> (Cluster, tokio::task::JoinHandle<()>) {
    let cluster = cluster(1).await;
    lose(&cluster, 0, "MUTATION", None).await;
    let native = cluster.native(0);
    #[expect(clippy::disallowed_methods, reason = "the test plays a client")]
    let client = tokio::spawn(async move {
        let mut cql = Cql::connect(native, Version::V4, None).await;
        // Its node will die, and say nothing.
        cql.query_unheard(&batch("", PARTITIONS), at(Level::One)).await;
    });
    for keeper in [1, 2] {
        until(
            || format!("node {keeper} keeps the batch"),
            async || (kept(&cluster, keeper).await > 0.0).then_some(()),
        )
        .await;
    }
    (cluster, client)
}

/// Both keepers have finished what they kept.
async fn is_finished(cluster: &Cluster) {
    for keeper in [1, 2] {
        until(
            || format!("node {keeper} has finished the batch"),
            async || (kept(cluster, keeper).await == 0.0).then_some(()),
        )
        .await;
        assert_eq!(cluster.spec(keeper).metric("helenus_batchlog_replayed_total").await, 1.0);
    }
}

async fn is_whole(cluster: &Cluster) {
    until(
        || "every partition of the batch is there".to_owned(),
        async || (rows(cluster, 1).await == PARTITIONS).then_some(()),
    )
    .await;
}

#[tokio::test]
async fn a_batch_is_finished_by_others_when_its_coordinator_is_killed() {
    let (mut cluster, client) = left_half_way().await;
    cluster.kill(0).await;
    client.await.unwrap();
    is_finished(&cluster).await;
    // What the dead node owns it was owed, and gets.
    cluster.start_missing().await;
    is_whole(&cluster).await;
}

#[tokio::test]
async fn a_batch_is_found_again_and_finished_when_all_nodes_were_killed() {
    let (mut cluster, client) = left_half_way().await;
    cluster.kill_all().await;
    client.await.unwrap();
    cluster.start_missing().await;
    is_finished(&cluster).await;
    is_whole(&cluster).await;
}

#[tokio::test]
async fn a_batch_that_was_logged_is_done_although_its_client_is_told_of_a_timeout() {
    let cluster = cluster(1).await;
    lose(&cluster, 0, "MUTATION", None).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V4, None).await;
    let timeout = kind_of(&mut cql, &batch("", PARTITIONS), Level::One).await;
    assert_eq!(
        timeout,
        ErrorKind::WriteTimeout {
            consistency: Consistency::Ordinary(Level::One),
            received: 0,
            block_for: 1,
            write_type: WriteType::Batch,
            contentions: 0,
        }
    );
    is_finished(&cluster).await;
    is_whole(&cluster).await;
}

#[tokio::test]
async fn a_batch_that_could_not_be_logged_is_not_applied() {
    let cluster = cluster(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    lose(&cluster, 0, "BATCH_STORE", Some(1)).await;
    let timeout = kind_of(&mut cql, &batch("", PARTITIONS), Level::Quorum).await;
    assert_eq!(
        timeout,
        ErrorKind::WriteTimeout {
            consistency: Consistency::Ordinary(Level::Two),
            received: 1,
            block_for: 2,
            write_type: WriteType::BatchLog,
            contentions: 0,
        }
    );
    let mut stored = 0.0;
    for keeper in [1, 2] {
        until(
            || format!("node {keeper} has forgotten the batch"),
            async || (kept(&cluster, keeper).await == 0.0).then_some(()),
        )
        .await;
        stored += cluster.spec(keeper).metric("helenus_batchlog_stored_total").await;
        assert_eq!(cluster.spec(keeper).metric("helenus_batchlog_replayed_total").await, 0.0);
    }
    assert_eq!(stored, 1.0, "one of them had it");
    assert_eq!(rows(&cluster, 0).await, 0);
    // With nothing in the way it is done, and nobody keeps it any longer.
    cluster.admin(0).disarm_filter().await.unwrap();
    assert_eq!(cql.run(&batch("", PARTITIONS)).await, Response::Void);
    assert_eq!(rows(&cluster, 0).await, PARTITIONS);
    for keeper in [1, 2] {
        until(
            || format!("node {keeper} has forgotten the batch that is done"),
            async || (kept(&cluster, keeper).await == 0.0).then_some(()),
        )
        .await;
        assert_eq!(cluster.spec(keeper).metric("helenus_batchlog_replayed_total").await, 0.0);
    }
    assert_eq!(kept(&cluster, 0).await, 0.0);
}

#[tokio::test]
async fn without_another_node_a_batch_is_unavailable_or_at_any_kept_by_its_coordinator() {
    let mut cluster = cluster(3).await;
    cluster.kill(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cluster.all_see(2).await;
    // One other is enough if there is one.
    assert_eq!(cql.run(&batch("", 4)).await, Response::Void);
    cluster.kill(2).await;
    cluster.all_see(1).await;
    let unavailable = kind_of(&mut cql, &batch("", 4), Level::One).await;
    assert_eq!(
        unavailable,
        ErrorKind::Unavailable {
            consistency: Consistency::Ordinary(Level::Two),
            required: 2,
            alive: 0
        }
    );
    assert_eq!(cluster.spec(0).metric("helenus_batchlog_stored_total").await, 0.0);
    // A single partition needs no batchlog, and an unlogged batch has none.
    for statement in [batch("", 1), batch("UNLOGGED", 4)] {
        assert_eq!(cql.query(&statement, at(Level::One)).await, Response::Void, "{statement}");
    }
    assert_eq!(cql.query(&batch("", 4), at(Level::Any)).await, Response::Void);
    assert_eq!(cluster.spec(0).metric("helenus_batchlog_stored_total").await, 1.0);
    assert_eq!(kept(&cluster, 0).await, 0.0);
}

#[tokio::test]
async fn large_batches_are_warned_of_and_refused_and_a_node_alone_keeps_its_own() {
    let cluster = Cluster::start_cql_with(1, EXTRA).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V4, None).await;
    cql.run(
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )
    .await;
    cql.run("CREATE TABLE ks.t (id int PRIMARY KEY, v text)").await;
    assert_eq!(cql.run(&batch("", PARTITIONS)).await, Response::Void);
    assert_eq!(cluster.spec(0).metric("helenus_batchlog_stored_total").await, 1.0);
    assert_eq!(kept(&cluster, 0).await, 0.0);
    let sized = |bytes: usize| {
        let v = "x".repeat(bytes);
        format!(
            "BEGIN BATCH INSERT INTO ks.t (id, v) VALUES (1, '{v}'); \
             INSERT INTO ks.t (id, v) VALUES (2, ''); APPLY BATCH"
        )
    };
    assert_eq!(cql.warned(&sized(5 * 1024 - 100)).await, [""; 0]);
    let warned = cql.warned(&sized(5 * 1024)).await;
    assert!(warned.len() == 1 && warned[0].contains("batch_size_warn_threshold"), "{warned:?}");
    let refused = cql.refused(&sized(50 * 1024)).await;
    assert_eq!(refused.kind, ErrorKind::Invalid);
    assert!(refused.message.starts_with("Batch too large"), "{refused:?}");
    let warned = cql.warned(&batch("UNLOGGED", 11)).await;
    assert!(warned.len() == 1 && warned[0].contains("11 partitions"), "{warned:?}");
    assert_eq!(cql.warned(&batch("UNLOGGED", 10)).await, [""; 0]);
}
