//! Where objects go: store, bucket, prefix and the keys for it. One type for what a job says and what the operator set.

use std::fmt;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use secrecy::SecretString;

use super::StorageError;
use super::endpoint::{Endpoint, is_aws};
use crate::calendar::Day;

/// What a key may keep as it is in an address.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How a bucket is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// In front of the host at Amazon, in the path everywhere else.
    #[default]
    Auto,
    /// In the path: `https://host/bucket/key`.
    Path,
    /// In front of the host: `https://bucket.host/key`.
    Virtual,
}

/// The keys of a store.
#[derive(Clone)]
pub struct Credentials {
    /// The access key's id.
    pub access_key: SecretString,
    /// The access key.
    pub secret_key: SecretString,
    /// For keys that were lent for a while.
    pub session_token: Option<SecretString>,
}

/// How a store is reached that the operator named: everything but bucket and prefix.
#[derive(Clone, Default)]
pub struct Access {
    /// Its address; `None` is Amazon's in the region.
    pub endpoint: Option<Url>,
    /// The region to sign for; `None` is what the address says, or `us-east-1`.
    pub region: Option<String>,
    /// How buckets are addressed.
    pub addressing: Addressing,
    /// `None` asks without a signature, as public buckets allow.
    pub credentials: Option<Credentials>,
}

// Why by hand: nothing of the keys, and no address that might hold one.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("region", &self.region)
            .field("addressing", &self.addressing)
            .field("anonymous", &self.credentials.is_none())
            .finish_non_exhaustive()
    }
}

/// Where objects go, or come from.
#[derive(Clone)]
pub struct Destination {
    /// The store's address without the bucket; `None` is Amazon's in the region.
    pub(super) endpoint: Option<Url>,
    pub(super) region: String,
    pub(super) bucket: String,
    /// What all keys begin with; no slash at either end.
    pub(super) prefix: String,
    pub(super) addressing: Addressing,
    /// `None` asks without a signature.
    pub(super) credentials: Option<Credentials>,
    /// Whether a job named it, so that its address has to be one on the public internet.
    pub(super) from_job: bool,
}

// Why by hand: nothing of the keys, and no address that might hold one.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The parts of a destination before they are put together.
pub(super) struct Parts {
    pub endpoint: Option<Url>,
    pub region: Option<String>,
    pub bucket: Option<String>,
    pub prefix: String,
    pub addressing: Addressing,
    pub credentials: Option<Credentials>,
    pub from_job: bool,
}

impl Destination {
    /// A bucket that the operator named, and a prefix in it.
    ///
    /// # Errors
    /// [`StorageError::Config`].
    pub fn own(access: &Access, bucket: &str, prefix: &str) -> Result<Self, StorageError> {
        let parts = Parts {
            endpoint: access.endpoint.clone(),
            region: access.region.clone(),
            bucket: Some(bucket.to_owned()),
            prefix: prefix.to_owned(),
            addressing: access.addressing,
            credentials: access.credentials.clone(),
            from_job: false,
        };
        Self::assemble(parts, || {
            StorageError::config("bucket", "give s3://bucket/prefix")
        })
    }

    /// The same place, signed for in another region. Amazon's regions have addresses of their own.
    pub(super) fn moved_to(&self, region: String) -> Self {
        let endpoint = self.endpoint.clone().filter(|url| !is_aws(url));
        Self {
            endpoint,
            region,
            ..self.clone()
        }
    }

    /// An object's address without a signature.
    pub(super) fn object_url(&self, key: &str) -> Option<Url> {
        let mut url = Url::parse(&self.endpoint_url()).ok()?;
        let mut path = String::from("/");
        if self.path_style() {
            path.push_str(&self.bucket);
            path.push('/');
        } else {
            let host = format!("{}.{}", self.bucket, url.host_str()?);
            url.set_host(Some(&host)).ok()?;
        }
        path.extend(utf8_percent_encode(key, IN_PATH));
        url.set_path(&path);
        Some(url)
    }

