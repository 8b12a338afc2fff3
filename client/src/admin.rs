//! The operator's door: nodetool's verbs and the schema, one typed call each, against one node.

use crate::channel::{self, ChannelOptions};
use crate::connect::{BoxFuture, Connect, Tcp};
use crate::error::{AdminError, root_cause};
use bytes::Bytes;
use helenus_proto::v1;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;

/// How a new keyspace is replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewReplication {
    /// SimpleStrategy: so many copies.
    Simple(u32),
    /// NetworkTopologyStrategy: so many copies in each data centre.
    PerDc(BTreeMap<String, u32>),
}

/// Some of a node's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFilter {
    /// Only this keyspace; empty: all of them.
    pub keyspace: String,
    /// Only this table; empty: all of them.
    pub table: String,
}

impl From<TableFilter> for v1::StorageTarget {
    fn from(filter: TableFilter) -> Self {
        v1::StorageTarget { keyspace: filter.keyspace, table: filter.table }
    }
}

/// Operator's calls to one node. Cheap to clone; clones share the connection, which is made by the first call and made
/// again after a loss.
///
/// No call is retried: most of them change something, and the operator should see what happened.
#[derive(Debug, Clone)]
pub struct Admin {
    addr: SocketAddr,
    timeout: Duration,
    channel: Channel,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $request:expr => $response:ident;)*) => {
        impl Admin {
            // Boxed here: an `async fn` is built by whoever awaits it, all of the call by each program anew.
            $($(#[$doc])*
            pub fn $name(&self, $($arg: $type),*) -> BoxFuture<'_, Result<v1::$response, AdminError>> {
                let request = $request;
                let mut client = channel::admin(self.channel.clone());
                Box::pin(self.answered(async move { client.$name(request).await }))
            })*
        }
    };
}

