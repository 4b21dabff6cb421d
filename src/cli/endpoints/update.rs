//! `chandler endpoints update`: an endpoint as it was wanted, with some of it otherwise.

use std::process::ExitCode;
use std::time::Duration;

use super::Found;
use crate::cli::output;
use crate::cli::provision::{Places, Worker, courier, failed, runtime, stopped, tell};
use crate::provision::{Deployment, Flow, Times};

/// Change an endpoint: its image, settings, environment or secrets. What is not named stays; what does not differ is not sent.
#[derive(Debug, clap::Args)]
pub struct Update {
    /// Its name
    name: String,
    /// Another container image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    #[command(flatten)]
    worker: Worker,
    /// Take a variable out of the worker's environment
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// Wait until a real prediction succeeds
    #[arg(long)]
    wait: bool,
    /// Only print what would change
    #[arg(long)]
    diff: bool,
    /// Told when the endpoint serves and when it failed; signed with CHANDLER_WEBHOOK_SECRET
    #[arg(long, value_name = "URL")]
    webhook: Option<reqwest::Url>,
    #[command(flatten)]
    places: Places,
}

impl Update {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let records = self.places.records()?;
        let found = Found::by(&self.name, &records, &self.places)?;
        let wanted = self.changed(&found)?;
        let runtime = runtime()?;
        let changes = runtime
            .block_on(found.platform.diff(&wanted))
            .map_err(failed)?;
        let mut text = String::new();
        for change in changes.iter().flatten() {
            text.push_str(&format!(
                "{}: {} -> {}\n",
                change.field, change.from, change.to
            ));
        }
        if changes.as_ref().is_some_and(Vec::is_empty) {
            text.push_str("nothing differs\n");
        }
        output::print(&text)?;
        if self.diff {
            return Ok(ExitCode::SUCCESS);
        }
        let outcome = runtime.block_on(async {
            let courier = courier(self.webhook.as_ref());
            let flow = Flow {
                platform: found.platform.as_ref(),
                records: &records,
                say: &|line| tell(&format!("  {line}")),
                times: Times {
                    pace: self.places.pace,
                    ..Times::default()
                },
                wait: self.wait,
                keep: true,
                courier: courier.as_ref(),
            };
            let outcome = flow.run(&wanted, stopped()?).await;
            if let Some(courier) = courier {
                courier.finish(Duration::from_secs(60)).await;
            }
            anyhow::Ok(outcome)
        })?;
        let outcome = outcome.map_err(failed)?;
        output::print(&format!("{} is {}\n", found.name, outcome.status.phase))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The deployment with what the flags say. Secrets are in no record, so those that it has are read again.
    fn changed(&self, found: &Found) -> anyhow::Result<Deployment> {
        let mut wanted = found.deployment()?;
        if let Some(image) = &self.image {
            wanted.image.clone_from(image);
        }
        wanted.env.extend(self.worker.environment()?);
        let mut secrets = found.secret_names();
        secrets.extend(self.worker.secret.iter().cloned());
        secrets.retain(|name| !self.unset.contains(name));
        wanted.env.retain(|name, _| !self.unset.contains(name));
        wanted.secrets = Worker::secrets(&secrets)?;
        Ok(wanted)
    }
}

impl Found {
    fn secret_names(&self) -> Vec<String> {
        let names = self
            .record
            .deployment
            .get("secrets")
            .and_then(serde_json::Value::as_array);
        let names = names.into_iter().flatten().filter_map(|name| name.as_str());
        names.map(str::to_owned).collect()
    }
}
