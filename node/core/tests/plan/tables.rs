//! The keyspace of the scripts: its type and its tables.

use helenus_core::cql::CqlType;
use helenus_core::schema::{CellColumn, ClusteringColumn, KeyColumn};
use helenus_core::{
    ColumnId, Columns, KeyspaceDef, Replication, Schema, TableDef, TableId, TableOptions,
    TimestampMicros, TypeDef,
};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The keyspace, and the one user-defined type in it.
pub(crate) fn schema() -> Schema {
    let fields = vec![
        ("n".to_owned(), CqlType::Int),
        ("names".to_owned(), CqlType::list(CqlType::Text, true).expect("a list")),
    ];
    let (altered, dropped) = (TimestampMicros(0), false);
    let rf = NonZeroU32::new(1).expect("one copy");
    let keyspace = KeyspaceDef {
        name: "ks".to_owned(),
        replication: Replication::Simple { rf },
        hint_overflow: None,
        altered,
        dropped,
    };
    let (ks, name) = ("ks".to_owned(), "user".to_owned());
    let user = TypeDef { keyspace: ks.clone(), name: name.clone(), fields, altered, dropped };
    Schema {
        keyspaces: BTreeMap::from([(ks.clone(), keyspace)]),
        types: BTreeMap::from([((ks, name), user)]),
        ..Schema::default()
    }
}

fn ty(name: &str) -> CqlType {
    let schema = schema();
    CqlType::parse(name, &|name| schema.user_type("ks", name)).expect("a type")
}

/// `columns`: name, type, and whether it is static.
fn table(
    id: u128,
    name: &str,
    key: &[(&str, &str)],
    clustering: &[(&str, &str, bool)],
    columns: &[(&str, &str, bool)],
) -> Arc<TableDef> {
    let key = key.iter().map(|(name, of)| KeyColumn { name: (*name).to_owned(), ty: ty(of) });
    let clustering = clustering.iter().map(|(name, of, reversed)| ClusteringColumn {
        name: (*name).to_owned(),
        ty: ty(of),
        reversed: *reversed,
    });
    let cells = (0_u32..).zip(columns).map(|(id, (name, of, is_static))| CellColumn {
        id: ColumnId(id),
        name: (*name).to_owned(),
        ty: ty(of),
        is_static: *is_static,
    });
    let cells: Vec<_> = cells.collect();
    let next_id = u32::try_from(cells.len()).expect("few columns");
    let columns = Columns {
        partition_key: key.collect(),
        clustering: clustering.collect(),
        cells,
        next_id,
        dropped: Vec::new(),
    };
    columns.check().expect("columns of a table");
    Arc::new(TableDef {
        id: TableId(id),
        keyspace: "ks".to_owned(),
        name: name.to_owned(),
        columns,
        options: TableOptions::default(),
        altered: TimestampMicros(0),
        dropped: false,
    })
}

/// All of them.
pub(crate) fn tables() -> Vec<Arc<TableDef>> {
    plain_tables().into_iter().chain(open_tables()).chain(tables_of_users()).collect()
}

/// Those with collections that are not frozen.
fn open_tables() -> [Arc<TableDef>; 2] {
    [
        table(
            10,
            "open",
            &[("k", "int")],
            &[("c", "int", false)],
            &[
                ("ss", "set<int>", true),
                ("sl", "list<int>", true),
                ("l", "list<int>", false),
                ("s", "set<decimal>", false),
                ("m", "map<text, int>", false),
                ("v", "int", false),
            ],
        ),
        table(
            11,
            "numbers",
            &[("k", "int")],
            &[("c", "int", false)],
            &[("s", "set<int>", false), ("m", "map<int, int>", false)],
        ),
    ]
}

/// Those with user-defined types: one whose fields are cells, and one in keys and collections.
fn tables_of_users() -> [Arc<TableDef>; 3] {
    [
        table(
            12,
            "people",
            &[("k", "int")],
            &[("c", "int", false)],
            &[("s", "user", true), ("u", "user", false), ("v", "int", false)],
        ),
        table(
            13,
            "homes",
            &[("k", "int")],
            &[("c", "frozen<user>", true)],
            &[
                ("all", "set<frozen<user>>", false),
                ("m", "map<frozen<user>, int>", false),
                ("t", "frozen<tuple<int, frozen<user>>>", false),
                ("l", "frozen<list<frozen<user>>>", false),
            ],
        ),
        table(14, "owned", &[("k", "frozen<user>")], &[], &[("v", "int", false)]),
    ]
}

/// Those that most scripts use.
fn plain_tables() -> Vec<Arc<TableDef>> {
    let mut short =
        TableDef::clone(&table(7, "short", &[("k", "int")], &[], &[("v", "int", false)]));
    short.options.default_time_to_live = 100;
    vec![
        table(1, "kv", &[("k", "text")], &[], &[("v", "int", false), ("w", "text", false)]),
        table(
            2,
            "wide",
            &[("k", "int")],
            &[("a", "int", false), ("b", "int", true)],
            &[("v", "int", false), ("w", "text", false)],
        ),
        table(
            3,
            "stat",
            &[("k", "int")],
            &[("c", "int", false)],
            &[("s", "text", true), ("v", "int", false)],
        ),
        table(
            4,
            "pair",
            &[("x", "int"), ("y", "text")],
            &[("c", "int", false)],
            &[("v", "double", false)],
        ),
        table(
            5,
            "colls",
            &[("k", "int")],
            &[],
            &[
                ("l", "frozen<list<int>>", false),
                ("s", "frozen<set<text>>", false),
                ("m", "frozen<map<text, int>>", false),
                ("t", "frozen<tuple<int, text>>", false),
                ("open", "list<int>", false),
                ("u", "frozen<user>", false),
            ],
        ),
        table(6, "counts", &[("k", "int")], &[], &[("n", "counter", false)]),
        Arc::new(short),
        table(
            8,
            "times",
            &[("k", "timeuuid")],
            &[],
            &[
                ("d", "date", false),
                ("ts", "timestamp", false),
                ("id", "uuid", false),
                ("b", "blob", false),
                ("f", "bigint", false),
            ],
        ),
        table(9, "texts", &[("k", "int")], &[("c", "text", false)], &[]),
        table(
            20,
            "hits",
            &[("k", "int")],
            &[("c", "int", false)],
            &[("visits", "counter", true), ("n", "counter", false), ("m", "counter", false)],
        ),
    ]
}
