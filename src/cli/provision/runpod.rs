//! `chandler provision runpod`: a serverless endpoint on RunPod.

use std::process::ExitCode;

use secrecy::SecretString;
use serde_json::Value;

use super::make::usage;
use super::platforms::kept;
use super::wanted::{Wanted, pairs};
use crate::provision::runpod::{API, Cpu, Flashboot, KEY_VARIABLE, Options, RunPod as Cloud};
use crate::provision::{Patience, Platform};

/// Run the worker as a serverless endpoint on RunPod, with the account's key in RUNPOD_API_KEY.
#[derive(Debug, clap::Args)]
pub struct RunPod {
    #[command(flatten)]
    wanted: Wanted,
    /// Send requests to the workers over HTTP (chandler's own routes) instead of through RunPod's queue
    #[arg(long)]
    load_balancer: bool,
    /// Add a worker when a job has waited this many seconds in the queue
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = delay, conflicts_with_all = ["request_count", "load_balancer"])]
    queue_delay: f64,
    /// Add a worker when so many requests are under way per worker [default: for a load balancer --concurrency]
    #[arg(long, value_name = "N")]
    request_count: Option<std::num::NonZeroU32>,
    /// Quicker cold starts: off, on, priority
    #[arg(long, value_name = "MODE", default_value_t = Flashboot::On)]
    flashboot: Flashboot,
    /// Data centers to run in, by RunPod's ids; may be given more than once [default: any]
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    data_center: Vec<String>,
    /// A network volume, by its id, mounted at /runpod-volume; one per data center
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    network_volume: Vec<String>,
    /// The credential for a private registry, by its id
    #[arg(long, value_name = "ID")]
    registry: Option<String>,
    /// Without a GPU: the flavor and number of processors, such as cpu5c:4; several are tried [default: cpu5c, as many as planned]
    #[arg(long, value_name = "FLAVOR:N", value_delimiter = ',')]
    cpu: Vec<Cpu>,
    /// A variable of the worker that holds one of the account's own secrets, by the secret's name (RunPod's API cannot make one)
    #[arg(long, value_name = "NAME=SECRET")]
    runpod_secret: Vec<String>,
    /// Let RunPod keep a copy of the hub's model near the workers
    #[arg(long)]
    cached_model: bool,
    /// The management API
    #[arg(long, value_name = "URL", default_value = API, hide = true)]
    api: String,
    /// Where endpoints are asked, each below its id [default: as the management API says]
    #[arg(long, value_name = "URL", hide = true)]
    invoke_api: Option<String>,
}

impl RunPod {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let places = &self.wanted.places;
        let options = Options {
            api: self.api.trim_end_matches('/').to_owned(),
            invoke_api: self.invoke_api,
            load_balancer: self.load_balancer,
            queue_delay: self.queue_delay,
            request_count: self.request_count.map(Into::into),
            flashboot: self.flashboot,
            data_centers: self.data_center,
            network_volumes: self.network_volume,
            registry: self.registry,
            cpu: self.cpu,
            secrets: pairs("--runpod-secret", &self.runpod_secret)?
                .into_iter()
                .collect(),
            cached_model: self.cached_model,
        };
        let cloud = Cloud::new(options, key(), places.patience())?;
        if key().is_none() && !self.wanted.dry_run {
            return Err(usage(format!(
                "{KEY_VARIABLE} is not set; it is an API key of RunPod's console, under Settings"
            ))
            .into());
        }
        let records = places.records()?;
        self.wanted.make(&cloud, &records)
    }
}

fn key() -> Option<SecretString> {
    let key = std::env::var(KEY_VARIABLE).ok()?;
    let key = key.trim();
    (!key.is_empty()).then(|| key.to_owned().into())
}

fn delay(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.5..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds, 0.5 at least".to_owned()),
    }
}

/// Builds it again from a record.
pub(super) fn rebuild(options: &Value, patience: Patience) -> anyhow::Result<Box<dyn Platform>> {
    Ok(Box::new(Cloud::new(kept(options)?, key(), patience)?))
}
