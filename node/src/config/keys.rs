//! Every key of the configuration file.

mod doors;

use super::raw::{Draft, SyncMode, Value, Wrong};
use super::words::{float, list, size, text, throughput, time, word};
use super::{CommitlogSync, Config, EngineKind, Overflow};
use std::time::Duration;

/// One key: its place, what it is for, how it is read and how it is written.
pub(super) struct Key {
    /// The table it is in; `None`: the top of the file.
    pub(super) table: Option<&'static str>,
    pub(super) name: &'static str,
    /// For the example file, in lines.
    pub(super) about: &'static str,
    pub(super) read: fn(Value<'_>, &mut Draft) -> Result<(), Wrong>,
    /// The value as TOML; `None` when this configuration does not have it.
    pub(super) write: fn(&Config) -> Option<String>,
    /// A value for the example file to show where there is none.
    pub(super) instance: &'static str,
}

/// A table of the file.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
}

pub(super) const TABLES: &[Table] = &[
    Table { name: "storage", about: "How data is kept." },
    Table { name: "hints", about: "What is owed to replicas that could not be reached." },
    Table { name: "repair", about: "How replicas are compared and made equal." },
];

/// The default of `commitlog_sync_period`, and Cassandra's.
pub(super) const SYNC_PERIOD: Duration = Duration::from_secs(10);
/// The default of `commitlog_sync_group_window`: long enough to gather writes, short beside a request timeout.
pub(super) const SYNC_GROUP_WINDOW: Duration = Duration::from_millis(15);

const ENGINES: [(&str, EngineKind); 2] = [("lsm", EngineKind::Lsm), ("sled", EngineKind::Sled)];

