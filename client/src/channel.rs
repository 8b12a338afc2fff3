//! HTTP/2 connections to nodes, over whatever [`Connect`] provides.

use crate::connect::Connect;
use crate::error::root_cause;
use helenus_proto::v1::admin_client::AdminClient;
use helenus_proto::v1::kv_client::KvClient;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// The longest message taken from a node: a page of values of 16 MiB each has to fit, and a node that announces more
/// than this is not believed.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// HTTP/2 receive windows: one large value in flight must not stop the small ones behind it.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How connections are made and watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChannelOptions {
    pub(crate) connect_timeout: Duration,
    /// A connection that carries nothing still sends a ping this often. Without it a connection whose segments were
    /// lost in a partition would look open for ever.
    pub(crate) keepalive_interval: Duration,
    /// A ping unanswered for this long means that the connection is dead.
    pub(crate) keepalive_timeout: Duration,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        ChannelOptions {
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(3),
        }
    }
}

/// Where to connect is the connector's business: the address here is only what HTTP/2 wants in `:authority`, and not
/// every socket address is a legal one (scoped IPv6 ones are not).
fn endpoint(options: &ChannelOptions) -> Endpoint {
    Endpoint::from_static("http://helenus")
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
}

/// Connects now; the error says why not, in the innermost words there are.
pub(crate) async fn open(
    addr: SocketAddr,
    connector: Arc<dyn Connect>,
    options: ChannelOptions,
) -> Result<Channel, String> {
    let endpoint = endpoint(&options);
    let dial = service_fn(move |_| {
        let dialled = connector.connect(addr);
        async move { dialled.await.map(TokioIo::new) }
    });
    // The handshake after the dial is bounded as well: a listener that never speaks is not a node.
    match tokio::time::timeout(options.connect_timeout, endpoint.connect_with_connector(dial)).await
    {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(root_cause(&error)),
        Err(_) => Err(format!("no connection within {:?}", options.connect_timeout)),
    }
}

/// Connects when first used, and again after each loss.
pub(crate) fn open_lazily(
    addr: SocketAddr,
    connector: Arc<dyn Connect>,
    options: ChannelOptions,
) -> Channel {
    endpoint(&options).connect_with_connector_lazy(service_fn(move |_| {
        let dialled = connector.connect(addr);
        async move { dialled.await.map(TokioIo::new) }
    }))
}

pub(crate) fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

pub(crate) fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}
