//! A mail relay inside the test process. It speaks real SMTP over a real socket, stores what it
//! accepts, and misbehaves on demand. It runs on its own thread, so that a test may block while it
//! waits for a program. It must not share code with otpd's SMTP client, and delivers nothing.

mod certificate;
mod connection;
mod listener;
mod mail;
mod session;
mod state;

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time;

use self::{
    listener::Listener,
    state::{Credentials, Security, Shared},
};

pub use self::certificate::Certificate;
pub use self::mail::ReceivedMail;

/// How long a test waits for an email before it fails.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the peer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Replies 550 to each recipient.
    RefuseRecipient,
    /// Replies 451 to the next recipients; then the fault is over.
    RefuseRecipientTransiently {
        /// How many recipients are refused.
        times: usize,
    },
    /// Replies 554 after it has received the message.
    RefuseContent,
    /// Accepts the message and closes the connection without a reply, so the client cannot know the
    /// outcome.
    CloseAfterContent,
    /// Accepts the message and never replies.
    SilentAfterContent,
    /// Accepts the message at once and replies after this delay.
    Slow(Duration),
    /// Accepts connections and never sends anything, not even a TLS handshake.
    NoGreeting,
    /// Closes connections as soon as they are made.
    CloseOnConnect,
    /// An event, not a state: closes the connections that are between messages now. The fault in
    /// force stays.
    DropIdle,
    /// Replies with bytes that are not SMTP.
    GarbageReply,
    /// Replies with a line that never ends.
    EndlessLine,
    /// Replies 421 to each MAIL and closes the connection.
    HangUp,
    /// Sends the reply that accepts the message twice.
    RepliesTwice,
    /// Greets this many connections at a time and replies 421 to the others; takes this long for
    /// each message.
    FewConnections {
        /// The largest number of connections.
        most: usize,
        /// The time for each message.
        delay: Duration,
    },
    /// Takes one message on each connection, and refuses the next at this command.
    OneMailEach(&'static str),
    /// Answers this command with this reply. The command is GREETING, EHLO, STARTTLS, AUTH, MAIL,
    /// RCPT, DATA, or CONTENT for the message.
    Answers(&'static str, &'static str),
    /// Does the same on connections that have carried a message.
    AnswersOnceUsed(&'static str, &'static str),
    /// Offers these AUTH mechanisms and supports none of them.
    Offers(&'static str),
    /// Speaks TLS 1.1 at most.
    OldTls,
    /// Replies without a text, as the standard allows (RFC 5321 section 4.2).
    Terse,
    /// Ends lines with LF alone, writes keywords in lower case and texts in Latin-1.
    Sloppy,
    /// Offers AUTH PLAIN and does not support it; uses its own prompts for LOGIN.
    NoPlain,
    /// Sends more plaintext after its reply to STARTTLS, as an attacker in the middle could (RFC
    /// 3207 section 4.2).
    SpeaksBeforeTls,
}

/// A mail relay that belongs to one test.
pub struct SmtpPeer {
    shared: Arc<Shared>,
    listener: Listener,
    directory: TempDir,
}

/// A relay that is not started yet. By default it has no encryption and no login.
pub struct SmtpPeerBuilder {
    security: Security,
    certificate: Certificate,
    credentials: Option<Credentials>,
    mechanisms: &'static str,
    ip: Ipv4Addr,
}

impl SmtpPeerBuilder {
    /// Listens on this address instead of 127.0.0.1.
    pub fn on(mut self, ip: Ipv4Addr) -> Self {
        self.ip = ip;
        self
    }

    /// Offers STARTTLS, and refuses AUTH and MAIL before it.
    pub fn starttls(mut self) -> Self {
        self.security = Security::StartTls;
        self
    }

    /// Speaks TLS from the first byte.
    pub fn implicit_tls(mut self) -> Self {
        self.security = Security::ImplicitTls;
        self
    }

    /// Offers AUTH and refuses MAIL before a login with these credentials.
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials =
            Some(Credentials { user: user.to_owned(), password: Mutex::new(password.to_owned()) });
        self
    }

    /// Offers these AUTH mechanisms instead of PLAIN and LOGIN. For XOAUTH2 and OAUTHBEARER the
    /// password of the credentials is the token.
    pub fn mechanisms(mut self, mechanisms: &'static str) -> Self {
        self.mechanisms = mechanisms;
        self
    }

    /// Presents this certificate instead of the one for `localhost`.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = certificate;
        self
    }

    /// Listens on a free port.
    pub async fn start(self) -> SmtpPeer {
        let (acceptor, ca_pem) = certificate::issue(self.certificate);
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let peer = SmtpPeer {
            shared: Arc::new(Shared::new(self.security, self.credentials, self.mechanisms, acceptor)),
            listener: Listener::reserve(self.ip),
            directory,
        };
        fs::write(peer.ca_file(), ca_pem).expect("the directory is writable");
        peer.start_again().await;
        peer
    }
}

