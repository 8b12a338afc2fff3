//! Configuration: one TOML file, parsed once into values that cannot be wrong. Keys are Cassandra's where Cassandra has
//! one; values carry their units (`"500MiB"`, `"3h"`).
//!
//! Every key is described in one table (`keys`): what it is called, how it is read, how it is written. The reader, the
//! suggestions for misspelt keys and the example file all come from it, so they cannot disagree. What one value may be
//! is checked where it is read, what two values may be together when all are: both in `raw`.
//!
//! Invariant: all problems of a file are reported at once, each with its line and column.

mod keys;
mod raw;
mod words;

pub use helenus_core::hint::Overflow;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a node is told at its start.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `cluster_name`: nodes of another cluster are refused. Default `helenus`.
    pub cluster_name: String,
    /// `listen_address`: where peers reach this node (internode). Loopback unless said otherwise.
    pub listen_address: SocketAddr,
    /// `rpc_address`: where clients and operators reach it (gRPC).
    pub rpc_address: SocketAddr,
    /// `native_transport_address`: where CQL clients reach it; absent: nowhere. Drivers assume one port for all nodes.
    pub native_transport_address: Option<SocketAddr>,
    /// `native_transport_tls_…`: what CQL is encrypted with; absent: it is not.
    pub native_transport_tls: Option<TlsFiles>,
    /// `rpc_tls_…`: what gRPC is encrypted with; absent: it is not.
    pub rpc_tls: Option<TlsFiles>,
    /// `authenticator`: who may talk CQL. Default: everybody.
    pub authenticator: Authenticator,
    /// `credentials_validity`: how long a password that was right is known by a quick look. Default 2 s.
    pub credentials_validity: Duration,
    /// `metrics_address`: Prometheus over HTTP; absent: none.
    pub metrics_address: Option<SocketAddr>,
    /// `data_directory`.
    pub data_directory: PathBuf,
    /// `seeds`: internode addresses of nodes to gossip with first.
    pub seeds: Vec<SocketAddr>,
    /// `dc`.
    pub dc: String,
    /// `rack`.
    pub rack: String,
    /// `num_tokens`: virtual nodes. Default 16.
    pub num_tokens: u16,
    /// `initial_token`: fixed tokens instead of random ones; empty: random.
    pub initial_token: Vec<i64>,
    /// `write_request_timeout`. Default 2 s.
    pub write_request_timeout: Duration,
    /// `counter_write_request_timeout`. Default 5 s.
    pub counter_write_request_timeout: Duration,
    /// `read_request_timeout`. Default 5 s.
    pub read_request_timeout: Duration,
    /// `range_request_timeout`. Default 10 s.
    pub range_request_timeout: Duration,
    /// `cas_contention_timeout`. Default 1 s.
    pub cas_contention_timeout: Duration,
    /// `max_value_size` in bytes. Default 16 MiB.
    pub max_value_size: u64,
    /// `tombstone_warn_threshold`: a read that meets more is counted and logged. Default 1000.
    pub tombstone_warn_threshold: u64,
    /// `tombstone_failure_threshold`: a read that meets more fails. Default 100000.
    pub tombstone_failure_threshold: u64,
    /// `batch_size_warn_threshold` in bytes: the client of a larger batch is warned. Default 5 KiB.
    pub batch_size_warn_threshold: u64,
    /// `batch_size_fail_threshold` in bytes: a larger batch is refused. Default 50 KiB.
    pub batch_size_fail_threshold: u64,
    /// `unlogged_batch_across_partitions_warn_threshold`: the client of an unlogged batch of more partitions is warned.
    /// Default 10.
    pub unlogged_batch_across_partitions_warn_threshold: usize,
    /// `batchlog_replay_throttle` in bytes per second, of all nodes of the ring together; 0: none. Default 1 MiB/s.
    pub batchlog_replay_throttle: u64,
    /// `phi_convict_threshold`. Default 8.
    pub phi_convict_threshold: f64,
    /// `gossip_interval`. Default 1 s.
    pub gossip_interval: Duration,
    /// `native_transport_max_concurrent_requests`: client requests in flight before OVERLOADED. Default 4096.
    pub max_concurrent_requests: usize,
    /// `native_transport_max_request_data_in_flight`: bytes of CQL requests in flight before OVERLOADED, and as many of answers
    /// that clients have not taken. Default 256 MiB.
    pub max_request_data_in_flight: u64,
    /// `internode_application_send_queue_capacity` per peer and lane, in bytes. Default 4 MiB.
    pub internode_queue_bytes: u64,
    /// `fault_injection`: whether the message filter may be armed over the wire. Default false.
    pub fault_injection: bool,
    /// The `[storage]` table.
    pub storage: StorageConfig,
    /// The `[hints]` table.
    pub hints: HintsConfig,
    /// The `[repair]` table.
    pub repair: RepairConfig,
}

