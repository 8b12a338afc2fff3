//! Verify, scrub and snapshots over the wire.

use super::admin::{AdminService, Answer, storage_status};
use crate::storage::{Lost, Problem, ScrubOptions, SnapshotFigures, VerifyOptions};
use helenus_core::TableId;
use helenus_proto::{ids, v1};
use tonic::{Response, Status};

impl AdminService {
    fn tables(&self, target: Option<v1::StorageTarget>) -> Result<Option<Vec<TableId>>, Status> {
        self.target(&target.unwrap_or_default())
    }
}

pub(super) async fn verify(
    service: &AdminService,
    request: v1::VerifyRequest,
) -> Answer<v1::VerifyResponse> {
    let v1::VerifyRequest { target, quick } = request;
    let options = VerifyOptions { tables: service.tables(target)?, quick };
    let verified = service.parts.engine.verify(options).await;
    let report = verified.map_err(|e| storage_status(&e))?;
    let problems = report.problems.into_iter().map(|problem| {
        let Problem { table, path, offset, what, remedy } = problem;
        let (keyspace, table) = table.map(|table| service.table_name(table)).unwrap_or_default();
        v1::StorageProblem { keyspace, table, path, offset, what, remedy }
    });
    Ok(Response::new(v1::VerifyResponse {
        tables: report.tables,
        sstables: report.sstables,
        partitions: report.partitions,
        bytes: report.bytes,
        log_segments: report.log_segments,
        log_bytes: report.log_bytes,
        problems: problems.collect(),
        problems_left_out: report.problems_left_out,
    }))
}

pub(super) async fn scrub(
    service: &AdminService,
    request: v1::ScrubRequest,
) -> Answer<v1::ScrubResponse> {
    let v1::ScrubRequest { target, all, no_snapshot } = request;
    let options = ScrubOptions { tables: service.tables(target)?, all, snapshot: !no_snapshot };
    let scrubbed = service.parts.engine.scrub(options).await;
    let report = scrubbed.map_err(|e| storage_status(&e))?;
    let lost = report.lost.into_iter().map(|lost| {
        let Lost { table, path, offset, what, from, until } = lost;
        let (keyspace, table) = service.table_name(table);
        let (from_token, until_token) = (from.0, until.0);
        v1::LostRange { keyspace, table, path, offset, what, from_token, until_token }
    });
    Ok(Response::new(v1::ScrubResponse {
        sstables: report.sstables,
        rewritten: report.rewritten,
        overtaken: report.overtaken,
        partitions_kept: report.partitions_kept,
        partitions_lost: report.partitions_lost,
        reordered: report.reordered,
        manifests: report.manifests,
        snapshot: report.snapshot.unwrap_or_default(),
        lost: lost.collect(),
        lost_left_out: report.lost_left_out,
    }))
}

pub(super) async fn take_snapshot(
    service: &AdminService,
    request: v1::TakeSnapshotRequest,
) -> Answer<v1::Done> {
    let v1::TakeSnapshotRequest { target, tag } = request;
    let tables = service.tables(target)?;
    let taken = service.parts.engine.snapshot(tag, tables).await;
    taken.map_err(|e| storage_status(&e))?;
    Ok(Response::new(v1::Done {}))
}

pub(super) async fn list_snapshots(service: &AdminService) -> Answer<v1::ListSnapshotsResponse> {
    let listed = service.parts.engine.list_snapshots().await;
    let snapshots = listed.map_err(|e| storage_status(&e))?.into_iter().map(|snapshot| {
        let SnapshotFigures { tag, table, keyspace, name, created_ms, .. } = snapshot;
        v1::Snapshot {
            tag,
            keyspace,
            table: name,
            table_id: table.map(ids::table_to_wire).unwrap_or_default(),
            created_ms,
            sstables: snapshot.sstables,
            bytes_on_disk: snapshot.bytes_on_disk,
            true_bytes: snapshot.true_bytes,
            complete: snapshot.complete,
        }
    });
    Ok(Response::new(v1::ListSnapshotsResponse { snapshots: snapshots.collect() }))
}

pub(super) async fn clear_snapshot(
    service: &AdminService,
    request: v1::ClearSnapshotRequest,
) -> Answer<v1::ClearSnapshotResponse> {
    let v1::ClearSnapshotRequest { target, tag, all } = request;
    let tag = match (tag.is_empty(), all) {
        (true, true) => None,
        (false, false) => Some(tag),
        _ => return Err(Status::invalid_argument("give either one snapshot's name, or `all`")),
    };
    let tables = service.tables(target)?;
    let cleared = service.parts.engine.clear_snapshots(tag, tables).await;
    let cleared = cleared.map_err(|e| storage_status(&e))?;
    Ok(Response::new(v1::ClearSnapshotResponse { cleared }))
}
