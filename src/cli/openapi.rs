//! `otpd openapi`: prints the OpenAPI document.

use clap::{Args, ValueEnum};

use crate::api;

/// Print the OpenAPI document
#[derive(Debug, Args)]
pub struct Openapi {
    /// In which form
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Yaml,
}

impl Openapi {
    /// The document.
    pub fn document(&self) -> String {
        match self.format {
            Format::Json => api::spec_json(),
            Format::Yaml => api::spec_yaml(),
        }
    }
}
