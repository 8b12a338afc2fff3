//! The port that clients and operators reach.

use crate::grpc;
use crate::seams::net::Listener;
use crate::server::{AdminService, KvService};
use helenus_proto::v1::admin_server::AdminServer;
use helenus_proto::v1::kv_server::KvServer;
use std::time::Duration;

/// Pings an idle client as often as this, so that the connections of those that vanished are given back.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// How long it waits for the answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a request carries beside its value: keys, names, numbers.
const ENVELOPE_BYTES: u64 = 256 * 1024;
/// HTTP/2 flow control: what may be under way unread on a stream.
const WINDOW_BYTES: u32 = 1024 * 1024;

/// The largest request that is read. Twice the limit on values, so that a value that is somewhat too large is answered
/// with a sentence and not with the end of the stream.
pub(crate) fn request_bytes_max(max_value_size: u64) -> usize {
    let largest = max_value_size.saturating_mul(2).saturating_add(ENVELOPE_BYTES);
    usize::try_from(largest).unwrap_or(usize::MAX)
}

/// Serves until the task that polls it ends.
pub(crate) async fn clients(
    listener: Box<dyn Listener>,
    kv: KvService,
    admin: AdminService,
    max_value_size: u64,
) {
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .layer(grpc::fixed_date())
        .add_service(KvServer::new(kv).max_decoding_message_size(request_bytes_max(max_value_size)))
        .add_service(AdminServer::new(admin))
        .serve_with_incoming(grpc::incoming(listener))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the client port closed");
    }
}
