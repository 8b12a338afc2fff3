//! Definitions on the wire. What comes in is checked as if a person had typed it: names, copies and options that no
//! statement could have made are refused, with the whole message, before they reach a disk.

use crate::{WireError, ids, v1};
use helenus_core::cql::{CqlType, UserType};
use helenus_core::hint::Overflow;
use helenus_core::schema::{
    CellColumn, ClusteringColumn, Columns, DroppedColumn, KeyColumn, check_name,
};
use helenus_core::{
    ColumnId, Dc, KeyspaceDef, Replication, Schema, TableDef, TableOptions, TimestampMicros,
    TypeDef,
};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// All definitions, dropped ones included: they are what keeps a late node from bringing back what was dropped.
pub fn to_wire(schema: &Schema) -> v1::SchemaPush {
    v1::SchemaPush {
        keyspaces: schema.keyspaces.values().map(keyspace_to_wire).collect(),
        tables: schema.tables.values().map(table_to_wire).collect(),
        types: schema.types.values().map(type_def_to_wire).collect(),
    }
}

/// The names of the user-defined types in a message, by keyspace: what is made of another one is refused.
type Known = BTreeSet<(String, String)>;

/// The definitions in a message.
pub fn from_wire(push: v1::SchemaPush) -> Result<Schema, WireError> {
    let mut schema = Schema::default();
    for keyspace in push.keyspaces {
        let keyspace = keyspace_from_wire(keyspace).map_err(|err| err.inside("keyspaces"))?;
        let name = keyspace.name.clone();
        if let Some(twice) = schema.keyspaces.insert(name, keyspace) {
            return Err(WireError::new("keyspaces", format!("has `{}` twice", twice.name)));
        }
    }
    let known = push.types.iter().map(|def| (def.keyspace.clone(), def.name.clone()));
    let known: Known = known.collect();
    for def in push.types {
        let def = type_def_from_wire(def, &known).map_err(|err| err.inside("types"))?;
        let key = (def.keyspace.clone(), def.name.clone());
        if let Some(twice) = schema.types.insert(key, def) {
            let name = format!("{}.{}", twice.keyspace, twice.name);
            return Err(WireError::new("types", format!("has `{name}` twice")));
        }
    }
    for table in push.tables {
        let table = table_from_wire(table, &known).map_err(|err| err.inside("tables"))?;
        let key = (table.keyspace.clone(), table.name.clone());
        if let Some(twice) = schema.tables.insert(key, table) {
            let name = format!("{}.{}", twice.keyspace, twice.name);
            return Err(WireError::new("tables", format!("has `{name}` twice")));
        }
    }
    Ok(schema)
}

impl From<&Schema> for v1::SchemaPush {
    fn from(schema: &Schema) -> v1::SchemaPush {
        to_wire(schema)
    }
}

impl TryFrom<v1::SchemaPush> for Schema {
    type Error = WireError;

    fn try_from(push: v1::SchemaPush) -> Result<Schema, WireError> {
        from_wire(push)
    }
}

/// Replication as it travels: (`rf`, `per_dc`), of which one is empty.
pub fn replication_to_wire(replication: &Replication) -> (u32, BTreeMap<String, u32>) {
    match replication {
        Replication::Simple { rf } => (rf.get(), BTreeMap::new()),
        Replication::NetworkTopology { per_dc } => {
            (0, per_dc.iter().map(|(dc, rf)| (dc.as_str().to_owned(), rf.get())).collect())
        }
    }
}

