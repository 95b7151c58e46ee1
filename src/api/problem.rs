//! What a stranger learns when something is refused: one closed set of answers, worded in one place.
//!
//! Maps the framework's own refusals too, so that no parser's words and no type of ours show.

use std::any::Any;

use poem::error::{MethodNotAllowedError, NotFoundError};
use poem::http::header::{ALLOW, RETRY_AFTER};
use poem::http::{HeaderValue, Method, StatusCode};
use poem::middleware::PanicHandler;
use poem::{Endpoint, Error, IntoResponse, Middleware, Request, Response, Result};
use thiserror::Error as ThisError;

use super::simple::Message;

/// After how many seconds a caller may try again when the service was unavailable or overloaded.
pub const RETRY_SECONDS: u64 = 2;

/// A request that no use case saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum Refusal {
    /// Not JSON, of a wrong type, or with a member twice.
    #[error("Malformed request")]
    Malformed,
    /// No such route.
    #[error("Not found")]
    NotFound,
    /// The route has other methods.
    #[error("Method not allowed")]
    MethodNotAllowed,
    /// The body did not arrive in time.
    #[error("Request timeout")]
    RequestTimeout,
    /// The body is over 8 KiB.
    #[error("Payload too large")]
    PayloadTooLarge,
    /// The body is not JSON by its own word.
    #[error("Unsupported media type")]
    UnsupportedMediaType,
    /// The caller calls too often.
    #[error("Too many requests")]
    TooManyRequests,
    /// The service took too long.
    #[error("Service unavailable")]
    Unavailable,
    /// A fault of ours.
    #[error("Internal error")]
    Internal,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = poem_openapi::payload::Json(Message::new(&self.to_string()));
        let mut response = body.into_response();
        response.set_status(self.status());
        if self == Self::Unavailable {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        response
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::from_response(refusal.into_response())
    }
}

/// Which methods each path has, for `Allow` and for the access log.
#[derive(Debug, Default)]
pub struct RouteTable(Vec<(String, Vec<Method>)>);

impl RouteTable {
    /// Reads the paths and methods of an OpenAPI document of ours.
    pub fn of_spec(spec: &str) -> Self {
        let document: serde_json::Value = serde_json::from_str(spec).unwrap_or_default();
        let mut table = Self::default();
        for (path, operations) in
            document.get("paths").and_then(|paths| paths.as_object()).into_iter().flatten()
        {
            let names = operations.as_object().into_iter().flat_map(|operations| operations.keys());
            let methods = names.filter_map(|name| name.to_uppercase().parse().ok()).collect();
            table.0.push((path.clone(), methods));
        }
        table
    }

    /// Adds a path that the document does not have.
    pub fn add(&mut self, path: &str, methods: &[Method]) {
        self.0.push((path.to_owned(), methods.to_vec()));
    }

    /// The template that a path matches.
    pub fn template(&self, path: &str) -> Option<&str> {
        self.find(path).map(|(template, _)| template.as_str())
    }

    fn find(&self, path: &str) -> Option<&(String, Vec<Method>)> {
        self.0.iter().find(|(template, _)| {
            let (ours, theirs) = (template.split('/'), path.split('/'));
            ours.clone().count() == theirs.clone().count()
                && ours.zip(theirs).all(|(ours, theirs)| ours.starts_with('{') || ours == theirs)
        })
    }

    /// The value of `Allow` for a path; GET brings HEAD along.
    fn allow(&self, path: &str) -> Option<HeaderValue> {
        let (_, methods) = self.find(path)?;
        let mut names: Vec<_> = methods.iter().map(Method::as_str).collect();
        if methods.contains(&Method::GET) {
            names.push("HEAD");
        }
        HeaderValue::from_str(&names.join(", ")).ok()
    }
}

/// Turns every error on the way out into one of our answers.
pub struct Refusals {
    /// For `Allow`.
    pub routes: std::sync::Arc<RouteTable>,
}

/// The endpoint inside [`Refusals`].
pub struct Refusing<E> {
    inner: E,
    routes: std::sync::Arc<RouteTable>,
}

impl<E: Endpoint> Middleware<E> for Refusals {
    type Output = Refusing<E>;

    fn transform(&self, inner: E) -> Self::Output {
        Refusing { inner, routes: std::sync::Arc::clone(&self.routes) }
    }
}

impl<E: Endpoint> Endpoint for Refusing<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let path = request.uri().path().to_owned();
        let error = match self.inner.call(request).await {
            Ok(response) => return Ok(response.into_response()),
            Err(error) if error.is_from_response() => return Ok(error.into_response()),
            Err(error) => error,
        };
        let mut response = refusal_of(&error).into_response();
        if error.is::<MethodNotAllowedError>()
            && let Some(allow) = self.routes.allow(&path)
        {
            response.headers_mut().insert(ALLOW, allow);
        }
        Ok(response)
    }
}

fn refusal_of(error: &Error) -> Refusal {
    if error.is::<NotFoundError>() {
        Refusal::NotFound
    } else if error.is::<MethodNotAllowedError>() {
        Refusal::MethodNotAllowed
    } else if error.status().is_client_error() {
        Refusal::Malformed
    } else {
        tracing::error!(status = error.status().as_u16(), "the framework failed");
        Refusal::Internal
    }
}

/// Answers for a handler that panicked.
#[derive(Clone)]
pub struct Panicked;

impl PanicHandler for Panicked {
    type Response = Refusal;

    fn get_response(&self, _: Box<dyn Any + Send + 'static>) -> Refusal {
        Refusal::Internal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_names_the_methods_of_the_path() {
        let mut table =
            RouteTable::of_spec(r#"{"paths":{"/a/{id}":{"get":{},"delete":{}},"/b":{"post":{}}}}"#);
        table.add("/docs", &[Method::GET]);
        assert_eq!(table.allow("/a/x").unwrap(), "DELETE, GET, HEAD");
        assert_eq!(table.allow("/b").unwrap(), "POST");
        assert_eq!(table.allow("/docs").unwrap(), "GET, HEAD");
        assert!(table.allow("/a").is_none() && table.allow("/a/x/y").is_none());
        assert_eq!(table.template("/a/secret"), Some("/a/{id}"));
    }
}
