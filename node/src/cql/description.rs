//! `DESCRIBE`: cqlsh sends it to the server as it was typed.
//!
//! The system's keyspaces are described like any other, though no statement makes them; those that Cassandra has as virtual
//! ones are said to be so, in a comment, as it does.

use super::Front;
use super::failure::{Refusal, invalid};
use super::system::{self, is_system, is_virtual};
use crate::schema::builtin::builtin;
use bytes::Bytes;
use helenus_core::cql::ast::{Describe, Described, QualifiedName};
use helenus_core::cql::{CqlType, collection, describe};
use helenus_core::{Replication, Schema, TableDef, TypeDef};
use helenus_proto::cql::{ColumnSpec, Response, Rows, RowsMetadata};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

type Row = Vec<Option<Bytes>>;

const NAMES: [&str; 3] = ["keyspace_name", "type", "name"];
const STATEMENTS: [&str; 4] = ["keyspace_name", "type", "name", "create_statement"];

fn text(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

/// What there is, the system's with it, as it is shown.
struct Shown<'a> {
    schema: &'a Schema,
    system: &'a system::SystemTables,
    internals: bool,
}

impl Shown<'_> {
    /// The system's keyspaces first.
    fn keyspaces(&self) -> Vec<String> {
        let system = system::KEYSPACES.iter().map(|name| (*name).to_owned());
        system.chain(self.own_keyspaces()).collect()
    }

    fn own_keyspaces(&self) -> impl Iterator<Item = String> {
        self.schema.live_keyspaces().map(|keyspace| keyspace.name.clone())
    }

    fn tables(&self, keyspace: &str) -> Vec<TableDef> {
        if is_system(keyspace) {
            return self.system.of(keyspace).cloned().collect();
        }
        self.schema.live_tables().filter(|table| table.keyspace == keyspace).cloned().collect()
    }

    fn table(&self, keyspace: &str, name: &str) -> Option<TableDef> {
        if is_system(keyspace) {
            return self.system.table(keyspace, name).map(|table| TableDef::clone(&table));
        }
        self.schema.table(keyspace, name).cloned()
    }

    /// A keyspace, and what is in it unless `only` it is wanted.
    fn keyspace(&self, name: &str, only: bool) -> Result<Vec<Row>, Refusal> {
        let known = self.schema.keyspace(name).or_else(|| builtin().keyspace(name));
        let statement = match known {
            Some(def) => describe::keyspace(def),
            None if is_virtual(name) => reference(&format!("VIRTUAL KEYSPACE {name};")),
            None if is_system(name) => describe::local_keyspace(name),
            None => return Err(invalid(format!("'{name}' not found in keyspaces"))),
        };
        let mut rows = vec![vec![text(name), text("keyspace"), text(name), text(&statement)]];
        if !only {
            rows.extend(self.schema.types_in_order(name).into_iter().map(type_row));
            rows.extend(self.tables(name).iter().map(|table| self.table_row(table)));
        }
        Ok(rows)
    }

    fn table_row(&self, table: &TableDef) -> Row {
        let statement = match self.internals {
            true => describe::table_with_internals(table),
            false => describe::table(table),
        };
        let statement = if is_virtual(&table.keyspace) { reference(&statement) } else { statement };
        vec![text(&table.keyspace), text("table"), text(&table.name), text(&statement)]
    }
}

fn type_row(def: &TypeDef) -> Row {
    let statement = describe::user_type(def);
    vec![text(&def.keyspace), text("type"), text(&def.name), text(&statement)]
}

/// A statement that nobody can carry out.
fn reference(statement: &str) -> String {
    format!("/*\nThis is virtual and no statement makes it. For reference:\n{statement}\n*/")
}

