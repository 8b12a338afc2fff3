//! Requests that ask to be traced: their session, and the tables in which drivers look for it.
//!
//! A trace is two writes to `system_traces`, through the coordinator like any other: first what happened, then the
//! session with its duration, for that is what drivers wait for. What happens after the answer (a straggler's
//! acknowledgement, or its hint) is added when it happens.
//!
//! CAVEAT: nothing is kept of a request whose coordinator dies before it has answered.

use super::Front;
use super::answer::{Asked, Work};
use super::system::rows::{Cells, Made};
use crate::coordinator::{Change, Story, Trace, TraceEvent, WriteRequest, room};
use crate::replica::count;
use crate::schema::builtin::{TRACES, builtin};
use helenus_core::cql::uuid;
use helenus_core::{Expiry, GcSeconds, Level, NodeId, TableDef, TimestampMicros};
use helenus_proto::cql::{Parameters, Response, Statement};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that are kept of each of a request's parameters, such as its text.
const PARAMETER_BYTES_MAX: usize = 4096;
/// Statements of a batch that are kept.
const STATEMENTS_MAX: usize = 16;

/// A request that is traced.
pub(super) struct Traced {
    pub(super) id: u128,
    story: Story,
    /// When it began, by this node's wall clock.
    began: TimestampMicros,
    client: IpAddr,
    request: &'static str,
    parameters: Vec<(String, String)>,
}

impl Front {
    /// Begins to trace a request; `None`: too many are traced already.
    pub(super) fn trace(&self, work: &Work, client: SocketAddr) -> Option<(Trace, Traced)> {
        let (trace, story) = self.coordinator.trace()?;
        let (request, parameters) = self.described(work);
        let moment = self.moment();
        let [c0, c1, n0, n1, n2, n3, n4, n5, ..] = moment.random.to_be_bytes();
        // The bit of multicast addresses: no network card has such a one (RFC 4122, §4.5).
        let node = [n0 | 1, n1, n2, n3, n4, n5];
        let id =
            uuid::from_time(moment.now.0.checked_mul(10)?, u16::from_be_bytes([c0, c1]), node)?;
        let (id, began, client) = (u128::from_be_bytes(id), moment.now, client.ip());
        Some((trace, Traced { id, story, began, client, request, parameters }))
    }

    /// What is asked for, as a session says it.
    fn described(&self, work: &Work) -> (&'static str, Vec<(String, String)>) {
        let mut said = Vec::new();
        let mut say = |name: &str, value: String| said.push((name.to_owned(), cut(value)));
        let text_of = |id: &bytes::Bytes| {
            let mut statements =
                self.statements.lock().expect("nothing panics while it holds this");
            let known = statements.find(id);
            known.map_or_else(|| "a statement that is not known".to_owned(), |k| k.text.clone())
        };
        let how = |parameters: &Parameters, say: &mut dyn FnMut(&str, String)| {
            say("consistency_level", parameters.consistency.to_string());
            if let Some(serial) = parameters.serial_consistency {
                say("serial_consistency_level", serial.name().to_owned());
            }
            if let Some(size) = parameters.page_size {
                say("page_size", size.to_string());
            }
        };
        let request = match &work.asked {
            Asked::Query(text, parameters) => {
                say("query", text.clone());
                how(parameters, &mut say);
                "Execute CQL3 query"
            }
            Asked::Prepare(text) => {
                say("query", text.clone());
                "Preparing CQL3 query"
            }
            Asked::Execute { id, parameters, .. } => {
                say("query", text_of(id));
                how(parameters, &mut say);
                "Execute CQL3 prepared query"
            }
            Asked::Batch(batch) => {
                say("batch_type", format!("{:?}", batch.kind).to_uppercase());
                say("consistency_level", batch.consistency.to_string());
                for (nth, statement) in batch.statements.iter().take(STATEMENTS_MAX).enumerate() {
                    let text = match &statement.statement {
                        Statement::Query(text) => text.clone(),
                        Statement::Prepared(id) => text_of(id),
                    };
                    say(&format!("query_{nth}"), text);
                }
                "Execute batch of CQL3 queries"
            }
        };
        (request, said)
    }

    /// The request is answered: writes its trace, on a task of its own.
    pub(super) fn traced(self: &Arc<Self>, traced: Traced, trace: &Trace, response: &Response) {
        trace.tell_in(room::CQL, || match response {
            Response::Error(error) => format!("Answering with an error: {}", error.message),
            Response::Rows(rows) => {
                format!("Answering with {}", count(rows.rows.len() as u64, "row"))
            }
            _ => "Answering".to_owned(),
        });
        let front = Arc::clone(self);
        let duration = traced.story.elapsed();
        self.coordinator.tasks.spawn(async move { front.write_down(traced, duration).await });
    }

