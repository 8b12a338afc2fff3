//! Load in a closed loop, and a ledger of what was promised.
//!
//! Every key is written once, so what must be read is simple: whatever was acknowledged, with its value. A write whose
//! outcome is not known may be there or not, and is in no ledger.

use crate::{KEYSPACE, PATIENCE, TABLE};
use bytes::Bytes;
use helenus_client::{Client, Level, NodeId, Options, Routing};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Requests in flight at once while reading back.
const READERS: usize = 32;

/// What was acknowledged: key, value, and which replicas had confirmed it by then.
pub type Ledger = BTreeMap<Bytes, (Bytes, Vec<NodeId>)>;

/// Writers that write until they are told to stop.
#[derive(Debug)]
pub struct Load {
    writers: JoinSet<()>,
    ledger: Arc<Mutex<Ledger>>,
    acknowledged: watch::Sender<usize>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Starts `writers` writers at QUORUM. Each goes through a coordinator of `routings`, in turn, and goes on whatever
    /// it is told.
    pub fn start(client: &Client, name: &str, writers: usize, routings: &[Routing]) -> Load {
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let (acknowledged, _) = watch::channel(0);
        let (stop, _) = watch::channel(false);
        let mut set = JoinSet::new();
        for (writer, routing) in routings.iter().copied().cycle().take(writers).enumerate() {
            let table = client.table(KEYSPACE, TABLE);
            let (ledger, acknowledged, stop) =
                (Arc::clone(&ledger), acknowledged.clone(), stop.subscribe());
            let name = format!("{name}/{writer}");
            set.spawn(async move {
                let options = Options::new().level(Level::Quorum).routing(routing).trace();
                for nth in 0_u64.. {
                    if *stop.borrow() {
                        return;
                    }
                    let key = Bytes::from(format!("{name}/{nth}"));
                    let value = Bytes::from(format!("{nth:0100}"));
                    match table.put_with(key.clone(), value.clone(), &options).await {
                        Ok(written) => {
                            let confirmed = (value, written.answer.responders);
                            ledger
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .insert(key, confirmed);
                            acknowledged.send_modify(|count| *count += 1);
                        }
                        // A coordinator that is down refuses at once; the others need the machine.
                        Err(_) => tokio::time::sleep(crate::ASK_AGAIN).await,
                    }
                }
            });
        }
        Load { writers: set, ledger, acknowledged, stop }
    }

    /// Waits until `more` writes were acknowledged from now on: while something is broken, that is availability.
    pub async fn more(&self, more: usize) {
        let mut acknowledged = self.acknowledged.subscribe();
        let goal = *acknowledged.borrow_and_update() + more;
        let reached = acknowledged.wait_for(|count| *count >= goal);
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(reached) => drop(reached.expect("the sender lives as long as the load")),
            Err(_) => panic!("after {PATIENCE:?} not even {more} more writes were acknowledged"),
        }
    }

    /// What was acknowledged so far.
    pub fn so_far(&self) -> Ledger {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets every writer finish what it is at; everything that was acknowledged.
    pub async fn stop(mut self) -> Ledger {
        self.stop.send_replace(true);
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("a writer does not panic");
        }
        self.so_far()
    }
}

/// Reads every acknowledged key at `level`. Panics with the first keys that are not what was acknowledged.
pub async fn read_back(client: &Client, ledger: &Ledger, level: Level) {
    let mut left = ledger.clone().into_iter();
    let mut reading = JoinSet::new();
    let mut lost = Vec::new();
    loop {
        while reading.len() < READERS {
            let Some((key, (value, _))) = left.next() else { break };
            let table = client.table(KEYSPACE, TABLE);
            reading.spawn(async move {
                let options = Options::new().level(level);
                let read = table.get_with(key.clone(), &options).await.map(|got| got.value);
                match read {
                    Ok(Some(found)) if found.value == value => None,
                    other => Some(format!("{key:?}: {other:?}")),
                }
            });
        }
        match reading.join_next().await {
            None => break,
            Some(read) => lost.extend(read.expect("a reader does not panic")),
        }
    }
    let first: Vec<&String> = lost.iter().take(5).collect();
    assert!(lost.is_empty(), "{} of {} are not there: {first:#?}", lost.len(), ledger.len());
}
