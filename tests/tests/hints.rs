//! Hints that are lost, on nodes that run, with `helenusctl` as an operator has it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use helenus_client::{Level, Options, Table};
use helenus_tests::{Cluster, Finished, KEYSPACE, TABLE, binary, local_keys, run};
use serde_json::Value;
use std::collections::BTreeSet;

/// Room for the hints of a few writes, and not for those of a hundred.
const EXTRA: &str = "[hints]\nmax_hints_size = \"4KiB\"\nhints_flush_period = \"100ms\"\n";

/// The same, and what does not fit is set aside.
const LETTERS: &str = "[hints]\nmax_hints_size = \"4KiB\"\noverflow = \"dead-letter\"\n";

/// `helenusctl` against one node.
async fn ctl(cluster: &Cluster, at: usize, args: &[&str]) -> Finished {
    let host = cluster.rpc(at).to_string();
    let common = ["--host", host.as_str(), "--format", "json"];
    run(&binary("helenusctl"), common.iter().chain(args)).await
}

async fn ctl_json(cluster: &Cluster, at: usize, args: &[&str]) -> Value {
    serde_json::from_str(&ctl(cluster, at, args).await.ok()).unwrap()
}

async fn lost(cluster: &Cluster, at: usize) -> u64 {
    let ledger = ctl_json(cluster, at, &["hintledger"]).await;
    let rows = ledger[0]["rows"].as_array().unwrap();
    rows.iter().map(|row| row["hints"].as_u64().unwrap()).sum()
}

/// What other nodes know a node by, as the second one sees it.
async fn internode_addr(cluster: &Cluster, at: usize) -> String {
    let client_addr = cluster.rpc(at).to_string();
    let topology = cluster.admin(1).topology().await.unwrap();
    let member = topology.members.into_iter().find(|member| member.client_addr == client_addr);
    member.unwrap().internode_addr
}

/// Three nodes with `extra` configuration, of which the last is down.
async fn without_the_third(extra: &str) -> (Cluster, Table) {
    let mut cluster = Cluster::start_with(3, extra).await;
    cluster.create(3).await;
    cluster.kill(2).await;
    cluster.all_see(2).await;
    let table = cluster.client().await.table(KEYSPACE, TABLE);
    (cluster, table)
}

/// Three nodes of which the last is down while the others take 200 writes. Gives how many hints they refused, each of
/// another key.
async fn overflowed() -> (Cluster, u64) {
    let (cluster, table) = without_the_third(EXTRA).await;
    let options = Options::new().level(Level::Quorum);
    let mut warned = 0;
    for nth in 0..200 {
        let put = table.put_with(format!("key{nth}"), "x".repeat(200), &options).await.unwrap();
        warned += put.answer.warnings.len() as u64;
    }
    assert!(warned > 100, "two stores of 4 KiB are full long before: {warned}");
    (cluster, warned)
}

