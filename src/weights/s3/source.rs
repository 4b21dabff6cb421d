//! `s3://bucket/prefix`: a plain prefix that holds a model's files, one that `chandler cache push` filled, or a repository of a
//! Hugging Face cache that somebody copied there.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Place, S3Options};
use crate::storage::Stored;
use crate::weights::WeightsError;
use crate::weights::listed::{self, Object};
use crate::weights::manifest::{self, Manifest};
use crate::weights::mirror::layout;
use crate::weights::remote::{BoxFuture, Link, Listing, RemoteFile, Source};

/// The longest content of a ref.
const REF: usize = 256;
/// Files that are asked about one by one, and at the same time; no model that is whole has more.
const LOOKS: usize = 200;
const AT_ONCE: usize = 8;

/// A bucket's prefix.
pub struct S3Source {
    place: Place,
    /// What the keys of the files begin with, once they are listed.
    base: Mutex<String>,
}

impl S3Source {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// A bucket or a prefix that is no name.
    pub fn new(bucket: &str, prefix: &str, options: &S3Options) -> Result<Self, WeightsError> {
        let place = Place::new(bucket, prefix, options)?;
        let base = Mutex::new(base(place.prefix()));
        Ok(Self { place, base })
    }

    fn base(&self) -> std::sync::MutexGuard<'_, String> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self) -> Result<Listing, WeightsError> {
        let prefix = self.place.prefix();
        let mut base = base(prefix);
        let mut recorded = None;
        if layout::is_repository(prefix) {
            // A mirror, or a copy of a cache: its main branch.
            let reference = self.place.read(&self.place.key("refs/main"), REF).await?;
            let commit = reference.and_then(|(bytes, _)| layout::commit(&bytes));
            if let Some(commit) = commit {
                base = self.place.key(&format!("snapshots/{commit}/"));
                recorded = Some(self.place.key(&layout::manifest(&commit)));
            }
        } else if let Some((repository, commit)) = layout::snapshot(prefix) {
            recorded = Some(format!("{repository}/{}", layout::manifest(commit)));
        }
        let stored = self.place.list(&base).await?;
        let beside = format!("{base}{}", manifest::BESIDE);
        if stored.iter().any(|object| object.key == beside) {
            recorded = Some(beside);
        }
        let manifest: Option<Manifest> = match recorded {
            Some(key) => self
                .place
                .manifest(&key)
                .await?
                .map(|(manifest, _)| manifest),
            None => None,
        };
        let known = manifest
            .as_ref()
            .map_or(&[][..], |manifest| &manifest.files);
        let known: HashSet<&str> = known.iter().map(|file| file.path.as_str()).collect();
        let mut objects = Vec::with_capacity(stored.len());
        let (mut looks, mut names) = (LOOKS, Vec::new());
        for stored in stored {
            let Some(path) = listed::path(&stored.key, &base) else {
                continue;
            };
            if stored.etag.is_none() && !known.contains(path) && looks > 0 {
                looks -= 1;
                names.push(stored);
            } else {
                objects.extend(object(stored, &base));
            }
        }
        let looked = stream::iter(names.into_iter().map(|stored| self.looked(stored)));
        let looked: Vec<Stored> = looked.buffer_unordered(AT_ONCE).try_collect().await?;
        objects.extend(
            looked
                .into_iter()
                .filter_map(|stored| object(stored, &base)),
        );
        let listing = listed::listing(&self.place.name(), objects, manifest)?;
        *self.base() = base;
        Ok(listing)
    }

    /// A file that a listing has no ETag of: without one and without a digest, nobody could tell two versions apart.
    async fn looked(&self, stored: Stored) -> Result<Stored, WeightsError> {
        let found = self.place.head(&stored.key).await?;
        Ok(found.unwrap_or(stored))
    }
}

fn base(prefix: &str) -> String {
    match prefix {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    }
}

fn object(stored: Stored, base: &str) -> Option<Object> {
    let path = listed::path(&stored.key, base)?.to_owned();
    // A store without ETags has times.
    let mark = stored.etag.clone();
    let mark = mark.or_else(|| stored.modified.map(|time| time.to_string()));
    Some(Object {
        path,
        size: stored.size,
        etag: stored.etag,
        mark: mark.unwrap_or_default(),
    })
}

impl Source for S3Source {
    fn name(&self) -> String {
        self.place.name()
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, WeightsError>> {
        Box::pin(self.read())
    }

    fn link<'a>(&'a self, file: &'a RemoteFile) -> BoxFuture<'a, Result<Link, WeightsError>> {
        let key = format!("{}{}", self.base(), file.path);
        Box::pin(async move { self.place.link(&key).await })
    }

    fn client(&self) -> &reqwest::Client {
        self.place.http()
    }
}
