//! `chandler doctor`: what this machine and these settings have, what is wrong with it, and how to mend it. One file for each
//! group of checks; none of them changes anything, and none tells a secret.

mod credentials;
mod disk;
mod finding;
mod gpu;
mod libraries;
mod limits;
mod network;
mod platform;
mod port;
mod smi;

use std::process::ExitCode;

use super::exit::FAILED;
use super::flags::{Everything, SettingFlags};
use super::{output, places, version};
use crate::config::Resolution;
use crate::engine::devices;
use crate::machine::Machine;
use crate::weights::Location;
use finding::{Finding, Report};

/// Say what this machine has, what is wrong with it for these settings, and how to mend it.
///
/// Takes the flags that `chandler serve` takes, so that putting `doctor` in the place of `serve` checks what a command line
/// would do: GPU, driver and libraries, the container's limits on processors and memory, room in the caches, network to hub and
/// buckets, credentials (never their values), platform, port. Nothing is changed. Exit code 1 when something will not work.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Print one JSON object: {version, status, problems, warnings, checks: [{group, check, level, found, remedy, data}]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<Everything>,
}

impl Doctor {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let resolution = self.settings.resolve()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let findings = runtime.block_on(examine(&resolution));
        // A name lookup that hangs is not waited for.
        runtime.shutdown_background();
        let report = Report::new(version::SHORT, findings);
        if self.json {
            output::print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        } else {
            output::print(&report.as_text())?;
        }
        Ok(match report.problems {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::from(FAILED),
        })
    }
}

async fn examine(resolution: &Resolution) -> Vec<Finding> {
    let settings = &resolution.settings;
    let machine = Machine::here();
    let cards = smi::ask();
    let mut findings = gpu::check(
        &gpu::Wanted {
            device: &settings.device.0,
            allow_cpu: settings.allow_cpu.0,
        },
        &devices::look(),
        &cards,
    );
    findings.extend(libraries::check(
        devices::BUILT,
        &cards,
        &libraries::Places::here(),
    ));
    findings.extend(limits::check(settings, &machine));
    findings.extend(disk::check(settings));
    let model = places::model(resolution);
    let hub = matches!(&model, Ok(wanted) if matches!(wanted.location, Location::Hub { .. }));
    findings.extend(network::check(settings, hub).await);
    findings.extend(credentials::check(settings));
    findings.extend(platform::check(resolution));
    findings.extend(port::check(settings).await);
    findings.extend(model.err().map(|error| {
        Finding::problem("platform", "model", error.to_string())
            .mended_by("`chandler models` lists the names that are known")
    }));
    findings
}
