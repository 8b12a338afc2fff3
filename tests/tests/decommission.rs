//! A node leaves the ring while clients write: nothing that was acknowledged is missing afterwards, at any of those who stay,
//! and nobody owes anything to one that is gone.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use helenus_client::{Level, Options, Routing};
use helenus_proto::cql::{Event, TopologyChange, Version};
use helenus_tests::cql::Cql;
use helenus_tests::load::{Ledger, Load, read_back};
use helenus_tests::{Cluster, Finished, KEYSPACE, TABLE, binary, local_keys, run, until};
use serde_json::Value;

/// What was sent before the leave was known is waited for: so long that the tests' patience would be over.
const EXTRA: &str = "\
write_request_timeout = \"1s\"
counter_write_request_timeout = \"1s\"
read_request_timeout = \"3s\"
cas_contention_timeout = \"500ms\"
";
const ROWS: usize = 500;
const OWED: usize = 60;

/// `helenusctl` against one node.
async fn ctl(cluster: &Cluster, at: usize, args: &[&str]) -> Finished {
    let host = cluster.rpc(at).to_string();
    let common = ["--host", host.as_str(), "--format", "json"];
    run(&binary("helenusctl"), common.iter().chain(args)).await
}

async fn ctl_json(cluster: &Cluster, at: usize, args: &[&str]) -> Value {
    serde_json::from_str(&ctl(cluster, at, args).await.ok()).unwrap()
}

/// The state of a member as another one tells it; `None`: it is no member there.
async fn state(cluster: &Cluster, at: usize, of: usize) -> Option<String> {
    let client_addr = cluster.rpc(of).to_string();
    let topology = cluster.admin(at).topology().await.ok()?;
    let mut members = topology.members.into_iter();
    Some(members.find(|member| member.client_addr == client_addr)?.status)
}

/// Writes keys of this name at QUORUM through one coordinator.
async fn put(cluster: &Cluster, at: usize, name: &str, count: usize) -> Ledger {
    let client = cluster.client().await;
    let table = client.table(KEYSPACE, TABLE);
    let options = Options::new().level(Level::Quorum).routing(Routing::Pinned(cluster.rpc(at)));
    let mut ledger = Ledger::new();
    for nth in 0..count {
        let (key, value) = (format!("{name}/{nth}"), format!("{name} {nth}"));
        table.put_with(key.clone(), value.clone(), &options).await.unwrap();
        ledger.insert(key.into(), (value.into(), Vec::new()));
    }
    ledger
}

