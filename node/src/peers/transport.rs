//! tonic over the net seam: how a link is dialled and how links are accepted. Bytes only; what is said on them is
//! decided in `link` and `session`.
//!
//! CAVEAT: a segment lost in a partition stalls a TCP stream for ever where nothing is retransmitted (turmoil), and for
//! many minutes where it is. Keepalive on both ends notices: the dialler's soon, because calls hang on it; the
//! listener's later, because it only clears up. Both ping an idle link too.

use super::queue::MESSAGE_BYTES_MAX;
use super::session::Server;
use crate::grpc;
use crate::seams::net::{Listener, Net};
use helenus_proto::v1::internode_client::InternodeClient;
use helenus_proto::v1::internode_server::InternodeServer;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// How often the dialler pings.
pub(crate) const DIALLER_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long it waits for the answer before it gives the link up.
pub(crate) const DIALLER_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the listener pings.
const LISTENER_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// How long it waits for the answer.
const LISTENER_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 flow control: what may be under way unread on a stream. Above the frame size, so that one frame in flight
/// does not wait for the window.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// The largest frame that is decoded: the largest message, and its envelope.
const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1024;

/// Connects to `addr` and gives a client for exactly one stream: a link that is lost is dialled anew, never revived.
pub(crate) async fn dial(
    net: &Arc<dyn Net>,
    addr: SocketAddr,
) -> Result<InternodeClient<Channel>, tonic::transport::Error> {
    let net = net.clone();
    let connector = service_fn(move |_: http::Uri| {
        let connect = net.connect(addr);
        async move { Ok::<_, io::Error>(TokioIo::new(connect.await?)) }
    });
    // The URI only fills the `:authority` header; the connector knows where to go.
    let channel = Endpoint::from_static("http://peer")
        .http2_keep_alive_interval(DIALLER_KEEPALIVE_INTERVAL)
        .keep_alive_timeout(DIALLER_KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_with_connector(connector)
        .await?;
    Ok(InternodeClient::new(channel).max_decoding_message_size(FRAME_BYTES_MAX))
}

/// Accepts links until the task that polls it ends.
pub(crate) async fn serve(
    listener: Box<dyn Listener>,
    server: Server,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(LISTENER_KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(LISTENER_KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .layer(grpc::fixed_date())
        .serve_with_incoming(
            InternodeServer::new(server).max_decoding_message_size(FRAME_BYTES_MAX),
            grpc::incoming(listener),
        )
        .await
}
