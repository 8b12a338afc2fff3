//! Operators and observers: nodetool's verbs through the admin door, samples of every node's hints, and what replicas
//! hold when they are compared.

use super::{Shared, healing};
use crate::ledger::{
    Audit, Comparison, HintOutcomes, NodeIndex, NodeSample, NodeTable, OrderId, Sample, TableSample,
};
use crate::scenario::Verb;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use helenus_client::{Admin, AdminError, TableFilter, v1};
use helenus_core::{Level, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Writes under way at the end have this long to arrive before replicas are compared for the last time.
const SETTLE: Duration = Duration::from_secs(15);
/// Final reads at a time. At a scale of 100 each stands for 100: more would be an overload of its own.
const AUDIT_AT_ONCE: usize = 4;
/// How often a final read that is refused is tried again: what is lost is what can not be read, not what was busy.
const AUDIT_TRIES: usize = 3;
/// Between two tries.
const AUDIT_PAUSE: Duration = Duration::from_secs(1);

/// What an operator is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A verb, on nodes.
    Nodetool(Verb, Vec<NodeIndex>),
    /// Read what every replica holds.
    Compare,
    /// Wait until every node owes this one no hint that it owed it before, at most so long (`hints await`).
    AwaitHints(NodeIndex, Duration),
    /// The run is over: compare, read every acknowledged order that a replica lacks at QUORUM, compare again.
    Finish,
}

/// Does what it is told, in order, until it is told to finish.
pub(super) async fn obey(
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
    obeyed: watch::Sender<usize>,
) {
    while let Some(command) = commands.recv().await {
        shared.recorder.trace("operator", &command);
        match command {
            Command::Nodetool(verb, nodes) => {
                if verb == Verb::ReplayDeadLetters {
                    // Each at its own throttle: side by side, as `helenusctl` asks them.
                    join_all(nodes.into_iter().map(|node| run_verb(&shared, verb, node))).await;
                } else {
                    for node in nodes {
                        run_verb(&shared, verb, node).await;
                    }
                }
            }
            Command::Compare => {
                let seen = compare(&shared).await;
                shared.recorder.ledger(|ledger| ledger.comparisons.push(seen));
            }
            Command::AwaitHints(target, patience) => {
                healing::await_hints(&shared, target, patience).await;
            }
            Command::Finish => return finish(&shared).await,
        }
        obeyed.send_modify(|commands| *commands += 1);
    }
}

async fn run_verb(shared: &Shared, verb: Verb, node: NodeIndex) {
    let Some(admin) = shared.store.admin(node) else { return };
    let all = TableFilter::default;
    let done: Result<(), AdminError> = match verb {
        Verb::PauseHandoff => admin.pause_handoff().await.map(drop),
        Verb::ResumeHandoff => admin.resume_handoff().await.map(drop),
        Verb::TruncateHints => admin.truncate_hints("").await.map(drop),
        Verb::Flush => admin.flush(all()).await.map(drop),
        Verb::Compact => admin.compact(all()).await.map(drop),
        Verb::EnableAutoCompaction => admin.enable_auto_compaction(all()).await.map(drop),
        Verb::DisableAutoCompaction => admin.disable_auto_compaction(all()).await.map(drop),
        Verb::SetCompactionThroughput(bytes_per_s) => {
            admin.set_compaction_throughput(bytes_per_s).await.map(drop)
        }
        Verb::Repair => healing::repair(shared, admin, node, false).await,
        Verb::RepairFromLedger => healing::repair(shared, admin, node, true).await,
        Verb::ReplayDeadLetters => healing::replay_dead_letters(shared, admin, node).await,
    };
    if let Err(error) = done {
        shared.complain(format!("{verb:?} on node {node}: {error}"));
    }
}

/// Asks every node what it owes, again and again.
pub(super) async fn sample(shared: Arc<Shared>) {
    let mut next = Duration::ZERO;
    loop {
        let now = shared.now();
        if now < next || now == Duration::ZERO {
            let wait = next.saturating_sub(now).max(Duration::from_millis(10));
            tokio::time::sleep(wait).await;
            continue;
        }
        let at = shared.now();
        let doors = (0..shared.store.nodes()).filter_map(|node| shared.store.admin(node));
        let nodes = join_all(doors.map(|admin| sample_node(&shared, admin))).await;
        shared.recorder.trace("sample", &nodes);
        shared.recorder.ledger(|ledger| ledger.samples.push(Sample { at, nodes }));
        if shared.setup.asks_tables {
            let doors = (0..shared.store.nodes()).filter_map(|node| shared.store.admin(node));
            let nodes = join_all(doors.map(|admin| sample_table(&shared, admin))).await;
            shared.recorder.trace("tables", &nodes);
            shared.recorder.ledger(|ledger| ledger.tables.push(TableSample { at, nodes }));
        }
        next += SAMPLE_EVERY;
    }
}

