//! CQL, over real sockets to real processes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use bytes::Bytes;
use helenus_client::{Level, Options};
use helenus_proto::cql::{
    ChangeKind, Compression, Consistency, ErrorKind, Event, Opcode, Parameters, Response,
    SchemaChange, SchemaTarget, Version, WriteType,
};
use helenus_tests::cql::{Cql, at, bound, int, page, rows, text};
use helenus_tests::{Cluster, KEYSPACE, TABLE, binary, run, until};

const SHOP: &str = "CREATE KEYSPACE store WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 3}";
const ORDERS: &str = "CREATE TABLE store.orders (customer text, nth int, total decimal, paid boolean, \
    PRIMARY KEY (customer, nth)) WITH CLUSTERING ORDER BY (nth DESC)";

/// What a connection speaks.
const SPOKEN: [(Version, Option<Compression>); 5] = [
    (Version::V4, None),
    (Version::V4, Some(Compression::Lz4)),
    (Version::V4, Some(Compression::Snappy)),
    (Version::V5, None),
    (Version::V5, Some(Compression::Lz4)),
];

#[tokio::test]
async fn statements_are_carried_out_over_both_versions_and_all_compressions() {
    let cluster = Cluster::start_cql(3).await;
    for (nth, (version, compression)) in SPOKEN.into_iter().enumerate() {
        let mut cql = Cql::connect(cluster.native(nth % 3), version, compression).await;
        let keyspace = format!("ks{nth}");
        let create = SHOP.replace("store", &keyspace);
        let created = cql.run(&create).await;
        let change = SchemaChange {
            kind: ChangeKind::Created,
            keyspace: keyspace.clone(),
            target: SchemaTarget::Keyspace,
        };
        assert_eq!(created, Response::SchemaChange(change));
        assert_eq!(cql.run(&create.replace("SPACE", "SPACE IF NOT EXISTS")).await, Response::Void);
        let exists = cql.refused(&create).await.kind;
        let table = String::new();
        assert_eq!(exists, ErrorKind::AlreadyExists { keyspace: keyspace.clone(), table });
        assert_eq!(
            cql.run(&format!("USE {keyspace}")).await,
            Response::SetKeyspace { keyspace: keyspace.clone() }
        );
        cql.run(&ORDERS.replace("store.", "")).await;
        let insert = cql.prepare("INSERT INTO orders (customer, nth, paid) VALUES (?, ?, ?)").await;
        assert_eq!(insert.pk_indexes, [0]);
        for nth in 0..20_i32 {
            let values: [&[u8]; 3] = [b"ann", &nth.to_be_bytes(), &[u8::from(nth % 2 == 0)]];
            assert_eq!(cql.execute(&insert, bound(&values)).await, Response::Void);
        }
        cql.run("UPDATE orders SET total = 12.5 WHERE customer = 'ann' AND nth = 3").await;
        cql.run("DELETE FROM orders WHERE customer = 'ann' AND nth >= 5").await;
        let found = cql.rows("SELECT nth, total, paid FROM orders WHERE customer = 'ann'").await;
        let nths: Vec<Option<Bytes>> = found.iter().map(|row| row[0].clone()).collect();
        assert_eq!(nths, [4, 3, 2, 1, 0].map(int), "in the table's order");
        assert_eq!(found[1][1], Some(Bytes::from_static(&[0, 0, 0, 1, 125])), "12.5");
        assert_eq!(found[1][2], Some(Bytes::from_static(&[0])));
        let count = cql.rows("SELECT count(*) FROM orders").await;
        assert_eq!(count, [[Some(Bytes::copy_from_slice(&5_i64.to_be_bytes()))]]);
        assert_eq!(cql.refused("SELEC 1").await.kind, ErrorKind::Syntax);
        assert_eq!(cql.refused("SELECT * FROM nowhere").await.kind, ErrorKind::Invalid);
        let lwt = "INSERT INTO orders (customer, nth) VALUES ('bob', 1) IF NOT EXISTS";
        let (yes, no) = (Some(Bytes::from_static(&[1])), Some(Bytes::from_static(&[0])));
        assert_eq!(cql.rows(lwt).await, [[yes]]);
        assert_eq!(cql.rows(lwt).await, [[no, text("bob"), int(1), None, None]]);
    }
}

