//! The safety checker of Stable Diffusion: whether a finished picture is close to one of the concepts that its checkpoint holds.
//! Apart from drawing, which it never changes. Mirrors `diffusers` pipelines/stable_diffusion/safety_checker.py
//! (`StableDiffusionSafetyChecker.forward`) and `transformers` models/clip (`CLIPVisionModel`, `CLIPImageProcessor`).

mod checker;
mod config;
mod processor;
mod vision;

pub use checker::SafetyChecker;
pub use config::{SafetyConfig, VisionConfig};
pub use processor::ImageProcessor;
