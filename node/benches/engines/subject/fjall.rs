//! fjall 3: a log-structured merge tree in Rust.

use super::{Key, Settings, Subject, Value, wait_until};
use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

pub(super) struct Fjall {
    database: Database,
    keyspace: Keyspace,
    settings: Settings,
}

impl Fjall {
    pub(super) fn open(dir: &Path, settings: &Settings) -> Fjall {
        let database = Database::builder(dir)
            .cache_size(settings.cache_bytes)
            .manual_journal_persist(settings.group_peers)
            .open()
            .expect("fjall opens");
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(settings.memtable_bytes)
                .manual_journal_persist(settings.group_peers)
        };
        let keyspace = database.keyspace("kv", options).expect("fjall opens a keyspace");
        Fjall { database, keyspace, settings: *settings }
    }
}

impl Subject for Fjall {
    fn put(&self, key: &Key, value: &Value) {
        self.keyspace.insert(key, value.as_slice()).expect("fjall takes writes");
    }

    fn wake(&self) {
        if self.settings.group_peers {
            self.database.persist(PersistMode::Buffer).expect("fjall writes its journal");
        }
    }

    fn get(&self, key: &Key, found: &mut dyn FnMut(&[u8])) -> bool {
        let value = self.keyspace.get(key).expect("fjall reads");
        value.inspect(|value| found(value)).is_some()
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        for entry in self.keyspace.iter() {
            let (key, value) = entry.into_inner().expect("fjall scans");
            each(&key, &value);
        }
    }

    fn settle(&self) {
        self.keyspace.rotate_memtable_and_wait().expect("fjall flushes");
        let mut completed = 0;
        wait_until(|| {
            let before = std::mem::replace(&mut completed, self.database.compactions_completed());
            self.database.active_compactions() == 0
                && self.database.outstanding_flushes() == 0
                && before == completed
        });
    }

    fn close(self: Box<Self>) {
        self.database.persist(PersistMode::SyncAll).expect("fjall syncs");
    }

    fn describe(&self) -> String {
        format!(
            "fjall 3: leveled, 4 KiB blocks, LZ4 from its third level on, bloom 0.01 % (first level) or 10 bits (all \
             defaults), cache {} MiB, memtable {} MiB, journal written {}",
            self.settings.cache_bytes >> 20,
            self.settings.memtable_bytes >> 20,
            super::log_habit(self.settings.group_peers),
        )
    }

    fn remarks(&self) -> String {
        format!(
            "{} tables, {} compactions",
            self.keyspace.table_count(),
            self.database.compactions_completed()
        )
    }
}
