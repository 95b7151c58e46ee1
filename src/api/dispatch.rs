//! Calls what serves a request, and turns every error and panic into a response of this API.
//!
//! Operations of the API are called directly. The framework's router, with the layers that it adds,
//! allocates more for a short request than everything else; it serves what is not an operation, and
//! answers for wrong methods and paths.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use poem::endpoint::BoxEndpoint;
use poem::http::header::ALLOW;
use poem::{Request, Response};

use super::final_slash;
use super::rejection::{ErrorFormat, Rejection, rejection_of};
use super::routes::RouteTable;

/// The routes, and what serves them.
pub(super) struct Dispatch {
    /// The routes with their operations.
    pub routes: Arc<RouteTable>,
    /// The router of the framework.
    pub rest: BoxEndpoint<'static>,
}

impl Dispatch {
    /// Serves a request.
    pub(super) async fn respond(&self, mut request: Box<Request>) -> Response {
        if let Some(redirect) = final_slash::take_off(&mut request, &self.routes) {
            return redirect;
        }
        let uri = request.uri().clone();
        let endpoint = self.routes.operation(request.method(), uri.path()).unwrap_or(&self.rest);
        // The endpoints keep no state that a panic could leave inconsistent.
        let called = AssertUnwindSafe(call(endpoint, request)).catch_unwind().await;
        let rejection = match called {
            Ok(Ok(response)) => return response,
            Ok(Err(error)) if error.is_from_response() => return error.into_response(),
            Ok(Err(error)) => rejection_of(&error),
            Err(_) => Rejection::Internal,
        };
        let mut response = rejection.response(ErrorFormat::of(uri.path()));
        if rejection == Rejection::MethodNotAllowed
            && let Some(allow) = self.routes.allow(uri.path())
        {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}

/// Calls an endpoint. The box of the request is freed here, and not at the end of the call.
fn call<'a>(endpoint: &'a BoxEndpoint<'_>, request: Box<Request>) -> BoxFuture<'a, poem::Result<Response>> {
    endpoint.call(*request)
}
