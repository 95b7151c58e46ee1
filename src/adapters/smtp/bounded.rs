//! A connection to a relay that bounds what is read, and hands it on line by line until TLS begins.
//!
//! The mail library reads a reply's line as long as it goes on, and keeps what stands behind a reply for the next one;
//! until TLS has told who the relay is, anybody on the way can send either. What was said unasked before STARTTLS would
//! be taken for the relay's word after it (RFC 3207 section 4.2). Here it is still held when otpd speaks next, and ends
//! the connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The most octets that a relay may send before it is spoken to again; replies and TLS handshakes take a few thousand.
const MOST_UNASKED: usize = 64 * 1024;
/// The first octet of a TLS handshake (RFC 8446 section 5.1), which begins no command.
const TLS_HANDSHAKE: u8 = 0x16;

/// A TCP connection that ends where its peer says too much at once, or speaks out of turn.
#[derive(Debug)]
pub struct Bounded {
    stream: TcpStream,
    unasked: usize,
    /// What has come behind the line that was read last. Nothing is held back once TLS has begun.
    held: VecDeque<u8>,
    is_secured: bool,
}

impl Bounded {
    /// Bounds what is read from `stream`.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, unasked: 0, held: VecDeque::new(), is_secured: false }
    }

    fn poll_read_more(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unasked > MOST_UNASKED {
            return Poll::Ready(Err(io::Error::other("the relay says too much")));
        }
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.unasked += buf.filled().len() - before;
        outcome
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
        if self.is_secured {
            return self.poll_read_more(cx, buf);
        }
        if self.held.is_empty() {
            let mut chunk = [0; 1024];
            let mut more = ReadBuf::new(&mut chunk);
            ready!(self.poll_read_more(cx, &mut more))?;
            self.held.extend(more.filled());
        }
        while buf.remaining() > 0
            && let Some(octet) = self.held.pop_front()
        {
            buf.put_slice(&[octet]);
            if octet == b'\n' {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.held.is_empty() {
            return Poll::Ready(Err(io::Error::other("the relay speaks out of turn")));
        }
        self.unasked = 0;
        self.is_secured |= buf.first() == Some(&TLS_HANDSHAKE);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection whose peer has sent that.
    async fn after(said: &[u8]) -> (Bounded, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        theirs.write_all(said).await.unwrap();
        (Bounded::new(ours), theirs)
    }

    #[tokio::test]
    async fn one_line_is_read_at_a_time_and_nothing_is_said_over_another() {
        let lines = [&b"220-a\r\n"[..], b"220 go\n", b"220-x\r\n", b"250 AUTH LOGIN\r\n"];
        let (mut bounded, _peer) = after(&lines.concat()).await;
        let mut chunk = [0; 100];
        for (line, is_last) in lines.into_iter().zip([false, false, false, true]) {
            let count = bounded.read(&mut chunk).await.unwrap();
            assert_eq!(&chunk[..count], line);
            assert_eq!(bounded.write_all(b"EHLO a\r\n").await.is_ok(), is_last);
        }
        bounded.write_all(b"QUIT\r\n").await.unwrap();
    }

    #[tokio::test]
    async fn tls_goes_through_as_it_is() {
        let (mut bounded, mut peer) = after(b"220 go\r\n").await;
        let mut chunk = [0; 100];
        assert_eq!(bounded.read(&mut chunk).await.unwrap(), 8);
        bounded.write_all(&[TLS_HANDSHAKE, 3, 1]).await.unwrap();
        peer.write_all(b"\n\n1\n").await.unwrap();
        let mut four = [0; 4];
        bounded.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"\n\n1\n");
    }
}
