//! An OAuth token endpoint inside the test process, on a real socket of this machine. It grants
//! tokens or misbehaves on demand, and keeps what it was asked. It runs on its own thread, so that
//! a test may block while it waits for a program.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A form that the endpoint received.
pub type Form = BTreeMap<String, String>;

/// What the endpoint answers.
#[derive(Clone, Debug)]
pub enum TokenAnswer {
    /// A new token, which lives this many seconds.
    Grants(u64),
    /// The same, after this delay.
    GrantsAfter(Duration),
    /// A new token and a new refresh token.
    Rotates(&'static str),
    /// This status and body.
    Says(u16, String),
    /// A redirect to another URL.
    Redirects(String),
    /// Nothing, ever.
    Hangs,
}

/// A token endpoint that belongs to one test.
pub struct TokenServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Dropping it ends the thread and every connection.
    thread: Mutex<Option<oneshot::Sender<()>>>,
}

struct Shared {
    answer: Mutex<TokenAnswer>,
    requests: Mutex<Vec<Form>>,
    granted: Mutex<usize>,
}

/// Returns the token that the endpoint grants at this turn; the first is 1.
pub fn token(number: usize) -> String {
    format!("ya29.granted-token-number-{number}")
}

impl TokenServer {
    /// Listens on a free port, and grants tokens that live an hour.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has one");
        let shared = Arc::new(Shared {
            answer: Mutex::new(TokenAnswer::Grants(3600)),
            requests: Mutex::default(),
            granted: Mutex::default(),
        });
        let thread = spawn(listener, Arc::clone(&shared));
        Self { shared, address, thread: Mutex::new(Some(thread)) }
    }

    /// Answers in this way from now on.
    pub fn set(&self, answer: TokenAnswer) {
        *locked(&self.shared.answer) = answer;
    }

    /// Returns the forms that it received so far.
    pub fn requests(&self) -> Vec<Form> {
        locked(&self.shared.requests).clone()
    }

    /// Returns the URL of the endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Closes the port and all connections.
    pub fn stop(&self) {
        drop(locked(&self.thread).take());
    }

    /// Returns the settings of a relay that gets its tokens here by client credentials.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OTP_SMTP__AUTH", "oauth".to_owned()),
            ("OTP_SMTP__OAUTH_TOKEN_URL", self.url()),
            ("OTP_SMTP__OAUTH_CLIENT_ID", "client-id".to_owned()),
            ("OTP_SMTP__OAUTH_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
        ]
    }
}

/// The secret of the client in [`TokenServer::settings`].
pub const CLIENT_SECRET: &str = "c7~client&secret=value";

/// Serves on a thread until the sender is dropped.
fn spawn(listener: std::net::TcpListener, shared: Arc<Shared>) -> oneshot::Sender<()> {
    let (sender, dropped) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    thread::spawn(move || {
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = TcpListener::from_std(listener).expect("a socket");
            tokio::spawn(accept(listener, shared));
            let _ = dropped.await;
        });
    });
    sender
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/token", "a redirect was followed");
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    locked(&shared.requests).push(form(std::str::from_utf8(&body).expect("a form")));
    let answer = locked(&shared.answer).clone();
    let grant = |expires_in: u64, refresh_token: Option<&str>| {
        let mut granted = locked(&shared.granted);
        *granted += 1;
        let mut body =
            json!({"access_token": token(*granted), "token_type": "Bearer", "expires_in": expires_in});
        if let Some(token) = refresh_token {
            body["refresh_token"] = token.into();
        }
        response(200, body.to_string())
    };
    Ok(match answer {
        TokenAnswer::Grants(expires_in) => grant(expires_in, None),
        TokenAnswer::GrantsAfter(delay) => {
            tokio::time::sleep(delay).await;
            grant(3600, None)
        }
        TokenAnswer::Rotates(refresh_token) => grant(1, Some(refresh_token)),
        TokenAnswer::Says(status, body) => response(status, body),
        TokenAnswer::Redirects(url) => {
            let mut response = response(307, String::new());
            response.headers_mut().insert("location", url.parse().expect("a URL"));
            response
        }
        TokenAnswer::Hangs => std::future::pending().await,
    })
}

fn response(status: u16, body: String) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from(body)).expect("a response")
}

fn form(text: &str) -> Form {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().expect("UTF-8").into_owned();
    text.split('&')
        .map(|field| field.split_once('=').expect("a field"))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic under this lock")
}