/// What became of all hints of a node.
async fn hints(cluster: &Cluster, at: usize) -> helenus_client::v1::HintOutcomes {
    cluster.admin(at).list_pending_hints().await.unwrap().outcomes.unwrap()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one leave, from before to afterwards")]
async fn a_node_leaves_under_writes_and_those_who_stay_have_everything() {
    let mut cluster = Cluster::start_cql_with(4, EXTRA).await;
    cluster.create(3).await;
    let leaver = 3;
    let mut all = put(&cluster, 0, "before", ROWS).await;

    // Node 0 owes the leaver something, and does not get to deliver it before it is gone.
    ctl(&cluster, 0, &["pausehandoff"]).await.ok();
    cluster.kill(leaver).await;
    cluster.all_see(3).await;
    all.extend(put(&cluster, 0, "missed", OWED).await);
    cluster.start_missing().await;
    let owed = hints(&cluster, 0).await.pending;
    assert!(owed > 10, "{owed}");

    let mut told = Cql::connect(cluster.native(0), Version::V5, None).await;
    told.register().await;
    let client = cluster.client().await;
    let routings = [0, 1, 2].map(|at| Routing::Pinned(cluster.rpc(at)));
    let load = Load::start(&client, "during", 4, &routings);
    load.more(50).await;
    let started = ctl_json(&cluster, leaver, &["decommission", "--no-wait"]).await;
    assert_eq!(started["failure"], "", "{started}");
    let known = || "node 0 shows the leaver as LEAVING".to_owned();
    until(known, async || {
        (state(&cluster, 0, leaver).await.as_deref() == Some("LEAVING")).then_some(())
    })
    .await;
    load.more(50).await;
    ctl(&cluster, 0, &["decommission"]).await.failed(1, &["one leaves at a time"]);
    // The same command shows how far it is.
    let report = ctl_json(&cluster, leaver, &["decommission"]).await;
    assert_eq!((&report["stage"], &report["failure"]), (&"left".into(), &"".into()), "{report}");
    assert!(report["partitions_sent"].as_u64().unwrap() > 100, "{report}");
    load.more(50).await;
    all.extend(load.stop().await);

    let node = cluster.native(leaver);
    loop {
        match told.event().await {
            Event::Topology { change: TopologyChange::RemovedNode, node: gone } => {
                assert_eq!(gone, node);
                break;
            }
            Event::Status { node: of, .. } => assert_eq!(of, node),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told.rows("SELECT peer FROM system.peers").await.len(), 2);
    for at in 0..leaver {
        assert_eq!(state(&cluster, at, leaver).await, None);
    }

    // It takes nobody's word any more.
    let options = Options::new().routing(Routing::Pinned(cluster.rpc(leaver)));
    let refused = client.table(KEYSPACE, TABLE).get_with("before/1", &options).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("has left the ring"), "{refused}");
    let mut cql = Cql::connect(cluster.native(leaver), Version::V5, None).await;
    let refused = cql.refused("CREATE TABLE shop.more (k int PRIMARY KEY)").await;
    assert!(refused.message.contains("has left the ring"), "{refused:?}");

    // What it was owed goes to those who hold its data now.
    assert!(hints(&cluster, 0).await.pending >= owed);
    ctl(&cluster, 0, &["resumehandoff"]).await.ok();
    let given = || "what node 0 owed the leaver is redirected".to_owned();
    until(given, async || (hints(&cluster, 0).await.pending == 0).then_some(())).await;
    let outcomes = hints(&cluster, 0).await;
    assert!(outcomes.redirected >= owed, "{outcomes:?}");
    assert_eq!(outcomes.delivered + outcomes.redirected, outcomes.created, "{outcomes:?}");

    // Three nodes and three copies: each has everything, and nothing differs.
    for at in 0..leaver {
        let held = local_keys(cluster.rpc(at)).await;
        let lacks: Vec<_> = all.iter().filter(|(k, (v, _))| held.get(*k) != Some(v)).collect();
        assert!(lacks.is_empty(), "node {at} lacks {} of {}", lacks.len(), all.len());
    }
    let client = cluster.client().await;
    read_back(&client, &all, Level::All).await;
    let preview = ctl_json(&cluster, 1, &["repair", "--preview", "--full", KEYSPACE]).await;
    let tables = preview[0]["tables"].as_array().unwrap();
    assert_eq!((tables.len(), &tables[0]["differing"]), (1, &0.into()), "{preview}");
    assert!(tables[0]["compared"].as_u64().unwrap() > 10, "{preview}");

    // It never comes back, and nobody who restarts waits for it.
    assert!(cluster.take(leaver).interrupt().await.success());
    let refused = cluster.spec(leaver).refused().await;
    refused.failed(1, &["has left the ring", "Remove the data directory"]);
    cluster.kill(0).await;
    let zero = cluster.spec(0).clone();
    let _zero = zero.start().await;
    let alone = || "node 0 knows of three members after its restart".to_owned();
    until(alone, async || {
        let members = cluster.admin(0).topology().await.ok()?.members;
        let up = members.iter().filter(|member| member.up).count();
        (members.len() == 3 && up == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_leaver_owes_one_that_is_down_another_node_keeps() {
    // The one before the leaver on the ring gets none of its ranges.
    let tokens = [-6, -3, 0, 3, 6].map(|nth| nth * 1_000_000_000_000_000_000);
    let mut cluster = Cluster::start_on(&tokens, &format!("num_tokens = 1\n{EXTRA}")).await;
    cluster.create(3).await;
    let (down, leaver) = (3, 4);
    cluster.kill(down).await;
    cluster.all_see(4).await;
    let all = put(&cluster, leaver, "owed", OWED).await;
    let owed = hints(&cluster, leaver).await.pending;
    assert!(owed > 10, "{owed}");

    ctl(&cluster, leaver, &["decommission"]).await.failed(1, &["are down", "--force"]);
    assert_eq!(state(&cluster, 0, leaver).await.as_deref(), Some("NORMAL"));
    let report = ctl_json(&cluster, leaver, &["decommission", "--force"]).await;
    assert_eq!((&report["stage"], &report["failure"]), (&"left".into(), &"".into()), "{report}");
    assert_eq!(report["hints_handed_over"], owed, "{report}");
    assert!(report["warnings"][0].as_str().unwrap().contains("are down"), "{report}");
    let left = hints(&cluster, leaver).await;
    assert_eq!((left.created, left.redirected, left.pending), (owed, owed, 0), "{left:?}");
    let mut kept = 0;
    for at in 0..down {
        kept += hints(&cluster, at).await.created;
    }
    assert_eq!(kept, owed, "others keep them");

    // Those who keep them deliver them, the leaver's process being gone.
    cluster.kill(leaver).await;
    let spec = cluster.spec(down).clone();
    let _down = spec.start().await;
    let arrived = || "the one that was down has what the leaver owed it".to_owned();
    until(arrived, async || {
        let mut pending = 0;
        for at in 0..down {
            pending += hints(&cluster, at).await.pending;
        }
        (pending == 0).then_some(())
    })
    .await;
    let client = cluster.client().await;
    read_back(&client, &all, Level::All).await;
    let preview = ctl_json(&cluster, 0, &["repair", "--preview", KEYSPACE]).await;
    assert_eq!(preview[0]["tables"][0]["differing"], 0, "{preview}");
}

#[tokio::test]
async fn copies_are_not_given_up_unless_somebody_insists_and_a_dead_leaver_is_a_member_again() {
    let mut cluster = Cluster::start_with(3, EXTRA).await;
    cluster.create(3).await;
    let all = put(&cluster, 0, "before", OWED).await;
    let fewer = ["keyspace shop", "replication factor 3, but the ring has 2 nodes", "--force"];
    ctl(&cluster, 2, &["decommission"]).await.failed(1, &fewer);

    // Killed while it leaves, it comes back as a member, and nobody is pending any more.
    ctl(&cluster, 2, &["decommission", "--force", "--no-wait"]).await.ok();
    let known = || "node 0 shows the leaver as LEAVING".to_owned();
    until(known, async || {
        (state(&cluster, 0, 2).await.as_deref() == Some("LEAVING")).then_some(())
    })
    .await;
    cluster.kill(2).await;
    cluster.start_missing().await;
    let again = || "the leaver is NORMAL again".to_owned();
    until(again, async || (state(&cluster, 0, 2).await.as_deref() == Some("NORMAL")).then_some(()))
        .await;
    let client = cluster.client().await;
    read_back(&client, &all, Level::All).await;

    let report = ctl_json(&cluster, 2, &["decommission", "--force"]).await;
    assert_eq!(report["stage"], "left", "{report}");
    read_back(&cluster.client().await, &all, Level::Quorum).await;
    ctl(&cluster, 2, &["decommission"]).await.ok();
    let alone = ctl(&cluster, 0, &["decommission", "--force"]).await;
    assert_eq!(alone.code, Some(0), "{}", alone.stderr);
    let last = ctl(&cluster, 1, &["decommission", "--force"]).await;
    last.failed(1, &["alone in the ring"]);
}
