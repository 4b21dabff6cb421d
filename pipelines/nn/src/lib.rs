//! What the pipelines share below the model: device and dtype choice, weight reading, and the layers with their kernels.
//! Apart from the modalities so that none of them copies another's attention; knows no HTTP, no async and no environment.

pub mod device;
pub mod error;
pub mod weights;
