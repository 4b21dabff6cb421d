//! A directory's files under a plain prefix, with a manifest beside them: for models that are of no hub. Such a prefix is given
//! as `--model s3://bucket/prefix`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Filled, digest, unless};
use crate::storage::{Condition, Sending};
use crate::weights::WeightsError;
use crate::weights::manifest::{self, Manifest};
use crate::weights::names;
use crate::weights::progress::Progress;
use crate::weights::remote::RemoteFile;
use crate::weights::s3::{Place, S3Options};

/// What goes where.
pub struct Plain {
    /// The directory.
    pub directory: PathBuf,
    /// The bucket.
    pub bucket: String,
    /// What the keys begin with.
    pub prefix: String,
    /// Is told of the files that go up.
    pub progress: Arc<Progress>,
    /// Parts at the same time.
    pub at_once: usize,
}

/// Sends a directory's files up, and then their manifest. Files that are there by the old manifest are not sent again.
///
/// # Errors
/// A store that refuses, and files that cannot be read or have names that no model's file has.
pub async fn push_plain(
    plain: &Plain,
    options: &S3Options,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Filled, WeightsError> {
    let place = Place::new(&plain.bucket, &plain.prefix, options)?;
    let files = files(&plain.directory)?;
    let mut checked = Vec::with_capacity(files.len());
    for file in &files {
        match unless(cancelled, digest::checked(&plain.directory, file)).await {
            Err(WeightsError::Stopped) => return Ok(Filled::Cancelled),
            done => checked.push(done?),
        }
    }
    let key = place.key(manifest::BESIDE);
    let old = place.manifest(&key).await?.map(|(manifest, _)| manifest);
    let old = old.unwrap_or_default();
    let stored = place.list(&place.key("")).await?;
    let there: HashMap<String, u64> = stored
        .into_iter()
        .map(|object| (object.key, object.size))
        .collect();
    let is_there = |file: &RemoteFile| {
        let named = old
            .files
            .iter()
            .any(|known| known.path == file.path && known.digest == file.digest);
        named && there.get(&place.key(&file.path)) == Some(&file.size)
    };
    let missing: Vec<&RemoteFile> = checked.iter().filter(|file| !is_there(file)).collect();
    let manifest = Manifest {
        files: checked.clone(),
        ..Manifest::default()
    };
    if missing.is_empty() && manifest == old {
        return Ok(Filled::Already);
    }
    // The old manifest stays in force until the new one is there: who reads in between is told that the bytes are not those,
    // and gets no mixture of two models.
    for file in &missing {
        let progress = plain.progress.add(&file.path, file.size);
        let sending = Sending {
            key: &place.key(&file.path),
            path: &plain.directory.join(&file.path),
            at_once: plain.at_once,
            sent: &|bytes| progress.receive(bytes),
            cancelled,
        };
        match place.send(&sending).await {
            Err(WeightsError::Stopped) => return Ok(Filled::Cancelled),
            done => done?,
        }
    }
    place
        .put(&key, manifest.written(), Condition::Always)
        .await?;
    Ok(Filled::Wrote {
        files: missing.len(),
        bytes: missing.iter().map(|file| file.size).sum(),
    })
}

/// The files of a directory, links followed; hidden ones are left out.
fn files(directory: &Path) -> Result<Vec<RemoteFile>, WeightsError> {
    let mut found = Vec::new();
    let mut open = vec![(directory.to_owned(), String::new())];
    while let Some((at, prefix)) = open.pop() {
        for entry in std::fs::read_dir(&at).map_err(WeightsError::disk(&at))? {
            let entry = entry.map_err(WeightsError::disk(&at))?;
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || (prefix.is_empty() && name == manifest::BESIDE) {
                continue;
            }
            let name = format!("{prefix}{name}");
            names::file_path(&name)?;
            let about = std::fs::metadata(&path).map_err(WeightsError::disk(&path))?;
            if about.is_dir() {
                open.push((path, format!("{name}/")));
            } else if about.is_file() {
                found.push(RemoteFile {
                    path: name,
                    size: about.len(),
                    digest: None,
                    blob: String::new(),
                    etag: None,
                });
            }
            if found.len() > manifest::MOST_FILES {
                return Err(WeightsError::NoModel {
                    place: directory.display().to_string(),
                    reason: format!("has more than {} files", manifest::MOST_FILES),
                });
            }
        }
    }
    if found.is_empty() {
        return Err(WeightsError::NoModel {
            place: directory.display().to_string(),
            reason: "has no files".to_owned(),
        });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
