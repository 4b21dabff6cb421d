//! Buckets that speak S3 as a source of weights: AWS, R2, MinIO, RunPod's volumes. The bytes travel by signed addresses, so
//! that ranges need no signature each; how a bucket is spoken to is `storage`'s business.

mod place;
mod source;
mod trouble;

use std::time::Duration;

use crate::storage::Access;

pub(super) use place::{Doing, Place};
pub use source::S3Source;

/// How buckets are spoken to.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Address, region, addressing, keys.
    pub access: Access,
    /// How long a signed address holds; a transfer that takes longer asks for another.
    pub link_lasts: Duration,
    /// How often a listing and the like are tried.
    pub tries: u32,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            access: Access::default(),
            link_lasts: Duration::from_secs(3600),
            // RunPod's own tools try its volumes ten times: they answer 502 now and then.
            tries: 10,
        }
    }
}
