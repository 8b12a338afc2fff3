//! Three failures, three words, and Cassandra's fields in each; and requests that are wrong.

use crate::cluster::{A, B, C, Cluster, put};
use helenus_core::Level::{
    self, All, Any, EachQuorum, LocalOne, LocalQuorum, One, Quorum, Three, Two,
};
use helenus_proto::v1;
use helenus_proto::v1::error::Kind;

#[tokio::test(start_paused = true)]
async fn unavailable_says_what_is_required_and_what_is_alive_and_nothing_is_applied() {
    let mut cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.kill(B).await;
    cluster.kill(C).await;
    cluster.sees_alive(A, 1).await;
    for (level, required) in [(Two, 2), (Three, 3), (Quorum, 2), (All, 3), (LocalQuorum, 2)] {
        let write = cluster.write(A, put(level, &key, "1")).await.unwrap_err().unavailable();
        let read = cluster.read(A, level, &key).await.unwrap_err().unavailable();
        let wire: i32 = helenus_proto::level::to_wire(level).into();
        let expected = v1::Unavailable { level: wire, required, alive: 1 };
        assert_eq!((&write, &read), (&expected, &expected));
    }
    assert_eq!(cluster.held(A, &key).await, None);
    assert_eq!(cluster.owed(A).await, 0, "what was refused is owed to nobody");
    for level in [One, LocalOne, Any] {
        cluster.write(A, put(level, &key, "1")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_times_out_when_a_replica_is_silent_and_says_whether_the_data_came() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "1")).await.unwrap();
    cluster.arm(A, vec![cluster.drops("READ", B)]).await;
    let timeout = cluster.read(A, Quorum, &key).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for), (1, 2));
    assert!(timeout.data_present && !timeout.write, "A has it itself: only the digest is missing");
    // One copy, on B alone: what is missing is the data.
    let mut cluster = cluster;
    cluster.create_keyspace(A, "ks1", 1, &[]).await;
    cluster.keyspace = "ks1".to_owned();
    cluster.create_table(A, "kv", &[]).await;
    let timeout = cluster.read(A, One, &key).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for, timeout.data_present), (0, 1, false));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_refuses_a_read_is_replaced_while_there_is_one_to_spare() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "1")).await.unwrap();
    cluster.cut(A, B);
    cluster
        .until("the link is down", async || {
            let stats =
                cluster.admin(A).tp_stats(v1::TpStatsRequest {}).await.unwrap().into_inner();
            stats.links.iter().any(|link| !link.connected && link.peer == cluster.id(B).to_string())
        })
        .await;
    let read = cluster.read(A, Quorum, &key).await.unwrap();
    assert_eq!((read.value.as_deref(), &read.responders[..]), (Some("1"), &[A, C][..]));
    let failure = cluster.read(A, All, &key).await.unwrap_err().failure();
    assert_eq!((failure.received, failure.block_for, failure.write), (2, 3, false));
    assert_eq!(failure.failures[0].reason, "NODE_DOWN");
}

#[tokio::test(start_paused = true)]
async fn failure_names_the_replicas_that_refused_and_why() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    for node in [B, C] {
        cluster.disk(node).set_faults(|faults| faults.write_error = 1.0);
    }
    let failure = cluster.write(A, put(Quorum, &key, "1")).await.unwrap_err().failure();
    assert_eq!((failure.received, failure.block_for, failure.write), (1, 2, true));
    let mut refused: Vec<_> =
        failure.failures.iter().map(|f| (&f.node[..], &f.reason[..])).collect();
    refused.sort_unstable();
    let mut expected = [B, C].map(|n| (cluster.id(n).0.to_be_bytes(), "STORAGE"));
    expected.sort_unstable();
    assert_eq!(refused, expected.iter().map(|(n, why)| (&n[..], *why)).collect::<Vec<_>>());
    assert_eq!(cluster.held(A, &key).await.as_deref(), Some("1"), "a minority has it");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_whose_own_log_fails_does_not_count_its_own_copy() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.disk(A).set_faults(|faults| faults.write_error = 1.0);
    let failure = cluster.write(A, put(Quorum, &key, "1")).await.unwrap_err().failure();
    assert_eq!((failure.received, failure.block_for, failure.write), (1, 2, true));
    assert_eq!(&failure.failures[0].node[..], cluster.id(A).0.to_be_bytes());
    // From now on its own copy is known to fail, and the other two are a quorum.
    let key = cluster.key(B, 1);
    assert_eq!(cluster.write(A, put(Quorum, &key, "1")).await.unwrap().responders, [B, C]);
    let failure = cluster.write(A, put(All, &key, "2")).await.unwrap_err().failure();
    assert_eq!((failure.block_for, &failure.failures[0].reason[..]), (3, "STORAGE"));
}

