use super::*;
use crate::cql::ast::Statement;
use crate::cql::parse;
use crate::cql::value::arbitrary::any_type;
use crate::hint::Overflow;
use crate::schema::{
    CompactionClass, HintRefused, KeyspaceDef, ReadRepair, Replication, WindowUnit,
};
use crate::types::{Dc, TimestampMicros};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::num::NonZeroU32;

fn create(text: &str) -> Result<TableParts, DefineError> {
    match parse(text).unwrap().statement {
        Statement::CreateTable(create) => table(&create, UserTypes::NONE),
        other => panic!("{other:?}"),
    }
}

/// A table of one key and one value, with these properties.
fn with(properties: &str) -> Result<TableParts, DefineError> {
    create(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) WITH {properties}"))
}

fn create_keyspace(properties: &str) -> Result<KeyspaceParts, DefineError> {
    match parse(&format!("CREATE KEYSPACE ks WITH {properties}")).unwrap().statement {
        Statement::CreateKeyspace(create) => keyspace(&create.properties, None, &dcs()),
        other => panic!("{other:?}"),
    }
}

fn alter_keyspace(before: &KeyspaceDef, properties: &str) -> Result<KeyspaceParts, DefineError> {
    match parse(&format!("ALTER KEYSPACE ks WITH {properties}")).unwrap().statement {
        Statement::AlterKeyspace(alter) => keyspace(&alter.properties, Some(before), &dcs()),
        other => panic!("{other:?}"),
    }
}

/// The data centres there are.
fn dcs() -> BTreeSet<Dc> {
    [Dc::from("dc1"), Dc::from("Ärger")].into()
}

fn in_dcs<const N: usize>(copies: [(&str, u32); N]) -> Replication {
    let per_dc = copies.map(|(dc, copies)| (Dc::from(dc), rf(copies))).into();
    Replication::NetworkTopology { per_dc }
}

/// The type of a column that is declared so.
fn typed(of: &str) -> Result<CqlType, DefineError> {
    match parse(&format!("CREATE TABLE t (k {of} PRIMARY KEY)")).unwrap().statement {
        Statement::CreateTable(create) => type_of(&create.columns[0].of, UserTypes::NONE),
        other => panic!("{other:?}"),
    }
}

fn rf(copies: u32) -> NonZeroU32 {
    NonZeroU32::new(copies).unwrap()
}

#[test]
fn ids_are_given_to_cells_in_the_order_in_which_they_are_declared() {
    let parts = create(
        "CREATE TABLE ks.orders (state text, shop text, total decimal, at timestamp, customer uuid, \
         owner varchar static, nr int, PRIMARY KEY ((shop, customer), at, nr)) \
         WITH CLUSTERING ORDER BY (at DESC)",
    )
    .unwrap();
    let key = |name: &str, ty| KeyColumn { name: name.into(), ty };
    let clustering =
        |name: &str, ty, reversed| ClusteringColumn { name: name.into(), ty, reversed };
    let cell = |id, name: &str, ty, is_static| CellColumn {
        id: ColumnId(id),
        name: name.into(),
        ty,
        is_static,
    };
    let columns = Columns {
        partition_key: vec![key("shop", CqlType::Text), key("customer", CqlType::Uuid)],
        clustering: vec![
            clustering("at", CqlType::Timestamp, true),
            clustering("nr", CqlType::Int, false),
        ],
        cells: vec![
            cell(0, "state", CqlType::Text, false),
            cell(1, "total", CqlType::Decimal, false),
            cell(2, "owner", CqlType::Text, true),
        ],
        next_id: 3,
        dropped: Vec::new(),
    };
    let options = TableOptions::default();
    assert_eq!(parts, TableParts { columns, options, warnings: Vec::new() });
}

#[test]
fn a_key_and_a_value_are_a_key_value_table() {
    let parts = create("CREATE TABLE t (value blob, key blob PRIMARY KEY)").unwrap();
    assert_eq!(parts.columns, Columns::key_value());
    let parts = create("CREATE TABLE t (k text, v int, PRIMARY KEY (k))").unwrap();
    assert!(parts.columns.is_one_value());
    // A table may be keys alone.
    let parts = create("CREATE TABLE t (k text, c int, PRIMARY KEY (k, c))").unwrap();
    assert_eq!((parts.columns.cells, parts.columns.next_id), (vec![], 0));
}

