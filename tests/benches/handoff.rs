//! Replay of hints between two processes on this machine: how fast without a throttle, and what it does to the foreground
//! with the default one.
//!
//! `cargo bench -p helenus-tests --bench handoff [-- rate] [-- foreground]`. Goals: 300,000 hints a second of 100 B, 200 MB a
//! second of 50 KB; p99 of reads and writes during replay at most twice the p99 without.
//!
//! The rate is that of the middle nine tenths of a backlog, as the coordinator counts them: the start of the target and the
//! failure detector's notice are not in it. Foreground windows with and without replay (`pausehandoff`) alternate.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use bytes::Bytes;
use helenus_client::{Client, Level, Options, Table};
use helenus_tests::{Cluster, KEYSPACE, TABLE, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Writers that build a backlog.
const WRITERS: u64 = 64;
/// (bytes of a value, hints).
const BACKLOGS: [(usize, u64); 3] = [(100, 1_000_000), (1_000, 300_000), (50_000, 10_000)];

fn main() {
    let asked: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    // `cargo test --benches` passes a flag of a harness that this is not.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|arg| arg == part);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system gives a runtime");
    if wants("rate") {
        runtime.block_on(rates());
    }
    if wants("foreground") {
        runtime.block_on(foreground());
    }
}

const UNTHROTTLED: &str = "[hints]\nmax_hints_size = \"4GiB\"\nhinted_handoff_throttle = \"0\"\n\
    hinted_handoff_throttle_total = \"0\"\nhints_receive_throttle = \"0\"\n";

async fn rates() {
    println!("replay between two nodes, no throttle");
    println!(
        "{:>10} {:>10} {:>12} {:>10} {:>14}",
        "value", "hints", "hints/s", "MB/s", "in the middle"
    );
    for (value_bytes, hints) in BACKLOGS {
        let mut cluster = owing(UNTHROTTLED, value_bytes, hints).await;
        let watched = async {
            let mut seen = Vec::new();
            loop {
                let (delivered, pending) = owed(&cluster).await;
                seen.push((Instant::now(), delivered));
                if pending == 0 {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let node = cluster.spec(1).start();
        let (process, seen) = tokio::join!(node, watched);
        let middle =
            |share: u64| seen.iter().find(|(_, delivered)| *delivered >= hints * share / 20);
        let (Some((from, first)), Some((to, last))) = (middle(1), middle(19)) else {
            println!("{value_bytes:>10} {hints:>10}: not all hints were stored");
            continue;
        };
        let (seconds, counted) = ((*to - *from).as_secs_f64(), (last - first) as f64);
        println!(
            "{value_bytes:>10} {hints:>10} {:>12.0} {:>10.1} {:>12.2} s",
            counted / seconds,
            counted * (value_bytes + 16) as f64 / 1e6 / seconds,
            seconds,
        );
        process.kill().await;
        cluster.kill_all().await;
    }
}

/// Two nodes, of which the second is down and owed so many hints.
async fn owing(extra: &str, value_bytes: usize, hints: u64) -> Cluster {
    let mut cluster = Cluster::start_with(2, extra).await;
    cluster.create(2).await;
    cluster.kill(1).await;
    cluster.all_see(1).await;
    let client = cluster.client().await;
    fill(&client, value_bytes, hints).await;
    cluster
}

/// Writes to the node that is up.
async fn fill(client: &Client, value_bytes: usize, writes: u64) {
    let table = client.table(KEYSPACE, TABLE);
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (table, next) = (table.clone(), Arc::clone(&next));
        writers.spawn(async move {
            let options = Options::new().level(Level::One);
            let value = Bytes::from(vec![0x5a; value_bytes]);
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= writes {
                    return;
                }
                let put = table.put_with(format!("order-{nth:010}"), value.clone(), &options);
                put.await.expect("the node that is up takes writes");
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("no writer panics");
    }
}

/// Hints that the first node has delivered, and owes.
async fn owed(cluster: &Cluster) -> (u64, u64) {
    let listed = cluster.admin(0).list_pending_hints().await.expect("a node that is up answers");
    let outcomes = listed.targets.iter().filter_map(|target| target.outcomes.as_ref());
    outcomes.fold((0, 0), |(delivered, pending), outcome| {
        (delivered + outcome.delivered, pending + outcome.pending)
    })
}

/// Windows of each kind.
const WINDOWS: usize = 6;
const WINDOW: Duration = Duration::from_secs(5);
/// Requests in the foreground at a time: enough that a node which is busy shows, few enough that none queues by itself.
const IN_FLIGHT: u64 = 8;

async fn foreground() {
    println!(
        "foreground at QUORUM of two nodes, {IN_FLIGHT} in flight, half reads, while 500 MB of hints are replayed"
    );
    println!(
        "{:>10} {:>8} {:>10} {:>12} {:>12} {:>12} {:>12} {:>8}",
        "value", "windows", "replay", "ops/s", "p50 us", "p99 us", "hints MB/s", "ratio"
    );
    for (value_bytes, hints) in [(100, 500_000), (50_000, 10_000)] {
        let extra = "[hints]\nmax_hints_size = \"4GiB\"\nhandoff_paused = true\n";
        let mut cluster = owing(extra, value_bytes, hints).await;
        cluster.start_missing().await;
        cluster.all_see(2).await;
        let client = cluster.client().await;
        let table = client.table(KEYSPACE, TABLE);
        let mut latencies = [Vec::new(), Vec::new()];
        let mut delivered = 0;
        for window in 0..2 * WINDOWS {
            let replays = window % 2 == 1;
            let admin = cluster.admin(0);
            let before = owed(&cluster).await.0;
            if replays {
                admin.resume_handoff().await.expect("a node that is up answers");
                // Replay looks once a second.
                until(
                    || "replay".to_owned(),
                    async || (owed(&cluster).await.0 > before).then_some(()),
                )
                .await;
            }
            let took = requests(&table).await;
            if let Some(kind) = latencies.get_mut(usize::from(replays)) {
                kind.extend(took);
            }
            if replays {
                delivered += owed(&cluster).await.0 - before;
                admin.pause_handoff().await.expect("a node that is up answers");
            }
        }
        assert!(owed(&cluster).await.1 > 0, "replay ended before the last window");
        let mut quiet_p99 = f64::NAN;
        for (kind, mut took) in ["paused", "on"].into_iter().zip(latencies) {
            took.sort_unstable();
            let at = |percent: usize| {
                let found = took.get(took.len() * percent / 100);
                found.map_or(0.0, |took| took.as_secs_f64() * 1e6)
            };
            let seconds = WINDOW.as_secs_f64() * WINDOWS as f64;
            let on = kind == "on";
            quiet_p99 = if on { quiet_p99 } else { at(99) };
            let rate =
                if on { delivered as f64 * (value_bytes + 16) as f64 / 1e6 / seconds } else { 0.0 };
            println!(
                "{value_bytes:>10} {WINDOWS:>8} {kind:>10} {:>12.0} {:>12.0} {:>12.0} {rate:>12.2} {:>8.2}",
                took.len() as f64 / seconds,
                at(50),
                at(99),
                at(99) / quiet_p99,
            );
        }
        cluster.kill_all().await;
    }
}

/// Reads and writes in turn for a window; how long each took.
async fn requests(table: &Table) -> Vec<Duration> {
    let end = Instant::now() + WINDOW;
    let mut running = JoinSet::new();
    for worker in 0..IN_FLIGHT {
        let table = table.clone();
        running.spawn(async move {
            let options = Options::new().level(Level::Quorum);
            let value = Bytes::from(vec![0x5a; 100]);
            let (mut took, mut nth) = (Vec::new(), 0_u64);
            while Instant::now() < end {
                let key = format!("front-{worker}-{}", nth / 2 % 1000);
                let asked = Instant::now();
                if nth % 2 == 0 {
                    table.put_with(key, value.clone(), &options).await.expect("two nodes are up");
                } else {
                    table.get_with(key, &options).await.expect("two nodes are up");
                }
                took.push(asked.elapsed());
                nth += 1;
            }
            took
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = running.join_next().await {
        all.extend(ended.expect("no request panics"));
    }
    all
}
