//! `chandler provision PLATFORM MODEL`: one file per platform, which turns its flags into the platform; what is wanted and
//! what is done with it are the same for all and stand beside them.

mod cloud_run;
mod docker;
mod google;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod make;
mod platforms;
mod process;
mod runpod;
mod vast;
mod vertex;
mod wanted;
mod worker_key;

use std::process::ExitCode;

use clap::Subcommand;

pub(super) use make::{courier, failed, runtime, stopped, tell, usage};
pub(super) use platforms::rebuild;
pub(super) use wanted::{Places, Worker};

/// Make an endpoint that serves a model, on a platform or on this machine.
///
/// Plans what the model takes, shows what will be made, makes it, waits (with --wait) until a real prediction succeeds, and
/// prints how it is reached and how it is taken down. Run again with the same name it changes what differs and nothing else;
/// interrupted at any point, it is finished by running it again or taken down by `chandler endpoints delete`. A failure takes
/// down what was made, unless --keep.
#[derive(Debug, clap::Args)]
pub struct Provision {
    #[command(subcommand)]
    on: On,
}

#[derive(Debug, Subcommand)]
enum On {
    #[command(name = "cloudrun")]
    CloudRun(Box<cloud_run::CloudRun>),
    Docker(Box<docker::Docker>),
    #[cfg(feature = "kubernetes")]
    Kubernetes(Box<kubernetes::Kubernetes>),
    Process(Box<process::Process>),
    Runpod(Box<runpod::RunPod>),
    Vast(Box<vast::Vast>),
    Vertex(Box<vertex::Vertex>),
}

impl Provision {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.on {
            On::CloudRun(command) => command.execute(),
            On::Docker(command) => command.execute(),
            #[cfg(feature = "kubernetes")]
            On::Kubernetes(command) => command.execute(),
            On::Process(command) => command.execute(),
            On::Runpod(command) => command.execute(),
            On::Vast(command) => command.execute(),
            On::Vertex(command) => command.execute(),
        }
    }
}