fn total(repairs: &Value, what: &str) -> u64 {
    let tables = repairs.as_array().unwrap().iter().flat_map(|it| it["tables"].as_array().unwrap());
    tables.map(|table| table[what].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_repair_from_the_ledger_mends_just_what_was_lost_and_empties_it() {
    let (mut cluster, lost_hints) = overflowed().await;
    // While the replica is away nothing can be mended, and nothing is forgotten.
    ctl(&cluster, 0, &["repair", "--from-ledger"]).await.failed(1, &[]);
    assert_eq!(lost(&cluster, 0).await + lost(&cluster, 1).await, lost_hints);

    cluster.start_missing().await;
    cluster.all_see(3).await;
    let third = internode_addr(&cluster, 2).await;
    let hints = ["hints", "await", "--target", &third, "--timeout", "60s"];
    ctl(&cluster, 1, &hints).await.ok();

    let preview = ctl_json(&cluster, 1, &["repair", "--from-ledger", "--preview"]).await;
    assert_eq!(total(&preview, "partitions_sent"), 0);
    assert!(total(&preview, "differing") > 0, "{preview}");
    assert_eq!(lost(&cluster, 0).await + lost(&cluster, 1).await, lost_hints);

    let repaired = ctl_json(&cluster, 1, &["repair", "--from-ledger"]).await;
    assert_eq!(repaired.as_array().unwrap().len(), 3, "every coordinator: {repaired}");
    let sent = total(&repaired, "partitions_sent");
    assert!(sent >= lost_hints && sent * 20 <= lost_hints * 21, "{sent} sent, {lost_hints} lost");
    assert_eq!(lost(&cluster, 0).await + lost(&cluster, 1).await, 0);
    let full = ctl_json(&cluster, 1, &["repair"]).await;
    assert!(total(&full, "compared") > 0, "{full}");
    assert_eq!(total(&full, "differing"), 0, "{full}");
}

#[tokio::test]
async fn what_is_lost_is_in_the_ledger_through_a_kill_and_what_is_owed_is_awaited() {
    let (mut cluster, warned) = overflowed().await;
    let lost_at_0 = lost(&cluster, 0).await;
    let lost_at_1 = lost(&cluster, 1).await;
    assert_eq!(lost_at_0 + lost_at_1, warned, "whatever was warned of is in a ledger");

    // The ledger is flushed after 100 ms of the clock, or with an orderly stop; a kill behind that takes nothing away.
    let stopped = cluster.take(0).interrupt().await;
    assert!(stopped.success());
    cluster.start_missing().await;
    cluster.all_see(3).await;
    assert_eq!(lost(&cluster, 0).await, lost_at_0);
    cluster.kill(0).await;
    cluster.start_missing().await;
    cluster.all_see(3).await;
    assert_eq!(lost(&cluster, 0).await, lost_at_0);

    let third = internode_addr(&cluster, 2).await;
    let await_all = ["hints", "await", "--target", &third, "--timeout", "60s"];
    let awaited = ctl_json(&cluster, 1, &await_all).await;
    assert_eq!(awaited["delivered_or_counted"], true, "{awaited}");
    assert_eq!(awaited["coordinators"].as_array().unwrap().len(), 3);

    let forget = ["hintledger", "--target", &third, "--forget"];
    ctl(&cluster, 0, &forget).await.ok();
    assert_eq!(lost(&cluster, 0).await, 0);
    assert_eq!(lost(&cluster, 1).await, lost_at_1, "each coordinator has its own");
}

#[tokio::test]
async fn a_put_whose_hint_is_refused_warns_on_stderr_and_fail_write_refuses() {
    let mut cluster = Cluster::start_with(3, "[hints]\nmax_hints_size = \"64B\"\n").await;
    cluster.create(3).await;
    let strict = ["create-keyspace", "strict", "--rf", "3", "--hint-overflow", "fail-write"];
    ctl(&cluster, 0, &strict).await.ok();
    ctl(&cluster, 0, &["create-table", "strict.kv"]).await.ok();
    cluster.kill(2).await;
    cluster.all_see(2).await;
    let host = cluster.rpc(0).to_string();
    let name = format!("{KEYSPACE}.{TABLE}");
    let put = ["--host", &host, "put", &name, "k", "v", "--level", "quorum"];
    let put = run(&binary("helenusctl"), put).await;
    assert!(put.stderr.contains("no hint is kept"), "{}", put.stderr);
    put.ok();
    // One coordinator: the client would ask the others too, and report the one that is down.
    let put = ["--host", &host, "put", "strict.kv", "k", "v", "--coordinator", &host];
    let put = run(&binary("helenusctl"), put).await;
    put.failed(1, &["node_cap_reached", "nothing was sent"]);
}

/// The dead letters that a node holds.
async fn held(cluster: &Cluster, at: usize) -> u64 {
    ctl_json(cluster, at, &["deadletters", "list"]).await[0]["letters"].as_u64().unwrap()
}

#[tokio::test]
async fn what_does_not_fit_is_set_aside_and_a_replay_brings_it_to_the_replica() {
    let (mut cluster, table) = without_the_third(LETTERS).await;
    let options = Options::new().level(Level::Quorum);
    for nth in 0..200 {
        let put = table.put_with(format!("key{nth:03}"), "x".repeat(200), &options).await.unwrap();
        assert_eq!(
            put.answer.warnings,
            Vec::<String>::new(),
            "a hint that is kept is not warned of"
        );
    }
    let letters = [held(&cluster, 0).await, held(&cluster, 1).await];
    assert!(letters.iter().sum::<u64>() > 100 && letters.iter().all(|n| *n > 1), "{letters:?}");
    assert_eq!(lost(&cluster, 0).await + lost(&cluster, 1).await, 0);

    // They can be read, and nobody can deliver them yet.
    let shown = ctl_json(&cluster, 0, &["deadletters", "show", "--limit", "1"]).await;
    let next = shown[0]["next"].as_str().unwrap();
    let rest = ["deadletters", "show", "--limit", "1000", "--after", next];
    let rest = ctl_json(&cluster, 0, &rest).await;
    assert_eq!(rest[0]["letters"].as_array().unwrap().len() as u64, letters[0] - 1);
    let file = cluster.dir().join("letters.jsonl");
    ctl(&cluster, 0, &["deadletters", "export", file.to_str().unwrap()]).await.ok();
    let export = std::fs::read_to_string(&file).unwrap();
    let lines = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let exported: BTreeSet<String> = lines
        .inspect(|line| {
            assert_eq!(line["update"]["rows"][0]["cells"][0]["value"]["text"], "x".repeat(200))
        })
        .map(|line| line["key"]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(exported.len() as u64, letters[0]);
    ctl(&cluster, 0, &["deadletters", "replay"]).await.failed(1, &["dead letters are left"]);

    // They survive their coordinator's death.
    cluster.kill(0).await;
    cluster.start_missing().await;
    cluster.all_see(3).await;
    let third = internode_addr(&cluster, 2).await;
    let awaited = ["hints", "await", "--target", &third, "--timeout", "60s"];
    let awaited = ctl_json(&cluster, 1, &awaited).await;
    let coordinators = awaited["coordinators"].as_array().unwrap().iter();
    let said: u64 = coordinators.map(|it| it["dead_lettered"].as_u64().unwrap()).sum();
    assert_eq!(said, letters.iter().sum::<u64>(), "{awaited}");
    let before = local_keys(cluster.rpc(2)).await;
    assert!(exported.iter().all(|key| !before.contains_key(key.as_bytes())), "none came by itself");

    for (at, letters) in letters.into_iter().enumerate() {
        let replay = ["deadletters", "replay", "--target", &third, "--timeout", "60s"];
        let replayed = ctl_json(&cluster, at, &replay).await;
        assert_eq!(replayed[0]["targets"][0]["delivered"], letters, "{replayed}");
        assert_eq!((replayed[0]["done"].as_bool(), held(&cluster, at).await), (Some(true), 0));
        let owed = ctl_json(&cluster, at, &["listpendinghints"]).await;
        let outcomes = owed[0]["outcomes"].as_object().unwrap();
        let sum: u64 = outcomes.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(sum, 2 * outcomes["created"].as_u64().unwrap(), "{owed}");
    }
    let stored = local_keys(cluster.rpc(2)).await;
    let missing = (0..200).map(|nth| format!("key{nth:03}"));
    let missing: Vec<String> = missing.filter(|key| !stored.contains_key(key.as_bytes())).collect();
    assert_eq!(missing, Vec::<String>::new(), "the replica has every key");
}

#[tokio::test]
async fn purged_letters_are_mended_from_the_ledger() {
    let (mut cluster, table) = without_the_third(LETTERS).await;
    for nth in 0..100 {
        table.put(format!("key{nth:03}"), "x".repeat(200)).await.unwrap();
    }
    let letters = [held(&cluster, 0).await, held(&cluster, 1).await];
    ctl(&cluster, 0, &["deadletters", "purge", "--all"]).await.failed(2, &["--force"]);
    for (at, letters) in letters.into_iter().enumerate() {
        let purged = ctl_json(&cluster, at, &["deadletters", "purge", "--all", "--force"]).await;
        assert_eq!(purged[0]["removed"], letters);
        assert_eq!((held(&cluster, at).await, lost(&cluster, at).await), (0, letters));
    }
    cluster.start_missing().await;
    cluster.all_see(3).await;
    let third = internode_addr(&cluster, 2).await;
    ctl(&cluster, 1, &["hints", "await", "--target", &third, "--timeout", "60s"]).await.ok();
    ctl(&cluster, 1, &["repair", "--from-ledger"]).await.ok();
    assert_eq!(lost(&cluster, 0).await + lost(&cluster, 1).await, 0);
    let stored = local_keys(cluster.rpc(2)).await;
    assert!((0..100).all(|nth| stored.contains_key(format!("key{nth:03}").as_bytes())));
}
