//! Browsers: which pages of other origins may call (CORS, Fetch standard section 3.2).
//!
//! Grants exactly what is listed. Everyone else gets the answer without a grant, which a browser then keeps from
//! the page; and since only `application/json` is read, no page can send a body without asking first.

use poem::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use poem::http::{HeaderMap, HeaderValue, Method, StatusCode};
use poem::{Request, Response};
use thiserror::Error;

/// Headers of ours that a page may read.
const EXPOSED: &str = "OTP-Proof, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

/// One origin, as browsers send it: scheme, host, and port where it is not the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// A text is no origin.
#[derive(Debug, Error)]
#[error("an origin has the form https://host or https://host:port")]
pub struct InvalidOrigin;

impl Origin {
    /// Wraps an origin that the settings have checked.
    ///
    /// # Errors
    /// [`InvalidOrigin`] where it cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, InvalidOrigin> {
        HeaderValue::from_str(text).map(Self).map_err(|_| InvalidOrigin)
    }
}

/// The listed origin that a request comes from, if it does.
pub fn granted(origins: &[Origin], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    origins.iter().any(|listed| listed.0 == *origin).then(|| origin.clone())
}

/// Whether a browser asks if it may send what the page wants to send.
pub fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a listed origin's preflight.
pub fn preflight() -> Response {
    Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST")
        .header(ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type")
        .header(ACCESS_CONTROL_MAX_AGE, "600")
        .finish()
}

/// Marks an answer as readable for that origin, and every answer as depending on the origin.
pub fn mark(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}
