//! What every handler shares: the settings, the engine, and the few questions that all dialects ask of them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use chandler_core::{ErrorKind, RequestError, Task};
use tokio::time::Instant as Deadline;

use super::images::is_image;
use super::limits::{RateLimit, length};
use super::metrics::Exporter;
use super::room::Room;
use super::settings::ApiSettings;
use crate::engine::Engine;

/// What JSON may have where a model hears, or draws after pictures: JSON is in memory several times while it is read, so that this is far less than an
/// upload may have. No platform hands on more (runpod.md, vertex.md, cloudrun.md: 10 to 32 MB).
const JSON_FILES: u64 = 32 << 20;

/// The front door's state; cheap to clone.
pub(super) type Api = Arc<Shared>;

/// What a model name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    /// The name that answers carry.
    pub(super) id: String,
    /// The adapter to answer with.
    pub(super) adapter: Option<String>,
}

pub(super) struct Shared {
    pub(super) settings: ApiSettings,
    pub(super) engine: Engine,
    pub(super) rate_limit: Option<RateLimit>,
    /// Where uploads together have a bound.
    pub(super) room: Option<Arc<Room>>,
    pub(super) exporter: Exporter,
    /// Seconds since 1970 at which this worker began.
    pub(super) created: u64,
    started: Instant,
}

impl Shared {
    pub(super) fn new(settings: ApiSettings, engine: Engine) -> Self {
        Self {
            rate_limit: settings.rate_limit.map(RateLimit::per_minute),
            room: settings.upload_memory.map(Room::new),
            exporter: super::metrics::install(),
            created: unix_seconds(),
            started: Instant::now(),
            settings,
            engine,
        }
    }

    /// The model or adapter of a name; no name is this model's. A name that may be an adapter's waits for the model.
    pub(super) async fn serves(&self, name: Option<&str>) -> Result<Served, RequestError> {
        let known = self.adapters();
        if let Some(served) = self.find(name, known.as_deref().unwrap_or(&[])) {
            return Ok(served);
        }
        let loaded = match known {
            Some(_) => None,
            None => self.find(name, &self.engine.loaded().await?.adapters),
        };
        loaded.ok_or_else(|| self.not_served(name.unwrap_or_default()))
    }

    /// The same, among the names that are known now.
    pub(super) fn serves_now(&self, name: &str) -> Result<Served, RequestError> {
        let known = self.adapters().unwrap_or_default();
        let found = self.find(Some(name), &known);
        found.ok_or_else(|| self.not_served(name))
    }

    /// The loaded model's adapters; `None` while it loads.
    pub(super) fn adapters(&self) -> Option<Vec<String>> {
        self.engine.info().map(|info| info.adapters)
    }

    fn find(&self, name: Option<&str>, adapters: &[String]) -> Option<Served> {
        let settings = &self.settings;
        let own = |name: &str| {
            matches!(name, "" | "default")
                || name == settings.model_id
                || settings.aliases.iter().any(|alias| alias == name)
        };
        let name = name.unwrap_or_default();
        if own(name) {
            return Some(Served {
                id: settings.model_id.clone(),
                adapter: None,
            });
        }
        // An adapter by its own name, or after the model's: `base:adapter`.
        let adapter = adapters.iter().find(|adapter| {
            let base = name.strip_suffix(adapter.as_str());
            base == Some("")
                || base
                    .and_then(|base| base.strip_suffix(':'))
                    .is_some_and(|base| !base.is_empty() && own(base))
        })?;
        Some(Served {
            id: adapter.clone(),
            adapter: Some(adapter.clone()),
        })
    }

    fn not_served(&self, name: &str) -> RequestError {
        let message = format!(
            "the model {name:?} is not served here; this worker serves {:?}, also as \"default\"; --model-aliases \
             (CHANDLER_MODEL_ALIASES) gives it further names",
            self.settings.model_id
        );
        RequestError {
            field: Some("model".into()),
            ..RequestError::new(ErrorKind::NotFound, message).with_code("model_not_found")
        }
    }

    /// Bytes that the JSON body of a prediction may have, which may hold audio or pictures; waits for a model that loads only when a body
    /// has room under one limit and not under the other.
    pub(super) async fn json_limit(&self, headers: &HeaderMap) -> Result<usize, RequestError> {
        let usual = self.settings.body_limit;
        if length(headers).is_some_and(|bytes| bytes <= usual as u64) {
            return Ok(usual);
        }
        self.engine.loaded().await?;
        Ok(self.json_room().unwrap_or(usual))
    }

    /// The same as far as it is known now.
    pub(super) fn json_room(&self) -> Option<usize> {
        let usual = self.settings.body_limit;
        let does = self.engine.info()?.task;
        let takes_files = does == Task::AutomaticSpeechRecognition || is_image(does);
        // Base64 of as much as may be uploaded, and something around it.
        let most = self.settings.upload_limit.saturating_mul(4) / 3 + (64 << 10);
        let files = usize::try_from(most.min(JSON_FILES)).unwrap_or(usize::MAX);
        Some(if takes_files { usual.max(files) } else { usual })
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
