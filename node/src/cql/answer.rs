//! What a request is answered with: at once, or by carrying a statement out.

use super::Front;
use super::audience::Audience;
use super::clients::Client;
use super::login::Stage;
use crate::coordinator::{self, Trace};
use crate::membership::{Epochs, MemberInfo};
use helenus_core::{NodeId, TableDef};
use helenus_proto::cql::{
    Batch, Call, ChangeKind, Compression, ErrorKind, ErrorResponse, Event, EventKind, Extras,
    Parameters, Plain, Request, Response, SchemaChange, SchemaTarget, TopologyChange, Version,
    WriteType,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// The version of CQL that is spoken (Cassandra 4.1's).
pub(super) const CQL_VERSION: &str = "3.4.6";

/// What becomes of a request.
pub(super) enum Answer {
    /// It is answered.
    Now(Response),
    /// STARTUP is answered so; from then on what is said is compressed.
    Started {
        /// The answer.
        response: Response,
        /// How.
        compression: Option<Compression>,
    },
    /// Somebody wants to log in.
    Login(Plain),
    /// It takes work.
    Statement(Box<Work>),
}

/// A request that takes work.
#[derive(Debug)]
pub(super) struct Work {
    /// What is asked for.
    pub(super) asked: Asked,
    /// Where names without a keyspace belong.
    pub(super) keyspace: Option<Arc<str>>,
    /// Who wants to know how it is done.
    pub(super) trace: Trace,
    /// Who waits for the answer.
    pub(super) audience: Audience,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// QUERY.
    Query(String, Parameters),
    /// PREPARE.
    Prepare(String),
    /// EXECUTE.
    Execute {
        /// The statement's id.
        id: bytes::Bytes,
        /// The id of its columns as the client knows them; v5.
        result_metadata_id: Option<bytes::Bytes>,
        /// How.
        parameters: Parameters,
    },
    /// BATCH.
    Batch(Batch),
}

/// A write that is another answer when the log cannot be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unlogged {
    pub(super) it: coordinator::Unlogged,
    pub(super) write_type: WriteType,
}

/// A request that was carried out.
pub(super) struct Answered {
    pub(super) version: Version,
    pub(super) stream: i16,
    pub(super) extras: Extras,
    pub(super) response: Response,
    /// Set if it is another answer when the log cannot be written.
    pub(super) unlogged: Option<Unlogged>,
}

/// What a connection has agreed on with its client.
pub(super) struct Session {
    front: Arc<Front>,
    client: Arc<Client>,
    audience: Audience,
    version: Option<Version>,
    stage: Stage,
    keyspace: Option<Arc<str>>,
    events: BTreeSet<EventKind>,
    epochs: watch::Receiver<Epochs>,
    /// The nodes that this client was told of, and whether they are up.
    nodes: BTreeMap<NodeId, (SocketAddr, bool)>,
    schema: Arc<crate::schema::SchemaView>,
    /// To be told.
    news: VecDeque<Event>,
}

impl Session {
    pub(super) fn new(front: &Arc<Front>, client: &Arc<Client>) -> Session {
        Session {
            client: Arc::clone(client),
            audience: Audience::default(),
            version: None,
            stage: Stage::New,
            keyspace: None,
            events: BTreeSet::new(),
            epochs: front.membership.subscribe(),
            nodes: BTreeMap::new(),
            schema: front.keeper.store.current(),
            news: VecDeque::new(),
            front: Arc::clone(front),
        }
    }

    /// Whether statements may be asked.
    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Nobody waits for its answers any more.
    pub(super) fn leave(&self) {
        self.audience.leave();
    }

    pub(super) fn version(&self) -> Version {
        self.version.unwrap_or(Version::V5)
    }

    /// Takes note of an answer on its way to the client.
    pub(super) fn note(&mut self, response: &Response) {
        if let Response::SetKeyspace { keyspace } = response {
            self.keyspace = Some(Arc::from(keyspace.as_str()));
        }
        self.stage.note(response);
    }

    /// Whether the client has tried often enough to log in: the connection ends.
    pub(super) fn is_over(&self) -> bool {
        self.stage.is_over()
    }

