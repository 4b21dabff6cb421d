//! Python 2.x's shared store, `{root}/blobs/{2 digits}/{hash}`: one copy of what several folders link to. Nothing is added to it
//! here; when the last link to a copy goes, the copy goes, by the same rules as in Python: what its list of links does not
//! clear is never removed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::super::WeightsError;
use super::Cache;
use super::lock::Kind;

const STORE: &str = "blobs";
const MARKER: &str = ".huggingface-shared-blobs";
const MARKER_TEXT: &str = "1\n";
const PATIENCE: Duration = Duration::from_secs(10);

/// Where in the store a blob's link leads, if it does.
pub fn target(root: &Path, blob: &Path) -> Option<PathBuf> {
    let link = fs::read_link(blob).ok()?;
    let target = plain(&blob.parent()?.join(link))?;
    let inside = target.strip_prefix(root.join(STORE)).ok()?;
    let mut parts = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned());
    let (short, hash) = (parts.next()?, parts.next()?);
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let named = hash.len() == 64
        && hash.bytes().all(digits)
        && hash.starts_with(&short)
        && short.len() == 2;
    (named && parts.next().is_none()).then_some(target)
}

/// A path without `..`, by its words alone: the store's own links are judged as Python judges them.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop().then_some(())?;
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    Some(plain)
}

/// The links to a copy that its list names and that are there; `None` where the list cannot be trusted.
pub fn references(root: &Path, copy: &Path) -> Option<Vec<PathBuf>> {
    let list = with(copy, ".refs")?;
    fs::symlink_metadata(&list)
        .ok()
        .filter(fs::Metadata::is_file)?;
    let text = fs::read_to_string(&list).ok()?;
    let mut there = Vec::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split('/').collect();
        let [folder, "blobs", blob] = parts.as_slice() else {
            continue;
        };
        if ["", ".", ".."]
            .iter()
            .any(|odd| folder == odd || blob == odd)
        {
            continue;
        }
        let link = root.join(line);
        match fs::symlink_metadata(&link) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => return None,
        }
        if target(root, &link).is_some_and(|target| target == copy) && !there.contains(&link) {
            there.push(link);
        }
    }
    Some(there)
}

/// Removes a copy that nothing links to any more; gives the bytes that this frees.
pub fn sweep(cache: &Cache, root: &Path, copy: &Path) -> Result<u64, WeightsError> {
    let marker = root.join(STORE).join(MARKER);
    let (Some(list), Some(lock)) = (with(copy, ".refs"), with(copy, ".lock")) else {
        return Ok(0);
    };
    if !fs::read_to_string(marker).is_ok_and(|text| text == MARKER_TEXT) {
        return Ok(0); // not Python's store, or another version of it
    }
    let Some(_lock) = cache.locker().wait(&lock, Kind::Alone, PATIENCE)? else {
        return Ok(0);
    };
    let Some(references) = references(root, copy) else {
        return Ok(0);
    };
    let is_file = |path: &Path| {
        fs::symlink_metadata(path)
            .ok()
            .filter(fs::Metadata::is_file)
    };
    let Some(metadata) = is_file(copy).filter(|_| references.is_empty()) else {
        return Ok(0);
    };
    fs::remove_file(copy).map_err(WeightsError::disk(copy))?;
    let _ = fs::remove_file(&list); // Why ignored: the list of a copy that is gone says nothing to anybody.
    Ok(metadata.len())
}

fn with(copy: &Path, ending: &str) -> Option<PathBuf> {
    let name = copy.file_name()?.to_str()?;
    Some(copy.with_file_name(format!("{name}{ending}")))
}

/// Removes a blob, which may be a link into the store; gives the bytes that this frees.
pub fn remove_blob(cache: &Cache, root: &Path, blob: &Path) -> Result<u64, WeightsError> {
    let metadata = match fs::symlink_metadata(blob) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(WeightsError::disk(blob)(error)),
    };
    let copy = target(root, blob);
    fs::remove_file(blob).map_err(WeightsError::disk(blob))?;
    match copy {
        Some(copy) => sweep(cache, root, &copy),
        // Under another name it stays.
        None => Ok(if metadata.is_file() && metadata.nlink() == 1 {
            metadata.len()
        } else {
            0
        }),
    }
}
