//! Swagger UI and the OpenAPI document, served from the binary.
//!
//! The page must not load anything from elsewhere: its Content-Security-Policy allows only the
//! hashes of its own scripts and styles.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use poem::endpoint::make_sync;
use poem::http::Method;
use poem::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use poem::{Body, Response, Route, get};
use poem_openapi::{OpenApi, OpenApiService};
use sha2::{Digest as _, Sha256};

use super::routes::RouteTable;
use super::spec::Document;

/// The start of the Swagger UI page. The framework's own head has no document type, language or
/// viewport. It has no icon either, so browsers would request one that does not exist. On a phone
/// the tables scroll separately instead of the whole page.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
    <link rel=\"icon\" href=\"data:,\">\n\
    <style>.swagger-ui .responses-inner, .swagger-ui .renderedMarkdown, \
    .swagger-ui .models { overflow-x: auto }</style>";

/// Adds the routes that serve the documents of an API. Requests from the page go to the public URL
/// if it is set, else to the origin that served the page.
///
/// Each document is made of the service that `api` creates when it is first opened, because they
/// take more memory than the rest of an idle process.
pub(super) fn routes<T: OpenApi + 'static>(
    routes: Route,
    table: &mut RouteTable,
    api: impl Fn() -> OpenApiService<T, ()> + Clone + Send + Sync + 'static,
    has_public_url: bool,
) -> Route {
    for path in ["/docs", "/openapi.json", "/openapi.yaml"] {
        table.add(path, &[Method::GET]);
    }
    let (of_json, of_yaml) = (api.clone(), api.clone());
    let json = LazyLock::new(move || Bytes::from(Document::of(&of_json()).json()));
    let yaml = LazyLock::new(move || Bytes::from(Document::of(&of_yaml()).yaml()));
    let ui = LazyLock::new(move || {
        let api = api();
        let document = Document::of(&api);
        let document = if has_public_url { document } else { document.relative() };
        Page::of(&api, &document.json())
    });
    routes
        .at("/docs", get(make_sync(move |_| page(ui.html.clone(), &ui.policy))))
        .at("/openapi.json", get(make_sync(move |_| respond(json.clone(), "application/json"))))
        .at("/openapi.yaml", get(make_sync(move |_| respond(yaml.clone(), "application/yaml"))))
}

/// The page with Swagger UI.
struct Page {
    html: Bytes,
    policy: String,
}

impl Page {
    /// Makes the page of an API. Replaces the framework's document in the page with ours. Escaping
    /// `</` keeps text in it from ending the script.
    fn of<T: OpenApi>(api: &OpenApiService<T, ()>, json: &str) -> Self {
        let json = json.replace("</", "<\\/");
        let html = with_head(&api.swagger_ui_html().replacen(&api.spec(), &json, 1));
        Self { policy: policy(&html), html: html.into() }
    }
}

/// Returns an HTML page with its Content-Security-Policy.
pub(super) fn page(html: Bytes, policy: &str) -> Response {
    Response::builder()
        .header(CONTENT_TYPE, "text/html; charset=utf-8")
        .header(CONTENT_SECURITY_POLICY, policy)
        .header(REFERRER_POLICY, "no-referrer")
        .body(Body::from_bytes(html))
}

fn with_head(html: &str) -> String {
    let (_, rest) = html.split_once("<head>").unwrap_or(("", html));
    format!("{HEAD}{rest}")
}

fn respond(content: Bytes, content_type: &str) -> Response {
    Response::builder().header(CONTENT_TYPE, content_type).body(Body::from_bytes(content))
}

/// Returns a policy that allows a page its inline scripts and styles and requests to its own
/// origin, and nothing else.
pub(super) fn policy(html: &str) -> String {
    let scripts = hashes(html, "<script", "</script>");
    let styles = hashes(html, "<style", "</style>");
    format!(
        "default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Returns the hashes of the inline elements of one kind, as a source list (CSP level 3 section
/// 2.3.1).
fn hashes(html: &str, open: &str, close: &str) -> String {
    let mut sources = Vec::new();
    let mut rest = html;
    while let Some((_, element)) = rest.split_once(open) {
        let Some((_, body)) = element.split_once('>') else { break };
        let Some((content, behind)) = body.split_once(close) else { break };
        sources.push(format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content))));
        rest = behind;
    }
    if sources.is_empty() { "'none'".to_owned() } else { sources.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_our_head_and_the_frameworks_content() {
        let page = with_head("\n<html charset>\n<head>\n<title>T</title></head><body></body></html>");
        assert!(
            page.starts_with("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta name=\"viewport\""),
            "{page}"
        );
        assert!(page.ends_with("\n<title>T</title></head><body></body></html>"), "{page}");
        assert_eq!(page.matches("<html").count(), 1, "{page}");
    }

    #[test]
    fn the_policy_names_each_inline_element() {
        let policy = policy("<style a>b</style><script>x</script><script type='m'>y</script>");
        // printf x | openssl dgst -sha256 -binary | base64
        assert!(
            policy.contains("script-src 'sha256-LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE='"),
            "{policy}"
        );
        assert_eq!(policy.matches("sha256-").count(), 3);
        assert!(!policy.contains("unsafe"));
    }
}
