//! Putting a blob into a snapshot: as a relative symbolic link, or, where there are none, as the file itself. Apart from
//! [`super::fill`], which decides what is put where.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::WeightsError;
use super::layout::{self, Place};

/// Whether the root's file system has symbolic links, by trying.
pub fn symlinks_work(root: &Path) -> bool {
    let probe = root.join(layout::temporary_name());
    let made = std::os::unix::fs::symlink("nowhere", &probe);
    let works =
        made.is_ok() && fs::symlink_metadata(&probe).is_ok_and(|metadata| metadata.is_symlink());
    let _ = fs::remove_file(&probe); // Why ignored: it is not there when it could not be made.
    works
}

/// A blob's place in a snapshot.
#[derive(Debug)]
pub struct Link<'a> {
    pub place: &'a Place,
    pub commit: &'a str,
    /// Checked.
    pub path: &'a str,
    /// Checked.
    pub blob: &'a str,
    pub size: u64,
}

impl Link<'_> {
    fn at(&self) -> PathBuf {
        self.place.snapshot(self.commit).join(self.path)
    }

    /// Whether the snapshot has the file, with the right size, whatever it is made of.
    pub fn there(&self) -> bool {
        fs::metadata(self.at())
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == self.size)
    }

    /// Where the link leads.
    fn target(&self) -> String {
        let up = "../".repeat(2 + self.path.matches('/').count());
        format!("{up}blobs/{}", self.blob)
    }

    /// Makes the blob, which is there, the snapshot's file. `others` are paths that the same bytes may be had from.
    pub fn make(&self, symlinks: bool, others: &[PathBuf]) -> Result<(), WeightsError> {
        let at = self.at();
        if self.already(&at) {
            return Ok(());
        }
        self.place.make_dir(&self.place.own())?;
        self.place.make_dir(at.parent().unwrap_or(&at))?;
        let temporary = self.place.temporary();
        let made = match symlinks {
            true => std::os::unix::fs::symlink(self.target(), &temporary)
                .and_then(|()| fs::rename(&temporary, &at)),
            false => self.real(&temporary, &at, others),
        };
        let _ = fs::remove_file(&temporary); // Why ignored: mostly it has become the file. (Renaming two hard links of one file leaves both.)
        made.map_err(WeightsError::disk(&at))
    }

    /// A link that leads where it should, or a file of its own: Python makes one where it may not make links.
    fn already(&self, at: &Path) -> bool {
        match fs::read_link(at) {
            Ok(target) => target.as_os_str() == self.target().as_str(),
            Err(_) => self.there(),
        }
    }

    /// Without symbolic links: a hard link costs nothing; where there are none, either, the blob is moved, as Python does it,
    /// since weights twice on the disk are worse than a blob that must be fetched again for another commit.
    fn real(&self, temporary: &Path, at: &Path, others: &[PathBuf]) -> io::Result<()> {
        let blob = self.place.blob(self.blob);
        let right = |path: &Path| {
            fs::metadata(path)
                .is_ok_and(|metadata| metadata.is_file() && metadata.len() == self.size)
        };
        if !right(&blob) {
            let other = others.iter().find(|other| right(other));
            let other = other.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            return link_or_copy(other, temporary).and_then(|()| fs::rename(temporary, at));
        }
        // What is linked must be the file, not a link into the shared store.
        let real = fs::canonicalize(&blob)?;
        match fs::hard_link(&real, temporary) {
            Ok(()) => fs::rename(temporary, at),
            Err(_) if real == blob => fs::rename(&blob, at),
            Err(_) => fs::copy(&real, temporary).and_then(|_| fs::rename(temporary, at)),
        }
    }
}

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    let real = fs::canonicalize(from)?;
    fs::hard_link(&real, to).or_else(|_| fs::copy(&real, to).map(drop))
}
