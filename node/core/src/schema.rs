//! What is stored: keyspaces say how often, tables say of what shape, and user-defined types what the shapes are made of.
//!
//! A schema is small, so nodes exchange all of it and [`Schema::merge`] it: the later definition of each name wins. A
//! drop is a definition too (a tombstone), or a node that slept through it would bring the table back. Nodes compare
//! [`Schema::version`]s to learn whether they agree.
//!
//! CAVEAT: of two changes to one table that two nodes make in the same moment the later one wins everywhere, as a whole.
//! Two that create the same table make one; if its columns differ, what was written into the other one meanwhile is out
//! of reach. Cassandra had the same (CASSANDRA-10699) until CEP-21 made its schema a log that all nodes agree on.

mod columns;
mod options;
mod types;

pub use columns::{
    COLUMNS_MAX, CellColumn, ClusteringColumn, Columns, ColumnsError, DroppedColumn, KeyColumn,
};
pub use options::{
    CompactionClass, HintRefused, OptionError, ReadRepair, TableOptions, WindowUnit,
};
pub use types::{FIELDS_MAX, FieldsError, TypeDef, TypesError};

use crate::hint::Overflow;
use crate::types::{Dc, TimestampMicros};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

/// A table's identity. It outlives no drop: a table that is dropped and created again has another one, so that old
/// data can never surface in the new table.
///
/// ```text
/// | lineage, 96 bits: of one creation | incarnation, 32 bits: 0, and one more at each TRUNCATE |
/// ```
///
/// A table that is truncated has another identity for the same reason, and is the same table to its clients, who are shown
/// its [lineage](TableId::lineage). Two nodes that truncate it in the same moment make the same incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u128);

const INCARNATION: u128 = u32::MAX as u128;

impl TableId {
    /// Of a table that is created at `wall`. `before`: what was dropped of its name.
    ///
    /// The same for all who create the same table in the same hour, and know of the same drop: so two nodes that do it at
    /// once, as those of an application do that all say `IF NOT EXISTS` when they start, make one table, and what is
    /// written into it meanwhile stays. The hour is for a node that has slept through a creation and a drop: with luck
    /// alone it would make the table that was dropped.
    pub fn created(
        (keyspace, name): (&str, &str),
        columns: &Columns,
        before: Option<&TableDef>,
        wall: TimestampMicros,
    ) -> TableId {
        const HOUR: i64 = 3_600_000_000;
        let mut hash = Hash(xxhash_rust::xxh3::Xxh3::new());
        hash.text(keyspace).text(name).columns(columns);
        hash.time(TimestampMicros(wall.0.div_euclid(HOUR)));
        if let Some(before) = before {
            hash.text("before").time(before.altered).0.update(&before.id.0.to_le_bytes());
        }
        TableId(hash.0.digest128() & !INCARNATION)
    }

    /// Of the same table, emptied. `None`: it was emptied as often as an identity can say.
    pub fn truncated(self) -> Option<TableId> {
        (self.0 & INCARNATION < INCARNATION).then_some(TableId(self.0.wrapping_add(1)))
    }

    /// What its incarnations have in common.
    pub fn lineage(self) -> TableId {
        TableId(self.0 & !INCARNATION)
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many copies, and where. RF 0 cannot exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Replication {
    /// SimpleStrategy: the next `rf` distinct nodes on the ring, blind to racks and data centres.
    Simple {
        /// Copies in all.
        rf: NonZeroU32,
    },
    /// NetworkTopologyStrategy: so many copies in each named data centre, on distinct racks as far as there are some.
    NetworkTopology {
        /// Copies per data centre.
        per_dc: BTreeMap<Dc, NonZeroU32>,
    },
}

/// A keyspace: a name and its replication.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyspaceDef {
    /// Its name.
    pub name: String,
    /// How it is replicated.
    pub replication: Replication,
    /// What happens to a hint for one of its writes when there is no room; `None`: what the node's configuration says.
    pub hint_overflow: Option<Overflow>,
    /// When it was last altered; the later definition wins when two nodes disagree.
    pub altered: TimestampMicros,
    /// A dropped keyspace stays as a tombstone, so that a late node's old definition cannot bring it back.
    pub dropped: bool,
}

/// A table. The key-value table is the case with no clustering key and one column, `value`, with id 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableDef {
    /// Its identity.
    pub id: TableId,
    /// The keyspace it lives in.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Its columns. In a schema, user-defined types are there by their names alone: see [`Schema::resolve`].
    pub columns: Columns,
    /// Its options.
    pub options: TableOptions,
    /// When it was last altered; the later definition wins.
    pub altered: TimestampMicros,
    /// Dropped tables stay as tombstones.
    pub dropped: bool,
}

