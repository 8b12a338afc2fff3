//! Calls that wait for answers: one table a node, no task and no channel a message.
//!
//! A call is a slot of the table. An answer finds its slot by the id that it echoes, is put into it and wakes whoever
//! awaits `Inflight::next`. One sweeper expires what was not answered in time, so a call ends for each of its peers
//! even when nobody polls it.
//!
//! Invariants: every peer that was sent a message is answered for exactly once, by an answer or by a [`PeerError`]; a
//! second answer of the same peer is late, and late answers are counted, never delivered. Ids are not reused: a slot's
//! generation is part of the id.
//!
//! Bound: `slots_max` calls at once; past it a call is told [`PeerError::QueueFull`] for every peer.

use helenus_core::NodeId;
use helenus_proto::v1::message::Body;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// Why a peer did not answer. All but [`PeerError::Expired`] and [`PeerError::Disconnected`] mean that the peer has not
/// seen the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum PeerError {
    /// No answer within the call's timeout. The peer may have acted.
    #[error("no answer in time")]
    Expired,
    /// The link was lost while the call was under way. The peer may have acted.
    #[error("the link was lost before an answer came")]
    Disconnected,
    /// There is no link, and the last attempt to make one failed or was refused.
    #[error("the peer is not connected")]
    NotConnected,
    /// The queue to the peer, or the table of calls, is full.
    #[error("the queue to the peer is full")]
    QueueFull,
    /// The message is larger than a frame may be. Sending it would cost the link and everything else on it.
    #[error("the message is larger than a link takes")]
    TooLarge,
    /// Nobody has said yet where this peer is.
    #[error("the address of the peer is not known")]
    Unknown,
}

impl PeerError {
    /// Whether the peer may have acted on the message all the same.
    pub fn may_have_arrived(self) -> bool {
        matches!(self, PeerError::Expired | PeerError::Disconnected)
    }
}

/// How an answer is expected to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// From this node itself.
    Local,
    /// On that dialled link. Not "that peer and lane": a node that has moved has a new link while its old one ends.
    Link(LinkId),
}

/// A dialled link's number, never reused within a node's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkId(pub(crate) u64);

/// A call's name: slot and generation. Never 0 on the wire, where 0 means that no answer is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId {
    slot: u32,
    generation: u32,
}

impl CallId {
    pub(crate) fn wire(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.slot)
    }

    fn from_wire(id: u64) -> Option<CallId> {
        Some(CallId {
            slot: u32::try_from(id & u64::from(u32::MAX)).ok()?,
            generation: u32::try_from(id >> 32).ok()?,
        })
    }

    fn index(self) -> usize {
        usize::try_from(self.slot).unwrap_or(usize::MAX)
    }
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    live: bool,
    deadline: Duration,
    /// Who has been asked and has not answered. A handful: searched in order.
    waiting: Vec<(NodeId, Via)>,
    answers: VecDeque<(NodeId, Result<Body, PeerError>)>,
    waker: Option<Waker>,
}

impl Slot {
    /// Moves a peer from `waiting` to `answers`. False: it was not waiting.
    fn answer(&mut self, from: NodeId, via: Via, answer: Result<Body, PeerError>) -> bool {
        let Some(at) = self.waiting.iter().position(|w| *w == (from, via)) else { return false };
        self.waiting.swap_remove(at);
        self.answers.push_back((from, answer));
        true
    }
}

#[derive(Debug)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// When the sweeper looks next; a call that ends before wakes it.
    next_sweep: Duration,
}

