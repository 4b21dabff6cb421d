//! Text encoders: token ids to what a denoiser looks at. Apart from `prompt`, which makes ids of a text, and knows no tensor of a
//! model.

pub mod clip;
pub mod clip_config;
pub mod t5;
pub mod t5_config;