    async fn write_down(self: &Arc<Self>, traced: Traced, duration: Duration) {
        let Traced { id, mut story, began, client, request, parameters } = traced;
        let mut pen = Pen { front: self, id, began, nth: 0 };
        pen.events(story.so_far()).await;
        let mut cells = Cells::new()
            .uuid("session_id", id)
            .inet("client", client)
            .text("command", "QUERY")
            .int("duration", micros(duration))
            .text_map("parameters", &parameters)
            .text("request", request)
            .timestamp("started_at", began);
        if let Some((ip, port)) = self.place(self.coordinator.id) {
            cells = cells.inet("coordinator", ip).int("coordinator_port", i32::from(port));
        }
        pen.write("sessions", vec![cells]).await;
        loop {
            let late = story.more().await;
            if late.is_empty() {
                return;
            }
            pen.events(late).await;
        }
    }

    /// Where peers reach a node: what Cassandra calls its broadcast address.
    fn place(&self, node: NodeId) -> Option<(IpAddr, u16)> {
        let members = self.membership.members();
        let member = members.iter().find(|member| member.node == node)?;
        member.internode.map(|address| (address.ip(), address.port()))
    }
}

/// The level at which a table is read whatever the client asks for, if there is one. Traces are read from whoever has them:
/// cqlsh asks at its session's level, and that would hide the trace of an outage because of the outage.
pub(super) fn level_of(table: &TableDef) -> Option<Level> {
    (table.keyspace == TRACES).then_some(Level::One)
}

/// Writes one session.
struct Pen<'a> {
    front: &'a Arc<Front>,
    id: u128,
    began: TimestampMicros,
    /// Events written so far.
    nth: u16,
}

impl Pen<'_> {
    async fn events(&mut self, mut events: Vec<TraceEvent>) {
        if events.is_empty() {
            return;
        }
        // Notes of replicas come with their answers, and tell of what was before.
        events.sort_by_key(|event| event.at);
        let places: BTreeMap<NodeId, _> =
            events.iter().map(|event| (event.source, self.front.place(event.source))).collect();
        let rows = events.into_iter().filter_map(|event| {
            let cells = Cells::new()
                .uuid("session_id", self.id)
                .uuid("event_id", self.event_id(event.at)?)
                .text("activity", &event.activity)
                .int("source_elapsed", micros(event.source_elapsed))
                .text("thread", event.room);
            Some(match places.get(&event.source).copied().flatten() {
                None => cells,
                Some((ip, port)) => cells.inet("source", ip).int("source_port", i32::from(port)),
            })
        });
        let rows = rows.collect();
        self.write("events", rows).await;
    }

    /// A timeuuid of that moment. Those of one moment sort in the order in which they are made: their clock sequences count,
    /// in bytes that are compared with their signs.
    fn event_id(&mut self, at: Duration) -> Option<u128> {
        let nanos = i64::try_from(at.as_nanos()).ok()?;
        let time = self.began.0.checked_mul(10)?.checked_add(nanos / 100)?;
        let [.., n0, n1, n2, n3, n4, n5] = self.id.to_be_bytes();
        let [high, low] = self.nth.to_be_bytes();
        self.nth = self.nth.wrapping_add(1);
        let clock_seq = u16::from_be_bytes([high, low ^ 0x80]);
        uuid::from_time(time, clock_seq, [n0, n1, n2, n3, n4, n5]).map(u128::from_be_bytes)
    }

    /// Writes rows of this session's partition.
    async fn write(&self, table: &str, rows: Vec<Cells>) {
        let coordinator = &self.front.coordinator;
        let Some(def) = builtin().table(TRACES, table) else { return };
        let ttl_s = def.options.default_time_to_live;
        let expires_at = GcSeconds(coordinator.now_seconds().0.saturating_add(ttl_s));
        let expiry = Some(Expiry { ttl_s, expires_at });
        let mut made = Made::new(def).written(coordinator.next_timestamp(), expiry);
        rows.into_iter().for_each(|row| made.row(row));
        for (key, update) in made.partitions() {
            let request = WriteRequest {
                keyspace: def.keyspace.clone(),
                table: def.name.clone(),
                key: key.0,
                change: Change::Update(def.id, update),
                level: Level::One,
                timestamp: None,
                timeout: None,
                trace: Trace::default(),
            };
            let written = coordinator.write_own(request).await.map_err(|error| error.to_string());
            let logged = || coordinator.replica.engine.commit().map_err(|error| error.to_string());
            if let Err(error) = written.and_then(|_| logged()) {
                coordinator.trace_metrics.unwritten();
                tracing::debug!(%error, "a part of a trace could not be written");
            }
        }
    }
}

fn micros(duration: Duration) -> i32 {
    i32::try_from(duration.as_micros()).unwrap_or(i32::MAX)
}

/// The beginning of a text that is too long to be kept.
fn cut(mut text: String) -> String {
    if text.len() > PARAMETER_BYTES_MAX {
        let mut end = PARAMETER_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
