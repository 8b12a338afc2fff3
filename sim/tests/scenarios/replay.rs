//! The same seed twice, in two processes, is the same run to the last event; another seed is another run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

use crate::common;
use std::path::Path;
use std::process::Command;

/// A hash, and the file with every event.
fn replay(dir: &Path, text: &str, name: &str, seed: &str) -> (String, std::path::PathBuf) {
    let scenario = dir.join("short.toml");
    std::fs::write(&scenario, text).unwrap();
    let (json, trace) = (dir.join(format!("{name}.json")), dir.join(format!("{name}.trace")));
    let lab = Command::new(env!("CARGO_BIN_EXE_helenus-lab"))
        .arg("run")
        .arg(&scenario)
        .args(["--seed", seed, "--json"])
        .arg(&json)
        .arg("--trace")
        .arg(&trace)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&lab.stderr).into_owned();
    assert!(lab.status.code().is_some_and(|code| code < 2), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for field in ["verdict", "seed", "trace_hash", "expectations", "series", "hints"] {
        assert!(!report[field].is_null(), "{field} is in the report");
    }
    (report["trace_hash"].as_str().unwrap().to_owned(), trace)
}

/// The first line that differs, for whoever has to find out why.
fn first_difference(one: &Path, other: &Path) -> String {
    let (one, other) =
        (std::fs::read_to_string(one).unwrap(), std::fs::read_to_string(other).unwrap());
    let lines = one.lines().zip(other.lines()).enumerate();
    let differs = lines.into_iter().find(|(_, (a, b))| a != b);
    differs.map_or_else(
        || "one trace is the beginning of the other".to_owned(),
        |(nth, (a, b))| format!("event {nth}:\n{a}\n{b}"),
    )
}

fn repeats(text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (one, one_trace) = replay(dir.path(), text, "one", "205");
    let (two, two_trace) = replay(dir.path(), text, "two", "205");
    assert_eq!(one, two, "{}", first_difference(&one_trace, &two_trace));
    let (other, _) = replay(dir.path(), text, "other", "206");
    assert_ne!(one, other);
}

#[test]
fn the_same_seed_is_the_same_run() {
    repeats(&common::short());
}

#[test]
fn so_it_is_where_reads_take_time_and_compaction_is_held_back() {
    repeats(&common::short_hot());
}
