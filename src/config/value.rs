//! One setting as text, and where that stands.
//!
//! Must not know what the setting means; must not show its text.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::names::Spelling;
use super::texts::DOTENV;

/// One setting as text.
pub(super) struct Value {
    /// What it is called where it stands.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Whether the name is that of a file which holds the setting.
    pub is_path: bool,
    /// Another name of the setting that says something else in the same place.
    pub rival: Option<String>,
    /// The text, or why there is none.
    pub text: Result<Zeroizing<String>, String>,
}

/// Where a value stands.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    Defaults,
    Config(PathBuf),
    DotEnv,
    Environment,
}

/// Reads a file that a setting names.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

impl Value {
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

impl Place {
    /// How names are spelled there.
    pub fn spelling(&self) -> Spelling {
        match self {
            Self::Defaults | Self::Config(_) => Spelling::Document,
            Self::DotEnv | Self::Environment => Spelling::Environment,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("the defaults"),
            Self::Config(path) => path.display().fmt(f),
            Self::DotEnv => f.write_str(DOTENV),
            Self::Environment => f.write_str("the environment"),
        }
    }
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
