//! The layers above the defaults, as they stand in files and in the environment.
//!
//! The one layer that reads the environment. Must not change it, and must not understand what it reads.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Faults};

/// Read from the working directory where it is there.
pub(super) const DOTENV: &str = ".env";

/// What the layers above the defaults say, before anything is understood.
#[derive(Clone, Default)]
pub struct Texts {
    /// The path and the content of the file that `--config` names, where it is given.
    pub config: Option<(PathBuf, String)>,
    /// The content of `.env`, where it is there.
    pub dotenv: Option<String>,
    /// The environment.
    pub environment: Vec<(String, OsString)>,
}

impl Texts {
    /// Reads them.
    pub(super) fn read(config: Option<&Path>) -> Result<Self, Faults> {
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
            Ok(Self { config, dotenv, environment: environment() })
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

/// The only reading of the environment. A name that is no UTF-8 is none of ours.
#[expect(clippy::disallowed_methods, reason = "this is its one home")]
fn environment() -> Vec<(String, OsString)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
}

#[cfg(test)]
impl Texts {
    /// An environment that is all that `otpd serve` needs, and what is added to it or set otherwise.
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

    /// An environment.
    pub(super) fn only(variables: &[(&str, &str)]) -> Self {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        Self { environment, ..Self::default() }
    }
}