/// The orders' table on one node.
async fn sample_table(shared: &Shared, admin: &Admin) -> Option<NodeTable> {
    let (keyspace, table) = (shared.setup.keyspace.clone(), shared.setup.table.table.clone());
    let said = admin.table_stats(TableFilter { keyspace, table }).await.ok()?;
    said.tables.first().map(|table| NodeTable {
        sstables: table.sstables,
        pending_compactions: table.pending_compactions,
        reads: table.reads,
        sstables_read: table.sstables_read,
    })
}

async fn sample_node(shared: &Shared, admin: &Admin) -> Option<NodeSample> {
    let said = admin.list_pending_hints().await.ok()?;
    let mut by_target: BTreeMap<NodeIndex, (u64, u64)> = BTreeMap::new();
    let mut unaccounted_by_target = 0;
    for pending in &said.targets {
        let outcomes = pending.outcomes.as_ref().map(outcomes).unwrap_or_default();
        unaccounted_by_target += outcomes.unaccounted();
        let target = pending.node.parse::<NodeId>().ok();
        let target = target.and_then(|id| shared.recorder.ledger(|l| l.ids.get(&id).copied()));
        if let Some(target) = target {
            by_target.insert(target, (pending.hints, pending.bytes));
        }
    }
    Some(NodeSample {
        hint_bytes: said.bytes,
        hint_bytes_max: said.max_bytes,
        outcomes: said.outcomes.as_ref().map(outcomes).unwrap_or_default(),
        by_target,
        unaccounted_by_target,
    })
}

fn outcomes(said: &v1::HintOutcomes) -> HintOutcomes {
    HintOutcomes {
        created: said.created,
        delivered: said.delivered,
        redirected: said.redirected,
        expired: said.expired,
        refused: said.refused,
        evicted: said.evicted,
        dead_lettered: said.dead_lettered,
        lost: said.lost,
        pending: said.pending,
    }
}

async fn compare(shared: &Shared) -> Comparison {
    let began = shared.now();
    let nodes = (0..shared.store.nodes()).map(|node| shared.store.held_by(node));
    let held = join_all(nodes).await;
    let ended = shared.now();
    let counts: Vec<Option<usize>> = held.iter().map(|h| h.as_ref().map(|h| h.len())).collect();
    shared.recorder.trace("compare", &counts);
    Comparison { began, ended, held }
}

/// The last word: what replicas hold, what QUORUM can read, and what reading repaired.
async fn finish(shared: &Shared) {
    tokio::time::sleep(SETTLE).await;
    let seen = compare(shared).await;
    let lacking = shared.recorder.ledger(|ledger| {
        let lacking = shared.places.missing(ledger, &seen, None);
        ledger.comparisons.push(seen);
        lacking
    });
    let mut audit = Audit::default();
    // A copy that a silent node may or may not hold cannot be audited: no audit is then the honest answer.
    let Some(lacking) = lacking else { return };
    let reads = stream::iter(lacking).map(|(order, node)| reread(shared, order, node));
    let mut reads = reads.buffer_unordered(AUDIT_AT_ONCE);
    while let Some((order, node, answered, lost)) = reads.next().await {
        if answered {
            audit.touched.insert((order, node));
        }
        if let Some(why) = lost {
            audit.lost.insert(order, why);
        }
    }
    tokio::time::sleep(SETTLE).await;
    audit.after = Some(compare(shared).await);
    shared.recorder.trace("audit", &(audit.touched.len(), &audit.lost));
    shared.recorder.ledger(|ledger| ledger.audit = Some(audit));
}

/// Reads an order at QUORUM through the very node that lacks it, which is then one of those that answer. Says whether
/// it was, and why the order is lost, if it is.
async fn reread(
    shared: &Shared,
    order: OrderId,
    node: NodeIndex,
) -> (OrderId, NodeIndex, bool, Option<String>) {
    let mut refused = String::new();
    for attempt in 0..AUDIT_TRIES {
        if attempt > 0 {
            tokio::time::sleep(AUDIT_PAUSE).await;
        }
        match shared.store.get(order, Level::Quorum, node).await {
            Ok(found) => {
                let lost = found.value.is_none();
                let why = lost.then(|| "the replicas that answered do not have it".to_owned());
                return (order, node, found.replicas.contains(&node), why);
            }
            Err(failed) => refused = failed.why,
        }
    }
    (order, node, false, Some(format!("refused {AUDIT_TRIES} times: {refused}")))
}
