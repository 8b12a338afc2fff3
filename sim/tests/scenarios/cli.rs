//! What a person who types something wrong is told: where, what, and an exit code of 2.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::process::{Command, Output};

fn lab(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_helenus-lab")).args(args).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_library_lists_and_checks_itself() {
    let list = lab(&["list"]);
    assert_eq!(list.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&list.stdout).contains("az-partition"));
    let check =
        lab(&["check", concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/az-partition.toml")]);
    assert_eq!(check.status.code(), Some(0), "{}", told(&check));
}

#[test]
fn a_wrong_word_is_told_with_file_line_column_and_the_nearest_word() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, "format = 1\nid = \"x\"\nsede = 5\n").unwrap();
    let file = file.to_str().unwrap();
    for verb in ["check", "run"] {
        let output = lab(&[verb, file]);
        assert_eq!(output.status.code(), Some(2));
        let told = told(&output);
        assert!(told.contains(&format!("{file}:3:1: unknown key")), "{told}");
        assert!(told.contains("did you mean `seed`?"), "{told}");
    }
}

#[test]
fn a_scenario_that_is_not_there_is_told_with_those_that_are() {
    let output = lab(&["run", "az-partitoin"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("az-partition"), "{}", told(&output));
}

#[test]
fn wrong_flags_and_unwritable_reports_end_before_anything_runs() {
    assert_eq!(lab(&["run", "--scale", "0"]).status.code(), Some(2));
    let output = lab(&["run", "--json", "/nowhere/at/all.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("/nowhere/at/all.json"));
}

#[test]
fn a_sweep_that_cannot_be_is_refused_before_anything_runs() {
    for (args, part) in [
        (&["--cap", "500Mb"][..], "--cap: unknown unit `Mb`; did you mean `MB`?"),
        (&["--policy", "drop"], "known: drop-newest"),
        (&["--outage", "4h"], "the hint window"),
        (&["--throttle", "0B/s"], "never ends"),
        (&["--preset", "white-friday"], "black-friday"),
        (&["--preset", "limits", "--cap", "1MB"], "cannot be used with"),
        (&["--out", "/dev/null/dir"], "/dev/null/dir"),
        (&["--cap", "1TiB", "--rate", "100000/s", "--throttle", "1KiB/s"], "raise --throttle"),
        (&["--cap", "100kB", "--rate", "10000/s", "--value", "1KB"], "10 are the least"),
        (&["--cap", "1MB", "--value", "1MB"], "fewer than 10 hints"),
        (&["--cap", "1MB,".repeat(257).trim_end_matches(',')], "256 are the most"),
    ] {
        let output = lab(&[&["bench", "hints"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(told(&output).contains(part), "{args:?}: {}", told(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    let help = lab(&["bench", "hints", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--preset black-friday"));
}