/// Who may talk CQL, by Cassandra's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authenticator {
    /// Everybody.
    AllowAll,
    /// Roles with their passwords.
    Password,
}

/// The files that a port is encrypted with, all of them PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, and those between it and the authority's.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: PathBuf,
    /// Authorities of whose certificates clients must show one; absent: they need none.
    pub client_ca: Option<PathBuf>,
}

/// Which engine keeps the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Our own log-structured merge tree.
    Lsm,
    /// sled 0.34.
    Sled,
}

/// When a write counts as durable (Cassandra's `commitlog_sync`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitlogSync {
    /// Acknowledge at once, sync every so often. Default: every 10 s.
    Periodic(Duration),
    /// Sync before acknowledging; whatever waits is synced together.
    Batch,
    /// As `batch`, but wait up to this long to gather more.
    Group(Duration),
}

/// The `[storage]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageConfig {
    /// `engine`: `lsm` or `sled`.
    pub engine: EngineKind,
    /// `commitlog_sync`, `commitlog_sync_period`.
    pub commitlog_sync: CommitlogSync,
    /// `commitlog_segment_size`. Default 32 MiB.
    pub commitlog_segment_size: u64,
    /// `commitlog_total_space`: above it the oldest memtables are flushed to free segments. Default 1 GiB.
    pub commitlog_total_space: u64,
    /// `memtable_heap_space`: what memtables may take, those that are being flushed included; from half of it on the largest
    /// that is written to is flushed. Default 64 MiB.
    pub memtable_heap_space: u64,
    /// `compaction_throughput` in bytes per second; 0: none. Default 64 MiB/s.
    pub compaction_throughput: u64,
    /// `concurrent_compactors`: compactions that run at a time, 1 to 8. Default 2, on every machine: what a simulation
    /// does must not depend on its cores.
    pub concurrent_compactors: u8,
    /// `block_cache_size` in bytes. Default 64 MiB.
    pub block_cache_size: u64,
    /// `auto_snapshot`: a table that is dropped is kept as a snapshot. Default true.
    pub auto_snapshot: bool,
}

/// The `[hints]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct HintsConfig {
    /// `hinted_handoff_enabled`. Default true.
    pub enabled: bool,
    /// `max_hint_window`: a target that has been down for longer gets no new hints. Default 3 h.
    pub max_hint_window: Duration,
    /// `max_hints_size`: the node-wide bound in bytes, headers and in-flight included. Default 1 GiB.
    pub max_hints_size: u64,
    /// `max_hints_size_per_host`: the bound per target; 0: only the node-wide one. Default 0.
    pub max_hints_size_per_host: u64,
    /// `max_dead_letters_size`: the bound of the dead-letter log in bytes, beside `max_hints_size`; 0: no room. Default
    /// 1 GiB.
    pub max_dead_letters_size: u64,
    /// `max_hints_file_size`: a segment this large is closed. Default 128 MiB.
    pub max_hints_file_size: u64,
    /// `hinted_handoff_throttle` in bytes per second per target; 0: none. Default 1 MiB/s.
    pub hinted_handoff_throttle: u64,
    /// `hinted_handoff_throttle_total` in bytes per second over all targets; 0: none. Default 16 MiB/s.
    pub hinted_handoff_throttle_total: u64,
    /// `hints_receive_throttle` in bytes per second, of all coordinators that owe this node hints together; 0: none.
    /// Default 16 MiB/s.
    pub hints_receive_throttle: u64,
    /// `hints_flush_period`: how often appended hints are synced. Default 10 s.
    pub hints_flush_period: Duration,
    /// `overflow`: what happens to hints that there is no room for, in keyspaces that do not say. Default `drop-newest`.
    pub overflow: Overflow,
    /// `hint_throttle_max_wait`: how long a write waits for room under `throttle`. Default 1 s.
    pub hint_throttle_max_wait: Duration,
    /// `handoff_paused`: start with replay paused. Default false.
    pub paused: bool,
}

/// The `[repair]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairConfig {
    /// `stream_throughput_outbound` in bytes per second, all repairs' streams from this node together; 0: none. Default
    /// 24 MiB/s.
    pub stream_throughput_outbound: u64,
    /// `concurrent_repair_sessions`: ranges that a repair compares at a time, 1 to 16. Default 2.
    pub concurrent_repair_sessions: u8,
    /// `repair_session_space`: bytes of Merkle trees for each of them. Default 16 MiB.
    pub repair_session_space: u64,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

impl StorageConfig {
    /// When memtables that are written to take this share of `memtable_heap_space`, the largest is flushed: a writer in a
    /// hurry needs the rest before that has ended. It is Cassandra's `memtable_cleanup_threshold`, with one flush at a time.
    const CLEANUP_THRESHOLD: f64 = 0.5;

