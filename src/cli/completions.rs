//! `otpd completions`: prints a script that completes commands and options in a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

/// `otpd completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Returns the script.
    pub(super) fn script(&self) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "otpd", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}
