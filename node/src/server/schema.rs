//! What operators ask of the schema.

use super::admin::{AdminService, Answer};
use super::replication::replication;
use crate::schema::{Change, ChangeError, Changed};
use helenus_core::hint::Overflow;
use helenus_core::{Columns, Replication, TableOptions};
use helenus_proto::{ids, schema, v1};
use std::collections::BTreeMap;
use tonic::{Response, Status};

pub(super) async fn create_keyspace(
    service: &AdminService,
    request: v1::CreateKeyspaceRequest,
) -> Answer<v1::SchemaChanged> {
    let v1::CreateKeyspaceRequest { name, rf, per_dc, if_not_exists, hint_overflow } = request;
    let replication = replication(rf, per_dc)?;
    let hint_overflow = schema::overflow_from_wire(&hint_overflow)
        .map_err(|e| Status::invalid_argument(e.to_string()))?;
    let keyspace = Change::CreateKeyspace { name, replication, hint_overflow, if_not_exists };
    change(service, keyspace).await
}

pub(super) async fn drop_keyspace(
    service: &AdminService,
    request: v1::DropKeyspaceRequest,
) -> Answer<v1::SchemaChanged> {
    let v1::DropKeyspaceRequest { name, if_exists } = request;
    change(service, Change::DropKeyspace { name, if_exists }).await
}

pub(super) async fn create_table(
    service: &AdminService,
    request: v1::CreateTableRequest,
) -> Answer<v1::SchemaChanged> {
    let v1::CreateTableRequest { keyspace, name, if_not_exists, options } = request;
    let pairs = options.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let options =
        TableOptions::from_pairs(pairs).map_err(|e| Status::invalid_argument(e.to_string()))?;
    let columns = Columns::key_value();
    let table = Change::CreateTable { keyspace, name, columns, options, if_not_exists };
    change(service, table).await
}

pub(super) async fn drop_table(
    service: &AdminService,
    request: v1::DropTableRequest,
) -> Answer<v1::SchemaChanged> {
    let v1::DropTableRequest { keyspace, name, if_exists } = request;
    change(service, Change::DropTable { keyspace, name, if_exists }).await
}

/// One keyspace and its tables, or with an empty name every one.
pub(super) fn describe(service: &AdminService, wanted: &str) -> Answer<v1::DescribeResponse> {
    let view = service.parts.keeper.store.current();
    if !wanted.is_empty() && view.schema.keyspace(wanted).is_none() {
        return Err(Status::not_found(format!("keyspace `{wanted}` does not exist")));
    }
    let shown = view.schema.live_keyspaces().filter(|k| wanted.is_empty() || k.name == wanted);
    let keyspaces = shown.map(|keyspace| {
        let (rf, per_dc) = match &keyspace.replication {
            Replication::Simple { rf } => (rf.get(), BTreeMap::new()),
            Replication::NetworkTopology { per_dc } => {
                let per_dc = per_dc.iter().map(|(dc, rf)| (dc.to_string(), rf.get()));
                (0, per_dc.collect())
            }
        };
        let tables = view.schema.live_tables().filter(|t| t.keyspace == keyspace.name);
        let tables = tables.map(|table| v1::Table {
            name: table.name.clone(),
            id: ids::table_to_wire(table.id),
            options: table.options.to_map(),
        });
        let tables = tables.collect();
        v1::Keyspace {
            name: keyspace.name.clone(),
            rf,
            per_dc,
            tables,
            hint_overflow: keyspace.hint_overflow.map_or("", Overflow::as_str).to_owned(),
        }
    });
    let keyspaces = keyspaces.collect();
    Ok(Response::new(v1::DescribeResponse { schema_version: view.version.clone(), keyspaces }))
}

async fn change(service: &AdminService, change: Change) -> Answer<v1::SchemaChanged> {
    let mut warnings: Vec<String> = match &change {
        Change::CreateKeyspace { replication, .. } => {
            let placement = service.parts.coordinator.routes.placement(replication);
            placement.warnings().iter().map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    let Changed { changed, version, pending, warnings: more } =
        service.parts.keeper.change(change).await.map_err(|e| status(&e))?;
    warnings.extend(more);
    let pending_nodes = pending.iter().map(ToString::to_string).collect();
    Ok(Response::new(v1::SchemaChanged {
        changed,
        schema_version: version,
        pending_nodes,
        warnings,
    }))
}

fn status(error: &ChangeError) -> Status {
    let message = error.to_string();
    match error {
        ChangeError::BadName(_)
        | ChangeError::Columns(_)
        | ChangeError::Define(_)
        | ChangeError::Types(_)
        | ChangeError::TypeInUse { .. }
        | ChangeError::TypeInKeys { .. }
        | ChangeError::TruncatedTooOften { .. } => Status::invalid_argument(message),
        ChangeError::Overruled { .. } => Status::aborted(message),
        ChangeError::Left | ChangeError::NotAllUp { .. } | ChangeError::NotConfirmed { .. } => {
            Status::unavailable(message)
        }
        ChangeError::Exists { .. } => Status::already_exists(message),
        ChangeError::Missing { .. } => Status::not_found(message),
        ChangeError::Schema(_) => Status::internal(message),
    }
}
