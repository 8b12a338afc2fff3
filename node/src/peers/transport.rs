//! tonic over the net seam: how a link is dialled and how links are accepted. Bytes only; what is said on them is
//! decided in `link` and `session`.
//!
//! CAVEAT: a segment lost in a partition stalls a TCP stream for ever where nothing is retransmitted (turmoil), and for
//! many minutes where it is. Keepalive on both ends notices: the dialler's soon, because calls hang on it; the
//! listener's later, because it only clears up. Both ping an idle link too.

use super::queue::MESSAGE_BYTES_MAX;
use super::session::Server;
use crate::seams::net::{BoxIo, Listener, Net};
use helenus_proto::v1::internode_client::InternodeClient;
use helenus_proto::v1::internode_server::InternodeServer;
use http::HeaderValue;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tower::util::MapResponseLayer;

/// How often the dialler pings.
pub(crate) const DIALLER_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long it waits for the answer before it gives the link up.
pub(crate) const DIALLER_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the listener pings.
const LISTENER_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long it waits for the answer.
const LISTENER_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 flow control: what may be under way unread on a stream. Above the frame size, so that one frame in flight
/// does not wait for the window.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// The largest frame that is decoded: the largest message, and its envelope.
const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1024;
/// The wait after a failed accept (for lack of file descriptors, say): trying at once would only burn the thread.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

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
    // hyper stamps a `date` header from the wall clock unless there is one: it would leak real time into a simulation.
    let fixed_date = MapResponseLayer::new(|mut response: http::Response<_>| {
        let date = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
        response.headers_mut().insert(http::header::DATE, date);
        response
    });
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(LISTENER_KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(LISTENER_KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .layer(fixed_date)
        .serve_with_incoming(
            InternodeServer::new(server).max_decoding_message_size(FRAME_BYTES_MAX),
            incoming(listener),
        )
        .await
}

fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<Accepted>> + Send {
    futures_util::stream::unfold(listener, |mut listener| async move {
        loop {
            match listener.accept().await {
                Ok((io, _)) => return Some((Ok(Accepted(io)), listener)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a link; trying again");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    })
}

/// An accepted stream of bytes. tonic asks it who is there; links learn that from the Hello instead.
struct Accepted(BoxIo);

impl Connected for Accepted {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
