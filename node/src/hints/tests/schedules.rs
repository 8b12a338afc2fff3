//! Schedules from seeds: crashes, cuts, targets that leave for good, that refuse or whose answers are lost, full and failing disks, rot, with
//! replay going on all the while.
//!
//! Asserted after every step: the bound, node-wide and per target, in the books and on disk; the accounting identity. At
//! the end, when everything is well again: what was stored and synced has arrived, or the ledger covers where it belongs.

use super::*;
use crate::seeds;
use helenus_core::token;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const TARGETS: [NodeId; 3] = [A, B, NodeId(0xc)];

/// The other side: what each target has, and how it behaves.
struct Receivers {
    chance: Mutex<SmallRng>,
    cut: Mutex<BTreeSet<NodeId>>,
    /// Those who have left the ring: others take what is owed to them.
    left: Mutex<BTreeSet<NodeId>>,
    /// Pages that are refused, and answers that are lost after the page was applied, of 100.
    refuses: Mutex<u32>,
    forgets: Mutex<u32>,
    has: Mutex<BTreeSet<(NodeId, String)>>,
}

impl Deliver for Arc<Receivers> {
    fn alive(&self, target: NodeId) -> bool {
        !self.cut.lock().unwrap().contains(&target)
    }

    fn redirects(&self, target: NodeId) -> bool {
        self.left.lock().unwrap().contains(&target)
    }

    fn gc_grace_s(&self, _: TableId) -> Option<u32> {
        None
    }

    fn deliver(
        &self,
        target: NodeId,
        hints: Vec<Hint>,
    ) -> BoxFuture<'static, Result<Duration, DeliverError>> {
        let receivers = Arc::clone(self);
        let roll = || receivers.chance.lock().unwrap().random_range(0..100);
        let (refused, lost, takes_ms) = (roll(), roll(), u64::from(roll()) + 1);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(takes_ms)).await;
            let failed = |reason: &str| Err(DeliverError { reason: reason.to_owned() });
            let there = receivers.alive(target) || receivers.redirects(target);
            if !there || refused < *receivers.refuses.lock().unwrap() {
                return failed("refused");
            }
            let arrived = hints.iter().map(|hint| (target, name(&hint.key)));
            receivers.has.lock().unwrap().extend(arrived);
            if lost < *receivers.forgets.lock().unwrap() {
                return failed("timeout");
            }
            Ok(Duration::from_millis(takes_ms % 7))
        })
    }
}

/// What may have become of a hint that the store took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// It is not synced: a crash may cost it.
    None,
    /// A sync of it failed. It can be read, and is delivered if no crash comes before; no later sync makes it durable.
    Doubtful,
    /// It is delivered, or the ledger covers it.
    Kept,
}

