//! A snapshot: one revision of one model's files, in a directory or compiled in; its small files and its weights.
//! Apart from the weights because config.json and tokenizer.json are read whole, and by others.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::arriving::{self, Arrivals, ArrivingDir, InFolder};
use super::{SnapshotDir, StaticSource, TensorSource, WeightFiles};
use crate::error::{NnError, Result};

/// The longest small file that is read, in bytes. The longest in use is a tokenizer.json of about 35 MB.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// One revision of one model's files. Its `Display` names it for logs and errors.
#[derive(Debug, Clone)]
pub struct Snapshot(Place);

#[derive(Clone)]
enum Place {
    Dir(PathBuf),
    Arriving {
        dir: PathBuf,
        arrivals: Arc<dyn Arrivals>,
    },
    Embedded {
        name: String,
        files: Vec<(&'static str, &'static [u8])>,
    },
    Composed(Arc<Composed>),
}

/// Files in memory, and weights that are open already.
struct Composed {
    name: String,
    files: BTreeMap<String, Vec<u8>>,
    /// By the folder that they would be in; a model of one part has its own under the empty name.
    weights: BTreeMap<String, Arc<dyn TensorSource>>,
}

/// What stands for the snapshot itself among its folders.
const HERE: &str = "";

impl Composed {
    /// What is in a folder, under the names that it has there.
    fn inside<T: Clone>(all: &BTreeMap<String, T>, folder: &str) -> BTreeMap<String, T> {
        let inside = all.iter().filter_map(|(path, what)| {
            let rest = path.strip_prefix(folder)?;
            let rest = match rest {
                HERE => HERE,
                _ => rest.strip_prefix('/')?,
            };
            Some((rest.to_owned(), what.clone()))
        });
        inside.collect()
    }
}

impl Snapshot {
    /// The snapshot in a directory.
    ///
    /// # Errors
    /// [`NnError::SnapshotFile`] when there is no such directory.
    pub fn dir(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(Self(Place::Dir(path))),
            Ok(_) => Err(refuse(
                &path,
                "it is a file, and a snapshot is the directory that holds config.json and the weights",
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(refuse(&path, "there is no such directory"))
            }
            Err(source) => Err(NnError::Io { file: path, source }),
        }
    }

    /// A snapshot in a directory that weights are still arriving in. All small files are there already.
    pub fn arriving(dir: impl Into<PathBuf>, arrivals: Arc<dyn Arrivals>) -> Self {
        let dir = dir.into();
        Self(Place::Arriving { dir, arrivals })
    }

    /// A snapshot compiled into the binary: names as in the directory, and contents.
    pub fn embedded(
        name: impl Into<String>,
        files: &'static [(&'static str, &'static [u8])],
    ) -> Self {
        Self(Place::Embedded {
            name: name.into(),
            files: files.to_vec(),
        })
    }

    /// A snapshot put together by somebody who knows another format: its small files as they would be in a directory, and its
    /// weights.
    pub fn composed(
        name: impl Into<String>,
        files: BTreeMap<String, Vec<u8>>,
        weights: Arc<dyn TensorSource>,
    ) -> Self {
        Self::composed_of_parts(name, files, [(HERE.to_owned(), weights)].into())
    }

    /// The same of a model of several parts: its small files by their paths (`unet/config.json`), and weights by their folder (`unet`).
    pub fn composed_of_parts(
        name: impl Into<String>,
        files: BTreeMap<String, Vec<u8>>,
        weights: BTreeMap<String, Arc<dyn TensorSource>>,
    ) -> Self {
        Self(Place::Composed(Arc::new(Composed {
            name: name.into(),
            files,
            weights,
        })))
    }

