//! The autoencoders: pictures to latents and back, whole or in tiles, and the tiny decoder of previews. Mirrors `diffusers`
//! models/autoencoders/autoencoder_kl.py (AutoencoderKL), vae.py (Encoder, Decoder) and autoencoder_tiny.py (AutoencoderTiny).

pub mod config;
mod decoder;
mod encoder;
mod kl;
mod mid;
mod scaling;
mod tiles;
mod tiny;

pub use config::AutoencoderConfig;
pub use kl::{AutoencoderKl, LatentDistribution};
pub use scaling::Scaling;
pub use tiles::{TileSizes, Tiled};
pub use tiny::{AutoencoderTiny, TinyConfig, TinyStages};
