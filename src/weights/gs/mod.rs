//! `gs://bucket/prefix`, also as Vertex AI names a model's copy in `AIP_STORAGE_URI`. Google's JSON API and not its S3 dialect,
//! because the latter wants keys of its own where every Google machine has a login already.

mod ask;
mod key;
mod source;
mod token;

use std::path::PathBuf;

use reqwest::Url;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

pub use source::GsSource;

/// Google's own address.
const GOOGLE: &str = "https://storage.googleapis.com";
/// Where a machine of Google's asks who it is.
const METADATA: &str = "metadata.google.internal";

/// Who asks.
#[derive(Debug, Clone, Default)]
pub enum Login {
    /// The machine's own account, by the metadata server; nobody, where there is none.
    #[default]
    Auto,
    /// Whoever this access token is of.
    Token(SecretString),
    /// A service account or a user, by a file of `GOOGLE_APPLICATION_CREDENTIALS`' kind.
    File(PathBuf),
    /// Nobody: public buckets.
    Anonymous,
}

/// How Google Cloud Storage is spoken to.
#[derive(Debug, Clone)]
pub struct GsOptions {
    /// Its address; `STORAGE_EMULATOR_HOST` names another.
    pub endpoint: Option<Url>,
    /// Who asks.
    pub login: Login,
    /// The metadata server's host, with its port where it has one (`GCE_METADATA_HOST`).
    pub metadata_host: Option<String>,
    /// How often a listing and the like are tried.
    pub tries: u32,
}

impl Default for GsOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            login: Login::Auto,
            metadata_host: None,
            tries: 8,
        }
    }
}

/// A secret in JSON.
fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}
