//! Laying a snapshot as plain files into a directory for an image's layer: no links, every byte verified, and the same times and
//! modes wherever and whenever it is done, so that the layer's digest is the same, too.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::progress::{FileProgress, Phase, Progress};
use super::super::remote::Digest;
use super::super::{WeightsError, names};
use super::hash::{self, Hasher};
use super::layout::{self, Place};
use super::{Folder, Found, find::FileSize, scan, tree};

/// What was laid, written beside it; tells a directory that may be laid anew from any other.
pub const MANIFEST: &str = ".chandler-bake.json";
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// How a snapshot is laid.
#[derive(Debug)]
pub struct Bake<'a> {
    /// The snapshot; hold it meanwhile.
    pub found: &'a Found,
    /// Empty, not there, or laid before.
    pub dir: &'a Path,
    /// The time that every file gets.
    pub time: SystemTime,
    /// Files that are copied at once.
    pub threads: usize,
}

/// What was laid.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Baked {
    /// The format of this.
    pub format: u32,
    /// Whether all of it is there.
    pub complete: bool,
    /// The model.
    pub model: String,
    /// Its commit.
    pub commit: String,
    /// Its files, by path.
    pub files: BTreeMap<String, BakedFile>,
}

/// A file that was laid.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BakedFile {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them, in hexadecimal digits.
    pub sha256: String,
}

