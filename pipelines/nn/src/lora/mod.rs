//! LoRA: low-rank pairs that run beside layers, for some rows of a batch and not for others, with nothing merged. How `peft`
//! writes them is in `config`, `targets` and `adapter`; what they do to a layer's output is in `projection` and `convolution`, and
//! in which rows, in `rows`. Apart from `linear` and `conv2d`, which know nothing of adapters.

mod adapter;
mod config;
mod convolution;
mod projection;
mod rows;
mod targets;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use adapter::{Adapter, Pair};
pub use config::{AdapterConfig, CONFIG_FILE};
pub use convolution::Convolution;
pub use projection::{Part, Projection};
pub use rows::AdapterRows;

use crate::error::NnError;
use crate::weights::Snapshot;

/// The weights in an adapter's directory.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// A linear layer of a model, as adapters call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its path in the model's class, such as `model.layers.0.self_attn.q_proj`; where classes have called it differently,
    /// the one in use now first. Never empty.
    pub names: Vec<String>,
    /// Numbers in a row of its input.
    pub inputs: usize,
    /// Numbers in a row of its output.
    pub outputs: usize,
    /// Whether it is the output head, which `all-linear` leaves out.
    pub head: bool,
}

impl Module {
    /// What messages call it.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

/// What is wrong with one of an adapter's files.
fn refuse(snapshot: &Snapshot, file: &str, reason: impl Into<String>) -> NnError {
    NnError::SnapshotFile {
        file: PathBuf::from(snapshot.to_string()).join(file),
        reason: reason.into(),
    }
}
