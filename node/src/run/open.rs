//! The parts of a node that take more than a line to open, each from what it was told and what there is already.

use super::{Parts, Ports, StartError};
use crate::batchlog::{self, Batchlog, BatchlogMetrics};
use crate::config::EngineKind;
use crate::coordinator::Coordinator;
use crate::hints::{HintMetrics, HintParts, HintStore};
use crate::membership::{Identity, LinkOutlet, Membership, MembershipParts};
use crate::own_tables;
use crate::peers::{Peers, PeersConfig, PeersParts};
use crate::repair::{Participant, RepairMetrics, Repairs};
use crate::schema::SchemaStore;
use crate::schema::builtin::builtin;
use crate::storage::lsm::{LsmEngine, LsmParts};
use crate::storage::{Engine, SledEngine};
use crate::tasks::Tasks;
use prometheus_client::registry::Registry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn engine(
    parts: &Parts,
    schema: &SchemaStore,
    tasks: &Arc<Tasks>,
) -> Result<Arc<dyn Engine>, StartError> {
    let mut tables: Vec<_> = schema.current().schema.live_tables().cloned().collect();
    // The node's own tables are in no schema, nor are those that every node knows.
    tables.extend(own_tables::all());
    tables.extend(builtin().tables.iter().cloned());
    match parts.config.storage.engine {
        EngineKind::Lsm => Ok(Arc::new(LsmEngine::open(LsmParts {
            dir: PathBuf::from("data"),
            config: parts.config.storage.clone(),
            disk: Arc::clone(&parts.disk),
            background: Arc::clone(&parts.background),
            clock: Arc::clone(&parts.clock),
            probe: Arc::clone(&parts.probe),
            tasks: Arc::clone(tasks),
            tables,
        })?)),
        EngineKind::Sled => {
            let cache = parts.config.storage.block_cache_size;
            let sync = parts.config.storage.commitlog_sync;
            let background = Arc::clone(&parts.background);
            let engine =
                SledEngine::open(&*parts.disk, Path::new("sled"), cache, sync, background)?;
            for table in &tables {
                engine.open_table(table)?;
            }
            Ok(Arc::new(engine))
        }
    }
}

pub(super) fn peers(
    parts: &Parts,
    ports: &Ports,
    identity: &Identity,
    tasks: &Arc<Tasks>,
) -> Arc<Peers> {
    let address = ports.internode_address;
    Peers::new(
        PeersConfig::new(&parts.config, identity.node, identity.generation, address),
        PeersParts {
            clock: Arc::clone(&parts.clock),
            net: Arc::clone(&parts.net),
            rng: parts.rng.clone(),
            probe: Arc::clone(&parts.probe),
            tasks: Arc::clone(tasks),
        },
    )
}

pub(super) fn membership(
    parts: &Parts,
    ports: &Ports,
    identity: &Identity,
    peers: &Arc<Peers>,
) -> Arc<Membership> {
    Membership::new(MembershipParts {
        config: parts.config.clone(),
        identity: identity.clone(),
        internode: ports.internode_address,
        rpc: ports.rpc_address,
        clock: Arc::clone(&parts.clock),
        rng: parts.rng.clone(),
        disk: Arc::clone(&parts.disk),
        background: Arc::clone(&parts.background),
        probe: Arc::clone(&parts.probe),
        outlet: Arc::new(LinkOutlet(Arc::clone(peers))),
    })
}

pub(super) fn repairs(
    parts: &Parts,
    coordinator: &Arc<Coordinator>,
    schema: Arc<SchemaStore>,
    registry: &mut Registry,
) -> Arc<Repairs> {
    let engine = &coordinator.replica.engine;
    let participant = Participant::new(
        Arc::clone(engine),
        Arc::clone(&parts.background),
        Arc::clone(&parts.clock),
        Arc::clone(&coordinator.peers),
        RepairMetrics::register(registry),
        parts.config.repair.stream_throughput_outbound,
    );
    Arc::new(Repairs::new(coordinator, Arc::clone(engine), schema, participant))
}

pub(super) fn batchlog(
    parts: &Parts,
    engine: &Arc<dyn Engine>,
    registry: &mut Registry,
) -> Result<Arc<Batchlog>, StartError> {
    let (engine, clock) = (Arc::clone(engine), Arc::clone(&parts.clock));
    let metrics = BatchlogMetrics::register(registry);
    let timeout = parts.config.write_request_timeout;
    let batchlog = Arc::new(Batchlog::open(engine, Arc::clone(&clock), timeout, metrics)?);
    let now = batchlog::Now { batchlog: Arc::clone(&batchlog), clock };
    registry.register_collector(Box::new(now));
    Ok(batchlog)
}

pub(super) fn hints(parts: &Parts, registry: &mut Registry) -> Result<Arc<HintStore>, StartError> {
    let hints = HintStore::open(HintParts {
        dir: PathBuf::from("hints"),
        config: parts.config.hints.clone(),
        disk: Arc::clone(&parts.disk),
        background: Arc::clone(&parts.background),
        clock: Arc::clone(&parts.clock),
        probe: Arc::clone(&parts.probe),
    })
    .map_err(|e| StartError::Hints { message: e.to_string() })?;
    registry.register_collector(Box::new(HintMetrics::new(hints.clone())));
    Ok(Arc::new(hints))
}
