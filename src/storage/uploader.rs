//! Puts objects into stores and signs addresses for them.

use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use secrecy::ExposeSecret;

use super::destination::Destination;
use super::failure::{Attempt, Throttled};
use super::transport::through;
use super::{Artifact, StorageError};
use crate::reach;

/// Larger objects go in parts of this size. R2 wants all but the last to be equal, S3 wants 5 MiB at least.
const PART: usize = 16 << 20;
/// S3 takes no more.
const PARTS: usize = 10_000;
/// Parts under way at the same time.
const AT_ONCE: usize = 4;
/// The longest that S3 signs an address for.
const LONGEST: Duration = Duration::from_secs(604_800);

/// One request, with its body; a part at 140 kB/s passes.
const ATTEMPT: Duration = Duration::from_secs(120);
const ALL_TRIES: Duration = Duration::from_secs(300);
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
        if object.body.len() > PART {
            multipart(&attempt, &object).await?;
        } else {
            let put = client.put_object().bucket(&to.bucket).key(&object.key);
            let put = put
                .content_type(&object.content_type)
                .body(object.body.clone().into());
            put.send().await.map_err(|error| attempt.failed(&error))?;
        }
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
        let keys = &to.credentials;
        let credentials = Credentials::new(
            keys.access_key.expose_secret(),
            keys.secret_key.expose_secret(),
            keys.session_token
                .as_ref()
                .map(|token| token.expose_secret().to_owned()),
            None,
            "chandler",
        );
        let timeouts = TimeoutConfig::builder()
            .read_timeout(ATTEMPT)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(ALL_TRIES);
        let retries = RetryConfig::standard()
            .with_max_attempts(TRIES)
            .with_initial_backoff(FIRST_PAUSE)
            .with_max_backoff(LONGEST_PAUSE);
        let mut config = Builder::new()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(http.clone())
            .region(Region::new(to.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(to.path_style())
            .retry_config(retries)
            .retry_classifier(Throttled)
            .timeout_config(timeouts.build())
            // The time of an attempt is bounded already; this would only add a second clock.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // R2, MinIO and RunPod's volumes do not take what AWS sends by default since 2025.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        config.set_endpoint_url(to.endpoint.as_ref().map(|_| to.endpoint_url()));
        Client::from_conf(config.build())
    }
}

/// Sends a large object in parts; what was sent of one that fails is taken back, since stores charge for it.
async fn multipart(attempt: &Attempt<'_>, object: &Object) -> Result<(), StorageError> {
    let (client, bucket) = (attempt.client, &attempt.to.bucket);
    let begin = client
        .create_multipart_upload()
        .bucket(bucket)
        .key(&object.key);
    let begun = begin.content_type(&object.content_type).send().await;
    let begun = begun.map_err(|error| attempt.failed(&error))?;
    let Some(id) = begun.upload_id() else {
        return Err(attempt.failed_with("it gave no upload id"));
    };
    let sent = send_parts(attempt, object, id).await;
    if sent.is_err() {
        let abort = client.abort_multipart_upload().bucket(bucket);
        if let Err(error) = abort.key(&object.key).upload_id(id).send().await {
            let error = attempt.failed(&error);
            tracing::warn!(%error, "the parts of an upload that failed are still in the bucket");
        }
    }
    sent
}

async fn send_parts(attempt: &Attempt<'_>, object: &Object, id: &str) -> Result<(), StorageError> {
    let (client, bucket) = (attempt.client, &attempt.to.bucket);
    let length = object.body.len();
    let size = length.div_ceil(PARTS).max(PART);
    let parts = (0..length.div_ceil(size)).map(|index| async move {
        let start = index * size;
        let body = object.body.slice(start..length.min(start + size));
        let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
        let part = client.upload_part().bucket(bucket).key(&object.key);
        let part = part.upload_id(id).part_number(number).body(body.into());
        let sent = part.send().await.map_err(|error| attempt.failed(&error))?;
        Ok::<_, StorageError>(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag().map(str::to_owned))
                .build(),
        )
    });
    let parts: Vec<CompletedPart> = stream::iter(parts).buffered(AT_ONCE).try_collect().await?;
    let all = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let done = client
        .complete_multipart_upload()
        .bucket(bucket)
        .key(&object.key);
    let done = done.upload_id(id).multipart_upload(all).send().await;
    done.map(drop).map_err(|error| attempt.failed(&error))
}
