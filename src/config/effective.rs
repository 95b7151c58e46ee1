//! The effective settings as text, for `otpd config`: each with where it comes from.
//!
//! Must not show a secret, nor the password of a URL.

use std::fmt::Write as _;

use super::names;
use super::source::Sources;
use super::value::{Layer, SettingValue};

/// What is shown instead of a secret.
const MASK: &str = "********";

impl Sources {
    /// Returns a line for each setting, in the form of `.env`, with where it comes from as a
    /// comment. Without `with_defaults`, settings that are not set have no line.
    #[must_use]
    pub fn effective(&self, with_defaults: bool) -> String {
        let mut lines = String::new();
        let shown = self.values.iter().filter(|(_, value)| with_defaults || value.layer != Layer::Defaults);
        for (key, value) in shown {
            let name = if key.starts_with("tenants.") { key.clone() } else { names::usual_name(key) };
            let line = match &value.text {
                Ok(text) => format!("{name}={}", quoted(&masked(key, text))),
                Err(why) => format!("# {name}: {why}"),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{line}  # {}", origin(value));
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

/// Returns the text of a setting, or a mask.
fn masked(key: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    if names::is_secret(key) && key != "redis.url" {
        return MASK.to_owned();
    }
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((login, rest))) => {
            let user = login.get(scheme.len() + 3..).and_then(|login| login.split_once(':'));
            let user = user.map_or("", |(user, _)| user);
            format!("{scheme}://{user}:{MASK}@{rest}")
        }
        // Not a URL that otpd would accept, so it is not known what is in it.
        (None, _) if names::is_secret(key) => MASK.to_owned(),
        _ => text.to_owned(),
    }
}

/// Returns a value as it must stand in `.env`.
fn quoted(text: &str) -> String {
    if text.contains(|c: char| c.is_whitespace() || "#'\"$\\".contains(c)) {
        return format!("'{}'", text.replace(['\n', '\r'], " "));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Texts;
    use super::*;

    fn effective(texts: Texts, with_defaults: bool) -> String {
        let read_file = |_: &std::path::Path| Ok("hunter2\n".to_owned());
        Sources::layered(texts, &read_file).unwrap().effective(with_defaults)
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
            "tenants.1.name=app  # /etc/a.toml",
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
            assert_eq!(shown, format!("{name}={MASK}  # the environment\n"));
            let by_file = format!("{name}_FILE");
            let shown = effective(Texts::only(&[(&by_file, "/run/secret")]), false);
            assert_eq!(shown, format!("{name}={MASK}  # the file of {by_file} in the environment\n"));
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
            ("redis://localhost/0", "redis://localhost/0"),
        ] {
            let line = effective(Texts::only(&[("REDIS_URL", url)]), false);
            assert_eq!(line, format!("REDIS_URL={shown}  # the environment\n"), "{url}");
        }
    }
}
