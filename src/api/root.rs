//! The root path `/`: redirects to the page of `otpd dev`, or links to the documentation.

use bytes::Bytes;
use poem::endpoint::{BoxEndpoint, make_sync};
use poem::http::header::{CONTENT_TYPE, LOCATION};
use poem::http::{Method, StatusCode};
use poem::{Endpoint, EndpointExt as _, IntoResponse, Request, Response, Result, get};

use super::routes::RouteTable;

/// Serves `/` itself and passes every other path on. A route would not do: the framework's
/// catch-all also matches `/`.
pub(super) struct Root<E> {
    root: BoxEndpoint<'static>,
    rest: E,
}

impl<E: Endpoint> Root<E> {
    /// Creates a root that redirects to the page of `otpd dev`. The redirect is temporary, so
    /// browsers do not cache it, and relative, so it also works behind a path prefix.
    pub(super) fn to_dev(table: &mut RouteTable, rest: E) -> Self {
        let redirect = || StatusCode::TEMPORARY_REDIRECT.with_header(LOCATION, "dev").into_response();
        Self::new(table, move |_| redirect(), rest)
    }

    /// Creates a root that answers with this JSON.
    pub(super) fn index(table: &mut RouteTable, json: String, rest: E) -> Self {
        let json = Bytes::from(json);
        let index = move |_| Response::builder().header(CONTENT_TYPE, "application/json").body(json.clone());
        Self::new(table, index, rest)
    }

    fn new(
        table: &mut RouteTable,
        answer: impl Fn(Request) -> Response + Send + Sync + 'static,
        rest: E,
    ) -> Self {
        table.add("/", &[Method::GET]);
        Self { root: get(make_sync(answer)).boxed(), rest }
    }
}

impl<E: Endpoint> Endpoint for Root<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        if request.uri().path() == "/" {
            return self.root.call(request).await.map(IntoResponse::into_response);
        }
        self.rest.call(request).await.map(IntoResponse::into_response)
    }
}
