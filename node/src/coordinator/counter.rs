//! A write of counters: one replica leads it, and the rest is an ordinary write.
//!
//! ```text
//! coordinator, no replica --CounterMutation--> leader: count, then write as any other mutation
//!                         <--CounterAnswer---          at the level asked for, hints and all
//! coordinator, a replica:                      it leads itself
//! ```
//!
//! What is counted, and why totals are replicated rather than increments, is in `helenus_core::counter`.
//!
//! Invariants: a leader reads its shard and merges the new total without letting anybody in between; it sends a total to
//! nobody that it could not merge itself, or its next one would undo it; an increment that may have arrived is never
//! sent again, to whomever.
//!
//! CAVEAT: a link delivers a message once, at most. A rule of the message filter that duplicates COUNTER_MUTATION counts twice.
//!
//! Source: Cassandra's `StorageProxy.mutateCounter`, `CounterMutation` (CASSANDRA-6504).

use super::Coordinator;
use super::error::{ReplicaFailure, RequestError};
use super::route::TableRoute;
use super::trace::Trace;
use super::write::{Change, PlannedWrite, WriteOutcome, WriteRequest, storage_reason};
use crate::peers::{PeerError, Verb};
use crate::replica::{self, failed};
use crate::seams::probe::ApplyPath;
use crate::storage::{Applied, StorageError, Update, Write};
use helenus_core::counter::{self, CounterError};
use helenus_core::level::Requirement;
use helenus_core::read::{RowFilter, Slice, behind};
use helenus_core::tally::FailureReason;
use helenus_core::{ClusteringKey, Level, NodeId, Partition, TimestampMicros, merge};
use helenus_proto::v1::message::Body;
use helenus_proto::{ids, level as wire_level, v1};
use std::sync::Arc;

/// Where counters are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// Here, or by a replica that is asked to lead.
    Anywhere,
    /// Here: another node asks, and asking on could go round in a circle.
    Here,
}

/// A write of counters that its leader has merged.
pub(super) struct Counted {
    /// The new totals, for the others.
    pub(super) write: Write,
    pub(super) timestamp: TimestampMicros,
    pub(super) applied: Applied,
}

/// Why a leader did not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotCounted {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Counter(#[from] CounterError),
}

impl NotCounted {
    /// What the client is told: nothing was sent to the other replicas.
    pub(super) fn failure(&self, leader: NodeId, requirement: &Requirement) -> RequestError {
        let reason = match self {
            NotCounted::Storage(error) => storage_reason(error),
            // What is stored is damaged, or a peer does not speak as we do.
            NotCounted::Counter(_) => FailureReason::Storage,
        };
        let reason = reason.name().to_owned();
        refused(requirement, vec![ReplicaFailure { node: leader, reason }])
    }
}

/// Counters are counted by a replica, so a hint alone will not do.
pub(super) fn check_level(table: &TableRoute, level: Level) -> Result<(), RequestError> {
    if level == Level::Any && table.def.columns.has_counters() {
        return Err(RequestError::Invalid(format!(
            "Consistency level ANY is not supported for counter table {}: a replica has to count, and a hint does not; use \
             ONE",
            table.def.name
        )));
    }
    Ok(())
}

impl Coordinator {
    /// Makes totals of increments, and merges them here.
    pub(super) fn count(&self, write: &Write) -> Result<Counted, NotCounted> {
        let Update::Other(increments) = &write.update else {
            // A key-value put is none.
            return Err(CounterError::NamedLikeAShard.into());
        };
        let mut update = increments.clone();
        // Nothing is awaited while this is held.
        let _counting = self.counting.lock().expect("no holder of this lock panics");
        let mut timestamp = merge::version(&update).unwrap_or_else(|| self.next_timestamp());
        if counter::has_increments(&update) {
            let held = self.held(write, &update)?;
            timestamp = counter::next_timestamp(&held, self.next_timestamp());
            counter::count(&mut update, &held, self.shard, timestamp)?;
            merge::normalise(&mut update);
        }
        let write = Write::of(write.table, write.key.clone(), write.token, update);
        let applied = self.replica.apply(write.clone(), ApplyPath::Write)?;
        Ok(Counted { write, timestamp, applied })
    }

    /// What this replica holds of the rows that an update counts in, and what deletes them. The partition may be far larger.
    fn held(&self, write: &Write, update: &Partition) -> Result<Partition, StorageError> {
        // The static row's key, which is that of no other row where there is a static row.
        let of_static = ClusteringKey::default();
        let keys = update.rows.iter().map(|(key, _)| key);
        let keys: Vec<_> = match update.rows.is_empty() {
            true => vec![&of_static],
            false => keys.collect(),
        };
        let slice = |key: &ClusteringKey| Slice { start: key.clone(), end: Some(behind(key)) };
        let mut filter = RowFilter {
            slices: keys.into_iter().map(slice).collect(),
            reversed: false,
            static_row: update.static_row.is_some(),
            rows: u32::MAX,
            bytes: u32::MAX,
        };
        let mut held = Partition::default();
        loop {
            let part = self.replica.read_rows(write.table, &write.key, &filter)?;
            merge::merge(&mut held, part.partition);
            let Some(next) = part.next else { return Ok(held) };
            filter.slices = filter.rest(&next);
            filter.static_row = false;
        }
    }

