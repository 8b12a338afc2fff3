//! What a coordinator says in a trace. The words of a learner: which node, which level, how many of how many, which
//! version.

mod paxos;

pub(in crate::coordinator) use paxos::{committed, judged};

use super::Trace;
use crate::coordinator::Coordinator;
use crate::peers::PeerError;
use crate::replica::{count, in_words, short};
use crate::seams::probe::HintLoss;
use helenus_core::batchlog::BatchId;
use helenus_core::placement::Replica as Holder;
use helenus_core::tally::{Tally, Verdict};
use helenus_core::{Level, NodeId, Partition, Token, codec};
use helenus_proto::v1::message::Body;
use helenus_proto::{ids, v1};
use std::fmt;

impl Coordinator {
    /// A node's address alone: lines of a trace are long enough.
    fn name(&self, node: NodeId) -> String {
        let ring = self.membership.ring();
        ring.endpoint(node).map_or_else(|| node.to_string(), |it| it.internode.to_string())
    }

    fn names(&self, nodes: impl IntoIterator<Item = NodeId>) -> String {
        let names: Vec<String> = nodes.into_iter().map(|node| self.name(node)).collect();
        names.join(", ")
    }

    /// Which replicas there are, and how many of them the level needs.
    pub(in crate::coordinator) fn tell_plan(
        &self,
        trace: &Trace,
        (what, token): (&str, Token),
        holders: &[Holder],
        (level, block_for): (impl fmt::Display, usize),
    ) {
        trace.tell(|| {
            let dead = holders.iter().map(|h| h.node).filter(|node| !self.is_alive(*node));
            let dead: Vec<NodeId> = dead.collect();
            let down = match dead.is_empty() {
                true => String::new(),
                false => format!("; down: {}", self.names(dead)),
            };
            let holders = holders.iter().map(|holder| self.membership.describe(holder.node));
            let holders = holders.collect::<Vec<_>>().join(", ");
            format!(
                "Determining replicas for {what}: token {token} is on {holders}{down}; {level} needs {block_for}"
            )
        });
    }

    /// `node` is sent a message.
    pub(in crate::coordinator) fn tell_sent(&self, trace: &Trace, what: &str, node: NodeId) {
        trace.asks(node, || format!("Sending {what} message to {}", self.name(node)));
    }

    /// `node` has answered, or will not any more.
    pub(in crate::coordinator) fn tell_answer(
        &self,
        trace: &Trace,
        node: NodeId,
        answer: &mut Result<Body, PeerError>,
    ) {
        trace.hears(node, answer);
        trace.tell(|| match answer {
            Ok(Body::CounterAnswer(answer)) => self.led(node, answer),
            answer => heard(&self.name(node), answer),
        });
    }

    /// A write of counters, as the node that led it tells how it ended.
    fn led(&self, leader: NodeId, answer: &v1::CounterAnswer) -> String {
        let (received, block_for) = (answer.received, answer.block_for);
        let how = match answer.outcome() {
            v1::CounterOutcome::Written => {
                let nodes = answer.responders.iter();
                let nodes = nodes.filter_map(|bytes| ids::node_from_wire("node", bytes).ok());
                format!("counted, and acknowledged by {}", self.names(nodes))
            }
            v1::CounterOutcome::Unavailable => {
                format!(
                    "nothing was counted, {received} of {block_for} required replicas are alive"
                )
            }
            v1::CounterOutcome::Timeout => {
                format!("time is up, {received} of {block_for} required replicas acknowledged")
            }
            v1::CounterOutcome::Failure => format!(
                "{received} of {block_for} required replicas acknowledged, and {} refused",
                count(answer.refusals.len() as u64, "replica")
            ),
            v1::CounterOutcome::Invalid | v1::CounterOutcome::Overloaded => {
                format!("nothing was counted: {}", answer.message)
            }
        };
        format!("Received answer from {}, which leads: {how}", self.name(leader))
    }