/// `key!(table, "name", "about", reader, field.path => how it is written)`: a key that is one field.
macro_rules! key {
    ($table:expr, $name:literal, $about:literal, $($field:ident).+, $read:expr, $write:expr) => {
        Key {
            table: $table,
            name: $name,
            about: $about,
            read: |value, draft| {
                let read: fn(Value<'_>) -> Result<_, Wrong> = $read;
                draft.config.$($field).+ = read(value)?;
                Ok(())
            },
            write: |config| Some(($write)(&config.$($field).+)),
            instance: "",
        }
    };
}

const TOP: Option<&str> = None;
const STORAGE: Option<&str> = Some("storage");
const HINTS: Option<&str> = Some("hints");
const REPAIR: Option<&str> = Some("repair");

/// In the order of the example file: tables after the top, each in one piece.
pub(super) const EVERY: &[Key] = &[
    key!(
        TOP,
        "cluster_name",
        "Nodes of a cluster of another name are refused.",
        cluster_name,
        |v| v.name(),
        text
    ),
    key!(
        TOP,
        "listen_address",
        "Where peers reach this node.",
        listen_address,
        |v| v.reachable_address(),
        text
    ),
    key!(
        TOP,
        "rpc_address",
        "Where clients and operators reach it (gRPC).",
        rpc_address,
        |v| v.reachable_address(),
        text
    ),
    Key {
        table: TOP,
        name: "native_transport_address",
        about: "Where CQL clients reach it (native protocol v4, v5): the same port on every node. Absent: nowhere.",
        read: |value, draft| {
            draft.config.native_transport_address = Some(value.reachable_address()?);
            Ok(())
        },
        write: |config| config.native_transport_address.as_ref().map(text),
        instance: "\"127.0.0.1:9042\"",
    },
    doors::CQL_CERTIFICATE,
    doors::CQL_PRIVATE_KEY,
    doors::CQL_CLIENT_CA,
    doors::RPC_CERTIFICATE,
    doors::RPC_PRIVATE_KEY,
    doors::RPC_CLIENT_CA,
    doors::AUTHENTICATOR,
    doors::CREDENTIALS_VALIDITY,
    Key {
        table: TOP,
        name: "metrics_address",
        about: "Where Prometheus finds the metrics (HTTP, /metrics). Absent: nowhere.",
        read: |value, draft| {
            draft.config.metrics_address = Some(value.address()?);
            Ok(())
        },
        write: |config| config.metrics_address.as_ref().map(text),
        instance: "\"127.0.0.1:9180\"",
    },
    Key {
        table: TOP,
        name: "data_directory",
        about: "Everything the node keeps is under it.",
        read: |value, draft| {
            draft.config.data_directory = value.name()?.into();
            Ok(())
        },
        write: |config| Some(text(&config.data_directory.display())),
        instance: "",
    },
    key!(
        TOP,
        "seeds",
        "`listen_address`es of nodes to gossip with first; its own may be among them.",
        seeds,
        |v| v.list("a list of addresses, such as [\"127.0.0.1:7000\"]", Value::reachable_address),
        |seeds: &Vec<_>| list(seeds, text)
    ),
    key!(TOP, "dc", "The data centre this node is in.", dc, |v| v.name(), text),
    key!(
        TOP,
        "rack",
        "The rack it is in: what fails together (on EC2, an availability zone).",
        rack,
        |v| v.name(),
        text
    ),
    Key {
        table: TOP,
        name: "num_tokens",
        about: "How many tokens it claims (virtual nodes) when it first starts.",
        read: |value, draft| {
            draft.num_tokens = Some(value.number(1..=1536)?);
            Ok(())
        },
        write: |config| config.initial_token.is_empty().then(|| config.num_tokens.to_string()),
        instance: "16",
    },
    key!(
        TOP,
        "initial_token",
        "Fixed tokens instead of random ones. Empty: random ones.",
        initial_token,
        |v| v.list("a list of tokens, such as [-4611686018427387904, 0]", |token| {
            token.number(i64::MIN + 1..=i64::MAX)
        }),
        |tokens: &Vec<i64>| list(tokens, i64::to_string)
    ),
    key!(
        TOP,
        "write_request_timeout",
        "How long a coordinator waits for replicas to write.",
        write_request_timeout,
        |v| v.some_duration(),
        time
    ),
    key!(
        TOP,
        "counter_write_request_timeout",
        "How long it waits for the replica that leads a write of counters, if it is none itself.",
        counter_write_request_timeout,
        |v| v.some_duration(),
        time
    ),
    key!(
        TOP,
        "read_request_timeout",
        "How long it waits for them to read.",
        read_request_timeout,
        |v| v.some_duration(),
        time
    ),
    key!(
        TOP,
        "range_request_timeout",
        "How long it waits for a page of a scan.",
        range_request_timeout,
        |v| v.some_duration(),
        time
    ),
    key!(
        TOP,
        "cas_contention_timeout",
        "How long a conditional write goes on trying while others are in its way.",
        cas_contention_timeout,
        |v| v.some_duration(),
        time
    ),
    key!(
        TOP,
        "max_value_size",
        "Larger values are refused.",
        max_value_size,
        |v| v.some_size(),
        size
    ),
    key!(
        TOP,
        "tombstone_warn_threshold",
        "A read that meets more tombstones than this on a replica is counted and logged.",
        tombstone_warn_threshold,
        |v| v.number(0..=i64::MAX).map(i64::cast_unsigned),
        u64::to_string
    ),
    key!(
        TOP,
        "tombstone_failure_threshold",
        "A read that meets more than this fails on that replica.",
        tombstone_failure_threshold,
        |v| v.number(1..=i64::MAX).map(i64::cast_unsigned),
        u64::to_string
    ),
    key!(
        TOP,
        "batch_size_warn_threshold",
        "The client of a larger batch is warned.",
        batch_size_warn_threshold,
        |v| v.size(),
        size
    ),
    key!(
        TOP,
        "batch_size_fail_threshold",
        "A larger batch is refused.",
        batch_size_fail_threshold,
        |v| v.some_size(),
        size
    ),
    key!(
        TOP,
        "unlogged_batch_across_partitions_warn_threshold",
        "The client of an unlogged batch that writes more partitions is warned.",
        unlogged_batch_across_partitions_warn_threshold,
        |v| v.number(0..=1_000_000),
        usize::to_string
    ),
    key!(
        TOP,
        "batchlog_replay_throttle",
        "What all nodes together send to finish batches whose coordinators did not; \"0\": no limit.",
        batchlog_replay_throttle,
        |v| v.throughput(),
        throughput
    ),
    key!(
        TOP,
        "phi_convict_threshold",
        "How sure the failure detector must be before a peer counts as down. With gossip every second, 8 is\nabout 18 seconds of silence; 12 suits networks that stutter.",
        phi_convict_threshold,
        |v| v.positive(),
        float
    ),
    key!(
        TOP,
        "gossip_interval",
        "How often this node gossips.",
        gossip_interval,
        |v| v.some_duration(),
        time
    ),
    key!(
        TOP,
        "native_transport_max_concurrent_requests",
        "Client requests in flight before more are refused as overload.",
        max_concurrent_requests,
        |v| v.number(1..=1_000_000),
        usize::to_string
    ),
    key!(
        TOP,
        "native_transport_max_request_data_in_flight",
        "Bytes of CQL requests in flight before more are refused as overload, and of answers that clients do not take.",
        max_request_data_in_flight,
        |v| v.some_size(),
        size
    ),
    key!(
        TOP,
        "internode_application_send_queue_capacity",
        "Bytes that wait for one peer, for each kind of traffic; beyond, messages are dropped and counted.",
        internode_queue_bytes,
        |v| v.some_size(),
        size
    ),
    key!(
        TOP,
        "fault_injection",
        "Whether messages may be dropped, delayed and duplicated on command. For lessons, never for data.",
        fault_injection,
        |v| v.flag(),
        bool::to_string
    ),
    key!(
        STORAGE,
        "engine",
        "\"lsm\": our own log-structured merge tree. \"sled\": sled 0.34, for comparison.",
        storage.engine,
        |v| v.choice(&ENGINES),
        |engine: &EngineKind| word(&ENGINES, *engine)
    ),
    Key {
        table: STORAGE,
        name: "commitlog_sync",
        about: "When a write is acknowledged. \"periodic\": at once, with a sync every so often; \"batch\": after a sync;\n\"group\": after a sync that waits a moment for company.",
        read: |value, draft| {
            draft.commitlog_sync = Some(value.choice(&SyncMode::NAMES)?);
            Ok(())
        },
        write: |config| {
            let mode = match config.storage.commitlog_sync {
                CommitlogSync::Periodic(_) => SyncMode::Periodic,
                CommitlogSync::Batch => SyncMode::Batch,
                CommitlogSync::Group(_) => SyncMode::Group,
            };
            Some(word(&SyncMode::NAMES, mode))
        },
        instance: "",
    },
    Key {
        table: STORAGE,
        name: "commitlog_sync_period",
        about: "With \"periodic\": how often. A crash of all replicas' machines within it loses what it held.",
        read: |value, draft| {
            draft.commitlog_sync_period = Some(value.some_duration()?);
            Ok(())
        },
        write: |config| match &config.storage.commitlog_sync {
            CommitlogSync::Periodic(period) => Some(time(period)),
            _ => None,
        },
        instance: "\"10s\"",
    },
    Key {
        table: STORAGE,
        name: "commitlog_sync_group_window",
        about: "With \"group\": how long a sync waits for company.",
        read: |value, draft| {
            draft.commitlog_sync_group_window = Some(value.some_duration()?);
            Ok(())
        },
        write: |config| match &config.storage.commitlog_sync {
            CommitlogSync::Group(window) => Some(time(window)),
            _ => None,
        },
        instance: "\"15ms\"",
    },
    key!(
        STORAGE,
        "commitlog_segment_size",
        "A log file this large is closed.",
        storage.commitlog_segment_size,
        |v| v.some_size(),
        size
    ),
    key!(
        STORAGE,
        "commitlog_total_space",
        "Above it the oldest memtables are flushed to free log files.",
        storage.commitlog_total_space,
        |v| v.some_size(),
        size
    ),
    key!(
        STORAGE,
        "memtable_heap_space",
        "A memtable this large is flushed.",
        storage.memtable_heap_space,
        |v| v.some_size(),
        size
    ),
    key!(
        STORAGE,
        "compaction_throughput",
        "What compaction may write; \"0\": no limit.",
        storage.compaction_throughput,
        |v| v.throughput(),
        throughput
    ),
    key!(
        STORAGE,
        "concurrent_compactors",
        "Compactions that run at a time, 1 to 8; together they keep to compaction_throughput.",
        storage.concurrent_compactors,
        |v| v.number(1..=crate::seams::background::COMPACTORS_MAX),
        u8::to_string
    ),
    key!(
        STORAGE,
        "block_cache_size",
        "Memory for blocks of SSTables; \"0\": none.",
        storage.block_cache_size,
        |v| v.size(),
        size
    ),
    key!(
        STORAGE,
        "auto_snapshot",
        "Keep a table that is dropped as a snapshot, until it is cleared.",
        storage.auto_snapshot,
        |v| v.flag(),
        bool::to_string
    ),
    key!(
        HINTS,
        "hinted_handoff_enabled",
        "Whether hints are kept at all.",
        hints.enabled,
        |v| v.flag(),
        bool::to_string
    ),
    key!(
        HINTS,
        "max_hint_window",
        "A target that has been down for longer gets no new hints: it will need a repair.",
        hints.max_hint_window,
        |v| v.duration(),
        time
    ),
    key!(
        HINTS,
        "max_hints_size",
        "All hints of this node together, headers and what is in flight included. Exact.",
        hints.max_hints_size,
        |v| v.some_size(),
        size
    ),
    key!(
        HINTS,
        "max_hints_size_per_host",
        "The hints for one target; \"0\": only the bound above.",
        hints.max_hints_size_per_host,
        |v| v.size(),
        size
    ),
    key!(
        HINTS,
        "max_dead_letters_size",
        "Bytes that dead letters may take besides (overflow = \"dead-letter\"); \"0\": none.",
        hints.max_dead_letters_size,
        |v| v.size(),
        size
    ),
    key!(
        HINTS,
        "max_hints_file_size",
        "A hint file this large is closed.",
        hints.max_hints_file_size,
        |v| v.some_size(),
        size
    ),
    key!(
        HINTS,
        "hinted_handoff_throttle",
        "How fast hints are replayed to one target; \"0\": no limit.",
        hints.hinted_handoff_throttle,
        |v| v.throughput(),
        throughput
    ),
    key!(
        HINTS,
        "hinted_handoff_throttle_total",
        "How fast hints are replayed to all targets together; \"0\": no limit.",
        hints.hinted_handoff_throttle_total,
        |v| v.throughput(),
        throughput
    ),
    key!(
        HINTS,
        "hints_receive_throttle",
        "How fast this node takes the hints that all coordinators together owe it; \"0\": no limit. They are told with each\npage when the next is welcome.",
        hints.hints_receive_throttle,
        |v| v.throughput(),
        throughput
    ),
    key!(
        HINTS,
        "hints_flush_period",
        "How often new hints are synced to disk.",
        hints.hints_flush_period,
        |v| v.some_duration(),
        time
    ),
    key!(
        HINTS,
        "overflow",
        "When a bound is reached: \"drop-newest\" refuses the new hint, \"drop-oldest\" makes room, \"dead-letter\" sets\nthe new one aside (helenusctl deadletters), \"fail-write\" refuses the write before anything is sent, \"throttle\" lets it\nwait for room. A keyspace may have its own (hint_overflow).",
        hints.overflow,
        |v| v.choice(&Overflow::NAMES),
        |overflow: &Overflow| word(&Overflow::NAMES, *overflow)
    ),
    key!(
        HINTS,
        "hint_throttle_max_wait",
        "With \"throttle\": how long a write waits for room before its hint is refused.",
        hints.hint_throttle_max_wait,
        |v| v.duration(),
        time
    ),
    key!(
        HINTS,
        "handoff_paused",
        "Start with replay paused.",
        hints.paused,
        |v| v.flag(),
        bool::to_string
    ),
    key!(
        REPAIR,
        "stream_throughput_outbound",
        "What this node may send to other replicas in repairs; \"0\": no limit.",
        repair.stream_throughput_outbound,
        |v| v.throughput(),
        throughput
    ),
    key!(
        REPAIR,
        "concurrent_repair_sessions",
        "Ranges that a repair compares at a time, 1 to 16.",
        repair.concurrent_repair_sessions,
        |v| v.number(1..=16),
        u8::to_string
    ),
    key!(
        REPAIR,
        "repair_session_space",
        "Memory for the Merkle trees of each of them: more makes finer ranges.",
        repair.repair_session_space,
        |v| v.some_size(),
        size
    ),
];

/// Every key with its value as the file has it, but for the quotes; `None`: this configuration does not have it.
pub(super) fn settings(config: &Config) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let bare = |value: String| match format!("v = {value}").parse::<toml::Table>() {
        Ok(mut table) => match table.remove("v") {
            Some(toml::Value::String(text)) => text,
            _ => value,
        },
        Err(_) => value,
    };
    EVERY.iter().map(move |key| (key.name, (key.write)(config).map(bare)))
}

/// `config` as a file that explains itself.
pub(super) fn write(config: &Config) -> String {
    let mut lines = vec![
        "# A Helenus node. Keys are Cassandra's where Cassandra has one; sizes and times carry their units."
            .to_owned(),
    ];
    let mut table = None;
    for key in EVERY {
        lines.push(String::new());
        if key.table != table {
            table = key.table;
            if let Some(table) = TABLES.iter().find(|known| Some(known.name) == key.table) {
                lines.push(format!("# {}", table.about));
                lines.push(format!("[{}]\n", table.name));
            }
        }
        lines.extend(key.about.lines().map(|line| format!("# {line}")));
        lines.push(match (key.write)(config) {
            Some(value) => format!("{} = {value}", key.name),
            None => format!("# {} = {}", key.name, key.instance),
        });
    }
    lines.join("\n") + "\n"
}
