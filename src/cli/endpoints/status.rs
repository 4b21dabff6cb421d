//! `chandler endpoints status`.

use std::process::ExitCode;

use serde_json::json;

use super::Found;
use crate::cli::exit::FAILED;
use crate::cli::output;
use crate::cli::provision::{Places, failed, runtime};
use crate::provision::{Phase, State};

/// Ask the platform how an endpoint is; exit code 0 when it serves or sleeps, 1 when not.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Its name
    name: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    places: Places,
}

impl Status {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let records = self.places.records()?;
        let found = Found::by(&self.name, &records, &self.places)?;
        let runtime = runtime()?;
        let status = runtime
            .block_on(found.platform.status(&found.name))
            .map_err(failed)?;
        let well = matches!(status.phase, Phase::Serving | Phase::Asleep);
        let access = match well {
            true => Some(
                runtime
                    .block_on(found.platform.url(&found.name))
                    .map_err(failed)?,
            ),
            false => None,
        };
        let url = access.map(|access| access.url);
        if status.phase == Phase::Serving
            && matches!(found.record.state, State::Creating | State::Updating)
        {
            records.set(&found.name, State::Ready, url.as_deref(), None)?;
        }
        let history = records.history(&found.name)?;
        let text = match self.json {
            true => json!({
                "name": found.name,
                "platform": found.platform.id(),
                "status": status,
                "url": url,
                "history": history,
            })
            .to_string(),
            false => text(&found, &status, url),
        };
        output::print(&(text + "\n"))?;
        Ok(if well {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(FAILED)
        })
    }
}

fn text(found: &Found, status: &crate::provision::Status, url: Option<String>) -> String {
    let platform = found.platform.id();
    let mut lines = vec![format!("{} on {platform}: {}", found.name, status.phase)];
    let mut tell = |name: &str, what: Option<String>| {
        lines.extend(what.map(|what| format!("  {name}{what}")));
    };
    tell("", status.reason.clone());
    tell("url: ", url);
    let workers = status.workers;
    let counts = format!(
        "{} ready, {} starting, {} waiting for a machine, {} failed",
        workers.ready, workers.starting, workers.waiting, workers.failed
    );
    tell("workers: ", Some(counts));
    let scale = status.scale.map(|(min, max)| format!("{min} to {max}"));
    tell("scale: ", scale);
    tell("hardware: ", status.hardware.clone());
    tell("cost: ", status.price.as_ref().map(ToString::to_string));
    lines.join("\n")
}
