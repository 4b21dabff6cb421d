//! A bucket of the operator's own, as weights and mirrors need it: what lies in it, small objects whole, large ones by a
//! signed address or up from a file. A bucket that turns out to lie in another region is asked there from then on.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;
use reqwest::Url;

use super::client::client;
use super::destination::Destination;
use super::failure::{Attempt, Refusal};
use super::parts::{Body, Upload};
use super::transport::through;
use super::{StorageError, failure};
use crate::reach;

/// Pages of a listing, so that a store that always has another one comes to an end.
const PAGES: usize = 1000;
/// How often the body of a small object is fetched: the S3 client tries again only until the headers are in.
const BODIES: usize = 4;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key, prefix included.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Quotes and all.
    pub etag: Option<String>,
    /// When it was written, in seconds since 1970.
    pub modified: Option<i64>,
}

/// When an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// In any case.
    Always,
    /// Only if there is none.
    IfNew,
    /// Only if it is still this version.
    IfStill(&'a str),
}

/// A file on its way up.
pub struct Sending<'a> {
    /// Where it goes.
    pub key: &'a str,
    /// The file.
    pub path: &'a Path,
    /// Parts at the same time.
    pub at_once: usize,
    /// Is told the bytes that have arrived, part by part.
    pub sent: &'a (dyn Fn(u64) + Sync),
    /// Whether to give up; looked at many times a second.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// The bucket of a destination.
pub struct Bucket {
    state: RwLock<Arc<Connected>>,
    /// Of this bucket alone: pooled connections die with the runtime that made them.
    http: SharedHttpClient,
    tries: u32,
}

struct Connected {
    to: Destination,
    client: Client,
}

impl Connected {
    fn attempt(&self, what: &str) -> Attempt<'_> {
        failure::Attempt {
            to: &self.to,
            client: &self.client,
            what: what.to_owned(),
        }
    }
}

impl Bucket {
    /// Asks nobody yet. Each request is tried so many times, with pauses that grow.
    pub fn new(to: Destination, tries: u32) -> Self {
        let http = through(reach::Client::unguarded());
        let client = client(&to, http.clone(), tries);
        Self {
            state: RwLock::new(Arc::new(Connected { to, client })),
            http,
            tries,
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.connected().to.bucket.clone()
    }

    /// Whether requests are signed.
    pub fn signs(&self) -> bool {
        self.connected().to.credentials.is_some()
    }

    fn connected(&self) -> Arc<Connected> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    async fn with<T, F, Fut>(&self, run: F) -> Result<T, StorageError>
    where
        F: Fn(Arc<Connected>) -> Fut,
        Fut: Future<Output = Result<T, StorageError>>,
    {
        let first = self.connected();
        let region = match run(first.clone()).await {
            Err(StorageError::Failed {
                refusal: Refusal::OtherRegion(Some(region)),
                ..
            }) if region != first.to.region => region,
            other => return other,
        };
        tracing::info!(
            bucket = first.to.bucket,
            region,
            "the bucket lies in another region"
        );
        let to = first.to.moved_to(region);
        let client = client(&to, self.http.clone(), self.tries);
        let moved = Arc::new(Connected { to, client });
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = moved.clone();
        run(moved).await
    }

    /// All objects whose keys begin with the prefix; an error where they are more than `most`.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn list(&self, prefix: &str, most: usize) -> Result<Vec<Stored>, StorageError> {
        self.with(|on| async move {
            let too_many = || StorageError::TooMany {
                bucket: on.to.bucket.clone(),
                prefix: prefix.to_owned(),
                most,
            };
            let (mut all, mut next) = (Vec::new(), None);
            for _ in 0..PAGES {
                let page = on.client.list_objects_v2().bucket(&on.to.bucket);
                let page = page.prefix(prefix).set_continuation_token(next);
                // Why no encoding-type: some servers say that they have encoded and have not, so that `+` may be a blank or
                // not. What XML cannot hold is no safe path anyway.
                let page = page.send().await;
                let page = page.map_err(|error| on.attempt("a listing").failed(&error))?;
                for object in page.contents() {
                    let Some(key) = object.key() else { continue };
                    all.push(Stored {
                        key: key.to_owned(),
                        size: object
                            .size()
                            .and_then(|size| u64::try_from(size).ok())
                            .unwrap_or(0),
                        etag: object.e_tag().map(str::to_owned),
                        modified: object.last_modified().map(|time| time.secs()),
                    });
                }
                if all.len() > most {
                    return Err(too_many());
                }
                next = match page.is_truncated() {
                    Some(true) => page.next_continuation_token().map(str::to_owned),
                    _ => None,
                };
                if next.is_none() {
                    return Ok(all);
                }
            }
            Err(too_many())
        })
        .await
    }

