//! Counters over real sockets to real processes: what clients add at once through any node is all there, each increment once,
//! also when a replica was away, or was killed in the middle of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use helenus_client::{Level, TimestampMicros};
use helenus_proto::cql::{
    Batch, BatchKind, BatchStatement, Consistency, ErrorKind, Request, Response, Statement,
    Version, WriteType,
};
use helenus_tests::cql::{Cql, at, bound, rows};
use helenus_tests::{Cluster, binary, run, until};
use std::cell::Cell;

const KEYSPACE: &str = "CREATE KEYSPACE store WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 3}";
const ONE_COPY: &str = "CREATE KEYSPACE store WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 1}";
const PAGES: &str =
    "CREATE TABLE store.pages (page text PRIMARY KEY, hits counter, misses counter)";

fn long(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().unwrap())
}

/// Hits and misses of a page, as a reader at this level sees them.
async fn counted(cql: &mut Cql, level: Level, page: &str) -> (Option<i64>, Option<i64>) {
    let select = format!("SELECT hits, misses FROM store.pages WHERE page = '{page}'");
    let found = rows(cql.query(&select, at(level)).await).rows;
    let Some(row) = found.first() else { return (None, None) };
    (row[0].as_deref().map(long), row[1].as_deref().map(long))
}

async fn write(cql: &mut Cql, statement: &str) {
    assert_eq!(cql.query(statement, at(Level::Quorum)).await, Response::Void, "{statement}");
}

/// Adds to one page through one node, so many times, and gives the sum of what was confirmed.
async fn add(cluster: &Cluster, node: usize, times: i64) -> i64 {
    let version = if node == 0 { Version::V4 } else { Version::V5 };
    let mut cql = Cql::connect(cluster.native(node), version, None).await;
    let update = "UPDATE store.pages SET hits = hits + ?, misses = misses - 1 WHERE page = ?";
    let update = cql.prepare(update).await;
    let mut sum = 0;
    for nth in 1..=times {
        assert_eq!(
            cql.execute(&update, bound(&[&nth.to_be_bytes(), b"front"])).await,
            Response::Void
        );
        sum += nth;
    }
    sum
}

/// Waits until a replica has heard of so many additions, and gives its own hits: a read at ONE mends nothing.
async fn heard(cluster: &Cluster, node: usize, times: i64) -> Option<i64> {
    let mut cql = Cql::connect(cluster.native(node), Version::V5, None).await;
    let last = Cell::new((None, None));
    let all = until(
        || format!("node {node} has heard of all {times} additions: {:?}", last.get()),
        async || {
            last.set(counted(&mut cql, Level::One, "front").await);
            (last.get().1 == Some(-times)).then_some(last.get().0)
        },
    );
    all.await
}

#[tokio::test]
async fn clients_that_count_at_once_through_all_nodes_lose_nothing() {
    const TIMES: i64 = 100;
    let cluster = Cluster::start_cql(3).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(KEYSPACE).await;
    cql.run(PAGES).await;
    // Two clients at each node.
    let add = |node| add(&cluster, node, TIMES);
    let (a, b, c, d, e, f) = tokio::join!(add(0), add(1), add(2), add(0), add(1), add(2));
    let sum = a + b + c + d + e + f;
    assert_eq!(counted(&mut cql, Level::Quorum, "front").await, (Some(sum), Some(-6 * TIMES)));
    assert_eq!(counted(&mut cql, Level::All, "front").await, (Some(sum), Some(-6 * TIMES)));
}

#[tokio::test]
async fn a_node_without_a_copy_has_a_replica_lead() {
    let cluster = Cluster::start_cql(3).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(ONE_COPY).await;
    cql.run(PAGES).await;
    // Whoever holds a page, two of the three nodes do not.
    for node in 0..3 {
        let mut cql = Cql::connect(cluster.native(node), Version::V5, None).await;
        for page in 0..12 {
            write(
                &mut cql,
                &format!(
                    "UPDATE store.pages SET hits = hits + {} WHERE page = 'p{page}'",
                    page + 1
                ),
            )
            .await;
        }
    }
    for node in 0..3 {
        let here =
            cluster.spec(node).metric("helenus_replica_mutations_total{path=\"write\"}").await;
        assert!(here < 36.0, "node {node} holds all pages: nobody had to lead for another");
    }
    for page in 0..12 {
        let found = counted(&mut cql, Level::One, &format!("p{page}")).await;
        assert_eq!(found, (Some(3 * (page + 1)), None));
    }
}

