//! The layers above the defaults, as the text of files and of the environment.
//!
//! The only module that reads the environment. Must not change it, and must not interpret what it
//! reads.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Faults};
use crate::domain::time::Millis;

/// Read from the working directory if it exists.
pub(super) const DOTENV: &str = ".env";

/// The text of the layers above the defaults, before it is interpreted.
#[derive(Clone, Default)]
pub struct Texts {
    /// Path and content of the file that `--config` names, if given.
    pub config: Option<(PathBuf, String)>,
    /// Content of `.env`, if the file exists.
    pub dotenv: Option<String>,
    /// The environment.
    pub environment: Vec<(String, OsString)>,
    /// The time at which they are read, because some settings must end soon.
    pub now: Millis,
}

impl Texts {
    /// Reads all layers.
    pub(super) fn read(config: Option<&Path>, now: Millis) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut text = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| {
                let what = format!("cannot be read: {error}");
                let line = format!("ls -l {}", path.display());
                faults.push(Fault { name: path.display().to_string(), what, line });
            })
        };
        let config = config.and_then(|path| text(path).ok().map(|text| (path.to_owned(), text)));
        let dotenv = Path::new(DOTENV);
        let is_there = !matches!(dotenv.metadata(), Err(error) if error.kind() == ErrorKind::NotFound);
        let dotenv = if is_there { text(dotenv).ok() } else { None };
        if faults.is_empty() {
            Ok(Self { config, dotenv, environment: environment(), now })
        } else {
            Err(Faults(faults))
        }
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Texts").finish_non_exhaustive()
    }
}

/// Reads the environment; no other code does. Skips names that are not UTF-8, because no setting
/// has such a name.
#[expect(clippy::disallowed_methods, reason = "this is its one home")]
fn environment() -> Vec<(String, OsString)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
}

/// Returns the value of a variable as text.
///
/// # Errors
/// A sentence, if it is not UTF-8.
pub(super) fn utf8(value: OsString) -> Result<String, String> {
    value.into_string().map_err(|_| "must be UTF-8".to_owned())
}

#[cfg(test)]
impl Texts {
    /// An environment that is sufficient for `otpd serve`, with these variables added or replaced.
    pub(super) fn enough_and(more: &[(&str, &str)]) -> Self {
        let secret = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
        let pepper = format!("k1:{secret}");
        let enough = [
            ("EMAIL_SENDER", "you@example.com"),
            ("EMAIL_PASSWORD", "hunter2"),
            ("SMTP_SERVER", "smtp.example.com"),
            ("REDIS_HOST", "localhost"),
            ("OTP_SECRETS__PEPPERS", &pepper),
            ("OTP_SECRETS__INDEX_KEY", secret),
        ];
        let is_kept = |name| more.iter().all(|(other, _)| name != *other);
        let kept: Vec<_> =
            enough.into_iter().filter(|(name, _)| is_kept(*name)).chain(more.iter().copied()).collect();
        Self::only(&kept)
    }

    /// An environment of only these variables.
    pub(super) fn only(variables: &[(&str, &str)]) -> Self {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        Self { environment, ..Self::default() }
    }
}
