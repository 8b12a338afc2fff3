//! Reads and writes of clients.
//!
//! A stream is run to completion where its bytes arrive: its requests are futures that the stream itself polls, with no
//! task and no channel for any of them. One wake takes what has arrived, runs what can run, writes the log once, and only
//! then gives out answers.
//!
//! Bounds: [`STREAM_REQUESTS_MAX`] requests of one stream are worked on at once; past it no more are read from its socket,
//! which is the client's backpressure. Over all streams the coordinator's `native_transport_max_concurrent_requests`
//! holds.

use super::error_to_wire;
use crate::coordinator::{
    Change, Coordinator, ReadRequest, RequestError, ScanRequest, Shape, Trace, Unlogged,
    WriteRequest,
};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream};
use helenus_core::{Level, NodeId, TimestampMicros, Token, merge};
use helenus_proto::v1::kv_request::Op;
use helenus_proto::v1::kv_response::Outcome;
use helenus_proto::{ids, level, limit, v1};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::{Code, Request, Response, Status, Streaming};

/// Requests of one stream that are worked on at once.
const STREAM_REQUESTS_MAX: usize = 1024;

/// The `Kv` service.
#[derive(Debug, Clone)]
pub(crate) struct KvService {
    pub(crate) coordinator: Arc<Coordinator>,
}

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// An answer, before the log is written.
struct Answer {
    response: v1::KvResponse,
    /// Set if it is another answer when the log cannot be written.
    unlogged: Option<Unlogged>,
}

/// The answers of one stream.
pub(crate) struct KvStream {
    coordinator: Arc<Coordinator>,
    inbound: Streaming<v1::KvRequest>,
    inbound_ended: bool,
    running: FuturesUnordered<Answering>,
    /// Answered, and the log is written.
    ready: VecDeque<Answer>,
    /// Something came that is too large to be read, and nothing behind it can be. Said once the requests before it are
    /// answered.
    unreadable: bool,
}

#[tonic::async_trait]
impl v1::kv_server::Kv for KvService {
    type StreamStream = KvStream;

    async fn execute(
        &self,
        request: Request<v1::KvRequest>,
    ) -> Result<Response<v1::KvResponse>, Status> {
        let response = answer(Arc::clone(&self.coordinator), request.into_inner()).await;
        let mut ready = VecDeque::from([response]);
        commit(&self.coordinator, &mut ready);
        let response = ready.pop_front().map(|answer| Response::new(answer.response));
        response.ok_or_else(|| Status::internal("no answer"))
    }

    async fn stream(
        &self,
        request: Request<Streaming<v1::KvRequest>>,
    ) -> Result<Response<KvStream>, Status> {
        let mut response = Response::new(KvStream {
            coordinator: Arc::clone(&self.coordinator),
            inbound: request.into_inner(),
            inbound_ended: false,
            running: FuturesUnordered::new(),
            ready: VecDeque::new(),
            unreadable: false,
        });
        limit::announce(response.metadata_mut(), self.coordinator.request_bytes_max());
        Ok(response)
    }
}

impl KvStream {
    /// A request of which only the length was read: nothing of it was done.
    fn too_large(&self) -> Status {
        let largest = self.coordinator.request_bytes_max();
        let mut status = Status::out_of_range(format!(
            "the request is larger than the {largest} bytes that this node reads (max_value_size)"
        ));
        limit::announce(status.metadata_mut(), largest);
        status
    }
}

impl Stream for KvStream {
    type Item = Result<v1::KvResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(answer) = this.ready.pop_front() {
            return Poll::Ready(Some(Ok(answer.response)));
        }
        while !this.inbound_ended && this.running.len() < STREAM_REQUESTS_MAX {
            match Pin::new(&mut this.inbound).poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => {
                    this.running.push(Box::pin(answer(Arc::clone(&this.coordinator), request)));
                }
                Poll::Ready(Some(Err(status))) if status.code() == Code::OutOfRange => {
                    (this.inbound_ended, this.unreadable) = (true, true);
                }
                // A client that goes away ends its stream; what it asked for is still carried through by `Sent`.
                Poll::Ready(Some(Err(_)) | None) => this.inbound_ended = true,
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(Some(answer)) = Pin::new(&mut this.running).poll_next(cx) {
            this.ready.push_back(answer);
        }
        if this.ready.is_empty() {
            let over = this.inbound_ended && this.running.is_empty();
            return match (over, std::mem::take(&mut this.unreadable)) {
                (true, true) => Poll::Ready(Some(Err(this.too_large()))),
                (true, false) => Poll::Ready(None),
                (false, unreadable) => {
                    this.unreadable = unreadable;
                    Poll::Pending
                }
            };
        }
        commit(&this.coordinator, &mut this.ready);
        Poll::Ready(this.ready.pop_front().map(|answer| Ok(answer.response)))
    }
}

