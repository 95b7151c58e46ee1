//! The forms of `redis.url`.
//!
//! A URL can contain a password, so no fault shows it. Must not connect.

use secrecy::SecretString;

use crate::domain::host::Host;

/// What a URL of Redis names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisTopology {
    /// One server.
    One,
    /// Sentinels (`redis+sentinel://`).
    Sentinel {
        /// The name of the primary.
        primary: String,
    },
    /// Nodes of a cluster (`redis+cluster://`).
    Cluster,
}

/// The connection to Redis, as far as its security is concerned.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// To this host, or to this one and others.
    Plaintext(Host),
    Tls,
    Socket,
}

/// A URL that was taken apart.
pub(super) struct RedisUrl {
    /// A URL for each host.
    pub urls: Vec<SecretString>,
    pub topology: RedisTopology,
    pub wire: Wire,
}

const SCHEMES: &str = "must begin with redis://, rediss://, unix://, rediss+sentinel:// or rediss+cluster://";
const FORM: &str = "must have the form rediss://user:password@host:port/db or unix:///path; in a password, \
                    percent-encode characters such as / ? # @ and :";
const SENTINEL_FORM: &str = "must have the form rediss+sentinel://user:password@host:port,host:port/name/db, where name is \
                             what the sentinels call the primary; in a password, percent-encode characters such as \
                             / ? # @ , and :";
const CLUSTER_FORM: &str = "must have the form rediss+cluster://user:password@host:port,host:port, without another database than \
                            0; in a password, \
                            percent-encode characters such as / ? # @ , and :";
/// A URL of each form.
pub(super) const SAMPLE: &str = "rediss://user:password@redis.example.com:6379/0";
pub(super) const SENTINEL_SAMPLE: &str =
    "rediss+sentinel://user:password@s1.example.com:26379,s2.example.com:26379/mymaster";
pub(super) const CLUSTER_SAMPLE: &str =
    "rediss+cluster://user:password@r1.example.com:6379,r2.example.com:6379";
const SENTINEL_PORT: u16 = 26379;
const REDIS_PORT: u16 = 6379;

impl RedisUrl {
    /// Takes a URL apart, or returns what is wrong with it and a URL of the form that was meant.
    pub(super) fn parse(url: &str) -> Result<Self, (&'static str, &'static str)> {
        let (scheme, rest) = url.split_once("://").ok_or((SCHEMES, SAMPLE))?;
        let scheme = scheme.to_ascii_lowercase();
        let (scheme, kind) =
            scheme.split_once('+').map_or((scheme.as_str(), ""), |(first, kind)| (first, kind));
        let form = match kind {
            "sentinel" => (SENTINEL_FORM, SENTINEL_SAMPLE),
            "cluster" => (CLUSTER_FORM, CLUSTER_SAMPLE),
            _ => (FORM, SAMPLE),
        };
        // `#insecure` would disable the verification of the server's certificate.
        let is_plain = rest.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'\\');
        match (scheme, kind) {
            ("redis" | "rediss" | "unix", "") | ("redis" | "rediss", "sentinel" | "cluster") => {}
            _ if url.contains("sentinel") => return Err((SCHEMES, SENTINEL_SAMPLE)),
            _ if url.contains("cluster") => return Err((SCHEMES, CLUSTER_SAMPLE)),
            _ => return Err((SCHEMES, SAMPLE)),
        }
        if !is_plain {
            return Err(form);
        }
        match kind {
            "sentinel" => sentinel(scheme, rest),
            "cluster" => cluster(scheme, rest),
            _ => one(scheme, rest, url),
        }
        .ok_or(form)
    }
}

fn one(scheme: &str, rest: &str, url: &str) -> Option<RedisUrl> {
    let wire = match scheme {
        "unix" => rest.starts_with('/').then_some(Wire::Socket)?,
        _ => wire(scheme, host_of(rest)?),
    };
    Some(RedisUrl { urls: vec![url.into()], topology: RedisTopology::One, wire })
}

fn sentinel(scheme: &str, rest: &str) -> Option<RedisUrl> {
    let (authority, path) = rest.split_once('/')?;
    let (primary, db) = path.split_once('/').unwrap_or((path, ""));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if primary.is_empty() || !primary.bytes().all(is_name) || !is_database(db) {
        return None;
    }
    let topology = RedisTopology::Sentinel { primary: primary.to_owned() };
    several(scheme, authority, SENTINEL_PORT, db, topology)
}

