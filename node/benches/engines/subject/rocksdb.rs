//! RocksDB, the system's library, set as its wiki's "basic tuning" says but for zstd.

use super::{Key, Settings, Subject, Value, wait_until};
use ::rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options};
use std::path::Path;

pub(super) struct Rocks {
    database: DB,
    settings: Settings,
}

impl Rocks {
    pub(super) fn open(dir: &Path, settings: &Settings) -> Rocks {
        let bytes = |bytes: u64| usize::try_from(bytes).expect("sizes fit into this machine");
        let cache =
            Cache::new_lru_cache(bytes(settings.cache_bytes)).expect("RocksDB makes a cache");
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_block_size(16 << 10);
        table.set_format_version(5);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(bytes(settings.memtable_bytes));
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_bytes_per_sync(1 << 20);
        options.set_max_background_jobs(6);
        options.set_manual_wal_flush(settings.group_peers);
        let database = DB::open(&options, dir).expect("RocksDB opens");
        Rocks { database, settings: *settings }
    }

    fn property(&self, name: &str) -> u64 {
        self.database.property_int_value(name).ok().flatten().unwrap_or_default()
    }
}

impl Subject for Rocks {
    fn put(&self, key: &Key, value: &Value) {
        self.database.put(key, value).expect("RocksDB takes writes");
    }

    fn wake(&self) {
        if self.settings.group_peers {
            self.database.flush_wal(false).expect("RocksDB writes its log");
        }
    }

    fn get(&self, key: &Key, found: &mut dyn FnMut(&[u8])) -> bool {
        let value = self.database.get_pinned(key).expect("RocksDB reads");
        value.inspect(|value| found(value)).is_some()
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        // The raw iterator lends its entries: the other one would copy each.
        let mut entries = self.database.raw_iterator();
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            each(key, value);
            entries.next();
        }
        entries.status().expect("RocksDB scans");
    }

    fn settle(&self) {
        self.database.flush().expect("RocksDB flushes");
        let busy = [
            "rocksdb.mem-table-flush-pending",
            "rocksdb.num-running-flushes",
            "rocksdb.compaction-pending",
            "rocksdb.num-running-compactions",
        ];
        wait_until(|| busy.iter().all(|name| self.property(name) == 0));
    }

    fn close(self: Box<Self>) {
        self.database.cancel_all_background_work(true);
    }

    fn describe(&self) -> String {
        format!(
            "RocksDB (the system's): leveled with dynamic level sizes, 16 KiB blocks, LZ4, bloom 10 bits, index and \
             filters in the cache, cache {} MiB, write buffer {} MiB, 6 background jobs, log written {}",
            self.settings.cache_bytes >> 20,
            self.settings.memtable_bytes >> 20,
            super::log_habit(self.settings.group_peers),
        )
    }

    fn remarks(&self) -> String {
        let levels = (0..7).map(|n| self.property(&format!("rocksdb.num-files-at-level{n}")));
        format!(
            "{} files on levels 0 to 6",
            levels.map(|files| files.to_string()).collect::<Vec<_>>().join(" ")
        )
    }
}
