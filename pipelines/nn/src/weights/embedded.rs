//! Weights that are compiled into the binary, for demo models and tests.
//! Apart from `directory` because nothing here can be missing, sharded or slow.

use std::path::PathBuf;

use super::file::{self, WeightFile};
use super::text::near_hint;
use super::{HostTensor, TensorSource};
use crate::error::{NnError, Result};

/// A safetensors file compiled into the binary.
pub struct StaticSource {
    file: WeightFile,
}

impl StaticSource {
    /// Checks the header. `name` stands for the file in errors.
    ///
    /// # Errors
    /// [`NnError::WeightFile`] when it is not a whole safetensors file.
    pub fn new(name: impl Into<String>, bytes: &'static [u8]) -> Result<Self> {
        let file = WeightFile::embedded(PathBuf::from(name.into()), bytes)?;
        Ok(Self { file })
    }
}

impl TensorSource for StaticSource {
    fn tensor(&self, name: &str) -> Result<HostTensor> {
        self.file.tensor(name).unwrap_or_else(|| {
            Err(NnError::MissingTensor {
                name: name.to_owned(),
                hint: near_hint(name, self.file.names()),
            })
        })
    }

    fn contains(&self, name: &str) -> bool {
        self.file.contains(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.file.names().map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    fn total_bytes(&self) -> u64 {
        self.file.data_bytes()
    }

    fn stamp(&self) -> String {
        self.file.stamp()
    }

    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
        file::prefetch(std::slice::from_ref(&self.file), progress)
    }
}