/// Writes the log. If that fails, no write among `ready` may count this node's own copy.
fn commit(coordinator: &Coordinator, ready: &mut VecDeque<Answer>) {
    let Err(error) = coordinator.replica.engine.commit() else { return };
    tracing::error!(%error, "the log could not be written");
    for answer in ready {
        if let Some(unlogged) = answer.unlogged.take() {
            answer.response.outcome =
                Some(Outcome::Error(error_to_wire(unlogged.failure(coordinator.id))));
        }
    }
}

/// One request, answered.
async fn answer(coordinator: Arc<Coordinator>, request: v1::KvRequest) -> Answer {
    let (id, trace) = (request.id, request.trace);
    match execute(&coordinator, request).await {
        Ok(answered) => Answer {
            response: v1::KvResponse {
                id,
                warnings: answered.warnings,
                outcome: Some(answered.outcome),
                responders: match trace {
                    true => answered.responders.into_iter().map(ids::node_to_wire).collect(),
                    false => Vec::new(),
                },
            },
            unlogged: answered.unlogged,
        },
        Err(error) => Answer {
            response: v1::KvResponse {
                id,
                warnings: Vec::new(),
                outcome: Some(Outcome::Error(error_to_wire(error))),
                responders: Vec::new(),
            },
            unlogged: None,
        },
    }
}

struct Answered {
    outcome: Outcome,
    warnings: Vec<String>,
    responders: Vec<NodeId>,
    unlogged: Option<Unlogged>,
}

/// A request with its common parts checked.
struct Checked {
    keyspace: String,
    table: String,
    level: Level,
    timeout: Option<Duration>,
}

async fn execute(
    coordinator: &Arc<Coordinator>,
    request: v1::KvRequest,
) -> Result<Answered, RequestError> {
    let level =
        level::from_wire(request.level).map_err(|e| RequestError::Invalid(e.to_string()))?;
    let timeout =
        (request.timeout_ms > 0).then(|| Duration::from_millis(u64::from(request.timeout_ms)));
    let checked = Checked { keyspace: request.keyspace, table: request.table, level, timeout };
    match request.op {
        Some(Op::Put(put)) => {
            let change = Change::Put { value: put.value, ttl_s: put.ttl_s };
            write(coordinator, checked, put.key, change, put.timestamp_us).await
        }
        Some(Op::Delete(delete)) => {
            write(coordinator, checked, delete.key, Change::Delete, delete.timestamp_us).await
        }
        Some(Op::Get(get)) => read(coordinator, checked, get.key).await,
        Some(Op::Scan(scan)) => scan_page(coordinator, checked, scan).await,
        None => Err(RequestError::Invalid(
            "the request asks for nothing: set put, get, delete or scan".to_owned(),
        )),
    }
}

async fn write(
    coordinator: &Arc<Coordinator>,
    checked: Checked,
    key: Bytes,
    change: Change,
    timestamp_us: Option<i64>,
) -> Result<Answered, RequestError> {
    let Checked { keyspace, table, level, timeout } = checked;
    let timestamp = timestamp_us.map(TimestampMicros);
    let trace = Trace::default();
    let request = WriteRequest { keyspace, table, key, change, level, timestamp, timeout, trace };
    let written = coordinator.write(request).await?;
    Ok(Answered {
        unlogged: written.unlogged(coordinator.id, level),
        outcome: Outcome::Written(v1::Written { timestamp_us: written.timestamp.0 }),
        warnings: written.warnings,
        responders: written.responders,
    })
}

async fn read(
    coordinator: &Arc<Coordinator>,
    checked: Checked,
    key: Bytes,
) -> Result<Answered, RequestError> {
    let Checked { keyspace, table, level, timeout } = checked;
    let found = coordinator
        .read(ReadRequest {
            keyspace,
            table,
            key,
            level,
            timeout,
            shape: Shape::OneValue,
            trace: Trace::default(),
        })
        .await?;
    Ok(Answered {
        outcome: Outcome::Value(v1::Value {
            value: found.value().cloned(),
            timestamp_us: found.timestamp().map_or(0, |t| t.0),
        }),
        warnings: Vec::new(),
        responders: found.responders,
        unlogged: None,
    })
}

async fn scan_page(
    coordinator: &Arc<Coordinator>,
    checked: Checked,
    scan: v1::Scan,
) -> Result<Answered, RequestError> {
    let Checked { keyspace, table, level, .. } = checked;
    let request = ScanRequest {
        keyspace,
        table,
        level,
        limit: usize::try_from(scan.limit).unwrap_or(usize::MAX),
        page: scan.page,
        node_local: scan.node_local,
        shape: Shape::OneValue,
        until: Token::MAX,
        trace: Trace::default(),
    };
    let page = coordinator.scan(request).await?;
    let entries = page.partitions.into_iter().filter_map(|(key, part)| {
        let (value, at) = merge::live_value(&part.partition, page.at)?;
        Some(v1::Entry { key: key.0, value: value.clone(), timestamp_us: at.0 })
    });
    Ok(Answered {
        outcome: Outcome::Page(v1::Page { entries: entries.collect(), next_page: page.next_page }),
        warnings: Vec::new(),
        responders: Vec::new(),
        unlogged: None,
    })
}