calls! {
    /// Drops a keyspace with all its tables and data.
    drop_keyspace(name: &str, if_exists: bool)
        -> v1::DropKeyspaceRequest { name: name.to_owned(), if_exists } => SchemaChanged;
    /// Creates a key-value table. `options` are Cassandra's names and values as text; unknown ones are refused.
    create_table(keyspace: &str, name: &str, if_not_exists: bool, options: BTreeMap<String, String>)
        -> v1::CreateTableRequest { keyspace: keyspace.to_owned(), name: name.to_owned(), if_not_exists, options }
        => SchemaChanged;
    /// Drops a table with its data.
    drop_table(keyspace: &str, name: &str, if_exists: bool)
        -> v1::DropTableRequest { keyspace: keyspace.to_owned(), name: name.to_owned(), if_exists } => SchemaChanged;
    /// The schema as this node has it: one keyspace, or all when `keyspace` is empty.
    describe(keyspace: &str) -> v1::DescribeRequest { keyspace: keyspace.to_owned() } => DescribeResponse;
    /// The ring and its members as this node sees them.
    topology() -> v1::TopologyRequest {} => TopologyResponse;
    /// What this node says about itself.
    info() -> v1::InfoRequest {} => InfoResponse;
    /// Everything this node knows by gossip.
    gossip_info() -> v1::GossipInfoRequest {} => GossipInfoResponse;
    /// Work in progress, dropped messages, and links to peers.
    tp_stats() -> v1::TpStatsRequest {} => TpStatsResponse;
    /// Figures per table.
    table_stats(tables: TableFilter)
        -> v1::TableStatsRequest { keyspace: tables.keyspace, table: tables.table } => TableStatsResponse;
    /// Compactions that run and wait.
    compaction_stats() -> v1::CompactionStatsRequest {} => CompactionStatsResponse;
    /// Compactions that ended, the newest first.
    compaction_history() -> v1::CompactionHistoryRequest {} => CompactionHistoryResponse;
    /// Which nodes hold a key.
    get_endpoints(keyspace: &str, key: Bytes)
        -> v1::GetEndpointsRequest { keyspace: keyspace.to_owned(), key } => GetEndpointsResponse;
    /// Has this node leave the ring, or asks how far it is. With `force` also where fewer copies would be left, while
    /// members are down, and with losses that no repair has mended.
    decommission(force: bool) -> v1::DecommissionRequest { force } => DecommissionReport;
    /// How far this node's leave is.
    decommission_status() -> v1::DecommissionStatusRequest {} => DecommissionReport;
    /// Stops delivering hints from this node. They go on being stored.
    pause_handoff() -> v1::PauseHandoffRequest {} => Done;
    /// Delivers hints again.
    resume_handoff() -> v1::ResumeHandoffRequest {} => Done;
    /// What this node owes to whom, and what became of all the hints it ever made.
    list_pending_hints() -> v1::ListPendingHintsRequest {} => ListPendingHintsResponse;
    /// Forgets hints: those for one host id or address, or all when `target` is empty. What they would have repaired
    /// stays unrepaired until a read or a repair finds it.
    truncate_hints(target: &str)
        -> v1::TruncateHintsRequest { target: target.to_owned() } => TruncateHintsResponse;
    /// Waits until every hint that this node owes to a host id or address now is delivered or counted as not deliverable,
    /// at most `timeout_ms`.
    await_hints(target: &str, timeout_ms: u32)
        -> v1::AwaitHintsRequest { target: target.to_owned(), timeout_ms } => AwaitHintsResponse;
    /// Hints that were not stored or not delivered, by token range, until a repair settles them: of one host id or
    /// address, or all when `target` is empty.
    hint_ledger(target: &str) -> v1::HintLedgerRequest { target: target.to_owned() } => HintLedgerResponse;
    /// Takes out of the ledger what a repair has covered.
    settle_hint_ledger(settle: v1::SettleHintLedgerRequest)
        -> settle => SettleHintLedgerResponse;
    /// The dead letters that this node holds, by target: hints that there was no room for.
    list_dead_letters() -> v1::ListDeadLettersRequest {} => ListDeadLettersResponse;
    /// Some dead letters, of one host id or address, or of all when the target is empty.
    read_dead_letters(request: v1::ReadDeadLettersRequest) -> request => ReadDeadLettersResponse;
    /// Delivers dead letters, to one host id or address, or to all when `target` is empty, for at most `timeout_ms`.
    replay_dead_letters(target: &str, timeout_ms: u32)
        -> v1::ReplayDeadLettersRequest { target: target.to_owned(), timeout_ms } => ReplayDeadLettersResponse;
    /// Removes dead letters for good: those for one host id or address, or all when `target` is empty; of each target only
    /// those before the first that was written at `before_us` or later, unless that is 0. The loss ledger has them from
    /// then on.
    purge_dead_letters(target: &str, before_us: i64)
        -> v1::PurgeDeadLettersRequest { target: target.to_owned(), before_us } => PurgeDeadLettersResponse;
    /// Writes memtables to SSTables.
    flush(tables: TableFilter) -> v1::StorageTarget::from(tables) => Done;
    /// Compacts everything now (a major compaction).
    compact(tables: TableFilter) -> v1::StorageTarget::from(tables) => Done;
    /// Compacts in the background again.
    enable_auto_compaction(tables: TableFilter) -> v1::StorageTarget::from(tables) => Done;
    /// Stops background compaction; SSTables pile up.
    disable_auto_compaction(tables: TableFilter) -> v1::StorageTarget::from(tables) => Done;
    /// Bounds compaction's writing, in bytes per second; 0 lifts the bound.
    set_compaction_throughput(bytes_per_s: u64)
        -> v1::SetCompactionThroughputRequest { bytes_per_s } => Done;
    /// Reads everything that is on the node's disk, and reports what does not hold.
    verify(tables: TableFilter, quick: bool)
        -> v1::VerifyRequest { target: Some(tables.into()), quick } => VerifyResponse;
    /// Writes damaged SSTables anew, with all that can still be read; with `all`, the others too.
    scrub(tables: TableFilter, all: bool, no_snapshot: bool)
        -> v1::ScrubRequest { target: Some(tables.into()), all, no_snapshot } => ScrubResponse;
    /// Keeps tables as they are now under a name, by hard links.
    take_snapshot(tag: &str, tables: TableFilter)
        -> v1::TakeSnapshotRequest { target: Some(tables.into()), tag: tag.to_owned() } => Done;
    /// The snapshots that this node has.
    list_snapshots() -> v1::ListSnapshotsRequest {} => ListSnapshotsResponse;
    /// Removes a snapshot; every one when `tag` is `None`.
    clear_snapshot(tag: Option<&str>, tables: TableFilter)
        -> v1::ClearSnapshotRequest {
            target: Some(tables.into()),
            tag: tag.unwrap_or_default().to_owned(),
            all: tag.is_none(),
        } => ClearSnapshotResponse;
    /// How many compactions may run at a time; those under way run to their end.
    set_concurrent_compactors(compactors: u32)
        -> v1::SetConcurrentCompactorsRequest { compactors } => Done;
    /// Starts a repair that this node coordinates; it goes on by itself.
    start_repair(request: v1::StartRepairRequest) -> request => RepairReport;
    /// How far a repair is, or how it ended; 0: the one that runs or ran last.
    repair_status(id: u64) -> v1::RepairStatusRequest { id } => RepairReport;
    /// Ends the repair that runs. What it sent stays sent.
    cancel_repair() -> v1::CancelRepairRequest {} => RepairReport;
    /// The repairs that this node remembers, the newest first.
    repair_history() -> v1::RepairHistoryRequest {} => RepairHistoryResponse;
    /// Puts these rules about messages between nodes in the place of those that this node had; their counts start anew.
    /// Refused unless the node runs with `fault_injection = true`.
    arm_filter(rules: Vec<v1::FilterRule>) -> v1::ArmFilterRequest { rules } => Done;
    /// The rules that are armed, and how many messages each has matched.
    list_filter() -> v1::ListFilterRequest {} => ListFilterResponse;
    /// Makes a role that CQL clients may log in as, if it has a password.
    create_role(name: &str, password: Option<String>, can_login: bool)
        -> v1::CreateRoleRequest { name: name.to_owned(), password, can_login } => Done;
    /// Changes what is given of a role.
    alter_role(name: &str, password: Option<String>, can_login: Option<bool>)
        -> v1::AlterRoleRequest { name: name.to_owned(), password, can_login } => Done;
    /// Ends a role.
    drop_role(name: &str) -> v1::DropRoleRequest { name: name.to_owned() } => Done;
    /// All roles, by their names.
    list_roles() -> v1::ListRolesRequest {} => ListRolesResponse;
    /// Disarms all rules.
    disarm_filter() -> v1::DisarmFilterRequest {} => Done;
}

