//! The page of `otpd dev`: enter an address, read the email, verify the code, and see each call.
//!
//! Must only be mounted over a mailbox that captures email. The page shows codes and an API key to
//! everyone who reaches this machine under its own name, and must not show them to anyone else.

mod events;
mod mails;
mod origin;

use std::net::SocketAddr;
use std::sync::Arc;

use poem::endpoint::make_sync;
use poem::http::{Method, StatusCode};
use poem::{IntoResponse as _, Request, Response, Route, get, post};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::events::Events;
use super::docs;
use super::rejection::{self, ErrorFormat, Rejection};
use super::routes::RouteTable;
use crate::domain::fault_plan::{FaultPlan, InjectedFault};
use crate::ports::Mailbox;

/// The page, with the placeholders `{{docs}}`, `{{faults}}`, `{{host}}` and `{{key}}`. None of
/// them is in a script or a style, so the CSP hashes of those stay valid.
const HTML: &str = concat!(
    include_str!("dev/head.html"),
    "<style>\n",
    include_str!("dev/page.css"),
    "</style>\n",
    include_str!("dev/body.html"),
    "<script type=\"module\">\n",
    include_str!("dev/calls.js"),
    include_str!("dev/limits.js"),
    include_str!("dev/mails.js"),
    include_str!("dev/page.js"),
    "</script>\n</body>\n</html>\n",
);

/// The link to the API documentation.
const DOCS_LINK: &str = "<a href=\"/docs\">API documentation</a>";

/// The dependencies of the page.
pub struct Dev {
    /// The captured emails.
    pub mailbox: Arc<dyn Mailbox>,
    /// The API key for v1, generated at start.
    pub key: Zeroizing<String>,
    /// Clears all verifications, ledgers and idempotency keys.
    pub reset: Box<dyn Fn() + Send + Sync>,
    /// The faults that are injected.
    pub plan: FaultPlan,
    /// Announces each fault that is injected.
    pub injected: broadcast::Sender<InjectedFault>,
    /// Cancelled at shutdown, which ends event streams.
    pub stopping: CancellationToken,
}

impl Dev {
    /// Adds the page and the routes that it calls.
    pub fn routes(self, routes: Route, table: &mut RouteTable, has_docs: bool) -> Route {
        let Self { mailbox, key, reset, plan, injected, stopping } = self;
        for path in ["/dev", "/dev/mails", "/dev/mails/{number}/html", "/dev/events"] {
            table.add(path, &[Method::GET]);
        }
        table.add("/dev/reset", &[Method::POST]);
        let policy = format!("{}; frame-src 'self'", docs::policy(HTML));
        let html = HTML.replace("{{docs}}", if has_docs { DOCS_LINK } else { "" });
        let html = html.replace("{{faults}}", &notice(&plan));
        let events = Events::new(Arc::clone(&mailbox), injected, stopping);
        let html_of = Arc::clone(&mailbox);
        routes
            .at("/dev", get(make_sync(move |request| page(&html, &request, &policy, &key))))
            .at("/dev/mails", get(make_sync(move |request| mails::list(&request, mailbox.as_ref()))))
            .at("/dev/mails/:number/html", get(make_sync(move |it| mails::html(&it, html_of.as_ref()))))
            .at("/dev/events", get(make_sync(move |request| events.open(&request))))
            .at("/dev/reset", post(make_sync(move |request| forget(&request, &reset))))
    }
}

/// Returns the paragraph that names the injected faults. It is empty if there are none.
fn notice(plan: &FaultPlan) -> String {
    if plan.is_empty() {
        return String::new();
    }
    format!(
        "\n<p id=\"faults\"><strong>Faults are injected on purpose:</strong> <code>--fail</code> {plan}. \
         What is made to fail is noted under <a href=\"#calls-title\">Calls</a>.</p>"
    )
}

fn page(html: &str, request: &Request, policy: &str, key: &str) -> Response {
    let Some(host) = origin::host_for_own_page(request) else { return elsewhere(request) };
    docs::page(html.replace("{{host}}", host).replace("{{key}}", key).into(), policy)
}

fn forget(request: &Request, reset: &(dyn Fn() + Send + Sync)) -> Response {
    if !origin::is_own_page(request) {
        return elsewhere(request);
    }
    reset();
    StatusCode::NO_CONTENT.into_response()
}

/// Answers a request that may not use the page. A request under another name of this machine
/// gets the right one; a page of another origin gets nothing.
fn elsewhere(request: &Request) -> Response {
    if origin::own_host(request).is_some() {
        return Rejection::NotFound.response(ErrorFormat::Message);
    }
    let port = request.local_addr().as_socket_addr().map_or(5000, SocketAddr::port);
    let open = format!(
        "/dev is a page of otpd dev that shows captured mails; it answers only under this machine's own name: \
         open http://localhost:{port}/dev on the machine that otpd dev runs on"
    );
    rejection::message(StatusCode::MISDIRECTED_REQUEST, &open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_the_page_stands_outside_of_scripts_and_styles() {
        let filled = HTML
            .replace("{{docs}}", DOCS_LINK)
            .replace("{{faults}}", &notice(&"send=30%,slow=2s".parse().unwrap()))
            .replace("{{host}}", "localhost:1")
            .replace("{{key}}", "otpd_x");
        assert_eq!(docs::policy(&filled), docs::policy(HTML));
        assert!(!filled.contains("{{") && filled.contains("otpd_x"));
        assert!(filled.contains("send=30%, slow=2s"));
        // The browser runs exactly what was hashed: no element ends early.
        assert_eq!(HTML.matches("</script").count(), 1);
        assert_eq!(HTML.matches("</style").count(), 1);
    }
}
