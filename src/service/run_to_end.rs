//! Use cases that run to their end even if nobody waits for them any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tracing::Instrument as _;

/// A future that goes on as a task of its own if it is dropped before its end: its client has
/// disconnected. Until then it runs in the task of the request, which costs no switch of tasks.
pub(super) struct RunToEnd<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> RunToEnd<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for RunToEnd<T> {
    type Output = T;

    /// Must not be called after the end.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that work that panics is not polled again.
        let Some(mut work) = self.0.take() else { return Poll::Pending };
        let outcome = work.as_mut().poll(cx);
        if outcome.is_pending() {
            self.0 = Some(work);
        }
        outcome
    }
}

impl<T: Send + 'static> Drop for RunToEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work.in_current_span());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use tokio::sync::oneshot;
    use tokio::time::timeout;
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_runs_on_and_what_panicked_does_not() {
        let tasks = TaskTracker::new();
        let (release, released) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        let work = RunToEnd::new(tasks.track_future(async move {
            released.await.unwrap();
            done.send(()).unwrap();
        }));
        assert!(timeout(std::time::Duration::ZERO, work).await.is_err());
        assert_eq!(tasks.len(), 1);
        release.send(()).unwrap();
        is_done.await.unwrap();
        tasks.close();
        tasks.wait().await;

        let mut work = RunToEnd::<()>::new(tasks.track_future(async { panic!("on purpose") }));
        let waker = std::task::Waker::noop();
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            Pin::new(&mut work).poll(&mut Context::from_waker(waker)).is_ready()
        }));
        assert!(polled.is_err() && tasks.is_empty());
        drop(work);
        assert!(tasks.is_empty());
    }
}
