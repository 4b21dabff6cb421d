//! A job as the platform hands it out.

use std::fmt;

use serde_json::{Map, Value};

/// A job as the platform hands it out.
#[derive(Clone)]
pub struct Job {
    /// The platform's name for it; opaque.
    pub id: String,
    /// What the client sent.
    pub input: Value,
    /// Everything else of the job object (`webhook`, `s3Config`, `batchId`, …), kept as it came. May hold secrets.
    pub rest: Map<String, Value>,
}

/// Without what the client sent and without the rest, which may hold keys.
impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