impl Front {
    pub(super) fn describe(
        &self,
        asked: &Describe,
        current: Option<&str>,
    ) -> Result<Response, Refusal> {
        let view = self.keeper.store.current();
        let (schema, internals) = (&view.schema, asked.with_internals);
        let shown = Shown { schema, system: &self.tables, internals };
        let statements = |rows| Ok(described(&STATEMENTS, rows));
        match &asked.what {
            Described::Keyspaces => {
                let names = shown.keyspaces().into_iter();
                let rows = names.map(|name| vec![text(&name), text("keyspace"), text(&name)]);
                Ok(described(&NAMES, rows.collect()))
            }
            Described::Tables => {
                let keyspaces = match current {
                    Some(current) => vec![current.to_owned()],
                    None => shown.keyspaces(),
                };
                let tables = keyspaces.iter().flat_map(|keyspace| shown.tables(keyspace));
                let rows = tables.map(|it| vec![text(&it.keyspace), text("table"), text(&it.name)]);
                Ok(described(&NAMES, rows.collect()))
            }
            Described::Types => {
                let keyspaces = match current {
                    Some(current) => vec![current.to_owned()],
                    None => shown.keyspaces(),
                };
                let types = schema.live_types().filter(|def| keyspaces.contains(&def.keyspace));
                let rows = types.map(|it| vec![text(&it.keyspace), text("type"), text(&it.name)]);
                Ok(described(&NAMES, rows.collect()))
            }
            Described::Functions | Described::Aggregates => Ok(described(&NAMES, Vec::new())),
            Described::Cluster => Ok(self.describe_cluster(schema, current)),
            Described::Schema { full } => {
                let names = if *full { shown.keyspaces() } else { shown.own_keyspaces().collect() };
                let rows: Result<Vec<_>, _> =
                    names.iter().map(|name| shown.keyspace(name, false)).collect();
                statements(rows?.concat())
            }
            Described::Keyspace { keyspace: name, only } => {
                let name = name.as_ref().map(|name| name.as_str()).or(current);
                let name =
                    name.ok_or_else(|| invalid("no keyspace specified and no current keyspace"))?;
                statements(shown.keyspace(name, *only)?)
            }
            Described::Table(name) => {
                let table = find(&shown, name, current);
                let table = table.ok_or_else(|| invalid(format!("Table '{name}' not found")))?;
                statements(vec![shown.table_row(&table)])
            }
            Described::Named(name) => match find(&shown, name, current) {
                Some(table) => statements(vec![shown.table_row(&table)]),
                None if name.keyspace.is_some() => {
                    Err(invalid(format!("Table '{name}' not found")))
                }
                None => statements(shown.keyspace(name.name.as_str(), false)?),
            },
            Described::Type(name) => {
                let keyspace = name.keyspace.as_ref().map(|keyspace| keyspace.as_str()).or(current);
                let def = keyspace.and_then(|it| schema.type_def(it, name.name.as_str()));
                let def =
                    def.ok_or_else(|| invalid(format!("User defined type '{name}' not found")))?;
                statements(vec![type_row(def)])
            }
            Described::Function(name)
            | Described::Aggregate(name)
            | Described::Index(name)
            | Described::MaterializedView(name) => {
                Err(invalid(format!("'{name}' not found: Helenus has none of its kind")))
            }
        }
    }

    /// With a keyspace of the user's in use also who holds its ranges: by the token that each ends with.
    fn describe_cluster(&self, schema: &Schema, current: Option<&str>) -> Response {
        let mut columns: Vec<(&str, CqlType)> =
            ["cluster", "partitioner", "snitch"].map(|name| (name, CqlType::Text)).into();
        let mut row: Row = [
            self.cluster_name.as_str(),
            system::PARTITIONER,
            "org.apache.cassandra.locator.GossipingPropertyFileSnitch",
        ]
        .map(text)
        .into();
        let Some(keyspace) = current.and_then(|current| schema.keyspace(current)) else {
            return typed(&columns, vec![row]);
        };
        // A map that is too large for its answer is left out.
        if let Ok((of, held)) = self.ownership(&keyspace.replication) {
            columns.push(("range_ownership", of));
            row.push(Some(held));
        }
        typed(&columns, vec![row])
    }

    fn ownership(&self, replication: &Replication) -> Result<(CqlType, Bytes), Box<dyn Error>> {
        let members = self.membership.members().into_iter();
        let addresses: BTreeMap<_, _> =
            members.filter_map(|member| Some((member.node, member.internode?))).collect();
        let placement = self.coordinator.routes.placement(replication);
        let mut held = Vec::new();
        for (range, replicas) in placement.ranges() {
            let holders = replicas.iter().filter_map(|replica| addresses.get(&replica.node));
            let holders: Vec<String> = holders.map(ToString::to_string).collect();
            held.push((range.until.to_string(), collection::encode_list(&holders)?));
        }
        let of = CqlType::map(CqlType::Text, CqlType::list(CqlType::Text, true)?, true)?;
        Ok((of, collection::encode_map(&CqlType::Text, held)?))
    }
}

fn find(shown: &Shown<'_>, name: &QualifiedName, current: Option<&str>) -> Option<TableDef> {
    let keyspace = name.keyspace.as_ref().map(|keyspace| keyspace.as_str()).or(current)?;
    shown.table(keyspace, name.name.as_str())
}

/// The answer to DESCRIBE.
fn described(columns: &[&str], rows: Vec<Row>) -> Response {
    let columns: Vec<_> = columns.iter().map(|name| (*name, CqlType::Text)).collect();
    typed(&columns, rows)
}

fn typed(columns: &[(&str, CqlType)], rows: Vec<Row>) -> Response {
    let spec = |(name, ty): &(&str, CqlType)| {
        let (keyspace, table) = (Arc::from("system"), Arc::from("describe"));
        Arc::new(ColumnSpec { keyspace, table, name: (*name).to_owned(), ty: ty.clone() })
    };
    let metadata = RowsMetadata::new(columns.iter().map(spec).collect());
    Response::Rows(Rows { metadata, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyspace_of_traces_is_shown_as_it_is_replicated() {
        let (schema, system) = (Schema::default(), system::SystemTables::new());
        let shown = Shown { schema: &schema, system: &system, internals: false };
        let statement = |keyspace: &str| {
            let rows = shown.keyspace(keyspace, true).unwrap();
            String::from_utf8(rows[0][3].clone().unwrap().to_vec()).unwrap()
        };
        let traces = statement("system_traces");
        let copies = "{'class': 'SimpleStrategy', 'replication_factor': '2'}";
        assert!(traces.contains(copies), "{traces}");
        assert!(statement("system").contains("{'class': 'LocalStrategy'}"));
    }
}