#[tokio::test]
async fn an_increment_whose_answer_is_lost_is_undecided_and_not_sent_again() {
    let extra = "fault_injection = true\ncounter_write_request_timeout = \"500ms\"\n";
    let cluster = Cluster::start_cql_with(3, extra).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(ONE_COPY).await;
    cql.run(PAGES).await;
    let update = |page| format!("UPDATE store.pages SET hits = hits + 1 WHERE page = 'p{page}'");
    for at in 0..3 {
        let host = cluster.rpc(at).to_string();
        let arm =
            ["--host", &host, "faults", "arm", "--verb", "COUNTER_ANSWER", "--action", "drop"];
        run(&binary("helenusctl"), arm).await.ok();
    }
    let mut lost = 0;
    for page in 0..12 {
        match cql.query(&update(page), at(Level::One)).await {
            Response::Void => {}
            Response::Error(error) => {
                lost += 1;
                let consistency = Consistency::Ordinary(Level::One);
                let (received, block_for, contentions) = (0, 1, 0);
                let write_type = WriteType::Counter;
                assert_eq!(
                    error.kind,
                    ErrorKind::WriteTimeout {
                        consistency,
                        received,
                        block_for,
                        write_type,
                        contentions
                    }
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0, "the node itself has the only copy of every page");
    // All were counted, and once.
    for page in 0..12 {
        let found = counted(&mut cql, Level::One, &format!("p{page}")).await;
        assert_eq!(found, (Some(1), None));
    }
}

#[tokio::test]
async fn a_node_that_was_down_and_one_that_was_killed_count_on() {
    let mut cluster = Cluster::start_cql(3).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(KEYSPACE).await;
    cql.run(PAGES).await;
    let mut sum = add(&cluster, 2, 20).await;
    // A total that is under way to a slow replica is lost with the node that sent it, and nobody owes it a hint.
    for node in 0..2 {
        assert_eq!(heard(&cluster, node, 20).await, Some(sum));
    }
    cluster.kill(2).await;
    cluster.all_see(2).await;
    sum += add(&cluster, 0, 20).await + add(&cluster, 1, 20).await;
    let unavailable = cql
        .query("UPDATE store.pages SET hits = hits + 1 WHERE page = 'front'", at(Level::All))
        .await;
    let Response::Error(unavailable) = unavailable else { panic!("{unavailable:?}") };
    assert_eq!(
        unavailable.kind,
        ErrorKind::Unavailable {
            consistency: Consistency::Ordinary(Level::All),
            required: 3,
            alive: 2
        }
    );
    cluster.start_missing().await;
    cluster.all_see(3).await;
    // Its own shard is of another life now, and what it missed comes to it as hints.
    sum += add(&cluster, 2, 20).await + add(&cluster, 0, 20).await;
    for node in 0..3 {
        assert_eq!(heard(&cluster, node, 100).await, Some(sum));
    }
    assert_eq!(counted(&mut cql, Level::All, "front").await, (Some(sum), Some(-100)));
}

/// Statements, and what their refusal says.
const REFUSED: [(&str, &str); 8] = [
    (
        "CREATE TABLE store.x (k text PRIMARY KEY, n counter, v int)",
        "a table's cells are all counters, or none is",
    ),
    ("CREATE TABLE store.x (k counter PRIMARY KEY, n counter)", "cannot be part of a primary key"),
    ("CREATE TABLE store.x (k text PRIMARY KEY, n list<counter>)", "counter"),
    (
        "CREATE TABLE store.x (k text PRIMARY KEY, n counter) WITH default_time_to_live = 5",
        "Cannot set default_time_to_live on a table with counters",
    ),
    (
        "INSERT INTO store.pages (page, hits) VALUES ('a', 1)",
        "INSERT statements are not allowed on counter tables, use UPDATE instead",
    ),
    (
        "UPDATE store.pages SET hits = 5 WHERE page = 'a'",
        "counters can only be incremented/decremented, not set",
    ),
    (
        "UPDATE store.pages USING TIMESTAMP 5 SET hits = hits + 1 WHERE page = 'a'",
        "Cannot provide custom timestamp for counter updates",
    ),
    (
        "BEGIN BATCH UPDATE store.pages SET hits = hits + 1 WHERE page = 'a' APPLY BATCH",
        "Cannot include a counter statement in a logged batch",
    ),
];

#[tokio::test]
async fn what_counters_cannot_do_is_refused_in_cassandras_words() {
    let cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(ONE_COPY).await;
    cql.run(PAGES).await;
    for (statement, said) in REFUSED {
        let refused = cql.refused(statement).await;
        assert_eq!(refused.kind, ErrorKind::Invalid, "{statement}");
        assert!(refused.message.contains(said), "{statement}: {}", refused.message);
    }
    let add = "UPDATE store.pages SET hits = hits + 1 WHERE page = 'a'";
    let any = cql.query(add, at(Level::Any)).await;
    let Response::Error(any) = any else { panic!("{any:?}") };
    assert_eq!(any.kind, ErrorKind::Invalid);
    assert!(
        any.message.contains("Consistency level ANY is not supported for counter table pages"),
        "{}",
        any.message
    );
}

#[tokio::test]
async fn counters_are_batched_with_counters_and_shown_as_what_they_are() {
    let cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(ONE_COPY).await;
    cql.run(PAGES).await;
    cql.run("CREATE TABLE store.kv (k text PRIMARY KEY, v int)").await;
    let add = "UPDATE store.pages SET hits = hits + 1 WHERE page = 'a'";
    // As messages: counters may be in a batch of their own, or in an unlogged one.
    let batch = |kind, statements: &[&str]| {
        let statements = statements.iter().map(|text| BatchStatement {
            statement: Statement::Query((*text).to_owned()),
            values: Vec::new(),
        });
        Request::Batch(Batch {
            kind,
            statements: statements.collect(),
            consistency: Consistency::Ordinary(Level::Quorum),
            serial_consistency: None,
            // Drivers say one with every request.
            timestamp: Some(TimestampMicros(7)),
            keyspace: None,
            now_in_seconds: None,
        })
    };
    for kind in [BatchKind::Counter, BatchKind::Unlogged] {
        assert_eq!(cql.ask(batch(kind, &[add, add])).await.response, Response::Void);
    }
    let kv = "UPDATE store.kv SET v = 1 WHERE k = 'a'";
    for (kind, statements, said) in [
        (BatchKind::Logged, &[add][..], "Cannot include a counter statement in a logged batch"),
        (BatchKind::Counter, &[kv], "Cannot include non-counter statement in a counter batch"),
        (
            BatchKind::Unlogged,
            &[kv, add],
            "Counter and non-counter mutations cannot exist in the same batch",
        ),
    ] {
        let answer = cql.ask(batch(kind, statements)).await.response;
        let Response::Error(refused) = answer else { panic!("{answer:?}") };
        assert!(refused.message.contains(said), "{}", refused.message);
    }
    assert_eq!(counted(&mut cql, Level::One, "a").await, (Some(4), None));
    write(&mut cql, "DELETE hits FROM store.pages WHERE page = 'a'").await;
    assert_eq!(counted(&mut cql, Level::One, "a").await, (None, None));
    let described = cql.rows("DESCRIBE TABLE store.pages").await;
    let described = String::from_utf8(described[0][3].clone().unwrap().to_vec()).unwrap();
    assert!(described.contains("hits counter"), "{described}");
    let types = "SELECT type FROM system_schema.columns WHERE keyspace_name = 'store' AND table_name = 'pages' AND column_name = 'hits'";
    assert_eq!(cql.rows(types).await, [[Some("counter".into())]]);
}
