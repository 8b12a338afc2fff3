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

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The machine's TCP, without Nagle's delay: links write whole batches, so small segments are meant. A peer that has vanished
/// without a word is found out by the system's keepalive: who only listens to it would never know.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxIo)
        })
    }

    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            match bind(addr) {
                Ok(listener) => Ok(Box::new(TcpListener(listener)) as Box<dyn Listener>),
                Err(error) => Err(cannot_listen(addr, &error)),
            }
        })
    }
}

/// What is accepted has the listening socket's keepalive.
fn bind(addr: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    }?;
    // As tokio's own `bind` does: a node that is started again finds its port. On Windows it would let two have it.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.set_keepalive(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// The same kind of error, saying where and what to do.
fn cannot_listen(addr: SocketAddr, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has this port: stop it (perhaps a node that still runs), or give this node another address"
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has this address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: take a higher one",
        _ => "see the cause",
    };
    io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}; {remedy}"))
}

struct TcpListener(tokio::net::TcpListener);

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxIo, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_is_accepted_is_kept_alive() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let out = tokio::net::TcpStream::connect(addr).await.unwrap();
        let (inn, _) = listener.accept().await.unwrap();
        let keepalive = |stream: tokio::net::TcpStream| {
            tokio::net::TcpSocket::from_std_stream(stream.into_std().unwrap()).keepalive().unwrap()
        };
        assert!(keepalive(inn));
        assert!(!keepalive(out), "it is not simply so");
    }

    #[tokio::test]
    async fn bytes_arrive_and_a_used_port_says_what_to_do() {
        let mut listener = TcpNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut out = TcpNet.connect(addr).await.unwrap();
        let (mut inn, _) = listener.accept().await.unwrap();
        out.write_all(b"ping").await.unwrap();
        let mut buf = [0; 4];
        inn.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"ping");

        let error = TcpNet.listen(addr).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains(&addr.to_string()) && text.contains("stop it"), "{text}");
    }
}