#[tokio::test]
async fn pages_go_on_at_any_node_and_after_a_restart() {
    let mut cluster = Cluster::start_cql(3).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(SHOP).await;
    cql.run(ORDERS).await;
    let insert = cql.prepare("INSERT INTO store.orders (customer, nth) VALUES (?, ?)").await;
    let mut written = Vec::new();
    for customer in ["ann", "bob", "cid", "dot", "eve"] {
        for nth in 0..30_i32 {
            let values: [&[u8]; 2] = [customer.as_bytes(), &nth.to_be_bytes()];
            assert_eq!(cql.execute(&insert, bound(&values)).await, Response::Void);
            written.push((text(customer), int(nth)));
        }
    }
    written.sort();
    for statement in [
        "SELECT customer, nth FROM store.orders",
        "SELECT customer, nth FROM store.orders WHERE customer IN ('ann', 'bob', 'cid', 'dot', 'eve')",
    ] {
        let (mut state, mut found, mut pages) = (None, Vec::new(), 0);
        loop {
            if pages == 7 {
                cluster.kill(1).await;
                cluster.start_missing().await;
                cluster.all_see(3).await;
            }
            let mut cql = Cql::connect(cluster.native(pages % 3), Version::V4, None).await;
            let next = rows(cql.query(statement, page(7, state)).await);
            assert!(next.rows.len() <= 7);
            found.extend(next.rows.into_iter().map(|row| (row[0].clone(), row[1].clone())));
            pages += 1;
            state = next.metadata.paging_state;
            if state.is_none() {
                break;
            }
        }
        assert!(pages >= 150 / 7, "{pages}");
        found.sort();
        assert_eq!(found, written, "every row once: {statement}");
    }
    // A limit holds over pages.
    let (mut state, mut found) = (None, 0);
    loop {
        let limited = "SELECT nth FROM store.orders PER PARTITION LIMIT 9 LIMIT 40";
        let next = rows(cql.query(limited, page(7, state)).await);
        found += next.rows.len();
        state = next.metadata.paging_state;
        if state.is_none() {
            break;
        }
    }
    assert_eq!(found, 40);
    let count =
        "SELECT count(*) FROM store.orders WHERE customer IN ('ann', 'nobody') ORDER BY nth";
    let thirty = Some(Bytes::copy_from_slice(&30_i64.to_be_bytes()));
    assert_eq!(cql.rows(count).await, [[thirty]]);
    let nobody = "SELECT count(*) FROM store.orders WHERE customer IN ('no', 'body') ORDER BY nth";
    assert_eq!(cql.rows(nobody).await, [[Some(Bytes::from_static(&[0; 8]))]]);
    // A stretch of the ring and the one behind it hold everything once.
    let upto = "SELECT nth FROM store.orders WHERE token(customer) <= 0";
    let behind = "SELECT nth FROM store.orders WHERE token(customer) > 0";
    assert_eq!(cql.rows(upto).await.len() + cql.rows(behind).await.len(), 150);
    let damaged = page(7, Some(Bytes::from_static(b"not a state")));
    let answer = cql.query("SELECT nth FROM store.orders", damaged).await;
    assert!(matches!(answer, Response::Error(error) if error.kind == ErrorKind::Protocol));
}

#[tokio::test]
async fn what_fails_says_so_in_the_fields_that_drivers_decide_by() {
    let mut cluster = Cluster::start_cql(3).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(SHOP).await;
    cql.run(ORDERS).await;
    let insert = "INSERT INTO store.orders (customer, nth) VALUES ('ann', 1)";
    cluster.kill(2).await;
    cluster.all_see(2).await;
    let consistency = Consistency::Ordinary(Level::All);
    for statement in [insert, "SELECT * FROM store.orders WHERE customer = 'ann'"] {
        let Response::Error(error) = cql.query(statement, at(Level::All)).await else {
            panic!("a replica is down");
        };
        assert_eq!(error.kind, ErrorKind::Unavailable { consistency, required: 3, alive: 2 });
    }
    cql.run(insert).await;
    // What the replica missed, it gets by a hint.
    cluster.start_missing().await;
    cluster.all_see(3).await;
    let mut late = Cql::connect(cluster.native(2), Version::V5, None).await;
    until(
        || "the hint".to_owned(),
        async || {
            let read = "SELECT nth FROM store.orders WHERE customer = 'ann'";
            let found = rows(late.query(read, at(Level::One)).await);
            (found.rows == [[int(1)]]).then_some(())
        },
    )
    .await;
    // A replica that is thought to be alive and is silent: time is up.
    cluster.signal(2, "STOP").await;
    let timed_out = cql.query(insert, at(Level::All)).await;
    cluster.signal(2, "CONT").await;
    let Response::Error(error) = timed_out else { panic!("a replica is silent: {timed_out:?}") };
    let timed_out = error.kind;
    let write_type = WriteType::Simple;
    let (received, block_for, contentions) = (2, 3, 0);
    let expected =
        ErrorKind::WriteTimeout { consistency, received, block_for, write_type, contentions };
    assert_eq!(timed_out, expected);
}

