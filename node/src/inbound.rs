//! Requests of other nodes, handed to whom they concern.
//!
//! Everything here runs on the node's thread, where the frame arrived. Writes of one frame are logged with one write:
//! their acknowledgements wait for `end_of_batch`. Pages of hints are intake's, steps of repairs the participant's,
//! rounds of conditional writes the acceptors', batches the batchlog's; a write of counters is led by this node's
//! coordinator.

use crate::batchlog::Batchlog;
use crate::coordinator::{Coordinator, LEFT};
use crate::intake::Intake;
use crate::membership::Membership;
use crate::paxos::Acceptors;
use crate::peers::{Handler, ReplyTo};
use crate::repair::{Participant, StepError};
use crate::replica::{self, Notes, Replica};
use crate::schema::Keeper;
use crate::seams::probe::ApplyPath;
use crate::storage::{Applied, RangeStart};
use crate::tasks::Tasks;
use crate::{decommission, handoff};
use helenus_core::batchlog::BatchId;
use helenus_core::tally::FailureReason;
use helenus_core::{Key, NodeId, Token};
use helenus_proto::v1::message::Body;
use helenus_proto::{ids, read as wire_read, schema as wire, v1};
use std::future::Future;
use std::sync::{Arc, Mutex};

/// Answers peers.
pub(crate) struct Inbound {
    pub(crate) replica: Arc<Replica>,
    pub(crate) acceptors: Arc<Acceptors>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) repairs: Arc<Participant>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) batchlog: Arc<Batchlog>,
    /// Leads writes of counters.
    pub(crate) coordinator: Arc<Coordinator>,
    /// Acknowledgements that wait for the log to be written.
    pub(crate) unwritten: Mutex<Vec<(ReplyTo, Notes)>>,
}

impl Handler for Inbound {
    fn handle(&self, from: NodeId, message: Body, reply: ReplyTo) {
        if self.coordinator.door.is_locked() && !matches!(message, Body::Gossip(_)) {
            // Whoever asks has not heard yet, and must not count this one among the replicas.
            return reply.send(replica::failed(FailureReason::Unknown, &LEFT));
        }
        match message {
            Body::Mutation(mutation) => self.mutation(mutation, reply),
            Body::HintPage(page) => self.intake.page(page, reply),
            Body::Read(read) => reply.send(self.read(&read)),
            Body::Range(range) => reply.send(self.range(&range)),
            Body::Gossip(gossip) => self.membership.on_gossip(from, gossip),
            Body::PullSchema(_) => {
                reply.send(Body::Schema(wire::to_wire(&self.keeper.store.current().schema)));
            }
            Body::SchemaPush(push) => self.adopt(push, reply),
            Body::RepairHash(step) => {
                let repairs = Arc::clone(&self.repairs);
                self.repair_step(
                    reply,
                    async move { repairs.hash(step).await.map(Body::RepairHashes) },
                );
            }
            Body::RepairSend(step) => {
                let repairs = Arc::clone(&self.repairs);
                self.repair_step(
                    reply,
                    async move { repairs.send(step).await.map(Body::RepairSent) },
                );
            }
            Body::RepairPage(page) => self.repair_page(page, reply),
            Body::BatchStore(store) => self.batch_store(&store, reply),
            Body::BatchRemove(remove) => self.batch_remove(&remove, reply),
            Body::LeaveNotice(notice) => {
                reply.send(decommission::confirm(&self.membership, from, &notice));
            }
            Body::HintHandover(handed) => {
                let coordinator = Arc::clone(&self.coordinator);
                self.tasks
                    .spawn(async move { reply.send(handoff::keep(&coordinator, handed).await) });
            }
            Body::CounterMutation(increments) => self.lead(increments, reply),
            Body::PaxosPrepare(prepare) => self.acceptors.prepare(&prepare, reply),
            Body::PaxosPropose(proposal) => self.acceptors.propose(&proposal, reply),
            Body::PaxosCommit(commit) => match self.acceptors.commit(&commit) {
                Ok(applied) => self.acknowledge(applied, reply, Notes::default()),
                Err(refusal) => reply.send(refusal.body()),
            },
            other => {
                let verb = crate::peers::Verb::of(&other);
                let why = format!("{} is no request", verb.as_str());
                reply.send(replica::failed(FailureReason::Unknown, &why));
            }
        }
    }

