//! One SMTP connection, from the greeting to its end, with the fault in force at each step. Follows
//! the standards as strictly as a careful relay (order of commands, bare line feeds, TLS before a
//! login) and must not accept what such a relay would refuse.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use tokio::{net::TcpStream, sync::watch, time};

use super::{
    Fault,
    connection::{Connection, decode, ended, text},
    mail::ReceivedMail,
    state::{Security, Shared},
};

const SYNTAX: &str = "501 5.5.4 Syntax error in parameters";

/// Serves one connection. It always ends with an error: the client's, the fault's, or the end of
/// input.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream) -> io::Result<()> {
    let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
    let ended = talk(Arc::clone(&shared), stream, open).await;
    shared.open.fetch_sub(1, Ordering::SeqCst);
    ended
}

async fn talk(shared: Arc<Shared>, stream: TcpStream, open: usize) -> io::Result<()> {
    let mut session = Session {
        drop_idle: shared.drop_idle.subscribe(),
        connection: Connection::new(Arc::clone(&shared), stream),
        shared,
        greeted: false,
        pipelining: false,
        user: None,
        envelope: None,
        mails: 0,
    };
    match session.shared.fault() {
        Fault::CloseOnConnect => return Err(ended()),
        Fault::NoGreeting => return session.connection.stay_silent().await,
        Fault::FewConnections { most, .. } if open > most => {
            session.connection.reply("421 4.7.0 Too many connections").await?;
            return Err(session.connection.close().await);
        }
        _ => {}
    }
    if session.shared.security == Security::ImplicitTls {
        session.connection.encrypt().await?;
    }
    let greeting = session.answer("GREETING").unwrap_or("220 localhost ESMTP");
    session.connection.reply(greeting).await?;
    loop {
        let command = session.command().await?;
        session.obey(&command).await?;
    }
}

struct Session {
    shared: Arc<Shared>,
    connection: Connection,
    drop_idle: watch::Receiver<()>,
    greeted: bool,
    /// Whether the last EHLO was told of PIPELINING.
    pipelining: bool,
    user: Option<String>,
    envelope: Option<Envelope>,
    /// How many messages it has taken.
    mails: usize,
}

struct Envelope {
    from: String,
    to: Vec<String>,
}

