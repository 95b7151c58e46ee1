//! Where Redis is, and how its writes are kept.
//!
//! A URL can contain a password, so `Debug` and faults never show it. Must not connect.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::dangerous::Dangerous;
use super::reader::{Reader, flag, named};
use super::redis_url::{CLUSTER_SAMPLE, RedisUrl, SAMPLE, SENTINEL_SAMPLE, Wire};
use super::tls::TlsFiles;
use crate::domain::host::Host;

pub use super::redis_url::RedisTopology;

const CA_FILE: &str = "redis.ca_file";
const CERT_FILE: &str = "redis.cert_file";
const KEY_FILE: &str = "redis.key_file";
const SENTINEL_USERNAME: &str = "redis.sentinel_username";
const SENTINEL_PASSWORD: &str = "redis.sentinel_password";

/// Where verifications are stored.
#[derive(Clone)]
pub struct Redis {
    /// `redis://`, `rediss://` or `unix://`: one URL, or one for each node of a cluster or each
    /// sentinel that is named.
    pub urls: Vec<SecretString>,
    /// What the URLs name.
    pub topology: RedisTopology,
    /// The login at the sentinels.
    pub sentinels: SentinelAuth,
    /// The certificates of TLS.
    pub certificates: RedisCertificates,
    /// Whether open codes expire when a replica takes over (`redis.fence`).
    pub fence: bool,
    /// How many replicas must have a write before it is answered.
    pub wait_replicas: u32,
}

/// How otpd logs in at sentinels.
#[derive(Clone)]
pub enum SentinelAuth {
    /// It does not.
    None,
    /// With this login.
    Password {
        /// `None`: the default user.
        username: Option<String>,
        /// The password.
        password: SecretString,
    },
}

/// The files of certificates for TLS to Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisCertificates {
    /// The certificate authorities; `None`: the trust anchors of this machine.
    pub authorities: Option<PathBuf>,
    /// The client's certificate and its key.
    pub client: Option<TlsFiles>,
}

/// The setting of the fence.
enum FenceSetting {
    Auto,
    Always(bool),
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
    let fence = fence(reader);
    let wait_replicas = reader.number("redis.wait_replicas", 0..=16_u32);
    let certificates = certificates(reader);
    let sentinel_username = reader.text(SENTINEL_USERNAME);
    let sentinel_password = reader.verbatim(SENTINEL_PASSWORD);
    let username = username?;
    let password = password?;
    let tls = tls?;
    let (key, url) = match url? {
        "" => {
            let settings = HostSettings { host: host?, port: port?, db: db?, username, password, tls };
            ("redis.host", from_host(reader, &settings)?)
        }
        url => {
            without_effect(reader, username, password, tls);
            match RedisUrl::parse(url) {
                Ok(url) => ("redis.url", url),
                Err((why, sample)) => {
                    let line = reader.line("redis.url", sample);
                    return reader.refuse_for("redis.url", why, &line);
                }
            }
        }
    };
    let with_tls = line_with_tls(reader, key, &url.topology);
    if let Wire::Plaintext(host) = &url.wire
        && !dangerous.plaintext_redis
    {
        plaintext(reader, key, host, &url.topology, &with_tls)?;
    }
    let certificates = certificates?;
    if url.wire != Wire::Tls && certificates != RedisCertificates::default() {
        let set = if certificates.authorities.is_some() { CA_FILE } else { CERT_FILE };
        let what = "is set, but without TLS no certificate is asked for: leave it out, or use TLS";
        return reader.refuse_for(set, what, &with_tls);
    }
    let sentinels = sentinels(reader, &url.topology, sentinel_username?, sentinel_password?)?;
    let fence = match fence? {
        FenceSetting::Auto => url.topology != RedisTopology::One,
        FenceSetting::Always(fence) => fence,
    };
    Some(Redis {
        urls: url.urls,
        topology: url.topology,
        sentinels,
        certificates,
        fence,
        wait_replicas: wait_replicas?,
    })
}

