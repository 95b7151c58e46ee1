//! `otpd config`: prints the effective settings.
//!
//! Must not show a secret.

use clap::Args;

use super::{Failure, print};
use crate::config::{self, Sources};

/// `otpd config`.
#[derive(Debug, Args)]
pub(super) struct EffectiveSettings {
    /// Leave out the settings that have their default
    #[arg(long)]
    changed: bool,
}

/// Prints the settings, then checks them.
pub(super) fn run(command: &EffectiveSettings, sources: Result<Sources, Failure>) -> Result<(), Failure> {
    let sources = sources?;
    print(sources.effective(!command.changed))?;
    config::serve(&sources).map_err(Failure::Settings)?;
    Ok(())
}
