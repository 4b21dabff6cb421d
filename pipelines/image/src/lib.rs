//! Image generation: diffusion models in the diffusers layout as a step machine, in which requests of one size denoise together.
//! Apart from the other modalities; knows no HTTP, no clock and no environment.

pub mod autoencoder;
mod config_fields;
pub mod embeddings;
pub mod error;
mod failure;
pub mod layers;
pub mod lora;
pub mod model_index;
mod noise;
mod pixels;
pub mod prompt;
mod region;
mod resample;
pub mod safety;
pub mod schedulers;
mod sequences;
mod serving;
pub mod single_file;
pub mod text_encoder;
pub mod transformer;
pub mod unet;

pub use error::{ImageError, Result};
pub use lora::AdapterFile;
pub use pixels::Size;
pub use serving::{ImageOptions, ImagePipeline, ImagePrepared, ImagePreparer, Usual};
