use super::*;
use crate::cql::CqlType;
use proptest::prelude::*;

fn keyspace() -> impl Strategy<Value = KeyspaceDef> {
    let replication = prop_oneof![
        (1..4_u32).prop_map(|rf| Replication::Simple { rf: NonZeroU32::new(rf).unwrap() }),
        (1..3_u32).prop_map(|rf| Replication::NetworkTopology {
            per_dc: BTreeMap::from([(Dc::from("dc1"), NonZeroU32::new(rf).unwrap())]),
        }),
    ];
    let overflow = prop::option::of(prop::sample::select(Overflow::NAMES.to_vec()));
    ("[ab]", replication, overflow, 0..3_i64, any::<bool>()).prop_map(
        |(name, replication, overflow, altered, dropped)| KeyspaceDef {
            name,
            replication,
            hint_overflow: overflow.map(|(_, policy)| policy),
            altered: TimestampMicros(altered),
            dropped,
        },
    )
}

fn table() -> impl Strategy<Value = TableDef> {
    ("[ab]", "[tu]", 0..2_u128, 0..2_u32, 0..3_i64, any::<bool>()).prop_map(
        |(keyspace, name, id, gc_grace_seconds, altered, dropped)| TableDef {
            id: TableId(id),
            keyspace,
            name,
            columns: columns(id),
            options: TableOptions { gc_grace_seconds, ..TableOptions::default() },
            altered: TimestampMicros(altered),
            dropped,
        },
    )
}

fn columns(table: u128) -> Columns {
    let mut columns = Columns::key_value();
    if table == 1 {
        columns.clustering.push(at(true));
    }
    columns
}

fn a_type() -> impl Strategy<Value = TypeDef> {
    (0..2_u8, prop::sample::select(vec!["a", "b"]), 0..3_i64, any::<bool>()).prop_map(
        |(fields, name, altered, dropped)| {
            let field =
                |n: u8| (format!("f{n}"), if n == 0 { CqlType::Int } else { CqlType::Text });
            TypeDef {
                keyspace: "a".to_owned(),
                name: name.to_owned(),
                fields: (0..=fields).map(field).collect(),
                altered: TimestampMicros(altered),
                dropped,
            }
        },
    )
}

fn schema() -> impl Strategy<Value = Schema> {
    let keyspaces = prop::collection::vec(keyspace(), 0..3);
    (keyspaces, prop::collection::vec(table(), 0..4), prop::collection::vec(a_type(), 0..3))
        .prop_map(|(keyspaces, tables, types)| Schema {
            keyspaces: keyspaces.into_iter().map(|k| (k.name.clone(), k)).collect(),
            tables: tables.into_iter().map(|t| ((t.keyspace.clone(), t.name.clone()), t)).collect(),
            types: types.into_iter().map(|t| ((t.keyspace.clone(), t.name.clone()), t)).collect(),
        })
}

