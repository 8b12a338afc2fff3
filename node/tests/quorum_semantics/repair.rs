//! Anti-entropy repair: replicas that differ become equal, whatever happens meanwhile, and nobody waits for the dead.

use crate::cluster::{A, B, C, Cluster, delete, put};
use helenus_core::Level::{All, One};
use helenus_core::token;
use helenus_node::config::Config;
use helenus_node::seams::probe::ApplyPath;
use helenus_proto::v1;
use std::time::Duration;

/// Three nodes that owe each other nothing: what a replica misses, it misses for good.
async fn without_hints() -> Cluster {
    with(|_| ()).await
}

async fn with(change: impl Fn(&mut Config)) -> Cluster {
    Cluster::three_with(|config| {
        config.hints.enabled = false;
        change(config);
    })
    .await
}

fn all() -> v1::StartRepairRequest {
    v1::StartRepairRequest { keyspace: "ks".to_owned(), ..Default::default() }
}

async fn started(cluster: &Cluster, at: usize, request: v1::StartRepairRequest) -> u64 {
    cluster.admin(at).start_repair(request).await.unwrap().into_inner().id
}

async fn status(cluster: &Cluster, at: usize, id: u64) -> v1::RepairReport {
    cluster.admin(at).repair_status(v1::RepairStatusRequest { id }).await.unwrap().into_inner()
}

async fn ended(cluster: &Cluster, at: usize, id: u64) -> v1::RepairReport {
    cluster
        .until("the repair ends", async || status(cluster, at, id).await.outcome != "running")
        .await;
    status(cluster, at, id).await
}

async fn repair(cluster: &Cluster, at: usize, request: v1::StartRepairRequest) -> v1::RepairReport {
    let id = started(cluster, at, request).await;
    ended(cluster, at, id).await
}

/// Writes a key where the coordinator is the only one to hear of it, later than all before by every node's clock.
async fn only_here(cluster: &Cluster, at: usize, key: &str, value: &str) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let others = [A, B, C].into_iter().filter(|other| *other != at);
    cluster.arm(at, others.map(|other| cluster.drops("MUTATION", other)).collect()).await;
    cluster.write(at, put(One, key, value)).await.unwrap();
    cluster.disarm(at).await;
}

async fn all_hold_the_same(cluster: &Cluster) {
    let first = cluster.holdings(A).await;
    assert_eq!(first, cluster.holdings(B).await);
    assert_eq!(first, cluster.holdings(C).await);
}

fn table(report: &v1::RepairReport) -> &v1::RepairedTable {
    let [table] = report.tables.as_slice() else { panic!("{report:?}") };
    table
}

