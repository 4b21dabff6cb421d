//! `chandler endpoints`: looks after what `chandler provision` made. Each finds the platform of an endpoint in the records.

mod delete;
mod gc;
mod list;
mod logs;
mod scale;
mod status;
mod update;

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use super::provision::{Places, failed, rebuild};
use crate::nearest::did_you_mean;
use crate::provision::{Deployment, Name, Platform, ProvisionError, Record, Records};

/// Look after the endpoints that `chandler provision` made.
#[derive(Debug, clap::Args)]
pub struct Endpoints {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Status(status::Status),
    Logs(logs::Logs),
    Scale(scale::Scale),
    Update(update::Update),
    Delete(delete::Delete),
    Gc(gc::Gc),
}

impl Endpoints {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::List(command) => command.execute(),
            Command::Status(command) => command.execute(),
            Command::Logs(command) => command.execute(),
            Command::Scale(command) => command.execute(),
            Command::Update(command) => command.execute(),
            Command::Delete(command) => command.execute(),
            Command::Gc(command) => command.execute(),
        }
    }
}

/// An endpoint by its name: its record and its platform.
struct Found {
    name: Name,
    record: Record,
    platform: Box<dyn Platform>,
}

impl Found {
    fn by(name: &str, records: &Records, places: &Places) -> anyhow::Result<Self> {
        let parsed = Name::parse(name).map_err(failed)?;
        let Some(record) = records.find(&parsed)? else {
            let all = records.all()?;
            let near = did_you_mean(name, all.iter().map(|record| record.name.as_str()));
            let hint =
                format!("{near} in this machine's records; `chandler endpoints list` shows them");
            let unknown = ProvisionError::Unknown {
                name: name.to_owned(),
                hint,
            };
            return Err(failed(unknown).into());
        };
        Ok(Self {
            name: parsed,
            platform: rebuild(&record, places.patience())?,
            record,
        })
    }

    /// The deployment as it was wanted, without its secrets.
    fn deployment(&self) -> anyhow::Result<Deployment> {
        serde_json::from_value(self.record.deployment.clone()).context("the record's deployment")
    }
}