impl Admin {
    /// The door of one node, over TCP, without a [`crate::Client`]: it works when the rest of the cluster does not. The
    /// connection is made by the first call, and each call gets `timeout`.
    pub fn to(addr: SocketAddr, timeout: Duration) -> Admin {
        Admin::through(addr, timeout, Arc::new(Tcp))
    }

    /// As [`Admin::to`], over another connector.
    pub fn through(addr: SocketAddr, timeout: Duration, connector: Arc<dyn Connect>) -> Admin {
        let options = ChannelOptions::default();
        Admin::over(addr, timeout, channel::open_lazily(addr, connector, options))
    }

    pub(crate) fn over(addr: SocketAddr, timeout: Duration, channel: Channel) -> Admin {
        Admin { addr, timeout, channel }
    }

    /// The node that is asked.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same door with another patience. A compaction may take longer than the default.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Admin {
        self.timeout = timeout;
        self
    }

    /// Creates a keyspace.
    pub async fn create_keyspace(
        &self,
        name: &str,
        replication: NewReplication,
        if_not_exists: bool,
    ) -> Result<v1::SchemaChanged, AdminError> {
        self.create_keyspace_with_overflow(name, replication, "", if_not_exists).await
    }

    /// Creates a keyspace with its own policy for hints that there is no room for: `drop-newest`, `drop-oldest`,
    /// `dead-letter`, `fail-write` or `throttle`. Empty: what each node's configuration says.
    pub async fn create_keyspace_with_overflow(
        &self,
        name: &str,
        replication: NewReplication,
        hint_overflow: &str,
        if_not_exists: bool,
    ) -> Result<v1::SchemaChanged, AdminError> {
        let (rf, per_dc) = match replication {
            NewReplication::Simple(rf) => (rf, BTreeMap::new()),
            NewReplication::PerDc(per_dc) => (0, per_dc),
        };
        let (name, hint_overflow) = (name.to_owned(), hint_overflow.to_owned());
        let request = v1::CreateKeyspaceRequest { name, rf, per_dc, if_not_exists, hint_overflow };
        let mut client = channel::admin(self.channel.clone());
        self.answered(client.create_keyspace(request)).await
    }

    async fn answered<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, AdminError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.error(&status)),
            Err(_) => Err(AdminError::Timeout { addr: self.addr, timeout: self.timeout }),
        }
    }

    fn error(&self, status: &tonic::Status) -> AdminError {
        let addr = self.addr;
        // A status with a source was made here, by the transport; one without came from the node.
        let mut cause = std::error::Error::source(status);
        if cause.is_none() {
            let (code, message) = (status.code(), status.message().to_owned());
            return AdminError::Refused { addr, code, message };
        }
        while let Some(error) = cause {
            if error.is::<tonic::ConnectError>() {
                return AdminError::NotConnected { addr, reason: root_cause(error) };
            }
            cause = error.source();
        }
        AdminError::ConnectionLost { addr, reason: root_cause(status) }
    }
}
