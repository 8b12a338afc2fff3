//! Traces of requests, over real sockets to real processes: what a learner reads in them has to be what happened.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use bytes::Bytes;
use helenus_client::{Level, TableFilter};
use helenus_proto::cql::{Compression, ErrorKind, Response, Version};
use helenus_tests::cql::{Cql, at, rows};
use helenus_tests::{Cluster, until};
use std::net::{IpAddr, SocketAddr};

const SHOP: &str = "CREATE KEYSPACE store WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 3}";
const ORDERS: &str = "CREATE TABLE store.orders (id text PRIMARY KEY, state text)";

/// What a trace says.
struct Told {
    session: Vec<Option<Bytes>>,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    activity: String,
    source: IpAddr,
    elapsed: i32,
    thread: String,
}

fn text(value: &Option<Bytes>) -> String {
    String::from_utf8(value.as_ref().expect("it is no null").to_vec()).unwrap()
}

fn int(value: &Option<Bytes>) -> i32 {
    i32::from_be_bytes(value.as_ref().expect("it is no null")[..].try_into().unwrap())
}

fn ip(value: &Option<Bytes>) -> IpAddr {
    IpAddr::from(<[u8; 4]>::try_from(&value.as_ref().expect("it is no null")[..]).unwrap())
}

fn uuid(id: u128) -> String {
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Asks a node for a trace as drivers do: for its session until that has a duration, then for its events.
async fn told(node: SocketAddr, id: Option<u128>, level: Level) -> Told {
    let id = uuid(id.expect("a request that is traced is told its trace's id"));
    let mut cql = Cql::connect(node, Version::V4, None).await;
    let of = format!("FROM system_traces.sessions WHERE session_id = {id}");
    let columns = "duration, client, command, coordinator, request, parameters['query'], \
                   parameters['consistency_level'], started_at";
    let session = until(
        || format!("the session {id}"),
        async || {
            let found = rows(cql.query(&format!("SELECT {columns} {of}"), at(level)).await).rows;
            found.into_iter().next().filter(|row| row[0].is_some())
        },
    )
    .await;
    Told { session, events: events(&mut cql, &id, level).await }
}

async fn events(cql: &mut Cql, id: &str, level: Level) -> Vec<Event> {
    let select = "SELECT activity, source, source_elapsed, thread FROM system_traces.events";
    let found = cql.query(&format!("{select} WHERE session_id = {id}"), at(level)).await;
    let event = |row: &Vec<Option<Bytes>>| Event {
        activity: text(&row[0]),
        source: ip(&row[1]),
        elapsed: int(&row[2]),
        thread: text(&row[3]),
    };
    rows(found).rows.iter().map(event).collect()
}

impl Told {
    /// Where in the story a node says this; panics if it does not.
    fn place(&self, source: SocketAddr, parts: &[&str]) -> usize {
        let says = |event: &Event| {
            event.source == source.ip() && parts.iter().all(|part| event.activity.contains(part))
        };
        let found = self.events.iter().position(says);
        found.unwrap_or_else(|| panic!("{source} does not say {parts:?}: {:#?}", self.events))
    }

    fn says(&self, what: &str) -> bool {
        self.events.iter().any(|event| event.activity.contains(what))
    }
}

#[tokio::test]
async fn a_trace_tells_who_was_asked_and_who_answered_and_any_node_has_it() {
    let cluster = Cluster::start_cql(3).await;
    let [me, first, second] = [0, 1, 2].map(|nth| cluster.spec(nth).listen);
    let mut cql = Cql::connect(cluster.native(0), Version::V5, Some(Compression::Lz4)).await;
    cql.run(SHOP).await;
    cql.run(ORDERS).await;
    let insert = "INSERT INTO store.orders (id, state) VALUES ('a', 'paid') USING TIMESTAMP 4711";
    let (answer, id) = cql.traced(insert, Level::All).await;
    assert_eq!(answer, Response::Void);
    for nth in [2, 1, 0] {
        let write = told(cluster.native(nth), id, Level::One).await;
        let [duration, client, command, coordinator, request, query, level, started] =
            &write.session[..]
        else {
            panic!("{:?}", write.session)
        };
        assert!(int(duration) > 0);
        assert_eq!((ip(client), ip(coordinator)), (me.ip(), me.ip()));
        assert_eq!((text(command), text(request)), ("QUERY".into(), "Execute CQL3 query".into()));
        assert_eq!((text(query), text(level)), (insert.into(), "ALL".into()));
        assert!(started.is_some());
        assert_eq!(write.events.iter().filter(|event| event.elapsed < 0).count(), 0);
        let planned = write.place(me, &["Determining replicas for mutation", "ALL needs 3"]);
        let reached = write.place(me, &["ALL is reached: 3 of 3"]);
        let own = write.place(me, &["Merged into the memtable"]);
        assert!(planned < own && own < reached);
        for peer in [first, second] {
            let name = peer.to_string();
            let sent = write.place(me, &["Sending MUTATION message to", &name]);
            let merged = write.place(peer, &["Merged into the memtable"]);
            let logged = write.place(peer, &["Wrote the log"]);
            let heard = write.place(me, &["Received acknowledgement from", &name]);
            assert!(planned < sent && sent < merged && merged < logged);
            assert!(logged < heard && heard < reached, "{:#?}", write.events);
            assert_eq!(write.events[merged].thread, "replica");
        }
    }
    let (_, id) = cql.traced("SELECT * FROM store.orders WHERE id = 'a'", Level::Quorum).await;
    let read = told(cluster.native(1), id, Level::Quorum).await;
    read.place(me, &["Determining replicas for read", "QUORUM needs 2"]);
    read.place(me, &["Read 1 row, 1 cell, 0 tombstones, newest timestamp 4711 from the memtable"]);
    read.place(me, &["Received data from", &me.to_string(), "newest timestamp 4711"]);
    let digest = read.place(me, &["Received digest from"]);
    assert!(digest < read.place(me, &["QUORUM is reached: 2 of 2"]));
    read.place(me, &["Answering with 1 row"]);
    // The same row from a file.
    cluster.admin(0).flush(TableFilter::default()).await.unwrap();
    let (_, id) = cql.traced("SELECT * FROM store.orders WHERE id = 'a'", Level::Quorum).await;
    let read = told(cluster.native(1), id, Level::Quorum).await;
    read.place(me, &["newest timestamp 4711 from the memtable and 1 SSTable, 0 passed by"]);
    assert!(!read.says("mismatch"));
    let (_, id) = cql.traced("SELECT * FROM store.orders", Level::Quorum).await;
    let scan = told(cluster.native(1), id, Level::All).await;
    scan.place(me, &["Determining replicas for range"]);
    scan.place(me, &["Sending RANGE message"]);
    // A request that is refused has a trace as well; one that is not to be traced has none.
    let (refused, id) = cql.traced("SELECT * FROM store.nothing", Level::One).await;
    assert!(matches!(refused, Response::Error(error) if error.kind == ErrorKind::Invalid));
    let refused = told(cluster.native(2), id, Level::One).await;
    refused.place(me, &["Answering with an error", "nothing does not exist"]);
    let sessions = cql.rows("SELECT session_id FROM system_traces.sessions").await;
    assert_eq!(sessions.len(), 5);
    assert_eq!(cluster.spec(0).metric("helenus_traces_total").await, 5.0);
    // They are the system's: nobody else writes them.
    let forged = "DELETE FROM system_traces.sessions WHERE session_id = 7";
    assert_eq!(cql.refused(forged).await.kind, ErrorKind::Invalid);
    assert_eq!(cql.refused("DROP TABLE system_traces.events").await.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn a_trace_shows_a_stale_replica_and_its_repair() {
    let mut cluster = Cluster::start_cql_with(3, "[hints]\nhinted_handoff_enabled = false").await;
    let [fresh, _, stale] = [0, 1, 2].map(|nth| cluster.spec(nth).listen);
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(SHOP).await;
    cql.run(ORDERS).await;
    cluster.kill(2).await;
    cluster.all_see(2).await;
    for id in ["own", "other"] {
        cql.run(&format!(
            "INSERT INTO store.orders (id, state) VALUES ('{id}', 'paid') USING TIMESTAMP 4711"
        ))
        .await;
    }
    cluster.start_missing().await;
    // It coordinates, and its own copy is the stale one.
    let mut late = Cql::connect(cluster.native(2), Version::V5, None).await;
    let select = "SELECT state FROM store.orders WHERE id = ";
    let (answer, id) = late.traced(&format!("{select}'own'"), Level::Quorum).await;
    assert_eq!(text(&rows(answer).rows[0][0]), "paid");
    let read = told(cluster.native(1), id, Level::Quorum).await;
    let name = stale.to_string();
    let nothing = read.place(stale, &["Read nothing"]);
    let mismatch = read.place(stale, &["Digest mismatch", &name]);
    let won = read.place(stale, &["newest timestamp 4711", &format!("{name} lacks")]);
    let repaired = read.place(stale, &["Repaired this node's own copy"]);
    assert!(nothing < mismatch && mismatch < won && won < repaired, "{:#?}", read.events);
    // Another one coordinates: the stale one is told what it lacks.
    let (_, id) = cql.traced(&format!("{select}'other'"), Level::All).await;
    let read = told(cluster.native(2), id, Level::One).await;
    let won = read.place(fresh, &["newest timestamp 4711", &format!("{name} lacks")]);
    let sent = read.place(fresh, &["Sending READ_REPAIR message to", &name]);
    let merged = read.place(stale, &["Merged into the memtable"]);
    assert!(won < sent && sent < merged);
    let confirmed = read.place(fresh, &["Received acknowledgement from", &name]);
    assert!(merged < confirmed);
    // And now they agree.
    let (_, id) = cql.traced(&format!("{select}'other'"), Level::All).await;
    assert!(!told(cluster.native(0), id, Level::One).await.says("mismatch"));
}

#[tokio::test]
async fn a_trace_of_an_outage_names_the_hint_and_can_be_read_during_it() {
    let mut cluster = Cluster::start_cql(3).await;
    let [me, _, down] = [0, 1, 2].map(|nth| cluster.spec(nth).listen);
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(SHOP).await;
    cql.run(ORDERS).await;
    let insert = |id: &str| format!("INSERT INTO store.orders (id, state) VALUES ('{id}', 'paid')");
    // It is thought to be alive, and is silent: its hint is written after the client has its answer.
    cluster.signal(2, "STOP").await;
    let (answer, id) = cql.traced(&insert("silent"), Level::Quorum).await;
    assert_eq!(answer, Response::Void);
    let mut other = Cql::connect(cluster.native(1), Version::V5, None).await;
    let hint = format!("Writing a hint for {down}");
    until(
        || "the hint of the straggler in the trace".to_owned(),
        async || {
            let events = events(&mut other, &uuid(id?), Level::One).await;
            events.iter().any(|event| event.activity.starts_with(&hint)).then_some(())
        },
    )
    .await;
    cluster.signal(2, "CONT").await;
    cluster.kill(2).await;
    cluster.all_see(2).await;
    // It is known to be down: nothing is sent. cqlsh asks for traces at its session's level, and gets them all the same.
    let pending = cluster.spec(0).metric("helenus_hints_pending").await;
    let (answer, id) = cql.traced(&insert("down"), Level::Quorum).await;
    assert_eq!(answer, Response::Void);
    let write = told(cluster.native(1), id, Level::All).await;
    write.place(me, &["Determining replicas", &format!("down: {down}")]);
    let hinted = write.place(me, &[&hint]);
    assert!(hinted < write.place(me, &["QUORUM is reached: 2 of 2"]));
    assert!(!write.says(&format!("Sending MUTATION message to {down}")));
    let (answer, id) = cql.traced(&insert("none"), Level::All).await;
    assert!(matches!(
        answer,
        Response::Error(error) if matches!(error.kind, ErrorKind::Unavailable { .. })
    ));
    let unavailable = told(cluster.native(0), id, Level::All).await;
    unavailable.place(me, &["Answering with an error: unavailable: ALL needs 3"]);
    // The traces themselves are owed no hints: who counts them counts those of the request.
    assert_eq!(cluster.spec(0).metric("helenus_hints_pending").await, pending + 1.0);
    // The node that was down can be asked for what was traced meanwhile.
    cluster.start_missing().await;
    told(cluster.native(2), id, Level::One).await;
}
