//! An email provider, or a program behind the hook, as a server inside the test process. It stores
//! the emails that it accepts, drops duplicates if the provider does, and misbehaves on demand. It
//! ends with the runtime of its test.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::dialects::Dialect;

/// How long connections may take to close.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What it does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Accepts the email.
    Accept,
    /// Accepts it and answers after this time.
    AcceptSlowly(Duration),
    /// Accepts it and closes the connection without an answer.
    AcceptAndClose,
    /// Accepts it and never answers.
    AcceptAndHang,
    /// Accepts it and answers 500.
    AcceptAndFail,
    /// Accepts it and answers with bytes that are not HTTP.
    AcceptAndGarble,
    /// Accepts it, and closes the connection in the middle of the answer's body.
    AcceptAndTruncate,
    /// Closes the connection without an answer.
    Close,
    /// Answers 500.
    Fail,
    /// Refuses the recipient.
    Refuse,
    /// Answers that it gets too many requests.
    Busy,
    /// Answers with a redirect to itself.
    Redirect,
    /// Answers that a request with this idempotency key is in progress.
    Concurrent,
}

/// A provider or hook that belongs to one test.
pub struct HttpSink {
    address: SocketAddr,
    state: Arc<State>,
    /// Takes the port and does not listen, so that connections are refused.
    _placeholder: Option<TcpSocket>,
}

/// A request as received.
#[derive(Debug, Clone)]
pub struct SinkRequest {
    /// The request line.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An accepted email.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkMail {
    pub to: String,
    pub code: String,
}

/// An answer.
pub struct SinkAnswer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

struct State {
    dialect: Dialect,
    requests: Mutex<Vec<SinkRequest>>,
    mails: Mutex<Vec<SinkMail>>,
    /// What it does next; the last step repeats.
    script: Mutex<VecDeque<Step>>,
    /// The body and the id of each accepted email, by its idempotency key.
    by_key: Mutex<BTreeMap<String, (Vec<u8>, String)>>,
    closes_at_once: AtomicBool,
    drop_idle: watch::Sender<()>,
    open: watch::Sender<usize>,
}

impl SinkRequest {
    /// Returns the value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

impl SinkAnswer {
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.to_string() }
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn head(&self) -> String {
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let headers: String = headers.collect();
        let length = if self.status == 204 {
            String::new()
        } else {
            format!("content-length: {}\r\n", self.body.len())
        };
        format!("HTTP/1.1 {} x\r\n{headers}{length}\r\n", self.status)
    }
}

impl HttpSink {
    /// Starts a provider that accepts everything.
    pub async fn start(dialect: Dialect) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State::new(dialect);
        let of_connections = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&of_connections);
                if !state.closes_at_once.load(Ordering::SeqCst) {
                    tokio::spawn(async move { state.serve(stream).await });
                }
            }
        });
        Self { address, state, _placeholder: None }
    }

    /// Returns a provider that refuses connections.
    pub fn gone(dialect: Dialect) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = socket.local_addr().expect("an address");
        Self { address, state: State::new(dialect), _placeholder: Some(socket) }
    }

    /// Returns the URL of its API.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this with the next requests; the last step repeats.
    pub fn play(&self, steps: &[Step]) {
        self.state.closes_at_once.store(false, Ordering::SeqCst);
        *self.state.script.lock().expect("a script") = steps.iter().copied().collect();
    }

    /// Closes each connection as soon as it is made, until something else is played.
    pub async fn close_at_once(&self) {
        self.drop_idle().await;
        self.state.closes_at_once.store(true, Ordering::SeqCst);
    }

    /// Closes the idle connections, and waits until the other side has closed them too.
    pub async fn drop_idle(&self) {
        self.state.drop_idle.send_replace(());
        let mut open = self.state.open.subscribe();
        let closed = tokio::time::timeout(TIMEOUT, open.wait_for(|open| *open == 0)).await;
        closed.expect("the connections are closed").expect("a count");
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<SinkRequest> {
        self.state.requests().clone()
    }

    /// Returns the accepted emails so far.
    pub fn mails(&self) -> Vec<SinkMail> {
        self.state.mails.lock().expect("no thread panics with the mails").clone()
    }

    /// Returns the codes of the emails to an address.
    pub fn codes_to(&self, address: &str) -> Vec<String> {
        self.mails().into_iter().filter(|mail| mail.to == address).map(|mail| mail.code).collect()
    }
}

impl State {
    fn new(dialect: Dialect) -> Arc<Self> {
        Arc::new(Self {
            dialect,
            requests: Mutex::default(),
            mails: Mutex::default(),
            script: Mutex::new([Step::Accept].into()),
            by_key: Mutex::default(),
            closes_at_once: AtomicBool::new(false),
            drop_idle: watch::Sender::default(),
            open: watch::Sender::default(),
        })
    }

