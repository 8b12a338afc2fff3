//! Statements that change the schema, over real sockets to real processes: what has changed is known on every node, to who
//! prepared and to who listens, and what was dropped or emptied does not come back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use bytes::Bytes;
use helenus_client::{Level, Options};
use helenus_proto::cql::{
    ChangeKind, ErrorKind, Event, Response, SchemaChange, SchemaTarget, Version,
};
use helenus_tests::cql::{Cql, at, bound, int, rows, text};
use helenus_tests::{Cluster, KEYSPACE, TABLE, until};
use std::collections::BTreeSet;

const SHOP: &str = "CREATE KEYSPACE store WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 3}";
const ORDERS: &str = "CREATE TABLE store.orders (customer text, nth int, total int, note text, \
    PRIMARY KEY (customer, nth))";

/// A connection to each node.
async fn connected(cluster: &Cluster) -> Vec<Cql> {
    let mut connections = Vec::new();
    for nth in 0..cluster.len() {
        connections.push(Cql::connect(cluster.native(nth), Version::V5, None).await);
    }
    connections
}

/// The version of the schema, on which all nodes agree.
async fn agreed(cql: &mut [Cql]) -> Option<Bytes> {
    let mut versions = BTreeSet::new();
    for cql in cql {
        versions.insert(cql.rows("SELECT schema_version FROM system.local").await[0][0].clone());
    }
    assert_eq!(versions.len(), 1, "a change was confirmed by all before it was answered");
    versions.pop_first().unwrap()
}

fn updated(target: SchemaTarget) -> SchemaChange {
    SchemaChange { kind: ChangeKind::Updated, keyspace: "store".to_owned(), target }
}

#[tokio::test]
async fn columns_come_and_go_on_every_node_and_old_cells_do_not_come_back() {
    let mut cluster = Cluster::start_cql(3).await;
    let mut cql = connected(&cluster).await;
    let mut told = Cql::connect(cluster.native(2), Version::V5, None).await;
    cql[0].run(SHOP).await;
    cql[0].run(ORDERS).await;
    told.register().await;
    cql[0]
        .run("INSERT INTO store.orders (customer, nth, total, note) VALUES ('ann', 1, 5, 'old')")
        .await;
    cql[0].run("UPDATE store.orders SET note = 'old' WHERE customer = 'ann' AND nth = 2").await;

    let before = agreed(&mut cql).await;
    let orders = || updated(SchemaTarget::Table("orders".to_owned()));
    let dropped = cql[1].run("ALTER TABLE store.orders DROP note").await;
    assert_eq!(dropped, Response::SchemaChange(orders()));
    assert_eq!(told.event().await, Event::Schema(orders()));
    let after = agreed(&mut cql).await;
    assert_ne!(after, before);
    let found = cql[0].rows("SELECT * FROM store.orders").await;
    assert_eq!(found, [[text("ann"), int(1), int(5)]], "a row that had nothing else is none");
    let listed = "SELECT column_name, kind, type FROM system_schema.dropped_columns \
                  WHERE keyspace_name = 'store' AND table_name = 'orders'";
    assert_eq!(cql[2].rows(listed).await, [[text("note"), text("regular"), text("text")]]);
    let kept = "SELECT type FROM system_schema.columns WHERE keyspace_name = 'store' \
                AND table_name = 'orders' AND column_name = 'note'";
    assert!(cql[2].rows(kept).await.is_empty());

    // Of another type, and on another node; and nothing is left of it after a kill of all.
    cql[2].run("ALTER TABLE store.orders ADD (note int, paid boolean static)").await;
    assert_eq!(told.event().await, Event::Schema(orders()));
    assert_eq!(
        cql[2].run("ALTER TABLE store.orders ADD IF NOT EXISTS note text").await,
        Response::Void
    );
    agreed(&mut cql).await;
    let all = "SELECT customer, nth, total, note, paid FROM store.orders";
    let row = [text("ann"), int(1), int(5), None, None];
    for cql in &mut cql {
        assert_eq!(cql.rows(all).await, std::slice::from_ref(&row));
    }
    cluster.kill_all().await;
    cluster.start_missing().await;
    let mut cql = connected(&cluster).await;
    assert_eq!(cql[0].rows(all).await, [row]);
    agreed(&mut cql).await;
    cql[1]
        .run("UPDATE store.orders SET note = 7, paid = true WHERE customer = 'ann' AND nth = 2")
        .await;
    let yes = Some(Bytes::from_static(&[1]));
    let rows = [
        [text("ann"), int(1), int(5), None, yes.clone()],
        [text("ann"), int(2), None, int(7), yes],
    ];
    assert_eq!(cql[0].rows(all).await, rows);

    cql[0].run("ALTER TABLE store.orders RENAME nth TO number AND customer TO who").await;
    let renamed = "SELECT note FROM store.orders WHERE who = 'ann' AND number = 2";
    assert_eq!(cql[1].rows(renamed).await, [[int(7)]]);
    cql[0].run("ALTER TABLE store.orders WITH gc_grace_seconds = 77").await;
    let grace = "SELECT gc_grace_seconds FROM system_schema.tables WHERE keyspace_name = 'store'";
    assert_eq!(cql[2].rows(grace).await, [[int(77)]]);
    for (refused, kind) in [
        ("ALTER TABLE store.orders ADD total int", ErrorKind::Invalid),
        ("ALTER TABLE store.orders DROP who", ErrorKind::Invalid),
        ("ALTER TABLE store.orders RENAME total TO sum", ErrorKind::Invalid),
        ("ALTER TABLE store.orders ALTER total TYPE bigint", ErrorKind::Invalid),
        ("ALTER TABLE store.nothing ADD a int", ErrorKind::Invalid),
        ("ALTER TABLE system.local ADD a int", ErrorKind::Invalid),
        ("ALTER TABLE store.orders WITH gc_grace = 1", ErrorKind::Config),
    ] {
        assert_eq!(cql[0].refused(refused).await.kind, kind, "{refused}");
    }
    assert_eq!(cql[0].run("ALTER TABLE IF EXISTS store.nothing ADD a int").await, Response::Void);
}