/// Everything that is defined. Two schemas merge by "the later definition of each name wins", which is commutative,
/// associative and idempotent, so nodes may exchange them in any order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// Keyspaces by name.
    pub keyspaces: BTreeMap<String, KeyspaceDef>,
    /// Tables by (keyspace, name).
    pub tables: BTreeMap<(String, String), TableDef>,
    /// User-defined types by (keyspace, name).
    pub types: BTreeMap<(String, String), TypeDef>,
}

/// A digest of everything that is defined, printed as a UUID. Equal on two nodes if, and only if, their schemas are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SchemaVersion(pub u128);

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&crate::types::NodeId(self.0), f)
    }
}

/// Not a name for a keyspace or a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a name: a letter, then up to 47 letters, digits and underscores")]
pub struct BadName {
    /// What was given.
    pub name: String,
}

/// Whether `name` may name a keyspace or a table. Names become directories and metric labels.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if starts && legal && name.len() <= 48 {
        Ok(())
    } else {
        Err(BadName { name: name.to_owned() })
    }
}

impl Schema {
    /// Takes over every definition of `other` that is later than ours. Says whether anything changed.
    pub fn merge(&mut self, other: Schema) -> bool {
        // Of two definitions of one moment the drop wins, then the greater: any order will do, if all nodes use it.
        let keyspaces = join(&mut self.keyspaces, other.keyspaces, |a, b| {
            (a.altered, a.dropped, a) < (b.altered, b.dropped, b)
        });
        let tables = join(&mut self.tables, other.tables, |a, b| {
            (a.altered, a.dropped, a) < (b.altered, b.dropped, b)
        });
        let types = join(&mut self.types, other.types, |a, b| {
            (a.altered, a.dropped, a) < (b.altered, b.dropped, b)
        });
        keyspaces || tables || types
    }

    /// Whether every definition of `other` counts here.
    pub fn holds(&self, other: &Schema) -> bool {
        let keyspaces =
            other.keyspaces.iter().all(|(name, def)| self.keyspaces.get(name) == Some(def));
        let tables = other.tables.iter().all(|(name, def)| self.tables.get(name) == Some(def));
        let types = other.types.iter().all(|(name, def)| self.types.get(name) == Some(def));
        keyspaces && tables && types
    }

    /// The definitions that are not so in `other`.
    pub fn without(mut self, other: &Schema) -> Schema {
        self.keyspaces.retain(|name, def| other.keyspaces.get(name) != Some(def));
        self.tables.retain(|name, def| other.tables.get(name) != Some(def));
        self.types.retain(|name, def| other.types.get(name) != Some(def));
        self
    }

    /// A digest of all definitions, dropped ones included.
    pub fn version(&self) -> SchemaVersion {
        let mut hash = Hash(xxhash_rust::xxh3::Xxh3::new());
        for keyspace in self.keyspaces.values() {
            hash.text("keyspace").text(&keyspace.name);
            match &keyspace.replication {
                Replication::Simple { rf } => {
                    hash.text("simple").number(u64::from(rf.get()));
                }
                Replication::NetworkTopology { per_dc } => {
                    hash.text("topology").number(per_dc.len() as u64);
                    for (dc, rf) in per_dc {
                        hash.text(dc.as_str()).number(u64::from(rf.get()));
                    }
                }
            }
            // Only if it is set: a build that does not know it agrees until somebody sets it.
            if let Some(overflow) = keyspace.hint_overflow {
                hash.text("hint_overflow").text(overflow.as_str());
            }
            hash.time(keyspace.altered).number(u64::from(keyspace.dropped));
        }
        for table in self.tables.values() {
            hash.text("table").text(&table.keyspace).text(&table.name);
            hash.0.update(&table.id.0.to_le_bytes());
            let options = table.options.to_set_map();
            hash.number(options.len() as u64);
            for (name, value) in &options {
                hash.text(name).text(value);
            }
            // As above: a key-value table's columns go without saying.
            if table.columns != Columns::key_value() {
                hash.columns(&table.columns);
            }
            hash.time(table.altered).number(u64::from(table.dropped));
        }
        // As above: without types it is as if there never had been any.
        for def in self.types.values() {
            hash.text("type").text(&def.keyspace).text(&def.name).number(def.fields.len() as u64);
            for (name, ty) in &def.fields {
                hash.text(name).text(&ty.to_string());
            }
            hash.time(def.altered).number(u64::from(def.dropped));
        }
        SchemaVersion(hash.0.digest128())
    }

    /// A keyspace that was not dropped.
    pub fn keyspace(&self, name: &str) -> Option<&KeyspaceDef> {
        self.keyspaces.get(name).filter(|keyspace| !keyspace.dropped)
    }

