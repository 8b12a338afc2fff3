//! Scans: partitions in token order, page by page, at a level.
//!
//! The ring is walked range by range; neighbouring ranges with the same replicas are read as one. Each replica sends a
//! page; what lies behind the shortest page's end is not known to all yet and is left for the next round, so a partition
//! is never reported from fewer replicas than the level needs (the scan's form of short-read protection).
//!
//! CAVEAT: a page is read at one moment and the next at another. A scan is no snapshot.

use super::error::{ReplicaFailure, failures};
use super::read::{reconciled, stand_in};
use super::route::{Shape, TableRoute};
use super::trace::words::concluded;
use super::trace::{Trace, room};
use super::write::storage_reason;
use super::{Coordinator, RequestError};
use crate::peers::{Inflight, PeerError};
use crate::replica::page_in_words;
use crate::storage::{RangeStart, RowsPage, StorageError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use helenus_core::level::Op;
use helenus_core::placement::Replica as Holder;
use helenus_core::read::{Part, RowFilter};
use helenus_core::tally::{Answer, FailureReason, Tally, Verdict};
use helenus_core::{
    ClusteringKey, GcSeconds, Key, Level, NodeId, ReadRepair, Token, codec, merge, token,
};
use helenus_proto::v1;
use helenus_proto::v1::message::Body;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Partitions on a page when the client does not say.
const PAGE_DEFAULT: usize = 100;
/// The most partitions on a page.
const PAGE_MAX: usize = 5_000;
/// Bytes of keys and values that fill a page, however few they are. The one that goes over it is still on it.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A client's scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRequest {
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// How many replicas must answer for each range.
    pub level: Level,
    /// At most so many live partitions; 0: 100.
    pub limit: usize,
    /// The end of the page before; empty: from the start.
    pub page: Bytes,
    /// Only what this node holds itself.
    pub node_local: bool,
    /// Of what shape the caller takes the table to be.
    pub shape: Shape,
    /// No partition behind this token.
    pub until: Token,
    /// Who wants to know how it goes.
    pub trace: Trace,
}

/// A page of live partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOutcome {
    /// What is known of each, in (token, key) order. A part that was cut short is here whether or not anything in it is alive.
    pub partitions: Vec<(Key, Part)>,
    /// By this coordinator's clock, when they were read: what had expired by then is no value.
    pub at: GcSeconds,
    /// Where the next page begins; empty: this was the last.
    pub next_page: Bytes,
}

/// A page while it is filled.
struct Filling {
    outcome: ScanOutcome,
    limit: usize,
    bytes: usize,
}

impl Filling {
    /// Puts a partition on the page, if anything in it is alive. True: the page is full.
    fn put(&mut self, token: Token, key: &Key, part: Part) -> bool {
        if part.next.is_some() || merge::is_live(&part.partition, self.outcome.at) {
            let bytes = key.0.len() + merge::value_bytes(&part.partition);
            self.bytes = self.bytes.saturating_add(bytes);
            self.outcome.partitions.push((key.clone(), part));
        }
        let full = self.left() == 0 || self.bytes >= PAGE_BYTES;
        if full {
            // Even if it was the last: an empty page to follow is cheaper than looking ahead.
            self.outcome.next_page = page_bytes(token, key);
        }
        full
    }

    fn left(&self) -> usize {
        self.limit - self.outcome.partitions.len()
    }

    fn is_full(&self) -> bool {
        !self.outcome.next_page.is_empty()
    }
}

/// A stretch of the ring whose tokens have the same replicas.
struct Stretch<'a> {
    start: RangeStart,
    until: Token,
    holders: &'a [Holder],
}

/// What each replica holds of one partition.
type Answers = Vec<(NodeId, Part)>;

/// What is asked of all stretches.
struct Asking<'a> {
    table: &'a TableRoute,
    level: Level,
    /// `None`: whole partitions.
    filter: Option<&'a RowFilter>,
    trace: &'a Trace,
}

/// What the replicas of a stretch hold up to `end`.
#[derive(Default)]
struct Merged {
    answers: BTreeMap<(Token, Key), Answers>,
    /// Behind this nothing is known of at least one replica; `None`: the stretch is through.
    end: Option<(Token, Key)>,
}

impl Coordinator {
    /// Reads a page of a table.
    pub async fn scan(self: &Arc<Self>, request: ScanRequest) -> Result<ScanOutcome, RequestError> {
        self.scan_parts(request, None).await
    }

