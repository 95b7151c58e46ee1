//! The bytes of one connection: lines in, replies out, in plaintext or over TLS. Records the
//! plaintext that comes in, and knows of SMTP only what a line and a reply are.

use std::{io, mem, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Fault, state::Shared};

const UNREADABLE: &[u8] = b"\xff\xfe\x00 what is this? \x80\r\n";

pub(super) struct Connection {
    shared: Arc<Shared>,
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
    tls: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, stream: TcpStream) -> Self {
        Self { shared, stream: Box::new(stream), unread: Vec::new(), tls: false }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns whether the client has said more than was read.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Makes the server side of a TLS handshake. Drops bytes that came before it and were not read.
    pub(super) async fn encrypt(&mut self) -> io::Result<()> {
        self.unread.clear();
        if self.shared.fault() == Fault::OldTls {
            self.read().await?;
            // A fatal alert: protocol_version (RFC 8446 section 6).
            self.stream.write_all(&[21, 3, 2, 0, 2, 2, 70]).await?;
            return Err(self.close().await);
        }
        let stream = mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        self.stream = Box::new(self.shared.acceptor.accept(stream).await?);
        self.tls = true;
        Ok(())
    }

    /// Sends a challenge and returns the decoded response, or `None` if it is not base64.
    pub(super) async fn challenge(&mut self, challenge: &str) -> io::Result<Option<String>> {
        self.reply(&format!("334 {}", STANDARD.encode(challenge))).await?;
        let response = self.line().await?;
        Ok(decode(&text(&response)))
    }

    pub(super) async fn close(&mut self) -> io::Error {
        // It fails if the client closed the connection first.
        let _ = self.stream.shutdown().await;
        ended()
    }

    pub(super) async fn reply(&mut self, reply: &str) -> io::Result<()> {
        match self.shared.fault() {
            Fault::GarbageReply => self.stream.write_all(UNREADABLE).await?,
            // Ends when the client closes the connection.
            Fault::EndlessLine => loop {
                self.stream.write_all(&[b'2'; 4096]).await?;
            },
            Fault::Terse => self.stream.write_all(terse(reply).as_bytes()).await?,
            Fault::Sloppy => self.stream.write_all(&sloppy(reply)).await?,
            _ => self.stream.write_all(format!("{reply}\r\n").as_bytes()).await?,
        }
        self.stream.flush().await
    }

    /// Returns the next line with its end; safe to cancel.
    pub(super) async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                return Ok(self.unread.drain(..=end).collect());
            }
            self.read().await?;
        }
    }

    pub(super) async fn stay_silent(&mut self) -> io::Result<()> {
        loop {
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let known = self.unread.len();
        if self.stream.read_buf(&mut self.unread).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !self.tls {
            let mut transcript = self.shared.lock_transcript();
            transcript.extend_from_slice(&self.unread[known..]);
        }
        Ok(())
    }
}

/// Returns the text of a base64 response; `=` is the empty one.
pub(super) fn decode(response: &str) -> Option<String> {
    let response = if response == "=" { "" } else { response };
    String::from_utf8(STANDARD.decode(response.trim_end()).ok()?).ok()
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn ended() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Returns the reply codes alone. Challenges and the extensions of EHLO keep their text.
fn terse(reply: &str) -> String {
    let lines = reply.split("\r\n").map(|line| match line.as_bytes().get(..4) {
        Some(b"334 " | b"250-") => format!("{line}\r\n"),
        _ => format!("{}\r\n", &line[..3]),
    });
    lines.collect()
}

/// Returns the reply in lower case, with a Latin-1 letter (ö) after each text and LF as the line
/// end.
fn sloppy(reply: &str) -> Vec<u8> {
    let lines = reply.split("\r\n").map(|line| match line.as_bytes().get(..4) {
        Some(b"334 ") => format!("{line}\n").into_bytes(),
        _ => [line.to_ascii_lowercase().replace("auth ", "auth=").as_bytes(), b" \xf6\n"].concat(),
    });
    lines.collect::<Vec<_>>().concat()
}