    /// Answers what can be answered at once.
    pub(super) fn begin(&mut self, version: Version, call: Call) -> Result<Answer, ErrorResponse> {
        self.client.asks();
        let protocol = |why: &str| Err(ErrorResponse::new(ErrorKind::Protocol, why));
        if let Stage::Authenticating { .. } = self.stage {
            let who = self.stage.login(call.request);
            let who = who.inspect_err(|error| self.front.auth.count_malformed(error));
            return who.map(Answer::Login);
        }
        match call.request {
            Request::Options => return Ok(Answer::Now(supported())),
            Request::Startup(startup) => {
                if self.version.is_some() {
                    return protocol("STARTUP was sent already, and is sent once");
                }
                let spoken = startup.cql_version().unwrap_or(CQL_VERSION);
                if !spoken.starts_with(['3', '4']) {
                    return protocol("CQL_VERSION must be 3.0.0 or later");
                }
                let compression = startup.compression(version);
                let compression = compression.map_err(|refused| {
                    ErrorResponse::new(ErrorKind::Protocol, refused.to_string())
                })?;
                self.version = Some(version);
                self.client.started(version, &startup.options);
                let (stage, response) = self.front.welcome();
                self.stage = stage;
                return Ok(Answer::Started { response, compression });
            }
            _ if self.version.is_none() => {
                return protocol("STARTUP comes first: nothing but OPTIONS may be asked before it");
            }
            _ => {}
        }
        let (asked, keyspace) = match call.request {
            Request::Register { kinds } => {
                // What those that were asked for before have to tell is not forgotten.
                if !self.events.is_empty() {
                    self.look_for_news();
                }
                self.events.extend(kinds);
                self.nodes = self.front.client_nodes();
                self.schema = self.front.keeper.store.current();
                return Ok(Answer::Now(Response::Ready));
            }
            Request::AuthResponse { .. } => {
                return protocol(
                    "AUTH_RESPONSE answers AUTHENTICATE, and nothing of the kind was asked",
                );
            }
            Request::Query { query, mut parameters } => {
                let keyspace = parameters.keyspace.take();
                (Asked::Query(query, parameters), keyspace)
            }
            Request::Prepare { query, keyspace } => (Asked::Prepare(query), keyspace),
            Request::Execute { id, result_metadata_id, mut parameters } => {
                let keyspace = parameters.keyspace.take();
                (Asked::Execute { id, result_metadata_id, parameters }, keyspace)
            }
            Request::Batch(mut batch) => {
                let keyspace = batch.keyspace.take();
                (Asked::Batch(batch), keyspace)
            }
            Request::Options | Request::Startup(_) => {
                return protocol("this request was answered already");
            }
        };
        let keyspace = keyspace.map(Arc::from).or_else(|| self.keyspace.clone());
        let (trace, audience) = (Trace::default(), self.audience.clone());
        Ok(Answer::Statement(Box::new(Work { asked, keyspace, trace, audience })))
    }

    /// The next thing that this client has asked to be told.
    pub(super) async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.news.pop_front() {
                return event;
            }
            if self.events.is_empty() || self.epochs.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            self.epochs.mark_unchanged();
            self.look_for_news();
        }
    }

    fn look_for_news(&mut self) {
        let mut told = Vec::new();
        let now = self.front.client_nodes();
        let topology = |change, node| (EventKind::TopologyChange, Event::Topology { change, node });
        for (node, (address, _)) in &self.nodes {
            // One of which not everything is known for a moment, since it has restarted, is not gone.
            if !now.contains_key(node) && self.front.membership.has_left(*node) {
                told.push(topology(TopologyChange::RemovedNode, *address));
            }
        }
        for (node, (address, up)) in &now {
            let known = self.nodes.get(node).copied();
            if known == Some((*address, *up)) {
                continue;
            }
            let moved = known.is_none_or(|(old, _)| old != *address);
            // It has come back somewhere else: to a driver that is another node.
            if let Some((old, _)) = known.filter(|_| moved) {
                told.push(topology(TopologyChange::RemovedNode, old));
            }
            if moved {
                told.push(topology(TopologyChange::NewNode, *address));
            }
            // Whether a new node is up goes without saying unless it is.
            if *up || !moved {
                let status = Event::Status { up: *up, node: *address };
                told.push((EventKind::StatusChange, status));
            }
        }
        self.nodes = now;
        let schema = self.front.keeper.store.current();
        if schema.version != self.schema.version {
            let changes = changes(&self.schema.schema, &schema.schema);
            told.extend(changes.map(|change| (EventKind::SchemaChange, Event::Schema(change))));
            self.schema = schema;
        }
        let wanted = told.into_iter().filter(|(kind, _)| self.events.contains(kind));
        self.news.extend(wanted.map(|(_, event)| event));
    }
}

