//! Scans: every live partition once, page by page, at a level.

use crate::cluster::{A, B, C, Cluster, Page, delete, put};
use helenus_core::Level::{self, All, One, Quorum};
use helenus_node::seams::probe::ApplyPath;
use helenus_proto::v1;
use helenus_proto::v1::error::Kind;
use std::collections::BTreeMap;

/// All pages of a scan, each asked of another coordinator.
async fn pages(cluster: &Cluster, coordinators: &[usize], level: Level, limit: u32) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut page = bytes::Bytes::new();
    for at in coordinators.iter().cycle() {
        let scan = v1::Scan { limit, page, node_local: false };
        let next = cluster.page(*at, level, scan).await.unwrap();
        page = next.next.clone();
        pages.push(next);
        if page.is_empty() {
            break;
        }
        assert!(pages.len() < 1000, "it never ends");
    }
    pages
}

fn entries(pages: &[Page]) -> Vec<(String, String)> {
    pages.iter().flat_map(|page| page.entries.clone()).collect()
}

async fn fill(cluster: &Cluster, keys: usize) -> BTreeMap<String, String> {
    let mut model = BTreeMap::new();
    for n in 0..keys {
        let (key, value) = (format!("s{n}"), format!("v{n}"));
        cluster.write(n % 3, put(All, &key, &value)).await.unwrap();
        model.insert(key, value);
    }
    model
}

#[tokio::test(start_paused = true)]
async fn every_partition_comes_once_and_in_token_order_whatever_the_page_and_the_coordinator() {
    // Ranges of many virtual nodes, and two copies, so that no node has everything.
    let mut cluster = Cluster::start(&["dc1"; 4], |config| {
        config.initial_token = Vec::new();
        config.num_tokens = 8;
    })
    .await;
    cluster.create_keyspace(A, "ks", 2, &[]).await;
    cluster.create_table(A, "kv", &[]).await;
    cluster.table = "kv".to_owned();
    let model = fill(&cluster, 60).await;
    for (limit, coordinators) in
        [(1, &[A, B, C, 3][..]), (7, &[C, A]), (59, &[B]), (60, &[3]), (1000, &[A])]
    {
        let found = entries(&pages(&cluster, coordinators, Quorum, limit).await);
        let mut in_order = found.clone();
        in_order.sort_by_key(|(key, _)| (helenus_core::token::of(key.as_bytes()), key.clone()));
        assert_eq!(found, in_order, "pages of {limit}");
        assert_eq!(found.len(), model.len(), "pages of {limit}");
        assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), model);
    }
    let owned = cluster.holdings(B).await;
    assert!(owned.len() < model.len() && owned.iter().all(|(k, v)| model.get(k) == Some(v)));
    // Keys of one token range are on exactly two nodes.
    let mut copies = 0;
    for node in 0..4 {
        copies += cluster.holdings(node).await.len();
    }
    assert_eq!(copies, 2 * model.len());
}

#[tokio::test(start_paused = true)]
async fn l21_a_short_page_full_of_tombstones_hides_nothing_that_is_alive() {
    let cluster = Cluster::three().await;
    let model = fill(&cluster, 40).await;
    let mut alive = model.clone();
    // Deletes that reach two replicas each, in turn: no replica knows of all of them.
    for (nth, key) in model.keys().enumerate().filter(|(nth, _)| nth % 4 != 0) {
        let missing = nth % 3;
        let at = (missing + 1) % 3;
        cluster.arm(at, vec![cluster.drops("MUTATION", missing)]).await;
        cluster.write(at, delete(Quorum, key)).await.unwrap();
        cluster.disarm(at).await;
        alive.remove(key);
    }
    for limit in [1, 2, 3, 100] {
        let found = entries(&pages(&cluster, &[A, B, C], Quorum, limit).await);
        assert_eq!(found.len(), alive.len(), "pages of {limit}");
        assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), alive);
    }
}

#[tokio::test(start_paused = true)]
async fn l21_what_lies_behind_the_shortest_page_is_left_for_the_next_round() {
    let cluster = Cluster::three().await;
    let mut keys: Vec<String> = (0..4).map(|nth| cluster.key(A, nth)).collect();
    keys.sort_by_key(|key| helenus_core::token::of(key.as_bytes()));
    cluster.write(A, put(All, &keys[2], "2")).await.unwrap();
    cluster.write(A, put(All, &keys[3], "3")).await.unwrap();
    // B knows nothing of the first two, and not that the third is gone. A page of two ends at the second for A and at
    // the fourth for B.
    cluster.arm(A, vec![cluster.drops("MUTATION", B)]).await;
    for key in &keys[..3] {
        cluster.write(A, delete(Quorum, key)).await.unwrap();
    }
    let found = entries(&pages(&cluster, &[A], Quorum, 2).await);
    assert_eq!(found, [(keys[3].clone(), "3".to_owned())]);
    assert_eq!(cluster.holdings(B).await.keys().collect::<Vec<_>>(), [&keys[3]], "and repaired");
}

