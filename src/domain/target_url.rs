//! URLs that otpd itself sends requests to.
//!
//! Must not resolve names: the address that a name has is checked when otpd connects.

use std::fmt;

use super::host::Host;
use super::origin;

/// A URL of `https`, or of `http` on this machine. May contain a secret in its path.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl {
    /// As written, with scheme and host in lower case and without the usual port.
    text: String,
    /// Scheme, host and port.
    origin: String,
    host: Host,
}

impl TargetUrl {
    /// Parses a URL with a host and an optional path and query.
    ///
    /// # Errors
    /// Describes what is wrong with the URL; `example` is the URL that messages show.
    pub fn parse(text: &str, example: &str) -> Result<Self, String> {
        let scheme_missing = || format!("must begin with https://, as {example} does");
        let (scheme, rest) = text.split_once("://").ok_or_else(scheme_missing)?;
        let scheme = scheme.to_ascii_lowercase();
        let usual_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(scheme_missing()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let origin = origin::web_origin(&scheme, authority, usual_port)?;
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&b);
        if !path.bytes().all(is_allowed) {
            let reason = "has a fragment, or a character that must be percent-encoded in a URL";
            return Err(format!("{reason}: write it as {example}"));
        }
        let (_, authority) = origin.split_once("://").ok_or_else(scheme_missing)?;
        let (host, _) = Host::parse_with_port(authority).ok_or_else(scheme_missing)?;
        if scheme == "http" && !host.is_loopback() {
            return Err(format!(
                "must begin with https:// unless the host is this machine, as {example} does"
            ));
        }
        Ok(Self { text: format!("{origin}{path}"), origin, host })
    }

    /// Returns the whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the URL of a path below this one, such as `/emails`.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text.trim_end_matches('/'))
    }

    /// Returns whether it has a query, so that no path can follow.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.text.contains('?')
    }

    /// Returns scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }
}

impl fmt::Debug for TargetUrl {
    /// Shows no path, because the URLs of some services contain a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetUrl({}/…)", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "https://hook.example/otpd";

    #[test]
    fn a_url_of_https_or_of_this_machine_is_a_target() {
        for (typed, url, host) in [
            ("https://hook.example", "https://hook.example", "hook.example"),
            ("HTTPS://Hook.Example:443/a/b/", "https://hook.example/a/b/", "hook.example"),
            ("https://hook.example:8443/a?b=c", "https://hook.example:8443/a?b=c", "hook.example"),
            ("http://127.0.0.1:9000/hook", "http://127.0.0.1:9000/hook", "127.0.0.1"),
            ("http://localhost:9000/hook", "http://localhost:9000/hook", "localhost"),
            ("http://[::1]:9000", "http://[::1]:9000", "[::1]"),
            ("https://10.0.0.1/hook", "https://10.0.0.1/hook", "10.0.0.1"),
        ] {
            let target = TargetUrl::parse(typed, EXAMPLE).unwrap();
            assert_eq!((target.as_str(), target.host().to_string().as_str()), (url, host), "{typed}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (typed, reason) in [
            ("", "https://"),
            ("hook.example", "https://"),
            ("ftp://hook.example", "https://"),
            ("http://hook.example/a", "unless the host is this machine"),
            ("http://10.0.0.1/a", "unless the host is this machine"),
            ("http://127.1/a", "unless the host is this machine"),
            ("http://localhost.example/a", "unless the host is this machine"),
            ("https://user:word@hook.example", "user or a password"),
            ("https://hook.example/#a", "fragment"),
            ("https://hook.example/a b", "percent-encoded"),
            ("https://hook.example/a\r\nHost: b", "percent-encoded"),
            ("https://", "no host"),
        ] {
            let refused = TargetUrl::parse(typed, EXAMPLE).unwrap_err();
            assert!(refused.contains(reason), "{typed}: {refused}");
        }
    }

    #[test]
    fn a_path_is_joined_with_one_slash() {
        for base in ["https://api.example/v2", "https://api.example/v2/", "https://api.example/v2//"] {
            assert_eq!(
                TargetUrl::parse(base, EXAMPLE).unwrap().join("/emails"),
                "https://api.example/v2/emails"
            );
        }
    }

    #[test]
    fn debug_shows_no_path() {
        let target = TargetUrl::parse("https://hook.example/services/secret?key=secret", EXAMPLE).unwrap();
        assert_eq!(format!("{target:?}"), "TargetUrl(https://hook.example/…)");
    }
}
