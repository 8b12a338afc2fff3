//! Shoppers: an open loop. Orders come at their rate, whatever becomes of those before them.

use super::{Shared, reader};
use crate::ledger::{Order, OrderId, Projection};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Reads that wait for their time or are under way; past it a reader stays away.
const READS_MAX: usize = 100_000;

/// Places orders in SQL, which tells the log, until the run is over.
pub(super) async fn open(
    shared: Arc<Shared>,
    mut rate: watch::Receiver<f64>,
    log: Vec<mpsc::Sender<OrderId>>,
) {
    // The scenario's clock has not started yet when the shop opens its doors.
    while shared.now() == Duration::ZERO {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut readers = JoinSet::new();
    let mut last = Instant::now();
    while !shared.is_over() {
        let per_second = *rate.borrow_and_update();
        let next = last + interval(per_second);
        tokio::select! {
            biased;
            // A new rate counts from the last order on.
            changed = rate.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep_until(next) => {
                last = next.max(last);
                if !shared.is_over() {
                    place(&shared, &log, &mut readers);
                }
            }
        }
        while readers.try_join_next().is_some() {}
    }
    while readers.join_next().await.is_some() {}
}

/// The time between two orders. A rate of 0 means a very long time, and a change of the rate ends it.
fn interval(per_second: f64) -> Duration {
    const LONGEST_S: f64 = 1e6;
    let seconds = if per_second > 0.0 { (1.0 / per_second).min(LONGEST_S) } else { LONGEST_S };
    Duration::from_secs_f64(seconds)
}

fn place(shared: &Arc<Shared>, log: &[mpsc::Sender<OrderId>], readers: &mut JoinSet<()>) {
    let placed = shared.now();
    let order = shared.recorder.ledger(|ledger| {
        let id = OrderId::try_from(ledger.orders.len()).unwrap_or(OrderId::MAX);
        ledger.orders.push(Order { placed, projection: Projection::Pending });
        id
    });
    shared.recorder.trace("shop", &("placed", order));
    let shards = log.len().max(1);
    let shard = log.get(usize::try_from(order).unwrap_or(0) % shards);
    if shard.is_none_or(|shard| shard.try_send(order).is_err()) {
        let why = "the log's shard is full".to_owned();
        shared.recorder.ledger(|ledger| {
            if let Some(order) = ledger.orders.get_mut(usize::try_from(order).unwrap_or(usize::MAX))
            {
                order.projection = Projection::Dropped { at: placed, why };
            }
        });
    }
    for nth in 0..shared.setup.reads_per_order {
        if readers.len() < READS_MAX {
            readers.spawn(reader::look(Arc::clone(shared), order, nth));
        }
    }
}
