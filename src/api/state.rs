//! What every handler shares: the settings, the engine, and the few questions that all dialects ask of them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chandler_core::{ErrorKind, RequestError};
use tokio::time::Instant as Deadline;

use super::limits::RateLimit;
use super::metrics::Exporter;
use super::settings::ApiSettings;
use crate::engine::Engine;

/// The front door's state; cheap to clone.
pub(super) type Api = Arc<Shared>;

pub(super) struct Shared {
    pub(super) settings: ApiSettings,
    pub(super) engine: Engine,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) exporter: Exporter,
    /// Seconds since 1970 at which this worker began.
    pub(super) created: u64,
    started: Instant,
}

impl Shared {
    pub(super) fn new(settings: ApiSettings, engine: Engine) -> Self {
        Self {
            rate_limit: settings.rate_limit.map(RateLimit::per_minute),
            exporter: super::metrics::install(),
            created: unix_seconds(),
            started: Instant::now(),
            settings,
            engine,
        }
    }

    /// Refuses a model name that is not served here; no name is this model's.
    pub(super) fn serves(&self, name: Option<&str>) -> Result<(), RequestError> {
        let settings = &self.settings;
        match name {
            None | Some("" | "default") => Ok(()),
            Some(name) if name == settings.model_id => Ok(()),
            Some(name) if settings.aliases.iter().any(|alias| alias == name) => Ok(()),
            Some(name) => {
                let message = format!(
                    "the model {name:?} is not served here; this worker serves {:?}",
                    settings.model_id
                );
                Err(RequestError {
                    field: Some("model".into()),
                    ..RequestError::new(ErrorKind::NotFound, message).with_code("model_not_found")
                })
            }
        }
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// When a request that began now must have ended.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::now() + self.settings.request_timeout
    }
}

/// Seconds since 1970, as `created` fields want them.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs())
}
