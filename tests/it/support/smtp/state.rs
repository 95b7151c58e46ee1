//! State that the sessions and the test share: the settings, the fault in force, the emails, the
//! counters. It only stores them; `session` interprets them.

use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize},
};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{Fault, mail::ReceivedMail};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    Plain,
    StartTls,
    ImplicitTls,
}

pub(super) struct Credentials {
    pub(super) user: String,
    /// The password, or the token.
    pub(super) password: Mutex<String>,
}

/// State that the sessions and the test share.
pub(super) struct Shared {
    pub(super) connections: AtomicUsize,
    pub(super) open: AtomicUsize,
    /// How many messages were transmitted to their end, accepted or not.
    pub(super) transmissions: AtomicUsize,
    /// Whether EHLO offers PIPELINING.
    pub(super) pipelining: AtomicBool,
    pub(super) mails: watch::Sender<Vec<ReceivedMail>>,
    pub(super) drop_idle: watch::Sender<()>,
    pub(super) security: Security,
    pub(super) credentials: Option<Credentials>,
    /// The AUTH mechanisms that are offered for the credentials.
    pub(super) mechanisms: &'static str,
    pub(super) acceptor: TlsAcceptor,
    fault: Mutex<Fault>,
    transcript: Mutex<Vec<u8>>,
}

impl Shared {
    pub(super) fn new(
        security: Security,
        credentials: Option<Credentials>,
        mechanisms: &'static str,
        acceptor: TlsAcceptor,
    ) -> Self {
        Self {
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            transmissions: AtomicUsize::new(0),
            pipelining: AtomicBool::new(true),
            mails: watch::Sender::new(Vec::new()),
            drop_idle: watch::Sender::new(()),
            security,
            credentials,
            mechanisms,
            acceptor,
            fault: Mutex::new(Fault::None),
            transcript: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        *self.lock_fault()
    }

    pub(super) fn lock_fault(&self) -> MutexGuard<'_, Fault> {
        self.fault.lock().expect("no panic under this lock")
    }

    pub(super) fn lock_transcript(&self) -> MutexGuard<'_, Vec<u8>> {
        self.transcript.lock().expect("no panic under this lock")
    }
}
