//! The weights of a snapshot whose shards are still on their way: what is in a shard that has arrived loads while the next one
//! comes. Apart from `directory`, which opens what is all there and checks all of it at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::file::WeightFile;
use super::index::Index;
use super::snapshot::read_small_file;
use super::text::{near_hint, quoted};
use super::{HostTensor, TensorSource};
use crate::error::{NnError, Result};

/// Tells when files of a directory are there. Whoever fetches them implements it.
pub trait Arrivals: Send + Sync {
    /// Bytes of a file that is there or on its way; `None` where no such file will come.
    fn size(&self, file: &str) -> Option<u64>;

    /// Blocks until the file is there, whole and checked.
    ///
    /// # Errors
    /// Why it will not come.
    fn wait(&self, file: &str) -> std::result::Result<(), String>;
}

/// What arrives in a folder of a directory.
pub(super) struct InFolder {
    pub(super) folder: String,
    pub(super) whole: Arc<dyn Arrivals>,
}

impl Arrivals for InFolder {
    fn size(&self, file: &str) -> Option<u64> {
        self.whole.size(&format!("{}/{file}", self.folder))
    }

    fn wait(&self, file: &str) -> std::result::Result<(), String> {
        self.whole.wait(&format!("{}/{file}", self.folder))
    }
}

/// Waits for a file of a directory.
pub(super) fn wait(arrivals: &dyn Arrivals, dir: &Path, file: &str) -> Result<()> {
    arrivals.wait(file).map_err(|reason| NnError::WeightFile {
        file: dir.join(file),
        reason,
    })
}

/// Shards of which some are still to come. A tensor is waited for by its own shard.
pub(super) struct ArrivingDir {
    index: PathBuf,
    dir: PathBuf,
    arrivals: Arc<dyn Arrivals>,
    shards: Vec<Shard>,
    /// Tensor name to place in `shards`.
    shard_of: HashMap<Arc<str>, usize>,
}

struct Shard {
    name: String,
    bytes: u64,
    /// Once it has arrived and somebody wanted something of it.
    file: OnceLock<WeightFile>,
}

impl ArrivingDir {
    /// Waits for the index, and for nothing else.
    ///
    /// # Errors
    /// [`NnError::WeightFile`] for an index that is none, or that names a shard that will not come.
    pub(super) fn open(dir: &Path, index: &str, arrivals: Arc<dyn Arrivals>) -> Result<Self> {
        wait(arrivals.as_ref(), dir, index)?;
        let path = dir.join(index);
        let refuse = |reason: String| NnError::WeightFile {
            file: path.clone(),
            reason,
        };
        let json = read_small_file(&path)?
            .ok_or_else(|| refuse("it went away while it was read".to_owned()))?;
        let index = Index::parse(&path, &json)?;
        let mut shards = Vec::with_capacity(index.shards().len());
        for name in index.shards() {
            let bytes = arrivals.size(name).ok_or_else(|| {
                refuse(format!(
                    "it names the shard {}, which the repository does not have",
                    quoted(name)
                ))
            })?;
            shards.push(Shard {
                name: name.clone(),
                bytes,
                file: OnceLock::new(),
            });
        }
        Ok(Self {
            dir: dir.to_owned(),
            index: path,
            arrivals,
            shards,
            shard_of: index.into_shard_of(),
        })
    }

    /// The shard's file, once it is there.
    fn file<'a>(&'a self, shard: &'a Shard) -> Result<&'a WeightFile> {
        if let Some(file) = shard.file.get() {
            return Ok(file);
        }
        wait(self.arrivals.as_ref(), &self.dir, &shard.name)?;
        // Two threads may both map it; one mapping is kept.
        let file = WeightFile::map(&self.dir.join(&shard.name))?;
        Ok(shard.file.get_or_init(|| file))
    }
}

impl TensorSource for ArrivingDir {
    fn tensor(&self, name: &str) -> Result<HostTensor> {
        let shard = self
            .shard_of
            .get(name)
            .and_then(|place| self.shards.get(*place));
        let Some(shard) = shard else {
            return Err(NnError::MissingTensor {
                name: name.to_owned(),
                hint: near_hint(name, self.shard_of.keys().map(AsRef::as_ref)),
            });
        };
        self.file(shard)?.tensor(name).unwrap_or_else(|| {
            Err(NnError::WeightFile {
                file: self.index.clone(),
                reason: format!(
                    "tensor {} is not in {}, where it says it is: index and shards are of different revisions; download both again",
                    quoted(name),
                    shard.name
                ),
            })
        })
    }

    fn contains(&self, name: &str) -> bool {
        self.shard_of.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.shard_of.keys().map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// With the headers, which are not known before the files are there.
    fn total_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    fn stamp(&self) -> String {
        let stamps = self.shards.iter().map(|shard| match self.file(shard) {
            Ok(file) => file.stamp(),
            Err(_) => String::new(),
        });
        stamps.collect()
    }

    /// Brings nothing: to wait for the last shard here would keep the first ones from loading. What has just come is in memory.
    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
        progress(0, self.total_bytes());
        Ok(())
    }
}
