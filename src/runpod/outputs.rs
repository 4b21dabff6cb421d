//! The seam to object storage: who makes a result fit for sending. Apart, because the loop knows no storage.

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::Job;

/// Whoever makes a job's body fit for sending.
pub trait Outputs: Send + Sync + 'static {
    /// Takes the body of job-done (`{"output": …}` or `{"error": …}`) and gives back the one to be sent.
    fn deliver<'a>(
        &'a self,
        job: &'a Job,
        body: Value,
    ) -> BoxFuture<'a, Result<Value, OutputError>>;
}

/// Why an output cannot be delivered; its text is the job's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// Too large to be sent, and no store to put it into.
    #[error("the output has {bytes} bytes, and the platform takes {limit} at most")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What would go.
        limit: usize,
    },
}
