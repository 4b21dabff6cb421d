//! What a webhook is told of a deployment: that it serves, or that it failed and what was done about it. Signed and repeated
//! like the worker's own messages ([`crate::webhook`]).

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use uuid::Uuid;

use super::Deployment;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Event {
    /// A real prediction succeeded.
    #[serde(rename = "endpoint.ready")]
    Ready,
    /// It did not come to that.
    #[serde(rename = "endpoint.failed")]
    Failed,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// Its id, the same on every attempt.
    pub id: String,
    /// What has happened.
    pub event: Event,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The endpoint's name.
    pub endpoint: String,
    /// The platform.
    pub platform: &'static str,
    /// What it serves.
    pub model: String,
    /// Where it is reached; there when it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it runs on, where the platform says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// Seconds from the first call to the first prediction, or to the failure.
    pub duration_seconds: f64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// After a failure: whether what had been made was taken down again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<bool>,
}

impl Notice {
    /// One about a deployment, with nothing but what is always known.
    pub fn of(event: Event, platform: &'static str, wanted: &Deployment, seconds: f64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: Uuid::new_v4().to_string(),
            event,
            created: now.map_or(0, |now| now.as_secs()),
            endpoint: wanted.name.to_string(),
            platform,
            model: wanted.served.name.clone(),
            url: None,
            hardware: None,
            duration_seconds: seconds,
            error: None,
            removed: None,
        }
    }
}
