//! The operator's pages say what the binaries do: no key and no metric is missing from them, and none is invented.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use helenus_tests::{Cluster, KEYSPACE, TABLE, binary, run};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src").join(name))
        .unwrap()
}

/// What the page's tables name in backquotes in their first column.
fn named(page: &str, is_one: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let first = rows.filter_map(|row| row.split(" | ").next());
    let words = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    words.filter(|word| is_one(word)).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_key_is_explained_and_no_other() {
    let printed = run(&binary("helenus"), ["--print-config"]).await.ok();
    let keys: BTreeSet<String> = printed
        .lines()
        .filter_map(|line| line.trim_start_matches("# ").split_once(" = "))
        .map(|(key, _)| key.to_owned())
        .filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(keys.len() > 30, "{keys:?}");
    assert_eq!(named(&page("configuration.md"), |_| true), keys);
}

#[tokio::test]
async fn every_metric_is_explained_and_no_other() {
    let cluster = Cluster::start(2).await;
    cluster.create(2).await;
    let client = cluster.client().await;
    client.table(KEYSPACE, TABLE).put("key", "value").await.unwrap();
    client.table(KEYSPACE, TABLE).get("key").await.unwrap();
    let mut shown = BTreeSet::new();
    for at in 0..cluster.len() {
        let page = cluster.spec(at).metrics_page().await;
        let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        shown.extend(names.map(str::to_owned));
    }
    assert_eq!(
        named(&page("metrics.md"), |word| word.starts_with("helenus_") && !is_sample(word)),
        shown
    );
}

/// The table of alarms speaks of samples, as one writes them in a query.
fn is_sample(word: &str) -> bool {
    word.ends_with("_total")
}

#[test]
fn every_alert_is_about_a_metric_that_there_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.yml");
    let rules = fs::read_to_string(file).unwrap();
    let explained = named(&page("metrics.md"), |word| word.starts_with("helenus_"));
    let words = rules.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("helenus_")).collect();
    assert!(asked.len() >= 6, "{asked:?}");
    for metric in asked {
        let name = metric.strip_suffix("_total").unwrap_or(metric);
        assert!(explained.contains(name), "{metric} is not in metrics.md");
    }
}
