//! Bodies that report the progress of a request to an [`Activity`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::activity::{Activity, UnderWay};

/// A request body that reports when it was read to its end. When dropped, it leaves what was not
/// read in a [`Rest`].
pub(super) struct Observed {
    body: Option<Incoming>,
    activity: Arc<Activity>,
    rest: Rest,
}

/// The unread rest of a body.
#[derive(Clone, Default)]
pub(super) struct Rest(Arc<Mutex<Option<Incoming>>>);

/// A response body that ends the request when it is dropped.
pub(super) struct Last<B> {
    body: B,
    /// Dropped with the body: when all of it was taken to be written, or when the connection is
    /// gone.
    _under_way: UnderWay,
}

impl Observed {
    pub(super) fn new(body: Incoming, activity: Arc<Activity>, rest: Rest) -> Self {
        Self { body: Some(body), activity, rest }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        *self.rest.0.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}

impl Rest {
    /// Takes the rest out. hyper waits for it as long as it exists.
    pub(super) fn take(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Reads the rest of a body and discards it. Returns `false` if there was none or reading failed.
pub(super) async fn skip(rest: Option<Incoming>) -> bool {
    let Some(mut body) = rest else { return false };
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    true
}

impl<B> Last<B> {
    pub(super) fn new(body: B, under_way: UnderWay) -> Self {
        Self { body, _under_way: under_way }
    }
}

impl Body for Observed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if frame.is_none() || self.is_end_stream() {
            self.activity.note_body_read();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B: Body + Unpin> Body for Last<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
