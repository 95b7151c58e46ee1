//! Whom to tell of a hole: `/.well-known/security.txt` (RFC 9116), where a contact is set.

use std::sync::Arc;
use std::time::Duration;

use poem::endpoint::make_sync;
use poem::http::Method;
use poem::http::header::CONTENT_TYPE;
use poem::{Response, Route, get};

use super::routes::RouteTable;
use crate::ports::Clock;

const PATH: &str = "/.well-known/security.txt";
/// How long what it says can be relied on: less than a year (RFC 9116 section 2.5.5).
const GOOD_FOR: Duration = Duration::from_hours(30 * 24);

/// Adds the file.
pub fn routes(routes: Route, table: &mut RouteTable, contact: String, clock: Arc<dyn Clock>) -> Route {
    table.add(PATH, &[Method::GET]);
    routes.at(PATH, get(make_sync(move |_| file(&contact, clock.as_ref()))))
}

fn file(contact: &str, clock: &dyn Clock) -> Response {
    let expires = humantime::format_rfc3339_seconds(clock.now() + GOOD_FOR);
    Response::builder()
        .header(CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(format!("Contact: {contact}\nExpires: {expires}\n"))
}
