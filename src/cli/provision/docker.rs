//! `chandler provision docker`: the worker as a container of this machine's docker or podman.

use std::process::ExitCode;

use serde_json::Value;

use super::make::failed;
use super::platforms::kept;
use super::wanted::Wanted;
use crate::provision::docker::{Docker as Engine, Options};
use crate::provision::{Patience, Platform};

/// Run the worker as a container of this machine's docker (or podman's socket).
#[derive(Debug, clap::Args)]
pub struct Docker {
    #[command(flatten)]
    wanted: Wanted,
    /// Where the engine listens: unix://PATH or tcp://HOST:PORT
    #[arg(
        long,
        env = "DOCKER_HOST",
        value_name = "ADDRESS",
        default_value = "unix:///var/run/docker.sock"
    )]
    engine: String,
    /// The address of this machine that the worker's port is opened at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// The port [default: one that docker chooses]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The volume that keeps the model's files
    #[arg(long, value_name = "VOLUME", default_value = "chandler-cache")]
    cache: String,
}

impl Docker {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let places = &self.wanted.places;
        let options = Options {
            engine: self.engine,
            host: self.host,
            port: self.port,
            cache: self.cache,
        };
        let engine = Engine::new(options, places.patience()).map_err(failed)?;
        let records = places.records()?;
        self.wanted.make(&engine, &records)
    }
}

/// Builds it again from a record.
pub(super) fn rebuild(options: &Value, patience: Patience) -> anyhow::Result<Box<dyn Platform>> {
    Ok(Box::new(
        Engine::new(kept(options)?, patience).map_err(failed)?,
    ))
}