struct Life {
    rng: SmallRng,
    node: Node,
    receivers: Arc<Receivers>,
    promised: BTreeMap<(NodeId, String), Promise>,
    appended: u64,
    crashes: u64,
    /// Failed syncs that were seen, of this run of the store.
    sync_failures: u64,
    /// Hints of each target that were stored and will not be delivered, when the ledger was last durable.
    gone: BTreeMap<NodeId, u64>,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut rng = SmallRng::seed_from_u64(seed);
        let cap = rng.random_range(8..64) * KIB;
        let policies = [NEWEST, OLDEST, LETTER, Overflow::FailWrite, Overflow::Throttle];
        let config = HintsConfig {
            max_hints_size_per_host: if rng.random() { cap / rng.random_range(1..4) } else { 0 },
            max_dead_letters_size: rng.random_range(0..48) * KIB,
            hinted_handoff_throttle: if rng.random() { 20 * KIB } else { 0 },
            hints_flush_period: Duration::from_millis(rng.random_range(50..3000)),
            ..config(cap, policies[rng.random_range(0..policies.len())])
        };
        let receivers = Arc::new(Receivers {
            chance: Mutex::new(SmallRng::seed_from_u64(seed ^ 1)),
            cut: Mutex::default(),
            left: Mutex::default(),
            refuses: Mutex::default(),
            forgets: Mutex::default(),
            has: Mutex::default(),
        });
        let life = Life {
            node: Node::new(seed, config),
            rng,
            receivers,
            promised: BTreeMap::new(),
            appended: 0,
            crashes: 0,
            sync_failures: 0,
            gone: BTreeMap::new(),
        };
        life.start();
        life
    }

    fn start(&self) {
        self.node.store.start(&self.node.tasks, Arc::new(Arc::clone(&self.receivers)));
    }

    fn target(&mut self) -> NodeId {
        TARGETS[self.rng.random_range(0..TARGETS.len())]
    }

    async fn step(&mut self) {
        let step = self.rng.random_range(0..31);
        if seeds::one_was_asked_for() {
            println!("{:?} step {step}: {:?}", self.node.clock.now(), self.node.store.figures());
            println!("  lost so far: {:?}", self.node.probe.lost());
        }
        match step {
            0..12 => self.append_some(),
            12 => {
                let target = self.target();
                self.receivers.cut.lock().unwrap().insert(target);
            }
            13 => self.receivers.cut.lock().unwrap().clear(),
            14 => *self.receivers.refuses.lock().unwrap() = self.rng.random_range(0..60),
            15 => *self.receivers.forgets.lock().unwrap() = self.rng.random_range(0..60),
            16 => {
                let full = self.node.disk.used_bytes() + self.rng.random_range(0..8 * KIB);
                self.node.disk.set_faults(|f| f.capacity_bytes = Some(full));
            }
            17 => {
                let [read, write, sync, rot] =
                    [0.1, 0.1, 0.2, 0.05].map(|p| p * self.rng.random::<f64>());
                self.node.disk.set_faults(|f| {
                    (f.read_error, f.write_error, f.sync_error, f.bit_rot) =
                        (read, write, sync, rot);
                });
            }
            18..20 => self.node.disk.set_faults(|f| *f = Faults::default()),
            20..23 => {
                self.flush().await;
            }
            23 => self.crash(),
            24 => {
                if self.flush().await {
                    self.node.tasks.abort_all();
                    self.reopen();
                }
            }
            25 => self.node.store.set_paused(self.rng.random()),
            26 => {
                let target = self.target();
                let letters = self.node.store.dead_letters();
                match self.rng.random_range(0..8) {
                    0 => drop(self.node.store.truncate(Some(target)).await),
                    1 => drop(letters.purge(Some(target)).await),
                    _ => drop(self.replay_letters(target).await),
                }
            }
            27 if self.rng.random_range(0..4) == 0 => {
                let target = self.target();
                self.receivers.left.lock().unwrap().insert(target);
            }
            _ => {
                let rest = Duration::from_millis(self.rng.random_range(1..4000));
                tokio::time::sleep(rest).await;
            }
        }
    }

    fn append_some(&mut self) {
        let target = self.target();
        for _ in 0..self.rng.random_range(1..12) {
            self.appended += 1;
            let (key, size) = (format!("k{}", self.appended), self.rng.random_range(0..1500));
            // One that is refused is in the ledger at once; the promise is the same.
            let _taken = self.node.append(target, &key, size);
            self.promised.insert((target, key), Promise::None);
        }
    }

    /// Whether everything up to here is durable, the ledger too.
    async fn flush_is_whole(&mut self) -> bool {
        // Names that were removed while it ran are durable with the next one.
        let whole = self.node.store.flush().await.is_ok() && self.node.store.flush().await.is_ok();
        let [hints, letters] = self.figures();
        whole && !hints.unwritable && !letters.unwritable
    }

    /// Of the hints, and of the dead letters.
    fn figures(&self) -> [HintFigures; 2] {
        [self.node.store.figures(), self.node.store.dead_letters().figures()]
    }

    async fn replay_letters(&self, target: NodeId) -> Replayed {
        let letters = self.node.store.dead_letters();
        let deliver = Arc::new(Arc::clone(&self.receivers));
        letters.replay(deliver, target, Duration::from_secs(2)).await
    }

    /// Makes durable what can be made durable; whether that is everything.
    async fn flush(&mut self) -> bool {
        let whole = self.flush_is_whole().await;
        let failures = self.figures().iter().map(|log| log.sync_failures).sum();
        let failed = std::mem::replace(&mut self.sync_failures, failures) < failures;
        if whole {
            self.gone = TARGETS.map(|target| (target, self.gone(target))).into();
        }
        let becomes = match (failed, whole) {
            (true, _) => Promise::Doubtful,
            (false, true) => Promise::Kept,
            (false, false) => return false,
        };
        let open = self.promised.values_mut().filter(|promise| **promise == Promise::None);
        open.for_each(|promise| *promise = becomes);
        whole
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.node.tasks.abort_all();
        self.node.disk.crash();
        // Of what was lost since the last flush the ledger may not know any more.
        let told: BTreeSet<(NodeId, String)> =
            self.node.probe.lost().into_iter().map(|(target, key, _)| (target, key)).collect();
        // Some by no name: they could not be read any more.
        let more_gone =
            |target: &NodeId| self.gone(*target) != self.gone.get(target).copied().unwrap_or(0);
        let unnamed: BTreeSet<NodeId> = TARGETS.into_iter().filter(more_gone).collect();
        self.promised.retain(|hint, promise| {
            *promise == Promise::Kept && !told.contains(hint) && !unnamed.contains(&hint.0)
        });
        self.reopen();
    }

    fn gone(&self, target: NodeId) -> u64 {
        let account = self.node.account(target);
        account.lost + account.evicted
    }

    fn reopen(&mut self) {
        // A start on a disk that fails is refused, and tried again: not what is tested here.
        self.node.disk.set_faults(|f| *f = Faults::default());
        self.sync_failures = 0;
        self.gone.clear();
        self.node.reopen();
        self.start();
    }

    /// Node-wide bounds and identities are asserted; what the node does not check itself is given back.
    fn check(&self) -> Result<(), String> {
        self.node.check();
        let per_host = self.node.config.max_hints_size_per_host;
        for pending in self.node.store.list() {
            if per_host > 0 && pending.bytes > per_host {
                return Err(format!("{} bytes for {}: {per_host}", pending.bytes, pending.target));
            }
            if !pending.account.balances() {
                return Err(format!("unbalanced: {pending:?}"));
            }
        }
        Ok(())
    }

    /// Everything is well again: replay runs to its end.
    async fn heal(&mut self) -> Result<(), String> {
        self.node.disk.set_faults(|f| *f = Faults::default());
        self.receivers.cut.lock().unwrap().clear();
        *self.receivers.refuses.lock().unwrap() = 0;
        *self.receivers.forgets.lock().unwrap() = 0;
        self.node.store.set_paused(false);
        for _ in 0..600 {
            for target in TARGETS {
                drop(self.replay_letters(target).await);
            }
            let account = self.node.store.figures().account;
            if account.pending + account.dead_lettered == 0 {
                return self.check();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Err(format!("replay does not end: {:?}", self.node.store.figures()))
    }

    fn nothing_is_silent(&self) -> Result<(), String> {
        let has = self.receivers.has.lock().unwrap();
        let ledger = self.node.store.ledger();
        for hint @ (target, key) in self.promised.keys() {
            let at = token::of(key.as_bytes());
            let covered = || {
                let ranges = ledger.to_repair(Scope::table(*target, TableId(7))).ranges;
                ranges.iter().any(|range| range.first <= at && at <= range.last)
            };
            if !has.contains(hint) && !covered() {
                return Err(format!(
                    "{key} for {target} is gone, and no range of the ledger covers it"
                ));
            }
        }
        Ok(())
    }
}

async fn life(seed: u64) -> Result<u64, String> {
    let mut life = Life::new(seed);
    let steps = life.rng.random_range(20..150);
    for step in 0..steps {
        life.step().await;
        life.check().map_err(|what| format!("step {step}: {what}"))?;
    }
    life.heal().await?;
    life.nothing_is_silent()?;
    Ok(life.crashes)
}

#[test]
fn schedules_keep_the_bound_and_nothing_is_silent() {
    let seeds = seeds::seeds(500);
    let many = seeds.end - seeds.start;
    let test = "hints::tests::schedules";
    let crashes = seeds::all_well(test, seeds, |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime can be made");
        runtime.block_on(life(seed))
    });
    assert!(crashes >= many || many < 20, "hardly anything happened: {crashes} crashes");
}
