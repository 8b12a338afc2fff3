//! Reads and writes that overlap, or do not.

use crate::cluster::{A, B, C, Cluster, delete, put};
use helenus_core::Level::{All, One, Quorum, Two};
use helenus_node::seams::probe::ApplyPath;
use helenus_proto::v1::FilterAction;
use std::sync::atomic::Ordering;

/// A write whose coordinator alone has it: what it sends to the others is lost, and no hint is paid.
async fn leaves_one_copy(cluster: &Cluster, coordinator: usize, key: &str, value: &str) {
    let others: Vec<usize> = [A, B, C].into_iter().filter(|n| *n != coordinator).collect();
    let lost = others.iter().map(|to| cluster.drops("MUTATION", *to)).collect();
    cluster.arm(coordinator, lost).await;
    let timeout = cluster.write(coordinator, put(Quorum, key, value)).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for, timeout.write), (1, 2, true));
    cluster.disarm(coordinator).await;
}

#[tokio::test(start_paused = true)]
async fn l00_an_acknowledged_quorum_write_is_never_missed_by_a_quorum_read() {
    let cluster = Cluster::three().await;
    let mut nth = 0;
    // Every pair that writes, every coordinator that reads, every order of the ring. A key each, because a read repairs.
    for owner in [A, B, C] {
        for missing in [A, B, C] {
            for reader in [A, B, C] {
                nth += 1;
                let key = cluster.key(owner, nth);
                // Versions in the order of the writes: with the coordinators' clocks this would be another lesson.
                cluster.write(A, put(All, &key, "0").at(1)).await.unwrap();
                let writer = (missing + 1) % 3;
                cluster.arm(writer, vec![cluster.drops("MUTATION", missing)]).await;
                let written = cluster.write(writer, put(Quorum, &key, "1").at(2)).await.unwrap();
                assert!(!written.responders.contains(&missing), "{written:?}");
                cluster.disarm(writer).await;
                assert_eq!(cluster.held(missing, &key).await.as_deref(), Some("0"));

                let read = cluster.read(reader, Quorum, &key).await.unwrap();
                assert_eq!(
                    read.value.as_deref(),
                    Some("1"),
                    "{owner} {missing} {reader}: {read:?}"
                );
                assert_eq!(read.timestamp, written.timestamp);
                assert_eq!(read.responders.len(), 2);
                // Whoever was asked and was behind is not any more.
                let repaired = read.responders.contains(&missing);
                let now = cluster.held(missing, &key).await;
                assert_eq!(now.as_deref(), Some(if repaired { "1" } else { "0" }));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l00_a_minority_refuses_and_the_majority_goes_on() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "0")).await.unwrap();
    cluster.cut(A, B);
    cluster.cut(A, C);
    cluster.sees_alive(A, 1).await;
    cluster.sees_alive(B, 2).await;
    let refused = cluster.write(A, put(Quorum, &key, "lost")).await.unwrap_err().unavailable();
    assert_eq!((refused.required, refused.alive), (2, 1));
    assert!(cluster.read(A, Quorum, &key).await.unwrap_err().unavailable().alive == 1);
    assert_eq!(cluster.held(A, &key).await.as_deref(), Some("0"), "nothing was applied");
    cluster.write(B, put(Quorum, &key, "1")).await.unwrap();
    cluster.mend(A, B);
    cluster.mend(A, C);
    cluster.all_see_alive(3).await;
    assert_eq!(cluster.value(A, One, &key).await.as_deref(), Some("0"), "its hint is not paid");
    for reader in [A, B, C] {
        assert_eq!(cluster.value(reader, Quorum, &key).await.as_deref(), Some("1"));
    }
    assert_eq!(cluster.value(A, One, &key).await.as_deref(), Some("1"), "repaired by the read");
}

#[tokio::test(start_paused = true)]
async fn l01_a_write_at_one_may_be_missed_by_a_quorum_read() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "0")).await.unwrap();
    cluster.arm(A, vec![cluster.drops("MUTATION", B), cluster.drops("MUTATION", C)]).await;
    assert_eq!(cluster.write(A, put(One, &key, "1")).await.unwrap().responders, [A]);
    let read = cluster.read(B, Quorum, &key).await.unwrap();
    assert_eq!((read.value.as_deref(), &read.responders[..]), (Some("0"), &[B, C][..]));
}

