//! The page of `otpd dev`: type an address, read the mail, verify.
//!
//! Must only be mounted over a mailbox that captures mails: it shows codes to whoever asks.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use poem::endpoint::make_sync;
use poem::http::Method;
use poem::http::header::HOST;
use poem::web::Json;
use poem::{IntoResponse, Request, Response, Route, get};
use serde::{Deserialize, Serialize};

use super::docs;
use super::refusal::{Flaw, Form, Refusal};
use super::routes::RouteTable;
use crate::domain::email_address::EmailAddress;
use crate::ports::{CapturedMail, Mailbox};

/// Adds the page and the captured mails.
pub fn routes(routes: Route, table: &mut RouteTable, mailbox: Arc<dyn Mailbox>) -> Route {
    const HTML: &str = include_str!("dev.html");
    let policy = docs::policy(HTML);
    table.add("/dev", &[Method::GET]);
    table.add("/dev/mails", &[Method::GET]);
    routes
        .at("/dev", get(make_sync(move |_| docs::page(Bytes::from_static(HTML.as_bytes()), &policy))))
        .at("/dev/mails", get(make_sync(move |request| mails(&request, mailbox.as_ref()))))
}

/// Whether a browser asked for this machine by its own name: a page elsewhere that has its name point here must not
/// read codes (DNS rebinding).
fn is_asked_by_name(request: &Request) -> bool {
    let host = request.header(HOST).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    ["localhost", "127.0.0.1", "[::1]"].contains(&name.map_or(host, |(name, _)| name))
}

#[derive(Deserialize)]
struct Filter {
    to: Option<String>,
}

/// A captured mail on the wire.
#[derive(Serialize)]
struct Mail {
    to: String,
    from: String,
    subject: String,
    text: String,
    html: String,
    /// Milliseconds since the Unix epoch.
    received_at: u64,
}

fn mails(request: &Request, mailbox: &dyn Mailbox) -> Response {
    if !is_asked_by_name(request) {
        return Refusal::NotFound.response(Form::Message);
    }
    let malformed = || Refusal::Malformed(Flaw::Unreadable).response(Form::Message);
    let Ok(filter) = request.params::<Filter>() else { return malformed() };
    // A plus sign that was not escaped has become a space, which no address has.
    let Ok(to) = filter.to.map(|to| EmailAddress::parse(&to.trim().replace(' ', "+"))).transpose() else {
        return malformed();
    };
    let mails: Vec<_> = mailbox.captured(to.as_ref()).into_iter().map(Mail::from).collect();
    Json(mails).into_response()
}

impl From<CapturedMail> for Mail {
    fn from(mail: CapturedMail) -> Self {
        let received_at = mail.received_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            to: mail.to,
            from: mail.from,
            subject: mail.subject,
            text: mail.text,
            html: mail.html,
            received_at: u64::try_from(received_at.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
