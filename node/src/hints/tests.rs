//! The store on a simulated disk: what survives a crash, that the bound holds on disk, that nothing goes uncounted.

mod bounds;
mod dead;
mod ledger;
mod metrics;
mod power;
mod random;
mod redirect;
mod replay;
mod schedules;
mod store;
mod sync_point;

use super::*;
use crate::config::Overflow;
use crate::seams::background::SimBackground;
use crate::seams::disk::{Faults, SimDisk};
use crate::seams::net::BoxFuture;
use bytes::Bytes;
use helenus_core::Key;
use helenus_core::TableId;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const KIB: u64 = 1024;
const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);

/// Both clocks follow tokio's, which the tests pause. Wall time begins at 1,000,000 s.
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
    fn wall_micros(&self) -> i64 {
        1_000_000_000_000 + i64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Probe for Recorder {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Recorder {
    fn lost(&self) -> Vec<(NodeId, String, HintLoss)> {
        let events = self.0.lock().unwrap();
        let lost = events.iter().filter_map(|event| match event {
            Event::HintLost { target, key, reason } => Some((*target, name(key), *reason)),
            _ => None,
        });
        lost.collect()
    }

    fn delivered(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let delivered = events.iter().filter_map(|event| match event {
            Event::HintDelivered { key, .. } => Some(name(key)),
            _ => None,
        });
        delivered.collect()
    }
}

fn name(key: &Key) -> String {
    String::from_utf8(key.0.to_vec()).unwrap()
}

/// A node reduced to its hint store.
struct Node {
    disk: SimDisk,
    config: HintsConfig,
    clock: Arc<TokioClock>,
    probe: Arc<Recorder>,
    tasks: Arc<Tasks>,
    store: HintStore,
}

fn config(max_hints_size: u64, overflow: Overflow) -> HintsConfig {
    HintsConfig { max_hints_size, overflow, hinted_handoff_throttle: 0, ..HintsConfig::default() }
}

fn open(
    disk: &SimDisk,
    config: &HintsConfig,
    clock: &Arc<TokioClock>,
    probe: &Arc<Recorder>,
) -> HintStore {
    let disk = disk.reopen();
    HintStore::open(HintParts {
        dir: PathBuf::from("hints"),
        config: config.clone(),
        background: Arc::new(SimBackground::new(disk.clone())),
        disk: Arc::new(disk),
        clock: clock.clone(),
        probe: probe.clone(),
    })
    .unwrap()
}

impl Node {
    fn new(seed: u64, config: HintsConfig) -> Node {
        let disk = SimDisk::new(seed, Faults::default());
        let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
        let probe = Arc::new(Recorder::default());
        let store = open(&disk, &config, &clock, &probe);
        Node { disk, config, clock, probe, tasks: Arc::new(Tasks::new()), store }
    }

    fn start(&self, peers: &Arc<Peers>) {
        self.store.start(&self.tasks, peers.clone());
    }

    fn crash(&mut self) {
        self.tasks.abort_all();
        self.disk.crash();
        self.reopen();
    }

    fn reopen(&mut self) {
        self.tasks = Arc::new(Tasks::new());
        self.store = open(&self.disk, &self.config, &self.clock, &self.probe);
    }

    fn append(&self, target: NodeId, key: &str, size: usize) -> Result<HintReceipt, HintLoss> {
        let (key, update) = mutation(key, size);
        let created_ms = self.store.wall_ms();
        self.store.append(target, &hint(&key, &update, created_ms), Duration::ZERO)
    }

    /// Bytes of the files in the hint directory that the bound is for.
    fn disk_bytes(&self) -> u64 {
        self.bytes_in(Path::new("hints"))
    }

    /// And of those that the bound of dead letters is for.
    fn letter_bytes(&self) -> u64 {
        self.bytes_in(Path::new("hints/dead"))
    }

    fn bytes_in(&self, dir: &Path) -> u64 {
        let view = self.disk.reopen();
        let len = |name: &String| view.open(&dir.join(name), false).unwrap().len().unwrap();
        let charged = |name: &&String| !name.ends_with(".ledger") && *name != "dead";
        view.list(dir).unwrap().iter().filter(charged).map(len).sum()
    }

    /// Both bounds hold, for what is charged and for what is on the disk, and the identity does.
    fn check(&self) {
        let (hints, letters) = (self.store.figures(), self.store.dead_letters().figures());
        assert!(hints.bytes <= hints.bytes_max && letters.bytes <= letters.bytes_max);
        let (on_disk, dead) = (self.disk_bytes(), self.letter_bytes());
        assert!(on_disk <= hints.bytes, "{on_disk} on disk, {} charged", hints.bytes);
        assert!(dead <= letters.bytes, "{dead} on disk, {} charged", letters.bytes);
        assert!(hints.account.balances() && letters.account.balances());
        assert_eq!(hints.account.dead_lettered, letters.account.pending);
    }

    fn account(&self, target: NodeId) -> Account {
        self.store.accounts().of(target)
    }

    /// Reads one page and acknowledges it; gives the keys.
    async fn deliver(&self, target: NodeId, max_bytes: u64) -> Vec<String> {
        deliver_from(&self.store, target, max_bytes).await
    }

    async fn drain(&self, target: NodeId) -> Vec<String> {
        drain_from(&self.store, target).await
    }

    async fn drain_letters(&self, target: NodeId) -> Vec<String> {
        drain_from(&self.store.dead_letters().log, target).await
    }
}

async fn deliver_from(log: &HintStore, target: NodeId, max_bytes: u64) -> Vec<String> {
    match log.next_page(target, max_bytes, &|_| None).await.unwrap() {
        Some(page) => {
            let keys = page.hints().iter().map(|hint| name(&hint.key)).collect();
            log.complete(page).await.unwrap();
            keys
        }
        None => Vec::new(),
    }
}

async fn drain_from(log: &HintStore, target: NodeId) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let page = deliver_from(log, target, 10_000).await;
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn mutation(key: &str, size: usize) -> (Key, Bytes) {
    (Key(Bytes::from(key.to_owned())), Bytes::from(vec![0x5a; size]))
}

fn hint<'a>(key: &'a Key, update: &'a Bytes, created_ms: u64) -> NewHint<'a> {
    NewHint { table: TableId(7), key, update, created_ms, gc_grace_s: 864_000, overflow: None }
}

/// Peers that take hints, or do not.
#[derive(Default)]
struct Peers {
    alive: Mutex<BTreeSet<NodeId>>,
    refuse: std::sync::atomic::AtomicBool,
    /// How long they want no further page after one.
    credit: Mutex<Duration>,
    /// Pages asked to deliver.
    pages: std::sync::atomic::AtomicUsize,
    /// Pages on their way, and the most that there were at once.
    on_the_way: Arc<Mutex<(usize, usize)>>,
}

impl Peers {
    fn pages(&self) -> usize {
        self.pages.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn up(&self, target: NodeId) {
        self.alive.lock().unwrap().insert(target);
    }
}

impl Deliver for Peers {
    fn alive(&self, target: NodeId) -> bool {
        self.alive.lock().unwrap().contains(&target)
    }
    fn gc_grace_s(&self, _: TableId) -> Option<u32> {
        None
    }
    fn deliver(
        &self,
        _: NodeId,
        hints: Vec<Hint>,
    ) -> BoxFuture<'static, Result<Duration, DeliverError>> {
        assert!(!hints.is_empty());
        self.pages.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let refuse = self.refuse.load(std::sync::atomic::Ordering::Relaxed);
        let credit = *self.credit.lock().unwrap();
        let on_the_way = Arc::clone(&self.on_the_way);
        {
            let mut pages = on_the_way.lock().unwrap();
            pages.0 += 1;
            pages.1 = pages.1.max(pages.0);
        }
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            on_the_way.lock().unwrap().0 -= 1;
            if refuse { Err(DeliverError { reason: "timeout".to_owned() }) } else { Ok(credit) }
        })
    }
}

const NEWEST: Overflow = Overflow::DropNewest;
const OLDEST: Overflow = Overflow::DropOldest;
const LETTER: Overflow = Overflow::DeadLetter;