#[test]
fn columns_that_cannot_be_are_refused_by_name() {
    let refused = [
        ("(k int, v int, PRIMARY KEY (j))", "unknown column j in the PRIMARY KEY"),
        ("(k int, v int, PRIMARY KEY (k, k))", "column k is in the PRIMARY KEY twice"),
        ("(k int, v int, PRIMARY KEY ((k, v), k))", "column k is in the PRIMARY KEY twice"),
        ("(k int PRIMARY KEY, v int, v text)", "column `v` is there twice"),
        ("(k int, c int, c int, PRIMARY KEY (k, c))", "column `c` is there twice"),
        ("(k int static, c int, PRIMARY KEY (k, c))", "static column k cannot be part"),
        ("(k int PRIMARY KEY, s int static)", "column `s` is static, and the table has no"),
        ("(k duration PRIMARY KEY)", "column `k` of type duration cannot be part"),
        ("(k int PRIMARY KEY, n counter, v int)", "column `v` is not a counter, and others are"),
        ("(k int PRIMARY KEY, v int, n counter)", "column `n` is a counter, and others are not"),
        ("(n counter PRIMARY KEY)", "`n` of type counter cannot be part of a primary key"),
        (
            "(k int PRIMARY KEY, n counter) WITH default_time_to_live = 10",
            "Cannot set default_time_to_live on a table with counters",
        ),
        (
            "(tags list<int> PRIMARY KEY)",
            "`tags` of type list<int> cannot be part of a primary key",
        ),
        ("(k int, m map<int, int>, PRIMARY KEY (k, m))", "several cells (freeze it)"),
        ("(k int PRIMARY KEY, a address)", "column a: Unknown type address: neither"),
        ("(k int PRIMARY KEY, a frozen<ks.\"A\">)", "column a: Unknown type ks.\"A\": neither"),
        ("(k int PRIMARY KEY, l list<list<int>>)", "column l: non-frozen list<int> is not allowed"),
        ("(k int PRIMARY KEY, i frozen<int>)", "column i: frozen<> is for collections"),
        ("(k int PRIMARY KEY, i 'EmptyType')", "column i: Unknown type EmptyType"),
        ("(k int PRIMARY KEY) WITH COMPACT STORAGE", "COMPACT STORAGE is not supported"),
        ("(k int PRIMARY KEY) WITH CLUSTERING ORDER BY (k DESC)", "no clustering column left"),
        (
            "(k int, c int, d int, PRIMARY KEY (k, c, d)) WITH CLUSTERING ORDER BY (d ASC)",
            "CLUSTERING ORDER BY names d, where it wants c",
        ),
        (
            "(k int, c int, PRIMARY KEY (k, c)) WITH CLUSTERING ORDER BY (c ASC, c ASC)",
            "CLUSTERING ORDER BY names c, and the PRIMARY KEY has no clustering column left",
        ),
    ];
    for (columns, said) in refused {
        let error = create(&format!("CREATE TABLE t {columns}")).unwrap_err();
        assert!(error.to_string().contains(said), "{columns}: {error}");
        assert!(!error.is_config(), "{columns}");
    }
    let many: String = (0..COLUMNS_MAX).map(|n| format!(", c{n} int")).collect();
    let error = create(&format!("CREATE TABLE t (k int PRIMARY KEY{many})")).unwrap_err();
    assert_eq!(error, ColumnsError::TooMany { columns: COLUMNS_MAX + 1 }.into());
}

