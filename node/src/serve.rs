//! The port that clients and operators reach.

use crate::grpc;
use crate::seams::net::Listener;
use crate::server::{AdminService, KvService};
use helenus_proto::v1::admin_server::AdminServer;
use helenus_proto::v1::kv_server::KvServer;
use std::time::Duration;

/// Pings an idle client as often as this, so that the connections of those that vanished are given back.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long it waits for the answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a request carries beside its value: keys, names, numbers.
const ENVELOPE_BYTES: u64 = 256 * 1024;
/// HTTP/2 flow control: what may be under way unread on a stream.
const WINDOW_BYTES: u32 = 1024 * 1024;

/// Serves until the task that polls it ends.
pub(crate) async fn clients(
    listener: Box<dyn Listener>,
    kv: KvService,
    admin: AdminService,
    max_value_size: u64,
) {
    // Twice the limit is still read, so that a value that is too large is answered with a sentence, not a lost stream.
    let largest = usize::try_from(max_value_size * 2 + ENVELOPE_BYTES).unwrap_or(usize::MAX);
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .layer(grpc::fixed_date())
        .add_service(KvServer::new(kv).max_decoding_message_size(largest))
        .add_service(AdminServer::new(admin))
        .serve_with_incoming(grpc::incoming(listener))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the client port closed");
    }
}