#[tokio::test(start_paused = true)]
async fn l02_a_quorum_write_may_be_missed_by_a_read_at_one() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "0")).await.unwrap();
    cluster.arm(B, vec![cluster.drops("MUTATION", A)]).await;
    assert_eq!(cluster.write(B, put(Quorum, &key, "1")).await.unwrap().responders, [B, C]);
    assert_eq!(cluster.value(A, One, &key).await.as_deref(), Some("0"));
    assert_eq!(cluster.value(A, Quorum, &key).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn l16_on_equal_timestamps_a_tombstone_beats_a_value_and_then_the_greater_bytes_win() {
    let cluster = Cluster::three().await;
    let (values, deleted) = (cluster.key(A, 0), cluster.key(B, 0));
    cluster.write(A, put(All, &values, "9").at(5)).await.unwrap();
    cluster.write(B, put(All, &values, "3").at(5)).await.unwrap();
    assert_eq!(cluster.value(C, All, &values).await.as_deref(), Some("9"), "not the later one");
    cluster.write(A, delete(All, &deleted).at(5)).await.unwrap();
    cluster.write(B, put(All, &deleted, "9").at(5)).await.unwrap();
    assert_eq!(cluster.value(C, All, &deleted).await, None);
    // The same rule settles what replicas hold apart: A has the value, B and C the tombstone.
    let apart = cluster.key(B, 1);
    cluster.arm(A, vec![cluster.drops("MUTATION", B), cluster.drops("MUTATION", C)]).await;
    cluster.write(A, put(One, &apart, "9").at(7)).await.unwrap();
    cluster.arm(B, vec![cluster.drops("MUTATION", A)]).await;
    cluster.write(B, delete(Quorum, &apart).at(7)).await.unwrap();
    assert_eq!(cluster.held(A, &apart).await.as_deref(), Some("9"));
    let read = cluster.read(A, Quorum, &apart).await.unwrap();
    assert_eq!((read.value, read.timestamp), (None, 7));
    assert_eq!(cluster.held(A, &apart).await, None, "repaired with the tombstone");
}

#[tokio::test(start_paused = true)]
async fn a_delete_hides_every_older_write_however_late_it_comes() {
    let cluster = Cluster::three().await;
    let key = cluster.key(A, 0);
    cluster.write(A, delete(Quorum, &key).at(100)).await.unwrap();
    cluster.write(B, put(All, &key, "late").at(99)).await.unwrap();
    let read = cluster.read(C, All, &key).await.unwrap();
    assert_eq!((read.value, read.timestamp), (None, 100));
    cluster.write(C, put(Quorum, &key, "newer").at(101)).await.unwrap();
    assert_eq!(cluster.value(A, Quorum, &key).await.as_deref(), Some("newer"));
}

#[tokio::test(start_paused = true)]
async fn a_value_is_gone_when_its_time_is_over() {
    let cluster = Cluster::three().await;
    let key = cluster.key(A, 0);
    cluster.write(A, put(All, &key, "old")).await.unwrap();
    cluster.write(A, put(All, &key, "short").ttl(60)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(55)).await;
    assert_eq!(cluster.value(B, Quorum, &key).await.as_deref(), Some("short"));
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(cluster.value(B, Quorum, &key).await, None, "and what it hid stays hidden");
    assert_eq!(cluster.held(C, &key).await, None);
}

#[tokio::test(start_paused = true)]
async fn l14_a_coordinator_whose_clock_is_behind_loses_its_writes_and_does_not_say_so() {
    let cluster = Cluster::three().await;
    let key = cluster.key(A, 0);
    cluster.clock(B).skew_micros.store(-60_000_000, Ordering::Relaxed);
    cluster.write(A, put(All, &key, "first")).await.unwrap();
    cluster.write(B, put(All, &key, "second")).await.unwrap();
    assert_eq!(cluster.value(C, All, &key).await.as_deref(), Some("first"));
}

#[tokio::test(start_paused = true)]
async fn l17_blocking_read_repair_makes_quorum_reads_monotonic() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "0")).await.unwrap();
    leaves_one_copy(&cluster, A, &key, "1").await;
    let first = cluster.read(A, Quorum, &key).await.unwrap();
    assert_eq!((first.value.as_deref(), &first.responders[..]), (Some("1"), &[A, B][..]));
    // What the first reader has seen is on a quorum now, so the next one sees it without A.
    let second = cluster.read(B, Quorum, &key).await.unwrap();
    assert_eq!((second.value.as_deref(), &second.responders[..]), (Some("1"), &[B, C][..]));
}