/// What a client that knew `before` has to be told of `after`.
fn changes(
    before: &helenus_core::Schema,
    after: &helenus_core::Schema,
) -> impl Iterator<Item = SchemaChange> {
    let mut changes = Vec::new();
    let of =
        |kind, keyspace: &str, target| SchemaChange { kind, keyspace: keyspace.to_owned(), target };
    for keyspace in after.live_keyspaces() {
        match before.keyspace(&keyspace.name) {
            None => changes.push(of(ChangeKind::Created, &keyspace.name, SchemaTarget::Keyspace)),
            Some(was) if was != keyspace => {
                changes.push(of(ChangeKind::Updated, &keyspace.name, SchemaTarget::Keyspace));
            }
            Some(_) => {}
        }
    }
    // What a table is made of may be other than it was.
    let other_types = before.types != after.types;
    let is_made_of_others = |was: &TableDef, is: &TableDef| {
        other_types && before.resolve(was).columns != after.resolve(is).columns
    };
    for def in after.live_types() {
        let target = || SchemaTarget::Type(def.name.clone());
        match before.type_def(&def.keyspace, &def.name) {
            None => changes.push(of(ChangeKind::Created, &def.keyspace, target())),
            Some(was) if was.fields != def.fields => {
                changes.push(of(ChangeKind::Updated, &def.keyspace, target()));
            }
            Some(_) => {}
        }
    }
    for table in after.live_tables() {
        let target = || SchemaTarget::Table(table.name.clone());
        match before.table(&table.keyspace, &table.name) {
            None => changes.push(of(ChangeKind::Created, &table.keyspace, target())),
            Some(was) if was.id.lineage() != table.id.lineage() => {
                changes.push(of(ChangeKind::Dropped, &table.keyspace, target()));
                changes.push(of(ChangeKind::Created, &table.keyspace, target()));
            }
            Some(was) if !is_the_same(was, table) || is_made_of_others(was, table) => {
                changes.push(of(ChangeKind::Updated, &table.keyspace, target()));
            }
            Some(_) => {}
        }
    }
    for table in before.live_tables() {
        let is_there = after.table(&table.keyspace, &table.name).is_some();
        if !is_there && after.keyspace(&table.keyspace).is_some() {
            let target = SchemaTarget::Table(table.name.clone());
            changes.push(of(ChangeKind::Dropped, &table.keyspace, target));
        }
    }
    for def in before.live_types() {
        let is_there = after.type_def(&def.keyspace, &def.name).is_some();
        if !is_there && after.keyspace(&def.keyspace).is_some() {
            let target = SchemaTarget::Type(def.name.clone());
            changes.push(of(ChangeKind::Dropped, &def.keyspace, target));
        }
    }
    for keyspace in before.live_keyspaces() {
        if after.keyspace(&keyspace.name).is_none() {
            changes.push(of(ChangeKind::Dropped, &keyspace.name, SchemaTarget::Keyspace));
        }
    }
    changes.into_iter()
}

/// Whether nothing of a table changed that clients see: that it was truncated they do not.
fn is_the_same(was: &TableDef, is: &TableDef) -> bool {
    let TableDef { id, keyspace, name, columns, options, altered: _, dropped } = was;
    let same = (id.lineage(), keyspace, name, dropped)
        == (is.id.lineage(), &is.keyspace, &is.name, &is.dropped);
    same && *columns == is.columns && *options == is.options
}

/// Whether all is known of a node that a driver wants to know.
pub(super) fn is_complete(member: &MemberInfo) -> bool {
    let is_known = member.client.is_some() && member.internode.is_some();
    is_known && !member.tokens.is_empty() && !member.schema_version.is_empty()
}

fn supported() -> Response {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Response::Supported {
        options: BTreeMap::from([
            ("CQL_VERSION".to_owned(), list(&[CQL_VERSION])),
            ("COMPRESSION".to_owned(), list(&Compression::names())),
            ("PROTOCOL_VERSIONS".to_owned(), list(&["4/v4", "5/v5"])),
        ]),
    }
}

impl Front {
    /// The nodes that clients can reach, with the addresses at which they do, and whether this node holds them alive.
    pub(super) fn client_nodes(&self) -> BTreeMap<NodeId, (SocketAddr, bool)> {
        let members = self.membership.members().into_iter();
        let nodes = members.filter_map(|member| {
            let address = SocketAddr::new(member.client?.ip(), self.address.port());
            // Only of whom `peers` tells all: drivers look there when they hear of a node, once.
            is_complete(&member).then_some((member.node, (address, member.up)))
        });
        nodes.collect()
    }

    /// Carries a request out; if it is to be traced, for this client.
    pub(super) async fn answer(
        self: Arc<Self>,
        version: Version,
        stream: i16,
        mut work: Box<Work>,
        traced_for: Option<SocketAddr>,
    ) -> Answered {
        let mut extras = Extras::default();
        let mut unlogged = None;
        let traced = traced_for.and_then(|client| self.trace(&work, client));
        if let Some((trace, traced)) = &traced {
            work.trace = trace.clone();
            extras.tracing_id = Some(traced.id);
        } else if traced_for.is_some() {
            extras
                .warnings
                .push("not traced: too many requests are traced on this node".to_owned());
        }
        let outcome = self.execute(version, work, &mut extras.warnings, &mut unlogged).await;
        let response = outcome.unwrap_or_else(|error| Response::Error(*error));
        if let Some((trace, traced)) = traced {
            self.traced(traced, &trace, &response);
        }
        Answered { version, stream, extras, response, unlogged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_of_a_request_is_small() {
        fn size<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(Front::answer);
        // It is moved into its place when it begins: what few requests do is boxed where they do it.
        assert!(bytes <= 2048, "{bytes} bytes");
    }
}
