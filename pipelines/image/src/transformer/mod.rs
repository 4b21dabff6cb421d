//! Denoisers that are transformers: Stable Diffusion 3, FLUX and PixArt. Apart from `unet`, whose parts they share none of.

mod attention;
mod conditioning;
mod config;
mod crossing;
mod feed_forward;
pub mod flux;
pub mod flux_config;
mod joint_block;
pub mod packing;
pub mod pixart;
mod pixart_block;
pub mod pixart_config;
mod positions;
pub mod sd3;
pub mod sd3_config;
mod single_block;
mod single_norm;