#[tokio::test(start_paused = true)]
async fn l17_without_read_repair_a_later_quorum_read_may_see_less() {
    let mut cluster = Cluster::three().await;
    cluster.create_table(B, "plain", &[("read_repair", "NONE")]).await;
    cluster.table = "plain".to_owned();
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "0")).await.unwrap();
    leaves_one_copy(&cluster, A, &key, "1").await;
    assert_eq!(cluster.value(A, Quorum, &key).await.as_deref(), Some("1"));
    assert_eq!(cluster.value(B, Quorum, &key).await.as_deref(), Some("0"), "the anomaly");
    assert_eq!(cluster.applied(B, &key, ApplyPath::ReadRepair), 0);
}

#[tokio::test(start_paused = true)]
async fn l18_a_write_that_timed_out_may_surface_later() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "0")).await.unwrap();
    leaves_one_copy(&cluster, A, &key, "1").await;
    assert_eq!(cluster.value(B, Quorum, &key).await.as_deref(), Some("0"));
    assert_eq!(cluster.owed(A).await, 2, "both that did not acknowledge are owed it");
    cluster.replay_hints(A).await;
    assert_eq!(cluster.value(B, Quorum, &key).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn l19_two_readers_of_a_write_in_flight_agree_thanks_to_read_repair() {
    for (read_repair, expected) in [("BLOCKING", "1"), ("NONE", "0")] {
        let mut cluster = Cluster::three().await;
        cluster.create_table(A, "t", &[("read_repair", read_repair)]).await;
        cluster.table = "t".to_owned();
        let key = cluster.key(B, 0);
        cluster.write(A, put(All, &key, "0")).await.unwrap();
        let late = [B, C].map(|to| cluster.delays("MUTATION", to, 1_000));
        cluster.arm(A, late.to_vec()).await;
        let writing = cluster.write(A, put(Quorum, &key, "1"));
        let reading = async {
            // The coordinator has applied it by itself as soon as it has sent it.
            cluster
                .until("A has it", async || cluster.held(A, &key).await.as_deref() == Some("1"))
                .await;
            let first = cluster.value(A, Quorum, &key).await;
            let second = cluster.value(B, Quorum, &key).await;
            assert_eq!(first.as_deref(), Some("1"));
            assert_eq!(second.as_deref(), Some(expected), "read_repair = {read_repair}");
            assert_eq!(
                cluster.applied(C, &key, ApplyPath::Write),
                1,
                "only the first write has come"
            );
        };
        let (written, ()) = tokio::join!(writing, reading);
        written.expect("the write is acknowledged in the end");
    }
}

#[tokio::test(start_paused = true)]
async fn l20_a_read_whose_repair_is_lost_times_out_and_returns_nothing() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "0")).await.unwrap();
    leaves_one_copy(&cluster, A, &key, "1").await;
    cluster.arm(A, vec![cluster.drops("READ_REPAIR", B)]).await;
    let timeout = cluster.read(A, Quorum, &key).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for), (1, 2));
    assert!(timeout.data_present && !timeout.write);
    assert_eq!(cluster.matched(A).await, [1]);
    assert_eq!(cluster.value(B, Quorum, &key).await.as_deref(), Some("0"), "nobody was told 1");
}

#[tokio::test(start_paused = true)]
async fn a_mismatch_repairs_who_is_behind_with_what_it_lacks_and_nobody_else() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "0")).await.unwrap();
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    cluster.write(A, put(Quorum, &key, "1")).await.unwrap();
    let repairs = || [A, B, C].map(|n| cluster.applied(n, &key, ApplyPath::ReadRepair));
    assert_eq!(cluster.value(A, Two, &key).await.as_deref(), Some("1"));
    assert_eq!(repairs(), [0, 0, 0], "A and B agree");
    assert_eq!(cluster.value(A, All, &key).await.as_deref(), Some("1"));
    assert_eq!(repairs(), [0, 0, 1]);
    assert_eq!(cluster.value(A, All, &key).await.as_deref(), Some("1"));
    assert_eq!(repairs(), [0, 0, 1], "nobody is behind any more");
}