    /// Reads a page of parts of partitions. Where one was cut short, [`Coordinator::read_rows`] goes on.
    pub async fn scan_rows(
        self: &Arc<Self>,
        request: ScanRequest,
        filter: RowFilter,
    ) -> Result<ScanOutcome, RequestError> {
        self.scan_parts(request, Some(filter)).await
    }

    async fn scan_parts(
        self: &Arc<Self>,
        request: ScanRequest,
        filter: Option<RowFilter>,
    ) -> Result<ScanOutcome, RequestError> {
        let began = self.clock.now();
        let result = match self.admit() {
            Ok(_place) => self.scan_admitted(&request, filter.as_ref()).await,
            Err(full) => Err(full),
        };
        self.answered("scan", began, &result);
        result
    }

    async fn scan_admitted(
        &self,
        request: &ScanRequest,
        filter: Option<&RowFilter>,
    ) -> Result<ScanOutcome, RequestError> {
        let table = self.routes.table(&request.keyspace, &request.table)?;
        table.check_shape(request.shape)?;
        let limit = if request.limit == 0 { PAGE_DEFAULT } else { request.limit.min(PAGE_MAX) };
        let mut start = page_start(&request.page)?;
        let (partitions, next_page, at) = (Vec::new(), Bytes::new(), self.now_seconds());
        let outcome = ScanOutcome { partitions, at, next_page };
        let mut page = Filling { outcome, limit, bytes: 0 };
        if request.node_local {
            self.scan_own(&table, start, &mut page)?;
            return Ok(page.outcome);
        }
        let ScanRequest { level, trace, .. } = request;
        let asking = Asking { table: &table, level: *level, filter, trace };
        while let Some(stretch) = next_stretch(&table, &start, request.until) {
            let until = stretch.until;
            let merged = self.read_stretch(&asking, stretch, page.left()).await?;
            let end = merged.end.clone();
            self.take(&asking, merged, &mut page).await?;
            if page.is_full() {
                break;
            }
            start = match end {
                Some((token, key)) => RangeStart::AfterKey(token, key),
                None => RangeStart::AfterToken(until),
            };
        }
        Ok(page.outcome)
    }

    fn scan_own(
        &self,
        table: &TableRoute,
        mut start: RangeStart,
        filling: &mut Filling,
    ) -> Result<(), RequestError> {
        loop {
            let page = self
                .replica
                .range(table.def.id, &start, Token::MAX, filling.left())
                .map_err(|error| self.own_failure(&error))?;
            let last = page.partitions.last().map(|(token, key, _)| (*token, key.clone()));
            for (token, key, partition) in page.partitions {
                if filling.put(token, &key, Part { partition, next: None }) {
                    return Ok(());
                }
            }
            match last {
                Some((token, key)) if page.more => start = RangeStart::AfterKey(token, key),
                _ => return Ok(()),
            }
        }
    }

    /// This node's own storage could not serve a node-local scan.
    fn own_failure(&self, error: &StorageError) -> RequestError {
        let reason = storage_reason(error).name().to_owned();
        RequestError::Failure {
            level: Level::One,
            received: 0,
            block_for: 1,
            data_present: false,
            write: false,
            failures: vec![ReplicaFailure { node: self.id, reason }],
        }
    }

