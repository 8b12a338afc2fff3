//! Statements that change the schema.

use super::Front;
use super::failure::{Refusal, invalid, not_changed, unsupported};
use super::system::is_system;
use crate::schema::Change;
use helenus_core::cql::ast::{QualifiedName, Statement};
use helenus_core::cql::define::{self, DefineError};
use helenus_proto::cql::{
    ChangeKind, ErrorKind, ErrorResponse, Response, SchemaChange, SchemaTarget,
};

/// A change, and what it is called.
struct Named {
    change: Change,
    kind: ChangeKind,
    keyspace: String,
    table: Option<String>,
}

/// The keyspace of a name, or of the connection.
pub(super) fn keyspace_of(name: &QualifiedName, current: Option<&str>) -> Result<String, Refusal> {
    let named = name.keyspace.as_ref().map(|keyspace| keyspace.as_str()).or(current);
    named.map(str::to_owned).ok_or_else(|| {
        invalid(format!(
            "no keyspace has been specified: USE a keyspace, or write keyspace.{}",
            name.name
        ))
    })
}

fn refused(error: &DefineError) -> Refusal {
    let kind = if error.is_config() { ErrorKind::Config } else { ErrorKind::Invalid };
    Box::new(ErrorResponse::new(kind, error.to_string()))
}

fn named(
    statement: &Statement,
    current: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Named, Refusal> {
    Ok(match statement {
        Statement::CreateKeyspace(create) => {
            let parts = define::keyspace(&create.properties).map_err(|e| refused(&e))?;
            warnings.extend(parts.warnings);
            let name = create.keyspace.as_str().to_owned();
            let change = Change::CreateKeyspace {
                name: name.clone(),
                replication: parts.replication,
                hint_overflow: parts.hint_overflow,
                if_not_exists: create.if_not_exists,
            };
            Named { change, kind: ChangeKind::Created, keyspace: name, table: None }
        }
        Statement::CreateTable(create) => {
            let keyspace = keyspace_of(&create.table, current)?;
            let parts = define::table(create).map_err(|e| refused(&e))?;
            warnings.extend(parts.warnings);
            let name = create.table.name.as_str().to_owned();
            let change = Change::CreateTable {
                keyspace: keyspace.clone(),
                name: name.clone(),
                columns: parts.columns,
                options: parts.options,
                if_not_exists: create.if_not_exists,
            };
            Named { change, kind: ChangeKind::Created, keyspace, table: Some(name) }
        }
        Statement::DropKeyspace(drop) => {
            let name = drop.keyspace.as_str().to_owned();
            let change = Change::DropKeyspace { name: name.clone(), if_exists: drop.if_exists };
            Named { change, kind: ChangeKind::Dropped, keyspace: name, table: None }
        }
        Statement::DropTable(drop) => {
            let keyspace = keyspace_of(&drop.table, current)?;
            let name = drop.table.name.as_str().to_owned();
            let change = Change::DropTable {
                keyspace: keyspace.clone(),
                name: name.clone(),
                if_exists: drop.if_exists,
            };
            Named { change, kind: ChangeKind::Dropped, keyspace, table: Some(name) }
        }
        Statement::AlterKeyspace(_) => return Err(unsupported("ALTER KEYSPACE yet")),
        Statement::AlterTable(_) => return Err(unsupported("ALTER TABLE yet")),
        Statement::Truncate(_) => return Err(unsupported("TRUNCATE yet")),
        Statement::CreateType(_) | Statement::AlterType(_) | Statement::DropType(_) => {
            return Err(unsupported("user-defined types yet"));
        }
        _ => return Err(invalid("this statement does not change the schema")),
    })
}

impl Front {
    /// Changes the schema here and on every live node.
    pub(super) async fn define(
        &self,
        statement: &Statement,
        current: Option<&str>,
        warnings: &mut Vec<String>,
    ) -> Result<Response, Refusal> {
        let Named { change, kind, keyspace, table } = named(statement, current, warnings)?;
        if is_system(&keyspace) {
            return Err(invalid(format!(
                "keyspace {keyspace} is the system's and cannot be changed"
            )));
        }
        let about = (keyspace.as_str(), table.as_deref().unwrap_or(""));
        let changed = self.keeper.change(change).await.map_err(|e| not_changed(&e, about))?;
        if !changed.changed {
            return Ok(Response::Void);
        }
        for node in changed.pending {
            let name = self.membership.describe(node);
            warnings.push(format!("node {name} has not confirmed the change; it will pull it"));
        }
        let target = table.map_or(SchemaTarget::Keyspace, SchemaTarget::Table);
        Ok(Response::SchemaChange(SchemaChange { kind, keyspace, target }))
    }
}
