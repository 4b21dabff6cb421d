//! `chandler cache ls`: what is in the cache.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use indicatif::HumanBytes;

use super::place::Place;
use crate::cli::output;
use crate::cli::table::table;
use crate::weights::cache::{Model, Revision, State};

/// List the models in the cache: revisions, sizes, last use, and whether they are whole.
///
/// `complete`: all that was wanted is there. `partial`: the rest is still to come. `broken`: something that was there is gone or has
/// another size (`chandler cache verify --repair`). `unlisted`: an older Python fetched it, and nothing says what it should have.
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    /// Only models with this text in their name
    search: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Ls {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let cache = self.place.open()?;
        let mut models = cache.list();
        if let Some(search) = self.search {
            let search = search.to_lowercase();
            models.retain(|model| model.model.to_lowercase().contains(&search));
        }
        if self.json {
            output::print(&(serde_json::to_string_pretty(&models)? + "\n"))?;
        } else {
            output::print(&rows(&models))?;
            let bytes = models.iter().map(|model| model.bytes).sum();
            eprintln!(
                "{} models, {} in {}",
                models.len(),
                HumanBytes(bytes),
                cache.root().display()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn rows(models: &[Model]) -> String {
    let header = [
        "MODEL",
        "COMMIT",
        "REFS",
        "SIZE",
        "FILES",
        "LAST USED",
        "STATE",
    ];
    let rows = models.iter().flat_map(|model| {
        let rest = (model.revisions.is_empty()).then(|| {
            let none = String::new;
            let state = format!("{} unfinished", model.partials);
            [
                model.model.clone(),
                none(),
                none(),
                HumanBytes(model.bytes).to_string(),
                none(),
                none(),
                state,
            ]
        });
        model
            .revisions
            .iter()
            .map(|revision| row(model, revision))
            .chain(rest)
    });
    table(header, rows)
}

fn row(model: &Model, revision: &Revision) -> [String; 7] {
    let mut state = match &revision.state {
        State::Complete => "complete".to_owned(),
        State::Partial { missing } => format!("partial, {} to come", missing.len()),
        State::Broken { broken } => format!("broken, {} files", broken.len()),
        State::Unlisted => "unlisted".to_owned(),
    };
    if revision.in_use {
        state.push_str(", in use");
    }
    if !model.writable {
        state.push_str(", read-only");
    }
    [
        model.model.clone(),
        revision.commit.chars().take(12).collect(),
        revision.refs.join(","),
        HumanBytes(revision.bytes).to_string(),
        revision.files.to_string(),
        ago(revision.last_used),
        state,
    ]
}

/// How long ago, in the largest unit that fits.
pub(super) fn ago(time: SystemTime) -> String {
    let past = SystemTime::now()
        .duration_since(time)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    match units.iter().find(|(seconds, _)| past >= *seconds) {
        Some((seconds, unit)) => {
            let count = past / seconds;
            format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
        }
        None => "just now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_its_largest_unit() {
        let said = |seconds| ago(SystemTime::now() - Duration::from_secs(seconds));
        assert_eq!(said(5), "just now");
        assert_eq!(said(61), "1 minute ago");
        assert_eq!(said(3 * 86_400), "3 days ago");
        assert_eq!(ago(SystemTime::now() + Duration::from_secs(99)), "just now");
    }
}