#[tokio::test(start_paused = true)]
async fn the_coordinator_repairs_its_own_copy_and_that_repair_survives_a_kill() {
    let mut cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.arm(B, vec![cluster.drops("MUTATION", A)]).await;
    cluster.write(B, put(Quorum, &key, "1")).await.unwrap();
    assert_eq!(cluster.value(A, Quorum, &key).await.as_deref(), Some("1"));
    assert_eq!(cluster.applied(A, &key, ApplyPath::ReadRepair), 1);
    cluster.kill(A).await;
    cluster.boot(A).await;
    assert_eq!(cluster.held(A, &key).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn replicas_are_counted_and_not_their_replies() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    let twice = cluster.rule("MUTATION", B, FilterAction::Duplicate);
    cluster.arm(A, vec![twice, cluster.drops("MUTATION", C)]).await;
    let timeout = cluster.write(A, put(All, &key, "1")).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for), (2, 3));
    assert_eq!(
        cluster.applied(B, &key, ApplyPath::Write),
        2,
        "it came twice and was answered twice"
    );
    // Acknowledgements that are doubled on their way back.
    let again = cluster.rule("ACK", A, FilterAction::Duplicate);
    cluster.arm(B, vec![again]).await;
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    let timeout = cluster.write(A, put(All, &key, "2")).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_write_survives_a_kill_of_each_replica_that_acknowledged() {
    let mut cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    assert_eq!(cluster.write(A, put(Two, &key, "1")).await.unwrap().responders, [A, B]);
    cluster.kill(A).await;
    cluster.kill(B).await;
    cluster.boot(A).await;
    cluster.boot(B).await;
    assert_eq!(cluster.held(A, &key).await.as_deref(), Some("1"));
    assert_eq!(cluster.held(B, &key).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn with_batch_sync_an_acknowledged_write_survives_a_power_cut() {
    let batch = helenus_node::config::CommitlogSync::Batch;
    let mut cluster = Cluster::three_with(|config| config.storage.commitlog_sync = batch).await;
    let key = cluster.key(B, 0);
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    cluster.write(A, put(Two, &key, "1")).await.unwrap();
    cluster.power_off(A).await;
    cluster.power_off(B).await;
    cluster.boot(A).await;
    cluster.boot(B).await;
    assert_eq!(cluster.held(A, &key).await.as_deref(), Some("1"));
    assert_eq!(cluster.held(B, &key).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn with_batch_sync_nobody_acknowledges_before_its_own_sync() {
    let batch = helenus_node::config::CommitlogSync::Batch;
    let cluster = Cluster::three_with(|config| config.storage.commitlog_sync = batch).await;
    let slow = std::time::Duration::from_millis(300);
    cluster.arm(A, vec![cluster.drops("MUTATION", C)]).await;
    for (nth, node) in [A, B].into_iter().enumerate() {
        let healthy = cluster.disk(node).faults().latency;
        cluster.disk(node).set_faults(|faults| faults.latency = slow);
        let began = tokio::time::Instant::now();
        let key = cluster.key(B, nth);
        cluster.write(A, put(Two, &key, "1")).await.unwrap();
        assert!(began.elapsed() >= slow, "node {node} acknowledged what it had not synced");
        cluster.disk(node).set_faults(|faults| faults.latency = healthy);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_cannot_log_the_repair_of_its_coordinator_times_out() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.arm(B, vec![cluster.drops("MUTATION", A), cluster.drops("MUTATION", C)]).await;
    cluster.write(B, put(One, &key, "1")).await.unwrap();
    cluster.disk(A).set_faults(|faults| faults.write_error = 1.0);
    let timeout = cluster.read(A, Quorum, &key).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for, timeout.write), (1, 2, false));
}

/// Without this, none of the others would mean anything the second time.
#[tokio::test(start_paused = true)]
async fn the_same_schedule_does_the_same_twice() {
    let mut stories = Vec::new();
    for _ in 0..2 {
        let began = tokio::time::Instant::now();
        let mut cluster = Cluster::three().await;
        let key = cluster.key(B, 0);
        cluster.write(A, put(All, &key, "0")).await.unwrap();
        leaves_one_copy(&cluster, A, &key, "1").await;
        cluster.power_off(C).await;
        cluster.all_see_alive(2).await;
        cluster.write(B, put(Quorum, &key, "2").at(1)).await.unwrap();
        cluster.boot(C).await;
        cluster.all_see_alive(3).await;
        cluster.replay_hints(A).await;
        assert_eq!(cluster.value(C, Quorum, &key).await.as_deref(), Some("1"));
        stories.push(([A, B, C].map(|node| cluster.story(node)), began.elapsed()));
    }
    assert_eq!(stories[0], stories[1]);
}