#[tokio::test]
async fn who_prepared_is_told_of_other_columns() {
    let cluster = Cluster::start_cql(1).await;
    let mut new = Cql::connect(cluster.native(0), Version::V5, None).await;
    let mut old = Cql::connect(cluster.native(0), Version::V4, None).await;
    new.run(&SHOP.replace('3', "1")).await;
    new.run(ORDERS).await;
    new.run("INSERT INTO store.orders (customer, nth, total) VALUES ('ann', 1, 5)").await;
    // Two texts: a statement that was forgotten for one version is forgotten for all.
    let newer = new.prepare("SELECT * FROM store.orders").await;
    let older = old.prepare("SELECT  *  FROM store.orders").await;
    let insert = old.prepare("INSERT INTO store.orders (customer, nth) VALUES ('bob', ?)").await;
    new.run("ALTER TABLE store.orders ADD also int").await;

    // With version 5 the answer says that its columns are others.
    let found = rows(new.execute(&newer, bound(&[])).await);
    assert_eq!(found.rows, [[text("ann"), int(1), None, None, int(5)]], "also, note, total");
    assert!(found.metadata.new_metadata_id.is_some_and(|id| Some(id) != newer.result_metadata_id));
    // With version 4 nothing could, so the statement has to be prepared again.
    let Response::Error(error) = old.execute(&older, bound(&[])).await else {
        panic!("a client would take one column for another");
    };
    assert_eq!(error.kind, ErrorKind::Unprepared { id: older.id.clone() });
    let again = old.prepare("SELECT  *  FROM store.orders").await;
    assert_eq!(again.id, older.id);
    assert_eq!(rows(old.execute(&again, bound(&[])).await).rows[0].len(), 5);
    // What a client was told of this one is still so.
    assert_eq!(old.execute(&insert, bound(&[&7_i32.to_be_bytes()])).await, Response::Void);
}

#[tokio::test]
async fn a_key_value_table_with_another_column_is_for_cql_alone() {
    let cluster = Cluster::start_cql(3).await;
    cluster.create(3).await;
    let client = cluster.client().await;
    let table = client.table(KEYSPACE, TABLE);
    let options = Options::new().level(Level::Quorum);
    table.put_with("k", Bytes::from_static(b"v"), &options).await.unwrap();
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(&format!("ALTER TABLE {KEYSPACE}.{TABLE} ADD more int")).await;
    let refused = table.put_with("k", Bytes::new(), &options).await.unwrap_err().to_string();
    assert!(refused.contains("no table of keys and values"), "{refused}");
    cql.run(&format!("UPDATE {KEYSPACE}.{TABLE} SET more = 1 WHERE key = textAsBlob('k')")).await;
    // Without it, it is one again.
    cql.run(&format!("ALTER TABLE {KEYSPACE}.{TABLE} DROP more")).await;
    let found = table.get_with("k", &options).await.unwrap();
    assert_eq!(found.value.unwrap().value, "v");
}

