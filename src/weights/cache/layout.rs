//! Where everything lies, and the few ways in which it is written: directories that are really inside the root, files that
//! appear whole or not at all. Apart, so that no other file here puts a path together or writes one by itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use super::super::{WeightsError, names};

/// The ending of a file whose bytes are still coming. Never Python's `.incomplete`, which Python 1.x resumes by its length.
pub const PARTIAL: &str = ".chandler-partial";
/// The ending of the journal beside it.
pub const JOURNAL: &str = ".chandler-journal";
/// The ending of a journal that is being written.
pub const NEW_JOURNAL: &str = ".chandler-journal.new";
/// The ending of Python's files whose bytes are still coming.
pub const INCOMPLETE: &str = ".incomplete";
/// The directory of our own in a folder.
pub const OWN: &str = ".chandler";
/// How a file that is being made is called, until it has its place.
pub const TEMPORARY: &str = ".chandler-tmp-";
const TAG: &str = "CACHEDIR.TAG";
const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file is a cache directory tag created by chandler, in the layout of huggingface_hub.\n\
    # For information about cache directory tags, see:\n\
    #\thttps://bford.info/cachedir/\n";

/// A folder in one of the roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The root.
    pub root: PathBuf,
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// Whether it may be written.
    pub writable: bool,
}

impl Place {
    pub fn new(root: &Path, name: &str, writable: bool) -> Self {
        Self {
            dir: root.join(name),
            root: root.to_owned(),
            name: name.to_owned(),
            writable,
        }
    }

    pub fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    pub fn blob(&self, blob: &str) -> PathBuf {
        self.blobs().join(blob)
    }

    pub fn partial(&self, blob: &str) -> PathBuf {
        self.blobs().join(format!("{blob}{PARTIAL}"))
    }

    pub fn journal(&self, blob: &str) -> PathBuf {
        self.blobs().join(format!("{blob}{JOURNAL}"))
    }

    /// The journal while it is being written: the transfer makes it next to the other one.
    pub fn new_journal(&self, blob: &str) -> PathBuf {
        self.blobs().join(format!("{blob}{NEW_JOURNAL}"))
    }

    pub fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.snapshots().join(commit)
    }

    pub fn refs(&self) -> PathBuf {
        self.dir.join("refs")
    }

    pub fn tree(&self, commit: &str) -> PathBuf {
        self.dir.join("trees").join(format!("{commit}.json"))
    }

    pub fn own(&self) -> PathBuf {
        self.dir.join(OWN)
    }

    /// Locked by whoever uses the snapshot; its time is that of the last use.
    pub fn mark(&self, commit: &str) -> PathBuf {
        self.own().join(format!("{commit}.use"))
    }

    /// What was wanted of the snapshot.
    pub fn record(&self, commit: &str) -> PathBuf {
        self.own().join(format!("{commit}.json"))
    }

    /// Shared by those who fill the folder, and held alone by whoever removes something from it.
    pub fn lock(&self) -> PathBuf {
        self.own().join("folder.lock")
    }

    /// The lock of a blob, which Python takes, too.
    pub fn blob_lock(&self, blob: &str) -> PathBuf {
        let locks = self.root.join(".locks").join(&self.name);
        locks.join(format!("{blob}.lock"))
    }

    /// A name for a file that is being made, in the folder, so that it can be renamed to anywhere in it.
    pub fn temporary(&self) -> PathBuf {
        self.own().join(temporary_name())
    }

    /// Makes a directory of the folder, and never outside of the root.
    pub fn make_dir(&self, dir: &Path) -> Result<(), WeightsError> {
        make_dir_inside(&self.root, dir)
    }

    /// Writes a file of the folder: whole, or not at all.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
        self.make_dir(&self.own())?;
        if let Some(parent) = path.parent() {
            self.make_dir(parent)?;
        }
        let temporary = self.temporary();
        let written = create_new(&temporary).and_then(|mut file| file.write_all(bytes));
        let written = written.and_then(|()| fs::rename(&temporary, path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary); // Why ignored: the first error is the one to tell.
            WeightsError::disk(path)(error)
        })
    }
}

/// A name for a file that is being made.
pub fn temporary_name() -> String {
    format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple())
}

/// A new file for writing, where none is.
pub fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Tells backups to pass over the cache, as Python does.
pub fn tag(root: &Path) -> Result<(), WeightsError> {
    let path = root.join(TAG);
    match create_new(&path).and_then(|mut file| file.write_all(TAG_TEXT.as_bytes())) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(WeightsError::disk(&path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes `dir` and what leads to it from `root`. A symbolic link on the way that leads out of the root is refused: what is
/// written through it would land, and later be removed, where nobody looks for a cache.
pub fn make_dir_inside(root: &Path, dir: &Path) -> Result<(), WeightsError> {
    let inside = dir.strip_prefix(root).map_err(|_| outside(root, dir))?;
    fs::create_dir_all(root).map_err(WeightsError::disk(root))?;
    let mut at = root.to_owned();
    for part in inside.components() {
        let Component::Normal(part) = part else {
            return Err(outside(root, dir));
        };
        at.push(part);
        match fs::create_dir(&at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(WeightsError::disk(&at)(error));
            }
            _ => {}
        }
        let kind = fs::symlink_metadata(&at)
            .map_err(WeightsError::disk(&at))?
            .file_type();
        if kind.is_symlink() {
            let real = fs::canonicalize(&at).map_err(WeightsError::disk(&at))?;
            let root = fs::canonicalize(root).map_err(WeightsError::disk(root))?;
            if !real.starts_with(root) {
                return Err(outside(&at, &real));
            }
        } else if !kind.is_dir() {
            let error = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(WeightsError::disk(&at)(error));
        }
    }
    Ok(())
}

fn outside(at: &Path, real: &Path) -> WeightsError {
    WeightsError::Cache {
        path: at.to_owned(),
        reason: format!(
            "it leads out of the cache, to {}; nothing is written through such a link: make the cache's root the link, or set HF_HUB_CACHE",
            real.display()
        ),
    }
}

/// The commit that a snapshot's directory is called by: 40 or 64 hexadecimal digits.
pub fn is_commit(text: &str) -> bool {
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    matches!(text.len(), 40 | 64) && text.bytes().all(digits)
}

/// Checks a commit that comes from outside.
pub fn commit(text: &str) -> Result<(), WeightsError> {
    if is_commit(text) {
        return Ok(());
    }
    names::revision(text)?;
    Err(WeightsError::BadName {
        what: "commit",
        value: text.to_owned(),
        wanted: "a commit has 40 or 64 hexadecimal digits, in lower case",
    })
}

/// Checks a blob's name that comes from outside.
pub fn blob_name(name: &str) -> Result<(), WeightsError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let taken = [PARTIAL, JOURNAL, NEW_JOURNAL, INCOMPLETE, ".lock", ".refs"];
    let good =
        !name.is_empty() && name.len() <= 180 && !name.starts_with('.') && name.chars().all(plain);
    if good && !taken.iter().any(|ending| name.ends_with(ending)) {
        return Ok(());
    }
    Err(WeightsError::BadName {
        what: "blob",
        value: name.escape_debug().take(200).collect(),
        wanted: "a blob is called by its digest, or by letters, digits, `-`, `_` and `.`",
    })
}
