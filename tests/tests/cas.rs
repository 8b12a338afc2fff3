//! Conditional writes, over real sockets to real processes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use bytes::Bytes;
use helenus_core::Level;
use helenus_core::cql::{CqlType, collection};
use helenus_proto::cql::{
    Batch, BatchKind, BatchStatement, Columns, Consistency, ErrorKind, Parameters, Request,
    Response, RowsMetadata, SerialConsistency, Statement, Value, Version, WriteType,
};
use helenus_tests::Cluster;
use helenus_tests::cql::{Cql, at, bound, int, rows, text};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const KEYSPACE: &str = "CREATE KEYSPACE bank WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 3}";
const ACCOUNTS: &str = "CREATE TABLE bank.accounts (owner text, nth int, bank text static, \
    balance int, note text, PRIMARY KEY (owner, nth))";
const LOG: &str = "CREATE TABLE bank.log (k int PRIMARY KEY, said text)";

fn yes() -> Option<Bytes> {
    Some(Bytes::from_static(&[1]))
}

fn no() -> Option<Bytes> {
    Some(Bytes::from_static(&[0]))
}

/// The columns' names and the rows of a statement at QUORUM.
async fn answer(cql: &mut Cql, statement: &str) -> (Vec<String>, Vec<Vec<Option<Bytes>>>) {
    let rows = rows(cql.run(statement).await);
    let Columns::Described(columns) = rows.metadata.columns else {
        panic!("{statement}: its columns are not described");
    };
    (columns.iter().map(|column| column.name.clone()).collect(), rows.rows)
}

fn serial(serial: SerialConsistency) -> Parameters {
    Parameters { consistency: Consistency::Serial(serial), ..Parameters::default() }
}

async fn bank(cluster: &Cluster) -> Cql {
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    for statement in [KEYSPACE, ACCOUNTS, LOG] {
        cql.run(statement).await;
    }
    cql
}

#[tokio::test]
async fn a_condition_decides_and_the_row_is_shown_if_it_does_not_hold() {
    let cluster = Cluster::start_cql(3).await;
    let mut cql = bank(&cluster).await;
    let applied = (vec!["[applied]".to_owned()], vec![vec![yes()]]);
    let nothing = (vec!["[applied]".to_owned()], vec![vec![no()]]);
    let all = ["[applied]", "owner", "nth", "bank", "balance", "note"].map(str::to_owned).to_vec();
    let insert =
        "INSERT INTO bank.accounts (owner, nth, balance) VALUES ('ann', 1, 10) IF NOT EXISTS";
    assert_eq!(answer(&mut cql, insert).await, applied);
    // By another node: what was decided is known there.
    let mut other = Cql::connect(cluster.native(1), Version::V4, None).await;
    let there = vec![vec![no(), text("ann"), int(1), None, int(10), None]];
    assert_eq!(answer(&mut other, insert).await, (all.clone(), there));
    let columns = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    for (condition, holds) in [
        ("balance = 10", true),
        ("balance = 11", false),
        ("balance != 10", false),
        ("balance > 9 AND balance <= 10", true),
        ("balance > 10", false),
        ("balance IN (3, 10)", true),
        ("balance IN (3, 11)", false),
        ("balance = null", false),
        ("note = null AND balance >= 10", true),
        ("note < 'a' AND balance >= 10", false),
        ("bank = null", true),
    ] {
        let update = format!(
            "UPDATE bank.accounts SET balance = 10 WHERE owner = 'ann' AND nth = 1 IF {condition}"
        );
        let (names, found) = answer(&mut cql, &update).await;
        assert_eq!(found[0][0] == yes(), holds, "{condition}");
        if !holds {
            let (expected, values) = if condition.starts_with("note") {
                (columns(&["[applied]", "note", "balance"]), vec![no(), None, int(10)])
            } else {
                (columns(&["[applied]", "balance"]), vec![no(), int(10)])
            };
            assert_eq!((names, found), (expected, vec![values]), "{condition}");
        }
    }
    // Of a row that is not there, nothing is shown.
    let absent = "UPDATE bank.accounts SET balance = 1 WHERE owner = 'ann' AND nth = 9 IF";
    assert_eq!(answer(&mut cql, &format!("{absent} EXISTS")).await, nothing);
    assert_eq!(answer(&mut cql, &format!("{absent} balance = 3")).await, nothing);
    assert_eq!(answer(&mut cql, &format!("{absent} balance = null")).await, applied);
    let delete = "DELETE FROM bank.accounts WHERE owner = 'ann' AND nth = 9 IF EXISTS";
    assert_eq!(answer(&mut cql, delete).await, applied);
    assert_eq!(answer(&mut cql, delete).await, nothing);
    // Static columns are the partition's.
    let name = "UPDATE bank.accounts SET bank = 'first' WHERE owner = 'ann' IF bank = null";
    assert_eq!(answer(&mut cql, name).await, applied);
    let (names, found) = answer(&mut cql, name).await;
    assert_eq!((names, found), (columns(&["[applied]", "bank"]), vec![vec![no(), text("first")]]));
    let found = cql.rows("SELECT bank, balance FROM bank.accounts WHERE owner = 'ann'").await;
    assert_eq!(found, [[text("first"), int(10)]]);
}