#[tokio::test]
async fn a_truncated_table_is_empty_everywhere_and_stays_so() {
    let mut cluster = Cluster::start_cql(3).await;
    let mut cql = connected(&cluster).await;
    cql[0].run(SHOP).await;
    cql[0].run(ORDERS).await;
    let id = "SELECT id FROM system_schema.tables WHERE keyspace_name = 'store' AND table_name = 'orders'";
    let id_before = cql[0].rows(id).await;
    let insert = cql[0].prepare("INSERT INTO store.orders (customer, nth) VALUES ('ann', ?)").await;
    for nth in 0..50_i32 {
        assert_eq!(cql[0].execute(&insert, bound(&[&nth.to_be_bytes()])).await, Response::Void);
    }

    // A node that is down might answer from what it has: all or none.
    cluster.kill(2).await;
    cluster.all_see(2).await;
    let refused = cql[0].refused("TRUNCATE store.orders").await;
    assert_eq!(refused.kind, ErrorKind::Truncate);
    assert!(
        refused.message.contains("Cannot achieve consistency level ALL"),
        "{}",
        refused.message
    );
    // It is owed a write, which will not be delivered until the table has been emptied.
    for nth in 0..2 {
        cluster.admin(nth).pause_handoff().await.unwrap();
    }
    cql[0].run("INSERT INTO store.orders (customer, nth) VALUES ('owed', 1)").await;
    let pending = cluster.spec(0).metric("helenus_hints_pending{").await;
    assert!(pending > 0.0, "{}", cluster.spec(0).metrics_page().await);
    cluster.start_missing().await;
    cluster.all_see(3).await;
    assert_eq!(cql[0].rows("SELECT * FROM store.orders").await.len(), 51);

    let mut told = Cql::connect(cluster.native(0), Version::V5, None).await;
    told.register().await;
    let mut cql = connected(&cluster).await;
    assert_eq!(cql[1].run("TRUNCATE TABLE store.orders").await, Response::Void);
    // Whoever prepared need not do so again: not a column is another.
    let insert = cql[0].prepare("INSERT INTO store.orders (customer, nth) VALUES ('new', ?)").await;
    assert_eq!(cql[0].execute(&insert, bound(&[&1_i32.to_be_bytes()])).await, Response::Void);
    assert_eq!(cql[1].run("TRUNCATE store.orders").await, Response::Void);
    assert_eq!(cql[0].execute(&insert, bound(&[&2_i32.to_be_bytes()])).await, Response::Void);
    // Clients are not told of a change: the next that they hear of is this one.
    cql[2].run("CREATE TABLE store.more (k int PRIMARY KEY)").await;
    let target = SchemaTarget::Table("more".to_owned());
    let created = SchemaChange { kind: ChangeKind::Created, ..updated(target) };
    assert_eq!(told.event().await, Event::Schema(created));
    let left = [[text("new"), int(2)]];
    let all = "SELECT customer, nth FROM store.orders";
    for cql in &mut cql {
        assert_eq!(rows(cql.query(all, at(Level::All)).await).rows, left);
    }
    assert_eq!(cql[2].rows(id).await, id_before, "to clients it is the same table");
    // The debt is paid, and left out.
    for nth in 0..2 {
        cluster.admin(nth).resume_handoff().await.unwrap();
    }
    until(
        || "the hint for what was emptied is left out".to_owned(),
        async || {
            let left_out = "helenus_hints_received_of_unknown_tables";
            (cluster.spec(2).metric(left_out).await > 0.0).then_some(())
        },
    )
    .await;
    cluster.kill_all().await;
    cluster.start_missing().await;
    let mut cql = connected(&cluster).await;
    for cql in &mut cql {
        assert_eq!(rows(cql.query(all, at(Level::All)).await).rows, left, "the log is replayed");
    }
    for (refused, kind) in [
        ("TRUNCATE store.nothing", ErrorKind::Invalid),
        ("TRUNCATE system.local", ErrorKind::Invalid),
    ] {
        assert_eq!(cql[0].refused(refused).await.kind, kind, "{refused}");
    }
}