    /// Has a replica lead: the nearest that is alive. Another one is asked only if it is certain that the one before has not
    /// seen the increments.
    pub(super) async fn hand_to_leader(
        self: &Arc<Self>,
        planned: PlannedWrite,
        counting: Counting,
    ) -> Result<WriteOutcome, RequestError> {
        let PlannedWrite { table, write, requirement, timeout: patience, trace, .. } = planned;
        let holders = table.placement.replicas(write.token);
        let level = requirement.level();
        let timeout = RequestError::Timeout {
            level,
            received: 0,
            block_for: requirement.block_for(),
            data_present: false,
            write: true,
        };
        if counting == Counting::Here {
            return Err(RequestError::Invalid(format!(
                "node {} was asked to lead a write of counters that it holds no copy of: the nodes do not agree on the ring \
                 yet; try again",
                self.id
            )));
        }
        let whole = self.config.counter_write_request_timeout;
        let whole = patience.map_or(whole, |patience| patience.min(whole));
        let body = Body::CounterMutation(v1::CounterMutation {
            table: table.wire_id.clone(),
            key: write.key.0.clone(),
            update: write.encoded.clone(),
            level: wire_level::to_wire(level).into(),
        });
        let ring = self.membership.ring();
        let mut leaders = self.nearest_first(holders);
        // One that is leaving soon leads nothing any more.
        leaders.sort_by_key(|leader| ring.is_leaving(leader.node));
        for leader in leaders {
            if !self.is_alive(leader.node) {
                continue;
            }
            self.tell_leader(&trace, leader.node);
            self.tell_sent(&trace, Verb::of(&body).as_str(), leader.node);
            let mut call = self.peers.call(&[leader.node], body.clone(), whole);
            let mut answer = call.next().await;
            if let Some((node, answer)) = &mut answer {
                self.tell_answer(&trace, *node, answer);
            }
            match answer {
                Some((_, Ok(Body::CounterAnswer(answer)))) => return outcome(answer, level),
                Some((node, Ok(Body::Failed(error)))) => {
                    let failures = vec![ReplicaFailure { node, reason: error.reason }];
                    return Err(refused(&requirement, failures));
                }
                Some((node, Ok(_))) => {
                    let reason = FailureReason::Unknown.name().to_owned();
                    return Err(refused(&requirement, vec![ReplicaFailure { node, reason }]));
                }
                Some((_, Err(error))) if error.may_have_arrived() => return Err(timeout),
                Some((_, Err(PeerError::QueueFull))) => {
                    return Err(RequestError::Overloaded(
                        "the queue to the replica that would lead this write of counters is full; nothing was sent. Try \
                         again, or more slowly"
                            .to_owned(),
                    ));
                }
                // It has not seen them.
                Some((_, Err(_))) | None => {}
            }
        }
        Err(timeout)
    }

    /// Leads a write of counters for another node.
    pub(crate) async fn lead(self: &Arc<Self>, increments: v1::CounterMutation) -> Body {
        let Ok(_place) = self.admit().map_err(|_| ()) else {
            return answer_of(Err(RequestError::Overloaded(format!(
                "the replica that leads this write of counters has {} requests in flight already \
                 (native_transport_max_concurrent_requests); nothing was written",
                self.in_flight()
            ))));
        };
        let request = match self.request(increments) {
            Ok(request) => request,
            Err((reason, why)) => return failed(reason, &why),
        };
        let level = request.level;
        let mut result = self.write_admitted(request, Counting::Here).await;
        if let Some(unlogged) = result.as_ref().ok().and_then(|done| done.unlogged(self.id, level))
            && self.replica.engine.commit().is_err()
        {
            result = Err(unlogged.failure(self.id));
        }
        answer_of(result)
    }

    fn request(
        &self,
        increments: v1::CounterMutation,
    ) -> Result<WriteRequest, (FailureReason, String)> {
        let unknown = |why: String| (FailureReason::Unknown, why);
        let table = replica::table_of(&increments.table).map_err(unknown)?;
        let level = wire_level::from_wire(increments.level).map_err(|e| unknown(e.to_string()))?;
        let update = helenus_core::codec::decode(increments.update)
            .map_err(|error| unknown(error.to_string()))?;
        let view = self.replica.schema.current();
        let Some(def) = view.table(table) else {
            let why = format!("table {table} is not known to this node");
            return Err((FailureReason::IncompatibleSchema, why));
        };
        if !def.columns.has_counters() {
            return Err(unknown(format!("table {}.{} has no counters", def.keyspace, def.name)));
        }
        Ok(WriteRequest {
            keyspace: def.keyspace.clone(),
            table: def.name.clone(),
            key: increments.key,
            change: Change::Update(table, update),
            level,
            timestamp: None,
            timeout: None,
            trace: Trace::default(),
        })
    }
}

