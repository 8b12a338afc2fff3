//! What the table holds before the clock starts: it is written, flushed and compacted while the cluster comes up, as fast
//! as the simulation goes, so that the run begins with a store that has lived for a while.

use super::store::{Failed, Store};
use super::{Setup, State, value};
use crate::ledger::NodeIndex;
use crate::oracle::Places;
use crate::scenario::{History, Scenario};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use helenus_client::{Admin, TableFilter};
use helenus_core::Level;
use std::time::Duration;
use tokio::sync::watch;

/// Records on their way at a time.
const WRITES_AT_ONCE: usize = 4;
/// How often the nodes are asked whether compaction is done.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A write that is refused, because flushing has to catch up first, is tried again so often,
const TRIES_MAX: u32 = 100;
/// after so long.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// Set apart from the orders' seeds.
const SALT: u64 = 0x0415_7085_0000_0000;

/// A scenario's history, in simulated numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    records: u32,
    record_bytes: usize,
    /// What compaction may write afterwards: it is free to hurry until then.
    throughput: u64,
}

impl Past {
    pub(super) fn of(scenario: &Scenario, history: &History) -> Past {
        let record = scenario.scaled_value(history.record);
        let records = scenario.scaled_bytes(history.bytes) / record.max(1);
        let throughput = scenario.cluster.compaction_throughput;
        Past {
            records: u32::try_from(records).unwrap_or(u32::MAX),
            record_bytes: usize::try_from(record).unwrap_or(usize::MAX),
            throughput: throughput.map_or(0, |bytes| scenario.scaled_throughput(bytes)),
        }
    }
}

/// Writes all of it, and waits until every node has compacted what it will.
pub(super) async fn write(
    store: &Store,
    setup: &Setup,
    past: &Past,
    places: &Places,
    state: &watch::Sender<State>,
) -> Result<(), String> {
    let doors: Vec<&Admin> = (0..store.nodes()).filter_map(|node| store.admin(node)).collect();
    let told = |error: &dyn std::fmt::Display| format!("the history was not written: {error}");
    for admin in &doors {
        admin.set_compaction_throughput(0).await.map_err(|error| told(&error))?;
    }
    let writes = stream::iter(0..past.records).map(|record| {
        let bytes = value(setup.seed ^ SALT, record, past.record_bytes);
        let coordinator = usize::try_from(record).unwrap_or(0) % doors.len().max(1);
        put(store, places.history_key(record), bytes, coordinator)
    });
    let mut writes = writes.buffer_unordered(WRITES_AT_ONCE);
    let mut written = 0_u64;
    while let Some(done) = writes.next().await {
        done.map_err(|failed| told(&failed.why))?;
        written += 1;
        state.send_replace(State::Starting(format!("{written} of {} old records", past.records)));
    }
    for admin in &doors {
        admin.flush(TableFilter::default()).await.map_err(|error| told(&error))?;
    }
    for admin in &doors {
        loop {
            let said = admin.compaction_stats().await.map_err(|error| told(&error))?;
            if said.pending_tasks == 0 && said.running.is_empty() {
                break;
            }
            state.send_replace(State::Starting("the compaction of old records".to_owned()));
            tokio::time::sleep(ASK_AGAIN).await;
        }
        admin.set_compaction_throughput(past.throughput).await.map_err(|error| told(&error))?;
    }
    Ok(())
}

/// Writes one record, however long the store makes it wait.
async fn put(
    store: &Store,
    key: String,
    bytes: Bytes,
    coordinator: NodeIndex,
) -> Result<(), Failed> {
    let mut tries = 0;
    loop {
        let put = store.put_record(key.clone(), bytes.clone(), Level::All, coordinator);
        match put.await {
            Err(_) if tries < TRIES_MAX => tries += 1,
            ended => return ended,
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}
