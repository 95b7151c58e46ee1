//! The admin listener: metrics for Prometheus, apart from the API.
//!
//! Must not change anything, and must not show anything of a person.

use poem::endpoint::BoxEndpoint;
use poem::http::header::CONTENT_TYPE;
use poem::{EndpointExt as _, Response, Route, get, handler};

use crate::metrics::{MEDIA_TYPE, metrics};

/// Returns an endpoint that serves `/metrics`.
#[must_use]
pub fn admin_endpoint() -> BoxEndpoint<'static> {
    Route::new().at("/metrics", get(serve_metrics)).map_to_response().boxed()
}

#[handler]
fn serve_metrics() -> Response {
    Response::builder().header(CONTENT_TYPE, MEDIA_TYPE).body(metrics().text())
}
