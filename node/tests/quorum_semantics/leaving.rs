//! A node leaves the ring: a quorum stays one whatever becomes of the leave, and what it held is with those who stay.

use crate::cluster::{A, B, C, Cluster, put};
use crate::cql::{self, Cql};
use helenus_core::Level::{All, One, Quorum};
use helenus_node::config::Config;
use helenus_proto::cql::Version;
use helenus_proto::v1;
use std::time::Duration;

const D: usize = 3;

/// Four nodes, of which three hold a copy of everything in `ks.kv`.
async fn four(change: impl Fn(&mut Config)) -> Cluster {
    let cluster = Cluster::start(&["dc1"; 4], change).await;
    cluster.create_keyspace(A, "ks", 3, &[]).await;
    cluster.create_table(A, "kv", &[]).await;
    cluster
}

/// Streams so slowly that a test can do much meanwhile.
fn slow(config: &mut Config) {
    config.repair.stream_throughput_outbound = 200;
}

async fn leave(cluster: &Cluster, at: usize) -> v1::DecommissionReport {
    let request = v1::DecommissionRequest { force: false };
    cluster.admin(at).decommission(request).await.unwrap().into_inner()
}

async fn report(cluster: &Cluster, at: usize) -> v1::DecommissionReport {
    let request = v1::DecommissionStatusRequest {};
    cluster.admin(at).decommission_status(request).await.unwrap().into_inner()
}

async fn reaches(cluster: &Cluster, at: usize, stage: &str) {
    cluster.until(stage, async || report(cluster, at).await.stage == stage).await;
}

/// As another node tells it; `None`: it is no member there.
async fn status(cluster: &Cluster, at: usize, of: usize) -> Option<String> {
    let topology = cluster.admin(at).topology(v1::TopologyRequest {}).await.unwrap();
    let mut members = topology.into_inner().members.into_iter();
    let id = helenus_proto::ids::node_to_wire(cluster.id(of));
    Some(members.find(|member| member.node == id)?.status)
}

/// Writes so many keys at QUORUM, through A.
async fn fill(cluster: &Cluster, name: &str, count: usize) -> Vec<String> {
    let mut keys = Vec::new();
    for nth in 0..count {
        let key = format!("{name}{nth}");
        cluster.write(A, put(Quorum, &key, &"x".repeat(100))).await.unwrap();
        keys.push(key);
    }
    keys
}

/// With three copies on three nodes, each holds all of them.
async fn each_holds_all(cluster: &Cluster, keys: &[String]) {
    for at in [A, B, C] {
        let held = cluster.holdings(at).await;
        let missing: Vec<_> = keys.iter().filter(|key| !held.contains_key(*key)).collect();
        assert!(missing.is_empty(), "node {at} lacks {missing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_needs_one_more_while_a_replica_leaves_and_a_read_does_not() {
    let cluster = four(slow).await;
    let keys = fill(&cluster, "old", 40).await;
    // C, D and A hold it; B will.
    let key = cluster.key(C, 0);
    leave(&cluster, D).await;
    reaches(&cluster, D, "streaming").await;
    assert_eq!(status(&cluster, B, D).await.as_deref(), Some("LEAVING"));

    let written = cluster.write(A, put(All, &key, "all")).await.unwrap();
    assert_eq!(written.responders.len(), 4, "{written:?}");
    assert_eq!(
        cluster.held(B, &key).await.as_deref(),
        Some("all"),
        "it is there before any stream"
    );
    cluster.arm(A, vec![cluster.drops("MUTATION", B)]).await;
    let written = cluster.write(A, put(Quorum, &key, "1")).await.unwrap();
    assert_eq!(written.responders.len(), 3, "three of four will do");
    cluster.arm(A, vec![cluster.drops("MUTATION", B), cluster.drops("MUTATION", C)]).await;
    let timeout = cluster.write(A, put(Quorum, &key, "2")).await.unwrap_err().timeout();
    assert_eq!(
        (timeout.received, timeout.block_for),
        (2, 3),
        "A and D are no quorum of A, B and C"
    );
    let timeout = cluster.write(A, put(All, &key, "3")).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for), (2, 4));
    let written = cluster.write(A, put(One, &key, "4")).await.unwrap();
    assert_eq!(written.responders.len(), 2);
    cluster.disarm(A).await;
    let found = cluster.read(C, Quorum, &key).await.unwrap();
    assert_eq!((found.value.as_deref(), found.responders.len()), (Some("4"), 2));
    assert!(!found.responders.contains(&B), "the one that is to hold it is not asked yet");

    // Where nobody leaves anything, nothing is asked of anybody.
    let other = cluster.key(A, 0);
    let written = cluster.write(A, put(All, &other, "1")).await.unwrap();
    assert_eq!(written.responders.len(), 3, "A, B and C hold it before and afterwards");

    reaches(&cluster, D, "left").await;
    let ended = report(&cluster, D).await;
    assert!(ended.passes >= 2 && ended.partitions_sent >= 20, "{ended:?}");
    for at in [A, B, C] {
        assert_eq!(status(&cluster, at, D).await, None);
        cluster.replay_hints(at).await;
    }
    each_holds_all(&cluster, &keys).await;
    for at in [A, B, C] {
        assert_eq!(cluster.value(at, All, &key).await.as_deref(), Some("4"));
    }
    let written = cluster.write(B, put(All, &key, "5")).await.unwrap();
    assert_eq!(written.responders.len(), 3, "nobody is pending any more");
}

