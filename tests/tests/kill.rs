//! `kill -9` loses nothing that was acknowledged at QUORUM.
//!
//! What the process wrote is in the system's page cache and survives the process; what a power loss takes is the
//! simulation's subject, because no test can pull a machine's plug.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use bytes::Bytes;
use helenus_client::{Level, NodeId, Routing};
use helenus_tests::load::{Ledger, Load, read_back};
use helenus_tests::{Cluster, local_keys, until};
use std::collections::BTreeMap;

/// Acknowledged before, between and after the cuts. Enough for several log writes, few enough for a slow machine.
const WRITES: usize = 400;
const WRITERS: usize = 8;
const ROUNDS: usize = 3;

fn missing<'a>(ledger: &'a Ledger, held: &BTreeMap<Bytes, Bytes>) -> Vec<&'a Bytes> {
    let lacks = |(key, (value, _)): &(&Bytes, &(Bytes, _))| held.get(*key) != Some(value);
    ledger.iter().filter(lacks).map(|(key, _)| key).collect()
}

fn confirmed_by(replica: NodeId, ledger: Ledger) -> Ledger {
    ledger.into_iter().filter(|(_, (_, confirmed))| confirmed.contains(&replica)).collect()
}

#[tokio::test]
async fn a_replica_killed_under_load_keeps_what_it_acknowledged_and_gets_what_it_missed() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(3).await;
    let client = cluster.client().await;
    // The victim is no coordinator here: what it missed is owed by nodes that live on.
    let coordinators = [cluster.rpc(0), cluster.rpc(1)].map(Routing::Pinned);
    let (victim, victim_rpc) = (2, cluster.rpc(2));
    let victim_id = client.topology().host(victim_rpc).unwrap().node;
    let mut all = Ledger::new();
    for round in 0..ROUNDS {
        let load = Load::start(&client, &format!("round{round}"), WRITERS, &coordinators);
        load.more(WRITES).await;
        let confirmed = confirmed_by(victim_id, load.so_far());
        cluster.kill(victim).await;
        load.more(WRITES).await;
        for debtor in [0, 1] {
            cluster.admin(debtor).pause_handoff().await.unwrap();
        }
        let by_then = load.so_far();
        cluster.start_missing().await;
        // Hints are held back and nothing was read, so what the victim has now it has from its own log.
        let own = local_keys(victim_rpc).await;
        assert!(!confirmed.is_empty(), "the victim took part");
        assert_eq!(missing(&confirmed, &own), [""; 0]);
        assert!(missing(&by_then, &own).len() > WRITES / 2, "the victim was down for a while");
        for debtor in [0, 1] {
            cluster.admin(debtor).resume_handoff().await.unwrap();
        }
        load.more(WRITES).await;
        all.extend(load.stop().await);
    }
    for node in [0, 1, 2].map(|at| cluster.rpc(at)) {
        let latest = std::cell::RefCell::new(Vec::new());
        let holds_all = async || {
            let held = local_keys(node).await;
            *latest.borrow_mut() = missing(&all, &held).into_iter().cloned().collect();
            latest.borrow().is_empty().then_some(())
        };
        let lacks = || format!("{node} holds all of {}, lacks {:?}", all.len(), latest.borrow());
        until(lacks, holds_all).await;
    }
    for debtor in [0, 1] {
        let hints = cluster.admin(debtor).list_pending_hints().await.unwrap().outcomes.unwrap();
        assert!(hints.delivered > 0 && hints.lost == 0, "{hints:?}");
    }
    read_back(&client, &all, Level::Quorum).await;
}

#[tokio::test]
async fn the_coordinator_in_use_is_killed_and_no_acknowledged_write_is_lost() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(3).await;
    let client = cluster.client().await;
    let mut all = Ledger::new();
    for victim in 0..ROUNDS {
        // Half of the writers lose their coordinator; the other half may turn to whoever is there.
        let routings = [Routing::Pinned(cluster.rpc(victim)), Routing::TokenAware];
        let load = Load::start(&client, &format!("round{victim}"), WRITERS, &routings);
        load.more(WRITES).await;
        cluster.kill(victim).await;
        load.more(WRITES).await;
        cluster.start_missing().await;
        load.more(WRITES).await;
        all.extend(load.stop().await);
        read_back(&client, &all, Level::Quorum).await;
    }
}

#[tokio::test]
async fn all_nodes_killed_at_once_come_back_with_all_that_was_acknowledged() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(3).await;
    let mut all = Ledger::new();
    for round in 0..ROUNDS {
        let client = cluster.client().await;
        let load = Load::start(&client, &format!("round{round}"), WRITERS, &[Routing::TokenAware]);
        load.more(WRITES).await;
        cluster.kill_all().await;
        // Nobody is there to acknowledge anything any more.
        all.extend(load.stop().await);
        cluster.start_missing().await;
        // A new client: the old one still holds off from dialling nodes that were all gone a moment ago.
        read_back(&cluster.client().await, &all, Level::Quorum).await;
    }
    assert!(all.len() >= ROUNDS * WRITES);
}

#[tokio::test]
async fn a_coordinator_that_is_stopped_leaves_no_debt_unwritten() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(3).await;
    // It hangs: the others have sent it the writes, and do not know yet that it will not answer.
    let hung = cluster.take(2);
    hung.signal("STOP").await;
    let client = cluster.client().await;
    let load = Load::start(&client, "hung", WRITERS, &[Routing::Pinned(cluster.rpc(0))]);
    load.more(WRITES / 4).await;
    let ledger = load.stop().await;
    // Before `write_request_timeout` has made the silence a hint.
    assert_eq!(cluster.take(0).interrupt().await.code(), Some(0));
    hung.kill().await;
    cluster.start_missing().await;
    let late = cluster.rpc(2);
    let holds_all = async || missing(&ledger, &local_keys(late).await).is_empty().then_some(());
    until(|| format!("{late} gets all {} by hints alone", ledger.len()), holds_all).await;
}
