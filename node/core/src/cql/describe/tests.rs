use super::*;
use crate::cql::ast::Statement;
use crate::cql::value::arbitrary::{any_type, key_type};
use crate::cql::{CqlType, define, parse};
use crate::data::ColumnId;
use crate::hint::Overflow;
use crate::schema::{CellColumn, ClusteringColumn, Columns, KeyColumn, TableId};
use crate::types::{Dc, TimestampMicros};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::num::NonZeroU32;

fn table_def(name: &str, columns: Columns, options: TableOptions) -> TableDef {
    TableDef {
        id: TableId(1),
        keyspace: "ks".into(),
        name: name.into(),
        columns,
        options,
        altered: TimestampMicros(0),
        dropped: false,
    }
}

fn defined(text: &str) -> define::TableParts {
    match parse(text).unwrap_or_else(|error| panic!("{error}: {text}")).statement {
        Statement::CreateTable(create) => define::table(&create, define::UserTypes::NONE)
            .unwrap_or_else(|error| panic!("{error}: {text}")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_table_is_shown_as_cassandra_shows_it() {
    let parts = defined(
        "CREATE TABLE ks.orders (shop text, customer uuid, at timestamp, \"Nr\" int, owner text static, \
         tags frozen<set<text>>, PRIMARY KEY ((shop, customer), at, \"Nr\")) \
         WITH CLUSTERING ORDER BY (at DESC) AND hint_refused = 'ERROR' \
         AND compaction = {'class': 'LCS', 'sstable_size_in_mb': 64}",
    );
    let shown = "\
CREATE TABLE ks.\"Orders\" (
    shop text,
    customer uuid,
    at timestamp,
    \"Nr\" int,
    owner text static,
    tags frozen<set<text>>,
    PRIMARY KEY ((shop, customer), at, \"Nr\")
) WITH CLUSTERING ORDER BY (at DESC, \"Nr\" ASC)
    AND bloom_filter_fp_chance = 0.01
    AND compaction = {'class': 'org.apache.cassandra.db.compaction.LeveledCompactionStrategy', 'max_threshold': '32', 'min_threshold': '4', 'sstable_size_in_mb': '64'}
    AND compression = {'class': 'org.apache.cassandra.io.compress.LZ4Compressor'}
    AND default_time_to_live = 0
    AND gc_grace_seconds = 864000
    AND hint_refused = 'ERROR'
    AND read_repair = 'BLOCKING';";
    assert_eq!(table(&table_def("Orders", parts.columns, parts.options)), shown);
}

#[test]
fn a_key_of_one_column_is_shown_beside_it() {
    let options = TableOptions { compression: false, ..TableOptions::default() };
    let shown = "\
CREATE TABLE ks.t (
    key blob PRIMARY KEY,
    value blob
) WITH bloom_filter_fp_chance = 0.01
    AND compaction = {'class': 'org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy', 'max_threshold': '32', 'min_threshold': '4'}
    AND compression = {'enabled': 'false'}
    AND default_time_to_live = 0
    AND gc_grace_seconds = 864000
    AND read_repair = 'BLOCKING';";
    assert_eq!(table(&table_def("t", Columns::key_value(), options)), shown);
}

#[test]
fn what_was_created_is_shown_and_created_again() {
    for text in [
        "CREATE TABLE t (k int PRIMARY KEY)",
        "CREATE TABLE t (k int, v text, PRIMARY KEY ((k, v)))",
        "CREATE TABLE t (k int, c int, s set<text> static, m map<text, frozen<list<int>>>, l list<int>, \
         PRIMARY KEY (k, c))",
        "CREATE TABLE t (k int, c int, PRIMARY KEY (k, c)) WITH compression = {}",
        "CREATE TABLE t (\"select\" int, \"it's \"\"odd\"\"\" text, s int static, \"true\" tuple<int, text>, \
         m frozen<map<text, list<int>>>, PRIMARY KEY (\"select\", \"it's \"\"odd\"\"\")) \
         WITH CLUSTERING ORDER BY (\"it's \"\"odd\"\"\" DESC)",
        "CREATE TABLE t (a int, b int, c int, d int, v blob, PRIMARY KEY ((a, b), c, d)) \
         WITH CLUSTERING ORDER BY (c ASC, d DESC) AND gc_grace_seconds = 0 \
         AND bloom_filter_fp_chance = 0.00007 AND read_repair = 'NONE' AND default_time_to_live = 1",
        "CREATE TABLE t (k int PRIMARY KEY, v text) WITH compaction = {'class': 'STCS', \
         'bucket_low': 0.25, 'min_sstable_size': 1, 'unchecked_tombstone_compaction': true}",
        "CREATE TABLE t (k int PRIMARY KEY, v text) WITH compaction = {'class': 'LCS', \
         'sstable_size': 5000000, 'max_threshold': 4}",
    ] {
        let parts = defined(text);
        let def = table_def("T\"", parts.columns, parts.options);
        let again = defined(&table(&def));
        assert_eq!((again.columns, again.options), (def.columns, def.options), "{text}");
        assert_eq!(again.warnings, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn with_internals_a_table_has_its_id_whichever_incarnation_it_is_in() {
    let mut def = table_def("t", Columns::key_value(), TableOptions::default());
    let plain = table(&def);
    def.id = TableId((0x0123_4567 << 32) | 9);
    assert_eq!(table(&def), plain);
    let id = "WITH ID = 00000000-0000-0000-0123-456700000000\n    AND ";
    assert_eq!(table_with_internals(&def), plain.replace("WITH ", id));
}

#[test]
fn keyspaces_are_shown_as_cassandra_shows_them() {
    let rf = |copies| NonZeroU32::new(copies).unwrap();
    let per_dc = BTreeMap::from([(Dc::from("dc1"), rf(3)), (Dc::from("o'dc"), rf(1))]);
    let cases = [
        (
            Replication::Simple { rf: rf(1) },
            None,
            "CREATE KEYSPACE \"Ks\" WITH replication = {'class': 'SimpleStrategy', 'replication_factor': '1'}  \
             AND durable_writes = true;",
        ),
        (
            Replication::NetworkTopology { per_dc },
            Some(Overflow::DeadLetter),
            "CREATE KEYSPACE \"Ks\" WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': '3', \
             'o''dc': '1'}  AND durable_writes = true AND hint_overflow = 'dead-letter';",
        ),
    ];
    for (replication, hint_overflow, shown) in cases {
        let def = KeyspaceDef {
            name: "Ks".into(),
            replication,
            hint_overflow,
            altered: TimestampMicros(0),
            dropped: false,
        };
        assert_eq!(keyspace(&def), shown);
        let Statement::CreateKeyspace(create) = parse(shown).unwrap().statement else {
            panic!("{shown}")
        };
        let dcs = [Dc::from("dc1"), Dc::from("o'dc")].into();
        let parts = define::keyspace(&create.properties, None, &dcs).unwrap();
        assert_eq!(
            (create.keyspace.as_str(), parts.replication, parts.hint_overflow, parts.warnings),
            ("Ks", def.replication, def.hint_overflow, vec![]),
        );
    }
}

#[test]
fn a_type_is_shown_as_cassandra_shows_it_and_created_again() {
    let reference =
        CqlType::User { of: crate::cql::UserType::reference("ks", "Phone No"), frozen: true };
    let def = TypeDef {
        keyspace: "ks".into(),
        name: "address".into(),
        fields: vec![
            ("street".into(), CqlType::Text),
            ("Zip".into(), CqlType::Int),
            ("phones".into(), CqlType::map(CqlType::Text, reference, false).unwrap()),
        ],
        altered: TimestampMicros(3),
        dropped: false,
    };
    let shown = "\
CREATE TYPE ks.address (
    street text,
    \"Zip\" int,
    phones map<text, frozen<\"Phone No\">>
);";
    assert_eq!(user_type(&def), shown);
    let Statement::CreateType(create) = parse(shown).unwrap().statement else { panic!("{shown}") };
    let find = |name: &str| Some(crate::cql::UserType::reference("ks", name));
    let users = define::UserTypes { keyspace: "ks", find: &find };
    assert_eq!(define::create_type(&create, TimestampMicros(3), users), Ok(def));
}

/// A type that a statement can give to a column.
fn writable(ty: &CqlType) -> bool {
    !ty.is_counter() && CqlType::parse(&ty.to_string(), &|_| None).as_ref() == Ok(ty)
}

/// The same collection, written element by element.
fn thawed(ty: CqlType) -> CqlType {
    match ty {
        CqlType::List { of, .. } => CqlType::List { of, frozen: false },
        CqlType::Set { of, .. } => CqlType::Set { of, frozen: false },
        CqlType::Map { key, value, .. } => CqlType::Map { key, value, frozen: false },
        other => other,
    }
}

fn any_columns() -> impl Strategy<Value = Columns> {
    let names = [
        "k", "v_1", "1st", "_x", "Upper", "select", "key", "true", "nan", "it's", "\"", " ", "é",
        "a.b",
    ];
    let names = Just(names.to_vec()).prop_shuffle();
    let keys = vec(key_type().prop_filter("of CQL", writable), 6);
    let cell_type = (any_type().prop_filter("of CQL", writable), any::<bool>())
        .prop_map(|(ty, open)| if open { thawed(ty) } else { ty });
    let cells = vec((cell_type, any::<bool>()), 0..4);
    (names, keys, cells, 1..=3_usize, vec(any::<bool>(), 0..4)).prop_map(
        |(names, keys, cells, partition, reversed)| {
            let mut names = names.into_iter();
            let mut name = || names.next().unwrap().to_owned();
            let mut keys = keys.into_iter();
            let partition_key = (&mut keys)
                .take(partition)
                .map(|ty| KeyColumn { name: name(), ty })
                .collect::<Vec<_>>();
            let clustering = keys
                .zip(reversed)
                .map(|(ty, reversed)| ClusteringColumn { name: name(), ty, reversed })
                .collect::<Vec<_>>();
            let cells: Vec<CellColumn> = (0..)
                .zip(cells)
                .map(|(id, (ty, is_static))| CellColumn {
                    id: ColumnId(id),
                    name: name(),
                    ty,
                    is_static: is_static && !clustering.is_empty(),
                })
                .collect();
            let next_id = u32::try_from(cells.len()).unwrap();
            Columns { partition_key, clustering, cells, next_id, dropped: Vec::new() }
        },
    )
}

fn any_options() -> impl Strategy<Value = TableOptions> {
    let set = [
        ("bloom_filter_fp_chance", "1"),
        ("bloom_filter_fp_chance", "0.0001"),
        ("compaction.class", "TWCS"),
        ("compaction.class", "LCS"),
        ("compaction.bucket_high", "3.25"),
        ("compaction.compaction_window_size", "7"),
        ("compaction.compaction_window_unit", "MINUTES"),
        ("compaction.max_threshold", "64"),
        ("compaction.min_threshold", "2"),
        ("compaction.sstable_size", "4096"),
        ("compaction.sstable_size", "1048576"),
        ("compaction.tombstone_compaction_interval", "1"),
        ("compaction.tombstone_threshold", "0.000001"),
        ("compression", "none"),
        ("default_time_to_live", "630720000"),
        ("gc_grace_seconds", "0"),
        ("hint_refused", "ERROR"),
        ("read_repair", "NONE"),
    ];
    vec(select(set.to_vec()), 0..6).prop_map(|set| TableOptions::from_pairs(set).unwrap())
}

proptest! {
    #[test]
    fn any_table_is_shown_and_created_again(columns in any_columns(), options in any_options()) {
        prop_assert_eq!(columns.check(), Ok(()));
        let def = table_def("t", columns, options);
        let again = defined(&table(&def));
        prop_assert_eq!((again.columns, again.options), (def.columns, def.options));
    }
}
