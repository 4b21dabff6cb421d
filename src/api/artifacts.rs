//! The seam to object storage: who keeps a file of an answer and says where it lies. Apart, because the front door knows no storage.

use std::fmt::Debug;

use bytes::Bytes;
use chandler_core::RequestError;
use futures_util::future::BoxFuture;

/// What is to be kept.
#[derive(Debug, Clone)]
pub struct NewArtifact {
    /// The request that it belongs to.
    pub request: String,
    /// What it is.
    pub content_type: &'static str,
    /// The ending of its name.
    pub extension: &'static str,
    /// The file.
    pub bytes: Bytes,
}

/// Whoever keeps files and says where they lie.
pub trait Artifacts: Debug + Send + Sync + 'static {
    /// Keeps a file; gives an address from which whoever has it can download the file.
    ///
    /// # Errors
    /// That the store did not take it.
    fn keep(&self, artifact: NewArtifact) -> BoxFuture<'_, Result<String, RequestError>>;
}

/// What sets up a store, for the error of a worker without one.
pub(super) const WANTED: &str = "this worker has no object store to put pictures into: set CHANDLER_OUTPUT_S3, or BUCKET_ENDPOINT_URL, \
    BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY";