    /// Asks as many replicas as the level needs for the stretch, and merges what all of them have answered for. Whoever
    /// refuses (its file may be damaged) or cannot be reached is replaced while there is a live replica to spare.
    async fn read_stretch(
        &self,
        asking: &Asking<'_>,
        stretch: Stretch<'_>,
        limit: usize,
    ) -> Result<Merged, RequestError> {
        let Asking { table, level, trace, .. } = *asking;
        let requirement = level.requirement(Op::Read, &table.replication, &self.dc, &[])?;
        let (what, needed) = (("range", stretch.until), (level, requirement.block_for()));
        self.tell_plan(trace, what, stretch.holders, needed);
        let nearest = self.nearest_first(stretch.holders);
        let contacts = requirement.contacts(nearest.iter().copied(), |n| self.is_alive(n))?;
        let spare = nearest.iter().copied();
        let mut spare: Vec<&Holder> =
            spare.filter(|h| !contacts.contains(h) && self.is_alive(h.node)).collect();
        let mut wanted: Vec<NodeId> = contacts.iter().map(|h| h.node).collect();
        let mut tally = Tally::new(requirement.clone(), stretch.holders);
        let mut merged = Merged::default();
        let mut answered = Vec::with_capacity(wanted.len());
        let mut silence = false;
        let deadline = self.clock.now() + self.config.range_request_timeout;
        while !wanted.is_empty() {
            let left = deadline.saturating_sub(self.clock.now());
            let now_wanted = std::mem::take(&mut wanted);
            let mut asked = self.ask_range(asking, &stretch, &now_wanted, limit, left);
            while let Some((node, mut answer)) = asked.next().await {
                self.tell_answer(trace, node, &mut answer);
                match page_of(answer) {
                    Ok(page) => {
                        tally.record(node, Answer::Ack);
                        answered.push(node);
                        merged.add(node, page);
                    }
                    Err(Some(reason)) => {
                        tally.record(node, Answer::Failed(reason));
                        wanted.extend(stand_in(&requirement, node, stretch.holders, &mut spare));
                    }
                    // It was asked, and time is up.
                    Err(None) => silence = true,
                }
            }
        }
        let verdict = match tally.verdict() {
            Verdict::Lost if silence => Verdict::Pending,
            verdict => verdict,
        };
        trace.tell(|| concluded(level, &tally, verdict));
        if tally.verdict() == Verdict::Met {
            merged.cut(&answered);
            return Ok(merged);
        }
        let (received, block_for) = (tally.received(), tally.block_for());
        let (data_present, write) = (received > 0, false);
        Err(if silence {
            RequestError::Timeout { level, received, block_for, data_present, write }
        } else {
            let failures = failures(&tally);
            RequestError::Failure { level, received, block_for, data_present, write, failures }
        })
    }

    fn ask_range(
        &self,
        asking: &Asking<'_>,
        stretch: &Stretch<'_>,
        nodes: &[NodeId],
        limit: usize,
        timeout: Duration,
    ) -> Inflight {
        let Asking { table, filter, trace, .. } = *asking;
        let (after_token, after_key) = match &stretch.start {
            RangeStart::First => (None, Bytes::new()),
            RangeStart::AfterToken(token) => (Some(token.0), Bytes::new()),
            RangeStart::AfterKey(token, key) => (Some(token.0), key.0.clone()),
        };
        let body = Body::Range(v1::ReadRange {
            table: table.wire_id.clone(),
            after_token,
            after_key,
            until_token: stretch.until.0,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            rows: filter.map(helenus_proto::read::filter_to_wire),
            trace: trace.is_on(),
        });
        let there: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != self.id).collect();
        there.iter().for_each(|node| self.tell_sent(trace, "RANGE", *node));
        let mut inflight = self.peers.call(&there, body, timeout);
        if there.len() < nodes.len() {
            let (replica, id, Stretch { start, until, .. }) =
                (&self.replica, table.def.id, stretch);
            let say = |found| trace.tell_in(room::REPLICA, || page_in_words(found));
            let own = match filter {
                None => {
                    let page = replica.range(id, start, *until, limit);
                    say(page.as_ref().map(|page| page.partitions.len()));
                    page.map(crate::replica::range_answer)
                }
                Some(filter) => {
                    let page = replica.range_rows(id, start, *until, limit, filter);
                    say(page.as_ref().map(|page| page.parts.len()));
                    page.map(crate::replica::rows_answer)
                }
            };
            let answer = own.unwrap_or_else(|e| crate::replica::failed(storage_reason(&e), &e));
            inflight.push_local(self.id, Ok(answer));
        }
        inflight
    }

    /// Reconciles and repairs what was read, and puts the live partitions on the page until it is full.
    async fn take(
        &self,
        asking: &Asking<'_>,
        merged: Merged,
        page: &mut Filling,
    ) -> Result<(), RequestError> {
        let Asking { table, level, filter, trace } = *asking;
        let mut repairs = Vec::new();
        let mut answered = Vec::new();
        for ((token, key), answers) in merged.answers {
            answered = answers.iter().map(|(node, _)| *node).collect();
            let (winner, stale) = reconciled(filter, answers);
            if !stale.is_empty() {
                self.tell_winner(trace, &winner.partition, &stale);
                repairs.push((key.clone(), stale));
            }
            if page.put(token, &key, winner) {
                break;
            }
        }
        if repairs.is_empty() {
            return Ok(());
        }
        self.metrics.digest_mismatch();
        if table.def.options.read_repair == ReadRepair::None {
            return Ok(());
        }
        let repaired = self.repair(table, repairs, &answered, level, trace).await;
        repaired.map_err(|received| RequestError::Timeout {
            level,
            received,
            block_for: answered.len(),
            data_present: true,
            write: false,
        })
    }
}

