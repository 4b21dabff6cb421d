//! Denoisers that are transformers: Stable Diffusion 3 and FLUX. Apart from `unet`, whose parts they share none of.

mod attention;
mod conditioning;
mod config;
pub mod flux;
pub mod flux_config;
mod joint_block;
pub mod packing;
mod positions;
pub mod sd3;
pub mod sd3_config;
mod single_block;
