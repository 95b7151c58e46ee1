//! A program of the operator's that gets codes by the hook.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use poem::http::{HeaderMap, Method, StatusCode};
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::{EndpointExt as _, Request, Response, Server};
use serde_json::Value;
use standardwebhooks::Webhook;

/// A secret for the hook.
pub const SECRET: &str = "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// A receiver, which checks the signature of each request; it ends with the runtime of its test.
pub struct HookReceiver {
    address: SocketAddr,
    state: Arc<State>,
}

/// A request whose signature was right.
#[derive(Debug, Clone)]
pub struct HookCall {
    pub headers: HeaderMap,
    pub body: Value,
}

#[derive(Default)]
struct State {
    calls: Mutex<Vec<HookCall>>,
    delay_millis: AtomicU64,
    status: AtomicU16,
    /// A header of each answer.
    header: Mutex<Option<(&'static str, String)>>,
}

impl HookReceiver {
    /// Starts a receiver that accepts everything.
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1").await
    }

    /// Starts a receiver on this address.
    pub async fn start_on(ip: &str) -> Self {
        let acceptor = TcpListener::bind(format!("{ip}:0")).into_acceptor().await.expect("a port");
        let address = *acceptor.local_addr()[0].as_socket_addr().expect("an address");
        let state = Arc::new(State { status: AtomicU16::new(200), ..State::default() });
        let of_requests = Arc::clone(&state);
        let endpoint = poem::endpoint::make(move |request: Request| {
            let state = Arc::clone(&of_requests);
            async move { state.receive(request).await }
        });
        tokio::spawn(Server::new_with_acceptor(acceptor).run(endpoint.map_to_response()));
        Self { address, state }
    }

    /// Returns the value of `OTP_HOOK__URL`.
    pub fn url(&self) -> String {
        format!("http://{}/codes?from=otpd", self.address)
    }

    /// Answers each request after this time from now on.
    pub fn delay(&self, delay: Duration) {
        let millis = delay.as_millis().try_into().expect("a short time");
        self.state.delay_millis.store(millis, Ordering::Relaxed);
    }

    /// Answers with this status from now on.
    pub fn answer_with(&self, status: u16) {
        self.answer(status, None);
    }

    /// Answers with this status and `Retry-After` from now on.
    pub fn answer_later(&self, status: u16, retry_after: &str) {
        self.answer(status, Some(("retry-after", retry_after.to_owned())));
    }

    fn answer(&self, status: u16, header: Option<(&'static str, String)>) {
        *self.state.header.lock().expect("a header") = header;
        self.state.status.store(status, Ordering::Relaxed);
    }

    /// Answers with a redirect to this URL from now on.
    pub fn redirect_to(&self, url: &str) {
        self.answer(307, Some(("location", url.to_owned())));
    }

    /// Returns the requests so far.
    pub fn calls(&self) -> MutexGuard<'_, Vec<HookCall>> {
        self.state.calls.lock().expect("no thread panics with the calls")
    }
}

impl State {
    async fn receive(&self, mut request: Request) -> Response {
        if request.method() == Method::HEAD {
            return Response::builder().status(StatusCode::METHOD_NOT_ALLOWED).finish();
        }
        // The delay includes what the receiver itself does.
        let received = tokio::time::Instant::now();
        let body = request.take_body().into_bytes().await.expect("a body");
        let webhook = Webhook::new(SECRET).expect("a secret");
        webhook.verify(&body, request.headers()).expect("a right signature");
        let body = serde_json::from_slice(&body).expect("JSON");
        let call = HookCall { headers: request.headers().clone(), body };
        // What is set after the call is for the next one.
        let status = StatusCode::from_u16(self.status.load(Ordering::Relaxed)).expect("a status");
        let header = self.header.lock().expect("a header").clone();
        self.calls.lock().expect("no thread panics with the calls").push(call);
        tokio::time::sleep_until(received + Duration::from_millis(self.delay_millis.load(Ordering::Relaxed)))
            .await;
        let response = Response::builder().status(status);
        match header {
            Some((name, value)) => response.header(name, value).finish(),
            None => response.finish(),
        }
    }
}