/// Six nodes, three in each of two data centres, three copies in each. Node `i` is in `dc1` if `i` is even.
async fn two_dcs() -> Cluster {
    let dcs = ["dc1", "dc2", "dc1", "dc2", "dc1", "dc2"];
    let mut cluster = Cluster::start(&dcs, |_| ()).await;
    cluster.create_keyspace(0, "ks", 3, &["dc1", "dc2"]).await;
    cluster.keyspace = "ks".to_owned();
    cluster.create_table(0, "kv", &[]).await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn with_a_data_centre_cut_off_local_quorum_goes_on_and_each_quorum_refuses() {
    let cluster = two_dcs().await;
    let key = cluster.key(0, 0);
    cluster.write(0, put(EachQuorum, &key, "0")).await.unwrap();
    cluster.write(0, put(All, &key, "0")).await.unwrap();
    for here in [0, 2, 4] {
        for there in [1, 3, 5] {
            cluster.cut(here, there);
        }
    }
    cluster.all_see_alive(3).await;
    let refused = cluster.write(0, put(EachQuorum, &key, "x")).await.unwrap_err().unavailable();
    assert_eq!((refused.required, refused.alive), (2, 0), "in the data centre that falls short");
    let refused = cluster.write(0, put(Quorum, &key, "x")).await.unwrap_err().unavailable();
    assert_eq!((refused.required, refused.alive), (4, 3));
    let written = cluster.write(0, put(LocalQuorum, &key, "1").at(i64::MAX / 2)).await.unwrap();
    assert!(written.responders.iter().all(|n| n % 2 == 0), "{written:?}");
    let read = cluster.read(2, LocalQuorum, &key).await.unwrap();
    assert_eq!((read.value.as_deref(), read.responders.len()), (Some("1"), 2));
    // L05: LOCAL_QUORUM in two data centres are two sets that need not meet.
    assert_eq!(cluster.value(1, LocalQuorum, &key).await.as_deref(), Some("0"));
    assert_eq!(cluster.owed(0).await, 3, "the other data centre is owed it");
    for here in [0, 2, 4] {
        for there in [1, 3, 5] {
            cluster.mend(here, there);
        }
    }
    cluster.all_see_alive(6).await;
    cluster.replay_hints(0).await;
    assert_eq!(cluster.value(1, LocalQuorum, &key).await.as_deref(), Some("1"));
    let read = cluster.read(3, EachQuorum, &key).await.unwrap();
    assert_eq!((read.value.as_deref(), read.responders.len()), (Some("1"), 4));
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_of_another_data_centre_do_not_count_for_local_quorum() {
    let cluster = two_dcs().await;
    let key = cluster.key(0, 0);
    cluster.arm(0, vec![cluster.drops("MUTATION", 2), cluster.drops("MUTATION", 4)]).await;
    let timeout = cluster.write(0, put(LocalQuorum, &key, "1")).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for), (1, 2));
    assert_eq!(cluster.held(1, &key).await.as_deref(), Some("1"), "there it is all the same");
    let timeout = cluster.write(0, put(EachQuorum, &key, "2")).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_replaced_by_one_of_its_own_data_centre_where_the_level_counts_by_them() {
    let cluster = two_dcs().await;
    let key = cluster.key(0, 0);
    cluster.write(0, put(All, &key, "1")).await.unwrap();
    let read = cluster.read(0, EachQuorum, &key).await.unwrap();
    let remote = *read.responders.iter().find(|n| *n % 2 == 1).unwrap();
    cluster.cut(0, remote);
    cluster
        .until("the link is down", async || {
            let stats =
                cluster.admin(0).tp_stats(v1::TpStatsRequest {}).await.unwrap().into_inner();
            let peer = cluster.id(remote).to_string();
            stats.links.iter().any(|link| !link.connected && link.peer == peer)
        })
        .await;
    let read = cluster.read(0, EachQuorum, &key).await.unwrap();
    assert!(!read.responders.contains(&remote), "{read:?}");
    assert_eq!(read.responders.iter().filter(|n| *n % 2 == 1).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_with_its_hands_full_says_overloaded() {
    let cluster = Cluster::three_with(|config| config.max_concurrent_requests = 1).await;
    let key = cluster.key(B, 0);
    cluster.arm(A, vec![cluster.delays("MUTATION", B, 500), cluster.drops("MUTATION", C)]).await;
    let (first, second) = tokio::join!(cluster.write(A, put(Quorum, &key, "1")), async {
        cluster
            .until("the first is under way", async || {
                let stats = cluster.admin(A).tp_stats(v1::TpStatsRequest {}).await.unwrap();
                stats.into_inner().pools[0].active == 1
            })
            .await;
        cluster.read(A, One, &key).await
    });
    first.unwrap();
    let refused = second.unwrap_err();
    assert!(matches!(refused.kind, Kind::Overloaded(_)), "{refused:?}");
    assert!(
        refused.message.contains("native_transport_max_concurrent_requests"),
        "{}",
        refused.message
    );
    cluster.read(A, One, &key).await.expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_even_read_ends_its_stream_after_the_answers_before_it() {
    let cluster = Cluster::three_with(|config| config.max_value_size = 1024).await;
    let request = |id, bytes: usize| v1::KvRequest {
        id,
        level: v1::Level::One.into(),
        keyspace: cluster.keyspace.clone(),
        table: cluster.table.clone(),
        op: Some(v1::kv_request::Op::Put(v1::Put {
            key: "k".into(),
            value: vec![0; bytes].into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    // More than the windows hold: the end is heard although the client is still sending.
    let requests = [request(1, 5), request(2, 4 << 20), request(3, 5)];
    let response = cluster.kv(A).stream(tokio_stream::iter(requests)).await.unwrap();
    let announced = helenus_proto::limit::announced(response.metadata()).unwrap();
    assert!((2048..1 << 20).contains(&announced), "{announced}");
    let mut answers = response.into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(matches!(first.outcome, Some(v1::kv_response::Outcome::Written(_))), "{first:?}");
    assert_eq!(first.id, 1);
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    assert!(status.message().contains("max_value_size"), "{status}");
    assert_eq!(helenus_proto::limit::announced(status.metadata()), Some(announced));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_wrong_is_told_what_is_wrong_and_what_to_do() {
    let mut cluster = Cluster::three_with(|config| config.max_value_size = 1024).await;
    let key = cluster.key(B, 0);
    let large = "x".repeat(1025);
    let refused = cluster.write(A, put(One, &key, &large)).await.unwrap_err().invalid();
    assert!(refused.contains("1025 bytes") && refused.contains("max_value_size"), "{refused}");
    cluster.write(A, put(One, &key, &large[1..])).await.expect("the limit itself is allowed");
    let refused = cluster.read(A, Any, &key).await.unwrap_err().invalid();
    assert!(refused.contains("ANY") && refused.contains("ONE or higher"), "{refused}");
    let refused = cluster.write(A, put(One, "", "v")).await.unwrap_err().invalid();
    assert!(refused.contains("the key is empty"), "{refused}");
    let refused = cluster.write(A, put(One, &"k".repeat(65_536), "v")).await.unwrap_err();
    assert!(refused.invalid().contains("65536 bytes"));
    cluster.table = "kw".to_owned();
    let refused = cluster.read(A, One, &key).await.unwrap_err().invalid();
    assert_eq!(refused, "table `kw` does not exist in keyspace `ks`; did you mean `kv`?");
    cluster.keyspace = "kss".to_owned();
    let refused = cluster.write(A, put(One, &key, "v")).await.unwrap_err().invalid();
    assert_eq!(refused, "keyspace `kss` does not exist; did you mean `ks`?");
    assert_eq!(cluster.owed(A).await, 0);
}

#[tokio::test(start_paused = true)]
async fn faults_are_injected_only_where_that_is_allowed() {
    let cluster = Cluster::three_with(|config| config.fault_injection = false).await;
    let rules = vec![cluster.drops("MUTATION", B)];
    let arm = cluster.admin(A).arm_filter(v1::ArmFilterRequest { rules }).await.unwrap_err();
    let list = cluster.admin(A).list_filter(v1::ListFilterRequest {}).await.unwrap_err();
    let disarm = cluster.admin(A).disarm_filter(v1::DisarmFilterRequest {}).await.unwrap_err();
    for refused in [arm, list, disarm] {
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(refused.message().contains("`fault_injection = true`"), "{}", refused.message());
    }
    let key = cluster.key(B, 0);
    cluster.write(A, put(All, &key, "1")).await.expect("nothing was armed");
}

/// Each level's arithmetic, met and not met by one replica less, on the way that a client sees.
#[tokio::test(start_paused = true)]
async fn each_level_is_met_by_exactly_as_many_replicas_as_it_says() {
    let cluster = Cluster::three().await;
    let levels: [(Level, usize); 7] =
        [(One, 1), (Two, 2), (Three, 3), (Quorum, 2), (All, 3), (LocalOne, 1), (LocalQuorum, 2)];
    let others = [[B, C], [C, B]];
    for (nth, (level, needed)) in levels.into_iter().enumerate() {
        for silent in 0..=2 {
            let key = cluster.key(B, 10 + nth * 3 + silent);
            let rules = others[nth % 2].iter().take(silent).map(|n| cluster.drops("MUTATION", *n));
            cluster.arm(A, rules.collect()).await;
            let outcome = cluster.write(A, put(level, &key, "1")).await;
            if 3 - silent >= needed {
                assert_eq!(outcome.unwrap().responders.len(), needed, "{level} {silent}");
            } else {
                let timeout = outcome.unwrap_err().timeout();
                let counted = (timeout.received as usize, timeout.block_for as usize);
                assert_eq!(counted, (3 - silent, needed), "{level} {silent}");
            }
        }
    }
}
