//! User-defined types, over real sockets to real processes: what is defined is known on every node and stays, values go in and
//! come out in both versions of the protocol, and who prepared is told when a type has changed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use bytes::Bytes;
use helenus_core::cql::{CqlType, collection};
use helenus_proto::cql::{
    ChangeKind, Columns, ErrorKind, Event, Response, Rows, SchemaChange, SchemaTarget, Version,
};
use helenus_tests::Cluster;
use helenus_tests::cql::{Cql, bound, int, rows, text};

const SHOP: &str = "CREATE KEYSPACE store WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 3}";
const PHONE: &str = "CREATE TYPE store.phone (prefix int, \"No\" text)";
const ADDRESS: &str =
    "CREATE TYPE store.address (street text, zip int, phones map<text, frozen<phone>>)";
const CUSTOMERS: &str = "CREATE TABLE store.customers (id int, home frozen<address>, \
    work frozen<list<frozen<address>>>, calls phone, PRIMARY KEY (id, home))";

const ONE: &str = "INSERT INTO store.customers (id, home, work, calls) VALUES (1, {street: 'Long Lane', \
    phones: {'mobile': {prefix: 44, \"No\": '7'}}}, [{zip: 5}], {prefix: 49})";

async fn connected(cluster: &Cluster) -> Vec<Cql> {
    let mut connections = Vec::new();
    for nth in 0..cluster.len() {
        let version = if nth == 1 { Version::V4 } else { Version::V5 };
        connections.push(Cql::connect(cluster.native(nth), version, None).await);
    }
    connections
}

fn of_type(kind: ChangeKind, name: &str) -> SchemaChange {
    let target = SchemaTarget::Type(name.to_owned());
    SchemaChange { kind, keyspace: "store".to_owned(), target }
}

/// A value of a type: its fields, of which the last may be missing.
fn udt(fields: &[Option<Bytes>]) -> Option<Bytes> {
    Some(collection::encode_tuple(fields).unwrap())
}

/// The type of the first column.
fn first_type(rows: &Rows) -> CqlType {
    let Columns::Described(columns) = &rows.metadata.columns else { panic!("{rows:?}") };
    columns[0].ty.clone()
}

/// What DESCRIBE says to create what there is, in its order.
async fn described(cql: &mut Cql, what: &str) -> Vec<(String, String)> {
    let found = cql.rows(&format!("DESCRIBE {what}")).await;
    let word = |cell: &Option<Bytes>| String::from_utf8(cell.clone().unwrap().to_vec()).unwrap();
    found.iter().map(|row| (word(&row[1]), word(row.last().unwrap()))).collect()
}

