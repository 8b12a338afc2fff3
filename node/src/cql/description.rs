//! `DESCRIBE`: cqlsh sends it to the server as it was typed.

use super::Front;
use super::failure::{Refusal, invalid};
use super::system;
use bytes::Bytes;
use helenus_core::cql::ast::{Describe, Described};
use helenus_core::cql::{CqlType, describe};
use helenus_proto::cql::{ColumnSpec, Response, Rows, RowsMetadata};
use std::sync::Arc;

impl Front {
    #[expect(clippy::too_many_lines, reason = "an arm for each thing that can be described")]
    pub(super) fn describe(
        &self,
        asked: &Describe,
        current: Option<&str>,
    ) -> Result<Response, Refusal> {
        let view = self.keeper.store.current();
        let schema = &view.schema;
        let text = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        let mut rows: Vec<Vec<Option<Bytes>>> = Vec::new();
        let mut keyspace = |name: &str, only: bool| -> Result<(), Refusal> {
            let def = schema
                .keyspace(name)
                .ok_or_else(|| invalid(format!("'{name}' not found in keyspaces")))?;
            let of = text(&def.name);
            rows.push(vec![
                of.clone(),
                text("keyspace"),
                of.clone(),
                text(&describe::keyspace(def)),
            ]);
            let tables = schema.live_tables().filter(|table| table.keyspace == def.name && !only);
            rows.extend(tables.map(|table| {
                vec![of.clone(), text("table"), text(&table.name), text(&describe::table(table))]
            }));
            Ok(())
        };
        let mut names_only = false;
        match &asked.what {
            Described::Keyspaces => {
                names_only = true;
                let system = system::KEYSPACES.iter().map(|name| (*name).to_owned());
                let mut names: Vec<String> = system.collect();
                names.extend(schema.live_keyspaces().map(|keyspace| keyspace.name.clone()));
                rows.extend(names.iter().map(|it| vec![text(it), text("keyspace"), text(it)]));
            }
            Described::Tables => {
                names_only = true;
                let tables = schema.live_tables();
                let tables = tables.filter(|it| current.is_none_or(|ks| ks == it.keyspace));
                rows.extend(
                    tables.map(|it| vec![text(&it.keyspace), text("table"), text(&it.name)]),
                );
            }
            Described::Types | Described::Functions | Described::Aggregates => names_only = true,
            Described::Cluster => {
                let columns = ["cluster", "partitioner", "snitch"];
                let row = [
                    self.cluster_name.as_str(),
                    system::PARTITIONER,
                    "org.apache.cassandra.locator.GossipingPropertyFileSnitch",
                ];
                return Ok(described(&columns, vec![row.into_iter().map(text).collect()]));
            }
            Described::Schema { .. } => {
                let names = schema.live_keyspaces().map(|keyspace| keyspace.name.clone());
                for name in names.collect::<Vec<_>>() {
                    keyspace(&name, false)?;
                }
            }
            Described::Keyspace { keyspace: name, only } => {
                let name = name.as_ref().map(|name| name.as_str()).or(current);
                let name =
                    name.ok_or_else(|| invalid("no keyspace specified and no current keyspace"))?;
                keyspace(name, *only)?;
            }
            Described::Table(name) | Described::Named(name) => {
                let is_table = matches!(asked.what, Described::Table(_));
                let found = name.keyspace.as_ref().map(|ks| ks.as_str()).or(current);
                let found = found.and_then(|keyspace| schema.table(keyspace, name.name.as_str()));
                match found {
                    Some(table) => rows.push(vec![
                        text(&table.keyspace),
                        text("table"),
                        text(&table.name),
                        text(&describe::table(table)),
                    ]),
                    None if is_table || name.keyspace.is_some() => {
                        return Err(invalid(format!("Table '{name}' not found")));
                    }
                    None => keyspace(name.name.as_str(), false)?,
                }
            }
            Described::Type(name)
            | Described::Function(name)
            | Described::Aggregate(name)
            | Described::Index(name)
            | Described::MaterializedView(name) => {
                return Err(invalid(format!("'{name}' not found: Helenus has none of its kind")));
            }
        }
        let columns: &[&str] = match names_only {
            true => &["keyspace_name", "type", "name"],
            false => &["keyspace_name", "type", "name", "create_statement"],
        };
        Ok(described(columns, rows))
    }
}

/// The answer to DESCRIBE.
fn described(columns: &[&str], rows: Vec<Vec<Option<Bytes>>>) -> Response {
    let spec = |name: &&str| ColumnSpec {
        keyspace: Arc::from("system"),
        table: Arc::from("describe"),
        name: (*name).to_owned(),
        ty: CqlType::Text,
    };
    let metadata = RowsMetadata::new(columns.iter().map(spec).collect());
    Response::Rows(Rows { metadata, rows })
}
