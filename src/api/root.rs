//! What is at `/`: under `otpd dev` the way to its page, else the way to the documentation.

use bytes::Bytes;
use poem::endpoint::{BoxEndpoint, make_sync};
use poem::http::header::{CONTENT_TYPE, LOCATION};
use poem::http::{Method, StatusCode};
use poem::{Endpoint, EndpointExt as _, IntoResponse, Request, Response, Result, get};

use super::routes::RouteTable;

/// Answers `/` itself and leaves every other path to the rest: the framework's catch-all would take it as well.
pub struct Root<E> {
    root: BoxEndpoint<'static>,
    rest: E,
}

impl<E: Endpoint> Root<E> {
    /// A root that redirects to the page of `otpd dev`, in a way that no browser keeps. The way is relative, so it holds
    /// behind a prefix too.
    pub fn to_dev(table: &mut RouteTable, rest: E) -> Self {
        let redirect = || StatusCode::TEMPORARY_REDIRECT.with_header(LOCATION, "dev").into_response();
        Self::new(table, move |_| redirect(), rest)
    }

    /// A root that answers with this JSON.
    pub fn index(table: &mut RouteTable, json: String, rest: E) -> Self {
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
