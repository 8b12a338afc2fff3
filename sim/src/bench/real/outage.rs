//! The outage, twice: healed by replay and then from the ledgers, and healed by a full repair while replay is paused.

use super::cluster::Cluster;
use super::load::{Load, Plan, Seen};
use crate::bench::measure::Measured;
use crate::bench::story::{KEEPERS, Story, TARGET};
use crate::oracle::percentile;
use crate::scenario::units::number;
use helenus_client::{AdminError, Level, Scan, v1};
use helenus_core::hint::Loss;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Before the kill.
const LEAD: Duration = Duration::from_secs(15);
/// Between two looks at the stores.
const LOOK: Duration = Duration::from_millis(100);
/// Orders acknowledged later than this before a comparison may still be on their way to the third replica.
const SETTLE: Duration = Duration::from_secs(3);
/// Orders a page when a replica is read.
const PAGE: u32 = 1000;

/// What the keepers say of the target's hints, together.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    hints: u64,
    bytes: u64,
    created: u64,
    delivered: u64,
    /// Stores that have no room for one more hint.
    full: usize,
}

/// What the first part of an outage has shown.
struct Away {
    cut: Duration,
    heal: Duration,
    full: Option<Duration>,
    fill: Vec<(f64, f64)>,
    at_heal: Kept,
}

/// What one repair of one node was.
struct Repaired {
    seconds: f64,
    bytes: u64,
    fault: Option<String>,
}

fn refused(error: AdminError) -> String {
    error.to_string()
}

/// Both outages.
pub(super) async fn both(
    cluster: &mut Cluster,
    story: &Story,
    tell: &mut dyn FnMut(&str),
) -> Result<Measured, String> {
    let mut measured = Measured::default();
    by_replay(cluster, story, tell, &mut measured).await?;
    by_repair(cluster, story, tell, &mut measured).await?;
    Ok(measured)
}

async fn plan(cluster: &Cluster, story: &Story, prefix: &'static str) -> Result<Plan, String> {
    Ok(Plan {
        table: cluster.table().await?,
        nodes: cluster.rpc(),
        value: usize::try_from(story.point.value).unwrap_or(usize::MAX),
        rate: story.point.rate.per_second,
        look_back: story.look_back(),
        seed: story.seed,
        prefix,
    })
}

async fn by_replay(
    cluster: &mut Cluster,
    story: &Story,
    tell: &mut dyn FnMut(&str),
    measured: &mut Measured,
) -> Result<(), String> {
    // As long as a simulated order's, so that hints are as large.
    let plan = plan(cluster, story, "first").await?;
    let load = plan.clone().begin();
    let away = away(cluster, story, &load, tell).await?;
    tell("the node is back: hints are replayed");
    let patience = load.began.elapsed() + story.healing().mul_f64(2.0) + SETTLE * 10;
    let (replay_end, after) = loop {
        let kept = kept(cluster, story).await?;
        let now = load.began.elapsed();
        let at = now.saturating_sub(away.cut).as_secs_f64();
        measured.fill.push((at, number(kept.bytes)));
        if kept.hints == 0 {
            break (now, kept);
        }
        if now > patience {
            return Err(format!("{} hints were not delivered in time", kept.hints));
        }
        tokio::time::sleep(LOOK).await;
    };
    let since = |at: Duration, from: Duration| at.saturating_sub(from).as_secs_f64();
    let fill = away.fill.iter().copied().chain(std::mem::take(&mut measured.fill));
    measured.fill = fill.collect();
    measured.full_after = away.full.map(|at| since(at, away.cut));
    measured.owed = number(after.created);
    measured.kept = number(after.delivered);
    measured.record =
        (away.at_heal.hints > 0).then(|| number(away.at_heal.bytes) / number(away.at_heal.hints));
    measured.replay = (after.delivered > 0).then(|| since(replay_end, away.heal));
    measured.lost_by = losses(cluster).await?;
    {
        let seen = load.seen.borrow();
        measured.held_back = held_back(&seen, &away);
        measured.stale[0] = stale(&seen, away.heal, replay_end);
        let during = (away.heal, replay_end);
        measured.write_p99 = [(Duration::ZERO, away.cut), during].map(|span| writes(&seen, span));
        measured.read_p99 = [(Duration::ZERO, away.heal), during].map(|span| reads(&seen, span));
    }
    measured.missing[0] = Some(missing(&plan, &load).await?);
    tell("the loss ledgers are repaired");
    let mut seconds = 0.0;
    for nth in 0..cluster.admins.len() {
        let repaired = repair(cluster, nth, true).await?;
        seconds += repaired.seconds;
        measured.ledger_bytes += number(repaired.bytes);
        measured.faults.extend(repaired.fault);
    }
    measured.ledger_repair = Some(seconds).filter(|_| measured.faults.is_empty());
    measured.missing[1] = Some(missing(&plan, &load).await?);
    complain_of_left_out(&load, measured);
    Ok(())
}

