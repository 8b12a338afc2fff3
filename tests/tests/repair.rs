//! Repair between nodes that run, with `helenusctl` as an operator has it: what a node missed while it was dead, and
//! nobody kept a hint of, is there after one repair, and a second one finds nothing to do.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use helenus_client::{Level, Options};
use helenus_tests::{Cluster, Finished, KEYSPACE, TABLE, binary, local_keys, run};
use serde_json::Value;

const BEFORE: usize = 300;
const MISSED: usize = 200;

/// `helenusctl` against one node.
async fn ctl(cluster: &Cluster, at: usize, args: &[&str]) -> Finished {
    let host = cluster.rpc(at).to_string();
    let common = ["--host", host.as_str(), "--format", "json"];
    run(&binary("helenusctl"), common.iter().chain(args)).await
}

fn answer(finished: &Finished) -> Value {
    let mut answers: Value = serde_json::from_str(&finished.stdout).unwrap();
    answers[0].take()
}

#[tokio::test]
async fn what_a_dead_node_missed_without_hints_is_there_after_one_repair() {
    let mut cluster = Cluster::start_with(3, "[hints]\nhinted_handoff_enabled = false").await;
    cluster.create(3).await;
    let client = cluster.client().await;
    let table = client.table(KEYSPACE, TABLE);
    let all = Options::new().level(Level::All);
    for nth in 0..BEFORE {
        table.put_with(format!("key{nth}"), "old", &all).await.unwrap();
    }
    let victim = 2;
    cluster.kill(victim).await;
    let quorum = Options::new().level(Level::Quorum);
    for nth in 0..MISSED {
        // Some are new, some are changed; one in ten is gone.
        let key = format!("key{}", nth + BEFORE - MISSED / 2);
        table.put_with(key, "new", &quorum).await.unwrap();
        if nth % 10 == 0 {
            table.delete_with(format!("key{nth}"), &quorum).await.unwrap();
        }
    }
    cluster.all_see(2).await;
    let down = ctl(&cluster, 0, &["repair", KEYSPACE]).await;
    assert_eq!(down.code, Some(1), "{}", down.stderr);
    assert!(down.stderr.contains("were not repaired"), "{}", down.stderr);
    let report = answer(&down);
    assert_eq!(report["outcome"], "failed");
    assert!(report["failures"][0]["reason"].as_str().unwrap().contains("is down"), "{report}");

    cluster.start_missing().await;
    let expected = local_keys(cluster.rpc(0)).await;
    assert_ne!(local_keys(cluster.rpc(victim)).await, expected, "it missed something");

    let seen = ctl(&cluster, victim, &["repair", "--preview", "--full", KEYSPACE, TABLE]).await;
    let seen = answer(&seen);
    assert_ne!(seen["tables"][0]["differing"], 0, "{seen}");
    assert_eq!(seen["tables"][0]["partitions_sent"], 0, "{seen}");
    assert_ne!(local_keys(cluster.rpc(victim)).await, expected, "a preview changes nothing");

    let repaired = ctl(&cluster, victim, &["repair", &format!("{KEYSPACE}.{TABLE}")]).await;
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    let repaired = answer(&repaired);
    assert_eq!(repaired["tables"][0]["differing"], seen["tables"][0]["differing"]);
    assert_eq!(repaired["tables"][0]["compared"], repaired["tables"][0]["ranges"]);
    for at in 0..cluster.len() {
        assert_eq!(local_keys(cluster.rpc(at)).await, expected, "node {at}");
    }
    let streamed = "helenus_replica_mutations_total{path=\"repair\"}";
    assert!(cluster.spec(victim).metric(streamed).await >= MISSED as f64 / 2.0);

    for at in 0..cluster.len() {
        let again = ctl(&cluster, at, &["repair", "-pr"]).await;
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        let again = answer(&again);
        assert_eq!(again["tables"][0]["differing"], 0, "{again}");
        assert_ne!(again["tables"][0]["partitions_hashed"], 0, "{again}");
    }
    // It is remembered over a restart, with what came of it.
    cluster.kill(victim).await;
    cluster.start_missing().await;
    let history = answer(&ctl(&cluster, victim, &["repair", "--history"]).await);
    let outcomes: Vec<&Value> = (0..3).map(|nth| &history["repairs"][nth]["outcome"]).collect();
    assert_eq!(outcomes, ["completed"; 3], "{history}");
    let whats: Vec<&Value> = (0..3).map(|nth| &history["repairs"][nth]["what"]).collect();
    let one = format!("{KEYSPACE}.{TABLE}");
    assert_eq!(whats, ["all keyspaces", &one, &one], "{history}");
    ctl(&cluster, 0, &["repair", "--cancel"]).await.failed(1, &["no repair runs"]);
}