#[tokio::test]
async fn types_are_defined_on_every_node_and_stay() {
    let mut cluster = Cluster::start_cql(3).await;
    let mut cql = connected(&cluster).await;
    cql[0].run(SHOP).await;
    let before = cql[0].rows("SELECT schema_version FROM system.local").await;
    let mut told = Cql::connect(cluster.native(2), Version::V5, None).await;
    told.register().await;

    let created = cql[0].run(PHONE).await;
    assert_eq!(created, Response::SchemaChange(of_type(ChangeKind::Created, "phone")));
    assert_eq!(told.event().await, Event::Schema(of_type(ChangeKind::Created, "phone")));
    // On the next node, at once: it knows what the new one is made of.
    cql[1].run(ADDRESS).await;
    assert_eq!(told.event().await, Event::Schema(of_type(ChangeKind::Created, "address")));
    cql[2].run(CUSTOMERS).await;
    told.event().await;
    let again = PHONE.replace("TYPE", "TYPE IF NOT EXISTS");
    assert_eq!(cql[2].run(&again).await, Response::Void);

    let listed =
        "SELECT type_name, field_types FROM system_schema.types WHERE keyspace_name = 'store'";
    let types = |of: &[&str]| Some(collection::encode_list(of).unwrap());
    let columns = "SELECT type FROM system_schema.columns WHERE keyspace_name = 'store' \
                   AND table_name = 'customers' AND column_name = 'home'";
    for cql in &mut cql {
        let found = cql.rows(listed).await;
        let address = types(&["text", "int", "map<text, frozen<phone>>"]);
        assert_eq!(found, [[text("address"), address], [text("phone"), types(&["int", "text"])]]);
        assert_eq!(cql.rows(columns).await, [[text("frozen<address>")]]);
    }

    // What is made of others comes behind them, and a table behind its types.
    let kinds: Vec<String> =
        described(&mut cql[1], "KEYSPACE store").await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["keyspace", "type", "type", "table"]);
    let shown = "CREATE TYPE store.phone (\n    prefix int,\n    \"No\" text\n);";
    assert_eq!(described(&mut cql[1], "TYPE store.phone").await, [("type".into(), shown.into())]);
    let names = described(&mut cql[1], "TYPES").await;
    let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["address", "phone"]);

    let altered = cql[1].run("ALTER TYPE store.phone ADD kind ascii").await;
    assert_eq!(altered, Response::SchemaChange(of_type(ChangeKind::Updated, "phone")));
    assert_eq!(told.event().await, Event::Schema(of_type(ChangeKind::Updated, "phone")));
    let Event::Schema(SchemaChange { target, .. }) = told.event().await else { panic!() };
    assert_eq!(target, SchemaTarget::Table("customers".to_owned()), "it is made of it");
    cql[1].run("ALTER TYPE store.phone RENAME prefix TO country AND \"No\" TO number").await;
    let fields = "SELECT field_names FROM system_schema.types WHERE keyspace_name = 'store' \
                  AND type_name = 'phone'";
    let wanted = [[types(&["country", "number", "kind"])]];
    assert_eq!(cql[2].rows(fields).await, wanted);
    cluster.kill_all().await;
    cluster.start_missing().await;
    let mut cql = connected(&cluster).await;
    assert_eq!(cql[2].rows(fields).await, wanted, "a restart keeps it");

    cql[0].run("DROP TABLE store.customers").await;
    let mut told = Cql::connect(cluster.native(2), Version::V5, None).await;
    told.register().await;
    cql[0].run("DROP TYPE store.address").await;
    assert_eq!(told.event().await, Event::Schema(of_type(ChangeKind::Dropped, "address")));
    assert_eq!(cql[1].run("DROP TYPE IF EXISTS store.address").await, Response::Void);
    cql[0].run("DROP KEYSPACE store").await;
    cql[1].run(SHOP).await;
    assert!(cql[2].rows(listed).await.is_empty(), "its types went with the keyspace");
    assert_ne!(cql[0].rows("SELECT schema_version FROM system.local").await, before);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_sentence() {
    let cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    let shop = SHOP.replace('3', "1");
    for definition in [shop.as_str(), PHONE, ADDRESS, CUSTOMERS] {
        cql.run(definition).await;
    }
    for (refused, said) in [
        (PHONE, "type `store.phone` exists already"),
        ("CREATE TYPE store.t (a frozen<nothing>)", "field a: Unknown type nothing"),
        ("CREATE TABLE store.t (k int PRIMARY KEY, a nothing)", "column a: Unknown type nothing"),
        ("CREATE TABLE store.t (k phone PRIMARY KEY)", "(freeze it)"),
        ("CREATE TABLE store.t (k int PRIMARY KEY, a address)", "non-frozen map<text"),
        ("ALTER TYPE store.phone ADD a frozen<address>", "circular reference"),
        ("ALTER TYPE store.phone ADD a duration", "table `store.customers`: column `home`"),
        ("ALTER TYPE store.nothing ADD a int", "type `store.nothing` does not exist"),
        ("ALTER TYPE store.phone ALTER prefix TYPE text", "field prefix keeps its type"),
        ("DROP TYPE store.phone", "'store.phone' as it is still used by user types address"),
        ("DROP TYPE store.address", "'store.address' as it is still used by tables customers"),
        ("CREATE TYPE nothing.t (a int)", "keyspace `nothing` does not exist"),
        ("CREATE TYPE system.t (a int)", "is the system's and cannot be changed"),
    ] {
        let error = cql.refused(refused).await;
        assert_eq!(error.kind, ErrorKind::Invalid, "{refused}: {error:?}");
        assert!(error.message.contains(said), "{refused}: {}", error.message);
    }
    cql.run("CREATE TABLE store.keyed (k frozen<phone> PRIMARY KEY)").await;
    let error = cql.refused("ALTER TYPE store.phone ADD a int").await;
    assert!(error.message.contains("partition key by the following tables: keyed"), "{error:?}");
    cql.run("DROP TABLE store.keyed").await;
}

