//! The accept loop: HTTP/1.1 over TCP, with a bound on everything a client could hold on to.
//!
//! Serves a poem endpoint over hyper instead of poem's own server, which has no header timer and no bound on
//! connections. Must not know what is served.

mod impatient;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::impatient::Impatient;

/// How long a request's head may take, and how long a connection may stay idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most octets of a request's head; hyper answers 431 beyond it.
const HEAD_MAX: usize = 16 * 1024;
/// How long an answer may be stuck because its client does not read it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take once the server is to stop; a request takes 20 seconds at most.
const DRAIN: Duration = Duration::from_secs(20);
/// Open files that are no connections of clients.
const OTHER_FILES: usize = 256;
/// Connections where the system does not say how many files may be open.
const FEW: usize = 512;
/// How long to wait after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    let files = files.map_or(FEW + OTHER_FILES, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let room = files.saturating_sub(OTHER_FILES).clamp(1, wanted.max(1));
    if room < wanted {
        tracing::warn!(room, wanted, "the system's limit of open files leaves room for fewer connections");
    }
    room
}

/// Serves until `stop` is done, then lets requests under way end.
pub async fn serve<E>(
    listeners: Vec<TcpListener>,
    endpoint: E,
    max_connections: usize,
    stop: impl Future<Output = ()>,
) where
    E: Endpoint + 'static,
{
    let server = Arc::new(Server {
        endpoint: Arc::new(endpoint),
        connections: Arc::new(Semaphore::new(max_connections)),
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
    graceful: GracefulShutdown,
    /// Ends what did not end by itself.
    cut: CancellationToken,
}

async fn accept<E: Endpoint + 'static>(listener: TcpListener, server: Arc<Server<E>>) {
    loop {
        // A place first: what cannot be served waits in the system's backlog, where it costs nothing.
        let Ok(place) = Arc::clone(&server.connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => server.spawn(stream, peer, place),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl<E: Endpoint + 'static> Server<E> {
    fn spawn(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        // Refused only by a connection that is gone already.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(peer);
        let endpoint = Arc::clone(&self.endpoint);
        let service = service_fn(move |request| {
            let endpoint = Arc::clone(&endpoint);
            let (local, peer) = (LocalAddr(Addr::SocketAddr(local)), RemoteAddr(Addr::SocketAddr(peer)));
            let request = poem::Request::from((request, local, peer, Scheme::HTTP));
            async move {
                Ok::<_, std::convert::Infallible>(hyper::Response::from(endpoint.get_response(request).await))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_MAX)
            // A client may close its side once it has asked, and still wait for the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)), service);
        let connection = self.graceful.watch(connection);
        let cut = self.cut.clone();
        tokio::spawn(async move {
            // A client that breaks off or breaks the protocol is its own affair.
            let _ = cut.run_until_cancelled(connection).await;
            drop(place);
        });
    }
}