    fn requests(&self) -> MutexGuard<'_, Vec<SinkRequest>> {
        self.requests.lock().expect("no thread panics with the requests")
    }

    fn next_step(&self) -> Step {
        let mut script = self.script.lock().expect("a script");
        if script.len() > 1 { script.pop_front() } else { script.front().copied() }.expect("a step")
    }

    async fn serve(&self, stream: TcpStream) {
        self.open.send_modify(|open| *open += 1);
        let mut stream = BufReader::new(stream);
        let mut drop_idle = self.drop_idle.subscribe();
        loop {
            tokio::select! {
                request = read_request(&mut stream) => {
                    let Ok(request) = request else { break };
                    if self.answer(&request, stream.get_mut()).await.is_err() { break }
                }
                _ = drop_idle.changed() => {
                    let _ = stream.get_mut().shutdown().await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    break;
                }
            }
        }
        self.open.send_modify(|open| *open -= 1);
    }

    /// Answers a request. An error closes the connection.
    async fn answer(&self, request: &SinkRequest, stream: &mut TcpStream) -> io::Result<()> {
        let step = self.next_step();
        self.requests().push(request.clone());
        let mail = match self.dialect.read(request) {
            Ok(mail) => mail,
            Err(fault) => return write(stream, &SinkAnswer::json(400, &json!({ "fault": fault }))).await,
        };
        let closed = || io::Error::from(io::ErrorKind::ConnectionAborted);
        let accept = || self.accept(request, &mail);
        match step {
            Step::Accept => write(stream, &accept()).await,
            Step::AcceptSlowly(time) => {
                let answer = accept();
                tokio::time::sleep(time).await;
                write(stream, &answer).await
            }
            Step::AcceptAndClose => {
                accept();
                Err(closed())
            }
            Step::AcceptAndHang => {
                accept();
                // Until the other side gives up.
                stream.read_u8().await.and(Err(closed()))
            }
            Step::AcceptAndFail => {
                accept();
                write(stream, &SinkAnswer::empty(500)).await
            }
            Step::AcceptAndGarble => {
                accept();
                stream.write_all(b"220 localhost ESMTP\r\n").await.and(Err(closed()))
            }
            Step::AcceptAndTruncate => {
                accept();
                let whole = SinkAnswer::json(200, &json!({ "id": "a text that is cut off" }));
                let half = whole.body.split_at(whole.body.len() / 2).0;
                stream.write_all((whole.head() + half).as_bytes()).await.and(Err(closed()))
            }
            Step::Close => Err(closed()),
            Step::Fail => write(stream, &SinkAnswer::empty(500)).await,
            Step::Refuse => write(stream, &self.dialect.refused(&mail.to)).await,
            Step::Busy => write(stream, &self.dialect.busy()).await,
            Step::Redirect => write(stream, &SinkAnswer::empty(307).with("location", "/elsewhere")).await,
            Step::Concurrent => {
                let body = json!({ "statusCode": 409, "name": "concurrent_idempotent_requests" });
                write(stream, &SinkAnswer::json(409, &body)).await
            }
        }
    }

    /// Stores the email, unless it is a duplicate at a provider that drops them.
    fn accept(&self, request: &SinkRequest, mail: &SinkMail) -> SinkAnswer {
        let mut mails = self.mails.lock().expect("no thread panics with the mails");
        let id = format!("id-{}", mails.len());
        let Some(key) = request.header("idempotency-key").filter(|_| self.dialect == Dialect::Resend) else {
            mails.push(mail.clone());
            return self.dialect.accepted(&id);
        };
        let mut by_key = self.by_key.lock().expect("no thread panics with the keys");
        match by_key.get(key) {
            Some((body, id)) if *body == request.body => self.dialect.accepted(id),
            Some(_) => {
                let body = json!({ "statusCode": 409, "name": "invalid_idempotent_request" });
                SinkAnswer::json(409, &body)
            }
            None => {
                by_key.insert(key.to_owned(), (request.body.clone(), id.clone()));
                mails.push(mail.clone());
                self.dialect.accepted(&id)
            }
        }
    }
}

/// Reads a request whose body has a known length.
async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<SinkRequest> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).expect("a head of ASCII");
    let mut lines = head.lines();
    let line = lines.next().expect("a request line").to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    };
    let headers: Vec<_> = lines.filter_map(header).collect();
    let mut request = SinkRequest { line, headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).await?;
    Ok(request)
}

async fn write(stream: &mut TcpStream, answer: &SinkAnswer) -> io::Result<()> {
    stream.write_all((answer.head() + &answer.body).as_bytes()).await
}