impl SmtpPeer {
    /// Returns a relay to be configured and started.
    pub fn builder() -> SmtpPeerBuilder {
        SmtpPeerBuilder {
            security: Security::Plain,
            certificate: Certificate::Good,
            credentials: None,
            mechanisms: "PLAIN LOGIN",
            ip: Ipv4Addr::LOCALHOST,
        }
    }

    /// Misbehaves from now on, in open connections too; `Fault::None` ends it.
    pub fn set(&self, fault: Fault) {
        if fault == Fault::DropIdle {
            self.shared.drop_idle.send_replace(());
        } else {
            *self.shared.lock_fault() = fault;
        }
    }

    /// Sets whether it offers PIPELINING (RFC 2920) from the next EHLO on. It does by default.
    pub fn offer_pipelining(&self, offered: bool) {
        self.shared.pipelining.store(offered, Ordering::SeqCst);
    }

    /// Accepts this password or token from now on, and no other.
    pub fn accept(&self, password: &str) {
        let credentials = self.shared.credentials.as_ref().expect("a relay with credentials");
        password.clone_into(&mut credentials.password.lock().expect("no panic under this lock"));
    }

    /// Closes every connection and refuses new ones; returns when that has happened.
    pub fn stop(&self) {
        self.listener.close();
    }

    /// Listens on the same port again, after a `stop` or without one. Emails, counters and the
    /// fault in force stay.
    pub async fn start_again(&self) {
        self.listener.close();
        self.listener.open(&self.shared).await;
    }

    /// Returns the TCP port; it stays the same across restarts.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Returns a file with the CA certificate that issued the one for `localhost` and 127.0.0.1,
    /// for `SSL_CERT_FILE`. The file exists as long as the peer.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Returns how many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Returns how many messages were transmitted to their end so far, accepted or not.
    pub fn transmissions(&self) -> usize {
        self.shared.transmissions.load(Ordering::SeqCst)
    }

    /// Returns every byte that clients sent outside TLS so far.
    pub fn transcript(&self) -> Vec<u8> {
        self.shared.lock_transcript().clone()
    }

    /// Returns the emails accepted so far.
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.shared.mails.borrow().clone()
    }

    /// Returns the code of the last email to an address, and forgets that email and the transcript,
    /// so that many of them take no memory.
    pub fn take_code_to(&self, address: &str) -> String {
        self.shared.lock_transcript().clear();
        let mut taken = None;
        self.shared.mails.send_modify(|mails| {
            let last = mails.iter().rposition(|mail| mail.to.iter().any(|to| to == address));
            taken = last.map(|at| mails.remove(at));
        });
        taken.expect("an email to that address").code()
    }

    /// Waits until `n` emails were accepted and returns the `n`-th; the first is `await_mail(1)`.
    pub async fn await_mail(&self, n: usize) -> ReceivedMail {
        let mut mails = self.shared.mails.subscribe();
        let enough = mails.wait_for(|mails| mails.len() >= n);
        if let Ok(Ok(mails)) = time::timeout(TIMEOUT, enough).await {
            return mails[n - 1].clone();
        }
        panic!(
            "waited {TIMEOUT:?} for mail {n}: {} mails came over {} connections, the fault is {:?}",
            self.mails().len(),
            self.connections(),
            self.shared.fault(),
        );
    }

    /// Returns the code in the newest email to this address.
    pub fn last_code_to(&self, address: &str) -> String {
        let mails = self.mails();
        let theirs = mails.iter().rfind(|mail| mail.to.iter().any(|to| to.eq_ignore_ascii_case(address)));
        theirs.unwrap_or_else(|| panic!("no mail to {address} among {}", mails.len())).code()
    }
}