#[tokio::test]
async fn a_batch_is_done_whole_or_not_at_all() {
    let cluster = Cluster::start_cql(3).await;
    let mut cql = bank(&cluster).await;
    cql.run("INSERT INTO bank.accounts (owner, nth, balance) VALUES ('ann', 1, 10)").await;
    cql.run("INSERT INTO bank.accounts (owner, nth, balance) VALUES ('ann', 2, 0)").await;
    let transfer = "BEGIN BATCH \
        UPDATE bank.accounts SET balance = 3 WHERE owner = 'ann' AND nth = 1 IF balance = 10; \
        UPDATE bank.accounts SET balance = 7 WHERE owner = 'ann' AND nth = 2 IF balance = 0; \
        UPDATE bank.accounts SET bank = 'seen' WHERE owner = 'ann'; \
        APPLY BATCH";
    assert_eq!(answer(&mut cql, transfer).await, (vec!["[applied]".to_owned()], vec![vec![yes()]]));
    let (names, found) = answer(&mut cql, transfer).await;
    assert_eq!(names, ["[applied]", "owner", "nth", "balance"]);
    let expected =
        [vec![no(), text("ann"), int(1), int(3)], vec![no(), text("ann"), int(2), int(7)]];
    assert_eq!(found, expected);
    // As the protocol's BATCH, of a prepared statement and a text.
    let take = cql
        .prepare("UPDATE bank.accounts SET balance = ? WHERE owner = ? AND nth = ? IF balance = ?")
        .await;
    assert_eq!(take.result, RowsMetadata::none(), "its answer tells its columns itself");
    assert_eq!(take.pk_indexes, [1]);
    let take_from = |from: i32| {
        let values: [&[u8]; 4] =
            [&0_i32.to_be_bytes(), b"ann", &1_i32.to_be_bytes(), &from.to_be_bytes()];
        let values = values.map(|bytes| Value::Bytes(Bytes::copy_from_slice(bytes)));
        let give = "UPDATE bank.accounts SET balance = 10 WHERE owner = 'ann' AND nth = 2";
        let prepared = Statement::Prepared(take.id.clone());
        let batch = Batch {
            kind: BatchKind::Logged,
            statements: vec![
                BatchStatement { statement: prepared, values: values.to_vec() },
                BatchStatement { statement: Statement::Query(give.to_owned()), values: vec![] },
            ],
            consistency: Consistency::Ordinary(Level::Quorum),
            serial_consistency: Some(SerialConsistency::LocalSerial),
            timestamp: None,
            keyspace: None,
            now_in_seconds: None,
        };
        Request::Batch(batch)
    };
    let found = rows(cql.ask(take_from(4)).await.response).rows;
    assert_eq!(found, [vec![no(), text("ann"), int(1), int(3)]]);
    assert_eq!(rows(cql.ask(take_from(3)).await.response).rows, [[yes()]]);
    let read = "SELECT bank, balance FROM bank.accounts WHERE owner = 'ann'";
    let settled = [[text("seen"), int(0)], [text("seen"), int(10)]];
    for level in [SerialConsistency::Serial, SerialConsistency::LocalSerial] {
        assert_eq!(rows(cql.query(read, serial(level)).await).rows, settled);
    }
}

