//! A partition of many rows, over real sockets to real processes: what a page holds is what it costs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where"
)]

use bytes::Bytes;
use helenus_client::{Level, TableFilter};
use helenus_proto::cql::Version;
use helenus_tests::Cluster;
use helenus_tests::cql::{Cql, at, page, rows};

const ROWS: i32 = 100_000;
/// Rows that a node does not know to be deleted.
const MISSED: i32 = 500;
const KEYSPACE: &str = "CREATE KEYSPACE wide WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 3}";
const EVENTS: &str =
    "CREATE TABLE wide.events (device text, nth int, note text, PRIMARY KEY (device, nth))";
const BLOCKS: &str = "helenus_table_blocks_read";
const READ: &str = "helenus_replica_rows_read";

async fn metric(cluster: &Cluster, name: &str) -> f64 {
    let mut sum = 0.0;
    for nth in 0..cluster.len() {
        sum += cluster.spec(nth).metric(name).await;
    }
    sum
}

async fn nths(cql: &mut Cql, statement: &str) -> Vec<i32> {
    cql.rows(statement).await.iter().map(|row| nth(row[0].as_ref())).collect()
}

fn nth(value: Option<&Bytes>) -> i32 {
    i32::from_be_bytes(value.unwrap().as_ref().try_into().unwrap())
}

/// Every page by another node, as after the failure of the one before. Gives what was found, and in how many pages.
async fn paged(cluster: &Cluster, statement: &str, size: u32) -> (Vec<i32>, usize) {
    let (mut state, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let mut cql = Cql::connect(cluster.native(pages % 3), Version::V5, None).await;
        let next = rows(cql.query(statement, page(size, state)).await);
        found.extend(next.rows.iter().map(|row| nth(row[0].as_ref())));
        pages += 1;
        state = next.metadata.paging_state;
        if state.is_none() {
            return (found, pages);
        }
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "writing so many rows takes long enough to be done once")]
async fn a_wide_partition_is_read_by_the_page_in_both_directions_and_past_rows_that_are_dead_elsewhere()
 {
    let mut cluster = Cluster::start_cql_with(3, "[hints]\nhinted_handoff_enabled = false\n").await;
    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    cql.run(KEYSPACE).await;
    cql.run(EVENTS).await;
    for from in (0..ROWS).step_by(500) {
        let insert = |nth: i32| {
            format!(
                "INSERT INTO wide.events (device, nth, note) VALUES ('d', {nth}, 'note {nth:0>50}');"
            )
        };
        let inserts: String = (from..from + 500).map(insert).collect();
        cql.run(&format!("BEGIN UNLOGGED BATCH {inserts} APPLY BATCH")).await;
    }
    for nth in 0..3 {
        cluster.admin(nth).flush(TableFilter::default()).await.unwrap();
    }
    let all: Vec<i32> = (0..ROWS).collect();
    let backwards: Vec<i32> = all.iter().rev().copied().collect();

    // What is little costs little, wherever in the partition it lies. A row takes 60 to 100 bytes, so a
    // block of 16 KiB holds some 200.
    let before = [metric(&cluster, READ).await, metric(&cluster, BLOCKS).await];
    let first = nths(&mut cql, "SELECT nth FROM wide.events WHERE device = 'd' LIMIT 10").await;
    assert_eq!(first, all[..10]);
    let last = "SELECT nth FROM wide.events WHERE device = 'd' ORDER BY nth DESC LIMIT 10";
    assert_eq!(nths(&mut cql, last).await, backwards[..10]);
    let middle = "SELECT nth FROM wide.events WHERE device = 'd' AND nth >= 50000 LIMIT 10";
    assert_eq!(nths(&mut cql, middle).await, all[50_000..50_010]);
    let few = "SELECT nth FROM wide.events WHERE device = 'd' AND nth IN (7, 70000, 99999)";
    assert_eq!(nths(&mut cql, few).await, [7, 70_000, 99_999]);
    let scanned = nths(&mut cql, "SELECT nth FROM wide.events PER PARTITION LIMIT 3").await;
    assert_eq!(scanned, [0, 1, 2]);
    let [rows_read, blocks] =
        [metric(&cluster, READ).await - before[0], metric(&cluster, BLOCKS).await - before[1]];
    // Two replicas a read, and one row more than is asked for.
    assert!(rows_read <= 2.0 * (3.0 * 11.0 + 3.0 + 4.0), "{rows_read} rows");
    assert!((1.0..=40.0).contains(&blocks), "{blocks} blocks for five small reads");

    // Pages: each row and each block a few times, and not once for each page.
    for (order, expected) in [("", &all), (" ORDER BY nth DESC", &backwards)] {
        let before = [metric(&cluster, READ).await, metric(&cluster, BLOCKS).await];
        let statement = format!("SELECT nth FROM wide.events WHERE device = 'd'{order}");
        let (found, pages) = paged(&cluster, &statement, 2_000).await;
        assert!(found == *expected, "{} rows of {statement}", found.len());
        assert_eq!(pages, 50);
        let [rows_read, blocks] =
            [metric(&cluster, READ).await - before[0], metric(&cluster, BLOCKS).await - before[1]];
        assert!(rows_read <= 2.2 * f64::from(ROWS), "{rows_read} rows in {pages} pages");
        assert!(blocks <= 4_000.0, "{blocks} blocks in {pages} pages");
    }
    let count = cql.rows("SELECT count(*) FROM wide.events WHERE device = 'd'").await;
    assert_eq!(count, [[Some(Bytes::copy_from_slice(&i64::from(ROWS).to_be_bytes()))]]);
    let counted = cql.rows("SELECT count(*) FROM wide.events").await;
    assert_eq!(counted, count);

    // A node misses deletions, and nobody tells it of them.
    cluster.kill(2).await;
    cluster.all_see(2).await;
    let deletes: String = (0..MISSED)
        .map(|nth| format!("DELETE FROM wide.events WHERE device = 'd' AND nth = {nth};"))
        .collect();
    cql.run(&format!("BEGIN UNLOGGED BATCH {deletes} APPLY BATCH")).await;
    let from = ROWS - MISSED;
    cql.run(&format!("DELETE FROM wide.events WHERE device = 'd' AND nth >= {from}")).await;
    cluster.start_missing().await;
    let mut stale = Cql::connect(cluster.native(2), Version::V5, None).await;
    let before = metric(&cluster, READ).await;
    let first = "SELECT nth FROM wide.events WHERE device = 'd' LIMIT 10";
    assert_eq!(nths(&mut stale, first).await, all[500..510], "the right ten");
    assert_eq!(nths(&mut stale, last).await, backwards[500..510]);
    let rows_read = metric(&cluster, READ).await - before;
    assert!(rows_read <= 12_000.0, "{rows_read} rows were read to find twenty");
    // Reading has told it.
    let (found, _) = paged(&cluster, "SELECT nth FROM wide.events WHERE device = 'd'", 3_000).await;
    assert!(found == all[500..99_500], "{} rows", found.len());
    for gone in [0, 1] {
        cluster.kill(gone).await;
    }
    cluster.all_see(1).await;
    let alone = at(Level::One);
    let told = rows(stale.query(first, alone).await).rows;
    assert_eq!(told.iter().map(|row| nth(row[0].as_ref())).collect::<Vec<_>>(), all[500..510]);
}