#[tokio::test(start_paused = true)]
async fn a_scan_at_quorum_repairs_who_is_behind_and_one_without_read_repair_does_not() {
    for (read_repair, repaired) in [("BLOCKING", true), ("NONE", false)] {
        let mut cluster = Cluster::three().await;
        cluster.create_table(A, "t", &[("read_repair", read_repair)]).await;
        cluster.table = "t".to_owned();
        let key = cluster.key(B, 0);
        cluster.arm(A, vec![cluster.drops("MUTATION", B)]).await;
        cluster.write(A, put(Quorum, &key, "1")).await.unwrap();
        let whole = || v1::Scan { limit: 100, ..v1::Scan::default() };
        let page = cluster.page(B, Quorum, whole()).await.unwrap();
        assert_eq!(page.entries, [(key.clone(), "1".to_owned())]);
        assert_eq!(cluster.applied(B, &key, ApplyPath::ReadRepair), usize::from(repaired));
        assert_eq!(cluster.held(B, &key).await.is_some(), repaired);
    }
}

#[tokio::test(start_paused = true)]
async fn a_scan_whose_repair_is_lost_times_out_and_returns_nothing() {
    let cluster = Cluster::three().await;
    let key = cluster.key(B, 0);
    cluster.arm(B, vec![cluster.drops("MUTATION", C), cluster.drops("MUTATION", A)]).await;
    cluster.write(B, put(One, &key, "1")).await.unwrap();
    cluster.arm(B, vec![cluster.drops("READ_REPAIR", A), cluster.drops("READ_REPAIR", C)]).await;
    let scan = v1::Scan { limit: 10, ..v1::Scan::default() };
    let timeout = cluster.page(B, Quorum, scan).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for, timeout.write), (1, 2, false));
}

#[tokio::test(start_paused = true)]
async fn a_scan_refuses_as_a_read_does() {
    let mut cluster = Cluster::three().await;
    fill(&cluster, 10).await;
    let whole = || v1::Scan { limit: 100, ..v1::Scan::default() };
    cluster.page(A, Level::Any, whole()).await.unwrap_err().invalid();
    let marker = v1::Scan { page: "abc".into(), ..whole() };
    let refused = cluster.page(A, Quorum, marker).await.unwrap_err().invalid();
    assert!(refused.contains("page marker"), "{refused}");
    // One that cannot be reached is replaced; with two of three gone nobody is left.
    cluster.cut(A, B);
    cluster
        .until("the link is down", async || {
            let stats =
                cluster.admin(A).tp_stats(v1::TpStatsRequest {}).await.unwrap().into_inner();
            stats.links.iter().any(|link| !link.connected && link.peer == cluster.id(B).to_string())
        })
        .await;
    assert_eq!(cluster.page(A, Quorum, whole()).await.unwrap().entries.len(), 10);
    let failure = cluster.page(A, All, whole()).await.unwrap_err().failure();
    assert_eq!((failure.received, failure.block_for), (2, 3));
    cluster.arm(A, vec![cluster.drops("RANGE", C)]).await;
    let timeout = cluster.page(A, Quorum, whole()).await.unwrap_err().timeout();
    assert_eq!((timeout.received, timeout.block_for, timeout.data_present), (1, 2, true));
    cluster.kill(B).await;
    cluster.kill(C).await;
    cluster.sees_alive(A, 1).await;
    let refused = cluster.page(A, Quorum, whole()).await.unwrap_err();
    assert!(matches!(refused.kind, Kind::Unavailable(_)), "{refused:?}");
    let local = v1::Scan { node_local: true, ..whole() };
    assert_eq!(cluster.page(A, Quorum, local).await.unwrap().entries.len(), 10, "of its own");
}

#[tokio::test(start_paused = true)]
async fn pages_are_bounded_in_bytes_too() {
    let cluster = Cluster::three().await;
    let large = "x".repeat(1024 * 1024);
    for n in 0..12 {
        cluster.write(A, put(Quorum, &format!("large{n}"), &large)).await.unwrap();
    }
    let pages = pages(&cluster, &[A, B], Quorum, 100).await;
    assert_eq!(entries(&pages).len(), 12);
    assert!(pages.iter().all(|page| page.entries.len() <= 5), "4 MiB, and what goes over it");
}
