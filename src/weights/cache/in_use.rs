//! Who uses a snapshot, and when it was last used: a mark that every user locks together with all others, and that whoever wants
//! to remove the snapshot must get alone. It ends with its process, however that ends.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::WeightsError;
use super::layout::Place;
use super::lock::{Guard, Kind};
use super::{Cache, Found};

/// Removing a snapshot takes moments; who comes meanwhile waits for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps a snapshot in the cache for as long as it, or a clone, lives.
#[derive(Debug, Clone)]
pub struct InUse {
    _mark: Option<Arc<Mark>>,
}

#[derive(Debug)]
struct Mark {
    path: PathBuf,
    _guard: Guard,
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = touch(&self.path); // Why ignored: the time of the last use is a hint, and the start of the use is there.
    }
}

impl Cache {
    /// Marks a snapshot as used, here and to other processes, until the guard is dropped. On a root that cannot be written
    /// nothing is marked, and nothing is removed there, either.
    ///
    /// # Errors
    /// [`WeightsError::Cache`] when it was removed meanwhile.
    pub fn hold(&self, found: &Found) -> Result<InUse, WeightsError> {
        if !found.place.writable {
            return Ok(InUse { _mark: None });
        }
        let held = match mark(self, &found.place, &found.commit) {
            Err(WeightsError::Disk { source, .. }) if read_only(&source) => {
                return Ok(InUse { _mark: None });
            }
            held => held?,
        };
        let gone = found
            .files
            .iter()
            .find(|file| !found.dir.join(&file.path).is_file());
        match gone {
            None => Ok(held),
            Some(file) => Err(WeightsError::Cache {
                path: found.dir.join(&file.path),
                reason: "it was removed from the cache just now: try again".to_owned(),
            }),
        }
    }
}

fn read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

/// Locks a snapshot's mark with all others who use it.
pub fn mark(cache: &Cache, place: &Place, commit: &str) -> Result<InUse, WeightsError> {
    place.make_dir(&place.own())?;
    let path = place.mark(commit);
    let guard = cache.locker().wait(&path, Kind::Shared, PATIENCE)?;
    let Some(guard) = guard else {
        return Err(WeightsError::Cache {
            path,
            reason: "another process is removing this snapshot".to_owned(),
        });
    };
    match touch(&path) {
        // Another user's: locking it is what counts.
        Err(error) if read_only(&error) => {}
        touched => touched.map_err(WeightsError::disk(&path))?,
    }
    let mark = Mark {
        path,
        _guard: guard,
    };
    Ok(InUse {
        _mark: Some(Arc::new(mark)),
    })
}

/// Locks a snapshot's mark alone, if nobody uses it.
pub fn alone(cache: &Cache, place: &Place, commit: &str) -> Result<Option<Guard>, WeightsError> {
    place.make_dir(&place.own())?;
    cache.locker().decide(&place.mark(commit), Kind::Alone)
}

/// Whether somebody uses the snapshot; changes nothing, and makes no mark where there is none.
pub fn used(cache: &Cache, place: &Place, commit: &str) -> bool {
    if !place.writable || !place.mark(commit).exists() {
        return false;
    }
    // Why an error means "used": what cannot be locked had better not be removed.
    !matches!(
        cache.locker().decide(&place.mark(commit), Kind::Alone),
        Ok(Some(_))
    )
}

/// When it was last used, as far as its mark knows.
pub fn marked(place: &Place, commit: &str) -> Option<SystemTime> {
    fs::metadata(place.mark(commit))
        .and_then(|metadata| metadata.modified())
        .ok()
}

fn touch(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    file.set_modified(SystemTime::now())
}
