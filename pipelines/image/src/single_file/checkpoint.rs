//! The one file's keys and shapes, and questions about them. Apart from what is concluded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chandler_nn::weights::{Snapshot, TensorSource};

use super::refuse;
use crate::error::Result;

/// An opened file.
pub(super) struct Checkpoint {
    path: PathBuf,
    source: Arc<dyn TensorSource>,
    names: BTreeSet<String>,
}

impl Checkpoint {
    /// Reads a file's header and nothing more.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let source = folder(path)?.weights_named(&name)?;
        Ok(Self {
            path: path.to_owned(),
            names: source.names().into_iter().collect(),
            source,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn source(&self) -> Arc<dyn TensorSource> {
        Arc::clone(&self.source)
    }

    /// All names, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Names that begin so.
    pub(super) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let from = self.names.range(prefix.to_owned()..);
        from.map(String::as_str)
            .take_while(move |name| name.starts_with(prefix))
    }

    pub(super) fn has_any(&self, prefix: &str) -> bool {
        self.under(prefix).next().is_some()
    }

    /// How many there are of what is numbered behind a prefix, which counts from 0 without a gap.
    pub(super) fn count(&self, prefix: &str) -> usize {
        (0..)
            .take_while(|n| self.has_any(&format!("{prefix}{n}.")))
            .count()
    }

    /// The shape of a tensor that must be there.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>> {
        let tensor = self.source.tensor(name);
        let tensor = tensor.map_err(|error| refuse(&self.path, error))?;
        Ok(tensor.shape().to_vec())
    }

    /// One of its sides.
    pub(super) fn side(&self, name: &str, dim: usize) -> Result<usize> {
        let shape = self.shape(name)?;
        let side = shape.get(dim).copied();
        side.ok_or_else(|| {
            let message = format!("{name} has shape {shape:?}; {} sides are wanted", dim + 1);
            refuse(&self.path, message)
        })
    }

    /// The number in a tensor of one.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        let tensor = self.source.tensor(name).ok()?;
        let bytes = tensor.bytes();
        match (tensor.dtype(), tensor.elements()) {
            (candle_core::DType::I64, 1) => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
            _ => None,
        }
    }
}

/// The directory that a file is in.
pub(super) fn folder(path: &Path) -> Result<Snapshot> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    Ok(Snapshot::dir(parent.unwrap_or(Path::new(".")))?)
}
