//! CORS: which pages of other origins may call from a browser (Fetch standard section 3.2).
//!
//! Grants exactly the listed origins. Other origins get the answer without CORS headers, so the
//! browser hides it from the page. Because only `application/json` bodies are accepted, no page can
//! send a body without a preflight.

use poem::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use poem::{Request, Response};

use crate::domain::origin::Origin;

/// The response headers that a page may read.
const EXPOSED: &str = "Location, OTP-Proof, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

/// The methods that a page may use: all that any route has.
const METHODS: &str = "GET, POST, DELETE";
/// How long a browser may cache a preflight, in seconds.
const MAX_AGE: &str = "600";
/// The maximum length of `Access-Control-Request-Headers`, in bytes.
const NAMES_MAX: usize = 1024;

/// Returns the value of `Origin` if that origin is listed.
pub(super) fn granted(origins: &[Origin], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    origins.iter().any(|listed| listed.as_str().as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Returns whether the request is a CORS preflight.
pub(super) fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers the preflight of a listed origin: allows the headers that it asks for. Credentials are
/// never allowed, so a page can only send what it knows itself.
pub(super) fn preflight(request: &HeaderMap) -> Response {
    let mut response = Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(ACCESS_CONTROL_ALLOW_METHODS, METHODS)
        .header(ACCESS_CONTROL_MAX_AGE, MAX_AGE)
        .header(VARY, ACCESS_CONTROL_REQUEST_HEADERS.as_str())
        .finish();
    if let Some(names) = asked_names(request) {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    response
}

/// Returns the requested header names if all of them are valid and none is the wildcard.
fn asked_names(request: &HeaderMap) -> Option<HeaderValue> {
    let mut values = request.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let names = values.next().filter(|names| values.next().is_none() && names.len() <= NAMES_MAX)?;
    let is_name = |name: &str| name != "*" && HeaderName::try_from(name).is_ok();
    names.to_str().ok()?.split(',').map(str::trim).all(is_name).then(|| names.clone())
}

/// Sets the CORS headers for that origin, and `Vary: Origin` on every answer.
pub(super) fn add_headers(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted_names(asked: &[&str]) -> Option<String> {
        let values = asked.iter().map(|value| HeaderValue::from_str(value).unwrap());
        let request = values.map(|value| (ACCESS_CONTROL_REQUEST_HEADERS, value)).collect();
        let answer = preflight(&request);
        let names = answer.headers().get(ACCESS_CONTROL_ALLOW_HEADERS);
        names.map(|names| names.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_preflight_grants_exactly_the_headers_that_are_asked_for() {
        for asked in ["content-type", "baggage,content-type,traceparent", "authorization, idempotency-key"] {
            assert_eq!(granted_names(&[asked]).as_deref(), Some(asked));
        }
        let long = "x".repeat(NAMES_MAX + 1);
        for asked in ["", "*", "a,*", "a b", "a,,b", "a:b", "\"a\"", &long] {
            assert_eq!(granted_names(&[asked]), None, "{asked:?}");
        }
        assert_eq!(granted_names(&[]), None);
        assert_eq!(granted_names(&["a", "b"]), None);
    }
}
