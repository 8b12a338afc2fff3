//! Hints: owed to whoever missed a write, never taken for the write itself.

use crate::cluster::{A, B, C, Cluster, put};
use helenus_core::Level::{All, Any, One, Quorum};
use helenus_node::config::Config;
use helenus_node::seams::probe::ApplyPath;
use std::time::Duration;

/// The same three nodes, with one copy of everything in `ks1.kv`.
async fn single_copies() -> Cluster {
    let mut cluster = Cluster::three().await;
    cluster.create_keyspace(A, "ks1", 1, &[]).await;
    cluster.keyspace = "ks1".to_owned();
    cluster.create_table(A, "kv", &[]).await;
    cluster
}

/// Makes a node die, and waits until the others know.
async fn lose(cluster: &mut Cluster, node: usize, left: usize) {
    cluster.kill(node).await;
    cluster.all_see_alive(left).await;
}

#[tokio::test(start_paused = true)]
async fn l03_a_write_at_any_is_invisible_until_its_hint_is_paid_and_survives_a_power_cut_of_its_coordinator()
 {
    let mut cluster = single_copies().await;
    let key = cluster.key(B, 0);
    lose(&mut cluster, B, 2).await;
    let refused = cluster.write(A, put(One, &key, "1")).await.unwrap_err().unavailable();
    assert_eq!((refused.required, refused.alive), (1, 0));
    let written = cluster.write(A, put(Any, &key, "1")).await.unwrap();
    assert_eq!(written.responders, [0_usize; 0], "nobody has it but the hint");
    cluster.read(A, One, &key).await.unwrap_err().unavailable();

    cluster.power_off(A).await;
    cluster.boot(B).await;
    cluster.boot(A).await;
    cluster.all_see_alive(3).await;
    assert_eq!(cluster.value(C, One, &key).await, None, "acknowledged, and not to be seen");
    assert_eq!(cluster.owed(A).await, 1);
    cluster.replay_hints(A).await;
    assert_eq!(cluster.value(C, One, &key).await.as_deref(), Some("1"));
    assert_eq!(cluster.applied(B, &key, ApplyPath::Hint), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_no_acknowledgement_at_quorum() {
    let mut cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "0")).await.unwrap();
    lose(&mut cluster, C, 2).await;
    // A has it and C is owed it: with B that would be two, and without it is one.
    cluster.arm(A, vec![cluster.drops("MUTATION", B)]).await;
    let timeout = cluster.write(A, put(Quorum, &key, "1")).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for), (1, 2));
    assert_eq!(cluster.owed(A).await, 2, "C, which was down, and B, which was silent");
}