#[test]
fn types_are_what_their_names_say() {
    let same = [
        ("varchar", "text"),
        ("TIMEUUID", "timeuuid"),
        ("list<int>", "list<int>"),
        ("map<text, frozen<list<int>>>", "map<text, frozen<list<int>>>"),
        ("frozen<list<set<int>>>", "frozen<list<frozen<set<int>>>>"),
        ("frozen<frozen<list<int>>>", "frozen<list<int>>"),
        ("tuple<int, list<text>>", "frozen<tuple<int, frozen<list<text>>>>"),
        ("frozen<tuple<int>>", "frozen<tuple<int>>"),
        ("'org.apache.cassandra.db.marshal.UTF8Type'", "text"),
        ("'ListType(Int32Type)'", "list<int>"),
        ("frozen<'ListType(Int32Type)'>", "frozen<list<int>>"),
    ];
    for (written, shown) in same {
        assert_eq!(typed(written).unwrap().to_string(), shown, "{written}");
    }
    for refused in ["list<counter>", "tuple<counter>", "set<duration>", "map<duration, int>"] {
        let error = typed(refused).unwrap_err();
        assert!(matches!(error, DefineError::Type(crate::cql::TypeError::NotAllowed { .. })));
    }
    assert!(matches!(typed("frozen<'Int32Type'>"), Err(DefineError::Type(_))));
}

/// Each tuple within a tuple says `frozen` where it is kept, which a reader of it counts too.
#[test]
fn a_type_that_could_not_be_read_again_is_refused() {
    let tuples = |n| format!("{}int{}", "tuple<".repeat(n), ">".repeat(n));
    let ty = typed(&tuples(15)).unwrap();
    assert_eq!(CqlType::parse(&ty.to_string(), &|_| None), Ok(ty));
    let too_deep = Err(DefineError::Type(crate::cql::TypeError::TooDeep));
    assert_eq!(typed(&tuples(20)), too_deep);
    assert_eq!(typed(&tuples(40)), too_deep);
    let mut deep = crate::cql::ast::TypeName::Native("int");
    for _ in 0..1000 {
        deep = crate::cql::ast::TypeName::Frozen(Box::new(deep));
    }
    assert_eq!(type_of(&deep, UserTypes::NONE), too_deep);
}

#[test]
fn cassandras_properties_become_options() {
    let parts = with(
        "compaction = {'class': 'org.apache.cassandra.db.compaction.LeveledCompactionStrategy', \
         'sstable_size_in_mb': '10', 'fanout_size': 8, 'tombstone_threshold': 0.3, 'enabled': true} \
         AND compression = {'enabled': false} AND gc_grace_seconds = 60 AND default_time_to_live = '30' \
         AND bloom_filter_fp_chance = 0.1 AND read_repair = 'none' AND hint_refused = 'ERROR'",
    )
    .unwrap();
    let options = TableOptions {
        compaction_class: CompactionClass::Leveled,
        sstable_size: 10 << 20,
        fanout_size: 8,
        tombstone_threshold_ppm: 300_000,
        compression: false,
        gc_grace_seconds: 60,
        default_time_to_live: 30,
        bloom_filter_fp_ppm: 100_000,
        read_repair: ReadRepair::None,
        hint_refused: HintRefused::Error,
        ..TableOptions::default()
    };
    assert_eq!((parts.options, parts.warnings), (options, vec![]));
    let parts = with(
        "compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS', \
         'compaction_window_size': '6', 'timestamp_resolution': 'MICROSECONDS'}",
    )
    .unwrap();
    let options = TableOptions {
        compaction_class: CompactionClass::TimeWindow,
        compaction_window_unit: WindowUnit::Hours,
        compaction_window_size: 6,
        ..TableOptions::default()
    };
    assert_eq!((parts.options, parts.warnings), (options, vec![]));
}

#[test]
fn compression_is_lz4_or_none() {
    for (map, on, warned) in [
        ("{}", false, false),
        ("{'sstable_compression': ''}", false, false),
        ("{'class': 'NoopCompressor'}", false, false),
        ("{'enabled': 'False'}", false, false),
        ("{'class': 'LZ4Compressor', 'chunk_length_in_kb': 64}", true, false),
        ("{'sstable_compression': 'org.apache.cassandra.io.compress.LZ4Compressor'}", true, false),
        ("{'enabled': true, 'class': 'ZstdCompressor', 'compression_level': 3}", true, true),
        ("{'class': 'SnappyCompressor'}", true, true),
    ] {
        let parts = with(&format!("compression = {map}")).unwrap();
        assert_eq!((parts.options.compression, !parts.warnings.is_empty()), (on, warned), "{map}");
    }
}