    /// The contents of one of the small files (`config.json`, `tokenizer.json`, `1_Pooling/config.json`), or nothing when it is not
    /// there.
    ///
    /// # Errors
    /// [`NnError::SnapshotFile`] for a name that leads out of the snapshot, for a file over [`MAX_FILE_BYTES`], and for what is not
    /// a file; [`NnError::Io`] when reading fails.
    pub fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        let relative = Path::new(file);
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if file.is_empty() || !inside || file.contains('\0') {
            return Err(refuse(
                relative,
                "it is not a path inside the snapshot, such as `config.json` or `1_Pooling/config.json`",
            ));
        }
        match &self.0 {
            Place::Dir(dir) | Place::Arriving { dir, .. } => read_small_file(&dir.join(relative)),
            Place::Embedded { name, files } => match find(files, file) {
                Some(bytes) if bytes.len() as u64 > MAX_FILE_BYTES => {
                    Err(too_large(&Path::new(name).join(file), bytes.len() as u64))
                }
                found => Ok(found.map(<[u8]>::to_vec)),
            },
            Place::Composed(composed) => Ok(composed.files.get(file).cloned()),
        }
    }

    /// The weights in one file of that name, which are not the model's own: an adapter's.
    ///
    /// # Errors
    /// As [`SnapshotDir::open_file`] and [`StaticSource::new`].
    pub fn weights_named(&self, file: &str) -> Result<Arc<dyn TensorSource>> {
        match &self.0 {
            Place::Dir(dir) => Ok(Arc::new(SnapshotDir::open_file(dir, file)?)),
            Place::Arriving { dir, arrivals } => {
                if arrivals.size(file).is_some() {
                    arriving::wait(arrivals.as_ref(), dir, file)?;
                }
                Ok(Arc::new(SnapshotDir::open_file(dir, file)?))
            }
            Place::Embedded { name, files } => match find(files, file) {
                Some(bytes) => Ok(Arc::new(StaticSource::new(
                    format!("{name}/{file}"),
                    bytes,
                )?)),
                None => Err(refuse(
                    Path::new(name),
                    &format!("there is no {file} in it"),
                )),
            },
            Place::Composed(composed) => Err(refuse(
                Path::new(&composed.name),
                &format!("{file} is looked for in a directory"),
            )),
        }
    }

    /// One of the model's parts, a folder with a configuration and weights of its own: `unet`, `text_encoder`.
    pub fn part(&self, folder: &str) -> Self {
        Self(match &self.0 {
            Place::Dir(dir) => Place::Dir(dir.join(folder)),
            Place::Arriving { dir, arrivals } => Place::Arriving {
                dir: dir.join(folder),
                arrivals: Arc::new(InFolder {
                    folder: folder.to_owned(),
                    whole: Arc::clone(arrivals),
                }),
            },
            Place::Embedded { name, files } => {
                let inside = |(file, bytes): &(&'static str, &'static [u8])| {
                    let rest = file.strip_prefix(folder)?.strip_prefix('/')?;
                    Some((rest, *bytes))
                };
                Place::Embedded {
                    name: format!("{name}/{folder}"),
                    files: files.iter().filter_map(inside).collect(),
                }
            }
            Place::Composed(composed) => Place::Composed(Arc::new(Composed {
                name: format!("{}/{folder}", composed.name),
                files: Composed::inside(&composed.files, folder),
                weights: Composed::inside(&composed.weights, folder),
            })),
        })
    }

    /// The weights, with all headers checked and nothing more read.
    ///
    /// # Errors
    /// As [`SnapshotDir::open`] and [`StaticSource::new`].
    pub fn weights(&self) -> Result<Arc<dyn TensorSource>> {
        self.weights_of(&WeightFiles::default())
    }

    /// A part's weights, under whichever of its usual names they are there.
    ///
    /// # Errors
    /// As [`weights`](Self::weights).
    pub fn part_weights(&self) -> Result<Arc<dyn TensorSource>> {
        let names = WeightFiles::of_parts();
        let here = names.iter().find(|names| self.has(names));
        self.weights_of(here.unwrap_or(&WeightFiles::default()))
    }

    /// Whether a file of that name is there or on its way.
    pub fn holds(&self, file: &str) -> bool {
        let on_disk = |dir: &Path| dir.join(file).symlink_metadata().is_ok();
        match &self.0 {
            Place::Dir(dir) => on_disk(dir),
            Place::Arriving { dir, arrivals } => arrivals.size(file).is_some() || on_disk(dir),
            Place::Embedded { files, .. } => find(files, file).is_some(),
            Place::Composed(composed) => composed.files.contains_key(file),
        }
    }

    /// Whether weights of these names are there or on their way.
    fn has(&self, names: &WeightFiles) -> bool {
        let either = |there: &dyn Fn(&str) -> bool| there(&names.single) || there(&names.index);
        match &self.0 {
            Place::Dir(dir) => either(&|name| dir.join(name).symlink_metadata().is_ok()),
            Place::Arriving { arrivals, .. } => either(&|name| arrivals.size(name).is_some()),
            Place::Embedded { files, .. } => either(&|name| find(files, name).is_some()),
            Place::Composed(composed) => {
                *names == WeightFiles::default() && composed.weights.contains_key(HERE)
            }
        }
    }

    fn weights_of(&self, names: &WeightFiles) -> Result<Arc<dyn TensorSource>> {
        let WeightFiles { single, index } = names;
        match &self.0 {
            Place::Dir(dir) => Ok(Arc::new(SnapshotDir::open_named(dir, names)?)),
            Place::Arriving { dir, arrivals } => {
                let comes = |file| arrivals.size(file).is_some();
                if !comes(single) && comes(index) {
                    return Ok(Arc::new(ArrivingDir::open(dir, index, arrivals.clone())?));
                }
                if comes(single) {
                    arriving::wait(arrivals.as_ref(), dir, single)?;
                }
                Ok(Arc::new(SnapshotDir::open_named(dir, names)?))
            }
            Place::Embedded { name, files } => match find(files, single) {
                Some(bytes) => Ok(Arc::new(StaticSource::new(
                    format!("{name}/{single}"),
                    bytes,
                )?)),
                None => Err(NnError::WeightFile {
                    file: PathBuf::from(name),
                    reason: if find(files, index).is_some() {
                        format!("weights that are compiled in are one {single}, not shards")
                    } else {
                        format!("there are no weights in it: looked for {single}")
                    },
                }),
            },
            Place::Composed(composed) => {
                let none = || NnError::WeightFile {
                    file: PathBuf::from(&composed.name),
                    reason: "there are no weights in it".to_owned(),
                };
                composed.weights.get(HERE).cloned().ok_or_else(none)
            }
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Dir(dir) | Place::Arriving { dir, .. } => dir.display().fmt(f),
            Place::Embedded { name, .. } => f.write_str(name),
            Place::Composed(composed) => f.write_str(&composed.name),
        }
    }
}

