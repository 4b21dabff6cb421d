//! Digests of files that lie on the disk: what goes into a mirror is looked at first, since others will be served from it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::weights::WeightsError;
use crate::weights::remote::{Digest, RemoteFile};

/// Read at once.
const BUFFER: usize = 4 << 20;

/// Sets a flag when it goes, so that whoever is not waited for any more stops.
struct Leave(Arc<AtomicBool>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The file as it lies there, with its digest: the one that was promised, or SHA-256. Dropping the future ends the reading.
pub(super) async fn checked(dir: &Path, file: &RemoteFile) -> Result<RemoteFile, WeightsError> {
    let path = dir.join(&file.path);
    let (promised, size) = (file.digest, file.size);
    let left = Arc::new(AtomicBool::new(false));
    let leave = Leave(left.clone());
    let at = path.clone();
    let read = tokio::task::spawn_blocking(move || of(&at, size, promised, &left));
    let read = read.await.map_err(io::Error::other).flatten();
    drop(leave);
    let (length, digest) = read.map_err(WeightsError::disk(&path))?;
    if length != size || promised.is_some_and(|promised| promised != digest) {
        return Err(WeightsError::Corrupt {
            place: dir.display().to_string(),
            file: file.path.clone(),
            times: 1,
            reason: match promised {
                Some(promised) if length == size => {
                    format!(
                        "its digest is {digest}, and should be {promised}; see `chandler cache verify`"
                    )
                }
                _ => format!("it has {length} bytes, and should have {size}"),
            },
        });
    }
    Ok(RemoteFile {
        digest: Some(digest),
        blob: digest.to_string(),
        ..file.clone()
    })
}

fn of(
    path: &Path,
    size: u64,
    promised: Option<Digest>,
    left: &AtomicBool,
) -> io::Result<(u64, Digest)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let git = matches!(promised, Some(Digest::GitSha1(_)));
    let mut context = if git {
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        context.update(format!("blob {size}\0").as_bytes());
        context
    } else {
        Context::new(&SHA256)
    };
    let mut buffer = vec![0; BUFFER];
    loop {
        if left.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => context.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let found = context.finish();
    let wrong = |_| io::Error::other("a digest of an odd length");
    Ok((
        length,
        if git {
            Digest::GitSha1(found.as_ref().try_into().map_err(wrong)?)
        } else {
            Digest::Sha256(found.as_ref().try_into().map_err(wrong)?)
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn digests_are_those_of_sha256sum_and_git() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "hello\n").unwrap();
        // From sha256sum and git hash-object.
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let file = |digest: Option<&str>, size| RemoteFile {
            path: "a".to_owned(),
            size,
            digest: digest.and_then(Digest::parse),
            blob: "x".to_owned(),
            etag: None,
        };
        for digest in [None, Some(sha), Some(git)] {
            let found = checked(dir.path(), &file(digest, 6)).await.unwrap();
            assert_eq!(found.blob, digest.unwrap_or(sha));
        }
        let other = sha.replace('5', "6");
        for wrong in [file(Some(&other), 6), file(None, 7), file(Some(git), 7)] {
            let error = checked(dir.path(), &wrong).await.unwrap_err();
            assert!(matches!(error, WeightsError::Corrupt { .. }), "{error}");
        }
    }
}
