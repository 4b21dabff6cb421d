//! `chandler provision vast`: the worker on somebody's machine, lent by the hour. Experimental.

use std::process::ExitCode;

use secrecy::SecretString;
use serde_json::Value;

use super::make::{failed, usage};
use super::platforms::kept;
use super::wanted::Wanted;
use super::worker_key::worker_key;
use crate::provision::vast::{Options, Vast as Account};
use crate::provision::{Patience, Platform};

/// The host that answers itself: console.vast.ai has redirected, and a login does not follow a redirect.
const API: &str = "https://cloud.vast.ai";
const KEY: &str = "VAST_API_KEY";

/// Experimental: run the worker on a machine of Vast.ai's market, on demand.
///
/// Built from the platform's documents and never proved against it. Needs VAST_API_KEY. The worker's address is public, so that
/// it needs a key of its own: export CHANDLER_API_KEYS and give --secret CHANDLER_API_KEYS. The machine's owner can read what
/// is on it, secrets too.
#[derive(Debug, clap::Args)]
pub struct Vast {
    #[command(flatten)]
    wanted: Wanted,
    /// The highest price, in US dollars an hour
    #[arg(long, value_name = "USD")]
    max_price: Option<f64>,
    /// The lowest share of time that the machine was there
    #[arg(long, value_name = "0…1", default_value_t = 0.98)]
    reliability: f64,
    /// Countries by their two letters [default: any]
    #[arg(long, value_name = "CC,…", value_delimiter = ',')]
    country: Vec<String>,
    /// Disk [default: what the plan says, else 40]
    #[arg(long, value_name = "GB")]
    disk_gb: Option<u32>,
    /// The API's address
    #[arg(long, value_name = "URL", default_value = API, hide = true)]
    api: String,
}

impl Vast {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let places = &self.wanted.places;
        if !(0.0..=1.0).contains(&self.reliability) {
            return Err(usage(format!("--reliability is {}; use 0 to 1", self.reliability)).into());
        }
        let options = Options {
            api: self.api.trim_end_matches('/').to_owned(),
            max_price: self.max_price,
            reliability: self.reliability,
            countries: self.country,
            disk_gb: self.disk_gb,
        };
        let key = key();
        if key.is_none() && !self.wanted.dry_run {
            return Err(usage(format!("vast needs {KEY} (cloud.vast.ai/manage-keys)")).into());
        }
        let account = Account::new(options, (key, worker_key()), places.patience());
        let records = places.records()?;
        self.wanted.make(&account.map_err(failed)?, &records)
    }
}

fn key() -> Option<SecretString> {
    let key = std::env::var(KEY).ok()?;
    let key = key.trim();
    (!key.is_empty()).then(|| SecretString::from(key.to_owned()))
}

/// Builds it again from a record.
pub(super) fn rebuild(options: &Value, patience: Patience) -> anyhow::Result<Box<dyn Platform>> {
    Ok(Box::new(Account::new(
        kept(options)?,
        (key(), worker_key()),
        patience,
    )?))
}