#[test]
fn what_a_dump_of_cassandra_says_is_accepted_without_a_word() {
    let parts = create(
        "CREATE TABLE ks.t (
    k int,
    c int,
    v text,
    PRIMARY KEY (k, c)
) WITH CLUSTERING ORDER BY (c ASC)
    AND additional_write_policy = '99p'
    AND bloom_filter_fp_chance = 0.01
    AND caching = {'keys': 'ALL', 'rows_per_partition': 'NONE'}
    AND cdc = false
    AND comment = ''
    AND compaction = {'class': 'org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy', 'max_threshold': '32', 'min_threshold': '4'}
    AND compression = {'chunk_length_in_kb': '16', 'class': 'org.apache.cassandra.io.compress.LZ4Compressor'}
    AND memtable = 'default'
    AND crc_check_chance = 1.0
    AND default_time_to_live = 0
    AND extensions = {}
    AND gc_grace_seconds = 864000
    AND max_index_interval = 2048
    AND memtable_flush_period_in_ms = 0
    AND min_index_interval = 128
    AND read_repair = 'BLOCKING'
    AND speculative_retry = '99p';",
    )
    .unwrap();
    assert_eq!((parts.options, parts.warnings), (TableOptions::default(), vec![]));
}

#[test]
fn who_counts_on_what_has_no_effect_is_warned() {
    for (properties, warned) in [
        ("comment = 'prices'", "comment has no effect: comments are not kept"),
        ("id = 5a1c395e-b41f-11e5-9f22-ba0be0483c18", "id has no effect"),
        ("memtable_flush_period_in_ms = 1000", "memtable_flush_period_in_ms has no effect"),
        (
            "compaction = {'class': 'STCS', 'enabled': 'false'}",
            "compaction 'enabled' has no effect",
        ),
        (
            "compaction = {'class': 'TWCS', 'timestamp_resolution': 'MILLISECONDS'}",
            "compaction 'timestamp_resolution' has no effect",
        ),
        ("compression = {'class': 'DeflateCompressor'}", "DeflateCompressor is not available"),
    ] {
        let warnings = with(properties).unwrap().warnings;
        let [warning] = warnings.as_slice() else { panic!("{properties}: {warnings:?}") };
        assert!(warning.contains(warned), "{properties}: {warning}");
    }
}

#[test]
fn properties_that_cannot_be_are_refused_by_name() {
    let long = "x".repeat(100_000);
    for (properties, said) in [
        (
            "gc_grace_second = 1",
            "unknown property gc_grace_second of a table: did you mean gc_grace_seconds?",
        ),
        ("compactoin = {}", "did you mean compaction?"),
        ("speculative_retries = 'NONE'", "did you mean speculative_retry?"),
        ("\"GC_GRACE_SECONDS\" = 1", "did you mean gc_grace_seconds?"),
        ("colour = 'red'", "unknown property colour of a table"),
        (&format!("{long} = 1"), "…"),
        ("gc_grace_seconds = -1", "`gc_grace_seconds` cannot be `-1`"),
        ("gc_grace_seconds = {'a': 1}", "`gc_grace_seconds` cannot be `{…}`"),
        (&format!("gc_grace_seconds = '{}1'", "0".repeat(200)), "…`"),
        ("read_repair = sometimes", "`read_repair` cannot be `sometimes`"),
        ("cdc = true", "there is no change data capture"),
        (
            "compaction = 'LeveledCompactionStrategy'",
            "compaction cannot be 'LeveledCompactionStrategy': it takes a map",
        ),
        ("compaction = {}", "compaction lacks the key 'class'"),
        (
            "compaction = {'class': 'UnifiedCompactionStrategy'}",
            "cannot be `UnifiedCompactionStrategy`",
        ),
        (
            "compaction = {'class': 'STCS', 'min_treshold': 2}",
            "unknown key 'min_treshold' of compaction: did you mean min_threshold?",
        ),
        (
            "compaction = {'class': 'STCS', 'min_threshold': 1}",
            "`compaction.min_threshold` cannot be `1`",
        ),
        (
            "compaction = {'class': 'STCS', 'min_threshold': 33}",
            "which is more than `compaction.max_threshold`",
        ),
        (
            "compaction = {'class': 'LCS', 'sstable_size_in_mb': 0}",
            "'sstable_size_in_mb' cannot be '0'",
        ),
        ("compaction = {'class': 'LCS', 'sstable_size_in_mb': 18446744073709551615}", "at least 1"),
        ("compression = 'lz4'", "compression cannot be 'lz4': it takes a map"),
        ("compression = {'chunk_length_in_kb': 4}", "compression lacks the key 'class'"),
        (
            "compression = {'class': 'BrotliCompressor'}",
            "compression 'class' cannot be 'BrotliCompressor'",
        ),
        ("compression = {'clas': ''}", "did you mean class?"),
        ("compression = {'enabled': 'maybe'}", "compression 'enabled' cannot be 'maybe'"),
        ("compression = {'enabled': false, 'class': ''}", "leave 'class' out"),
    ] {
        let error = with(properties).unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(said) && shown.len() < 500, "{properties}: {shown}");
        assert!(error.is_config(), "{properties}");
    }
    // A word that is like none has no nearest.
    assert!(!with("colour = 'red'").unwrap_err().to_string().contains("did you mean"));
}

