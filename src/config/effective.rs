//! The effective settings as text, for `otpd config`: each with where it comes from.
//!
//! Must not show a secret, nor the password of a URL.

use std::fmt::Write as _;

use super::fault::Faults;
use super::names;
use super::source::Sources;
use super::value::{Layer, SettingValue};

/// What is shown instead of a secret.
const MASK: &str = "********";

impl Sources {
    /// Returns a line for each setting, in the form of `.env`, with where it comes from as a
    /// comment. Settings that are masked, and those of `[[tenants]]`, are comments. Without
    /// `with_defaults`, settings that are not set have no line. Settings with one of these faults
    /// are masked too, because a secret may have been set in the wrong place.
    #[must_use]
    pub fn effective(&self, with_defaults: bool, faults: Option<&Faults>) -> String {
        let has_fault =
            |name: &str| faults.is_some_and(|faults| faults.iter().any(|fault| fault.name() == name));
        let mut lines = String::new();
        let shown = self.values.iter().filter(|(_, value)| with_defaults || value.layer != Layer::Defaults);
        for (key, value) in shown {
            let name = if key.starts_with("tenants.") { key.clone() } else { names::usual_name(key) };
            // What cannot be used as it stands is a comment.
            let mark = |shown: String| {
                if shown.contains(MASK) || key.starts_with("tenants.") { "# " } else { "" }.to_owned()
                    + &shown
            };
            let line = match &value.text {
                Err(why) => format!("# {name}: {}", printable(why)),
                Ok(text) if text.is_empty() => format!("{name}="),
                Ok(_) if has_fault(&name) || has_fault(&value.name) => mark(format!("{name}={MASK}")),
                Ok(text) => mark(format!("{name}={}", quoted(&masked(key, text)))),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{line}  # {}", printable(&origin(value)));
        }
        lines
    }
}

/// Returns where a setting comes from.
fn origin(value: &SettingValue) -> String {
    if value.is_path {
        return format!("the file of {} in {}", value.name, value.layer);
    }
    value.layer.to_string()
}

/// Returns the text of a setting without a fault, or a mask.
fn masked(key: &str, text: &str) -> String {
    match key {
        "redis.url" => without_password(text),
        // A login does not belong there, and is refused unless another setting wins.
        "redis.host" | "smtp.server" | "smtp_fallback.server" if text.contains(['@', '/']) => MASK.to_owned(),
        key if names::is_secret(key) => MASK.to_owned(),
        _ => text.to_owned(),
    }
}

/// Returns a URL of Redis that otpd accepts, with a mask for its password and its query, which can
/// have one too.
fn without_password(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?********"));
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    let Some((login, servers)) = rest.rsplit_once('@') else { return format!("{scheme}://{rest}{query}") };
    let user = login.split_once(':').map_or("", |(user, _)| user);
    format!("{scheme}://{user}:{MASK}@{servers}{query}")
}

/// Returns a value as it must stand in `.env`.
fn quoted(text: &str) -> String {
    if text.chars().all(|c| c.is_ascii_graphic() && !"#'\"\\".contains(c)) {
        return text.to_owned();
    }
    format!("'{}'", printable(text).replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Returns a text without characters that a terminal acts on.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Texts;

    fn effective(texts: Texts, with_defaults: bool) -> String {
        let read_file = |_: &std::path::Path| Ok("hunter2\n".to_owned());
        Sources::layered(texts, &read_file).unwrap().effective(with_defaults, None)
    }

    /// Returns what is shown of settings that are checked first.
    fn checked(texts: Texts) -> String {
        let sources = Sources::layered(texts, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
        sources.effective(false, crate::config::serve(&sources).err().as_ref())
    }

    #[test]
    fn each_setting_is_shown_with_the_layer_that_sets_it() {
        let mut texts = Texts::only(&[("OTP_LOG__LEVEL", "debug"), ("OTP_MAIL__BRAND", "Example Co")]);
        texts.dotenv = Some("REDIS_HOST=localhost\nOTP_LOG__LEVEL=info\n".into());
        texts.config =
            Some(("/etc/a.toml".into(), "[codes]\ndigits = 8\n[[tenants]]\nname = \"app\"\n".into()));
        let shown = effective(texts.clone(), false);
        let expected = [
            "OTP_CODES__DIGITS=8  # /etc/a.toml",
            "OTP_LOG__LEVEL=debug  # the environment",
            "OTP_MAIL__BRAND='Example Co'  # the environment",
            "REDIS_HOST=localhost  # .env",
            "# tenants.1.name=app  # /etc/a.toml",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
        assert!(effective(texts, true).contains("OTP_HTTP__LISTEN=127.0.0.1:5000  # the defaults\n"));
    }

    #[test]
    fn no_secret_is_shown() {
        let secrets = names::secrets();
        for key in secrets {
            let name = names::usual_name(key);
            let shown = effective(Texts::only(&[(&name, "hunter2")]), false);
            assert_eq!(shown, format!("# {name}={MASK}  # the environment\n"));
            let by_file = format!("{name}_FILE");
            let shown = effective(Texts::only(&[(&by_file, "/run/secret")]), false);
            assert_eq!(shown, format!("# {name}={MASK}  # the file of {by_file} in the environment\n"));
        }
    }

    #[test]
    fn the_password_of_a_url_is_masked_and_the_rest_shown() {
        for (url, shown) in [
            (
                "rediss://otpd:hunter2@redis.example.com:6380/1",
                "rediss://otpd:********@redis.example.com:6380/1",
            ),
            ("redis://:hunter2@localhost", "redis://:********@localhost"),
            ("redis://hunter2@localhost", "redis://:********@localhost"),
            ("redis://a:hunter2@hunter2@localhost", "redis://a:********@localhost"),
            ("redis://a:hunter2@h1:1,h2:2/n?x=hunter2", "redis://a:********@h1:1,h2:2/n?********"),
            ("unix:///run/redis.sock?user=otpd&pass=hunter2", "unix:///run/redis.sock?********"),
            ("otpd:hunter2", "********"),
            ("redis://localhost/0", "redis://localhost/0"),
        ] {
            let line = effective(Texts::only(&[("REDIS_URL", url)]), false);
            let mark = if shown.contains(MASK) { "# " } else { "" };
            assert_eq!(line, format!("{mark}REDIS_URL={shown}  # the environment\n"), "{url}");
        }
    }

    #[test]
    fn what_otpd_refuses_may_be_a_secret_and_is_masked() {
        for (name, value) in [
            ("OTP_TENANT__KEYS", "backend:hunter2"),
            ("REDIS_HOST", "otpd:hunter2@redis.example.com"),
            ("SMTP_SERVER", "user:hunter2@relay.example.com"),
            ("OTP_TRACES__ENDPOINT", "https://c.example/?api-key=hunter2"),
            ("REDIS_URL", "otpd:hunter2@rediss://redis.example.com"),
            ("EMAIL_SENDER", "hunter2"),
        ] {
            let shown = checked(Texts::enough_and(&[(name, value)]));
            assert!(!shown.contains("hunter2"), "{name}: {shown}");
            assert!(shown.contains(&format!("{name}={MASK}")), "{name}: {shown}");
        }
    }

    #[test]
    fn nothing_that_is_shown_moves_the_cursor() {
        let shown = effective(Texts::only(&[("OTP_MAIL__BRAND", "a\u{1b}[2Jb\nc\u{9b}")]), false);
        assert_eq!(shown, "OTP_MAIL__BRAND='a\u{fffd}[2Jb\u{fffd}c\u{fffd}'  # the environment\n");
    }

    proptest! {
        #[test]
        fn a_line_sets_what_it_shows(value in "[ -~é]{1,40}") {
            let shown = effective(Texts::only(&[("OTP_MAIL__BRAND", &value)]), false);
            let again = effective(Texts { dotenv: Some(shown.clone()), ..Texts::default() }, false);
            prop_assert_eq!(shown.replace("the environment", ".env"), again);
        }
    }
}
