//! What a message says: a fixed set of fields, and nothing that is copied wholesale from anywhere.

use serde::Serialize;

use super::place::Place;

/// Longest text of an error.
const ERROR: usize = 1000;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The worker has started and loads its model.
    Loading,
    /// A request would be served.
    Ready,
    /// The model did not load, or the device is gone.
    Failed,
    /// The worker was asked to end and finishes what runs.
    Stopping,
}

/// What all messages of a worker are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The model's name for clients.
    pub model: String,
    /// Where the worker runs.
    pub worker: Place,
    /// The program's version.
    pub version: String,
}

/// How long a stage of the cold start took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageTime {
    /// Its name.
    pub stage: &'static str,
    /// Milliseconds.
    pub ms: u64,
}

/// The cold start so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ColdStart {
    /// Milliseconds since the process started.
    pub total_ms: u64,
    /// In the order in which they began.
    pub stages: Vec<StageTime>,
    /// Bytes that came over the network.
    pub fetched_bytes: u64,
    /// Bytes of weights that were read.
    pub weights_bytes: u64,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Its id.
    pub id: String,
    /// What has happened.
    pub status: Event,
    /// When, in seconds since 1970.
    pub created: u64,
    #[serde(flatten)]
    /// What it is about.
    pub subject: Subject,
    /// Where the model computes; there once it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// In which numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// How long everything took.
    pub cold_start: ColdStart,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Notice {
    pub(super) fn with_error(mut self, reason: &str) -> Self {
        self.error = Some(reason.chars().take(ERROR).collect());
        self
    }
}
