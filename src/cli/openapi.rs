//! `otpd openapi`: prints the OpenAPI document.

use clap::{Args, ValueEnum};

use crate::api;

/// Print the OpenAPI document
#[derive(Debug, Args)]
pub(super) struct Openapi {
    /// Format of the document
    #[arg(long, value_enum, default_value_t = DocumentFormat::Json)]
    format: DocumentFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DocumentFormat {
    Json,
    Yaml,
}

impl Openapi {
    /// Returns the document.
    pub(super) fn document(&self) -> String {
        match self.format {
            DocumentFormat::Json => api::spec_json(),
            DocumentFormat::Yaml => api::spec_yaml(),
        }
    }
}
