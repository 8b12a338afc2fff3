//! The operator's door: nodetool's verbs, each a few lines over the part that knows.

use super::replication::copies;
use super::{dead_letters, decommission, filter, hints, integrity, repair, roles, schema, stats};
use crate::auth::Auth;
use crate::coordinator::Coordinator;
use crate::decommission::Decommission;
use crate::hints::{Deliver, HintStore};
use crate::membership::{MemberInfo, Membership};
use crate::own_tables;
use crate::peers::{Peers, Verb};
use crate::repair::Repairs;
use crate::schema::Keeper;
use crate::seams::background::COMPACTORS_MAX;
use crate::storage::{Engine, StorageError, history};
use helenus_core::placement::Placement;
use helenus_core::{NodeId, TableId, token};
use helenus_proto::{ids, v1};
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// What the service asks.
#[derive(Clone)]
pub(crate) struct AdminParts {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) hints: Arc<HintStore>,
    pub(crate) handoff: Arc<dyn Deliver>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) repairs: Arc<Repairs>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) decommission: Arc<Decommission>,
    /// Monotonic time of the start.
    pub(crate) started: std::time::Duration,
}

/// The `Admin` service.
#[derive(Clone)]
pub(crate) struct AdminService {
    pub(super) parts: AdminParts,
}

pub(super) type Answer<T> = Result<Response<T>, Status>;

impl AdminService {
    pub(crate) fn new(parts: AdminParts) -> AdminService {
        AdminService { parts }
    }

    /// The tables a storage verb is for; `None`: all of them.
    pub(super) fn target(
        &self,
        target: &v1::StorageTarget,
    ) -> Result<Option<Vec<TableId>>, Status> {
        if target.keyspace.is_empty() {
            if target.table.is_empty() {
                return Ok(None);
            }
            return Err(Status::invalid_argument(format!(
                "table `{}` was named without its keyspace",
                target.table
            )));
        }
        let view = self.parts.keeper.store.current();
        if view.schema.keyspace(&target.keyspace).is_none() {
            let message = format!("keyspace `{}` does not exist", target.keyspace);
            return Err(Status::not_found(message));
        }
        let named = view.schema.live_tables().filter(|t| {
            t.keyspace == target.keyspace && (target.table.is_empty() || t.name == target.table)
        });
        let named: Vec<TableId> = named.map(|t| t.id).collect();
        if named.is_empty() && !target.table.is_empty() {
            return Err(Status::not_found(format!(
                "table `{}.{}` does not exist",
                target.keyspace, target.table
            )));
        }
        Ok(Some(named))
    }

    /// The placement that ownership is shown for: the keyspace with the most copies.
    fn widest_placement(&self) -> Option<Placement> {
        let view = self.parts.keeper.store.current();
        let keyspaces = view.schema.live_keyspaces();
        let widest = keyspaces.max_by_key(|k| copies(&k.replication))?;
        Some(self.parts.coordinator.routes.placement(&widest.replication))
    }

    fn member(&self, info: &MemberInfo, placement: Option<&Placement>) -> v1::Member {
        v1::Member {
            node: ids::node_to_wire(info.node),
            client_addr: info.client.map(|a| a.to_string()).unwrap_or_default(),
            internode_addr: info.internode.map(|a| a.to_string()).unwrap_or_default(),
            dc: info.dc.clone(),
            rack: info.rack.clone(),
            tokens: info.tokens.iter().map(|t| t.0).collect(),
            up: info.up,
            status: info.status.clone(),
            load_bytes: info.load_bytes,
            owns: placement.map_or(0.0, |p| p.ownership(info.node)),
            phi: info.phi,
            schema_version: info.schema_version.clone(),
        }
    }

    /// The node with this host id or internode address, with or without the port.
    pub(super) fn node_named(&self, wanted: &str) -> Result<NodeId, Status> {
        // Those who have left too: something may be owed to them yet.
        let members = self.parts.membership.known();
        let by_address = members.iter().find(|m| {
            m.internode.is_some_and(|a| a.to_string() == wanted || a.ip().to_string() == wanted)
        });
        by_address.map(|m| m.node).or_else(|| wanted.parse().ok()).ok_or_else(|| {
            Status::invalid_argument(format!(
                "`{wanted}` is neither a host id nor the internode address of a node: see `helenusctl status`"
            ))
        })
    }

    pub(super) fn table_name(&self, id: TableId) -> (String, String) {
        own_tables::name_of(&self.parts.keeper.store.current(), id)
    }
}

