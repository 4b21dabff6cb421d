//! Image models against diffusers and transformers, on tiny checkpoints of random weights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod autoencoder;
mod checkpoint;
mod convolution;
mod lora;
#[path = "../../nn/tests/on_device/mod.rs"]
mod on_device;
mod pixart;
mod safety;
mod schedulers;
mod serving;
mod text;
mod transformers;
mod unet;