#[test]
fn what_is_altered_starts_from_what_there_is() {
    let before = with(
        "gc_grace_seconds = 5 AND compaction = {'class': 'LCS', 'fanout_size': 4, 'max_threshold': 8}",
    )
    .unwrap()
    .options;
    let alter = |properties: &str| match parse(&format!("ALTER KEYSPACE k WITH {properties}"))
        .unwrap()
        .statement
    {
        Statement::AlterKeyspace(alter) => {
            options(before.clone(), &alter.properties, &mut Vec::new()).unwrap()
        }
        other => panic!("{other:?}"),
    };
    let ttl = TableOptions { default_time_to_live: 9, ..before.clone() };
    assert_eq!(alter("default_time_to_live = 9"), ttl);
    // The whole of `compaction` is replaced, and nothing else.
    let replaced = TableOptions { gc_grace_seconds: 5, ..TableOptions::default() };
    assert_eq!(alter("compaction = {'class': 'STCS'}"), replaced);
}

#[test]
fn a_keyspace_says_how_often_and_where() {
    let simple = |n| Replication::Simple { rf: rf(n) };
    for (properties, replication) in [
        ("replication = {'class': 'SimpleStrategy', 'replication_factor': 3}", simple(3)),
        (
            "replication = {'replication_factor': '2', 'class': 'org.apache.cassandra.locator.SimpleStrategy'} \
             AND durable_writes = true",
            simple(2),
        ),
        (
            "REPLICATION = {'class': 'NetworkTopologyStrategy', 'dc1': 3, 'Ärger': '1'}",
            in_dcs([("dc1", 3), ("Ärger", 1)]),
        ),
        (
            "replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3, 'Ärger': 0}",
            in_dcs([("dc1", 3)]),
        ),
        // One factor for all that have none of their own.
        (
            "replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 2}",
            in_dcs([("dc1", 2), ("Ärger", 2)]),
        ),
        (
            "replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 2, 'Ärger': 1}",
            in_dcs([("dc1", 2), ("Ärger", 1)]),
        ),
        (
            "replication = {'class': 'NetworkTopologyStrategy', 'dc1': 0, 'replication_factor': 2}",
            in_dcs([("Ärger", 2)]),
        ),
    ] {
        let parts = create_keyspace(properties).unwrap();
        let warnings = Vec::new();
        assert_eq!(parts, KeyspaceParts { replication, hint_overflow: None, warnings });
    }
    let parts = create_keyspace(
        "durable_writes = 'False' AND hint_overflow = 'drop-oldest' \
         AND replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )
    .unwrap();
    assert_eq!(parts.hint_overflow, Some(Overflow::DropOldest));
    assert_eq!(parts.warnings.len(), 1);
    assert!(parts.warnings[0].contains("durable_writes = false has no effect"));
}

#[test]
fn keyspaces_that_cannot_be_are_refused_by_name() {
    let simple = "replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    for (properties, said) in [
        ("durable_writes = true", "a keyspace needs a replication"),
        ("replication = 3", "replication cannot be '3': it takes a map"),
        ("replication = {}", "replication lacks the key 'class'"),
        ("replication = {'class': 'LocalStrategy'}", "cannot be 'LocalStrategy'"),
        ("replication = {'class': 'SimpleStrategy'}", "lacks the key 'replication_factor'"),
        (
            "replication = {'class': 'SimpleStrategy', 'replication_facto': 1}",
            "unknown key 'replication_facto' of replication with SimpleStrategy: did you mean replication_factor?",
        ),
        (
            "replication = {'class': 'SimpleStrategy', 'replication_factor': 0}",
            "the replication factor 'replication_factor' cannot be '0'",
        ),
        ("replication = {'class': 'SimpleStrategy', 'replication_factor': '3/1'}", "'3/1'"),
        ("replication = {'class': 'SimpleStrategy', 'replication_factor': 4294967296}", "whole"),
        ("replication = {'class': 'NetworkTopologyStrategy'}", "at least one data centre"),
        (
            "replication = {'class': 'NetworkTopologyStrategy', 'dc1': 0}",
            "at least one data centre",
        ),
        ("replication = {'class': 'NetworkTopologyStrategy', 'dc1': -1}", "factor 'dc1' cannot"),
        (
            "replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1, 'dc9': 3}",
            "Unrecognized strategy option {dc9} passed to NetworkTopologyStrategy: it is no data centre of this cluster \
             (there are: dc1, Ärger)",
        ),
        (&format!("{simple} AND durable_writes = 1"), "durable_writes cannot be '1'"),
        (&format!("{simple} AND hint_overflow = 'drop'"), "'drop-newest', 'drop-oldest'"),
        (
            &format!("{simple} AND durable_write = true"),
            "unknown property durable_write of a keyspace: did you mean durable_writes?",
        ),
    ] {
        let error = create_keyspace(properties).unwrap_err();
        assert!(error.to_string().contains(said), "{properties}: {error}");
        assert!(error.is_config(), "{properties}");
    }
}

