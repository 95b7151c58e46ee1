//! Why a template cannot be used.

use std::io;

use thiserror::Error;

/// A template that cannot be used.
#[derive(Debug, Error)]
#[error("{place}: {fault}")]
pub struct TemplateError {
    pub(super) place: String,
    pub(super) fault: TemplateFault,
}

/// What is wrong with a template.
#[derive(Debug, Error)]
pub(super) enum TemplateFault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file's name has no meaning.
    #[error("is neither LOCALE.toml, layout.txt nor layout.html, nor the folder of a tenant")]
    Unknown,
    /// Another file is for the same language.
    #[error("is the second file of that language: case makes no difference")]
    Twice,
    /// The translation cannot be parsed.
    #[error("cannot be read: {0}")]
    Translation(String),
    /// A text is missing and cannot be inherited.
    #[error("has no {0}, and there is no translation of that language to fall back on")]
    Missing(&'static str),
    /// The template engine reported this error.
    #[error("{0}")]
    Template(minijinja::Error),
    /// The rendered email is not valid, for example because it lacks the code.
    #[error("{0}")]
    Outcome(String),
}

impl TemplateFault {
    /// Returns the kind of the fault, without any text of the email.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Template(error) => {
                let kind = error.kind();
                let name = error.name();
                let line = error.line();
                format!("{kind} (in {}:{})", name.unwrap_or_default(), line.unwrap_or_default())
            }
            other => other.to_string(),
        }
    }
}
