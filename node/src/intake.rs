//! Hints that other coordinators kept for this node, on their way into its storage.
//!
//! A page is applied in slices, and what else the node has to do gets its turn between two of them: a request in the
//! foreground waits for a slice at most, not for a page of thousands of small hints. How soon a sender may send its next
//! page is said with the acknowledgement (`helenus_core::throttle`), so that many coordinators that come back to a
//! target all at once do not drown it.
//!
//! Invariants: a page is acknowledged as one, when all of it is applied and as durable as a write; at most [`PAGES_MAX`]
//! are being applied at a time, the next is refused, counted, and sent again later by whoever owes it.

use crate::coordinator::storage_reason;
use crate::peers::ReplyTo;
use crate::replica::{self, Replica};
use crate::seams::probe::ApplyPath;
use crate::storage::{Applied, Write};
use crate::tasks::Tasks;
use helenus_core::tally::FailureReason;
use helenus_core::throttle::Throttle;
use helenus_proto::v1;
use helenus_proto::v1::message::Body;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Pages that are being applied. A sender has one on its way, or four if nothing throttles it; what is beyond this many
/// must come again.
const PAGES_MAX: usize = 64;
/// A slice ends behind the hint that reaches this: some 200 hints of 100 B, a good half of a millisecond.
const SLICE_BYTES: usize = 32 * 1024;

/// What a node takes of hints.
#[derive(Debug, Clone)]
pub(crate) struct IntakeMetrics {
    pages: Counter,
    bytes: Counter,
    refused: Counter,
    held_back: Counter<f64, std::sync::atomic::AtomicU64>,
}

impl IntakeMetrics {
    pub(crate) fn register(registry: &mut Registry) -> IntakeMetrics {
        let metrics = IntakeMetrics {
            pages: Counter::default(),
            bytes: Counter::default(),
            refused: Counter::default(),
            held_back: Counter::default(),
        };
        registry.register(
            "hint_pages_received",
            "Pages of hints applied here",
            metrics.pages.clone(),
        );
        registry.register_with_unit(
            "hints_received",
            "Keys and updates of hints applied here",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register(
            "hint_pages_refused",
            "Pages of hints refused because too many were being applied",
            metrics.refused.clone(),
        );
        registry.register_with_unit(
            "hint_senders_held_back",
            "How long senders of hints were asked to hold back their next page, together",
            Unit::Seconds,
            metrics.held_back.clone(),
        );
        metrics
    }
}

/// The receiving side of hinted handoff.
pub(crate) struct Intake {
    replica: Arc<Replica>,
    tasks: Arc<Tasks>,
    metrics: IntakeMetrics,
    state: Mutex<State>,
}

struct State {
    throttle: Throttle,
    applying: usize,
}

/// A page's place among those that are being applied.
struct Turn(Arc<Intake>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.state().applying -= 1;
    }
}

impl Intake {
    /// `bytes_per_s`: `hints_receive_throttle`.
    pub(crate) fn new(
        replica: Arc<Replica>,
        tasks: Arc<Tasks>,
        metrics: IntakeMetrics,
        bytes_per_s: u64,
    ) -> Intake {
        let throttle = Throttle::new(bytes_per_s);
        let state = Mutex::new(State { throttle, applying: 0 });
        Intake { replica, tasks, metrics, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }

    /// Applies a page and answers for it.
    pub(crate) fn page(self: &Arc<Self>, page: v1::HintPage, reply: ReplyTo) {
        let Some(turn) = self.begin() else {
            self.metrics.refused.inc();
            let why = format!("{PAGES_MAX} pages of hints are being applied already");
            return reply.send(replica::failed(FailureReason::Overloaded, &why));
        };
        self.tasks.spawn(async move {
            let answer = turn.0.take(page).await;
            reply.send(answer);
        });
    }

    fn begin(self: &Arc<Self>) -> Option<Turn> {
        let mut state = self.state();
        let room = state.applying < PAGES_MAX;
        state.applying += usize::from(room);
        room.then(|| Turn(Arc::clone(self)))
    }

    async fn take(&self, page: v1::HintPage) -> Body {
        let bytes: usize = page.mutations.iter().map(mutation_bytes).sum();
        if let Err(failed) = self.apply(page.mutations).await {
            return *failed;
        }
        let bytes = bytes as u64;
        let now = self.replica.clock.now();
        let next_after = self.state().throttle.spend(now, bytes);
        self.metrics.pages.inc();
        self.metrics.bytes.inc_by(bytes);
        self.metrics.held_back.inc_by(next_after.as_secs_f64());
        Body::Ack(v1::Ack { next_after_us: micros(next_after), ..v1::Ack::default() })
    }

    /// What cannot be applied any more (its table was dropped) is left out and counted: it would never be applicable, and
    /// must not hold up the rest.
    async fn apply(&self, mutations: Vec<v1::ApplyMutation>) -> Result<(), Box<Body>> {
        let mut mutations = mutations.into_iter().peekable();
        let mut synced = Vec::new();
        while mutations.peek().is_some() {
            let slice = self.slice(&mut mutations)?;
            let stored = |error| Box::new(replica::failed(storage_reason(&error), &error));
            match self.replica.apply_all(slice, ApplyPath::Hint).map_err(stored)? {
                Applied::Now => self.replica.engine.commit().map_err(stored)?,
                Applied::After(waits) => synced.push(waits),
            }
            if mutations.peek().is_some() {
                tokio::task::yield_now().await;
            }
        }
        for waits in synced {
            let failed = |error| Box::new(replica::failed(FailureReason::Storage, &error));
            waits.await.map_err(failed)?;
        }
        Ok(())
    }

    /// The next slice's writes.
    fn slice(
        &self,
        mutations: &mut impl Iterator<Item = v1::ApplyMutation>,
    ) -> Result<Vec<Write>, Box<Body>> {
        let schema = self.replica.schema.current();
        let (mut writes, mut bytes, mut unknown) = (Vec::new(), 0, 0);
        while bytes < SLICE_BYTES
            && let Some(mutation) = mutations.next()
        {
            bytes += mutation_bytes(&mutation);
            let refused = |why: String| Box::new(replica::failed(FailureReason::Unknown, &why));
            let write = replica::decode_mutation(mutation).map_err(refused)?;
            if schema.table(write.table).is_some() {
                writes.push(write);
            } else {
                unknown += 1;
            }
        }
        self.replica.metrics.hints_of_unknown_table(unknown);
        Ok(writes)
    }
}

fn mutation_bytes(mutation: &v1::ApplyMutation) -> usize {
    mutation.key.len() + mutation.update.len()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
