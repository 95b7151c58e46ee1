//! Settings: merges four layers of text into typed values and reports every fault at once.
//!
//! The only code that reads the environment. The file given with `--config` overrides the
//! compiled-in defaults, `.env` overrides that file, and the environment overrides `.env`. Must not
//! show a secret in a fault, a warning or a `Debug`, and must not know what the settings are used
//! for.

pub mod admin;
mod api_keys;
mod assigned;
pub mod audit;
pub mod codes;
mod common;
mod dangerous;
mod defaults;
mod dns;
mod document;
pub mod domains;
mod dotenv;
mod effective;
mod fault;
mod foreign_names;
pub mod http;
pub mod limits;
pub mod log;
pub mod mail;
mod names;
pub mod outbound;
mod quotes;
mod reader;
pub mod redis;
mod redis_url;
pub mod restart;
pub mod secrets;
pub mod senders;
pub mod smtp;
mod source;
pub mod tenants;
mod test_recipients;
mod texts;
pub mod tls;
pub mod traces;
mod unknown;
mod value;
mod web_url;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dangerous::Dangerous;
use reader::Reader;
use senders::TransportKind;

pub use assigned::{assigned, broken_lines};
pub use common::Common;
pub use fault::{Fault, Faults};
pub use source::Sources;
pub use texts::Texts;

/// Everything that `otpd serve` needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The settings that `otpd dev` also needs.
    pub common: Common,
    /// Whether the listener speaks HTTPS, and with which certificate.
    pub tls: tls::TlsListener,
    /// Where verifications are stored.
    pub redis: redis::Redis,
    /// The sender address, and the mail relays.
    pub smtp: smtp::Smtp,
    /// How emails are sent.
    pub senders: senders::Senders,
    /// HTTP requests to email providers, token endpoints and the hook.
    pub outbound: outbound::Outbound,
    /// The secrets of the deployment.
    pub secrets: secrets::SecretSettings,
}

/// Settings without a fault, together with warnings for the operator.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// Warnings for the log, as whole sentences.
    pub warnings: Vec<String>,
}

/// Returns the usual name of a setting that is given as `section.key`.
#[must_use]
pub fn name(key: &str) -> String {
    names::usual_name(key)
}

/// Returns a line that sets a setting to an example value.
#[must_use]
pub fn example(key: &str) -> String {
    format!("{}={}", names::usual_name(key), names::example(key).unwrap_or_default())
}

/// Returns the settings of `otpd serve`.
///
/// # Errors
/// [`Faults`] lists all faults, so that one run is enough to find them.
pub fn serve(sources: &Sources) -> Result<Loaded<Settings>, Faults> {
    let mut reader = Reader::new(sources, |_| true);
    let dangerous = dangerous::read(&mut reader);
    let common = common::read(&mut reader, dangerous);
    let tls = tls::read(&mut reader);
    let redis = redis::read(&mut reader, dangerous);
    let order = senders::read_order(&mut reader, "mail.transport");
    let of_tenants = common.iter().flat_map(|common| &common.tenants).flat_map(|tenant| &tenant.transports);
    let used: BTreeSet<_> = order.iter().flatten().chain(of_tenants.flatten()).copied().collect();
    let smtp = smtp::read(&mut reader, dangerous, used.contains(&TransportKind::Smtp));
    let senders = order.and_then(|order| senders::read(&mut reader, order, &used));
    let outbound = outbound::read(&mut reader);
    let secrets = secrets::read(&mut reader);
    reader.finish(|| {
        Some(Settings {
            common: common?,
            tls: tls?,
            redis: redis?,
            smtp: smtp?,
            senders: senders?,
            outbound: outbound?,
            secrets: secrets?,
        })
    })
}

/// Returns the settings of `otpd dev`, which brings its own store, mailbox and secrets.
///
/// # Errors
/// [`Faults`], except those of settings that `otpd dev` does not use.
pub fn dev(sources: &Sources) -> Result<Loaded<Common>, Faults> {
    let unused = ["redis.", "smtp", "ses."];
    let mut reader = Reader::new(sources, |key| !unused.iter().any(|own| key.starts_with(own)));
    // A weak limit harms only the person who runs `otpd dev`.
    let dangerous = Dangerous { weak_limits: true, ..dangerous::read(&mut reader) };
    let common = common::read(&mut reader, dangerous);
    if let Some(common) = &common
        && ![IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&common.http.listen.ip())
    {
        let what = "must be 127.0.0.1 or [::1] under otpd dev, which shows codes to every client";
        let line = reader.line("http.listen", &format!("127.0.0.1:{}", common.http.listen.port()));
        reader.refuse_for::<()>("http.listen", what, &line);
    }
    reader.finish(|| common)
}

/// Returns the names of the settings of `[[tenants]]`.
#[must_use]
pub fn tenant_keys() -> &'static [&'static str] {
    &names::TENANT_KEYS
}

/// Where the service listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerAddress {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether it speaks HTTPS.
    pub has_tls: bool,
}

/// Returns where the service listens.
///
/// # Errors
/// [`Faults`] of the settings that say so; those of all others are ignored.
pub fn listener(sources: &Sources) -> Result<ListenerAddress, Faults> {
    let mut reader = Reader::of_few(sources);
    let address = http::read_listen(&mut reader);
    let has_tls = tls::read(&mut reader).map(|tls| tls.files().is_some());
    let address = || Some(ListenerAddress { address: address?, has_tls: has_tls? });
    reader.finish(address).map(|loaded| loaded.settings)
}

/// Returns the cost of a hash, and how many are computed at once.
///
/// # Errors
/// [`Faults`] of the settings that say so; those of all others are ignored.
pub fn hash(sources: &Sources) -> Result<codes::Hash, Faults> {
    let mut reader = Reader::of_few(sources);
    let dangerous = dangerous::read(&mut reader);
    let hash = codes::read_hash(&mut reader, dangerous);
    reader.finish(|| hash).map(|loaded| loaded.settings)
}

