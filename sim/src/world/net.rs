//! turmoil's TCP as the node's and the client's network.
//!
//! A host listens on all its addresses, because turmoil knows no other way; the address that the node asked for is the
//! one it has in the simulation anyway.

use helenus_node::seams::net::{BoxFuture, BoxIo, Listener, Net};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Dials and listens through turmoil. Works only on a simulated host.
#[derive(Debug, Clone, Copy, Default)]
pub struct TurmoilNet;

impl Net for TurmoilNet {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
        Box::pin(async move {
            let stream = turmoil::net::TcpStream::connect(addr).await?;
            Ok(Box::new(stream) as BoxIo)
        })
    }

    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port());
            let listener = turmoil::net::TcpListener::bind(any).await?;
            let port = listener.local_addr()?.port();
            let addr = SocketAddr::new(addr.ip(), port);
            Ok(Box::new(Listening { listener, addr }) as Box<dyn Listener>)
        })
    }
}

struct Listening {
    listener: turmoil::net::TcpListener,
    addr: SocketAddr,
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            Ok((Box::new(stream) as BoxIo, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}
