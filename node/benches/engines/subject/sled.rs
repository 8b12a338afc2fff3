//! sled 0.34.7, used raw: through the node's `SledEngine` it would pay for our merge as well.

use super::{Key, Settings, Subject, Value};
use std::path::Path;

pub(super) struct Sled {
    database: ::sled::Db,
    tree: ::sled::Tree,
    cache_bytes: u64,
}

impl Sled {
    pub(super) fn open(dir: &Path, settings: &Settings) -> Sled {
        let config = ::sled::Config::new().path(dir).cache_capacity(settings.cache_bytes);
        let database = config.open().expect("sled opens");
        let tree = database.open_tree("kv").expect("sled opens a tree");
        Sled { database, tree, cache_bytes: settings.cache_bytes }
    }
}

impl Subject for Sled {
    fn put(&self, key: &Key, value: &Value) {
        self.tree.insert(key, value.as_slice()).expect("sled takes writes");
    }

    fn get(&self, key: &Key, found: &mut dyn FnMut(&[u8])) -> bool {
        let value = self.tree.get(key).expect("sled reads");
        value.inspect(|value| found(value)).is_some()
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        for entry in &self.tree {
            let (key, value) = entry.expect("sled scans");
            each(&key, &value);
        }
    }

    fn settle(&self) {
        // It has no compactions to wait for: it cleans up its log as it writes.
        self.database.flush().expect("sled flushes");
    }

    fn close(self: Box<Self>) {
        self.database.flush().expect("sled flushes");
    }

    fn describe(&self) -> String {
        format!(
            "sled 0.34.7, raw: cache {} MiB, flushed every 0.5 s (default); it has no write buffer, no bloom filter and, \
             built plainly, no compression",
            self.cache_bytes >> 20
        )
    }
}
