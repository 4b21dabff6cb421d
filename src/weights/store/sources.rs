//! What a location means to the store: the folder in the cache, the revision, and the source that has the files.

use std::sync::Arc;

use super::super::cache::Folder;
use super::super::gs::GsSource;
use super::super::hub::HubSource;
use super::super::mirror::{Mirror, Scope};
use super::super::remote::Source;
use super::super::s3::S3Source;
use super::super::{Location, StoreOptions, WeightsError};

/// The branch that is meant when nobody says; for a bucket the only one there is.
const MAIN: &str = "main";

/// A place that models are fetched from.
pub struct Place {
    location: Location,
    /// Where it is kept.
    pub folder: Folder,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// The repository on the hub; empty for a bucket.
    pub repository: String,
}

impl Place {
    /// Of a location that is somewhere else.
    ///
    /// # Errors
    /// A name that is none; a location that is here.
    pub fn of(location: &Location, options: &StoreOptions) -> Result<Self, WeightsError> {
        let (folder, revision, repository) = match location {
            Location::Hub { repo, revision, .. } => {
                (Folder::model(repo)?, revision.clone(), repo.clone())
            }
            Location::S3(place) => {
                let endpoint = options.s3.access.endpoint.as_ref().map(|url| url.as_str());
                let folder = Folder::s3(endpoint, &place.bucket, &place.prefix)?;
                (folder, None, String::new())
            }
            Location::Gs(place) => {
                let folder = Folder::gs(&place.bucket, &place.prefix)?;
                (folder, None, String::new())
            }
            Location::Mock(_) | Location::Demo(_) | Location::Directory(_) | Location::File(_) => {
                return Err(WeightsError::Unusable {
                    model: location.to_string(),
                    reason: "it is here already, and nothing is to be fetched".to_owned(),
                });
            }
        };
        Ok(Self {
            location: location.clone(),
            folder,
            revision: revision.unwrap_or_else(|| MAIN.to_owned()),
            repository,
        })
    }

    /// Where the files are.
    ///
    /// # Errors
    /// What the source says of its options.
    pub fn source(&self, options: &StoreOptions) -> Result<Arc<dyn Source>, WeightsError> {
        Ok(match &self.location {
            Location::S3(place) => {
                Arc::new(S3Source::new(&place.bucket, &place.prefix, &options.s3)?)
            }
            Location::Gs(place) => {
                Arc::new(GsSource::new(&place.bucket, &place.prefix, &options.gs)?)
            }
            _ => Arc::new(HubSource::new(
                &options.hub,
                &self.repository,
                &self.revision,
            )?),
        })
    }

    /// The mirror, for what is on the hub.
    ///
    /// # Errors
    /// A bucket that is none.
    pub fn mirror(&self, options: &StoreOptions) -> Result<Option<Mirror>, WeightsError> {
        let Some(place) = options.mirror.as_ref() else {
            return Ok(None);
        };
        if place.scope == Scope::Off || self.repository.is_empty() {
            return Ok(None);
        }
        Mirror::new(&place.bucket, &place.prefix, &options.s3, place.scope).map(Some)
    }
}
