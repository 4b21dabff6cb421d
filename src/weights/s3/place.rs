//! A prefix of a bucket, whose errors are told in the weights' words. Apart from the source, because the mirror is such a
//! place, too.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;

use super::S3Options;
use super::trouble::explained;
use crate::reach;
use crate::storage::{Bucket, Condition, Destination, Sending, StorageError, Stored};
use crate::weights::WeightsError;
use crate::weights::manifest::{MOST_BYTES, MOST_FILES, Manifest};
use crate::weights::names;
use crate::weights::remote::Link;

/// What was being done when the store refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::weights) enum Doing {
    Reading,
    Writing,
}

/// A prefix of a bucket.
pub(in crate::weights) struct Place {
    bucket: Bucket,
    http: reqwest::Client,
    prefix: String,
    lasts: Duration,
}

impl Place {
    pub(in crate::weights) fn new(
        bucket: &str,
        prefix: &str,
        options: &S3Options,
    ) -> Result<Self, WeightsError> {
        let refused = |reason: String| WeightsError::Unreachable {
            place: format!("s3://{bucket}"),
            reason,
        };
        let to = Destination::own(&options.access, bucket, prefix)
            .map_err(|error| refused(error.to_string()))?;
        let prefix = to.prefix().to_owned();
        if !prefix.is_empty() {
            names::file_path(&prefix)?;
        }
        Ok(Self {
            http: reach::Client::downloads().map_err(|error| refused(error.to_string()))?,
            bucket: Bucket::new(to, options.tries),
            prefix,
            lasts: options.link_lasts,
        })
    }

    /// `s3://bucket/prefix`.
    pub(in crate::weights) fn name(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("s3://{}", self.bucket.name()),
            prefix => format!("s3://{}/{prefix}", self.bucket.name()),
        }
    }

    pub(in crate::weights) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A key under the prefix.
    pub(in crate::weights) fn key(&self, path: &str) -> String {
        match self.prefix.as_str() {
            "" => path.to_owned(),
            prefix => format!("{prefix}/{path}"),
        }
    }

    pub(in crate::weights) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn told(&self, doing: Doing) -> impl FnOnce(StorageError) -> WeightsError {
        let (name, signs) = (self.name(), self.bucket.signs());
        move |error| explained(&name, signs, doing, error)
    }

    /// The objects whose keys begin so.
    pub(in crate::weights) async fn list(&self, base: &str) -> Result<Vec<Stored>, WeightsError> {
        let listed = self.bucket.list(base, MOST_FILES).await;
        listed.map_err(self.told(Doing::Reading))
    }

    /// A small object, where there is one.
    pub(in crate::weights) async fn read(
        &self,
        key: &str,
        most: usize,
    ) -> Result<Option<(Bytes, Stored)>, WeightsError> {
        let read = self.bucket.read(key, most).await;
        read.map_err(self.told(Doing::Reading))
    }

    /// What is known of an object, where there is one.
    pub(in crate::weights) async fn head(&self, key: &str) -> Result<Option<Stored>, WeightsError> {
        let found = self.bucket.head(key).await;
        found.map_err(self.told(Doing::Reading))
    }

    /// A manifest and its version, where there is one.
    pub(in crate::weights) async fn manifest(
        &self,
        key: &str,
    ) -> Result<Option<(Manifest, Option<String>)>, WeightsError> {
        let Some((bytes, stored)) = self.read(key, MOST_BYTES).await? else {
            return Ok(None);
        };
        let place = format!("s3://{}/{key}", self.bucket.name());
        Ok(Some((Manifest::read(&place, &bytes)?, stored.etag)))
    }

    /// Writes a small object; `false` where the condition did not hold.
    pub(in crate::weights) async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        when: Condition<'_>,
    ) -> Result<bool, WeightsError> {
        let put = self.bucket.put(key, body.into(), when).await;
        put.map_err(self.told(Doing::Writing))
    }

    /// Sends a file up.
    pub(in crate::weights) async fn send(&self, sending: &Sending<'_>) -> Result<(), WeightsError> {
        let sent = self.bucket.put_file(sending).await;
        sent.map_err(self.told(Doing::Writing))
    }

    /// A signed address, or a plain one where there are no keys.
    pub(in crate::weights) async fn link(&self, key: &str) -> Result<Link, WeightsError> {
        let url = self.bucket.address(key, self.lasts).await;
        Ok(Link {
            url: url.map_err(self.told(Doing::Reading))?,
            headers: HeaderMap::new(),
        })
    }
}