fn refused(requirement: &Requirement, failures: Vec<ReplicaFailure>) -> RequestError {
    RequestError::Failure {
        level: requirement.level(),
        received: 0,
        block_for: requirement.block_for(),
        data_present: false,
        write: true,
        failures,
    }
}

fn wire(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn count(wire: u32) -> usize {
    usize::try_from(wire).unwrap_or(usize::MAX)
}

/// How a write ended, as it travels.
fn answer_of(result: Result<WriteOutcome, RequestError>) -> Body {
    use v1::CounterOutcome as Outcome;
    let nothing = v1::CounterAnswer::default;
    Body::CounterAnswer(match result {
        Ok(done) => v1::CounterAnswer {
            outcome: Outcome::Written.into(),
            responders: done.responders.into_iter().map(ids::node_to_wire).collect(),
            block_for: wire(done.block_for),
            warnings: done.warnings,
            timestamp_us: done.timestamp.0,
            ..nothing()
        },
        Err(RequestError::Unavailable { required, alive, .. }) => v1::CounterAnswer {
            outcome: Outcome::Unavailable.into(),
            received: wire(alive),
            block_for: wire(required),
            ..nothing()
        },
        Err(RequestError::Timeout { received, block_for, .. }) => v1::CounterAnswer {
            outcome: Outcome::Timeout.into(),
            received: wire(received),
            block_for: wire(block_for),
            ..nothing()
        },
        Err(RequestError::Failure { received, block_for, failures, .. }) => v1::CounterAnswer {
            outcome: Outcome::Failure.into(),
            received: wire(received),
            block_for: wire(block_for),
            refusals: failures.into_iter().map(refusal).collect(),
            ..nothing()
        },
        Err(RequestError::Invalid(message)) => {
            v1::CounterAnswer { outcome: Outcome::Invalid.into(), message, ..nothing() }
        }
        Err(RequestError::Overloaded(message)) => {
            v1::CounterAnswer { outcome: Outcome::Overloaded.into(), message, ..nothing() }
        }
        // Counters have no conditions.
        Err(error @ RequestError::Cas(_)) => v1::CounterAnswer {
            outcome: Outcome::Invalid.into(),
            message: error.to_string(),
            ..nothing()
        },
    })
}

fn refusal(failure: ReplicaFailure) -> v1::ReplicaRefusal {
    v1::ReplicaRefusal { node: ids::node_to_wire(failure.node), reason: failure.reason }
}

/// How a write ended that another node led. A node that cannot be told by its id is left out: the counts are what matters.
fn outcome(answer: v1::CounterAnswer, level: Level) -> Result<WriteOutcome, RequestError> {
    use v1::CounterOutcome as Outcome;
    let (received, block_for) = (count(answer.received), count(answer.block_for));
    let node = |bytes: &[u8]| ids::node_from_wire("node", bytes).ok();
    Err(match answer.outcome() {
        Outcome::Written => {
            return Ok(WriteOutcome {
                timestamp: TimestampMicros(answer.timestamp_us),
                responders: answer.responders.iter().filter_map(|bytes| node(bytes)).collect(),
                warnings: answer.warnings,
                block_for,
            });
        }
        Outcome::Unavailable => {
            RequestError::Unavailable { level, required: block_for, alive: received }
        }
        Outcome::Timeout => {
            RequestError::Timeout { level, received, block_for, data_present: false, write: true }
        }
        Outcome::Failure => {
            let failures = answer.refusals.into_iter().filter_map(|refusal| {
                Some(ReplicaFailure { node: node(&refusal.node)?, reason: refusal.reason })
            });
            RequestError::Failure {
                level,
                received,
                block_for,
                data_present: false,
                write: true,
                failures: failures.collect(),
            }
        }
        Outcome::Invalid => RequestError::Invalid(answer.message),
        Outcome::Overloaded => RequestError::Overloaded(answer.message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_write_ended_travels_whole() {
        let level = Level::Quorum;
        let failures = vec![ReplicaFailure { node: NodeId(3), reason: "STORAGE".to_owned() }];
        let (data_present, write) = (false, true);
        let all = [
            Ok(WriteOutcome {
                timestamp: TimestampMicros(-5),
                warnings: vec!["beware".to_owned()],
                responders: vec![NodeId(1), NodeId(2)],
                block_for: 2,
            }),
            Err(RequestError::Unavailable { level, required: 2, alive: 1 }),
            Err(RequestError::Timeout { level, received: 1, block_for: 2, data_present, write }),
            Err(RequestError::Failure {
                level,
                received: 1,
                block_for: 2,
                data_present,
                write,
                failures,
            }),
            Err(RequestError::Invalid("no".to_owned())),
            Err(RequestError::Overloaded("later".to_owned())),
        ];
        for ended in all {
            let Body::CounterAnswer(answer) = answer_of(ended.clone()) else {
                panic!("an answer of another kind");
            };
            assert_eq!(outcome(answer, level), ended);
        }
    }
}