#[tokio::test]
async fn values_go_in_and_come_out_in_both_versions() {
    let cluster = Cluster::start_cql(3).await;
    let mut cql = connected(&cluster).await;
    for statement in [SHOP, PHONE, ADDRESS, CUSTOMERS, ONE] {
        cql[0].run(statement).await;
    }
    let phone = udt(&[int(44), text("7")]).unwrap();
    let phones = collection::encode_map(&CqlType::Text, vec![(Bytes::from("mobile"), phone)]);
    let home = udt(&[text("Long Lane"), None, Some(phones.unwrap())]);
    let work = collection::encode_list(&[udt(&[None, int(5), None]).unwrap()]).unwrap();
    let row = [home, Some(work), udt(&[int(49), None])];
    for cql in &mut cql {
        let found = rows(cql.run("SELECT home, work, calls FROM store.customers").await);
        assert_eq!(found.rows, std::slice::from_ref(&row));
        let CqlType::User { of, .. } = first_type(&found) else { panic!() };
        let names: Vec<&str> = of.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((of.name.as_str(), names), ("address", vec!["street", "zip", "phones"]));
    }

    // Bound with fewer fields than there are, and with more.
    for cql in &mut cql {
        let insert = cql.prepare("INSERT INTO store.customers (id, home) VALUES (?, ?)").await;
        let short = udt(&[text("Short Lane")]).unwrap();
        let done = cql.execute(&insert, bound(&[&2_i32.to_be_bytes(), &short])).await;
        assert_eq!(done, Response::Void);
        let long = udt(&[None, None, None, int(1)]).unwrap();
        let Response::Error(error) =
            cql.execute(&insert, bound(&[&2_i32.to_be_bytes(), &long])).await
        else {
            panic!("more fields than the type has")
        };
        assert_eq!(error.kind, ErrorKind::Invalid);
        let select = "SELECT home.street, toJson(home) FROM store.customers WHERE id = 2";
        let json = r#"{"street": "Short Lane", "zip": null, "phones": null}"#;
        assert_eq!(cql.rows(select).await, [[text("Short Lane"), text(json)]]);
    }

    // Field by field, by two who do not know of each other.
    let at = "WHERE id = 2 AND home = {street: 'Short Lane'}";
    cql[0].run(&format!("UPDATE store.customers SET calls.prefix = 1 {at}")).await;
    cql[1].run(&format!("UPDATE store.customers SET calls.\"No\" = '2' {at}")).await;
    let calls = format!("SELECT calls FROM store.customers {at}");
    assert_eq!(cql[2].rows(&calls).await, [[udt(&[int(1), text("2")])]]);
    cql[2].run(&format!("DELETE calls.prefix FROM store.customers {at}")).await;
    assert_eq!(cql[0].rows(&calls).await, [[udt(&[None, text("2")])]]);
    cql[0].run(&format!("UPDATE store.customers SET calls = {{prefix: 3}} {at}")).await;
    assert_eq!(cql[1].rows(&calls).await, [[udt(&[int(3), None])]]);
}

#[tokio::test]
async fn who_prepared_is_told_of_a_field_and_finds_none_in_what_was_written_before() {
    let cluster = Cluster::start_cql(3).await;
    let mut cql = connected(&cluster).await;
    for statement in [SHOP, PHONE, ADDRESS, CUSTOMERS, ONE] {
        cql[0].run(statement).await;
    }
    let work = Some(collection::encode_list(&[udt(&[None, int(5), None]).unwrap()]).unwrap());
    let newer = cql[0].prepare("SELECT calls FROM store.customers WHERE id = ?").await;
    let older = cql[1].prepare("SELECT  calls  FROM store.customers WHERE id = ?").await;
    cql[2].run("ALTER TYPE store.phone ADD kind ascii").await;
    let found = rows(cql[0].execute(&newer, bound(&[&1_i32.to_be_bytes()])).await);
    assert!(found.metadata.new_metadata_id.is_some_and(|id| Some(id) != newer.result_metadata_id));
    assert_eq!(found.rows, [[udt(&[int(49), None, None])]]);
    let Response::Error(error) = cql[1].execute(&older, bound(&[&1_i32.to_be_bytes()])).await
    else {
        panic!("a client would take one value for another");
    };
    assert_eq!(error.kind, ErrorKind::Unprepared { id: older.id.clone() });
    let phone = "SELECT home.phones['mobile'] FROM store.customers WHERE id = 1";
    assert_eq!(cql[1].rows(phone).await, [[udt(&[int(44), text("7"), None])]]);
    // A frozen value keeps its bytes, and says by its type that there is one more.
    cql[2].run("ALTER TYPE store.address ADD country text").await;
    let of_work = "SELECT work FROM store.customers WHERE id = 1";
    let old = rows(cql[1].run(of_work).await);
    assert_eq!(old.rows, [[work]]);
    let CqlType::List { of, .. } = first_type(&old) else { panic!() };
    let CqlType::User { of, .. } = &*of else { panic!() };
    assert_eq!(of.fields.len(), 4);
    let json = r#"[{"street": null, "zip": 5, "phones": null, "country": null}]"#;
    let of_work = "SELECT toJson(work) FROM store.customers WHERE id = 1";
    assert_eq!(cql[0].rows(of_work).await, [[text(json)]]);
}