#[tokio::test(start_paused = true)]
async fn whenever_it_is_killed_the_leaver_is_a_member_again_and_leaves_in_the_end() {
    let mut cluster = four(slow).await;
    let mut keys = fill(&cluster, "old", 30).await;
    // In the beginning, before it streams, and at several places of the stream.
    for (nth, after_ms) in [10, 300, 5_000, 14_100, 14_600, 15_200].into_iter().enumerate() {
        leave(&cluster, D).await;
        let during = async {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            report(&cluster, D).await.stage
        };
        let name = format!("during{nth}/");
        let (stage, written) = tokio::join!(during, fill(&cluster, &name, 10));
        assert_ne!(stage, "left", "after {after_ms} ms");
        keys.extend(written);
        // Not its power: what a replica had not synced, its successors would get by a repair only.
        cluster.kill(D).await;
        // Its end is no end of writes: three of four are there.
        keys.extend(fill(&cluster, &format!("without{nth}/"), 3).await);
        cluster.boot(D).await;
        cluster.all_see_alive(4).await;
        let normal = async || status(&cluster, A, D).await.as_deref() == Some("NORMAL");
        cluster.until("it is a member again", normal).await;
        for at in [A, B, C] {
            cluster.replay_hints(at).await;
        }
        for key in &keys {
            assert!(cluster.value(B, Quorum, key).await.is_some(), "{key} after {after_ms} ms");
        }
    }
    leave(&cluster, D).await;
    reaches(&cluster, D, "left").await;
    for at in [A, B, C] {
        cluster.replay_hints(at).await;
    }
    each_holds_all(&cluster, &keys).await;
    for key in &keys {
        assert!(cluster.value(A, All, key).await.is_some(), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_not_heard_that_a_node_left_gets_no_acknowledgement_from_it() {
    let cluster = four(slow).await;
    fill(&cluster, "old", 5).await;
    let key = cluster.key(C, 0);
    leave(&cluster, D).await;
    reaches(&cluster, D, "streaming").await;
    for at in [A, C, D] {
        cluster.arm(at, vec![cluster.drops("GOSSIP", B)]).await;
    }
    cluster.until("the others have heard", async || status(&cluster, A, D).await.is_none()).await;
    assert_eq!(status(&cluster, B, D).await.as_deref(), Some("LEAVING"));
    assert_ne!(report(&cluster, D).await.stage, "left", "it waits for B's word");
    let written = cluster.write(B, put(Quorum, &key, "1")).await.unwrap();
    let mut responders = written.responders;
    responders.sort_unstable();
    assert_eq!(responders, [A, B, C], "D would be one, and is gone for A and C");
    // D is asked, and says that it is none; another one stands in.
    let found = cluster.read(B, Quorum, &cluster.key(D, 0)).await.unwrap();
    assert!(!found.responders.contains(&D), "{found:?}");
    for at in [A, C, D] {
        cluster.disarm(at).await;
    }
    cluster.until("B hears it", async || status(&cluster, B, D).await.is_none()).await;
    reaches(&cluster, D, "left").await;
    // What B owed D for the write that D did not take goes to who holds it.
    cluster.replay_hints(B).await;
    let outcomes = cluster.hints(B).await.outcomes.unwrap();
    assert!(outcomes.redirected >= 1, "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn one_whose_power_fails_before_it_can_say_that_it_left_says_so_when_it_is_started_again() {
    let mut cluster = four(slow).await;
    let keys = fill(&cluster, "old", 20).await;
    leave(&cluster, D).await;
    reaches(&cluster, D, "streaming").await;
    let silent = |verb| [A, B, C].map(|to| cluster.drops(verb, to));
    cluster.arm(D, [silent("GOSSIP"), silent("LEAVE_NOTICE")].concat()).await;
    let gone = async || status(&cluster, D, D).await.as_deref() == Some("LEFT");
    cluster.until("it is out of the ring for itself", gone).await;
    assert_eq!(status(&cluster, A, D).await.as_deref(), Some("LEAVING"));
    cluster.power_off(D).await;
    let refused = cluster.boot_in_vain(D).await;
    assert!(refused.contains("has left the ring"), "{refused}");
    for at in [A, B, C] {
        cluster
            .until("it is out of the ring", async || status(&cluster, at, D).await.is_none())
            .await;
    }
    // Nothing is left to be said: it is refused without a word to anybody.
    let refused = cluster.boot_in_vain(D).await;
    assert!(refused.contains("has left the ring"), "{refused}");
    for at in [A, B, C] {
        cluster.replay_hints(at).await;
    }
    each_holds_all(&cluster, &keys).await;
}

#[tokio::test(start_paused = true)]
async fn two_do_not_leave_at_once() {
    let cluster = Cluster::start(&["dc1"; 5], slow).await;
    cluster.create_keyspace(A, "ks", 3, &[]).await;
    cluster.create_table(A, "kv", &[]).await;
    fill(&cluster, "old", 20).await;
    // At the very same moment: each sees the other only afterwards.
    let request = || v1::DecommissionRequest { force: false };
    let (mut c, mut d) = (cluster.admin(C), cluster.admin(D));
    let (c, d) = tokio::join!(c.decommission(request()), d.decommission(request()));
    let begun = [(C, c), (D, d)].map(|(at, begun)| begun.is_ok().then_some(at));
    let left = async || {
        let mut left = 0;
        for at in begun.into_iter().flatten() {
            match report(&cluster, at).await.stage.as_str() {
                "left" => left += 1,
                "failed" => {}
                _ => return None,
            }
        }
        Some(left)
    };
    cluster.until("each has left or failed", async || left().await.is_some()).await;
    assert!(left().await.unwrap() <= 1);
    for at in begun.into_iter().flatten() {
        let ended = report(&cluster, at).await;
        if ended.stage == "failed" {
            assert!(ended.failure.contains("one leaves at a time"), "{ended:?}");
            assert_eq!(status(&cluster, A, at).await.as_deref(), Some("NORMAL"));
        }
    }
    // One that leaves is seen, and another one refused at once.
    let fifth = 4;
    leave(&cluster, fifth).await;
    let seen = async || status(&cluster, B, fifth).await.as_deref() == Some("LEAVING");
    cluster.until("B has heard", seen).await;
    let refused = cluster.admin(B).decommission(request()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("one leaves at a time"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_stream_calls_the_leave_off() {
    let cluster = four(slow).await;
    fill(&cluster, "old", 40).await;
    leave(&cluster, D).await;
    reaches(&cluster, D, "streaming").await;
    assert_eq!(leave(&cluster, D).await.stage, "streaming", "asked again, it says how far it is");
    cluster.admin(D).cancel_repair(v1::CancelRepairRequest {}).await.unwrap();
    reaches(&cluster, D, "failed").await;
    assert!(report(&cluster, D).await.failure.contains("cancelled"));
    let normal = async || status(&cluster, A, D).await.as_deref() == Some("NORMAL");
    cluster.until("it is a member again", normal).await;
    let key = cluster.key(C, 0);
    let written = cluster.write(A, put(All, &key, "1")).await.unwrap();
    assert_eq!(written.responders.len(), 3, "nobody is pending");
    cluster.write(D, put(Quorum, &key, "2")).await.expect("it takes clients as before");
}

/// D has accepted a conditional write, A has, and nobody knows that it is decided. When D is gone, B and C are a quorum
/// that neither of them is in.
#[tokio::test(start_paused = true)]
async fn what_a_leaver_has_accepted_is_decided_before_it_goes() {
    let mut cluster = four(cql::serve).await;
    let key = cluster.key(C, 0);
    let mut cql = Cql::connect(&cluster, B, Version::V4).await;
    let commits = [A, C, D].map(|node| cluster.drops("PAXOS_COMMIT", node));
    let rules = [vec![cluster.drops("PAXOS_PROPOSE", C)], commits.to_vec()].concat();
    cluster.arm(B, rules).await;
    let insert = format!(
        "INSERT INTO ks.kv (key, value) VALUES (textAsBlob('{key}'), textAsBlob('x')) IF NOT EXISTS"
    );
    cql.begin(&insert, One).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for at in [A, C, D] {
        assert_eq!(cluster.held(at, &key).await, None, "accepted, and not committed");
    }
    // Hints would bring it too.
    cluster.admin(B).truncate_hints(v1::TruncateHintsRequest::default()).await.unwrap();
    cluster.disarm(B).await;
    leave(&cluster, D).await;
    reaches(&cluster, D, "left").await;
    let ended = report(&cluster, D).await;
    assert_eq!(ended.decrees_settled, 1, "{ended:?}");
    cluster.kill(A).await;
    cluster.until("B knows", async || status_up(&cluster, B, A).await == Some(false)).await;
    assert_eq!(cluster.value(B, Quorum, &key).await.as_deref(), Some("x"));
}

async fn status_up(cluster: &Cluster, at: usize, of: usize) -> Option<bool> {
    let topology = cluster.admin(at).topology(v1::TopologyRequest {}).await.unwrap();
    let id = helenus_proto::ids::node_to_wire(cluster.id(of));
    topology.into_inner().members.into_iter().find(|member| member.node == id).map(|it| it.up)
}
