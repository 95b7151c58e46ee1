//! The accept loop: HTTP/1.1 over TCP, with a limit on every resource that a client can hold.
//!
//! Serves poem's requests over hyper, because poem's own server has no header timeout and no limit
//! on connections. Must not know what is served.

mod activity;
mod body;
mod lingering;
mod tls;
mod write_timeout;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Body, Request, RequestParts, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::activity::{Activity, Idle};
use self::body::{Last, Observed, Rest, skip};
use self::lingering::Lingering;
pub use self::tls::{Certificate, CertificateError, ServerTls};
use self::write_timeout::WriteTimeout;
use crate::metrics::Gauge;

/// The maximum size of a request's head, in bytes; hyper answers 431 if it is exceeded.
const HEAD_MAX: usize = 16 * 1024;
/// How long writing an answer may be blocked because its client does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Open files that are not client connections.
const OTHER_FILES: usize = 256;
/// The number of connections if the system does not report its limit of open files.
const FALLBACK_CONNECTIONS: usize = 512;
/// The longest unread body, in bytes, that is read and discarded so that the connection can serve
/// the next request.
const SKIPPED_MAX: u64 = 16 * 1024;
/// How long discarding a body may take: clients send it right after the head.
const SKIP_TIMEOUT: Duration = Duration::from_secs(1);
/// The delay after a failed accept, for example if no file descriptors are left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Listens on an address.
///
/// # Errors
/// Returns the system's error if the address cannot be bound.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Returns how many connections can be open, `requested` at most. Raises the system's limit of open
/// files as far as allowed, and reserves some files for Redis, the relay and the log.
#[must_use]
pub fn room_for(requested: usize) -> usize {
    let needed = requested.saturating_add(OTHER_FILES);
    let files = rlimit::increase_nofile_limit(needed.try_into().unwrap_or(u64::MAX));
    let files = files
        .map_or(FALLBACK_CONNECTIONS + OTHER_FILES, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let room = files.saturating_sub(OTHER_FILES).clamp(1, requested.max(1));
    if room < requested {
        tracing::warn!(room, requested, "the system's limit of open files leaves room for fewer connections");
    }
    room
}

/// Limits on what clients may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The maximum number of open connections.
    pub max_connections: usize,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// How long requests in progress may take once the server stops.
    pub stop_timeout: Duration,
}

/// An open connection, for the metric.
struct Open(Gauge);

