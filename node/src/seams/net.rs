//! Byte streams to and from other processes. tonic runs on top of it unchanged: over TCP in production, over turmoil's
//! TCP in simulation.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected stream of bytes.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A boxed stream: dispatch costs nothing beside the system call.
pub type BoxIo = Box<dyn Io>;

/// A future that the node's own runtime polls.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Accepts connections on one address.
pub trait Listener: Send + 'static {
    /// The next connection and who it is from.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>>;
    /// The address it listens on, with the port that was really taken.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Dials and listens.
pub trait Net: Send + Sync + 'static {
    /// Connects to `addr`.
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>>;
    /// Listens on `addr`; port 0 takes a free one.
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}
