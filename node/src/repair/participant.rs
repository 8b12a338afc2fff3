//! What a replica does for a repair: hash a step, send a page. Nothing is kept between two requests, so a coordinator that
//! dies leaves nothing behind.
//!
//! Reading happens on the background's compaction lane, where other walks over files are, in steps of bounded partitions
//! and bytes; the engine's lock is held no longer than for any scan. Pages go out on the bulk lane, one at a time for each
//! request, and no sooner than the node's throttle (`stream_throughput_outbound`) allows: a request that comes too early is
//! told how long to wait, and nothing is read for it.
//!
//! Bound: [`STEPS_MAX`] steps at once, of all coordinators together; more are refused and counted.

use super::metrics::RepairMetrics;
use super::session::SPANS_MAX;
use super::{ask, wire};
use crate::peers::{Body, Peers};
use crate::seams::background::{self, Background, Lane};
use crate::seams::clock::Clock;
use crate::storage::{Engine, RangeStart, StorageError};
use bytes::Bytes;
use helenus_core::codec::CodecError;
use helenus_core::merkle::{self, Leaves, Shape};
use helenus_core::ring::Span;
use helenus_core::throttle::Throttle;
use helenus_core::{GcSeconds, Key, NodeId, TableId, Token};
use helenus_proto::v1;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Steps that a node works on at once.
const STEPS_MAX: usize = 64;
/// What one step reads at most, in partitions and in bytes. The partition that goes over it is still in it.
const STEP_PARTITIONS: usize = 16_384;
const STEP_BYTES: usize = 8 * 1024 * 1024;
/// What a partition counts besides its bytes, so that many small ones end a step too.
const PARTITION_BYTES: usize = 32;
/// Bytes that fill a page: small beside a frame's bound, so that hints and range reads get their turn between two pages.
const PAGE_BYTES: usize = 256 * 1024;
/// How long a receiver may take to apply a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause that is asked for at once; whoever is still too early then is told so again.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The request makes no sense.
    #[error("the request cannot be understood: {0}")]
    Malformed(String),
    /// Too many at once.
    #[error(
        "{STEPS_MAX} steps of repairs run on this replica already: run fewer repairs at a time"
    )]
    Overloaded,
    /// Storage could not serve it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A partition was read whose bytes mean nothing.
    #[error("the partition of token {token} cannot be decoded ({error}): scrub this table")]
    Undecodable {
        /// Where.
        token: Token,
        /// What is wrong.
        error: CodecError,
    },
    /// The receiver did not apply a page.
    #[error("{to} did not take a page: {why}")]
    Receiver {
        /// Its address, or its host id.
        to: String,
        /// In its words, or the link's.
        why: String,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

/// A replica's side of repair.
pub(crate) struct Participant {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) background: Arc<dyn Background>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) metrics: RepairMetrics,
    /// What streams of this node may send together.
    throttle: Mutex<Throttle>,
    steps: AtomicUsize,
}