fn merged(parts: impl IntoIterator<Item = Schema>) -> Schema {
    parts.into_iter().fold(Schema::default(), |mut into, part| {
        let before = into.clone();
        assert_eq!(into.merge(part), into != before, "it says whether anything changed");
        into
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn merge_is_a_join(a in schema(), b in schema(), c in schema()) {
        let ab = merged([a.clone(), b.clone()]);
        prop_assert_eq!(merged([b.clone(), a.clone()]), ab.clone());
        prop_assert_eq!(merged([ab.clone(), c.clone()]), merged([a.clone(), merged([b, c])]));
        prop_assert_eq!(merged([ab.clone(), a]), ab);
    }

    #[test]
    fn versions_are_equal_if_and_only_if_schemas_are(a in schema(), b in schema()) {
        prop_assert_eq!(a.version() == b.version(), a == b);
    }

    #[test]
    fn a_change_at_the_next_time_wins(mut a in schema(), wall in 0..5_i64) {
        let late = a.clone();
        let Some(name) = a.live_keyspaces().map(|k| k.name.clone()).next() else { return Ok(()) };
        let altered = a.next_altered(TimestampMicros(wall));
        let tables = a.drop_keyspace(&name, altered).unwrap();
        for id in tables {
            prop_assert!(a.tables.values().any(|t| t.id == id && t.dropped));
        }
        prop_assert_eq!(merged([late, a.clone()]), a.clone());
        prop_assert_eq!(a.keyspace(&name), None);
        prop_assert!(a.live_tables().all(|t| t.keyspace != name));
    }
}

fn shop() -> Schema {
    let keyspace = KeyspaceDef {
        name: "shop".to_owned(),
        replication: Replication::Simple { rf: NonZeroU32::new(3).unwrap() },
        hint_overflow: None,
        altered: TimestampMicros(1),
        dropped: false,
    };
    let table = TableDef {
        id: TableId(7),
        keyspace: "shop".to_owned(),
        name: "orders".to_owned(),
        columns: Columns::key_value(),
        options: TableOptions::default(),
        altered: TimestampMicros(2),
        dropped: false,
    };
    Schema {
        keyspaces: BTreeMap::from([("shop".to_owned(), keyspace)]),
        tables: BTreeMap::from([(("shop".to_owned(), "orders".to_owned()), table)]),
        types: BTreeMap::new(),
    }
}

#[test]
fn a_dropped_table_is_found_by_neither_name_nor_id() {
    let mut schema = shop();
    assert_eq!(schema.table("shop", "orders").unwrap().id, TableId(7));
    assert_eq!(schema.table_by_id(TableId(7)).unwrap().name, "orders");
    assert_eq!(schema.drop_table("shop", "orders", TimestampMicros(3)), Some(TableId(7)));
    assert_eq!(schema.table("shop", "orders"), None);
    assert_eq!(schema.table_by_id(TableId(7)), None);
    assert_eq!(schema.drop_table("shop", "orders", TimestampMicros(4)), None);
}

#[test]
fn a_new_keyspace_of_an_old_name_does_not_bring_its_tables_back() {
    let mut schema = shop();
    assert_eq!(schema.drop_keyspace("shop", TimestampMicros(3)), Some(vec![TableId(7)]));
    let mut again = shop();
    again.tables.clear();
    again.keyspaces.get_mut("shop").unwrap().altered = TimestampMicros(4);
    schema.merge(again);
    assert!(schema.keyspace("shop").is_some());
    assert_eq!(schema.table("shop", "orders"), None);
}

#[test]
fn a_version_is_stable_across_builds() {
    // Nodes of different builds compare it during an upgrade.
    assert_eq!(shop().version().to_string(), "786b45ff-823d-e22e-2ccf-b671d55bf0c6");
}

#[test]
fn names_are_a_letter_and_then_letters_digits_and_underscores() {
    for good in ["a", "Orders_2", &"x".repeat(48)] {
        assert_eq!(check_name(good), Ok(()));
    }
    for bad in ["", "2a", "_a", "a-b", "a b", "a/b", "\u{e9}t\u{e9}", &"x".repeat(49)] {
        assert!(check_name(bad).unwrap_err().to_string().contains(bad));
    }
}

#[test]
fn options_survive_their_text() {
    let mut options = TableOptions::default();
    for (name, value) in [
        ("read_repair", "none"),
        ("hint_refused", "error"),
        ("gc_grace_seconds", "60"),
        ("default_time_to_live", "630720000"),
        ("bloom_filter_fp_chance", "0.0001"),
        ("compression", "none"),
        ("compaction.min_threshold", "6"),
        ("compaction.max_threshold", "7"),
        ("compaction.min_sstable_size", "4096"),
        ("compaction.class", "org.apache.cassandra.db.compaction.LeveledCompactionStrategy"),
        ("compaction.bucket_low", "0.4"),
        ("compaction.bucket_high", "2"),
        ("compaction.sstable_size", "8192"),
        ("compaction.fanout_size", "4"),
        ("compaction.compaction_window_unit", "hours"),
        ("compaction.compaction_window_size", "6"),
        ("compaction.tombstone_threshold", "0.125"),
        ("compaction.tombstone_compaction_interval", "3600"),
        ("compaction.unchecked_tombstone_compaction", "True"),
    ] {
        options.set(name, value).unwrap();
    }
    let expected = TableOptions {
        read_repair: ReadRepair::None,
        hint_refused: HintRefused::Error,
        gc_grace_seconds: 60,
        default_time_to_live: 630_720_000,
        bloom_filter_fp_ppm: 100,
        compression: false,
        min_threshold: 6,
        max_threshold: 7,
        min_sstable_size: 4096,
        compaction_class: CompactionClass::Leveled,
        bucket_low_ppm: 400_000,
        bucket_high_ppm: 2_000_000,
        sstable_size: 8192,
        fanout_size: 4,
        compaction_window_unit: WindowUnit::Hours,
        compaction_window_size: 6,
        tombstone_threshold_ppm: 125_000,
        tombstone_compaction_interval: 3600,
        unchecked_tombstone_compaction: true,
    };
    assert_eq!(options, expected);
    for options in [expected, TableOptions::default()] {
        for map in [options.to_map(), options.to_set_map()] {
            let pairs = map.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            assert_eq!(TableOptions::from_pairs(pairs).as_ref(), Ok(&options));
        }
    }
}

#[test]
fn compaction_classes_have_three_names_and_keep_one() {
    for (given, kept) in [
        ("STCS", "SizeTieredCompactionStrategy"),
        ("leveledcompactionstrategy", "LeveledCompactionStrategy"),
        ("twcs", "TimeWindowCompactionStrategy"),
        (
            "org.apache.cassandra.db.compaction.TimeWindowCompactionStrategy",
            "TimeWindowCompactionStrategy",
        ),
    ] {
        let options = TableOptions::from_pairs([("compaction.class", given)]).unwrap();
        assert_eq!(options.to_map()["compaction.class"], kept);
    }
}

#[test]
fn an_option_that_cannot_be_says_what_can() {
    let mut options = TableOptions::default();
    for (name, value, hint) in [
        ("gc_grace_second", "60", "did you mean `gc_grace_seconds`?"),
        ("min_treshold", "6", "did you mean `compaction.min_threshold`?"),
        ("read_repair", "sometimes", "`BLOCKING` or `NONE`"),
        ("hint_refused", "ignore", "`WARN` or `ERROR`"),
        ("gc_grace_seconds", "-1", "seconds, as a whole number"),
        ("default_time_to_live", "630720001", "at most 630720000"),
        ("bloom_filter_fp_chance", "0", "between 0.00007 and 1"),
        ("bloom_filter_fp_chance", "1.1", "between 0.00007 and 1"),
        ("bloom_filter_fp_chance", "NaN", "between 0.00007 and 1"),
        ("compression", "zstd", "`lz4` or `none`"),
        ("compaction.min_threshold", "1", "at least 2"),
        (
            "compaction.class",
            "UnifiedCompactionStrategy",
            "(STCS), `LeveledCompactionStrategy` (LCS)",
        ),
        ("compaction.sstable_size_in_mb", "160", "did you mean `compaction.sstable_size`?"),
        ("compaction.sstable_size", "160", "at least 4096 (Cassandra's `sstable_size_in_mb`"),
        ("compaction.fanout_size", "1", "from 2 to 1000"),
        ("compaction.compaction_window_unit", "weeks", "`MINUTES`, `HOURS` or `DAYS`"),
        ("compaction.compaction_window_size", "0", "at least 1"),
        ("compaction.tombstone_threshold", "-0.1", "between 0 and 1"),
        ("compaction.bucket_low", "NaN", "between 0 and 1"),
        ("compaction.tombstone_compaction_interval", "0", "at least 1"),
        ("compaction.unchecked_tombstone_compaction", "yes", "`true` or `false`"),
    ] {
        let error = options.set(name, value).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
    let unlike = options.set("colour", "red").unwrap_err();
    assert_eq!(unlike, OptionError::Unknown { name: "colour".to_owned(), nearest: None });
    assert_eq!(options, TableOptions::default(), "nothing was changed");
    let pairs = [("compaction.max_threshold", "3")];
    let error = TableOptions::from_pairs(pairs).unwrap_err();
    assert_eq!(error, OptionError::Thresholds { min: 4, max: 3 });
    let pairs = [("compaction.bucket_high", "0.25")];
    let error = TableOptions::from_pairs(pairs).unwrap_err();
    assert_eq!(error, OptionError::Buckets { low_ppm: 500_000, high_ppm: 250_000 });
    assert!(error.to_string().contains("`compaction.bucket_low` is 0.5"), "{error}");
}

#[test]
fn whatever_a_column_is_shows_in_the_version() {
    let with = |change: fn(&mut Columns)| {
        let mut schema = Schema::default();
        let mut columns = Columns::key_value();
        change(&mut columns);
        let def = TableDef {
            id: TableId(7),
            keyspace: "shop".to_owned(),
            name: "orders".to_owned(),
            columns,
            options: TableOptions::default(),
            altered: TimestampMicros(2),
            dropped: false,
        };
        schema.tables.insert((def.keyspace.clone(), def.name.clone()), def);
        schema.version()
    };
    let changes: [fn(&mut Columns); 11] = [
        |_| {},
        |c| c.partition_key[0].name = "k".to_owned(),
        |c| c.partition_key[0].ty = CqlType::Text,
        |c| c.cells[0].name = "v".to_owned(),
        |c| c.cells[0].ty = CqlType::Text,
        |c| c.cells[0].is_static = true,
        |c| c.next_id = 2,
        |c| c.clustering.push(at(false)),
        |c| c.clustering.push(at(true)),
        |c| c.dropped.push(paid(1)),
        |c| c.dropped.push(paid(2)),
    ];
    let versions: std::collections::BTreeSet<SchemaVersion> = changes.map(with).into();
    assert_eq!(versions.len(), changes.len(), "no two of them are the same");
}

fn paid(at: i64) -> DroppedColumn {
    let (name, ty, at) = ("paid".to_owned(), CqlType::Boolean, TimestampMicros(at));
    DroppedColumn { name, ty, is_static: false, at }
}

fn at(reversed: bool) -> ClusteringColumn {
    ClusteringColumn { name: "at".to_owned(), ty: CqlType::Timestamp, reversed }
}

fn a_table(name: &str, altered: i64) -> TableDef {
    TableDef {
        id: TableId(7),
        keyspace: "shop".to_owned(),
        name: name.to_owned(),
        columns: Columns::key_value(),
        options: TableOptions::default(),
        altered: TimestampMicros(altered),
        dropped: false,
    }
}

#[test]
fn nodes_that_create_one_table_at_once_make_one_table_and_others_others() {
    let hour = 3_600_000_000;
    let columns = Columns::key_value();
    let created = |name, columns: &Columns, before, wall| {
        TableId::created(("shop", name), columns, before, TimestampMicros(wall))
    };
    let id = created("t", &columns, None, 5);
    assert_eq!(created("t", &columns, None, hour - 1), id, "a moment later, on another node");
    let mut others = columns.clone();
    others.cells[0].name = "v".to_owned();
    let (dropped, again) = (a_table("t", 1), a_table("t", 2));
    let different = [
        id,
        created("u", &columns, None, 5),
        created("t", &others, None, 5),
        created("t", &columns, Some(&dropped), 5),
        created("t", &columns, Some(&again), 5),
        // A node that has slept for hours, and knows of nothing.
        created("t", &columns, None, hour),
        created("t", &columns, None, -1),
    ];
    assert_eq!(std::collections::BTreeSet::from(different).len(), different.len());
    assert_eq!(different.map(TableId::lineage), different, "none was truncated yet");
}

#[test]
fn a_table_that_is_truncated_is_another_of_the_same_lineage_on_every_node() {
    let id = TableId::created(("shop", "t"), &Columns::key_value(), None, TimestampMicros(0));
    let once = id.truncated().unwrap();
    let twice = once.truncated().unwrap();
    assert!(id < once && once < twice);
    assert_eq!((once.lineage(), twice.lineage()), (id, id));
    let last = TableId(id.0 | u128::from(u32::MAX));
    assert_eq!(last.truncated(), None, "the next lineage is somebody else's");
}

#[test]
fn a_schema_holds_what_counts_in_it_and_says_what_is_new() {
    let of = |tables: &[TableDef]| Schema {
        types: BTreeMap::new(),
        keyspaces: BTreeMap::new(),
        tables: tables.iter().map(|t| ((t.keyspace.clone(), t.name.clone()), t.clone())).collect(),
    };
    let ours = of(&[a_table("a", 1), a_table("b", 1)]);
    assert!(ours.holds(&of(&[a_table("a", 1)])));
    assert!(ours.holds(&Schema::default()));
    assert!(!ours.holds(&of(&[a_table("a", 2)])), "another definition");
    assert!(!ours.holds(&of(&[a_table("c", 1)])), "none at all");
    let changed = of(&[a_table("a", 1), a_table("b", 2)]);
    assert_eq!(changed.clone().without(&ours), of(&[a_table("b", 2)]));
    assert_eq!(changed.clone().without(&changed), Schema::default());
}
