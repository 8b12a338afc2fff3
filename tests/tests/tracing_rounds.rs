//! Traces of what is more than a write to replicas: rounds of Paxos, logged batches, counters. What a learner reads in them
//! has to be what happened.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use helenus_client::v1::{FilterAction, FilterRule};
use helenus_core::Level;
use helenus_proto::cql::{Consistency, Parameters, Request, Response, SerialConsistency, Version};
use helenus_tests::cql::{Cql, rows, text};
use helenus_tests::{Cluster, until};
use std::net::{IpAddr, SocketAddr};

const EXTRA: &str = "fault_injection = true\n";
const SCHEMA: [&str; 4] = [
    "CREATE KEYSPACE store WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE store.orders (id text PRIMARY KEY, state text)",
    "CREATE KEYSPACE single WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    "CREATE TABLE single.hits (id int PRIMARY KEY, n counter)",
];

async fn cluster() -> (Cluster, Cql) {
    let cluster = Cluster::start_cql_with(3, EXTRA).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    for statement in SCHEMA {
        cql.run(statement).await;
    }
    (cluster, cql)
}

/// The events of a trace in the order in which they are told: who says what.
struct Told(Vec<(IpAddr, String)>);

impl Told {
    /// Asks a node for them until the request is complete.
    async fn of(node: SocketAddr, id: Option<u128>) -> Told {
        let hex = format!("{:032x}", id.expect("it was to be traced"));
        let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let mut cql = Cql::connect(node, Version::V4, None).await;
        let of = format!("WHERE session_id = {id}");
        let session = format!("SELECT duration FROM system_traces.sessions {of}");
        until(
            || format!("the session {id}"),
            async || cql.rows(&session).await.into_iter().find(|row| row[0].is_some()),
        )
        .await;
        let events = format!("SELECT source, activity FROM system_traces.events {of}");
        let told = cql.rows(&events).await.into_iter().map(|row| {
            let source: [u8; 4] = row[0].as_ref().unwrap()[..].try_into().unwrap();
            (IpAddr::from(source), String::from_utf8(row[1].clone().unwrap().to_vec()).unwrap())
        });
        Told(told.collect())
    }

    /// That a node says these, one after the other; others may say something in between.
    fn in_order(&self, source: SocketAddr, lines: &[&[&str]]) {
        let mut left = self.0.iter();
        for parts in lines {
            let says = |(node, activity): &(IpAddr, String)| {
                *node == source.ip() && parts.iter().all(|part| activity.contains(part))
            };
            let found = left.any(says);
            assert!(found, "{source} does not say {parts:?}, or not there: {:#?}", self.0);
        }
    }

    fn says(&self, what: &str) -> bool {
        self.0.iter().any(|(_, activity)| activity.contains(what))
    }
}

async fn traced_serial(cql: &mut Cql, statement: &str) -> (Response, Option<u128>) {
    let consistency = Consistency::Serial(SerialConsistency::Serial);
    let parameters = Parameters { consistency, ..Parameters::default() };
    let reply = cql.ask_traced(Request::Query { query: statement.to_owned(), parameters }).await;
    (reply.response, reply.extras.tracing_id)
}

#[tokio::test]
async fn a_conditional_write_tells_who_promised_who_accepted_and_what_was_decided() {
    let (cluster, mut cql) = cluster().await;
    let [me, ..] = [0, 1, 2].map(|nth| cluster.spec(nth).listen);
    let name = me.to_string();
    let insert = "INSERT INTO store.orders (id, state) VALUES ('a', 'new') IF NOT EXISTS";
    let (_, id) = cql.traced(insert, Level::Quorum).await;
    let write = Told::of(cluster.native(1), id).await;
    write.in_order(
        me,
        &[
            &["Determining replicas for conditional write", "SERIAL needs 2"],
            &["Preparing ballot", &name],
            &["Sending PAXOS_PREPARE message to"],
            &["Received promise from", "it has accepted nothing"],
            &["2 replicas have promised ballot", "nothing older is left to finish"],
            &["Determining replicas for read", "QUORUM needs 2"],
            &["The condition holds of what was read: nothing"],
            &["Sending PAXOS_PROPOSE message to"],
            &["Received acceptance from"],
            &["is decided: 2 replicas have accepted it"],
            &["Sending PAXOS_COMMIT message to"],
            &["Merged what was decided into the memtable"],
            &["QUORUM is reached: 2 of 2"],
        ],
    );
    // Another node finds the condition false, and has it decided that nothing is written.
    let mut other = Cql::connect(cluster.native(1), Version::V4, None).await;
    let there = cluster.spec(1).listen;
    let (_, id) = other.traced(insert, Level::Quorum).await;
    let refused = Told::of(cluster.native(0), id).await;
    refused.in_order(
        there,
        &[
            &["Received promise from", "committed ballot", &format!("of {name} last")],
            &["The condition does not hold of what was read: 1 row, 1 cell"],
            &["is decided: 2 replicas have accepted that nothing is written"],
        ],
    );
    assert!(!refused.says("PAXOS_COMMIT message"));
}

