//! The tables in which drivers look for the cluster and its schema, made up from what the node knows at that moment.
//!
//! They are tables like any other to whoever plans a statement: definitions with columns, whose rows are partitions. Only
//! where the partitions come from differs. Their definitions are CQL (`system/tables.cql`), their shapes Cassandra 4.1's.
//!
//! The tables of traces are here too, so that they are planned and described, but they are stored: see `schema::builtin`.
//!
//! CAVEAT: `release_version` is one of Cassandra's, because clients decide by it what they ask for; which version of
//! Helenus it is stands in `system.local`, `helenus_version`. What we have nothing of (functions, views, triggers,
//! indexes, size estimates) is there and empty: drivers give up on a table that is missing.

pub(super) mod rows;
mod views;

use super::Front;
use crate::schema::builtin::{AUTH, TRACES, builtin, definitions};
use bytes::Bytes;
use helenus_core::cql::CqlType;
use helenus_core::cql::plan::Table;
use helenus_core::schema::Columns;
use helenus_core::{Key, KeyspaceDef, Partition, Replication, TableDef, TypeDef};
use rows::{Cells, Made};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Keyspaces that are the system's.
pub(super) const KEYSPACES: [&str; 6] =
    ["system", AUTH, "system_schema", TRACES, views::KEYSPACE, "system_virtual_schema"];

/// Those of them whose tables Cassandra, too, makes up.
const VIRTUAL: [&str; 2] = [views::KEYSPACE, "system_virtual_schema"];

/// Of the only kind of tokens that we have.
pub(super) const PARTITIONER: &str = "org.apache.cassandra.dht.Murmur3Partitioner";

/// The version of Cassandra whose answers we give.
const RELEASE_VERSION: &str = "4.1.8";

const DEFINITIONS: &str = include_str!("system/tables.cql");

/// Whether the keyspace is the system's.
pub(super) fn is_system(keyspace: &str) -> bool {
    KEYSPACES.contains(&keyspace)
}

/// Whether the keyspace is one of those whose tables Cassandra, too, makes up.
pub(super) fn is_virtual(keyspace: &str) -> bool {
    VIRTUAL.contains(&keyspace)
}

/// Whether the keyspace's tables are made up when they are read.
pub(super) fn is_made_up(keyspace: &str) -> bool {
    is_system(keyspace) && builtin().keyspace(keyspace).is_none()
}

/// The definitions of the system's tables.
#[derive(Debug)]
pub(super) struct SystemTables {
    /// By keyspace and name.
    tables: BTreeMap<String, BTreeMap<String, Arc<Table>>>,
}

impl SystemTables {
    pub(super) fn new() -> SystemTables {
        let mut tables: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for def in definitions(DEFINITIONS).chain(builtin().tables.iter().cloned()) {
            let of_keyspace = tables.entry(def.keyspace.clone()).or_default();
            of_keyspace.insert(def.name.clone(), Arc::new(Table::new(def)));
        }
        SystemTables { tables }
    }

    pub(super) fn table(&self, keyspace: &str, name: &str) -> Option<Arc<Table>> {
        self.tables.get(keyspace)?.get(name).cloned()
    }

    /// All, by keyspace and name.
    fn all(&self) -> impl Iterator<Item = &TableDef> {
        self.tables.values().flat_map(BTreeMap::values).map(|table| &**table.def())
    }

    /// Those of one keyspace, by their names.
    pub(super) fn of(&self, keyspace: &str) -> impl Iterator<Item = &TableDef> {
        let of_keyspace = self.tables.get(keyspace).into_iter();
        of_keyspace.flat_map(BTreeMap::values).map(|table| &**table.def())
    }

    /// The tables of Cassandra that are tables there too, and not virtual.
    fn ordinary(&self) -> impl Iterator<Item = &TableDef> {
        self.all().filter(|def| !is_virtual(&def.keyspace))
    }

    fn virtual_ones(&self) -> impl Iterator<Item = &TableDef> {
        self.all().filter(|def| is_virtual(&def.keyspace))
    }
}

impl Front {
    /// What is in one of the system's tables now, in no order.
    pub(super) fn system_partitions(&self, table: &TableDef) -> Vec<(Key, Partition)> {
        let mut made = Made::new(table);
        match (table.keyspace.as_str(), table.name.as_str()) {
            ("system", "local") => made.row(self.local()),
            ("system", "peers") => self.peers(&mut made, false),
            ("system", "peers_v2") => self.peers(&mut made, true),
            ("system_schema", "keyspaces") => self.keyspaces(&mut made),
            ("system_schema", "tables") => self.table_rows(&mut made),
            ("system_schema", "columns") => {
                let view = self.keeper.store.current();
                self.tables.ordinary().for_each(|def| column_rows(&mut made, def));
                view.schema.live_tables().for_each(|def| column_rows(&mut made, def));
            }
            ("system_schema", "dropped_columns") => {
                let view = self.keeper.store.current();
                view.schema.live_tables().for_each(|def| dropped_rows(&mut made, def));
            }
            ("system_schema", "types") => {
                let view = self.keeper.store.current();
                view.schema.live_types().for_each(|def| made.row(type_row(def)));
            }
            ("system_virtual_schema", "keyspaces") => {
                for name in VIRTUAL {
                    made.row(Cells::new().text("keyspace_name", name));
                }
            }
            ("system_virtual_schema", "tables") => {
                for def in self.tables.virtual_ones() {
                    let names = Cells::new().text("keyspace_name", &def.keyspace);
                    made.row(names.text("table_name", &def.name).text("comment", ""));
                }
            }
            ("system_virtual_schema", "columns") => {
                self.tables.virtual_ones().for_each(|def| column_rows(&mut made, def));
            }
            (views::KEYSPACE, view) => self.view(view, &mut made),
            _ => {}
        }
        made.partitions()
    }

