//! Damaged files, a full disk, and the other engine: what a disk does to a store, done to real files.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use helenus_client::{KvError, Level, Options, Routing, TableFilter};
use helenus_tests::load::{Load, read_back};
use helenus_tests::{Cluster, KEYSPACE, Process, TABLE, binary, local_keys};
use std::fs;
use std::path::{Path, PathBuf};

const KEYS: usize = 200;

/// The files below `dir` whose names end in `end`, in order.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.to_str().unwrap().ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

async fn put_all(cluster: &Cluster, level: Level) {
    let client = cluster.client().await;
    let table = client.table(KEYSPACE, TABLE);
    for nth in 0..KEYS {
        let options = Options::new().level(level);
        table.put_with(format!("key{nth}"), format!("{nth:0100}"), &options).await.unwrap();
    }
}

/// Flips one bit of a byte.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_of_the_log_stops_the_start_and_mending_it_loses_nothing() {
    // After a sync every record before it is promised.
    let mut cluster = Cluster::start_with(1, "[storage]\ncommitlog_sync = \"batch\"").await;
    cluster.create(1).await;
    put_all(&cluster, Level::One).await;
    cluster.kill(0).await;
    let log = files(&cluster.spec(0).data, ".log").pop().unwrap();
    let middle = usize::try_from(fs::metadata(&log).unwrap().len()).unwrap() / 2;
    flip(&log, middle);
    let refused = cluster.spec(0).refused().await;
    let name = log.file_name().unwrap().to_str().unwrap();
    refused.failed(1, &[name, "corrupt at byte", "restore this file", "repair this node"]);
    // Refusing changed nothing: with the bit as it was, everything is there.
    flip(&log, middle);
    cluster.start_missing().await;
    assert_eq!(local_keys(cluster.rpc(0)).await.len(), KEYS);
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_the_rest_is_there() {
    let mut cluster = Cluster::start(1).await;
    cluster.create(1).await;
    put_all(&cluster, Level::One).await;
    cluster.kill(0).await;
    let log = files(&cluster.spec(0).data, ".log").pop().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes.truncate(bytes.len() - 7);
    fs::write(&log, bytes).unwrap();
    cluster.start_missing().await;
    // The last record was torn, and with it what the machine, had it lost power, would not have had either.
    assert_eq!(local_keys(cluster.rpc(0)).await.len(), KEYS - 1);
    assert!(fs::read_to_string(cluster.spec(0).log()).unwrap().contains("cut_bytes"));
}

#[tokio::test]
async fn a_damaged_sstable_is_read_around_and_counted() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(3).await;
    put_all(&cluster, Level::All).await;
    let victim = 2;
    let all = TableFilter::default();
    cluster.admin(victim).flush(all).await.unwrap();
    cluster.kill(victim).await;
    let sstables = files(&cluster.spec(victim).data.join("data/tables"), ".sst");
    assert!(!sstables.is_empty(), "a flush leaves an SSTable");
    for sstable in &sstables {
        // Every block of the data, and not the index behind it: the file opens, and reading it finds the damage.
        let half = usize::try_from(fs::metadata(sstable).unwrap().len()).unwrap() / 2;
        for at in (100..half).step_by(1000) {
            flip(sstable, at);
        }
    }
    cluster.start_missing().await;
    let client = cluster.client().await;
    let table = client.table(KEYSPACE, TABLE);
    let through = Routing::Pinned(cluster.rpc(victim));
    for level in [Level::One, Level::Quorum] {
        for nth in 0..KEYS {
            let options = Options::new().level(level).routing(through);
            let got = table.get_with(format!("key{nth}"), &options).await;
            let got = got.unwrap_or_else(|error| panic!("key{nth} at {level}: {error}"));
            assert_eq!(got.value.unwrap().value, format!("{nth:0100}"));
        }
    }
    let mut scan = helenus_client::Scan::default();
    let mut seen = 0;
    loop {
        let options = Options::new().level(Level::One).routing(through);
        let page = table.scan_with(&scan, &options).await.unwrap();
        seen += page.entries.len();
        scan.from = page.next;
        if scan.from.is_none() {
            break;
        }
    }
    assert_eq!(seen, KEYS);
    let failures =
        cluster.spec(victim).metric("helenus_replica_failures_total{operation=\"read\"}");
    assert!(failures.await >= 1.0);
    let log = fs::read_to_string(cluster.spec(victim).log()).unwrap();
    assert!(log.contains("corrupt at byte"), "{log}");
    // Only at ALL there is nobody left to ask.
    let options = Options::new().level(Level::All).routing(through);
    let mut refused = 0;
    for nth in 0..KEYS {
        if let Err(error) = table.get_with(format!("key{nth}"), &options).await {
            assert!(matches!(error.error(), KvError::Failure { .. }), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 0);
}

/// Without a disk of our own to fill, the limit that any process may set itself: files that stop growing.
#[tokio::test]
async fn a_log_that_cannot_grow_refuses_writes_keeps_reading_and_loses_nothing() {
    let mut cluster = Cluster::start(1).await;
    cluster.create(1).await;
    assert_eq!(cluster.take(0).interrupt().await.code(), Some(0));
    let spec = cluster.spec(0).clone();
    // In blocks of 512 or 1024 bytes, as the shell has it.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let helenus = binary("helenus").display().to_string();
    let config = spec.write().display().to_string();
    let args = ["-c", script, &helenus, "--format", "json", "--config", &config];
    let mut process = Process::start(Path::new("/bin/sh"), args, &spec.log());
    process.ready().await;
    let client = cluster.client().await;
    let table = client.table(KEYSPACE, TABLE);
    let options = Options::new().level(Level::One);
    let mut acknowledged = Vec::new();
    let refused = loop {
        let key = format!("key{}", acknowledged.len());
        match table.put_with(key.clone(), vec![b'x'; 1000], &options).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1000, "a limit of 64 KiB is reached");
    };
    assert!(!acknowledged.is_empty());
    assert!(
        matches!(refused.error(), KvError::Overloaded { .. } | KvError::Failure { .. }),
        "{refused}"
    );
    assert!(table.put_with("more", "v", &options).await.is_err(), "it stays so until a restart");
    for key in &acknowledged {
        assert!(table.get_with(key.clone(), &options).await.unwrap().value.is_some(), "{key}");
    }
    let log = process.log();
    assert!(log.contains("File too large"), "the log says why:\n{log}");
    process.kill().await;
    cluster.start_missing().await;
    let held = local_keys(cluster.rpc(0)).await;
    for key in &acknowledged {
        assert!(held.contains_key(key.as_bytes()), "{key}");
    }
    let client = cluster.client().await;
    client.table(KEYSPACE, TABLE).put_with("more", "v", &options).await.unwrap();
}

#[tokio::test]
async fn the_sled_engine_serves_a_cluster_and_a_clean_stop_keeps_everything() {
    let mut cluster = Cluster::start_with(3, "[storage]\nengine = \"sled\"").await;
    cluster.create(3).await;
    let client = cluster.client().await;
    let load = Load::start(&client, "sled", 4, &[Routing::TokenAware]);
    load.more(KEYS).await;
    let ledger = load.stop().await;
    read_back(&client, &ledger, Level::All).await;
    for at in 0..cluster.len() {
        assert!(cluster.spec(at).data.join("sled").is_dir());
        assert_eq!(cluster.take(at).interrupt().await.code(), Some(0));
    }
    cluster.start_missing().await;
    read_back(&cluster.client().await, &ledger, Level::All).await;
}