/// Replication from the fields `rf` and `per_dc` of a message. An RF of 0, or none at all, is an error.
pub fn replication_from_wire(
    rf: u32,
    per_dc: &BTreeMap<String, u32>,
) -> Result<Replication, WireError> {
    match (NonZeroU32::new(rf), per_dc.is_empty()) {
        (Some(rf), true) => Ok(Replication::Simple { rf }),
        (Some(_), false) => Err(WireError::new(
            "rf",
            "and `per_dc` are both set: say how many copies in all, or how many in each data centre",
        )),
        (None, true) => {
            Err(WireError::new("rf", "is 0: a keyspace needs at least one copy of its data"))
        }
        (None, false) => {
            let copies = per_dc.iter().map(|(dc, rf)| match NonZeroU32::new(*rf) {
                Some(_) if dc.is_empty() => {
                    Err(WireError::new("per_dc", "names a data centre with no name"))
                }
                Some(rf) => Ok((Dc::from(dc.as_str()), rf)),
                None => Err(WireError::new(
                    "per_dc",
                    format!("gives data centre `{dc}` 0 copies: leave it out instead"),
                )),
            });
            Ok(Replication::NetworkTopology { per_dc: copies.collect::<Result<_, _>>()? })
        }
    }
}

/// A keyspace's policy for hints that there is no room for; empty: none of its own.
pub fn overflow_from_wire(name: &str) -> Result<Option<Overflow>, WireError> {
    if name.is_empty() {
        return Ok(None);
    }
    Overflow::parse(name).map(Some).ok_or_else(|| {
        let known: Vec<&str> = Overflow::NAMES.into_iter().map(|(name, _)| name).collect();
        WireError::new("hint_overflow", format!("is `{name}`: it takes {}", known.join(", ")))
    })
}

fn keyspace_to_wire(keyspace: &KeyspaceDef) -> v1::SchemaKeyspace {
    let (rf, per_dc) = replication_to_wire(&keyspace.replication);
    v1::SchemaKeyspace {
        name: keyspace.name.clone(),
        rf,
        per_dc,
        hint_overflow: keyspace.hint_overflow.map_or("", Overflow::as_str).to_owned(),
        altered_us: keyspace.altered.0,
        dropped: keyspace.dropped,
    }
}

fn keyspace_from_wire(wire: v1::SchemaKeyspace) -> Result<KeyspaceDef, WireError> {
    name("name", &wire.name)?;
    Ok(KeyspaceDef {
        replication: replication_from_wire(wire.rf, &wire.per_dc)?,
        hint_overflow: overflow_from_wire(&wire.hint_overflow)?,
        name: wire.name,
        altered: TimestampMicros(wire.altered_us),
        dropped: wire.dropped,
    })
}

fn table_to_wire(table: &TableDef) -> v1::SchemaTable {
    v1::SchemaTable {
        id: ids::table_to_wire(table.id),
        keyspace: table.keyspace.clone(),
        name: table.name.clone(),
        options: table.options.to_set_map(),
        altered_us: table.altered.0,
        dropped: table.dropped,
        columns: columns_to_wire(&table.columns),
        next_column_id: table.columns.next_id,
        dropped_columns: table.columns.dropped.iter().map(dropped_to_wire).collect(),
    }
}

fn table_from_wire(wire: v1::SchemaTable, known: &Known) -> Result<TableDef, WireError> {
    name("keyspace", &wire.keyspace)?;
    name("name", &wire.name)?;
    let pairs = wire.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = TableOptions::from_pairs(pairs).map_err(|err| {
        WireError::new("options", format!("of `{}.{}`: {err}", wire.keyspace, wire.name))
    })?;
    let dropped = wire.dropped_columns;
    let types = Types { keyspace: &wire.keyspace, known };
    let columns = columns_from_wire(wire.columns, wire.next_column_id, dropped, types);
    let columns = columns.map_err(|err| {
        WireError::new("columns", format!("of `{}.{}`: {err}", wire.keyspace, wire.name))
    })?;
    Ok(TableDef {
        id: ids::table_from_wire("id", &wire.id)?,
        keyspace: wire.keyspace,
        name: wire.name,
        columns,
        options,
        altered: TimestampMicros(wire.altered_us),
        dropped: wire.dropped,
    })
}

