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
use super::reply::Reply;
use super::stage::Stage;

/// A connection to a relay, with or without TLS.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Space for received data at first: most replies fit.
const USUAL_BYTES: usize = 512;

/// A conversation over a connection. After an error it must be dropped.
pub(super) struct Conversation<S> {
    stream: S,
    /// Data that is received and not read as a reply yet.
    received: Vec<u8>,
}

impl<S: ByteStream> Conversation<S> {
    /// Starts a conversation.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, received: Vec::with_capacity(USUAL_BYTES) }
    }

    /// Waits for the relay's greeting.
    pub(super) async fn greeting(&mut self) -> Result<(), SendError> {
        self.expect(Stage::Greeting, &[220]).await.map(|_| ())
    }

    /// Sends EHLO and returns what the relay offers. Does not fall back to HELO: a relay that
    /// refuses EHLO offers neither TLS nor a login.
    pub(super) async fn hello(&mut self, name: &str) -> Result<Capabilities, SendError> {
        self.say(Stage::Hello, format!("EHLO {name}\r\n").as_bytes()).await?;
        let read = self.read_reply(|reply| (reply.reply(), Capabilities::of(reply))).await;
        match read.map_err(|error| SendError::from_io(Stage::Hello, &error))? {
            (reply, offered) if reply.code() == 250 => Ok(offered),
            (reply, _) => Err(SendError::reply(Stage::Hello, reply)),
        }
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
    ) -> Result<Reply, SendError> {
        let line = Zeroizing::new(format!("{command}\r\n"));
        self.say(stage, line.as_bytes()).await?;
        self.expect(stage, accepted).await
    }

    /// Waits for a reply, which must have one of these codes.
    pub(super) async fn expect(&mut self, stage: Stage, accepted: &[u16]) -> Result<Reply, SendError> {
        let reply = self.reply(stage).await?;
        if accepted.contains(&reply.code()) { Ok(reply) } else { Err(SendError::reply(stage, reply)) }
    }

    /// Waits for a reply.
    pub(super) async fn reply(&mut self, stage: Stage) -> Result<Reply, SendError> {
        self.read_reply(codes).await.map_err(|error| SendError::from_io(stage, &error))
    }

    /// Sends commands or a message, with their line ends.
    pub(super) async fn say(&mut self, stage: Stage, bytes: &[u8]) -> Result<(), SendError> {
        self.write(bytes).await.map_err(|error| SendError::from_io(stage, &error))
    }

    /// Fails if the relay has sent data that was not asked for, or has closed the connection.
    pub(super) async fn ensure_quiet(&mut self, stage: Stage) -> Result<(), SendError> {
        self.check_quiet().await.map_err(|error| SendError::from_io(stage, &error))
    }

    /// Reads a reply, and returns what is needed of it.
    async fn read_reply<T>(&mut self, needed: impl Fn(&FullReply<'_>) -> T) -> io::Result<T> {
        loop {
            if let Some((reply, length)) = FullReply::parse(&self.received).map_err(io::Error::other)? {
                let needed = needed(&reply);
                self.received.drain(..length);
                return Ok(needed);
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

fn codes(reply: &FullReply<'_>) -> Reply {
    reply.reply()
}

fn out_of_turn() -> io::Error {
    io::Error::other("the relay speaks out of turn")
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::coop;

    use super::*;

    /// Returns a conversation whose relay has sent `said`.
    async fn after(said: &[u8]) -> (Conversation<DuplexStream>, DuplexStream) {
        let (ours, mut theirs) = duplex(1024 * 1024);
        theirs.write_all(said).await.unwrap();
        (Conversation::new(ours), theirs)
    }

    async fn code(conversation: &mut Conversation<DuplexStream>) -> u16 {
        conversation.reply(Stage::Hello).await.unwrap().code()
    }

    async fn may_say(conversation: &mut Conversation<DuplexStream>) -> bool {
        conversation.say(Stage::Hello, b"NOOP\r\n").await.is_ok()
    }

    #[tokio::test]
    async fn one_reply_is_read_at_a_time_and_nothing_is_said_over_another() {
        let (mut conversation, _relay) = after(b"220-a\r\n220 go\r\n250 x\r\n354\r\n").await;
        for (expected, is_last) in [(220, false), (250, false), (354, true)] {
            assert_eq!(code(&mut conversation).await, expected);
            assert_eq!(may_say(&mut conversation).await, is_last);
        }
    }

    #[tokio::test]
    async fn a_reply_may_come_in_pieces() {
        let (mut conversation, mut relay) = after(b"250-a\r").await;
        let reply = tokio::spawn(async move { code(&mut conversation).await });
        for piece in ["\n25", "0 ", "b", "\r", "\n"] {
            assert!(!reply.is_finished());
            relay.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(reply.await.unwrap(), 250);
    }

    #[tokio::test]
    async fn what_comes_unasked_ends_the_connection_though_nobody_reads_it() {
        let (mut conversation, mut relay) = after(b"220 a\r\n").await;
        code(&mut conversation).await;
        assert!(may_say(&mut conversation).await);
        relay.write_all(b"250 ok\r\n").await.unwrap();
        assert_eq!(code(&mut conversation).await, 250);
        relay.write_all(b"250 once more\r\n").await.unwrap();
        assert!(!may_say(&mut conversation).await);

        let (mut conversation, relay) = after(b"").await;
        drop(relay);
        assert!(!may_say(&mut conversation).await, "it has ended");
    }

    #[tokio::test]
    async fn what_comes_unasked_is_seen_without_a_budget_to_read_it() {
        let (mut conversation, _relay) = after(b"250 ok\r\n").await;
        let (mut other, _full) = after(&[0; 1024]).await;
        while coop::has_budget_remaining() {
            let _ = other.stream.read_u8().await;
        }
        assert!(!may_say(&mut conversation).await);
    }

    #[tokio::test]
    async fn nothing_of_before_tls_is_kept() {
        let offered = Capabilities { starttls: true, ..Capabilities::default() };
        for (said, is_clean) in
            [("220 go\r\n", true), ("220 go\r\n250 AUTH PLAIN\r\n", false), ("454\r\n", false)]
        {
            let (conversation, mut relay) = after(b"").await;
            let starting = tokio::spawn({
                let offered = offered.clone();
                async move { conversation.start_tls(&offered).await.map(|_| ()) }
            });
            let mut heard = [0; 10];
            relay.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"STARTTLS\r\n");
            relay.write_all(said.as_bytes()).await.unwrap();
            assert_eq!(starting.await.unwrap().is_ok(), is_clean, "{said:?}");
        }
        let (conversation, mut relay) = after(b"").await;
        let error = conversation.start_tls(&Capabilities::default()).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::NoStartTls));
        assert_eq!(relay.read(&mut [0]).await.unwrap(), 0, "nothing was said");
    }

    #[tokio::test]
    async fn a_relay_that_does_not_end_is_not_listened_to() {
        for said in [vec![b'2'; 4 * MAX_BYTES], b"250-\r\n".repeat(4096)] {
            let (mut conversation, relay) = after(&said).await;
            drop(relay);
            assert!(conversation.reply(Stage::Hello).await.is_err());
            assert!(conversation.received.len() <= 3 * MAX_BYTES, "{}", conversation.received.len());
        }
    }
}