impl Bake<'_> {
    /// Lays the snapshot, and verifies it on the way.
    ///
    /// # Errors
    /// [`WeightsError::Cache`] for a directory that has anything else in it, and for a file whose bytes are not what they should
    /// be; [`WeightsError::Disk`].
    pub fn lay(&self, progress: &Progress) -> Result<Baked, WeightsError> {
        progress.enter(Phase::Transferring);
        let before = self.before()?;
        let mut baked = Baked {
            format: 1,
            complete: false,
            model: Folder::on_disk(&self.found.place.name)
                .map_or_else(String::new, |folder| folder.title()),
            commit: self.found.commit.clone(),
            files: BTreeMap::new(),
        };
        self.clear(&before)?;
        self.write(&baked)?; // from here on the directory is known as ours, however this ends
        let add = |file: &FileSize| (file.clone(), progress.add(&file.path, file.size));
        let files: Vec<(FileSize, Arc<FileProgress>)> = self.found.files.iter().map(add).collect();
        let digests = expected(&self.found.place, &self.found.commit);
        let copied = hash::each(self.threads, &files, |(file, progress)| {
            self.copy(file, digests.get(&file.path).copied(), progress)
        });
        for ((file, _), sha256) in files.iter().zip(copied) {
            let sha256 = sha256?.to_string();
            baked.files.insert(
                file.path.clone(),
                BakedFile {
                    size: file.size,
                    sha256,
                },
            );
        }
        baked.complete = true;
        self.write(&baked)?;
        self.settle(self.dir)?;
        progress.enter(Phase::Done);
        Ok(baked)
    }

    /// What an earlier bake laid there.
    fn before(&self) -> Result<Option<Baked>, WeightsError> {
        let dir = self.dir;
        let mut entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(WeightsError::disk(dir))?,
        };
        if entries.next().is_none() {
            return Ok(None);
        }
        let text = fs::read(dir.join(MANIFEST)).unwrap_or_default();
        let before = serde_json::from_slice(&text).ok().map(Some);
        before.ok_or_else(|| WeightsError::Cache {
            path: dir.to_owned(),
            reason: "it has other files in it: give a directory that is empty or was baked before"
                .to_owned(),
        })
    }

    /// Removes what an earlier bake laid.
    fn clear(&self, before: &Option<Baked>) -> Result<(), WeightsError> {
        let known = before.iter().flat_map(|before| before.files.keys());
        let wanted = self.found.files.iter().map(|file| &file.path);
        for path in known
            .chain(wanted)
            .filter(|path| names::file_path(path).is_ok())
        {
            let path = self.dir.join(path);
            let gone = fs::remove_file(&path).or_else(super::remove::absent);
            match gone {
                // A directory is in the way, or a file is where a directory should be: told when the file is made.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory
                    ) => {}
                gone => gone.map_err(WeightsError::disk(&path))?,
            }
        }
        Ok(())
    }

    fn write(&self, baked: &Baked) -> Result<(), WeightsError> {
        let path = self.dir.join(MANIFEST);
        let text = serde_json::to_string_pretty(baked)
            .map_err(|error| WeightsError::disk(&path)(error.into()))?;
        self.place(&path, |file| file.write_all(format!("{text}\n").as_bytes()))
    }

    fn copy(
        &self,
        file: &FileSize,
        wanted: Option<Digest>,
        progress: &FileProgress,
    ) -> Result<Digest, WeightsError> {
        let source = self.found.dir.join(&file.path);
        let mut from = hash::open_quietly(&source).map_err(WeightsError::disk(&source))?;
        let mut hashers = vec![Hasher::sha256()];
        hashers.extend(
            wanted
                .filter(|wanted| matches!(wanted, Digest::GitSha1(_)))
                .map(|wanted| Hasher::like(&wanted, file.size)),
        );
        let count = |bytes| {
            progress.receive(bytes);
            progress.verify(bytes);
        };
        let mut length = 0;
        self.place(&self.dir.join(&file.path), |to| {
            // A file system that can share blocks does; the bytes are read all the same, to verify them.
            let cloned = clone(&from, to);
            length = hash::read_through(&mut from, &mut hashers, (!cloned).then_some(to), &count)?;
            Ok(())
        })?;
        let found: Vec<Digest> = hashers.into_iter().map(Hasher::finish).collect();
        let right = wanted.is_none_or(|wanted| found.contains(&wanted));
        match found.first() {
            Some(sha256) if right && length == file.size => Ok(*sha256),
            _ => Err(WeightsError::Cache {
                path: source,
                reason: "its bytes are not what they should be: `chandler cache verify --repair` removes it, and `chandler pull` fetches it anew".to_owned(),
            }),
        }
    }

    /// Makes a file, whole or not at all.
    fn place(
        &self,
        path: &Path,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), WeightsError> {
        layout::make_dir_inside(self.dir, path.parent().unwrap_or(self.dir))?;
        let temporary = self.dir.join(layout::temporary_name());
        let made = layout::create_new(&temporary).and_then(|mut file| {
            fill(&mut file)?;
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
            file.set_modified(self.time)
        });
        made.and_then(|()| fs::rename(&temporary, path))
            .map_err(|error| {
                let _ = fs::remove_file(&temporary); // Why ignored: the first error is the one to tell.
                WeightsError::disk(path)(error)
            })
    }

    /// Gives directories their mode and time, the innermost first, and removes those that have become empty.
    fn settle(&self, dir: &Path) -> Result<(), WeightsError> {
        for entry in fs::read_dir(dir)
            .map_err(WeightsError::disk(dir))?
            .flatten()
        {
            let name = entry.file_name();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.settle(&entry.path())?;
                let _ = fs::remove_dir(entry.path()); // Why ignored: most are not empty, and stay.
            } else if name.to_string_lossy().starts_with(layout::TEMPORARY) {
                fs::remove_file(entry.path()).map_err(WeightsError::disk(&entry.path()))?; // of a bake that was killed
            }
        }
        let settled = fs::set_permissions(dir, Permissions::from_mode(DIR_MODE))
            .and_then(|()| File::open(dir)?.set_modified(self.time));
        settled.map_err(WeightsError::disk(dir))
    }
}

#[cfg(target_os = "linux")]
fn clone(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn clone(_: &File, _: &File) -> bool {
    false
}

/// The digests that the files' blobs are called by.
fn expected(place: &Place, commit: &str) -> BTreeMap<String, Digest> {
    let mut digests: BTreeMap<String, Digest> = BTreeMap::new();
    if let Some(folder) = Folder::on_disk(&place.name) {
        let snapshots = scan::scan(folder, place.clone()).snapshots;
        for (path, file) in snapshots
            .into_iter()
            .filter(|snapshot| snapshot.commit == commit)
            .flat_map(|snapshot| snapshot.files)
        {
            digests.extend(
                file.blob
                    .and_then(|blob| Some((path, Digest::parse(&blob)?))),
            );
        }
    }
    let tree = tree::read(place, commit).unwrap_or_default();
    digests.extend(
        tree.into_iter()
            .filter_map(|(path, entry)| Some((path, Digest::parse(entry.blob())?))),
    );
    digests
}

impl Baked {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }
}
