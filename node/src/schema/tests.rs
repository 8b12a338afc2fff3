//! TRUNCATE on one node, and the power fails at every single change of its disk: the table is what it was, or empty for
//! ever.

use super::{Change, SchemaStore};
use crate::config::{CommitlogSync, StorageConfig};
use crate::seams::background::SimBackground;
use crate::seams::clock::Clock;
use crate::seams::disk::{Faults, SimDisk, Survives};
use crate::seams::probe::Silent;
use crate::storage::lsm::LsmParts;
use crate::storage::{Applied, Engine as _, LsmEngine, StorageError, Upkeep as _, Write};
use crate::tasks::Tasks;
use helenus_core::{
    Columns, Key, Replication, TableDef, TableId, TableOptions, TimestampMicros, token,
};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const KEYS: u32 = 12;

/// It is always the same second.
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_micros(&self) -> i64 {
        1_700_000_000_000_000
    }
}

/// A node's schema and storage, on a disk.
struct Node {
    disk: SimDisk,
    tasks: Arc<Tasks>,
    store: SchemaStore,
    engine: LsmEngine,
}

impl Node {
    fn boot(disk: &SimDisk) -> Node {
        let disk = disk.reopen();
        let background = Arc::new(SimBackground::new(disk.clone()));
        let store = SchemaStore::open(Arc::new(disk.clone()), background.clone()).unwrap();
        let tasks = Arc::new(Tasks::new());
        let config = StorageConfig {
            commitlog_sync: CommitlogSync::Batch,
            commitlog_segment_size: 1 << 10,
            ..StorageConfig::default()
        };
        let engine = LsmEngine::open(LsmParts {
            dir: PathBuf::from("data"),
            config,
            disk: Arc::new(disk.clone()),
            background,
            clock: Arc::new(Noon),
            probe: Arc::new(Silent),
            tasks: Arc::clone(&tasks),
            tables: store.current().schema.live_tables().cloned().collect(),
        })
        .unwrap();
        Node { disk, tasks, store, engine }
    }

    /// Says whether it was made, before the power failed.
    async fn change(&self, change: &Change) -> bool {
        let schema = &self.store.current().schema;
        let delta = change.delta(schema, TimestampMicros(Noon.wall_micros()), &mut Vec::new());
        let delta = delta.unwrap().expect("it changes something");
        self.store.adopt(delta, &self.engine).await.is_ok()
    }

    fn table(&self) -> TableDef {
        self.store.current().schema.table("ks", "t").unwrap().clone()
    }

    async fn put(&self, table: TableId, nth: u32) -> Result<(), StorageError> {
        let key = Key(nth.to_be_bytes().to_vec().into());
        // Of the far future: no time of anything makes it old.
        let at = TimestampMicros(i64::MAX - 1);
        let token = token::of(&key.0);
        let applied = self.engine.apply(Write::put((table, key, token), b"value", at, None))?;
        match applied {
            Applied::Now => self.engine.commit(),
            Applied::After(durable) => durable.await,
        }
    }

    /// The keys that a table has.
    fn keys(&self, table: TableId) -> Vec<u32> {
        let has = |nth: &u32| {
            let key = Key(nth.to_be_bytes().to_vec().into());
            self.engine.read(table, token::of(&key.0), &key).unwrap().is_some()
        };
        (0..=KEYS).filter(has).collect()
    }

    /// The power fails, if it has not yet.
    fn crash(self, survives: Survives) -> SimDisk {
        self.tasks.abort_all();
        if self.disk.is_powered() {
            self.disk.crash_with(survives);
        }
        self.disk.call_off();
        self.disk
    }
}

fn truncate() -> Change {
    Change::Truncate { keyspace: "ks".to_owned(), name: "t".to_owned() }
}

/// A table with keys in an SSTable, in a memtable and in the log.
async fn written(seed: u64) -> Node {
    let node = Node::boot(&SimDisk::new(seed, Faults::default()));
    let keyspace = Change::CreateKeyspace {
        name: "ks".to_owned(),
        replication: Replication::Simple { rf: NonZeroU32::MIN },
        hint_overflow: None,
        if_not_exists: false,
    };
    let table = Change::CreateTable {
        keyspace: "ks".to_owned(),
        name: "t".to_owned(),
        columns: Columns::key_value(),
        options: TableOptions::default(),
        if_not_exists: false,
    };
    assert!(node.change(&keyspace).await && node.change(&table).await);
    let id = node.table().id;
    for nth in 0..KEYS {
        if nth == KEYS / 2 {
            node.engine.flush(None).await.unwrap();
        }
        node.put(id, nth).await.unwrap();
    }
    node
}

/// TRUNCATE with the power failing after so many changes; gives whether it failed before it was through.
async fn run(seed: u64, changes: u64, survives: Survives) -> bool {
    let place = format!("seed {seed}, {survives:?} survives a crash after {changes} changes");
    let node = written(seed).await;
    let before = node.table().id;
    node.disk.crash_after(changes, survives);
    let made = node.change(&truncate()).await;
    // What goes on behind it has its turn.
    let stopped = node.engine.shutdown().await;
    let failed = !node.disk.is_powered();
    assert!(failed || (made && stopped.is_ok()), "{place}");
    let node = Node::boot(&node.crash(survives));
    let mut after = node.table().id;
    assert!(!made || after != before, "{place}: it was confirmed, and it is undone");
    if after == before {
        assert_eq!(node.keys(before), (0..KEYS).collect::<Vec<_>>(), "{place}: half of it is gone");
        assert!(node.change(&truncate()).await, "{place}");
        after = node.table().id;
    }
    assert_eq!(node.keys(after), [0; 0], "{place}: something came back");
    let unknown = node.put(before, 0).await.unwrap_err();
    assert!(matches!(unknown, StorageError::UnknownTable { .. }), "{place}: {unknown}");
    node.put(after, KEYS).await.unwrap();
    let node = Node::boot(&node.crash(survives));
    assert_eq!(node.table().id, after, "{place}");
    assert_eq!(node.keys(after), [KEYS], "{place}: what was written since, and no more");
    node.tasks.abort_all();
    failed
}

#[tokio::test(start_paused = true)]
async fn a_truncation_happens_whole_or_not_at_all_wherever_the_power_fails() {
    for survives in Survives::ALL {
        let mut changes = 0;
        while run(1, changes, survives).await {
            changes += 1;
        }
        assert!(changes > 10, "the power did fail in the middle");
    }
    for seed in 2..6 {
        let mut changes = 0;
        while run(seed, changes, Survives::Chance).await {
            changes += 1;
        }
    }
}