impl Merged {
    fn add(&mut self, node: NodeId, page: RowsPage) {
        let last = page.parts.last().map(|(token, key, _)| (*token, key.clone()));
        for (token, key, part) in page.parts {
            self.answers.entry((token, key)).or_default().push((node, part));
        }
        if page.more {
            // The shortest page's end is where all of them are known.
            self.end = match (self.end.take(), last) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }

    /// Leaves out what lies behind the end, and notes who knows nothing of a partition that others hold.
    fn cut(&mut self, answered: &[NodeId]) {
        if let Some(end) = &self.end {
            self.answers.retain(|at, _| at <= end);
        }
        for answers in self.answers.values_mut() {
            for node in answered {
                if !answers.iter().any(|(other, _)| other == node) {
                    answers.push((*node, Part::default()));
                }
            }
        }
    }
}

/// The next stretch of the ring behind `start` and up to `last`: neighbouring ranges with the same set of replicas are one.
fn next_stretch<'a>(table: &'a TableRoute, start: &RangeStart, last: Token) -> Option<Stretch<'a>> {
    let behind = |until: Token| match start {
        RangeStart::First => true,
        RangeStart::AfterToken(token) => until > *token,
        RangeStart::AfterKey(token, _) => until >= *token,
    };
    let mut spans = table.placement.spans().skip_while(|(span, _)| !behind(span.until)).peekable();
    let from = match start {
        RangeStart::First => Token::MIN,
        RangeStart::AfterToken(token) => Token(token.0.checked_add(1)?),
        RangeStart::AfterKey(token, _) => *token,
    };
    if from > last {
        return None;
    }
    let (first, holders) = spans.next()?;
    let mut until = first.until;
    while let Some((next, _)) = spans.next_if(|(_, others)| same_set(holders, others)) {
        until = next.until;
    }
    Some(Stretch { start: start.clone(), until: until.min(last), holders })
}

fn same_set(a: &[Holder], b: &[Holder]) -> bool {
    a.len() == b.len() && a.iter().all(|holder| b.contains(holder))
}

/// A replica's page, or why there is none: a refusal, or (`None`) silence.
fn page_of(answer: Result<Body, PeerError>) -> Result<RowsPage, Option<FailureReason>> {
    match answer {
        Ok(Body::RangeAnswer(answer)) => decode_page(answer).ok_or(Some(FailureReason::Unknown)),
        Ok(Body::Failed(error)) => {
            let Ok(reason) = error.reason.parse();
            Err(Some(reason))
        }
        Ok(_) => Err(Some(FailureReason::Unknown)),
        Err(error) if error.may_have_arrived() => Err(None),
        Err(_) => Err(Some(FailureReason::NodeDown)),
    }
}

/// `None`: the peer breaks the protocol.
fn decode_page(answer: v1::RangeAnswer) -> Option<RowsPage> {
    let parts = answer.partitions.into_iter().map(|p| {
        let (partition, next) = (codec::decode(p.data).ok()?, p.next.map(ClusteringKey));
        Some((token::of(&p.key), Key(p.key), Part { partition, next }))
    });
    Some(RowsPage { parts: parts.collect::<Option<_>>()?, more: answer.more })
}

/// `| token i64 | key |`
pub(crate) fn page_bytes(token: Token, key: &Key) -> Bytes {
    let mut page = BytesMut::with_capacity(8 + key.0.len());
    page.put_i64(token.0);
    page.put_slice(&key.0);
    page.freeze()
}

fn page_start(page: &Bytes) -> Result<RangeStart, RequestError> {
    if page.is_empty() {
        return Ok(RangeStart::First);
    }
    let mut rest = page.clone();
    let token = rest.try_get_i64().map_err(|_| {
        RequestError::Invalid(format!(
            "the page marker has {} bytes and needs at least 8: pass on the `next_page` of the answer before, unchanged",
            page.len()
        ))
    })?;
    Ok(RangeStart::AfterKey(Token(token), Key(rest)))
}
