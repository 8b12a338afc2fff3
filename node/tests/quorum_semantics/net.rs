//! A network of pipes in memory. Nodes have addresses; a pair of them can be cut, a node can be unplugged. What was
//! connected then breaks, and dialling is refused, until it is mended.

use helenus_node::seams::net::{BoxFuture, BoxIo, Listener, Net};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

const PIPE_BYTES: usize = 256 * 1024;

/// Both ends of a connection. Taking an end out closes it, and wakes the other.
type Wire = Mutex<[Option<DuplexStream>; 2]>;

#[derive(Default)]
struct Cables {
    listeners: BTreeMap<SocketAddr, mpsc::UnboundedSender<BoxIo>>,
    cut: BTreeSet<(IpAddr, IpAddr)>,
    wires: Vec<(IpAddr, IpAddr, Weak<Wire>)>,
}

/// The whole network.
#[derive(Clone, Default)]
pub(crate) struct Pipes(Arc<Mutex<Cables>>);

impl Pipes {
    /// The network as one host sees it.
    pub(crate) fn host(&self, ip: IpAddr) -> HostNet {
        HostNet { pipes: self.clone(), ip }
    }

    /// Breaks what connects the two, and keeps them from connecting.
    pub(crate) fn cut(&self, a: IpAddr, b: IpAddr) {
        let mut cables = self.0.lock().unwrap();
        cables.cut.extend([(a, b), (b, a)]);
        cables.break_where(|from, to| (from, to) == (a, b) || (from, to) == (b, a));
    }

    /// Lets them connect again.
    pub(crate) fn mend(&self, a: IpAddr, b: IpAddr) {
        self.0.lock().unwrap().cut.retain(|pair| *pair != (a, b) && *pair != (b, a));
    }

    /// A host is gone: nothing of it listens, nothing is connected to it.
    pub(crate) fn unplug(&self, ip: IpAddr) {
        let mut cables = self.0.lock().unwrap();
        cables.listeners.retain(|addr, _| addr.ip() != ip);
        cables.break_where(|from, to| from == ip || to == ip);
    }
}

impl Cables {
    fn break_where(&mut self, broken: impl Fn(IpAddr, IpAddr) -> bool) {
        self.wires.retain(|(from, to, wire)| {
            let Some(wire) = wire.upgrade() else { return false };
            if broken(*from, *to) {
                let ends = std::mem::take(&mut *wire.lock().unwrap());
                drop(ends);
                return false;
            }
            true
        });
    }
}

pub(crate) struct HostNet {
    pipes: Pipes,
    ip: IpAddr,
}

impl Net for HostNet {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
        let (pipes, from) = (self.pipes.clone(), self.ip);
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let mut cables = pipes.0.lock().unwrap();
            if cables.cut.contains(&(from, addr.ip())) {
                return Err(refused());
            }
            let listener = cables.listeners.get(&addr).ok_or_else(refused)?;
            let (here, there) = tokio::io::duplex(PIPE_BYTES);
            let wire = Arc::new(Mutex::new([Some(here), Some(there)]));
            let there = Box::new(End { wire: Arc::clone(&wire), side: 1 });
            listener.send(there).map_err(|_| refused())?;
            cables.wires.push((from, addr.ip(), Arc::downgrade(&wire)));
            Ok(Box::new(End { wire, side: 0 }) as BoxIo)
        })
    }

    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (tx, rx) = mpsc::unbounded_channel();
        self.pipes.0.lock().unwrap().listeners.insert(addr, tx);
        Box::pin(async move { Ok(Box::new(PipeListener(addr, rx)) as Box<dyn Listener>) })
    }
}

struct PipeListener(SocketAddr, mpsc::UnboundedReceiver<BoxIo>);

impl Listener for PipeListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async {
            match self.1.recv().await {
                Some(io) => Ok((io, self.0)),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
}

/// One end of a wire.
struct End {
    wire: Arc<Wire>,
    side: usize,
}

impl End {
    /// `None`: the wire is broken.
    fn with<T>(&self, act: impl FnOnce(Pin<&mut DuplexStream>) -> T) -> Option<T> {
        self.wire.lock().unwrap()[self.side].as_mut().map(|io| act(Pin::new(io)))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let end = self.wire.lock().unwrap()[self.side].take();
        drop(end);
    }
}

fn broken() -> Poll<io::Result<usize>> {
    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Nothing to read, for good: the end of the stream.
        self.with(|io| io.poll_read(cx, buf)).unwrap_or(Poll::Ready(Ok(())))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|io| io.poll_write(cx, buf)).unwrap_or_else(broken)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_flush(cx)).unwrap_or(Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_shutdown(cx)).unwrap_or(Poll::Ready(Ok(())))
    }
}
