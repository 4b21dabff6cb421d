//! The weights of a snapshot directory: `model.safetensors`, or shards and their index.
//! Apart from `file`, which knows one file, and from `snapshot`, which knows the small files beside them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::file::{self, WeightFile};
use super::index::Index;
use super::snapshot::read_small_file;
use super::text::{clip, near_hint, quoted};
use super::{HostTensor, TensorSource, WeightFiles};
use crate::error::{NnError, Result};

/// File names that an error lists at most.
const LISTED: usize = 5;

/// The weights in a snapshot directory, mapped and not yet read: opening touches headers only.
pub struct SnapshotDir {
    files: Vec<WeightFile>,
    /// Tensor name to place in `files`.
    file_of: HashMap<Arc<str>, usize>,
}

impl SnapshotDir {
    /// Opens `model.safetensors`, or else the shards that `model.safetensors.index.json` names, and checks all headers, of
    /// several shards in parallel.
    ///
    /// # Errors
    /// [`NnError::WeightFile`] when a file is not what it says, when the index names what is not there, and when there are no
    /// weights or only some that are never opened, such as pickle files; [`NnError::Io`] when the system fails.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_named(dir, &WeightFiles::default())
    }

    /// The same with files of other names.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_named(dir: impl AsRef<Path>, names: &WeightFiles) -> Result<Self> {
        let dir = dir.as_ref();
        // Asked without following links: a link to nothing is an error that names it, not the absence of weights.
        let present = |name: &str| dir.join(name).symlink_metadata().is_ok();
        if present(&names.single) {
            return Self::single(&dir.join(&names.single));
        }
        if present(&names.index) {
            return Self::open_shards(dir, &names.index);
        }
        Err(no_weights(dir, &names.either()))
    }

    /// Opens one safetensors file of that name and checks its header.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_file(dir: impl AsRef<Path>, name: &str) -> Result<Self> {
        let path = dir.as_ref().join(name);
        match path.symlink_metadata() {
            Ok(_) => Self::single(&path),
            Err(_) => Err(no_weights(dir.as_ref(), name)),
        }
    }

    fn single(path: &Path) -> Result<Self> {
        let file = WeightFile::map(path)?;
        let file_of = file.names().map(|name| (Arc::from(name), 0)).collect();
        let files = vec![file];
        Ok(Self { files, file_of })
    }

    fn open_shards(dir: &Path, index: &str) -> Result<Self> {
        let index_file = dir.join(index);
        let refuse = |reason| NnError::WeightFile {
            file: index_file.clone(),
            reason,
        };
        let json = read_small_file(&index_file)?
            .ok_or_else(|| refuse("it went away while it was read".to_owned()))?;
        let index = Index::parse(&index_file, &json)?;
        let missing: Vec<&String> = index
            .shards()
            .iter()
            .filter(|shard| dir.join(shard).symlink_metadata().is_err())
            .collect();
        if !missing.is_empty() {
            return Err(refuse(format!(
                "{} of its {} shards are not there ({}): download them into {}",
                missing.len(),
                index.shards().len(),
                list(missing.iter().map(|shard| shard.as_str())),
                dir.display()
            )));
        }
        let files = index
            .shards()
            .par_iter()
            .map(|shard| WeightFile::map(&dir.join(shard)))
            .collect::<Result<Vec<_>>>()?;
        let shards = index.shards().to_vec();
        let file_of = index.into_shard_of();
        let absent = file_of
            .iter()
            .filter(|(name, place)| !files.get(**place).is_some_and(|file| file.contains(name)))
            .min();
        if let Some((name, place)) = absent {
            return Err(refuse(format!(
                "tensor {} is not in {}, where it says it is: index and shards are of different revisions; download both again",
                quoted(name),
                shards.get(*place).map_or("", String::as_str)
            )));
        }
        Ok(Self { files, file_of })
    }
}

impl TensorSource for SnapshotDir {
    fn tensor(&self, name: &str) -> Result<HostTensor> {
        self.file_of
            .get(name)
            .and_then(|place| self.files.get(*place)?.tensor(name))
            .unwrap_or_else(|| {
                Err(NnError::MissingTensor {
                    name: name.to_owned(),
                    hint: near_hint(name, self.file_of.keys().map(AsRef::as_ref)),
                })
            })
    }

    fn contains(&self, name: &str) -> bool {
        self.file_of.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.file_of.keys().map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    fn total_bytes(&self) -> u64 {
        self.files.iter().map(WeightFile::data_bytes).sum()
    }

    fn stamp(&self) -> String {
        self.files.iter().map(WeightFile::stamp).collect()
    }

    fn metadata(&self, name: &str) -> Option<String> {
        match self.files.as_slice() {
            [file] => file.metadata(name).map(str::to_owned),
            _ => None,
        }
    }

    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
        file::prefetch(&self.files, progress)
    }
}

/// Why a directory has no weights that are read, from what it has instead.
fn no_weights(dir: &Path, looked: &str) -> NnError {
    let names = match names_in(dir) {
        Ok(names) => names,
        Err(source) => {
            return NnError::Io {
                file: dir.to_owned(),
                source,
            };
        }
    };
    let ending = |endings: &[&str]| -> Vec<&str> {
        let ends = |name: &&str| endings.iter().any(|ending| name.ends_with(ending));
        names.iter().map(String::as_str).filter(ends).collect()
    };
    let pickles = ending(&[".bin", ".pt", ".pth", ".ckpt", ".pkl"]);
    let others = ending(&[".safetensors", ".safetensors.index.json", ".gguf"]);
    let reason = if !others.is_empty() {
        format!(
            "there is no {looked} in it, only {}",
            list(others.into_iter())
        )
    } else if !pickles.is_empty() {
        format!(
            "it has only pickle files ({}), and those are never opened, because opening one runs the program in it: convert it to \
             safetensors (`AutoModel.from_pretrained(dir).save_pretrained(dir)` with a recent transformers), or take a revision \
             that has {looked}",
            list(pickles.into_iter())
        )
    } else {
        format!("there are no weights in it: looked for {looked}")
    };
    NnError::WeightFile {
        file: dir.to_owned(),
        reason,
    }
}

fn names_in(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.push(PathBuf::from(entry?.file_name()).display().to_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The first few of some names, and how many more there are.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let mut shown = names.take(LISTED).map(clip).collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    shown
}
