//! `chandler endpoints scale`.

use std::process::ExitCode;

use super::Found;
use crate::cli::output;
use crate::cli::provision::{Places, failed, runtime, usage};

/// Change how many workers an endpoint has at least and at most.
#[derive(Debug, clap::Args)]
pub struct Scale {
    /// Its name
    name: String,
    /// Fewest; 0 lets it sleep where the platform can [default: as it is]
    #[arg(long, value_name = "N")]
    min: Option<u32>,
    /// Most [default: as it is]
    #[arg(long, value_name = "N")]
    max: Option<u32>,
    #[command(flatten)]
    places: Places,
}

impl Scale {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let records = self.places.records()?;
        let found = Found::by(&self.name, &records, &self.places)?;
        let mut deployment = found.deployment()?;
        let min = self.min.unwrap_or(deployment.scaling.min);
        let max = self.max.unwrap_or(deployment.scaling.max.max(min));
        if max == 0 || min > max {
            return Err(usage(format!(
                "--min is {min} and --max {max}; use 1 or more, and no fewer than the fewest"
            ))
            .into());
        }
        let _lock = records.lock(&found.name)?;
        runtime()?
            .block_on(found.platform.scale(&found.name, (min, max)))
            .map_err(failed)?;
        (deployment.scaling.min, deployment.scaling.max) = (min, max);
        // A later `update` starts from here.
        records.amend(&found.name, &serde_json::to_value(&deployment)?)?;
        output::print(&format!("{}: {min} to {max} workers\n", found.name))?;
        Ok(ExitCode::SUCCESS)
    }
}
