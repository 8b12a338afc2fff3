use super::super::{CellColumn, ClusteringColumn, KeyColumn, KeyspaceDef, Replication, TableId};
use super::*;
use crate::data::ColumnId;
use crate::schema::TableOptions;
use std::num::NonZeroU32;

fn parsed(ty: &str) -> CqlType {
    CqlType::parse(ty, &|name| Some(UserType::reference("ks", name))).unwrap()
}

fn define(schema: &mut Schema, name: &str, fields: &[(&str, &str)]) {
    let fields = fields.iter().map(|(name, ty)| ((*name).to_owned(), parsed(ty))).collect();
    let key = ("ks".to_owned(), name.to_owned());
    let def = TypeDef {
        keyspace: key.0.clone(),
        name: key.1.clone(),
        fields,
        altered: TimestampMicros(1),
        dropped: false,
    };
    assert_eq!(def.check(), Ok(()));
    schema.types.insert(key, def);
}

fn add_table(schema: &mut Schema, name: &str, key: &str, clustering: &str, cell: &str) {
    let name = name.to_owned();
    let columns = Columns {
        partition_key: vec![KeyColumn { name: "k".into(), ty: parsed(key) }],
        clustering: vec![ClusteringColumn {
            name: "c".into(),
            ty: parsed(clustering),
            reversed: true,
        }],
        cells: vec![CellColumn {
            id: ColumnId(0),
            name: "v".into(),
            ty: parsed(cell),
            is_static: false,
        }],
        next_id: 1,
        dropped: Vec::new(),
    };
    let def = TableDef {
        id: TableId(1 << 32),
        keyspace: "ks".into(),
        name: name.clone(),
        columns,
        options: TableOptions::default(),
        altered: TimestampMicros(1),
        dropped: false,
    };
    schema.tables.insert(("ks".into(), name), def);
}

fn drop_type(schema: &mut Schema, name: &str) {
    let key = ("ks".to_owned(), name.to_owned());
    schema.types.get_mut(&key).unwrap().dropped = true;
}

/// Addresses are made of phones, and customers of addresses.
fn shop() -> Schema {
    let keyspace = KeyspaceDef {
        name: "ks".into(),
        replication: Replication::Simple { rf: NonZeroU32::new(3).unwrap() },
        hint_overflow: None,
        altered: TimestampMicros(1),
        dropped: false,
    };
    let mut schema = Schema::default();
    schema.keyspaces.insert("ks".into(), keyspace);
    define(&mut schema, "phone", &[("prefix", "int"), ("number", "text")]);
    define(&mut schema, "address", &[("street", "text"), ("phones", "list<frozen<phone>>")]);
    add_table(&mut schema, "customers", "int", "frozen<phone>", "frozen<address>");
    schema
}

fn fields(ty: &CqlType) -> Vec<String> {
    let CqlType::User { of, .. } = ty else { panic!("{ty}") };
    of.fields.iter().map(|(name, ty)| format!("{name} {ty}")).collect()
}

#[test]
fn a_table_finds_the_fields_of_its_types_as_they_are_now() {
    let mut schema = shop();
    let kept = schema.table("ks", "customers").unwrap().clone();
    let resolved = schema.resolve(&kept);
    assert_eq!(fields(&resolved.columns.clustering[0].ty), ["prefix int", "number text"]);
    let home = &resolved.columns.cells[0].ty;
    assert_eq!(fields(home), ["street text", "phones list<frozen<phone>>"]);
    assert_eq!(resolved.columns.unresolved(), kept.columns);

    let version = schema.version();
    define(&mut schema, "phone", &[("prefix", "int"), ("number", "text"), ("kind", "ascii")]);
    assert_ne!(schema.version(), version);
    assert_eq!(schema.table("ks", "customers"), Some(&kept), "what is kept is a name");
    let resolved = schema.resolve(&kept);
    let CqlType::User { of, .. } = &resolved.columns.cells[0].ty else { panic!() };
    let CqlType::List { of: phone, .. } = &of.fields[1].1 else { panic!() };
    assert_eq!(fields(phone), ["prefix int", "number text", "kind ascii"]);
    assert_eq!(schema.check_types("ks"), Ok(()));
}

#[test]
fn types_come_in_an_order_in_which_they_can_be_created() {
    let mut schema = shop();
    define(&mut schema, "a", &[("z", "frozen<z>")]);
    define(&mut schema, "z", &[("n", "frozen<address>")]);
    let names: Vec<&str> = schema.types_in_order("ks").iter().map(|def| &*def.name).collect();
    assert_eq!(names, ["phone", "address", "z", "a"]);
    assert!(schema.types_in_order("other").is_empty());
}

#[test]
fn who_is_made_of_a_type_is_said() {
    let mut schema = shop();
    assert_eq!(schema.users_of("ks", "phone"), (vec!["address"], vec!["customers"]));
    assert_eq!(schema.users_of("ks", "address"), (vec![], vec!["customers"]));
    assert!(schema.partition_keys_of("ks", "phone").is_empty(), "a clustering key is none");
    add_table(&mut schema, "homes", "frozen<list<frozen<address>>>", "int", "int");
    assert_eq!(schema.partition_keys_of("ks", "phone"), ["homes"], "however deep");
    schema.drop_table("ks", "homes", TimestampMicros(2));
    assert!(schema.partition_keys_of("ks", "phone").is_empty());
}

