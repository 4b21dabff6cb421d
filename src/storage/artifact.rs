//! What is told of an uploaded object. The field names are those that clients of the Visgate worker read.

use serde::Serialize;

/// An object in a store, and how to get it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// The bucket.
    pub bucket_name: String,
    /// The store's address, without the bucket.
    pub endpoint_url: String,
    /// The object's key.
    pub key: String,
    /// A signed address: whoever has it can download the object until it expires.
    pub url: String,
    /// What the object is.
    pub content_type: String,
    /// Its size.
    pub bytes: u64,
}

// Why by hand: the address is as good as a key, until it expires.
impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifact")
            .field("bucket_name", &self.bucket_name)
            .field("key", &self.key)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
