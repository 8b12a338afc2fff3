//! How operators heal what an outage left behind: they wait for the hints, replay dead letters, and repair.

use super::Shared;
use crate::ledger::{NodeIndex, Repair};
use helenus_client::{Admin, AdminError, v1};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a repair is asked how far it is. Its own clock says when it ended.
const LOOK: Duration = Duration::from_secs(1);
/// One call waits at most so long; then it is made again.
const WAIT: Duration = Duration::from_secs(5);
/// More failures of one repair are not kept.
const FAILURES_MAX: usize = 3;

/// Runs a repair of the orders' table on one node to its end, and notes it.
pub(super) async fn repair(
    shared: &Shared,
    admin: &Admin,
    node: NodeIndex,
    from_ledger: bool,
) -> Result<(), AdminError> {
    let began = shared.now();
    let keyspace = shared.setup.keyspace.clone();
    let request = v1::StartRepairRequest { keyspace, from_ledger, ..Default::default() };
    let mut report = admin.start_repair(request).await?;
    while report.ended_us == 0 {
        tokio::time::sleep(LOOK).await;
        report = admin.repair_status(report.id).await?;
    }
    let took = u64::try_from(report.ended_us - report.started_us).unwrap_or(0);
    let of = |count: fn(&v1::RepairedTable) -> u64| report.tables.iter().map(count).sum::<u64>();
    let failures = report.failures.iter().map(|failure| failure.reason.clone());
    let repair = Repair {
        began,
        ended: began + Duration::from_micros(took),
        node,
        from_ledger,
        outcome: report.outcome.clone(),
        differing: of(|table| table.differing),
        partitions_sent: of(|table| table.partitions_sent),
        bytes_sent: of(|table| table.bytes_sent),
        failures: failures.take(FAILURES_MAX).collect(),
    };
    shared.recorder.trace("repair", &repair);
    shared.recorder.ledger(|ledger| ledger.repairs.push(repair));
    Ok(())
}

/// Replays what a node keeps as dead letters, to their end or to what stops them.
pub(super) async fn replay_dead_letters(
    shared: &Shared,
    admin: &Admin,
    node: NodeIndex,
) -> Result<(), AdminError> {
    let slice_ms = u32::try_from(WAIT.as_millis()).unwrap_or(u32::MAX);
    loop {
        let said = admin.replay_dead_letters("", slice_ms).await?;
        for target in said.targets.iter().filter(|target| target.left > 0) {
            if target.stopped != "time_up" {
                let (left, why) = (target.left, &target.stopped);
                shared.complain(format!("node {node} keeps {left} dead letters: {why}"));
            }
        }
        if !said.targets.iter().any(|target| target.stopped == "time_up") {
            return Ok(());
        }
    }
}

/// Asks one node after the other, as `helenusctl hints await` does, until none owes the target what it owed it when it
/// was asked.
pub(super) async fn await_hints(shared: &Shared, target: NodeIndex, patience: Duration) {
    let ids: BTreeMap<NodeIndex, String> = shared
        .recorder
        .ledger(|ledger| ledger.ids.iter().map(|(id, index)| (*index, id.to_string())).collect());
    let Some(name) = ids.get(&target) else {
        return shared.complain(format!("hints for node {target}: it never said who it is"));
    };
    let deadline = shared.now() + patience;
    let wait_ms = u32::try_from(WAIT.as_millis()).unwrap_or(u32::MAX);
    for node in (0..shared.store.nodes()).filter(|node| *node != target) {
        let Some(admin) = shared.store.admin(node) else { continue };
        loop {
            match admin.await_hints(name, wait_ms).await {
                Ok(said) if said.pending == 0 => break,
                Ok(said) if shared.now() >= deadline => {
                    let pending = said.pending;
                    let text = format!("node {node} owes node {target} {pending} hints still");
                    return shared.complain(text);
                }
                Ok(_) => {}
                Err(error) => {
                    return shared.complain(format!("hints await on node {node}: {error}"));
                }
            }
        }
    }
}
