//! The contact for security reports: `/.well-known/security.txt` (RFC 9116), if one is configured.

use std::sync::Arc;
use std::time::Duration;

use poem::endpoint::make_sync;
use poem::http::Method;
use poem::http::header::CONTENT_TYPE;
use poem::{Response, Route, get};

use super::routes::RouteTable;
use crate::ports::Clock;

/// The path of the file.
pub(super) const PATH: &str = "/.well-known/security.txt";
/// How long the file is valid: less than a year (RFC 9116 section 2.5.5).
const VALIDITY: Duration = Duration::from_hours(30 * 24);

/// Adds the route. `canonical` is the URL of the file, if the public URL is known.
pub(super) fn routes(
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