/// None for a key-value table: its columns go without saying.
fn columns_to_wire(columns: &Columns) -> Vec<v1::SchemaColumn> {
    if *columns == Columns::key_value() {
        return Vec::new();
    }
    let column = |name: &str, ty: &CqlType, kind: v1::SchemaColumnKind, id: u32| {
        let (name, r#type) = (name.to_owned(), ty.to_string());
        v1::SchemaColumn { name, r#type, kind: kind.into(), id }
    };
    let keys = columns.partition_key.iter();
    let keys = keys.map(|it| column(&it.name, &it.ty, v1::SchemaColumnKind::PartitionKey, 0));
    let clustering = columns.clustering.iter().map(|it| {
        let kind = match it.reversed {
            false => v1::SchemaColumnKind::Clustering,
            true => v1::SchemaColumnKind::ClusteringDesc,
        };
        column(&it.name, &it.ty, kind, 0)
    });
    let cells = columns.cells.iter().map(|it| {
        let kind = match it.is_static {
            false => v1::SchemaColumnKind::Regular,
            true => v1::SchemaColumnKind::Static,
        };
        column(&it.name, &it.ty, kind, it.id.0)
    });
    keys.chain(clustering).chain(cells).collect()
}

fn dropped_to_wire(column: &DroppedColumn) -> v1::SchemaDroppedColumn {
    v1::SchemaDroppedColumn {
        name: column.name.clone(),
        r#type: column.ty.to_string(),
        is_static: column.is_static,
        dropped_us: column.at.0,
    }
}

fn dropped_from_wire(
    wire: v1::SchemaDroppedColumn,
    types: Types<'_>,
) -> Result<DroppedColumn, String> {
    let ty = types.read(&wire.name, &wire.r#type)?;
    let (name, is_static, at) = (wire.name, wire.is_static, TimestampMicros(wire.dropped_us));
    Ok(DroppedColumn { name, ty, is_static, at })
}

/// Reads the types of a keyspace's definitions.
#[derive(Clone, Copy)]
struct Types<'a> {
    keyspace: &'a str,
    known: &'a Known,
}

impl Types<'_> {
    /// `of`: the column or field. `Err`: what is wrong with its type, in words.
    fn read(self, of: &str, text: &str) -> Result<CqlType, String> {
        let find = |name: &str| {
            let key = (self.keyspace.to_owned(), name.to_owned());
            self.known.contains(&key).then(|| UserType::reference(self.keyspace, name))
        };
        CqlType::parse(text, &find)
            .map_err(|err| format!("`{of}` has no type that is known here: {err}"))
    }
}

fn type_def_to_wire(def: &TypeDef) -> v1::SchemaType {
    let field = |(name, ty): &(String, CqlType)| {
        let (name, r#type) = (name.clone(), ty.to_string());
        v1::SchemaField { name, r#type }
    };
    v1::SchemaType {
        keyspace: def.keyspace.clone(),
        name: def.name.clone(),
        fields: def.fields.iter().map(field).collect(),
        altered_us: def.altered.0,
        dropped: def.dropped,
    }
}

fn type_def_from_wire(wire: v1::SchemaType, known: &Known) -> Result<TypeDef, WireError> {
    name("keyspace", &wire.keyspace)?;
    let types = Types { keyspace: &wire.keyspace, known };
    let wrong =
        |why| WireError::new("fields", format!("of `{}.{}`: {why}", wire.keyspace, wire.name));
    let mut fields = Vec::with_capacity(wire.fields.len());
    for field in wire.fields {
        let ty = types.read(&field.name, &field.r#type).map_err(wrong)?;
        fields.push((field.name, ty));
    }
    let def = TypeDef {
        keyspace: wire.keyspace.clone(),
        name: wire.name.clone(),
        fields,
        altered: TimestampMicros(wire.altered_us),
        dropped: wire.dropped,
    };
    match def.check() {
        Ok(()) => Ok(def),
        Err(err) => Err(wrong(err.to_string())),
    }
}

/// `Err`: what is wrong with them, in words.
fn columns_from_wire(
    wire: Vec<v1::SchemaColumn>,
    next_id: u32,
    dropped: Vec<v1::SchemaDroppedColumn>,
    types: Types<'_>,
) -> Result<Columns, String> {
    if wire.is_empty() {
        return Ok(Columns::key_value());
    }
    let (partition_key, clustering, cells) = (Vec::new(), Vec::new(), Vec::new());
    let dropped = dropped.into_iter().map(|wire| dropped_from_wire(wire, types));
    let dropped = dropped.collect::<Result<_, _>>()?;
    let mut columns = Columns { partition_key, clustering, cells, next_id, dropped };
    for column in wire {
        use v1::SchemaColumnKind as Kind;
        let kind = column.kind();
        let (name, id) = (column.name, ColumnId(column.id));
        let ty = types.read(&name, &column.r#type)?;
        match kind {
            Kind::PartitionKey => columns.partition_key.push(KeyColumn { name, ty }),
            Kind::Clustering | Kind::ClusteringDesc => {
                let reversed = kind == Kind::ClusteringDesc;
                columns.clustering.push(ClusteringColumn { name, ty, reversed });
            }
            Kind::Static | Kind::Regular => {
                let is_static = kind == Kind::Static;
                columns.cells.push(CellColumn { id, name, ty, is_static });
            }
            Kind::Unspecified => return Err(format!("`{name}` is of no kind")),
        }
    }
    columns.check().map_err(|err| err.to_string())?;
    Ok(columns)
}

fn name(field: &'static str, name: &str) -> Result<(), WireError> {
    check_name(name).map_err(|err| WireError::new(field, format!("is wrong: {err}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use helenus_core::{ReadRepair, TableId};
    use proptest::prelude::*;
    use prost::Message;

    fn orders() -> TableDef {
        let key = |name: &str, ty| KeyColumn { name: name.to_owned(), ty };
        let cell = |id, name: &str, ty, is_static| {
            let name = name.to_owned();
            CellColumn { id: ColumnId(id), name, ty, is_static }
        };
        let row = |name: &str, reversed| {
            let (name, ty) = (name.to_owned(), CqlType::Timestamp);
            ClusteringColumn { name, ty, reversed }
        };
        let tags = CqlType::list(CqlType::Text, true).unwrap();
        let whole = CqlType::User { of: UserType::reference("demo", "whole"), frozen: false };
        TableDef {
            id: TableId(8),
            keyspace: "demo".to_owned(),
            name: "orders".to_owned(),
            columns: Columns {
                partition_key: vec![key("shop", CqlType::Text), key("day", CqlType::Date)],
                clustering: vec![row("at", true), row("until", false)],
                cells: vec![
                    cell(0, "open", CqlType::Boolean, true),
                    cell(7, "tags", tags, false),
                    cell(8, "whole", whole, false),
                ],
                next_id: 9,
                dropped: vec![DroppedColumn {
                    name: "paid".to_owned(),
                    ty: CqlType::Boolean,
                    is_static: true,
                    at: TimestampMicros(3),
                }],
            },
            options: TableOptions::default(),
            altered: TimestampMicros(5),
            dropped: false,
        }
    }

    fn a_schema() -> Schema {
        let keyspace = |name: &str, replication| KeyspaceDef {
            name: name.to_owned(),
            replication,
            hint_overflow: (name == "demo").then_some(Overflow::FailWrite),
            altered: TimestampMicros(17),
            dropped: name == "gone",
        };
        let three = NonZeroU32::new(3).unwrap();
        let per_dc = BTreeMap::from([(Dc::from("east"), three), (Dc::from("west"), three)]);
        let table = TableDef {
            id: TableId(7),
            keyspace: "demo".to_owned(),
            name: "kv".to_owned(),
            columns: Columns::key_value(),
            options: TableOptions {
                read_repair: ReadRepair::None,
                gc_grace_seconds: 60,
                ..TableOptions::default()
            },
            altered: TimestampMicros(-4),
            dropped: false,
        };
        Schema {
            keyspaces: [
                keyspace("demo", Replication::Simple { rf: three }),
                keyspace("gone", Replication::NetworkTopology { per_dc }),
            ]
            .map(|keyspace| (keyspace.name.clone(), keyspace))
            .into(),
            tables: [table, orders()]
                .map(|table| ((table.keyspace.clone(), table.name.clone()), table))
                .into(),
            types: types().map(|def| ((def.keyspace.clone(), def.name.clone()), def)).into(),
        }
    }

    /// One is made of the other, which is dropped.
    fn types() -> [TypeDef; 2] {
        let part = CqlType::User { of: UserType::reference("demo", "Part"), frozen: true };
        let def = |name: &str, field: &str, ty, dropped| TypeDef {
            keyspace: "demo".to_owned(),
            name: name.to_owned(),
            fields: vec![(field.to_owned(), CqlType::Text), ("more".to_owned(), ty)],
            altered: TimestampMicros(6),
            dropped,
        };
        let parts = CqlType::list(part, false).unwrap();
        [def("whole", "a b", parts, false), def("Part", "n", CqlType::Int, true)]
    }

    #[test]
    fn a_schema_comes_back_as_it_went_with_its_tombstones() {
        let bytes = to_wire(&a_schema()).encode_to_vec();
        let push = v1::SchemaPush::decode(bytes.as_slice()).unwrap();
        assert_eq!(from_wire(push), Ok(a_schema()));
    }

    fn error(change: impl FnOnce(&mut v1::SchemaPush)) -> String {
        let mut push = to_wire(&a_schema());
        change(&mut push);
        from_wire(push).unwrap_err().to_string()
    }

    #[test]
    fn what_no_statement_could_have_made_is_refused() {
        assert_eq!(
            error(|push| push.keyspaces[0].rf = 0),
            "field `keyspaces.rf` is 0: a keyspace needs at least one copy of its data"
        );
        assert_eq!(
            error(|push| push.keyspaces[1].rf = 1),
            "field `keyspaces.rf` and `per_dc` are both set: say how many copies in all, or how many in each data \
             centre"
        );
        assert_eq!(
            error(|push| {
                push.keyspaces[1].per_dc.insert("north".to_owned(), 0);
            }),
            "field `keyspaces.per_dc` gives data centre `north` 0 copies: leave it out instead"
        );
        assert_eq!(
            error(|push| push.tables[0].id = Bytes::from_static(b"xy")),
            "field `tables.id` has 2 bytes where an id has 16"
        );
        assert_eq!(
            error(|push| push.keyspaces[0].hint_overflow = "drop".to_owned()),
            "field `keyspaces.hint_overflow` is `drop`: it takes drop-newest, drop-oldest, dead-letter, fail-write, throttle"
        );
        assert!(
            error(|push| push.tables[0].name = "../etc".to_owned())
                .starts_with("field `tables.name` is wrong: `../etc` is not a name")
        );
        assert!(
            error(|push| {
                push.tables[0].options.insert("gc_grace".to_owned(), "1".to_owned());
            })
            .starts_with("field `tables.options` of `demo.kv`: unknown table option `gc_grace`")
        );
        assert_eq!(
            error(|push| push.tables.push(push.tables[0].clone())),
            "field `tables` has `demo.kv` twice"
        );
        assert_eq!(
            error(|push| push.keyspaces.push(push.keyspaces[0].clone())),
            "field `keyspaces` has `demo` twice"
        );
        assert_eq!(
            error(|push| push.types.push(push.types[0].clone())),
            "field `types` has `demo.Part` twice"
        );
        let unknown = error(|push| drop(push.types.remove(0)));
        assert!(unknown.starts_with("field `types.fields` of `demo.whole`: `more` has no type"));
        let unknown = error(|push| drop(push.types.remove(1)));
        assert!(
            unknown.starts_with("field `tables.columns` of `demo.orders`: `whole` has no type")
        );
        let none = error(|push| push.types[0].fields.clear());
        assert!(none.ends_with("a type has 1 to 1024 fields, not 0"), "{none}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = to_wire(&a_schema()).encode_to_vec();
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(push) = v1::SchemaPush::decode(bytes.as_slice())
                && let Ok(schema) = from_wire(push)
            {
                prop_assert_eq!(from_wire(to_wire(&schema)), Ok(schema));
            }
        }
    }
}
