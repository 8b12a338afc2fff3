//! Collections that are not frozen, over real sockets to real processes: what clients write at once is all there, and a
//! replica that missed some of it gets exactly that.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use bytes::Bytes;
use helenus_client::Level;
use helenus_core::cql::collection::{Elements, Pairs};
use helenus_proto::cql::{ErrorKind, Response, Version};
use helenus_tests::cql::{Cql, at, bound, rows};
use helenus_tests::{Cluster, binary, run};

const KEYSPACE: &str = "CREATE KEYSPACE store WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 3}";
const CARTS: &str = "CREATE TABLE store.carts (customer text PRIMARY KEY, tags set<int>, \
    amounts map<text, int>, visits list<int>)";

fn int(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes.try_into().unwrap())
}

fn ints(value: Option<&Bytes>) -> Vec<i32> {
    let Some(value) = value else { return Vec::new() };
    Elements::new(value, "collection").unwrap().map(|element| int(element.unwrap())).collect()
}

fn amounts(value: Option<&Bytes>) -> Vec<(String, i32)> {
    let Some(value) = value else { return Vec::new() };
    let pairs = Pairs::new(value).unwrap().map(|pair| pair.unwrap());
    pairs.map(|(key, value)| (String::from_utf8(key.to_vec()).unwrap(), int(value))).collect()
}

type Cart = (Vec<i32>, Vec<(String, i32)>, Vec<i32>);

/// The tags, amounts and visits of a customer, as a reader at this level sees them.
async fn cart(cql: &mut Cql, customer: &str, level: Level) -> Cart {
    let select = "SELECT tags, amounts, visits FROM store.carts WHERE customer =";
    let found = rows(cql.query(&format!("{select} '{customer}'"), at(level)).await).rows;
    let none = vec![None; 3];
    let row = found.first().unwrap_or(&none);
    (ints(row[0].as_ref()), amounts(row[1].as_ref()), ints(row[2].as_ref()))
}

async fn ann(cql: &mut Cql, level: Level) -> Cart {
    cart(cql, "ann", level).await
}

async fn write(cql: &mut Cql, statement: &str) {
    assert_eq!(cql.query(statement, at(Level::Quorum)).await, Response::Void, "{statement}");
}

#[tokio::test]
async fn clients_that_add_to_one_collection_at_once_lose_nothing() {
    const EACH: i32 = 60;
    let cluster = Cluster::start_cql(3).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(KEYSPACE).await;
    cql.run(CARTS).await;
    let client = async |node: usize| {
        let version = if node == 0 { Version::V4 } else { Version::V5 };
        let mut cql = Cql::connect(cluster.native(node), version, None).await;
        let add = "UPDATE store.carts SET tags = tags + ?, visits = visits + ?, amounts[?] = ? \
            WHERE customer = 'ann'";
        let add = cql.prepare(add).await;
        let first = i32::try_from(node).unwrap() * EACH;
        for nth in first..first + EACH {
            let one = [&1_i32.to_be_bytes()[..], &4_i32.to_be_bytes(), &nth.to_be_bytes()].concat();
            let (key, value) = (format!("key{nth:04}"), nth.to_be_bytes());
            let values: [&[u8]; 4] = [&one, &one, key.as_bytes(), &value];
            assert_eq!(cql.execute(&add, bound(&values)).await, Response::Void);
        }
    };
    tokio::join!(client(0), client(1), client(2));
    let (tags, amounts, visits) = ann(&mut cql, Level::Quorum).await;
    let all: Vec<i32> = (0..3 * EACH).collect();
    assert_eq!(tags, all);
    let pairs: Vec<_> = all.iter().map(|nth| (format!("key{nth:04}"), *nth)).collect();
    assert_eq!(amounts, pairs);
    // Each client's own come in the order in which it appended them.
    for node in 0..3 {
        let own = visits.iter().filter(|nth| **nth / EACH == node).copied();
        assert_eq!(own.collect::<Vec<_>>(), (node * EACH..(node + 1) * EACH).collect::<Vec<_>>());
    }
    assert_eq!(visits.len(), all.len());
}