#[cfg(test)]
mod tests {
    use super::smtp::TlsMode;
    use super::*;
    use crate::domain::code_hash::{HashCost, HashQueue};
    use crate::domain::limit::{Limit, Policy};
    use crate::domain::simple_access::SimpleAccess;

    const HOOK_SECRET: &str = "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const TEST_RECIPIENT: &str = "a@review.example.com 1970-03-01 $argon2id$v=19$m=7168,t=5,p=1$\
        c2l4dGVlbiBieXRlcyBvZg$4dCsVFf5MTY/ilgpuZnAH4fPbSvZL3ed7n9fv3bAm1o";
    const SECRET: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

    fn sources(texts: Texts) -> Sources {
        Sources::layered(texts, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
    }

    /// Loads a sufficient set of settings together with these.
    fn with(more: &[(&str, &str)]) -> Result<Loaded<Settings>, Faults> {
        serve(&sources(Texts::enough_and(more)))
    }

    fn settings(more: &[(&str, &str)]) -> Settings {
        with(more).unwrap_or_else(|faults| panic!("{more:?}: {faults}")).settings
    }

    fn names(faults: &Faults) -> Vec<&str> {
        faults.iter().map(Fault::name).collect()
    }

    /// Asserts that the settings have exactly one fault, that of `name`, and returns it.
    fn refused(name: &str, more: &[(&str, &str)]) -> String {
        let faults = with(more).expect_err(&format!("{more:?}"));
        assert_eq!(names(&faults), [name], "{more:?}");
        faults.to_string()
    }

    #[test]
    fn another_way_to_send_needs_no_relay_and_its_own_settings() {
        let enough = |more: &[(&str, &str)]| {
            let without_relay = [("SMTP_SERVER", ""), ("EMAIL_PASSWORD", "")];
            with(&[without_relay.as_slice(), more].concat())
        };
        let hook = [("OTP_HOOK__URL", "https://hook.example/otpd"), ("OTP_HOOK__SECRET", HOOK_SECRET)];
        let loaded = enough(&[[("OTP_SENDER", "Hook")].as_slice(), &hook].concat()).unwrap();
        assert_eq!(loaded.settings.senders.order, [TransportKind::Hook]);
        assert!(loaded.settings.smtp.relays.is_empty());
        let faults = enough(&[("OTP_SENDER", "resend, hook")]).unwrap_err();
        assert_eq!(names(&faults), ["OTP_RESEND__API_KEY", "OTP_HOOK__URL", "OTP_HOOK__SECRET"]);
        let faults = enough(&[("OTP_SENDER", "ses")]).unwrap_err();
        let ses = ["OTP_SES__REGION", "OTP_SES__ACCESS_KEY_ID", "OTP_SES__SECRET_ACCESS_KEY"];
        assert_eq!(names(&faults), ses);
        for (list, reason) in [("smtp,smtp", "twice"), ("sendmail", "one of: smtp, resend")] {
            assert!(refused("OTP_SENDER", &[("OTP_SENDER", list)]).contains(reason), "{list}");
        }
        for url in ["http://hook.example", "hook.example"] {
            let more =
                [("OTP_SENDER", "smtp,hook"), ("OTP_HOOK__URL", url), ("OTP_HOOK__SECRET", HOOK_SECRET)];
            assert!(refused("OTP_HOOK__URL", &more).contains("as https://hook.example.com/otpd"), "{url}");
        }
    }

    #[test]
    fn what_is_enough_is_taken_with_the_defaults() {
        use secrecy::ExposeSecret as _;
        let loaded = with(&[]).unwrap();
        let Settings { common, tls, redis, smtp, senders, outbound, secrets } = loaded.settings;
        assert_eq!(senders.order, [TransportKind::Smtp]);
        assert!(outbound.allowed_networks.is_empty());
        assert_eq!(tls, tls::TlsListener::Off);
        assert!(loaded.warnings.is_empty());
        assert_eq!(common.http.listen.to_string(), "127.0.0.1:5000");
        assert_eq!(common.codes.length.digits(), 6);
        assert_eq!((common.codes.rules.life.as_secs(), common.codes.rules.attempts), (300, 5));
        assert_eq!(common.hash.cost, HashCost::new(7168, 5).unwrap());
        assert_eq!(common.hash.queue, HashQueue::Measured);
        assert_eq!(redis.urls[0].expose_secret(), "redis://localhost:6379/0");
        let [smtp::RelaySettings { server, port, tls, trust_anchors, auth }] =
            smtp.relays.try_into().unwrap();
        assert_eq!((server.as_str(), port, tls), ("smtp.example.com", 587, TlsMode::StartTls));
        assert_eq!(trust_anchors, smtp::TrustAnchorSource::System);
        let smtp::Auth::Password { username, password } = auth else { panic!("a password is the default") };
        assert_eq!((username.as_str(), password.expose_secret()), ("you@example.com", "hunter2"));
        assert!(matches!(common.proof_keys, secrets::ProofKeys::None));
        assert_eq!(secrets.peppers.current().id().as_str(), "k1");
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let faults = serve(&sources(Texts::default())).unwrap_err();
        let expected = [
            "REDIS_HOST",
            "EMAIL_SENDER",
            "SMTP_SERVER",
            "EMAIL_PASSWORD",
            "OTP_SECRETS__PEPPERS",
            "OTP_SECRETS__INDEX_KEY",
        ];
        assert_eq!(names(&faults), expected);
        let shown = faults.to_string();
        for line in [
            "\n    EMAIL_SENDER=you@example.com\n",
            "\n    OTP_SECRETS__PEPPERS=k1:<43 characters, from: otpd keygen pepper>\n",
            "(`otpd init` writes one)",
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
    }

    #[test]
    fn a_missing_setting_is_told_with_the_name_of_another_program_that_is_set() {
        let foreign =
            [("SMTP_HOST", "a"), ("SMTP_PASSWORD", "s3cret"), ("SMTP_FROM", "b"), ("REDIS_URI", "c")];
        let shown = serve(&sources(Texts::only(&foreign))).unwrap_err().to_string();
        for (name, other) in [
            ("SMTP_SERVER", "SMTP_HOST"),
            ("EMAIL_PASSWORD", "SMTP_PASSWORD"),
            ("EMAIL_SENDER", "SMTP_FROM"),
            ("REDIS_HOST", "REDIS_URI"),
        ] {
            let line = shown.lines().find(|line| line.starts_with(&format!("- {name}: is missing"))).unwrap();
            assert!(line.contains(&format!("({other} is set, but otpd does not read it)")), "{line}");
        }
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn faults_of_all_kinds_are_named_at_once() {
        let mut texts = Texts::only(&[("OTP_CODES__DIGITS", "5"), ("OTP_NO__SUCH", "1"), ("SMTP_PORT", "x")]);
        texts.dotenv = Some("EMAIL_SENDER=nobody\nEMAIL_PASSWORD_FILE=/none\nbroken\n".into());
        texts.config = Some(("a.toml".into(), "[hash]\npasses = 0\n[log]\nlevel = [1]\n".into()));
        let faults = serve(&sources(texts)).unwrap_err();
        let expected = [
            ".env",
            "EMAIL_PASSWORD_FILE",
            "EMAIL_SENDER",
            "OTP_CODES__DIGITS",
            "OTP_NO__SUCH",
            "OTP_SECRETS__INDEX_KEY",
            "OTP_SECRETS__PEPPERS",
            "REDIS_HOST",
            "SMTP_PORT",
            "SMTP_SERVER",
            "hash.passes",
            "log.level",
        ];
        assert_eq!(
            names(&faults).into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(),
            expected
        );
        assert_eq!(faults.iter().count(), expected.len());
    }

    /// Returns the settings that `read` would accept even if they were broken. Every transport is
    /// used, because the settings of others are not read.
    fn unread(mut sources: Sources) -> Vec<String> {
        sources.values.values_mut().for_each(|value| value.text = Err("is broken".into()));
        let mut sender = sources.values.remove("mail.transport").unwrap();
        sender.text = Ok("smtp,resend,postmark,mailgun,ses,hook".to_owned().into());
        sources.values.insert("mail.transport".into(), sender);
        let faults = serve(&sources).unwrap_err();
        let read: BTreeSet<_> = faults.iter().map(|fault| fault.name().to_owned()).collect();
        let keys = sources.values.into_keys().filter(|key| key != "mail.transport");
        keys.filter(|key| !read.contains(&names::usual_name(key))).collect()
    }

    #[test]
    fn every_setting_is_read_and_no_other() {
        assert_eq!(unread(sources(Texts::default())), [""; 0]);
        let mut one_more = sources(Texts::default());
        let value = one_more.values.remove("log.level").unwrap();
        one_more.values.insert("log.colour".into(), value);
        assert_eq!(unread(one_more), ["log.colour"]);
    }

    /// Puts the printed lines where they belong. Lines that name a command are completed with the
    /// output of that command.
    fn cured(texts: &Texts, lines: &str) -> Texts {
        let mut cured = texts.clone();
        for line in lines.lines().map(str::trim) {
            let (line, layer) =
                line.split_once("  # in [").map_or((line, None), |(line, layer)| (line, Some(layer)));
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line:?} sets nothing"));
            if let (Some(layer), Some((_, config))) = (layer, &mut cured.config) {
                put_into(config, layer, name.trim(), line);
                continue;
            }
            let value = match value.split_once('<') {
                Some((before, example)) if example.starts_with("43 characters, from: otpd keygen ") => {
                    format!("{before}{SECRET}")
                }
                Some(("", example)) if example.starts_with("ADDRESS DATE HASH, from: otpd keygen ") => {
                    TEST_RECIPIENT.to_owned()
                }
                _ => value.to_owned(),
            };
            cured.environment.retain(|(other, _)| other != name);
            cured.environment.push((name.to_owned(), value.into()));
        }
        cured
    }

    /// Puts a line into the only table of a file, in the layer that sets the same key.
    fn put_into(config: &mut String, layer: &str, name: &str, line: &str) {
        assert!(config.matches('[').count() > 0 && !layer.is_empty(), "{config}");
        let is_other = |other: &&str| other.split_once('=').is_none_or(|(other, _)| other.trim() != name);
        let kept: Vec<_> = config.lines().filter(is_other).collect();
        *config = [kept.join("\n"), line.to_owned()].join("\n");
    }

    /// Asserts that each fault of `serve` disappears once its own line is added, and that adding
    /// all lines, as often as there are faults, leads to settings without a fault.
    fn every_cure_cures(texts: &Texts) -> usize {
        let read_file = |_: &std::path::Path| Ok("a secret in a file".to_owned());
        let faults = |texts: &Texts| {
            let sources = Sources::layered(texts.clone(), &read_file).unwrap();
            serve(&sources).err().map(|faults| faults.0).unwrap_or_default()
        };
        let found = faults(texts);
        for fault in &found {
            let left = faults(&cured(texts, &fault.line));
            let is_left = left.iter().any(|other| (&other.name, &other.what) == (&fault.name, &fault.what));
            assert!(!is_left, "{:?}\nis not cured:\n{fault}\n{left:?}", texts.environment);
        }
        let mut texts = texts.clone();
        let mut left = found.clone();
        for _ in 0..3 {
            texts = left.iter().fold(texts, |texts, fault| cured(&texts, &fault.line));
            left = faults(&texts);
        }
        assert!(left.is_empty(), "{found:?}\nends in\n{left:?}");
        found.len()
    }

    #[test]
    fn every_cure_that_is_printed_for_a_setting_cures() {
        let keys: Vec<String> = sources(Texts::default()).values.into_keys().collect();
        let wrong = [
            "x",
            "0",
            "-1",
            "1",
            "99999999999",
            "a b",
            "1/1s",
            "100000/1s",
            "true",
            "none",
            "off",
            "http://x/y",
            "redis://u:p@10.0.0.1/0",
            "10.0.0.1",
            "*",
            "🙂",
            "a\nb",
            "localhost",
            "k1:abc",
            "keyed",
            "implicit",
        ];
        let mut cured = 0;
        for key in &keys {
            for value in wrong {
                // A neighbouring setting can turn the value into a fault.
                for beside in [&[][..], &[("SMTP_SERVER", "localhost"), ("OTP_SMTP__TLS", "none")]] {
                    let usual = names::usual_name(key);
                    let formal = format!("OTP_{}", key.replacen('.', "__", 1).to_uppercase());
                    for name in BTreeSet::from([&usual, &formal]) {
                        let beside = beside.iter().copied().filter(|(other, _)| *other != usual);
                        let mut texts = Texts::enough_and(&beside.collect::<Vec<_>>());
                        texts.environment.retain(|(other, _)| *other != usual);
                        texts.environment.push((name.clone(), value.into()));
                        cured += every_cure_cures(&texts);
                    }
                }
            }
        }
        assert!(cured > 500, "{cured}");
    }

    #[test]
    fn every_cure_that_is_printed_for_settings_that_clash_cures() {
        for more in [
            &[("OTP_HASH__PASSES", "1")][..],
            &[("OTP_HASH__PASSES", "1"), ("OTP_HASH__MEMORY_KIB", "9216")],
            &[("OTP_HASH__PASSES", "2"), ("OTP_HASH__MEMORY_KIB", "64")],
            &[("OTP_HASH__MEMORY_KIB", "7167")],
            &[("OTP_LIMITS__ATTEMPTS", "10")],
            &[("OTP_LIMITS__ATTEMPTS", "5"), ("OTP_LIMITS__EMAIL_SENDS", "1/60s 20/day")],
            &[("OTP_LIMITS__ATTEMPTS", "10"), ("OTP_LIMITS__EMAIL_SENDS", "1/60s 20/day")],
            &[("OTP_LIMITS__ATTEMPTS", "10"), ("OTP_LIMITS__EMAIL_SENDS", "100/1h")],
            &[("OTP_SMTP__PORT", "26"), ("SMTP_PORT", "25")],
            &[("EMAIL_PASSWORD", "a"), ("EMAIL_PASSWORD_FILE", "/run/b")],
            &[("OTP_SMTP_FALLBACK__USERNAME", "a"), ("OTP_SMTP_FALLBACK__CA_FILE", "/b")],
            &[("OTP_SMTP__CA_FILE", "/b"), ("OTP_SMTP__TLS", "none"), ("SMTP_SERVER", "localhost")],
            &[("OTP_SIMPLE__ACCESS", "keyed")],
            &[("OTP_TENANT__TEST_RECIPIENTS", TEST_RECIPIENT)],
            &[("OTP_TENANT__TEST_RECIPIENTS", TEST_RECIPIENT), ("OTP_TENANT__TEST_DOMAINS", "a.b, c.d")],
            &[
                ("OTP_TENANT__TEST_RECIPIENTS", &TEST_RECIPIENT.replace("7168", "9216")),
                ("OTP_TENANT__TEST_DOMAINS", "review.example.com"),
            ],
            &[("OTP_TENANT__TEST_RECIPIENTS", &TEST_RECIPIENT.replace("03-01", "04-02"))],
        ] {
            assert!(every_cure_cures(&Texts::enough_and(more)) > 0, "{more:?}");
        }
        let of_file = |config: &str, more: &[(&str, &str)]| Texts {
            config: Some(("otpd.toml".into(), config.to_owned())),
            ..Texts::enough_and(more)
        };
        let one = format!("a:{SECRET}");
        let other = format!("b:{}", SECRET.replace('Q', "A"));
        for texts in [
            of_file(
                &format!("[[tenants]]\nname = \"default\"\nkeys = \"{one}\""),
                &[("OTP_TENANT__KEYS", &other)],
            ),
            of_file(
                &format!("[[tenants]]\nname = \"shop\"\nsender = \"Shop <a@b.co>\"\nkeys = \"{one}\""),
                &[],
            ),
            of_file("[hash]\npasses = 1", &[]),
            of_file("[codes]\nlife = \"120\"", &[]),
            of_file("[redis]\nhost = \"redis.example.com\"\ntls = false", &[("REDIS_HOST", "")]),
        ] {
            assert!(every_cure_cures(&texts) > 0);
        }
        let said = refused("OTP_HASH__PASSES", &[("OTP_HASH__PASSES", "1")]);
        assert!(said.ends_with("\n    OTP_HASH__PASSES=5"), "{said}");
        let said =
            refused("OTP_HASH__MEMORY_KIB", &[("OTP_HASH__MEMORY_KIB", "64"), ("OTP_HASH__PASSES", "2")]);
        assert!(said.ends_with("\n    OTP_HASH__MEMORY_KIB=19456"), "{said}");
    }

    #[test]
    fn dev_needs_nothing_but_still_refuses_what_is_wrong() {
        dev(&sources(Texts::default())).unwrap();
        dev(&sources(Texts::only(&[("SMTP_PORT", "x"), ("EMAIL_PASSWORD_FILE", "/none")]))).unwrap();
        let faults =
            dev(&sources(Texts::only(&[("OTP_CODES__DIGITS", "5"), ("OTP_NO__SUCH", "1")]))).unwrap_err();
        assert_eq!(names(&faults), ["OTP_NO__SUCH", "OTP_CODES__DIGITS"]);
    }

    #[test]
    fn secrets_are_never_shown() {
        let secrets = [SECRET, "hunter2", "s3cret", "private"];
        let is_safe = |shown: String| assert!(secrets.iter().all(|s| !shown.contains(s)), "{shown}");
        let more = [("REDIS_URL", "rediss://u:s3cret@a"), ("OTP_SMTP__USERNAME", "me@private.example")];
        is_safe(format!("{:?}", with(&more).unwrap()));
        for more in [
            [("REDIS_URL", "redis://u:s3cret@a"), ("EMAIL_SENDER", "me@private")],
            [("REDIS_URL", "s3cret"), ("OTP_SECRETS__PROOF_KEYS", SECRET)],
            [("REDIS_HOST", "redis://u:s3cret@a"), ("OTP_SECRETS__INDEX_KEY", "s3cret")],
            [("OTP_SMTP__USERNAME", "private\0"), ("OTP_SECRETS__PEPPERS", "k1:s3cret")],
            [("OTP_CODES__LIFE", "s3cret"), ("OTP_LOG__LEVEL", "s3cret")],
        ] {
            let faults = with(&more).unwrap_err();
            assert_eq!(faults.iter().count(), 2, "{faults}");
            is_safe(format!("{faults}{faults:?}"));
        }
    }

    #[test]
    fn redis_on_another_machine_is_reached_over_tls() {
        use secrecy::ExposeSecret as _;
        for more in [("REDIS_HOST", "127.0.0.1"), ("REDIS_HOST", "::1"), ("REDIS_URL", "unix:///run/r.sock")]
        {
            settings(&[more]);
        }
        let url = |more: &[(&str, &str)]| settings(more).redis.urls[0].expose_secret().to_owned();
        assert_eq!(
            url(&[("REDIS_URL", "rediss://a:6380/1"), ("REDIS_HOST", "10.0.0.1")]),
            "rediss://a:6380/1"
        );
        let more = [("REDIS_HOST", "::1"), ("REDIS_PORT", "6380"), ("REDIS_DB", "2")];
        assert_eq!(url(&more), "redis://[::1]:6380/2");
        assert!(refused("REDIS_HOST", &[("REDIS_HOST", "redis")]).ends_with("\n    REDIS_TLS=true"));
        refused("REDIS_URL", &[("REDIS_URL", "redis://redis:6379")]);
        let loaded = with(&[("REDIS_HOST", "redis"), ("OTP_DANGEROUS__PLAINTEXT_REDIS", "true")]).unwrap();
        assert!(loaded.warnings[0].starts_with("OTP_DANGEROUS__PLAINTEXT_REDIS is on: "));
    }

    #[test]
    fn servers_that_others_name_are_reached_over_tls_and_fenced() {
        use super::redis::RedisTopology;
        const SENTINEL: &str = "rediss+sentinel://a,b/mymaster";
        for (url, is_fenced) in
            [("redis://localhost", false), (SENTINEL, true), ("rediss+cluster://a,b", true)]
        {
            assert_eq!(settings(&[("REDIS_URL", url)]).redis.fence, is_fenced, "{url}");
            for (set, expected) in [("true", true), ("off", false), ("Auto", is_fenced)] {
                let redis = settings(&[("REDIS_URL", url), ("OTP_REDIS__FENCE", set)]).redis;
                assert_eq!(redis.fence, expected, "{url} {set}");
            }
        }
        let primary = "mymaster".to_owned();
        assert_eq!(settings(&[("REDIS_URL", SENTINEL)]).redis.topology, RedisTopology::Sentinel { primary });
        for url in ["redis+sentinel://127.0.0.1/mymaster", "redis+cluster://localhost"] {
            let cure = refused("REDIS_URL", &[("REDIS_URL", url)]);
            let cure = cure.rsplit("\n    REDIS_URL=").next().unwrap();
            settings(&[("REDIS_URL", cure)]);
            settings(&[("REDIS_URL", url), ("OTP_DANGEROUS__PLAINTEXT_REDIS", "true")]);
        }
        refused("OTP_REDIS__FENCE", &[("OTP_REDIS__FENCE", "maybe")]);
        refused("OTP_REDIS__WAIT_REPLICAS", &[("OTP_REDIS__WAIT_REPLICAS", "17")]);
        assert_eq!(settings(&[("OTP_REDIS__WAIT_REPLICAS", "2")]).redis.wait_replicas, 2);
    }

    #[test]
    fn certificates_and_the_login_of_sentinels_are_refused_where_they_have_no_effect() {
        use super::redis::SentinelAuth;
        let url = ("REDIS_URL", "rediss+sentinel://a,b/mymaster");
        let (cert, key) = (("OTP_REDIS__CERT_FILE", "/c"), ("OTP_REDIS__KEY_FILE", "/k"));
        let ca = ("OTP_REDIS__CA_FILE", "/a");
        let user = ("OTP_REDIS__SENTINEL_USERNAME", "u");
        let password = ("OTP_REDIS__SENTINEL_PASSWORD", "s3cret");
        let redis = settings(&[url, cert, key, ca, user, password]).redis;
        let username = |auth: SentinelAuth| match auth {
            SentinelAuth::None => panic!("a password is set"),
            SentinelAuth::Password { username, .. } => username,
        };
        assert_eq!(username(redis.sentinels).as_deref(), Some("u"));
        assert_eq!(redis.certificates.authorities.unwrap().to_str(), Some("/a"));
        assert!(redis.certificates.client.is_some());
        assert_eq!(username(settings(&[url, password]).redis.sentinels), None);
        refused("OTP_REDIS__KEY_FILE", &[url, cert]);
        refused("OTP_REDIS__CERT_FILE", &[url, key]);
        refused("OTP_REDIS__CA_FILE", &[ca]);
        refused("OTP_REDIS__CERT_FILE", &[cert, key]);
        refused("OTP_REDIS__SENTINEL_USERNAME", &[url, user]);
        assert!(with(&[password]).unwrap().warnings[0].starts_with("OTP_REDIS__SENTINEL_PASSWORD has no"));
        settings(&[("REDIS_HOST", "redis"), ("REDIS_TLS", "true"), ca]);
    }

    #[test]
    fn login_and_tls_of_redis_stand_beside_its_host_and_port() {
        use secrecy::ExposeSecret as _;
        let url = |more: &[(&str, &str)]| settings(more).redis.urls[0].expose_secret().to_owned();
        let tls = [("REDIS_HOST", "redis.example.com."), ("REDIS_TLS", "True")];
        assert_eq!(url(&tls), "rediss://redis.example.com:6379/0");
        assert_eq!(url(&[("REDIS_PASSWORD", "a")]), "redis://:a@localhost:6379/0");
        let username = "o tp/d";
        let password = " p@s:s/w?o#r%d\u{e9}";
        let url = url(&[("REDIS_USERNAME", username), ("REDIS_PASSWORD", password)]);
        let parsed = ::redis::parse_redis_url(&url).unwrap();
        assert_eq!(parsed.host_str(), Some("localhost"));
        let decode = |text| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        assert_eq!(
            (decode(parsed.username()), decode(parsed.password().unwrap())),
            (username.into(), password.into())
        );
        refused("REDIS_USERNAME", &[("REDIS_USERNAME", "otpd")]);
        let beside = [("REDIS_URL", "rediss://a"), ("REDIS_PASSWORD", "s3cret"), ("REDIS_TLS", "1")];
        let warnings = with(&beside).unwrap().warnings;
        assert!(
            warnings[0].starts_with("REDIS_PASSWORD has no effect") && warnings.len() == 2,
            "{warnings:?}"
        );
        assert!(!warnings.concat().contains("s3cret"));
    }

    #[test]
    fn what_can_mean_one_thing_only_is_taken() {
        let on = ["true", "True", "TRUE", "yes", "on", "1", " true ", "'true'"];
        for text in on {
            let loaded = with(&[("OTP_DANGEROUS__WEAK_LIMITS", text)]).unwrap();
            assert!(loaded.settings.common.weak_limits, "{text}");
        }
        for text in ["false", "False", "no", "OFF", "0"] {
            assert!(!settings(&[("OTP_DANGEROUS__WEAK_LIMITS", text)]).common.weak_limits, "{text}");
        }
        let settings = settings(&[
            ("OTP_LOG__LEVEL", "INFO"),
            ("OTP_SIMPLE__ACCESS", "Open"),
            ("OTP_HTTP__LISTEN", ":5000"),
            ("SMTP_SERVER", "smtp.example.com."),
            ("OTP_HTTP__TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1,"),
        ]);
        assert_eq!(settings.common.http.listen.to_string(), "0.0.0.0:5000");
        assert_eq!(settings.smtp.relays[0].server, "smtp.example.com");
        assert_eq!(settings.common.http.trusted_proxies.len(), 2);
    }

    #[test]
    fn the_emails_that_the_relay_takes_a_day_are_a_limit_of_24_hours() {
        let limit = |text: &str| {
            let loaded = with(&[("OTP_LIMITS__RELAY_EMAILS_PER_DAY", text)]).ok()?;
            Some(loaded.settings.common.limits.of(Policy::RelayEmails).clone())
        };
        assert_eq!(limit("500"), Some("500/24h".parse().unwrap()));
        assert_eq!(limit("100000"), Some("100000/24h".parse().unwrap()));
        assert_eq!(
            [limit("unlimited"), limit("Unlimited")],
            [Some(Limit::UNLIMITED), Some(Limit::UNLIMITED)]
        );
        for text in ["100001", "5/1h", "-1", "many"] {
            assert_eq!(limit(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_is_refused_with_the_entry_the_reason_and_the_line_to_write() {
        for (name, value, what, line) in [
            ("OTP_CODES__LIFE", "120", "has no unit", "OTP_CODES__LIFE=120s"),
            (
                "OTP_HTTP__LISTEN",
                "5000",
                "must be an IP address and a port",
                "OTP_HTTP__LISTEN=127.0.0.1:5000",
            ),
            ("EMAIL_SENDER", "Ex <a@b.co>", "has a name before the address", "OTP_MAIL__BRAND=Example"),
            ("OTP_HTTP__TRUSTED_PROXIES", "10.0.0.1, proxy", "entry 2: is no IP address", ""),
            ("OTP_HTTP__TRUSTED_PROXIES", "0.0.0.0/0", "entry 1: is larger than /8", ""),
            (
                "OTP_SECRETS__PEPPERS",
                "k1:abc",
                "entry 1 has a secret that is not 43 characters",
                "OTP_SECRETS__PEPPERS=k1:<",
            ),
            ("OTP_TENANT__PURPOSES", "login, Sign up", "entry 2: must be 1 to 64", ""),
            ("EMAIL_PASSWORD", "\"hunter2\"", "is in quotes", "EMAIL_PASSWORD=<the password"),
        ] {
            let said = refused(name, &[(name, value)]);
            assert!(said.contains(what) && said.contains(&format!("\n    {line}")), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        let twice = format!("k1:{SECRET},k1:{SECRET}");
        assert!(
            refused("OTP_SECRETS__PEPPERS", &[("OTP_SECRETS__PEPPERS", &twice)])
                .contains("entry 2 has the name of another")
        );
    }

    #[test]
    fn the_relay_is_reached_over_tls() {
        let tls = |more: &[(&str, &str)]| settings(more).smtp.relays[0].tls;
        assert_eq!(tls(&[("SMTP_PORT", "465")]), TlsMode::Implicit);
        assert_eq!(tls(&[("SMTP_PORT", "25")]), TlsMode::StartTls);
        assert_eq!(tls(&[("SMTP_PORT", "2465"), ("OTP_SMTP__TLS", "implicit")]), TlsMode::Implicit);
        assert_eq!(tls(&[("SMTP_PORT", "465"), ("OTP_SMTP__TLS", "starttls")]), TlsMode::StartTls);
        assert_eq!(tls(&[("SMTP_SERVER", "localhost"), ("OTP_SMTP__TLS", "none")]), TlsMode::Plaintext);
        refused("OTP_SMTP__TLS", &[("OTP_SMTP__TLS", "none")]);
        let loaded = with(&[("OTP_SMTP__TLS", "none"), ("OTP_DANGEROUS__PLAINTEXT_SMTP", "true")]).unwrap();
        assert_eq!(loaded.settings.smtp.relays[0].tls, TlsMode::Plaintext);
        assert!(loaded.warnings[0].starts_with("OTP_DANGEROUS__PLAINTEXT_SMTP is on: "));
    }

    #[test]
    fn a_second_relay_is_set_like_the_first_or_not_at_all() {
        let more =
            [("OTP_SMTP_FALLBACK__SERVER", "smtp.example.net"), ("OTP_SMTP_FALLBACK__PASSWORD", "hunter2")];
        let [_, relay] = settings(&more).smtp.relays.try_into().unwrap();
        assert_eq!(
            (relay.server.as_str(), relay.port, relay.tls),
            ("smtp.example.net", 587, TlsMode::StartTls)
        );
        refused("OTP_SMTP_FALLBACK__PASSWORD", &more[..1]);
        refused("OTP_SMTP_FALLBACK__PASSWORD", &more[1..]);
        refused("OTP_SMTP_FALLBACK__TLS", &[more[0], more[1], ("OTP_SMTP_FALLBACK__TLS", "none")]);
        let own = [("SMTP_SERVER", "localhost"), ("OTP_SMTP__TLS", "none"), ("OTP_SMTP__CA_FILE", "a.pem")];
        refused("OTP_SMTP__CA_FILE", &own);
        let trust_anchors = settings(&own[2..]).smtp.relays[0].trust_anchors.clone();
        assert_eq!(trust_anchors, smtp::TrustAnchorSource::File("a.pem".into()));
    }

    #[test]
    fn a_relay_without_a_login_needs_no_password() {
        let smtp = settings(&[("OTP_SMTP__AUTH", "none"), ("EMAIL_PASSWORD", "")]).smtp;
        assert!(matches!(smtp.relays[0].auth, smtp::Auth::None));
        refused("EMAIL_PASSWORD", &[("EMAIL_PASSWORD", "")]);
        refused("SMTP_SERVER", &[("SMTP_SERVER", "smtp.example.com:587")]);
        refused("EMAIL_SENDER", &[("EMAIL_SENDER", "You <you@example.com>")]);
    }

    #[test]
    fn floors_hold_unless_they_are_taken_away() {
        let weak_hash = [("OTP_HASH__MEMORY_KIB", "7168"), ("OTP_HASH__PASSES", "4")];
        refused("OTP_HASH__PASSES", &weak_hash);
        refused("OTP_LIMITS__ATTEMPTS", &[("OTP_LIMITS__ATTEMPTS", "11")]);
        refused(
            "OTP_LIMITS__ATTEMPTS",
            &[("OTP_LIMITS__ATTEMPTS", "101"), ("OTP_DANGEROUS__WEAK_LIMITS", "true")],
        );
        let [memory, passes] = weak_hash;
        let off = [("OTP_DANGEROUS__WEAK_HASH", "true"), ("OTP_DANGEROUS__WEAK_LIMITS", "true")];
        let loaded = with(&[memory, passes, ("OTP_LIMITS__ATTEMPTS", "100"), off[0], off[1]]).unwrap();
        assert_eq!(loaded.settings.common.codes.rules.attempts, 100);
        assert_eq!(loaded.settings.common.hash.cost, HashCost::new(7168, 4).unwrap());
        assert_eq!(loaded.warnings.len(), 2);
        let ten = settings(&[("OTP_LIMITS__ATTEMPTS", "10"), ("OTP_CODES__OVERLAP", "0s")]);
        assert_eq!(ten.common.codes.rules.attempts, 10);
    }

    #[test]
    fn limits_of_sends_to_a_recipient_are_bounded() {
        for name in ["OTP_LIMITS__IP_EMAIL_SENDS", "OTP_LIMITS__EMAIL_SENDS_TOTAL"] {
            settings(&[(name, "100/day")]);
            let said = refused(name, &[(name, "5/1h 101/day")]);
            assert!(said.contains("more than 100 emails to one address"), "{said}");
            settings(&[(name, "100000/day"), ("OTP_DANGEROUS__WEAK_LIMITS", "true")]);
        }
        settings(&[("OTP_LIMITS__IP_SENDS", "100000/day")]);
    }

    #[test]
    fn limits_that_let_an_address_be_guessed_are_refused() {
        let sends = |text| ("OTP_LIMITS__EMAIL_SENDS", text);
        let without_overlap = ("OTP_CODES__OVERLAP", "0s");
        let said = refused("OTP_LIMITS__EMAIL_SENDS", &[sends("1/60s 21/day"), without_overlap]);
        assert!(
            said.contains("105 attempts at an address a day, which succeed with a chance of 1.1e-4"),
            "{said}"
        );
        let said = refused("OTP_LIMITS__EMAIL_SENDS", &[sends("1/60s 11/day")]);
        assert!(
            said.contains("55 attempts at an address a day, which succeed with a chance of 1.1e-4"),
            "{said}"
        );
        settings(&[sends("1/60s 20/day"), without_overlap]);
        settings(&[sends("1/60s 10/day")]);
        settings(&[sends("1/60s 21/day"), ("OTP_CODES__DIGITS", "7")]);
        let said = refused("OTP_LIMITS__EMAIL_SENDS", &[("OTP_LIMITS__ATTEMPTS", "10")]);
        assert!(said.ends_with("\n    OTP_CODES__OVERLAP=0s"), "{said}");
        refused("OTP_LIMITS__EMAIL_SENDS", &[sends("1/60s 11/day"), ("OTP_LIMITS__ATTEMPTS", "10")]);
        for quick in ["10/day", "1/29s 10/day", "2/60s 10/day"] {
            assert!(refused("OTP_LIMITS__EMAIL_SENDS", &[sends(quick)]).contains("30 s"), "{quick}");
        }
        settings(&[sends("1/30s 10/day")]);
        let loaded = with(&[sends("1000/day"), ("OTP_DANGEROUS__WEAK_LIMITS", "true")]).unwrap();
        assert_eq!(loaded.warnings.len(), 1);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (name, value) in [
            ("OTP_HTTP__LISTEN", "example.com:5000"),
            ("OTP_HTTP__ALLOWED_ORIGINS", "https://a.example,*"),
            ("OTP_HTTP__MAX_CONNECTIONS", "0"),
            ("OTP_SIMPLE__ACCESS", "opened"),
            ("REDIS_PORT", "0"),
            ("REDIS_DB", "-1"),
            ("OTP_SMTP__CONNECTIONS", "1001"),
            ("OTP_MAIL__BRAND", "a\nb"),
            ("OTP_PROOF__ISSUER", " "),
            ("OTP_SECRETS__PEPPERS", SECRET),
            ("OTP_SECRETS__PROOF_KEYS", "p1:,p2:"),
            ("OTP_CODES__DIGITS", "11"),
            ("OTP_CODES__LIFE", "300"),
            ("OTP_CODES__LIFE", "29s"),
            ("OTP_CODES__LIFE", "11m"),
            ("OTP_LIMITS__ATTEMPTS", "0"),
            ("OTP_LIMITS__IP_SENDS", "30 an hour"),
            ("OTP_LIMITS__IP_REQUESTS_BURST", "0"),
            ("OTP_LIMITS__RELAY_EMAILS_PER_DAY", "0"),
            ("OTP_HTTP__TRUSTED_PROXIES", "0.0.0.0/0"),
            ("OTP_HTTP__TRUSTED_PROXIES", "10.0.0.1, 128.0.0.0/1"),
            ("OTP_HTTP__TRUSTED_PROXIES", "::ffff:10.0.0.0/104"),
            ("OTP_HTTP__TRUSTED_PROXIES", "10.0.0.0/8, proxy"),
            ("OTP_LIMITS__EXEMPT_NETWORKS", "0.0.0.0/0"),
            ("OTP_LIMITS__EXEMPT_NETWORKS", "::/0"),
            ("OTP_LIMITS__EXEMPT_NETWORKS", "10.0.0.0/8, office"),
            ("OTP_HTTP__FORWARDED_HEADER", "x-some-ip"),
            ("OTP_HASH__THREADS", "65"),
            ("OTP_HASH__QUEUE", "10001"),
            ("OTP_HTTP__KEEP_ALIVE", "0s"),
            ("OTP_HTTP__KEEP_ALIVE", "601s"),
            ("OTP_HTTP__PUBLIC_URL", "example.org"),
            ("OTP_HTTP__DOCS", "hidden"),
            ("OTP_LOG__FORMAT", "xml"),
            ("OTP_DANGEROUS__WEAK_HASH", "maybe"),
        ] {
            refused(name, &[(name, value)]);
        }
    }

    #[test]
    fn the_wrong_origin_of_a_list_is_named_with_its_position_and_the_reason() {
        let list = ("OTP_HTTP__ALLOWED_ORIGINS", "https://a.example, https://b.example/x,*");
        let shown = refused(list.0, &[list]);
        assert!(
            shown.contains("entry 2: has a path: leave it out") && !shown.contains("b.example"),
            "{shown}"
        );
        let url = ("OTP_HTTP__ALLOWED_ORIGINS", "https://user:hush@a.example");
        let shown = refused(url.0, &[url]);
        assert!(shown.contains("entry 1: a user or a password") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn values_in_range_are_taken() {
        let more = [
            ("OTP_CODES__LIFE", "10m"),
            ("OTP_HASH__THREADS", "3"),
            ("OTP_HASH__QUEUE", "7"),
            ("OTP_MAIL__BRAND", "Shop"),
            ("OTP_HTTP__ALLOWED_ORIGINS", "https://a.example, http://localhost:3000"),
            ("OTP_HTTP__KEEP_ALIVE", "10m"),
            ("OTP_HTTP__PUBLIC_URL", "https://example.org/otp/"),
            ("OTP_HTTP__DOCS", "off"),
            ("OTP_SIMPLE__ACCESS", "off"),
            ("OTP_LIMITS__EXEMPT_NETWORKS", "192.0.2.1, 2001:db8::/32"),
            ("OTP_SECRETS__PROOF_KEYS", &format!("p2:{SECRET},p1:{SECRET}")),
        ];
        let Settings { common, .. } = settings(&more);
        assert_eq!(common.codes.rules.life.as_secs(), 600);
        let seven = std::num::NonZeroUsize::new(7).unwrap();
        assert_eq!((common.hash.threads.get(), common.hash.queue), (3, HashQueue::Places(seven)));
        assert_eq!(common.brand, mail::Brand::Name("Shop".into()));
        assert_eq!(common.http.allowed_origins.len(), 2);
        assert_eq!(common.exempt.to_string(), "192.0.2.1/32, 2001:db8::/32");
        assert_eq!(common.http.keep_alive.as_secs(), 600);
        assert_eq!(
            (common.http.public_url.as_str(), common.http.docs),
            ("https://example.org/otp", http::Docs::Off)
        );
        assert_eq!(common.simple, SimpleAccess::Off);
        assert!(matches!(common.proof_keys, secrets::ProofKeys::Keys { older, .. } if older.len() == 1));
    }
}
