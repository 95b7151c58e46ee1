//! Filters a relay's replies into the form that lettre can read: plain text, one line at a time,
//! and none before a command.
//!
//! RFC 5321 section 4.2 allows a reply without text, and some relays end lines with LF alone or use
//! other character sets. lettre takes all of this for a broken connection, and reads a reply that
//! does not end without bound. Data after a reply, or before a command, would be taken for the
//! reply to the next command. Must not change a code that lettre can read.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Maximum number of bytes that a relay may send before the next command. Typical replies have a
/// few hundred bytes. The time that lettre spends on a reply grows with the square of its number of
/// lines, so they are limited too.
const MAX_BYTES: usize = 16 * 1024;
const MAX_LINES: usize = 128;
/// Maximum length of a line's text, in bytes; the rest is cut off.
const TEXT_MAX: usize = 500;

/// A connection whose replies are filtered; written data passes unchanged.
#[derive(Debug)]
pub(super) struct Replies<S> {
    stream: S,
    peer: SocketAddr,
    /// Unfiltered data, up to and beyond the next end of a line.
    raw: VecDeque<u8>,
    /// The rest of the filtered line that is being read.
    line: VecDeque<u8>,
    bytes: usize,
    lines: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Replies<S> {
    /// Wraps a connection.
    pub(super) fn new(stream: S, peer: SocketAddr) -> Self {
        Self { stream, peer, raw: VecDeque::new(), line: VecDeque::new(), bytes: 0, lines: 0 }
    }

    /// Adds a greeting for lettre, which waits for one, after the relay's own was read.
    #[must_use]
    pub(super) fn greeted(self) -> Self {
        Self { line: b"220 \r\n".iter().copied().collect(), ..self }
    }

    /// Returns the connection.
    ///
    /// # Errors
    /// The relay has sent more than was read.
    pub(super) fn into_inner(self) -> io::Result<S> {
        if self.has_unread() { Err(out_of_turn()) } else { Ok(self.stream) }
    }

    fn has_unread(&self) -> bool {
        !self.line.is_empty() || !self.raw.is_empty()
    }

    /// Reads available data and returns its length.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; 1024];
        let mut more = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut more))?;
        self.raw.extend(more.filled());
        self.bytes += more.filled().len();
        Poll::Ready(Ok(more.filled().len()))
    }

    /// Filters the next whole line; returns `false` at the end of the connection.
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if self.bytes > MAX_BYTES || self.lines > MAX_LINES {
                return Poll::Ready(Err(io::Error::other("the relay says too much")));
            }
            if let Some(end) = self.raw.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.raw.drain(..=end).collect();
                self.line = plain(&line).into();
                self.lines += 1;
                return Poll::Ready(Ok(true));
            }
            if ready!(self.poll_more(cx))? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
    }
}

/// Returns a line of a reply with a readable code, its separator, printable text, and CR LF.
/// Keywords of an EHLO reply become upper case, because case does not matter (RFC 5321 section
/// 2.4), and `AUTH=`, from an old draft, becomes `AUTH`.
fn plain(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (code, rest) = line.split_at(line.len().min(3));
    let code = readable(code);
    let (separator, text) = rest.split_first().unwrap_or((&b' ', b""));
    let text = text.iter().take(TEXT_MAX);
    let text = text.map(|byte| if matches!(byte, b' '..=b'~') { *byte } else { b'?' });
    let text: Vec<u8> = text.collect();
    // lettre cannot parse a text of only spaces.
    let text = text.trim_ascii_end();
    let text = if code == b"250" { keywords(text) } else { text.to_vec() };
    [code, &[*separator], &text, b"\r\n"].concat()
}

/// Replaces a code whose second digit is not in RFC 5321, such as 571, by the general one of the
/// same first digit. The first digit decides (section 4.3.2), and lettre would take the code for a
/// broken connection.
fn readable(code: &[u8]) -> &[u8] {
    match code {
        [b'4', b'6'..=b'9', b'0'..=b'9'] => b"451",
        [b'5', b'6'..=b'9', b'0'..=b'9'] => b"554",
        code => code,
    }
}

fn keywords(text: &[u8]) -> Vec<u8> {
    let text = text.to_ascii_uppercase();
    match text.strip_prefix(b"AUTH=") {
        Some(mechanisms) => [b"AUTH ", mechanisms].concat(),
        // lettre expects a name in the reply to EHLO.
        None if text.is_empty() => b"OK".to_vec(),
        None => text,
    }
}

fn out_of_turn() -> io::Error {
    io::Error::other("the relay speaks out of turn")
}