#[tokio::test]
async fn what_a_condition_does_not_go_with_is_refused_in_a_sentence() {
    let cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(&KEYSPACE.replace('3', "1")).await;
    cql.run(ACCOUNTS).await;
    let row = "WHERE owner = 'ann' AND nth = 1";
    for (statement, sentence) in [
        (
            format!("UPDATE bank.accounts USING TIMESTAMP 5 SET balance = 1 {row} IF EXISTS"),
            "custom timestamp",
        ),
        (format!("UPDATE bank.accounts SET balance = 1 {row} IF nth = 1"), "PRIMARY KEY column"),
        (format!("UPDATE bank.accounts SET balance = 1 {row} IF balance < null"), "null"),
        (
            "UPDATE bank.accounts SET balance = 1 WHERE owner IN ('a', 'b') AND nth = 1 IF EXISTS"
                .to_owned(),
            "IN on the partition key",
        ),
        (
            "DELETE FROM bank.accounts WHERE owner = 'a' AND nth IN (1, 2) IF EXISTS".to_owned(),
            "IN on the clustering key",
        ),
        (
            "DELETE FROM bank.accounts WHERE owner = 'ann' AND nth > 1 IF EXISTS".to_owned(),
            "must restrict all PRIMARY KEY columns",
        ),
        (
            "DELETE FROM bank.accounts WHERE owner = 'ann' IF bank = 'first'".to_owned(),
            "must restrict all PRIMARY KEY columns",
        ),
        (
            format!(
                "BEGIN BATCH UPDATE bank.accounts SET balance = 1 {row} IF EXISTS; INSERT INTO \
                 bank.accounts (owner, nth) VALUES ('bob', 1); APPLY BATCH"
            ),
            "multiple partitions",
        ),
        (
            format!(
                "BEGIN BATCH UPDATE bank.accounts SET balance = 1 {row} IF EXISTS; INSERT INTO \
                 bank.accounts (owner, nth) VALUES ('ann', 1) IF NOT EXISTS; APPLY BATCH"
            ),
            "Cannot mix IF EXISTS and IF NOT EXISTS",
        ),
    ] {
        let error = cql.refused(&statement).await;
        assert_eq!(error.kind, ErrorKind::Invalid, "{statement}");
        assert!(error.message.contains(sentence), "{statement}: {}", error.message);
    }
    for (statement, sentence) in [
        (format!("UPDATE bank.accounts SET balance = 1 {row} IF EXISTS"), "commit consistency"),
        (format!("UPDATE bank.accounts SET balance = 1 {row}"), "must use conditional updates"),
        ("SELECT * FROM bank.accounts".to_owned(), "one partition at a time"),
    ] {
        let answer = cql.query(&statement, serial(SerialConsistency::Serial)).await;
        let Response::Error(error) = answer else { panic!("{statement}: {answer:?}") };
        assert_eq!(error.kind, ErrorKind::Invalid, "{statement}");
        assert!(error.message.contains(sentence), "{statement}: {}", error.message);
    }
}

