//! A stream with a write timeout, for clients that do not read their answer.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream whose output must be written within a timeout, counted from when writing first blocked.
pub(super) struct WriteTimeout<S> {
    stream: S,
    timeout: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    /// Wraps `stream` with a write timeout.
    pub(super) fn new(stream: S, timeout: Duration) -> Self {
        Self { stream, timeout, stuck: None }
    }

    /// Passes an outcome on, or returns an error if the timeout has elapsed.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            let timeout = self.timeout;
            let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(timeout)));
            ready!(stuck.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bounded(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bounded(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called once all output was taken, so a completed flush resets the timeout.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        if outcome.is_ready() {
            self.stuck = None;
        }
        self.bounded(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bounded(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::timeout;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_given_up() {
        let (ours, _theirs) = duplex(8);
        let mut ours = WriteTimeout::new(ours, TIMEOUT);
        let error = timeout(LONG, ours.write_all(&[0; 64])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_reader_that_drips_is_given_up() {
        let (ours, mut theirs) = duplex(8);
        let mut ours = WriteTimeout::new(ours, TIMEOUT);
        let dripping = tokio::spawn(async move {
            // Reads one byte now and then, for as long as the other side writes.
            while theirs.read_u8().await.is_ok() {
                sleep(TIMEOUT / 4).await;
            }
        });
        let error = timeout(LONG, ours.write_all(&[0; 4096])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(ours);
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_reads_may_take_as_many_answers_as_it_likes() {
        let (ours, mut theirs) = duplex(8);
        let mut ours = WriteTimeout::new(ours, LONG);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.map(|_| all.len())
        });
        for _ in 0..100 {
            ours.write_all(&[0; 64]).await.unwrap();
            ours.flush().await.unwrap();
        }
        drop(ours);
        assert_eq!(reading.await.unwrap().unwrap(), 6400);
    }
}