pub(super) fn storage_status(error: &StorageError) -> Status {
    let message = error.to_string();
    match error {
        StorageError::Busy { .. } => Status::failed_precondition(message),
        StorageError::Unsupported { .. } => Status::unimplemented(message),
        StorageError::BadTag { .. } => Status::invalid_argument(message),
        StorageError::SnapshotExists { .. } => Status::already_exists(message),
        StorageError::NoSuchSnapshot { .. } => Status::not_found(message),
        _ => Status::internal(message),
    }
}

#[tonic::async_trait]
impl v1::admin_server::Admin for AdminService {
    async fn create_keyspace(
        &self,
        request: Request<v1::CreateKeyspaceRequest>,
    ) -> Answer<v1::SchemaChanged> {
        schema::create_keyspace(self, request.into_inner()).await
    }

    async fn drop_keyspace(
        &self,
        request: Request<v1::DropKeyspaceRequest>,
    ) -> Answer<v1::SchemaChanged> {
        schema::drop_keyspace(self, request.into_inner()).await
    }

    async fn create_table(
        &self,
        request: Request<v1::CreateTableRequest>,
    ) -> Answer<v1::SchemaChanged> {
        schema::create_table(self, request.into_inner()).await
    }

    async fn drop_table(
        &self,
        request: Request<v1::DropTableRequest>,
    ) -> Answer<v1::SchemaChanged> {
        schema::drop_table(self, request.into_inner()).await
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Answer<v1::DescribeResponse> {
        schema::describe(self, &request.into_inner().keyspace)
    }

    async fn topology(&self, _: Request<v1::TopologyRequest>) -> Answer<v1::TopologyResponse> {
        let placement = self.widest_placement();
        let members = self.parts.membership.members();
        Ok(Response::new(v1::TopologyResponse {
            cluster_name: self.parts.coordinator.config.cluster_name.clone(),
            local_node: ids::node_to_wire(self.parts.coordinator.id),
            schema_version: self.parts.keeper.store.current().version.clone(),
            members: members.iter().map(|m| self.member(m, placement.as_ref())).collect(),
        }))
    }

    async fn info(&self, _: Request<v1::InfoRequest>) -> Answer<v1::InfoResponse> {
        let coordinator = &self.parts.coordinator;
        let config = &coordinator.config;
        let own = self.parts.membership.members().into_iter().find(|m| m.node == coordinator.id);
        let figures = self.parts.engine.table_figures();
        let uptime = coordinator.clock.now().saturating_sub(self.parts.started);
        Ok(Response::new(v1::InfoResponse {
            node: coordinator.id.to_string(),
            cluster_name: config.cluster_name.clone(),
            dc: config.dc.clone(),
            rack: config.rack.clone(),
            release_version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: own.as_ref().map_or(0, |m| m.generation),
            uptime_s: uptime.as_secs(),
            load_bytes: figures.values().map(|f| f.live_bytes).sum(),
            tokens: own.map_or(0, |m| u32::try_from(m.tokens.len()).unwrap_or(u32::MAX)),
            storage_engine: match config.storage.engine {
                crate::config::EngineKind::Lsm => "lsm".to_owned(),
                crate::config::EngineKind::Sled => "sled".to_owned(),
            },
            data_directory: config.data_directory.display().to_string(),
            handoff_enabled: config.hints.enabled,
            handoff_paused: self.parts.hints.paused(),
            poisoned: self.parts.engine.poisoned().unwrap_or_default(),
        }))
    }

    async fn decommission(
        &self,
        request: Request<v1::DecommissionRequest>,
    ) -> Answer<v1::DecommissionReport> {
        decommission::start(&self.parts.decommission, request.into_inner().force)
    }

    async fn decommission_status(
        &self,
        _: Request<v1::DecommissionStatusRequest>,
    ) -> Answer<v1::DecommissionReport> {
        decommission::status(&self.parts.decommission)
    }

    async fn gossip_info(
        &self,
        _: Request<v1::GossipInfoRequest>,
    ) -> Answer<v1::GossipInfoResponse> {
        let endpoints = self.parts.membership.known().into_iter().map(|m| v1::GossipEndpoint {
            node: m.node.to_string(),
            generation: m.generation,
            heartbeat: m.heartbeat,
            alive: m.up,
            phi: m.phi,
            states: m
                .states
                .into_iter()
                .map(|(name, value, version)| v1::GossipState { name, value, version })
                .collect(),
        });
        Ok(Response::new(v1::GossipInfoResponse { endpoints: endpoints.collect() }))
    }

    async fn tp_stats(&self, _: Request<v1::TpStatsRequest>) -> Answer<v1::TpStatsResponse> {
        let pools = self.parts.coordinator.pools().into_iter().map(|pool| v1::Pool {
            name: pool.name.to_owned(),
            active: pool.active.unwrap_or(0),
            // Nobody waits: what there is no place for is refused.
            pending: 0,
            completed: pool.completed,
            rejected: pool.rejected,
        });
        let mut dropped: BTreeMap<Verb, u64> = BTreeMap::new();
        for ((verb, _), count) in self.parts.peers.dropped() {
            *dropped.entry(verb).or_default() += count;
        }
        let dropped = dropped
            .into_iter()
            .map(|(verb, dropped)| v1::DroppedVerb { verb: verb.as_str().to_owned(), dropped });
        let links = self.parts.peers.link_stats().into_iter().map(|link| v1::LinkStats {
            peer: link.peer.map_or_else(|| link.addr.to_string(), |node| node.to_string()),
            lane: link.lane.as_str().to_owned(),
            connected: link.connected,
            queued: link.queued,
            sent: link.sent,
            received: link.received,
            dropped: link.dropped,
        });
        Ok(Response::new(v1::TpStatsResponse {
            pools: pools.collect(),
            dropped: dropped.collect(),
            links: links.collect(),
        }))
    }

    async fn table_stats(
        &self,
        request: Request<v1::TableStatsRequest>,
    ) -> Answer<v1::TableStatsResponse> {
        let v1::TableStatsRequest { keyspace, table } = request.into_inner();
        let wanted = self.target(&v1::StorageTarget { keyspace, table })?;
        let figures = self.parts.engine.table_figures();
        let shown = figures
            .into_iter()
            .filter(|(id, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(id)));
        let tables = shown.map(|(id, f)| {
            let (keyspace, table) = self.table_name(id);
            stats::table(keyspace, table, f)
        });
        Ok(Response::new(v1::TableStatsResponse { tables: tables.collect() }))
    }

    async fn compaction_stats(
        &self,
        _: Request<v1::CompactionStatsRequest>,
    ) -> Answer<v1::CompactionStatsResponse> {
        let figures = self.parts.engine.compaction_figures();
        Ok(Response::new(stats::compactions(figures, |table| self.table_name(table))))
    }

    async fn compaction_history(
        &self,
        _: Request<v1::CompactionHistoryRequest>,
    ) -> Answer<v1::CompactionHistoryResponse> {
        let now = self.parts.coordinator.now_seconds();
        let records = history::read(self.parts.engine.as_ref(), now);
        let records = records.map_err(|e| storage_status(&e))?.into_iter();
        let compactions =
            records.map(|record| stats::finished(record, |table| self.table_name(table)));
        Ok(Response::new(v1::CompactionHistoryResponse { compactions: compactions.collect() }))
    }

    async fn set_concurrent_compactors(
        &self,
        request: Request<v1::SetConcurrentCompactorsRequest>,
    ) -> Answer<v1::Done> {
        let compactors = request.into_inner().compactors;
        let wanted = u8::try_from(compactors).ok().filter(|n| (1..=COMPACTORS_MAX).contains(n));
        let Some(wanted) = wanted else {
            return Err(Status::invalid_argument(format!(
                "{compactors} compactors: a node runs 1 to {COMPACTORS_MAX} compactions at a time; to stop them, disable \
                 automatic compaction"
            )));
        };
        self.parts.engine.set_concurrent_compactors(wanted);
        Ok(Response::new(v1::Done {}))
    }

    async fn get_endpoints(
        &self,
        request: Request<v1::GetEndpointsRequest>,
    ) -> Answer<v1::GetEndpointsResponse> {
        let v1::GetEndpointsRequest { keyspace, key } = request.into_inner();
        let view = self.parts.keeper.store.current();
        let Some(def) = view.schema.keyspace(&keyspace) else {
            return Err(Status::not_found(format!("keyspace `{keyspace}` does not exist")));
        };
        let placement = self.parts.coordinator.routes.placement(&def.replication);
        let token = token::of(&key);
        let members = self.parts.membership.members();
        let replicas = placement.replicas(token).iter().filter_map(|holder| {
            let info = members.iter().find(|m| m.node == holder.node)?;
            Some(self.member(info, Some(&placement)))
        });
        let replicas = replicas.collect();
        Ok(Response::new(v1::GetEndpointsResponse { token: token.0, replicas }))
    }

    async fn pause_handoff(&self, _: Request<v1::PauseHandoffRequest>) -> Answer<v1::Done> {
        self.parts.hints.set_paused(true);
        Ok(Response::new(v1::Done {}))
    }

    async fn resume_handoff(&self, _: Request<v1::ResumeHandoffRequest>) -> Answer<v1::Done> {
        self.parts.hints.set_paused(false);
        Ok(Response::new(v1::Done {}))
    }

    async fn list_pending_hints(
        &self,
        _: Request<v1::ListPendingHintsRequest>,
    ) -> Answer<v1::ListPendingHintsResponse> {
        Ok(Response::new(hints::list(self)))
    }

    async fn truncate_hints(
        &self,
        request: Request<v1::TruncateHintsRequest>,
    ) -> Answer<v1::TruncateHintsResponse> {
        hints::truncate(self, &request.into_inner().target).await
    }

    async fn await_hints(
        &self,
        request: Request<v1::AwaitHintsRequest>,
    ) -> Answer<v1::AwaitHintsResponse> {
        hints::wait(self, request.into_inner()).await
    }

    async fn hint_ledger(
        &self,
        request: Request<v1::HintLedgerRequest>,
    ) -> Answer<v1::HintLedgerResponse> {
        hints::ledger(self, &request.into_inner().target)
    }

    async fn settle_hint_ledger(
        &self,
        request: Request<v1::SettleHintLedgerRequest>,
    ) -> Answer<v1::SettleHintLedgerResponse> {
        hints::settle(self, request.into_inner()).await
    }

    async fn list_dead_letters(
        &self,
        _: Request<v1::ListDeadLettersRequest>,
    ) -> Answer<v1::ListDeadLettersResponse> {
        Ok(Response::new(dead_letters::list(self)))
    }

    async fn read_dead_letters(
        &self,
        request: Request<v1::ReadDeadLettersRequest>,
    ) -> Answer<v1::ReadDeadLettersResponse> {
        dead_letters::read(self, request.into_inner()).await
    }

    async fn replay_dead_letters(
        &self,
        request: Request<v1::ReplayDeadLettersRequest>,
    ) -> Answer<v1::ReplayDeadLettersResponse> {
        dead_letters::replay(self, request.into_inner()).await
    }

    async fn purge_dead_letters(
        &self,
        request: Request<v1::PurgeDeadLettersRequest>,
    ) -> Answer<v1::PurgeDeadLettersResponse> {
        dead_letters::purge(self, request.into_inner()).await
    }

    async fn flush(&self, request: Request<v1::StorageTarget>) -> Answer<v1::Done> {
        match self.target(&request.into_inner())? {
            None => self.parts.engine.flush(None).await.map_err(|e| storage_status(&e))?,
            Some(tables) => {
                for table in tables {
                    let flushed = self.parts.engine.flush(Some(table)).await;
                    flushed.map_err(|e| storage_status(&e))?;
                }
            }
        }
        Ok(Response::new(v1::Done {}))
    }

    async fn compact(&self, request: Request<v1::StorageTarget>) -> Answer<v1::Done> {
        match self.target(&request.into_inner())? {
            None => self.parts.engine.compact(None).await.map_err(|e| storage_status(&e))?,
            Some(tables) => {
                for table in tables {
                    let compacted = self.parts.engine.compact(Some(table)).await;
                    compacted.map_err(|e| storage_status(&e))?;
                }
            }
        }
        Ok(Response::new(v1::Done {}))
    }

    async fn enable_auto_compaction(
        &self,
        request: Request<v1::StorageTarget>,
    ) -> Answer<v1::Done> {
        self.set_auto_compaction(&request.into_inner(), true)
    }

    async fn disable_auto_compaction(
        &self,
        request: Request<v1::StorageTarget>,
    ) -> Answer<v1::Done> {
        self.set_auto_compaction(&request.into_inner(), false)
    }

    async fn set_compaction_throughput(
        &self,
        request: Request<v1::SetCompactionThroughputRequest>,
    ) -> Answer<v1::Done> {
        self.parts.engine.set_compaction_throughput(request.into_inner().bytes_per_s);
        Ok(Response::new(v1::Done {}))
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Answer<v1::VerifyResponse> {
        integrity::verify(self, request.into_inner()).await
    }

    async fn scrub(&self, request: Request<v1::ScrubRequest>) -> Answer<v1::ScrubResponse> {
        integrity::scrub(self, request.into_inner()).await
    }

    async fn take_snapshot(&self, request: Request<v1::TakeSnapshotRequest>) -> Answer<v1::Done> {
        integrity::take_snapshot(self, request.into_inner()).await
    }

    async fn list_snapshots(
        &self,
        _: Request<v1::ListSnapshotsRequest>,
    ) -> Answer<v1::ListSnapshotsResponse> {
        integrity::list_snapshots(self).await
    }

    async fn clear_snapshot(
        &self,
        request: Request<v1::ClearSnapshotRequest>,
    ) -> Answer<v1::ClearSnapshotResponse> {
        integrity::clear_snapshot(self, request.into_inner()).await
    }

    async fn start_repair(
        &self,
        request: Request<v1::StartRepairRequest>,
    ) -> Answer<v1::RepairReport> {
        repair::start(&self.parts.repairs, request.into_inner())
    }

    async fn repair_status(
        &self,
        request: Request<v1::RepairStatusRequest>,
    ) -> Answer<v1::RepairReport> {
        repair::status(&self.parts.repairs, request.into_inner().id)
    }

    async fn cancel_repair(&self, _: Request<v1::CancelRepairRequest>) -> Answer<v1::RepairReport> {
        repair::cancel(&self.parts.repairs)
    }

    async fn repair_history(
        &self,
        _: Request<v1::RepairHistoryRequest>,
    ) -> Answer<v1::RepairHistoryResponse> {
        repair::history(&self.parts.repairs)
    }

    async fn arm_filter(&self, request: Request<v1::ArmFilterRequest>) -> Answer<v1::Done> {
        self.may_inject_faults()?;
        let rules = request.into_inner().rules;
        let rules = filter::rules_from_wire(rules, |name| self.node_named(name))?;
        tracing::warn!(rules = rules.len(), "the message filter is armed");
        self.parts.peers.filter().arm(rules);
        Ok(Response::new(v1::Done {}))
    }

    async fn list_filter(
        &self,
        _: Request<v1::ListFilterRequest>,
    ) -> Answer<v1::ListFilterResponse> {
        self.may_inject_faults()?;
        let rules = self.parts.peers.filter().list().into_iter();
        let rules = rules.map(|(rule, matched)| v1::ArmedRule {
            rule: Some(filter::rule_to_wire(&rule)),
            matched,
        });
        Ok(Response::new(v1::ListFilterResponse { rules: rules.collect() }))
    }

    async fn disarm_filter(&self, _: Request<v1::DisarmFilterRequest>) -> Answer<v1::Done> {
        self.may_inject_faults()?;
        self.parts.peers.filter().disarm();
        Ok(Response::new(v1::Done {}))
    }

    async fn create_role(&self, request: Request<v1::CreateRoleRequest>) -> Answer<v1::Done> {
        roles::create(&self.parts.auth, request.into_inner()).await
    }

    async fn alter_role(&self, request: Request<v1::AlterRoleRequest>) -> Answer<v1::Done> {
        roles::alter(&self.parts.auth, request.into_inner()).await
    }

    async fn drop_role(&self, request: Request<v1::DropRoleRequest>) -> Answer<v1::Done> {
        roles::drop(&self.parts.auth, request.into_inner()).await
    }

    async fn list_roles(&self, _: Request<v1::ListRolesRequest>) -> Answer<v1::ListRolesResponse> {
        roles::list(&self.parts.auth).await
    }
}

impl AdminService {
    /// A node that holds data does not lose messages on command.
    fn may_inject_faults(&self) -> Result<(), Status> {
        if self.parts.coordinator.config.fault_injection {
            return Ok(());
        }
        Err(Status::failed_precondition(
            "this node does not inject faults: set `fault_injection = true` in its configuration and restart it, and \
             never do so where data matters",
        ))
    }

    fn set_auto_compaction(&self, target: &v1::StorageTarget, on: bool) -> Answer<v1::Done> {
        match self.target(target)? {
            None => self.parts.engine.set_auto_compaction(None, on),
            Some(tables) => {
                for table in tables {
                    self.parts.engine.set_auto_compaction(Some(table), on);
                }
            }
        }
        Ok(Response::new(v1::Done {}))
    }
}