#[tokio::test(start_paused = true)]
async fn replicas_that_differ_become_equal_and_a_second_repair_finds_nothing() {
    let cluster = without_hints().await;
    for nth in 0..300 {
        cluster.write(A, put(All, &format!("k{nth}"), "old")).await.unwrap();
    }
    for (at, nth) in [(A, 1), (A, 2), (B, 3), (C, 4), (B, 1000), (C, 2000)] {
        only_here(&cluster, at, &format!("k{nth}"), &format!("new{at}")).await;
    }
    // Two that differ three ways: the newest wins everywhere.
    only_here(&cluster, A, "k5", "first").await;
    only_here(&cluster, B, "k5", "second").await;

    let preview = v1::StartRepairRequest { preview: true, ..all() };
    let seen = repair(&cluster, B, preview).await;
    assert_eq!((seen.outcome.as_str(), table(&seen).partitions_sent), ("completed", 0));
    assert!(table(&seen).differing > 0 && !seen.transfers.is_empty(), "{seen:?}");
    assert_ne!(cluster.holdings(A).await, cluster.holdings(B).await, "a preview changes nothing");

    let report = repair(&cluster, B, all()).await;
    assert_eq!(report.outcome, "completed", "{report:?}");
    assert_eq!(table(&report).differing, table(&seen).differing);
    assert_eq!(table(&report).compared, table(&report).ranges);
    // Two new ones go to two. Of four that one has anew, the others' old version travels as well, once. The last one
    // differs three ways, so each sends its own to two. Hardly a leaf holds a second key.
    let sent = table(&report).partitions_sent;
    assert!((22..=24).contains(&sent), "{report:?}");
    all_hold_the_same(&cluster).await;
    let held = cluster.holdings(C).await;
    assert_eq!(held.len(), 302);
    assert_eq!((held["k5"].as_str(), held["k2000"].as_str()), ("second", "new2"));

    for at in [A, B, C] {
        let again = repair(&cluster, at, all()).await;
        assert_eq!((again.outcome.as_str(), table(&again).differing), ("completed", 0));
        assert_eq!((table(&again).partitions_sent, again.transfers.len()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_differs_moves_no_more_than_its_leaf() {
    let cluster = without_hints().await;
    for nth in 0..400 {
        cluster.write(A, put(All, &format!("k{nth}"), "v")).await.unwrap();
    }
    only_here(&cluster, B, "k7", "newer").await;
    let report = repair(&cluster, A, all()).await;
    assert_eq!(table(&report).differing, 1, "{report:?}");
    // B has it newer; A and C have it alike, and one of them sends theirs.
    let sent: Vec<_> = report.transfers.iter().map(|t| (t.ranges, t.partitions)).collect();
    assert_eq!(sent, [(1, 1); 3], "{report:?}");
    for (at, times) in [(A, 1), (B, 1), (C, 1)] {
        assert_eq!(cluster.applied(at, "k7", ApplyPath::Repair), times);
        assert_eq!(cluster.applied(at, "k8", ApplyPath::Repair), 0);
    }
    all_hold_the_same(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn primary_ranges_of_all_nodes_are_all_there_is() {
    let cluster = without_hints().await;
    let keys: Vec<String> = [A, B, C].iter().map(|owner| cluster.key(*owner, 0)).collect();
    for (key, at) in keys.iter().zip([B, C, A]) {
        only_here(&cluster, at, key, "1").await;
    }
    let mut differing = 0;
    for (at, mended) in [(A, 1), (B, 2), (C, 3)] {
        let primary = v1::StartRepairRequest { primary_range: true, ..all() };
        let report = repair(&cluster, at, primary).await;
        differing += table(&report).differing;
        assert_eq!(differing, mended, "each key is in one node's primary range: {report:?}");
    }
    all_hold_the_same(&cluster).await;
    assert_eq!(cluster.holdings(A).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_repaired_and_a_forgotten_one_is_no_difference() {
    let mut cluster = without_hints().await;
    cluster.create_table(A, "short", &[("gc_grace_seconds", "60")]).await;
    cluster.table = "short".to_owned();
    cluster.write(A, put(All, "k1", "v")).await.unwrap();
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    cluster.write(A, delete(One, "k1")).await.unwrap();
    cluster.disarm(A).await;
    let short = || v1::StartRepairRequest { tables: vec!["short".to_owned()], ..all() };
    let report = repair(&cluster, A, short()).await;
    assert_eq!(table(&report).differing, 1);
    assert_eq!(cluster.held(C, "k1").await, None);
    // Past gc_grace a replica may have forgotten all of it, and another not: they mean the same.
    only_here(&cluster, A, "k2", "v").await;
    cluster.write(A, delete(One, "k2").at(i64::MAX / 2)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    cluster.write(A, put(All, "k1", "late").at(1)).await.unwrap();
    let report = repair(&cluster, B, short()).await;
    assert_eq!((table(&report).differing, table(&report).partitions_sent), (0, 0), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_during_a_repair_is_not_lost() {
    // 50 B a partition: so slow that the writes below fall into it.
    let cluster = with(|config| config.repair.stream_throughput_outbound = 1000).await;
    for nth in 0..200 {
        only_here(&cluster, A, &format!("k{nth}"), "old").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let id = started(&cluster, B, all()).await;
    let mut writes = 0;
    for nth in 0..100 {
        let key = format!("k{}", nth * 2);
        cluster.write(C, put(All, &key, "new")).await.unwrap();
        writes += usize::from(status(&cluster, B, id).await.outcome == "running");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(writes > 20, "only {writes} writes fell into the repair");
    let report = ended(&cluster, B, id).await;
    assert_eq!(report.outcome, "completed", "{report:?}");
    all_hold_the_same(&cluster).await;
    for (key, value) in cluster.holdings(B).await {
        let nth: usize = key.trim_start_matches('k').parse().unwrap();
        assert_eq!(value, if nth.is_multiple_of(2) { "new" } else { "old" }, "{key}");
    }
    assert_eq!(table(&repair(&cluster, C, all()).await).differing, 0);
}

/// A repair, coordinated by B, that has sent something and has much to send still.
async fn midway() -> (Cluster, u64) {
    let cluster = with(|config| config.repair.stream_throughput_outbound = 1000).await;
    for nth in 0..300 {
        only_here(&cluster, A, &format!("k{nth}"), "v").await;
    }
    let id = started(&cluster, B, all()).await;
    cluster
        .until("something was sent", async || {
            table(&status(&cluster, B, id).await).partitions_sent > 0
        })
        .await;
    (cluster, id)
}

#[tokio::test(start_paused = true)]
async fn a_participant_that_dies_midway_fails_its_ranges_with_a_reason_and_nothing_hangs() {
    let (mut cluster, id) = midway().await;
    cluster.kill(C).await;
    let report = ended(&cluster, B, id).await;
    assert_eq!(report.outcome, "failed", "{report:?}");
    assert!(table(&report).failed > 0, "{report:?}");
    assert!(report.failures.iter().all(|f| f.reason.contains("10.0.0.3")), "{report:?}");

    // As long as it is known to be down, nobody is asked.
    cluster.all_see_alive(2).await;
    let report = repair(&cluster, B, all()).await;
    assert_eq!(table(&report).failed, table(&report).ranges);
    assert!(report.failures.iter().all(|f| f.reason.contains("is down")), "{report:?}");

    cluster.boot(C).await;
    cluster.all_see_alive(3).await;
    assert_eq!(repair(&cluster, B, all()).await.outcome, "completed");
    all_hold_the_same(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_participant_that_falls_silent_is_not_waited_for_long() {
    let cluster = without_hints().await;
    only_here(&cluster, A, "k1", "v").await;
    cluster.arm(B, vec![cluster.drops("REPAIR_HASH", C)]).await;
    let report = repair(&cluster, B, all()).await;
    assert_eq!((report.outcome.as_str(), table(&report).compared), ("failed", 0));
    assert!(report.failures.iter().all(|f| f.reason.contains("no answer in time")), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_dies_leaves_nothing_behind_and_says_so_when_it_is_back() {
    let (mut cluster, id) = midway().await;
    cluster.kill(B).await;
    cluster.all_see_alive(2).await;
    cluster.boot(B).await;
    cluster.all_see_alive(3).await;
    let history = cluster.admin(B).repair_history(v1::RepairHistoryRequest {}).await.unwrap();
    let [past] = &history.into_inner().repairs[..] else { panic!("one repair") };
    assert_eq!((past.id, past.outcome.as_str(), past.what.as_str()), (id, "interrupted", "ks"));
    let report = repair(&cluster, B, all()).await;
    assert_eq!((report.outcome.as_str(), report.id), ("completed", id + 1));
    all_hold_the_same(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn one_repair_runs_at_a_time_and_can_be_cancelled() {
    let cluster = with(|config| config.repair.stream_throughput_outbound = 100).await;
    for nth in 0..300 {
        only_here(&cluster, A, &format!("k{nth}"), "v").await;
    }
    let id = started(&cluster, B, all()).await;
    let refused = cluster.admin(B).start_repair(all()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("is under way"), "{refused}");
    cluster
        .until("something was sent", async || {
            table(&status(&cluster, B, id).await).partitions_sent > 0
        })
        .await;
    cluster.admin(B).cancel_repair(v1::CancelRepairRequest {}).await.unwrap();
    let report = ended(&cluster, B, id).await;
    assert_eq!(report.outcome, "cancelled");
    let sent = table(&report).partitions_sent;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(table(&status(&cluster, B, id).await).partitions_sent, sent, "it has stopped");
    let refused = cluster.admin(B).cancel_repair(v1::CancelRepairRequest {}).await.unwrap_err();
    assert!(refused.message().contains("no repair runs"), "{refused}");

    let history = cluster.admin(B).repair_history(v1::RepairHistoryRequest {}).await.unwrap();
    let [past] = &history.into_inner().repairs[..] else { panic!("one repair") };
    assert_eq!((past.outcome.as_str(), past.partitions_sent), ("cancelled", sent));
    assert!(past.ended_us > past.started_us);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_ends_its_repair() {
    let mut cluster = with(|config| config.repair.stream_throughput_outbound = 100).await;
    for nth in 0..300 {
        only_here(&cluster, A, &format!("k{nth}"), "v").await;
    }
    started(&cluster, B, all()).await;
    cluster.stop(B).await;
    cluster.boot(B).await;
    let history = cluster.admin(B).repair_history(v1::RepairHistoryRequest {}).await.unwrap();
    let [past] = &history.into_inner().repairs[..] else { panic!("one repair") };
    assert_eq!((past.outcome.as_str(), past.failed), ("cancelled", 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_range_is_repaired_through_a_node_that_holds_none_of_it() {
    let mut cluster = without_hints().await;
    cluster.create_keyspace(A, "ks2", 2, &[]).await;
    cluster.keyspace = "ks2".to_owned();
    cluster.create_table(A, "kv", &[]).await;
    // On B and C, and not on A.
    let (key, other) = (cluster.key(B, 0), cluster.key(B, 1));
    for key in [&key, &other] {
        cluster.arm(B, vec![cluster.drops("MUTATION", C)]).await;
        cluster.write(B, put(One, key, "v")).await.unwrap();
        cluster.disarm(B).await;
    }
    let token = token::of(key.as_bytes()).0;
    let range = v1::TokenRange { after_token: token - 1, until_token: token };
    let keyspace = "ks2".to_owned();
    let request = v1::StartRepairRequest { keyspace, range: Some(range), ..Default::default() };
    let report = repair(&cluster, A, request).await;
    assert_eq!((table(&report).ranges, table(&report).partitions_sent), (1, 1), "{report:?}");
    assert_eq!(cluster.held(C, &key).await.as_deref(), Some("v"));
    assert_eq!(cluster.held(C, &other).await, None, "outside the range");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_meant_is_refused() {
    let cluster = without_hints().await;
    let refusal = async |request: v1::StartRepairRequest| -> (tonic::Code, String) {
        let refused = cluster.admin(A).start_repair(request).await.unwrap_err();
        (refused.code(), refused.message().to_owned())
    };
    let (code, why) = refusal(v1::StartRepairRequest { keyspace: "kz".into(), ..all() }).await;
    assert_eq!((code, why.contains("`kz` does not exist")), (tonic::Code::NotFound, true));
    let (code, why) = refusal(v1::StartRepairRequest { tables: vec!["x".into()], ..all() }).await;
    assert_eq!((code, why.contains("`ks.x` does not exist")), (tonic::Code::NotFound, true));
    let nowhere =
        v1::StartRepairRequest { keyspace: String::new(), tables: vec!["kv".into()], ..all() };
    assert_eq!(refusal(nowhere).await.0, tonic::Code::InvalidArgument);
    let range = Some(v1::TokenRange { after_token: 0, until_token: 5 });
    let both = v1::StartRepairRequest { primary_range: true, range, ..all() };
    assert_eq!(refusal(both).await.0, tonic::Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn a_range_that_is_one_leaf_is_hashed_and_sent_in_steps() {
    // No room for a tree of more than one leaf; more data than a step reads or a page holds.
    let cluster = with(|config| config.repair.repair_session_space = 64).await;
    let (keys, value) = (100, "x".repeat(100 * 1024));
    let keys: Vec<String> = (0..keys).map(|nth| cluster.key(A, nth)).collect();
    for key in &keys {
        only_here(&cluster, A, key, &value).await;
    }
    let report = repair(&cluster, B, all()).await;
    assert_eq!((report.outcome.as_str(), table(&report).differing), ("completed", 1), "{report:?}");
    assert_eq!(table(&report).partitions_hashed, 100);
    assert_eq!(table(&report).partitions_sent, 200);
    for key in &keys {
        let applied = [A, B, C].map(|at| cluster.applied(at, key, ApplyPath::Repair));
        assert_eq!(applied, [0, 1, 1], "{key}");
    }
    let again = repair(&cluster, C, all()).await;
    assert_eq!((table(&again).differing, table(&again).partitions_hashed), (0, 300), "{again:?}");
}