#[tokio::test]
async fn a_node_that_restarted_asks_for_statements_to_be_prepared_again() {
    let mut cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V4, None).await;
    cql.run(&SHOP.replace('3', "1")).await;
    cql.run(ORDERS).await;
    let select = cql.prepare("SELECT nth FROM store.orders WHERE customer = ?").await;
    assert!(rows(cql.execute(&select, bound(&[b"ann"])).await).rows.is_empty());
    cluster.kill(0).await;
    cluster.start_missing().await;
    let mut cql = Cql::connect(cluster.native(0), Version::V4, None).await;
    let Response::Error(error) = cql.execute(&select, bound(&[b"ann"])).await else {
        panic!("it cannot know the statement");
    };
    assert_eq!(error.kind, ErrorKind::Unprepared { id: select.id.clone() });
    let again = cql.prepare("SELECT nth FROM store.orders WHERE customer = ?").await;
    assert_eq!(again.id, select.id);
    assert!(rows(cql.execute(&select, bound(&[b"ann"])).await).rows.is_empty());
    // A marker's type is another one now: what the client would bind would be taken for something else.
    let insert = cql.prepare("INSERT INTO store.orders (customer, nth) VALUES ('bob', ?)").await;
    cql.run("DROP TABLE store.orders").await;
    cql.run("CREATE TABLE store.orders (customer text, nth float, PRIMARY KEY (customer, nth))")
        .await;
    let nth = bound(&[&7_i32.to_be_bytes()]);
    let Response::Error(error) = cql.execute(&insert, nth).await else {
        panic!("an int was taken for a float");
    };
    assert_eq!(error.kind, ErrorKind::Unprepared { id: insert.id.clone() });
    assert!(cql.rows("SELECT * FROM store.orders").await.is_empty());
    // The table is another one now: the statement means that one, and says that its columns are others (v5).
    let mut newer = Cql::connect(cluster.native(0), Version::V5, None).await;
    let all = newer.prepare("SELECT * FROM store.orders").await;
    newer.run("DROP TABLE store.orders").await;
    newer.run("CREATE TABLE store.orders (customer text PRIMARY KEY, name text)").await;
    newer.run("INSERT INTO store.orders (customer, name) VALUES ('ann', 'Ann')").await;
    let found = rows(newer.execute(&all, bound(&[])).await);
    assert_eq!(found.rows, [[text("ann"), text("Ann")]]);
    assert!(found.metadata.new_metadata_id.is_some_and(|id| Some(id) != all.result_metadata_id));
}