impl Session {
    /// Returns the reply that the fault gives to this command.
    fn answer(&self, at: &str) -> Option<&'static str> {
        match self.shared.fault() {
            Fault::Answers(command, reply) if command == at => Some(reply),
            Fault::AnswersOnceUsed(command, reply) if command == at && self.mails > 0 => Some(reply),
            _ => None,
        }
    }

    async fn obey(&mut self, command: &str) -> io::Result<()> {
        let (verb, arguments) = command.split_once(' ').unwrap_or((command, ""));
        let arguments = arguments.trim();
        // These must be the last commands of a group (RFC 2920 section 3.1).
        let is_last = ["EHLO", "HELO", "STARTTLS", "AUTH", "DATA", "QUIT"].contains(&verb);
        if self.connection.has_unread() && (is_last || !self.pipelining) {
            self.connection.reply("503 5.5.0 Improper use of pipelining").await?;
            return Err(self.connection.close().await);
        }
        let reply = match verb.to_ascii_uppercase().as_str() {
            verb if self.answer(verb).is_some() => self.answer(verb).unwrap_or_default().to_owned(),
            "EHLO" => self.ehlo(arguments),
            "HELO" => self.helo(arguments),
            "MAIL" if self.shared.fault() == Fault::HangUp => {
                self.connection.reply("421 4.3.2 Shutting down").await?;
                return Err(self.connection.close().await);
            }
            verb if self.mails > 0 && self.shared.fault() == Fault::OneMailEach(verb_of(verb)) => {
                "554 5.7.0 Too many mails".to_owned()
            }
            "MAIL" => self.mail(arguments).to_owned(),
            "RCPT" => self.rcpt(arguments).to_owned(),
            "STARTTLS" => return self.starttls(arguments).await,
            "AUTH" => self.auth(arguments).await?.to_owned(),
            "DATA" => self.data().await?.to_owned(),
            "RSET" => {
                self.end_transaction();
                "250 2.0.0 Ok".to_owned()
            }
            "NOOP" => "250 2.0.0 Ok".to_owned(),
            "VRFY" => "252 2.0.0 Send a mail and see".to_owned(),
            "QUIT" => {
                self.connection.reply("221 2.0.0 Bye").await?;
                return Err(self.connection.close().await);
            }
            _ => "500 5.5.2 Unknown command".to_owned(),
        };
        self.connection.reply(&reply).await
    }

    fn helo(&mut self, client: &str) -> String {
        if client.is_empty() {
            return SYNTAX.to_owned();
        }
        self.greeted = true;
        self.pipelining = false;
        self.end_transaction();
        "250 localhost".to_owned()
    }

    fn ehlo(&mut self, client: &str) -> String {
        let reply = self.helo(client);
        if reply == SYNTAX {
            return reply;
        }
        let mut offers = vec!["", "8BITMIME"];
        self.pipelining = self.shared.pipelining.load(Ordering::SeqCst);
        if self.pipelining {
            offers.push("PIPELINING");
        }
        let auth = format!("AUTH {}", self.shared.mechanisms);
        if self.needs_tls() {
            offers.push("STARTTLS");
        } else if let Fault::Offers(mechanisms) = self.shared.fault() {
            offers.push(mechanisms);
        } else if self.shared.credentials.is_some() {
            offers.push(&auth);
        }
        let offers = offers.join("\r\n250-");
        format!("250-localhost{offers}\r\n250 ENHANCEDSTATUSCODES")
    }

    async fn starttls(&mut self, arguments: &str) -> io::Result<()> {
        if !arguments.is_empty() {
            return self.connection.reply(SYNTAX).await;
        }
        if !self.needs_tls() {
            return self.connection.reply("503 5.5.1 STARTTLS is not offered").await;
        }
        let go_ahead = match self.shared.fault() {
            Fault::SpeaksBeforeTls => "220 2.0.0 Go ahead\r\n250-localhost\r\n250 AUTH PLAIN LOGIN",
            _ => "220 2.0.0 Go ahead",
        };
        self.connection.reply(go_ahead).await?;
        // What was sent in plaintext, including EHLO, is forgotten.
        self.end_transaction();
        self.greeted = false;
        self.pipelining = false;
        self.connection.encrypt().await
    }

    async fn auth(&mut self, arguments: &str) -> io::Result<&'static str> {
        if self.needs_tls() {
            return Ok("530 5.7.0 Must issue a STARTTLS command first");
        }
        if self.shared.credentials.is_none() {
            return Ok("502 5.5.1 AUTH is not offered");
        }
        if !self.greeted || self.user.is_some() || self.envelope.is_some() {
            return Ok("503 5.5.1 AUTH comes once, after EHLO and before MAIL");
        }
        let (mechanism, initial) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let mechanism = mechanism.to_ascii_uppercase();
        if !self.shared.mechanisms.split(' ').any(|offered| offered == mechanism) {
            return Ok("504 5.5.4 Not offered");
        }
        let response = match mechanism.as_str() {
            "XOAUTH2" | "OAUTHBEARER" => return self.token(&mechanism, initial).await,
            "PLAIN" if self.shared.fault() == Fault::NoPlain => return Ok("504 5.5.4 Not that one"),
            "PLAIN" => self.plain_response(initial).await?,
            "LOGIN" => self.login_response(initial).await?,
            _ => return Ok("504 5.5.4 Unknown mechanism"),
        };
        let Some((user, password)) = response else {
            return Ok("501 5.5.2 Cancelled, or not a response");
        };
        let wanted = self.shared.credentials.as_ref();
        if wanted.is_some_and(|wanted| {
            wanted.user == user && *wanted.password.lock().expect("no panic under this lock") == password
        }) {
            self.user = Some(user);
            return Ok("235 2.7.0 Authentication successful");
        }
        Ok("535 5.7.8 Username and password not accepted")
    }

    /// Takes a token; refuses another one by a challenge that says why (RFC 7628 section 3.2.3).
    async fn token(&mut self, mechanism: &str, initial: &str) -> io::Result<&'static str> {
        let response = match initial {
            "" => self.connection.challenge("").await?,
            initial => decode(initial),
        };
        let wanted = self.shared.credentials.as_ref().ok_or_else(ended)?;
        let auth =
            format!("\x01auth=Bearer {}\x01\x01", wanted.password.lock().expect("no panic under this lock"));
        let (is_right, acknowledgement) = if mechanism == "XOAUTH2" {
            (response == Some(format!("user={}{auth}", wanted.user)), "")
        } else {
            let response = response.unwrap_or_default();
            let start = format!("n,a={},\x01host=localhost\x01port=", wanted.user);
            let port = response.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&auth));
            (port.is_some_and(|port| port.parse::<u16>().is_ok()), "\x01")
        };
        if is_right {
            self.user = Some(wanted.user.clone());
            return Ok("235 2.7.0 Authentication successful");
        }
        match self.connection.challenge(r#"{"status":"invalid_token"}"#).await? {
            Some(answer) if answer == acknowledgement => Ok("535 5.7.8 Token not accepted"),
            _ => Ok("501 5.5.2 Not an acknowledgement"),
        }
    }

    async fn plain_response(&mut self, initial: &str) -> io::Result<Option<(String, String)>> {
        let response = match initial {
            "" => self.connection.challenge("").await?,
            initial => decode(initial),
        };
        Ok(response.and_then(|response| {
            let mut parts = response.split('\0').skip(1).map(str::to_owned);
            Some((parts.next()?, parts.next()?))
        }))
    }

    async fn login_response(&mut self, initial: &str) -> io::Result<Option<(String, String)>> {
        let user = match initial {
            "" if self.shared.fault() == Fault::NoPlain => self.connection.challenge("Who is there?").await?,
            "" => self.connection.challenge("Username:").await?,
            initial => decode(initial),
        };
        let Some(user) = user else {
            return Ok(None);
        };
        let password = self.connection.challenge("Password:").await?;
        Ok(password.map(|password| (user, password)))
    }

    fn mail(&mut self, arguments: &str) -> &'static str {
        if !self.greeted {
            return "503 5.5.1 Say EHLO first";
        }
        if self.needs_tls() {
            return "530 5.7.0 Must issue a STARTTLS command first";
        }
        if self.shared.credentials.is_some() && self.user.is_none() {
            return "530 5.7.0 Authentication required";
        }
        if self.envelope.is_some() {
            return "503 5.5.1 One mail at a time";
        }
        let Some((from, parameters)) = path(arguments, "FROM:") else {
            return SYNTAX;
        };
        let parameters = parameters.to_ascii_uppercase();
        let known = ["BODY=7BIT", "BODY=8BITMIME", "AUTH=<>"];
        if !parameters.split_ascii_whitespace().all(|parameter| known.contains(&parameter)) {
            return "555 5.5.4 Unknown parameter";
        }
        let to = Vec::new();
        self.envelope = Some(Envelope { from, to });
        "250 2.1.0 Ok"
    }

    fn rcpt(&mut self, arguments: &str) -> &'static str {
        let Some(envelope) = &mut self.envelope else {
            return "503 5.5.1 Need MAIL first";
        };
        let to = match path(arguments, "TO:") {
            Some((to, "")) if !to.is_empty() => to,
            _ => return SYNTAX,
        };
        let mut fault = self.shared.lock_fault();
        match &mut *fault {
            Fault::RefuseRecipient => return "550 5.1.1 No such mailbox",
            Fault::RefuseRecipientTransiently { times } if *times > 0 => {
                *times -= 1;
                return "451 4.7.1 Try again later";
            }
            Fault::RefuseRecipientTransiently { .. } => *fault = Fault::None,
            _ => {}
        }
        envelope.to.push(to);
        "250 2.1.5 Ok"
    }

    async fn data(&mut self) -> io::Result<&'static str> {
        if self.envelope.as_ref().is_none_or(|envelope| envelope.to.is_empty()) {
            return Ok("503 5.5.1 Need MAIL and RCPT first");
        }
        self.connection.reply("354 End data with <CR><LF>.<CR><LF>").await?;
        let raw = self.content().await?;
        self.shared.transmissions.fetch_add(1, Ordering::SeqCst);
        let envelope = self.end_transaction().ok_or_else(ended)?;
        if self.mails > 0 && self.shared.fault() == Fault::OneMailEach("CONTENT") {
            return Ok("452 4.5.3 Too many mails");
        }
        if self.shared.fault() == Fault::RefuseContent {
            return Ok("554 5.7.1 Message refused");
        }
        if let Some(reply) = self.answer("CONTENT") {
            return Ok(reply);
        }
        if raw.replace("\r\n", "").contains(['\r', '\n']) {
            return Ok("550 5.5.2 A line ends in CR LF, both of them");
        }
        let mail = ReceivedMail {
            from: envelope.from,
            to: envelope.to,
            raw,
            tls: self.connection.is_tls(),
            user: self.user.clone(),
        };
        let fault = self.shared.fault();
        self.shared.mails.send_modify(|mails| mails.push(mail));
        self.mails += 1;
        match fault {
            Fault::CloseAfterContent => return Err(ended()),
            Fault::SilentAfterContent => self.connection.stay_silent().await?,
            Fault::Slow(delay) | Fault::FewConnections { delay, .. } => time::sleep(delay).await,
            Fault::RepliesTwice => return Ok("250 2.0.0 Ok: queued\r\n250 2.0.0 Ok: queued"),
            _ => {}
        }
        Ok("250 2.0.0 Ok: queued")
    }

    /// Returns the message up to the dot. A dot counts only at the start of a line that follows a
    /// complete CR LF.
    async fn content(&mut self) -> io::Result<String> {
        let mut content = Vec::new();
        loop {
            let line = self.connection.line().await?;
            let fresh = content.is_empty() || content.ends_with(b"\r\n");
            if fresh && line == b".\r\n" {
                return Ok(text(&content));
            }
            let stuffed = fresh && line.starts_with(b".");
            content.extend_from_slice(&line[usize::from(stuffed)..]);
        }
    }

    /// Ends the transaction. A `DropIdle` from here on applies to this connection; one that came
    /// during the message does not.
    fn end_transaction(&mut self) -> Option<Envelope> {
        if self.envelope.is_some() {
            self.drop_idle.mark_unchanged();
        }
        self.envelope.take()
    }

    fn needs_tls(&self) -> bool {
        self.shared.security == Security::StartTls && !self.connection.is_tls()
    }

    async fn command(&mut self) -> io::Result<String> {
        let mut drop_idle = self.drop_idle.clone();
        let idle = self.envelope.is_none();
        tokio::select! {
            biased;
            Ok(()) = drop_idle.changed(), if idle => Err(ended()),
            line = self.connection.line() => Ok(text(&line?).trim_end().to_owned()),
        }
    }
}

/// Returns the command, if it is one that a connection may refuse after it has carried a message.
fn verb_of(verb: &str) -> &'static str {
    ["MAIL", "RCPT", "DATA"].into_iter().find(|known| *known == verb).unwrap_or("another")
}

/// Returns the address in `FROM:<address> PARAMETERS`, and the parameters.
fn path<'a>(arguments: &'a str, keyword: &str) -> Option<(String, &'a str)> {
    let (found, rest) = arguments.split_at_checked(keyword.len())?;
    let (address, parameters) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
    found.eq_ignore_ascii_case(keyword).then(|| (address.to_owned(), parameters.trim()))
}