    /// One object's size and version; `None` where there is none.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn head(&self, key: &str) -> Result<Option<Stored>, StorageError> {
        let asked = self.with(|on| async move {
            let head = on.client.head_object().bucket(&on.to.bucket).key(key);
            let head = head.send().await;
            let head = head.map_err(|error| on.attempt("an object").failed(&error))?;
            Ok(Stored {
                key: key.to_owned(),
                size: head
                    .content_length()
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or(0),
                etag: head.e_tag().map(str::to_owned),
                modified: head.last_modified().map(|time| time.secs()),
            })
        });
        present(asked.await)
    }

    /// A small object and its version; `None` where there is none.
    ///
    /// # Errors
    /// [`StorageError`], also where it has more than `most` bytes.
    pub async fn read(
        &self,
        key: &str,
        most: usize,
    ) -> Result<Option<(Bytes, Stored)>, StorageError> {
        let mut last = None;
        for _ in 0..BODIES {
            match present(self.with(|on| whole(on, key, most)).await)? {
                None => return Ok(None),
                Some(Ok(found)) => return Ok(Some(found)),
                Some(Err(cut)) => last = Some(cut),
            }
        }
        let reason = last.unwrap_or_default();
        Err(self.connected().attempt("an object").failed_with(&reason))
    }

    /// Writes a small object; `false` where the condition did not hold.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn put(
        &self,
        key: &str,
        body: Bytes,
        when: Condition<'_>,
    ) -> Result<bool, StorageError> {
        let put = |when: Condition<'_>| {
            let (new, still) = match when {
                Condition::Always => (None, None),
                Condition::IfNew => (Some("*".to_owned()), None),
                Condition::IfStill(etag) => (None, Some(etag.to_owned())),
            };
            let body = body.clone();
            self.with(move |on| {
                let (body, new, still) = (body.clone(), new.clone(), still.clone());
                async move {
                    let what = format!("{} bytes", body.len());
                    let put = on.client.put_object().bucket(&on.to.bucket).key(key);
                    let put = put.content_type("application/json").body(body.into());
                    let put = put.set_if_none_match(new).set_if_match(still);
                    let sent = put.send().await;
                    sent.map(drop)
                        .map_err(|error| on.attempt(&what).failed(&error))
                }
            })
        };
        let refused = |error: &StorageError| match error {
            StorageError::Failed { refusal, .. } => Some(refusal.clone()),
            _ => None,
        };
        match put(when).await {
            Ok(()) => Ok(true),
            Err(error) => match refused(&error) {
                Some(Refusal::Changed) if when != Condition::Always => Ok(false),
                // An older store: without conditions, the last one to write wins.
                Some(Refusal::Unsupported) if when != Condition::Always => {
                    put(Condition::Always).await.map(|()| true)
                }
                _ => Err(error),
            },
        }
    }

    /// Sends a file up, in parts where it is large.
    ///
    /// # Errors
    /// [`StorageError`]; [`StorageError::Cancelled`] when it was given up, with nothing left behind.
    pub async fn put_file(&self, sending: &Sending<'_>) -> Result<(), StorageError> {
        let unreadable = |source: io::Error| StorageError::File {
            path: sending.path.to_owned(),
            source,
        };
        let file = Arc::new(File::open(sending.path).map_err(unreadable)?);
        let length = file.metadata().map_err(unreadable)?.len();
        self.with(|on| {
            let file = file.clone();
            async move {
                let upload = Upload {
                    attempt: &on.attempt(&format!("{length} bytes")),
                    key: sending.key,
                    content_type: "application/octet-stream",
                    body: Body::File(file, sending.path.to_owned(), length),
                    at_once: sending.at_once,
                    sent: sending.sent,
                    cancelled: sending.cancelled,
                };
                upload.send().await
            }
        })
        .await
    }

    /// An address that gives the object's bytes to whoever has it, for so long; without a signature where there are no keys.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn address(&self, key: &str, lasts: Duration) -> Result<Url, StorageError> {
        let on = self.connected();
        let attempt = on.attempt("an address");
        let no_address =
            || attempt.failed_with("no address can be made of endpoint, bucket and key");
        if on.to.credentials.is_none() {
            return on.to.object_url(key).ok_or_else(no_address);
        }
        let config = PresigningConfig::expires_in(lasts)
            .map_err(|error| attempt.failed_with(&error.to_string()))?;
        let get = on.client.get_object().bucket(&on.to.bucket).key(key);
        let request = get.presigned(config).await;
        let request = request.map_err(|error| attempt.failed(&error))?;
        Url::parse(request.uri()).map_err(|_| no_address())
    }
}

/// A small object's bytes. The inner error is a body that broke off.
async fn whole(
    on: Arc<Connected>,
    key: &str,
    most: usize,
) -> Result<Result<(Bytes, Stored), String>, StorageError> {
    let attempt = on.attempt("an object");
    let get = on.client.get_object().bucket(&on.to.bucket).key(key);
    let mut got = get.send().await.map_err(|error| attempt.failed(&error))?;
    let etag = got.e_tag().map(str::to_owned);
    let modified = got.last_modified().map(|time| time.secs());
    let mut bytes = Vec::new();
    loop {
        match got.body.next().await {
            None => break,
            Some(Err(error)) => return Ok(Err(format!("{key} broke off: {error}"))),
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
        }
        if bytes.len() > most {
            let reason = format!("{key} has more than {most} bytes");
            return Err(attempt.failed_with(&reason));
        }
    }
    let stored = Stored {
        key: key.to_owned(),
        size: bytes.len() as u64,
        etag,
        modified,
    };
    Ok(Ok((bytes.into(), stored)))
}

fn present<T>(asked: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match asked {
        Err(StorageError::Failed {
            refusal: Refusal::NoKey,
            ..
        }) => Ok(None),
        other => other.map(Some),
    }
}
