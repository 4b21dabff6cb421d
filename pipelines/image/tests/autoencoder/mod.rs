//! Autoencoders against diffusers' AutoencoderKL and AutoencoderTiny (tests/fixtures/make_autoencoder.py).

mod config;
mod kl;
mod tiny;

/// Two orders of the same f32 sums.
const TOLERANCE: f32 = 2e-5;
