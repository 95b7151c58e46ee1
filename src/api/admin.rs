//! The admin listener: metrics for Prometheus, apart from the API.
//!
//! Must not change anything, and must not show anything of a person.

use std::sync::Arc;

use poem::http::header::CONTENT_TYPE;
use poem::{Endpoint as _, Response, Route, get, handler};

use super::Responder;
use crate::metrics::{MEDIA_TYPE, metrics};

/// Returns what serves `/metrics`.
#[must_use]
pub fn admin_responder() -> Responder {
    let routes = Arc::new(Route::new().at("/metrics", get(serve_metrics)));
    Box::new(move |request| {
        let routes = Arc::clone(&routes);
        Box::pin(async move { routes.get_response(request).await })
    })
}

#[handler]
fn serve_metrics() -> Response {
    Response::builder().header(CONTENT_TYPE, MEDIA_TYPE).body(metrics().text())
}
