//! A connection to a relay that cannot be made to swallow without end, nor to take for an answer what came before the
//! question.
//!
//! The mail library reads a reply's line as long as it goes on, and keeps what stands behind a reply for the next one;
//! until TLS has told who the relay is, anybody on the way can send either. What came unasked before STARTTLS would be
//! taken for the relay's word after it (RFC 3207 section 4.2).

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
    /// What has come behind the reply that was read last. Nothing is held back once TLS has begun.
    held: VecDeque<u8>,
    line: Line,
    is_secured: bool,
}

/// As much of a reply's line as tells whether it is the last of its reply: `250-` is not, `250 ` is.
#[derive(Debug, Default)]
struct Line {
    length: usize,
    goes_on: bool,
}

impl Bounded {
    /// Bounds what is read from `stream`.
    pub fn new(stream: TcpStream) -> Self {
        let (held, line) = (VecDeque::new(), Line::default());
        Self { stream, unasked: 0, held, line, is_secured: false }
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

impl Line {
    /// Takes the next octet; whether a reply ends with it.
    fn ends_reply(&mut self, octet: u8) -> bool {
        self.length = self.length.saturating_add(1);
        if self.length == 4 {
            self.goes_on = octet == b'-';
        }
        octet == b'\n' && !std::mem::take(self).goes_on
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
            if self.line.ends_reply(octet) {
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
    async fn one_reply_is_read_at_a_time_and_nothing_is_said_over_another() {
        let (mut bounded, _peer) = after(b"250-a\r\n250-b-\r\n250 c\r\n250 smuggled\r\n").await;
        let mut read = Vec::new();
        let mut chunk = [0; 100];
        while !read.ends_with(b"c\r\n") {
            let count = bounded.read(&mut chunk).await.unwrap();
            read.extend_from_slice(&chunk[..count]);
        }
        assert_eq!(read, b"250-a\r\n250-b-\r\n250 c\r\n");
        bounded.write_all(&[TLS_HANDSHAKE, 3, 1]).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_line_that_is_no_more_than_a_code_ends_a_reply() {
        let (mut bounded, _peer) = after(b"250\r\n").await;
        let mut chunk = [0; 100];
        assert_eq!(bounded.read(&mut chunk).await.unwrap(), 5);
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