impl<S> AsyncTokioStream for Replies<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug,
{
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Replies<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.line.is_empty() && !ready!(self.poll_line(cx))? {
            return Poll::Ready(Ok(()));
        }
        while buf.remaining() > 0
            && let Some(byte) = self.line.pop_front()
        {
            buf.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Replies<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Includes data that has arrived but was not read yet.
        if self.has_unread() || self.poll_more(cx)?.is_ready() {
            return Poll::Ready(Err(out_of_turn()));
        }
        (self.bytes, self.lines) = (0, 0);
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
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 25);

    /// Returns a connection whose relay has sent `said`.
    async fn after(said: &[u8]) -> (Replies<DuplexStream>, DuplexStream) {
        let (ours, mut theirs) = duplex(1024 * 1024);
        theirs.write_all(said).await.unwrap();
        (Replies::new(ours, PEER), theirs)
    }

    async fn read(replies: &mut Replies<DuplexStream>) -> io::Result<String> {
        let mut chunk = [0; 1024];
        let count = replies.read(&mut chunk).await?;
        Ok(String::from_utf8(chunk[..count].to_vec()).unwrap())
    }

    #[tokio::test]
    async fn one_line_is_read_at_a_time_and_nothing_is_said_over_another() {
        let (mut replies, _relay) = after(b"220-a\r\n220 go\n220-x\r\n250 AUTH LOGIN\r\n").await;
        for (line, is_last) in
            [("220-a", false), ("220 go", false), ("220-x", false), ("250 AUTH LOGIN", true)]
        {
            assert_eq!(read(&mut replies).await.unwrap(), format!("{line}\r\n"));
            assert_eq!(replies.write_all(b"EHLO a\r\n").await.is_ok(), is_last);
        }
    }

    #[tokio::test]
    async fn what_comes_unasked_ends_the_connection_though_nobody_reads_it() {
        let (mut replies, mut relay) = after(b"220 a\r\n").await;
        read(&mut replies).await.unwrap();
        replies.write_all(b"NOOP\r\n").await.unwrap();
        relay.write_all(b"250 ok\r\n").await.unwrap();
        assert_eq!(read(&mut replies).await.unwrap(), "250 OK\r\n");
        relay.write_all(b"250 once more\r\n").await.unwrap();
        replies.write_all(b"MAIL\r\n").await.unwrap_err();

        let (mut replies, relay) = after(b"").await;
        drop(relay);
        replies.write_all(b"MAIL\r\n").await.expect_err("it has ended");
        let (replies, _relay) = after(b"").await;
        replies.into_inner().unwrap();
        let (mut replies, _relay) = after(b"220 a\r\n250 b\r\n").await;
        read(&mut replies).await.unwrap();
        replies.into_inner().expect_err("more was said");
    }

    #[test]
    fn lines_come_in_the_form_that_the_library_knows() {
        for (line, expected) in [
            (&b"250\r\n"[..], "250 OK\r\n"),
            (b"354\n", "354 \r\n"),
            (b"550 No m\xfcller\r\n", "550 No m?ller\r\n"),
            (b"250-auth=login Plain\r\n", "250-AUTH LOGIN PLAIN\r\n"),
            (b"334 dXNlcg==\r\n", "334 dXNlcg==\r\n"),
            (b"250-  \r\n", "250-OK\r\n"),
            (b"220  \r\n", "220 \r\n"),
            (b"2\r\n", "2 \r\n"),
            (b"571 5.7.1 No\r\n", "554 5.7.1 No\r\n"),
            (b"471-No\r\n", "451-No\r\n"),
            (b"\r\n", " \r\n"),
        ] {
            assert_eq!(String::from_utf8(plain(line)).unwrap(), expected);
        }
        assert_eq!(plain(&[b'2'; 5000]).len(), 3 + 1 + TEXT_MAX + 2);
    }

    #[tokio::test]
    async fn a_relay_that_does_not_end_is_not_listened_to() {
        for said in [vec![b'2'; 2 * MAX_BYTES], b"250-\r\n".repeat(2 * MAX_LINES)] {
            let (mut replies, relay) = after(&said).await;
            drop(relay);
            while let Ok(line) = read(&mut replies).await {
                assert!(!line.is_empty(), "it was listened to until it ended by itself");
            }
        }
    }

    proptest! {
        #[test]
        fn any_line_is_handed_on_in_short_and_printable(line in proptest::collection::vec(any::<u8>(), 0..600)) {
            let plain = plain(&line);
            prop_assert!(plain.ends_with(b"\r\n") && plain.len() <= 3 + 1 + TEXT_MAX + 2);
            let text = plain.get(4..plain.len() - 2).unwrap_or_default();
            prop_assert!(text.is_empty() || !text.trim_ascii().is_empty());
            prop_assert_eq!(&plain[..line.len().min(3)], readable(&line[..line.len().min(3)]));
        }
    }
}
