//! Puts objects into stores and signs addresses for them.

use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;

use super::client::client;
use super::destination::Destination;
use super::failure::Attempt;
use super::parts::{Body, Upload};
use super::transport::through;
use super::{Artifact, StorageError};
use crate::reach;

/// Parts under way at the same time.
const AT_ONCE: usize = 4;
/// The longest that S3 signs an address for.
const LONGEST: Duration = Duration::from_secs(604_800);
const TRIES: u32 = 5;

/// What is to be stored.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its key, prefix included.
    pub key: String,
    /// Its bytes.
    pub body: Bytes,
    /// What it is.
    pub content_type: String,
}

/// Uploads for operator and jobs. Nothing is set up before the first upload.
#[derive(Debug)]
pub struct Uploader {
    /// For stores that jobs name.
    guarded: reach::Client,
    guarded_http: OnceLock<SharedHttpClient>,
    /// For the operator's own store, which may stand on a private network.
    own_http: OnceLock<SharedHttpClient>,
    /// How long a signed address holds.
    expires: Duration,
}

impl Uploader {
    /// An uploader whose signed addresses hold for `expires`, a week at most.
    pub fn new(guarded: reach::Client, expires: Duration) -> Self {
        Self {
            guarded,
            guarded_http: OnceLock::new(),
            own_http: OnceLock::new(),
            expires: expires.clamp(Duration::from_secs(1), LONGEST),
        }
    }

    /// Stores an object and signs an address for it.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn upload(&self, to: &Destination, object: Object) -> Result<Artifact, StorageError> {
        let client = self.client(to);
        let attempt = Attempt {
            to,
            client: &client,
            what: format!("{} bytes", object.body.len()),
        };
        let bytes = object.body.len() as u64;
        let upload = Upload {
            attempt: &attempt,
            key: &object.key,
            content_type: &object.content_type,
            body: Body::Memory(object.body),
            at_once: AT_ONCE,
            sent: &|_| (),
            cancelled: &|| false,
        };
        upload.send().await?;
        let url = self.signed(&attempt, &object.key).await?;
        Ok(Artifact {
            bucket_name: to.bucket.clone(),
            endpoint_url: to.endpoint_url(),
            key: object.key,
            url,
            content_type: object.content_type,
            bytes,
        })
    }

    /// Whether the store answers and knows bucket and keys: lists one object of the bucket.
    ///
    /// # Errors
    /// [`StorageError`]. Keys that may only put objects are refused too, with `AccessDenied`.
    pub async fn probe(&self, at: &Destination) -> Result<(), StorageError> {
        let client = self.client(at);
        let attempt = Attempt {
            to: at,
            client: &client,
            what: "a look".to_owned(),
        };
        let list = client.list_objects_v2().bucket(&at.bucket).max_keys(1);
        let prefix = Some(&at.prefix).filter(|prefix| !prefix.is_empty());
        let listed = list.set_prefix(prefix.cloned()).send().await;
        listed.map(drop).map_err(|error| attempt.failed(&error))
    }

    async fn signed(&self, attempt: &Attempt<'_>, key: &str) -> Result<String, StorageError> {
        let config = PresigningConfig::expires_in(self.expires)
            .map_err(|error| attempt.failed_with(&error.to_string()))?;
        let get = attempt
            .client
            .get_object()
            .bucket(&attempt.to.bucket)
            .key(key);
        let request = get.presigned(config).await;
        let request = request.map_err(|error| attempt.failed(&error))?;
        Ok(request.uri().to_owned())
    }

    fn client(&self, to: &Destination) -> Client {
        let http = if to.from_job {
            self.guarded_http
                .get_or_init(|| through(self.guarded.clone()))
        } else {
            self.own_http
                .get_or_init(|| through(reach::Client::unguarded()))
        };
        client(to, http.clone(), TRIES)
    }
}
