//! `system_views`: what a node does, seen through CQL; and what it refuses when there is no room.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use bytes::Bytes;
use helenus_client::{Level, Options};
use helenus_proto::cql::{Columns, ErrorKind, Response, Version};
use helenus_tests::cql::{Cql, bound, page, rows};
use helenus_tests::{Cluster, KEYSPACE, TABLE, until};

type Row = Vec<Option<Bytes>>;

const VIEWS: [&str; 7] = [
    "clients",
    "hint_accounts",
    "hint_ledger",
    "pending_hints",
    "settings",
    "sstable_tasks",
    "thread_pools",
];

fn text(value: &Option<Bytes>) -> &str {
    std::str::from_utf8(value.as_ref().unwrap()).unwrap()
}

fn bigint(value: &Option<Bytes>) -> i64 {
    i64::from_be_bytes(value.as_ref().unwrap()[..].try_into().unwrap())
}

fn int(value: &Option<Bytes>) -> i32 {
    i32::from_be_bytes(value.as_ref().unwrap()[..].try_into().unwrap())
}

#[tokio::test]
async fn clients_settings_and_requests_are_rows() {
    let cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    let _other = Cql::connect(cluster.native(0), Version::V4, None).await;
    let _silent = Cql::dial(cluster.native(0), Version::V4).await;
    let clients = "SELECT connection_stage, protocol_version, request_count, client_options['CQL_VERSION'] \
                   FROM system_views.clients";
    let mut seen: Vec<Row> = until(
        || "all three connections are there".to_owned(),
        async || Some(cql.rows(clients).await).filter(|rows| rows.len() == 3),
    )
    .await;
    seen.sort_by_key(|row| row[1].clone());
    assert_eq!((text(&seen[0][0]), &seen[0][1]), ("established", &None));
    assert_eq!((text(&seen[1][0]), int(&seen[1][1]), bigint(&seen[1][2])), ("ready", 4, 1));
    assert_eq!((text(&seen[2][0]), int(&seen[2][1])), ("ready", 5));
    assert!(bigint(&seen[2][2]) >= 2);
    assert_eq!(text(&seen[2][3]), "3.0.0");

    let setting =
        "SELECT value FROM system_views.settings WHERE name = 'batch_size_fail_threshold'";
    assert_eq!(text(&cql.rows(setting).await[0][0]), "50KiB");

    cluster.create(1).await;
    let insert = format!("INSERT INTO {KEYSPACE}.{TABLE} (key, value) VALUES (0x01, 0x02)");
    cql.run(&insert).await;
    let pool = cql.prepare("SELECT * FROM system_views.thread_pools WHERE name = ?").await;
    let Columns::Described(columns) = &pool.result.columns else { panic!("{pool:?}") };
    let columns: Vec<&str> = columns.iter().map(|it| it.name.as_str()).collect();
    let of_cassandra = [
        "name",
        "active_tasks",
        "active_tasks_limit",
        "blocked_tasks",
        "blocked_tasks_all_time",
        "completed_tasks",
        "pending_tasks",
    ];
    assert_eq!(columns, of_cassandra);
    let one = rows(cql.execute(&pool, bound(&[b"client-write"])).await).rows;
    assert_eq!((one.len(), bigint(&one[0][5])), (1, 1));
    assert!(rows(cql.execute(&pool, bound(&[b"nobody"])).await).rows.is_empty());
    assert!(cql.rows("SELECT * FROM system_views.sstable_tasks").await.is_empty());
}

#[tokio::test]
async fn the_views_are_listed_described_paged_and_not_written() {
    let cluster = Cluster::start_cql(1).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V4, None).await;
    let of_views = "WHERE keyspace_name = 'system_views'";
    let listed =
        cql.rows(&format!("SELECT table_name FROM system_virtual_schema.tables {of_views}")).await;
    assert_eq!(listed.iter().map(|row| text(&row[0])).collect::<Vec<_>>(), VIEWS);
    let keyspaces = cql.rows("SELECT keyspace_name FROM system_virtual_schema.keyspaces").await;
    assert!(keyspaces.iter().any(|row| text(&row[0]) == "system_views"));
    let ordinary = format!("SELECT table_name FROM system_schema.tables {of_views}");
    assert!(cql.rows(&ordinary).await.is_empty());
    for view in VIEWS {
        let described = cql.rows(&format!("DESCRIBE TABLE system_views.{view}")).await;
        let statement = text(&described[0][3]);
        assert!(statement.contains(&format!("TABLE system_views.{view} (")), "{statement}");
    }

    let settings = "SELECT name FROM system_views.settings";
    let all = cql.rows(settings).await;
    let (mut paged, mut state) = (Vec::new(), None);
    loop {
        let some = rows(cql.query(settings, page(7, state)).await);
        assert!(some.rows.len() <= 7);
        paged.extend(some.rows);
        state = some.metadata.paging_state;
        if state.is_none() {
            break;
        }
    }
    assert!(all.len() > 50, "{} settings", all.len());
    assert_eq!(paged, all);
    for statement in [
        "INSERT INTO system_views.settings (name, value) VALUES ('a', 'b')",
        "TRUNCATE system_views.clients",
        "DROP TABLE system_views.hint_ledger",
    ] {
        assert_eq!(cql.refused(statement).await.kind, ErrorKind::Invalid, "{statement}");
    }
}