#[tokio::test]
async fn what_breaks_the_protocol_is_answered_and_the_node_lives() {
    let cluster = Cluster::start_cql(1).await;
    let address = cluster.native(0);
    // A version that nobody speaks: the answer is in the highest that is spoken, on stream 0.
    let mut cql = Cql::dial(address, Version::V5).await;
    cql.send_raw(&[0x42, 0, 0, 9, 0x05, 0, 0, 0, 0]).await;
    let answer = cql.next().await.unwrap();
    assert_eq!((answer.header.version, answer.header.stream), (Version::V5, 0));
    assert_eq!(answer.header.opcode, Opcode::Error);
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(said.contains("Invalid or unsupported protocol version (66)"), "{said}");
    // Something before STARTUP.
    let mut cql = Cql::dial(address, Version::V4).await;
    let early = cql.query("SELECT * FROM system.local", at(Level::One)).await;
    assert!(matches!(early, Response::Error(error) if error.kind == ErrorKind::Protocol));
    // A body that is no QUERY, on a connection that goes on.
    let mut cql = Cql::connect(address, Version::V4, None).await;
    cql.send_raw(&[0x04, 0, 0, 7, 0x07, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]).await;
    let answer = cql.next().await.unwrap();
    assert_eq!((answer.header.stream, answer.header.opcode), (7, Opcode::Error));
    assert_eq!(cql.rows("SELECT key FROM system.local").await, [[text("local")]]);
    // A length that no body has ends the connection; so does noise, and half a request.
    for noise in [
        &[0x04, 0, 0, 7, 0x07, 0xff, 0xff, 0xff, 0xff][..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x04, 0, 0, 7, 0x07, 0, 0],
    ] {
        let mut cql = Cql::dial(address, Version::V4).await;
        cql.send_raw(noise).await;
        drop(cql);
    }
    let mut cql = Cql::connect(address, Version::V5, Some(Compression::Lz4)).await;
    // A segment whose checksum is wrong: nothing behind it can be believed.
    cql.send_raw(&[0xff; 64]).await;
    while cql.next().await.is_some() {}
    let mut cql = Cql::connect(address, Version::V5, Some(Compression::Lz4)).await;
    assert_eq!(cql.rows("SELECT key FROM system.local").await, [[text("local")]]);
}

#[tokio::test]
async fn a_client_may_ask_for_more_at_once_than_is_worked_on_at_once() {
    let cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V4, None).await;
    // 3,000 times OPTIONS, in one write and before any answer is read.
    let mut asked = Vec::new();
    for stream in 0..3000_i16 {
        asked.extend([0x04, 0]);
        asked.extend(stream.to_be_bytes());
        asked.extend([0x05, 0, 0, 0, 0]);
    }
    cql.send_raw(&asked).await;
    for stream in 0..3000_i16 {
        let answer = cql.next().await.unwrap();
        assert_eq!((answer.header.stream, answer.header.opcode), (stream, Opcode::Supported));
    }
    // And statements, which take work.
    let mut asked = Vec::new();
    let text = b"SELECT key FROM system.local";
    for stream in 0..3000_i16 {
        asked.extend([0x04, 0]);
        asked.extend(stream.to_be_bytes());
        asked.extend([0x07, 0, 0, 0, 35, 0, 0, 0, 28]);
        asked.extend(text);
        asked.extend([0, 1, 0]);
    }
    cql.send_raw(&asked).await;
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..3000 {
        let answer = cql.next().await.unwrap();
        assert_eq!(answer.header.opcode, Opcode::Result);
        answered.insert(answer.header.stream);
    }
    assert_eq!(answered.len(), 3000);
}

#[tokio::test]
async fn a_key_value_table_is_one_table_to_both_front_ends() {
    let cluster = Cluster::start_cql(3).await;
    cluster.create(3).await;
    let client = cluster.client().await;
    let table = client.table(KEYSPACE, TABLE);
    let options = Options::new().level(Level::Quorum);
    table.put_with("by grpc", Bytes::from_static(b"1"), &options).await.unwrap();
    let mut cql = Cql::connect(cluster.native(1), Version::V5, None).await;
    let insert = format!("INSERT INTO {KEYSPACE}.{TABLE} (key, value) VALUES (?, ?)");
    let insert = cql.prepare(&insert).await;
    assert_eq!(cql.execute(&insert, bound(&[b"by cql", b"2"])).await, Response::Void);
    let select = format!("SELECT value FROM {KEYSPACE}.{TABLE} WHERE key = ?");
    let select = cql.prepare(&select).await;
    for (key, value) in [("by grpc", "1"), ("by cql", "2")] {
        let found = rows(cql.execute(&select, bound(&[key.as_bytes()])).await);
        assert_eq!(found.rows, [[text(value)]]);
        let found = table.get_with(key, &options).await.unwrap();
        assert_eq!(found.value.unwrap().value, value.as_bytes());
    }
    // A table of another shape is not for keys and values.
    cql.run(SHOP).await;
    cql.run(ORDERS).await;
    let refused = client.table("store", "orders").put_with("k", Bytes::new(), &options).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no table of keys and values"), "{refused}");
}

