//! What a full hint store does to writes: each policy keeps its promise, and what it costs is counted.

use crate::cluster::{A, B, C, Cluster, put};
use helenus_core::Level::{Any, One, Quorum};
use helenus_node::config::{Config, Overflow};
use helenus_proto::v1;
use helenus_proto::v1::error::Kind;
use std::time::Duration;

/// Room for one large hint, and not for two.
fn tight(config: &mut Config) {
    config.hints.max_hints_size = 2048;
}

fn large() -> String {
    "x".repeat(1500)
}

async fn lose(cluster: &mut Cluster, node: usize, left: usize) {
    cluster.kill(node).await;
    cluster.all_see_alive(left).await;
}

async fn refused_by_overload(cluster: &Cluster, key: &str) -> String {
    let refused = cluster.write(A, put(Quorum, key, &large())).await.unwrap_err();
    assert!(matches!(refused.kind, Kind::Overloaded(_)), "{refused:?}");
    refused.message
}

#[tokio::test(start_paused = true)]
async fn fail_write_refuses_before_anything_is_sent() {
    let mut cluster = Cluster::three_with(|config| {
        tight(config);
        config.hints.overflow = Overflow::FailWrite;
    })
    .await;
    lose(&mut cluster, C, 2).await;
    let keys = [0, 1].map(|nth| cluster.key(B, nth));
    let written = cluster.write(A, put(Quorum, &keys[0], &large())).await.unwrap();
    assert_eq!(written.warnings, [""; 0], "there was room for one");
    let message = refused_by_overload(&cluster, &keys[1]).await;
    assert!(message.contains("10.0.0.3") && message.contains("node_cap_reached"), "{message}");
    for node in [A, B] {
        assert_eq!(cluster.held(node, &keys[1]).await, None, "nothing was applied");
    }
    let outcomes = cluster.hints(A).await.outcomes.unwrap();
    assert_eq!((outcomes.created, outcomes.pending, outcomes.refused), (1, 1, 0), "{outcomes:?}");
    assert_eq!(cluster.ledger(A).await.rows, [], "a write that is not there is no loss");
    // With the replica back, there is nothing to owe and nothing to refuse.
    cluster.boot(C).await;
    cluster.all_see_alive(3).await;
    cluster.write(A, put(Quorum, &keys[1], &large())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn fail_write_cannot_foresee_a_replica_that_does_not_answer() {
    let cluster = Cluster::three_with(|config| {
        config.hints.max_hints_size = 64;
        config.hints.overflow = Overflow::FailWrite;
    })
    .await;
    let key = cluster.key(B, 0);
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    cluster.write(A, put(Quorum, &key, "1")).await.unwrap();
    let refused = async || cluster.hints(A).await.outcomes.unwrap().refused == 1;
    cluster.until("its hint is refused and counted", refused).await;
    let ledger = cluster.ledger(A).await;
    assert_eq!(ledger.rows.len(), 1, "{ledger:?}");
}

#[tokio::test(start_paused = true)]
async fn a_keyspace_has_its_own_policy() {
    let mut cluster = Cluster::three_with(tight).await;
    cluster.create_keyspace_with(A, "strict", 3, &[], "fail-write").await;
    let described = cluster.admin(B).describe(v1::DescribeRequest::default()).await.unwrap();
    let overflow = |name: &str| {
        let mut keyspaces = described.get_ref().keyspaces.iter();
        keyspaces.find(|it| it.name == name).unwrap().hint_overflow.clone()
    };
    assert_eq!((overflow("ks").as_str(), overflow("strict").as_str()), ("", "fail-write"));
    lose(&mut cluster, C, 2).await;
    let keys = [0, 1, 2].map(|nth| cluster.key(B, nth));
    cluster.write(A, put(Quorum, &keys[0], &large())).await.unwrap();
    let written = cluster.write(A, put(Quorum, &keys[1], &large())).await.unwrap();
    assert_eq!(written.warnings.len(), 1, "the node's policy is to drop the newest");
    cluster.keyspace = "strict".to_owned();
    cluster.create_table(A, "kv", &[]).await;
    refused_by_overload(&cluster, &keys[2]).await;
    // At any level: what is refused is the write, not an acknowledgement.
    for level in [One, Any] {
        let refused = cluster.write(A, put(level, &keys[2], &large())).await.unwrap_err();
        assert!(matches!(refused.kind, Kind::Overloaded(_)), "{level}: {refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_policy_is_refused_with_those_that_there_are() {
    let cluster = Cluster::three().await;
    let request = v1::CreateKeyspaceRequest {
        name: "odd".to_owned(),
        rf: 3,
        hint_overflow: "fail".to_owned(),
        ..Default::default()
    };
    let refused = cluster.admin(A).create_keyspace(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("fail-write"), "{refused:?}");
}

/// A store that is full of what is owed to B, which is back, while C is down; replay is paused.
async fn full_of_what_will_be_paid() -> Cluster {
    let mut cluster = Cluster::three_with(|config| {
        tight(config);
        config.hints.overflow = Overflow::Throttle;
    })
    .await;
    let key = cluster.key(B, 0);
    cluster.admin(A).pause_handoff(v1::PauseHandoffRequest {}).await.unwrap();
    cluster.arm(A, vec![cluster.drops("MUTATION", B)]).await;
    cluster.write(A, put(Quorum, &key, &large())).await.unwrap();
    cluster.until("B is owed it", async || cluster.owed(A).await == 1).await;
    cluster.disarm(A).await;
    lose(&mut cluster, C, 2).await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn throttle_lets_a_write_wait_for_the_replay() {
    let cluster = full_of_what_will_be_paid().await;
    let key = cluster.key(B, 1);
    let resumes_in = Duration::from_millis(300);
    let began = tokio::time::Instant::now();
    let value = large();
    let write = async {
        let written = cluster.write(A, put(Quorum, &key, &value)).await.unwrap();
        (written, began.elapsed())
    };
    let resume = async {
        tokio::time::sleep(resumes_in).await;
        cluster.admin(A).resume_handoff(v1::ResumeHandoffRequest {}).await.unwrap();
    };
    let ((written, took), ()) = tokio::join!(write, resume);
    assert_eq!(written.warnings, [""; 0], "its hint found room");
    assert!(took >= resumes_in && took < Duration::from_secs(1), "{took:?}");
    let outcomes = cluster.hints(A).await.outcomes.unwrap();
    assert_eq!((outcomes.delivered, outcomes.pending, outcomes.refused), (1, 1, 0), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn throttle_gives_up_after_the_longest_wait_and_says_so() {
    let cluster = full_of_what_will_be_paid().await;
    let key = cluster.key(B, 1);
    let began = tokio::time::Instant::now();
    let written = cluster.write(A, put(Quorum, &key, &large())).await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(written.warnings.len(), 1, "the hint was refused");
    let outcomes = cluster.hints(A).await.outcomes.unwrap();
    assert_eq!((outcomes.created, outcomes.pending, outcomes.refused), (2, 1, 1), "{outcomes:?}");
    // A client that waits for less is not kept longer than that.
    let began = tokio::time::Instant::now();
    let write = put(Quorum, &key, &large()).patience(200);
    cluster.write(A, write).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_table_may_have_a_refused_hint_as_an_error() {
    let mut cluster = Cluster::three_with(|config| config.hints.max_hints_size = 64).await;
    cluster.create_table(A, "strict", &[("hint_refused", "ERROR")]).await;
    cluster.table = "strict".to_owned();
    let key = cluster.key(B, 0);
    assert_eq!(cluster.write(A, put(Quorum, &key, "0")).await.unwrap().warnings, [""; 0]);
    lose(&mut cluster, C, 2).await;
    let failure = cluster.write(A, put(Quorum, &key, "1")).await.unwrap_err().failure();
    assert_eq!((failure.received, failure.block_for, failure.write), (2, 2, true));
    let [refused] = &failure.failures[..] else { panic!("{failure:?}") };
    assert_eq!(refused.reason, "HINT_REFUSED");
    assert_eq!(refused.node, helenus_proto::ids::node_to_wire(cluster.id(C)));
    assert_eq!(cluster.value(B, Quorum, &key).await.as_deref(), Some("1"), "it is there");
}

#[tokio::test(start_paused = true)]
async fn a_repair_settles_the_ledger_and_a_restart_remembers_it() {
    let mut cluster = Cluster::three_with(|config| config.hints.max_hints_size = 64).await;
    lose(&mut cluster, C, 2).await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(Quorum, &key, "1")).await.unwrap();
    cluster.stop(A).await;
    cluster.boot(A).await;
    cluster.all_see_alive(2).await;
    let ledger = cluster.ledger(A).await;
    let [row] = &ledger.rows[..] else { panic!("{ledger:?}") };
    assert_eq!((row.keyspace.as_str(), row.table.as_str()), ("ks", "kv"));
    assert_eq!(row.reason, "node_cap_reached");
    let token = helenus_core::token::of(key.as_bytes()).0;
    let [range] = &row.ranges[..] else { panic!("{row:?}") };
    assert_eq!((range.first_token, range.last_token, range.count), (token, token, 1));
    let settle = |first_token| v1::SettleHintLedgerRequest {
        target: row.node.clone(),
        keyspace: "ks".to_owned(),
        table: "kv".to_owned(),
        repaired: vec![v1::RepairedTokens { first_token, last_token: i64::MAX }],
        as_of: ledger.as_of,
    };
    let mut admin = cluster.admin(A);
    let settled = admin.settle_hint_ledger(settle(token + 1)).await.unwrap().into_inner();
    assert_eq!(settled.ranges, 0, "the range was not repaired");
    let settled = admin.settle_hint_ledger(settle(token)).await.unwrap().into_inner();
    assert_eq!((settled.ranges, settled.hints), (1, 1));
    cluster.power_off(A).await;
    cluster.boot(A).await;
    assert_eq!(cluster.ledger(A).await.rows, []);
}

#[tokio::test(start_paused = true)]
async fn dead_letter_keeps_what_does_not_fit_and_counts_it_as_no_acknowledgement() {
    let mut cluster = Cluster::three_with(|config| {
        tight(config);
        config.hints.overflow = Overflow::DeadLetter;
    })
    .await;
    cluster.create_keyspace_with(A, "single", 1, &[], "").await;
    let keyspace = std::mem::replace(&mut cluster.keyspace, "single".to_owned());
    cluster.create_table(A, "kv", &[]).await;
    lose(&mut cluster, C, 2).await;
    cluster.keyspace = keyspace;
    let keys = [0, 1].map(|nth| cluster.key(B, nth));
    for key in &keys {
        let written = cluster.write(A, put(Quorum, key, &large())).await.unwrap();
        assert_eq!(written.warnings, [""; 0], "a hint is kept, if only as a dead letter");
    }
    // Nobody but C holds this one. At ANY a hint would do; a letter may never be delivered.
    cluster.keyspace = "single".to_owned();
    let alone = cluster.key(C, 0);
    let timeout = cluster.write(A, put(Any, &alone, &large())).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for), (0, 1));
    let outcomes = cluster.hints(A).await.outcomes.unwrap();
    let kept = (outcomes.created, outcomes.pending, outcomes.dead_lettered, outcomes.refused);
    assert_eq!(kept, (3, 1, 2, 0), "{outcomes:?}");
    assert_eq!(cluster.ledger(A).await.rows, []);

    cluster.boot(C).await;
    cluster.all_see_alive(3).await;
    cluster.replay_hints(A).await;
    assert_eq!(cluster.held(C, &alone).await, None, "letters wait until somebody says so");
    let replay = v1::ReplayDeadLettersRequest { target: String::new(), timeout_ms: 60_000 };
    let replayed = cluster.admin(A).replay_dead_letters(replay).await.unwrap().into_inner();
    let ended: Vec<_> =
        replayed.targets.iter().map(|it| (it.delivered, it.left, it.stopped.as_str())).collect();
    assert_eq!(ended, [(2, 0, "done")]);
    assert_eq!(cluster.held(C, &alone).await, Some(large()));
}
