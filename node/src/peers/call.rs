//! A call to some peers: what was asked of whom, and the answers as they come.

use super::pending::{CallId, PeerError, Via};
use super::session::ReplyTo;
use super::verb::{Lane, Verb};
use super::{Body, Peers};
use helenus_core::NodeId;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// Answers under way. It may be kept after its caller was answered: stragglers still arrive or expire, each once.
/// Dropping it makes what is still to come late; what was sent stays sent.
pub struct Inflight {
    peers: Arc<Peers>,
    /// `None`: the table of calls was full, and nothing is sent.
    call: Option<CallId>,
    deadline: Duration,
    refused: VecDeque<(NodeId, Result<Body, PeerError>)>,
}

impl fmt::Debug for Inflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflight").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl Peers {
    /// Sends `body` to each of `to`, on its verb's lane. Every one of them is answered for within about `timeout`.
    pub fn call(self: &Arc<Self>, to: &[NodeId], body: Body, timeout: Duration) -> Inflight {
        let mut inflight = self.begin(timeout);
        if let Some((last, others)) = to.split_last() {
            for node in others {
                inflight.send(*node, body.clone());
            }
            inflight.send(*last, body);
        }
        inflight
    }

    /// A call that asks nobody yet: for when peers are asked different things.
    pub fn begin(self: &Arc<Self>, timeout: Duration) -> Inflight {
        let deadline = self.clock.now().saturating_add(timeout);
        Inflight {
            peers: self.clone(),
            call: self.pending.open(deadline),
            deadline,
            refused: VecDeque::new(),
        }
    }
}

impl Inflight {
    /// Asks one more, on the verb's lane. A failure to queue is its answer.
    pub fn send(&mut self, to: NodeId, body: Body) {
        let lane = Verb::of(&body).lane();
        self.send_on(to, lane, body);
    }

    /// Asks one more, on `lane`.
    pub fn send_on(&mut self, to: NodeId, lane: Lane, body: Body) {
        let Some(call) = self.call else {
            self.refused.push_back((to, Err(PeerError::QueueFull)));
            return;
        };
        let Some(link) = self.peers.link_to(to, lane) else {
            self.peers.pending.push(call, to, Err(PeerError::Unknown));
            return;
        };
        let via = Via::Link(link.id);
        self.peers.pending.expect(call, to, via);
        let sent = self.peers.transmit(&link, Some(to), call.wire(), self.deadline, body);
        if let Err(error) = sent {
            self.peers.pending.answer(call, to, via, Err(error));
        }
    }

    /// Where this node's own answer goes, so that it arrives with the others': now, or after a sync.
    pub fn local(&mut self) -> ReplyTo {
        let node = self.peers.node();
        let Some(call) = self.call else {
            self.refused.push_back((node, Err(PeerError::QueueFull)));
            return ReplyTo::nobody();
        };
        self.peers.pending.expect(call, node, Via::Local);
        ReplyTo::local(self.peers.clone(), call)
    }

    /// Puts in an answer that is there already.
    pub fn push_local(&mut self, from: NodeId, answer: Result<Body, PeerError>) {
        match self.call {
            Some(call) => self.peers.pending.push(call, from, answer),
            None => self.refused.push_back((from, answer)),
        }
    }

    /// The next answer; `None` when everyone asked has been answered for. Cancel safe: an answer that was not taken is
    /// there the next time.
    pub async fn next(&mut self) -> Option<(NodeId, Result<Body, PeerError>)> {
        if let Some(refused) = self.refused.pop_front() {
            return Some(refused);
        }
        let call = self.call?;
        poll_fn(|cx| self.peers.pending.poll(call, cx)).await
    }

    /// The next answer that is there already; `None` when none is, whether or not more will come.
    pub fn ready(&mut self) -> Option<(NodeId, Result<Body, PeerError>)> {
        self.refused.pop_front().or_else(|| self.peers.pending.ready(self.call?))
    }

    /// Who has not been answered for yet. Answers that have come and were not taken are not counted.
    pub fn waiting(&self) -> Vec<NodeId> {
        self.call.map(|call| self.peers.pending.waiting(call)).unwrap_or_default()
    }
}

impl Drop for Inflight {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.peers.pending.close(call);
        }
    }
}
