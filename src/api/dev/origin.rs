//! Tells requests to this machine under its own name from those of other origins.

use poem::Request;
use poem::http::header::{HOST, ORIGIN};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Returns the requested host if it names this machine. A page elsewhere whose name resolves to
/// this machine must not read codes (DNS rebinding).
pub(super) fn own_host(request: &Request) -> Option<&str> {
    let host = request.header(HOST)?;
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let is_own = |own: &&str| own.eq_ignore_ascii_case(name);
    ["localhost", "127.0.0.1", "[::1]"].iter().any(is_own).then_some(host)
}

/// Like [`own_host`], but `None` if the request comes from a page of another origin, even one that
/// may call the API.
pub(super) fn host_for_own_page(request: &Request) -> Option<&str> {
    let host = own_host(request)?;
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let own = format!("http://{host}");
    origins.all(|origin| own.as_bytes().eq_ignore_ascii_case(origin.as_bytes())).then_some(host)
}

/// Returns whether the request comes from this page, or from a program such as curl. A page of
/// another site must not change state or hold connections here.
pub(super) fn is_own_page(request: &Request) -> bool {
    let mut sites = request.headers().get_all(SEC_FETCH_SITE).iter();
    host_for_own_page(request).is_some() && sites.all(|site| site == "same-origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.finish()
    }

    #[test]
    fn this_machine_has_three_names() {
        for host in ["localhost", "LocalHost:5000", "127.0.0.1:1", "[::1]", "[::1]:5000"] {
            assert_eq!(own_host(&asked(&[("host", host)])), Some(host));
        }
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.1.x", "localhost:x", "::1", ""] {
            assert_eq!(own_host(&asked(&[("host", host)])), None, "{host}");
        }
        assert_eq!(own_host(&asked(&[])), None);
    }

    #[test]
    fn a_page_of_another_origin_is_none_of_ours() {
        let host = ("host", "localhost:5000");
        let ours = ("origin", "http://localhost:5000");
        for headers in [&[host][..], &[host, ours], &[host, ours, (SEC_FETCH_SITE, "same-origin")]] {
            assert!(is_own_page(&asked(headers)), "{headers:?}");
        }
        for headers in [
            &[host, ("origin", "http://evil.example")][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://localhost:5001")],
            &[host, ("origin", "https://localhost:5000")],
            &[host, ours, ("origin", "http://evil.example")],
            &[host, (SEC_FETCH_SITE, "cross-site")],
            &[host, ours, (SEC_FETCH_SITE, "same-site")],
            &[("host", "evil.example"), ("origin", "http://evil.example")],
        ] {
            assert!(!is_own_page(&asked(headers)), "{headers:?}");
        }
    }
}