    fn local(&self) -> Cells {
        let members = self.membership.members();
        let me = members.iter().find(|member| member.node == self.coordinator.id);
        let listen = me.and_then(|me| me.internode).unwrap_or(self.address);
        let cells = Cells::new()
            .text("key", "local")
            .text("bootstrapped", "COMPLETED")
            .inet("broadcast_address", listen.ip())
            .int("broadcast_port", i32::from(listen.port()))
            .text("cluster_name", &self.cluster_name)
            .text("cql_version", super::answer::CQL_VERSION)
            .inet("listen_address", listen.ip())
            .int("listen_port", i32::from(listen.port()))
            .text("native_protocol_version", "5")
            .text("partitioner", PARTITIONER)
            .text("release_version", RELEASE_VERSION)
            .text("helenus_version", env!("CARGO_PKG_VERSION"))
            .inet("rpc_address", self.address.ip())
            .int("rpc_port", i32::from(self.address.port()))
            .uuid("host_id", self.coordinator.id.0)
            .uuid("schema_version", uuid(&self.keeper.store.current().version));
        match me {
            None => cells,
            Some(me) => cells
                .text("data_center", &me.dc)
                .text("rack", &me.rack)
                .int("gossip_generation", i32::try_from(me.generation).unwrap_or(i32::MAX))
                .texts("tokens", me.tokens.iter().map(ToString::to_string)),
        }
    }

    /// The other nodes. One of which not everything is known yet is left out: drivers pass over such a row silently, and
    /// would not look again.
    fn peers(&self, made: &mut Made<'_>, with_ports: bool) {
        for member in self.membership.members() {
            let (Some(client), Some(internode)) = (member.client, member.internode) else {
                continue;
            };
            let is_complete = super::answer::is_complete(&member);
            if member.node == self.coordinator.id || !is_complete {
                continue;
            }
            let cells = Cells::new()
                .inet("peer", internode.ip())
                .text("data_center", &member.dc)
                .text("rack", &member.rack)
                .uuid("host_id", member.node.0)
                .text("release_version", RELEASE_VERSION)
                .uuid("schema_version", uuid(&member.schema_version))
                .texts("tokens", member.tokens.iter().map(ToString::to_string));
            made.row(if with_ports {
                cells
                    .int("peer_port", i32::from(internode.port()))
                    .inet("native_address", client.ip())
                    .int("native_port", i32::from(self.address.port()))
            } else {
                cells.inet("rpc_address", client.ip())
            });
        }
    }

    fn keyspaces(&self, made: &mut Made<'_>) {
        let mut row = |name: &str, replication: &[(String, String)]| {
            let cells = Cells::new().text("keyspace_name", name).boolean("durable_writes", true);
            made.row(cells.text_map("replication", replication));
        };
        let local = ("class".to_owned(), "org.apache.cassandra.locator.LocalStrategy".to_owned());
        for name in ["system", "system_schema"] {
            row(name, std::slice::from_ref(&local));
        }
        for known in &builtin().keyspaces {
            row(&known.name, &replication_map(known));
        }
        for keyspace in self.keeper.store.current().schema.live_keyspaces() {
            row(&keyspace.name, &replication_map(keyspace));
        }
    }

    fn table_rows(&self, made: &mut Made<'_>) {
        let view = self.keeper.store.current();
        for def in self.tables.ordinary().chain(view.schema.live_tables()) {
            made.row(table_row(def));
        }
    }
}

fn replication_map(keyspace: &KeyspaceDef) -> Vec<(String, String)> {
    let class = |name: &str| ("class".to_owned(), format!("org.apache.cassandra.locator.{name}"));
    match &keyspace.replication {
        Replication::Simple { rf } => {
            vec![class("SimpleStrategy"), ("replication_factor".to_owned(), rf.to_string())]
        }
        Replication::NetworkTopology { per_dc } => {
            let copies = per_dc.iter().map(|(dc, rf)| (dc.as_str().to_owned(), rf.to_string()));
            std::iter::once(class("NetworkTopologyStrategy")).chain(copies).collect()
        }
    }
}

