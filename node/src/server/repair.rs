//! Repair over the wire.

use super::admin::{Answer, storage_status};
use crate::repair::history::Record;
use crate::repair::{Job, RepairError, Repairs, Wanted};
use helenus_core::ring::TokenRange;
use helenus_core::{TableId, Token};
use helenus_proto::v1;
use std::sync::Arc;
use tonic::{Response, Status};

pub(super) fn start(
    repairs: &Arc<Repairs>,
    request: v1::StartRepairRequest,
) -> Answer<v1::RepairReport> {
    let v1::StartRepairRequest { keyspace, tables, primary_range, preview, range, from_ledger } =
        request;
    let range = range.map(|range| TokenRange {
        after: Token(range.after_token),
        until: Token(range.until_token),
    });
    let job =
        repairs.start(&Wanted { keyspace, tables, primary_range, preview, range, from_ledger });
    let job = job.map_err(|error| {
        let message = error.to_string();
        match error {
            RepairError::Busy { .. } => Status::failed_precondition(message),
            RepairError::NotFound(_) => Status::not_found(message),
            RepairError::Invalid(_) | RepairError::TooMany { .. } => {
                Status::invalid_argument(message)
            }
        }
    })?;
    Ok(Response::new(report(&job)))
}

pub(super) fn status(repairs: &Repairs, id: u64) -> Answer<v1::RepairReport> {
    let job = repairs.job((id != 0).then_some(id)).ok_or_else(|| {
        Status::not_found(
            "this node knows no such repair since its start: `helenusctl repair --history` lists those that it remembers",
        )
    })?;
    Ok(Response::new(report(&job)))
}

pub(super) fn cancel(repairs: &Repairs) -> Answer<v1::RepairReport> {
    let job = repairs.cancel();
    let job = job.ok_or_else(|| Status::failed_precondition("no repair runs on this node"))?;
    Ok(Response::new(report(&job)))
}

pub(super) fn history(repairs: &Repairs) -> Answer<v1::RepairHistoryResponse> {
    let records = repairs.history().map_err(|e| storage_status(&e))?.into_iter();
    let repairs = records.map(|record| {
        let Record {
            id,
            started_us,
            ended_us,
            outcome,
            primary_range,
            preview,
            what,
            ranges,
            failed,
            differing,
            partitions_sent,
            bytes_sent,
            reason,
        } = record;
        v1::PastRepair {
            id,
            started_us,
            ended_us: ended_us.unwrap_or(0),
            outcome,
            primary_range,
            preview,
            what,
            ranges,
            failed,
            differing,
            partitions_sent,
            bytes_sent,
            reason,
        }
    });
    Ok(Response::new(v1::RepairHistoryResponse { repairs: repairs.collect() }))
}

fn report(job: &Job) -> v1::RepairReport {
    let progress = job.progress();
    let name = |table: &TableId| {
        let named = progress.tables.get(table);
        named.map(|t| (t.keyspace.clone(), t.name.clone())).unwrap_or_default()
    };
    let tables = progress.tables.values().map(|table| v1::RepairedTable {
        keyspace: table.keyspace.clone(),
        table: table.name.clone(),
        ranges: table.ranges,
        compared: table.compared,
        failed: table.failed,
        differing: table.differing,
        partitions_hashed: table.partitions_hashed,
        partitions_sent: table.partitions_sent,
        bytes_sent: table.bytes_sent,
    });
    let failures = progress.failures.iter().map(|failure| {
        let (keyspace, table) = name(&failure.table);
        v1::RepairFailure {
            keyspace,
            table,
            after_token: failure.span.after.map(|token| token.0),
            until_token: failure.span.until.0,
            reason: failure.reason.clone(),
        }
    });
    let transfers = progress.transfers.iter().map(|((table, from, to), sent)| {
        let (keyspace, table) = name(table);
        v1::RepairTransfer {
            keyspace,
            table,
            from: from.to_string(),
            to: to.to_string(),
            ranges: sent.ranges,
            partitions: sent.partitions,
            bytes: sent.bytes,
        }
    });
    v1::RepairReport {
        id: job.id,
        started_us: job.started_us,
        ended_us: progress.ended_us.unwrap_or(0),
        outcome: progress.outcome.as_str().to_owned(),
        primary_range: job.primary_range,
        preview: job.preview,
        tables: tables.collect(),
        failures: failures.collect(),
        failures_left_out: progress.failures_left_out,
        transfers: transfers.collect(),
    }
}
