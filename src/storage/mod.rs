//! Object stores that speak S3: AWS, R2, MinIO, RunPod's volumes and their like. Who wants bytes to lie there says where
//! ([`Destination`]) and gets back an [`Artifact`] with a signed address; apart from the front doors because weights come
//! from such stores, too.
//!
//! Nothing is set up before the first upload: a worker that never uploads pays for none of this.

mod artifact;
mod bucket;
mod client;
mod destination;
mod endpoint;
mod failure;
mod key;
mod parts;
mod spelling;
mod transport;
mod uploader;

#[cfg(test)]
mod tests;

pub use artifact::Artifact;
pub use bucket::{Bucket, Condition, Sending, Stored};
pub use destination::{Access, Addressing, Credentials, Destination, Operator};
pub use failure::Refusal;
pub use key::{object_key, sanitised};
pub use spelling::{STORES, from_job};
pub use uploader::{Object, Uploader};

use std::io;
use std::path::PathBuf;

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
        /// The kind of it.
        refusal: Refusal,
    },
    /// More objects than anybody would have meant.
    #[error("bucket {bucket} has more than {most} objects under `{prefix}`")]
    TooMany {
        /// The bucket.
        bucket: String,
        /// Where was looked.
        prefix: String,
        /// How many would have been taken.
        most: usize,
    },
    /// What is to be sent cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody asked for the end.
    #[error("stopped before everything was stored")]
    Cancelled,
}

impl StorageError {
    fn config(place: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::Config {
            place: place.into(),
            wanted: wanted.into(),
        }
    }
}
