//! The flagship, told in 19 minutes instead of 80: the same file with its times moved together. The cut lasts five
//! minutes, which is four fills of the hint stores.

#![allow(clippy::unwrap_used, reason = "a test may")]

use helenus_sim::lab::{self, Run, Settings};
use helenus_sim::scenario::{LIBRARY, Scenario};
use std::rc::Rc;

/// (the flagship's time, the short one's).
const TIMES: [(&str, &str); 12] = [
    ("14:00", "14:14"),
    ("14:27", "14:22"),
    ("14:30", "14:22:30"),
    ("14:34", "14:23"),
    ("14:35", "14:24"),
    ("14:45", "14:25"),
    ("14:46", "14:25:10"),
    ("14:50", "14:26"),
    ("15:00", "14:31"),
    ("15:07", "14:32"),
    ("15:32", "14:33"),
    ("10ms", "20ms"),
];

/// What only the long story tells, from here to the next block: the repairs, and what they are expected to do.
const LONG: [&str; 5] = [
    "[[at]]\nt = \"15:08\"",
    "[[at]]\nt = \"15:29\"",
    "[[expect]]\nid = \"ledger-heals\"",
    "[[expect]]\nid = \"ledger-streams-what-was-lost\"",
    "[[expect]]\nid = \"nothing-left-to-repair\"",
];

/// The short story's text.
pub(crate) fn short() -> String {
    let mut text = LIBRARY[0].text.to_owned();
    for block in LONG {
        let start = text.find(block).unwrap_or_else(|| panic!("{block} is in the flagship"));
        let end = text[start..].find("\n\n[[").map_or(text.len(), |end| start + end + 2);
        text.replace_range(start..end, "");
    }
    // In two rounds, because some times stand on both sides.
    for (nth, (from, _)) in TIMES.iter().enumerate() {
        assert!(text.contains(from), "{from} is in the flagship");
        text = text.replace(from, &format!("<{nth}>"));
    }
    for (nth, (_, to)) in TIMES.iter().enumerate() {
        text = text.replace(&format!("<{nth}>"), to);
    }
    text
}

/// The short story with something changed.
#[allow(dead_code, reason = "not every test changes something")]
pub(crate) fn short_with(from: &str, to: &str) -> String {
    let text = short();
    assert!(text.contains(from), "{from} is in the scenario");
    text.replacen(from, to, 1)
}

/// The hot shard's first twenty minutes: sharded keys, a slow disk, starved and paused compaction.
#[allow(dead_code, reason = "only the replay tells it")]
pub(crate) fn short_hot() -> String {
    let text = LIBRARY.iter().find(|e| e.id == "hot-partition").unwrap().text;
    let until = text.find("[[at]]\nid = \"resume\"").unwrap();
    let text = text[..until].replacen("end = \"15:05\"", "end = \"14:20\"", 1);
    let text = text.replacen("start = \"13:55\"", "start = \"14:10\"", 1);
    // What is expected does not matter; that nodes are asked about their tables does.
    text + "[[expect]]\nid = \"reads\"\nthat = \"storage.read_amplification{node=a1} > 0\"\nbecause = \"some read\"\n"
}

/// Runs it on real nodes.
#[allow(dead_code, reason = "not every test runs in its own process")]
pub(crate) fn run(text: &str) -> Run {
    let scenario = Scenario::parse("short.toml", text).unwrap();
    let software: helenus_sim::world::Software =
        Rc::new(|parts| Box::pin(helenus_node::run(parts, std::future::pending())));
    let settings = Settings { seed: scenario.seed, software, trace: None };
    lab::run(&scenario, settings, &mut |_| {}).unwrap()
}