#[tokio::test]
async fn a_keyspace_is_replicated_where_there_is_somebody_to_hold_it() {
    let cluster = Cluster::start_cql(2).await;
    let mut cql = connected(&cluster).await;
    let dc = cql[0].rows("SELECT data_center FROM system.local").await[0][0].clone().unwrap();
    let dc = String::from_utf8(dc.to_vec()).unwrap();
    let replicated = |what: &str| format!("KEYSPACE store WITH replication = {{{what}}}");
    let topology = "'class': 'NetworkTopologyStrategy'";
    let nowhere = replicated(&format!("{topology}, 'nowhere': 1"));
    let refused = cql[0].refused(&format!("CREATE {nowhere}")).await;
    assert_eq!(refused.kind, ErrorKind::Config);
    let said = "Unrecognized strategy option {nowhere} passed to NetworkTopologyStrategy";
    assert!(refused.message.starts_with(said), "{}", refused.message);
    // One factor for every data centre; more copies than nodes are heard of.
    let everywhere = replicated(&format!("{topology}, 'replication_factor': 1"));
    cql[0].run(&format!("CREATE {everywhere}")).await;
    let shown = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'store'";
    let before = cql[1].rows(shown).await;
    assert!(String::from_utf8_lossy(before[0][0].as_ref().unwrap()).contains(&dc));
    let alter = format!("ALTER {}", replicated(&format!("{topology}, '{dc}': 5")));
    let reply = cql[0]
        .ask(helenus_proto::cql::Request::Query {
            query: alter.clone(),
            parameters: at(Level::One),
        })
        .await;
    assert_eq!(reply.response, Response::SchemaChange(updated(SchemaTarget::Keyspace)));
    assert!(
        reply.extras.warnings.iter().any(|warning| warning.contains('5')),
        "{:?}",
        reply.extras
    );
    assert_ne!(cql[1].rows(shown).await, before);
    agreed(&mut cql).await;
    assert_eq!(cql[0].run(&alter).await, Response::Void, "it is so already");
    assert_eq!(cql[0].refused(&format!("ALTER {nowhere}")).await.kind, ErrorKind::Config);
    let missing = alter.replace("store", "nothing");
    assert_eq!(cql[0].refused(&missing).await.kind, ErrorKind::Invalid);
    let missing = missing.replace("KEYSPACE", "KEYSPACE IF EXISTS");
    assert_eq!(cql[0].run(&missing).await, Response::Void);
}

#[tokio::test]
async fn a_keyspace_that_is_not_there_is_missed_before_its_properties_are_judged() {
    let cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    // Without a replication, which only a keyspace that is there has already.
    let alter = |name: &str| format!("ALTER KEYSPACE {name} WITH durable_writes = true");
    assert_eq!(cql.run(&alter("IF EXISTS nowhere")).await, Response::Void);
    let missing = cql.refused(&alter("nowhere")).await;
    assert_eq!(missing.kind, ErrorKind::Invalid);
    assert_eq!(missing.message, "keyspace `nowhere` does not exist");
    for name in ["system", "IF EXISTS system_traces"] {
        let refused = cql.refused(&alter(name)).await;
        assert_eq!(refused.kind, ErrorKind::Invalid);
        assert!(refused.message.contains("is the system's"), "{}", refused.message);
    }
}

#[tokio::test]
async fn nodes_that_are_asked_for_one_table_at_once_make_one() {
    let cluster = Cluster::start_cql(3).await;
    let mut cql = connected(&cluster).await;
    cql[0].run(SHOP).await;
    for round in 0..5 {
        let create =
            format!("CREATE TABLE IF NOT EXISTS store.t{round} (k int PRIMARY KEY, v int)");
        let insert = |nth: i32| format!("INSERT INTO store.t{round} (k, v) VALUES ({nth}, {nth})");
        let (first, rest) = cql.split_at_mut(1);
        let (second, third) = rest.split_at_mut(1);
        // Each goes on to write as soon as it was told that the table is there.
        let use_it = async |cql: &mut Cql, nth: i32| {
            cql.run(&create).await;
            // Another node may not have heard of the table yet.
            let insert = insert(nth);
            let done = async || match cql.query(&insert, at(Level::All)).await {
                Response::Void => Some(()),
                _ => None,
            };
            until(|| insert.clone(), done).await;
        };
        tokio::join!(use_it(&mut first[0], 0), use_it(&mut second[0], 1), use_it(&mut third[0], 2));
        let found = cql[0].rows(&format!("SELECT k FROM store.t{round}")).await;
        assert_eq!(found.len(), 3, "nothing that was written is lost");
    }
    agreed(&mut cql).await;
}
