//! The captured mails as they come: server-sent events (HTML standard section 9.2).
//!
//! Each stream begins with an event `mails`, all that are kept, newest first, which takes the place of what its reader had;
//! after it comes an event `mail` for each new one. So a reader that connects again misses none and has none twice. Must
//! not keep what a slow reader has not read, and must not outlive the server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use poem::http::header::CONTENT_TYPE;
use poem::{Body, Request, Response};
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _, duplex};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::mails::Mail;
use super::{elsewhere, origin};
use crate::api::rejection::{ErrorFormat, Rejection};
use crate::ports::{CapturedMail, Mailbox};

/// The most streams at a time.
const STREAMS: usize = 100;
/// After how much silence a comment is sent: it keeps the connection, and shows where its reader has gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How many octets may wait for their reader.
const AHEAD: usize = 16 * 1024;

/// Where streams begin.
pub struct Events {
    mailbox: Arc<dyn Mailbox>,
    stopping: CancellationToken,
    places: Arc<Semaphore>,
}

/// A mail and its number.
#[derive(Serialize)]
struct Numbered {
    number: u64,
    #[serde(flatten)]
    mail: Mail,
}

impl Events {
    /// Streams of what that mailbox captures, until `stopping` is cancelled.
    pub fn new(mailbox: Arc<dyn Mailbox>, stopping: CancellationToken) -> Self {
        Self { mailbox, stopping, places: Arc::new(Semaphore::new(STREAMS)) }
    }

    /// Begins a stream.
    pub fn open(&self, request: &Request) -> Response {
        if !origin::is_own_page(request) {
            return elsewhere(request);
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Rejection::Unavailable.response(ErrorFormat::Message);
        };
        let (reader, writer) = duplex(AHEAD);
        let (mailbox, stopping) = (Arc::clone(&self.mailbox), self.stopping.clone());
        tokio::spawn(async move {
            // Fails where the reader has gone.
            let _ = stopping.run_until_cancelled(tell(mailbox.as_ref(), writer)).await;
            drop(place);
        });
        Response::builder().header(CONTENT_TYPE, "text/event-stream").body(Body::from_async_read(reader))
    }
}

/// Tells what is there and then what comes.
async fn tell(mailbox: &dyn Mailbox, mut reader: impl AsyncWrite + Unpin) -> io::Result<()> {
    // A browser that lost the stream comes back after this many milliseconds.
    reader.write_all(b"retry: 1000\n").await?;
    let kept = mailbox.captured(None);
    let mut newest = kept.first().map_or(0, |mail| mail.number);
    let kept: Vec<_> = kept.into_iter().map(Numbered::from).collect();
    send(&mut reader, "mails", &kept).await?;
    loop {
        let Ok(mails) = timeout(KEEP_ALIVE, mailbox.captured_after(newest)).await else {
            reader.write_all(b":\n\n").await?;
            continue;
        };
        for mail in mails.into_iter().rev() {
            newest = mail.number;
            send(&mut reader, "mail", &Numbered::from(mail)).await?;
        }
    }
}

/// Sends one event. JSON has no line break outside of its texts, and escapes those inside.
async fn send(reader: &mut (impl AsyncWrite + Unpin), event: &str, data: &impl Serialize) -> io::Result<()> {
    let data = serde_json::to_string(data)?;
    reader.write_all(format!("event: {event}\ndata: {data}\n\n").as_bytes()).await
}

impl From<CapturedMail> for Numbered {
    fn from(mail: CapturedMail) -> Self {
        Self { number: mail.number, mail: mail.into() }
    }
}
