//! A mail relay inside the test process that speaks real SMTP over a real socket, keeps what it accepts, and
//! misbehaves on demand. It has a thread of its own, so that a test may block while it waits for a program.
//! It must not share anything with our own mail code, delivers nothing, and listens on loopback only.

mod certificate;
mod connection;
mod listener;
mod mail;
mod session;
mod state;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
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

/// How long a test waits for a mail before it fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the peer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// 550 for each recipient.
    RefuseRecipient,
    /// 451 for the next recipients; then the fault is over.
    RefuseRecipientTransiently {
        /// How many recipients are refused.
        times: usize,
    },
    /// 554 once the message has been received.
    RefuseContent,
    /// Accepts the message and closes the connection without a reply: the client cannot know.
    CloseAfterContent,
    /// Accepts the message and stays silent.
    SilentAfterContent,
    /// Accepts the message at once and says so after this delay.
    Slow(Duration),
    /// Accepts connections and never says a word, not even a TLS one.
    NoGreeting,
    /// Closes connections as soon as they are made.
    CloseOnConnect,
    /// An event, not a state: closes the connections that are between mails now; the fault in force stays.
    DropIdle,
    /// Replies with bytes that are no SMTP.
    GarbageReply,
    /// Replies with a line that never ends.
    EndlessLine,
    /// 421 to each MAIL, and closes the connection.
    HangUp,
    /// Says that it has accepted the message, and once more.
    RepliesTwice,
    /// Greets so many connections at a time, and 421 to the others; takes this long for a mail.
    FewConnections {
        /// How many.
        most: usize,
        /// How long.
        delay: Duration,
    },
    /// Takes one mail on each connection, and refuses the next at that command.
    OneMailEach(&'static str),
    /// Answers that command so: GREETING, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, or CONTENT for the message.
    Answers(&'static str, &'static str),
    /// The same on connections that have carried a mail.
    AnswersOnceUsed(&'static str, &'static str),
    /// Offers these ways to log in, and knows none.
    Offers(&'static str),
    /// Speaks TLS 1.1 at most.
    OldTls,
    /// Replies without a text, as the standard allows (RFC 5321 section 4.2).
    Terse,
    /// Ends lines with LF alone, writes keywords in lower case and texts in Latin-1.
    Sloppy,
    /// Offers AUTH PLAIN and does not know it; prompts of its own for LOGIN.
    NoPlain,
    /// Says something more in the clear behind its go-ahead for TLS, as who sits in between would (RFC 3207 section 4.2).
    SpeaksBeforeTls,
}

/// A mail relay that belongs to one test.
pub struct SmtpPeer {
    shared: Arc<Shared>,
    listener: Listener,
    directory: TempDir,
}

/// A relay that is yet to start; without encryption and login unless told otherwise.
pub struct SmtpPeerBuilder {
    security: Security,
    certificate: Certificate,
    credentials: Option<Credentials>,
}

impl SmtpPeerBuilder {
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

    /// Offers AUTH and refuses MAIL before a login with these.
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some(Credentials { user: user.to_owned(), password: password.to_owned() });
        self
    }

    /// Shows another certificate than that for `localhost`.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = certificate;
        self
    }

    /// Listens on a free port of 127.0.0.1.
    pub async fn start(self) -> SmtpPeer {
        let (acceptor, ca_pem) = certificate::issue(self.certificate);
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let peer = SmtpPeer {
            shared: Arc::new(Shared::new(self.security, self.credentials, acceptor)),
            listener: Listener::reserve(),
            directory,
        };
        fs::write(peer.ca_file(), ca_pem).expect("the directory is writable");
        peer.start_again().await;
        peer
    }
}

impl SmtpPeer {
    /// A relay to be configured and started.
    pub fn builder() -> SmtpPeerBuilder {
        SmtpPeerBuilder { security: Security::Plain, certificate: Certificate::Good, credentials: None }
    }

    /// Misbehaves from now on, in open connections too; `Fault::None` ends it.
    pub fn set(&self, fault: Fault) {
        if fault == Fault::DropIdle {
            self.shared.drop_idle.send_replace(());
        } else {
            *self.shared.lock_fault() = fault;
        }
    }

    /// Closes every connection and refuses new ones; returns when that has happened.
    pub fn stop(&self) {
        self.listener.close();
    }

    /// Listens on the same port, after a `stop` or anew; mails, counters and the fault in force stay.
    pub async fn start_again(&self) {
        self.listener.close();
        self.listener.open(&self.shared).await;
    }

    /// The TCP port on 127.0.0.1; it stays the same across restarts.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// A file with the certificate of the authority that vouches for `localhost` and 127.0.0.1, for `SSL_CERT_FILE`; it lives as long as the peer.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Every byte that clients sent outside TLS so far.
    pub fn transcript(&self) -> Vec<u8> {
        self.shared.lock_transcript().clone()
    }

    /// The mails accepted so far.
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.shared.mails.borrow().clone()
    }

    /// Waits until `n` mails were accepted and returns the `n`-th; the first is `await_mail(1)`.
    pub async fn await_mail(&self, n: usize) -> ReceivedMail {
        let mut mails = self.shared.mails.subscribe();
        let enough = mails.wait_for(|mails| mails.len() >= n);
        if let Ok(Ok(mails)) = time::timeout(PATIENCE, enough).await {
            return mails[n - 1].clone();
        }
        panic!(
            "waited {PATIENCE:?} for mail {n}: {} mails came over {} connections, the fault is {:?}",
            self.mails().len(),
            self.connections(),
            self.shared.fault(),
        );
    }

    /// The code in the newest mail to that address.
    pub fn last_code_to(&self, address: &str) -> String {
        let mails = self.mails();
        let theirs = mails.iter().rfind(|mail| mail.to.iter().any(|to| to.eq_ignore_ascii_case(address)));
        theirs.unwrap_or_else(|| panic!("no mail to {address} among {}", mails.len())).code()
    }
}
