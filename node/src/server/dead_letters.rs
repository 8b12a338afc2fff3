//! What operators ask of the dead-letter log.

use super::admin::{AdminService, Answer};
use super::hints::{micros, named};
use crate::hints::{HintError, Place, ReplayStopped, Replayed};
use crate::membership::MemberInfo;
use futures_util::future::join_all;
use helenus_core::NodeId;
use helenus_proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Response, Status};

fn failed(error: &HintError) -> Status {
    let message = error.to_string();
    match error {
        HintError::Busy { .. } => Status::failed_precondition(message),
        _ => Status::internal(message),
    }
}

/// Where other nodes reach it, as far as that is known.
fn address(members: &[MemberInfo], node: NodeId) -> String {
    let info = members.iter().find(|member| member.node == node);
    info.and_then(|member| member.internode).map(|addr| addr.to_string()).unwrap_or_default()
}

/// `deadletters list`.
pub(super) fn list(service: &AdminService) -> v1::ListDeadLettersResponse {
    let members = service.parts.membership.known();
    let letters = service.parts.hints.dead_letters();
    let targets = letters.list().into_iter().map(|held| v1::DeadLettersOf {
        node: held.target.to_string(),
        addr: address(&members, held.target),
        up: members.iter().any(|member| member.node == held.target && member.up),
        letters: held.account.pending,
        bytes: held.bytes,
        oldest_us: micros(held.oldest_ms),
        newest_us: micros(held.newest_ms),
        delivered: held.account.delivered,
        expired: held.account.expired,
        refused: held.account.refused,
        evicted: held.account.evicted,
        lost: held.account.lost,
    });
    let figures = letters.figures();
    v1::ListDeadLettersResponse {
        targets: targets.collect(),
        bytes: figures.bytes,
        max_bytes: figures.bytes_max,
        unwritable: figures.unwritable,
        now_us: service.parts.coordinator.clock.wall_micros(),
    }
}

/// `deadletters show`, and a part of `deadletters export`.
pub(super) async fn read(
    service: &AdminService,
    request: v1::ReadDeadLettersRequest,
) -> Answer<v1::ReadDeadLettersResponse> {
    let v1::ReadDeadLettersRequest { target, after, limit } = request;
    let target = named(service, &target)?;
    let after = after.map(place).transpose()?;
    // 0: as many as an answer holds.
    let count = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let read = service.parts.hints.dead_letters().read(target, after, count).await;
    let read = read.map_err(|error| failed(&error))?;
    let members = service.parts.membership.known();
    let letters = read.letters.into_iter().map(|letter| {
        let (keyspace, table) = service.table_name(letter.hint.table);
        v1::DeadLetter {
            node: letter.target.to_string(),
            addr: address(&members, letter.target),
            keyspace,
            table,
            key: letter.hint.key.0,
            update: letter.hint.update,
            created_us: micros(Some(letter.hint.created_ms)),
            gc_grace_s: letter.hint.gc_grace_s,
            bytes: letter.bytes,
        }
    });
    let next = read.next.map(|place| v1::DeadLetterPlace {
        node: place.target.to_string(),
        segment: place.seq,
        offset: place.offset,
    });
    let now_us = service.parts.coordinator.clock.wall_micros();
    Ok(Response::new(v1::ReadDeadLettersResponse { letters: letters.collect(), next, now_us }))
}

fn place(after: v1::DeadLetterPlace) -> Result<Place, Status> {
    let v1::DeadLetterPlace { node, segment, offset } = after;
    let target = node.parse().map_err(|_| {
        let why = format!("`{node}` is no host id: `after` takes what an answer gave as `next`");
        Status::invalid_argument(why)
    })?;
    Ok(Place { target, seq: segment, offset })
}

/// A slice of `deadletters replay`. Targets are served side by side, each at its own pace.
pub(super) async fn replay(
    service: &AdminService,
    request: v1::ReplayDeadLettersRequest,
) -> Answer<v1::ReplayDeadLettersResponse> {
    let letters = service.parts.hints.dead_letters();
    let targets = match named(service, &request.target)? {
        Some(target) => vec![target],
        None => {
            let held = letters.list().into_iter().filter(|held| held.account.pending > 0);
            held.map(|held| held.target).collect()
        }
    };
    let patience = Duration::from_millis(u64::from(request.timeout_ms));
    let replays = targets
        .into_iter()
        .map(|target| letters.replay(Arc::clone(&service.parts.handoff), target, patience));
    let replayed = join_all(replays).await;
    let members = service.parts.membership.known();
    let targets = replayed.into_iter().map(|Replayed { target, account, stopped }| {
        let (stopped, reason) = match stopped {
            ReplayStopped::Done => ("done", String::new()),
            ReplayStopped::TimeUp => ("time_up", String::new()),
            ReplayStopped::TargetDown => ("target_down", String::new()),
            ReplayStopped::Paused => ("paused", String::new()),
            ReplayStopped::Failed(reason) => ("failed", reason),
        };
        v1::DeadLettersReplayed {
            node: target.to_string(),
            addr: address(&members, target),
            delivered: account.delivered + account.redirected,
            expired: account.expired,
            lost: account.lost,
            left: account.pending,
            stopped: stopped.to_owned(),
            reason,
        }
    });
    Ok(Response::new(v1::ReplayDeadLettersResponse { targets: targets.collect() }))
}

/// `deadletters purge`.
pub(super) async fn purge(
    service: &AdminService,
    request: v1::PurgeDeadLettersRequest,
) -> Answer<v1::PurgeDeadLettersResponse> {
    let target = named(service, &request.target)?;
    let letters = service.parts.hints.dead_letters();
    let removed = match u64::try_from(request.before_us) {
        Ok(0) => letters.purge(target).await,
        Ok(before_us) => letters.purge_older(target, before_us / 1000).await,
        Err(_) => {
            let why = format!("before_us is {}: no letter is from before 1970", request.before_us);
            return Err(Status::invalid_argument(why));
        }
    };
    let removed = removed.map_err(|error| failed(&error))?;
    Ok(Response::new(v1::PurgeDeadLettersResponse { removed }))
}
