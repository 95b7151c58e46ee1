//! A stream that reports its activity, and that does not cut off a client which is still sending.
//!
//! Closing a socket while bytes arrive resets the connection, and the client loses the answer (RFC
//! 9112 section 9.6). So an answer to a request that was not read to its end is followed by a
//! half-close, and what still arrives is discarded, up to a time and a size.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;

/// How long bytes that arrive after the answer are discarded.
const LINGER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the next bytes meanwhile.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(2);
/// How many bytes are discarded.
const LINGER_MAX: usize = 16 << 20;
/// Bytes read at once. The buffer is on the stack, so lingering connections hold no memory for it.
const CHUNK: usize = 8 * 1024;

/// A stream that reports to an [`Activity`] and lingers when it is shut down.
pub(super) struct Lingering<S> {
    stream: S,
    activity: Arc<Activity>,
    closing: Closing,
}

enum Closing {
    NotYet,
    /// Bytes that arrive are discarded.
    Discarding(Discarding),
    Done,
}

struct Discarding {
    end: Instant,
    left: usize,
    silence: Pin<Box<Sleep>>,
}

impl<S> Lingering<S> {
    /// Wraps a stream.
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, closing: Closing::NotYet }
    }
}

impl Discarding {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            end: now + LINGER_TIMEOUT,
            left: LINGER_MAX,
            silence: Box::pin(sleep_until(now + SILENCE_TIMEOUT)),
        }
    }

    /// Completes once the client has closed its side, has taken too long or has sent too much.
    fn poll<S: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let mut buf = ReadBuf::new(&mut chunk);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Pending => return self.silence.as_mut().poll(cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            let now = Instant::now();
            let read = buf.filled().len();
            if read == 0 || read >= self.left || now >= self.end {
                return Poll::Ready(());
            }
            self.left -= read;
            self.silence.as_mut().reset(self.end.min(now + SILENCE_TIMEOUT));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        // Empty lines before a request are not part of it (RFC 9112 section 2.2).
        let is_head = buf.filled().iter().skip(before).any(|byte| !b"\r\n".contains(byte));
        if is_head && !self.activity.heard() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called once all output was taken.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.activity.note_written();
        Poll::Ready(Ok(()))
    }

    /// Closes the sending side, then waits for the client to close its own if it may still be
    /// sending.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, activity, closing } = self.get_mut();
        loop {
            match closing {
                Closing::NotYet => {
                    ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                    let is_writing = activity.begin_lingering();
                    *closing =
                        if is_writing { Closing::Discarding(Discarding::new()) } else { Closing::Done };
                }
                Closing::Discarding(discarding) => {
                    ready!(discarding.poll(cx, stream));
                    *closing = Closing::Done;
                }
                Closing::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::server::activity::Idle;

    /// Returns the server's end, the client's end, and the activity of the connection.
    fn connection() -> (Lingering<DuplexStream>, DuplexStream, Arc<Activity>) {
        let (ours, theirs) = duplex(64 * 1024);
        let idle = Arc::new(Idle::default());
        let activity = Activity::new(idle, Duration::from_secs(75), CancellationToken::new());
        (Lingering::new(ours, Arc::clone(&activity)), theirs, activity)
    }

    #[tokio::test]
    async fn what_a_client_writes_behind_its_answer_is_thrown_away_up_to_a_bound() {
        for (bytes, is_bounded) in [(10 << 20, false), (LINGER_MAX + (1 << 20), true)] {
            let (mut ours, theirs, activity) = connection();
            let _request = activity.begin(true);
            ours.write_all(b"answer").await.unwrap();
            let (mut answers, mut body) = tokio::io::split(theirs);
            let client = tokio::spawn(async move {
                let written = body.write_all(&vec![0; bytes]).await;
                let mut answer = String::new();
                let _ = answers.read_to_string(&mut answer).await;
                body.shutdown().await.ok();
                (written.is_ok(), answer)
            });
            ours.shutdown().await.unwrap();
            drop(ours);
            assert_eq!(client.await.unwrap(), (!is_bounded, "answer".to_owned()));
        }
    }

    #[tokio::test]
    async fn a_client_that_falls_silent_is_waited_for_two_seconds() {
        let (mut ours, _theirs, activity) = connection();
        let _request = activity.begin(true);
        let begun = Instant::now();
        ours.shutdown().await.unwrap();
        assert!((1..=5).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_client_that_drips_is_waited_for_ten_seconds() {
        let (mut ours, mut theirs, activity) = connection();
        let _request = activity.begin(true);
        let dripping = tokio::spawn(async move {
            while theirs.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SILENCE_TIMEOUT / 4).await;
            }
        });
        let begun = Instant::now();
        ours.shutdown().await.unwrap();
        assert!((9..=13).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        drop(ours);
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn where_the_request_was_read_nothing_is_waited_for() {
        let (mut ours, _theirs, activity) = connection();
        drop(activity.begin(false));
        let begun = Instant::now();
        ours.shutdown().await.unwrap();
        assert!(begun.elapsed() < SILENCE_TIMEOUT / 2, "{:?}", begun.elapsed());
    }
}
