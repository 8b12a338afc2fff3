//! A node leaves the ring (`helenusctl decommission`): it gives away what it holds and what it owes, and is no member any more.
//!
//! ```text
//! NORMAL -> LEAVING                                                                                          -> LEFT
//!           announcing -> batches -> decrees -> streaming -> hints -> closing
//!           |                                                         |
//!           from here on whoever will hold a range is pending for it  clients are sent away, what is under way ends
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `obstacles` | what is in the way (pure) |
//! | `progress` | how far it is |
//!
//! Who gets what is `helenus_core::pending`; that coordinators write to pending replicas is `coordinator::write`; the streams
//! are a repair's (`repair::handover`); who takes the hints says `crate::handoff`.
//!
//! Invariants: nothing is streamed before every live member has confirmed that it knows of the leave and what it had sent
//! before is over, so whatever a stream passes over, the coordinators send to the new owners themselves. That the node has
//! left is on its disk before anybody hears it: it never starts again on data that others have outgrown. From that moment on
//! it acknowledges nothing, so nobody counts it as a replica who has not heard yet; a process that ends between the two says it
//! when it is started again, and does nothing else.
//!
//! What fails on the way makes the node NORMAL again, with the reason in the answer; so does an end of the process. Begun
//! anew, it sends only what the new owners lack. A leave is cancelled by cancelling its stream (`helenusctl repair --cancel`).
//!
//! Bounds: one leave at a time in a ring, as far as its members see each other (two that begin at once both give up);
//! [`PASSES_MAX`] passes of streams; [`HEARD_PATIENCE`] and [`STEP_PATIENCE`] for what others have to do.
//!
//! CAVEAT: a member that is down meanwhile (`--force`) hears of it when it comes back, if that is within three days; and what
//! it wrote alone is not with the new owners until it is repaired.
//!
//! Source: Cassandra's `StorageService.decommission`. Why it is so and not otherwise: ADR 21.

mod obstacles;
mod progress;

pub(crate) use obstacles::Obstacle;
pub(crate) use progress::Leave;
use progress::Stage;

use crate::coordinator::{Coordinator, Trace};
use crate::handoff::Handoff;
use crate::hints::HintStore;
use crate::membership::{Identity, Membership, Standing, status};
use crate::paxos;
use crate::peers::Body;
use crate::repair::{Outcome, RepairError, Repairs};
use crate::schema::SchemaStore;
use crate::seams::background::{self, Background, Lane};
use crate::seams::disk::Disk;
use crate::storage::RangeStart;
use helenus_core::paxos::SerialLevel;
use helenus_core::tally::FailureReason;
use helenus_core::{Key, NodeId, TableId};
use helenus_proto::v1;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How long members may take to hear of it (Cassandra waits for as long, `RING_DELAY`, without asking).
const HEARD_PATIENCE: Duration = Duration::from_secs(30);
/// How long batches and hints may make no progress, and requests under way may take to end.
const STEP_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(50);
/// Passes of streams. One sends everything; a second one that sends nothing says so. Under writes some always differs.
const PASSES_MAX: usize = 3;
/// Attempts to decide a conditional write.
const DECREE_ATTEMPTS: u32 = 3;
/// For so long others remember that a node has left (Cassandra's `aVeryLongTime`: 259,200 s).
const REMEMBERED_S: u64 = 3 * 86_400;

/// What a leave needs.
pub(crate) struct DecommissionParts {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) repairs: Arc<Repairs>,
    pub(crate) handoff: Arc<Handoff>,
    pub(crate) schema: Arc<SchemaStore>,
    pub(crate) background: Arc<dyn Background>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) identity: Identity,
}

/// Takes this node out of the ring.
pub(crate) struct Decommission {
    parts: DecommissionParts,
    last: Mutex<Option<Arc<Leave>>>,
    /// The node is stopping: nothing more is said of it.
    stopping: AtomicBool,
}

impl Decommission {
    pub(crate) fn new(parts: DecommissionParts) -> Decommission {
        Decommission { parts, last: Mutex::default(), stopping: AtomicBool::new(false) }
    }

    /// Begins to leave, or gives the leave that is under way or has succeeded. It goes on by itself.
    pub(crate) fn start(self: &Arc<Self>, force: bool) -> Result<Arc<Leave>, Obstacle> {
        let mut last = self.last();
        if let Some(leave) = last.as_ref().filter(|leave| leave.holds()) {
            return Ok(Arc::clone(leave));
        }
        let (give_way, firm): (Vec<_>, Vec<_>) =
            self.obstacles().into_iter().partition(|it| force && it.gives_way());
        if let Some(obstacle) = firm.into_iter().next() {
            return Err(obstacle);
        }
        let warnings = give_way.iter().map(ToString::to_string).collect();
        let coordinator = &self.parts.coordinator;
        let leave = Arc::new(Leave::new(coordinator.clock.wall_micros(), warnings));
        *last = Some(Arc::clone(&leave));
        coordinator.tasks.spawn(Arc::clone(self).run(Arc::clone(&leave)));
        Ok(leave)
    }

