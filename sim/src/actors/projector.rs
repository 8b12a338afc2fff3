//! The projector (a Lambda on an event log): carries each order into the store.
//!
//! A write that was surely not applied (Unavailable, no connection) goes to the next coordinator: that is safe and what
//! drivers do. What happens after a timeout, where the write may have been applied, is the scenario's `on_error`. Every
//! attempt of an order carries the same timestamp, so applying it twice is applying it once.

use super::{Shared, value};
use crate::ledger::{Ack, FailedWrite, OrderId, Projection};
use crate::scenario::OnError;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// After every coordinator has refused once, the next round waits.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// Projects one shard's orders in their order, a few at a time.
pub(super) async fn project_shard(shared: Arc<Shared>, mut events: mpsc::Receiver<OrderId>) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = running.next() => {}
            event = events.recv(), if running.len() < shared.setup.concurrency => match event {
                Some(order) => running.push(project(&shared, order)),
                None => break,
            },
        }
    }
    while running.next().await.is_some() {}
}

async fn project(shared: &Shared, order: OrderId) {
    let setup = &shared.setup;
    let bytes = value(setup.seed, order, setup.value_bytes);
    let timestamp = shared.store.next_timestamp();
    let mut attempts = 0_usize;
    loop {
        if attempts > 0 && attempts.is_multiple_of(setup.nodes.len().max(1)) {
            tokio::time::sleep(ROUND_PAUSE).await;
        }
        attempts += 1;
        let coordinator = shared.next_writer();
        let began = shared.now();
        let put = shared.store.put(order, bytes.clone(), setup.write_cl, timestamp, coordinator);
        let failed = match put.await {
            Ok(replicas) => {
                let at = shared.now();
                let (level, took) = (setup.write_cl, at.saturating_sub(began));
                let ack = Ack { at, took, level, timestamp, coordinator, replicas };
                return end(shared, order, Projection::Acked(ack));
            }
            Err(failed) => failed,
        };
        let at = shared.now();
        let (level, refusal) = (setup.write_cl, failed.refusal);
        let why = failed.why.clone();
        let write = FailedWrite { at, order, coordinator, level, refusal, why };
        shared.recorder.trace("lambda", &write);
        shared.recorder.ledger(|ledger| ledger.failed_writes.push(write));
        if failed.may_have_applied && setup.on_error == OnError::Drop {
            return end(shared, order, Projection::Dropped { at, why: failed.why });
        }
    }
}

fn end(shared: &Shared, order: OrderId, projection: Projection) {
    shared.recorder.trace("lambda", &(order, &projection));
    shared.recorder.ledger(|ledger| {
        if let Some(order) = ledger.orders.get_mut(usize::try_from(order).unwrap_or(usize::MAX)) {
            order.projection = projection;
        }
    });
}
