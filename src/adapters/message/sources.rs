//! Sources of translations and layouts: the built-in ones, and those of a folder that replace them.
//!
//! `LOCALE.toml` is a translation, each text of which is a template; `layout.txt` and `layout.html`
//! arrange the texts. Files in the folder apply to all tenants, files in a subfolder of a tenant's
//! name to that tenant. A missing file is inherited: from those of all tenants, then from the
//! built-in ones. Must not ignore a file whose name has no meaning.
//! pass over a file that means nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::template_error::{TemplateError, TemplateFault};
use crate::domain::locale::Locale;
use crate::domain::tenant::Tenant;

/// The built-in translations.
const BUILT_IN: [(&str, &str); 7] = [
    ("ar", include_str!("translations/ar.toml")),
    ("de", include_str!("translations/de.toml")),
    ("en", include_str!("translations/en.toml")),
    ("es", include_str!("translations/es.toml")),
    ("fr", include_str!("translations/fr.toml")),
    ("ja", include_str!("translations/ja.toml")),
    ("pt", include_str!("translations/pt.toml")),
];
/// The layout of the text part.
pub(super) const TEXT_LAYOUT: &str = "layout.txt";
/// The layout of the HTML part, which escapes all values.
pub(super) const HTML_LAYOUT: &str = "layout.html";
/// The built-in layouts.
const LAYOUTS: [(&str, &str); 2] =
    [(TEXT_LAYOUT, include_str!("layout.txt")), (HTML_LAYOUT, include_str!("layout.html"))];

/// Maximum size of a file, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Names of the texts of a translation.
pub(super) const TEXT_NAMES: [&str; 6] = ["subject", "lead", "validity", "place", "secrecy", "stranger"];

/// Writing direction of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Left to right.
    Ltr,
    /// Right to left.
    Rtl,
}

/// The content of a translation.
#[derive(Debug, Clone, Default)]
pub(super) struct Translation {
    /// Writing direction.
    pub direction: Option<Direction>,
    /// Texts, by the names in [`TEXT_NAMES`].
    pub texts: BTreeMap<&'static str, String>,
}

/// Translations and layouts as read.
#[derive(Debug, Clone, Default)]
pub(super) struct TemplateSources {
    /// Translations by language.
    pub translations: BTreeMap<String, Translation>,
    /// Layouts by file name.
    pub layouts: BTreeMap<String, String>,
}

impl Translation {
    fn parse(text: &str) -> Result<Self, TemplateFault> {
        let said: BTreeMap<String, String> =
            toml::from_str(text).map_err(|error| TemplateFault::Translation(error.message().to_owned()))?;
        let mut translation = Self::default();
        for (name, text) in said {
            match (TEXT_NAMES.into_iter().find(|known| *known == name), text.as_str()) {
                (Some(name), _) => drop(translation.texts.insert(name, text)),
                (None, "ltr") if name == "direction" => translation.direction = Some(Direction::Ltr),
                (None, "rtl") if name == "direction" => translation.direction = Some(Direction::Rtl),
                (None, _) if name == "direction" => {
                    return Err(TemplateFault::Translation("direction must be ltr or rtl".to_owned()));
                }
                (None, _) => {
                    let known = TEXT_NAMES.join(", ");
                    let what = format!("{name} is neither one of {known}, nor direction with ltr or rtl");
                    return Err(TemplateFault::Translation(what));
                }
            }
        }
        Ok(translation)
    }

    fn overridden_by(mut self, own: Self) -> Self {
        self.texts.extend(own.texts);
        Self { direction: own.direction.or(self.direction), ..self }
    }
}

impl TemplateSources {
    /// Returns the built-in sources.
    pub(super) fn built_in() -> Result<Self, TemplateError> {
        let mut sources = Self::default();
        for (tag, text) in BUILT_IN {
            let place = || format!("{tag}.toml");
            let translation =
                Translation::parse(text).map_err(|fault| TemplateError { place: place(), fault })?;
            sources.translations.insert(tag.to_owned(), translation);
        }
        let layouts = LAYOUTS.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Ok(Self { layouts: layouts.into(), ..sources })
    }

    /// Reads a folder. Returns the sources for all tenants, and for each tenant its own.
    pub(super) fn of_folder(folder: &Path) -> Result<(Self, BTreeMap<String, Self>), TemplateError> {
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
        let translation = Translation::parse(&text()?).map_err(|what| fault(path, what))?;
        match self.translations.insert(tag.as_str().to_owned(), translation) {
            None => Ok(()),
            Some(_) => Err(fault(path, TemplateFault::Twice)),
        }
    }

    /// Returns these sources, with those in `own` replacing them.
    pub(super) fn overridden_by(mut self, own: &Self) -> Self {
        for (tag, translation) in &own.translations {
            let default = self.translations.remove(tag).unwrap_or_default();
            self.translations.insert(tag.clone(), default.overridden_by(translation.clone()));
        }
        self.layouts.extend(own.layouts.clone());
        self
    }
}

/// Reads a file. Refuses one that is too large or has no end, such as `/dev/zero`.
fn read_text(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > FILE_MAX {
        return Err(io::Error::other("it is no file, or larger than 1 MiB"));
    }
    fs::read_to_string(path)
}

/// Returns the entries of a folder, without hidden ones, which Kubernetes uses to mount files.
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
