//! `chandler provision process`: the worker as a background process of this machine.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use super::platforms::kept;
use super::wanted::Wanted;
use crate::provision::process::{Options, Process as Machine};
use crate::provision::{Patience, Platform};

/// Run the worker as a background process of this machine: no account, no container, no cost.
#[derive(Debug, clap::Args)]
pub struct Process {
    #[command(flatten)]
    wanted: Wanted,
    /// The address that the worker listens at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// The port that it listens at [default: a free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

impl Process {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let places = &self.wanted.places;
        let options = Options {
            folder: places.state()?.join("processes"),
            program: std::env::current_exe().context("this program's own file")?,
            host: self.host,
            port: self.port,
        };
        let machine = Machine::new(options, places.patience(), own());
        let records = places.records()?;
        self.wanted.make(&machine, &records)
    }
}

/// Builds it again from a record.
pub(super) fn rebuild(options: &Value, patience: Patience) -> anyhow::Result<Box<dyn Platform>> {
    Ok(Box::new(Machine::new(kept(options)?, patience, own())))
}

/// This program's own variables: about this run, and not about the worker.
fn own() -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names
        .filter(|name| name.to_string_lossy().starts_with("CHANDLER_"))
        .collect()
}
