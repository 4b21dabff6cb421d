//! config.json of Stable Diffusion 3's transformer: its sizes, checked. Apart from the model, which only computes.
//! Mirrors the arguments of `diffusers` transformer_sd3.py, `SD3Transformer2DModel`.

use chandler_nn::fields::Fields;

use super::config::{Heads, MOST_CHANNELS, MOST_LAYERS, MOST_PATCH, MOST_WIDTH, numbers};
use crate::error::Result;

/// Places along a side of the table of positions; 3.5 medium has 384.
const MOST_SIDE: usize = 1 << 10;
/// Numbers in that table, which is computed where a checkpoint has none; 3.5 medium's is less than half of it.
const MOST_TABLE: usize = 1 << 29;

/// The sizes of an SD 3 transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sd3Config {
    /// Height and width of the latents that the model was made for.
    pub sample_size: usize,
    /// Side of the square of latents that is one token.
    pub patch: usize,
    /// Channels of the latents.
    pub inputs: usize,
    /// Channels of what is given.
    pub outputs: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Width of the text's hidden states.
    pub text_width: usize,
    /// Width of the pooled text.
    pub pooled_width: usize,
    /// Tokens along each side of the largest picture.
    pub side: usize,
    /// Blocks whose image attends to itself once more.
    pub dual_layers: Vec<usize>,
    /// Whether queries and keys are normed: 3.5.
    pub normed: bool,
}

impl Sd3Config {
    /// Reads the fields of a config.json.
    ///
    /// # Errors
    /// Names the field that is absurd or asks for something that is not supported.
    pub fn read(fields: &Fields) -> Result<Self> {
        const DUAL: &str = "dual_attention_layers";
        let size = |name: &str, most, default| -> Result<usize> {
            Ok(fields.size(name, most)?.unwrap_or(default))
        };
        let heads = Heads::read(fields, Heads { count: 18, dim: 64 })?;
        let width = heads.width();
        if !width.is_multiple_of(4) {
            let message = format!(
                "{} times num_attention_heads is no multiple of 4",
                heads.dim
            );
            return Err(fields.fault("attention_head_dim", message).into());
        }
        let side = size("pos_embed_max_size", MOST_SIDE, 96)?;
        if side * side * width > MOST_TABLE {
            let message = format!("{side} × {side} positions of {width} numbers are too many");
            return Err(fields.fault("pos_embed_max_size", message).into());
        }
        let caption = size("caption_projection_dim", MOST_WIDTH, 1152)?;
        if caption != width {
            let message = format!("{caption} is not the width of all heads together, {width}");
            return Err(fields.fault("caption_projection_dim", message).into());
        }
        let normed = match fields.text("qk_norm")? {
            None => false,
            Some("rms_norm") => true,
            Some(other) => {
                let message = format!("`{other}` is not supported; rms_norm and null are");
                return Err(fields.fault("qk_norm", message).into());
            }
        };
        let inputs = size("in_channels", MOST_CHANNELS, 16)?;
        let outputs = match fields.entries().any(|(name, _)| name == "out_channels") {
            true => size("out_channels", MOST_CHANNELS, inputs)?,
            false => 16,
        };
        let patch = size("patch_size", MOST_PATCH, 2)?;
        let sample_size = size("sample_size", MOST_SIDE * MOST_PATCH, 128)?;
        if sample_size < patch {
            let message = format!("{sample_size} is less than patch_size, {patch}");
            return Err(fields.fault("sample_size", message).into());
        }
        Ok(Self {
            sample_size,
            patch,
            inputs,
            outputs,
            layers: size("num_layers", MOST_LAYERS, 18)?,
            heads,
            text_width: size("joint_attention_dim", MOST_WIDTH, 4096)?,
            pooled_width: size("pooled_projection_dim", MOST_WIDTH, 2048)?,
            side,
            dual_layers: numbers(fields, DUAL, MOST_LAYERS)?.unwrap_or_default(),
            normed,
        })
    }
}
