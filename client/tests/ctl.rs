//! `helenusctl` as people and scripts run it: a process, its two outputs and its exit code.

#![expect(clippy::unwrap_used, reason = "a test that stops there has failed")]

mod mock;

use helenus_client::v1;
use mock::{World, unavailable};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs it against the first node of the world. The nodes live on the runtime's other threads meanwhile.
fn ctl(world: &Arc<World>, args: &[&str]) -> Ran {
    ctl_with_input(world, args, b"")
}

fn ctl_with_input(world: &Arc<World>, args: &[&str], input: &[u8]) -> Ran {
    let host = world.addr(1).to_string();
    run([&["--host", &host], args].concat(), input)
}

fn run(args: Vec<&str>, input: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_helenusctl"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_goes_there_and_back() {
    let world = World::on_tcp(3).await;
    let put = ctl(&world, &["put", "shop.orders", "k", "two books", "--timestamp", "5"]);
    assert_eq!((put.code, put.stderr.as_str()), (0, ""));
    assert!(put.stdout.starts_with("written as version 5 "), "{}", put.stdout);
    let get = ctl(&world, &["get", "shop.orders", "k", "--trace", "--level", "one"]);
    // Only the value is on stdout, so that a script can take it.
    assert_eq!((get.code, get.stdout.as_str()), (0, "two books\n"));
    assert!(get.stderr.contains("version 5 "), "{}", get.stderr);
    assert!(get.stderr.contains("answered by 00000000-"), "{}", get.stderr);
    assert_eq!(ctl(&world, &["delete", "shop.orders", "k"]).code, 0);
    let gone = ctl(&world, &["get", "shop.orders", "k"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (1, ""));
    assert!(gone.stderr.contains("`k` is not there"), "{}", gone.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_come_from_stdin_from_hex_and_leave_raw() {
    let world = World::on_tcp(1).await;
    assert_eq!(ctl_with_input(&world, &["put", "a.b", "k"], b"line\n").code, 0);
    assert_eq!(ctl(&world, &["get", "a.b", "k", "--raw"]).stdout, "line\n");
    assert_eq!(ctl(&world, &["put", "a.b", "00ff", "1b5b", "--hex"]).code, 0);
    assert_eq!(ctl(&world, &["get", "a.b", "00ff", "--hex"]).stdout, "1b5b\n");
    let found = ctl(&world, &["--format", "json", "get", "a.b", "00ff", "--hex"]);
    let found = json(&found.stdout);
    assert_eq!(found["value"]["text"], "1b5b");
    assert_eq!(found["value"]["encoding"], "hex");
    let missing = ctl(&world, &["put", "a.b", "k", "--file", "/nowhere/at/all"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("/nowhere/at/all"), "{}", missing.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_streams_lines_and_stops_at_its_limit() {
    let world = World::on_tcp(1).await;
    for key in ["a", "b", "c"] {
        assert_eq!(ctl(&world, &["put", "a.b", key, "v", "--timestamp", "1"]).code, 0);
    }
    let all = ctl(&world, &["scan", "a.b", "--page-size", "2"]);
    assert_eq!(all.stdout, "a\t1\tv\nb\t1\tv\nc\t1\tv\n");
    let some = ctl(&world, &["scan", "a.b", "--limit", "2", "--keys"]);
    assert_eq!(some.stdout, "a\nb\n");
    assert!(some.stderr.contains("--limit 2 was reached"), "{}", some.stderr);
    let lines = ctl(&world, &["--format", "json", "scan", "a.b"]).stdout;
    let keys: Vec<Value> = lines.lines().map(|line| json(line)["key"]["text"].clone()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_what_where_and_whether_it_may_have_been_applied() {
    let world = World::on_tcp(1).await;
    world.answer(|_, _| unavailable());
    let put = ctl(&world, &["put", "a.b", "k", "v", "--level", "quorum"]);
    assert_eq!(put.code, 1);
    assert!(put.stderr.contains("QUORUM needs 2 replicas and 1 are alive"), "{}", put.stderr);
    assert!(put.stderr.contains(&world.addr(1).to_string()), "{}", put.stderr);
    let put = ctl(&world, &["--format", "json", "put", "a.b", "k", "v"]);
    let error = json(&put.stderr)["error"].clone();
    assert_eq!(error["kind"], "unavailable");
    assert_eq!(error["may_have_applied"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_the_cluster_and_hear_why_not() {
    let world = World::on_tcp(3).await;
    let status = ctl(&world, &["status"]);
    assert_eq!(status.code, 0);
    assert_eq!(status.stdout.matches("UN ").count(), 3, "{}", status.stdout);
    assert!(!status.stdout.contains('\x1b'), "no colours where nobody sees them");
    let status = json(&ctl(&world, &["--format", "json", "status"]).stdout);
    assert_eq!(status["members"].as_array().unwrap().len(), 3);
    let describe = ctl(&world, &["describe"]);
    assert!(describe.stdout.contains("keyspace shop (SimpleStrategy, 2 copies)"));
    let info = ctl(&world, &["info"]);
    assert_eq!(info.code, 1);
    assert!(info.stderr.contains("the mock node does not do that"), "{}", info.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbs_about_a_node_are_done_on_every_host_that_can() {
    let world = World::on_tcp(2).await;
    let (one, two) = (world.addr(1).to_string(), world.addr(2).to_string());
    let asked = run(vec!["--host", &one, "--host", &two, "flush"], b"");
    assert_eq!(asked.code, 1);
    assert!(asked.stderr.contains("2 of 2 hosts failed"), "{}", asked.stderr);
    assert!(asked.stderr.contains(&one) && asked.stderr.contains(&two), "{}", asked.stderr);
    // A host that is not there does not keep the schema from being read.
    let described = run(vec!["--host", "127.0.0.1:1", "--host", &two, "describe"], b"");
    assert_eq!(described.code, 0, "{}", described.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_about_messages_are_armed_listed_and_disarmed() {
    let world = World::on_tcp(1).await;
    let to = ["--verb", "READ_REPAIR", "--to", "127.0.0.2:7000", "--action", "drop", "--nth", "3"];
    let armed = ctl(&world, &[&["faults", "arm"], &to[..]].concat());
    assert_eq!((armed.code, armed.stderr.as_str()), (0, ""));
    let said =
        "armed: drop READ_REPAIR from any to 127.0.0.2:7000, at the send side, on number 3 only";
    assert!(armed.stdout.contains(said), "{}", armed.stdout);
    let late = ["--action", "delay", "--delay", "200ms", "--every", "2", "--side", "receive"];
    assert_eq!(ctl(&world, &[&["faults", "arm"], &late[..]].concat()).code, 0);
    let rules = world.rules.lock().unwrap().clone();
    let drop = v1::FilterRule {
        verb: "READ_REPAIR".into(),
        to: "127.0.0.2:7000".into(),
        nth: Some(v1::filter_rule::Nth::Only(3)),
        action: v1::FilterAction::Drop.into(),
        ..Default::default()
    };
    let delay = v1::FilterRule {
        side: v1::FilterSide::Receive.into(),
        nth: Some(v1::filter_rule::Nth::EveryMultipleOf(2)),
        action: v1::FilterAction::Delay.into(),
        delay_ms: 200,
        ..Default::default()
    };
    assert_eq!(rules, [drop, delay], "the second stands beside the first");
    let listed = ctl(&world, &["faults", "list"]);
    for words in ["number 3 only", "delay 200 ms", "every multiple of 2", "matched"] {
        assert!(listed.stdout.contains(words), "{words}: {}", listed.stdout);
    }
    let listed = json(&ctl(&world, &["--format", "json", "faults", "list"]).stdout);
    let rule = &listed[0]["rules"][1];
    assert_eq!((&rule["delay_ms"], &rule["matched"]), (&200.into(), &7.into()), "{listed}");
    assert_eq!(listed[0]["rules"][0]["to"], "127.0.0.2:7000");
    let only = ["faults", "arm", "--action", "duplicate", "--from-nth", "5", "--only"];
    assert_eq!(ctl(&world, &only).code, 0);
    assert_eq!(world.rules.lock().unwrap().len(), 1);
    assert_eq!(ctl(&world, &["faults", "disarm"]).code, 0);
    assert!(world.rules.lock().unwrap().is_empty());
    assert!(ctl(&world, &["faults", "list"]).stdout.contains("no rule is armed"));
}

#[test]
fn nobody_there_is_said_with_where_and_what_to_do() {
    let host = "127.0.0.1:1";
    for args in [&["status"][..], &["put", "a.b", "k", "v"], &["bench"], &["flush"]] {
        let ran = run([&["--host", host], args].concat(), b"");
        assert_eq!(ran.code, 1, "{args:?}");
        assert!(ran.stderr.contains(host), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("helenus dev"), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_exit_code_2() {
    for args in [
        &["put", "nodot", "k", "v"][..],
        &["put", "a.b", "k", "v", "--level", "most"],
        &["put", "a.b", "k", "v", "--ttl", "soon"],
        &["get", "a.b", "0g", "--hex"],
        &["get"],
        &["dance"],
        &["create-keyspace", "x"],
        &["create-keyspace", "x", "--rf", "0"],
        &["create-keyspace", "x", "--rf", "3", "--dc", "dc1=3"],
        &["create-keyspace", "x", "--dc", "dc1=1", "--dc", "dc1=2"],
        &["truncatehints"],
        &["faults"],
        &["faults", "arm"],
        &["faults", "arm", "--action", "delay"],
        &["faults", "arm", "--action", "drop", "--delay", "1s"],
        &["faults", "arm", "--action", "drop", "--nth", "0"],
        &["faults", "arm", "--action", "drop", "--nth", "1", "--every", "2"],
        &["truncatehints", "--all", "10.0.0.1:7000"],
        &["setcompactionthroughput", "fast"],
        &["clearsnapshot"],
        &["clearsnapshot", "--tag", "a", "--all"],
        &["scan", "a.b", "--local"],
        &["bench", "--read-share", "2"],
        &["bench", "--rate", "0"],
        &["bench", "--keys", "0"],
        &["bench", "--ops", "5", "--duration", "1s"],
        &["bench", "--protocol", "thrift"],
        &["bench", "--protocol", "grpc,cql", "--retry"],
        &["--host", "127.0.0.1:port", "status"],
    ] {
        let ran = run(args.to_vec(), b"");
        assert_eq!(ran.code, 2, "{args:?}: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_counts_what_it_did() {
    let world = World::on_tcp(3).await;
    let ran = ctl(
        &world,
        &[
            "--format",
            "json",
            "bench",
            "shop.orders",
            "--ops",
            "300",
            "--warm-up",
            "0s",
            "--in-flight",
            "8",
            "--read-share",
            "0.5",
            "--keys",
            "50",
            "--load",
        ],
    );
    let report = json(&ran.stdout);
    assert_eq!((ran.code, &report["ops"], &report["absent"]), (0, &300.into(), &0.into()));
    let done = |kind: &str| report[kind]["ops"].as_u64().unwrap();
    assert_eq!(done("read") + done("write"), 300);
    assert!(done("read") > 100 && done("write") > 100, "{report}");
    assert_eq!(world.asked().len(), 350, "50 keys were loaded first");
    assert!(report["write"]["p50_us"].as_f64() <= report["write"]["max_us"].as_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_counted_by_kind_and_the_first_is_shown() {
    let world = World::on_tcp(1).await;
    world.answer(|_, _| unavailable());
    let bench = ["bench", "shop.orders", "--ops", "20", "--warm-up", "0s"];
    let ran = ctl(&world, &[&["--format", "json"], &bench[..]].concat());
    let report = json(&ran.stdout);
    assert_eq!((ran.code, &report["errors"]["unavailable"]["count"]), (1, &20.into()));
    let ran = ctl(&world, &bench);
    assert!(ran.stdout.contains("20 errors: unavailable (the first: "), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_is_felt_by_everything_that_fell_due_in_it() {
    // One answer takes 400 ms and only one operation may be under way. Measured from the send, one operation in 200
    // would be slow; measured from when they were due, those of two fifths of a second are.
    let world = World::on_tcp(1).await;
    let calls = AtomicUsize::new(0);
    world.answer(move |_, _| {
        if calls.fetch_add(1, Ordering::SeqCst) == 50 {
            std::thread::sleep(Duration::from_millis(400));
        }
        mock::written(1)
    });
    let ran = ctl(
        &world,
        &[
            "--format",
            "json",
            "bench",
            "shop.orders",
            "--rate",
            "200",
            "--in-flight",
            "1",
            "--ops",
            "200",
            "--warm-up",
            "0s",
        ],
    );
    let report = json(&ran.stdout);
    assert_eq!((ran.code, &report["ops"]), (0, &200.into()), "{report}");
    let p95_us = report["write"]["p95_us"].as_f64().unwrap();
    assert!(p95_us > 200_000.0, "{p95_us} us: the stall was left out");
}