#[tokio::test]
async fn failures_have_the_fields_that_drivers_decide_by() {
    let mut cluster = Cluster::start_cql(3).await;
    let mut cql = bank(&cluster).await;
    let insert = "INSERT INTO bank.log (k, said) VALUES (1, '') IF NOT EXISTS";
    cluster.kill(2).await;
    cluster.all_see(2).await;
    assert_eq!(cql.rows(insert).await, [[yes()]], "two of three decide");
    // Before anything is promised.
    let consistency = Consistency::Ordinary(Level::All);
    let Response::Error(error) = cql.query(insert, at(Level::All)).await else {
        panic!("a replica is down");
    };
    assert_eq!(error.kind, ErrorKind::Unavailable { consistency, required: 3, alive: 2 });
    // One more that is silent and not yet known to be down: no quorum promises.
    cluster.signal(1, "STOP").await;
    let read = "SELECT said FROM bank.log WHERE k = 1";
    let written = cql.query(insert, at(Level::One)).await;
    let found = cql.query(read, serial(SerialConsistency::Serial)).await;
    cluster.signal(1, "CONT").await;
    let consistency = Consistency::Serial(SerialConsistency::Serial);
    let Response::Error(error) = written else { panic!("nobody promises: {written:?}") };
    let write_type = WriteType::Cas;
    match error.kind {
        ErrorKind::WriteTimeout {
            consistency: at, received, block_for, write_type: ty, ..
        } => {
            assert_eq!((at, received, block_for, ty), (consistency, 1, 2, write_type));
        }
        // A slow machine: the detector was faster.
        kind => assert_eq!(kind, ErrorKind::Unavailable { consistency, required: 2, alive: 1 }),
    }
    let Response::Error(error) = found else { panic!("nobody promises: {found:?}") };
    match error.kind {
        ErrorKind::ReadTimeout { consistency: at, received, block_for, data_present } => {
            assert_eq!((at, block_for, data_present), (consistency, 2, false));
            assert!(received < 2, "{received}");
        }
        kind => assert_eq!(kind, ErrorKind::Unavailable { consistency, required: 2, alive: 1 }),
    }
}

