//! Address of Redis, as one URL.
//!
//! A URL can contain a password, so `Debug` and faults never show it. Must not connect.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::dangerous::Dangerous;
use super::reader::Reader;
use crate::domain::host::Host;

/// Setting and value that fix plaintext to another machine if Redis is set by URL.
const TLS_URL: (&str, &str) = ("redis.url", "rediss://user:password@redis.example.com:6379/0");
/// The same if Redis is set by host and port.
const TLS: (&str, &str) = ("redis.tls", "true");

/// Where verifications are stored.
#[derive(Clone)]
pub struct Redis {
    /// `redis://`, `rediss://` or `unix://`.
    pub url: SecretString,
    /// Whether open codes expire when a replica takes over (`redis.fence`).
    pub fence: bool,
}

/// The connection to Redis, as far as its security is concerned.
#[derive(Debug, PartialEq, Eq)]
enum Wire {
    Plaintext(Host),
    Tls,
    Socket,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis(***)")
    }
}

/// Redis by host and port.
struct HostSettings<'a> {
    host: &'a str,
    port: u16,
    db: u16,
    username: &'a str,
    password: &'a str,
    tls: bool,
}

/// Reads the section `redis`: the URL, or otherwise host, port, database, login and TLS.
pub(super) fn read(reader: &mut Reader<'_>, dangerous: Dangerous) -> Option<Redis> {
    let url = reader.text("redis.url");
    let host = reader.text("redis.host");
    let port = reader.number("redis.port", 1..=u16::MAX);
    let db = reader.number("redis.db", 0..=u16::MAX);
    let username = reader.text("redis.username");
    let password = reader.verbatim("redis.password");
    let tls = reader.flag("redis.tls");
    let fence = reader.flag("redis.fence");
    let username = username?;
    let password = password?;
    let tls = tls?;
    let (key, (cure, value), url, wire) = match url? {
        "" => {
            let settings = HostSettings { host: host?, port: port?, db: db?, username, password, tls };
            let (url, wire) = from_host(reader, &settings)?;
            ("redis.host", TLS, url, wire)
        }
        url => {
            without_effect(reader, username, password, tls);
            match wire(url) {
                Ok(wire) => ("redis.url", TLS_URL, Zeroizing::new(url.to_owned()), wire),
                Err(why) => return reader.refuse("redis.url", why),
            }
        }
    };
    match wire {
        Wire::Plaintext(host) if !host.is_loopback() && !dangerous.plaintext_redis => {
            let tls = if key == "redis.url" { "rediss:// in REDIS_URL" } else { "REDIS_TLS=true" };
            let what = format!(
                "would reach another machine in plaintext: use TLS ({tls}), a Redis or a TLS tunnel on this machine, or \
                 set OTP_DANGEROUS__PLAINTEXT_REDIS=true"
            );
            let line = reader.line(cure, value);
            reader.refuse_for(key, &what, &line)
        }
        Wire::Plaintext(_) | Wire::Tls | Wire::Socket => {
            Some(Redis { url: url.as_str().into(), fence: fence? })
        }
    }
}

/// Warns of settings that have no effect because a URL is set.
fn without_effect(reader: &mut Reader<'_>, username: &str, password: &str, tls: bool) {
    let set = [
        ("redis.username", !username.is_empty()),
        ("redis.password", !password.is_empty()),
        ("redis.tls", tls),
    ];
    for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
        reader.warn(
            key,
            "has no effect, because REDIS_URL is set: the URL holds it, as rediss://user:password@host",
        );
    }
}

