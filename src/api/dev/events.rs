//! Captured emails and injected faults as server-sent events (HTML standard section 9.2).
//!
//! A stream begins with an event `mails` that holds all captured emails, newest first, and replaces
//! what the reader had. An event `mail` follows for each new one. So a reader that reconnects
//! misses no email and gets none twice. An event `fault` tells of each fault that is injected while
//! the stream is open. Must not buffer without bound for a slow reader, and must not outlive the
//! server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use poem::http::header::CONTENT_TYPE;
use poem::{Body, Request, Response};
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _, duplex};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::mails::Mail;
use super::{elsewhere, origin};
use crate::api::rejection::{ErrorFormat, Rejection};
use crate::domain::fault_plan::InjectedFault;
use crate::ports::{CapturedMail, Mailbox};

/// The maximum number of concurrent streams.
const STREAMS: usize = 100;
/// How long a stream may be silent before a comment is sent. It keeps the connection open, and
/// detects readers that are gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How many bytes are buffered for a reader.
const AHEAD: usize = 16 * 1024;

/// Opens event streams.
pub(super) struct Events {
    mailbox: Arc<dyn Mailbox>,
    injected: broadcast::Sender<InjectedFault>,
    stopping: CancellationToken,
    places: Arc<Semaphore>,
}

/// An email with its sequence number.
#[derive(Serialize)]
struct Numbered {
    number: u64,
    #[serde(flatten)]
    mail: Mail,
}

/// A fault that was injected.
#[derive(Serialize)]
struct Injected {
    fault: &'static str,
}

impl Events {
    /// Creates streams of what that mailbox captures and of the faults that are injected, which end
    /// when `stopping` is cancelled.
    pub(super) fn new(
        mailbox: Arc<dyn Mailbox>,
        injected: broadcast::Sender<InjectedFault>,
        stopping: CancellationToken,
    ) -> Self {
        Self { mailbox, injected, stopping, places: Arc::new(Semaphore::new(STREAMS)) }
    }

    /// Opens a stream.
    pub(super) fn open(&self, request: &Request) -> Response {
        if !origin::is_own_page(request) {
            return elsewhere(request);
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Rejection::Unavailable.response(ErrorFormat::Message);
        };
        let (reader, writer) = duplex(AHEAD);
        let mailbox = Arc::clone(&self.mailbox);
        let injected = self.injected.subscribe();
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            // Fails if the reader is gone.
            let _ = stopping.run_until_cancelled(tell(mailbox.as_ref(), injected, writer)).await;
            drop(place);
        });
        Response::builder().header(CONTENT_TYPE, "text/event-stream").body(Body::from_async_read(reader))
    }
}

/// Writes the captured emails, then each new one and each injected fault.
async fn tell(
    mailbox: &dyn Mailbox,
    mut injected: broadcast::Receiver<InjectedFault>,
    mut reader: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    // The delay before a browser reconnects, in milliseconds.
    reader.write_all(b"retry: 1000\n").await?;
    let kept = mailbox.captured(None);
    let mut newest = kept.first().map_or(0, |mail| mail.number);
    let kept: Vec<_> = kept.into_iter().map(Numbered::from).collect();
    send(&mut reader, "mails", &kept).await?;
    loop {
        tokio::select! {
            mails = mailbox.captured_after(newest) => {
                for mail in mails.into_iter().rev() {
                    newest = mail.number;
                    send(&mut reader, "mail", &Numbered::from(mail)).await?;
                }
            }
            Some(fault) = next(&mut injected) => {
                send(&mut reader, "fault", &Injected { fault: fault.name() }).await?;
            }
            () = sleep(KEEP_ALIVE) => reader.write_all(b":\n\n").await?,
        }
    }
}

/// Returns the next injected fault, after those that a slow reader missed. Returns `None` if no
/// further fault can be injected.
async fn next(injected: &mut broadcast::Receiver<InjectedFault>) -> Option<InjectedFault> {
    loop {
        match injected.recv().await {
            Ok(fault) => return Some(fault),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Writes one event. The JSON has no line breaks: none between tokens, and those in strings are
/// escaped.
async fn send(reader: &mut (impl AsyncWrite + Unpin), event: &str, data: &impl Serialize) -> io::Result<()> {
    let data = serde_json::to_string(data)?;
    reader.write_all(format!("event: {event}\ndata: {data}\n\n").as_bytes()).await
}

impl From<CapturedMail> for Numbered {
    fn from(mail: CapturedMail) -> Self {
        Self { number: mail.number, mail: mail.into() }
    }
}
