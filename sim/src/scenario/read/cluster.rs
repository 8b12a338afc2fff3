//! `[cluster]`: data centres, racks, keyspaces and hints.

use crate::scenario::problem::{Collector, unknown};
use crate::scenario::section::{Section, as_section, whole};
use crate::scenario::units;
use crate::scenario::{Cluster, DiskSpeed, Hints, Keyspace};
use helenus_node::config::Overflow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// More nodes than this would be simulated for hours.
const NODES_MAX: usize = 100;

pub(super) fn read_cluster(
    mut section: Section<'_, '_>,
    problems: &mut Collector<'_>,
) -> Option<Cluster> {
    let dcs = section.section("dcs", problems);
    section.missing("dcs", "dcs = { us-east-1 = { a = 3, b = 3, c = 3 } }", problems);
    let dcs = read_dcs(dcs, problems);
    let keyspaces = section.section("keyspace", problems);
    section.missing("keyspace", "keyspace.orders = { rf = { us-east-1 = 3 } }", problems);
    let keyspaces = read_keyspaces(keyspaces, &dcs, problems);
    let hints = section.section("hints", problems).map(|s| read_hints(s, problems));
    let num_tokens = section.number("num_tokens", problems).map_or(4, |(n, span)| {
        if !(1..=256).contains(&n) {
            problems.add(&span, "`num_tokens` is between 1 and 256");
        }
        n.clamp(1, 256)
    });
    let memtable = section.parsed("memtable_heap_space", problems, units::bytes);
    let block_cache = section.parsed("block_cache_size", problems, units::bytes);
    let throughput = section.parsed("compaction_throughput", problems, units::throughput);
    let disk = section.section("disk", problems).map(|s| read_disk(s, problems));
    let write = section.parsed("write_request_timeout", problems, units::duration);
    let read = section.parsed("read_request_timeout", problems, units::duration);
    section.finish(problems);
    Some(Cluster {
        dcs,
        keyspaces,
        num_tokens,
        hints: hints.unwrap_or(Hints {
            cap: 1 << 30,
            overflow: Overflow::DropNewest,
            throttle: 1 << 20,
            window: Duration::from_secs(3 * 3600),
            dead_letters: 1 << 30,
            paused: false,
        }),
        memtable: memtable.map_or(64 << 20, |m| m.0),
        block_cache: block_cache.map(|b| b.0),
        compaction_throughput: throughput.map(|t| t.0),
        disk: disk.unwrap_or_default(),
        write_timeout: write.map_or(Duration::from_secs(2), |w| w.0),
        read_timeout: read.map_or(Duration::from_secs(5), |r| r.0),
    })
}

type Dcs = BTreeMap<String, BTreeMap<String, u64>>;

fn read_dcs(section: Option<Section<'_, '_>>, problems: &mut Collector<'_>) -> Dcs {
    let mut dcs = Dcs::new();
    let mut seen = BTreeSet::new();
    let mut nodes: u64 = 0;
    let Some(mut section) = section else { return dcs };
    for (dc, span, value) in section.named() {
        let Some(mut racks) = as_section(format!("the data centre `{dc}`"), value, span, problems)
        else {
            continue;
        };
        let mut counts = BTreeMap::new();
        for (rack, span, count) in racks.named() {
            match whole(count.get_ref()) {
                Some(count) if (1..=99).contains(&count) => {
                    nodes += count;
                    counts.insert(rack.to_owned(), count);
                }
                _ => problems.add(&count.span(), "a rack has 1 to 99 nodes"),
            }
            let plain = rack.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
            if rack.is_empty() || !plain {
                // Digits would make `a1` both a rack and a node.
                problems.add(&span, format!("the rack `{rack}` is named with letters only"));
            }
            if !seen.insert(rack.to_owned()) {
                problems
                    .add(&span, format!("two racks are called `{rack}`; nodes are named by them"));
            }
        }
        dcs.insert(dc.to_owned(), counts);
    }
    if nodes == 0 || nodes > NODES_MAX as u64 {
        problems.add(&section.span, format!("a cluster has 1 to {NODES_MAX} nodes, not {nodes}"));
    }
    dcs
}