async fn by_repair(
    cluster: &mut Cluster,
    story: &Story,
    tell: &mut dyn FnMut(&str),
    measured: &mut Measured,
) -> Result<(), String> {
    for nth in KEEPERS {
        if let Some(admin) = cluster.admins.get(nth) {
            admin.pause_handoff().await.map_err(refused)?;
        }
    }
    let plan = plan(cluster, story, "again").await?;
    let load = plan.clone().begin();
    let away = away(cluster, story, &load, tell).await?;
    tokio::time::sleep(story.ready()).await;
    tell("the node is back: everything is repaired, without a replay");
    let repaired = repair(cluster, *KEEPERS.start(), false).await?;
    let ended = load.began.elapsed();
    let took = ended.saturating_sub(away.heal).as_secs_f64();
    measured.full_repair = Some(took).filter(|_| repaired.fault.is_none());
    measured.faults.extend(repaired.fault);
    measured.stale[1] = stale(&load.seen.borrow(), away.heal, ended);
    measured.missing_after_full = Some(missing(&plan, &load).await?);
    complain_of_left_out(&load, measured);
    Ok(())
}

fn complain_of_left_out(load: &Load, measured: &mut Measured) {
    let left_out = load.seen.borrow().left_out;
    if left_out > 0 {
        measured.faults.push(format!("{left_out} writes were left out: too many were under way"));
    }
}

/// Kills the target, watches the stores while it is away, and starts it again.
async fn away(
    cluster: &mut Cluster,
    story: &Story,
    load: &Load,
    tell: &mut dyn FnMut(&str),
) -> Result<Away, String> {
    tokio::time::sleep(LEAD).await;
    tell("one node is killed");
    cluster.kill(TARGET)?;
    let cut = load.began.elapsed();
    let (mut fill, mut full) = (Vec::new(), None);
    while load.began.elapsed() < cut + story.point.outage {
        let kept = kept(cluster, story).await?;
        let now = load.began.elapsed();
        fill.push((now.saturating_sub(cut).as_secs_f64(), number(kept.bytes)));
        if kept.full == KEEPERS.count() {
            full.get_or_insert(now);
        }
        tokio::time::sleep(LOOK).await;
    }
    let at_heal = kept(cluster, story).await?;
    cluster.start_node(TARGET).await?;
    let heal = load.began.elapsed();
    cluster.all_see(cluster.admins.len()).await?;
    Ok(Away { cut, heal, full, fill, at_heal })
}

/// The rack of the target, by which its hints are told from others'.
fn is_target(pending: &v1::PendingHints) -> bool {
    pending.rack == format!("rack{TARGET}")
}

async fn kept(cluster: &Cluster, story: &Story) -> Result<Kept, String> {
    let mut all = Kept::default();
    for admin in KEEPERS.filter_map(|nth| cluster.admins.get(nth)) {
        let said = admin.list_pending_hints().await.map_err(refused)?;
        let full = number(said.bytes) + 1.5 * story.terms.record > number(said.max_bytes);
        all.full += usize::from(full);
        for pending in said.targets.iter().filter(|pending| is_target(pending)) {
            let outcomes = pending.outcomes.unwrap_or_default();
            all.hints += pending.hints;
            all.bytes += pending.bytes;
            all.created += outcomes.created;
            all.delivered += outcomes.delivered;
        }
    }
    Ok(all)
}

