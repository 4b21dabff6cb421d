//! Weight reading: where a model's tensors come from and what they are on the host, before any device is chosen.
//! Apart from the layers, which take a [`HostTensor`] and decide themselves in which form they keep it.

mod activations;
mod arriving;
mod convert;
pub(crate) mod dequantize;
mod directory;
mod embedded;
mod file;
mod files;
pub mod gguf;
mod host_tensor;
mod index;
mod load_step;
mod mapping;
pub mod quantize;
mod quantized;
pub mod safetensors;
mod snapshot;
mod source;
pub(crate) mod text;

pub use activations::Activations;
pub use arriving::Arrivals;
pub use directory::SnapshotDir;
pub use embedded::StaticSource;
pub use files::WeightFiles;
pub use host_tensor::HostTensor;
pub use load_step::LoadStep;
pub use quantized::{QuantType, StoredType, quantize, quantize_tensor};
pub use snapshot::{MAX_FILE_BYTES, Snapshot};
pub use source::{TensorSource, parameters};
pub use text::quoted;

#[cfg(test)]
mod tests;
