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

/// Prints the settings, and fails if one has a fault.
pub(super) fn run(command: &EffectiveSettings, sources: Result<Sources, Failure>) -> Result<(), Failure> {
    let sources = sources?;
    let faults = config::serve(&sources).err();
    print(sources.effective(!command.changed, faults.as_ref()))?;
    faults.map_or(Ok(()), |faults| Err(Failure::Settings(faults)))
}
