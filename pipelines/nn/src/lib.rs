//! What the pipelines share below the model: device and dtype choice, weight reading, and the layers with their kernels.
//! Apart from the modalities so that none of them copies another's attention; knows no HTTP, no async and no environment.

pub mod activation;
pub mod attention;
pub mod channel_norm;
pub mod conv;
pub mod conv2d;
mod cuda;
pub mod dense_attention;
pub mod device;
pub mod embedding;
pub mod error;
pub mod fields;
#[cfg(feature = "flash-attn")]
mod flash_attention;
pub mod full_attention;
pub mod graph;
pub mod group_norm;
mod host;
mod kernels;
pub mod kv_cache;
pub mod linear;
pub mod lora;
pub mod norm;
#[cfg(any(test, feature = "flash-attn"))]
mod page_table;
pub mod parking;
pub mod reduce;
pub mod rope;
pub mod sampling;
pub mod weights;

pub use kernels::Isa;

/// The instruction set that the CPU kernels use on this machine.
pub fn isa() -> Isa {
    Isa::detect()
}
