//! Leaving the ring, over the wire.

use super::admin::Answer;
use crate::decommission::{Decommission, Leave};
use helenus_proto::v1;
use std::sync::Arc;
use tonic::{Response, Status};

pub(super) fn start(
    decommission: &Arc<Decommission>,
    force: bool,
) -> Answer<v1::DecommissionReport> {
    let leave = decommission.start(force);
    let leave = leave.map_err(|obstacle| Status::failed_precondition(obstacle.to_string()))?;
    Ok(Response::new(report(&leave)))
}

pub(super) fn status(decommission: &Decommission) -> Answer<v1::DecommissionReport> {
    let leave = decommission.leave();
    let leave = leave
        .ok_or_else(|| Status::not_found("nobody has asked this node to leave since its start"))?;
    Ok(Response::new(report(&leave)))
}

fn report(leave: &Leave) -> v1::DecommissionReport {
    let progress = leave.progress();
    let passes: Vec<_> = progress.passes.iter().map(|job| job.progress()).collect();
    let tables = || passes.iter().flat_map(|pass| pass.tables.values());
    let last = || passes.last().into_iter().flat_map(|pass| pass.tables.values());
    v1::DecommissionReport {
        stage: progress.stage.as_str().to_owned(),
        started_us: progress.started_us,
        ended_us: progress.ended_us.unwrap_or(0),
        failure: progress.failure.unwrap_or_default(),
        passes: u32::try_from(passes.len()).unwrap_or(u32::MAX),
        ranges: last().map(|table| table.ranges).sum(),
        ranges_done: last().map(|table| table.compared + table.failed).sum(),
        partitions_sent: tables().map(|table| table.partitions_sent).sum(),
        bytes_sent: tables().map(|table| table.bytes_sent).sum(),
        decrees_settled: progress.decrees_settled,
        hints_delivered: progress.hints_delivered,
        hints_handed_over: progress.hints_handed_over,
        warnings: progress.warnings,
    }
}
