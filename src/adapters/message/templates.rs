//! Compiled translations and layouts, and which of them apply to a tenant.
//!
//! Must not read a file (see `sources`).

use std::collections::BTreeMap;
use std::path::Path;
use std::{fmt, iter};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, escape_formatter};

use super::sources::{Direction, HTML_LAYOUT, TEXT_NAMES, TemplateSources};
use super::template_error::{TemplateError, TemplateFault};
use crate::domain::locale::Locale;
use crate::domain::tenant::Tenant;

/// Maximum number of steps of a template; the built-in ones take a few dozen.
const FUEL: u64 = 100_000;

/// Languages of one scope, which is all tenants or one tenant, with their writing directions.
type Languages = BTreeMap<String, Direction>;

/// All compiled templates.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    all: Languages,
    tenants: BTreeMap<String, Languages>,
}

/// The templates for one email.
#[derive(Debug, Clone, Copy)]
pub(super) struct Language<'a> {
    environment: &'a Environment<'static>,
    scope: &'a str,
    /// Language tag.
    pub tag: &'a str,
    /// Writing direction.
    pub direction: Direction,
}

impl Templates {
    /// Reads and compiles all templates.
    pub(super) fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        // An undefined optional value would otherwise be rendered as `none`.
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
            None => (TemplateSources::built_in()?, BTreeMap::new()),
            Some(folder) => TemplateSources::of_folder(folder)?,
        };
        let mut templates = Self { environment, all: Languages::new(), tenants: BTreeMap::new() };
        templates.all = templates.add("", &all)?;
        for (tenant, own) in &tenants {
            let languages = templates.add(tenant, &all.clone().overridden_by(own))?;
            templates.tenants.insert(tenant.clone(), languages);
        }
        Ok(templates)
    }

    /// Compiles the templates of one scope.
    fn add(&mut self, scope: &str, sources: &TemplateSources) -> Result<Languages, TemplateError> {
        let mut compile = |name: String, source: &str| {
            let added = self.environment.add_template_owned(name.clone(), source.to_owned());
            added.map_err(|error| TemplateError { place: name, fault: TemplateFault::Template(error) })
        };
        for (name, source) in &sources.layouts {
            compile(layout(scope, name), source)?;
        }
        let mut languages = Languages::new();
        for (tag, translation) in &sources.translations {
            for name in TEXT_NAMES {
                let source = translation.texts.get(name).ok_or_else(|| {
                    let place = format!("{}{tag}.toml", prefix(scope));
                    TemplateError { place, fault: TemplateFault::Missing(name) }
                })?;
                compile(text_path(scope, tag, name), source)?;
            }
            languages.insert(tag.clone(), translation.direction.unwrap_or(Direction::Ltr));
        }
        Ok(languages)
    }

    /// Returns the first available language for the tenant, in the order of `accepted`. A tag also
    /// matches more general ones.
    pub(super) fn choose<'a, 'b>(
        &'a self,
        tenant: &Tenant,
        accepted: impl IntoIterator<Item = &'b Locale>,
    ) -> Option<Language<'a>> {
        let (scope, languages) = self.of(tenant);
        let mut tags = accepted.into_iter().flat_map(Locale::and_more_general);
        let (tag, direction) = tags.find_map(|tag| languages.get_key_value(tag))?;
        Some(Language { environment: &self.environment, scope, tag, direction: *direction })
    }

    /// Iterates over every language of every scope.
    pub(super) fn each(&self) -> impl Iterator<Item = Language<'_>> {
        let tenants = self.tenants.iter().map(|(tenant, languages)| (tenant.as_str(), languages));
        // The templates for all tenants come first, so that no tenant is blamed for their faults.
        iter::once(("", &self.all)).chain(tenants).flat_map(move |(scope, languages)| {
            languages.iter().map(move |(tag, direction)| Language {
                environment: &self.environment,
                scope,
                tag,
                direction: *direction,
            })
        })
    }

    /// Returns the names of the tenants that have a folder.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.keys().map(String::as_str)
    }

    fn of(&self, tenant: &Tenant) -> (&str, &Languages) {
        let own = self.tenants.get_key_value(tenant.name());
        own.map_or(("", &self.all), |(name, languages)| (name, languages))
    }
}

impl Language<'_> {
    /// Renders one of [`TEXT_NAMES`].
    pub(super) fn text(&self, name: &str, context: &minijinja::Value) -> Result<String, minijinja::Error> {
        self.environment.get_template(&text_path(self.scope, self.tag, name))?.render(context)
    }

    /// Renders one of the layouts.
    pub(super) fn layout(&self, name: &str, context: &minijinja::Value) -> Result<String, minijinja::Error> {
        self.environment.get_template(&layout(self.scope, name))?.render(context)
    }

    /// Creates the error of a fault in this language.
    pub(super) fn fault(&self, fault: TemplateFault) -> TemplateError {
        TemplateError { place: format!("{}{}.toml", prefix(self.scope), self.tag), fault }
    }
}

fn prefix(scope: &str) -> String {
    if scope.is_empty() { String::new() } else { format!("{scope}/") }
}

fn layout(scope: &str, name: &str) -> String {
    format!("{}{name}", prefix(scope))
}

fn text_path(scope: &str, tag: &str, name: &str) -> String {
    format!("{}{tag}.toml {name}", prefix(scope))
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ltr => "ltr",
            Self::Rtl => "rtl",
        })
    }
}
