//! The seam to object storage: who makes a result fit for sending. Apart, because the loop knows no storage.

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::Job;
use crate::storage::StorageError;

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
    #[error(
        "the output has {bytes} bytes, and the platform takes {limit} at most; to have outputs of this size uploaded, set \
         BUCKET_ENDPOINT_URL, BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY (or CHANDLER_OUTPUT_S3) on the endpoint, or \
         send s3Config with the job"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What would go.
        limit: usize,
    },
    /// The store did not take it.
    #[error("the output could not be uploaded: {0}")]
    Storage(#[from] StorageError),
    /// It is no JSON that could be written, which its type rules out.
    #[error("the output could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}