/// What the keepers' ledgers say.
async fn losses(cluster: &Cluster) -> Result<BTreeMap<&'static str, f64>, String> {
    let mut lost = BTreeMap::new();
    for admin in KEEPERS.filter_map(|nth| cluster.admins.get(nth)) {
        let said = admin.hint_ledger("").await.map_err(refused)?;
        for row in &said.rows {
            let Some(reason) = Loss::parse(&row.reason) else { continue };
            let hints: u64 = row.ranges.iter().map(|range| range.count).sum();
            *lost.entry(reason.as_str()).or_default() += number(hints);
        }
    }
    Ok(lost)
}

async fn repair(cluster: &Cluster, nth: usize, from_ledger: bool) -> Result<Repaired, String> {
    let admin = cluster.admins.get(nth).ok_or("there is no such node")?;
    let keyspace = cluster.keyspace();
    let request = v1::StartRepairRequest { keyspace, from_ledger, ..Default::default() };
    let mut report = admin.start_repair(request).await.map_err(refused)?;
    while report.ended_us == 0 {
        tokio::time::sleep(LOOK).await;
        report = admin.repair_status(report.id).await.map_err(refused)?;
    }
    let took = u64::try_from(report.ended_us - report.started_us).unwrap_or(0);
    let why = report.failures.first().map_or("", |failure| failure.reason.as_str());
    let well = report.outcome == "completed";
    Ok(Repaired {
        seconds: Duration::from_micros(took).as_secs_f64(),
        bytes: report.tables.iter().map(|table| table.bytes_sent).sum(),
        fault: (!well).then(|| format!("a repair on node {nth} {}: {why}", report.outcome)),
    })
}

/// The acknowledged orders that the target itself does not hold.
async fn missing(plan: &Plan, load: &Load) -> Result<f64, String> {
    let before = load.began.elapsed().saturating_sub(SETTLE);
    let mut owed: BTreeSet<String> = {
        let seen = load.seen.borrow();
        let orders = seen.orders.iter().enumerate();
        let acked = orders.filter(|(_, order)| order.acked.is_some_and(|(at, _)| at <= before));
        acked.map(|(nth, _)| plan.key(nth)).collect()
    };
    let options = plan.through(TARGET, Level::One);
    let mut scan = Scan { limit: PAGE, from: None, node_local: true };
    loop {
        let page = plan.table.scan_with(&scan, &options).await;
        let page = page.map_err(|error| format!("the node that was away is not read: {error}"))?;
        for entry in &page.entries {
            owed.remove(&*String::from_utf8_lossy(&entry.key));
        }
        match page.next {
            Some(next) => scan.from = Some(next),
            None => return Ok(number(owed.len() as u64)),
        }
    }
}

fn held_back(seen: &Seen, away: &Away) -> f64 {
    let during = seen.orders.iter().filter(|o| away.cut <= o.placed && o.placed < away.heal);
    let late = during.filter(|order| order.acked.is_none_or(|(at, _)| at >= away.heal));
    number(late.count() as u64)
}

fn stale(seen: &Seen, from: Duration, to: Duration) -> f64 {
    let looks = seen.looks.iter().filter(|look| from <= look.ended && look.ended < to);
    number(looks.filter(|look| look.stale).count() as u64)
}

fn writes(seen: &Seen, (from, to): (Duration, Duration)) -> Option<f64> {
    let acked = seen.orders.iter().filter_map(|order| order.acked);
    let took = acked.filter(|(at, _)| from <= *at && *at < to).map(|(_, took)| took.as_secs_f64());
    percentile(took.collect(), 0.99)
}

fn reads(seen: &Seen, (from, to): (Duration, Duration)) -> Option<f64> {
    let looks = seen.looks.iter().filter(|look| from <= look.ended && look.ended < to);
    percentile(looks.map(|look| look.took.as_secs_f64()).collect(), 0.99)
}