    /// A table that was not dropped, nor its keyspace.
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&TableDef> {
        self.keyspace(keyspace)?;
        let key = (keyspace.to_owned(), name.to_owned());
        self.tables.get(&key).filter(|table| !table.dropped)
    }

    /// The table of this identity, if it was not dropped, nor its keyspace.
    pub fn table_by_id(&self, id: TableId) -> Option<&TableDef> {
        self.live_tables().find(|table| table.id == id)
    }

    /// The keyspaces that were not dropped, by name.
    pub fn live_keyspaces(&self) -> impl Iterator<Item = &KeyspaceDef> {
        self.keyspaces.values().filter(|keyspace| !keyspace.dropped)
    }

    /// The tables that were not dropped, nor their keyspaces, by keyspace and name.
    pub fn live_tables(&self) -> impl Iterator<Item = &TableDef> {
        self.tables
            .values()
            .filter(|table| !table.dropped && self.keyspace(&table.keyspace).is_some())
    }

    /// The time to give to the next change, so that it wins over everything this node knows of: `wall`, or a moment
    /// after the latest change where clocks disagree.
    pub fn next_altered(&self, wall: TimestampMicros) -> TimestampMicros {
        let keyspaces = self.keyspaces.values().map(|keyspace| keyspace.altered);
        let tables = self.tables.values().map(|table| table.altered);
        let types = self.types.values().map(|def| def.altered);
        let latest = keyspaces.chain(tables).chain(types).max();
        latest.map_or(wall, |latest| wall.max(TimestampMicros(latest.0.saturating_add(1))))
    }

    /// Drops a table; gives back what it was. `altered` comes from [`Schema::next_altered`].
    pub fn drop_table(
        &mut self,
        keyspace: &str,
        name: &str,
        altered: TimestampMicros,
    ) -> Option<TableId> {
        let id = self.table(keyspace, name)?.id;
        let table = self.tables.get_mut(&(keyspace.to_owned(), name.to_owned()))?;
        (table.dropped, table.altered) = (true, altered);
        Some(id)
    }

    /// Drops a keyspace with its tables and types, so that they do not come back with a new keyspace of that name. `None` if there
    /// is no such keyspace.
    pub fn drop_keyspace(&mut self, name: &str, altered: TimestampMicros) -> Option<Vec<TableId>> {
        let keyspace = self.keyspaces.get_mut(name).filter(|keyspace| !keyspace.dropped)?;
        (keyspace.dropped, keyspace.altered) = (true, altered);
        let mut dropped = Vec::new();
        for table in self.tables.values_mut().filter(|t| t.keyspace == name && !t.dropped) {
            (table.dropped, table.altered) = (true, altered);
            dropped.push(table.id);
        }
        for def in self.types.values_mut().filter(|def| def.keyspace == name && !def.dropped) {
            (def.dropped, def.altered) = (true, altered);
        }
        Some(dropped)
    }
}

fn join<K: Ord, V>(
    into: &mut BTreeMap<K, V>,
    other: BTreeMap<K, V>,
    earlier: impl Fn(&V, &V) -> bool,
) -> bool {
    let mut changed = false;
    for (key, theirs) in other {
        if into.get(&key).is_none_or(|ours| earlier(ours, &theirs)) {
            into.insert(key, theirs);
            changed = true;
        }
    }
    changed
}

/// Everything is hashed with its length or at a fixed width, so no two schemas run together into the same bytes.
struct Hash(xxhash_rust::xxh3::Xxh3);

impl Hash {
    fn number(&mut self, number: u64) -> &mut Hash {
        self.0.update(&number.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Hash {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
        self
    }

    fn columns(&mut self, columns: &Columns) -> &mut Hash {
        self.text("partition key").number(columns.partition_key.len() as u64);
        for column in &columns.partition_key {
            self.text(&column.name).text(&column.ty.to_string());
        }
        self.text("clustering").number(columns.clustering.len() as u64);
        for column in &columns.clustering {
            self.text(&column.name).text(&column.ty.to_string());
            self.number(u64::from(column.reversed));
        }
        self.text("cells").number(columns.cells.len() as u64);
        for column in &columns.cells {
            self.number(u64::from(column.id.0)).text(&column.name).text(&column.ty.to_string());
            self.number(u64::from(column.is_static));
        }
        self.number(u64::from(columns.next_id));
        // Only if there are any, as above.
        for column in &columns.dropped {
            self.text("dropped").text(&column.name).text(&column.ty.to_string());
            self.number(u64::from(column.is_static)).time(column.at);
        }
        self
    }

    fn time(&mut self, time: TimestampMicros) -> &mut Hash {
        self.0.update(&time.0.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests;
