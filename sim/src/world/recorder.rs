//! Listens to every node: hashes what it tells into the trace, and keeps what figures are made of.

use super::clock::Now;
use super::trace::Trace;
use crate::keys::order_of;
use crate::ledger::{Applied, HintEvent, HintFate, Ledger, LivenessChange, NodeIndex};
use helenus_core::NodeId;
use helenus_node::seams::probe::{Event, Probe};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The ledger, the trace and the time, shared by all hosts of one simulation. All of them run on one thread, in a
/// fixed order, so the lock is never contended and the order of events is the same in every replay.
#[derive(Debug)]
pub struct Recorder {
    now: Arc<Now>,
    /// The simulation's time at which the scenario's clock starts.
    start: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    trace: Trace,
    ledger: Ledger,
}

impl Recorder {
    /// For a cluster of `nodes`, whose scenario starts at `start` of the simulation.
    pub fn new(now: Arc<Now>, start: Duration, nodes: usize, trace: Trace) -> Recorder {
        let applied = (0..nodes).map(|_| Default::default()).collect();
        let ledger = Ledger { applied, ..Ledger::default() };
        Recorder { now, start, inner: Mutex::new(Inner { trace, ledger }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere must not hide what happened before it.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The scenario's time: 0 before its clock has started.
    pub fn now(&self) -> Duration {
        self.now.elapsed().saturating_sub(self.start)
    }

    /// The simulation's time.
    pub fn elapsed(&self) -> Duration {
        self.now.elapsed()
    }

    /// Works on the ledger.
    pub fn ledger<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        work(&mut self.lock().ledger)
    }

    /// Adds something to the trace that no node told: what clients did, what the world did to the nodes.
    pub fn trace(&self, who: &str, what: &dyn Debug) {
        let at = self.now.elapsed();
        self.lock().trace.add(at, who, what);
    }

    /// The trace's hash and how many events it is over.
    pub fn digest(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.trace.digest(), inner.trace.events())
    }

    /// Ends the file of the trace.
    pub fn finish_trace(&self) -> std::io::Result<()> {
        self.lock().trace.finish()
    }
}

/// Listens to one node.
#[derive(Debug)]
pub struct NodeProbe {
    /// Where it is told.
    pub recorder: Arc<Recorder>,
    /// Which node.
    pub node: NodeIndex,
    /// Its name.
    pub name: String,
}

impl Probe for NodeProbe {
    fn event(&self, event: &Event) {
        let elapsed = self.recorder.now.elapsed();
        let at = elapsed.saturating_sub(self.recorder.start);
        let mut inner = self.recorder.lock();
        inner.trace.add(elapsed, &self.name, event);
        let ledger = &mut inner.ledger;
        let index = |ledger: &Ledger, id: &NodeId| ledger.ids.get(id).copied();
        let node = self.node;
        match event {
            Event::Applied { key, by, .. } => {
                if let Some(order) = order_of(&key.0)
                    && let Some(applied) = ledger.applied.get_mut(node)
                {
                    applied.entry(order).or_insert(Applied { at, by: *by });
                }
            }
            Event::HintStored { target, key, bytes } => {
                let (target, order) = (index(ledger, target), order_of(&key.0));
                ledger.hints.push(HintEvent {
                    at,
                    node,
                    target,
                    order,
                    fate: HintFate::Stored(*bytes),
                });
            }
            Event::HintDeadLettered { target, key, bytes } => {
                let (target, order) = (index(ledger, target), order_of(&key.0));
                let fate = HintFate::DeadLettered(*bytes);
                ledger.hints.push(HintEvent { at, node, target, order, fate });
            }
            Event::HintLost { target, key, reason } => {
                let (target, order) = (index(ledger, target), order_of(&key.0));
                ledger.hints.push(HintEvent {
                    at,
                    node,
                    target,
                    order,
                    fate: HintFate::Lost(*reason),
                });
            }
            Event::HintDelivered { target, key } => {
                let (target, order) = (index(ledger, target), order_of(&key.0));
                ledger.hints.push(HintEvent { at, node, target, order, fate: HintFate::Delivered });
            }
            Event::Liveness { peer, alive } => {
                let peer = index(ledger, peer);
                ledger.liveness.push(LivenessChange { at, node, peer, alive: *alive });
            }
            Event::ReadRepaired { replica, .. } => {
                let replica = index(ledger, replica);
                ledger.read_repairs.push((at, node, replica));
            }
            Event::Flushed { table, sstables } => {
                ledger.flushes.push((at, node, *table));
                ledger.sstables.push((at, node, *table, *sstables));
            }
            Event::Compacted { table, sstables, .. } => {
                ledger.sstables.push((at, node, *table, *sstables));
            }
            // Traced, and no figure needs them.
            _ => {}
        }
    }
}
