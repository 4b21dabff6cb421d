//! Object stores that speak S3: AWS, R2, MinIO, RunPod's volumes and their like. Who wants bytes to lie there says where
//! ([`Destination`]) and gets back an [`Artifact`] with a signed address; apart from the front doors because weights come
//! from such stores, too.
//!
//! Nothing is set up before the first upload: a worker that never uploads pays for none of this.

mod artifact;
mod destination;
mod endpoint;
mod failure;
mod key;
mod spelling;
mod transport;
mod uploader;

#[cfg(test)]
mod tests;

pub use artifact::Artifact;
pub use destination::{Addressing, Credentials, Destination, Operator};
pub use key::{object_key, sanitised};
pub use spelling::from_job;
pub use uploader::{Object, Uploader};

use crate::reach::ReachError;

/// Why something does not lie in an object store. No message holds a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// What a job or a setting says about the store will not do.
    #[error("{place}: {wanted}")]
    Config {
        /// The field or setting.
        place: String,
        /// What would do.
        wanted: String,
    },
    /// The store's address may not be reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The store said no, or nothing.
    #[error("{host} did not take {what} into bucket {bucket}: {reason}")]
    Failed {
        /// Scheme and host of the store.
        host: String,
        /// What was sent.
        what: String,
        /// The bucket.
        bucket: String,
        /// S3's error code and the store's own words, with what to do about it; or why there are none.
        reason: String,
    },
}

impl StorageError {
    fn config(place: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::Config {
            place: place.into(),
            wanted: wanted.into(),
        }
    }
}
