//! The `helenus` command as a user meets it: the built program, its output and its exit codes.

use bytes::Bytes;
use helenus_proto::v1;
use helenus_proto::v1::kv_client::KvClient;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;

fn helenus(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_helenus"));
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn outcome(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = helenus(args).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn without_arguments_it_explains_itself() {
    let (code, _, help) = outcome(&[]);
    assert_eq!(code, Some(2));
    for word in ["Examples:", "helenus dev", "--print-config", "helenusctl"] {
        assert!(help.contains(word), "{help}");
    }
    let (code, help, _) = outcome(&["dev", "--help"]);
    assert_eq!(code, Some(0));
    assert!(help.contains("--port-base"), "{help}");
}

#[test]
fn the_printed_configuration_is_one_that_it_reads() {
    let (code, example, _) = outcome(&["--print-config"]);
    assert_eq!(code, Some(0));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    std::fs::write(&file, &example).unwrap();
    let (code, again, errors) = outcome(&["--config", file.to_str().unwrap(), "--print-config"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(again, example);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place_and_the_nearest_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    std::fs::write(&file, "dc = \"east\"\n[hints]\nmax_hint_size = \"1GiB\"\n").unwrap();
    let (code, _, errors) = outcome(&["--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("node.toml:3:1: unknown key `max_hint_size`"), "{errors}");
    assert!(errors.contains("did you mean `max_hints_size`?"), "{errors}");
}

#[test]
fn a_missing_configuration_file_says_how_to_get_one() {
    let (code, _, errors) = outcome(&["--config", "no/such/file.toml"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("no/such/file.toml") && errors.contains("--print-config"), "{errors}");
}

#[test]
fn impossible_clusters_are_refused() {
    for args in
        [["dev", "--nodes", "0"], ["dev", "--nodes", "101"], ["dev", "--port-base", "65000"]]
    {
        assert_eq!(outcome(&args).0, Some(2), "{args:?}");
    }
}

/// Far longer than anything here takes: a program that hangs fails its test instead of holding it up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that is killed when the test ends, whichever way.
struct Running(Child);

impl Running {
    fn start(args: &[&str]) -> Running {
        let mut command = tokio::process::Command::from(helenus(args));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Running(command.spawn().expect("it starts"))
    }

    /// The line it writes when it takes requests.
    async fn ready(&mut self) -> serde_json::Value {
        let mut out = BufReader::new(self.0.stdout.take().expect("it is piped"));
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, out.read_line(&mut line)).await;
        self.0.stdout = Some(out.into_inner());
        if matches!(read, Ok(Ok(length)) if length > 0) {
            return serde_json::from_str(&line).expect("the line is JSON");
        }
        self.0.kill().await.expect("it can be killed");
        let mut errors = String::new();
        let mut stderr = self.0.stderr.take().expect("it is piped");
        stderr.read_to_string(&mut errors).await.expect("it wrote UTF-8");
        panic!("not ready: {read:?}\n{errors}")
    }

    /// Ctrl-C, and what it exits with.
    async fn interrupt(mut self) -> Option<i32> {
        let pid = self.0.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().expect("kill runs");
        assert!(sent.success());
        let ended = tokio::time::timeout(PATIENCE, self.0.wait()).await;
        ended.expect("it stops").expect("it can be waited for").code()
    }
}

fn dev(data: &Path) -> Running {
    let data = data.to_str().expect("the path is UTF-8");
    Running::start(&["dev", "--data", data, "--port-base", "0", "--format", "json"])
}

fn hosts(ready: &serde_json::Value) -> Vec<String> {
    let nodes = ready["nodes"].as_array().expect("a list of nodes");
    nodes.iter().map(|node| node["node"].as_str().expect("a host id").to_owned()).collect()
}

/// Where clients reach the `nth` node, counted from 0.
fn rpc(ready: &serde_json::Value, nth: usize) -> String {
    let rpc = ready.pointer(&format!("/nodes/{nth}/rpc")).and_then(serde_json::Value::as_str);
    rpc.expect("an address").to_owned()
}

/// One request to one node, at ALL: every replica has to do its part.
async fn execute(address: &str, op: v1::kv_request::Op) -> v1::kv_response::Outcome {
    let mut client = KvClient::connect(format!("http://{address}")).await.expect("it listens");
    let request = v1::KvRequest {
        level: v1::Level::All.into(),
        keyspace: "demo".to_owned(),
        table: "kv".to_owned(),
        op: Some(op),
        ..Default::default()
    };
    let response = client.execute(request).await.expect("it answers").into_inner();
    response.outcome.expect("an answer has an outcome")
}

#[tokio::test]
async fn a_local_cluster_stops_cleanly_and_finds_its_data_again() {
    let directory = tempfile::tempdir().unwrap();
    let (key, value) = (Bytes::from_static(b"greeting"), Bytes::from_static(b"hello"));

    let mut first = dev(directory.path());
    let before = first.ready().await;
    assert_eq!(hosts(&before).len(), 3);
    let put = v1::Put { key: key.clone(), value: value.clone(), ..Default::default() };
    let written = execute(&rpc(&before, 1), v1::kv_request::Op::Put(put)).await;
    let v1::kv_response::Outcome::Written(written) = written else { panic!("{written:?}") };
    assert_eq!(first.interrupt().await, Some(0));

    let mut second = dev(directory.path());
    let after = second.ready().await;
    assert_eq!(hosts(&after), hosts(&before), "host ids outlive a restart");
    for nth in 0..3 {
        let get = v1::kv_request::Op::Get(v1::Get { key: key.clone() });
        let found = execute(&rpc(&after, nth), get).await;
        let v1::kv_response::Outcome::Value(found) = found else { panic!("{found:?}") };
        assert_eq!((found.value, found.timestamp_us), (Some(value.clone()), written.timestamp_us));
    }
    assert_eq!(second.interrupt().await, Some(0));
}

#[tokio::test]
async fn one_node_runs_from_a_file_and_a_second_one_cannot_take_its_port() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    let configure = |name: &str, rpc: &str| {
        let data = directory.path().join(name);
        let text = format!(
            "listen_address = \"127.0.0.1:0\"\nrpc_address = \"{rpc}\"\nmetrics_address = \"127.0.0.1:0\"\ndata_directory = {data:?}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    let args = ["--config", file.to_str().unwrap(), "--format", "json"];

    configure("one", "127.0.0.1:0");
    let mut node = Running::start(&args);
    let rpc = node.ready().await["rpc"].as_str().expect("an address").to_owned();

    configure("two", &rpc);
    let (code, _, errors) = outcome(&args);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains(&rpc) && errors.contains("rpc_address"), "{errors}");
    assert_eq!(node.interrupt().await, Some(0));
}
