//! Captured emails on the wire: a JSON list for scripts and tests, and the HTML of each.
//!
//! That HTML must not become part of the page of `otpd dev`. It is a document with its own policy,
//! which the page shows in a sandboxed frame.

use std::time::UNIX_EPOCH;

use poem::web::Json;
use poem::{IntoResponse as _, Request, Response};
use serde::{Deserialize, Serialize};

use super::{docs, elsewhere, origin};
use crate::api::rejection::{ErrorFormat, MalformedReason, Rejection};
use crate::domain::email_address::EmailAddress;
use crate::domain::typed;
use crate::ports::{CapturedMail, Mailbox};

/// Allows inline styles, which emails use, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'self'; sandbox";

#[derive(Deserialize)]
struct Filter {
    to: Option<String>,
}

/// A captured email on the wire.
#[derive(Serialize)]
pub(super) struct Mail {
    to: String,
    from: String,
    subject: String,
    text: String,
    html: String,
    /// Milliseconds since the Unix epoch.
    received_at: u64,
    /// Names and values.
    headers: Vec<(String, String)>,
}

/// Returns the emails as JSON, newest first. With `to` in the query, only those to that address.
pub(super) fn list(request: &Request, mailbox: &dyn Mailbox) -> Response {
    if origin::own_host(request).is_none() {
        return elsewhere(request);
    }
    let malformed = || Rejection::Malformed(MalformedReason::Unreadable).response(ErrorFormat::Message);
    let Ok(filter) = request.params::<Filter>() else { return malformed() };
    // An unescaped plus sign was decoded as a space, which an address cannot contain.
    let Ok(to) = filter.to.map(|to| EmailAddress::parse(&typed::trim(&to).replace(' ', "+"))).transpose()
    else {
        return malformed();
    };
    let mails: Vec<_> = mailbox.captured(to.as_ref()).into_iter().map(Mail::from).collect();
    Json(mails).into_response()
}

/// Returns the HTML of the email with the number in the path.
pub(super) fn html(request: &Request, mailbox: &dyn Mailbox) -> Response {
    let number = request.path_params::<u64>().ok().filter(|_| origin::own_host(request).is_some());
    let mail = mailbox.captured(None).into_iter().find(|mail| Some(mail.number) == number);
    mail.map_or_else(|| elsewhere(request), |mail| docs::page(mail.html.into(), POLICY))
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
            headers: mail.headers,
        }
    }
}