    fn end_of_batch(&self) {
        let waiting =
            std::mem::take(&mut *self.unwritten.lock().expect("no holder of this lock panics"));
        if waiting.is_empty() {
            return;
        }
        let written = self.replica.engine.commit();
        let acknowledgements = waiting.len() as u64;
        for (reply, mut notes) in waiting {
            notes.tell(|| {
                let acknowledgements = replica::count(acknowledgements, "acknowledgement");
                format!("Wrote the log, once for {acknowledgements}")
            });
            reply.send(notes.onto(match &written {
                Ok(()) => Body::Ack(v1::Ack::default()),
                Err(error) => replica::failed(FailureReason::Storage, error),
            }));
        }
    }
}

impl Inbound {
    fn mutation(&self, mutation: v1::ApplyMutation, reply: ReplyTo) {
        let path = match v1::ApplyPath::try_from(mutation.path) {
            Ok(v1::ApplyPath::Hint) => ApplyPath::Hint,
            Ok(v1::ApplyPath::ReadRepair) => ApplyPath::ReadRepair,
            Ok(v1::ApplyPath::Write) | Err(_) => ApplyPath::Write,
        };
        let mut notes = Notes::begin(mutation.trace, &self.replica.clock);
        match replica::decode_mutation(mutation) {
            Ok(write) => {
                let applied = self.replica.apply(write, path);
                notes.tell(|| replica::applied_in_words(&applied));
                match applied {
                    Ok(applied) => self.acknowledge(applied, reply, notes),
                    Err(error) => {
                        let reason = crate::coordinator::storage_reason(&error);
                        reply.send(notes.onto(replica::failed(reason, &error)));
                    }
                }
            }
            Err(why) => reply.send(replica::failed(FailureReason::Unknown, &why)),
        }
    }

    /// A batch is acknowledged when it is as durable as a write.
    fn batch_store(&self, store: &v1::BatchStore, reply: ReplyTo) {
        let Some(id) = BatchId::from_bytes(&store.id) else { return reply.send(no_batch_id()) };
        match self.batchlog.store(id, &store.batch) {
            Ok(applied) => self.acknowledge(applied, reply, Notes::default()),
            Err(error) => {
                let reason = crate::coordinator::keep_reason(&error);
                reply.send(replica::failed(reason, &error));
            }
        }
    }

    fn batch_remove(&self, remove: &v1::BatchRemove, reply: ReplyTo) {
        let Some(id) = BatchId::from_bytes(&remove.id) else { return reply.send(no_batch_id()) };
        match self.batchlog.remove(id) {
            Ok(applied) => self.acknowledge(applied, reply, Notes::default()),
            Err(error) => {
                let reason = crate::coordinator::storage_reason(&error);
                reply.send(replica::failed(reason, &error));
            }
        }
    }

    /// A write of counters is led like a client's, and takes a place among those: what is beyond is refused at once.
    fn lead(&self, increments: v1::CounterMutation, reply: ReplyTo) {
        let coordinator = Arc::clone(&self.coordinator);
        self.tasks.spawn(async move { reply.send(coordinator.lead(increments).await) });
    }

