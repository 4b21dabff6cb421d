//! A prefix in a bucket that mirrors hub models: asked before the hub, and filled from what came from there. The manifest of a
//! commit is written last, so that a mirror that somebody is still filling is not used.

mod digest;
mod fill;
pub(super) mod layout;
mod plain;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use fill::{Fill, Filled};
pub use plain::{Plain, push_plain};

use super::WeightsError;
use super::manifest::{Manifest, is_commit};
use super::names;
use super::remote::{BoxFuture, Link, Listing, RemoteFile, Source};
use super::s3::{Place, S3Options};

/// The longest content of a ref.
const REF: usize = 256;
/// How often somebody who wants the end is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Who may do what with a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// It is not looked at.
    #[default]
    Off,
    /// It is read, and never written: others share it.
    Shared,
    /// It is read, and filled with what it lacks.
    Private,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Shared => "shared",
            Self::Private => "private",
        })
    }
}

impl FromStr for Scope {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "shared" => Ok(Self::Shared),
            "private" => Ok(Self::Private),
            _ => Err("give off, shared (read only) or private (read and written)"),
        }
    }
}

/// A mirror of hub models.
#[derive(Clone)]
pub struct Mirror {
    place: Arc<Place>,
    scope: Scope,
}

impl Mirror {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// A bucket or a prefix that is no name.
    pub fn new(
        bucket: &str,
        prefix: &str,
        options: &S3Options,
        scope: Scope,
    ) -> Result<Self, WeightsError> {
        Ok(Self {
            place: Arc::new(Place::new(bucket, prefix, options)?),
            scope,
        })
    }

    /// What may be done with it.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// `s3://bucket/prefix`.
    pub fn name(&self) -> String {
        self.place.name()
    }

    /// A repository's revision, if the mirror has all of it. A branch is what it was when the mirror was filled.
    ///
    /// # Errors
    /// A store that refuses or does not answer, and a manifest that makes no sense.
    pub async fn find(
        &self,
        repository: &str,
        revision: &str,
    ) -> Result<Option<MirrorSource>, WeightsError> {
        names::repository(repository)?;
        names::revision(revision)?;
        if self.scope == Scope::Off {
            return Ok(None);
        }
        let base = self.place.key(&layout::folder(repository));
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => {
                let key = format!("{base}/refs/{revision}");
                let Some((bytes, _)) = self.place.read(&key, REF).await? else {
                    return Ok(None);
                };
                layout::commit(&bytes).ok_or_else(|| WeightsError::Malformed {
                    place: format!("{} (refs/{revision} of {repository})", self.name()),
                    reason: "holds no commit".to_owned(),
                })?
            }
        };
        let key = format!("{base}/{}", layout::manifest(&commit));
        let Some((manifest, _)) = self.place.manifest(&key).await? else {
            return Ok(None);
        };
        self.is_of(&manifest, repository, &commit)?;
        Ok(Some(MirrorSource {
            name: format!("{}/{}@{revision}", self.name(), layout::folder(repository)),
            base: format!("{base}/snapshots/{commit}/"),
            place: self.place.clone(),
            listing: Listing {
                commit,
                files: manifest.files,
            },
        }))
    }

    /// A manifest that lies in the wrong place was put there by a mistake, or to deceive.
    fn is_of(
        &self,
        manifest: &Manifest,
        repository: &str,
        commit: &str,
    ) -> Result<(), WeightsError> {
        let right = manifest.commit.as_deref() == Some(commit)
            && manifest.repository.as_deref() == Some(repository);
        right.then_some(()).ok_or_else(|| WeightsError::Malformed {
            place: format!("{} (manifest of {repository}, {commit})", self.name()),
            reason: "names another repository or commit: take it away, and push the model again"
                .to_owned(),
        })
    }
}

/// One revision in a mirror.
pub struct MirrorSource {
    name: String,
    place: Arc<Place>,
    /// What the keys of the files begin with.
    base: String,
    listing: Listing,
}

impl MirrorSource {
    /// The commit that the revision stands for here.
    pub fn commit(&self) -> &str {
        &self.listing.commit
    }
}

impl Source for MirrorSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, WeightsError>> {
        Box::pin(std::future::ready(Ok(self.listing.clone())))
    }

    fn link<'a>(&'a self, file: &'a RemoteFile) -> BoxFuture<'a, Result<Link, WeightsError>> {
        let key = format!("{}{}", self.base, file.path);
        Box::pin(async move { self.place.link(&key).await })
    }

    fn client(&self) -> &reqwest::Client {
        self.place.http()
    }
}

/// Work that is dropped when somebody wants the end.
async fn unless<T>(
    cancelled: &(dyn Fn() -> bool + Sync),
    work: impl Future<Output = Result<T, WeightsError>>,
) -> Result<T, WeightsError> {
    let end = async {
        while !cancelled() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        biased;
        () = end => Err(WeightsError::Stopped),
        done = work => done,
    }
}
