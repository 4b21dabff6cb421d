//! config.json of PixArt's transformer: its sizes, checked. Apart from the model, which only computes.
//! Mirrors the arguments of `diffusers` pixart_transformer_2d.py, `PixArtTransformer2DModel`.

use chandler_nn::fields::Fields;
use serde_json::json;

use super::config::{Heads, MOST_CHANNELS, MOST_LAYERS, MOST_PATCH, MOST_WIDTH};
use crate::config_fields::only;
use crate::error::Result;

/// Latents along a side of the pictures that a model was made for; the largest has 256.
const MOST_SIDE: usize = 1 << 12;
/// Times that positions are pressed together; published models have 0.5 to 4.
const MOST_SCALE: f64 = 256.0;
/// A model for pictures of so many latents a side, which is told their size unless it says otherwise: Alpha's for 1024 pixels.
const TOLD_SIDE: usize = 128;

/// The sizes of a PixArt transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct PixArtConfig {
    /// Height and width of the latents that the model was made for.
    pub sample_size: usize,
    /// Side of the square of latents that is one token.
    pub patch: usize,
    /// Channels of the latents.
    pub inputs: usize,
    /// Channels of what is given: twice as many where the model says the noise's variance, too.
    pub outputs: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Width of T5's hidden states.
    pub text_width: usize,
    /// What places are divided by: `interpolation_scale`.
    pub scale: f32,
    /// Whether it is told height, width and their quotient: Alpha's for 1024 pixels.
    pub sized: bool,
}

impl PixArtConfig {
    /// Reads the fields of a config.json.
    ///
    /// # Errors
    /// Names the field that is missing, absurd or asks for something that is not supported.
    pub fn read(fields: &Fields) -> Result<Self> {
        const WIDTH: &str = "cross_attention_dim";
        for (name, known) in [
            // The class that published checkpoints name is shared by several models, which this tells apart.
            ("norm_type", json!("ada_norm_single")),
            ("activation_fn", json!("gelu-approximate")),
            ("attention_type", json!("default")),
            ("norm_elementwise_affine", json!(false)),
            ("norm_eps", json!(1e-6)),
            ("upcast_attention", json!(false)),
        ] {
            only(fields, name, &known)?;
        }
        let size = |name: &str, most, default| -> Result<usize> {
            Ok(fields.size(name, most)?.unwrap_or(default))
        };
        let heads = Heads::read(fields, Heads { count: 16, dim: 72 })?;
        let width = heads.width();
        let words = size(WIDTH, MOST_WIDTH, 1152)?;
        if words != width {
            let message = format!("{words} is not the width of all heads together, {width}");
            return Err(fields.fault(WIDTH, message).into());
        }
        let patch = size("patch_size", MOST_PATCH, 2)?;
        let sample_size = size("sample_size", MOST_SIDE, 128)?;
        if sample_size < patch {
            let message = format!("{sample_size} is less than patch_size, {patch}");
            return Err(fields.fault("sample_size", message).into());
        }
        let inputs = size("in_channels", MOST_CHANNELS, 4)?;
        let outputs = match fields.entries().any(|(name, _)| name == "out_channels") {
            true => size("out_channels", MOST_CHANNELS, inputs)?,
            false => 8,
        };
        let told = fields.flag("use_additional_conditions")?;
        let sized = told.unwrap_or(sample_size == TOLD_SIDE);
        // A quarter of it are sines of a row, and where it is told a third says how high a picture is.
        let parts = if sized { 12 } else { 4 };
        if !width.is_multiple_of(parts) {
            let message = format!(
                "{} times num_attention_heads is no multiple of {parts}",
                heads.dim
            );
            return Err(fields.fault("attention_head_dim", message).into());
        }
        Ok(Self {
            sample_size,
            patch,
            inputs,
            outputs,
            layers: size("num_layers", MOST_LAYERS, 28)?,
            heads,
            text_width: fields.needed_size("caption_channels", MOST_WIDTH)?,
            scale: scale(fields, (sample_size / 64).max(1))?,
            sized,
        })
    }
}

/// `interpolation_scale`.
fn scale(fields: &Fields, default: usize) -> Result<f32> {
    const NAME: &str = "interpolation_scale";
    let scale = fields.number(NAME)?.unwrap_or(default as f64);
    if scale > 0.0 && scale <= MOST_SCALE {
        return Ok(scale as f32);
    }
    let message = format!("{scale} is not above 0 and at most {MOST_SCALE}");
    Err(fields.fault(NAME, message).into())
}