fn from_host(reader: &mut Reader<'_>, settings: &HostSettings<'_>) -> Option<(Zeroizing<String>, Wire)> {
    let HostSettings { host, port, db, username, password, tls } = settings;
    if host.is_empty() {
        return reader.refuse("redis.host", "is missing: where verifications live; or set REDIS_URL");
    }
    let Some(host) = Host::parse_absolute(host) else {
        return reader
            .refuse("redis.host", "must be a host name or an IP address; a URL goes into REDIS_URL");
    };
    if !username.is_empty() && password.is_empty() {
        let line = reader.line("redis.password", "<the password of Redis>");
        return reader.refuse_for("redis.username", "is set, but REDIS_PASSWORD is not", &line);
    }
    let encoded = |text| Zeroizing::new(utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
    let login = if password.is_empty() {
        Zeroizing::default()
    } else {
        Zeroizing::new(format!("{}:{}@", *encoded(username), *encoded(password)))
    };
    let scheme = if *tls { "rediss" } else { "redis" };
    let url = Zeroizing::new(format!("{scheme}://{}{host}:{port}/{db}", *login));
    Some((url, if *tls { Wire::Tls } else { Wire::Plaintext(host) }))
}

/// Returns the kind of connection that a URL means, or what is wrong with the URL.
fn wire(url: &str) -> Result<Wire, &'static str> {
    let form = "must have the form rediss://user:password@host:port/db or unix:///path; in a password, \
                percent-encode characters such as / ? # @ and :";
    let (scheme, rest) = url.split_once("://").ok_or("must begin with redis://, rediss:// or unix://")?;
    // `#insecure` would disable the verification of the server's certificate.
    let is_plain = rest.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'\\');
    if !is_plain {
        return Err(form);
    }
    match scheme.to_ascii_lowercase().as_str() {
        "unix" => rest.starts_with('/').then_some(Wire::Socket).ok_or(form),
        "redis" => host_of(rest).map(Wire::Plaintext).ok_or(form),
        "rediss" => host_of(rest).map(|_| Wire::Tls).ok_or(form),
        _ => Err("must begin with redis://, rediss:// or unix://"),
    }
}

/// Returns the host of `user:password@host:port/db?…`.
fn host_of(rest: &str) -> Option<Host> {
    let before_query = rest.split_once('?').map_or(rest, |(before, _)| before);
    let (authority, db) = before_query.split_once('/').unwrap_or((before_query, ""));
    let is_number = db.bytes().all(|b| b.is_ascii_digit()) && db.parse::<u16>().is_ok();
    if !db.is_empty() && !is_number {
        return None;
    }
    let host = authority.split_once('@').map_or(authority, |(_, host)| host);
    Host::parse_with_port(host).map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_over_plaintext_tls_or_a_socket() {
        let plaintext = |host| Ok(Wire::Plaintext(Host::parse(host).unwrap()));
        for (url, expected) in [
            ("redis://localhost", plaintext("localhost")),
            ("redis://:secret@10.0.0.1:6380/3", plaintext("10.0.0.1")),
            ("redis://u:p%40x@[::1]:6380/", plaintext("::1")),
            ("redis://a/0?protocol=resp3", plaintext("a")),
            ("rediss://u:p@redis.example.com:6380", Ok(Wire::Tls)),
            ("unix:///run/redis.sock?db=1", Ok(Wire::Socket)),
        ] {
            assert_eq!(wire(url), expected, "{url}");
            assert!(::redis::parse_redis_url(url).is_some(), "{url}");
        }
    }

    #[test]
    fn urls_that_could_be_read_two_ways_are_refused() {
        for url in [
            "localhost:6379",
            "http://a",
            "redis:",
            "redis://",
            "redis:///0",
            "redis://a:x",
            "redis://localhost.",
            "redis://localhost.:6379/0",
            "redis://a/b",
            "redis://a/99999",
            "redis://u:p@x@a",
            "redis://u:p/x@a",
            "redis://u:p?x@a",
            "redis://u:p#x@a",
            "rediss://a/#insecure",
            "redis://127.0.0.1\\@a",
            "redis://a b",
            "redis://a\n",
            "unix://run/redis.sock",
            "redis+unix:///a",
        ] {
            assert!(wire(url).is_err(), "{url:?}");
        }
    }
}
