//! What is wrong is said: what, where, and what to do. Nothing panics and nothing is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use helenus_tests::{Cluster, Finished, NodeSpec, binary, run};
use std::net::{SocketAddr, TcpListener};
use tempfile::TempDir;

async fn ctl(host: SocketAddr, args: &[&str]) -> Finished {
    run(&binary("helenusctl"), ["--host", &host.to_string()].iter().chain(args)).await
}

fn spec(extra: &str) -> (TempDir, NodeSpec) {
    let dir = TempDir::new().unwrap();
    let mut spec = NodeSpec::new(dir.path(), 1);
    extra.clone_into(&mut spec.extra);
    (dir, spec)
}

#[tokio::test]
async fn a_configuration_is_refused_with_all_that_is_wrong_in_it() {
    let (_dir, spec) = spec("max_value_sise = \"1MiB\"\n[hints]\nmax_hint_window = \"3 parsecs\"");
    let refused = spec.refused().await;
    let file = spec.data.with_extension("toml").display().to_string();
    refused.failed(
        2,
        &[
            &format!("{file}:8:1: unknown key `max_value_sise`"),
            "did you mean `max_value_size`?",
            &format!("{file}:10:19: `max_hint_window`"),
            "such as",
        ],
    );
    assert!(!spec.data.exists(), "a node that does not start leaves nothing behind");

    let missing = run(&binary("helenus"), ["--config", "no-such-file.toml"]).await;
    missing.failed(2, &["no-such-file.toml", "helenus --print-config"]);
    run(&binary("helenus"), ["--confg", "x"]).await.failed(2, &["--config"]);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let (_dir, spec) = spec("");
    for (key, address) in [
        ("listen_address", spec.listen),
        ("rpc_address", spec.rpc),
        ("metrics_address", spec.metrics),
    ] {
        let taken = TcpListener::bind(address).unwrap();
        let said = [format!("{key}: cannot listen on {address}"), "another process".to_owned()];
        spec.refused().await.failed(1, &said.each_ref().map(String::as_str));
        drop(taken);
    }
    // None of that keeps it from starting when the ports are free.
    let process = spec.start().await;
    assert_eq!(process.interrupt().await.code(), Some(0));
}

#[tokio::test]
async fn data_of_another_cluster_or_in_use_is_not_touched() {
    let (dir, spec) = spec("");
    let process = spec.start().await;
    let mut second = NodeSpec::new(dir.path(), 1);
    second.listen.set_port(helenus_tests::free_port(second.listen.ip()));
    let directory = spec.data.display().to_string();
    let said = [directory.as_str(), "is in use by another running process", "stop that one"];
    second.refused().await.failed(1, &said);
    assert_eq!(process.interrupt().await.code(), Some(0));

    "cluster_name = \"another\"".clone_into(&mut second.extra);
    let identity = spec.data.join("identity.toml").display().to_string();
    let said = [&identity, "belongs to cluster `helenus`", "correct cluster_name"];
    second.refused().await.failed(1, &said);
    // The refused attempts changed nothing: it is still the same node.
    assert_eq!(spec.start().await.interrupt().await.code(), Some(0));
}

#[tokio::test]
async fn a_request_that_makes_no_sense_says_why() {
    let cluster = Cluster::start_with(1, "max_value_size = \"1KiB\"").await;
    cluster.create(1).await;
    let host = cluster.rpc(0);
    let large = "x".repeat(1025);
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (&["create-keyspace", "none", "--rf", "0"], 2, &["--rf", "0"]),
        (
            &["put", "shop.orders", "k", &large],
            1,
            &["1025 bytes", "the limit is 1024 (max_value_size)", "raise the limit"],
        ),
        (&["get", "shop.orders", "k", "--level", "ANY"], 1, &["ANY", "use ONE or higher"]),
        (&["put", "shop.orders", "k", "v", "--level", "MOST"], 2, &["`MOST`", "QUORUM"]),
        (&["put", "shop.orders", "", "v"], 1, &["the key is empty", "at least one byte"]),
        (&["get", "shops.orders", "k"], 1, &["keyspace `shops`", "did you mean `shop`?"]),
        (&["get", "shop.order", "k"], 1, &["table `order`", "did you mean `orders`?"]),
        (&["get", "other.orders", "k"], 1, &["keyspace `other`", "create-keyspace"]),
        (&["create-table", "other.t"], 1, &["keyspace `other`", "does not exist"]),
    ];
    for (args, code, said) in cases {
        ctl(host, args).await.failed(code, said);
    }
    // So large that the node does not even read it.
    let dir = TempDir::new().unwrap();
    let huge = dir.path().join("huge");
    std::fs::write(&huge, "x".repeat(1 << 20)).unwrap();
    let put = ctl(host, &["put", "shop.orders", "k", "--file", huge.to_str().unwrap()]).await;
    put.failed(1, &["larger than the server takes (max_value_size)", "raise the limit"]);
    assert!(!put.stderr.contains("may have been applied"), "{put:?}");
    assert!(!put.stderr.contains("attempts"), "{put:?}");
    let wide = ctl(host, &["create-keyspace", "wide", "--rf", "3"]).await;
    assert!(wide.stderr.contains("replication factor 3, but the ring has 1 node"), "{wide:?}");
    wide.ok();
    let nobody = SocketAddr::new(host.ip(), helenus_tests::free_port(host.ip()));
    let refused = ctl(nobody, &["status"]).await;
    refused.failed(1, &[&nobody.to_string(), "helenus dev", "--host"]);
}