    /// Who keeps a logged batch, before anything of it is sent.
    pub(in crate::coordinator) fn tell_keepers(
        &self,
        trace: &Trace,
        (id, writes): (BatchId, usize),
        keepers: &[NodeId],
    ) {
        trace.tell(|| {
            format!(
                "Logging batch {id} of {}: kept by {} until all of it is written, whatever becomes of this node",
                count(writes as u64, "partition"),
                self.names(keepers.iter().copied())
            )
        });
    }

    /// Which replica leads a write of counters.
    pub(in crate::coordinator) fn tell_leader(&self, trace: &Trace, leader: NodeId) {
        trace.tell(|| match leader == self.id {
            true => "Counting here: this node is a replica, and leads".to_owned(),
            false => format!(
                "Asking {} to lead: a replica has to count, and this node is none",
                self.name(leader)
            ),
        });
    }

    /// `node` is owed a hint, or would be.
    pub(in crate::coordinator) fn tell_hint(
        &self,
        trace: &Trace,
        node: NodeId,
        refused: Option<&HintLoss>,
    ) {
        trace.tell(|| match refused {
            None => format!("Writing a hint for {}: it has not acknowledged", self.name(node)),
            Some(loss) => format!(
                "{} has not acknowledged, and no hint is kept for it ({})",
                self.name(node),
                loss.as_str()
            ),
        });
    }

    /// What replicas that disagree said.
    pub(in crate::coordinator) fn tell_mismatch(
        &self,
        trace: &Trace,
        digests: impl IntoIterator<Item = (NodeId, [u8; 16])>,
    ) {
        trace.tell(|| {
            let says = |(node, digest): (NodeId, [u8; 16])| {
                format!("{} has {}", self.name(node), short(&digest))
            };
            let digests: Vec<String> = digests.into_iter().map(says).collect();
            format!(
                "Digest mismatch: {}; asking everybody who sent a digest for the data",
                digests.join(", ")
            )
        });
    }

    /// What they hold together, and who is behind.
    pub(in crate::coordinator) fn tell_winner(
        &self,
        trace: &Trace,
        winner: &Partition,
        stale: &[(NodeId, Partition)],
    ) {
        trace.tell(|| {
            let behind = |(node, lacks): &(NodeId, Partition)| {
                format!("{} lacks {}", self.name(*node), in_words(lacks))
            };
            let behind: Vec<String> = stale.iter().map(behind).collect();
            format!(
                "Merged the answers, the newest timestamp of each cell wins: {}; {}",
                in_words(winner),
                behind.join("; ")
            )
        });
    }
}

/// An answer.
fn heard(name: &str, answer: &Result<Body, PeerError>) -> String {
    match answer {
        Ok(Body::Ack(_)) => format!("Received acknowledgement from {name}"),
        Ok(Body::Failed(error)) => {
            format!("Received refusal from {name}: {} ({})", error.reason, error.message)
        }
        Ok(Body::Partition(found)) => {
            let digest = short(&found.digest);
            match &found.data {
                None => format!("Received digest from {name}: {digest}"),
                Some(data) => {
                    let data = codec::decode(data.clone());
                    let data = data.map_or_else(|e| e.to_string(), |data| in_words(&data));
                    let more = if found.next.is_some() { ", and there is more" } else { "" };
                    format!("Received data from {name}: {data}{more}; digest {digest}")
                }
            }
        }
        Ok(Body::RangeAnswer(page)) => {
            let found = count(page.partitions.len() as u64, "partition");
            let more = if page.more { ", and there is more" } else { "" };
            format!("Received {found} from {name}{more}")
        }
        Ok(_) => format!("Received something else than an answer from {name}"),
        Err(error) => format!("No answer from {name}: {error}"),
    }
}

/// How it ended.
pub(in crate::coordinator) fn concluded(level: Level, tally: &Tally, verdict: Verdict) -> String {
    let (received, block_for) = (tally.received(), tally.block_for());
    match verdict {
        Verdict::Met => format!("{level} is reached: {received} of {block_for} required answers"),
        Verdict::Pending => {
            format!("Time is up: {received} of {block_for} answers that {level} requires")
        }
        Verdict::Lost => format!(
            "{level} is out of reach: {received} of {block_for} required answers, and {} refused",
            count(tally.failures().count() as u64, "replica")
        ),
    }
}
