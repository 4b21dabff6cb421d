//! Asking before something is removed.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::exit::{Exit, USAGE};

/// Whether it may be removed: `--yes`, or an answer on a terminal. Where nobody can answer, a command without `--yes` is one
/// that was not meant so.
pub(super) fn confirmed(yes: bool, question: &str) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Exit::new(
            USAGE,
            "nothing was removed: give --yes, or --dry-run to see what would go",
        )
        .into());
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
