//! Quantised weights that stay in memory, for a machine on which nothing can be kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::text::near_hint;
use super::super::{HostTensor, TensorSource};
use super::convert;
use super::scheme::Chosen;
use crate::error::{NnError, Result};

/// Tensors in memory; those that were kept share the checkpoint's bytes.
pub(super) struct MemorySource {
    tensors: BTreeMap<String, HostTensor>,
}

/// Makes all that was chosen.
pub(super) fn quantized(
    source: Arc<dyn TensorSource>,
    chosen: &[Chosen],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<MemorySource> {
    let total = source.total_bytes();
    let mut done = 0;
    progress(done, total);
    let mut tensors = BTreeMap::new();
    for one in chosen {
        let tensor = convert(source.as_ref(), one)?;
        done += source.tensor(&one.name)?.bytes().len() as u64;
        tensors.insert(one.name.clone(), tensor);
        progress(done.min(total), total);
    }
    progress(total, total);
    Ok(MemorySource { tensors })
}

impl TensorSource for MemorySource {
    fn tensor(&self, name: &str) -> Result<HostTensor> {
        self.tensors
            .get(name)
            .cloned()
            .ok_or_else(|| NnError::MissingTensor {
                name: name.to_owned(),
                hint: near_hint(name, self.tensors.keys().map(String::as_str)),
            })
    }

    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn total_bytes(&self) -> u64 {
        let bytes = |tensor: &HostTensor| tensor.bytes().len() as u64;
        self.tensors.values().map(bytes).sum()
    }

    /// What was made is in memory; what was kept is small and was touched when it was chosen.
    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
        let total = self.total_bytes();
        progress(0, total);
        progress(total, total);
        Ok(())
    }
}
