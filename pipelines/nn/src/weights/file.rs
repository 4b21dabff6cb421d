//! One safetensors file: mapped or compiled in, with its header checked, giving out tensors.
//! Apart from `directory`, which knows several of them, and from `safetensors`, which knows only headers.

use std::path::{Path, PathBuf};

use super::HostTensor;
use super::mapping::{self, Mapping};
use super::safetensors::Header;
use super::text::clip;
use crate::error::{NnError, Result};

/// A checked safetensors file.
pub(super) struct WeightFile {
    mapping: Mapping,
    header: Header,
}

impl WeightFile {
    /// Maps a file read-only and checks its header.
    pub(super) fn map(path: &Path) -> Result<Self> {
        Self::new(Mapping::map(path)?)
    }

    /// Checks the header of a file that is compiled in.
    pub(super) fn embedded(label: PathBuf, bytes: &'static [u8]) -> Result<Self> {
        Self::new(Mapping::embedded(label, bytes))
    }

    fn new(mapping: Mapping) -> Result<Self> {
        let bytes = mapping.bytes();
        let file_bytes = bytes.len() as u64;
        let needed = Header::bytes_needed(mapping.label(), bytes, file_bytes)?;
        // A copy, so that what is checked as UTF-8 and JSON cannot change in between.
        let start = bytes.get(..needed).unwrap_or(bytes).to_vec();
        let header = Header::parse(mapping.label(), &start, file_bytes)?;
        Ok(Self { mapping, header })
    }

    /// The tensor of that name, if this file has it.
    pub(super) fn tensor(&self, name: &str) -> Option<Result<HostTensor>> {
        let (name, entry) = self.header.get(name)?;
        let Some(dtype) = entry.dtype else {
            return Some(Err(NnError::DType {
                name: name.to_string(),
                found: entry.stored.to_owned(),
            }));
        };
        if entry.range.is_empty() {
            // Allowed by the format and of use to no model, so that it is an error only for who asks for it.
            return Some(Err(NnError::WeightFile {
                file: self.mapping.label().to_owned(),
                reason: format!(
                    "tensor `{}` of shape {:?} holds no numbers",
                    clip(name),
                    entry.shape
                ),
            }));
        }
        Some(HostTensor::over(
            name.clone(),
            dtype,
            entry.shape.clone(),
            self.mapping.backing().clone(),
            entry.range.clone(),
        ))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.header.get(name).is_some()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.header.names()
    }

    pub(super) fn metadata(&self, name: &str) -> Option<&str> {
        self.header.metadata(name)
    }

    pub(super) fn stamp(&self) -> String {
        self.mapping.stamp()
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.header.data().len() as u64
    }
}

/// Reads all these files ahead, and reports over them together as [`super::TensorSource::prefetch`] promises.
pub(super) fn prefetch(files: &[WeightFile], progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
    let parts: Vec<_> = files
        .iter()
        .map(|file| (&file.mapping, file.header.data()))
        .collect();
    mapping::prefetch(&parts, progress)
}
