//! `chandler endpoints delete`.

use std::process::ExitCode;

use super::Found;
use crate::cli::exit::FAILED;
use crate::cli::output;
use crate::cli::provision::{Places, failed, runtime, tell};
use crate::provision::{Records, State};

/// Take endpoints down, with everything that was made for them.
#[derive(Debug, clap::Args)]
pub struct Delete {
    /// Their names
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    places: Places,
}

impl Delete {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let records = self.places.records()?;
        let mut code = ExitCode::SUCCESS;
        for name in &self.names {
            // One that stays does not keep the others.
            if let Err(error) = self.delete(name, &records) {
                tell(&format!("chandler: {error:#}"));
                code = ExitCode::from(FAILED);
            }
        }
        Ok(code)
    }

    fn delete(&self, name: &str, records: &Records) -> anyhow::Result<()> {
        let found = Found::by(name, records, &self.places)?;
        let _lock = records.lock(&found.name)?;
        records.set(&found.name, State::Deleting, None, None)?;
        let say = |line: &str| tell(&format!("  {line}"));
        let there = runtime()?
            .block_on(found.platform.delete(&found.name, &say))
            .map_err(failed)?;
        records.forget(&found.name)?;
        output::print(&match there {
            true => format!("{} is gone\n", found.name),
            false => format!("{} was gone already\n", found.name),
        })?;
        Ok(())
    }
}
