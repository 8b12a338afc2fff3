//! CQL beside gRPC: the same QUORUM writes and reads of 100 bytes, by three nodes of this machine that all have a copy,
//! with 1, 64 and 512 in flight. The two protocols take turns within each run of `helenusctl bench`.
//!
//! `cargo bench -p helenus-tests --bench protocols [-- SECONDS]`, the seconds being those of each protocol in each row.
//! Goal: CQL takes at most 1.3 times the CPU of gRPC per operation, nodes and client together.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use helenus_tests::{Cluster, KEYSPACE, TABLE, binary};
use serde_json::Value;
use tokio::process::Command;

const IN_FLIGHT: [u32; 3] = [1, 64, 512];
const SECONDS_DEFAULT: u64 = 10;
/// All of them written before reads are measured.
const KEYS: u32 = 100_000;
const CPU_RATIO_GOAL: f64 = 1.3;

fn main() {
    // `cargo test --benches` passes a flag of a harness that this is not.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system gives a runtime");
    runtime.block_on(compare(seconds.unwrap_or(SECONDS_DEFAULT)));
}

async fn compare(seconds: u64) {
    let mut cluster = Cluster::start_cql(3).await;
    cluster.create(3).await;
    println!("QUORUM of three nodes with a copy each, 100 B, {seconds} s a row");
    println!(
        "{:<6} {:>9} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10} {:>7} {:>7}",
        "",
        "in flight",
        "protocol",
        "ops/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "CPU us/op",
        "errors",
        "ratio"
    );
    for kind in ["write", "read"] {
        let mut loads = kind == "read";
        for in_flight in IN_FLIGHT {
            let report = bench(&cluster, seconds, kind, in_flight, loads).await;
            show(kind, in_flight, &report);
            loads = false;
        }
    }
    cluster.kill_all().await;
}

/// One run of the tool that operators have, and its report.
async fn bench(cluster: &Cluster, seconds: u64, kind: &str, in_flight: u32, loads: bool) -> Value {
    let read_share = if kind == "read" { "1" } else { "0" };
    let pids: Vec<String> = cluster.pids().iter().map(u32::to_string).collect();
    let mut command = Command::new(binary("helenusctl"));
    command.args(["--format", "json", "--host", &cluster.rpc(0).to_string(), "bench"]);
    command.args([&format!("{KEYSPACE}.{TABLE}"), "--protocol", "grpc,cql"]);
    command.args(["--native-transport-port", &cluster.native(0).port().to_string()]);
    command.args(["--read-share", read_share, "--in-flight", &in_flight.to_string()]);
    command.args(["--duration", &format!("{seconds}s"), "--keys", &KEYS.to_string()]);
    command.args(["--pid", &pids.join(",")]);
    if loads {
        command.arg("--load");
    }
    let done = command.kill_on_drop(true).output().await.expect("helenusctl can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    serde_json::from_slice(&done.stdout).expect("helenusctl prints JSON when it is told to")
}

fn show(kind: &str, in_flight: u32, report: &Value) {
    let figure = |value: Option<&Value>| value.and_then(Value::as_f64).unwrap_or(f64::NAN);
    let runs = report.get("runs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for run in runs {
        let latency = |name: &str| figure(run.get(kind).and_then(|latency| latency.get(name)));
        let protocol = run.get("protocol").and_then(Value::as_str).unwrap_or_default();
        let cpu = figure(run.get("cpu").and_then(|cpu| cpu.get("total_us_per_op")));
        let errors = run.get("errors").and_then(Value::as_object);
        let errors: u64 = errors.map_or(0, |errors| {
            errors.values().filter_map(|kind| kind.get("count")?.as_u64()).sum()
        });
        let ratio = match protocol {
            "cql" => figure(report.pointer("/ratios/0/cpu_us_per_op")),
            _ => 1.0,
        };
        let missed = if ratio > CPU_RATIO_GOAL { " above the goal" } else { "" };
        println!(
            "{kind:<6} {in_flight:>9} {protocol:>9} {:>10.0} {:>10.0} {:>10.0} {:>10.0} {cpu:>10.1} {errors:>7} {ratio:>7.2}{missed}",
            latency("ops_per_s"),
            latency("p50_us"),
            latency("p99_us"),
            latency("p999_us"),
        );
    }
}
