//! Statements that change the schema.

use super::Front;
use super::failure::{Refusal, invalid, not_changed};
use super::system::is_system;
use crate::schema::{Change, Changed};
use helenus_core::Dc;
use helenus_core::cql::ast::{CreateTable, QualifiedName, Statement};
use helenus_core::cql::define::{self, DefineError, UserTypes};
use helenus_proto::cql::{
    ChangeKind, ErrorKind, ErrorResponse, Response, SchemaChange, SchemaTarget,
};
use std::collections::BTreeSet;

/// A change, and what it is called.
struct Named {
    change: Change,
    kind: ChangeKind,
    keyspace: String,
    target: SchemaTarget,
}

/// The keyspace of a name, or of the connection.
fn keyspace_of(name: &QualifiedName, current: Option<&str>) -> Result<String, Refusal> {
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

/// The name of a table or a type, with its keyspace.
fn table_of(name: &QualifiedName, current: Option<&str>) -> Result<(String, String), Refusal> {
    Ok((keyspace_of(name, current)?, name.name.as_str().to_owned()))
}

/// What a statement about a user-defined type changes; `None`: it is about none.
fn of_a_type(statement: &Statement, current: Option<&str>) -> Result<Option<Named>, Refusal> {
    let (kind, name) = match statement {
        Statement::CreateType(create) => (ChangeKind::Created, &create.name),
        Statement::AlterType(alter) => (ChangeKind::Updated, &alter.name),
        Statement::DropType(drop) => (ChangeKind::Dropped, &drop.name),
        _ => return Ok(None),
    };
    let (keyspace, name) = table_of(name, current)?;
    let target = SchemaTarget::Type(name.clone());
    let of = keyspace.clone();
    let change = match statement {
        Statement::CreateType(create) => {
            Change::CreateType { keyspace: of, create: create.clone() }
        }
        Statement::AlterType(alter) => {
            let (change, if_exists) = (alter.change.clone(), alter.if_exists);
            Change::AlterType { keyspace: of, name, change, if_exists }
        }
        Statement::DropType(drop) => {
            Change::DropType { keyspace: of, name, if_exists: drop.if_exists }
        }
        _ => return Ok(None),
    };
    Ok(Some(Named { change, kind, keyspace, target }))
}

/// A change of a table, made of its keyspace and its name.
fn of_table(
    name: &QualifiedName,
    current: Option<&str>,
    kind: ChangeKind,
    change: impl FnOnce(String, String) -> Change,
) -> Result<Named, Refusal> {
    let (keyspace, name) = table_of(name, current)?;
    let change = change(keyspace.clone(), name.clone());
    Ok(Named { change, kind, keyspace, target: SchemaTarget::Table(name) })
}

impl Front {
    /// What a statement changes.
    fn named(
        &self,
        statement: &Statement,
        current: Option<&str>,
        warnings: &mut Vec<String>,
    ) -> Result<Named, Refusal> {
        let target = SchemaTarget::Keyspace;
        match statement {
            Statement::CreateKeyspace(create) => {
                let name = create.keyspace.as_str().to_owned();
                let parts = define::keyspace(&create.properties, None, &self.dcs());
                let parts = parts.map_err(|e| refused(&e))?;
                warnings.extend(parts.warnings);
                let change = Change::CreateKeyspace {
                    name: name.clone(),
                    replication: parts.replication,
                    hint_overflow: parts.hint_overflow,
                    if_not_exists: create.if_not_exists,
                };
                Ok(Named { change, kind: ChangeKind::Created, keyspace: name, target })
            }
            Statement::AlterKeyspace(alter) => {
                let name = alter.keyspace.as_str().to_owned();
                let change = Change::AlterKeyspace {
                    name: name.clone(),
                    properties: alter.properties.clone(),
                    dcs: self.dcs(),
                    if_exists: alter.if_exists,
                };
                Ok(Named { change, kind: ChangeKind::Updated, keyspace: name, target })
            }
            Statement::DropKeyspace(drop) => {
                let name = drop.keyspace.as_str().to_owned();
                let change = Change::DropKeyspace { name: name.clone(), if_exists: drop.if_exists };
                Ok(Named { change, kind: ChangeKind::Dropped, keyspace: name, target })
            }
            Statement::CreateTable(create) => {
                let parts = self.table_parts(create, current)?;
                let define::TableParts { columns, options, warnings: more } = parts;
                warnings.extend(more);
                of_table(&create.table, current, ChangeKind::Created, |keyspace, name| {
                    let if_not_exists = create.if_not_exists;
                    Change::CreateTable { keyspace, name, columns, options, if_not_exists }
                })
            }
            Statement::AlterTable(alter) => {
                of_table(&alter.table, current, ChangeKind::Updated, |keyspace, name| {
                    let (change, if_exists) = (alter.change.clone(), alter.if_exists);
                    Change::AlterTable { keyspace, name, change, if_exists }
                })
            }
            Statement::DropTable(drop) => {
                of_table(&drop.table, current, ChangeKind::Dropped, |keyspace, name| {
                    Change::DropTable { keyspace, name, if_exists: drop.if_exists }
                })
            }
            other => of_a_type(other, current)?
                .ok_or_else(|| invalid("this statement does not change the schema")),
        }
    }

    /// The table that is described, by the types that its keyspace has now.
    fn table_parts(
        &self,
        create: &CreateTable,
        current: Option<&str>,
    ) -> Result<define::TableParts, Refusal> {
        let keyspace = keyspace_of(&create.table, current)?;
        let view = self.keeper.store.current();
        let find = |name: &str| view.schema.user_type(&keyspace, name);
        let users = UserTypes { keyspace: &keyspace, find: &find };
        define::table(create, users).map_err(|e| refused(&e))
    }

    /// The data centres that this node knows of.
    fn dcs(&self) -> BTreeSet<Dc> {
        let members = self.membership.members().into_iter();
        members
            .filter(|member| !member.dc.is_empty())
            .map(|member| Dc::from(member.dc.as_str()))
            .collect()
    }

    /// A warning for each place where a keyspace has too few nodes.
    fn placement_warnings(&self, keyspace: &str) -> Vec<String> {
        let view = self.keeper.store.current();
        let Some(keyspace) = view.schema.keyspace(keyspace) else { return Vec::new() };
        let placement = self.coordinator.routes.placement(&keyspace.replication);
        placement.warnings().iter().map(ToString::to_string).collect()
    }

    /// Changes the schema here and on every live node.
    pub(super) async fn define(
        &self,
        statement: &Statement,
        current: Option<&str>,
        warnings: &mut Vec<String>,
    ) -> Result<Response, Refusal> {
        if let Statement::Truncate(name) = statement {
            return self.truncate(name, current).await;
        }
        let Named { change, kind, keyspace, target } = self.named(statement, current, warnings)?;
        not_the_systems(&keyspace)?;
        let name = match &target {
            SchemaTarget::Table(name) | SchemaTarget::Type(name) => name,
            _ => "",
        };
        let about = (keyspace.as_str(), name);
        let changed = self.keeper.change(change).await.map_err(|e| not_changed(&e, about))?;
        let Changed { changed, pending, warnings: more, .. } = changed;
        warnings.extend(more);
        if !changed {
            return Ok(Response::Void);
        }
        if target == SchemaTarget::Keyspace {
            warnings.extend(self.placement_warnings(&keyspace));
        }
        for node in pending {
            let name = self.membership.describe(node);
            warnings.push(format!("node {name} has not confirmed the change; it will pull it"));
        }
        Ok(Response::SchemaChange(SchemaChange { kind, keyspace, target }))
    }

    async fn truncate(
        &self,
        name: &QualifiedName,
        current: Option<&str>,
    ) -> Result<Response, Refusal> {
        let (keyspace, table) = table_of(name, current)?;
        not_the_systems(&keyspace)?;
        let done = self.keeper.truncate(keyspace.clone(), table.clone()).await;
        done.map_err(|e| not_changed(&e, (&keyspace, &table)))?;
        Ok(Response::Void)
    }
}

fn not_the_systems(keyspace: &str) -> Result<(), Refusal> {
    if is_system(keyspace) {
        return Err(invalid(format!("keyspace {keyspace} is the system's and cannot be changed")));
    }
    Ok(())
}
