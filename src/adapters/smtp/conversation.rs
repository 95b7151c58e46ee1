//! The conversation with a relay: sends commands, reads replies.
//!
//! Must not send anything while received data is unread: it would be taken for the reply to the
//! next command, or, before TLS, for the relay's own words (RFC 3207 section 4.2).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::unconstrained;
use zeroize::Zeroizing;

use super::error::{Cause, SendError};
use super::full_reply::{Capabilities, FullReply, MAX_BYTES};
use super::stage::Stage;

/// A connection to a relay, with or without TLS.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A conversation over a connection. After an error it must be dropped.
pub(super) struct Conversation<S> {
    stream: S,
    /// Data that is received and not read as a reply yet.
    received: Vec<u8>,
}

impl<S: Transport> Conversation<S> {
    /// Starts a conversation.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Waits for the relay's greeting.
    pub(super) async fn greeting(&mut self) -> Result<(), SendError> {
        self.expect(Stage::Greeting, &[220]).await.map(|_| ())
    }

    /// Sends EHLO and returns what the relay offers. Does not fall back to HELO: a relay that
    /// refuses EHLO offers neither TLS nor a login.
    pub(super) async fn hello(&mut self, name: &str) -> Result<Capabilities, SendError> {
        let reply = self.ask(Stage::Hello, &format!("EHLO {name}"), &[250]).await?;
        Ok(Capabilities::of(&reply))
    }

    /// Sends STARTTLS and returns the connection, ready for TLS. Fails if the relay sent data after
    /// its reply (RFC 3207 section 4.2).
    pub(super) async fn start_tls(mut self, offered: &Capabilities) -> Result<S, SendError> {
        if !offered.starttls {
            return Err(SendError { stage: Stage::StartTls, cause: Cause::NoStartTls });
        }
        self.ask(Stage::StartTls, "STARTTLS", &[220]).await?;
        if self.received.is_empty() {
            Ok(self.stream)
        } else {
            Err(SendError::from_io(Stage::StartTls, &out_of_turn()))
        }
    }

    /// Sends a command and returns its reply, which must have one of these codes.
    pub(super) async fn ask(
        &mut self,
        stage: Stage,
        command: &str,
        accepted: &[u16],
    ) -> Result<FullReply, SendError> {
        let line = Zeroizing::new(format!("{command}\r\n"));
        self.say(stage, line.as_bytes()).await?;
        self.expect(stage, accepted).await
    }

    /// Waits for a reply, which must have one of these codes.
    pub(super) async fn expect(&mut self, stage: Stage, accepted: &[u16]) -> Result<FullReply, SendError> {
        let reply = self.reply(stage).await?;
        if accepted.contains(&reply.reply().code()) {
            Ok(reply)
        } else {
            Err(SendError::reply(stage, reply.reply()))
        }
    }

    /// Waits for a reply.
    pub(super) async fn reply(&mut self, stage: Stage) -> Result<FullReply, SendError> {
        self.read_reply().await.map_err(|error| SendError::from_io(stage, &error))
    }

    /// Sends commands or a message, with their line ends.
    pub(super) async fn say(&mut self, stage: Stage, bytes: &[u8]) -> Result<(), SendError> {
        self.write(bytes).await.map_err(|error| SendError::from_io(stage, &error))
    }

    /// Fails if the relay has sent data that was not asked for, or has closed the connection.
    pub(super) async fn ensure_quiet(&mut self, stage: Stage) -> Result<(), SendError> {
        self.check_quiet().await.map_err(|error| SendError::from_io(stage, &error))
    }

    async fn read_reply(&mut self) -> io::Result<FullReply> {
        loop {
            if let Some((reply, length)) = FullReply::parse(&self.received).map_err(io::Error::other)? {
                self.received.drain(..length);
                return Ok(reply);
            }
            self.read_lines().await?;
        }
    }

    /// Reads until at least one more line is complete, so that a reply in many small pieces is not
    /// parsed again after each of them.
    async fn read_lines(&mut self) -> io::Result<()> {
        loop {
            let known = self.received.len();
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let has_line = self.received.iter().skip(known).any(|byte| *byte == b'\n');
            if has_line || self.received.len() > MAX_BYTES {
                return Ok(());
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.check_quiet().await?;
            let written = self.stream.write(rest).await?;
            rest = rest.get(written..).filter(|_| written > 0).ok_or(io::ErrorKind::WriteZero)?;
        }
        self.stream.flush().await
    }

    /// Fails if data has arrived, also if it was not read yet, or if the connection has ended.
    async fn check_quiet(&mut self) -> io::Result<()> {
        if !self.received.is_empty() {
            return Err(out_of_turn());
        }
        let mut byte = [0; 1];
        let mut unasked = ReadBuf::new(&mut byte);
        // Without tokio's budget, whose end would look as if nothing had arrived.
        unconstrained(poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut self.stream).poll_read(cx, &mut unasked) {
                Poll::Pending => Ok(()),
                Poll::Ready(Err(error)) => Err(error),
                Poll::Ready(Ok(())) => Err(out_of_turn()),
            })
        }))
        .await
    }
}

/// Returns a message as it is transmitted after DATA (RFC 5321 section 4.5.2): a dot at the start
/// of a line is doubled, and a line with a dot ends it. Also doubles a dot after LF alone, so that
/// a relay that takes it for a line end sees no end of the message there.
pub(super) fn dot_stuffed(message: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line);
    }
    if !data.ends_with(b"\r\n") {
        data.extend_from_slice(b"\r\n");
    }
    data.extend_from_slice(b".\r\n");
    data
}

fn out_of_turn() -> io::Error {
    io::Error::other("the relay speaks out of turn")
}
