//! Trailing slashes: `/docs/` is the same resource as `/docs`.
//!
//! A GET is redirected, so that relative links of a page resolve correctly. Other methods are
//! served directly, because clients do not resend a body after a redirect. Must redirect only to
//! routes of this service.

use poem::http::header::LOCATION;
use poem::http::{HeaderValue, Method, StatusCode, Uri};
use poem::{IntoResponse as _, Request, Response};

use super::routes::{RouteTable, without_slash};

/// Returns the redirect to the path without its trailing slash, or takes the slash off the path, if
/// that leads to a route.
pub(super) fn take_off(request: &mut Request, routes: &RouteTable) -> Option<Response> {
    let path = request.uri().path();
    let shorter = without_slash(path).filter(|_| routes.template(path).is_some())?;
    let query = request.uri().query();
    if [Method::GET, Method::HEAD].contains(request.method())
        && let Some(location) = sibling(shorter, query)
    {
        return Some(StatusCode::PERMANENT_REDIRECT.with_header(LOCATION, location).into_response());
    }
    let shorter = query.map_or_else(|| shorter.to_owned(), |query| format!("{shorter}?{query}"));
    if let Ok(uri) = Uri::try_from(shorter) {
        *request.uri_mut() = uri;
    }
    None
}

/// Returns a reference from a path with a trailing slash to the path without it. It is relative, so
/// that it works under any prefix that a proxy removes, and cannot lead to another host.
fn sibling(path: &str, query: Option<&str>) -> Option<HeaderValue> {
    let (_, last) = path.rsplit_once('/')?;
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    HeaderValue::from_str(&format!("../{last}{query}")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_slash_is_taken_off_and_no_more() {
        for (path, shorter) in [
            ("/docs/", Some("/docs")),
            ("/v1/verifications/x/", Some("/v1/verifications/x")),
            ("/docs", None),
            ("/", None),
            ("//", None),
            ("/docs//", None),
        ] {
            assert_eq!(without_slash(path), shorter, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_redirect_is_a_relative_path_with_the_query(
            path in "/[!-~]{0,20}", query in proptest::option::of("[!-~]{0,20}")
        ) {
            let location = sibling(&path, query.as_deref()).unwrap();
            let location = location.to_str().unwrap();
            prop_assert!(location.starts_with("../") && !location[3..].starts_with('/'));
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            prop_assert!(location.ends_with(&query));
        }
    }
}
