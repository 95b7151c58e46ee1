//! Merges the four layers: every setting with its text and the layer it comes from.
//!
//! Must not know what a setting means.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::document::{self, NotToml};
use super::dotenv;
use super::fault::{Fault, Faults};
use super::foreign_names;
use super::names::{self, DEFAULTS, Names, Spelling};
use super::quotes;
use super::texts::{DOTENV, Texts, utf8};
use super::value::{Layer, ReadFile, SettingValue, secret_file};
use crate::domain::time::{Millis, millis};

/// Every setting as text.
pub struct Sources {
    pub(super) values: BTreeMap<String, SettingValue>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<String>,
    /// Number of `[[tenants]]`; the settings of the first are named `tenants.1.name` and so on.
    pub(super) tenants: usize,
    /// The time at which the layers were read.
    pub(super) now: Millis,
    /// Variables of other programs that are set, with the corresponding setting.
    foreign: Vec<(String, &'static str)>,
    defaults: BTreeMap<String, String>,
}

/// A name with its text, or with the reason why there is none.
type Pair = (String, Result<String, String>);

impl Sources {
    /// Reads all layers, and the files that hold secrets, at this time.
    ///
    /// # Errors
    /// [`Faults`] if a layer cannot be read as a whole. Faults of single settings are reported
    /// later, together with all others.
    pub fn read(config: Option<&Path>, now: SystemTime) -> Result<Self, Faults> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, millis);
        Self::layered(Texts::read(config, now)?, &secret_file)
    }

    /// Merges the layers.
    ///
    /// # Errors
    /// [`Faults`] if the file of `--config` is not TOML.
    pub fn layered(texts: Texts, read_file: ReadFile<'_>) -> Result<Self, Faults> {
        let defaults = document_layer(&Layer::Defaults, DEFAULTS)?;
        let mut sources = Self {
            values: BTreeMap::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
            tenants: 0,
            now: texts.now,
            foreign: Vec::new(),
            defaults: defaults.iter().map(|(k, v)| (k.clone(), v.clone().unwrap_or_default())).collect(),
        };
        let names = Names::of(defaults.iter().map(|(key, _)| key.as_str()));
        sources.add(&names, &Layer::Defaults, defaults, read_file);
        if let Some((path, text)) = texts.config {
            let layer = Layer::Config(path);
            let (pairs, tenants) =
                document::flatten_with(&text, "tenants").map_err(|why| not_toml(&layer, why))?;
            sources.add(&names, &layer, pairs, read_file);
            sources.add_tenants(&names, &layer, tenants);
        }
        let pairs = sources.dotenv_layer(&texts.dotenv.unwrap_or_default());
        sources.add_variables(&names, &Layer::DotEnv, pairs, read_file);
        let mut pairs: Vec<Pair> =
            texts.environment.into_iter().map(|(name, value)| (name, utf8(value))).collect();
        pairs.sort();
        let pairs = pairs.into_iter().map(|(name, text)| quotes::without(&names, name, text)).collect();
        sources.add_variables(&names, &Layer::Environment, pairs, read_file);
        Ok(sources)
    }

    /// Returns a warning for each variable of another program if the corresponding setting is not
    /// set and is used, according to `is_used`.
    pub(super) fn foreign_warnings(&self, is_used: impl Fn(&str) -> bool) -> Vec<String> {
        let is_unset = |key: &str| self.values.get(key).is_some_and(|value| value.layer == Layer::Defaults);
        // A Redis URL includes login and TLS.
        let is_needed = |key: &str| is_unset(key) && (!key.starts_with("redis.") || is_unset("redis.url"));
        let foreign = self.foreign.iter().filter(|(_, key)| is_needed(key) && is_used(key));
        let warning = |(name, key): &(String, &str)| {
            format!("{name} is set, but otpd does not read it: {} is the setting", names::usual_name(key))
        };
        foreign.map(warning).collect()
    }

    /// Replaces the defaults of settings that are not set by those of `otpd dev`, except those of
    /// limits.
    #[must_use]
    pub fn for_dev(self) -> Self {
        self.with_defaults(&names::DEV_OUTPUTS)
    }

    /// Replaces the defaults of limits that are not set by those of `otpd dev`.
    #[must_use]
    pub fn with_limits_of_dev(self) -> Self {
        self.with_defaults(&names::DEV_DEFAULTS)
    }

    fn with_defaults(mut self, defaults: &[(&str, &str)]) -> Self {
        for (key, text) in defaults {
            if let Some(value) = self.values.get_mut(*key).filter(|value| value.layer == Layer::Defaults) {
                value.text = Ok(Zeroizing::new((*text).to_owned()));
            }
        }
        self
    }

    /// Returns a fault of a setting, with the line that fixes it.
    pub(super) fn fault(&self, key: &str, what: &str) -> Fault {
        match self.values.get(key) {
            Some(value) if value.layer != Layer::Defaults => {
                let is_content = value.is_path && value.text.is_ok();
                let line = if let Some(rival) = &value.rival {
                    match value.layer.spelling() {
                        // An empty variable counts as not set.
                        Spelling::Environment => format!("{rival}="),
                        Spelling::Document => format!("# remove {rival}"),
                    }
                } else if is_content {
                    self.example(key).to_owned()
                } else {
                    self.line(&value.layer, &value.name, key, value.is_path)
                };
                let file = if is_content { "the file that it names, " } else { "" };
                let what = format!("{what} (in {file}{})", value.layer);
                Fault { name: value.name.clone(), what, line }
            }
            // A setting of `[[tenants]]` that is not set can only be set in the file.
            _ if key.starts_with("tenants.") => {
                let line = self.line(&Layer::Defaults, key, key, false);
                Fault { name: key.to_owned(), what: what.to_owned(), line }
            }
            _ => {
                let name = names::usual_name(key);
                let line = self.line(&Layer::Environment, &name, key, false);
                Fault { name, what: format!("{what}{}", self.foreign_hint(key)), line }
            }
        }
    }

    /// Returns a hint that names the variables of other programs that are set instead of this
    /// setting.
    fn foreign_hint(&self, key: &str) -> String {
        let says_it = |other: &str| other == key || (key == "redis.host" && other == "redis.url");
        let names: Vec<_> =
            self.foreign.iter().filter(|(_, of)| says_it(of)).map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return String::new();
        }
        format!(" ({} is set, but otpd does not read it)", names.join(", "))
    }

    fn add(&mut self, names: &Names, layer: &Layer, pairs: Vec<Pair>, read_file: ReadFile<'_>) {
        let mut added: BTreeMap<String, SettingValue> = BTreeMap::new();
        for (name, text) in pairs {
            let Some(meaning) = names.meaning(layer.spelling(), &name) else {
                self.faults.push(self.unknown(names, layer, name));
                continue;
            };
            let text = text.map(Zeroizing::new);
            let value =
                SettingValue { name, layer: layer.clone(), is_path: meaning.is_path, rival: None, text };
            match added.get_mut(&meaning.key) {
                Some(other) => other.merge(&value),
                None => {
                    added.insert(meaning.key.clone(), value);
                }
            }
        }
        for value in added.values_mut() {
            value.follow(read_file);
        }
        self.values.extend(added);
    }

    /// Adds the settings of each `[[tenants]]`.
    fn add_tenants(&mut self, names: &Names, layer: &Layer, tenants: Vec<Vec<Pair>>) {
        self.tenants = tenants.len();
        for (number, pairs) in (1..).zip(tenants) {
            for (key, text) in pairs {
                let name = format!("tenants.{number}.{key}");
                if names::TENANT_KEYS.contains(&key.as_str()) {
                    let text = text.map(Zeroizing::new);
                    let value = SettingValue {
                        name: name.clone(),
                        layer: layer.clone(),
                        is_path: false,
                        rival: None,
                        text,
                    };
                    self.values.insert(name, value);
                } else {
                    self.faults.push(self.unknown_of_tenant(names, layer, number, &key));
                }
            }
        }
    }

    /// Adds a layer of environment variables; skips those of other programs and empty ones.
    fn add_variables(&mut self, names: &Names, layer: &Layer, pairs: Vec<Pair>, read_file: ReadFile<'_>) {
        let says_nothing = |name: &str, text: &str| text.is_empty() || names::is_injected(name, text);
        for (name, text) in &pairs {
            if let (Some(key), false) =
                (foreign_names::of_foreign(name), text.as_ref().is_ok_and(|text| says_nothing(name, text)))
            {
                self.foreign.push((name.clone(), key));
            }
            if let (Some(ours), false) =
                (names::of_file(names, name), text.as_deref().is_ok_and(str::is_empty))
            {
                self.warnings.push(format!(
                    "{name} is set, but otpd reads secrets only from files of their own: {ours} is the setting"
                ));
            }
        }
        let is_ours =
            |name: &str| names.meaning(Spelling::Environment, name).is_some() || names::is_claimed(name);
        let (injected, ours): (Vec<Pair>, Vec<Pair>) = pairs
            .into_iter()
            .filter(|(name, text)| is_ours(name) && !text.as_ref().is_ok_and(String::is_empty))
            .partition(|(name, text)| text.as_ref().is_ok_and(|text| names::is_injected(name, text)));
        if !injected.is_empty() {
            let names: Vec<_> = injected.into_iter().map(|(name, _)| name).collect();
            self.warnings.push(format!(
                "ignored, since orchestrators inject such values for their services (in {layer}): {}",
                names.join(", ")
            ));
        }
        self.add(names, layer, ours, read_file);
    }

    fn dotenv_layer(&mut self, text: &str) -> Vec<Pair> {
        let file = dotenv::parse(text);
        if !file.broken_lines.is_empty() {
            let numbers: Vec<_> = file.broken_lines.iter().map(usize::to_string).collect();
            let what = format!("cannot be read in line {}", numbers.join(", "));
            self.faults.push(Fault { name: DOTENV.into(), what, line: "NAME='value'".into() });
        }
        // The last value of a repeated name applies, as in the Flask service that otpd replaces.
        let last: BTreeMap<_, _> = file.assignments.into_iter().collect();
        last.into_iter().map(|(name, value)| (name, Ok(value))).collect()
    }

    /// Returns a line for `layer` that sets the setting to an example value.
    pub(super) fn line(&self, layer: &Layer, name: &str, key: &str, is_path: bool) -> String {
        let example = if is_path { "/run/secrets/a-file" } else { self.example(key) };
        layer.line(name, example)
    }

    /// Returns the line that sets the setting to this value, in the layer where it is set now.
    pub(super) fn line_with(&self, key: &str, value: &str) -> String {
        match self.values.get(key).filter(|value| value.layer != Layer::Defaults) {
            // The setting names a file, which must contain the value.
            Some(current) if current.is_path => value.to_owned(),
            Some(current) => current.layer.line(&current.name, value),
            None if key.starts_with("tenants.") => Layer::Defaults.line(key, value),
            None => Layer::Environment.line(&names::usual_name(key), value),
        }
    }

    pub(super) fn example(&self, key: &str) -> &str {
        let key = names::key_of_deployment(key);
        names::example(key).or_else(|| self.defaults.get(key).map(String::as_str)).unwrap_or_default()
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("keys", &self.values.keys()).finish_non_exhaustive()
    }
}