#[tokio::test]
async fn a_round_that_was_left_is_named_by_whoever_finishes_it() {
    let (mut cluster, mut cql) = cluster().await;
    let [left, me, _] = [0, 1, 2].map(|nth| cluster.spec(nth).listen);
    // The others accept, and never hear that it was decided.
    let verb = "PAXOS_COMMIT".to_owned();
    let rule = FilterRule { verb, action: FilterAction::Drop.into(), ..FilterRule::default() };
    cluster.admin(0).arm_filter(vec![rule]).await.unwrap();
    let insert = "INSERT INTO store.orders (id, state) VALUES ('a', 'new') IF NOT EXISTS";
    cql.traced(insert, Level::One).await;
    cluster.kill(0).await;
    cluster.all_see(2).await;
    let mut other = Cql::connect(cluster.native(1), Version::V5, None).await;
    let select = "SELECT state FROM store.orders WHERE id = 'a'";
    let (answer, id) = traced_serial(&mut other, select).await;
    assert_eq!(rows(answer).rows, [[text("new")]]);
    let read = Told::of(cluster.native(2), id).await;
    let of_left = format!("of {left}");
    read.in_order(
        me,
        &[
            &["Determining replicas for serial read", "down", &left.to_string(), "SERIAL needs 2"],
            &["Received promise from", "accepted ballot", &of_left],
            &["finishing ballot", &of_left, "which was accepted and may have been decided"],
            &["is decided: 2 replicas have accepted it"],
            &["Sending PAXOS_COMMIT message to"],
            &["nothing older is left to finish"],
            &["is decided: 2 replicas have accepted that nothing is written"],
        ],
    );
}

#[tokio::test]
async fn a_logged_batch_tells_who_keeps_it() {
    let (cluster, mut cql) = cluster().await;
    let [me, first, second] = [0, 1, 2].map(|nth| cluster.spec(nth).listen.to_string());
    let batch = "BEGIN BATCH INSERT INTO store.orders (id, state) VALUES ('a', 'new'); \
                 INSERT INTO store.orders (id, state) VALUES ('b', 'new'); APPLY BATCH";
    let (answer, id) = cql.traced(batch, Level::Quorum).await;
    assert_eq!(answer, Response::Void);
    let told = Told::of(cluster.native(1), id).await;
    let by: SocketAddr = me.parse().unwrap();
    for keeper in [&first, &second] {
        told.in_order(
            by,
            &[
                &["Logging batch", "of 2 partitions: kept by", keeper],
                &["Sending BATCH_STORE message to", keeper],
                &["Received acknowledgement from", keeper],
                &["The batch is logged: its writes begin"],
                &["Sending MUTATION message to"],
                &["QUORUM is reached: 2 of 2"],
                &["All of the batch is written: its keepers may forget it"],
            ],
        );
    }
}

#[tokio::test]
async fn a_write_of_counters_tells_who_leads_it() {
    let (cluster, mut cql) = cluster().await;
    let me = cluster.spec(0).listen;
    let (mut here, mut elsewhere) = (0, 0);
    // One copy of each: of so many some are not on this node, or the chance is 1 in 3^32.
    for key in 0..32 {
        let count = format!("UPDATE single.hits SET n = n + 1 WHERE id = {key}");
        let (answer, id) = cql.traced(&count, Level::One).await;
        assert_eq!(answer, Response::Void);
        let told = Told::of(cluster.native(0), id).await;
        if told.says("Counting here: this node is a replica, and leads") {
            assert!(!told.says("COUNTER_MUTATION"));
            here += 1;
        } else {
            let leader = [1, 2].map(|nth| cluster.spec(nth).listen.to_string());
            let leader =
                leader.into_iter().find(|leader| told.says(&format!("Asking {leader} to lead")));
            let leader = leader.unwrap_or_else(|| panic!("nobody leads: {:#?}", told.0));
            told.in_order(
                me,
                &[
                    &["Determining replicas for mutation", &leader, "ONE needs 1"],
                    &["Asking", &leader, "to lead: a replica has to count"],
                    &["Sending COUNTER_MUTATION message to", &leader],
                    &["Received answer from", &leader, "counted, and acknowledged by", &leader],
                ],
            );
            elsewhere += 1;
        }
        if here > 0 && elsewhere > 0 {
            return;
        }
    }
    panic!("{here} were led here, and {elsewhere} elsewhere");
}
