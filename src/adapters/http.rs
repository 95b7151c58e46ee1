//! HTTP requests that otpd makes: to email providers, token endpoints and the operator's hook.
//!
//! Connects to public addresses and to the networks that the operator allows, and to this machine
//! only if the URL itself names it. A name is resolved once, and the addresses that were checked
//! are the ones connected to, so that a name whose address changes leads nowhere else. Must not
//! follow redirects, and must not log the path, the headers or the body of a request.

mod connect;
mod error;

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::http::{HeaderValue, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use self::connect::Connector;
pub use self::error::{HttpCause, HttpError, HttpStage};
use crate::domain::target_url::TargetUrl;

/// Maximum length of a response's body and of its header, in bytes. More of a body is not read.
pub const MAX_BYTES: usize = 16 * 1024;
/// Maximum time that is read from `Retry-After`, so that a moment that far away can be represented.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);
/// Time limit for the body, which only has the id or the reason.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum idle time of a connection. It is shorter than that of common servers (5 s), because a
/// request that crosses the end of its connection has an unknown outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const OTPD: HeaderValue = HeaderValue::from_static(concat!("otpd/", env!("CARGO_PKG_VERSION")));

/// A client that keeps connections to be reused.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
}

/// A response.
pub struct HttpAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its header.
    pub headers: HeaderMap,
    /// The first [`MAX_BYTES`] of its body; less if the connection was lost.
    pub body: Bytes,
}

impl HttpClient {
    /// Creates a client. Does not connect yet. `allowed` are the networks that it may connect to
    /// though they are not public.
    #[must_use]
    pub fn new(tls: ClientConfig, allowed: Vec<IpNet>) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(allowed));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MAX_BYTES)
            .build(connector);
        Self { client }
    }

    /// Sends a request: connects until `begin`, and waits for the response until `end`.
    ///
    /// # Errors
    /// [`HttpError`] says at which stage it failed, and so whether the request may have arrived.
    pub async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        begin: Instant,
        end: Instant,
    ) -> Result<HttpAnswer, HttpError> {
        request.headers_mut().insert(USER_AGENT, OTPD);
        let mut captured = capture_connection(&mut request);
        let mut responding = self.client.request(request);
        // Ends with a connection or with a response, that is, an error.
        let connecting = async {
            tokio::select! {
                biased;
                connection = captured.wait_for_connection_metadata() => { drop(connection); None }
                response = &mut responding => Some(response),
            }
        };
        let connected = timeout_at(begin, connecting).await;
        let is_connected = captured.connection_metadata().is_some();
        let response = match connected {
            Ok(Some(response)) => response.map_err(|error| HttpError::of(&error, is_connected))?,
            Ok(None) => respond(responding, end).await?,
            Err(_) if is_connected => respond(responding, end).await?,
            Err(_) => return Err(HttpError::timeout(HttpStage::Connect)),
        };
        Ok(read(response, end).await)
    }

    /// Checks that the host of a URL answers, by a HEAD request for its root. Accepts any status.
    ///
    /// # Errors
    /// [`HttpError`] if there is no response until `end`.
    pub async fn reach(&self, url: &TargetUrl, end: Instant) -> Result<(), HttpError> {
        let request = Request::head(url.origin()).body(Full::default());
        // An origin that was parsed is a URI.
        let request = request.map_err(|_| HttpError::new(HttpStage::Resolve, HttpCause::NoSuchHost))?;
        self.send(request, end, end).await.map(|_| ())
    }
}

async fn respond(responding: ResponseFuture, end: Instant) -> Result<Response<Incoming>, HttpError> {
    match timeout_at(end, responding).await {
        Ok(response) => response.map_err(|error| HttpError::of(&error, true)),
        Err(_) => Err(HttpError::timeout(HttpStage::Response)),
    }
}

/// Reads the body, as far as it arrives in time and is not too long. The status alone says what
/// became of the request.
async fn read(response: Response<Incoming>, end: Instant) -> HttpAnswer {
    let (head, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    let reading = async {
        while let Some(Ok(frame)) = incoming.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            let rest = MAX_BYTES - body.len();
            body.extend(data.iter().take(rest));
            if data.len() > rest {
                break;
            }
        }
    };
    let _ = timeout_at(end.min(Instant::now() + BODY_TIMEOUT), reading).await;
    HttpAnswer { status: head.status, headers: head.headers, body: body.freeze() }
}

impl HttpAnswer {
    /// Returns how long the server asks not to be asked again (`Retry-After`), if it says so in
    /// seconds; at most an hour.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let seconds = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        seconds.map_or(Duration::ZERO, Duration::from_secs).min(MAX_RETRY_AFTER)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpAnswer {
    /// Shows the status only, because a body may repeat an address or hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use hyper::http::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_a_number_of_seconds_within_an_hour() {
        let after = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            HttpAnswer { status: StatusCode::OK, headers, body: Bytes::new() }.retry_after()
        };
        for (value, seconds) in [
            ("0", 0),
            ("2", 2),
            ("3601", 3600),
            ("18446744073709551615", 3600),
            ("18446744073709551616", 0),
            ("-1", 0),
            ("1.5", 0),
            ("Mon, 30 Nov 2026 20:00:00 GMT", 0),
            ("", 0),
        ] {
            assert_eq!(after(value), Duration::from_secs(seconds), "{value}");
        }
    }
}
