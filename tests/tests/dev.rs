//! `helenus dev` and `helenusctl`, as the README tells a newcomer to use them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use helenus_tests::{Finished, Process, binary, free_ports, run};
use std::path::Path;
use tempfile::TempDir;

const WRITE_LEVELS: [&str; 9] =
    ["ANY", "ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_ONE", "LOCAL_QUORUM", "EACH_QUORUM"];
/// Ports that three nodes side by side take.
const PORTS: u16 = 30;

struct Dev {
    process: Process,
    host: String,
}

impl Dev {
    async fn start(dir: &Path, port_base: u16) -> Dev {
        let (data, port) = (dir.join("data").display().to_string(), port_base.to_string());
        let args = ["dev", "--data", &data, "--port-base", &port, "--format", "json"];
        let mut process = Process::start(&binary("helenus"), args, &dir.join("dev.log"));
        let ready = process.ready().await;
        let nodes = ready["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        Dev { process, host: nodes[0]["rpc"].as_str().unwrap().to_owned() }
    }

    async fn ctl(&self, args: &[&str]) -> Finished {
        run(&binary("helenusctl"), ["--host", &self.host].iter().chain(args)).await
    }
}

#[tokio::test]
async fn every_level_is_written_and_read_ctrl_c_stops_cleanly_and_a_restart_finds_it_all() {
    let dir = TempDir::new().unwrap();
    let port = free_ports(PORTS);
    let dev = Dev::start(dir.path(), port).await;
    for level in WRITE_LEVELS {
        dev.ctl(&["put", "demo.kv", level, "a value", "--level", level]).await.ok();
        match level {
            "ANY" => {
                let read = dev.ctl(&["get", "demo.kv", level, "--level", level]).await;
                read.failed(1, &["a read cannot be done at ANY", "use ONE or higher"]);
            }
            _ => {
                let read = dev.ctl(&["get", "demo.kv", level, "--level", level]).await;
                assert_eq!(read.ok(), "a value\n");
            }
        }
    }
    let status = dev.ctl(&["status"]).await.ok();
    assert_eq!(status.lines().filter(|line| line.trim_start().starts_with("UN")).count(), 3);
    dev.ctl(&["delete", "demo.kv", "TWO"]).await.ok();
    dev.ctl(&["get", "demo.kv", "TWO"]).await.failed(1, &["`TWO` was deleted"]);
    dev.ctl(&["get", "demo.kv", "nothing"]).await.failed(1, &["`nothing` is not there"]);

    let Dev { process, .. } = dev;
    assert_eq!(process.interrupt().await.code(), Some(0));
    let dev = Dev::start(dir.path(), port).await;
    for level in WRITE_LEVELS.into_iter().filter(|level| *level != "TWO") {
        let read = dev.ctl(&["get", "demo.kv", level, "--level", "ALL"]).await;
        assert_eq!(read.ok(), "a value\n");
    }
    dev.ctl(&["get", "demo.kv", "TWO"]).await.failed(1, &["`TWO` was deleted"]);

    // A second cluster on the same data, or on the same ports, is refused and leaves the first alone.
    let data = dir.path().join("data").display().to_string();
    let other = free_ports(PORTS).to_string();
    let twice = run(&binary("helenus"), ["dev", "--data", &data, "--port-base", &other]).await;
    twice.failed(1, &["is in use by another running process", "data_directory of its own"]);
    let (elsewhere, same) = (dir.path().join("elsewhere").display().to_string(), port.to_string());
    let twice = run(&binary("helenus"), ["dev", "--data", &elsewhere, "--port-base", &same]).await;
    twice.failed(1, &[&format!("cannot listen on 127.0.0.1:{port}"), "stop it"]);
    dev.ctl(&["get", "demo.kv", "ONE", "--level", "ALL"]).await.ok();
    let log = dev.process.log();
    assert!(!log.contains("panicked at"), "{log}");
    assert_eq!(dev.process.interrupt().await.code(), Some(0));
}