fn table_row(def: &TableDef) -> Cells {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = def.options.to_map();
    let option = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
    let share = |name: &str| option(name).parse::<f64>().unwrap_or_default();
    let number = |name: &str| option(name).parse::<i32>().unwrap_or(i32::MAX);
    let class = format!("org.apache.cassandra.db.compaction.{}", option("compaction.class"));
    let compaction = [
        pair("class", &class),
        pair("max_threshold", option("compaction.max_threshold")),
        pair("min_threshold", option("compaction.min_threshold")),
    ];
    let compression = match option("compression") {
        "none" => vec![pair("enabled", "false")],
        _ => vec![
            pair("chunk_length_in_kb", "16"),
            pair("class", "org.apache.cassandra.io.compress.LZ4Compressor"),
        ],
    };
    Cells::new()
        .text("keyspace_name", &def.keyspace)
        .text("table_name", &def.name)
        .text("additional_write_policy", "99p")
        .double("bloom_filter_fp_chance", share("bloom_filter_fp_chance"))
        .text_map("caching", &[pair("keys", "ALL"), pair("rows_per_partition", "NONE")])
        .text("comment", "")
        .text_map("compaction", &compaction)
        .text_map("compression", &compression)
        .double("crc_check_chance", 1.0)
        .double("dclocal_read_repair_chance", 0.0)
        .int("default_time_to_live", number("default_time_to_live"))
        // No map of its own: a map without entries is no value.
        .text_map("extensions", &[])
        .texts("flags", ["compound".to_owned()].into_iter())
        .int("gc_grace_seconds", number("gc_grace_seconds"))
        .uuid("id", def.id.lineage().0)
        .int("max_index_interval", 2048)
        .int("memtable_flush_period_in_ms", 0)
        .int("min_index_interval", 128)
        .text("read_repair", option("read_repair"))
        .double("read_repair_chance", 0.0)
        .text("speculative_retry", "99p")
}

fn column_rows(made: &mut Made<'_>, def: &TableDef) {
    let Columns { partition_key, clustering, cells, .. } = &def.columns;
    let mut row = |name: &str, ty: &CqlType, kind: &str, position: i32, order: &str| {
        let row = Cells::new()
            .text("keyspace_name", &def.keyspace)
            .text("table_name", &def.name)
            .text("column_name", name)
            .text("clustering_order", order)
            .blob("column_name_bytes", name.as_bytes())
            .text("kind", kind)
            .int("position", position)
            .text("type", &ty.to_string());
        made.row(row);
    };
    for (position, column) in (0..).zip(partition_key) {
        row(&column.name, &column.ty, "partition_key", position, "none");
    }
    for (position, column) in (0..).zip(clustering) {
        let order = if column.reversed { "desc" } else { "asc" };
        row(&column.name, &column.ty, "clustering", position, order);
    }
    for column in cells {
        let kind = if column.is_static { "static" } else { "regular" };
        row(&column.name, &column.ty, kind, -1, "none");
    }
}

fn type_row(def: &TypeDef) -> Cells {
    Cells::new()
        .text("keyspace_name", &def.keyspace)
        .text("type_name", &def.name)
        .text_list("field_names", def.fields.iter().map(|(name, _)| name.clone()))
        .text_list("field_types", def.fields.iter().map(|(_, ty)| ty.to_string()))
}

fn dropped_rows(made: &mut Made<'_>, def: &TableDef) {
    for column in &def.columns.dropped {
        let row = Cells::new()
            .text("keyspace_name", &def.keyspace)
            .text("table_name", &def.name)
            .text("column_name", &column.name)
            .timestamp("dropped_time", column.at)
            .text("kind", if column.is_static { "static" } else { "regular" })
            .text("type", &column.ty.to_string());
        made.row(row);
    }
}

/// A version that is not known yet is no version that another node has.
fn uuid(text: &str) -> u128 {
    text.parse::<helenus_core::NodeId>().map_or(0, |id| id.0)
}

fn ip_bytes(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_one() {
        let tables = SystemTables::new();
        assert!(tables.all().all(|def| is_system(&def.keyspace)));
        for (keyspace, name) in [
            ("system", "local"),
            ("system", "peers"),
            ("system", "peers_v2"),
            ("system_schema", "columns"),
            ("system_virtual_schema", "tables"),
            ("system_views", "hint_ledger"),
            ("system_traces", "events"),
        ] {
            assert!(tables.table(keyspace, name).is_some(), "{keyspace}.{name}");
        }
    }

    #[test]
    fn every_column_of_a_row_is_one_of_its_table() {
        // `Made::row` panics otherwise.
        let tables = SystemTables::new();
        let mut made = Made::new(tables.tables["system_schema"]["tables"].def());
        tables.ordinary().for_each(|def| made.row(table_row(def)));
        assert_eq!(made.partitions().len(), 4, "one of each keyspace");
        let mut made = Made::new(tables.tables["system_schema"]["columns"].def());
        tables.ordinary().for_each(|def| column_rows(&mut made, def));
        assert_eq!(made.partitions().len(), 4);
    }
}
