//! What operators ask of the hint store.

use super::admin::{AdminService, Answer};
use helenus_core::hint::Account;
use helenus_core::hint::ledger::{Scope, Tokens};
use helenus_core::{NodeId, TableId, Token};
use helenus_proto::v1;
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::{Response, Status};

fn outcomes(account: Account) -> v1::HintOutcomes {
    v1::HintOutcomes {
        created: account.created,
        delivered: account.delivered,
        expired: account.expired,
        refused: account.refused,
        evicted: account.evicted,
        dead_lettered: account.dead_lettered,
        lost: account.lost,
        pending: account.pending,
        redirected: account.redirected,
    }
}

/// 0: not known.
pub(super) fn micros(ms: Option<u64>) -> i64 {
    ms.and_then(|ms| i64::try_from(ms.saturating_mul(1000)).ok()).unwrap_or(0)
}

/// The node that is named; `None`: all of them.
pub(super) fn named(service: &AdminService, wanted: &str) -> Result<Option<NodeId>, Status> {
    if wanted.is_empty() { Ok(None) } else { service.node_named(wanted).map(Some) }
}

/// `listpendinghints`.
pub(super) fn list(service: &AdminService) -> v1::ListPendingHintsResponse {
    let members = service.parts.membership.known();
    let hints = &service.parts.hints;
    let targets = hints.list().into_iter().map(|pending| {
        let info = members.iter().find(|m| m.node == pending.target);
        let addr = info.and_then(|m| m.internode).map(|a| a.to_string());
        v1::PendingHints {
            node: pending.target.to_string(),
            addr: addr.unwrap_or_default(),
            rack: info.map(|m| m.rack.clone()).unwrap_or_default(),
            dc: info.map(|m| m.dc.clone()).unwrap_or_default(),
            up: info.is_some_and(|m| m.up),
            files: pending.files,
            hints: pending.account.pending,
            bytes: pending.bytes,
            oldest_us: micros(pending.oldest_ms),
            newest_us: micros(pending.newest_ms),
            outcomes: Some(outcomes(pending.account)),
        }
    });
    let config = &service.parts.coordinator.config.hints;
    v1::ListPendingHintsResponse {
        targets: targets.collect(),
        bytes: hints.figures().bytes,
        max_bytes: config.max_hints_size,
        max_bytes_per_host: config.max_hints_size_per_host,
        paused: hints.paused(),
        outcomes: Some(outcomes(hints.figures().account)),
    }
}

/// `truncatehints`.
pub(super) async fn truncate(
    service: &AdminService,
    target: &str,
) -> Answer<v1::TruncateHintsResponse> {
    let target = named(service, target)?;
    let removed = service.parts.hints.truncate(target).await;
    let removed = removed.map_err(|e| Status::internal(e.to_string()))?;
    Ok(Response::new(v1::TruncateHintsResponse { removed }))
}

/// `hints await`, on one coordinator.
pub(super) async fn wait(
    service: &AdminService,
    request: v1::AwaitHintsRequest,
) -> Answer<v1::AwaitHintsResponse> {
    let target = service.node_named(&request.target)?;
    let timeout = Duration::from_millis(u64::from(request.timeout_ms));
    let outcome = service.parts.hints.await_delivered(target, timeout).await;
    let outcome = outcome.map_err(|e| Status::resource_exhausted(e.to_string()))?;
    let undelivered = outcome.undelivered.into_iter();
    Ok(Response::new(v1::AwaitHintsResponse {
        owed: outcome.owed,
        delivered: outcome.delivered,
        undelivered: undelivered.map(|(loss, count)| (loss.as_str().to_owned(), count)).collect(),
        pending: outcome.pending,
        dead_lettered: outcome.dead_lettered,
    }))
}

/// `hintledger`.
pub(super) fn ledger(service: &AdminService, target: &str) -> Answer<v1::HintLedgerResponse> {
    let target = named(service, target)?;
    let members = service.parts.membership.known();
    let ledger = service.parts.hints.ledger();
    let about = |scope: &Scope| {
        // What may be of any target may be of this one.
        target.is_none() || scope.target.is_none() || scope.target == target
    };
    let rows = ledger.rows().filter(|(scope, ..)| about(scope));
    let rows = rows.map(|(scope, reason, ranges)| {
        let info = members.iter().find(|m| Some(m.node) == scope.target);
        let addr = info.and_then(|m| m.internode).map(|a| a.to_string());
        let (keyspace, table) =
            scope.table.map(|table| service.table_name(table)).unwrap_or_default();
        v1::HintLosses {
            node: scope.target.map(|target| target.to_string()).unwrap_or_default(),
            addr: addr.unwrap_or_default(),
            keyspace,
            table,
            reason: reason.as_str().to_owned(),
            ranges: ranges
                .iter()
                .map(|range| v1::HintLossRange {
                    first_token: range.tokens.first.0,
                    last_token: range.tokens.last.0,
                    count: range.count,
                    bytes: range.bytes,
                    first_us: micros(Some(range.first_ms)),
                    last_us: micros(Some(range.last_ms)),
                })
                .collect(),
        }
    });
    let rows = rows.collect();
    Ok(Response::new(v1::HintLedgerResponse { rows, as_of: ledger.recorded() }))
}

/// Replicas were repaired.
pub(super) async fn settle(
    service: &AdminService,
    request: v1::SettleHintLedgerRequest,
) -> Answer<v1::SettleHintLedgerResponse> {
    let v1::SettleHintLedgerRequest { target, keyspace, table, repaired, as_of } = request;
    let target = named(service, &target)?;
    let tables: Option<Vec<TableId>> = service.target(&v1::StorageTarget { keyspace, table })?;
    let mut spans = Vec::with_capacity(repaired.len());
    for tokens in &repaired {
        let (first, last) = (Token(tokens.first_token), Token(tokens.last_token));
        if first > last {
            return Err(Status::invalid_argument(format!(
                "the repaired tokens {first} to {last} end before they begin: give a range that wraps as two"
            )));
        }
        spans.push(Tokens { first, last }.span());
    }
    if spans.is_empty() {
        spans.push(Tokens::ALL.span());
    }
    let meant = |scope: &Scope| {
        let table = tables
            .as_ref()
            .is_none_or(|tables| scope.table.is_some_and(|table| tables.contains(&table)));
        table && (target.is_none() || scope.target == target)
    };
    let ledger = service.parts.hints.ledger();
    let scopes: BTreeSet<Scope> = ledger.rows().map(|(scope, ..)| scope).filter(meant).collect();
    let scopes: Vec<Scope> = scopes.into_iter().collect();
    let settled = service.parts.hints.settle_losses(&scopes, &spans, as_of).await;
    let settled = settled.map_err(|e| Status::internal(e.to_string()))?;
    Ok(Response::new(v1::SettleHintLedgerResponse {
        ranges: settled.ranges,
        hints: settled.count,
        bytes: settled.bytes,
    }))
}
