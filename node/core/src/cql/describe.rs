//! Definitions as the statements that make them, in the layout of Cassandra's `DESCRIBE`.
//!
//! Only properties that mean something here are written: what `CREATE TABLE` accepts without effect is not kept, and to
//! show Cassandra's defaults for it would promise them. What only Helenus knows is written where it is set, so that
//! Cassandra can read the rest.
//!
//! Invariant: [`define`](super::define) reads a description back as the same columns and options. CAVEAT: save for ids of
//! columns, once one was dropped: those that stand behind it move up.

use super::Constant;
use super::ast::Ident;
use crate::schema::{KeyspaceDef, Replication, TableDef, TableOptions, TypeDef};
use crate::types::NodeId;
use std::collections::BTreeMap;

/// `CREATE KEYSPACE …;`
pub fn keyspace(def: &KeyspaceDef) -> String {
    let replication = match &def.replication {
        Replication::Simple { rf } => {
            map("SimpleStrategy", [("replication_factor".to_owned(), rf.to_string())])
        }
        Replication::NetworkTopology { per_dc } => {
            let factors = per_dc.iter().map(|(dc, rf)| (dc.to_string(), rf.to_string()));
            map("NetworkTopologyStrategy", factors)
        }
    };
    let name = name(&def.name);
    // The two spaces are Cassandra's.
    let mut text = format!(
        "CREATE KEYSPACE {name} WITH replication = {replication}  AND durable_writes = true"
    );
    if let Some(overflow) = def.hint_overflow {
        text.push_str(" AND hint_overflow = ");
        text.push_str(&quoted(overflow.as_str()));
    }
    text.push(';');
    text
}

/// As of a keyspace that each node has for itself: no statement makes one.
pub fn local_keyspace(name: &str) -> String {
    let replication = map("LocalStrategy", []);
    let name = self::name(name);
    format!("CREATE KEYSPACE {name} WITH replication = {replication}  AND durable_writes = true;")
}

/// `CREATE TYPE …;`
pub fn user_type(def: &TypeDef) -> String {
    let fields = def.fields.iter().map(|(field, ty)| format!("{} {ty}", name(field)));
    let fields: Vec<String> = fields.collect();
    let (keyspace, of) = (name(&def.keyspace), name(&def.name));
    format!("CREATE TYPE {keyspace}.{of} (\n    {}\n);", fields.join(",\n    "))
}

/// `CREATE TABLE … WITH …;`
pub fn table(def: &TableDef) -> String {
    table_with(def, Vec::new())
}

/// As [`table`], and its id too: what `WITH INTERNALS` asks for.
pub fn table_with_internals(def: &TableDef) -> String {
    // Ids are written like those of nodes.
    table_with(def, vec![format!("ID = {}", NodeId(def.id.lineage().0))])
}

fn table_with(def: &TableDef, mut properties: Vec<String>) -> String {
    let clustering = &def.columns.clustering;
    if !clustering.is_empty() {
        let order: Vec<String> = clustering
            .iter()
            .map(|column| {
                format!("{} {}", name(&column.name), if column.reversed { "DESC" } else { "ASC" })
            })
            .collect();
        properties.push(format!("CLUSTERING ORDER BY ({})", order.join(", ")));
    }
    properties.extend(options(&def.options));
    format!(
        "CREATE TABLE {}.{} (\n    {}\n) WITH {};",
        name(&def.keyspace),
        name(&def.name),
        elements(def).join(",\n    "),
        properties.join("\n    AND "),
    )
}

/// What stands between the parentheses: columns, and the primary key unless one column is all of it.
fn elements(def: &TableDef) -> Vec<String> {
    let columns = &def.columns;
    let key: Vec<String> = columns.partition_key.iter().map(|column| name(&column.name)).collect();
    let alone = key.len() == 1 && columns.clustering.is_empty();
    let mut elements = Vec::new();
    for column in &columns.partition_key {
        let primary = if alone { " PRIMARY KEY" } else { "" };
        elements.push(format!("{} {}{primary}", name(&column.name), column.ty));
    }
    for column in &columns.clustering {
        elements.push(format!("{} {}", name(&column.name), column.ty));
    }
    for column in &columns.cells {
        let is_static = if column.is_static { " static" } else { "" };
        elements.push(format!("{} {}{is_static}", name(&column.name), column.ty));
    }
    if !alone {
        let partition = match key.as_slice() {
            [column] => column.clone(),
            columns => format!("({})", columns.join(", ")),
        };
        let clustering = columns.clustering.iter().map(|column| name(&column.name));
        let key: Vec<String> = std::iter::once(partition).chain(clustering).collect();
        elements.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    elements
}

/// `name = value` for each, by name.
fn options(options: &TableOptions) -> Vec<String> {
    let set = options.to_set_map();
    let mut properties = BTreeMap::new();
    for (option, value) in options.to_map() {
        let own = option == "hint_refused" && !set.contains_key(&option);
        if own || option.contains('.') || option == "compression" {
            continue;
        }
        let is_number = value.starts_with(|c: char| c.is_ascii_digit());
        properties.insert(option, if is_number { value } else { quoted(&value) });
    }
    properties.insert("compaction".to_owned(), compaction(options));
    let compression = if options.compression {
        "{'class': 'org.apache.cassandra.io.compress.LZ4Compressor'}"
    } else {
        "{'enabled': 'false'}"
    };
    properties.insert("compression".to_owned(), compression.to_owned());
    properties.into_iter().map(|(name, value)| format!("{name} = {value}")).collect()
}

/// The class, the thresholds (Cassandra always shows them), and what else is set.
fn compaction(options: &TableOptions) -> String {
    let mut entries = BTreeMap::from([
        ("max_threshold".to_owned(), options.max_threshold.to_string()),
        ("min_threshold".to_owned(), options.min_threshold.to_string()),
    ]);
    for (option, value) in options.to_set_map() {
        let Some(key) = option.strip_prefix("compaction.") else { continue };
        match key {
            "class" => {}
            // In Cassandra's unit, if it is a multiple of it.
            "sstable_size" if options.sstable_size.is_multiple_of(1 << 20) => {
                let mb = options.sstable_size >> 20;
                entries.insert("sstable_size_in_mb".to_owned(), mb.to_string());
            }
            key => {
                entries.insert(key.to_owned(), value);
            }
        }
    }
    let class = options.compaction_class.as_str();
    map(&format!("org.apache.cassandra.db.compaction.{class}"), entries)
}

/// `{'class': '…', 'key': 'value'}`.
fn map(class: &str, entries: impl IntoIterator<Item = (String, String)>) -> String {
    let class = std::iter::once(("class".to_owned(), class.to_owned()));
    let entries: Vec<String> = class
        .chain(entries)
        .map(|(key, value)| format!("{}: {}", quoted(&key), quoted(&value)))
        .collect();
    format!("{{{}}}", entries.join(", "))
}

fn quoted(text: &str) -> String {
    Constant::String(text.into()).to_string()
}

fn name(name: &str) -> String {
    Ident::quoted(name).to_string()
}

#[cfg(test)]
mod tests;
