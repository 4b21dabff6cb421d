//! `chandler provision vertex`: an endpoint on Vertex AI.

use std::process::ExitCode;

use serde_json::Value;

use super::google::{Place, account};
use super::make::failed;
use super::platforms::kept;
use super::wanted::Wanted;
use crate::provision::vertex::{Options, Vertex as Platform};
use crate::provision::{self, Patience};

/// Deploy the model on a dedicated endpoint of Vertex AI. It costs as long as it is there: one worker at least always runs.
///
/// The login is Google's own (application default credentials). The image has to be in an Artifact Registry of the same region.
#[derive(Debug, clap::Args)]
pub struct Vertex {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    place: Place,
    /// The machine type [default: the smallest that would do]
    #[arg(long, value_name = "TYPE")]
    machine: Option<String>,
    /// Give every route of the worker below /invoke, in place of :predict
    #[arg(long)]
    invoke: bool,
}

impl Vertex {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let account = account()?;
        let options = Options {
            api: self.place.api.clone().unwrap_or_default(),
            logging: self.place.logging(),
            project: self.place.project(&account)?,
            region: self.place.region()?,
            machine: self.machine,
            service_account: self.place.service_account,
            invoke: self.invoke,
        };
        let places = &self.wanted.places;
        let platform = Platform::new(options, account, places.patience()).map_err(failed)?;
        let records = places.records()?;
        self.wanted.make(&platform, &records)
    }
}

/// Builds it again from a record.
pub(super) fn rebuild(
    options: &Value,
    patience: Patience,
) -> anyhow::Result<Box<dyn provision::Platform>> {
    let platform = Platform::new(kept(options)?, account()?, patience).map_err(failed)?;
    Ok(Box::new(platform))
}
