//! One setting as text, and where that stands.
//!
//! Must not know what the setting means; must not show its text.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::names::Spelling;
use super::texts::DOTENV;

/// A secret has fewer bytes than this.
const SECRET_MAX: u64 = 64 * 1024;

/// One setting as text.
pub(super) struct SettingValue {
    /// What it is called where it stands.
    pub name: String,
    /// Where it stands.
    pub layer: Layer,
    /// Whether the name is that of a file which holds the setting.
    pub is_path: bool,
    /// Another name of the setting that says something else in the same layer.
    pub rival: Option<String>,
    /// The text, or why there is none.
    pub text: Result<Zeroizing<String>, String>,
}

/// Where a value stands.
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
    /// Two names of one setting in one layer must say the same.
    pub fn meet(&mut self, other: &Self) {
        if self.is_path != other.is_path || self.text != other.text {
            self.text = Err(format!("{} is set as well: keep one of the two", other.name));
            self.rival = Some(other.name.clone());
        }
    }

    /// Replaces the path of a file by its content.
    pub fn follow(&mut self, read_file: ReadFile<'_>) {
        if let (true, Ok(path)) = (self.is_path, &self.text) {
            self.text = content(path, read_file);
        }
    }
}

impl Layer {
    /// How names are spelled there.
    pub fn spelling(&self) -> Spelling {
        match self {
            Self::Defaults | Self::Config(_) => Spelling::Document,
            Self::DotEnv | Self::Environment => Spelling::Environment,
        }
    }

    /// A line for this layer that gives the setting of that name a value.
    pub fn line(&self, name: &str, value: &str) -> String {
        let is_bare = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
        let quote = if is_bare { "" } else { "\"" };
        match (self.spelling(), name.split_once('.')) {
            (Spelling::Document, Some(("tenants", of_one))) => {
                let (number, key) = of_one.split_once('.').unwrap_or(("", of_one));
                format!("{key} = {quote}{value}{quote}  # in [[tenants]] number {number}")
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

/// The content of a file with a secret. One that does not end is refused.
pub(super) fn secret_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SECRET_MAX).read_to_string(&mut text)?;
    if text.len() as u64 == SECRET_MAX {
        return Err(io::Error::other("it is too long for a secret"));
    }
    Ok(text)
}

/// The trimmed content of a file.
fn content(path: &str, read_file: ReadFile<'_>) -> Result<Zeroizing<String>, String> {
    // What does not look like a path may be the secret itself.
    let is_path = ["/", "./", "../"].iter().any(|start| path.starts_with(start));
    let shown = if is_path { path } else { "the file that it names" };
    let text = read_file(Path::new(path)).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let text = Zeroizing::new(text);
    match text.trim_start_matches('\u{feff}').trim() {
        "" => Err(format!("{shown} is empty")),
        trimmed => Ok(Zeroizing::new(trimmed.to_owned())),
    }
}