impl Participant {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        background: Arc<dyn Background>,
        clock: Arc<dyn Clock>,
        peers: Arc<Peers>,
        metrics: RepairMetrics,
        bytes_per_s: u64,
    ) -> Participant {
        let throttle = Mutex::new(Throttle::new(bytes_per_s));
        let steps = AtomicUsize::new(0);
        Participant { engine, background, clock, peers, metrics, throttle, steps }
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().expect("nothing panics while it holds this lock")
    }

    /// The next hashes of a tree.
    pub(crate) async fn hash(&self, step: v1::RepairHash) -> Result<v1::RepairHashes, StepError> {
        let _place = self.place()?;
        let table = wire::table(&step.table).map_err(StepError::Malformed)?;
        let span = step.span.map(wire::span);
        let depth = u8::try_from(step.depth).unwrap_or(u8::MAX);
        let shape = span.and_then(|span| Shape::new(span, depth));
        let shape = shape.filter(|shape| u32::from(shape.depth()) == step.depth);
        let shape = shape.ok_or(StepError::Malformed("no such tree".to_owned()))?;
        let as_of = AsOf { now: GcSeconds(step.now_s), gc_grace_s: step.gc_grace_s };
        let start = start(shape.span(), step.behind.map(wire::position))?;
        let engine = Arc::clone(&self.engine);
        let job = move || hash(&*engine, table, shape, &start, as_of);
        let (leaves, behind) = self.read(job).await??;
        let behind = behind.map(wire::position_to_wire);
        Ok(v1::RepairHashes { leaves: leaves.encode().into(), behind })
    }

    /// Sends a page to another replica, and waits until it is applied there.
    pub(crate) async fn send(&self, step: v1::RepairSend) -> Result<v1::RepairSent, StepError> {
        let _place = self.place()?;
        let (table, to) = (wire::table(&step.table), wire::node(&step.to));
        let table = table.map_err(StepError::Malformed)?;
        let to = to.map_err(StepError::Malformed)?;
        let (pause, room) = {
            let throttle = self.throttle();
            let debt = throttle.debt(self.clock.now()).min(PAUSE_MAX);
            (debt, page_bytes(throttle.bytes_per_s()))
        };
        if !pause.is_zero() {
            let pause_ms = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX).max(1);
            return Ok(v1::RepairSent { behind: step.behind, pause_ms, ..Default::default() });
        }
        let as_of = AsOf { now: GcSeconds(step.now_s), gc_grace_s: step.gc_grace_s };
        if step.spans.len() > SPANS_MAX {
            return Err(StepError::Malformed(format!("{} ranges at once", step.spans.len())));
        }
        let spans: Vec<Span> = step.spans.into_iter().map(wire::span).collect();
        let behind = step.behind.map(wire::position);
        let engine = Arc::clone(&self.engine);
        let job = move || collect(&*engine, table, &spans, behind, as_of, room);
        let page = self.read(job).await??;
        let (partitions, bytes) = (page.partitions.len() as u64, page.bytes as u64);
        if partitions > 0 {
            self.deliver(to, step.table, page.partitions).await?;
            self.throttle().spend(self.clock.now(), bytes);
            self.metrics.streamed(partitions, bytes);
        }
        Ok(v1::RepairSent {
            partitions,
            bytes,
            spans_done: page.spans_done,
            behind: page.behind.map(wire::position_to_wire),
            pause_ms: 0,
        })
    }

    async fn deliver(
        &self,
        to: NodeId,
        table: Bytes,
        partitions: Vec<v1::KeyedPartition>,
    ) -> Result<(), StepError> {
        let body = Body::RepairPage(v1::RepairPage { table, partitions });
        let why = match ask(&self.peers, to, body, PAGE_TIMEOUT).await {
            Ok(Body::Ack(_)) => return Ok(()),
            Ok(_) => "it answered something else".to_owned(),
            Err(why) => why,
        };
        let named = self.peers.address(to).map(|address| address.to_string());
        Err(StepError::Receiver { to: named.unwrap_or_else(|| to.to_string()), why })
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StepError> {
        let done = background::run(&*self.background, Lane::Compaction, STEP_BYTES as u64, job);
        done.await.map_err(|_| StepError::Stopped)
    }

    fn place(&self) -> Result<Step<'_>, StepError> {
        if self.steps.fetch_add(1, Ordering::Relaxed) >= STEPS_MAX {
            self.steps.fetch_sub(1, Ordering::Relaxed);
            self.metrics.step_refused();
            return Err(StepError::Overloaded);
        }
        Ok(Step(&self.steps))
    }
}

/// A step under way, counted until this is dropped.
struct Step<'s>(&'s AtomicUsize);

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The moment as of which partitions are compared and sent.
#[derive(Debug, Clone, Copy)]
struct AsOf {
    now: GcSeconds,
    gc_grace_s: u32,
}

/// Where a step begins.
fn start(span: Span, behind: Option<(Token, Key)>) -> Result<RangeStart, StepError> {
    match (behind, span.after) {
        (Some((token, key)), after) => {
            let inside = after.is_none_or(|after| after < token) && token <= span.until;
            let start = inside.then_some(RangeStart::AfterKey(token, key));
            start.ok_or(StepError::Malformed(format!("token {token} is outside the range")))
        }
        (None, Some(after)) => Ok(RangeStart::AfterToken(after)),
        (None, None) => Ok(RangeStart::First),
    }
}

/// The leaves of a step, and where the next one begins, if there is more.
type Hashed = (Leaves, Option<(Token, Key)>);