#[tokio::test(start_paused = true)]
async fn a_straggler_is_owed_a_hint_after_its_client_was_answered() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    cluster.write(A, put(Quorum, &key, "1")).await.unwrap();
    assert_eq!(cluster.owed(A).await, 0, "it may still answer");
    cluster.until("the straggler is hinted", async || cluster.owed(A).await == 1).await;
    cluster.replay_hints(A).await;
    assert_eq!(cluster.held(C, &key).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_straggler_that_answers_late_is_owed_nothing() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.arm(A, vec![cluster.delays("MUTATION", C, 1_500)]).await;
    cluster.write(A, put(Quorum, &key, "1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(cluster.held(C, &key).await.as_deref(), Some("1"));
    assert_eq!(cluster.hints(A).await.outcomes.unwrap().created, 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_on_when_its_client_goes_away() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.arm(A, vec![cluster.delays("MUTATION", B, 500), cluster.drops("MUTATION", C)]).await;
    let patience = Duration::from_millis(100);
    let gone = tokio::time::timeout(patience, cluster.write(A, put(Quorum, &key, "1"))).await;
    assert!(gone.is_err(), "the client did not wait");
    cluster.until("the write reaches B", async || cluster.held(B, &key).await.is_some()).await;
    cluster.until("C is owed it", async || cluster.owed(A).await == 1).await;
    assert_eq!(cluster.value(B, Quorum, &key).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_less_than_the_node_is_told_timeout_and_the_write_goes_on() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    let late = [B, C].map(|to| cluster.delays("MUTATION", to, 500));
    cluster.arm(A, late.to_vec()).await;
    let began = tokio::time::Instant::now();
    let refused = cluster.write(A, put(Quorum, &key, "1").patience(100)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(200));
    assert_eq!((refused.clone().timeout().received, refused.timeout().block_for), (1, 2));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.held(C, &key).await.as_deref(), Some("1"));
    assert_eq!(cluster.hints(A).await.outcomes.unwrap().created, 0, "both answered in the end");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_be_reached_is_owed_a_hint_however_soon_the_level_is_met() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.cut(A, B);
    cluster.cut(A, C);
    // The links are down at once; the failure detector needs longer. The level is met before anyone looks at them.
    cluster
        .until("the links are down", async || {
            let stats =
                cluster.admin(A).tp_stats(helenus_proto::v1::TpStatsRequest {}).await.unwrap();
            stats.into_inner().links.iter().all(|link| !link.connected)
        })
        .await;
    assert_eq!(cluster.write(A, put(One, &key, "1")).await.unwrap().responders, [A]);
    cluster.until("both are owed it", async || cluster.owed(A).await == 2).await;
    cluster.mend(A, B);
    cluster.mend(A, C);
    cluster.all_see_alive(3).await;
    cluster.replay_hints(A).await;
    for node in [B, C] {
        assert_eq!(cluster.held(node, &key).await.as_deref(), Some("1"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_refuses_is_owed_a_hint() {
    let mut cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.disk(C).set_faults(|faults| faults.write_error = 1.0);
    cluster.write(A, put(Quorum, &key, "1")).await.unwrap();
    cluster.until("C is owed it", async || cluster.owed(A).await == 1).await;
    cluster.disk(C).set_faults(|faults| faults.write_error = 0.0);
    cluster.kill(C).await;
    cluster.boot(C).await;
    cluster.all_see_alive(3).await;
    cluster.replay_hints(A).await;
    assert_eq!(cluster.held(C, &key).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_write_without_a_hint_for_who_missed_it_is_acknowledged_with_a_warning() {
    for reason in ["disabled", "node_cap_reached", "target_cap_reached", "window_closed"] {
        let change = |config: &mut Config| match reason {
            "disabled" => config.hints.enabled = false,
            "node_cap_reached" => config.hints.max_hints_size = 64,
            "target_cap_reached" => config.hints.max_hints_size_per_host = 64,
            _ => config.hints.max_hint_window = Duration::ZERO,
        };
        let mut cluster = Cluster::three_with(change).await;
        lose(&mut cluster, C, 2).await;
        let key = cluster.key(B, 0);
        let written = cluster.write(A, put(Quorum, &key, "1")).await.unwrap();
        let [warning] = &written.warnings[..] else { panic!("{written:?}") };
        assert!(warning.contains("10.0.0.3") && warning.contains("no hint is kept"), "{warning}");
        assert!(warning.contains(reason), "{warning}");
        let outcomes = cluster.hints(A).await.outcomes.unwrap();
        assert_eq!((outcomes.created, outcomes.pending), (outcomes.refused, 0), "{outcomes:?}");
    }
    // And with one there is nothing to warn of.
    let mut cluster = Cluster::three().await;
    lose(&mut cluster, C, 2).await;
    let key = cluster.key(B, 0);
    assert_eq!(cluster.write(A, put(Quorum, &key, "1")).await.unwrap().warnings, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_replayed_twice_or_after_a_newer_write_changes_nothing() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    cluster.write(A, put(Quorum, &key, "old").at(10)).await.unwrap();
    cluster.until("C is owed it", async || cluster.owed(A).await == 1).await;
    cluster.write(B, put(All, &key, "new").at(11)).await.unwrap();
    let action = helenus_proto::v1::FilterAction::Duplicate;
    cluster.arm(A, vec![cluster.rule("HINT_PAGE", C, action)]).await;
    cluster.replay_hints(A).await;
    assert_eq!(cluster.applied(C, &key, ApplyPath::Hint), 2);
    assert_eq!(cluster.held(C, &key).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_in_order_leaves_no_straggler_without_its_hint() {
    let mut cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.arm(A, vec![cluster.drops("MUTATION", B), cluster.drops("MUTATION", C)]).await;
    cluster.write(A, put(One, &key, "1")).await.unwrap();
    cluster.stop(A).await;
    cluster.boot(A).await;
    cluster.all_see_alive(3).await;
    assert_eq!(cluster.owed(A).await, 2);
    cluster.replay_hints(A).await;
    assert_eq!(cluster.held(C, &key).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_node_takes_the_hints_of_all_coordinators_together_at_its_own_pace() {
    const WRITES: usize = 40;
    const BYTES: usize = 1000;
    let took = async |receive: u64| {
        let mut cluster = Cluster::three_with(|config| {
            // Pages of two hints; each coordinator alone would be done in 2.5 s.
            config.hints.hinted_handoff_throttle = 16_000;
            config.hints.hints_receive_throttle = receive;
        })
        .await;
        lose(&mut cluster, C, 2).await;
        for nth in 0..WRITES {
            for coordinator in [A, B] {
                let key = cluster.key(coordinator, nth);
                let write = put(Quorum, &key, &"x".repeat(BYTES));
                cluster.write(coordinator, write).await.unwrap();
            }
        }
        assert_eq!([cluster.owed(A).await, cluster.owed(B).await], [WRITES as u64; 2]);
        cluster.boot(C).await;
        cluster.all_see_alive(3).await;
        let began = tokio::time::Instant::now();
        tokio::join!(cluster.replay_hints(A), cluster.replay_hints(B));
        began.elapsed().as_secs_f64()
    };
    let (alone, paced) = (took(0).await, took(8_000).await);
    assert!(alone < 5.0, "{alone} s");
    // 80 kB at 8 kB/s; the first page of each comes before it was told anything.
    let at_its_pace = (2 * WRITES * BYTES) as f64 / 8_000.0;
    assert!(paced > 0.8 * at_its_pace && paced < 1.5 * at_its_pace, "{paced} s");
}
