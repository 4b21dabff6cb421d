//! `chandler provision cloudrun`: a service on Cloud Run.

use std::process::ExitCode;

use serde_json::Value;

use super::google::{Place, account};
use super::make::failed;
use super::platforms::kept;
use super::wanted::Wanted;
use crate::provision::cloud_run::{CloudRun as Platform, KeptSecret, Options, Volume};
use crate::provision::{self, Patience};

/// Run the worker as a service of Cloud Run, which sleeps without requests (--min-workers 0).
///
/// The login is Google's own (application default credentials). Who calls the service needs the role run.invoker and an ID
/// token, unless --public.
#[derive(Debug, clap::Args)]
pub struct CloudRun {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    place: Place,
    /// Let everybody call the service
    #[arg(long)]
    public: bool,
    /// A variable of the worker's environment whose value Secret Manager keeps [default version: latest]
    #[arg(long, value_name = "NAME=SECRET[:VERSION]", value_parser = secret)]
    gcp_secret: Vec<KeptSecret>,
    /// A bucket with a cache of models, or one folder of it, mounted read-only: downloads would be kept in memory
    #[arg(long, value_name = "BUCKET[:PATH]", value_parser = volume)]
    gcs_volume: Option<Volume>,
}

impl CloudRun {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let account = account()?;
        let api = self.place.api.clone();
        let options = Options {
            api: api.unwrap_or_else(|| "https://run.googleapis.com".to_owned()),
            logging: self.place.logging(),
            project: self.place.project(&account)?,
            region: self.place.region()?,
            public: self.public,
            service_account: self.place.service_account,
            secrets: self.gcp_secret,
            volume: self.gcs_volume,
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

fn secret(text: &str) -> Result<KeptSecret, String> {
    let wrong = || format!("`{text}` is no NAME=SECRET[:VERSION]");
    let (variable, place) = text.split_once('=').ok_or_else(wrong)?;
    let (secret, version) = place.split_once(':').unwrap_or((place, "latest"));
    if variable.is_empty() || secret.is_empty() || version.is_empty() {
        return Err(wrong());
    }
    Ok(KeptSecret {
        variable: variable.to_owned(),
        secret: secret.to_owned(),
        version: version.to_owned(),
    })
}

fn volume(text: &str) -> Result<Volume, String> {
    let (bucket, path) = match text.split_once(':') {
        Some((bucket, path)) => (bucket, Some(path.trim_matches('/').to_owned())),
        None => (text, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if bucket.is_empty() || !bucket.chars().all(plain) {
        return Err(format!("`{text}` is no BUCKET[:PATH]"));
    }
    Ok(Volume {
        bucket: bucket.to_owned(),
        path: path.filter(|path| !path.is_empty()),
    })
}
