//! The accept loop: HTTP/1.1 over TCP, with a bound on everything a client could hold on to.
//!
//! Serves a poem endpoint over hyper instead of poem's own server, which has no header timer and no bound on
//! connections. Must not know what is served.

mod activity;
mod body;
mod impatient;
mod lingering;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Body, Endpoint, Request, RequestParts};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::activity::{Activity, Idle};
use self::body::{Last, Observed, Rest};
use self::impatient::Impatient;
use self::lingering::Lingering;

/// The most octets of a request's head; hyper answers 431 beyond it.
const HEAD_MAX: usize = 16 * 1024;
/// How long an answer may be stuck because its client does not read it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take once the server is to stop; a request takes 15 seconds at most.
const DRAIN: Duration = Duration::from_secs(16);
/// Open files that are no connections of clients.
const OTHER_FILES: usize = 256;
/// Connections where the system does not say how many files may be open.
const FALLBACK_CONNECTIONS: usize = 512;
/// The longest body, in bytes, that is skipped so that the next request can follow, when its own was refused unread.
const SKIPPED_MAX: u64 = 16 * 1024;
/// How long what is skipped may take to arrive: clients write it right behind the head.
const SKIP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait after a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Listens on an address.
///
/// # Errors
/// The system's, where the address cannot be had.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// How many connections can be held open, `wanted` at most: raises the system's limit of open files as far as it may
/// be raised, and leaves some for Redis, the relay and the log.
#[must_use]
pub fn room_for(wanted: usize) -> usize {
    let needed = wanted.saturating_add(OTHER_FILES);
    let files = rlimit::increase_nofile_limit(needed.try_into().unwrap_or(u64::MAX));
    let files = files
        .map_or(FALLBACK_CONNECTIONS + OTHER_FILES, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let room = files.saturating_sub(OTHER_FILES).clamp(1, wanted.max(1));
    if room < wanted {
        tracing::warn!(room, wanted, "the system's limit of open files leaves room for fewer connections");
    }
    room
}

/// What clients may hold on to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections that are open at once.
    pub max_connections: usize,
    /// How long one may be idle between two requests.
    pub keep_alive: Duration,
}

/// Serves until `stop` is done, then lets requests under way end.
pub async fn serve<E>(
    listeners: Vec<TcpListener>,
    endpoint: E,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) where
    E: Endpoint + 'static,
{
    let server = Arc::new(Server {
        endpoint: Arc::new(endpoint),
        connections: Arc::new(Semaphore::new(bounds.max_connections)),
        keep_alive: bounds.keep_alive,
        idle: Arc::default(),
        graceful: GracefulShutdown::new(),
        cut: CancellationToken::new(),
    });
    let accepting: Vec<_> =
        listeners.into_iter().map(|listener| tokio::spawn(accept(listener, Arc::clone(&server)))).collect();
    stop.await;
    for task in &accepting {
        task.abort();
    }
    for task in accepting {
        // Ends as cancelled, and drops its listener and its hold on the server.
        let _ = task.await;
    }
    tracing::info!("stopping: requests under way are finished");
    let Ok(server) = Arc::try_unwrap(server) else { return };
    let cut = server.cut;
    if timeout(DRAIN, server.graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not end in time: they are cut");
        cut.cancel();
    }
}

struct Server<E> {
    endpoint: Arc<E>,
    connections: Arc<Semaphore>,
    keep_alive: Duration,
    idle: Arc<Idle>,
    graceful: GracefulShutdown,
    /// Ends what did not end by itself.
    cut: CancellationToken,
}

async fn accept<E: Endpoint + 'static>(listener: TcpListener, server: Arc<Server<E>>) {
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

impl<E: Endpoint + 'static> Server<E> {
    /// Waits until another connection may be open. If there are as many as may be, the one that has been idle for longest
    /// is closed. The client that waits is connected already; those behind it wait in the system's backlog.
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
        // Refused only by a connection that is gone already.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(peer);
        let cut = self.cut.child_token();
        let activity = Activity::new(Arc::clone(&self.idle), self.keep_alive, cut.clone());
        let (endpoint, of_requests) = (Arc::clone(&self.endpoint), Arc::clone(&activity));
        let service = service_fn(move |request| {
            let answer = answer(Arc::clone(&endpoint), request, (local, peer), Arc::clone(&of_requests));
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let stream = Lingering::new(Impatient::new(stream, WRITE_TIMEOUT), Arc::clone(&activity));
        let connection = hyper::server::conn::http1::Builder::new()
            .max_buf_size(HEAD_MAX)
            // A client may close its side once it has asked, and still wait for the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                // A client that breaks off or breaks the protocol is its own affair.
                _ = connection => {}
                () = activity.expired() => {}
            }
            drop(permit);
        });
    }
}

/// Answers one request. What was not read of a short body is read before the answer, so that the connection goes on. If the
/// body is long, of unknown length or late, the connection ends with the answer, and says so.
async fn answer<E: Endpoint>(
    endpoint: Arc<E>,
    request: hyper::Request<Incoming>,
    (local, peer): (SocketAddr, SocketAddr),
    activity: Arc<Activity>,
) -> hyper::Response<Last<BoxBody<bytes::Bytes, io::Error>>> {
    let under_way = activity.begin(!request.body().is_end_stream());
    let is_short = request.body().size_hint().exact().is_some_and(|length| length <= SKIPPED_MAX);
    // A client that asks before it sends its body does not send it after a refusal.
    let can_skip = is_short && !request.headers().contains_key(EXPECT);
    let (parts, body) = request.into_parts();
    let (local, peer) = (LocalAddr(Addr::SocketAddr(local)), RemoteAddr(Addr::SocketAddr(peer)));
    let rest = Rest::default();
    let body = Observed::new(body, Arc::clone(&activity), rest.clone()).map_err(io::Error::other).boxed();
    let parts = RequestParts::from((parts, local, peer, Scheme::HTTP));
    let response = endpoint.get_response(Request::from_parts(parts, Body::from(body))).await;
    let mut response = hyper::Response::from(response);
    if activity.is_body_unread()
        && can_skip
        && timeout(SKIP_TIMEOUT, rest.skip()).await.is_ok_and(|ended| ended)
    {
        activity.note_body_read();
    }
    if activity.is_body_unread() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| Last::new(body, under_way))
}