    /// So much memtables that are written to may take.
    pub fn memtable_active_space(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of it is smaller"
        )]
        let share = (self.memtable_heap_space as f64 * StorageConfig::CLEANUP_THRESHOLD) as u64;
        share
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        StorageConfig {
            engine: EngineKind::Lsm,
            commitlog_sync: CommitlogSync::Periodic(Duration::from_secs(10)),
            commitlog_segment_size: 32 * MIB,
            commitlog_total_space: GIB,
            memtable_heap_space: 64 * MIB,
            compaction_throughput: 64 * MIB,
            concurrent_compactors: 2,
            block_cache_size: 64 * MIB,
            auto_snapshot: true,
        }
    }
}

impl Default for HintsConfig {
    fn default() -> Self {
        HintsConfig {
            enabled: true,
            max_hint_window: Duration::from_secs(3 * 3600),
            max_hints_size: GIB,
            max_hints_size_per_host: 0,
            max_dead_letters_size: GIB,
            max_hints_file_size: 128 * MIB,
            hinted_handoff_throttle: MIB,
            hinted_handoff_throttle_total: 16 * MIB,
            hints_receive_throttle: 16 * MIB,
            hints_flush_period: Duration::from_secs(10),
            overflow: Overflow::DropNewest,
            hint_throttle_max_wait: Duration::from_secs(1),
            paused: false,
        }
    }
}

impl Default for RepairConfig {
    fn default() -> Self {
        RepairConfig {
            stream_throughput_outbound: 24 * MIB,
            concurrent_repair_sessions: 2,
            repair_session_space: 16 * MIB,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster_name: "helenus".to_owned(),
            listen_address: SocketAddr::from(([127, 0, 0, 1], 7000)),
            rpc_address: SocketAddr::from(([127, 0, 0, 1], 9160)),
            native_transport_address: None,
            native_transport_tls: None,
            rpc_tls: None,
            authenticator: Authenticator::AllowAll,
            credentials_validity: Duration::from_secs(2),
            metrics_address: None,
            data_directory: PathBuf::from("helenus-data"),
            seeds: Vec::new(),
            dc: "datacenter1".to_owned(),
            rack: "rack1".to_owned(),
            num_tokens: 16,
            initial_token: Vec::new(),
            write_request_timeout: Duration::from_secs(2),
            counter_write_request_timeout: Duration::from_secs(5),
            read_request_timeout: Duration::from_secs(5),
            range_request_timeout: Duration::from_secs(10),
            cas_contention_timeout: Duration::from_secs(1),
            max_value_size: 16 * MIB,
            tombstone_warn_threshold: 1000,
            tombstone_failure_threshold: 100_000,
            batch_size_warn_threshold: 5 * KIB,
            batch_size_fail_threshold: 50 * KIB,
            unlogged_batch_across_partitions_warn_threshold: 10,
            batchlog_replay_throttle: MIB,
            phi_convict_threshold: 8.0,
            gossip_interval: Duration::from_secs(1),
            max_concurrent_requests: 4096,
            max_request_data_in_flight: 256 * MIB,
            internode_queue_bytes: 4 * MIB,
            fault_injection: false,
            storage: StorageConfig::default(),
            hints: HintsConfig::default(),
            repair: RepairConfig::default(),
        }
    }
}

/// Something that is wrong with a configuration file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong, what is allowed, what to do.
    pub message: String,
}

/// All that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was given.
    pub file: String,
    /// Invariant: not empty, in the order of the text.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, Problem { line, column, message }) in self.problems.iter().enumerate() {
            let end = if nth == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}:{column}: {message}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a configuration file's text. Keys that are absent have their defaults. `file` is for messages only.
    pub fn from_toml(text: &str, file: &str) -> Result<Config, ConfigError> {
        let mut problems = Vec::new();
        let config = raw::read(text, &mut problems);
        if problems.is_empty() {
            return Ok(config);
        }
        problems.sort_by_key(|(offset, _)| *offset);
        let problems = problems.into_iter().map(|(offset, message)| {
            let (line, column) = position(text, offset);
            Problem { line, column, message }
        });
        Err(ConfigError { file: file.to_owned(), problems: problems.collect() })
    }

    /// This configuration as a file that explains itself: every key, what it is for, its value.
    pub fn to_toml(&self) -> String {
        keys::write(self)
    }

    /// Every key with its value. No two keys have one name, whatever table they are in.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'static str, Option<String>)> {
        keys::settings(self)
    }

    /// The defaults as a file that explains itself.
    pub fn example() -> String {
        Config::default().to_toml()
    }
}

/// Line and column of a byte offset, counted from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.matches('\n').count() + 1;
    (line, before.chars().count() - before.get(..line_start).unwrap_or("").chars().count() + 1)
}

/// The candidate that `word` is a likely misspelling of, if there is one: what "did you mean" asks. Letter case does
/// not matter; about one letter in three may be wrong.
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let near = candidates.into_iter().filter_map(|candidate| {
        let wrong = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
        (wrong <= 1 + candidate.chars().count() / 3).then_some((wrong, candidate))
    });
    near.min().map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests;
