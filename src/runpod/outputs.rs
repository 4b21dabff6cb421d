//! The seam to object storage: where an output goes that the platform would not take. Apart, because the loop knows no storage.

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::Job;

/// Where an output goes that the platform would not take.
pub trait Outputs: Send + Sync + 'static {
    /// Puts what is large in the body of job-done into storage, and gives the body back with links in its place.
    /// `Ok(None)`: nothing is set up for this job. An error is told to the job's client.
    fn store<'a>(
        &'a self,
        job: &'a Job,
        body: &'a Value,
    ) -> BoxFuture<'a, Result<Option<Value>, String>>;
}