#[tokio::test]
async fn the_bench_asks_in_both_protocols_and_finds_what_it_wrote() {
    let cluster = Cluster::start_cql(3).await;
    cluster.create(3).await;
    let bench = "bench shop.orders --protocol grpc,cql --load --keys 50 --ops 400 --warm-up 0s \
        --in-flight 8 --read-share 0.5 --format json --native-transport-port";
    let mut args: Vec<String> = bench.split_whitespace().map(str::to_owned).collect();
    args.push(cluster.native(0).port().to_string());
    args.extend(["--host".to_owned(), cluster.rpc(0).to_string()]);
    args.extend([
        "--pid".to_owned(),
        cluster.pids().iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    ]);
    let ran = run(&binary("helenusctl"), args).await.ok();
    let report: serde_json::Value = serde_json::from_str(&ran).unwrap();
    let runs = report["runs"].as_array().unwrap();
    let protocols: Vec<_> = runs.iter().map(|run| run["protocol"].as_str().unwrap()).collect();
    assert_eq!(protocols, ["grpc", "cql"]);
    for run in runs {
        assert_eq!((&run["ops"], &run["absent"]), (&400.into(), &0.into()), "{run}");
        assert_eq!(run["errors"], serde_json::json!({}), "{run}");
        let done = |kind: &str| run[kind]["ops"].as_u64().unwrap();
        assert!(done("read") > 100 && done("write") > 100, "{run}");
        assert_eq!(run["cpu"]["servers"].as_array().unwrap().len(), 3, "{run}");
    }
    assert!(report["ratios"][0]["ops_per_s"].as_f64().unwrap() > 0.0, "{report}");

    // A table of another shape is refused before any load.
    Cql::connect(cluster.native(0), Version::V5, None).await.run(SHOP).await;
    Cql::connect(cluster.native(0), Version::V5, None).await.run(ORDERS).await;
    let port = cluster.native(0).port().to_string();
    let host = cluster.rpc(0).to_string();
    let bench = ["bench", "store.orders", "--protocol", "cql", "--native-transport-port", &port];
    let ran = run(&binary("helenusctl"), [&bench[..], &["--host", &host]].concat()).await;
    ran.failed(1, &["CQL: "]);
}

#[tokio::test]
async fn who_registered_is_told_of_changes_made_elsewhere() {
    let mut cluster = Cluster::start_cql(3).await;
    let mut told = Cql::connect(cluster.native(0), Version::V5, None).await;
    told.register().await;
    let mut cql = Cql::connect(cluster.native(1), Version::V5, None).await;
    let changed = |kind, target| {
        let keyspace = "store".to_owned();
        Event::Schema(SchemaChange { kind, keyspace, target })
    };
    cql.run(SHOP).await;
    assert_eq!(told.event().await, changed(ChangeKind::Created, SchemaTarget::Keyspace));
    cql.run(ORDERS).await;
    let orders = || SchemaTarget::Table("orders".to_owned());
    assert_eq!(told.event().await, changed(ChangeKind::Created, orders()));
    cql.run("DROP TABLE store.orders").await;
    assert_eq!(told.event().await, changed(ChangeKind::Dropped, orders()));
    let node = cluster.native(2);
    cluster.kill(2).await;
    assert_eq!(told.event().await, Event::Status { up: false, node });
    cluster.start_missing().await;
    assert_eq!(told.event().await, Event::Status { up: true, node });
}

#[tokio::test]
async fn a_client_of_version_5_may_say_which_second_it_is() {
    let cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )
    .await;
    cql.run("CREATE TABLE k.t (id int PRIMARY KEY, v int)").await;
    let said = |second| Parameters { now_in_seconds: Some(second), ..at(Level::One) };
    let insert = "INSERT INTO k.t (id, v) VALUES (1, 2) USING TTL 100";
    assert_eq!(cql.query(insert, said(2_000_000_000)).await, Response::Void);
    for select in ["SELECT ttl(v) FROM k.t WHERE id = 1", "SELECT ttl(v) FROM k.t"] {
        assert_eq!(rows(cql.query(select, said(2_000_000_040)).await).rows, [[int(60)]]);
        assert!(rows(cql.query(select, said(2_000_000_100)).await).rows.is_empty(), "{select}");
    }
}
