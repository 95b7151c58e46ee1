//! A mail relay that costs little CPU: STARTTLS and AUTH PLAIN, on connections that stay open. It
//! keeps the code of each email for the scenarios, checks no password and delivers nothing.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The name of its thread, by which its CPU time is found.
pub const THREAD: &str = "relay";

const END_OF_CONTENT: &[u8] = b"\r\n.\r\n";

/// A relay on a thread of its own, which ends with the process.
pub struct Relay {
    port: u16,
    certificate: NamedTempFile,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    codes: Mutex<HashMap<String, String>>,
    delay_ms: AtomicU64,
    connections: AtomicUsize,
}

impl Relay {
    /// Listens on a free port of this machine.
    pub fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = NamedTempFile::new().expect("a temporary file");
        std::fs::write(certificate.path(), cert.pem()).expect("written");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports them")
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()),
            )
            .expect("the key belongs to the certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("a bound socket").port();
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        let serve = move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, acceptor, served));
        };
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(serve).expect("a thread");
        Self { port, certificate, shared }
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the file with its certificate, for `SSL_CERT_FILE`.
    pub fn certificate(&self) -> String {
        self.certificate.path().display().to_string()
    }

    /// Takes this long for each message from now on.
    pub fn set_delay(&self, delay: Duration) {
        let millis = delay.as_millis().try_into().expect("a short delay");
        self.shared.delay_ms.store(millis, Ordering::Relaxed);
    }

    /// Returns the number of connections that were made so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Returns the last code of each recipient so far, and forgets it.
    pub fn take_codes(&self) -> HashMap<String, String> {
        std::mem::take(&mut *self.shared.codes.lock().expect("no panic under this lock"))
    }
}

async fn accept(listener: std::net::TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        // The client sees how a session ends.
        tokio::spawn(async move { serve(stream, acceptor, &shared).await.ok() });
    }
}

async fn serve(mut stream: TcpStream, acceptor: TlsAcceptor, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 localhost ESMTP\r\n").await?;
    let mut plaintext = Session::new(shared, false);
    if !plaintext.run(&mut stream).await? {
        return Ok(());
    }
    let mut stream = acceptor.accept(stream).await?;
    Session::new(shared, true).run(&mut stream).await?;
    stream.shutdown().await
}

/// The commands of one connection, before or after STARTTLS.
struct Session<'a> {
    shared: &'a Shared,
    is_encrypted: bool,
    recipient: String,
    in_content: bool,
    unread: Vec<u8>,
    replies: Vec<u8>,
}

/// What follows the commands that were read.
#[derive(PartialEq, Eq)]
enum Next {
    Read,
    Delay,
    StartTls,
    Quit,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, is_encrypted: bool) -> Self {
        let (unread, replies) = (Vec::with_capacity(8192), Vec::with_capacity(512));
        Self { shared, is_encrypted, recipient: String::new(), in_content: false, unread, replies }
    }

    /// Returns whether TLS follows.
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<bool> {
        loop {
            let next = self.answer();
            if next == Next::Delay {
                let delay = self.shared.delay_ms.load(Ordering::Relaxed);
                if delay > 0 {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                }
                self.replies.extend_from_slice(b"250 2.0.0 Ok: queued\r\n");
                continue;
            }
            if !self.replies.is_empty() {
                stream.write_all(&self.replies).await?;
                stream.flush().await?;
                self.replies.clear();
            }
            match next {
                Next::StartTls => return Ok(true),
                Next::Quit => return Ok(false),
                Next::Read | Next::Delay => {}
            }
            if stream.read_buf(&mut self.unread).await? == 0 {
                return Ok(false);
            }
        }
    }

    /// Answers all commands that are complete.
    fn answer(&mut self) -> Next {
        let unread = std::mem::take(&mut self.unread);
        let mut rest = unread.as_slice();
        let mut next = Next::Read;
        while next == Next::Read {
            if self.in_content {
                let Some(end) = find(rest, END_OF_CONTENT) else { break };
                self.keep_code(&rest[..end]);
                self.in_content = false;
                rest = &rest[end + END_OF_CONTENT.len()..];
                next = Next::Delay;
            } else {
                let Some(end) = find(rest, b"\r\n") else { break };
                next = self.obey(&rest[..end]);
                rest = &rest[end + 2..];
            }
        }
        let read = unread.len() - rest.len();
        self.unread = unread;
        self.unread.drain(..read);
        next
    }

    fn obey(&mut self, line: &[u8]) -> Next {
        let verb = line.get(..4).unwrap_or(line).to_ascii_uppercase();
        let mut next = Next::Read;
        let reply: &[u8] = match verb.as_slice() {
            b"EHLO" if self.is_encrypted => {
                b"250-localhost\r\n250-8BITMIME\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 ENHANCEDSTATUSCODES\r\n"
            }
            b"EHLO" => b"250-localhost\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 ENHANCEDSTATUSCODES\r\n",
            b"STAR" => {
                next = Next::StartTls;
                b"220 2.0.0 Go ahead\r\n"
            }
            b"AUTH" => b"235 2.7.0 Authentication successful\r\n",
            b"RCPT" => {
                let text = String::from_utf8_lossy(line);
                let path = text.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                path.unwrap_or_default().0.clone_into(&mut self.recipient);
                b"250 2.1.5 Ok\r\n"
            }
            b"DATA" => {
                self.in_content = true;
                b"354 End data with <CR><LF>.<CR><LF>\r\n"
            }
            b"QUIT" => {
                next = Next::Quit;
                b"221 2.0.0 Bye\r\n"
            }
            _ => b"250 2.0.0 Ok\r\n",
        };
        self.replies.extend_from_slice(reply);
        next
    }

    /// Keeps the code: the first line that is six digits.
    fn keep_code(&self, content: &[u8]) {
        let mut lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        if let Some(code) = lines.find(|line| line.len() == 6 && line.iter().all(u8::is_ascii_digit)) {
            let code = String::from_utf8_lossy(code).into_owned();
            let mut codes = self.shared.codes.lock().expect("no panic under this lock");
            codes.insert(self.recipient.clone(), code);
        }
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}