/// What became of the entries of all writers.
#[derive(Debug, Default)]
struct Fates {
    applied: BTreeSet<String>,
    refused: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

/// Appends entries to the log by compare-and-set, each tried until its fate is known or nobody can know it.
async fn write(
    nodes: Vec<SocketAddr>,
    name: String,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Fates {
    let mut fates = Fates::default();
    for nth in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut cql = Cql::connect(nodes[nth % nodes.len()], Version::V5, None).await;
        let read = cql.query("SELECT said FROM bank.log WHERE k = 1", at(Level::One)).await;
        // As stale as it may be: the condition sees to it.
        let Response::Rows(read) = read else { continue };
        let Some(Some(before)) = read.rows.first().map(|row| row[0].clone()) else { continue };
        let entry = format!("{name}.{nth}");
        let after = format!("{} {entry}", String::from_utf8(before.to_vec()).unwrap());
        let update = cql.prepare("UPDATE bank.log SET said = ? WHERE k = 1 IF said = ?").await;
        match cql.execute(&update, bound(&[after.as_bytes(), &before])).await {
            Response::Rows(rows) if rows.rows[0][0] == yes() => {
                done.fetch_add(1, Ordering::Relaxed);
                fates.applied.insert(entry);
            }
            Response::Rows(_) => {
                fates.refused.insert(entry);
            }
            Response::Error(error) => match error.kind {
                ErrorKind::CasWriteUnknown { .. } | ErrorKind::WriteTimeout { .. } => {
                    fates.unknown.insert(entry);
                }
                ErrorKind::Unavailable { .. } => {
                    fates.refused.insert(entry);
                }
                // The read of the round, in which nothing was proposed; or the commit behind it.
                ErrorKind::ReadTimeout { .. }
                | ErrorKind::ReadFailure { .. }
                | ErrorKind::WriteFailure { .. } => {
                    fates.unknown.insert(entry);
                }
                kind => panic!("{kind:?}: {}", error.message),
            },
            other => panic!("{other:?}"),
        }
    }
    fates
}

/// Every entry that a client was told of is in the log once, every one that it was told is not there is not, though the
/// writers get in each other's way through three coordinators and a replica dies and comes back twice.
#[tokio::test]
async fn writers_in_each_others_way_lose_nothing_and_repeat_nothing_though_a_replica_dies() {
    let mut cluster = Cluster::start_cql(3).await;
    let mut cql = bank(&cluster).await;
    cql.run("INSERT INTO bank.log (k, said) VALUES (1, '') IF NOT EXISTS").await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // The one that dies is coordinated by nobody.
    let nodes = vec![cluster.native(0), cluster.native(1)];
    #[expect(clippy::disallowed_methods, reason = "the test plays clients")]
    let writers: Vec<_> = (0..4)
        .map(|nth| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(write(nodes.clone(), format!("w{nth}"), stop, done))
        })
        .collect();
    let more = async |count: usize| {
        let from = done.load(Ordering::Relaxed);
        helenus_tests::until(
            || format!("{count} more writes, after {from}"),
            async || (done.load(Ordering::Relaxed) >= from + count).then_some(()),
        )
        .await;
    };
    for _ in 0..2 {
        more(15).await;
        cluster.kill(2).await;
        more(15).await;
        cluster.start_missing().await;
        cluster.all_see(3).await;
    }
    more(15).await;
    stop.store(true, Ordering::Relaxed);
    let mut fates = Fates::default();
    for writer in writers {
        let Fates { applied, refused, unknown } = writer.await.unwrap();
        fates.applied.extend(applied);
        fates.refused.extend(refused);
        fates.unknown.extend(unknown);
    }
    let read = "SELECT said FROM bank.log WHERE k = 1";
    for node in 0..3 {
        let mut cql = Cql::connect(cluster.native(node), Version::V5, None).await;
        let found = rows(cql.query(read, serial(SerialConsistency::Serial)).await);
        let log = String::from_utf8(found.rows[0][0].as_ref().unwrap().to_vec()).unwrap();
        let entries: Vec<&str> = log.split_whitespace().collect();
        let once: BTreeSet<&str> = entries.iter().copied().collect();
        assert_eq!(once.len(), entries.len(), "an entry is there twice: {log}");
        let lost: Vec<_> = fates.applied.iter().filter(|e| !once.contains(e.as_str())).collect();
        assert_eq!(lost, [""; 0], "told to be applied, and not there");
        let risen: Vec<_> = fates.refused.iter().filter(|e| once.contains(e.as_str())).collect();
        assert_eq!(risen, [""; 0], "told not to be applied, and there");
        let strange =
            once.iter().filter(|e| !fates.applied.contains(**e) && !fates.unknown.contains(**e));
        assert_eq!(strange.count(), 0, "{log}");
    }
    assert!(fates.applied.len() >= 75, "{fates:?}");
}

const PEOPLE: [&str; 2] = [
    "CREATE TYPE bank.phone (prefix int, number text)",
    "CREATE TABLE bank.people (k int PRIMARY KEY, tags set<text>, visits list<int>, \
     debts map<text, int>, calls phone, old frozen<list<int>>, v int)",
];

/// The types of an answer's columns, as a schema would name them.
fn types(answer: &Response) -> Vec<String> {
    let Response::Rows(rows) = answer else { panic!("{answer:?}") };
    let Columns::Described(columns) = &rows.metadata.columns else { panic!("{answer:?}") };
    columns.iter().map(|column| column.ty.freeze().to_string()).collect()
}

