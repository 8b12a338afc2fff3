//! Three nodes in one process, over TCP on loopback: the thin line from a client's stream to three disks and back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use helenus_node::config::Config;
use helenus_node::seams::background::ThreadBackground;
use helenus_node::seams::clock::SystemClock;
use helenus_node::seams::disk::StdDisk;
use helenus_node::seams::net::TcpNet;
use helenus_node::seams::probe::Silent;
use helenus_node::seams::rng::Rng;
use helenus_node::{Parts, Ready, StartError};
use helenus_proto::v1;
use helenus_proto::v1::admin_client::AdminClient;
use helenus_proto::v1::kv_client::KvClient;
use helenus_proto::v1::kv_request::Op;
use helenus_proto::v1::kv_response::Outcome;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

struct Running {
    ready: Ready,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), StartError>>,
}

async fn start(dir: &Path, name: u8, seeds: Vec<SocketAddr>) -> Running {
    let data = dir.join(format!("n{name}"));
    std::fs::create_dir_all(&data).unwrap();
    let config = Config {
        listen_address: ([127, 0, 0, 1], 0).into(),
        rpc_address: ([127, 0, 0, 1], 0).into(),
        data_directory: data.clone(),
        rack: format!("r{name}"),
        seeds,
        gossip_interval: Duration::from_millis(50),
        ..Config::default()
    };
    let (stop, stopped) = oneshot::channel();
    let (tell, ready) = oneshot::channel();
    let parts = Parts {
        config,
        clock: Arc::new(SystemClock::new()),
        rng: Rng::from_seed(u64::from(name)),
        disk: Arc::new(StdDisk::new(&data)),
        background: Arc::new(ThreadBackground::start().unwrap()),
        net: Arc::new(TcpNet),
        probe: Arc::new(Silent),
        ready: Some(tell),
    };
    #[expect(clippy::disallowed_methods, reason = "the test plays the machine that nodes run on")]
    let ended = tokio::spawn(helenus_node::run(parts, async {
        drop(stopped.await);
    }));
    let ready = ready.await.expect("the node starts");
    Running { ready, stop, ended }
}

async fn channel(node: &Running) -> Channel {
    let uri = format!("http://{}", node.ready.rpc);
    Channel::from_shared(uri).unwrap().connect().await.unwrap()
}

fn request(level: v1::Level, op: Op) -> v1::KvRequest {
    v1::KvRequest {
        level: level.into(),
        keyspace: "demo".to_owned(),
        table: "kv".to_owned(),
        op: Some(op),
        trace: true,
        ..v1::KvRequest::default()
    }
}

async fn execute(kv: &mut KvClient<Channel>, level: v1::Level, op: Op) -> v1::KvResponse {
    kv.execute(request(level, op)).await.unwrap().into_inner()
}

fn put(key: &str, value: &str) -> Op {
    let (key, value) = (key.as_bytes().to_vec().into(), value.as_bytes().to_vec().into());
    Op::Put(v1::Put { key, value, ..v1::Put::default() })
}

fn get(key: &str) -> Op {
    Op::Get(v1::Get { key: key.as_bytes().to_vec().into() })
}

