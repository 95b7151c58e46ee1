//! `otpd completions`: prints a script that completes commands and options in a shell.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::shells;

use super::Cli;

/// `otpd completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: CompletedShell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompletedShell {
    Bash,
    Fish,
    Zsh,
}

impl Completions {
    /// Returns the script.
    pub(super) fn script(&self) -> String {
        let mut script = Vec::new();
        let (command, shell) = (&mut Cli::command(), self.shell);
        match shell {
            CompletedShell::Bash => clap_complete::generate(shells::Bash, command, "otpd", &mut script),
            CompletedShell::Fish => clap_complete::generate(shells::Fish, command, "otpd", &mut script),
            CompletedShell::Zsh => clap_complete::generate(shells::Zsh, command, "otpd", &mut script),
        }
        String::from_utf8_lossy(&script).into_owned()
    }
}