#[tokio::test]
async fn hints_that_are_owed_and_hints_that_are_lost_are_rows() {
    let mut cluster = Cluster::start_cql_with(2, "[hints]\nmax_hints_size = \"2KiB\"\n").await;
    cluster.create(2).await;
    let client = cluster.client().await;
    let mut cql = Cql::connect(cluster.native(0), Version::V4, None).await;
    assert!(cql.rows("SELECT * FROM system_views.pending_hints").await.is_empty());
    assert!(cql.rows("SELECT * FROM system_views.hint_ledger").await.is_empty());
    cluster.kill(1).await;
    cluster.all_see(1).await;
    let table = client.table(KEYSPACE, TABLE);
    let options = Options::new().level(Level::One);
    let mut lost = 0;
    for nth in 0..50 {
        let put = table.put_with(format!("key{nth}"), "x".repeat(200), &options).await.unwrap();
        lost += i64::try_from(put.answer.warnings.len()).unwrap();
    }
    assert!((1..50).contains(&lost), "some fitted: {lost}");
    let pending = "SELECT hints, status, rack, dc, host_id FROM system_views.pending_hints";
    let pending = cql.rows(pending).await;
    assert_eq!(pending.len(), 1);
    assert_eq!(bigint(&pending[0][0]), 50 - lost);
    let said: Vec<&str> = pending[0][1..4].iter().map(text).collect();
    assert_eq!(said, ["DOWN", "rack2", "datacenter1"]);
    let accounts = "SELECT created, refused, pending, delivered + expired + evicted + lost, host_id \
                    FROM system_views.hint_accounts";
    let accounts = cql.rows(accounts).await;
    let figures: Vec<i64> = accounts[0][..4].iter().map(bigint).collect();
    assert_eq!(figures, [50, lost, 50 - lost, 0]);
    assert_eq!(accounts[0][4], pending[0][4]);
    let ledger = format!(
        "SELECT sum(hints) FROM system_views.hint_ledger WHERE keyspace_name = '{KEYSPACE}' \
         AND table_name = '{TABLE}' ALLOW FILTERING"
    );
    assert_eq!(bigint(&cql.rows(&ledger).await[0][0]), lost);
}

#[tokio::test]
async fn a_request_without_room_is_refused_while_it_is_sent_and_counted() {
    let little = "native_transport_max_request_data_in_flight = \"64KiB\"\n";
    let cluster = Cluster::start_cql_with(1, little).await;
    let mut holds = Cql::connect(cluster.native(0), Version::V4, None).await;
    let mut cql = Cql::connect(cluster.native(0), Version::V4, None).await;
    // QUERY on stream 7 with a body of 8 MiB, of which a little is sent.
    let part = |bytes: usize| {
        let mut part = vec![4, 0, 0, 7, 7, 0, 0x80, 0, 0];
        part.resize(part.len() + bytes, b' ');
        part
    };
    holds.send_raw(&part(60 * 1024)).await;
    let sees = "SELECT address FROM system_views.clients";
    // Its own request is small, and finds room until the other's part is there.
    until(
        || "the part has arrived".to_owned(),
        async || {
            let padded = format!("{sees} {}", " ".repeat(8 * 1024));
            let response = cql.query(&padded, Default::default());
            matches!(response.await, Response::Error(error) if error.kind == ErrorKind::Overloaded)
                .then_some(())
        },
    )
    .await;
    cql.send_raw(&part(8 * 1024)).await;
    let refused = cql.next().await.unwrap();
    assert_eq!(refused.header.stream, 7);
    assert!(cluster.spec(0).metric("helenus_cql_requests_refused_total").await >= 2.0);
    // Who holds the room goes, and it is there again.
    drop(holds);
    cql.send_raw(&vec![b' '; (8 << 20) - 8 * 1024]).await;
    until(
        || "there is room again".to_owned(),
        async || {
            let response = cql.query(sees, Default::default());
            matches!(response.await, Response::Rows(_)).then_some(())
        },
    )
    .await;
}
