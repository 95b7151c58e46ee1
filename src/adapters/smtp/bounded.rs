//! A connection to a relay that cannot be made to swallow without end.
//!
//! The mail library reads a reply's line as long as it goes on; until TLS has told who the relay is, anybody on the
//! way can send one that never ends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The most octets that a relay may send before it is spoken to again; replies and TLS handshakes take a few thousand.
const MOST_UNASKED: usize = 64 * 1024;

/// A TCP connection that ends where its peer says too much at once.
#[derive(Debug)]
pub struct Bounded {
    stream: TcpStream,
    unasked: usize,
}

impl Bounded {
    /// Bounds what is read from `stream`.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, unasked: 0 }
    }
}

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unasked > MOST_UNASKED {
            return Poll::Ready(Err(io::Error::other("the relay says too much")));
        }
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.unasked += buf.filled().len() - before;
        outcome
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.unasked = 0;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