fn document_layer(layer: &Layer, text: &str) -> Result<Vec<Pair>, Faults> {
    document::flatten(text).map_err(|why| not_toml(layer, why))
}

fn not_toml(layer: &Layer, NotToml(why): NotToml) -> Faults {
    let what = format!("is not TOML: {why}");
    Faults(vec![Fault { name: layer.to_string(), what, line: "key = \"value\"".into() }])
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;

    use super::*;

    fn no_files(_: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn layered(texts: Texts) -> Sources {
        Sources::layered(texts, &no_files).unwrap()
    }

    fn text(sources: &Sources, key: &str) -> Result<String, String> {
        sources.values[key].text.clone().map(|text| text.to_string())
    }

    fn fault(sources: &Sources, key: &str) -> String {
        sources.fault(key, text(sources, key).unwrap_err().as_str()).to_string()
    }

    #[test]
    fn each_layer_overrules_the_one_below() {
        let mut texts = Texts::default();
        let mut seen = vec![text(&layered(Texts::default()), "smtp.port").unwrap()];
        let layers: [fn(&mut Texts); 3] = [
            |texts| texts.config = Some(("otpd.toml".into(), "[smtp]\nport = 1".into())),
            |texts| texts.dotenv = Some("SMTP_PORT=2".into()),
            |texts| texts.environment = vec![("OTP_SMTP__PORT".into(), "3".into())],
        ];
        for add in layers {
            add(&mut texts);
            let config = texts.config.clone();
            let dotenv = texts.dotenv.clone();
            let copy = Texts { config, dotenv, environment: texts.environment.clone(), now: 0 };
            seen.push(text(&layered(copy), "smtp.port").unwrap());
        }
        assert_eq!(seen, ["587", "1", "2", "3"]);
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let mut texts = Texts::only(&[("SMTP_PORT", ""), ("OTP_NOTHING__AT_ALL", "")]);
        texts.dotenv = Some("SMTP_PORT=2\nREDIS_PORT=\n".into());
        let sources = layered(texts);
        assert_eq!(text(&sources, "smtp.port").unwrap(), "2");
        assert_eq!(text(&sources, "redis.port").unwrap(), "6379");
        assert!(sources.faults.is_empty());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_one_that_was_meant() {
        let mut texts = Texts::only(&[("OTP_HTTP_LISTEN", "x"), ("PATH", "/bin")]);
        texts.dotenv = Some("OTP_SECRETS__PEPPER=hunter2\nUNRELATED=1\n".into());
        texts.config = Some(("a.toml".into(), "[smpt]\nport = 1".into()));
        let shown: Vec<_> = layered(texts).faults.iter().map(ToString::to_string).collect();
        let expected = [
            "- smpt.port: is not a setting of otpd (in a.toml); did you mean smtp.port?\n    port = 587  # in [smtp]",
            "- OTP_SECRETS__PEPPER: is not a setting of otpd (in .env); did you mean OTP_SECRETS__PEPPERS?\n    \
             OTP_SECRETS__PEPPERS=k1:<43 characters, from: otpd keygen pepper>",
            "- OTP_HTTP_LISTEN: is not a setting of otpd (in the environment); did you mean OTP_HTTP__LISTEN?\n    \
             OTP_HTTP__LISTEN=127.0.0.1:5000",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn two_names_of_a_setting_may_not_differ_in_one_layer() {
        let same = layered(Texts::only(&[("SMTP_PORT", "25"), ("OTP_SMTP__PORT", "25")]));
        assert_eq!(text(&same, "smtp.port").unwrap(), "25");
        let differ = layered(Texts::only(&[("SMTP_PORT", "25"), ("OTP_SMTP__PORT", "26")]));
        assert!(fault(&differ, "smtp.port").contains("SMTP_PORT is set as well"));
        let mut texts = Texts::only(&[("SMTP_PORT", "25")]);
        texts.dotenv = Some("OTP_SMTP__PORT=26".into());
        assert_eq!(text(&layered(texts), "smtp.port").unwrap(), "25");
    }

    #[test]
    fn a_secret_can_stand_in_a_file() {
        let read = |path: &Path| match path.to_str() {
            Some("/run/a") => Ok("\u{feff}  hunter2\r\n".to_owned()),
            Some("/run/empty") => Ok("\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let with = |variables: &[(&str, &str)]| Sources::layered(Texts::only(variables), &read).unwrap();
        let key = "smtp.password";
        assert_eq!(text(&with(&[("EMAIL_PASSWORD_FILE", "/run/a")]), key).unwrap(), "hunter2");
        assert_eq!(text(&with(&[("OTP_SMTP__PASSWORD_FILE", "/run/a")]), key).unwrap(), "hunter2");
        let missing = fault(&with(&[("EMAIL_PASSWORD_FILE", "/run/b")]), key);
        assert!(missing.starts_with("- EMAIL_PASSWORD_FILE: /run/b cannot be read"), "{missing}");
        assert!(fault(&with(&[("EMAIL_PASSWORD_FILE", "/run/empty")]), key).contains("/run/empty is empty"));
        let both = fault(&with(&[("EMAIL_PASSWORD_FILE", "/run/a"), ("EMAIL_PASSWORD", "hunter2")]), key);
        assert!(both.contains("EMAIL_PASSWORD_FILE is set as well: keep one"), "{both}");
        assert!(!both.contains("hunter2"), "{both}");
        let config = Some(("a.toml".into(), "[smtp]\npassword_file = \"/run/a\"".into()));
        let document = Sources::layered(Texts { config, ..Texts::default() }, &read).unwrap();
        assert_eq!(text(&document, key).unwrap(), "hunter2");
    }

    #[test]
    fn a_secret_where_a_path_should_be_is_not_repeated() {
        let shown = fault(&layered(Texts::only(&[("EMAIL_PASSWORD_FILE", "hunter2")])), "smtp.password");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_orchestrators_inject_is_ignored_with_a_warning() {
        let mut texts = Texts::only(&[
            ("REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("REDIS_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
            ("OTP_SERVICE_HOST", "10.0.0.2"),
        ]);
        texts.dotenv = Some("REDIS_PORT=6380".into());
        let sources = layered(texts);
        assert_eq!(text(&sources, "redis.port").unwrap(), "6380");
        assert!(sources.faults.is_empty());
        assert_eq!(sources.warnings.len(), 1);
        assert!(sources.warnings[0].ends_with(": OTP_SERVICE_HOST, REDIS_PORT"), "{:?}", sources.warnings);
    }

    #[test]
    fn a_value_that_stands_in_quotes_as_a_whole_loses_them_unless_it_is_a_password() {
        for quoted in ["\"2525\"", "'2525'", " '2525' "] {
            assert_eq!(text(&layered(Texts::only(&[("SMTP_PORT", quoted)])), "smtp.port").unwrap(), "2525");
        }
        for kept in ["'2525", "2525\"", "'2525\"", "\"", "\"A\" & \"B\""] {
            assert_eq!(text(&layered(Texts::only(&[("SMTP_PORT", kept)])), "smtp.port").unwrap(), kept);
        }
        let shown = fault(&layered(Texts::only(&[("EMAIL_PASSWORD", "'hunter2'")])), "smtp.password");
        assert!(shown.contains("EMAIL_PASSWORD_FILE") && !shown.contains("hunter2"), "{shown}");
        // Quotes inside of quotes are kept in a `.env`, because they must have been intended.
        let texts = Texts { dotenv: Some("EMAIL_PASSWORD=\"'a'\"".into()), ..Texts::default() };
        assert_eq!(text(&layered(texts), "smtp.password").unwrap(), "'a'");
    }

    #[test]
    fn a_name_of_other_programs_is_warned_of_unless_ours_is_set() {
        let warnings =
            |variables: &[(&str, &str)]| layered(Texts::only(variables)).foreign_warnings(|_| true);
        let said = warnings(&[
            ("SMTP_USERNAME", "s3cret"),
            ("PORT", "80"),
            ("SMTP_HOST", ""),
            ("MAIL_PORT", "tcp://10.0.0.1:25"),
            ("PATH", "/"),
        ]);
        let expected = [
            "PORT is set, but otpd does not read it: OTP_HTTP__LISTEN is the setting",
            "SMTP_USERNAME is set, but otpd does not read it: OTP_SMTP__USERNAME is the setting",
        ];
        assert_eq!(said, expected);
        assert!(warnings(&[("SMTP_PASSWORD", "a"), ("EMAIL_PASSWORD", "b")]).is_empty());
        assert!(warnings(&[("REDIS_USER", "a"), ("REDIS_URL", "b")]).is_empty());
        let texts = Texts { dotenv: Some("MAIL_PASSWORD_FILE=/run/a".into()), ..Texts::default() };
        assert_eq!(layered(texts).foreign_warnings(|_| true).len(), 1);
        // `otpd dev` does not warn of settings that it does not use.
        let dev = layered(Texts::only(&[("SMTP_HOST", "a")])).foreign_warnings(|key| key != "smtp.server");
        assert!(dev.is_empty());
    }

    #[test]
    fn broken_texts_are_named_by_file_and_line() {
        let texts = Texts { dotenv: Some("A=1\nhunter2\n".into()), ..Texts::default() };
        let shown = layered(texts).faults[0].to_string();
        assert!(shown.starts_with("- .env: cannot be read in line 2\n"), "{shown}");
        let config = Some(("a.toml".into(), "[smtp]\npassword = hunter2".into()));
        let shown =
            Sources::layered(Texts { config, ..Texts::default() }, &no_files).unwrap_err().to_string();
        assert!(
            shown.starts_with("- a.toml: is not TOML: line 2: ") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_is_a_fault() {
        use std::os::unix::ffi::OsStringExt as _;
        let environment = vec![("EMAIL_PASSWORD".to_owned(), OsString::from_vec(vec![0xff]))];
        let sources = layered(Texts { environment, ..Texts::default() });
        assert!(fault(&sources, "smtp.password").contains("must be UTF-8"));
    }

    #[test]
    fn nothing_is_shown_of_values() {
        let shown = format!("{:?}", layered(Texts::only(&[("EMAIL_PASSWORD", "hunter2")])));
        assert!(shown.contains("smtp.password") && !shown.contains("hunter2"), "{shown}");
    }
}
