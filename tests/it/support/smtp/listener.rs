//! The port of one peer, and the thread on which its sessions run. Opens and closes the port,
//! reserves it while it is closed, and knows nothing of SMTP.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Handle},
    sync::oneshot,
    task::{AbortHandle, JoinSet},
};

use super::{session, state::Shared};

/// How long the connections may take to close.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often, and at what interval, binding a port is retried.
const POLLS: usize = 5_000;
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The largest number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

pub(super) struct Listener {
    occupant: Mutex<Occupant>,
    address: SocketAddr,
    runtime: Handle,
    /// Dropping it ends the thread and every connection.
    _thread: oneshot::Sender<()>,
}

/// The holder of the port.
enum Occupant {
    Listener(Accepting),
    /// A socket that is bound and does not listen. It refuses connections, and nobody else can take
    /// the port.
    Placeholder(TcpSocket),
    Nobody,
}

struct Accepting {
    task: AbortHandle,
    /// Disconnected when the listening socket and every connection are closed.
    closed: mpsc::Receiver<Infallible>,
}

impl Listener {
    /// Takes a free port of this IP address, which refuses connections until it is opened.
    pub(super) fn reserve(ip: Ipv4Addr) -> Self {
        let placeholder = bind(SocketAddr::from((ip, 0))).expect("a free port exists");
        let address = placeholder.local_addr().expect("a bound socket has one");
        let (runtime, thread) = spawn_runtime();
        Self { occupant: Mutex::new(Occupant::Placeholder(placeholder)), address, runtime, _thread: thread }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Starts accepting connections.
    pub(super) async fn open(&self, shared: &Arc<Shared>) {
        let Occupant::Placeholder(socket) = self.replace(Occupant::Nobody) else {
            panic!("the port is open already, or somebody else opens it just now");
        };
        let listening = self.runtime.spawn(async move { socket.listen(BACKLOG) });
        let listener = listening.await.expect("the peer's thread lives");
        let listener = listener.expect("nobody else listens on a port that is bound");
        let (alive, closed) = mpsc::channel();
        let accepting = accept(alive, listener, Arc::clone(shared));
        let task = self.runtime.spawn(accepting).abort_handle();
        self.replace(Occupant::Listener(Accepting { task, closed }));
    }

    /// Closes the port and all connections, if it is open; returns when they are closed.
    pub(super) fn close(&self) {
        match self.replace(Occupant::Nobody) {
            Occupant::Listener(Accepting { task, closed }) => {
                task.abort();
                let ended = closed.recv_timeout(TIMEOUT);
                assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected), "still open");
                let placeholder = bind_again(self.address);
                self.replace(Occupant::Placeholder(placeholder));
            }
            other => drop(self.replace(other)),
        }
    }

    fn replace(&self, occupant: Occupant) -> Occupant {
        let mut held = self.occupant.lock().expect("no panic under this lock");
        std::mem::replace(&mut *held, occupant)
    }
}

/// Runs until it is aborted. `alive` comes first because the first parameter is the last to be
/// dropped.
async fn accept(alive: mpsc::Sender<Infallible>, listener: TcpListener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (alive, shared) = (alive.clone(), Arc::clone(&shared));
        sessions.spawn(async move {
            let _alive = alive;
            // The error says how the session ended; the client knows that as well.
            let _ = session::serve(shared, stream).await;
        });
    }
}

/// Starts a runtime on its own thread, which ends when the sender is dropped.
fn spawn_runtime() -> (Handle, oneshot::Sender<()>) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let handle = runtime.handle().clone();
    let (sender, dropped) = oneshot::channel::<()>();
    thread::spawn(move || {
        let _ = runtime.block_on(dropped);
    });
    (handle, sender)
}

/// Binds a port again. A process that another test is starting has a copy of our listening socket
/// until it has loaded its program, for some milliseconds: the port is closed only when it can be
/// bound again.
fn bind_again(address: SocketAddr) -> TcpSocket {
    for _ in 0..POLLS {
        if let Ok(socket) = bind(address) {
            return socket;
        }
        thread::sleep(POLL_INTERVAL);
    }
    panic!("{address} was ours a moment ago");
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