impl Open {
    fn new(connections: Gauge) -> Self {
        connections.inc();
        Self(connections)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves until `stop` completes, then lets requests in progress finish. With `tls` the listeners
/// speak HTTPS. `respond` answers a request, `connections` is the number of open connections.
pub async fn serve(
    listeners: Vec<TcpListener>,
    tls: Option<ServerTls>,
    respond: Box<Respond>,
    bounds: Bounds,
    connections: Gauge,
    stop: impl Future<Output = ()>,
) {
    let server = Arc::new(Server {
        respond: Arc::from(respond),
        connections: Arc::new(Semaphore::new(bounds.max_connections)),
        keep_alive: bounds.keep_alive,
        open: connections,
        idle: Arc::default(),
        tls,
        graceful: GracefulShutdown::new(),
        stopping: CancellationToken::new(),
        cut: CancellationToken::new(),
    });
    let accepting: Vec<_> =
        listeners.into_iter().map(|listener| tokio::spawn(accept(listener, Arc::clone(&server)))).collect();
    stop.await;
    server.stopping.cancel();
    for task in &accepting {
        task.abort();
    }
    for task in accepting {
        // Resolves as cancelled; the task drops its listener and its reference to the server.
        let _ = task.await;
    }
    let Ok(server) = Arc::try_unwrap(server) else { return };
    let cut = server.cut;
    if timeout(bounds.stop_timeout, server.graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not end in time and are closed");
        cut.cancel();
    }
}

type Respond = dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync;

struct Server {
    respond: Arc<Respond>,
    connections: Arc<Semaphore>,
    keep_alive: Duration,
    open: Gauge,
    idle: Arc<Idle>,
    /// `None`: plain HTTP.
    tls: Option<ServerTls>,
    graceful: GracefulShutdown,
    /// Ends handshakes.
    stopping: CancellationToken,
    /// Ends the connections that did not end in time.
    cut: CancellationToken,
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(permit) = server.permit().await else { return };
                server.spawn(stream, peer, permit);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

impl Server {
    /// Waits until another connection may be open. At the maximum, closes the connection that has
    /// been idle for longest. The waiting client is already connected; later ones wait in the
    /// system's backlog.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return Some(permit);
        }
        let permit = Arc::clone(&self.connections).acquire_owned();
        let mut permit = std::pin::pin!(permit);
        tokio::select! {
            permit = &mut permit => permit.ok(),
            () = self.idle.close_oldest() => permit.await.ok(),
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        // Fails only if the connection is already gone.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(peer);
        let cut = self.cut.child_token();
        let activity = Activity::new(Arc::clone(&self.idle), self.keep_alive, cut.clone());
        let respond = Arc::clone(&self.respond);
        let of_requests = Arc::clone(&activity);
        let scheme = if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let rest = Rest::default();
        let service = service_fn(move |request| {
            let connection = ConnectionInfo { local, peer, scheme: scheme.clone(), rest: rest.clone() };
            answer(&*respond, request, connection, Arc::clone(&of_requests)).map(Ok::<_, Infallible>)
        });
        let stream = Lingering::new(WriteTimeout::new(stream, WRITE_TIMEOUT), Arc::clone(&activity));
        let mut http = hyper::server::conn::http1::Builder::new();
        // A client may close its sending side after its request and still wait for the answer.
        http.max_buf_size(HEAD_MAX).half_close(true);
        let held = (Open::new(self.open.clone()), permit);
        let watcher = self.graceful.watcher();
        let Some(tls) = self.tls.clone() else {
            let connection = watcher.watch(http.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(until_end(connection, cut, activity, held));
            return;
        };
        let stopping = self.stopping.clone();
        let connection = async move {
            let stream = tokio::select! {
                stream = tls.accept(stream) => stream,
                () = stopping.cancelled() => return,
            };
            match stream {
                Ok(stream) => {
                    drop(watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await);
                }
                Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
            }
        };
        tokio::spawn(until_end(connection, cut, activity, held));
    }
}

/// Drives a connection to its end: its own, that of its time, or that of the server. Then drops
/// what it held.
fn until_end<H>(
    connection: impl Future,
    cut: CancellationToken,
    activity: Arc<Activity>,
    held: H,
) -> impl Future<Output = ()> {
    // Boxed, because the future would have room for it twice.
    let connection = Box::pin(connection);
    async move {
        tokio::select! {
            biased;
            () = cut.cancelled() => {}
            // A client that disconnects or breaks the protocol needs no handling.
            _ = connection => {}
            () = activity.expired() => {}
        }
        drop(held);
    }
}

/// The connection that a request came over.
struct ConnectionInfo {
    local: SocketAddr,
    peer: SocketAddr,
    scheme: Scheme,
    /// The unread rest of the body of the current request.
    rest: Rest,
}

/// Answers one request. Reads the unread rest of a short body before the answer, so that the
/// connection can continue. If the body is long, of unknown length or late, closes the connection
/// after the answer and announces that with `Connection: close`.
///
/// A connection has room for this future also while it is idle, so the request is not part of it.
fn answer(
    respond: &Respond,
    request: hyper::Request<Incoming>,
    ConnectionInfo { local, peer, scheme, rest }: ConnectionInfo,
    activity: Arc<Activity>,
) -> impl Future<Output = hyper::Response<Last<BoxBody<bytes::Bytes, io::Error>>>> + use<> {
    let under_way = activity.begin(!request.body().is_end_stream());
    let is_short = request.body().size_hint().exact().is_some_and(|length| length <= SKIPPED_MAX);
    // A client that waits for `100 Continue` does not send its body after an error.
    let can_skip = is_short && !request.headers().contains_key(EXPECT);
    let (parts, body) = request.into_parts();
    let local = LocalAddr(Addr::SocketAddr(local));
    let peer = RemoteAddr(Addr::SocketAddr(peer));
    let body = Observed::new(body, Arc::clone(&activity), rest.clone()).map_err(io::Error::other).boxed();
    let parts = RequestParts::from((parts, local, peer, scheme));
    let response = respond(Request::from_parts(parts, Body::from(body)));
    async move {
        let mut response = hyper::Response::from(response.await);
        let rest = rest.take();
        if activity.is_body_unread()
            && can_skip
            && timeout(SKIP_TIMEOUT, skip(rest)).await.is_ok_and(|ended| ended)
        {
            activity.note_body_read();
        }
        if activity.is_body_unread() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| Last::new(body, under_way))
    }
}
