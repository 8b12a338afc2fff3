//! What a node does as an acceptor of conditional writes: promise, accept, commit.
//!
//! What may be answered is `helenus_core::paxos`; here its state is kept, in `system.paxos`, a table of the node's own
//! engine (Cassandra's has the same name and the same content). The coordinator on this node and the messages of other
//! coordinators go through the same three functions.
//!
//! Invariant: a promise or an acceptance is answered when it is on the medium, whatever `commitlog_sync` says. Cassandra
//! answers by its sync mode, and in `periodic` a loss of power may take back what a decree rests on. Rounds that are under
//! way together share a sync. A commit is acknowledged as any write is: until it is durable, the acceptance is.
//!
//! Bounds: a partition has one row of three cells, and each is gone `max(3 h, gc_grace_seconds)` after it was written
//! (Cassandra's rule): compaction drops what has expired. Requests are bounded by the links that bring them.
//!
//! CAVEAT: a decree that nobody finished for so long is forgotten. And an operator who sets a node's clock forward by more
//! than that makes it forget its promises.

mod unfinished;

pub(crate) use unfinished::unfinished;

use crate::peers::ReplyTo;
use crate::replica::{self, Replica};
use crate::seams::probe::ApplyPath;
use crate::storage::{Applied, StorageError, Write, system_row};
use crate::tasks::Tasks;
use bytes::Bytes;
use helenus_core::paxos::{Accepted, Ballot, Prepared, Proposal, State};
use helenus_core::tally::FailureReason;
use helenus_core::{
    Cell, ClusteringKey, ColumnId, Content, Expiry, GcSeconds, Key, Partition, Row, TableDef,
    TableId, TimestampMicros, token,
};
use helenus_proto::v1;
use helenus_proto::v1::message::Body;
use std::sync::{Arc, Mutex};

/// The identity of `system.paxos`, the same on every node. Ids of tables that are created are random.
pub(crate) const TABLE: TableId = TableId(u128::from_be_bytes(*b"paxos\0\0\0\0\0\0\0\0\0\0\0"));
/// Its keyspace and its name, for operators.
pub(crate) const NAME: (&str, &str) = ("system", "paxos");
/// For how long a state is remembered at least, in seconds.
const TTL_S_MIN: u32 = 3 * 3600;

/// Its columns.
const PROMISED: u32 = 0;
const ACCEPTED: u32 = 1;
const COMMITTED: u32 = 2;

/// The table's definition.
pub(crate) fn table() -> TableDef {
    system_row::table(TABLE, NAME)
}

/// Why a message was not dealt with.
#[derive(Debug)]
pub(crate) struct Refusal {
    reason: FailureReason,
    why: String,
}

impl Refusal {
    fn malformed(what: &str) -> Refusal {
        Refusal { reason: FailureReason::Unknown, why: format!("{what} cannot be read") }
    }

    pub(crate) fn reason(&self) -> FailureReason {
        self.reason
    }

    /// As it travels.
    pub(crate) fn body(&self) -> Body {
        replica::failed(self.reason, &self.why)
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Refusal {
        let reason = crate::coordinator::storage_reason(&error);
        Refusal { reason, why: error.to_string() }
    }
}

/// This node as an acceptor.
pub(crate) struct Acceptors {
    replica: Arc<Replica>,
    tasks: Arc<Tasks>,
    /// Held from reading a state to writing it. The node has one thread; this says that it is relied on.
    turn: Mutex<()>,
}

/// A state as it was found, and the newest timestamp of its cells.
struct Found {
    state: State,
    written: TimestampMicros,
}

impl Acceptors {
    pub(crate) fn new(replica: Arc<Replica>, tasks: Arc<Tasks>) -> Acceptors {
        Acceptors { replica, tasks, turn: Mutex::default() }
    }

    /// Answers a prepare.
    pub(crate) fn prepare(&self, message: &v1::PaxosPrepare, reply: ReplyTo) {
        match self.promise(message) {
            Ok(answer @ v1::PaxosPromise { refused_by: None, .. }) => {
                self.when_synced(Body::PaxosPromise(answer), reply);
            }
            Ok(refused) => reply.send(Body::PaxosPromise(refused)),
            Err(refusal) => reply.send(refusal.body()),
        }
    }

    fn promise(&self, message: &v1::PaxosPrepare) -> Result<v1::PaxosPromise, Refusal> {
        let table = table_of(&message.table)?;
        let key = Key(message.key.clone());
        let ballot = Ballot::decode(&message.ballot);
        let ballot = ballot.ok_or_else(|| Refusal::malformed("the ballot"))?;
        let _turn = self.turn.lock().expect("no holder of this lock panics");
        let mut found = self.find(table, &key)?;
        match found.state.prepare(ballot) {
            Prepared::Refused { by } => Ok(v1::PaxosPromise {
                refused_by: Some(by.encode()),
                ..v1::PaxosPromise::default()
            }),
            Prepared::Promised { accepted, committed } => {
                self.keep(table, &key, &found, [(PROMISED, ballot.encode())])?;
                Ok(v1::PaxosPromise {
                    refused_by: None,
                    accepted: accepted.map(|proposal| proposal.encode()),
                    committed: committed.map(|proposal| proposal.encode()),
                })
            }
        }
    }

