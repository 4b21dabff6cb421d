//! `chandler cache rm`: removing models or revisions.

use std::process::ExitCode;

use indicatif::HumanBytes;

use super::confirm::confirmed;
use super::ls::ago;
use super::place::Place;
use crate::cli::output;
use crate::weights::cache::Removed;

/// Remove models, or revisions of them, with the files that nothing else needs. What is in use stays.
#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// Which: org/name for a whole model, org/name@revision for a branch, a tag or a commit of it
    #[arg(required = true, value_name = "MODEL[@REVISION]")]
    models: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Rm {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let cache = self.place.open()?;
        let mut models = Vec::new();
        for text in &self.models {
            models.push(super::model(text)?);
        }
        let remove = |dry_run: bool| {
            let removed = models
                .iter()
                .map(|(folder, revision)| cache.remove(folder, revision.as_deref(), dry_run));
            removed
                .collect::<Result<Vec<_>, _>>()
                .map(|removed| removed.concat())
        };
        let plan = remove(true)?;
        if self.dry_run {
            output::print(&said(&plan, self.json)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if !self.yes {
            eprint!("{}", lines(&plan));
        }
        let bytes = plan.iter().map(|removed| removed.bytes).sum();
        if !confirmed(
            self.yes,
            &format!("remove {} in {} revisions?", HumanBytes(bytes), plan.len()),
        )? {
            return Ok(ExitCode::FAILURE);
        }
        let removed = remove(false)?;
        output::print(&said(&removed, self.json)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn said(removed: &[Removed], json: bool) -> anyhow::Result<String> {
    Ok(match json {
        true => serde_json::to_string_pretty(removed)? + "\n",
        false => lines(removed),
    })
}

/// One line per revision.
pub(super) fn lines(removed: &[Removed]) -> String {
    let line = |removed: &Removed| {
        let (model, commit) = (&removed.model, &removed.commit);
        format!(
            "{model}@{commit}  {}  last used {}\n",
            HumanBytes(removed.bytes),
            ago(removed.last_used)
        )
    };
    removed.iter().map(line).collect()
}
