//! What the commands for Vertex AI and Cloud Run have in common: whose project it is, and the login, both by the variables that
//! Google's own programs read.

use std::path::PathBuf;
use std::sync::Arc;

use super::make::{failed, usage};
use crate::google::Login;
use crate::provision::google::Account;

/// Flags of both.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The project [default: GOOGLE_CLOUD_PROJECT, else the one that the login's file names]
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// The region
    #[arg(long, value_name = "REGION", env = "GOOGLE_CLOUD_REGION")]
    pub region: String,
    /// The account that the worker runs as, such as worker@project.iam.gserviceaccount.com
    #[arg(long, value_name = "EMAIL")]
    pub service_account: Option<String>,
    /// The API's address, for tests
    #[arg(long, value_name = "URL", hide = true)]
    pub api: Option<String>,
    /// Cloud Logging's address, for tests
    #[arg(long, value_name = "URL", hide = true)]
    pub logging_api: Option<String>,
}

impl Place {
    /// Where logs are read.
    pub fn logging(&self) -> String {
        let own = || "https://logging.googleapis.com".to_owned();
        self.logging_api.clone().unwrap_or_else(own)
    }

    /// The project.
    ///
    /// # Errors
    /// When nobody says which.
    pub fn project(&self, account: &Account) -> anyhow::Result<String> {
        let named = self
            .project
            .clone()
            .or_else(|| set("GOOGLE_CLOUD_PROJECT"))
            .or_else(|| account.project().map(str::to_owned));
        let named = named.ok_or_else(|| {
            usage("no project is named: give --project, or set GOOGLE_CLOUD_PROJECT")
        })?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-:.".contains(c);
        match !named.is_empty() && named.chars().all(plain) {
            true => Ok(named),
            false => Err(usage(format!(
                "--project is `{named}`; a project's id has lower-case letters, digits and hyphens"
            ))
            .into()),
        }
    }

    /// The region, as a part of addresses.
    ///
    /// # Errors
    /// When it is no name of a region.
    pub fn region(&self) -> anyhow::Result<String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match !self.region.is_empty() && self.region.chars().all(plain) {
            true => Ok(self.region.clone()),
            false => Err(usage(format!(
                "--region is `{}`; give a region's name, such as europe-west4",
                self.region
            ))
            .into()),
        }
    }
}

fn set(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    value.filter(|value| !value.trim().is_empty())
}

/// Application default credentials in the order of Google's libraries; before them an access token that gcloud was given.
///
/// # Errors
/// A file that cannot be used.
pub fn account() -> anyhow::Result<Arc<Account>> {
    let login = match (set("CLOUDSDK_AUTH_ACCESS_TOKEN"), file()) {
        (Some(token), _) => Login::Token(token.trim().to_owned().into()),
        (None, Some(file)) => Login::File(file),
        (None, None) => Login::Auto,
    };
    let account = Account::new(login, set("GCE_METADATA_HOST"));
    Ok(account.map_err(failed)?)
}

fn file() -> Option<PathBuf> {
    if let Some(file) = set("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(file.into());
    }
    let folder = set("CLOUDSDK_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".config/gcloud")))?;
    Some(folder.join("application_default_credentials.json")).filter(|file| file.is_file())
}