    /// Answers a proposal.
    pub(crate) fn propose(&self, message: &v1::PaxosProposal, reply: ReplyTo) {
        match self.accept(message) {
            Ok(Accepted::Yes) => {
                self.when_synced(
                    Body::PaxosAccepted(v1::PaxosAccepted { refused_by: None }),
                    reply,
                );
            }
            Ok(Accepted::Refused { by }) => {
                let refused_by = Some(by.encode());
                reply.send(Body::PaxosAccepted(v1::PaxosAccepted { refused_by }));
            }
            Err(refusal) => reply.send(refusal.body()),
        }
    }

    fn accept(&self, message: &v1::PaxosProposal) -> Result<Accepted, Refusal> {
        let (table, key, proposal) = read(message)?;
        let _turn = self.turn.lock().expect("no holder of this lock panics");
        let mut found = self.find(table, &key)?;
        let answer = found.state.accept(&proposal);
        if answer == Accepted::Yes {
            let promised = (PROMISED, proposal.ballot.encode());
            self.keep(table, &key, &found, [promised, (ACCEPTED, proposal.encode())])?;
        }
        Ok(answer)
    }

    /// Merges what was decided, and remembers that it was. To be acknowledged as a write is.
    pub(crate) fn commit(&self, message: &v1::PaxosProposal) -> Result<Applied, Refusal> {
        let (table, key, proposal) = read(message)?;
        let update = proposal.update.clone();
        let write = Write::decode(table, key.clone(), token::of(&key.0), update);
        let write = write.map_err(|_| Refusal::malformed("the update"))?;
        let _turn = self.turn.lock().expect("no holder of this lock panics");
        // The data first: a log that ends between the two has the acceptance still.
        let applied = self.replica.apply(write, ApplyPath::Write)?;
        let mut found = self.find(table, &key)?;
        if !found.state.commit(&proposal) {
            return Ok(applied);
        }
        // What was accepted stays beside it: it is no newer than the commit, so nobody finishes it.
        self.keep(table, &key, &found, [(COMMITTED, proposal.encode())])
    }

    /// Answers once everything applied so far is on the medium.
    fn when_synced(&self, answer: Body, reply: ReplyTo) {
        let synced = self.replica.engine.synced();
        self.tasks.spawn(async move {
            reply.send(match synced.await {
                Ok(()) => answer,
                Err(error) => Refusal::from(error).body(),
            });
        });
    }

    fn find(&self, table: TableId, key: &Key) -> Result<Found, Refusal> {
        let row = row_key(table, key);
        let partition = self.replica.engine.read(TABLE, token::of(&row.0), &row)?;
        let partition = partition.unwrap_or_default();
        let now = self.replica.now();
        let value = |column| system_row::value(&partition, column, now);
        let proposal = |column| value(column).and_then(|bytes| Proposal::decode(&bytes));
        let state = State {
            promised: value(PROMISED).and_then(|bytes| Ballot::decode(&bytes)),
            accepted: proposal(ACCEPTED),
            committed: proposal(COMMITTED),
        };
        let cells = partition.rows.iter().flat_map(|(_, row)| &row.cells);
        let written = cells.map(|(_, cell)| cell.timestamp).max().unwrap_or(TimestampMicros(0));
        Ok(Found { state, written })
    }

    /// Writes these cells anew. They are newer than all that was there, also where the clock was set back.
    fn keep<const N: usize>(
        &self,
        table: TableId,
        key: &Key,
        found: &Found,
        cells: [(u32, Bytes); N],
    ) -> Result<Applied, Refusal> {
        let view = self.replica.schema.current();
        let def = view.table(table).ok_or(StorageError::UnknownTable { table })?;
        let ttl_s = def.options.gc_grace_seconds.max(TTL_S_MIN);
        let expires_at = GcSeconds(self.replica.now().0.saturating_add(ttl_s));
        let expiry = Some(Expiry { ttl_s, expires_at });
        let wall = self.replica.clock.wall_micros();
        let timestamp = TimestampMicros(wall.max(found.written.0.saturating_add(1)));
        let cells = cells.into_iter().map(|(column, value)| {
            (ColumnId(column), Cell { timestamp, content: Content::Value { value, expiry } })
        });
        let row = Row { cells: cells.collect(), ..Row::default() };
        let rows = vec![(ClusteringKey::default(), row)];
        let update = Partition { rows, ..Partition::default() };
        let row = row_key(table, key);
        let token = token::of(&row.0);
        Ok(self.replica.engine.apply(Write::of(TABLE, row, token, update))?)
    }
}

/// `| table id | partition key |`
fn row_key(table: TableId, key: &Key) -> Key {
    Key([&table.0.to_be_bytes()[..], &key.0[..]].concat().into())
}

fn table_of(bytes: &[u8]) -> Result<TableId, Refusal> {
    let table = replica::table_of(bytes);
    table.map_err(|why| Refusal { reason: FailureReason::Unknown, why })
}

fn read(message: &v1::PaxosProposal) -> Result<(TableId, Key, Proposal), Refusal> {
    let table = table_of(&message.table)?;
    let proposal = Proposal::decode(&message.proposal);
    let proposal = proposal.ok_or_else(|| Refusal::malformed("the proposal"))?;
    Ok((table, Key(message.key.clone()), proposal))
}
