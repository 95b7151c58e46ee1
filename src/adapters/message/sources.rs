//! Words and layouts of mails as they are written: those that are compiled in, and those of a folder that take their
//! place.
//!
//! `LOCALE.toml` has words, each a template; `layout.txt` and `layout.html` put them together. A folder has them for all,
//! and in a folder of a tenant's name for that tenant; what is not there is as for all, and then as built in. Must not
//! pass over a file that means nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::templates::{Direction, TemplateError, TemplateFault};
use crate::domain::locale::Locale;
use crate::domain::tenant::Tenant;

/// The words that are compiled in.
const BUILT_IN: [(&str, &str); 7] = [
    ("ar", include_str!("words/ar.toml")),
    ("de", include_str!("words/de.toml")),
    ("en", include_str!("words/en.toml")),
    ("es", include_str!("words/es.toml")),
    ("fr", include_str!("words/fr.toml")),
    ("ja", include_str!("words/ja.toml")),
    ("pt", include_str!("words/pt.toml")),
];
/// The layout of the plain part.
pub const TEXT_LAYOUT: &str = "layout.txt";
/// The layout of the HTML part; what is put into it is escaped.
pub const HTML_LAYOUT: &str = "layout.html";
/// The layouts that are compiled in.
const LAYOUTS: [(&str, &str); 2] =
    [(TEXT_LAYOUT, include_str!("layout.txt")), (HTML_LAYOUT, include_str!("layout.html"))];

/// The most octets of a file.
const FILE_MAX: u64 = 1024 * 1024;

/// The names of the words that a layout is given.
pub const WORDS: [&str; 6] = ["subject", "lead", "validity", "place", "secrecy", "stranger"];

/// What a file of words says.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Where it is said.
    pub direction: Option<Direction>,
    /// By the names of [`WORDS`].
    pub texts: BTreeMap<&'static str, String>,
}

/// Words and layouts as they were read.
#[derive(Debug, Clone, Default)]
pub struct TemplateSources {
    /// By their languages.
    pub words: BTreeMap<String, Words>,
    /// By their names.
    pub layouts: BTreeMap<String, String>,
}

impl Words {
    fn parse(text: &str) -> Result<Self, TemplateFault> {
        let said: BTreeMap<String, String> =
            toml::from_str(text).map_err(|error| TemplateFault::Words(error.message().to_owned()))?;
        let mut words = Self::default();
        for (name, text) in said {
            match (WORDS.into_iter().find(|word| *word == name), text.as_str()) {
                (Some(word), _) => drop(words.texts.insert(word, text)),
                (None, "ltr") if name == "direction" => words.direction = Some(Direction::Ltr),
                (None, "rtl") if name == "direction" => words.direction = Some(Direction::Rtl),
                (None, _) if name == "direction" => {
                    return Err(TemplateFault::Words("direction must be ltr or rtl".to_owned()));
                }
                (None, _) => {
                    let known = WORDS.join(", ");
                    let what = format!("{name} is neither one of {known}, nor direction with ltr or rtl");
                    return Err(TemplateFault::Words(what));
                }
            }
        }
        Ok(words)
    }

    fn overridden_by(mut self, own: Self) -> Self {
        self.texts.extend(own.texts);
        Self { direction: own.direction.or(self.direction), ..self }
    }
}

impl TemplateSources {
    /// Those that are compiled in.
    pub fn built_in() -> Result<Self, TemplateError> {
        let mut sources = Self::default();
        for (tag, text) in BUILT_IN {
            let place = || format!("{tag}.toml");
            let words = Words::parse(text).map_err(|fault| TemplateError { place: place(), fault })?;
            sources.words.insert(tag.to_owned(), words);
        }
        let layouts = LAYOUTS.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Ok(Self { layouts: layouts.into(), ..sources })
    }

    /// What holds for all, and what each tenant has of its own.
    pub fn of_folder(folder: &Path) -> Result<(Self, BTreeMap<String, Self>), TemplateError> {
        let mut own = Self::default();
        let mut tenants = BTreeMap::new();
        for path in entries(folder)? {
            if !path.is_dir() {
                own.read(&path)?;
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name != Tenant::Simple.name() && Tenant::parse(&name).is_none() {
                return Err(fault(&path, TemplateFault::Unknown));
            }
            let mut sources = Self::default();
            entries(&path)?.iter().try_for_each(|path| sources.read(path))?;
            tenants.insert(name, sources);
        }
        Ok((Self::built_in()?.overridden_by(&own), tenants))
    }

    /// Reads one file.
    fn read(&mut self, path: &Path) -> Result<(), TemplateError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let text = || read_text(path).map_err(|error| fault(path, TemplateFault::Unreadable(error)));
        if LAYOUTS.iter().any(|(layout, _)| *layout == name) {
            self.layouts.insert(name.to_owned(), text()?);
            return Ok(());
        }
        let tag = name.strip_suffix(".toml").and_then(Locale::parse);
        let tag = tag.ok_or_else(|| fault(path, TemplateFault::Unknown))?;
        let words = Words::parse(&text()?).map_err(|what| fault(path, what))?;
        match self.words.insert(tag.as_str().to_owned(), words) {
            None => Ok(()),
            Some(_) => Err(fault(path, TemplateFault::Twice)),
        }
    }

    /// These, but for what `own` says.
    pub fn overridden_by(mut self, own: &Self) -> Self {
        for (tag, words) in &own.words {
            let usual = self.words.remove(tag).unwrap_or_default();
            self.words.insert(tag.clone(), usual.overridden_by(words.clone()));
        }
        self.layouts.extend(own.layouts.clone());
        self
    }
}

/// The text of a file: of nothing that might never end.
fn read_text(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > FILE_MAX {
        return Err(io::Error::other("it is no file, or larger than 1 MiB"));
    }
    fs::read_to_string(path)
}

/// What is in a folder, but for hidden files, such as those by which Kubernetes mounts others.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, TemplateError> {
    let unreadable = |error| fault(folder, TemplateFault::Unreadable(error));
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let is_hidden =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    Ok(paths)
}

fn fault(path: &Path, fault: TemplateFault) -> TemplateError {
    TemplateError { place: path.display().to_string(), fault }
}