impl Table {
    fn live(&mut self, id: CallId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index()).filter(|slot| slot.live && slot.generation == id.generation)
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Pending {
    table: Mutex<Table>,
    slots_max: usize,
    /// Told when a call ends before the sweeper's next look.
    sooner: Notify,
}

impl Pending {
    pub(crate) fn new(slots_max: usize) -> Pending {
        Pending {
            table: Mutex::new(Table {
                slots: Vec::new(),
                free: Vec::new(),
                next_sweep: Duration::MAX,
            }),
            slots_max,
            sooner: Notify::new(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it holds this lock")
    }

    /// Opens a call. `None`: the table is full.
    pub(crate) fn open(&self, deadline: Duration) -> Option<CallId> {
        let mut table = self.table();
        let slot = match table.free.pop() {
            Some(slot) => slot,
            None if table.slots.len() < self.slots_max => {
                let slot = u32::try_from(table.slots.len()).ok()?;
                table.slots.push(Slot {
                    generation: 0,
                    live: false,
                    deadline,
                    waiting: Vec::new(),
                    answers: VecDeque::new(),
                    waker: None,
                });
                slot
            }
            None => return None,
        };
        let entry = table.slots.get_mut(usize::try_from(slot).ok()?)?;
        // From 1, so that no id is 0 on the wire.
        entry.generation = entry.generation.wrapping_add(1).max(1);
        entry.live = true;
        entry.deadline = deadline;
        let id = CallId { slot, generation: entry.generation };
        if deadline < table.next_sweep {
            table.next_sweep = deadline;
            self.sooner.notify_one();
        }
        Some(id)
    }

    /// Expects an answer of `from`.
    pub(crate) fn expect(&self, id: CallId, from: NodeId, via: Via) {
        if let Some(slot) = self.table().live(id) {
            slot.waiting.push((from, via));
        }
    }

    /// Answers for one peer. False: nobody waits for that any more.
    pub(crate) fn answer(
        &self,
        id: CallId,
        from: NodeId,
        via: Via,
        answer: Result<Body, PeerError>,
    ) -> bool {
        let waker = {
            let mut table = self.table();
            let Some(slot) = table.live(id) else { return false };
            if !slot.answer(from, via, answer) {
                return false;
            }
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// As [`Pending::answer`], by the id that went over the wire; 0 waits for nothing.
    pub(crate) fn answer_wire(&self, id: u64, from: NodeId, via: Via, error: PeerError) {
        if let Some(id) = CallId::from_wire(id) {
            self.answer(id, from, via, Err(error));
        }
    }

    /// Delivers the answers of one frame under one lock; what nobody waits for is given to `late`.
    pub(crate) fn answer_all(
        &self,
        from: NodeId,
        link: LinkId,
        answers: impl Iterator<Item = (u64, Body)>,
        mut late: impl FnMut(&Body),
    ) {
        let mut wakers = Vec::new();
        {
            let mut table = self.table();
            for (id, body) in answers {
                let slot = CallId::from_wire(id).and_then(|id| table.live(id));
                let Some(slot) = slot.filter(|s| s.waiting.contains(&(from, Via::Link(link))))
                else {
                    late(&body);
                    continue;
                };
                slot.answer(from, Via::Link(link), Ok(body));
                wakers.extend(slot.waker.take());
            }
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Fails everything that waits for `link`. `None`: everything that waits for a link at all.
    pub(crate) fn fail_link(&self, link: Option<LinkId>, error: PeerError) {
        let lost = |(_, via): &(NodeId, Via)| match via {
            Via::Link(waits_for) => link.is_none_or(|lost| lost == *waits_for),
            Via::Local => false,
        };
        self.fail_where(|_| true, lost, error);
    }

    fn fail_where(
        &self,
        slots: impl Fn(&Slot) -> bool,
        peers: impl Fn(&(NodeId, Via)) -> bool,
        error: PeerError,
    ) {
        let mut wakers = Vec::new();
        for slot in &mut self.table().slots {
            if !slot.live || slot.waiting.is_empty() || !slots(slot) {
                continue;
            }
            let before = slot.answers.len();
            let answers = &mut slot.answers;
            slot.waiting.retain(|waiting| {
                let fails = peers(waiting);
                if fails {
                    answers.push_back((waiting.0, Err(error)));
                }
                !fails
            });
            if slot.answers.len() > before {
                wakers.extend(slot.waker.take());
            }
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Expires what is due at `now`. Gives the earliest deadline that is left.
    pub(crate) fn sweep(&self, now: Duration) -> Option<Duration> {
        self.fail_where(|slot| slot.deadline <= now, |_| true, PeerError::Expired);
        let mut table = self.table();
        let next = table
            .slots
            .iter()
            .filter(|slot| slot.live && !slot.waiting.is_empty() && slot.deadline > now)
            .map(|slot| slot.deadline)
            .min();
        table.next_sweep = next.unwrap_or(Duration::MAX);
        next
    }

    /// Resolves when a call was opened that ends before the last answer of [`Pending::sweep`].
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// The next answer of a call; `None` when all have been taken.
    pub(crate) fn poll(
        &self,
        id: CallId,
        cx: &Context<'_>,
    ) -> Poll<Option<(NodeId, Result<Body, PeerError>)>> {
        let mut table = self.table();
        let Some(slot) = table.live(id) else { return Poll::Ready(None) };
        if let Some(answer) = slot.answers.pop_front() {
            return Poll::Ready(Some(answer));
        }
        if slot.waiting.is_empty() {
            return Poll::Ready(None);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// An answer that has come and was not taken.
    pub(crate) fn ready(&self, id: CallId) -> Option<(NodeId, Result<Body, PeerError>)> {
        self.table().live(id)?.answers.pop_front()
    }

    /// Who has not answered yet.
    pub(crate) fn waiting(&self, id: CallId) -> Vec<NodeId> {
        let mut table = self.table();
        let waiting = table.live(id).map(|slot| slot.waiting.iter().map(|(peer, _)| *peer));
        waiting.map(Iterator::collect).unwrap_or_default()
    }

    /// Puts an answer in without anyone having been asked.
    pub(crate) fn push(&self, id: CallId, from: NodeId, answer: Result<Body, PeerError>) {
        if let Some(slot) = self.table().live(id) {
            slot.answers.push_back((from, answer));
        }
    }

    /// Closes a call. What is still answered is late.
    pub(crate) fn close(&self, id: CallId) {
        let mut table = self.table();
        let Some(slot) = table.live(id) else { return };
        slot.live = false;
        slot.waker = None;
        // The slot keeps its allocations for the next call.
        slot.waiting.clear();
        slot.answers.clear();
        table.free.push(id.slot);
    }

    /// How many calls are open.
    pub(crate) fn open_calls(&self) -> usize {
        let table = self.table();
        table.slots.len().saturating_sub(table.free.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_proto::v1::Ack;

    const N1: NodeId = NodeId(1);
    const N2: NodeId = NodeId(2);
    const LINK: LinkId = LinkId(1);
    const OTHER: LinkId = LinkId(2);

    fn ack() -> Body {
        Body::Ack(Ack::default())
    }

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn next(pending: &Pending, id: CallId) -> Poll<Option<(NodeId, Result<Body, PeerError>)>> {
        pending.poll(id, &Context::from_waker(Waker::noop()))
    }

    #[test]
    fn each_peer_is_answered_for_once_and_what_comes_later_is_late() {
        let pending = Pending::new(4);
        let id = pending.open(secs(1)).unwrap();
        pending.expect(id, N1, Via::Link(LINK));
        pending.expect(id, N2, Via::Link(LINK));
        assert_eq!(next(&pending, id), Poll::Pending);
        assert!(pending.answer(id, N1, Via::Link(LINK), Ok(ack())));
        assert!(!pending.answer(id, N1, Via::Link(LINK), Ok(ack())), "a duplicate is late");
        assert_eq!(pending.waiting(id), [N2]);
        pending.fail_link(Some(LINK), PeerError::Disconnected);
        assert_eq!(next(&pending, id), Poll::Ready(Some((N1, Ok(ack())))));
        assert_eq!(next(&pending, id), Poll::Ready(Some((N2, Err(PeerError::Disconnected)))));
        assert_eq!(next(&pending, id), Poll::Ready(None));
    }

    #[test]
    fn an_answer_that_came_with_the_deciding_one_is_there_though_nobody_is_waited_for() {
        let pending = Pending::new(1);
        let id = pending.open(secs(1)).unwrap();
        pending.expect(id, N1, Via::Link(LINK));
        pending.expect(id, N2, Via::Link(OTHER));
        assert!(pending.answer(id, N1, Via::Link(LINK), Ok(ack())));
        pending.fail_link(Some(OTHER), PeerError::Disconnected);
        assert_eq!(next(&pending, id), Poll::Ready(Some((N1, Ok(ack())))));
        assert!(pending.waiting(id).is_empty());
        assert_eq!(pending.ready(id), Some((N2, Err(PeerError::Disconnected))));
        assert_eq!(pending.ready(id), None);
    }

    #[test]
    fn an_answer_to_an_earlier_call_in_the_same_slot_is_late() {
        let pending = Pending::new(1);
        let first = pending.open(secs(1)).unwrap();
        pending.expect(first, N1, Via::Link(LINK));
        pending.close(first);
        let second = pending.open(secs(1)).unwrap();
        pending.expect(second, N1, Via::Link(LINK));
        assert_eq!(first.slot, second.slot);
        let mut late = 0;
        let answers = [(first.wire(), ack()), (0, ack()), (u64::MAX, ack())];
        pending.answer_all(N1, LINK, answers.into_iter(), |_| late += 1);
        assert_eq!(late, 3);
        assert_eq!(next(&pending, second), Poll::Pending);
        pending.answer_all(N1, OTHER, [(second.wire(), ack())].into_iter(), |_| late += 1);
        assert_eq!(late, 4, "an answer on another link than the request's is nobody's");
        pending.answer_all(N1, LINK, [(second.wire(), ack())].into_iter(), |_| late += 1);
        assert_eq!(late, 4);
        assert_eq!(next(&pending, second), Poll::Ready(Some((N1, Ok(ack())))));
    }

    #[test]
    fn the_sweeper_expires_what_is_due_and_says_when_to_look_again() {
        let pending = Pending::new(4);
        let soon = pending.open(secs(1)).unwrap();
        let later = pending.open(secs(3)).unwrap();
        pending.expect(soon, N1, Via::Link(LINK));
        pending.expect(soon, N2, Via::Local);
        pending.expect(later, N1, Via::Link(LINK));
        assert_eq!(pending.sweep(secs(0)), Some(secs(1)));
        assert_eq!(pending.sweep(secs(1)), Some(secs(3)));
        assert_eq!(next(&pending, soon), Poll::Ready(Some((N1, Err(PeerError::Expired)))));
        assert_eq!(next(&pending, soon), Poll::Ready(Some((N2, Err(PeerError::Expired)))));
        assert_eq!(next(&pending, later), Poll::Pending);
        assert_eq!(pending.sweep(secs(3)), None);
    }

    #[test]
    fn a_full_table_opens_no_call_until_one_is_closed() {
        let pending = Pending::new(2);
        let first = pending.open(secs(1)).unwrap();
        assert!(pending.open(secs(1)).is_some());
        assert!(pending.open(secs(1)).is_none());
        pending.close(first);
        assert_eq!(pending.open_calls(), 1);
        assert!(pending.open(secs(1)).is_some());
    }

    #[test]
    fn losing_every_link_leaves_the_local_answer_alone() {
        let pending = Pending::new(1);
        let id = pending.open(secs(1)).unwrap();
        pending.expect(id, N1, Via::Local);
        pending.expect(id, N2, Via::Link(LINK));
        pending.fail_link(None, PeerError::Disconnected);
        assert_eq!(pending.waiting(id), [N1]);
    }
}
