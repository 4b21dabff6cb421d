//! What the front door is told once, when the worker starts; nothing below reads flags or the environment.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::artifacts::Artifacts;
use super::auth::ApiKeys;
use crate::reach::{self, AllowedHosts, Limits};

/// Settings of the HTTP front door.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The name that `/v1/models` shows.
    pub model_id: String,
    /// Other names that requests may use for it; `default` always works.
    pub aliases: Vec<String>,
    /// Keys of which one must come with every request but health; none leaves the door open.
    pub api_keys: ApiKeys,
    /// Origins that browsers may call from; `*` is any, none sends no CORS headers.
    pub cors_origins: Vec<String>,
    /// Bytes that a JSON body may have.
    pub body_limit: usize,
    /// Bytes that an uploaded file may have, in a form or as base64.
    pub upload_limit: u64,
    /// Bytes that all uploads and downloads of requests may take in memory together; none is no bound.
    pub upload_memory: Option<u64>,
    /// Fetches what requests name by address.
    pub downloads: reach::Client,
    /// Keeps files of answers that are asked for by address; none where there is no store.
    pub artifacts: Option<Arc<dyn Artifacts>>,
    /// Requests per minute and key, or per peer address where there are no keys.
    pub rate_limit: Option<u32>,
    /// Time for a whole request, waiting and streaming included.
    pub request_timeout: Duration,
    /// How long a client may take none of the bytes that wait for it.
    pub write_stall: Duration,
    /// A further path for `/isalive` (`AIP_HEALTH_ROUTE`); may be one of ours.
    pub health_route: Option<String>,
    /// A further path for `/ping` (`HEALTH_CHECK_PATH`); may be one of ours, which then answers as `/ping` does.
    pub ping_route: Option<String>,
    /// A further path for `/predict` (`AIP_PREDICT_ROUTE`); may be one of ours.
    pub predict_route: Option<String>,
    /// What `/health` and `/openapi.json` say.
    pub version: String,
    /// Jobs that wait in another front door of this process; `/health` counts them among those in the queue.
    pub waiting_jobs: Arc<AtomicUsize>,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            model_id: "default".into(),
            aliases: Vec::new(),
            api_keys: ApiKeys::default(),
            cors_origins: Vec::new(),
            body_limit: 4 << 20,
            upload_limit: 512 << 20,
            upload_memory: None,
            downloads: reach::Client::new(AllowedHosts::default(), Limits::default()),
            artifacts: None,
            rate_limit: None,
            request_timeout: Duration::from_secs(600),
            write_stall: Duration::from_secs(60),
            health_route: None,
            ping_route: None,
            predict_route: None,
            version: env!("CARGO_PKG_VERSION").into(),
            waiting_jobs: Arc::default(),
        }
    }
}
