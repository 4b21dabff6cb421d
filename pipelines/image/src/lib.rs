//! Image generation: diffusion models in the diffusers layout as a step machine, in which requests of one size denoise together.
//! Apart from the other modalities; knows no HTTP, no clock and no environment.

pub mod autoencoder;
pub mod error;
pub mod layers;
pub mod noise;
pub mod prompt;
pub mod schedulers;
pub mod text_encoder;
pub mod transformer;
pub mod unet;

pub use error::{ImageError, Result};