#[tokio::test]
async fn what_is_not_frozen_is_judged_as_a_reader_sees_it() {
    let cluster = Cluster::start_cql(3).await;
    let mut cql = bank(&cluster).await;
    for statement in PEOPLE {
        cql.run(statement).await;
    }
    // One column, in several writes by several coordinators.
    let mut other = Cql::connect(cluster.native(1), Version::V4, None).await;
    cql.run("INSERT INTO bank.people (k, tags, visits, old) VALUES (1, {'b'}, [2], [7, 8])").await;
    other
        .run("UPDATE bank.people SET tags = tags + {'a'}, visits = [1] + visits WHERE k = 1")
        .await;
    other.run("UPDATE bank.people SET debts['ann'] = 5, calls.prefix = 49 WHERE k = 1").await;
    for (condition, holds) in [
        ("tags = {'a', 'b'} AND visits = [1, 2] AND debts = {'ann': 5}", true),
        ("tags IN ({'a'}, null)", false),
        ("visits > [1] AND visits < [1, 3] AND visits IN ([], [1, 2])", true),
        ("visits[1] = 2 AND visits[2] = null AND debts['ann'] IN (4, 5)", true),
        ("debts['ann'] > 5", false),
        ("debts['bob'] != null", false),
        ("calls = {prefix: 49} AND calls.prefix > 48 AND calls.number = null", true),
        ("calls.number IN ('7', '8')", false),
        ("old[1] = 8 AND old > [7]", true),
    ] {
        let update = format!("UPDATE bank.people SET v = 1 WHERE k = 1 IF {condition}");
        let (_, found) = answer(&mut cql, &update).await;
        assert_eq!(found[0][0] == yes(), holds, "{condition}");
    }
    // What was found instead is shown whole, with the column's own type.
    let refused = cql.run("UPDATE bank.people SET v = 2 WHERE k = 1 IF debts['ann'] = 6").await;
    assert_eq!(types(&refused), ["boolean", "frozen<map<text, int>>"]);
    let debts = collection::encode_map(&CqlType::Text, vec![(b"ann", 5_i32.to_be_bytes())]);
    assert_eq!(rows(refused).rows, [[no(), Some(debts.unwrap())]]);
    let refused = cql.run("UPDATE bank.people SET v = 2 WHERE k = 1 IF calls.prefix < 0").await;
    assert_eq!(types(&refused), ["boolean", "frozen<phone>"]);

    // Bound, and the set in an order of the client's own.
    let swap = cql
        .prepare(
            "UPDATE bank.people SET visits[?] = ? WHERE k = ? IF tags = ? AND visits[?] = ? AND \
             debts[?] IN ?",
        )
        .await;
    let tags = collection::encode_list(&["b", "a"]).unwrap();
    let sums = collection::encode_list(&[4_i32, 5].map(i32::to_be_bytes)).unwrap();
    let [zero, one, nine] = [0_i32, 1, 9].map(i32::to_be_bytes);
    let values: [&[u8]; 8] = [&zero, &nine, &one, &tags, &zero, &one, b"ann", &sums];
    assert_eq!(rows(cql.execute(&swap, bound(&values)).await).rows, [[yes()]]);
    // It was swapped: who comes second finds it so.
    let found = rows(cql.execute(&swap, bound(&values)).await).rows;
    assert_eq!((found.len(), &found[0][0]), (1, &no()));
    let visits = collection::encode_list(&[9_i32, 2].map(i32::to_be_bytes)).unwrap();
    assert_eq!(other.rows("SELECT visits FROM bank.people WHERE k = 1").await, [[Some(visits)]]);
    // Without elements it is null, and empty.
    let clear = "UPDATE bank.people SET visits = [] WHERE k = 1 IF visits = [9, 2]";
    assert_eq!(answer(&mut cql, clear).await.1, [[yes()]]);
    let first = "UPDATE bank.people SET visits = [3] WHERE k = 1 IF visits = null AND visits < [0]";
    assert_eq!(answer(&mut other, first).await.1, [[yes()]]);
    assert_eq!(answer(&mut cql, first).await.1.len(), 1);
    let sentence = cql.refused("UPDATE bank.people SET v = 1 WHERE k = 1 IF tags['a'] = 'a'").await;
    assert_eq!(sentence.kind, ErrorKind::Invalid);
    assert_eq!(sentence.message, "Invalid element access syntax for set column tags");
}