/// Returns the line that changes a plaintext connection into one with TLS.
fn line_with_tls(reader: &Reader<'_>, key: &str, topology: &RedisTopology) -> String {
    match topology {
        RedisTopology::One if key == "redis.host" => reader.line("redis.tls", "true"),
        RedisTopology::One => reader.line("redis.url", SAMPLE),
        RedisTopology::Sentinel { .. } => reader.line("redis.url", SENTINEL_SAMPLE),
        RedisTopology::Cluster => reader.line("redis.url", CLUSTER_SAMPLE),
    }
}

/// Refuses a plaintext connection, unless it is to one server on this machine. Sentinels and nodes
/// of a cluster may name servers elsewhere.
fn plaintext(
    reader: &mut Reader<'_>,
    key: &str,
    host: &Host,
    topology: &RedisTopology,
    with_tls: &str,
) -> Option<()> {
    let tls = if key == "redis.url" { "rediss:// in REDIS_URL" } else { "REDIS_TLS=true" };
    let what = match topology {
        RedisTopology::One if host.is_loopback() => return Some(()),
        RedisTopology::One => format!(
            "would reach another machine in plaintext: use TLS ({tls}), a Redis or a TLS tunnel on this machine, or \
             set OTP_DANGEROUS__PLAINTEXT_REDIS=true"
        ),
        RedisTopology::Sentinel { .. } | RedisTopology::Cluster => {
            "would reach the servers that it discovers in plaintext: use TLS (rediss+sentinel:// or \
             rediss+cluster://), or set OTP_DANGEROUS__PLAINTEXT_REDIS=true"
                .to_owned()
        }
    };
    reader.refuse_for(key, &what, with_tls)
}

/// Returns the login at sentinels, and warns of one that has no effect.
fn sentinels(
    reader: &mut Reader<'_>,
    topology: &RedisTopology,
    username: &str,
    password: &str,
) -> Option<SentinelAuth> {
    if let RedisTopology::Sentinel { .. } = topology {
        return sentinel_auth(reader, username, password);
    }
    for (key, text) in [(SENTINEL_USERNAME, username), (SENTINEL_PASSWORD, password)] {
        if !text.is_empty() {
            reader.warn(key, "has no effect, because REDIS_URL is not one of sentinels (rediss+sentinel://)");
        }
    }
    Some(SentinelAuth::None)
}

fn fence(reader: &mut Reader<'_>) -> Option<FenceSetting> {
    reader.parse("redis.fence", "auto, true or false", |text| {
        if text.eq_ignore_ascii_case("auto") {
            Some(FenceSetting::Auto)
        } else {
            flag(text).map(FenceSetting::Always)
        }
    })
}

fn certificates(reader: &mut Reader<'_>) -> Option<RedisCertificates> {
    let authorities = reader.path(CA_FILE).map(named);
    let certificate = reader.path(CERT_FILE).map(named);
    let key = reader.path(KEY_FILE).map(named);
    let client = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => return super::tls::missing(reader, KEY_FILE, CERT_FILE),
        (None, Some(_)) => return super::tls::missing(reader, CERT_FILE, KEY_FILE),
    };
    Some(RedisCertificates { authorities: authorities?, client })
}

fn sentinel_auth(reader: &mut Reader<'_>, username: &str, password: &str) -> Option<SentinelAuth> {
    match (username, password) {
        ("", "") => Some(SentinelAuth::None),
        (_, "") => {
            let line = reader.line(SENTINEL_PASSWORD, "<the password of the sentinels>");
            let what = "is set, but OTP_REDIS__SENTINEL_PASSWORD is not";
            reader.refuse_for(SENTINEL_USERNAME, what, &line)
        }
        (username, password) => {
            let username = (!username.is_empty()).then(|| username.to_owned());
            Some(SentinelAuth::Password { username, password: password.into() })
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

fn from_host(reader: &mut Reader<'_>, settings: &HostSettings<'_>) -> Option<RedisUrl> {
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
    Some(RedisUrl {
        urls: vec![url.as_str().into()],
        topology: RedisTopology::One,
        wire: if *tls { Wire::Tls } else { Wire::Plaintext(host) },
    })
}