impl fmt::Debug for Place {
    /// Names, without contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(dir) => f.debug_tuple("Dir").field(dir).finish(),
            Self::Arriving { dir, .. } => f.debug_tuple("Arriving").field(dir).finish(),
            Self::Embedded { name, files } => {
                let files: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
                f.debug_tuple("Embedded").field(name).field(&files).finish()
            }
            Self::Composed(composed) => {
                let files: Vec<&String> = composed.files.keys().collect();
                let debug = &mut f.debug_tuple("Composed");
                debug.field(&composed.name).field(&files).finish()
            }
        }
    }
}

/// A whole file of at most [`MAX_FILE_BYTES`], or nothing when it is not there. A link to nothing is an error: in a cache made
/// of links it means a download that did not finish.
pub(super) fn read_small_file(path: &Path) -> Result<Option<Vec<u8>>> {
    let io = |source| NnError::Io {
        file: path.to_owned(),
        source,
    };
    match path.symlink_metadata() {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(io(error)),
    }
    // Asked before opening, because opening a named pipe would wait for somebody to write into it.
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(refuse(
                path,
                "it is a link to a file that is not there: download it again",
            ));
        }
        Err(error) => return Err(io(error)),
    };
    if !metadata.is_file() {
        return Err(refuse(path, "it is not a file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large(path, metadata.len()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    // Once more while reading, because the file may grow meanwhile.
    let mut file = file.take(MAX_FILE_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large(path, bytes.len() as u64));
    }
    Ok(Some(bytes))
}

fn find(files: &[(&'static str, &'static [u8])], name: &str) -> Option<&'static [u8]> {
    files
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, bytes)| *bytes)
}

fn too_large(path: &Path, bytes: u64) -> NnError {
    refuse(
        path,
        &format!(
            "it has {bytes} bytes, and at most {MAX_FILE_BYTES} are read of a file that is not weights"
        ),
    )
}

fn refuse(path: &Path, reason: &str) -> NnError {
    NnError::SnapshotFile {
        file: path.to_owned(),
        reason: reason.to_owned(),
    }
}
