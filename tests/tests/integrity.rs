//! Verify, scrub and snapshots on nodes that run, with `helenusctl` as an operator has it, and damage done to real files.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use helenus_client::{Level, Options, Routing, TableFilter};
use helenus_tests::{Cluster, Finished, KEYSPACE, TABLE, binary, local_keys, run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const KEYS: usize = 600;

/// `helenusctl` against one node.
async fn ctl(cluster: &Cluster, at: usize, args: &[&str]) -> Finished {
    let host = cluster.rpc(at).to_string();
    let common = ["--host", host.as_str(), "--format", "json"];
    run(&binary("helenusctl"), common.iter().chain(args)).await
}

async fn ctl_json(cluster: &Cluster, at: usize, args: &[&str]) -> Value {
    let text = ctl(cluster, at, args).await.ok();
    let mut answers: Value = serde_json::from_str(&text).unwrap();
    answers[0].take()
}

fn value(nth: usize) -> String {
    // Different in every byte, so that no codec makes the file too small to have several blocks.
    (0..20).map(|n| format!("{:09x}", (nth * 31 + n * 7919) * 1_000_003)).collect()
}

async fn filled(nodes: u8, level: Level, extra: &str) -> Cluster {
    let cluster = Cluster::start_with(nodes, extra).await;
    cluster.create(u32::from(nodes)).await;
    let client = cluster.client().await;
    let table = client.table(KEYSPACE, TABLE);
    for nth in 0..KEYS {
        let options = Options::new().level(level);
        table.put_with(format!("key{nth}"), value(nth), &options).await.unwrap();
    }
    for at in 0..cluster.len() {
        cluster.admin(at).flush(TableFilter::default()).await.unwrap();
    }
    cluster
}

/// The SSTables below a directory.
fn sstables(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false if path.extension().is_some_and(|end| end == "sst") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn damage_is_named_scrubbed_and_brought_back_by_other_replicas() {
    let cluster = filled(3, Level::All, "").await;
    let victim = 2;
    let sound = ctl_json(&cluster, victim, &["verify"]).await;
    assert_eq!((&sound["problems"], &sound["partitions"]), (&Value::Array(vec![]), &KEYS.into()));
    ctl(&cluster, victim, &["snapshot", "--tag", "before"]).await.ok();
    ctl(&cluster, victim, &["snapshot", "--tag", "before"]).await.failed(1, &["exists"]);
    ctl(&cluster, victim, &["snapshot", "--tag", "../x"]).await.failed(1, &["cannot name"]);
    let listed = ctl_json(&cluster, victim, &["listsnapshots"]).await;
    let before = &listed["snapshots"][0];
    assert_eq!((&before["tag"], &before["table"]), (&"before".into(), &TABLE.into()));
    assert!(before["true_bytes"].as_u64() < before["bytes_on_disk"].as_u64(), "{before}");

    // While the node runs. The snapshot shares the file, and with it the damage: a link is no copy.
    let damaged = sstables(&cluster.spec(victim).data.join("data/tables")).remove(0);
    flip(&damaged, 100);
    let verified = ctl(&cluster, victim, &["verify", &format!("{KEYSPACE}.{TABLE}")]).await;
    let name = damaged.file_name().unwrap().to_str().unwrap();
    assert_eq!(verified.code, Some(1));
    for words in [name, "does not match its checksum", "helenusctl scrub"] {
        assert!(verified.stdout.contains(words), "{words}: {}", verified.stdout);
    }
    // Reads through it are answered all the same.
    let client = cluster.client().await;
    let table = client.table(KEYSPACE, TABLE);
    let through = Routing::Pinned(cluster.rpc(victim));
    for nth in 0..KEYS {
        let options = Options::new().level(Level::Quorum).routing(through);
        let got = table.get_with(format!("key{nth}"), &options).await.unwrap();
        assert_eq!(got.value.unwrap().value, value(nth));
    }

    let scrubbed = ctl_json(&cluster, victim, &["scrub", KEYSPACE]).await;
    assert_eq!(scrubbed["rewritten"], 1, "{scrubbed}");
    let lost = scrubbed["partitions_lost"].as_u64().unwrap();
    assert!(lost > 0 && lost < KEYS as u64, "{scrubbed}");
    assert_eq!(scrubbed["partitions_kept"].as_u64().unwrap() + lost, KEYS as u64);
    let span = &scrubbed["lost"][0];
    assert!(span["from_token"].as_i64() <= span["until_token"].as_i64(), "{span}");
    ctl(&cluster, victim, &["verify"]).await.ok();
    let held = local_keys(cluster.rpc(victim)).await.len() as u64;
    assert!(held >= KEYS as u64 - lost, "{held} of {KEYS}, {lost} lost");
    // Reading at ALL brings the rest back.
    for nth in 0..KEYS {
        let options = Options::new().level(Level::All).routing(through);
        let got = table.get_with(format!("key{nth}"), &options).await.unwrap();
        assert_eq!(got.value.unwrap().value, value(nth));
    }
    assert_eq!(local_keys(cluster.rpc(victim)).await.len(), KEYS);

    let listed = ctl_json(&cluster, victim, &["listsnapshots"]).await;
    // The node's own tables have one too.
    let listed = listed["snapshots"].as_array().unwrap();
    let ours = listed.iter().filter(|s| s["keyspace"] == KEYSPACE);
    let tags: Vec<&str> = ours.map(|s| s["tag"].as_str().unwrap()).collect();
    assert_eq!(tags, ["before", scrubbed["snapshot"].as_str().unwrap()]);
    let cleared = ctl_json(&cluster, victim, &["clearsnapshot", "--all"]).await;
    assert_eq!(cleared["cleared"], listed.len());
    assert_eq!(
        ctl_json(&cluster, victim, &["listsnapshots"]).await["snapshots"],
        Value::Array(vec![])
    );
    assert!(!sstables(&cluster.spec(victim).data).contains(&damaged), "the damaged file is gone");
}

#[tokio::test]
async fn a_dropped_table_comes_back_from_its_snapshot_under_another_id() {
    let mut cluster = filled(1, Level::One, "").await;
    let admin = cluster.admin(0);
    admin.drop_table(KEYSPACE, TABLE, false).await.unwrap();
    // Behind the drop.
    ctl(&cluster, 0, &["flush"]).await.ok();
    let listed = ctl_json(&cluster, 0, &["listsnapshots"]).await;
    let tag = listed["snapshots"][0]["tag"].as_str().unwrap().to_owned();
    assert!(tag.starts_with("dropped-") && tag.ends_with(&format!("{KEYSPACE}.{TABLE}")), "{tag}");
    admin.create_table(KEYSPACE, TABLE, false, Default::default()).await.unwrap();
    let described = admin.describe(KEYSPACE).await.unwrap();
    let id: String =
        described.keyspaces[0].tables[0].id.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(local_keys(cluster.rpc(0)).await.len(), 0);
    assert_eq!(cluster.take(0).interrupt().await.code(), Some(0));
    let data = cluster.spec(0).data.join("data");
    let kept = fs::read_dir(data.join("snapshots").join(&tag)).unwrap().next().unwrap().unwrap();
    let to = data.join("tables").join(id);
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(kept.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    cluster.start_missing().await;
    assert_eq!(local_keys(cluster.rpc(0)).await.len(), KEYS);
    ctl(&cluster, 0, &["verify"]).await.ok();
}

#[tokio::test]
async fn a_snapshot_is_links_and_survives_compaction() {
    let cluster = filled(1, Level::One, "[storage]\nauto_snapshot = false").await;
    ctl(&cluster, 0, &["snapshot", "--tag", "a", KEYSPACE]).await.ok();
    let data = cluster.spec(0).data.join("data");
    let linked = sstables(&data.join("snapshots"));
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let originals = sstables(&data.join("tables"));
    assert_eq!(inode(&linked[0]), inode(&originals[0]));
    ctl(&cluster, 0, &["scrub", "--all", "--no-snapshot"]).await.ok();
    assert_eq!(sstables(&data.join("snapshots")), linked);
    ctl(&cluster, 0, &["clearsnapshot", "--tag", "b"]).await.failed(1, &["no snapshot `b`"]);
    cluster.admin(0).drop_table(KEYSPACE, TABLE, false).await.unwrap();
    ctl(&cluster, 0, &["flush"]).await.ok();
    let listed = ctl_json(&cluster, 0, &["listsnapshots"]).await;
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");
    let left = &listed["snapshots"][0];
    assert_eq!(left["true_bytes"], left["bytes_on_disk"], "its table is gone");
}

#[tokio::test]
async fn sled_says_that_it_cannot() {
    let cluster = filled(1, Level::One, "[storage]\nengine = \"sled\"").await;
    for args in [
        &["verify"][..],
        &["scrub"],
        &["snapshot"],
        &["listsnapshots"],
        &["clearsnapshot", "--all"],
    ] {
        ctl(&cluster, 0, args).await.failed(1, &["needs `storage.engine = \\\"lsm\\\"`"]);
    }
}
