//! A shopper who looks for the order that was just placed. There is no second try: a refusal is seen by the shopper.

use super::{Shared, value};
use crate::ledger::{Order, OrderId, Projection, Read};
use crate::oracle::verdict;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::sync::Arc;
use std::time::Duration;

/// Waits a while, looks once, and has the answer judged.
pub(super) async fn look(shared: Arc<Shared>, order: OrderId, nth: u64) {
    let setup = &shared.setup;
    // A stream of its own for each look, so that one more look changes no other.
    let stream = setup.seed ^ (u64::from(order) << 20) ^ nth.wrapping_mul(0x9E37_79B9);
    let (low, high) = setup.after;
    let share: f64 = SmallRng::seed_from_u64(stream).random();
    tokio::time::sleep(low + (high - low).mul_f64(share)).await;
    if shared.is_over() {
        return;
    }
    let coordinator = shared.next_reader();
    let level = *shared.level.borrow();
    let invoked = shared.now();
    let answer = shared.store.get(order, level, coordinator).await;
    let ended = shared.now();
    let replicas = answer.as_ref().map(|found| found.replicas.clone()).unwrap_or_default();
    let verdict = shared.recorder.ledger(|ledger| {
        let index = usize::try_from(order).unwrap_or(usize::MAX);
        let placed = Order { placed: Duration::ZERO, projection: Projection::Pending };
        let known = ledger.orders.get(index).unwrap_or(&placed);
        let seen = match &answer {
            Ok(found) => Ok(found.value.as_deref()),
            Err(failed) => Err((failed.refusal, failed.why.clone())),
        };
        let verdict = verdict(known, invoked, seen, |bytes| {
            bytes == value(setup.seed, order, setup.value_bytes)
        });
        ledger.reads.push(Read {
            invoked,
            ended,
            order,
            level,
            coordinator,
            replicas: replicas.clone(),
            verdict: verdict.clone(),
        });
        verdict
    });
    shared
        .recorder
        .trace("app", &("read", shared.places.key(order), level, coordinator, replicas, verdict));
}
