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
        let text = if self.json {
            json!({
                "name": found.name,
                "platform": found.platform.id(),
                "status": status,
                "url": url,
                "history": history,
            })
            .to_string()
        } else {
            let mut lines = vec![format!(
                "{} on {}: {}",
                found.name,
                found.platform.id(),
                status.phase
            )];
            lines.extend(status.reason.iter().map(|reason| format!("  {reason}")));
            lines.extend(url.iter().map(|url| format!("  url: {url}")));
            let workers = status.workers;
            lines.push(format!(
                "  workers: {} ready, {} starting, {} waiting for a machine, {} failed",
                workers.ready, workers.starting, workers.waiting, workers.failed
            ));
            lines.extend(
                status
                    .scale
                    .map(|(min, max)| format!("  scale: {min} to {max}")),
            );
            lines.extend(
                status
                    .hardware
                    .iter()
                    .map(|hardware| format!("  hardware: {hardware}")),
            );
            let price = status.price.as_ref();
            lines.extend(price.map(|price| format!("  cost: {price}")));
            lines.join("\n")
        };
        output::print(&(text + "\n"))?;
        Ok(if well {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(FAILED)
        })
    }
}