    /// `missing` says what to do when nobody names a bucket.
    pub(super) fn assemble(
        parts: Parts,
        missing: impl FnOnce() -> StorageError,
    ) -> Result<Self, StorageError> {
        let endpoint = parts
            .endpoint
            .map(|url| Endpoint::read(url, parts.bucket.as_deref()));
        let own = endpoint.as_ref();
        let bucket = parts
            .bucket
            .or_else(|| own.and_then(|endpoint| endpoint.bucket.clone()))
            .ok_or_else(missing)?;
        check_bucket(&bucket)?;
        let prefix = join(
            own.map_or("", |endpoint| endpoint.prefix.as_str()),
            &parts.prefix,
        );
        let region = parts
            .region
            .or_else(|| own.map(Endpoint::region))
            .unwrap_or_else(|| "us-east-1".to_owned());
        Ok(Self {
            endpoint: endpoint.map(|endpoint| endpoint.url),
            region,
            bucket,
            prefix,
            addressing: parts.addressing,
            credentials: parts.credentials,
            from_job: parts.from_job,
        })
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The store's address as an artifact tells it.
    pub fn endpoint_url(&self) -> String {
        self.endpoint.as_ref().map_or_else(
            || format!("https://s3.{}.amazonaws.com", self.region),
            |url| url.as_str().trim_end_matches('/').to_owned(),
        )
    }

    pub(super) fn path_style(&self) -> bool {
        match self.addressing {
            Addressing::Path => true,
            Addressing::Virtual => false,
            Addressing::Auto => self.endpoint.as_ref().is_some_and(|url| !is_aws(url)),
        }
    }
}

fn join(first: &str, second: &str) -> String {
    let parts = [first.trim_matches('/'), second.trim_matches('/')];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

fn check_bucket(bucket: &str) -> Result<(), StorageError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !bucket.is_empty() && bucket.len() <= 255 && bucket.chars().all(plain) && bucket != ".." {
        return Ok(());
    }
    Err(StorageError::config(
        "bucket",
        "a bucket's name has letters, digits, dots and dashes only",
    ))
}

/// What the operator has set up for outputs.
#[derive(Clone, Default)]
pub struct Operator {
    /// Bucket and prefix of `--output-s3`.
    pub place: Option<(String, String)>,
    /// `BUCKET_ENDPOINT_URL`, as RunPod's own helper reads it.
    pub bucket_endpoint: Option<Url>,
    /// `BUCKET_NAME`.
    pub bucket_name: Option<String>,
    /// `BUCKET_ACCESS_KEY_ID`.
    pub bucket_access_key: Option<SecretString>,
    /// `BUCKET_SECRET_ACCESS_KEY`.
    pub bucket_secret_key: Option<SecretString>,
    /// The store that is used besides outputs (`--s3-endpoint`, `AWS_ENDPOINT_URL`).
    pub endpoint: Option<Url>,
    /// `--s3-region`, `AWS_REGION`.
    pub region: Option<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: Option<SecretString>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: Option<SecretString>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<SecretString>,
    /// `--s3-addressing`.
    pub addressing: Addressing,
}

// Why by hand: nothing of the keys.
impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("place", &self.place)
            .field("bucket_name", &self.bucket_name)
            .finish_non_exhaustive()
    }
}

impl Operator {
    /// Where outputs go that no job sends elsewhere; `None` when nothing is set up. The `BUCKET_…` variables are about
    /// outputs only, so that they win over those of `AWS_…`, which may be there for the weights.
    ///
    /// # Errors
    /// [`StorageError::Config`], naming what is missing.
    pub fn destination(&self, now: SystemTime) -> Result<Option<Destination>, StorageError> {
        // A bucket's name alone asks for nothing: other programs have a BUCKET_NAME, too.
        if self.place.is_none() && self.bucket_endpoint.is_none() {
            return Ok(None);
        }
        let credentials = self.credentials()?;
        let own_keys = self.bucket_access_key.is_some();
        let endpoint = self
            .bucket_endpoint
            .clone()
            .or_else(|| self.endpoint.clone());
        let (bucket, prefix) = match (&self.place, &self.bucket_name) {
            (Some((bucket, prefix)), _) => (Some(bucket.clone()), prefix.clone()),
            (None, Some(bucket)) => (Some(bucket.clone()), String::new()),
            // RunPod's helper takes this month for the bucket, and where the address already names a bucket, this
            // lands as a directory in it.
            (None, None) => {
                let in_address = endpoint
                    .as_ref()
                    .is_some_and(|url| Endpoint::read(url.clone(), None).bucket.is_some());
                match in_address {
                    true => (None, month(now)),
                    false => (Some(month(now)), String::new()),
                }
            }
        };
        let parts = Parts {
            endpoint,
            // A region of AWS says nothing about the store of BUCKET_ENDPOINT_URL.
            region: match self.bucket_endpoint.is_some() && own_keys {
                true => None,
                false => self.region.clone(),
            },
            bucket,
            prefix,
            addressing: self.addressing,
            credentials: Some(credentials),
            from_job: false,
        };
        let missing = || StorageError::config("output_s3", "give s3://bucket/prefix");
        Destination::assemble(parts, missing).map(Some)
    }

    fn credentials(&self) -> Result<Credentials, StorageError> {
        let missing = |names: &str| {
            StorageError::config(
                "outputs are to go to an object store, and its keys are missing",
                format!("set {names}"),
            )
        };
        match (&self.bucket_access_key, &self.bucket_secret_key) {
            (Some(access_key), Some(secret_key)) => Ok(Credentials {
                access_key: access_key.clone(),
                secret_key: secret_key.clone(),
                session_token: None,
            }),
            (Some(_), None) => Err(missing("BUCKET_SECRET_ACCESS_KEY")),
            (None, Some(_)) => Err(missing("BUCKET_ACCESS_KEY_ID")),
            (None, None) => match (&self.access_key, &self.secret_key) {
                (Some(access_key), Some(secret_key)) => Ok(Credentials {
                    access_key: access_key.clone(),
                    secret_key: secret_key.clone(),
                    session_token: self.session_token.clone(),
                }),
                _ => Err(missing(
                    "BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                )),
            },
        }
    }
}

/// `MM-YY` of an instant, in UTC.
pub(super) fn month(now: SystemTime) -> String {
    let day = Day::of(now);
    format!("{:02}-{:02}", day.month, day.year % 100)
}