#[test]
fn what_alter_keyspace_leaves_out_stays_as_it_was() {
    let def = |replication| KeyspaceDef {
        name: "ks".to_owned(),
        replication,
        hint_overflow: Some(Overflow::DropOldest),
        altered: TimestampMicros(0),
        dropped: false,
    };
    let simple = def(Replication::Simple { rf: rf(3) });
    let parts = alter_keyspace(&simple, "durable_writes = true").unwrap();
    assert_eq!(
        (parts.replication, parts.hint_overflow),
        (simple.replication.clone(), Some(Overflow::DropOldest))
    );
    let everywhere = "replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 2}";
    for (before, properties, after) in [
        // As often as before, but in every data centre.
        (
            simple.clone(),
            "replication = {'class': 'NetworkTopologyStrategy'}",
            in_dcs([("dc1", 3), ("Ärger", 3)]),
        ),
        // What a data centre has it keeps; one that has left, too.
        (def(in_dcs([("dc1", 1)])), everywhere, in_dcs([("dc1", 1), ("Ärger", 2)])),
        (def(in_dcs([("old", 1)])), everywhere, in_dcs([("dc1", 2), ("old", 1), ("Ärger", 2)])),
        // Unless it is said.
        (
            def(in_dcs([("dc1", 1), ("Ärger", 1)])),
            "replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}",
            in_dcs([("dc1", 3)]),
        ),
    ] {
        assert_eq!(alter_keyspace(&before, properties).unwrap().replication, after, "{properties}");
    }
    let gone = "replication = {'class': 'NetworkTopologyStrategy', 'old': 1}";
    let error = alter_keyspace(&def(in_dcs([("old", 1)])), gone).unwrap_err();
    assert!(error.to_string().contains("{old}"), "{error}");
}

proptest! {
    /// The other route to a type is the text that schemas keep.
    #[test]
    fn a_statement_and_a_schema_read_types_alike(ty in any_type()) {
        let text = ty.to_string();
        match (typed(&text), CqlType::parse(&text, &|_| None)) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!((&ours, &theirs), (&ty, &ty)),
            (Err(DefineError::Type(_)), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{}: {:?} {:?}", text, ours, theirs),
        }
    }
}
