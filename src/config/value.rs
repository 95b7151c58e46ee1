//! One setting as text, and the layer it comes from.
//!
//! Must not know what the setting means; must not show its text.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::names::Spelling;
use super::texts::DOTENV;

/// Size limit of a file with a secret, in bytes; the file must be smaller.
const SECRET_MAX: u64 = 64 * 1024;

/// One setting as text.
pub(super) struct SettingValue {
    /// The setting's name as written in the layer.
    pub name: String,
    /// The layer it comes from.
    pub layer: Layer,
    /// Whether the value is the path of a file that holds the setting.
    pub is_path: bool,
    /// Another name of the setting that has a different value in the same layer.
    pub rival: Option<String>,
    /// The text, or why there is none.
    pub text: Result<Zeroizing<String>, String>,
}

/// The layer a value comes from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Layer {
    Defaults,
    Config(PathBuf),
    DotEnv,
    Environment,
}

/// Reads a file that a setting names.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

impl SettingValue {
    /// Records a fault if two names of one setting have different values in one layer.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.is_path != other.is_path || self.text != other.text {
            self.text = Err(format!("{} is set as well: keep one of the two", other.name));
            self.rival = Some(other.name.clone());
        }
    }

    /// Replaces the path of a file by its content.
    pub(super) fn follow(&mut self, read_file: ReadFile<'_>) {
        if let (true, Ok(path)) = (self.is_path, &self.text) {
            self.text = content(path, read_file);
        }
    }
}

impl Layer {
    /// Returns how the layer spells names.
    pub(super) fn spelling(&self) -> Spelling {
        match self {
            Self::Defaults | Self::Config(_) => Spelling::Document,
            Self::DotEnv | Self::Environment => Spelling::Environment,
        }
    }

    /// Returns a line for this layer that sets the setting `name` to `value`.
    pub(super) fn line(&self, name: &str, value: &str) -> String {
        let is_bare = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
        let quote = if is_bare { "" } else { "\"" };
        match (self.spelling(), name.split_once('.')) {
            (Spelling::Document, Some(("tenants", of_one))) => {
                let (number, key) = of_one.split_once('.').unwrap_or(("", of_one));
                let (table, key) = match key.split_once('.') {
                    Some((section, key)) => (format!("[tenants.{section}] of "), key),
                    None => (String::new(), key),
                };
                format!("{key} = {quote}{value}{quote}  # in {table}[[tenants]] number {number}")
            }
            (Spelling::Document, Some((section, key))) => {
                format!("{key} = {quote}{value}{quote}  # in [{section}]")
            }
            _ => format!("{name}={value}"),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("the defaults"),
            Self::Config(path) => path.display().fmt(f),
            Self::DotEnv => f.write_str(DOTENV),
            Self::Environment => f.write_str("the environment"),
        }
    }
}

/// Reads a file with a secret. Refuses one that is too large or has no end, such as `/dev/zero`.
pub(super) fn secret_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SECRET_MAX).read_to_string(&mut text)?;
    if text.len() as u64 == SECRET_MAX {
        return Err(io::Error::other("it is too long for a secret"));
    }
    Ok(text)
}

/// Returns the trimmed content of a file.
fn content(path: &str, read_file: ReadFile<'_>) -> Result<Zeroizing<String>, String> {
    // A value that does not look like a path may be the secret itself.
    let is_path = ["/", "./", "../"].iter().any(|start| path.starts_with(start));
    let shown = if is_path { path } else { "the file that it names" };
    let text = read_file(Path::new(path)).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let text = Zeroizing::new(text);
    match text.trim_start_matches('\u{feff}').trim() {
        "" => Err(format!("{shown} is empty")),
        trimmed => Ok(Zeroizing::new(trimmed.to_owned())),
    }
}
