//! Whom to tell of a hole: `/.well-known/security.txt` (RFC 9116), where a contact is set.

use std::sync::Arc;
use std::time::Duration;

use poem::endpoint::make_sync;
use poem::http::Method;
use poem::http::header::CONTENT_TYPE;
use poem::{Response, Route, get};

use super::routes::RouteTable;
use crate::ports::Clock;

/// Its path.
pub const PATH: &str = "/.well-known/security.txt";
/// How long what it says can be relied on: less than a year (RFC 9116 section 2.5.5).
const VALIDITY: Duration = Duration::from_hours(30 * 24);

/// Adds the file: whom to tell, and the URL of the file, where it is known.
pub fn routes(
    routes: Route,
    table: &mut RouteTable,
    (contact, canonical): (String, Option<String>),
    clock: Arc<dyn Clock>,
) -> Route {
    table.add(PATH, &[Method::GET]);
    routes.at(PATH, get(make_sync(move |_| file(&contact, canonical.as_deref(), clock.as_ref()))))
}

fn file(contact: &str, canonical: Option<&str>, clock: &dyn Clock) -> Response {
    let expires = humantime::format_rfc3339_seconds(clock.now() + VALIDITY);
    let canonical = canonical.map(|url| format!("Canonical: {url}\n")).unwrap_or_default();
    Response::builder()
        .header(CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(format!("Contact: {contact}\nExpires: {expires}\n{canonical}"))
}
