//! The denoiser that is a UNet, and ControlNets, which are half of one. Mirrors `diffusers` models/unets/unet_2d_condition.py
//! (UNet2DConditionModel) as Stable Diffusion 1 to XL configure it, and models/controlnets/controlnet.py (ControlNetModel).

mod attention;
mod block_fields;
mod blocks;
pub mod config;
mod contracting;
mod control;
mod control_config;
mod model;
pub(crate) mod resample;
pub(crate) mod resnet;
mod transformer;

pub use config::{ContractingConfig, UNetConfig};
pub use control::{ControlInput, ControlNet};
pub use control_config::ControlNetConfig;
pub use model::{Residuals, TextTime, UNet, UNetInput};
