//! Writers and readers in real time: an open loop. Operations start at their rate, whatever becomes of those before them.

use crate::bench::story::{KEEPERS, TARGET};
use helenus_client::{Level, Options, Routing, Table};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Before a write that was refused is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// Operations under way; past it new ones are left out, and counted.
const IN_FLIGHT_MAX: usize = 20_000;

/// One order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// When it was placed.
    pub(super) placed: Duration,
    /// When it was acknowledged, and how long the attempt took that was.
    pub(super) acked: Option<(Duration, Duration)>,
}

/// One read at ONE that was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) ended: Duration,
    pub(super) took: Duration,
    /// It found nothing, though the order was acknowledged before the read began.
    pub(super) stale: bool,
}

/// What has happened so far. Times are counted from the load's beginning.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) orders: Vec<Order>,
    pub(super) looks: Vec<Look>,
    /// Operations that were left out.
    pub(super) left_out: u64,
}

/// A load that runs until it is dropped.
pub(super) struct Load {
    pub(super) began: Instant,
    pub(super) seen: Rc<RefCell<Seen>>,
    /// Dropped, they end.
    _running: JoinSet<()>,
}

/// What the load is made with.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) table: Table,
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) value: usize,
    pub(super) rate: f64,
    /// Reads go to orders that are at most so old, evenly.
    pub(super) look_back: Duration,
    pub(super) seed: u64,
    /// What keys begin with: no two loads share one.
    pub(super) prefix: &'static str,
}

impl Plan {
    /// An order's key: as long as a simulated one's.
    pub(super) fn key(&self, order: usize) -> String {
        format!("{}-{order:08}", self.prefix)
    }

    /// Asking this node, and no other.
    pub(super) fn through(&self, node: usize, level: Level) -> Options {
        let options = Options::new().level(level).timeout(Duration::from_secs(12));
        match self.nodes.get(node) {
            Some(addr) => options.routing(Routing::Pinned(*addr)),
            None => options,
        }
    }

    /// Begins, on the current local set.
    pub(super) fn begin(self) -> Load {
        let seen = Rc::new(RefCell::new(Seen::default()));
        let began = Instant::now();
        let mut running = JoinSet::new();
        running.spawn_local(self.run(began, Rc::clone(&seen)));
        Load { began, seen, _running: running }
    }

    async fn run(self, began: Instant, seen: Rc<RefCell<Seen>>) {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut operations = JoinSet::new();
        let mut next = began;
        let apart = Duration::from_secs_f64(1.0 / self.rate.max(0.001));
        loop {
            next += apart;
            tokio::time::sleep_until(next).await;
            while operations.try_join_next().is_some() {}
            if operations.len() >= IN_FLIGHT_MAX {
                seen.borrow_mut().left_out += 1;
                continue;
            }
            let now = began.elapsed();
            let order = {
                let mut seen = seen.borrow_mut();
                seen.orders.push(Order { placed: now, acked: None });
                seen.orders.len() - 1
            };
            operations.spawn_local(write(self.clone(), began, Rc::clone(&seen), order));
            let age = self.look_back.mul_f64(rng.random::<f64>());
            if let Some(then) = now.checked_sub(age) {
                // Orders are placed in the order of their numbers.
                let old = seen.borrow().orders.partition_point(|order| order.placed < then);
                let reader = order % (KEEPERS.count() + 1);
                operations.spawn_local(look(self.clone(), began, Rc::clone(&seen), old, reader));
            }
        }
    }
}

/// Writes until it is acknowledged, through one keeper after the other.
async fn write(plan: Plan, began: Instant, seen: Rc<RefCell<Seen>>, order: usize) {
    let value = crate::actors::value(plan.seed, u32::try_from(order).unwrap_or(0), plan.value);
    let mut attempt = order;
    loop {
        let keeper = KEEPERS.start() + attempt % KEEPERS.count();
        let asked = Instant::now();
        let options = plan.through(keeper, Level::Quorum);
        let put = plan.table.put_with(plan.key(order), value.clone(), &options).await;
        if put.is_ok() {
            let ack = (began.elapsed(), asked.elapsed());
            if let Some(order) = seen.borrow_mut().orders.get_mut(order) {
                order.acked = Some(ack);
            }
            return;
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(plan: Plan, began: Instant, seen: Rc<RefCell<Seen>>, order: usize, node: usize) {
    let acked = seen.borrow().orders.get(order).is_some_and(|order| order.acked.is_some());
    let asked = Instant::now();
    let options = plan.through(node, Level::One);
    // The target refuses while it is away; that is no answer.
    let Ok(got) = plan.table.get_with(plan.key(order), &options).await else { return };
    let stale = acked && got.value.is_none() && node == TARGET;
    seen.borrow_mut().looks.push(Look { ended: began.elapsed(), took: asked.elapsed(), stale });
}