/// Waits until every node sees `up` of them alive. No sleep decides: the answer does, for as long as the test may run.
async fn wait_for_up(nodes: &[Running], up: usize) {
    let looked = async {
        for node in nodes {
            let mut admin = AdminClient::new(channel(node).await);
            loop {
                let topology = admin.topology(v1::TopologyRequest {}).await.unwrap().into_inner();
                if topology.members.iter().filter(|m| m.up).count() == up {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looked).await.expect("gossip converges");
}

async fn start_three(dir: &Path) -> Vec<Running> {
    let first = start(dir, 1, Vec::new()).await;
    let seeds = vec![first.ready.internode];
    let second = start(dir, 2, seeds.clone()).await;
    let third = start(dir, 3, seeds).await;
    let nodes = vec![first, second, third];
    wait_for_up(&nodes, 3).await;
    nodes
}

async fn create(node: &Running) {
    let mut admin = AdminClient::new(channel(node).await);
    let keyspace = v1::CreateKeyspaceRequest {
        name: "demo".to_owned(),
        rf: 3,
        ..v1::CreateKeyspaceRequest::default()
    };
    let made = admin.create_keyspace(keyspace).await.unwrap().into_inner();
    assert!(made.changed && made.pending_nodes.is_empty(), "{made:?}");
    let table = v1::CreateTableRequest {
        keyspace: "demo".to_owned(),
        name: "kv".to_owned(),
        ..v1::CreateTableRequest::default()
    };
    let made = admin.create_table(table).await.unwrap().into_inner();
    assert!(made.changed && made.pending_nodes.is_empty(), "{made:?}");
}

const LEVELS: [v1::Level; 8] = [
    v1::Level::One,
    v1::Level::Two,
    v1::Level::Three,
    v1::Level::Quorum,
    v1::Level::All,
    v1::Level::LocalOne,
    v1::Level::LocalQuorum,
    v1::Level::EachQuorum,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_level_writes_and_reads_through_every_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = start_three(dir.path()).await;
    create(&nodes[0]).await;
    for (at, node) in nodes.iter().enumerate() {
        let mut kv = KvClient::new(channel(node).await);
        for level in LEVELS {
            let key = format!("{at}/{}", level.as_str_name());
            let written = execute(&mut kv, level, put(&key, "v")).await;
            assert!(matches!(written.outcome, Some(Outcome::Written(_))), "{written:?}");
            let read = execute(&mut kv, v1::Level::All, get(&key)).await;
            let Some(Outcome::Value(value)) = read.outcome else { panic!("{read:?}") };
            assert_eq!(value.value.as_deref(), Some(&b"v"[..]));
            assert_eq!(read.responders.len(), 3);
        }
        let any = execute(&mut kv, v1::Level::Any, put("any", "v")).await;
        assert!(matches!(any.outcome, Some(Outcome::Written(_))), "{any:?}");
        let refused = execute(&mut kv, v1::Level::Any, get("any")).await;
        let Some(Outcome::Error(error)) = refused.outcome else { panic!("{refused:?}") };
        assert!(matches!(error.kind, Some(v1::error::Kind::Invalid(_))), "{error:?}");
    }
    let mut kv = KvClient::new(channel(&nodes[1]).await);
    let scan = Op::Scan(v1::Scan { limit: 10, ..v1::Scan::default() });
    let mut keys = Vec::new();
    let mut next = execute(&mut kv, v1::Level::Quorum, scan).await;
    loop {
        let Some(Outcome::Page(page)) = next.outcome else { panic!("{next:?}") };
        keys.extend(page.entries.into_iter().map(|e| e.key));
        if page.next_page.is_empty() {
            break;
        }
        let scan = v1::Scan { limit: 10, page: page.next_page, node_local: false };
        next = execute(&mut kv, v1::Level::Quorum, Op::Scan(scan)).await;
    }
    assert_eq!(keys.len(), 3 * LEVELS.len() + 1);
    stop(nodes).await;
}

async fn stop(nodes: Vec<Running>) {
    for node in nodes {
        node.stop.send(()).unwrap();
        node.ended.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_and_a_restart_find_all_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = start_three(dir.path()).await;
    create(&nodes[2]).await;
    let mut kv = KvClient::new(channel(&nodes[0]).await);
    for n in 0..50 {
        let written = execute(&mut kv, v1::Level::All, put(&n.to_string(), "v")).await;
        assert!(matches!(written.outcome, Some(Outcome::Written(_))), "{written:?}");
    }
    drop(kv);
    stop(nodes).await;
    let nodes = start_three(dir.path()).await;
    let mut kv = KvClient::new(channel(&nodes[1]).await);
    for n in 0..50 {
        let read = execute(&mut kv, v1::Level::All, get(&n.to_string())).await;
        let Some(Outcome::Value(value)) = read.outcome else { panic!("{read:?}") };
        assert_eq!(value.value.as_deref(), Some(&b"v"[..]));
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_replica_is_hinted_and_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = start_three(dir.path()).await;
    create(&nodes[0]).await;
    stop(vec![nodes.pop().unwrap()]).await;
    wait_for_up(&nodes, 2).await;

    let mut kv = KvClient::new(channel(&nodes[0]).await);
    let all = execute(&mut kv, v1::Level::All, put("k", "v")).await;
    let Some(Outcome::Error(error)) = all.outcome else { panic!("{all:?}") };
    let Some(v1::error::Kind::Unavailable(why)) = error.kind else { panic!("{error:?}") };
    assert_eq!((why.required, why.alive), (3, 2));
    for n in 0..20 {
        let written = execute(&mut kv, v1::Level::Quorum, put(&n.to_string(), "v")).await;
        assert!(matches!(written.outcome, Some(Outcome::Written(_))), "{written:?}");
    }
    let mut admin = AdminClient::new(channel(&nodes[0]).await);
    let pending = admin.list_pending_hints(v1::ListPendingHintsRequest {}).await.unwrap();
    assert_eq!(pending.into_inner().outcomes.unwrap().pending, 20);

    let seeds = vec![nodes[0].ready.internode];
    nodes.push(start(dir.path(), 3, seeds).await);
    wait_for_up(&nodes, 3).await;
    let delivered = async {
        loop {
            let hints = admin.list_pending_hints(v1::ListPendingHintsRequest {}).await.unwrap();
            let outcomes = hints.into_inner().outcomes.unwrap();
            if outcomes.pending == 0 {
                return outcomes;
            }
            tokio::task::yield_now().await;
        }
    };
    let outcomes = tokio::time::timeout(Duration::from_secs(30), delivered).await.unwrap();
    assert_eq!(outcomes.delivered, 20);
    // What the hints brought is there, read from the late node alone.
    let mut kv = KvClient::new(channel(&nodes[2]).await);
    let scan = v1::Scan { limit: 100, page: bytes::Bytes::new(), node_local: true };
    let own = execute(&mut kv, v1::Level::One, Op::Scan(scan)).await;
    let Some(Outcome::Page(page)) = own.outcome else { panic!("{own:?}") };
    assert_eq!(page.entries.len(), 20);
    stop(nodes).await;
}