fn read_keyspaces(
    section: Option<Section<'_, '_>>,
    dcs: &Dcs,
    problems: &mut Collector<'_>,
) -> BTreeMap<String, Keyspace> {
    let mut keyspaces = BTreeMap::new();
    let Some(mut section) = section else { return keyspaces };
    for (name, span, value) in section.named() {
        let what = format!("the keyspace `{name}`");
        let Some(mut keyspace) = as_section(what, value, span, problems) else { continue };
        let rf = keyspace.section("rf", problems);
        keyspace.missing("rf", "rf = { us-east-1 = 3 }", problems);
        let mut copies = BTreeMap::new();
        for (dc, span, count) in rf.map(|mut s| s.named()).unwrap_or_default() {
            let Some(racks) = dcs.get(dc) else {
                problems.add(&span, unknown("data centre", dc, dcs.keys().map(String::as_str)));
                continue;
            };
            let nodes: u64 = racks.values().sum();
            match whole(count.get_ref()) {
                Some(n) if (1..=nodes).contains(&n) => {
                    copies.insert(dc.to_owned(), n);
                }
                _ => problems.add(&count.span(), format!("`{dc}` holds 1 to {nodes} copies")),
            }
        }
        let table = keyspace.text("table", problems).map_or(name, |(t, _)| t).to_owned();
        let mut options = BTreeMap::new();
        if let Some((repair, span)) = keyspace.text("read_repair", problems) {
            if ["BLOCKING", "NONE"].contains(&repair) {
                options.insert("read_repair".to_owned(), repair.to_owned());
            } else {
                problems.add(&span, unknown("read repair", repair, ["BLOCKING", "NONE"]));
            }
        }
        if let Some((compaction, span)) = keyspace.text("compaction", problems) {
            if ["stcs", "lcs", "twcs"].contains(&compaction) {
                options.insert("compaction.class".to_owned(), compaction.to_owned());
            } else {
                let known = ["stcs", "lcs", "twcs"];
                problems.add(&span, unknown("compaction strategy", compaction, known));
            }
        }
        let chance = keyspace.text("bloom_filter_fp_chance", problems);
        if let Some((chance, span)) = chance {
            if chance.parse().is_ok_and(|c: f64| c > 0.0 && c <= 1.0) {
                options.insert("bloom_filter_fp_chance".to_owned(), chance.to_owned());
            } else {
                problems.add(&span, format!("`{chance}` is no chance: above 0 and at most 1"));
            }
        }
        let sstable_size = keyspace.parsed("sstable_size", problems, units::bytes).map(|s| s.0);
        if let Some((refused, span)) = keyspace.text("hint_refused", problems) {
            if ["WARN", "ERROR"].contains(&refused) {
                options.insert("hint_refused".to_owned(), refused.to_owned());
            } else {
                problems.add(&span, unknown("hint_refused", refused, ["WARN", "ERROR"]));
            }
        }
        let overflow = keyspace.parsed("hint_overflow", problems, overflow).map(|o| o.0);
        keyspace.finish(problems);
        let keyspace =
            Keyspace { rf: copies, table, options, sstable_size, hint_overflow: overflow };
        keyspaces.insert(name.to_owned(), keyspace);
    }
    keyspaces
}

fn read_disk(mut section: Section<'_, '_>, problems: &mut Collector<'_>) -> DiskSpeed {
    let latency = section.parsed("read_latency", problems, units::duration);
    let bandwidth = section.parsed("bandwidth", problems, units::byte_rate);
    section.finish(problems);
    DiskSpeed { read_latency: latency.map(|l| l.0), bandwidth: bandwidth.map(|b| b.0) }
}

fn overflow(text: &str) -> Result<Overflow, String> {
    let names = Overflow::NAMES.map(|(name, _)| name);
    Overflow::parse(text).ok_or_else(|| unknown("overflow policy", text, names))
}

fn read_hints(mut section: Section<'_, '_>, problems: &mut Collector<'_>) -> Hints {
    let cap = section.parsed("cap", problems, units::bytes);
    let dead_letters = section.parsed("dead_letters", problems, units::bytes);
    let overflow = section.parsed("overflow", problems, overflow);
    let throttle = section.parsed("throttle", problems, units::byte_rate);
    let window = section.parsed("window", problems, units::duration);
    let paused = section.flag("paused", problems);
    section.finish(problems);
    Hints {
        cap: cap.map_or(1 << 30, |c| c.0),
        overflow: overflow.map_or(Overflow::DropNewest, |o| o.0),
        throttle: throttle.map_or(1 << 20, |t| t.0),
        window: window.map_or(Duration::from_secs(3 * 3600), |w| w.0),
        dead_letters: dead_letters.map_or(1 << 30, |d| d.0),
        paused: paused.is_some_and(|p| p.0),
    }
}