fn hash(
    engine: &dyn Engine,
    table: TableId,
    shape: Shape,
    start: &RangeStart,
    as_of: AsOf,
) -> Result<Hashed, StepError> {
    let mut leaves = Leaves::new(shape);
    let mut walk = Walk::default();
    let seen = walk.scan(engine, table, start, shape.span().until, as_of, |token, key, bytes| {
        leaves.add(token, key, bytes).map_err(|e| StepError::Malformed(e.to_string()))?;
        Ok(0)
    });
    seen?;
    Ok((leaves, walk.behind()))
}

/// A page to send.
#[derive(Default)]
struct Page {
    partitions: Vec<v1::KeyedPartition>,
    bytes: usize,
    spans_done: u32,
    behind: Option<(Token, Key)>,
}

fn collect(
    engine: &dyn Engine,
    table: TableId,
    spans: &[Span],
    mut behind: Option<(Token, Key)>,
    as_of: AsOf,
    room: usize,
) -> Result<Page, StepError> {
    let mut page = Page::default();
    let mut walk = Walk { page_left: room, ..Walk::default() };
    for span in spans {
        let start = start(*span, behind.take())?;
        walk.scan(engine, table, &start, span.until, as_of, |_, key, bytes| {
            let partition = v1::KeyedPartition {
                next: None,
                key: Bytes::copy_from_slice(key),
                data: Bytes::copy_from_slice(bytes),
            };
            page.bytes += key.len() + bytes.len();
            page.partitions.push(partition);
            Ok(key.len() + bytes.len())
        })?;
        page.behind = walk.behind();
        if page.behind.is_some() {
            return Ok(page);
        }
        page.spans_done += 1;
        if walk.is_over() {
            return Ok(page);
        }
    }
    Ok(page)
}

/// The bounds of one step, over one or several spans.
struct Walk {
    partitions_left: usize,
    bytes_left: usize,
    page_left: usize,
    last: Option<(Token, Bytes)>,
    /// The last span was left before its end.
    more: bool,
}

impl Default for Walk {
    fn default() -> Walk {
        let (partitions_left, bytes_left) = (STEP_PARTITIONS, STEP_BYTES);
        Walk { partitions_left, bytes_left, page_left: PAGE_BYTES, last: None, more: false }
    }
}

impl Walk {
    fn is_over(&self) -> bool {
        self.partitions_left == 0 || self.bytes_left == 0 || self.page_left == 0
    }

    fn behind(&mut self) -> Option<(Token, Key)> {
        let more = std::mem::take(&mut self.more);
        self.last.take().filter(|_| more).map(|(token, key)| (token, Key(key)))
    }

    /// Gives `take` the comparable bytes of each partition that counts. It says how much of the page they fill.
    fn scan(
        &mut self,
        engine: &dyn Engine,
        table: TableId,
        start: &RangeStart,
        until: Token,
        as_of: AsOf,
        mut take: impl FnMut(Token, &[u8], &[u8]) -> Result<usize, StepError>,
    ) -> Result<(), StepError> {
        let mut failed = None;
        engine.scan(table, start, until, &mut |token, key, encoded| {
            if self.is_over() {
                self.more = true;
                return ControlFlow::Break(());
            }
            let taken = match merkle::comparable(encoded, as_of.now, as_of.gc_grace_s) {
                Ok(None) => Ok(0),
                Ok(Some(bytes)) => take(token, key, &bytes),
                Err(error) => Err(StepError::Undecodable { token, error }),
            };
            match taken {
                Ok(filled) => self.page_left = self.page_left.saturating_sub(filled),
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            self.partitions_left -= 1;
            let read = key.len() + encoded.len() + PARTITION_BYTES;
            self.bytes_left = self.bytes_left.saturating_sub(read);
            if self.is_over() {
                self.last = Some((token, Bytes::copy_from_slice(key)));
            }
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(()), Err)
    }
}

/// A page is at most one second's worth, so that the throttle holds at every scale; 0: there is none.
fn page_bytes(bytes_per_s: u64) -> usize {
    let second = usize::try_from(bytes_per_s).unwrap_or(usize::MAX);
    if second == 0 { PAGE_BYTES } else { PAGE_BYTES.min(second) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_seconds_worth_at_most() {
        assert_eq!([0, 1000, u64::MAX].map(page_bytes), [PAGE_BYTES, 1000, PAGE_BYTES]);
    }
}
