//! The words and layouts of mails: those that are compiled in, and those of a folder that take their place.
//!
//! `LOCALE.toml` has words, each a template; `layout.txt` and `layout.html` put them together. A folder has them for all,
//! and in a folder of a tenant's name for that tenant; what is not there is as for all, and then as built in. Everything
//! is read and tried once: a mail must not be the first to find a template broken.

use std::collections::BTreeMap;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, escape_formatter};
use thiserror::Error;

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
/// How many steps a template may take: those that are built in take a few dozen.
const FUEL: u64 = 100_000;

/// A template is broken, or is none.
#[derive(Debug, Error)]
#[error("{place}: {fault}")]
pub struct TemplateError {
    place: String,
    fault: TemplateFault,
}

/// What is wrong with a template.
#[derive(Debug, Error)]
pub enum TemplateFault {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It has a name that means nothing here.
    #[error("is neither LOCALE.toml, layout.txt nor layout.html, nor the folder of a tenant")]
    Unknown,
    /// Another file has the same language.
    #[error("is the second file of that language: case makes no difference")]
    Twice,
    /// Its words cannot be read.
    #[error("cannot be read: {0}")]
    Words(String),
    /// A language has not all of its words.
    #[error("says nothing of {0}, and there are no words of that language to fall back on")]
    Missing(&'static str),
    /// The template engine does not take it.
    #[error("{0}")]
    Template(minijinja::Error),
    /// What comes of it is no mail with a code.
    #[error("{0}")]
    Outcome(String),
}

/// In which direction a language is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From left to right.
    Ltr,
    /// From right to left.
    Rtl,
}

/// The names of the words that a layout is given.
pub const WORDS: [&str; 6] = ["subject", "lead", "validity", "place", "secrecy", "stranger"];

/// What a file of words says.
#[derive(Debug, Clone, Default)]
struct Words {
    direction: Option<Direction>,
    /// By the names of [`WORDS`].
    texts: BTreeMap<&'static str, String>,
}

/// The languages of one scope, all tenants' or one tenant's, and in which direction each is written.
type Languages = BTreeMap<String, Direction>;

/// All templates, compiled.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    all: Languages,
    tenants: BTreeMap<String, Languages>,
}

/// Words and layouts as they were read.
#[derive(Debug, Clone, Default)]
struct Sources {
    words: BTreeMap<String, Words>,
    layouts: BTreeMap<String, String>,
}

/// The templates for one mail.
#[derive(Debug, Clone, Copy)]
pub struct Language<'a> {
    environment: &'a Environment<'static>,
    scope: &'a str,
    /// Its tag.
    pub tag: &'a str,
    /// In which direction it is written.
    pub direction: Direction,
}

impl Templates {
    /// Reads and compiles them.
    pub fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        // None would read as a word.
        environment.set_formatter(|out, state, value| {
            if value.is_none() {
                return Err(minijinja::Error::new(ErrorKind::UndefinedError, "nothing to show here"));
            }
            escape_formatter(out, state, value)
        });
        environment.set_auto_escape_callback(|name| {
            if name.ends_with(HTML_LAYOUT) { AutoEscape::Html } else { AutoEscape::None }
        });
        let (all, tenants) = match folder {
            None => (Sources::built_in()?, BTreeMap::new()),
            Some(folder) => Sources::of_folder(folder)?,
        };
        let mut templates = Self { environment, all: Languages::new(), tenants: BTreeMap::new() };
        templates.all = templates.add("", &all)?;
        for (tenant, own) in &tenants {
            let languages = templates.add(tenant, &all.clone().overridden_by(own))?;
            templates.tenants.insert(tenant.clone(), languages);
        }
        Ok(templates)
    }

    /// Compiles what holds for one scope.
    fn add(&mut self, scope: &str, sources: &Sources) -> Result<Languages, TemplateError> {
        let mut compile = |name: String, source: &str| {
            let added = self.environment.add_template_owned(name.clone(), source.to_owned());
            added.map_err(|error| TemplateError { place: name, fault: TemplateFault::Template(error) })
        };
        for (name, source) in &sources.layouts {
            compile(layout(scope, name), source)?;
        }
        let mut languages = Languages::new();
        for (tag, words) in &sources.words {
            for word in WORDS {
                let source = words.texts.get(word).ok_or_else(|| {
                    let place = format!("{}{tag}.toml", prefix(scope));
                    TemplateError { place, fault: TemplateFault::Missing(word) }
                })?;
                compile(word_of(scope, tag, word), source)?;
            }
            languages.insert(tag.clone(), words.direction.unwrap_or(Direction::Ltr));
        }
        Ok(languages)
    }

    /// The first language that there is for the tenant, in the order of `wanted`; a tag stands for more general ones
    /// as well.
    pub fn choose<'a, 'b>(
        &'a self,
        tenant: &Tenant,
        wanted: impl IntoIterator<Item = &'b Locale>,
    ) -> Option<Language<'a>> {
        let (scope, languages) = self.of(tenant);
        let mut tags = wanted.into_iter().flat_map(Locale::and_more_general);
        let (tag, direction) = tags.find_map(|tag| languages.get_key_value(tag))?;
        Some(Language { environment: &self.environment, scope, tag, direction: *direction })
    }

    /// Every language of every scope.
    pub fn each(&self) -> impl Iterator<Item = Language<'_>> {
        let tenants = self.tenants.iter().map(|(tenant, languages)| (tenant.as_str(), languages));
        // What is wrong for all is not any tenant's fault.
        iter::once(("", &self.all)).chain(tenants).flat_map(move |(scope, languages)| {
            languages.iter().map(move |(tag, direction)| Language {
                environment: &self.environment,
                scope,
                tag,
                direction: *direction,
            })
        })
    }

    /// The names of the folders of tenants.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.keys().map(String::as_str)
    }

    fn of(&self, tenant: &Tenant) -> (&str, &Languages) {
        let own = self.tenants.get_key_value(tenant.name());
        own.map_or(("", &self.all), |(name, languages)| (name, languages))
    }
}

impl Language<'_> {
    /// Renders one of [`WORDS`].
    pub fn word(&self, word: &str, context: &minijinja::Value) -> Result<String, minijinja::Error> {
        self.environment.get_template(&word_of(self.scope, self.tag, word))?.render(context)
    }

    /// Renders one of the layouts.
    pub fn layout(&self, name: &str, context: &minijinja::Value) -> Result<String, minijinja::Error> {
        self.environment.get_template(&layout(self.scope, name))?.render(context)
    }

    /// A fault of this language.
    pub fn fault(&self, fault: TemplateFault) -> TemplateError {
        TemplateError { place: format!("{}{}.toml", prefix(self.scope), self.tag), fault }
    }
}

fn prefix(scope: &str) -> String {
    if scope.is_empty() { String::new() } else { format!("{scope}/") }
}

fn layout(scope: &str, name: &str) -> String {
    format!("{}{name}", prefix(scope))
}

fn word_of(scope: &str, tag: &str, word: &str) -> String {
    format!("{}{tag}.toml {word}", prefix(scope))
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

impl Sources {
    fn built_in() -> Result<Self, TemplateError> {
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
    fn of_folder(folder: &Path) -> Result<(Self, BTreeMap<String, Self>), TemplateError> {
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

    fn overridden_by(mut self, own: &Self) -> Self {
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

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ltr => "ltr",
            Self::Rtl => "rtl",
        })
    }
}
