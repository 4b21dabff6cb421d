//! `chandler cache prune`: making room.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::HumanBytes;

use super::confirm::confirmed;
use super::place::Place;
use super::rm::lines;
use crate::cli::output;
use crate::config::{ByteSize, Value};
use crate::weights::cache::{PruneOptions, Pruned};

/// Make room: remove unfinished files that nobody is fetching, files without a model, and, to keep a budget, the models that
/// were not used for longest.
///
/// What is in use or being fetched stays, whatever the budget says.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// What may stay, such as 200GiB; without it no model is removed
    #[arg(long, value_name = "SIZE", value_parser = size)]
    budget: Option<u64>,
    /// Days after which an unfinished file is nobody's
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    partials: u64,
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

fn size(text: &str) -> Result<u64, String> {
    ByteSize::parse(text).map(|size| size.0)
}

impl Prune {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let cache = self.place.open()?;
        let options = |dry_run| PruneOptions {
            budget: self.budget,
            partial_age: Duration::from_secs(self.partials.saturating_mul(86_400)),
            dry_run,
            ..PruneOptions::default()
        };
        if !self.dry_run && !self.yes {
            let plan = cache.prune(&options(true))?;
            eprint!("{}", report(&plan));
            if !confirmed(false, "remove this?")? {
                return Ok(ExitCode::FAILURE);
            }
        }
        let pruned = cache.prune(&options(self.dry_run))?;
        match self.json {
            true => output::print(&(serde_json::to_string_pretty(&pruned)? + "\n"))?,
            false => output::print(&report(&pruned))?,
        };
        let kept = self.budget.is_none_or(|budget| pruned.after <= budget);
        if !kept {
            eprintln!(
                "chandler: the budget is not kept: the rest is in use ({})",
                pruned.in_use.join(", ")
            );
        }
        Ok(if kept {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn report(pruned: &Pruned) -> String {
    let Pruned {
        partials, orphans, ..
    } = pruned;
    let leftover = HumanBytes(pruned.leftover_bytes);
    let mut text = lines(&pruned.removed);
    if partials + orphans > 0 {
        text.push_str(&format!(
            "{partials} unfinished files and {orphans} without a model  {leftover}\n"
        ));
    }
    text.push_str(&format!(
        "{} before, {} after\n",
        HumanBytes(pruned.before),
        HumanBytes(pruned.after)
    ));
    text
}
