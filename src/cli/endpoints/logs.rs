//! `chandler endpoints logs`.

use std::process::ExitCode;
use std::sync::Mutex;

use super::Found;
use crate::cli::output;
use crate::cli::provision::{Places, failed, runtime};
use crate::cli::signals::Signals;

/// Print the log of an endpoint's workers.
#[derive(Debug, clap::Args)]
pub struct Logs {
    /// Its name
    name: String,
    /// Go on as lines come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    places: Places,
}

impl Logs {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let records = self.places.records()?;
        let found = Found::by(&self.name, &records, &self.places)?;
        let failure = Mutex::new(None);
        let sink = |line: &str| match output::print(&format!("{line}\n")) {
            Ok(more) => more,
            Err(error) => {
                *failure
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                false
            }
        };
        runtime()?.block_on(async {
            let mut signals = Signals::new()?;
            tokio::select! {
                read = found.platform.logs(&found.name, self.follow, &sink) => read.map_err(failed)?,
                _ = signals.next() => {}
            }
            anyhow::Ok(())
        })?;
        match failure
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
        {
            Some(error) => Err(error.into()),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}