    /// The leave that is under way, or was last tried.
    pub(crate) fn leave(&self) -> Option<Arc<Leave>> {
        self.last().clone()
    }

    /// The node stops: whatever fails from now on does so for that reason.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn last(&self) -> MutexGuard<'_, Option<Arc<Leave>>> {
        self.last.lock().expect("nothing panics while it holds this lock")
    }

    fn membership(&self) -> &Membership {
        &self.parts.coordinator.membership
    }

    fn hints(&self) -> &HintStore {
        &self.parts.coordinator.hints
    }

    fn obstacles(&self) -> Vec<Obstacle> {
        let (membership, me) = (self.membership(), self.parts.coordinator.id);
        let mut found = Vec::new();
        let said = membership.status_of(me).unwrap_or_default();
        if said != status::NORMAL {
            let advice = match said.as_str() {
                status::LEFT => "it is out of the ring already",
                _ => "see `helenusctl status`",
            };
            found.push(Obstacle::NotNormal { status: said, advice });
        }
        let ring = membership.ring();
        if let Some(other) = ring.leaving().iter().find(|node| **node != me) {
            found.push(Obstacle::OtherLeaves(membership.describe(*other)));
        }
        if ring.members().iter().all(|member| member.node == me) {
            found.push(Obstacle::Alone);
        }
        let view = self.parts.schema.current();
        let keyspaces = view.schema.live_keyspaces().map(|it| (it.name.as_str(), &it.replication));
        found.extend(obstacles::too_few(&ring, me, keyspaces));
        let down = ring.members().iter().map(|member| member.node);
        let down = down.filter(|node| *node != me && !membership.is_alive(*node));
        let down: Vec<String> = down.map(|node| membership.describe(node)).collect();
        found.extend((!down.is_empty()).then_some(Obstacle::Down(down)));
        let letters = self.hints().dead_letters().figures().account.pending;
        found.extend((letters > 0).then_some(Obstacle::DeadLetters(letters)));
        let ledger = self.hints().ledger();
        let lost: u64 = ledger.rows().flat_map(|(_, _, ranges)| ranges).map(|it| it.count).sum();
        found.extend((lost > 0).then_some(Obstacle::Losses(lost)));
        found
    }

    async fn run(self: Arc<Self>, leave: Arc<Leave>) {
        let coordinator = &self.parts.coordinator;
        let failure = self.carry_out(&leave).await.err();
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        if let Some(why) = &failure {
            tracing::error!(why, "this node did not leave the ring and is a member as before");
            self.parts.handoff.hand_over(false);
            coordinator.door.set_open(true);
            self.membership().announce(status::NORMAL);
        } else {
            tracing::info!("this node has left the ring: it can be stopped");
        }
        leave.end(failure, coordinator.clock.wall_micros());
    }

    /// The story. An error says, for people, why the node stays.
    async fn carry_out(&self, leave: &Leave) -> Result<(), String> {
        leave.enter(Stage::Announcing);
        self.membership().announce(status::LEAVING);
        self.heard_by_all(status::LEAVING).await?;
        tokio::time::sleep(self.what_was_sent_takes()).await;
        leave.enter(Stage::Batches);
        self.finish_batches().await?;
        leave.enter(Stage::Decrees);
        self.settle_decrees(leave).await?;
        leave.enter(Stage::Streaming);
        self.stream(leave).await?;
        leave.enter(Stage::Hints);
        self.give_hints_away(leave).await?;
        leave.enter(Stage::Closing);
        self.close().await?;
        // Those that the last requests have made.
        self.give_hints_away(leave).await?;
        self.go(leave).await
    }

    /// Waits until every live member has confirmed that it knows this node's status.
    async fn heard_by_all(&self, status: &'static str) -> Result<(), String> {
        let coordinator = &self.parts.coordinator;
        let membership = self.membership();
        let deadline = coordinator.clock.now() + HEARD_PATIENCE;
        let mut waiting: BTreeSet<NodeId> = membership.live_peers().into_iter().collect();
        loop {
            // Who dies hears it from the others when it is back.
            waiting.retain(|node| membership.is_alive(*node));
            let asked: Vec<NodeId> = waiting.iter().copied().collect();
            let notice = Body::LeaveNotice(v1::LeaveNotice { status: status.to_owned() });
            let timeout = coordinator.config.write_request_timeout;
            let mut answers = coordinator.peers.call(&asked, notice, timeout);
            while let Some((node, answer)) = answers.next().await {
                match answer {
                    Ok(Body::Ack(_)) => {
                        waiting.remove(&node);
                    }
                    Ok(Body::Failed(refusal)) if !is_not_yet(&refusal) => {
                        let name = membership.describe(node);
                        return Err(format!("{name} objects: {}", refusal.message));
                    }
                    // Asked again.
                    _ => {}
                }
            }
            let Some(first) = waiting.first() else { return Ok(()) };
            if coordinator.clock.now() >= deadline {
                let name = membership.describe(*first);
                let (secs, all) = (HEARD_PATIENCE.as_secs(), waiting.len());
                return Err(format!(
                    "{all} live members, {name} among them, did not confirm within {secs} s that this node is {status}"
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How long a request may go on that was planned before its coordinator knew of the leave: it does not go to the new
    /// owners, and has to be over before what is here is streamed to them.
    fn what_was_sent_takes(&self) -> Duration {
        let config = &self.parts.coordinator.config;
        let write = config.write_request_timeout;
        let decree = config.cas_contention_timeout + config.read_request_timeout + write * 3;
        config.counter_write_request_timeout.max(decree) + write
    }

    /// Waits until no batch is kept here that its coordinator has left: as they become due, replay finishes them. Nobody asks
    /// one that is leaving to keep another.
    async fn finish_batches(&self) -> Result<(), String> {
        let batchlog = &self.parts.coordinator.batchlog;
        let clock = &self.parts.coordinator.clock;
        let (mut fewest, mut since) = (usize::MAX, clock.now());
        loop {
            let kept = batchlog.figures().batches;
            if kept == 0 {
                return Ok(());
            }
            if kept < fewest {
                (fewest, since) = (kept, clock.now());
            }
            if clock.now().saturating_sub(since) > STEP_PATIENCE {
                return Err(format!(
                    "{kept} logged batches that this node keeps cannot be finished: see why their replicas do not take them"
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Has every conditional write decided that this node has accepted: it may be one of the quorum without which nobody
    /// would know of it.
    async fn settle_decrees(&self, leave: &Leave) -> Result<(), String> {
        let coordinator = &self.parts.coordinator;
        let mut start = Some(RangeStart::First);
        while let Some(from) = start.take() {
            let (engine, now) =
                (Arc::clone(&coordinator.replica.engine), coordinator.now_seconds());
            let look = move || paxos::unfinished(&*engine, &from, now);
            let lane = Lane::Compaction;
            let step = background::run(&*self.parts.background, lane, 1 << 20, look).await;
            let step = step.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
            for (table, key) in step.found {
                self.settle_decree(table, &key).await?;
                leave.note(|progress| progress.decrees_settled += 1);
            }
            start = step.next;
        }
        Ok(())
    }

    async fn settle_decree(&self, table: TableId, key: &Key) -> Result<(), String> {
        let coordinator = &self.parts.coordinator;
        // Which of the two it was decided at is not written down.
        for serial in [SerialLevel::LocalSerial, SerialLevel::Serial] {
            let mut attempt = 1;
            loop {
                let view = self.parts.schema.current();
                // Its table was dropped.
                let Some(def) = view.table(table) else { return Ok(()) };
                let (keyspace, name) = (def.keyspace.as_str(), def.name.as_str());
                let of = (keyspace, name, table);
                let settled = coordinator.settle(of, key, serial, &Trace::default()).await;
                let Err(error) = settled else { break };
                if attempt == DECREE_ATTEMPTS {
                    return Err(format!(
                        "a conditional write of {keyspace}.{name} that this node has accepted could not be decided: {error}"
                    ));
                }
                attempt += 1;
            }
        }
        Ok(())
    }

    /// Sends what this node holds to whoever will hold it, until a pass finds nothing to send.
    async fn stream(&self, leave: &Leave) -> Result<(), String> {
        let me = self.parts.coordinator.id;
        for _ in 0..PASSES_MAX {
            let ring = self.membership().ring();
            let job = self.parts.repairs.start_handover(&ring, &ring.without(&[me]));
            let job = job.map_err(|error| match error {
                RepairError::Busy { .. } => {
                    format!("{error}. Then ask for the decommission again")
                }
                other => other.to_string(),
            })?;
            leave.note(|progress| progress.passes.push(Arc::clone(&job)));
            let ended = job.ended().await;
            match ended.outcome {
                Outcome::Completed => {}
                Outcome::Cancelled => return Err("its stream was cancelled".to_owned()),
                _ => {
                    let why = ended.failures.first().map(|failure| failure.reason.as_str());
                    let why = why.unwrap_or("a range was not handed over");
                    return Err(format!(
                        "what this node holds did not reach its new owners: {why}"
                    ));
                }
            }
            if ended.tables.values().all(|table| table.partitions_sent == 0) {
                break;
            }
        }
        Ok(())
    }

    /// Delivers what this node owes, or gives it to others to keep, until nothing is left.
    async fn give_hints_away(&self, leave: &Leave) -> Result<(), String> {
        let hints = self.hints();
        self.parts.handoff.hand_over(true);
        hints.set_paused(false);
        let before = hints.figures().account;
        loop {
            let account = hints.figures().account;
            let Some(target) = hints.list().into_iter().find(|row| row.account.pending > 0) else {
                leave.note(|progress| {
                    progress.hints_delivered += account.delivered - before.delivered;
                    progress.hints_handed_over += account.redirected - before.redirected;
                });
                return Ok(());
            };
            let outcome = hints.await_delivered(target.target, STEP_PATIENCE).await;
            let outcome = outcome.map_err(|error| error.to_string())?;
            if outcome.pending > 0 && outcome.pending == outcome.owed {
                let name = self.membership().describe(target.target);
                return Err(format!(
                    "{} hints for {name} could neither be delivered nor given to another node to keep",
                    outcome.pending
                ));
            }
        }
    }

    /// Lets no clients in any more, and waits for the ends of what they had begun.
    async fn close(&self) -> Result<(), String> {
        let coordinator = &self.parts.coordinator;
        coordinator.door.set_open(false);
        let ended = async {
            while coordinator.in_flight() > 0 || coordinator.settling() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        let ended = tokio::time::timeout(STEP_PATIENCE, ended).await;
        ended.map_err(|_| "requests that this node coordinates do not end".to_owned())
    }

    /// The point of no return.
    async fn go(&self, leave: &Leave) -> Result<(), String> {
        self.write_down(Standing::Left).await?;
        // It is gone all the same: who has not heard hears it from the others, and gets no acknowledgement here.
        if let Err(why) = self.tell_that_it_left().await {
            tracing::warn!(why, "not everybody has confirmed that this node has left");
            leave.note(|progress| progress.warnings.push(why));
        }
        Ok(())
    }

    async fn write_down(&self, standing: Standing) -> Result<(), String> {
        let (disk, identity) = (Arc::clone(&self.parts.disk), self.parts.identity.clone());
        let cluster = self.parts.coordinator.config.cluster_name.clone();
        let write = move || identity.keep(&*disk, &cluster, standing);
        let written = background::run(&*self.parts.background, Lane::Flush, 4096, write).await;
        let written = written.map_err(|error| error.to_string())?;
        written.map_err(|error| format!("it cannot be written down that this node left: {error}"))
    }

    /// Whether this node had left before it started, and nobody may know.
    pub(crate) fn is_gone(&self) -> bool {
        self.parts.identity.left
    }

    /// Tells the members that this node is none any more. When they have confirmed it there is nothing more to be said, in
    /// this life or another.
    pub(crate) async fn tell_that_it_left(&self) -> Result<(), String> {
        let coordinator = &self.parts.coordinator;
        coordinator.door.lock();
        let now_s = u64::try_from(coordinator.clock.wall_micros() / 1_000_000).unwrap_or(0);
        self.membership().announce_left(now_s + REMEMBERED_S);
        if self.membership().live_peers().is_empty() {
            return Err("no other node is there to be told that this one has left".to_owned());
        }
        self.heard_by_all(status::LEFT).await?;
        self.membership().fall_silent();
        self.write_down(Standing::LeftAndHeard).await
    }
}

/// Whether a member may yet confirm what it does not confirm now.
fn is_not_yet(refusal: &v1::ReplicaError) -> bool {
    refusal.reason == FailureReason::Overloaded.name()
}

/// A member's answer to a node that asks whether its status is known here.
pub(crate) fn confirm(membership: &Membership, from: NodeId, notice: &v1::LeaveNotice) -> Body {
    let ring = membership.ring();
    let other = ring.leaving().iter().find(|node| **node != from);
    if notice.status == status::LEAVING
        && let Some(other) = other
    {
        let why = format!(
            "{} is leaving the ring too, and one leaves at a time: ask one of them again when the other has left",
            membership.describe(*other)
        );
        return crate::replica::failed(FailureReason::Unknown, &why);
    }
    let is_known = match notice.status.as_str() {
        status::LEFT => membership.has_left(from),
        said => membership.status_of(from).as_deref() == Some(said),
    };
    match is_known {
        true => Body::Ack(v1::Ack::default()),
        false => crate::replica::failed(FailureReason::Overloaded, &"this is not known here yet"),
    }
}