fn cluster(scheme: &str, rest: &str) -> Option<RedisUrl> {
    let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
    // A cluster has no other database.
    matches!(db, "" | "0").then(|| several(scheme, authority, REDIS_PORT, "", RedisTopology::Cluster))?
}

/// Returns a URL for each of several hosts, which have the login in front of them in common.
fn several(scheme: &str, authority: &str, port: u16, db: &str, topology: RedisTopology) -> Option<RedisUrl> {
    let (login, hosts) = authority.split_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
    if login.contains('?') {
        return None;
    }
    let at = if login.is_empty() { "" } else { "@" };
    let hosts: Vec<(Host, u16)> = hosts
        .split(',')
        .map(|host| Host::parse_with_port(host).map(|(host, own)| (host, own.unwrap_or(port))))
        .collect::<Option<_>>()?;
    let urls =
        hosts.iter().map(|(host, port)| format!("{scheme}://{login}{at}{host}:{port}/{db}").into()).collect();
    let (first, _) = hosts.into_iter().next()?;
    Some(RedisUrl { urls, topology, wire: wire(scheme, first) })
}

fn wire(scheme: &str, host: Host) -> Wire {
    if scheme == "rediss" { Wire::Tls } else { Wire::Plaintext(host) }
}

/// Returns the host of `user:password@host:port/db?…`.
fn host_of(rest: &str) -> Option<Host> {
    let before_query = rest.split_once('?').map_or(rest, |(before, _)| before);
    let (authority, db) = before_query.split_once('/').unwrap_or((before_query, ""));
    if !is_database(db) {
        return None;
    }
    let host = authority.split_once('@').map_or(authority, |(_, host)| host);
    Host::parse_with_port(host).map(|(host, _)| host)
}

/// Returns whether a text is empty or the number of a database.
fn is_database(text: &str) -> bool {
    text.is_empty() || text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn urls_lead_over_plaintext_tls_or_a_socket() {
        let plaintext = |host| Ok::<_, (&str, &str)>(Wire::Plaintext(Host::parse(host).unwrap()));
        for (url, expected) in [
            ("redis://localhost", plaintext("localhost")),
            ("redis://:secret@10.0.0.1:6380/3", plaintext("10.0.0.1")),
            ("redis://u:p%40x@[::1]:6380/", plaintext("::1")),
            ("redis://a/0?protocol=resp3", plaintext("a")),
            ("rediss://u:p@redis.example.com:6380", Ok(Wire::Tls)),
            ("unix:///run/redis.sock?db=1", Ok(Wire::Socket)),
        ] {
            assert_eq!(RedisUrl::parse(url).map(|url| url.wire), expected, "{url}");
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
            "unix+sentinel:///a",
            "redis+sentinel://a:26379",
            "redis+sentinel://a:26379/",
            "redis+sentinel://a,,b/name",
            "redis+sentinel:///name",
            "redis+sentinel://a/na me",
            "redis+sentinel://a/name/x",
            "redis+sentinel://a/name/0/1",
            "redis+sentinel://a/name?db=1",
            "redis+sentinel://u:p@a,u:p@b/name",
            "redis+sentinel://u:1?x@a/name",
            "redis+cluster://u:1?x@a",
            "redis+cluster://a/1",
            "redis+cluster://a,b:x",
            "redis+cluster://",
        ] {
            assert!(RedisUrl::parse(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn several_hosts_have_the_login_and_the_database_in_common() {
        let sentinel = RedisTopology::Sentinel { primary: "mymaster".to_owned() };
        for (url, topology, expected) in [
            (
                "rediss+sentinel://u:p%40x@s1,s2.example.com:26380,[::1]/mymaster/3",
                sentinel.clone(),
                vec![
                    "rediss://u:p%40x@s1:26379/3",
                    "rediss://u:p%40x@s2.example.com:26380/3",
                    "rediss://u:p%40x@[::1]:26379/3",
                ],
            ),
            ("redis+sentinel://10.0.0.1/mymaster", sentinel, vec!["redis://10.0.0.1:26379/"]),
            (
                "REDISS+CLUSTER://:p@a,b:7000/0",
                RedisTopology::Cluster,
                vec!["rediss://:p@a:6379/", "rediss://:p@b:7000/"],
            ),
        ] {
            let parsed = RedisUrl::parse(url).unwrap();
            let urls: Vec<_> = parsed.urls.iter().map(ExposeSecret::expose_secret).collect();
            assert_eq!((urls, parsed.topology), (expected, topology), "{url}");
            for url in parsed.urls {
                assert!(::redis::parse_redis_url(url.expose_secret()).is_some());
            }
        }
    }
}
