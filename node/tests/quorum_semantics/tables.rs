//! Keyspaces and tables: usable at once, caught up by who was away, gone when they are dropped.

use crate::cluster::{A, B, C, Cluster, put};
use helenus_core::Level::{All, One, Quorum};
use helenus_proto::v1;

async fn schema_version(cluster: &Cluster, at: usize) -> String {
    let request = v1::DescribeRequest { keyspace: String::new() };
    cluster.admin(at).describe(request).await.unwrap().into_inner().schema_version
}

#[tokio::test(start_paused = true)]
async fn what_is_created_through_one_node_is_used_at_once_through_the_others() {
    let mut cluster = Cluster::start(&["dc1"; 3], |_| ()).await;
    cluster.create_keyspace(B, "ks", 3, &[]).await;
    cluster.create_table(C, "fresh", &[]).await;
    cluster.table = "fresh".to_owned();
    for at in [A, B, C] {
        cluster.write(at, put(All, "k", "v")).await.unwrap();
    }
    assert_eq!(schema_version(&cluster, A).await, schema_version(&cluster, C).await);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_learns_the_schema_and_gets_its_hints_only_then() {
    let mut cluster = Cluster::three_with(|config| config.hints.paused = false).await;
    cluster.kill(C).await;
    cluster.all_see_alive(2).await;
    cluster.create_table(A, "later", &[("default_time_to_live", "86400")]).await;
    cluster.table = "later".to_owned();
    cluster.write(A, put(Quorum, "k", "v")).await.unwrap();
    assert_eq!(cluster.owed(A).await, 1);
    cluster.boot(C).await;
    cluster.all_see_alive(3).await;
    cluster.until("the hint is paid", async || cluster.owed(A).await == 0).await;
    assert_eq!(schema_version(&cluster, A).await, schema_version(&cluster, C).await);
    assert_eq!(cluster.held(C, "k").await.as_deref(), Some("v"));
    cluster.write(C, put(All, "k2", "v")).await.expect("C knows the table");
}

#[tokio::test(start_paused = true)]
async fn a_schema_push_that_is_lost_is_said_and_made_up_for() {
    let mut cluster = Cluster::three().await;
    cluster.arm(A, vec![cluster.drops("SCHEMA_PUSH", C)]).await;
    let request = v1::CreateTableRequest {
        keyspace: "ks".to_owned(),
        name: "t".to_owned(),
        ..v1::CreateTableRequest::default()
    };
    let made = cluster.admin(A).create_table(request).await.unwrap().into_inner();
    assert_eq!(made.pending_nodes, [cluster.id(C).to_string()]);
    cluster
        .until("C has pulled it", async || schema_version(&cluster, C).await == made.schema_version)
        .await;
    cluster.table = "t".to_owned();
    cluster.write(C, put(All, "k", "v")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_table_dropped_and_created_again_shows_nothing_old_not_even_by_late_writes() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "old")).await.unwrap();
    // A hint of the old table, still owed when the new one is there.
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    cluster.write(A, put(Quorum, &key, "owed")).await.unwrap();
    cluster.until("C is owed it", async || cluster.owed(A).await == 1).await;
    let dropped =
        v1::DropTableRequest { keyspace: "ks".to_owned(), name: "kv".to_owned(), if_exists: false };
    let dropped = cluster.admin(B).drop_table(dropped).await.unwrap().into_inner();
    assert!(dropped.changed && dropped.pending_nodes.is_empty(), "{dropped:?}");
    let gone = cluster.read(C, One, &key).await.unwrap_err().invalid();
    assert!(gone.contains("table `kv` does not exist"), "{gone}");
    cluster.create_table(C, "kv", &[]).await;
    cluster.admin(A).resume_handoff(v1::ResumeHandoffRequest {}).await.unwrap();
    cluster.until("the hint is settled", async || cluster.owed(A).await == 0).await;
    for at in [A, B, C] {
        assert_eq!(cluster.value(at, All, &key).await, None);
        assert!(cluster.holdings(at).await.is_empty());
    }
    cluster.write(A, put(Quorum, &key, "new")).await.unwrap();
    assert_eq!(cluster.value(B, Quorum, &key).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn the_schema_and_the_data_are_there_after_every_node_was_stopped() {
    let mut cluster = Cluster::three().await;
    for n in 0..20 {
        cluster.write(n % 3, put(Quorum, &format!("k{n}"), "v")).await.unwrap();
    }
    for node in [A, B, C] {
        cluster.stop(node).await;
    }
    for node in [A, B, C] {
        cluster.boot(node).await;
    }
    cluster.all_see_alive(3).await;
    for n in 0..20 {
        assert_eq!(cluster.value(n % 3, Quorum, &format!("k{n}")).await.as_deref(), Some("v"));
    }
}