#[test]
fn what_does_not_fit_together_is_found() {
    type Change = fn(&mut Schema);
    let cases: [(Change, &str); 7] = [
        (
            |s| define(s, "phone", &[("home", "frozen<address>")]),
            "type `address` would be part of itself",
        ),
        (|s| define(s, "phone", &[("p", "list<frozen<phone>>")]), "type `phone` would be part of"),
        (
            |s| define(s, "address", &[("p", "frozen<nothing>")]),
            "type `ks.address` is made of type `nothing`, which does not exist",
        ),
        (
            |s| define(s, "phone", &[("since", "duration")]),
            "table `ks.customers`: column `c` of type frozen<phone> cannot be part",
        ),
        (
            |s| add_table(s, "open", "int", "int", "address"),
            "table `ks.open`: non-frozen list<frozen<phone>> is not allowed inside",
        ),
        (
            |s| {
                define(s, "phone", &[("since", "duration")]);
                add_table(s, "customers", "int", "int", "set<frozen<address>>");
            },
            "table `ks.customers`: frozen<address> is not allowed inside a set",
        ),
        (
            |s| drop_type(s, "address"),
            "table `ks.customers` is made of type `address`, which does not exist",
        ),
    ];
    assert_eq!(shop().check_types("ks"), Ok(()));
    let mut schema = shop();
    define(&mut schema, "phone", &[("since", "duration")]);
    add_table(&mut schema, "other", "int", "int", "frozen<phone>");
    let tables = ["other", "customers"].map(|name| schema.table("ks", name).unwrap());
    assert_eq!(tables.map(|def| schema.check_table(def).is_ok()), [true, false]);
    for (change, said) in cases {
        let mut schema = shop();
        change(&mut schema);
        let error = schema.check_types("ks").unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}

/// What two nodes define in the same moment nobody has checked as a whole.
#[test]
fn a_circle_of_types_has_an_end_and_so_has_a_bush() {
    let mut schema = shop();
    define(&mut schema, "phone", &[("home", "frozen<address>")]);
    let resolved = schema.resolve(schema.table("ks", "customers").unwrap());
    let CqlType::User { of, .. } = &resolved.columns.clustering[0].ty else { panic!() };
    assert!(!of.fields.is_empty());
    define(&mut schema, "t0", &[("a", "int")]);
    for n in 1..64 {
        let part = format!("frozen<t{}>", n - 1);
        define(&mut schema, &format!("t{n}"), &[("a", &part), ("b", &part)]);
    }
    add_table(&mut schema, "bush", "int", "int", "frozen<t63>");
    let resolved = schema.resolve(schema.table("ks", "bush").unwrap());
    let shown = format!("{:?}", resolved.columns);
    assert!(shown.len() < 200 * TYPE_PARTS_MAX, "{}", shown.len());
    assert!(schema.check_types("ks").is_err());
    assert!(!schema.types_in_order("ks").is_empty(), "a circle has no order, and is shown");
}

#[test]
fn what_a_definition_is_made_of_goes_with_it() {
    let all = shop();
    let only = |name: &str| {
        let mut part = Schema::default();
        let key = ("ks".to_owned(), name.to_owned());
        part.tables.extend(all.tables.get(&key).map(|def| (key.clone(), def.clone())));
        part.types.extend(all.types.get(&key).map(|def| (key, def.clone())));
        part.with_types_of(&all)
    };
    assert_eq!(only("customers").types.len(), 2);
    assert_eq!(only("address").types.len(), 2);
    assert_eq!(only("phone").types.len(), 1);
    assert!(Schema::default().with_types_of(&all).types.is_empty());
}

#[test]
fn a_type_that_was_dropped_keeps_its_fields_for_who_was_made_of_it_meanwhile() {
    let mut schema = shop();
    drop_type(&mut schema, "phone");
    assert_eq!(schema.user_type("ks", "phone"), None);
    let resolved = schema.resolve(schema.table("ks", "customers").unwrap());
    assert_eq!(fields(&resolved.columns.clustering[0].ty), ["prefix int", "number text"]);
    schema.drop_keyspace("ks", TimestampMicros(7));
    assert!(schema.types.values().all(|def| def.dropped));
    assert_eq!(schema.live_types().count(), 0);
}

#[test]
fn names_that_say_something_else_are_no_names_of_types() {
    let def = |name: &str| TypeDef {
        keyspace: "ks".into(),
        name: name.into(),
        fields: vec![("a".into(), CqlType::Int)],
        altered: TimestampMicros(0),
        dropped: false,
    };
    for name in ["address", "Odd Name", "select", "a\"b", "é"] {
        assert_eq!(def(name).check(), Ok(()), "{name}");
    }
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    for name in ["", "int", "list", "frozen", "vector", long.as_str()] {
        assert!(matches!(def(name).check(), Err(FieldsError::Name { .. })), "{name}");
    }
}
