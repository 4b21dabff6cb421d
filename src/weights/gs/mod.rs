//! `gs://bucket/prefix`, also as Vertex AI names a model's copy in `AIP_STORAGE_URI`. Google's JSON API and not its S3 dialect,
//! because the latter wants keys of its own where every Google machine has a login already.

mod refusal;
mod source;

use reqwest::Url;

pub use source::GsSource;

pub use crate::google::Login;

/// Google's own address.
const GOOGLE: &str = "https://storage.googleapis.com";
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