#[tokio::test]
async fn what_a_replica_missed_it_gets_element_by_element() {
    let no_hints = "[hints]\nhinted_handoff_enabled = false";
    let mut cluster = Cluster::start_cql_with(3, no_hints).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(KEYSPACE).await;
    cql.run(CARTS).await;
    for customer in ["ann", "bob"] {
        let all = format!(
            "INSERT INTO store.carts (customer, tags, amounts, visits) \
             VALUES ('{customer}', {{1, 2}}, {{'tea': 1}}, [7])"
        );
        assert_eq!(cql.query(&all, at(Level::All)).await, Response::Void);
    }
    let victim = 2;
    cluster.kill(victim).await;
    cluster.all_see(2).await;
    for customer in ["ann", "bob"] {
        let add = format!(
            "UPDATE store.carts SET tags = tags + {{3}}, amounts['milk'] = 2, visits = visits + [8] \
             WHERE customer = '{customer}'"
        );
        write(&mut cql, &add).await;
        let remove = format!("DELETE tags[1] FROM store.carts WHERE customer = '{customer}'");
        write(&mut cql, &remove).await;
    }
    cluster.start_missing().await;
    cluster.all_see(3).await;
    // Reading from all, the victim finds that it is behind.
    let mut cql = Cql::connect(cluster.native(victim), Version::V5, None).await;
    let expected = (vec![2, 3], vec![("milk".to_owned(), 2), ("tea".to_owned(), 1)], vec![7, 8]);
    let read_repairs = "helenus_replica_mutations_total{path=\"read_repair\"}";
    let before = cluster.spec(victim).metric(read_repairs).await;
    assert_eq!(ann(&mut cql, Level::All).await, expected);
    assert_eq!(cluster.spec(victim).metric(read_repairs).await, before + 1.0, "it was behind");
    // What nobody reads is repaired by comparing the replicas.
    let host = cluster.rpc(0).to_string();
    let repaired = run(&binary("helenusctl"), ["--host", host.as_str(), "repair", "store"]).await;
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    cluster.kill(0).await;
    cluster.kill(1).await;
    cluster.all_see(1).await;
    assert_eq!(ann(&mut cql, Level::One).await, expected, "of the victim's own");
    assert_eq!(cart(&mut cql, "bob", Level::One).await, expected, "of the victim's own");
}

#[tokio::test]
async fn a_whole_value_takes_the_place_of_what_was_there_and_nothing_else() {
    let cluster = Cluster::start_cql(3).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    let mut other = Cql::connect(cluster.native(1), Version::V5, None).await;
    cql.run(KEYSPACE).await;
    cql.run(CARTS).await;
    write(
        &mut cql,
        "UPDATE store.carts USING TIMESTAMP 10 SET tags = tags + {1, 2}, amounts = {'tea': 1}, \
         visits = [1, 2, 3] WHERE customer = 'ann'",
    )
    .await;
    // Later, and seen earlier.
    write(
        &mut other,
        "UPDATE store.carts USING TIMESTAMP 30 SET tags = tags + {9} WHERE customer = 'ann'",
    )
    .await;
    write(
        &mut cql,
        "UPDATE store.carts USING TIMESTAMP 20 SET tags = {5}, amounts = null WHERE customer = 'ann'",
    )
    .await;
    // Too late for the whole value.
    write(
        &mut other,
        "UPDATE store.carts USING TIMESTAMP 19 SET tags = tags + {7} WHERE customer = 'ann'",
    )
    .await;
    assert_eq!(ann(&mut cql, Level::Quorum).await, (vec![5, 9], vec![], vec![1, 2, 3]));
    // Places in a list are those that a quorum knows, whichever node is asked.
    write(&mut other, "UPDATE store.carts SET visits[1] = 20 WHERE customer = 'ann'").await;
    write(&mut cql, "DELETE visits[0] FROM store.carts WHERE customer = 'ann'").await;
    write(&mut other, "UPDATE store.carts SET visits = [0] + visits WHERE customer = 'ann'").await;
    assert_eq!(ann(&mut cql, Level::Quorum).await.2, [0, 20, 3]);
    write(
        &mut cql,
        "BEGIN UNLOGGED BATCH \
         UPDATE store.carts SET visits = visits - [20] WHERE customer = 'ann'; \
         UPDATE store.carts SET visits = visits + [4] WHERE customer = 'ann'; \
         UPDATE store.carts SET visits = visits + [5] WHERE customer = 'ann'; \
         APPLY BATCH",
    )
    .await;
    assert_eq!(ann(&mut cql, Level::Quorum).await.2, [0, 3, 4, 5]);
    let beyond = "UPDATE store.carts SET visits[9] = 1 WHERE customer = 'ann'";
    let refused = cql.refused(beyond).await;
    assert_eq!(refused.kind, ErrorKind::Invalid);
    assert_eq!(refused.message, "List index 9 out of bound, list visits has size 4");
    let Response::Error(any) = cql.query(beyond, at(Level::Any)).await else {
        panic!("no read at ANY")
    };
    assert_eq!(any.kind, ErrorKind::Invalid);
    let described = cql.rows("DESCRIBE TABLE store.carts").await;
    let described = String::from_utf8(described[0][3].clone().unwrap().to_vec()).unwrap();
    for column in ["tags set<int>", "amounts map<text, int>", "visits list<int>"] {
        assert!(described.contains(column), "{described}");
    }
}
