//! `chandler completions`: a script that completes commands and flags in a shell.

use std::process::ExitCode;

use clap_complete::Shell;

use super::output;

/// Print a completion script for a shell.
///
/// bash: chandler completions bash > /etc/bash_completion.d/chandler
/// zsh: chandler completions zsh > "${fpath[1]}/_chandler"
/// fish: chandler completions fish > ~/.config/fish/completions/chandler.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(self, mut command: clap::Command) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "chandler", &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
