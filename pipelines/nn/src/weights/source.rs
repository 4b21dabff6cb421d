//! The trait by which models are loaded: tensors by name, from wherever they are.
//! Apart from the directory and the embedded file that implement it, because a download will too.

use super::HostTensor;
use crate::error::Result;
use crate::parking::Roster;

/// Where a model's tensors come from. Loading asks for them in any order and from several threads.
pub trait TensorSource: Send + Sync {
    /// The tensor of that name. May block until its bytes have arrived.
    ///
    /// # Errors
    /// [`NnError::MissingTensor`](crate::error::NnError::MissingTensor) with near names as a hint,
    /// [`NnError::DType`](crate::error::NnError::DType) for a dtype that is not read, and
    /// [`NnError::WeightFile`](crate::error::NnError::WeightFile) for a tensor without numbers.
    fn tensor(&self, name: &str) -> Result<HostTensor>;

    /// Whether there is a tensor of that name; never blocks.
    fn contains(&self, name: &str) -> bool;

    /// All names, sorted.
    fn names(&self) -> Vec<String>;

    /// All tensors' bytes together, as stored.
    fn total_bytes(&self) -> u64;

    /// What tells its files from others with the same tensors: names, sizes and times of change, where it has them.
    fn stamp(&self) -> String {
        String::new()
    }

    /// A text that its only file has about itself, such as diffusers' `lora_adapter_metadata`.
    fn metadata(&self, _name: &str) -> Option<String> {
        None
    }

    /// Where its tensors are listed when they are brought to a device.
    fn roster(&self) -> Option<&Roster> {
        None
    }

    /// Brings all tensors' bytes into memory, and calls `progress(done, total)` in bytes as it goes: first with 0 done, last with
    /// all, never fewer than before, and from any thread. Where files are still on their way ([`super::Arrivals`]) it says how many
    /// bytes there will be and brings none: loading itself goes on as they come.
    ///
    /// # Errors
    /// [`NnError::Io`](crate::error::NnError::Io) when reading fails.
    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()>;
}

/// Numbers in all tensors together.
pub fn parameters(weights: &dyn TensorSource) -> u64 {
    weights
        .names()
        .iter()
        .filter_map(|name| weights.tensor(name).ok())
        .map(|tensor| tensor.elements() as u64)
        .sum()
}