    /// Steps are bounded by the participant, so their tasks are.
    fn repair_step(
        &self,
        reply: ReplyTo,
        step: impl Future<Output = Result<Body, StepError>> + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            reply.send(step.await.unwrap_or_else(|error| {
                let reason = match &error {
                    StepError::Storage(error) => crate::coordinator::storage_reason(error),
                    StepError::Overloaded => FailureReason::Overloaded,
                    _ => FailureReason::Unknown,
                };
                replica::failed(reason, &error)
            }));
        });
    }

    /// What a repair streams is merged like any write, and acknowledged when all of the page is.
    fn repair_page(&self, page: v1::RepairPage, reply: ReplyTo) {
        let writes = match replica::decode_page(page) {
            Ok(writes) => writes,
            Err(why) => return reply.send(replica::failed(FailureReason::Unknown, &why)),
        };
        match self.replica.apply_all(writes, ApplyPath::Repair) {
            Ok(applied) => self.acknowledge(applied, reply, Notes::default()),
            Err(error) => {
                let reason = crate::coordinator::storage_reason(&error);
                reply.send(replica::failed(reason, &error));
            }
        }
    }

    fn acknowledge(&self, applied: Applied, reply: ReplyTo, mut notes: Notes) {
        match applied {
            Applied::Now => {
                let mut unwritten = self.unwritten.lock().expect("no holder of this lock panics");
                unwritten.push((reply, notes));
            }
            Applied::After(synced) => self.tasks.spawn(async move {
                let synced = synced.await;
                notes.tell(|| "Synced the log".to_owned());
                reply.send(notes.onto(match synced {
                    Ok(()) => Body::Ack(v1::Ack::default()),
                    Err(error) => replica::failed(FailureReason::Storage, &error),
                }));
            }),
        }
    }

    fn read(&self, read: &v1::ReadPartition) -> Body {
        let table = match ids::table_from_wire("table", &read.table) {
            Ok(table) => table,
            Err(why) => return replica::failed(FailureReason::Unknown, &why),
        };
        let mut notes = Notes::begin(read.trace, &self.replica.clock);
        let filter = match read.rows.as_ref().map(wire_read::filter_from_wire).transpose() {
            Ok(filter) => filter,
            Err(why) => return replica::failed(FailureReason::Unknown, &why),
        };
        let (key, digest_only, traced) = (Key(read.key.clone()), read.digest, read.trace);
        let say = |said| notes.tell(|| said);
        let answer = self.replica.answer(table, &key, filter.as_ref(), digest_only, traced, say);
        notes.onto(answer)
    }

    fn range(&self, range: &v1::ReadRange) -> Body {
        let table = match ids::table_from_wire("table", &range.table) {
            Ok(table) => table,
            Err(why) => return replica::failed(FailureReason::Unknown, &why),
        };
        let start = match range.after_token {
            None => RangeStart::First,
            Some(token) if range.after_key.is_empty() => RangeStart::AfterToken(Token(token)),
            Some(token) => RangeStart::AfterKey(Token(token), Key(range.after_key.clone())),
        };
        let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
        let until = Token(range.until_token);
        let mut notes = Notes::begin(range.trace, &self.replica.clock);
        if let Some(rows) = &range.rows {
            let filter = match wire_read::filter_from_wire(rows) {
                Ok(filter) => filter,
                Err(why) => return replica::failed(FailureReason::Unknown, &why),
            };
            let page = self.replica.range_rows(table, &start, until, limit, &filter);
            notes.tell(|| replica::page_in_words(page.as_ref().map(|page| page.parts.len())));
            return notes.onto(match page {
                Ok(page) => replica::rows_answer(page),
                Err(error) => replica::failed(crate::coordinator::storage_reason(&error), &error),
            });
        }
        let page = self.replica.range(table, &start, until, limit);
        notes.tell(|| replica::page_in_words(page.as_ref().map(|page| page.partitions.len())));
        notes.onto(match page {
            Ok(page) => replica::range_answer(page),
            Err(error) => replica::failed(crate::coordinator::storage_reason(&error), &error),
        })
    }

    /// A pushed schema is confirmed when it is on disk here and its tables are open. It is answered with ours if something
    /// there wins over it.
    fn adopt(&self, push: v1::SchemaPush, reply: ReplyTo) {
        let incoming = match wire::from_wire(push) {
            Ok(schema) => schema,
            Err(why) => return reply.send(replica::failed(FailureReason::Unknown, &why)),
        };
        let keeper = Arc::clone(&self.keeper);
        self.tasks.spawn(async move {
            reply.send(match keeper.adopt_pushed(incoming).await {
                Ok(None) => Body::Ack(v1::Ack::default()),
                Ok(Some(ours)) => Body::Schema(wire::to_wire(&ours)),
                Err(error) => replica::failed(FailureReason::Storage, &error),
            });
        });
    }
}

fn no_batch_id() -> Body {
    replica::failed(
        FailureReason::Unknown,
        &"a batch is known by a timeuuid, and these bytes are none",
    )
}
