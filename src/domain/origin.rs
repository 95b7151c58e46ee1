//! Web origins (RFC 6454), as browsers send them in `Origin`.

use super::host::Host;

/// A web origin (RFC 6454), written as browsers send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Returns the value of the `Origin` header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses scheme, host and port. Any scheme is accepted, because apps and extensions have their
    /// own.
    ///
    /// # Errors
    /// Returns why the text is not the origin of a page.
    pub fn parse(text: &str) -> Result<Self, String> {
        let reason = match text {
            "*" => Some("every page is not a list: write each origin, such as https://app.example"),
            "null" => {
                Some("every sandboxed page and every file has this origin: give the page its own address")
            }
            _ if text.contains('*') => Some("wildcards are not supported: list each origin"),
            _ if text.contains(['"', '\'', '`']) => Some("leave the quotes out"),
            _ if text.contains(|c: char| c.is_whitespace() || c == ';') => {
                Some("put a comma between two origins, and no other space in one")
            }
            _ if text.contains('@') => Some("a user or a password is not part of an origin"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(reason.to_owned());
        }
        let (scheme, rest) =
            text.split_once("://").ok_or("the scheme is missing: write it as https://app.example")?;
        let scheme = scheme.to_ascii_lowercase();
        if !is_scheme(&scheme) {
            return Err("the scheme before :// may contain only letters, digits, +, - and .".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        let origin = match scheme.as_str() {
            "http" => web_origin("http", authority, 80),
            "https" => web_origin("https", authority, 443),
            _ if is_opaque_host(authority) => Ok(format!("{scheme}://{authority}")),
            _ => Err("the host is missing or has characters that no host has".to_owned()),
        };
        let origin = origin?;
        // Browsers show one slash after every host.
        if ["", "/"].contains(&path) {
            Ok(Self(origin))
        } else {
            Err("has a path: leave it out, as in https://app.example".to_owned())
        }
    }
}

/// Returns the origin of a web page without the default port of its scheme, as browsers write it.
///
/// # Errors
/// Returns why there is none.
pub fn web_origin(scheme: &str, authority: &str, usual_port: u16) -> Result<String, String> {
    let wrong =
        || "has no host, or a wrong port: write it as https://app.example or https://app.example:8443";
    if authority.contains('@') {
        return Err("has a user or a password: leave it out, as in https://app.example".to_owned());
    }
    if authority.split(':').next().is_some_and(|host| host.len() > 1 && host.ends_with('.')) {
        return Err(
            "has a host with a final dot, which browsers take for another host: leave the dot out".to_owned()
        );
    }
    let authority = authority.to_ascii_lowercase();
    // Browsers send a Unicode name with A-labels.
    let ascii = if authority.is_ascii() { Ok(authority) } else { idna::domain_to_ascii(&authority) };
    let ascii = ascii.map_err(|_| wrong())?;
    let (host, port) = Host::parse_with_port(&ascii).ok_or_else(wrong)?;
    Ok(match port.filter(|port| *port != usual_port) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// Returns whether it is a scheme (RFC 3986 section 3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Returns whether it can be the host of a scheme other than http and https, such as `localhost`,
/// `.` or the id of an extension.
fn is_opaque_host(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b);
    !text.is_empty() && text.len() <= 253 && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for (typed, sent) in [
            ("https://app.example", "https://app.example"),
            ("https://app.example/", "https://app.example"),
            ("capacitor://localhost/", "capacitor://localhost"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:80", "http://[::1]"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("Ionic://localhost", "ionic://localhost"),
            ("tauri://localhost", "tauri://localhost"),
            ("app://.", "app://."),
            ("app://bundle:8080", "app://bundle:8080"),
            (
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            ),
            (
                "moz-extension://8dcf6b7e-5f7e-4a8a-9a4c-0f6f4c1d2e3f",
                "moz-extension://8dcf6b7e-5f7e-4a8a-9a4c-0f6f4c1d2e3f",
            ),
        ] {
            assert_eq!(Origin::parse(typed).unwrap().as_str(), sent);
        }
    }

    #[test]
    fn what_is_no_exact_origin_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "the scheme is missing"),
            ("*", "write each origin"),
            ("null", "sandboxed"),
            ("app.example", "the scheme is missing: write it as https://app.example"),
            ("//app.example", "the scheme is missing: write it as https://app.example"),
            ("https://", "no host"),
            ("file://", "host is missing"),
            ("HTTPS://App.example/path", "has a path"),
            ("https://app.example//", "has a path"),
            ("https://*.app.example", "wildcards are not supported"),
            ("https://user@app.example", "user or a password"),
            ("1tp://app.example", "scheme"),
            ("https://app.example:0", "wrong port"),
            ("https://app.example.", "a final dot"),
            ("https://app.example.:8443", "a final dot"),
            ("https://app.example?x", "has a path"),
            ("https://app example", "put a comma"),
            ("https://a.example;https://b.example", "put a comma"),
            ("\"https://a.example\"", "quotes"),
            ("app://a%b", "characters"),
            ("https://app.example\r\n", "put a comma"),
        ] {
            let refused = Origin::parse(text).unwrap_err();
            assert!(refused.contains(reason), "{text:?}: {refused}");
        }
    }
}
